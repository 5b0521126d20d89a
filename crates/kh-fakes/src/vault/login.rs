//! Logins: AppRole, and workload tokens as Kubernetes and JWT logins take them.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Call, Operation, State,
    reply::{data, envelope, error, none, permission_denied, random},
    token::{Token, seconds, wrap_seconds},
};
use crate::fake::Reply;

/// The logins of one namespace; each is mounted below its own name.
#[derive(Debug, Default)]
pub(super) struct Logins {
    roles: BTreeMap<String, AppRole>,
    /// By login (`kubernetes`, `jwt`) and role.
    workloads: BTreeMap<(String, String), Workload>,
}

/// A role of AppRole.
#[derive(Debug, Default)]
struct AppRole {
    role_id: String,
    policies: Vec<String>,
    token_ttl: u64,
    token_max_ttl: u64,
    secret_id_uses: u64,
    secret_id_ttl: u64,
    secret_ids: BTreeMap<String, SecretId>,
}

#[derive(Debug)]
struct SecretId {
    /// Uses left; 0 without a limit.
    uses: u64,
    expires_at: Option<u64>,
}

/// Which workload tokens a role takes.
#[derive(Debug, Default)]
struct Workload {
    policies: Vec<String>,
    token_ttl: u64,
    token_max_ttl: u64,
    tokens: Vec<String>,
}

/// Longest life of a login where a role says nothing, 768 h (vault: docs/concepts/tokens).
const TTL_DEFAULT: u64 = 768 * 3600;

fn number(value: &Value, default: u64) -> u64 {
    value.as_u64().or_else(|| value.as_str().and_then(seconds)).filter(|number| *number > 0).unwrap_or(default)
}

fn names(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => text.split(',').map(|name| name.trim().to_owned()).collect(),
        other => other.as_array().into_iter().flatten().filter_map(|name| Some(name.as_str()?.to_owned())).collect(),
    }
}

/// `auth/<login>/login` needs no token.
pub(super) fn login(state: &mut State, call: &Call<'_>) -> Option<Result<Reply, Reply>> {
    let method = call.path.strip_prefix("auth/")?.strip_suffix("/login")?;
    if call.operation != Operation::Write {
        return Some(Err(error(405, "unsupported operation")));
    }
    let namespace = state.namespaces.get_mut(&call.namespace)?;
    let issued = match method {
        "approle" => approle(&mut namespace.logins, call),
        _ => workload(&namespace.logins, method, call),
    };
    Some(issued.map(|token| {
        let auth = token.auth(call.now);
        state.tokens.add(token);
        Reply::json(200, &envelope(&Value::Null, &auth, &Value::Null))
    }))
}

/// vault: builtin/credential/approle/path_login.go
fn approle(logins: &mut Logins, call: &Call<'_>) -> Result<Token, Reply> {
    let field = |name: &str| call.data[name].as_str().map(str::trim).filter(|text| !text.is_empty());
    let role_id = field("role_id").ok_or_else(|| error(400, "missing role_id"))?;
    let invalid = || error(400, "invalid role or secret ID");
    let role = logins.roles.values_mut().find(|role| role.role_id == role_id).ok_or_else(invalid)?;
    let secret_id = field("secret_id").ok_or_else(|| error(400, "missing secret_id"))?;
    let entry = role.secret_ids.get_mut(secret_id).ok_or_else(invalid)?;
    if entry.expires_at.is_some_and(|end| call.now >= end) {
        return Err(invalid());
    }
    // the last use removes it before the login succeeds
    match entry.uses {
        0 => {}
        1 => drop(role.secret_ids.remove(secret_id)),
        _ => entry.uses -= 1,
    }
    let (ttl, max) = (role.token_ttl, role.token_max_ttl);
    Ok(Token::issued(role.policies.clone(), &call.namespace, ttl, max, call.now))
}

