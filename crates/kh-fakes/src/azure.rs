//! Azure Key Vault's secrets as a fake, with the token endpoint of Entra ID and the instance metadata service that its
//! clients get their tokens from.
//!
//! Source of the shapes: the REST reference (learn.microsoft.com/rest/api/keyvault/secrets) and what the official Python
//! SDK 4.12 sends and takes; where an answer was read elsewhere, the rule says so.
//!
//! Invariants: the vault answers by TLS alone and only to a live token of its own audience; there is no ETag and no
//! conditional write, as in the real service; a version's value never changes.

mod deleted;
mod identity;
mod secrets;

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use parking_lot::Mutex;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    clock::FakeClock,
    fake::{Fake, Reply, Request},
};

/// Host of the vault: its certificate must have it, clients resolve it to the fake.
pub const VAULT_HOST: &str = "acme.vault.azure.net";
/// Host of the token endpoint, likewise.
pub const LOGIN_HOST: &str = "login.microsoftonline.com";

/// Largest page of a list: more is refused (Azure/azure-sdk-for-net issue 19802).
const PAGE_MAX: usize = 25;

/// The fake.
#[derive(Debug)]
pub struct KeyVault(Mutex<State>);

#[derive(Debug)]
struct State {
    secrets: BTreeMap<String, Secret>,
    deleted: BTreeMap<String, deleted::Deleted>,
    /// Name and how many more requests find it still being recovered.
    recovering: BTreeMap<String, u64>,
    identity: identity::Identity,
    /// What the identity may do: `get`, `list`, `set`, `delete`, `recover`, `purge`.
    rights: BTreeSet<String>,
    page_size: usize,
    recovery_requests: u64,
    /// How many reads of a newest version still see the one before it, after the next write.
    stale_reads: u64,
    /// Name and value that another program writes right before the next write to that name.
    intruder: Option<(String, String)>,
    counter: u64,
}

#[derive(Debug, Default)]
struct Secret {
    /// In the order of their making.
    versions: Vec<Version>,
    stale_reads: u64,
}

#[derive(Debug, Clone)]
struct Version {
    id: String,
    value: String,
    content_type: Option<String>,
    enabled: bool,
    not_before: Option<u64>,
    expires: Option<u64>,
    created: u64,
    updated: u64,
    tags: Option<BTreeMap<String, String>>,
}

impl Default for KeyVault {
    fn default() -> Self {
        let rights = ["get", "list", "set", "delete", "recover", "purge"];
        Self(Mutex::new(State {
            secrets: BTreeMap::new(),
            deleted: BTreeMap::new(),
            recovering: BTreeMap::new(),
            identity: identity::Identity::default(),
            rights: rights.into_iter().map(str::to_owned).collect(),
            page_size: PAGE_MAX,
            recovery_requests: 0,
            stale_reads: 0,
            intruder: None,
            counter: 0,
        }))
    }
}

/// An error as Key Vault writes it, with the inner code where the service tells one.
fn refused(status: u16, code: &str, message: &str, inner: Option<&str>) -> Reply {
    let mut error = json!({"code": code, "message": message});
    if let Some(inner) = inner {
        error["innererror"] = json!({"code": inner});
    }
    Reply::json(status, &json!({ "error": error }))
}

fn bad_parameter(message: &str) -> Reply {
    refused(400, "BadParameter", message, None)
}

/// The wording of learn.microsoft.com/azure/key-vault/general/rest-error-codes and hashicorp/terraform-provider-azurerm
/// issue 11059.
fn not_found(name: &str) -> Reply {
    let message = format!("A secret with (name/id) {name} was not found in this key vault.");
    refused(404, "SecretNotFound", &message, None)
}

impl State {
    /// The 403 of a vault with access policies.
    fn may(&self, right: &str) -> Result<(), Reply> {
        if self.rights.contains(right) {
            return Ok(());
        }
        let message = format!("The user, group or application does not have secrets {right} permission on key vault");
        Err(refused(403, "Forbidden", &message, Some("AccessDenied")))
    }

