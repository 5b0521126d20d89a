//! Whether an issuer of callers' tokens gave no answer, or one that says that something is wrong.
//!
//! Invariant: what an issuer did answer is no reason to try again later, but for a fault or a limit of its own.

use crate::compose::SeenIssuer;

/// What the problem of such an issuer says.
const AWAY: [&str; 9] = [
    "name could not be looked up",
    "name has no address",
    "could not be reached",
    "did not accept a connection in time",
    "the TLS connection to the platform failed",
    "the proxy ",
    "no complete answer came in time",
    "answered 429",
    "answered 5",
];

/// Whether it could not be asked, or has a fault of its own and may be well tomorrow.
pub(super) fn is_away(issuer: &SeenIssuer) -> bool {
    issuer.problem.as_deref().is_some_and(says_away)
}

fn says_away(problem: &str) -> bool {
    AWAY.iter().any(|told| problem.contains(told))
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use kh_net::{ConnectError, http::HttpError};

    use super::says_away;

    #[test]
    fn what_may_be_well_tomorrow_is_told_from_what_is_wrong() {
        let refused = || Error::from(ErrorKind::ConnectionRefused);
        let proxy = || "proxy.example:3128".to_owned();
        let away = [
            ConnectError::Lookup(refused()),
            ConnectError::NoAddress,
            ConnectError::Unreachable(refused()),
            ConnectError::Timeout,
            ConnectError::Tls(refused()),
            ConnectError::ProxyUnreachable { proxy: proxy(), source: Box::new(ConnectError::Timeout) },
            ConnectError::ProxyAuth { proxy: proxy() },
            ConnectError::ProxyRefused { proxy: proxy(), status: 503 },
            ConnectError::ProxyProtocol { proxy: proxy() },
        ];
        for error in away {
            assert!(says_away(&format!("the key set: {}", error.detail())), "{error}");
        }
        for told in [HttpError::Timeout { sent: true }.to_string().as_str(), "answered 503 without a key set"] {
            assert!(says_away(&format!("the key set: {told}")), "{told}");
        }
        let not_allowed = ConnectError::NotAllowed.detail();
        for told in [
            not_allowed.as_str(),
            "the issuer's metadata: it is another issuer's",
            "the introspection endpoint refuses keyholder's own credential",
            "the key set: answered 404 without a key set",
            "it says that an invented token is active",
        ] {
            assert!(!says_away(told), "{told}");
        }
    }
}
