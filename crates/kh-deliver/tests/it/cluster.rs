//! A strict API server of `apps/v1` with its controllers, over TLS.
//!
//! Rules and their sources: status codes and `Status` objects (kubernetes/community, API conventions, "Response Status
//! Kind"); media types of PATCH, 415 for others (kubernetes.io, "Kubernetes API Concepts", patch); `generation` grows
//! with each change of the specification and `status` is not written through the main resource (API conventions, "Spec
//! and Status"); names of annotations and text values alone (kubernetes.io, "Annotations", syntax); `fieldManager` of at
//! most 128 printable characters (apimachinery, `ValidateFieldManager`).

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use http::Method;
use serde_json::{Map, Value, json};

use crate::server::{Received, Reply, Server};

pub(crate) const TOKEN: &str = "sa-token-MARKED";

/// What the server and its controllers do.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) objects: Vec<(String, Value)>,
    /// Verbs that RBAC forbids.
    pub(crate) forbidden: BTreeSet<&'static str>,
    /// Answered to the next calls in place of anything else.
    pub(crate) next: Vec<u16>,
    /// Tokens that are accepted.
    pub(crate) tokens: Vec<String>,
    /// Whether controllers work.
    pub(crate) is_frozen: bool,
    /// Whether somebody takes each change back before it is looked at again.
    pub(crate) is_undone: bool,
    pub(crate) patches: usize,
}

pub(crate) struct Cluster {
    pub(crate) server: Server,
    pub(crate) world: Arc<Mutex<World>>,
}

impl Cluster {
    /// With one workload: `path` like `prod/deployments/crm`.
    pub(crate) async fn with(path: &str, object: Value) -> Self {
        let world =
            World { tokens: vec![TOKEN.to_owned()], objects: vec![(path.to_owned(), object)], ..World::default() };
        let world = Arc::new(Mutex::new(world));
        let shared = Arc::clone(&world);
        let server = Server::start_tls(move |request| answer(&mut shared.lock().unwrap(), request)).await;
        Self { server, world }
    }

    pub(crate) fn world(&self) -> std::sync::MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    pub(crate) fn annotations(&self) -> Value {
        self.world().objects[0].1["spec"]["template"]["metadata"]["annotations"].clone()
    }
}

pub(crate) fn deployment(replicas: i64) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "crm", "namespace": "prod", "generation": 3},
        "spec": {"replicas": replicas, "template": {"metadata": {"annotations": {"owner": "crm-team"}}, "spec": {}}},
        "status": {"observedGeneration": 3, "replicas": replicas, "updatedReplicas": replicas,
                   "availableReplicas": replicas, "readyReplicas": replicas}
    })
}

pub(crate) fn stateful_set(partition: i64) -> Value {
    json!({
        "metadata": {"name": "db", "namespace": "prod", "generation": 1},
        "spec": {"replicas": 2, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": partition}},
                 "template": {"metadata": {}}},
        "status": {"observedGeneration": 1, "replicas": 2, "readyReplicas": 2, "currentRevision": "a", "updateRevision": "a"}
    })
}

pub(crate) fn daemon_set() -> Value {
    json!({
        "metadata": {"name": "agent", "namespace": "prod", "generation": 1},
        "spec": {"updateStrategy": {"type": "RollingUpdate"}, "template": {"metadata": {}}},
        "status": {"observedGeneration": 1, "desiredNumberScheduled": 3, "updatedNumberScheduled": 3, "numberAvailable": 3}
    })
}

fn status(code: u16, reason: &str) -> Reply {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code,
                      "message": "told to nobody"});
    Reply::json(code, &body)
}

fn answer(world: &mut World, request: &Received) -> Reply {
    if !world.next.is_empty() {
        let code = world.next.remove(0);
        return status(code, if code == 409 { "Conflict" } else { "ServiceUnavailable" }).with("retry-after", "1");
    }
    let bearer = request.header("authorization").strip_prefix("Bearer ").unwrap_or_default();
    if !world.tokens.iter().any(|token| token == bearer) {
        return status(401, "Unauthorized");
    }
    let Some(path) = request.path.strip_prefix("/apis/apps/v1/namespaces/") else { return status(404, "NotFound") };
    let verb = if request.method == Method::GET { "get" } else { "patch" };
    if world.forbidden.contains(verb) {
        return status(403, "Forbidden");
    }
    let (is_frozen, is_undone, path) = (world.is_frozen, world.is_undone, path.to_owned());
    let Some((_, object)) = world.objects.iter_mut().find(|(at, _)| *at == path) else {
        return status(404, "NotFound");
    };
    match request.method {
        Method::GET => {
            if is_undone {
                undo(object);
            } else if !is_frozen {
                reconcile(object);
            }
            Reply::json(200, object)
        }
        Method::PATCH => {
            world.patches += 1;
            patch(object, request)
        }
        _ => status(405, "MethodNotAllowed"),
    }
}

