//! The address by which a client reached a trusted proxy.
//!
//! Invariant: what could be read in two ways is not told: several lines, several values, a host with a character that
//! no host has.

use http::{HeaderMap, HeaderName, HeaderValue, header::FORWARDED};

use super::forwarded;

/// Longest host with a port, in bytes: a name of 253 characters and a port.
const HOST_MAX: usize = 260;

static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// What a trusted proxy said; what it did not say is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToldOrigin {
    /// Whether the client spoke TLS.
    pub secure: Option<bool>,
    /// The host that the client asked for, perhaps with a port.
    pub host: Option<Box<str>>,
}

pub(super) fn of_forwarded(headers: &HeaderMap) -> ToldOrigin {
    let last = headers.get_all(FORWARDED).iter().next_back();
    let (proto, host) = last.and_then(|line| forwarded::origin(line.as_bytes())).unwrap_or_default();
    ToldOrigin { secure: proto.as_deref().and_then(is_https), host: host.as_deref().and_then(host_of) }
}

pub(super) fn of_x_forwarded(headers: &HeaderMap) -> ToldOrigin {
    ToldOrigin {
        secure: only(headers, &X_FORWARDED_PROTO).and_then(is_https),
        host: only(headers, &X_FORWARDED_HOST).and_then(host_of),
    }
}

/// The value of a header that is there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut lines = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    lines.next().filter(|_| lines.next().is_none()).map(<[u8]>::trim_ascii)
}

fn is_https(proto: &[u8]) -> Option<bool> {
    match proto {
        _ if proto.eq_ignore_ascii_case(b"https") => Some(true),
        _ if proto.eq_ignore_ascii_case(b"http") => Some(false),
        _ => None,
    }
}

fn host_of(host: &[u8]) -> Option<Box<str>> {
    let is_host = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(byte);
    let fine = (1..=HOST_MAX).contains(&host.len()) && host.iter().all(is_host);
    std::str::from_utf8(host).ok().filter(|_| fine).map(Box::from)
}
