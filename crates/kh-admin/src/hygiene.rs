//! Which requests a local listener looks at, decided from the head alone.
//!
//! A process on this machine that wants a token sends a plain request to a loopback address. A browser tab that was
//! lured here (DNS rebinding, a form on a foreign page) or a proxy that was tricked into forwarding cannot help but say
//! so in its headers. Such requests are refused before the guard token is even looked at (the same set of checks as
//! AWS's Secrets Manager Agent and Microsoft's Entra auth sidecar, joined).

use std::net::{Ipv4Addr, Ipv6Addr};

use axum::http::{HeaderMap, HeaderValue, Method, Uri, header};
use kh_core::{Code, Problem};

/// Which `Host` is accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HostRule {
    /// `localhost`, 127.0.0.0/8 or `[::1]`, with any port: what defeats DNS rebinding.
    Loopback,
    /// Any single host, for a listener that an operator exposed on purpose.
    Any,
}

/// Which methods are accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MethodRule {
    /// GET and POST: all that the listener answers itself.
    Answered,
    /// Every method but CONNECT and TRACE: what is forwarded.
    Forwarded,
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Neither GET nor POST.
    #[error("only GET and POST are answered here")]
    Method,
    /// CONNECT or TRACE: a tunnel, and an echo of the token.
    #[error("CONNECT and TRACE are not forwarded")]
    Unforwarded,
    /// `GET http://host/path` or another form that only proxies are sent (RFC 9112 section 3.2.2).
    #[error("the request target must be a path: this is not a proxy")]
    Target,
    /// No Host, several, or not a host at all.
    #[error("the request must have exactly one valid Host header")]
    Host,
    /// A Host that is not this machine.
    #[error("the Host must be localhost or a loopback address")]
    ForeignHost,
    /// A header that only proxies add.
    #[error("the request came through a proxy ({0} is present)")]
    Forwarded(String),
    /// A header that only browsers send.
    #[error("the request came from a browser ({0} is present)")]
    Browser(String),
    /// A header that would change how the request is read.
    #[error("the header {0} is not accepted here")]
    Override(String),
    /// `Upgrade` to anything but HTTP/2.
    #[error("no protocol upgrade is offered here")]
    Upgrade,
}

impl Refusal {
    /// The refusal as a problem document.
    pub fn problem(&self) -> Problem {
        let code = match self {
            Self::Method | Self::Unforwarded => Code::METHOD_NOT_ALLOWED,
            Self::Target | Self::Host | Self::Override(_) => Code::REQUEST_AMBIGUOUS,
            Self::ForeignHost | Self::Forwarded(_) | Self::Browser(_) => Code::REQUEST_MALFORMED,
            Self::Upgrade => Code::UPGRADE_REFUSED,
        };
        let problem = Problem::new(code, self.to_string());
        match self {
            Self::ForeignHost => problem.hint("call http://127.0.0.1:PORT directly, without a name of your own"),
            Self::Forwarded(_) => problem.hint("take this address out of the proxy's reach (no_proxy)"),
            Self::Browser(_) => problem.hint("tokens are for local programs; a web page cannot have one"),
            Self::Method | Self::Unforwarded | Self::Target | Self::Host | Self::Override(_) | Self::Upgrade => problem,
        }
    }
}

/// Headers that only proxies add, beside every `x-forwarded-...`.
const FORWARDED: [&str; 7] =
    ["forwarded", "via", "x-real-ip", "true-client-ip", "cf-connecting-ip", "x-client-ip", "proxy-connection"];

/// Headers that only browsers send, beside every `sec-...` and `access-control-...`.
const BROWSER: [&str; 4] = ["origin", "referer", "cookie", "upgrade-insecure-requests"];

/// Headers by which some stacks let a caller replace method or path.
const OVERRIDES: [&str; 5] =
    ["x-http-method-override", "x-http-method", "x-method-override", "x-original-url", "x-rewrite-url"];

/// Decides whether a request is looked at. Pure.
pub fn check(
    method: &Method,
    target: &Uri,
    headers: &HeaderMap,
    hosts: HostRule,
    methods: MethodRule,
) -> Result<(), Refusal> {
    match methods {
        MethodRule::Answered if method != Method::GET && method != Method::POST => return Err(Refusal::Method),
        MethodRule::Forwarded if method == Method::CONNECT || method == Method::TRACE => {
            return Err(Refusal::Unforwarded);
        }
        MethodRule::Answered | MethodRule::Forwarded => {}
    }
    if target.scheme().is_some() || target.authority().is_some() || !target.path().starts_with('/') {
        return Err(Refusal::Target);
    }
    check_host(headers, hosts)?;
    for name in headers.keys() {
        let name = name.as_str();
        if name.starts_with("x-forwarded") || FORWARDED.contains(&name) {
            return Err(Refusal::Forwarded(name.to_owned()));
        }
        if name.starts_with("sec-") || name.starts_with("access-control-") || BROWSER.contains(&name) {
            return Err(Refusal::Browser(name.to_owned()));
        }
        if OVERRIDES.contains(&name) {
            return Err(Refusal::Override(name.to_owned()));
        }
    }
    if headers.get_all(header::UPGRADE).iter().all(is_offer_of_http2) { Ok(()) } else { Err(Refusal::Upgrade) }
}

/// Some clients, such as Java's, offer HTTP/2 with every request. A server may ignore an offer (RFC 9110 section 7.8),
/// and hyper does: the answer comes over HTTP/1.1.
fn is_offer_of_http2(value: &HeaderValue) -> bool {
    value.as_bytes().eq_ignore_ascii_case(b"h2c")
}

fn check_host(headers: &HeaderMap, rule: HostRule) -> Result<(), Refusal> {
    let mut hosts = headers.get_all(header::HOST).into_iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return Err(Refusal::Host) };
    let name = HeaderValue::to_str(host).ok().and_then(parse_host).ok_or(Refusal::Host)?;
    match rule {
        HostRule::Any => Ok(()),
        HostRule::Loopback if is_loopback(name) => Ok(()),
        HostRule::Loopback => Err(Refusal::ForeignHost),
    }
}

/// The host of `host[:port]`, an IPv6 address with its brackets; `None` for anything else.
fn parse_host(text: &str) -> Option<&str> {
    let end = match text.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => text.find(':').unwrap_or(text.len()),
    };
    let (host, port) = text.split_at_checked(end)?;
    let port_fits = match port.strip_prefix(':') {
        Some(digits) => {
            digits.len() <= 5 && digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u16>().is_ok()
        }
        None => port.is_empty(),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
    (port_fits && !host.is_empty() && host.bytes().all(plain)).then_some(host)
}

fn is_loopback(host: &str) -> bool {
    let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match inner {
        Some(address) => address.parse() == Ok(Ipv6Addr::LOCALHOST),
        None => {
            host.eq_ignore_ascii_case("localhost")
                || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
        }
    }
}

#[cfg(test)]
mod tests;
