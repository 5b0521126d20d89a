//! A rollout of a Kubernetes workload: its pods are started anew with the new secret, one after the other.
//!
//! The pod template gets an annotation that names the delivery; a template that changed is rolled out by the
//! workload's controller (kubernetes.io, "Deployments": a rollout is triggered if and only if `.spec.template` is
//! changed; `kubectl rollout restart` does the same with `kubectl.kubernetes.io/restartedAt`). The same delivery finds
//! its annotation there and only waits. Needs the verbs `get` and `patch` on the workload.
//!
//! Invariants: the wait ends: with the rollout, with a state that no waiting changes, or with the patience; a rollout is
//! told as done only of a template that has the annotation.

mod access;
mod api;
mod status;

use std::time::Duration;

use kh_core::{
    CredentialName, Sha256,
    credential::CredentialDocument,
    port::{BoxFuture, DeliveryHook, HookError, Promotion},
};
use serde_json::{Value, json};

pub use access::{Access, AccessError, Trust};
use status::{Progress, progress};

use crate::SendError;

/// Where the annotation's name begins. The prefix is a DNS name of one label (kubernetes.io, "Labels and Selectors",
/// syntax, which holds for annotations as well).
const ANNOTATION: &str = "keyholder/generation";

/// Longest part of a credential's name that the annotation shows: with what goes before and after it, below the 63
/// characters of a name segment.
const SLUG_MAX: usize = 36;

/// Longest name of a namespace or a workload (RFC 1123 label and subdomain; kubernetes.io, "Object Names and IDs").
const NAME_MAX: usize = 253;

/// How long one delivery waits for the rollout. The next attempt goes on waiting where this one stopped.
const PATIENCE: Duration = Duration::from_mins(1);

/// Pause between two looks at the rollout.
const POLL: Duration = Duration::from_secs(2);

/// The kind of a workload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WorkloadKind {
    /// `apps/v1` Deployment.
    Deployment,
    /// `apps/v1` StatefulSet.
    StatefulSet,
    /// `apps/v1` DaemonSet.
    DaemonSet,
}

impl WorkloadKind {
    /// The resource's name in the API's paths.
    pub(crate) fn resource(self) -> &'static str {
        match self {
            Self::Deployment => "deployments",
            Self::StatefulSet => "statefulsets",
            Self::DaemonSet => "daemonsets",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Deployment => "deployment",
            Self::StatefulSet => "statefulset",
            Self::DaemonSet => "daemonset",
        }
    }
}

/// One workload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Workload {
    pub(crate) kind: WorkloadKind,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// Why a workload's name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name of a namespace or workload: use a-z, 0-9, - and .")]
pub struct WorkloadError(String);

impl Workload {
    /// The workload `name` in `namespace`.
    pub fn new(kind: WorkloadKind, namespace: &str, name: &str) -> Result<Self, WorkloadError> {
        for part in [namespace, name] {
            let letters =
                part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte));
            let ends = part.bytes().next().zip(part.bytes().last());
            let framed =
                ends.is_some_and(|(first, last)| first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric());
            if !letters || !framed || part.len() > NAME_MAX || part.contains("..") {
                return Err(WorkloadError(part.chars().take(64).collect()));
            }
        }
        Ok(Self { kind, namespace: namespace.to_owned(), name: name.to_owned() })
    }
}

impl std::fmt::Display for Workload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} in {}", self.kind.word(), self.name, self.namespace)
    }
}

/// A rollout as a hook.
#[derive(Debug)]
pub struct Rollout {
    name: String,
    workload: Workload,
    access: Access,
    patience: Duration,
    poll: Duration,
}

impl Rollout {
    /// The hook `name` that rolls out `workload`.
    pub fn new(name: impl Into<String>, workload: Workload, access: Access) -> Self {
        Self { name: name.into(), workload, access, patience: PATIENCE, poll: POLL }
    }

    /// The same with another patience per attempt and another pause between two looks.
    #[must_use]
    pub fn waiting(self, patience: Duration, poll: Duration) -> Self {
        Self { patience, poll, ..self }
    }

