//! The frame itself, with the smallest fake: a counter.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use kh_fakes::{Entry, Fake, FakeClock, Fault, Options, Reply, Request, Running, start};
use serde_json::{Value, json};

use crate::client::{Answer, ask};

#[derive(Default)]
struct Counter(AtomicU64);

impl Fake for Counter {
    fn operation(&self, request: &Request) -> String {
        if request.method == "POST" { "count.add" } else { "count.read" }.to_owned()
    }
    fn answer(&self, request: &Request, clock: &FakeClock) -> Reply {
        if request.method == "POST" {
            let count = self.0.fetch_add(1, Ordering::SeqCst) + 1;
            return Reply::json(200, &json!({"count": count, "now": clock.now_ms()})).changed();
        }
        Reply::json(200, &json!({"count": self.0.load(Ordering::SeqCst), "x": request.parameter("x")}))
    }
    fn forbidden(&self) -> Reply {
        Reply::empty(403)
    }
    fn throttled(&self, retry_after_seconds: Option<u64>) -> Reply {
        Reply::empty(429).with("retry-after", &retry_after_seconds.unwrap_or(0).to_string())
    }
    fn failed(&self) -> Reply {
        Reply::empty(500)
    }
    fn credentials(&self) -> Value {
        json!({"token": "counter-token"})
    }
    fn command(&self, name: &str, argument: &Value) -> Result<Value, String> {
        match name {
            "set" => {
                self.0.store(argument.as_u64().ok_or("not a number")?, Ordering::SeqCst);
                Ok(Value::Null)
            }
            other => Err(format!("{other}?")),
        }
    }
}

async fn counter() -> Running {
    start(Arc::new(Counter::default()), Options::default()).await.unwrap()
}

async fn add(running: &Running) -> Option<Answer> {
    ask(running.address, "POST", "/n", &[("authorization", "hunter2")], b"hunter3".to_vec()).await.ok()
}

async fn count(running: &Running) -> u64 {
    let answer = ask(running.address, "GET", "/n?x=a%20b", &[], Vec::new()).await.unwrap();
    assert_eq!(answer.json()["x"], "a b");
    answer.json()["count"].as_u64().unwrap()
}

#[tokio::test]
async fn faults_come_before_or_after_the_service_did_its_work() {
    let running = counter().await;
    for (fault, status, counted) in [
        (Fault::DropBefore, None, 0),
        (Fault::DropAfter, None, 1),
        (Fault::Forbid, Some(403), 0),
        (Fault::Throttle { retry_after_seconds: Some(7) }, Some(429), 0),
        (Fault::FailBefore, Some(500), 0),
        (Fault::FailAfter, Some(500), 1),
        (Fault::Answer { status: 418, body: "<html>".to_owned() }, Some(418), 0),
    ] {
        let before = (count(&running).await, running.control.changes());
        running.control.fault(fault.clone().once().on("count.add"));
        let answer = add(&running).await;
        assert_eq!(answer.as_ref().map(|answer| answer.status), status, "{fault:?}");
        let after = (count(&running).await, running.control.changes());
        assert_eq!((after.0 - before.0, after.1 - before.1), (counted, counted), "{fault:?}");
        assert_eq!(add(&running).await.unwrap().status, 200, "a fault ends");
    }
}

#[tokio::test]
async fn a_held_request_is_done_after_those_that_came_later() {
    let running = counter().await;
    running.control.fault(Fault::HoldFor { requests: 2 }.once().on("count.add"));
    let mut held = std::pin::pin!(add(&running));
    let mut later = 0;
    let held = loop {
        tokio::select! {
            biased;
            held = &mut held => break held,
            _ = count(&running) => {}
        }
        later += 1;
        assert!(later < 1_000, "the held request is done in the end");
    };
    assert_eq!(held.unwrap().json()["count"], 1);
    let journal = running.control.journal();
    let done = journal.iter().position(|entry| entry.changed).unwrap();
    let overtook = |entry: &&Entry| entry.number > journal[done].number;
    assert!(journal[..done].iter().any(|entry| overtook(&entry)), "one that came later was done before: {journal:?}");
}

#[tokio::test]
async fn the_journal_tells_what_was_asked_and_no_secret() {
    let running = counter().await;
    running.control.fault(Fault::DropAfter.once().on("count.add"));
    add(&running).await;
    count(&running).await;
    let told: Vec<_> =
        running.control.journal().iter().map(|e| (e.number, e.operation.clone(), e.changed, e.answered)).collect();
    assert_eq!(told, [(1, "count.add".to_owned(), true, false), (2, "count.read".to_owned(), false, true)]);
    let text = serde_json::to_string(&running.control.journal()).unwrap();
    assert!(!text.contains("hunter") && !text.contains("a%20b"), "{text}");
}

#[tokio::test]
async fn other_languages_steer_it_by_requests() {
    let running = counter().await;
    let steer = |method: &'static str, path: &'static str, body: &'static str| {
        ask(running.address, method, path, &[], body.as_bytes().to_vec())
    };
    assert_eq!(steer("POST", "/_fake/set", "41").await.unwrap().status, 200);
    assert_eq!(add(&running).await.unwrap().json()["count"], 42);
    assert_eq!(steer("POST", "/_fake/unknown", "").await.unwrap().status, 400);
    assert_eq!(steer("POST", "/_fake/faults", r#"{"fault":"forbid"}"#).await.unwrap().status, 200);
    assert_eq!(add(&running).await.unwrap().status, 403);
    assert_eq!(steer("POST", "/_fake/faults", r#"{"fault":"forbid","times":9}"#).await.unwrap().status, 200);
    assert_eq!(steer("DELETE", "/_fake/faults", "").await.unwrap().status, 200);
    let before = add(&running).await.unwrap().json()["now"].as_u64().unwrap();
    assert_eq!(steer("POST", "/_fake/clock", r#"{"shift_seconds":3600}"#).await.unwrap().status, 200);
    assert!(add(&running).await.unwrap().json()["now"].as_u64().unwrap() >= before + 3_600_000);
    let journal = steer("GET", "/_fake/journal", "").await.unwrap().json();
    assert_eq!(journal.as_array().unwrap().len(), 4, "steering is not journalled");
}

#[tokio::test]
async fn it_speaks_tls_with_a_ca_of_its_own_and_ends_with_its_handle() {
    let running = start(Arc::new(Counter::default()), Options::tls()).await.unwrap();
    let ready = running.ready();
    assert_eq!(ready["token"], "counter-token");
    assert!(ready["url"].as_str().unwrap().starts_with("https://127.0.0.1:"));
    let pem = ready["ca_pem"].as_str().unwrap().as_bytes();
    let mut roots = rustls::RootCertStore::empty();
    for certificate in rustls::pki_types::pem::PemObject::pem_slice_iter(pem) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = tokio::net::TcpStream::connect(running.address).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    connector.connect(name, stream).await.unwrap();
    let address = running.address;
    drop(running);
    let mut tries = 0;
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        tries += 1;
        assert!(tries < 10_000, "the port is closed");
        tokio::task::yield_now().await;
    }
}
