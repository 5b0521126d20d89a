//! Objects as an API server tells them, and what they mean.

use serde_json::json;

use super::*;

/// `spec` and `status` of an object of generation 7.
fn check(kind: WorkloadKind, spec: &str, status: &str) -> String {
    let part = |text: &str| -> Value { serde_json::from_str(&format!("{{{text}}}")).unwrap() };
    let object = json!({"metadata": {"generation": 7}, "spec": part(spec), "status": part(status)});
    match progress(kind, &object) {
        Progress::Done(told) => format!("done: {told}"),
        Progress::Waiting(told) => format!("waiting: {told}"),
        Progress::Stuck(told) => format!("stuck: {told}"),
    }
}

#[test]
fn deployments() {
    let of = |spec: &str, status: &str| check(WorkloadKind::Deployment, spec, status);
    let three = r#""replicas":3"#;
    for (status, told) in [
        (r#""observedGeneration":6,"replicas":3,"updatedReplicas":3,"availableReplicas":3"#, "waiting: its controller"),
        (r#""replicas":3,"updatedReplicas":3,"availableReplicas":3"#, "waiting: its controller"),
        (
            r#""observedGeneration":7,"replicas":4,"updatedReplicas":2,"availableReplicas":4"#,
            "waiting: 2 of 3 pods are new",
        ),
        (r#""observedGeneration":7,"replicas":4,"updatedReplicas":3,"availableReplicas":4"#, "waiting: 1 old pods"),
        (
            r#""observedGeneration":7,"replicas":3,"updatedReplicas":3,"availableReplicas":2"#,
            "waiting: 2 of 3 new pods",
        ),
        (r#""observedGeneration":7,"replicas":3,"updatedReplicas":3,"availableReplicas":3"#, "done: 3 pods"),
        (r#""observedGeneration":8,"replicas":3,"updatedReplicas":3,"availableReplicas":3"#, "done: 3 pods"),
        (
            r#""observedGeneration":7,"updatedReplicas":1,"conditions":[{"type":"Progressing","reason":"ProgressDeadlineExceeded"}]"#,
            "stuck: its rollout exceeded",
        ),
        (
            r#""observedGeneration":7,"updatedReplicas":1,"conditions":[{"type":"Available","reason":"ProgressDeadlineExceeded"}]"#,
            "waiting: 1 of 3",
        ),
    ] {
        assert!(of(three, status).starts_with(told), "{status}: {}", of(three, status));
    }
    assert!(of(r#""replicas":0"#, r#""observedGeneration":7"#).starts_with("done: 0"));
    // without the member it is one pod (apps/v1 DeploymentSpec)
    assert!(of("", r#""observedGeneration":7"#).starts_with("waiting: 0 of 1"));
    assert!(of(r#""paused":true"#, r#""observedGeneration":7"#).starts_with("stuck: its rollout is paused"));
}

#[test]
fn stateful_sets() {
    let of = |spec: &str, status: &str| check(WorkloadKind::StatefulSet, spec, status);
    let two = r#""replicas":2,"updateStrategy":{"type":"RollingUpdate","rollingUpdate":{"partition":0}}"#;
    for (status, told) in [
        (
            r#""observedGeneration":6,"readyReplicas":2,"currentRevision":"b","updateRevision":"b""#,
            "waiting: its controller",
        ),
        (
            r#""observedGeneration":7,"readyReplicas":1,"currentRevision":"b","updateRevision":"b""#,
            "waiting: 1 of 2 pods are ready",
        ),
        (
            r#""observedGeneration":7,"readyReplicas":2,"updatedReplicas":1,"currentRevision":"a","updateRevision":"b""#,
            "waiting: 1 of 2 pods are new",
        ),
        (r#""observedGeneration":7,"readyReplicas":2,"currentRevision":"b","updateRevision":"b""#, "done: 2 pods"),
    ] {
        assert!(of(two, status).starts_with(told), "{status}: {}", of(two, status));
    }
    let partitioned = r#""replicas":2,"updateStrategy":{"type":"RollingUpdate","rollingUpdate":{"partition":1}}"#;
    assert!(of(partitioned, r#""observedGeneration":7"#).starts_with("stuck: its rollout has a partition"));
    assert!(of(r#""updateStrategy":{"type":"OnDelete"}"#, "").starts_with("stuck: its update strategy"));
}

#[test]
fn daemon_sets() {
    let of = |spec: &str, status: &str| check(WorkloadKind::DaemonSet, spec, status);
    let rolling = r#""updateStrategy":{"type":"RollingUpdate","rollingUpdate":{"maxUnavailable":1}}"#;
    for (status, told) in [
        (
            r#""observedGeneration":6,"desiredNumberScheduled":2,"updatedNumberScheduled":2,"numberAvailable":2"#,
            "waiting: its controller",
        ),
        (
            r#""observedGeneration":7,"desiredNumberScheduled":2,"updatedNumberScheduled":1,"numberAvailable":2"#,
            "waiting: 1 of 2 pods are new",
        ),
        (
            r#""observedGeneration":7,"desiredNumberScheduled":2,"updatedNumberScheduled":2,"numberAvailable":1"#,
            "waiting: 1 of 2 pods are available",
        ),
        (
            r#""observedGeneration":7,"desiredNumberScheduled":2,"updatedNumberScheduled":2,"numberAvailable":2"#,
            "done: 2 pods",
        ),
    ] {
        assert!(of(rolling, status).starts_with(told), "{status}: {}", of(rolling, status));
    }
    assert!(of(r#""updateStrategy":{"type":"OnDelete"}"#, "").starts_with("stuck: its update strategy"));
}

#[test]
fn what_is_no_workload_or_goes_away_is_not_waited_for() {
    let kind = WorkloadKind::Deployment;
    assert!(matches!(progress(kind, &json!([])), Progress::Stuck(_)));
    assert!(matches!(progress(kind, &json!({"metadata": {"generation": "7"}})), Progress::Stuck(_)));
    let going = json!({"metadata": {"generation": 7, "deletionTimestamp": "2026-11-21T00:00:00Z"}});
    assert!(matches!(progress(kind, &going), Progress::Stuck(_)));
    // an object without a generation is none that an API server has written
    assert!(matches!(progress(kind, &json!({})), Progress::Waiting(_)));
}

/// The short form of the fuzz target `hook_answer`.
#[test]
fn damaged_objects_are_never_the_end_of_a_rollout_that_was_not() {
    use kh_core::{Entropy, SeededEntropy};
    let entropy = SeededEntropy::new(11);
    let numbers = ["0", "1", "3", "7", "-1", "-9223372036854775808", "9223372036854775807", "1e3", "\"3\"", "null"];
    let below = |end: usize| usize::try_from(entropy.below(end as u64)).unwrap();
    let (mut done, mut refused) = (0, 0);
    for _ in 0..20_000 {
        // a rollout that is complete, of which up to three numbers change
        let mut n = ["3"; 10];
        for _ in 0..below(4) {
            n[below(10)] = numbers[below(numbers.len())];
        }
        let text = format!(
            r#"{{"metadata":{{"generation":{}}},"spec":{{"replicas":{}}},"status":{{"observedGeneration":{},
                "replicas":{},"updatedReplicas":{},"readyReplicas":{},"availableReplicas":{},
                "desiredNumberScheduled":{},"updatedNumberScheduled":{},"numberAvailable":{}}}}}"#,
            n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8], n[9],
        );
        let object: Value = serde_json::from_str(&text).unwrap();
        for kind in [WorkloadKind::Deployment, WorkloadKind::StatefulSet, WorkloadKind::DaemonSet] {
            match progress(kind, &object) {
                Progress::Done(told) => {
                    done += 1;
                    assert!(!text.contains(":-"), "{told}: {text}");
                }
                Progress::Waiting(_) => {}
                Progress::Stuck(_) => refused += 1,
            }
        }
    }
    assert!(done > 10_000 && refused > 10_000, "both happen: {done} and {refused}");
}
