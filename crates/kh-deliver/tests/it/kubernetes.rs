//! Rollouts against the strict API server.

use std::{sync::Arc, time::Duration};

use kh_core::port::DeliveryHook;
use kh_deliver::{Access, Rollout, Trust, Workload, WorkloadKind};
use kh_net::Egress;
use serde_json::json;

use crate::{
    cluster::{Cluster, TOKEN, daemon_set, deployment, stateful_set},
    rig::{Files, clock, deliver, document, promotion, refused, transient},
};

/// Patience and pause are short, and the server's steps come with its answers: nothing waits for time.
fn hook(cluster: &Cluster, files: &Files, kind: WorkloadKind, name: &str) -> Rollout {
    std::fs::write(files.path("ca.crt"), &cluster.server.ca).unwrap();
    let token = files.write("token", TOKEN);
    let trust = Trust::File(files.path("ca.crt"));
    let access = Access::new(&cluster.server.url("/"), token, trust, clock()).unwrap();
    let workload = Workload::new(kind, "prod", name).unwrap();
    Rollout::new("k8s", workload, access).waiting(Duration::from_secs(30), Duration::from_millis(1))
}

async fn deployed() -> (Cluster, Files, Rollout) {
    let (cluster, files) = (Cluster::with("prod/deployments/crm", deployment(3)).await, Files::new());
    let hook = hook(&cluster, &files, WorkloadKind::Deployment, "crm");
    (cluster, files, hook)
}

const ANNOTATION: &str = "keyholder/generation.acme.prod-";

#[tokio::test]
async fn a_deployment_is_rolled_out_once_and_waited_for() {
    let (cluster, _files, hook) = deployed().await;
    assert_eq!(deliver(&hook).await.unwrap(), "3 pods are new and available");
    let annotations = cluster.annotations();
    let annotations = annotations.as_object().unwrap();
    let (name, value) = annotations.iter().find(|(name, _)| name.starts_with(ANNOTATION)).unwrap();
    assert_eq!(value, "4/00000000-0000-0000-0000-00000000000d");
    assert!(name.len() < 80);
    assert_eq!(annotations["owner"], "crm-team", "what others wrote stays");
    assert_eq!(cluster.world().objects[0].1["metadata"]["generation"], 4);
    // the same delivery again
    deliver(&hook).await.unwrap();
    assert_eq!(cluster.world().patches, 1);
    // the same generation promoted again after a rollback is another delivery
    let again = kh_core::port::Promotion { delivery: uuid::Uuid::from_u128(0xe), ..promotion() };
    hook.deliver(&again, &document()).await.unwrap();
    assert_eq!(cluster.world().patches, 2);
    assert_eq!(cluster.world().objects[0].1["metadata"]["generation"], 5);
    let place = format!("https://{}", cluster.server.address);
    assert_eq!(
        hook.describe(),
        format!("rolls out the deployment crm in prod at {place} and waits until its pods are replaced")
    );
}

#[tokio::test]
async fn stateful_sets_and_daemon_sets() {
    let files = Files::new();
    let cluster = Cluster::with("prod/statefulsets/db", stateful_set(0)).await;
    assert_eq!(
        deliver(&hook(&cluster, &files, WorkloadKind::StatefulSet, "db")).await.unwrap(),
        "2 pods are new and ready"
    );
    let cluster = Cluster::with("prod/daemonsets/agent", daemon_set()).await;
    let told = deliver(&hook(&cluster, &files, WorkloadKind::DaemonSet, "agent")).await.unwrap();
    assert_eq!(told, "3 pods are new and available");
}

#[tokio::test]
async fn what_no_waiting_changes_is_refused() {
    let files = Files::new();
    let cluster = Cluster::with("prod/statefulsets/db", stateful_set(1)).await;
    let reason = refused(deliver(&hook(&cluster, &files, WorkloadKind::StatefulSet, "db")).await);
    assert!(reason.contains("partition"), "{reason}");
    let (cluster, _files, hook) = deployed().await;
    cluster.world().objects[0].1["spec"]["paused"] = json!(true);
    assert!(refused(deliver(&hook).await).contains("paused"));
    cluster.world().objects[0].1["spec"]["paused"] = json!(false);
    cluster.world().is_frozen = true;
    let late = json!({"observedGeneration": 99, "conditions": [{"type": "Progressing", "reason": "ProgressDeadlineExceeded"}]});
    cluster.world().objects[0].1["status"] = late;
    assert!(refused(deliver(&hook).await).contains("progress deadline"));
}

#[tokio::test]
async fn a_rollout_that_takes_too_long_is_waited_for_again() {
    let (cluster, _files, hook) = deployed().await;
    let hook = hook.waiting(Duration::from_millis(200), Duration::from_millis(1));
    cluster.world().is_frozen = true;
    let reason = transient(deliver(&hook).await);
    assert!(reason.contains("is not rolled out yet: its controller has not seen the change"), "{reason}");
    cluster.world().is_frozen = false;
    let hook = hook.waiting(Duration::from_secs(30), Duration::from_millis(1));
    deliver(&hook).await.unwrap();
    assert_eq!(cluster.world().patches, 1, "one change for both attempts");
}

