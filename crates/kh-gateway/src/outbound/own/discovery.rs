//! CXone's discovery documents, with keyholder in the place of every host: an application that discovers its
//! endpoints through keyholder stays with keyholder.
//!
//! Invariant: every URL in these answers has the origin that the caller used: the configured one, else the request's.

use http::{Method, Uri, header, request::Parts, uri::Authority};
use kh_core::Code;
use serde_json::json;

use super::{
    super::{Outbound, route::prefix_of},
    Visit, method_refused,
};
use crate::{
    answer::{self, Answer, Refusal},
    request::Caller,
};

/// Longest tenant id that is repeated; the platform's are UUIDs.
const TENANT_MAX: usize = 64;

pub(super) fn check(method: &Method) -> Result<(), Refusal> {
    if matches!(*method, Method::GET | Method::HEAD) {
        return Ok(());
    }
    Err(Refusal { told: Some("GET, HEAD".into()), ..method_refused() })
}

/// Scheme and host as the caller sees them: the configured ones, else an absolute request target's, else those of the
/// Host header (RFC 9112 section 3.2.2).
pub(in crate::outbound) fn origin(site: &Outbound, caller: &Caller, parts: &Parts) -> Result<String, Refusal> {
    if let Some(public) = &site.public_url {
        return Ok(public.to_string());
    }
    let host = match parts.uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => parts.headers.get(header::HOST).and_then(|value| value.to_str().ok()),
    };
    let scheme = if caller.is_secure() { "https" } else { "http" };
    host.and_then(|host| host.parse::<Authority>().ok())
        .filter(|authority| !authority.as_str().contains('@'))
        .map(|authority| format!("{scheme}://{authority}"))
        .ok_or_else(|| Refusal::new(Code::REQUEST_MALFORMED, "the Host header is not a host"))
}

/// `GET /.well-known/openid-configuration`.
pub(super) fn openid(visit: Visit<'_>, parts: &Parts) -> Result<Answer, Refusal> {
    check(&parts.method)?;
    let issuer = format!("{}{}", origin(visit.site, visit.caller, parts)?, prefix_of(parts.uri.path()));
    Ok(answer::json(&json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/auth/authorize"),
        "token_endpoint": format!("{issuer}/auth/token"),
        "userinfo_endpoint": format!("{issuer}/auth/userinfo"),
        "jwks_uri": format!("{issuer}/auth/jwks"),
        "end_session_endpoint": format!("{issuer}/auth/authorize/logout"),
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "grant_types_supported": ["password"],
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "scopes_supported": ["openid"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "code_challenge_methods_supported": ["S256"],
    })))
}

/// `GET /.well-known/cxone-configuration?tenantId=...`.
pub(super) fn cxone(visit: Visit<'_>, parts: &Parts) -> Result<Answer, Refusal> {
    check(&parts.method)?;
    let origin = origin(visit.site, visit.caller, parts)?;
    let host = origin.parse::<Uri>().ok().and_then(|origin| origin.host().map(str::to_owned));
    let tenant = parts.uri.query().and_then(tenant_id);
    Ok(answer::json(&json!({
        "private": false,
        "area": "keyholder",
        "cluster": "keyholder",
        "domain": host,
        "acdDomain": host,
        "uhDomain": host,
        "ui_endpoint": origin,
        "auth_endpoint": origin,
        "api_endpoint": origin,
        "tenantId": tenant,
    })))
}

fn tenant_id(query: &str) -> Option<&str> {
    let id = query.split('&').find_map(|pair| pair.strip_prefix("tenantId="))?;
    (id.len() <= TENANT_MAX && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')).then_some(id)
}

/// `GET /auth/jwks`: the tokens of clients that stand in for the platform's are opaque, so there are no keys.
pub(super) fn jwks(method: &Method) -> Result<Answer, Refusal> {
    check(method)?;
    Ok(answer::json(&json!({ "keys": [] })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenant_ids() {
        for (query, expected) in
            [("tenantId=a-1", Some("a-1")), ("x=1&tenantId=b", Some("b")), ("tenantId=%3C", None), ("", None)]
        {
            assert_eq!(tenant_id(query), expected);
        }
    }
}
