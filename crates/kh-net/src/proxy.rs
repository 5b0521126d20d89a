//! Which connections go through a proxy, and how it is asked.
//!
//! Invariants: only https goes through a proxy, as a tunnel (CONNECT), so that it sees names and sizes and nothing
//! else; plain http is allowed towards this machine alone, which no proxy can reach for us. The password lives in a
//! wiped, sensitive header value.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::Matcher;
use kh_core::{SecretString, Sha256};
use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

/// Longest accepted proxy address and list of exceptions, in bytes.
const TEXT_MAX: usize = 8 * 1024;

/// Longest accepted user name and password together, in bytes: the header must fit any proxy's limit.
const AUTH_MAX: usize = 1024;

/// Why the rules of a proxy were refused. The address is not told: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// Not `http://host:port`.
    #[error("the proxy's address is not one such as http://proxy.example.com:3128")]
    NotAProxy,
    /// A SOCKS proxy, or one that is spoken to over TLS.
    #[error("only proxies that are spoken to over plain http:// are supported (the tunnel inside is TLS)")]
    Scheme,
    /// A user name or password where only an address may stand.
    #[error("the proxy's address holds a user name or password")]
    UserInfo,
    /// Not `user:password` on one line.
    #[error("a proxy's user name and password are written as user:password on one line")]
    Auth,
    /// Too long.
    #[error("the proxy's address or the list of exceptions is longer than {TEXT_MAX} bytes")]
    TooLong,
}

/// Where a proxy stands.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Hop {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            return write!(f, "[{}]:{}", self.host, self.port);
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// The proxy of one egress, if any.
#[derive(Default)]
pub struct ProxyRules(Option<Rules>);

struct Rules {
    matcher: Matcher,
    auth: Option<HeaderValue>,
    digest: Sha256,
}

impl ProxyRules {
    /// No proxy.
    pub fn none() -> Self {
        Self(None)
    }

    /// `proxy` is `http://host:port`; `no_proxy` lists the hosts that are reached without it, as `NO_PROXY` does for
    /// curl: names with their subdomains, addresses, networks (`10.0.0.0/8`), `*`, separated by commas. `auth` is
    /// `user:password`.
    pub fn new(proxy: &str, no_proxy: &str, auth: Option<&SecretString>) -> Result<Self, RuleError> {
        if proxy.len() > TEXT_MAX || no_proxy.len() > TEXT_MAX {
            return Err(RuleError::TooLong);
        }
        if proxy.contains('@') {
            return Err(RuleError::UserInfo);
        }
        let (scheme, rest) = proxy.split_once("://").unwrap_or(("http", proxy));
        if !scheme.eq_ignore_ascii_case("http") {
            return Err(RuleError::Scheme);
        }
        let uri: Uri = format!("http://{}", rest.trim_end_matches('/')).parse().map_err(|_| RuleError::NotAProxy)?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or(RuleError::NotAProxy)?;
        let port_is_odd = uri.port().is_none() && uri.authority().is_some_and(|all| all.as_str() != host);
        if uri.path() != "/" || uri.query().is_some() || port_is_odd {
            return Err(RuleError::NotAProxy);
        }
        let matcher = Matcher::builder().https(uri.to_string()).no(no_proxy.to_owned()).build();
        let secret = auth.map_or(Sha256::of(b""), SecretString::sha256);
        let digest = digest_of(&[Sha256::of(uri.to_string().as_bytes()), Sha256::of(no_proxy.as_bytes()), secret]);
        Ok(Self(Some(Rules { matcher, auth: auth.map(basic).transpose()?, digest })))
    }

    /// The same from the value of `HTTPS_PROXY`, which may hold user name and password in percent encoding.
    pub fn of_variable(value: &SecretString, no_proxy: &str) -> Result<Self, RuleError> {
        let text = value.expose();
        let after_scheme = text.find("://").map_or(0, |at| at + "://".len());
        let (scheme, rest) = text.split_at(after_scheme);
        let Some((user, place)) = rest.rsplit_once('@') else { return Self::new(text, no_proxy, None) };
        let user =
            if user.contains(':') { Zeroizing::new(user.to_owned()) } else { Zeroizing::new(format!("{user}:")) };
        let decoded = percent_decode_str(&user).decode_utf8().map_err(|_| RuleError::Auth)?;
        Self::new(&format!("{scheme}{place}"), no_proxy, Some(&SecretString::new(decoded.into_owned())))
    }

    /// Whether there is a proxy at all.
    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// The proxy on the way to `host`, and its `Proxy-Authorization`.
    pub(crate) fn on_the_way(&self, host: &str, port: u16) -> Option<(Hop, Option<&HeaderValue>)> {
        let rules = self.0.as_ref()?;
        let bracketed = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let uri: Uri = format!("https://{bracketed}:{port}/").parse().ok()?;
        let found = rules.matcher.intercept(&uri)?;
        let host = found.uri().host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
        Some((Hop { host, port: found.uri().port_u16().unwrap_or(80) }, rules.auth.as_ref()))
    }

    /// Identity of everything that matters.
    pub(crate) fn digest(&self) -> Sha256 {
        self.0.as_ref().map_or(Sha256::of(b"direct"), |rules| rules.digest)
    }
}

impl fmt::Debug for ProxyRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("ProxyRules(none)"),
            Some(rules) => f.debug_tuple("ProxyRules").field(&rules.matcher).finish(),
        }
    }
}

/// The digest of digests: secrets never stand together in one buffer.
pub(crate) fn digest_of(parts: &[Sha256]) -> Sha256 {
    Sha256::of(&parts.iter().flat_map(|part| part.0).collect::<Vec<u8>>())
}

/// `Basic base64(user:password)` (RFC 7617), sensitive and wiped when dropped.
fn basic(auth: &SecretString) -> Result<HeaderValue, RuleError> {
    let text = auth.expose();
    let user = text.split(':').next().unwrap_or_default();
    if user.is_empty() || !text.contains(':') || text.len() > AUTH_MAX || text.chars().any(char::is_control) {
        return Err(RuleError::Auth);
    }
    let mut header = Zeroizing::new(vec![0; "Basic ".len() + text.len().div_ceil(3) * 4]);
    let (scheme, encoded) = header.split_at_mut("Basic ".len());
    scheme.copy_from_slice(b"Basic ");
    STANDARD.encode_slice(text, encoded).map_err(|_| RuleError::Auth)?;
    let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(header)).map_err(|_| RuleError::Auth)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests;
