//! The two discovery documents. Invariant: every endpoint named leads back to this sandbox.

use super::oauth_error;
use crate::exchange::Call;
use crate::reply::Reply;
use crate::shared::Shared;
use serde_json::json;

/// Issuer of discovery, id token and refresh token.
pub(super) fn issuer(shared: &Shared) -> String {
    shared.config.cxone.issuer.clone().unwrap_or_else(|| shared.origins.cxone.clone())
}

/// OpenID Connect discovery with the members of the recorded answer.
pub(super) fn openid(shared: &Shared) -> Reply {
    let origin = &shared.origins.cxone;
    let document = json!({
        "issuer": issuer(shared),
        "authorization_endpoint": format!("{origin}/auth/authorize"),
        "token_endpoint": format!("{origin}/auth/token"),
        "userinfo_endpoint": format!("{origin}/auth/userinfo"),
        "jwks_uri": format!("{origin}/auth/jwks"),
        "end_session_endpoint": format!("{origin}/auth/authorize/logout"),
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "code_challenge_methods_supported": ["S256"],
        "scopes_supported": ["openid"],
        "id_token_signing_alg_values_supported": ["RS256"],
    });
    Reply::json(200, &document)
}

/// Tenant to endpoints.
pub(super) fn tenant(shared: &Shared, call: &Call) -> Reply {
    let Some(id) = call.query_value("tenantId") else {
        return oauth_error(400, "invalid_request", "tenantId is missing");
    };
    let state = shared.cxone.state.lock();
    let Some(tenant) = state.tenants.get(&id) else {
        return oauth_error(404, "not_found", "the tenant is unknown");
    };
    let origin = &shared.origins.cxone;
    let document = json!({
        "private": false, "area": tenant.area, "cluster": tenant.cluster, "domain": "niceincontact.com",
        "acdDomain": "nice-incontact.com", "uhDomain": "nice-incontact.com", "ui_endpoint": origin,
        "auth_endpoint": origin, "api_endpoint": origin, "tenantId": id,
        "globaldomain": "niceincontact.com", "globaldomain_v1": "niceincontact.com",
    });
    Reply::json(200, &document)
}
