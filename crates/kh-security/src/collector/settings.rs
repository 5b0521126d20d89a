//! What an operator may set for the collector.
//!
//! Invariant: plain http goes to this machine only, and the address holds no secret: it may be told.

use std::{path::PathBuf, time::Duration};

use kh_resilience::Backoff;
use url::Url;

/// When to send, and when again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timing {
    /// Longest wait until a line is in a batch.
    pub delay: Duration,
    /// Pauses after a try that failed.
    pub backoff: Backoff,
    /// Longest `Retry-After` that is waited out.
    pub retry_after_max: Duration,
}

impl Default for Timing {
    /// One second: soon enough for whoever watches, and few enough requests. Pauses up to five minutes: a collector that
    /// was away for hours is found soon after it is back.
    fn default() -> Self {
        Self {
            delay: Duration::from_secs(1),
            backoff: Backoff { base: Duration::from_secs(1), max: Duration::from_mins(5) },
            retry_after_max: Duration::from_mins(15),
        }
    }
}

/// What is sent where is [`super::CollectorClient`]'s; this is how it waits.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Collecting {
    /// The spool's folder and its limit in bytes (at least [`super::SPOOL_MIN`]); none keeps batches in memory alone.
    pub spool: Option<(PathBuf, u64)>,
    /// When to send.
    pub timing: Timing,
}

/// Why an address is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SettingsError {
    /// No URL, of another scheme, or without a host.
    #[error("the collector's address is not an https URL with a host")]
    NotHttps,
    /// http to another machine.
    #[error("the collector's address is plain http and not on this machine")]
    PlainHttp,
    /// A name and a password in it would be told to whoever sees the address.
    #[error("the collector's address holds a user name or a password")]
    UserInfo,
}

/// Checks an address.
pub(super) fn checked(url: Url) -> Result<Url, SettingsError> {
    let local = match url.host() {
        None => return Err(SettingsError::NotHttps),
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(SettingsError::UserInfo);
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if local => Ok(url),
        "http" => Err(SettingsError::PlainHttp),
        _ => Err(SettingsError::NotHttps),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let check = |text: &str| checked(Url::parse(text).unwrap()).map(drop);
        assert_eq!(check("https://siem.example/ingest?index=a"), Ok(()));
        assert_eq!(check("http://127.0.0.1:1/"), Ok(()));
        assert_eq!(check("http://[::1]/"), Ok(()));
        assert_eq!(check("http://siem.example/"), Err(SettingsError::PlainHttp));
        assert_eq!(check("ftp://siem.example/"), Err(SettingsError::NotHttps));
        assert_eq!(check("data:x"), Err(SettingsError::NotHttps));
        assert_eq!(check("https://name:word@siem.example/"), Err(SettingsError::UserInfo));
    }
}
