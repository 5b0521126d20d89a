//! The two calls: GET and PATCH of one workload of `apps/v1`, and what their refusals mean.
//!
//! Invariant: of the server's words only the `reason` of its `Status` is told, which is one of the API's own words.

use http::{HeaderName, HeaderValue, Method, header};
use kh_net::http::{Answer, OutBody, Request};
use serde::Deserialize;
use serde_json::Value;

use super::{Access, Workload};
use crate::{SendError, http::exchange};

/// Largest accepted workload: etcd takes objects of at most 1.5 MiB.
const OBJECT_MAX: usize = 2 * 1024 * 1024;

/// A JSON merge patch (RFC 7396): members that it does not name stay as they are.
const MERGE_PATCH: &str = "application/merge-patch+json";

/// Whose change it is in the object's `managedFields`.
const FIELD_MANAGER: &str = "fieldManager=keyholder";

/// Longest word of a reason.
const REASON_MAX: usize = 64;

impl Access {
    pub(super) async fn get(&self, workload: &Workload) -> Result<Value, SendError> {
        let answer = self.call(Method::GET, workload, None).await?;
        object(workload, "get", &answer)
    }

    pub(super) async fn patch(&self, workload: &Workload, patch: &Value) -> Result<Value, SendError> {
        let body = OutBody::json(patch).with_content_type(MERGE_PATCH);
        let answer = self.call(Method::PATCH, workload, Some(body)).await?;
        object(workload, "patch", &answer)
    }

    async fn call(&self, method: Method, workload: &Workload, body: Option<OutBody>) -> Result<Answer, SendError> {
        let mut url = self.server.clone();
        let (namespace, name) = (workload.namespace.as_str(), workload.name.as_str());
        url.path_segments_mut()
            .map_err(|()| SendError::refused("the API server's address takes no path"))?
            .pop_if_empty()
            .extend(["apis", "apps", "v1", "namespaces", namespace, workload.kind.resource(), name]);
        if body.is_some() {
            url.set_query(Some(FIELD_MANAGER));
        }
        let token = self.token.read().await?;
        let accept: (HeaderName, _) = (header::ACCEPT, HeaderValue::from_static("application/json"));
        let mut request = Request::new(method, url)
            .header(accept.0, accept.1)
            .answer_max(OBJECT_MAX)
            .bearer(&token)
            .map_err(|error| SendError::Refused(error.to_string()))?;
        if let Some(body) = body {
            request = request.body(body);
        }
        exchange(&self.client().await?, request).await
    }
}

/// `Status` of `meta/v1`: what the API server says of a failure.
#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    reason: String,
}

/// The object, or what the status means (Kubernetes API conventions, "HTTP Status codes").
fn object(workload: &Workload, verb: &str, answer: &Answer) -> Result<Value, SendError> {
    let status = answer.head.status;
    if (200..300).contains(&status) {
        return serde_json::from_slice(&answer.body)
            .map_err(|_| SendError::transient("the API server's answer is not JSON"));
    }
    let reason = serde_json::from_slice(&answer.body).map_or_else(|_| String::new(), |told: Status| told.reason);
    let word =
        !reason.is_empty() && reason.len() <= REASON_MAX && reason.bytes().all(|byte| byte.is_ascii_alphabetic());
    let told = if word { format!("{status} {reason}") } else { status.to_string() };
    let resource = workload.kind.resource();
    let (retry_after, refused) = (answer.head.retry_after(), |what: String| Err(SendError::Refused(what)));
    let again = |reason: String| Err(SendError::Transient { reason, retry_after });
    match status {
        // the token is read anew for each call, so the next one may carry the one that replaced it
        401 => again(format!("the API server does not accept the service account's token ({told})")),
        403 => refused(format!(
            "the service account may not {verb} the {workload} ({told}): give it a role with the verbs get and patch on {resource} of apps"
        )),
        404 => refused(format!("there is no {workload} ({told})")),
        // somebody else changed it meanwhile; a merge patch is then just sent again
        409 => again(format!("the {workload} was changed by somebody else ({told})")),
        422 => refused(format!("the API server finds the changed {workload} invalid ({told})")),
        408 | 429 | 500..=599 => again(format!("the API server answered {told}")),
        _ => refused(format!("the API server answered {told}")),
    }
}
