//! The app-registration API. Invariant: it can create, edit, enable, disable and schedule deletion, and it has no
//! operation for a new secret, so rotation means a second application.

use super::state::Application;
use super::{oauth_error, session};
use crate::clock;
use crate::exchange::Call;
use crate::mint::sha256;
use crate::reply::Reply;
use crate::shared::Shared;
use serde_json::{Map, Value, json};

/// Applications at once.
const APPLICATIONS_MAX: usize = 1_000;
/// The vendor schedules deletions; the delay is not published.
const DELETION_DELAY_MS: i64 = 7 * 86_400_000;

pub(super) fn handle(shared: &Shared, call: &Call) -> Reply {
    if session(shared, call).is_none() {
        return oauth_error(401, "invalid_token", "the access token is not valid");
    }
    let rest = call.raw_path.strip_prefix("/applications").unwrap_or_default();
    let mut state = shared.cxone.state.lock();
    let now = clock::iso(shared.clock.now_ms());
    match (call.method.as_str(), rest.strip_prefix('/')) {
        ("GET", None) => {
            let all: Vec<Value> = state.applications.iter().map(|(id, application)| shown(id, application)).collect();
            Reply::json(200, &json!({"applications": all}))
        }
        ("POST", None) => {
            if state.applications.len() >= APPLICATIONS_MAX {
                return oauth_error(400, "too_many_applications", "there are too many applications");
            }
            let Ok(Some(Value::Object(mut fields))) = call.json() else { return not_an_object() };
            fields.insert("createdTime".to_owned(), json!(now));
            let (id, secret) = (shared.mint.next_uuid(), shared.mint.random_secret());
            let application = Application { secret: sha256(secret.as_bytes()), fields, enabled: true };
            let mut body = shown(&id, &application);
            if let Some(fields) = body.as_object_mut() {
                fields.insert("secret".to_owned(), json!(secret));
            }
            state.applications.insert(id, application);
            Reply::json(200, &body)
        }
        (method, Some(id)) => {
            let switch = [("-enable", true), ("-disable", false)]
                .into_iter()
                .find_map(|(suffix, enabled)| Some((id.strip_suffix(suffix)?, enabled)));
            let key = switch.map_or(id, |(id, _)| id);
            let Some(application) = state.applications.get_mut(key) else {
                return oauth_error(404, "not_found", "the application is unknown");
            };
            let until = clock::iso(shared.clock.now_ms().saturating_add(DELETION_DELAY_MS));
            one(application, call, method, key, switch.map(|(_, enabled)| enabled), &now, &until)
        }
        _ => oauth_error(405, "method_not_allowed", "the method is not supported here"),
    }
}

fn one(
    application: &mut Application,
    call: &Call,
    method: &str,
    id: &str,
    switch: Option<bool>,
    now: &str,
    until: &str,
) -> Reply {
    match (method, switch) {
        ("POST", Some(enabled)) => {
            application.enabled = enabled;
            Reply::empty(204)
        }
        ("GET", None) => Reply::json(200, &shown(id, application)),
        ("PATCH", None) => {
            let Ok(Some(Value::Object(fields))) = call.json() else { return not_an_object() };
            merge(&mut application.fields, fields);
            application.fields.insert("lastModifiedTime".to_owned(), json!(now));
            Reply::json(200, &shown(id, application))
        }
        ("DELETE", None) => {
            application.fields.insert("scheduledDeletionTime".to_owned(), json!(until));
            Reply::json(200, &shown(id, application))
        }
        _ => oauth_error(405, "method_not_allowed", "the method is not supported here"),
    }
}

/// Identity and state are not edited by a patch.
fn merge(fields: &mut Map<String, Value>, mut changes: Map<String, Value>) {
    for own in ["id", "secret", "isEnabled", "createdTime", "scheduledDeletionTime"] {
        changes.remove(own);
    }
    fields.extend(changes);
}

fn not_an_object() -> Reply {
    oauth_error(400, "invalid_request", "a JSON object is required")
}

fn shown(id: &str, application: &Application) -> Value {
    let mut fields = application.fields.clone();
    fields.insert("id".to_owned(), json!(id));
    fields.insert("isEnabled".to_owned(), json!(application.enabled));
    Value::Object(fields)
}