fn workload(logins: &Logins, method: &str, call: &Call<'_>) -> Result<Token, Reply> {
    let field = |name: &str| call.data[name].as_str().filter(|text| !text.is_empty());
    let role_name = field("role").ok_or_else(|| error(400, "missing role"))?;
    let jwt = field("jwt").ok_or_else(|| error(400, "missing jwt"))?;
    let role = logins.workloads.get(&(method.to_owned(), role_name.to_owned()));
    match (role, method) {
        (Some(role), _) if role.tokens.iter().any(|known| known == jwt) => {
            let (ttl, max) = (role.token_ttl, role.token_max_ttl);
            Ok(Token::issued(role.policies.clone(), &call.namespace, ttl, max, call.now))
        }
        // k8s: path_login.go: an unknown role is 400, a token that does not verify is 403
        (None, "kubernetes") => Err(error(400, &format!("invalid role name {role_name:?}"))),
        (Some(_), "kubernetes") => Err(permission_denied()),
        // jwt: path_login.go
        (None, _) => Err(error(400, "role could not be found")),
        (Some(_), _) => Err(error(400, "error validating token: no known key successfully validated the signature")),
    }
}

/// `auth/<login>/role/..`, by who may configure.
pub(super) fn configure(logins: &mut Logins, call: &Call<'_>, path: &str) -> Configured {
    let parts: Vec<_> = path.split('/').collect();
    match (parts.as_slice(), call.operation) {
        (["approle", "role", name], Operation::Write) => {
            let role = logins
                .roles
                .entry((*name).to_owned())
                .or_insert_with(|| AppRole { role_id: Uuid::from_bytes(random()).to_string(), ..AppRole::default() });
            role.policies = names(&call.data["token_policies"]);
            role.token_ttl = number(&call.data["token_ttl"], TTL_DEFAULT);
            role.token_max_ttl = number(&call.data["token_max_ttl"], TTL_DEFAULT).max(role.token_ttl);
            role.secret_id_uses = number(&call.data["secret_id_num_uses"], 0);
            role.secret_id_ttl = number(&call.data["secret_id_ttl"], 0);
            Configured::Done(Reply::empty(204))
        }
        (["approle", "role", name, "role-id"], Operation::Read) => match logins.roles.get(*name) {
            Some(role) => Configured::Done(Reply::json(200, &data(&json!({"role_id": role.role_id})))),
            None => Configured::Done(none(404)),
        },
        (["approle", "role", name, "secret-id"], Operation::Write) => match logins.roles.get_mut(*name) {
            Some(role) => new_secret_id(role, call),
            None => Configured::Done(error(400, &format!("role {name:?} does not exist"))),
        },
        ([method @ ("jwt" | "kubernetes"), "role", name], Operation::Write) => {
            let role = logins.workloads.entry(((*method).to_owned(), (*name).to_owned())).or_default();
            role.policies = names(&call.data["token_policies"]);
            role.token_ttl = number(&call.data["token_ttl"], TTL_DEFAULT);
            role.token_max_ttl = number(&call.data["token_max_ttl"], TTL_DEFAULT).max(role.token_ttl);
            Configured::Done(Reply::empty(204))
        }
        _ => Configured::Done(error(404, "unsupported path")),
    }
}

/// What came of a configuring request.
pub(super) enum Configured {
    Done(Reply),
    /// The caller asked for its answer to be wrapped for so many seconds.
    Wrap(Value, u64),
}

fn new_secret_id(role: &mut AppRole, call: &Call<'_>) -> Configured {
    let secret_id = Uuid::from_bytes(random()).to_string();
    let expires_at = (role.secret_id_ttl > 0).then(|| call.now + role.secret_id_ttl * 1000);
    role.secret_ids.insert(secret_id.clone(), SecretId { uses: role.secret_id_uses, expires_at });
    let answer = data(&json!({
        "secret_id": secret_id, "secret_id_accessor": Uuid::from_bytes(random()).to_string(),
        "secret_id_num_uses": role.secret_id_uses, "secret_id_ttl": role.secret_id_ttl,
    }));
    match wrap_seconds(call) {
        Some(seconds) => Configured::Wrap(answer, seconds),
        None => Configured::Done(Reply::json(200, &answer)),
    }
}

/// A workload token that a role takes from now on, as the cluster or the issuer would sign one.
pub(super) fn accept(logins: &mut Logins, method: &str, role: &str, jwt: &str) -> Result<(), String> {
    let key = (method.to_owned(), role.to_owned());
    let role = logins.workloads.get_mut(&key).ok_or("there is no such role")?;
    role.tokens.push(jwt.to_owned());
    Ok(())
}
