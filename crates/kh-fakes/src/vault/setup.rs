//! What sets a server up: policies, roles, mounts, namespaces; and a test's own commands.

use serde_json::{Value, json};

use super::{
    Call, Leader, Namespace, Node, Operation, State, Vault,
    acl::Policy,
    kv::Mount,
    login::{self, Configured},
    reply::{data, error},
    token,
};
use crate::fake::Reply;

/// `sys/..` by who may.
pub(super) fn sys(state: &mut State, call: &Call<'_>, path: &str) -> Result<Reply, Reply> {
    if let (Some(name), Operation::Write) = (path.strip_prefix("namespaces/"), call.operation) {
        let name = format!("{}/{name}", call.namespace);
        state.namespaces.entry(name.trim_matches('/').to_owned()).or_insert_with(Namespace::new);
        return Ok(Reply::json(200, &data(&json!({"path": format!("{}/", name.trim_matches('/'))}))));
    }
    let namespace = state.namespaces.get_mut(&call.namespace).ok_or_else(token::nothing)?;
    if let Some(name) = path.strip_prefix("policies/acl/").or_else(|| path.strip_prefix("policy/")) {
        if call.operation != Operation::Write {
            return Err(error(405, "unsupported operation"));
        }
        let text = call.data["policy"].as_str().unwrap_or_default();
        let policy =
            Policy::parse(text).map_err(|problem| error(400, &format!("failed to parse policy: {problem}")))?;
        namespace.policies.insert(name.to_owned(), policy);
        return Ok(Reply::empty(204));
    }
    match (path.strip_prefix("mounts/"), call.operation) {
        (Some(name), Operation::Write) if call.data["options"]["version"].as_str() == Some("2") => {
            if namespace.mounts.contains_key(name) {
                return Err(error(400, &format!("path is already in use at {name}/")));
            }
            namespace.mounts.insert(name.trim_matches('/').to_owned(), Mount::default());
            Ok(Reply::empty(204))
        }
        (Some(_), Operation::Write) => Err(error(400, "this fake mounts version 2 of the key/value engine alone")),
        _ => Err(error(404, "unsupported path")),
    }
}

/// `auth/..` by who may.
pub(super) fn auth(state: &mut State, call: &Call<'_>, path: &str) -> Result<Reply, Reply> {
    let namespace = state.namespaces.get_mut(&call.namespace).ok_or_else(token::nothing)?;
    match login::configure(&mut namespace.logins, call, path) {
        Configured::Done(reply) => Ok(reply),
        Configured::Wrap(answer, seconds) => Ok(state.tokens.wrap(answer, &call.path, seconds, call.now)),
    }
}

/// A test's commands, for tests in other languages.
pub(super) fn command(vault: &Vault, name: &str, argument: &Value) -> Result<Value, String> {
    match name {
        "seal" => vault.set_sealed(true),
        "unseal" => vault.set_sealed(false),
        "revoke_tokens" => vault.revoke_tokens(),
        "lag" => {
            let key = argument["key"].as_str().ok_or("key is missing")?;
            vault.lag(key, argument["reads"].as_u64().ok_or("reads is missing")?);
        }
        "upgrading" => vault.set_upgrading(argument["upgrading"].as_bool().ok_or("upgrading is missing")?),
        "node" => vault.set_node(match argument["node"].as_str() {
            Some("active") => Node::Active,
            Some("standby") => Node::Standby(argument["leader"].as_str().map_or(Leader::Forwards, |to| {
                if to.is_empty() { Leader::None } else { Leader::Redirects(to.to_owned()) }
            })),
            Some("performance_standby") => Node::PerformanceStandby,
            Some("recovery_secondary") => Node::RecoverySecondary,
            other => return Err(format!("{other:?} is no kind of node")),
        }),
        "accept_jwt" => {
            let field = |name: &str| argument[name].as_str().ok_or_else(|| format!("{name} is missing"));
            vault.accept_jwt(field("method")?, field("role")?, field("jwt")?)?;
        }
        other => return Err(format!("there is no command {other:?}")),
    }
    Ok(Value::Null)
}

impl Vault {
    /// A workload token that a role of `kubernetes` or `jwt` takes from now on.
    pub fn accept_jwt(&self, method: &str, role: &str, jwt: &str) -> Result<(), String> {
        let mut state = self.0.lock();
        let root = state.namespaces.get_mut("").ok_or("there is a root namespace")?;
        login::accept(&mut root.logins, method, role, jwt)
    }
}
