//! Tokens, their leases, and what a caller may ask about its own.

use std::collections::HashMap;

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Call, Operation, State,
    reply::{data, envelope, error, none, random, time},
};
use crate::fake::Reply;

/// What an unknown or ended token is told (vault: vault/request_handling.go joins both errors).
pub(super) const INVALID: &str = "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n";

/// The policy of a wrapping token (vault: vault/wrapping.go).
const WRAPPING: &str = "response-wrapping";

/// One token.
#[derive(Clone, Debug)]
pub(super) struct Token {
    text: String,
    accessor: String,
    pub(super) policies: Vec<String>,
    pub(super) namespace: String,
    issued_at: u64,
    /// None: it never ends.
    expires_at: Option<u64>,
    ttl_ms: u64,
    max_ttl_ms: u64,
    /// Uses left; none without a limit.
    uses: Option<u64>,
    /// The answer that a wrapping token stands for.
    wrapped: Option<Wrapped>,
}

#[derive(Clone, Debug)]
struct Wrapped {
    answer: Value,
    path: String,
}

impl Token {
    /// The root token: every right, no end (vault: docs/concepts/tokens).
    pub(super) fn root() -> Self {
        Self { policies: vec!["root".to_owned()], expires_at: None, ..Self::issued(Vec::new(), "", 0, 0, 0) }
    }

    /// A token of a login; the policy `default` is on every one.
    pub(super) fn issued(mut policies: Vec<String>, namespace: &str, seconds: u64, max_seconds: u64, now: u64) -> Self {
        if !policies.iter().any(|policy| policy == "default") {
            policies.insert(0, "default".to_owned());
        }
        let fresh = |kind: &str| format!("{kind}{}", Uuid::from_bytes(random()).simple());
        Self {
            // vault: docs/concepts/tokens, service tokens begin with hvs.
            text: fresh("hvs."),
            accessor: fresh(""),
            policies,
            namespace: namespace.to_owned(),
            issued_at: now,
            expires_at: Some(now + seconds * 1000),
            ttl_ms: seconds * 1000,
            max_ttl_ms: max_seconds * 1000,
            uses: None,
            wrapped: None,
        }
    }

    pub(super) fn is_root(&self) -> bool {
        self.policies.iter().any(|policy| policy == "root")
    }

    fn left_seconds(&self, now: u64) -> u64 {
        self.expires_at.map_or(0, |end| end.saturating_sub(now) / 1000)
    }

    /// The `auth` part of a login's answer.
    pub(super) fn auth(&self, now: u64) -> Value {
        json!({
            "client_token": self.text, "accessor": self.accessor, "policies": self.policies,
            "token_policies": self.policies, "metadata": null, "lease_duration": self.left_seconds(now),
            "renewable": self.expires_at.is_some(), "entity_id": "", "token_type": "service", "orphan": true,
            "mfa_requirement": null, "num_uses": self.uses.unwrap_or(0),
        })
    }
}

/// All tokens.
#[derive(Debug, Default)]
pub(super) struct Tokens(HashMap<String, Token>);

impl Tokens {
    pub(super) fn add(&mut self, token: Token) -> String {
        let text = token.text.clone();
        self.0.insert(text.clone(), token);
        text
    }

    pub(super) fn keep_only(&mut self, text: &str) {
        self.0.retain(|known, _| known == text);
    }

    fn alive(&mut self, text: &str, now: u64) -> Option<&mut Token> {
        self.0.get_mut(text).filter(|token| token.expires_at.is_none_or(|end| now < end))
    }

    /// The token, one use less; none when there is no such one any more.
    pub(super) fn used(&mut self, text: &str, now: u64) -> Option<Token> {
        let token = self.alive(text, now)?;
        let found = token.clone();
        if let Some(uses) = token.uses.as_mut() {
            *uses -= 1;
            if *uses == 0 {
                self.0.remove(text);
            }
        }
        Some(found)
    }

    /// Wraps an answer: one use, its own end (vault: vault/wrapping.go, wrapInCubbyhole).
    pub(super) fn wrap(&mut self, answer: Value, path: &str, seconds: u64, now: u64) -> Reply {
        let mut token = Token::issued(Vec::new(), "", seconds, seconds, now);
        token.policies = vec![WRAPPING.to_owned()];
        token.uses = Some(1);
        token.wrapped = Some(Wrapped { answer, path: path.to_owned() });
        let info = json!({
            "token": token.text, "accessor": token.accessor, "ttl": seconds, "creation_time": time(now),
            "creation_path": path, "wrapped_accessor": "",
        });
        self.add(token);
        Reply::json(200, &envelope(&Value::Null, &Value::Null, &info))
    }

    /// The answer behind a wrapping token, once.
    fn unwrap(&mut self, text: &str, now: u64) -> Option<Value> {
        let wrapped = self.alive(text, now)?.wrapped.clone()?;
        self.0.remove(text);
        Some(wrapped.answer)
    }

    /// What a wrapping token stands for, without a use of it and for everybody who has it (vault:
    /// vault/logical_system.go: `wrapping/lookup` is unauthenticated, handleWrappingLookup).
    pub(super) fn look_at_wrapping(&mut self, call: &Call<'_>) -> Option<Result<Reply, Reply>> {
        if call.path != "sys/wrapping/lookup" || call.operation != Operation::Write {
            return None;
        }
        let token = call.data["token"].as_str().or_else(|| call.request.header("x-vault-token"));
        let Some(token) = token.and_then(|text| self.alive(text, call.now)) else {
            return Some(Err(error(400, "wrapping token is not valid or does not exist")));
        };
        let found = token.wrapped.as_ref().map(|wrapped| {
            json!({
                "creation_path": wrapped.path, "creation_time": time(token.issued_at),
                "creation_ttl": token.ttl_ms / 1000,
            })
        });
        let invalid = || error(400, "wrapping token is not valid or does not exist");
        Some(found.map(|found| Reply::json(200, &data(&found))).ok_or_else(invalid))
    }
}