fn patch(object: &mut Value, request: &Received) -> Reply {
    if request.header("content-type") != "application/merge-patch+json" {
        return status(415, "UnsupportedMediaType");
    }
    let manager = request.query.strip_prefix("fieldManager=").unwrap_or_default();
    if manager.is_empty() || manager.len() > 128 {
        return status(422, "Invalid");
    }
    let Ok(mut change) = serde_json::from_slice::<Value>(&request.body) else { return status(400, "BadRequest") };
    if let Some(change) = change.as_object_mut() {
        change.remove("status");
    }
    let mut changed = object.clone();
    merge(&mut changed, &change);
    let annotations = &changed["spec"]["template"]["metadata"]["annotations"];
    if !annotations
        .as_object()
        .is_none_or(|all| all.iter().all(|(name, value)| is_annotation(name) && value.is_string()))
    {
        return status(422, "Invalid");
    }
    if changed["spec"] != object["spec"] {
        let generation = changed["metadata"]["generation"].as_i64().unwrap();
        changed["metadata"]["generation"] = json!(generation + 1);
    }
    *object = changed;
    Reply::json(200, object)
}

/// An optional prefix (DNS subdomain, 253) and a name (63, alphanumeric at both ends).
fn is_annotation(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').unwrap_or(("x", key));
    let ends = |text: &str| {
        text.bytes()
            .next()
            .zip(text.bytes().last())
            .is_some_and(|(a, b)| a.is_ascii_alphanumeric() && b.is_ascii_alphanumeric())
    };
    let subdomain =
        prefix.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte));
    let letters = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    subdomain && ends(prefix) && prefix.len() <= 253 && letters && ends(name) && name.len() <= 63
}

/// RFC 7396.
fn merge(target: &mut Value, change: &Value) {
    let Value::Object(change) = change else {
        *target = change.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (name, value) in change {
        if value.is_null() {
            target.remove(name);
        } else {
            merge(target.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

/// `kubectl rollout undo` of a deployment, which brings the former template back, and the rollout that follows it.
fn undo(object: &mut Value) {
    let annotations = object["spec"]["template"]["metadata"]["annotations"].as_object_mut().unwrap();
    annotations.retain(|name, _| !name.starts_with("keyholder/"));
    let generation = object["metadata"]["generation"].as_i64().unwrap() + 1;
    object["metadata"]["generation"] = json!(generation);
    object["status"]["observedGeneration"] = json!(generation);
    object["status"]["updatedReplicas"] = object["spec"]["replicas"].clone();
}

/// One step of the controller: it sees the change, then replaces one pod with each look.
fn reconcile(object: &mut Value) {
    let number = |object: &Value, at: &str| object.pointer(at).and_then(Value::as_i64).unwrap_or(0);
    let (wanted, seen) = (number(object, "/metadata/generation"), number(object, "/status/observedGeneration"));
    let replicas = number(object, "/spec/replicas");
    let revision = format!("r{wanted}");
    let status = &mut object["status"];
    if seen < wanted {
        status["observedGeneration"] = json!(wanted);
        status["updatedReplicas"] = json!(0);
        status["updatedNumberScheduled"] = json!(0);
        status["updateRevision"] = json!(revision);
        return;
    }
    let updated = number(status, "/updatedReplicas");
    if updated < replicas {
        status["updatedReplicas"] = json!(updated + 1);
    } else if let Some(revision) = status.get("updateRevision").cloned() {
        status["currentRevision"] = revision;
    }
    let scheduled = number(status, "/updatedNumberScheduled");
    if scheduled < number(status, "/desiredNumberScheduled") {
        status["updatedNumberScheduled"] = json!(scheduled + 1);
    }
}
