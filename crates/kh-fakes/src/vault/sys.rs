//! What is answered to everybody, sealed or not: health, seal status, leader.

use serde_json::json;

use super::{Leader, Node, State};
use crate::fake::{Reply, Request};

/// The version that it claims to be.
const VERSION: &str = "1.20.0";

/// None: not one of these paths.
pub(super) fn open_to_all(state: &State, path: &str, request: &Request, now: u64) -> Option<Reply> {
    match path {
        "sys/health" => Some(health(state, request, now)),
        // vault: api-docs/system/seal-status
        "sys/seal-status" => Some(Reply::json(
            200,
            &json!({
                "type": "shamir", "initialized": true, "sealed": state.sealed, "t": 1, "n": 1, "progress": 0,
                "nonce": "", "version": VERSION, "migration": false, "recovery_seal": false, "storage_type": "inmem",
            }),
        )),
        // vault: api-docs/system/init
        "sys/init" => Some(Reply::json(200, &json!({"initialized": true}))),
        // vault: api-docs/system/leader
        "sys/leader" => Some(Reply::json(
            200,
            &json!({
                "ha_enabled": true, "is_self": state.node == Node::Active, "performance_standby":
                    state.node == Node::PerformanceStandby,
                "leader_address": match &state.node {
                    Node::Standby(Leader::Redirects(to)) => to.clone(),
                    _ => request.origin.clone(),
                },
            }),
        )),
        _ => None,
    }
}

/// vault: http/sys_health.go, with the codes of api-docs/system/health.
fn health(state: &State, request: &Request, now: u64) -> Reply {
    let code = |name: &str, default: u16| request.parameter(name).and_then(|text| text.parse().ok()).unwrap_or(default);
    let asked =
        |name: &str| request.parameter(name).is_some_and(|text| text == "true" || text == "1" || text.is_empty());
    let active = code("activecode", 200);
    let (standby, performance) =
        (matches!(state.node, Node::Standby(_) | Node::PerformanceStandby), state.node == Node::PerformanceStandby);
    let status = match &state.node {
        _ if state.sealed => code("sealedcode", 503),
        Node::RecoverySecondary => code("drsecondarycode", 472),
        Node::PerformanceStandby if !asked("perfstandbyok") => code("performancestandbycode", 473),
        Node::Standby(_) if !asked("standbyok") => code("standbycode", 429),
        Node::Active | Node::Standby(_) | Node::PerformanceStandby => active,
    };
    if request.method == "HEAD" {
        return Reply::empty(status);
    }
    Reply::json(
        status,
        &json!({
            "initialized": true, "sealed": state.sealed, "standby": standby, "performance_standby": performance,
            "replication_performance_mode": "disabled",
            "replication_dr_mode": if state.node == Node::RecoverySecondary { "secondary" } else { "disabled" },
            "server_time_utc": now / 1000, "version": VERSION, "cluster_name": "vault-cluster-fake",
            "cluster_id": "00000000-0000-0000-0000-000000000000",
        }),
    )
}