    async fn roll_out(&self, promotion: &Promotion) -> Result<String, SendError> {
        let (key, value) = (annotation(&promotion.credential), annotated(promotion));
        let (key, value) = (key.as_str(), value.as_str());
        let path = ["spec", "template", "metadata", "annotations", key];
        let is_changed = |object: &Value| {
            path.iter().try_fold(object, |at, member| at.get(*member)).and_then(Value::as_str) == Some(value)
        };
        let mut object = self.access.get(&self.workload).await?;
        if !is_changed(&object) {
            let patch = json!({"spec": {"template": {"metadata": {"annotations": {key: value}}}}});
            object = self.access.patch(&self.workload, &patch).await?;
        }
        let mut waiting = String::new();
        let done = tokio::time::timeout(self.patience, async {
            loop {
                // a rollout that was undone comes to an end as well
                if !is_changed(&object) {
                    let told = format!("the change of the {} was taken back by somebody else", self.workload);
                    return Err(SendError::transient(told));
                }
                match progress(self.workload.kind, &object) {
                    Progress::Done(told) => return Ok(told),
                    Progress::Stuck(told) => return Err(SendError::Refused(format!("{}: {told}", self.workload))),
                    Progress::Waiting(told) => waiting = told,
                }
                tokio::time::sleep(self.poll).await;
                object = self.access.get(&self.workload).await?;
            }
        });
        match done.await {
            Ok(ended) => ended,
            Err(_elapsed) => Err(SendError::transient(format!("{} is not rolled out yet: {waiting}", self.workload))),
        }
    }
}

impl DeliveryHook for Rollout {
    fn name(&self) -> &str {
        &self.name
    }

    fn describe(&self) -> String {
        let server = self.access.told();
        format!("rolls out the {} at {server} and waits until its pods are replaced", self.workload)
    }

    fn deliver<'a>(
        &'a self,
        promotion: &'a Promotion,
        _document: &'a CredentialDocument,
    ) -> BoxFuture<'a, Result<String, HookError>> {
        Box::pin(async move { Ok(self.roll_out(promotion).await?) })
    }
}

/// The annotation of a credential: one workload may use several, and a rollout for one is none for another.
fn annotation(credential: &CredentialName) -> String {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let name = credential.as_str();
    let plain = name.len() <= SLUG_MAX
        && name.bytes().all(fits)
        && name.bytes().last().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if plain {
        return format!("{ANNOTATION}.{name}");
    }
    let slug: String = name.chars().take(SLUG_MAX).map(|letter| if letter == '/' { '.' } else { letter }).collect();
    let digest: String = Sha256::of(name.as_bytes()).to_hex().chars().take(8).collect();
    format!("{ANNOTATION}.{slug}-{digest}")
}

/// What the annotation says. The delivery is in it, so that a generation that is promoted a second time, after a
/// rollback, is rolled out a second time.
fn annotated(promotion: &Promotion) -> String {
    format!("{}/{}", promotion.generation, promotion.delivery)
}

/// An answer as each kind of workload.
#[cfg(fuzzing)]
pub(crate) fn look_at(object: &Value) {
    for kind in [WorkloadKind::Deployment, WorkloadKind::StatefulSet, WorkloadKind::DaemonSet] {
        let _progress = progress(kind, object);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_have_legal_and_different_names() {
        let long = "x".repeat(60);
        let names = ["acme", "team/acme.eu", "team.acme.eu", "a_b-c", "ends-", long.as_str()];
        let keys: Vec<String> = names.iter().map(|name| annotation(&name.parse().unwrap())).collect();
        for (index, key) in keys.iter().enumerate() {
            let segment = key.strip_prefix("keyholder/").unwrap();
            assert!(segment.len() <= 63, "{key}");
            assert!(segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)), "{key}");
            assert!(segment.bytes().last().unwrap().is_ascii_alphanumeric(), "{key}");
            assert!(!keys.iter().skip(index + 1).any(|other| other == key), "{key}");
        }
        assert_eq!(keys.first().unwrap(), "keyholder/generation.acme");
    }

    #[test]
    fn names_of_workloads() {
        assert!(Workload::new(WorkloadKind::Deployment, "prod", "crm-sync.v2").is_ok());
        for (namespace, name) in
            [("", "a"), ("a", ""), ("a/b", "c"), ("a", "../secrets"), ("a", "B"), ("a", "b?c"), ("a", "-b")]
        {
            assert!(Workload::new(WorkloadKind::Deployment, namespace, name).is_err(), "{namespace} {name}");
        }
    }
}
