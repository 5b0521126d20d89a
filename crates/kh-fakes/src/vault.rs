//! HashiCorp Vault: the version 2 key/value engine behind tokens, policies, logins, wrapping, seal and standby.
//!
//! Invariant: each rule names where it was read. `kv:` is hashicorp/vault-plugin-secrets-kv at 824fb96, `vault:` is
//! hashicorp/vault (server and website), `k8s:` and `jwt:` are its plugins of these logins. Where a source was not
//! found the comment says so. Not here: HCL policies (JSON ones are), subkeys, sentinel, audit devices, batch tokens.

mod acl;
mod kv;
mod login;
mod reply;
mod setup;
mod sys;
mod token;

use std::collections::BTreeMap;

use http::Method;
use parking_lot::Mutex;
use serde_json::{Value, json};

use self::{
    acl::{Capability, Policy},
    kv::Mount,
    login::Logins,
    reply::{error, none, permission_denied},
    token::{Token, Tokens},
};
use crate::{
    clock::FakeClock,
    fake::{Fake, Reply, Request},
};

/// Where the key/value engine is mounted at the start, as in a dev server (vault: docs/concepts/dev-server).
pub const MOUNT: &str = "secret";

/// What a node of a cluster is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Node {
    /// It does the work.
    #[default]
    Active,
    /// It passes requests on, or sends callers to the active one where it cannot (`Leader`), or knows none.
    Standby(Leader),
    /// It reads by itself and passes writes on (Enterprise).
    PerformanceStandby,
    /// A disaster recovery secondary (Enterprise).
    RecoverySecondary,
}

/// What a standby does with a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Leader {
    /// Passes it on, the default.
    Forwards,
    /// Redirects to this address.
    Redirects(String),
    /// There is no active node.
    None,
}

/// One Vault.
#[derive(Debug)]
pub struct Vault(Mutex<State>);

#[derive(Debug)]
struct State {
    sealed: bool,
    node: Node,
    /// By name without slashes; the root namespace is "".
    namespaces: BTreeMap<String, Namespace>,
    tokens: Tokens,
    root_token: String,
}

#[derive(Debug)]
struct Namespace {
    mounts: BTreeMap<String, Mount>,
    policies: BTreeMap<String, Policy>,
    logins: Logins,
}

impl Namespace {
    fn new() -> Self {
        let mounts = BTreeMap::from([(MOUNT.to_owned(), Mount::default())]);
        Self { mounts, policies: BTreeMap::new(), logins: Logins::default() }
    }
}

/// What is asked, after method and path were read.
struct Call<'a> {
    operation: Operation,
    /// Below `/v1/`, without the namespace.
    path: String,
    namespace: String,
    data: Value,
    request: &'a Request,
    now: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Operation {
    Read,
    List,
    Write,
    Patch,
    Delete,
}

impl Default for Vault {
    fn default() -> Self {
        Self::new()
    }
}

impl Vault {
    /// A running, unsealed, active server with one engine at `secret/` and a root token.
    pub fn new() -> Self {
        let mut tokens = Tokens::default();
        let root_token = tokens.add(Token::root());
        let namespaces = BTreeMap::from([(String::new(), Namespace::new())]);
        Self(Mutex::new(State { sealed: false, node: Node::Active, namespaces, tokens, root_token }))
    }

    /// Seals or unseals it.
    pub fn set_sealed(&self, sealed: bool) {
        self.0.lock().sealed = sealed;
    }

    /// What the node is from now on.
    pub fn set_node(&self, node: Node) {
        self.0.lock().node = node;
    }

    /// The root token.
    pub fn root_token(&self) -> String {
        self.0.lock().root_token.clone()
    }

    /// The next `reads` reads of `key` tell the version before the newest, as a performance standby that lags.
    pub fn lag(&self, key: &str, reads: u64) {
        for namespace in self.0.lock().namespaces.values_mut() {
            for mount in namespace.mounts.values_mut() {
                mount.lagging_reads.insert(key.to_owned(), reads);
            }
        }
    }

    /// The engine says that it is being upgraded, or no longer does.
    pub fn set_upgrading(&self, upgrading: bool) {
        for namespace in self.0.lock().namespaces.values_mut() {
            for mount in namespace.mounts.values_mut() {
                mount.upgrading = upgrading;
            }
        }
    }

    /// Every token but the root one is gone, as after a revocation of their parents.
    pub fn revoke_tokens(&self) {
        let mut state = self.0.lock();
        let root = state.root_token.clone();
        state.tokens.keep_only(&root);
    }

    /// A token with these policies, for a time in seconds, renewable up to `max_seconds` after now.
    pub fn issue_token(&self, policies: &[&str], seconds: u64, max_seconds: u64, clock: &FakeClock) -> String {
        let policies = policies.iter().map(|name| (*name).to_owned()).collect();
        self.0.lock().tokens.add(Token::issued(policies, "", seconds, max_seconds, clock.now_ms()))
    }
}