    fn next_number(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// 32 hex digits in no order, as in real versions.
    fn next_version(&mut self) -> String {
        let number = self.next_number();
        Uuid::new_v5(&Uuid::NAMESPACE_OID, &number.to_be_bytes()).simple().to_string()
    }

    fn dispatch(&mut self, request: &Request, now: u64) -> Result<Reply, Reply> {
        // api-version is required by every operation of the REST reference.
        match request.parameter("api-version") {
            Some(version) if version.starts_with("20") || version.starts_with("7.") => {}
            _ => return Err(bad_parameter("The request must specify a valid api-version.")),
        }
        let segments = request.segments();
        let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
        if let ["secrets" | "deletedsecrets", name, ..] = parts.as_slice() {
            check_name(name)?;
        }
        match (&request.method, parts.as_slice()) {
            (&Method::GET, ["secrets"]) => self.list(request),
            (&Method::PUT, ["secrets", name]) => self.set(name, request, now),
            (&Method::GET, ["secrets", name]) => self.get(name, None, request),
            (&Method::GET, ["secrets", name, "versions"]) => self.list_versions(name, request),
            (&Method::GET, ["secrets", name, version]) => self.get(name, Some(version), request),
            (&Method::PATCH, ["secrets", name]) => self.update(name, None, request, now),
            (&Method::PATCH, ["secrets", name, version]) => self.update(name, Some(version), request, now),
            (&Method::DELETE, ["secrets", name]) => self.delete(name, request, now),
            (&Method::GET, ["deletedsecrets"]) => self.list_deleted(request),
            (&Method::GET, ["deletedsecrets", name]) => self.get_deleted(name, request),
            (&Method::POST, ["deletedsecrets", name, "recover"]) => self.recover(name, request),
            (&Method::DELETE, ["deletedsecrets", name]) => self.purge(name),
            _ => Err(refused(404, "NotFound", "There is no such resource.", None)),
        }
    }
}

/// `^[0-9a-zA-Z-]+$`, 1 to 127 characters (learn.microsoft.com/azure/key-vault/general/about-keys-secrets-certificates).
fn check_name(name: &str) -> Result<(), Reply> {
    let letters = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if letters && (1..=127).contains(&name.len()) {
        return Ok(());
    }
    let message = format!("The request URI contains an invalid name: {}", name.chars().take(40).collect::<String>());
    Err(bad_parameter(&message))
}

impl Fake for KeyVault {
    fn operation(&self, request: &Request) -> String {
        let segments = request.segments();
        let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
        if let Some(operation) = identity::operation(&parts) {
            return operation.to_owned();
        }
        if request.header("authorization").is_none() {
            return "challenge".to_owned();
        }
        match (&request.method, parts.as_slice()) {
            (&Method::GET, ["secrets"]) => "secrets.list",
            (&Method::GET, ["secrets", _, "versions"]) => "secrets.versions",
            (&Method::GET, ["secrets", ..]) => "secrets.get",
            (&Method::PUT, ["secrets", ..]) => "secrets.set",
            (&Method::PATCH, ["secrets", ..]) => "secrets.update",
            (&Method::DELETE, ["secrets", ..]) => "secrets.delete",
            (&Method::GET, ["deletedsecrets", ..]) => "deleted.get",
            (&Method::POST, ["deletedsecrets", ..]) => "deleted.recover",
            (&Method::DELETE, ["deletedsecrets", ..]) => "deleted.purge",
            _ => "other",
        }
        .to_owned()
    }

    fn answer(&self, request: &Request, clock: &FakeClock) -> Reply {
        let mut state = self.0.lock();
        let now = clock.now_ms() / 1000;
        let segments = request.segments();
        let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
        if identity::operation(&parts).is_some() {
            return state.identity.answer(&parts, request, now);
        }
        // The vault has no listener without TLS (learn.microsoft.com/azure/key-vault/general/network-security).
        if !request.origin.starts_with("https://") {
            return Reply::empty(404);
        }
        if let Err(refused) = state.identity.admit(request, now) {
            return refused;
        }
        state.dispatch(request, now).unwrap_or_else(|refused| refused)
    }

    fn forbidden(&self) -> Reply {
        refused(403, "Forbidden", "Caller is not authorized to perform action on resource.", Some("ForbiddenByRbac"))
    }

    /// learn.microsoft.com/azure/key-vault/general/overview-throttling: 429 with `Retry-After`.
    fn throttled(&self, retry_after_seconds: Option<u64>) -> Reply {
        let message = "Request was not processed because too many requests were received.";
        let reply = refused(429, "Throttled", message, None);
        match retry_after_seconds {
            Some(seconds) => reply.with("retry-after", &seconds.to_string()),
            None => reply,
        }
    }

    fn failed(&self) -> Reply {
        refused(500, "InternalServerError", "Operation failed.", None)
    }

    fn credentials(&self) -> Value {
        let mut told = self.0.lock().identity.told();
        told["vault_host"] = json!(VAULT_HOST);
        told["login_host"] = json!(LOGIN_HOST);
        told
    }

    fn names(&self) -> Vec<String> {
        vec![VAULT_HOST.to_owned(), LOGIN_HOST.to_owned()]
    }

    fn command(&self, name: &str, argument: &Value) -> Result<Value, String> {
        let mut state = self.0.lock();
        let number = || argument["count"].as_u64().ok_or("count is missing");
        match name {
            "rights" => {
                state.rights = serde_json::from_value(argument["rights"].clone()).map_err(|error| error.to_string())?;
            }
            "page" => state.page_size = usize::try_from(number()?).unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX),
            "recovery" => state.recovery_requests = number()?,
            "stale" => state.stale_reads = number()?,
            "intrude" => {
                let text = |name: &str| argument[name].as_str().map(str::to_owned).ok_or(format!("{name} is missing"));
                state.intruder = Some((text("name")?, text("value")?));
            }
            "revoke" => state.identity.revoke(),
            _ => return Err(format!("Key Vault knows no command {name}")),
        }
        Ok(Value::Null)
    }
}
