//! What tutorials, forums and generated code get wrong, one line each. The sources: `swagger` is the platform's published
//! API document (July 2026: 2,139 paths, 135 scopes), `SDK` the official Python SDK 269.0.0, `provider` the official
//! Terraform provider, `NICE spec` the published authentication spec of CXone, `run` an SDK executed against a local server.
//!
//! In a pattern, `{G}` is any Genesys Cloud domain and `{N}` any domain of NICE; in the right form, `{domain}` is the
//! domain that was found.

use super::{
    Platform::{Any, Cxone, Genesys},
    Wrong, wrong,
};

#[rustfmt::skip]
pub(super) const TABLE: &[Wrong] = &[
    // Genesys Cloud: addresses
    wrong("token-below-api-v2", Any, r"(?:https?://)?[\w.-]*{G}/api/v2/oauth/token\b", "there is no token endpoint below /api/v2", "https://login.{domain}/oauth/token", "swagger"),
    wrong("token-at-api-host", Any, r"(?:https?://)?api\.{G}/oauth/(?:token|authorize)\b", "there is no login at an api host", "https://login.{domain}/oauth/token", "SDK"),
    wrong("login-without-login-host", Any, r"https?://{G}/oauth/(?:token|authorize)\b", "there is no login at the bare domain", "https://login.{domain}/oauth/token", "SDK"),
    wrong("api-at-login-host", Any, r"(?:https?://)?login\.{G}/api/v2\b", "a login host answers no API calls", "https://api.{domain}/api/v2", "SDK"),
    wrong("organisation-host", Any, r"(?:https?://)?(?:[\w{}$-]+\.)*mygenesys\.com\b", "there is no host of an organisation on Genesys Cloud", "https://login.<domain> and https://api.<domain> of the organisation's region", "SDK"),
    wrong("revoke", Genesys, r"/oauth/revoke\b", "there is no revocation endpoint", "DELETE /api/v2/tokens/me with the token to revoke", "swagger, RFC 8414 metadata"),
    wrong("introspect", Genesys, r"/oauth/introspect\b", "there is no introspection endpoint: tokens are opaque", "GET or HEAD /api/v2/tokens/me", "swagger, RFC 8414 metadata"),
    wrong("openid-configuration", Any, r"(?:https?://)?(?:login|api)\.{G}/\.well-known/openid-configuration\b", "Genesys Cloud is no OpenID provider here", "https://login.{domain}/.well-known/oauth-authorization-server", "probe, July 2026"),
    wrong("jwks", Any, r"(?:https?://)?(?:login|api)\.{G}/[\w./-]*jwks(?:\.json)?\b", "there is no key set: tokens are opaque and no JWT", "GET or HEAD /api/v2/tokens/me", "RFC 8414 metadata"),
    wrong("api-docs", Any, r"/api/v2/api-docs\b", "there is no such document", "/api/v2/docs/swagger", "provider"),
    wrong("client-secrets", Any, r"/api/v2/oauth/clients/[\w{}$<>:.-]+/secrets\b(?:/[\w{}$<>:.-]+)?", "a client has one secret, and there is no list of them", "POST /api/v2/oauth/clients/{clientId}/secret, which replaces it at once", "swagger"),
    wrong("rotate-secret", Any, r"/api/v2/oauth/clients/[\w{}$<>:.-]+/(?:rotate|regenerate)\w*(?:[-/]secret)?\b", "there is no such operation", "POST /api/v2/oauth/clients/{clientId}/secret", "swagger"),
    // Genesys Cloud: headers
    wrong("rate-limit-headers", Genesys, r"\bx-rate-?limit-(?:remaining|limit|reset|count)\b", "the platform sends no such header", "inin-ratelimit-allowed, inin-ratelimit-count and inin-ratelimit-reset; what remains is allowed minus count", "official developer blog, 2021-05-06"),
    wrong("rate-limit-remaining", Genesys, r"\binin-ratelimit-(?:remaining|limit)\b", "the platform sends no such header", "inin-ratelimit-allowed minus inin-ratelimit-count", "official developer blog, 2021-05-06"),
    // Genesys Cloud: scopes and permissions
    wrong("scope-offline-access", Genesys, r"\boffline_access\b", "there is no such scope, and client credentials get no refresh token", "log in again when the token ends", "swagger"),
    wrong("scope-analytics", Any, r"\banalytics:reports?:(?:read|view)\b", "there is no such scope or permission", "the scope analytics:readonly; for client credentials a role", "swagger"),
    wrong("scope-users", Genesys, r"\busers?:(?:read|write)\b", "there is no such scope", "users:readonly or users; for client credentials a role", "swagger"),
    wrong("scope-all", Genesys, r"\bapi\.v2\.all\b", "there is no such scope", "for client credentials a role", "swagger"),
    wrong("scope-org-admin", Genesys, r"\borg\.admin\b", "there is no such scope", "for client credentials a role", "swagger"),
    wrong("scope-oauth-client", Genesys, r"\boauth:client:(?:read|write)\b", "there is no such scope or permission", "the permissions oauth:client:view and oauth:client:edit; the scopes oauth:readonly and oauth", "swagger"),
    wrong("scope-oauth-token", Genesys, r"\boauth:token:(?:generate|create|read)\b", "there is no such scope or permission", "nothing: logging in needs no permission", "swagger"),
    wrong("scope-queue", Genesys, r"\brouting:queue:(?:read|write)\b", "there is no such scope or permission", "the permission routing:queue:view; the scope routing:readonly", "swagger"),
    wrong("scope-conversation", Genesys, r"\bconversation:call\b", "there is no such scope", "conversations", "swagger"),
    wrong("scope-telephony", Genesys, r"\btelephony\.admin\b", "there is no such scope", "telephony", "swagger"),
    // Genesys Cloud: request bodies, SDKs, Terraform
    wrong("grant-type-member", Genesys, r#"(?:["']|\b)grantType["']?\s*[:=]\s*["']CLIENT[_-]CREDENTIALS["']"#, "an OAuth client has no such member", r#""authorizedGrantType": "CLIENT-CREDENTIALS""#, "swagger"),
    wrong("grant-type-underscore", Genesys, r#"authorized_?grant_?type["']?\s*[:=]\s*["']CLIENT_CREDENTIALS["']"#, "the grant is written with a dash", "CLIENT-CREDENTIALS", "swagger"),
    wrong("js-environment", Any, r#"setEnvironment\(\s*["'](?:https?://)?(?:localhost|127\.|\[::1\])[^"']*["']"#, "the JavaScript SDK then logs in at https://login.<that address>", "setGateway({ host, protocol, port })", "run"),
    wrong("environment-variables", Any, r"\bGENESYSCLOUD_CLIENT_(?:ID|SECRET)\b", "the CLI and the Terraform provider read other variables", "GENESYSCLOUD_OAUTHCLIENT_ID and GENESYSCLOUD_OAUTHCLIENT_SECRET", "provider"),
    wrong("terraform-source", Any, r"\bmikeschaeffer/genesyscloud\b", "this is not the provider", "mypurecloud/genesyscloud", "provider"),
    wrong("terraform-client-type", Genesys, r"(?m)^\s*client_type\s*=", "genesyscloud_oauth_client has no such attribute", "authorized_grant_type", "provider"),
    wrong("terraform-grant-types", Genesys, r"(?m)^\s*grant_types\s*=", "genesyscloud_oauth_client has no such attribute", r#"authorized_grant_type = "CLIENT-CREDENTIALS""#, "provider"),
    wrong("terraform-redirects", Genesys, r"(?m)^\s*redirect_uris\s*=", "genesyscloud_oauth_client has no such attribute", "registered_redirect_uris", "provider"),
    wrong("terraform-secret", Genesys, r"(?m)^\s*client_secret\s*=\s*random_password\.", "the platform makes the secret itself and ignores this one", "read the secret from the answer that creates the client", "swagger"),
    // NICE CXone
    wrong("cxone-oauth2-token", Any, r"(?:https?://)?[\w.{}$-]*{N}/oauth2?/token\b", "there is no such token endpoint on CXone", "https://cxone.niceincontact.com/auth/token with the password grant of an access key", "NICE spec"),
    wrong("cxone-api-host", Any, r"https?://api\.nice-?incontact\.com\b", "there is no such host: the API's address is discovered for the tenant", "api_endpoint of https://cxone.niceincontact.com/.well-known/cxone-configuration?tenantId=...", "NICE spec"),
    wrong("cxone-authorization-server", Any, r"(?:https?://)?api\.incontact\.com/InContactAuthorizationServer/Token\b", "this endpoint is in no current document", "https://cxone.niceincontact.com/auth/token with the password grant of an access key", "NICE spec"),
    wrong("cxone-client-credentials", Cxone, r#"\bgrant_type["']?\s*[:=]\s*["']?client_credentials\b"#, "CXone has no client_credentials grant", "grant_type=password with the access key as username and password", "NICE spec"),
    wrong("cxone-scope", Cxone, r"\b(?:read|write):api\w*\b", "CXone tokens carry no scopes", "the permissions of the access key's user", "NICE spec"),
];