fn operation_of(request: &Request) -> Result<Operation, Reply> {
    // vault: http/logical.go, buildLogicalRequest
    match request.method.as_str() {
        "GET" if request.parameter("list").is_some_and(|list| list == "true") => Ok(Operation::List),
        "GET" | "HEAD" => Ok(Operation::Read),
        "LIST" => Ok(Operation::List),
        "POST" | "PUT" => Ok(Operation::Write),
        "DELETE" => Ok(Operation::Delete),
        // kv: README and vault: http/logical.go; any other type of body is refused
        "PATCH" if request.header("content-type") == Some("application/merge-patch+json") => Ok(Operation::Patch),
        "PATCH" => Err(error(415, "PATCH requires Content-Type of application/merge-patch+json")),
        _ => Err(error(405, "unsupported operation")),
    }
}

fn data_of(operation: Operation, request: &Request) -> Result<Value, Reply> {
    match operation {
        Operation::Write | Operation::Patch if !request.body.is_empty() => {
            serde_json::from_slice(&request.body).map_err(|_| error(400, "error parsing JSON"))
        }
        Operation::Read | Operation::List | Operation::Write | Operation::Patch | Operation::Delete => Ok(json!({})),
    }
}

impl State {
    /// Seal and standby come before everything else.
    fn gate(&self, request: &Request) -> Option<Reply> {
        if self.sealed {
            // vault: consts.ErrSealed and AdjustErrorStatusCode in sdk/logical/response_util.go
            return Some(error(503, "Vault is sealed"));
        }
        match &self.node {
            Node::Active | Node::PerformanceStandby | Node::Standby(Leader::Forwards) => None,
            // vault: http/handler.go, respondStandby: 307 keeps the method, path and query
            Node::Standby(Leader::Redirects(to)) => {
                let query = if request.query.is_empty() { String::new() } else { format!("?{}", request.query) };
                Some(Reply::empty(307).with("location", &format!("{to}{}{query}", request.path)))
            }
            // vault: http/handler.go, respondStandby
            Node::Standby(Leader::None) | Node::RecoverySecondary => Some(error(503, "no active Vault instance found")),
        }
    }

    fn answer(&mut self, request: &Request, clock: &FakeClock) -> Result<Reply, Reply> {
        let Some(path) = request.path.strip_prefix("/v1/").filter(|path| !path.is_empty()) else {
            return Err(none(404));
        };
        let path = percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned();
        if let Some(reply) = sys::open_to_all(self, &path, request, clock.now_ms()) {
            return Ok(reply);
        }
        if let Some(reply) = self.gate(request) {
            return Err(reply);
        }
        let operation = operation_of(request)?;
        let data = data_of(operation, request)?;
        let (namespace, path) = self.namespace_of(request, path)?;
        let call = Call { operation, path, namespace, data, request, now: clock.now_ms() };
        if let Some(reply) = self.tokens.look_at_wrapping(&call) {
            return reply;
        }
        if let Some(reply) = login::login(self, &call) {
            return reply;
        }
        let token = self.token_of(&call)?;
        if let Some(reply) = token::of_caller(self, &call, &token) {
            return reply;
        }
        self.authorize(&call, &token)?;
        if let Some(rest) = call.path.strip_prefix("sys/") {
            return setup::sys(self, &call, rest);
        }
        if let Some(rest) = call.path.strip_prefix("auth/") {
            return setup::auth(self, &call, rest);
        }
        let (mount, rest) = self.mount_of(&call)?;
        kv::answer(mount, &call, &rest)
    }

    /// The namespace in the header, or at the start of the path (vault: docs/enterprise/namespaces).
    fn namespace_of(&self, request: &Request, path: String) -> Result<(String, String), Reply> {
        let named = request.header("x-vault-namespace").unwrap_or_default().trim_matches('/').to_owned();
        if self.namespaces.contains_key(&named) {
            for name in self.namespaces.keys().filter(|name| !name.is_empty() && named.is_empty()) {
                if let Some(rest) = path.strip_prefix(&format!("{name}/")) {
                    return Ok((name.clone(), rest.to_owned()));
                }
            }
            return Ok((named, path));
        }
        // no source was found for a namespace that does not exist; a route that does not exist is 404 (ErrUnsupportedPath)
        Err(error(404, &format!("no handler for route {path:?}. route entry not found.")))
    }

    fn token_of(&mut self, call: &Call<'_>) -> Result<Token, Reply> {
        let bearer = call.request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        // vault: docs/auth/token, either header
        let Some(text) = call.request.header("x-vault-token").or(bearer) else { return Err(permission_denied()) };
        let token = self.tokens.used(text, call.now).ok_or_else(|| error(403, token::INVALID))?;
        let inside = token.namespace.is_empty()
            || call.namespace == token.namespace
            || call.namespace.starts_with(&format!("{}/", token.namespace));
        if inside { Ok(token) } else { Err(permission_denied()) }
    }

