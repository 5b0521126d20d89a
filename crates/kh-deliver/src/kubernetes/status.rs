//! Whether a rollout is complete, from the object alone. Pure.
//!
//! The rules are those of `kubectl rollout status` (kubernetes/kubectl, pkg/polymorphichelpers/rollout_status.go), and
//! stricter where that would call a rollout complete which leaves pods with the old secret: a paused deployment, a
//! partitioned stateful set, and the update strategy OnDelete.
//!
//! Invariants: a status that belongs to an older specification is never read as the end of a rollout; nor is one with
//! numbers that no API server tells.

use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;

use super::WorkloadKind;

/// How far it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Progress {
    /// All pods are new and available.
    Done(String),
    /// Not yet.
    Waiting(String),
    /// It will not come to an end by itself.
    Stuck(String),
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Object {
    metadata: Metadata,
    spec: Spec,
    status: Status,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Metadata {
    generation: i64,
    #[serde(rename = "deletionTimestamp")]
    deletion: Option<IgnoredAny>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    replicas: Option<i64>,
    paused: bool,
    update_strategy: Strategy,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Strategy {
    #[serde(rename = "type")]
    kind: String,
    rolling_update: Option<Rolling>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Rolling {
    partition: i64,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    observed_generation: i64,
    replicas: i64,
    updated_replicas: i64,
    ready_replicas: i64,
    available_replicas: i64,
    current_revision: String,
    update_revision: String,
    desired_number_scheduled: i64,
    updated_number_scheduled: i64,
    number_available: i64,
    conditions: Vec<Condition>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    reason: String,
}

impl Object {
    /// The API server lets no negative number in (`ValidateNonnegativeField`), so this is none.
    fn has_negative(&self) -> bool {
        let Status {
            observed_generation,
            replicas,
            updated_replicas,
            ready_replicas,
            available_replicas,
            desired_number_scheduled,
            updated_number_scheduled,
            number_available,
            ..
        } = &self.status;
        let counts = [
            observed_generation,
            replicas,
            updated_replicas,
            ready_replicas,
            available_replicas,
            desired_number_scheduled,
            updated_number_scheduled,
            number_available,
            &self.metadata.generation,
        ];
        counts.into_iter().any(|count| *count < 0) || self.spec.replicas.is_some_and(|count| count < 0)
    }
}

/// How far the rollout of this object is.
pub(super) fn progress(kind: WorkloadKind, object: &Value) -> Progress {
    // a derived structure would also be read from a list
    let read = object.is_object().then(|| Object::deserialize(object).ok()).flatten();
    let Some(object) = read.filter(|object| !object.has_negative()) else {
        return Progress::Stuck("the API server's answer is not the object that was asked for".to_owned());
    };
    if object.metadata.deletion.is_some() {
        return Progress::Stuck("it is being deleted".to_owned());
    }
    let (observed, wanted) = (object.status.observed_generation, object.metadata.generation);
    let behind = wanted == 0 || observed < wanted;
    let waiting = || Progress::Waiting("its controller has not seen the change".to_owned());
    match kind {
        WorkloadKind::Deployment if object.spec.paused => stuck("its rollout is paused"),
        WorkloadKind::Deployment if behind => waiting(),
        WorkloadKind::Deployment => deployment(&object),
        WorkloadKind::StatefulSet | WorkloadKind::DaemonSet if object.spec.update_strategy.kind == "OnDelete" => {
            stuck("its update strategy is OnDelete: its pods are replaced when somebody deletes them")
        }
        WorkloadKind::StatefulSet if partition(&object) > 0 => {
            stuck("its rollout has a partition: pods below it keep the old secret")
        }
        WorkloadKind::StatefulSet | WorkloadKind::DaemonSet if behind => waiting(),
        WorkloadKind::StatefulSet => stateful_set(&object),
        WorkloadKind::DaemonSet => daemon_set(&object),
    }
}

fn stuck(why: &str) -> Progress {
    Progress::Stuck(why.to_owned())
}

fn partition(object: &Object) -> i64 {
    object.spec.update_strategy.rolling_update.as_ref().map_or(0, |rolling| rolling.partition)
}

fn deployment(object: &Object) -> Progress {
    let (status, wanted) = (&object.status, object.spec.replicas.unwrap_or(1));
    let late =
        |condition: &Condition| condition.kind == "Progressing" && condition.reason == "ProgressDeadlineExceeded";
    if status.conditions.iter().any(late) {
        return stuck("its rollout exceeded its progress deadline");
    }
    let (updated, available) = (status.updated_replicas, status.available_replicas);
    if updated < wanted {
        return Progress::Waiting(format!("{updated} of {wanted} pods are new"));
    }
    if status.replicas > updated {
        return Progress::Waiting(format!("{} old pods are still there", status.replicas - updated));
    }
    if available < updated {
        return Progress::Waiting(format!("{available} of {updated} new pods are available"));
    }
    Progress::Done(format!("{updated} pods are new and available"))
}

fn stateful_set(object: &Object) -> Progress {
    let (status, wanted) = (&object.status, object.spec.replicas.unwrap_or(1));
    let (updated, ready) = (status.updated_replicas, status.ready_replicas);
    if ready < wanted {
        return Progress::Waiting(format!("{ready} of {wanted} pods are ready"));
    }
    if status.update_revision != status.current_revision {
        return Progress::Waiting(format!("{updated} of {wanted} pods are new"));
    }
    Progress::Done(format!("{wanted} pods are new and ready"))
}

fn daemon_set(object: &Object) -> Progress {
    let status = &object.status;
    let (wanted, updated, available) =
        (status.desired_number_scheduled, status.updated_number_scheduled, status.number_available);
    if updated < wanted {
        return Progress::Waiting(format!("{updated} of {wanted} pods are new"));
    }
    if available < wanted {
        return Progress::Waiting(format!("{available} of {wanted} pods are available"));
    }
    Progress::Done(format!("{wanted} pods are new and available"))
}

#[cfg(test)]
mod tests;
