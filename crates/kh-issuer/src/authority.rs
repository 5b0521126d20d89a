//! keyholder's name as an authorization server, and the keys that go with it.
//!
//! Invariant: an issuer identifier has one spelling, so that comparing it letter by letter (RFC 8414 section 3.3) is
//! enough.

use std::{fmt, net::IpAddr, str::FromStr, sync::Arc};

use crate::signing::SigningKeys;

/// Longest issuer identifier, in bytes; it stands in every token.
const ISSUER_BYTES_MAX: usize = 256;

/// An issuer identifier (RFC 8414 section 2): scheme, host and perhaps a path, without query, fragment and final slash.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IssuerId {
    text: Arc<str>,
    /// Where the path begins.
    path: usize,
}

/// Why a text is no issuer identifier.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "an issuer is https://HOST[:PORT][/PATH], in lower case up to the path, without query, fragment and final slash; http:// only for a loopback host"
)]
pub struct NotAnIssuer;

impl IssuerId {
    /// The identifier.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The identifier, shared.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.text)
    }

    /// Its path: empty, or with a slash in front and none at the end.
    pub fn path(&self) -> &str {
        self.text.get(self.path..).unwrap_or_default()
    }
}

impl fmt::Display for IssuerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for IssuerId {
    type Err = NotAnIssuer;
    fn from_str(text: &str) -> Result<Self, NotAnIssuer> {
        let (secure, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err(NotAnIssuer),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let fine = text.len() <= ISSUER_BYTES_MAX
            && host_of(authority).is_some_and(|host| secure || is_loopback(host))
            && is_path(path);
        if fine { Ok(Self { text: text.into(), path: text.len() - path.len() }) } else { Err(NotAnIssuer) }
    }
}

/// The host of `HOST[:PORT]`, if both are well formed.
fn host_of(authority: &str) -> Option<&str> {
    let (host, port) = match authority.rfind(':').filter(|_| !authority.ends_with(']')) {
        Some(colon) => (authority.get(..colon)?, authority.get(colon + 1..)),
        None => (authority, None),
    };
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_host = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty() && host.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_'))
        }
    };
    let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|number| number.to_string() == port));
    (is_host && is_port).then_some(host)
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Unreserved characters in segments that are neither empty nor dots: a path that nobody normalises.
fn is_path(path: &str) -> bool {
    let is_segment = |segment: &str| {
        !segment.is_empty()
            && segment != "."
            && segment != ".."
            && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
    };
    path.is_empty() || path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_segment))
}

/// What makes keyholder an authorization server whose tokens others verify.
#[derive(Clone, Debug)]
pub struct Authority {
    /// What stands as `iss` in every token.
    pub issuer: IssuerId,
    /// What signs them.
    pub keys: Arc<SigningKeys>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuers() {
        for (text, path) in [
            ("https://keys.example", ""),
            ("https://keys.example:8443", ""),
            ("https://keys.example/a/b-1", "/a/b-1"),
            ("https://[2001:db8::1]:1/x", "/x"),
            ("http://localhost:8080", ""),
            ("http://127.0.0.1:8080/t", "/t"),
            ("http://[::1]", ""),
        ] {
            assert_eq!(text.parse::<IssuerId>().map(|id| id.path().to_owned()).as_deref(), Ok(path), "{text}");
        }
        for bad in [
            "",
            "keys.example",
            "http://keys.example",
            "HTTPS://keys.example",
            "https://Keys.example",
            "https://",
            "https:///a",
            "https://keys.example/",
            "https://keys.example/a/",
            "https://keys.example//a",
            "https://keys.example/../a",
            "https://keys.example/%61",
            "https://keys.example?x",
            "https://keys.example/a#b",
            "https://me@keys.example",
            "https://keys.example:",
            "https://keys.example:099",
            "https://keys.example:70000",
            "https://[::1",
            "https://a b",
        ] {
            assert_eq!(bad.parse::<IssuerId>(), Err(NotAnIssuer), "{bad}");
        }
        let long = format!("https://keys.example/{}", "a".repeat(ISSUER_BYTES_MAX));
        assert!(long.parse::<IssuerId>().is_err());
    }
}
