//! Where clients get their tokens: Entra ID's token endpoint and the metadata service of a machine.
//!
//! Sources: learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow (client secret and federated
//! assertion), learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token (metadata).
//!
//! Invariant: a token is one of ours, made for the vault's audience, and not older than its life.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use uuid::Uuid;

use super::{LOGIN_HOST, refused};
use crate::fake::{Reply, Request};

/// Audience of every vault of the public cloud.
const AUDIENCE: &str = "https://vault.azure.net";
/// A token's life in seconds; the real one is 60 to 90 minutes.
const TOKEN_SECONDS: u64 = 3_600;
/// `client_assertion_type` of RFC 7523.
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The one application, and the tokens made for it.
#[derive(Debug)]
pub(super) struct Identity {
    tenant: String,
    client_id: String,
    client_secret: String,
    federated_token: String,
    /// Token and when it ends, in seconds since 1970.
    tokens: BTreeMap<String, u64>,
    counter: u64,
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            tenant: "11111111-2222-3333-4444-555555555555".to_owned(),
            client_id: "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee".to_owned(),
            client_secret: "MARKED~client~secret~of~the~fake".to_owned(),
            federated_token: "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJNQVJLRUQifQ.TUFSS0VE".to_owned(),
            tokens: BTreeMap::new(),
            counter: 0,
        }
    }
}

/// The word for a request that is not the vault's.
pub(super) fn operation(parts: &[&str]) -> Option<&'static str> {
    match parts {
        ["metadata", ..] => Some("metadata.token"),
        [_, "oauth2", "v2.0", "token"] => Some("login.token"),
        [_, "v2.0", ".well-known", "openid-configuration"] | ["common", "discovery", "instance"] => {
            Some("login.discovery")
        }
        _ => None,
    }
}

impl Identity {
    pub(super) fn answer(&mut self, parts: &[&str], request: &Request, now: u64) -> Reply {
        match parts {
            ["metadata", "identity", "oauth2", "token"] => self.metadata(request, now),
            [tenant, "oauth2", "v2.0", "token"] => self.login(tenant, request, now),
            [tenant, "v2.0", ..] => self.discovery(tenant, request),
            _ => Reply::empty(404),
        }
    }

    pub(super) fn told(&self) -> Value {
        json!({
            "tenant": self.tenant,
            "client_id": self.client_id,
            "client_secret": self.client_secret,
            "federated_token": self.federated_token,
        })
    }

    pub(super) fn revoke(&mut self) {
        self.tokens.clear();
    }

    /// The challenge of a vault; hashicorp/terraform-provider-azurerm issue 19749 has the whole answer.
    pub(super) fn admit(&self, request: &Request, now: u64) -> Result<(), Reply> {
        let bearer = request.header("authorization").map(|value| value.strip_prefix("Bearer ").unwrap_or_default());
        let message = match bearer {
            None => "AKV10000: Request is missing a Bearer or PoP token.",
            Some(token) if self.tokens.get(token).is_some_and(|end| *end > now) => return Ok(()),
            Some(token) if self.tokens.contains_key(token) => {
                "AKV10046: Unable to resolve the key used for signature validation."
            }
            Some(_) => "AKV10022: Invalid audience. Expected https://vault.azure.net, found: none.",
        };
        let challenge =
            format!("Bearer authorization=\"https://{LOGIN_HOST}/{}\", resource=\"{AUDIENCE}\"", self.tenant);
        Err(refused(401, "Unauthorized", message, None).with("www-authenticate", &challenge))
    }

    fn discovery(&self, tenant: &str, request: &Request) -> Reply {
        if tenant != self.tenant {
            return login_error(400, "invalid_tenant", 90_002, "Tenant not found.");
        }
        let base = format!("{}/{tenant}", request.origin);
        Reply::json(
            200,
            &json!({
                "issuer": format!("{base}/v2.0"),
                "authorization_endpoint": format!("{base}/oauth2/v2.0/authorize"),
                "token_endpoint": format!("{base}/oauth2/v2.0/token"),
                "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
            }),
        )
    }

