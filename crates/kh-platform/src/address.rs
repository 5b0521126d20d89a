//! Addresses that secrets or tokens are sent to, parsed once.
//!
//! Invariant: an [`Address`] is https (or plain http where that was allowed), has a host, and has no user part, query
//! or fragment.

use std::fmt;

use url::{Host, Url};

/// Longest accepted address, in bytes.
pub const ADDRESS_MAX: usize = 2048;

/// Where `http://` is accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PlainHttp {
    /// Only for `localhost`, 127.0.0.0/8 and `::1`: the bytes never leave the machine.
    LoopbackOnly,
    /// Everywhere; the operator said so.
    Allowed,
}

/// Why an address was refused. The address itself is not told: it may hold a password by mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Longer than [`ADDRESS_MAX`].
    #[error("the address is longer than {ADDRESS_MAX} bytes")]
    TooLong,
    /// Not an absolute URL with a host.
    #[error("the address is not an absolute URL such as https://host/path")]
    NotAUrl,
    /// Neither `https` nor `http`.
    #[error("the address must start with https:// (or http:// on loopback)")]
    Scheme,
    /// Plain http to another machine.
    #[error("plain http would send a secret in clear: use https, or http on loopback only")]
    PlainHttp,
    /// `user:password@` in the address.
    #[error("the address holds a user name or password; credentials belong into the secret store")]
    UserInfo,
    /// `?...` or `#...` in the address.
    #[error("the address must have no query and no fragment")]
    QueryOrFragment,
}

/// A checked base address.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(Url);

impl Address {
    /// Parses `text`; see the module's invariant.
    pub fn parse(text: &str, plain: PlainHttp) -> Result<Self, AddressError> {
        if text.len() > ADDRESS_MAX {
            return Err(AddressError::TooLong);
        }
        let url = Url::parse(text).map_err(|_| AddressError::NotAUrl)?;
        let https = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(AddressError::Scheme),
        };
        if url.host().is_none() {
            return Err(AddressError::NotAUrl);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(AddressError::UserInfo);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(AddressError::QueryOrFragment);
        }
        if !https && plain == PlainHttp::LoopbackOnly && !is_loopback(&url) {
            return Err(AddressError::PlainHttp);
        }
        Ok(Self(url))
    }

    /// This address with `path` (starting with a slash) appended to its own path.
    pub fn join(&self, path: &str) -> Url {
        let mut url = self.0.clone();
        url.set_path(&format!("{}{path}", self.path()));
        url
    }

    /// The address as it was given, also with a trailing slash: some token endpoints insist on it.
    pub fn url(&self) -> &Url {
        &self.0
    }

    /// The path without a trailing slash; empty for the root.
    pub fn path(&self) -> &str {
        self.0.path().trim_end_matches('/')
    }

    /// The address as text without a trailing slash, as it is compared and handed on.
    pub fn text(&self) -> &str {
        self.0.as_str().trim_end_matches('/')
    }

    /// Whether the connection is encrypted.
    pub fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Whether the host is this machine.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.0)
    }

    /// Whether both have the same scheme, host and port.
    pub fn same_origin(&self, other: &Self) -> bool {
        self.0.origin() == other.0.origin()
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        use AddressError::{NotAUrl, QueryOrFragment, Scheme, TooLong, UserInfo};
        let long = format!("https://host/{}", "x".repeat(ADDRESS_MAX));
        let cases: &[(&str, Result<&str, AddressError>)] = &[
            ("https://login.mypurecloud.com", Ok("https://login.mypurecloud.com")),
            ("https://login.mypurecloud.com/", Ok("https://login.mypurecloud.com")),
            ("HTTPS://Login.MyPureCloud.com:443/a/b//", Ok("https://login.mypurecloud.com/a/b")),
            ("http://127.0.0.1:8080/gw/login", Ok("http://127.0.0.1:8080/gw/login")),
            ("http://localhost:1", Ok("http://localhost:1")),
            ("http://[::1]:1", Ok("http://[::1]:1")),
            ("http://login.mypurecloud.com", Err(AddressError::PlainHttp)),
            ("http://127.0.0.1.example.com", Err(AddressError::PlainHttp)),
            ("http://localhost.example.com", Err(AddressError::PlainHttp)),
            ("https://u:hunter2@host", Err(UserInfo)),
            ("https://u@host", Err(UserInfo)),
            ("https://host/?a=b", Err(QueryOrFragment)),
            ("https://host/#x", Err(QueryOrFragment)),
            ("ftp://host", Err(Scheme)),
            ("mailto:a@b", Err(Scheme)),
            ("host", Err(NotAUrl)),
            ("", Err(NotAUrl)),
            ("https://", Err(NotAUrl)),
            (&long, Err(TooLong)),
        ];
        for (text, expected) in cases {
            let got = Address::parse(text, PlainHttp::LoopbackOnly).map(|address| address.text().to_owned());
            assert_eq!(got, expected.map(str::to_owned), "{text}");
        }
        assert!(Address::parse("http://sandbox.internal", PlainHttp::Allowed).is_ok());
    }

    #[test]
    fn joining_keeps_the_prefix() {
        let check = |base: &str, expected: &str| {
            let address = Address::parse(base, PlainHttp::LoopbackOnly).unwrap();
            assert_eq!(address.join("/oauth/token").as_str(), expected);
        };
        check("https://h", "https://h/oauth/token");
        check("https://h/", "https://h/oauth/token");
        check("https://h/login/eu/", "https://h/login/eu/oauth/token");
    }
}
