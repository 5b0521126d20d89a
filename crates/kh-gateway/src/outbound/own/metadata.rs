//! What others need to know of keyholder as an authorization server: its metadata (RFC 8414) and its public keys
//! (RFC 7517).
//!
//! Invariant: a metadata document names the issuer by which it was found (RFC 8414 section 3.3), or there is none.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;
use http::request::Parts;
use kh_broker::Credential;
use kh_core::Code;
use kh_issuer::JWKS_MAX_AGE;
use serde_json::json;

use super::{Visit, discovery};
use crate::{
    answer::{self, Answer, Refusal},
    outbound::{Outbound, route::AUTHORIZATION_SERVER},
    sender::algorithms,
};

/// The path of the issuer whose metadata is asked for. RFC 8414 section 3.1 puts the well-known part before it; many
/// clients put it behind, as OpenID Connect does.
fn issuer_path(path: &str) -> &str {
    path.strip_prefix(AUTHORIZATION_SERVER).or_else(|| path.strip_suffix(AUTHORIZATION_SERVER)).unwrap_or_default()
}

/// `GET /.well-known/oauth-authorization-server{path}`.
pub(super) fn authorization_server(visit: Visit<'_>, parts: &Parts) -> Result<Answer, Refusal> {
    discovery::check(&parts.method)?;
    let path = issuer_path(parts.uri.path());
    let authority = visit.site.issuer.authority();
    let issuer = match authority {
        Some(authority) if authority.issuer.path() == path => authority.issuer.to_string(),
        Some(_) => return Err(Refusal::new(Code::NOT_FOUND, "there is no issuer with this path")),
        // without a name of its own its tokens are opaque, and it is what its callers call it
        None => format!("{}{path}", discovery::origin(visit.site, visit.caller, parts)?),
    };
    let methods = ["client_secret_basic", "client_secret_post"];
    let mut document = json!({
        "issuer": issuer,
        "token_endpoint": format!("{issuer}/oauth/token"),
        "token_endpoint_auth_methods_supported": methods,
        "grant_types_supported": grants(visit.site),
        // required, and empty: there is no authorization endpoint
        "response_types_supported": [],
        "revocation_endpoint": format!("{issuer}/oauth/revoke"),
        "revocation_endpoint_auth_methods_supported": methods,
        "introspection_endpoint": format!("{issuer}/oauth/introspect"),
        "introspection_endpoint_auth_methods_supported": methods,
        // RFC 9449 section 5.1, RFC 8705 section 3.3
        "dpop_signing_alg_values_supported": algorithms(&visit.site.binding.proofs),
        "tls_client_certificate_bound_access_tokens": visit.site.binding.certificates.load(Ordering::Relaxed),
    });
    if authority.is_some()
        && let Some(members) = document.as_object_mut()
    {
        members.insert("jwks_uri".to_owned(), format!("{issuer}/oauth/jwks").into());
    }
    Ok(answer::public_json(Bytes::from(document.to_string()), JWKS_MAX_AGE))
}

/// The grants of which a client may have one: a code grant where users log in by some credential.
fn grants(site: &Outbound) -> &'static [&'static str] {
    let for_users = |credential: Arc<Credential>| credential.spec().sessions.is_some();
    if site.sessions.is_some() && site.broker.credentials().any(for_users) {
        return &["client_credentials", "authorization_code"];
    }
    &["client_credentials"]
}

/// `GET {prefix}/oauth/jwks`.
pub(super) fn jwks(visit: Visit<'_>, parts: &Parts) -> Result<Answer, Refusal> {
    discovery::check(&parts.method)?;
    let keys = visit.site.issuer.authority().map(|authority| authority.keys.key_set());
    let keys = keys.unwrap_or_else(|| r#"{"keys":[]}"#.to_owned());
    Ok(answer::public_json(Bytes::from(keys), JWKS_MAX_AGE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuer_paths() {
        for (path, expected) in [
            ("/.well-known/oauth-authorization-server", ""),
            ("/.well-known/oauth-authorization-server/a/b", "/a/b"),
            ("/a/.well-known/oauth-authorization-server", "/a"),
        ] {
            assert_eq!(issuer_path(path), expected, "{path}");
        }
    }
}
