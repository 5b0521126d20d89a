//! The organisation's state: clients, roles, grants, users, tokens. Invariant: of tokens and secrets only the SHA-256
//! is kept; whoever changes a role or a client forgets the cached permission sets.

use super::audits::AuditTrail;
use super::limits::{Standing, Window};
use super::usage::Usage;
use crate::config::LimitsConfig;
use crate::mint::{Digest32, hex, sha256};
use crate::operations::PermissionSet;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Live tokens that the sandbox keeps; the oldest ones die above it (a run that logs in per request).
const TOKENS_MAX: usize = 100_000;

/// State behind the organisation's one lock.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) clients: BTreeMap<String, Client>,
    pub(super) roles: BTreeMap<String, Role>,
    pub(super) users: BTreeMap<String, User>,
    pub(super) tokens: HashMap<Digest32, Token>,
    pub(super) refresh_tokens: HashMap<Digest32, RefreshToken>,
    pub(super) codes: HashMap<Digest32, Code>,
    pub(super) audits: AuditTrail,
    pub(super) usage: Usage,
    pub(super) idle_timeout_seconds: Option<u64>,
    pub(super) logins: HashMap<String, Window>,
    pub(super) client_windows: HashMap<String, Window>,
    /// Cache per subject; only `permissions` and `forget_permissions` touch it.
    pub(super) permission_cache: HashMap<String, Arc<PermissionSet>>,
}

/// An OAuth client.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) id: String,
    /// Everything of `OAuthClientRequest`, unknown members included.
    pub(super) fields: Map<String, Value>,
    pub(super) secrets: Vec<ClientSecret>,
    pub(super) created_ms: i64,
    pub(super) modified_ms: i64,
    pub(super) created_by: String,
    pub(super) modified_by: String,
    pub(super) allowed_ips: Vec<String>,
}

/// A live secret of a client. Genesys Cloud has exactly one; the switchable secrets API allows several.
#[derive(Clone, Debug)]
pub(super) struct ClientSecret {
    pub(super) id: String,
    pub(super) digest: Digest32,
    pub(super) created_ms: i64,
    /// Refused before this time (`secret_settle_seconds`).
    pub(super) usable_from_ms: i64,
}

/// A role.
#[derive(Clone, Debug)]
pub(super) struct Role {
    pub(super) fields: Map<String, Value>,
    pub(super) grants: Vec<String>,
}

/// A user with the roles granted.
#[derive(Clone, Debug)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) email: String,
    pub(super) roles: BTreeSet<String>,
}

/// An access token.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) client_id: String,
    /// The user of a code grant; absent for client credentials.
    pub(super) user_id: Option<String>,
    pub(super) secret_id: String,
    /// The login of a user that it goes back to; all refresh tokens and access tokens that follow have the same.
    pub(super) family: Option<String>,
    pub(super) issued_ms: i64,
    pub(super) expires_ms: i64,
    pub(super) last_used_ms: i64,
    pub(super) scope: Vec<String>,
    pub(super) window: Window,
    pub(super) endpoints: HashMap<usize, Window>,
}

/// A refresh token of a code grant.
#[derive(Clone, Debug)]
pub(super) struct RefreshToken {
    pub(super) client_id: String,
    pub(super) user_id: String,
    pub(super) scope: Vec<String>,
    /// The login that it goes back to.
    pub(super) family: String,
    /// When it was used first; only noted where refresh tokens work once.
    pub(super) used_ms: Option<i64>,
}

/// An authorization code.
#[derive(Clone, Debug)]
pub(super) struct Code {
    pub(super) client_id: String,
    pub(super) user_id: String,
    pub(super) redirect_uri: String,
    pub(super) challenge: Option<String>,
    pub(super) scope: Vec<String>,
    pub(super) expires_ms: i64,
}