    fn login(&mut self, tenant: &str, request: &Request, now: u64) -> Reply {
        let form = Request { query: String::from_utf8_lossy(&request.body).into_owned(), ..request.clone() };
        let field = |name: &str| form.parameter(name).unwrap_or_default();
        if !request.header("content-type").is_some_and(|value| value.starts_with("application/x-www-form-urlencoded")) {
            return login_error(400, "invalid_request", 900_144, "The request body must be a form.");
        }
        if tenant != self.tenant {
            return login_error(400, "invalid_tenant", 90_002, "Tenant not found.");
        }
        if field("grant_type") != "client_credentials" {
            return login_error(400, "unsupported_grant_type", 70_003, "The app requested an unsupported grant type.");
        }
        if field("client_id") != self.client_id {
            return login_error(400, "unauthorized_client", 700_016, "Application was not found in the directory.");
        }
        let secret = field("client_secret");
        let proven = if secret.is_empty() {
            field("client_assertion_type") == ASSERTION_TYPE && field("client_assertion") == self.federated_token
        } else {
            secret == self.client_secret
        };
        if !proven {
            return login_error(401, "invalid_client", 7_000_215, "Invalid client secret or assertion provided.");
        }
        if field("scope").split(' ').all(|scope| scope != "https://vault.azure.net/.default") {
            return login_error(400, "invalid_scope", 70_011, "The provided value for scope is not valid.");
        }
        let token = self.token(now);
        Reply::json(
            200,
            &json!({
                "token_type": "Bearer",
                "expires_in": TOKEN_SECONDS,
                "ext_expires_in": TOKEN_SECONDS,
                "access_token": token,
            }),
        )
    }

    /// The metadata service: in the clear, with the header `Metadata: true`, numbers as text.
    fn metadata(&mut self, request: &Request, now: u64) -> Reply {
        let error = |code: &str, text: &str| Reply::json(400, &json!({"error": code, "error_description": text}));
        if !request.origin.starts_with("http://") {
            return Reply::empty(404);
        }
        if !request.header("metadata").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return error("invalid_request", "Required metadata header not specified");
        }
        if request.parameter("api-version").is_none_or(|version| version.as_str() < "2018-02-01") {
            return error("invalid_request", "Required query variable 'api-version' is missing");
        }
        if request.parameter("resource").as_deref() != Some(AUDIENCE) {
            return error("invalid_resource", "AADSTS50001: The application was not found.");
        }
        if request.parameter("client_id").is_some_and(|client| client != self.client_id) {
            return error("invalid_request", "Identity not found");
        }
        let token = self.token(now);
        Reply::json(
            200,
            &json!({
                "access_token": token,
                "client_id": self.client_id,
                "expires_in": TOKEN_SECONDS.to_string(),
                "expires_on": (now + TOKEN_SECONDS).to_string(),
                "ext_expires_in": TOKEN_SECONDS.to_string(),
                "not_before": now.to_string(),
                "resource": AUDIENCE,
                "token_type": "Bearer",
            }),
        )
    }

    fn token(&mut self, now: u64) -> String {
        self.counter += 1;
        let token = format!("MARKED-{}", Uuid::new_v5(&Uuid::NAMESPACE_URL, &self.counter.to_be_bytes()).simple());
        self.tokens.insert(token.clone(), now + TOKEN_SECONDS);
        token
    }
}

/// learn.microsoft.com/entra/identity-platform/reference-error-codes.
fn login_error(status: u16, error: &str, number: u32, text: &str) -> Reply {
    Reply::json(
        status,
        &json!({
            "error": error,
            "error_description": format!("AADSTS{number}: {text}"),
            "error_codes": [number],
            "trace_id": "00000000-0000-0000-0000-000000000000",
            "correlation_id": "00000000-0000-0000-0000-000000000000",
        }),
    )
}
