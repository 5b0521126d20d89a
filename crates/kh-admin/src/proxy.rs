//! The broker as a reverse proxy for plain clients: `/{profile}/api/v2/...` is the platform's API with the credential's
//! token put on.
//!
//! Invariants: what the caller showed to get in (guard token, `Authorization`) is taken off before the request is
//! handed over; the forwarder decides what may be called and never sees a request that a browser or a proxy could have
//! sent.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderName, Response, header},
};
use kh_broker::Credential;
use kh_core::{Code, CredentialName, Problem, port::BoxFuture};
use percent_encoding::percent_decode_str;

use crate::{
    broker_api::BrokerPorts,
    guard::{GUARD_ALIAS, GUARD_HEADER},
    problem,
};

/// Sends a request of an admitted local caller to a credential's platform.
pub trait ProfileProxy: Send + Sync {
    /// Forwards `request` without the first `prefix_len` bytes of its path, with the credential's token, streaming
    /// both ways. Operations on platform secrets are refused here, too: a profile has no allow-list.
    fn forward(
        &self,
        request: Request<Body>,
        credential: Arc<Credential>,
        prefix_len: usize,
    ) -> BoxFuture<'_, Response<Body>>;
}

/// What comes with an offer of HTTP/2 (RFC 7540 section 3.2.1).
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// First segments of the broker's own paths: a profile of such a name cannot be called through the proxy.
const OWN: [&str; 4] = ["", "v1", "healthz", "readyz"];

/// Whether a path is one that is forwarded, and not the broker's own.
pub(crate) fn is_forwarded(path: &str) -> bool {
    !OWN.contains(&first_segment(path))
}

fn first_segment(path: &str) -> &str {
    path.strip_prefix('/').and_then(|rest| rest.split('/').next()).unwrap_or_default()
}

/// Hands an admitted request over.
pub(crate) async fn forward(ports: &BrokerPorts, proxy: &dyn ProfileProxy, mut request: Request) -> Response<Body> {
    let first = first_segment(request.uri().path());
    let prefix_len = 1 + first.len();
    let name = percent_decode_str(first).decode_utf8().ok().and_then(|name| name.parse::<CredentialName>().ok());
    let Some(credential) = name.and_then(|name| ports.broker.credential(&name)) else {
        let unknown = Problem::new(Code::NOT_FOUND, "there is no profile of this name")
            .hint("a path is /{profile}/ and the platform's own path; a / in a profile's name is written %2F");
        return problem::answer(&unknown);
    };
    if request.uri().path().len() == prefix_len {
        return problem::answer(&Problem::new(Code::NOT_FOUND, "the platform's own path is missing after the profile"));
    }
    // With the guard goes an offer of HTTP/2, which is not taken up.
    for shown in [GUARD_HEADER, GUARD_ALIAS, header::AUTHORIZATION, header::UPGRADE, HTTP2_SETTINGS] {
        request.headers_mut().remove(shown);
    }
    proxy.forward(request, credential, prefix_len).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_paths_and_forwarded_ones() {
        for own in ["/", "", "*", "/v1", "/v1/", "/v1/token/acme", "/healthz", "/readyz/x", "//acme/api"] {
            assert!(!is_forwarded(own), "{own}");
        }
        for forwarded in ["/acme/api/v2/users", "/acme", "/v1x/api", "/team%2Facme/api", "/%76%31/token/acme"] {
            assert!(is_forwarded(forwarded), "{forwarded}");
        }
    }
}