impl Client {
    pub(super) fn text(&self, field: &str) -> &str {
        self.fields.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn texts(&self, field: &str) -> Vec<String> {
        texts(self.fields.get(field))
    }

    /// Ids of the client's roles, from `roleDivisions` and the deprecated `roleIds`.
    pub(super) fn role_ids(&self) -> BTreeSet<String> {
        role_ids(&self.fields)
    }

    pub(super) fn token_seconds(&self) -> u64 {
        let fallback = crate::config::DEFAULT_TOKEN_SECONDS;
        self.fields.get("accessTokenValiditySeconds").and_then(Value::as_u64).unwrap_or(fallback)
    }

    /// The client as the API shows it, never with its secret (removed from GET and PUT by the platform in 2025).
    pub(super) fn shown(&self) -> Value {
        let mut shown = self.fields.clone();
        let extra = json!({
            "id": self.id,
            "dateCreated": crate::clock::iso(self.created_ms),
            "dateModified": crate::clock::iso(self.modified_ms),
            "createdBy": {"id": self.created_by},
            "modifiedBy": {"id": self.modified_by},
            "selfUri": format!("/api/v2/oauth/clients/{}", self.id),
        });
        if let Value::Object(extra) = extra {
            shown.extend(extra);
        }
        Value::Object(shown)
    }
}

/// The strings of a JSON array.
pub(super) fn texts(value: Option<&Value>) -> Vec<String> {
    let items = value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

pub(super) fn role_ids(fields: &Map<String, Value>) -> BTreeSet<String> {
    let mut ids: BTreeSet<String> = texts(fields.get("roleIds")).into_iter().collect();
    let pairs = fields.get("roleDivisions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    ids.extend(pairs.iter().filter_map(|pair| pair.get("roleId").and_then(Value::as_str)).map(str::to_owned));
    ids
}

impl State {
    /// The client of a token, dead or alive by time, for journal and fault plan.
    pub(super) fn client_of(&self, token: &str) -> Option<String> {
        self.tokens.get(&sha256(token.as_bytes())).map(|token| token.client_id.clone())
    }

    /// Where a token stands, without counting a request.
    pub(super) fn standing(&self, token: &str, now_ms: i64, limits: &LimitsConfig) -> Option<Standing> {
        let token = self.tokens.get(&sha256(token.as_bytes()))?;
        Some(Standing::of(
            &token.window,
            now_ms,
            limits.requests_per_token,
            limits.window_seconds,
            limit_key(token.user_id.as_deref()),
        ))
    }

    /// Role ids of whoever holds the token: the client's for client credentials, else the user's.
    pub(super) fn subject_roles(&self, client_id: &str, user_id: Option<&str>) -> BTreeSet<String> {
        match user_id {
            Some(user) => self.users.get(user).map(|user| user.roles.clone()).unwrap_or_default(),
            None => self.clients.get(client_id).map(Client::role_ids).unwrap_or_default(),
        }
    }

    /// The union of the roles' permissions, cached per subject.
    pub(super) fn permissions(&mut self, client_id: &str, user_id: Option<&str>) -> Arc<PermissionSet> {
        let subject = user_id.unwrap_or(client_id);
        if let Some(cached) = self.permission_cache.get(subject) {
            return Arc::clone(cached);
        }
        let roles = self.subject_roles(client_id, user_id);
        let grants = roles.iter().filter_map(|id| self.roles.get(id)).flat_map(|role| role.grants.iter());
        let set = Arc::new(PermissionSet::new(grants));
        self.permission_cache.insert(subject.to_owned(), Arc::clone(&set));
        set
    }

    /// After a change of roles, clients or grants.
    pub(super) fn forget_permissions(&mut self) {
        self.permission_cache.clear();
    }

    /// Keeps a token; above the limit the dead ones go, then the oldest.
    pub(super) fn keep_token(&mut self, digest: Digest32, token: Token, now_ms: i64) {
        if self.tokens.len() >= TOKENS_MAX {
            self.tokens.retain(|_, token| token.expires_ms > now_ms);
        }
        if self.tokens.len() >= TOKENS_MAX {
            let oldest = self.tokens.iter().min_by_key(|(_, token)| token.issued_ms).map(|(digest, _)| *digest);
            oldest.and_then(|digest| self.tokens.remove(&digest));
        }
        self.tokens.insert(digest, token);
    }

    /// Ends a user's login: every refresh token and access token that goes back to it.
    pub(super) fn end_family(&mut self, family: &str) {
        self.refresh_tokens.retain(|_, token| token.family != family);
        self.tokens.retain(|_, token| token.family.as_deref() != Some(family));
    }

    /// Kills the tokens (and refresh tokens) of a client that `doomed` picks by the secret they were made with.
    pub(super) fn kill_tokens(&mut self, client_id: &str, doomed: impl Fn(&str) -> bool) -> usize {
        let before = self.tokens.len();
        self.tokens.retain(|_, token| token.client_id != client_id || !doomed(&token.secret_id));
        before - self.tokens.len()
    }

    /// Kills the tokens of a client, the token with a digest, or (neither given) all tokens.
    pub(super) fn revoke(&mut self, client: Option<&str>, digest_hex: Option<&str>) -> usize {
        let before = self.tokens.len();
        self.tokens.retain(|digest, token| {
            let client_meant = client.is_none_or(|client| client == token.client_id);
            let token_meant = digest_hex.is_none_or(|wanted| hex(digest).eq_ignore_ascii_case(wanted));
            !(client_meant && token_meant)
        });
        before - self.tokens.len()
    }
}

/// Published limit keys: client-credentials tokens have their own.
pub(super) fn limit_key(user_id: Option<&str>) -> &'static str {
    if user_id.is_some() { "token.rate.per.minute" } else { "client.credentials.token.rate.per.minute" }
}
