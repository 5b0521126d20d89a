//! The platform fails at every call of a rotation, in each way in which a call can fail.
//!
//! Invariants: those of the kills, and each kind of fault struck the call that makes the secret.

use serde_json::{Value, json};

use super::{
    rig::{Rig, Way},
    world::KEYS,
};

/// Calls of a rotation besides the one that makes a secret; each fails the first time it is made.
const CALLS: [(&str, &str); 9] = [
    ("GET", "/api/v2/oauth/clients"),
    ("GET", "/api/v2/oauth/clients/{clientId}"),
    ("PUT", "/api/v2/oauth/clients/{clientId}"),
    ("DELETE", "/api/v2/oauth/clients/{clientId}"),
    ("DELETE", "/api/v2/oauth/clients/{clientId}/secrets/{secretId}"),
    ("GET", KEYS),
    ("GET", "/access-key-management/v1/access-keys/{accessKeyId}"),
    ("PATCH", KEYS),
    ("DELETE", "/access-key-management/v1/access-keys/{accessKeyId}"),
];

fn rules(way: Way, effect: &Value) -> Value {
    let calls = [("POST", way.making())].into_iter().chain(CALLS);
    let rule = |(method, endpoint): (&str, &str)| json!({ "match": { "method": method, "endpoint": endpoint, "first": 1 }, "effect": effect });
    calls.map(rule).collect()
}

fn fails_everywhere(way: Way) {
    let rig = Rig::new(way);
    let effects = [
        json!({ "kind": "drop_after" }),
        json!({ "kind": "drop_before" }),
        json!({ "kind": "status", "status": 503 }),
        json!({ "kind": "delay", "ms": 300 }),
    ];
    for effect in effects {
        rig.faults(&rules(way, &effect));
        let processes = rig.to_the_end();
        let struck = rig.struck();
        rig.faults(&json!([]));
        let run = rig.newest();
        println!("{way:?}, {effect}: {struck:?}, {} attempts, {processes} processes", run.attempts());
        assert_eq!(struck[0], 1, "{effect} struck the call that makes a secret");
        assert!(struck.iter().sum::<u64>() >= 2 || way == Way::Swap, "{struck:?}");
        // an answer that was lost is never asked for again under the same intent
        let lost = effect["kind"] == "drop_after";
        // a read that comes before the second call may fail as well, which costs one more intent
        assert!(!lost || (2..=3).contains(&run.attempts()), "{effect}: {} attempts", run.attempts());
        rig.is_completed();
        rig.next_day();
    }
    assert_eq!(rig.lost(), 1, "one answer was lost, and what it made is deleted or replaced");
    rig.run(&["audit", "verify"]).done();
}

/// Of a swap the answer of a regenerate is lost: the old secret is dead, and the second rotator regenerates under a new
/// intent. All run at the same time, because each mostly waits.
#[test]
fn every_strategy_ends_although_every_call_fails_once() {
    std::thread::scope(|scope| {
        for way in Way::ALL {
            scope.spawn(move || fails_everywhere(way));
        }
    });
}
