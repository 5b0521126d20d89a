//! What is told of whole runs, given to PagerDuty as it is: whatever opened an alert, the run's end closes it.
//!
//! Rules of the receiver: a trigger opens the alert of its `dedup_key`, a resolve closes it, and 202 is the answer to both
//! (PagerDuty/api-schema, `reference/events-v2/openapiv3.json`).

use std::{
    collections::{BTreeSet, HashSet},
    mem,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use kh_core::{
    ManualClock,
    port::{Notice, Strategy, Urgency},
};
use kh_deliver::{Channel, PagerDuty, PagerDutyRegion, SecretFile};
use kh_net::{
    Egress,
    http::{HttpClient, Timeouts},
};
use kh_rotation::{End, Level, Order, State};
use kh_rotator::{Limits, Scheduler, Standing, Wanted, open};
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::world::{Act, START, World};

/// The alerts of one service.
struct Alerts {
    url: String,
    open: Arc<Mutex<BTreeSet<String>>>,
    folder: tempfile::TempDir,
    task: JoinHandle<()>,
}

impl Drop for Alerts {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Alerts {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v2/enqueue", listener.local_addr().unwrap());
        let open: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        let shared = Arc::clone(&open);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    let service = service_fn(move |request| take(request, Arc::clone(&shared)));
                    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key"), "R0UT1NGKEY0123456789abcdef012345").unwrap();
        Self { url, open, folder, task }
    }

    fn channel(&self, threshold: Urgency) -> PagerDuty {
        let timeouts = Timeouts { connect: Duration::from_secs(10), total: Duration::from_secs(20) };
        let egress = Arc::new(Egress::trusting(&[]).unwrap());
        let client = HttpClient::new(egress, timeouts, Arc::new(ManualClock::at(START)));
        let key = SecretFile::new(self.folder.path().join("key"));
        PagerDuty::new("pd", threshold, &PagerDutyRegion::At(self.url.clone()), "here", key, client).unwrap()
    }

    fn open(&self) -> Vec<String> {
        self.open.lock().unwrap().iter().cloned().collect()
    }
}

async fn take(
    request: Request<Incoming>,
    open: Arc<Mutex<BTreeSet<String>>>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let body = request.into_body().collect().await?.to_bytes();
    let event: Value = serde_json::from_slice(&body).unwrap();
    let key = event["dedup_key"].as_str().unwrap().to_owned();
    let mut open = open.lock().unwrap();
    match event["event_action"].as_str() {
        Some("trigger") => open.insert(key),
        Some("resolve") => open.remove(&key),
        other => panic!("{other:?}"),
    };
    let mut answer = Response::new(Full::new(Bytes::from_static(b"{\"status\":\"success\"}")));
    *answer.status_mut() = StatusCode::ACCEPTED;
    Ok(answer)
}

/// As the queue does: what the way wants, in order.
async fn send(channel: &PagerDuty, notices: &[Notice]) {
    for notice in notices.iter().filter(|notice| channel.wants(notice)) {
        channel.send(notice).await.unwrap();
    }
}

/// How the run ended, and all that was told of it.
async fn ended(world: &World, wanted: &Wanted) -> (End, Vec<Notice>) {
    match world.until_standing(wanted).await.0 {
        Standing::Ended(end) => (end, world.notifier.0.lock().unwrap().clone()),
        other => panic!("{other:?}: {:#?}", world.gate.trace()),
    }
}

#[tokio::test]
async fn however_a_run_ends_its_alert_is_closed() {
    let kill = Wanted { level: Level::Kill, actor: "cli:ops".to_owned(), reason: "leaked".to_owned() };
    let mut runs = Vec::new();
    for (wanted, seed) in [(Wanted::scheduled(), 31), (kill, 32)] {
        let world = World::new(Strategy::Pair, seed);
        runs.push(ended(&world, &wanted).await);
    }
    let back = World::new(Strategy::Pair, 33);
    back.acts.lock().unwrap().push((START.plus(Duration::from_mins(10)), Act::Order(Order::Rollback)));
    runs.push(ended(&back, &Wanted::scheduled()).await);
    for (order, seed) in [(Order::Abort, 34), (Order::Abandon, 35)] {
        let world = World::new(Strategy::Pair, seed);
        let session = open(&world.boot(), &world.subject(), Some(Wanted::scheduled())).await.unwrap().unwrap();
        session.release().await;
        world.act(Act::Order(order)).await.unwrap();
        runs.push(ended(&world, &Wanted::scheduled()).await);
    }
    let ends: HashSet<_> = runs.iter().map(|(end, _)| mem::discriminant(end)).collect();
    assert_eq!(ends.len(), 5, "every end is met");

    let alerts = Alerts::start().await;
    for threshold in [Urgency::Info, Urgency::Warning, Urgency::Critical] {
        let channel = alerts.channel(threshold);
        for (end, notices) in &runs {
            let kind = match end {
                End::Completed { .. } => "rotation.completed",
                End::RolledBack { .. } => "rotation.rolled_back",
                End::Aborted { .. } => "rotation.aborted",
                End::Killed | End::Abandoned { .. } => "rotation.ended",
            };
            assert_eq!(notices.last().unwrap().kind, kind);
            let stuck = Notice {
                kind: "rotation.needs_operator".to_owned(),
                urgency: Urgency::Critical,
                ..notices.first().unwrap().clone()
            };
            send(&channel, &[stuck]).await;
            assert_eq!(alerts.open().len(), 1, "{threshold:?}: it was open");
            send(&channel, notices).await;
            assert!(alerts.open().is_empty(), "{threshold:?} {end:?}: {:?}", alerts.open());
        }
    }
}

#[tokio::test]
async fn the_alert_of_an_old_secret_is_closed_by_its_rotation() {
    let world = World::new(Strategy::Pair, 36);
    world.clock.advance(Duration::from_hours(81 * 24));
    *world.patience_from.lock().unwrap() = world.now();
    let scheduler = Scheduler::new(world.boot(), vec![world.subject()], Limits::default());
    let stop = CancellationToken::new();
    for rounds in 0.. {
        assert!(rounds < 1000, "it never ends");
        let tasks = TaskTracker::new();
        tasks.close();
        scheduler.round(&tasks, &stop).await.unwrap();
        tasks.wait().await;
        if world.newest().await.is_some_and(|run| run.state() == State::Completed) {
            break;
        }
        world.pass_until(world.now().plus(Duration::from_secs(30))).await;
    }
    let notices = world.notifier.0.lock().unwrap().clone();
    let (of_age, of_run): (Vec<Notice>, Vec<Notice>) = notices.into_iter().partition(|notice| notice.run.is_none());
    let alerts = Alerts::start().await;
    let channel = alerts.channel(Urgency::Warning);
    send(&channel, &of_age).await;
    assert_eq!(alerts.open(), ["keyholder/age/acme-prod"]);
    send(&channel, &of_run).await;
    assert!(alerts.open().is_empty(), "{:?}", alerts.open());
}
