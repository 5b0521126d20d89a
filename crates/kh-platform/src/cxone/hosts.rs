//! Where a CXone token may go. Discovery tells addresses; this list decides whether they are believed.

use url::{Host, Url};

use crate::Address;

/// The domains that first-party clients use (NICE's own SDK and its documented hosts).
const PLATFORM_SUFFIXES: [&str; 4] = ["niceincontact.com", "nice-incontact.com", "nicecxone.com", "nicecxone-gov.com"];

/// Domains and exact origins that discovered endpoints may have.
///
/// A domain allows itself and its subdomains over https on port 443; an origin allows exactly itself.
#[derive(Debug, Clone)]
pub struct AllowedHosts {
    suffixes: Vec<String>,
    origins: Vec<Address>,
}

impl AllowedHosts {
    /// The platform's own domains.
    pub fn platform() -> Self {
        Self { suffixes: PLATFORM_SUFFIXES.map(str::to_owned).to_vec(), origins: Vec::new() }
    }

    /// Nothing but what is added.
    pub fn nothing() -> Self {
        Self { suffixes: Vec::new(), origins: Vec::new() }
    }

    /// Also `domain` and its subdomains. A domain without a dot would allow a whole top-level domain and is ignored.
    pub fn and_suffix(mut self, domain: &str) -> Self {
        let domain = domain.trim_matches('.').to_ascii_lowercase();
        if domain.contains('.') {
            self.suffixes.push(domain);
        }
        self
    }

    /// Also the exact scheme, host and port of `origin`: a sandbox, or a gateway of the operator.
    pub fn and_origin(mut self, origin: Address) -> Self {
        self.origins.push(origin);
        self
    }

    /// Whether a secret or a token may go to `address`.
    pub fn allow(&self, address: &Address) -> bool {
        self.origins.iter().any(|origin| origin.same_origin(address)) || self.allows_domain(address.url())
    }

    fn allows_domain(&self, url: &Url) -> bool {
        let Some(Host::Domain(host)) = url.host() else { return false };
        let below = |suffix: &String| {
            host == suffix || host.strip_suffix(suffix.as_str()).is_some_and(|rest| rest.ends_with('.'))
        };
        url.scheme() == "https" && url.port().is_none() && self.suffixes.iter().any(below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PlainHttp;

    #[test]
    fn hosts() {
        let sandbox = Address::parse("http://127.0.0.1:9999", PlainHttp::LoopbackOnly).unwrap();
        let hosts = AllowedHosts::platform().and_origin(sandbox).and_suffix("com").and_suffix(".Example.org");
        for (text, allowed) in [
            ("https://api-na1.niceincontact.com", true),
            ("https://na1.nice-incontact.com/some/path", true),
            ("https://nicecxone.com", true),
            ("https://a.b.nicecxone-gov.com", true),
            ("https://API-NA1.NiceInContact.com", true),
            ("https://x.example.org", true),
            ("http://127.0.0.1:9999/x", true),
            ("http://127.0.0.1:9998", false),
            ("https://127.0.0.1:9999", false),
            ("https://evilniceincontact.com", false),
            ("https://niceincontact.com.evil.example", false),
            ("https://niceincontact.com:8443", false),
            ("https://niceincontact.com.", false),
            ("https://evil.com", false),
            ("https://93.184.216.34", false),
            ("https://[2001:db8::1]", false),
        ] {
            let address = Address::parse(text, PlainHttp::Allowed).unwrap();
            assert_eq!(hosts.allow(&address), allowed, "{text}");
        }
        let plain = Address::parse("http://api-na1.niceincontact.com", PlainHttp::Allowed).unwrap();
        assert!(!hosts.allow(&plain));
        assert!(!AllowedHosts::nothing().allow(&plain));
    }
}