/// Seconds of the header `X-Vault-Wrap-TTL`: a number or a number with a unit.
pub(super) fn wrap_seconds(call: &Call<'_>) -> Option<u64> {
    call.request.header("x-vault-wrap-ttl").and_then(seconds)
}

/// Seconds of a duration, as Go writes them with one unit.
pub(super) fn seconds(text: &str) -> Option<u64> {
    let unit = |suffix: &str, factor: u64| Some(text.strip_suffix(suffix)?.parse::<u64>().ok()? * factor);
    text.parse().ok().or_else(|| unit("s", 1)).or_else(|| unit("m", 60)).or_else(|| unit("h", 3600))
}

/// What a token may ask about itself; the default policy grants it to all.
pub(super) fn of_caller(state: &mut State, call: &Call<'_>, token: &Token) -> Option<Result<Reply, Reply>> {
    let reply = match (call.path.as_str(), call.operation) {
        ("auth/token/lookup-self", Operation::Read) => lookup(call, token),
        ("auth/token/renew-self", Operation::Write) => renew(state, call, token),
        ("auth/token/revoke-self", Operation::Write) => {
            state.tokens.0.remove(&token.text);
            Ok(Reply::empty(204))
        }
        ("sys/wrapping/unwrap", Operation::Write) => unwrap(state, call, token),
        ("sys/capabilities-self", Operation::Write) => capabilities(state, call, token),
        _ => return None,
    };
    Some(reply)
}

fn lookup(call: &Call<'_>, token: &Token) -> Result<Reply, Reply> {
    if token.wrapped.is_some() {
        return Err(error(403, INVALID));
    }
    Ok(Reply::json(
        200,
        &data(&json!({
            "id": token.text, "accessor": token.accessor, "policies": token.policies,
            "ttl": token.left_seconds(call.now), "creation_ttl": token.ttl_ms / 1000,
            "creation_time": token.issued_at / 1000, "expire_time": token.expires_at.map(time),
            "explicit_max_ttl": 0, "renewable": token.expires_at.is_some(), "num_uses": token.uses.unwrap_or(0),
            "orphan": true, "path": "auth/token/create", "type": "service", "display_name": "token", "meta": null,
            "entity_id": "",
        })),
    ))
}

/// vault: vault/expiration.go, RenewToken: the lease is as long as before, never beyond the longest life.
fn renew(state: &mut State, call: &Call<'_>, token: &Token) -> Result<Reply, Reply> {
    let Some(kept) = state.tokens.alive(&token.text, call.now) else { return Err(error(403, INVALID)) };
    if kept.expires_at.is_none() || kept.wrapped.is_some() {
        return Err(error(400, "lease is not renewable"));
    }
    let asked = call.data["increment"].as_str().and_then(seconds).or_else(|| call.data["increment"].as_u64());
    let wanted = asked.map_or(kept.ttl_ms, |seconds| seconds * 1000);
    kept.expires_at = Some((call.now + wanted).min(kept.issued_at + kept.max_ttl_ms));
    let auth = kept.auth(call.now);
    Ok(Reply::json(200, &envelope(&Value::Null, &auth, &Value::Null)))
}

/// vault: vault/wrapping.go, ValidateWrappingToken: the token in the body or else the caller's own is unwrapped.
fn unwrap(state: &mut State, call: &Call<'_>, token: &Token) -> Result<Reply, Reply> {
    let wrapped = match call.data["token"].as_str() {
        Some(other) => state.tokens.unwrap(other, call.now),
        None => token.wrapped.clone().map(|wrapped| wrapped.answer),
    };
    // vault: consts.ErrInvalidWrappingToken is 400
    wrapped
        .map(|answer| Reply::json(200, &answer))
        .ok_or_else(|| error(400, "wrapping token is not valid or does not exist"))
}

/// vault: api-docs/system/capabilities-self
fn capabilities(state: &State, call: &Call<'_>, token: &Token) -> Result<Reply, Reply> {
    let Some(paths) = call.data["paths"].as_array().filter(|paths| !paths.is_empty()) else {
        return Err(error(400, "paths must be supplied"));
    };
    let mut told = serde_json::Map::new();
    for path in paths.iter().filter_map(Value::as_str) {
        // the check is that of a list (vault/acl.go, CapabilitiesAndSubscribeEventTypes)
        let granted = state.capabilities(token, &call.namespace, path, true);
        let mut names: Vec<_> = granted.iter().map(|capability| capability.name()).collect();
        names.sort_unstable();
        if paths.len() == 1 {
            told.insert("capabilities".to_owned(), json!(names));
        }
        told.insert(path.to_owned(), json!(names));
    }
    let all = Value::Object(told);
    let mut body = data(&all);
    // the paths stand both in `data` and beside it
    if let (Some(body), Some(all)) = (body.as_object_mut(), all.as_object()) {
        body.extend(all.clone());
    }
    Ok(Reply::json(200, &body))
}

/// Nothing there.
pub(super) fn nothing() -> Reply {
    none(404)
}
