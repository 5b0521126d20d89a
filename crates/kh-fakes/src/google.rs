//! Google Secret Manager as a fake, in the REST shapes of its discovery document, with the metadata server that its
//! clients get tokens from.
//!
//! Sources: cloud.google.com/secret-manager/docs/reference/rest, docs/etags (a wrong etag is `FAILED_PRECONDITION` with
//! status 400), docs/reference/consistency (only reading a version by its number sees it at once), and what the official
//! Python library 2.32 sends and takes; where an answer was read elsewhere, the rule says so.
//!
//! Invariants: a version's payload never changes; a destroyed version stays destroyed; each change of a secret changes
//! its etag, also one that changes nothing else.

mod identity;
mod secrets;
mod versions;

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::{
    clock::FakeClock,
    fake::{Fake, Reply, Request},
};

/// The one project; answers name it by its number, as the real ones do.
pub const PROJECT: &str = "acme";
const PROJECT_NUMBER: &str = "424242";

/// What an identity may do with secrets.
const PERMISSIONS: &[&str] = &[
    "secretmanager.secrets.create",
    "secretmanager.secrets.delete",
    "secretmanager.secrets.get",
    "secretmanager.secrets.list",
    "secretmanager.secrets.update",
    "secretmanager.versions.access",
    "secretmanager.versions.add",
    "secretmanager.versions.destroy",
    "secretmanager.versions.disable",
    "secretmanager.versions.enable",
    "secretmanager.versions.get",
    "secretmanager.versions.list",
];

/// The fake.
#[derive(Debug)]
pub struct SecretManager(Mutex<State>);

#[derive(Debug)]
struct State {
    secrets: BTreeMap<String, Secret>,
    identity: identity::Identity,
    permissions: BTreeSet<String>,
    page_size: usize,
    /// How many reads by alias still see what was before the next change of aliases.
    stale_reads: u64,
    /// How many reads still find a version that is disabled next as it was before.
    stale_versions: u64,
    /// What another program does to a secret right before its next change: a new payload under the alias, or a label.
    intruder: Option<(String, Option<Vec<u8>>)>,
    /// The next read's checksum is wrong.
    broken_checksum: bool,
    counter: u64,
}

#[derive(Debug)]
struct Secret {
    etag: String,
    labels: BTreeMap<String, String>,
    replication: Value,
    created: u64,
    aliases: BTreeMap<String, u64>,
    /// Version 1 first.
    versions: Vec<Version>,
    /// Aliases as reads by alias still see them, and for how many of them.
    stale: Option<(BTreeMap<String, u64>, u64)>,
}