    /// What the token's policies grant at `path` in a namespace.
    fn capabilities(&self, token: &Token, namespace: &str, path: &str, listing: bool) -> Vec<Capability> {
        if token.is_root() {
            return vec![Capability::Root];
        }
        let own = self.namespaces.get(&token.namespace);
        let policies = token.policies.iter().filter_map(|name| match name.as_str() {
            "default" => Some(acl::default_policy()),
            name => own?.policies.get(name).cloned(),
        });
        // a policy's paths are relative to its own namespace (vault/acl.go: ns.Path + req.Path)
        let inner = namespace.strip_prefix(&token.namespace).unwrap_or(namespace).trim_matches('/');
        let path = if inner.is_empty() { path.to_owned() } else { format!("{inner}/{path}") };
        acl::granted(&policies.collect::<Vec<_>>(), &path, listing)
    }

    fn authorize(&self, call: &Call<'_>, token: &Token) -> Result<(), Reply> {
        let needed = match call.operation {
            Operation::Read => Capability::Read,
            Operation::List => Capability::List,
            Operation::Patch => Capability::Patch,
            Operation::Delete => Capability::Delete,
            // kv: dataExistenceCheck and metadataExistenceCheck tell creation from update
            Operation::Write if self.creates(call) => Capability::Create,
            Operation::Write => Capability::Update,
        };
        let listing = call.operation == Operation::List;
        let path = if listing && !call.path.ends_with('/') { format!("{}/", call.path) } else { call.path.clone() };
        let granted = self.capabilities(token, &call.namespace, &path, listing);
        if granted.contains(&Capability::Root) || granted.contains(&needed) {
            return Ok(());
        }
        Err(permission_denied())
    }

    fn creates(&self, call: &Call<'_>) -> bool {
        let Some(namespace) = self.namespaces.get(&call.namespace) else { return false };
        namespace.mounts.iter().any(|(name, mount)| {
            let rest = call.path.strip_prefix(&format!("{name}/"));
            let key = rest.and_then(|rest| rest.strip_prefix("data/").or_else(|| rest.strip_prefix("metadata/")));
            key.is_some_and(|key| !mount.keys.contains_key(key))
        })
    }

    fn mount_of(&mut self, call: &Call<'_>) -> Result<(&mut Mount, String), Reply> {
        let mounts = self.namespaces.get_mut(&call.namespace).map(|namespace| &mut namespace.mounts);
        let longest = mounts.into_iter().flatten().filter_map(|(name, mount)| {
            let rest = call.path.strip_prefix(&format!("{name}/"))?.to_owned();
            Some((name.len(), mount, rest))
        });
        let found = longest.max_by_key(|(length, _, _)| *length).map(|(_, mount, rest)| (mount, rest));
        // vault: vault/router.go
        found.ok_or_else(|| error(404, &format!("no handler for route {:?}. route entry not found.", call.path)))
    }
}

impl Fake for Vault {
    fn operation(&self, request: &Request) -> String {
        let path = request.path.strip_prefix("/v1/").unwrap_or_default();
        if let Some(rest) = path.strip_prefix("sys/") {
            return format!("sys.{}", rest.split('/').take(2).collect::<Vec<_>>().join("."));
        }
        if path.starts_with("auth/") {
            return format!("auth.{}", path.rsplit('/').next().unwrap_or_default());
        }
        let part = path.split('/').nth(1).unwrap_or_default();
        let verb = match (part, &request.method) {
            ("data", &Method::POST | &Method::PUT) => "write",
            ("data", &Method::GET) => "read",
            ("data", &Method::DELETE) => "delete_latest",
            ("data", _) => "patch",
            ("metadata", &Method::GET) if request.parameter("list").is_none() => "metadata",
            ("metadata", &Method::POST | &Method::PUT) => "metadata_write",
            ("metadata", &Method::DELETE) => "metadata_delete",
            ("metadata", _) => "list",
            (other, _) => other,
        };
        format!("kv.{verb}")
    }

    fn answer(&self, request: &Request, clock: &FakeClock) -> Reply {
        let reply = self.0.lock().answer(request, clock).unwrap_or_else(|refused| refused);
        // vault: http/handler.go, wrapGenericHandler
        reply.with("cache-control", "no-store")
    }

    fn forbidden(&self) -> Reply {
        permission_denied()
    }

    fn throttled(&self, retry_after_seconds: Option<u64>) -> Reply {
        // vault: logical.ErrRateLimitQuotaExceeded is 429; Retry-After where the quota's headers are on
        // (api-docs/system/quotas-config)
        let reply = error(429, "request path \"...\": rate limit quota exceeded");
        match retry_after_seconds {
            Some(seconds) => reply.with("retry-after", &seconds.to_string()),
            None => reply,
        }
    }

    fn failed(&self) -> Reply {
        // vault: ErrInternalError
        error(500, "internal error")
    }

    fn credentials(&self) -> Value {
        json!({"root_token": self.root_token(), "mount": MOUNT})
    }

    fn command(&self, name: &str, argument: &Value) -> Result<Value, String> {
        setup::command(self, name, argument)
    }
}
