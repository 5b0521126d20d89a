//! Where a request goes: an address that may be told in part, and one that is a secret itself.
//!
//! Invariant: what is told of an address is its scheme, host and port; plain http is for this machine only, because a
//! signature does not hide what is sent.

use std::fmt;

use url::Url;

use crate::SecretFile;

/// An address to send to.
#[derive(Clone, PartialEq, Eq)]
pub enum Place {
    /// Named in the configuration.
    Named(Url),
    /// The address is a secret, as Slack's are: it lies in a file.
    Hidden(SecretFile),
}

/// Why an address is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// No URL, or one of another scheme or without a host.
    #[error("the address is not an https URL with a host")]
    NotHttps,
    /// http to another machine.
    #[error("the address is plain http and not on this machine")]
    PlainHttp,
    /// A name and password in it would be told to whoever sees the address.
    #[error("the address holds a user name or a password")]
    UserInfo,
}

impl Place {
    /// An address from the configuration.
    pub fn named(text: &str) -> Result<Self, PlaceError> {
        checked(text).map(Self::Named)
    }

    /// The address, read from its file where it is one.
    pub(crate) async fn url(&self) -> Result<Url, String> {
        match self {
            Self::Named(url) => Ok(url.clone()),
            Self::Hidden(file) => {
                let text = file.read().await.map_err(|error| error.to_string())?;
                checked(text.expose()).map_err(|error| error.to_string())
            }
        }
    }

    /// What may be told of it.
    pub(crate) fn told(&self) -> String {
        match self {
            Self::Named(url) => origin(url),
            Self::Hidden(_) => "the address in its file".to_owned(),
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told())
    }
}

/// Scheme, host and port.
pub(crate) fn origin(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| format!("{}://{host}", url.scheme()), |port| format!("{}://{host}:{port}", url.scheme()))
}

/// An https URL, or http to a loopback address or `localhost`.
pub(crate) fn checked(text: &str) -> Result<Url, PlaceError> {
    let url = Url::parse(text).map_err(|_| PlaceError::NotHttps)?;
    let local = match url.host() {
        None => return Err(PlaceError::NotHttps),
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(PlaceError::UserInfo);
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if local => Ok(url),
        "http" => Err(PlaceError::PlainHttp),
        _ => Err(PlaceError::NotHttps),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for good in ["https://hooks.example/x?y=1", "http://127.0.0.1:8/", "http://[::1]/a", "http://localhost:1"] {
            assert!(checked(good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("http://hooks.example/", PlaceError::PlainHttp),
            ("http://127.0.0.1.example/", PlaceError::PlainHttp),
            ("ftp://hooks.example/", PlaceError::NotHttps),
            ("hooks.example", PlaceError::NotHttps),
            ("", PlaceError::NotHttps),
            ("https://user:word@hooks.example/", PlaceError::UserInfo),
            ("https://token@hooks.example/", PlaceError::UserInfo),
        ] {
            assert_eq!(checked(bad), Err(why), "{bad}");
        }
    }

    #[test]
    fn path_and_query_are_not_told() {
        let place = Place::named("https://hooks.example:8443/services/T0/B0/MARKED?key=MARKED").unwrap();
        assert_eq!(place.told(), "https://hooks.example:8443");
        assert!(!format!("{place:?}").contains("MARKED"));
    }
}
