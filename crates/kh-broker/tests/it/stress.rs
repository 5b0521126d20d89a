//! Seeded disorder on several threads: callers, cancellations, reports, new versions and a flaky endpoint at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kh_core::{Entropy, ManualClock, SeededEntropy, UnixMillis};
use kh_token::TokenPolicy;
use tokio::{runtime::Handle, task::JoinSet};

use crate::fakes::{Answer, Bench};

const TASKS: u64 = 16;
const STEPS: u64 = 100;

/// So many leases must be handed out in the disorder. On a slow machine callers lose their patience more often, and the
/// disorder goes on until there are as many.
const SERVED: u64 = TASKS * STEPS / 10;

/// The end of all patience.
const STEPS_MAX: u64 = 50 * STEPS;

async fn disorder(seed: u64) {
    let clock = ManualClock::at(UnixMillis(1_800_000_000_000));
    let policy = TokenPolicy { store_poll: Duration::from_millis(250), ..TokenPolicy::default() };
    let bench = Arc::new(Bench::with(&[], "right", policy, Arc::new(clock.clone()), Handle::current()));
    let mut tasks = JoinSet::new();
    let all = Arc::new(AtomicU64::new(0));
    for task in 0..TASKS {
        let (bench, clock, all) = (Arc::clone(&bench), clock.clone(), Arc::clone(&all));
        tasks.spawn(async move {
            let dice = SeededEntropy::new(seed * 1000 + task);
            for step in 0..STEPS_MAX {
                if step >= STEPS && all.load(Ordering::SeqCst) > SERVED {
                    break;
                }
                match dice.below(20) {
                    0 => {
                        if let Some(lease) = bench.credential.current() {
                            bench.credential.invalidate(lease.sha256());
                        }
                    }
                    // A pause that a failure or a storm asked for ends only when somebody moves the clock.
                    1..=3 => clock.advance(Duration::from_millis(dice.below(40_000))),
                    4 => bench.endpoint.then(Answer::Down),
                    5 => bench.endpoint.then(Answer::Token { life: 1 + dice.below(60) }),
                    6 => bench.store.write("right"),
                    7 => {
                        let wait = Duration::from_micros(dice.below(200));
                        drop(tokio::time::timeout(wait, bench.lease()).await);
                    }
                    8 => tokio::task::yield_now().await,
                    _ => {
                        let patience = Duration::from_millis(20);
                        let min_ttl = Duration::from_secs(dice.below(2) * 10);
                        let lease = tokio::time::timeout(patience, bench.credential.lease(min_ttl)).await;
                        all.fetch_add(u64::from(matches!(lease, Ok(Ok(_)))), Ordering::SeqCst);
                    }
                }
            }
        });
    }
    tasks.join_all().await;
    let served = all.load(Ordering::SeqCst);
    assert!(served > SERVED, "seed {seed}: only {served} leases");
    assert!(!bench.endpoint.overlapped.load(Ordering::SeqCst), "seed {seed}: two fetches at once");
    assert!(bench.endpoint.calls() > 10, "seed {seed}: the disorder reached the endpoint");
    // Whatever happened, with a working endpoint and time passing the next caller is served.
    bench.endpoint.clear();
    let patient = async {
        loop {
            clock.advance(Duration::from_secs(30));
            if let Ok(Ok(lease)) = tokio::time::timeout(Duration::from_millis(50), bench.lease()).await {
                return lease;
            }
        }
    };
    let lease = tokio::time::timeout(Duration::from_secs(20), patient).await.expect("nobody is stranded");
    assert!(lease.generation() > 0);
    bench.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn disorder_never_overlaps_fetches_and_never_strands_anybody() {
    for seed in 1..=3 {
        disorder(seed).await;
    }
}
