//! NICE CXone: global issuer, regional host and API on one origin. Invariant: there is no client_credentials grant;
//! access tokens are RS256 JWTs without `kid` and with another issuer than the id token, as the vendor's are.

mod access_keys;
mod acd;
mod applications;
mod discovery;
mod jwt;
mod login;
mod setup;
mod state;

use crate::config::SandboxConfig;
use crate::exchange::{Call, Target};
use crate::handle::{InitialAccessKey, InitialApplication, SandboxError};
use crate::mint::{Mint, hex, sha256};
use crate::reply::Reply;
use crate::shared::Shared;
use http::header::HeaderName;
use jwt::Signer;
use parking_lot::Mutex;
use serde_json::json;
use state::{Session, State};
use std::sync::Arc;

/// The header in which ACD answers carry their error text (read in a public Singer tap of the vendor's API).
const STATUS_DESCRIPTION: HeaderName = HeaderName::from_static("icstatusdescription");

/// The tenants as they run.
#[derive(Debug)]
pub(crate) struct Cxone {
    signer: Arc<Signer>,
    initial_keys: Vec<InitialAccessKey>,
    initial_applications: Vec<InitialApplication>,
    state: Mutex<State>,
}

impl Cxone {
    pub(crate) fn new(config: &SandboxConfig, mint: &Mint, now_ms: i64) -> Result<Self, SandboxError> {
        let (state, initial_keys, initial_applications) = setup::build(&config.cxone, mint, now_ms);
        Ok(Self {
            signer: Signer::of_process().ok_or(SandboxError::Crypto)?,
            initial_keys,
            initial_applications,
            state: Mutex::new(state),
        })
    }

    pub(crate) fn initial_access_keys(&self) -> &[InitialAccessKey] {
        &self.initial_keys
    }

    pub(crate) fn initial_applications(&self) -> &[InitialApplication] {
        &self.initial_applications
    }

    /// Revokes tokens for the control API; the number of tokens that died. `client` is an access key or application.
    pub(crate) fn revoke(&self, client: Option<&str>, digest_hex: Option<&str>) -> usize {
        let mut state = self.state.lock();
        let before = state.sessions.len();
        state.sessions.retain(|digest, session| {
            let client_meant =
                client.is_none_or(|client| client == session.key_id || Some(client) == session.application.as_deref());
            let token_meant = digest_hex.is_none_or(|wanted| hex(digest).eq_ignore_ascii_case(wanted));
            !(client_meant && token_meant)
        });
        before - state.sessions.len()
    }
}

/// What the request is about.
pub(crate) fn identify(shared: &Shared, call: &Call) -> Target {
    let path = call.raw_path.clone();
    let client = match path.as_str() {
        "/auth/token" => login::claimed_client(call),
        "/authentication/v1/token/access-key" => login::claimed_key(call),
        _ => call.bearer().and_then(|token| {
            let state = shared.cxone.state.lock();
            state.sessions.get(&sha256(token.as_bytes())).map(|session| session.key_id.clone())
        }),
    };
    Target { endpoint: template(&path), path, client }
}

/// Endpoint template of a path, for journal, faults and limits.
fn template(path: &str) -> String {
    let mut parts: Vec<&str> = path.split('/').collect();
    match parts.as_mut_slice() {
        ["", "access-key-management", "v1", "access-keys", id] => *id = "{accessKeyId}",
        ["", "inContactAPI", "services", version, _, rest @ ..] => {
            *version = "{version}";
            if let [id, ..] = rest {
                *id = "{id}";
            }
        }
        ["", "applications", id] => *id = "{applicationId}",
        _ => {}
    }
    parts.join("/")
}

/// Answers a request that the fault plan let through.
pub(crate) fn handle(shared: &Shared, call: &Call, _target: &Target) -> Reply {
    let path = call.raw_path.as_str();
    match (call.method.as_str(), path) {
        ("GET", "/.well-known/openid-configuration") => discovery::openid(shared),
        ("GET", "/.well-known/cxone-configuration") => discovery::tenant(shared, call),
        ("GET", "/auth/jwks") => Reply::json(200, &json!({"keys": [shared.cxone.signer.jwk()]})),
        ("POST", "/auth/token") => login::global(shared, call),
        ("GET" | "POST", "/auth/userinfo") => login::userinfo(shared, call),
        ("POST", "/authentication/v1/token/access-key") => login::regional(shared, call),
        ("POST", "/public/user/refresh") => login::regional_refresh(shared, call),
        ("POST", "/incontactauthorizationserver/token/whoami") => login::whoami(shared, call),
        _ if path.starts_with("/access-key-management/v1/access-keys") => access_keys::handle(shared, call),
        _ if path.starts_with("/inContactAPI/services/") => acd::handle(shared, call),
        _ if path.starts_with("/applications") => applications::handle(shared, call),
        _ => oauth_error(404, "not_found", "there is nothing at this path"),
    }
}

/// Refuses a request in the shape of its API.
pub(crate) fn refusal(target: &Target, status: u16, code: &str, message: &str) -> Reply {
    if target.path.starts_with("/inContactAPI/") {
        return acd::refused(status, message);
    }
    oauth_error(status, code, message)
}

/// `{error, errorDescription}`: camelCase, unlike RFC 6749 (generated client of the vendor's specification).
fn oauth_error(status: u16, code: &str, description: &str) -> Reply {
    Reply::json(status, &json!({"error": code, "errorDescription": description}))
}

/// The session of the request's access token, if it is alive.
fn session(shared: &Shared, call: &Call) -> Option<Session> {
    let digest = sha256(call.bearer()?.as_bytes());
    let state = shared.cxone.state.lock();
    let session = state.sessions.get(&digest).filter(|session| shared.clock.now_ms() < session.expires_ms)?;
    let key_lives = !shared.config.cxone.behaviours.key_deactivation_kills_tokens
        || state.keys.get(&session.key_id).is_some_and(|key| key.active);
    key_lives.then(|| session.clone())
}