#[derive(Debug)]
struct Version {
    payload: Vec<u8>,
    state: VersionState,
    etag: String,
    created: u64,
    destroyed: Option<u64>,
    checked: bool,
    /// How many more reads find it enabled although it is not.
    stale: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum VersionState {
    Enabled,
    Disabled,
    Destroyed,
}

impl Default for SecretManager {
    fn default() -> Self {
        Self(Mutex::new(State {
            secrets: BTreeMap::new(),
            identity: identity::Identity::default(),
            permissions: PERMISSIONS.iter().map(|name| (*name).to_owned()).collect(),
            page_size: 250,
            stale_reads: 0,
            stale_versions: 0,
            intruder: None,
            broken_checksum: false,
            counter: 0,
        }))
    }
}

/// An error of google.rpc.Status in JSON.
fn refused(code: u16, status: &str, message: &str) -> Reply {
    Reply::json(code, &json!({"error": {"code": code, "message": message, "status": status}}))
}

fn invalid(message: &str) -> Reply {
    refused(400, "INVALID_ARGUMENT", message)
}

fn not_found(what: &str) -> Reply {
    refused(404, "NOT_FOUND", &format!("{what} not found."))
}

/// What is asked for: the collection below the project, the secret, the version, the custom verb.
struct Asked {
    secret: Option<String>,
    version: Option<String>,
    /// Whether the path ends at a collection (`secrets`, `versions`).
    collection: bool,
    verb: String,
}

fn asked(request: &Request) -> Option<Asked> {
    let segments = request.segments();
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    let ["v1", "projects", project, "secrets", rest @ ..] = parts.as_slice() else { return None };
    if ![PROJECT, PROJECT_NUMBER].contains(project) {
        return None;
    }
    let cut = |text: &str| {
        let (name, verb) = text.split_once(':').unwrap_or((text, ""));
        (Some(name.to_owned()), verb.to_owned())
    };
    match rest {
        [] => Some(Asked { secret: None, version: None, collection: true, verb: String::new() }),
        [secret] => {
            let (secret, verb) = cut(secret);
            Some(Asked { secret, version: None, collection: false, verb })
        }
        [secret, "versions"] => {
            Some(Asked { secret: Some((*secret).to_owned()), version: None, collection: true, verb: String::new() })
        }
        [secret, "versions", version] => {
            let (version, verb) = cut(version);
            Some(Asked { secret: Some((*secret).to_owned()), version, collection: false, verb })
        }
        _ => None,
    }
}

/// The word for what is asked, and the permission that it needs
/// (cloud.google.com/secret-manager/docs/access-control).
fn operation(method: &Method, asked: &Asked) -> (&'static str, &'static str) {
    match (method, asked.secret.is_some(), asked.version.is_some(), asked.collection, asked.verb.as_str()) {
        (&Method::GET, false, ..) => ("secrets.list", "secretmanager.secrets.list"),
        (&Method::POST, false, ..) => ("secrets.create", "secretmanager.secrets.create"),
        (&Method::GET, true, false, false, "") => ("secrets.get", "secretmanager.secrets.get"),
        (&Method::PATCH, true, false, false, "") => ("secrets.patch", "secretmanager.secrets.update"),
        (&Method::DELETE, true, false, false, "") => ("secrets.delete", "secretmanager.secrets.delete"),
        (&Method::POST, true, false, false, "addVersion") => ("secrets.add", "secretmanager.versions.add"),
        // asks what one may, so it needs nothing itself
        (&Method::POST, true, false, false, "testIamPermissions") => ("secrets.test", ""),
        (&Method::GET, true, false, true, "") => ("versions.list", "secretmanager.versions.list"),
        (&Method::GET, true, true, false, "") => ("versions.get", "secretmanager.versions.get"),
        (&Method::GET, true, true, false, "access") => ("versions.access", "secretmanager.versions.access"),
        (&Method::POST, true, true, false, "disable") => ("versions.disable", "secretmanager.versions.disable"),
        (&Method::POST, true, true, false, "enable") => ("versions.enable", "secretmanager.versions.enable"),
        (&Method::POST, true, true, false, "destroy") => ("versions.destroy", "secretmanager.versions.destroy"),
        _ => ("other", "none"),
    }
}

impl State {
    fn next_etag(&mut self) -> String {
        self.counter += 1;
        format!("\"{:016x}\"", self.counter.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn dispatch(&mut self, request: &Request, now: u64) -> Result<Reply, Reply> {
        let asked = asked(request).ok_or_else(|| not_found("The requested URL was"))?;
        let (name, permission) = operation(&request.method, &asked);
        if !permission.is_empty() && !self.permissions.contains(permission) {
            let message = format!("Permission '{permission}' denied for resource (or it may not exist).");
            return Err(refused(403, "PERMISSION_DENIED", &message));
        }
        let secret = asked.secret.as_deref().unwrap_or_default();
        let version = asked.version.as_deref().unwrap_or_default();
        match name {
            "secrets.list" => self.list(request),
            "secrets.create" => self.create(request, now),
            "secrets.get" => self.get(secret),
            "secrets.patch" => self.patch(secret, request),
            "secrets.delete" => self.delete(secret, request),
            "secrets.test" => self.test(secret, request),
            "secrets.add" => self.add_version(secret, request, now),
            "versions.list" => self.list_versions(secret, request),
            "versions.get" => self.get_version(secret, version, request),
            "versions.access" => self.access(secret, version),
            "versions.disable" => self.turn(secret, version, VersionState::Disabled, request, now),
            "versions.enable" => self.turn(secret, version, VersionState::Enabled, request, now),
            "versions.destroy" => self.turn(secret, version, VersionState::Destroyed, request, now),
            _ => Err(not_found("The requested URL was")),
        }
    }
}

impl Fake for SecretManager {
    fn operation(&self, request: &Request) -> String {
        if request.path.starts_with("/computeMetadata/") {
            return "metadata.token".to_owned();
        }
        asked(request).map_or("other", |asked| operation(&request.method, &asked).0).to_owned()
    }

    fn answer(&self, request: &Request, clock: &FakeClock) -> Reply {
        let mut state = self.0.lock();
        let now = clock.now_ms() / 1000;
        if request.path.starts_with("/computeMetadata/") {
            return state.identity.metadata(request, now);
        }
        if let Err(refused) = state.identity.admit(request, now) {
            return refused;
        }
        state.dispatch(request, now).unwrap_or_else(|refused| refused)
    }

    fn forbidden(&self) -> Reply {
        refused(403, "PERMISSION_DENIED", "Permission denied on resource (or it may not exist).")
    }

    /// cloud.google.com/secret-manager/quotas: `RESOURCE_EXHAUSTED`.
    fn throttled(&self, retry_after_seconds: Option<u64>) -> Reply {
        let reply = refused(429, "RESOURCE_EXHAUSTED", "Quota exceeded for quota metric.");
        match retry_after_seconds {
            Some(seconds) => reply.with("retry-after", &seconds.to_string()),
            None => reply,
        }
    }

    fn failed(&self) -> Reply {
        refused(500, "INTERNAL", "Internal error encountered.")
    }

    fn credentials(&self) -> Value {
        json!({"project": PROJECT, "token": self.0.lock().identity.lasting()})
    }

    fn command(&self, name: &str, argument: &Value) -> Result<Value, String> {
        let mut state = self.0.lock();
        let number = || argument["count"].as_u64().ok_or("count is missing");
        match name {
            "permissions" => {
                let wanted: BTreeSet<String> =
                    serde_json::from_value(argument["permissions"].clone()).map_err(|error| error.to_string())?;
                state.permissions = wanted;
            }
            "page" => state.page_size = usize::try_from(number()?).unwrap_or(250).max(1),
            "stale" => state.stale_reads = number()?,
            "stale_versions" => state.stale_versions = number()?,
            "intrude" | "relabel" => {
                let secret = argument["secret"].as_str().ok_or("secret is missing")?.to_owned();
                let payload = argument["payload"].as_str().map(|text| text.as_bytes().to_vec());
                state.intruder = Some((secret, payload));
            }
            "break_checksum" => state.broken_checksum = true,
            "revoke" => state.identity.revoke(),
            _ => return Err(format!("Secret Manager knows no command {name}")),
        }
        Ok(Value::Null)
    }
}