#[tokio::test]
async fn a_rollout_that_is_undone_meanwhile_is_not_told_as_done() {
    let (cluster, _files, hook) = deployed().await;
    cluster.world().is_undone = true;
    let reason = transient(deliver(&hook).await);
    assert_eq!(reason, "the change of the deployment crm in prod was taken back by somebody else");
    cluster.world().is_undone = false;
    assert_eq!(deliver(&hook).await.unwrap(), "3 pods are new and available");
    assert_eq!(cluster.world().patches, 2, "the next attempt changes it again");
}

#[tokio::test]
async fn refusals_are_told_apart_and_nothing_of_the_token_is_told() {
    let (cluster, files, hook) = deployed().await;
    for verb in ["get", "patch"] {
        cluster.world().forbidden.insert(verb);
        let reason = refused(deliver(&hook).await);
        assert!(reason.contains(&format!("may not {verb} the deployment crm in prod (403 Forbidden)")), "{reason}");
        cluster.world().forbidden.clear();
    }
    for (code, told) in [(409, "409 Conflict"), (429, "429"), (500, "500"), (503, "503 ServiceUnavailable")] {
        cluster.world().next = vec![code];
        let reason = transient(deliver(&hook).await);
        assert!(reason.contains(told) && !reason.contains("told to nobody"), "{reason}");
    }
    cluster.world().next = vec![422];
    assert!(refused(deliver(&hook).await).contains("invalid"));
    cluster.world().objects.clear();
    assert!(refused(deliver(&hook).await).contains("there is no deployment crm in prod (404 NotFound)"));
    files.write("token", "sa-token-WRONG");
    let reason = transient(deliver(&hook).await);
    assert!(reason.contains("does not accept") && !reason.contains("WRONG"), "{reason}");
}

#[tokio::test]
async fn a_token_that_was_replaced_is_taken_up_during_the_wait() {
    let (cluster, files, hook) = deployed().await;
    cluster.world().tokens = vec!["the-next-token".to_owned()];
    transient(deliver(&hook).await);
    files.write("token", "the-next-token\n");
    deliver(&hook).await.unwrap();
}

#[tokio::test]
async fn only_the_clusters_own_authority_is_believed() {
    let (cluster, files, hook) = deployed().await;
    let other = crate::server::tls().1;
    std::fs::write(files.path("ca.crt"), other).unwrap();
    transient(deliver(&hook).await);
    std::fs::write(files.path("ca.crt"), "no certificate").unwrap();
    assert!(refused(deliver(&hook).await).contains("holds no certificate"));
    assert!(cluster.server.received().is_empty());
}

#[tokio::test]
async fn an_authority_of_its_own_takes_the_place_of_those_of_a_way() {
    let (cluster, files, _hook) = deployed().await;
    let way = Trust::Way(Arc::new(Egress::trusting(&[]).unwrap()));
    let access = Access::new(&cluster.server.url("/"), files.write("token", TOKEN), way, clock()).unwrap();
    let hook = |access: Access| {
        let workload = Workload::new(WorkloadKind::Deployment, "prod", "crm").unwrap();
        Rollout::new("k8s", workload, access).waiting(Duration::from_secs(30), Duration::from_millis(1))
    };
    transient(deliver(&hook(access.clone())).await);
    assert!(cluster.server.received().is_empty());
    deliver(&hook(access.with_authority(files.path("ca.crt")))).await.unwrap();
}

#[tokio::test]
async fn the_way_in_a_pod() {
    let (cluster, files, _hook) = deployed().await;
    let (host, port) = ("127.0.0.1", cluster.server.address.port().to_string());
    let access = Access::in_cluster(host, &port, files.folder(), clock()).unwrap();
    let workload = Workload::new(WorkloadKind::Deployment, "prod", "crm").unwrap();
    let hook = Rollout::new("k8s", workload.clone(), access).waiting(Duration::from_secs(30), Duration::from_millis(1));
    deliver(&hook).await.unwrap();
    // a token and an authority of one's own take the place of the account's
    let access = Access::in_cluster(host, &port, &files.path("nothing"), clock()).unwrap();
    let access = access.with_token(files.write("own.token", TOKEN)).with_authority(files.path("ca.crt"));
    deliver(&Rollout::new("k8s", workload, access)).await.unwrap();
    assert!(Access::in_cluster("", "443", files.folder(), clock()).is_err());
    assert!(Access::in_cluster("10.0.0.1", "no", files.folder(), clock()).is_err());
    assert!(Access::in_cluster("fd00::1", "443", files.folder(), clock()).is_ok());
    let (token, trust) = (files.write("t", "x"), Trust::File(files.path("ca.crt")));
    assert!(
        Access::new("http://cluster.example", token, trust, clock()).is_err(),
        "no token in clear to another machine"
    );
}
