//! The end: load balancers are told first, and no answer is cut.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use serde_json::json;

use crate::harness::{Installation, Login, PATIENCE, Server, eventually, request};

const USERS: &str = "/api/v2/users?pageSize=1";

/// Calls that are in flight when the signal comes.
const HELD: usize = 40;

/// How long the platform holds them: longer than the signal takes, shorter than the deadline.
const HOLD_MS: u64 = 3_000;

const LIMITS: &str = "
[limits]
requests_per_token = 1000000
requests_per_client_minute = 1000000
";

/// What became of one call.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// A whole answer.
    Whole(u16),
    /// Nobody listens any more.
    Refused,
    /// Connected, and then less than an answer.
    Cut(String),
}

/// One call on a connection of its own, judged by what was read.
fn call(host: &str, bearer: &str, path: &str) -> Ended {
    let Ok(mut stream) = TcpStream::connect(host) else { return Ended::Refused };
    stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nAuthorization: {bearer}\r\n\r\n");
    if let Err(error) = stream.write_all(head.as_bytes()) {
        return Ended::Cut(format!("write: {error}"));
    }
    let mut raw = Vec::new();
    let ended = stream.read_to_end(&mut raw);
    let text = String::from_utf8_lossy(&raw).into_owned();
    if let Err(error) = ended {
        return Ended::Cut(format!("read: {error} after {text:?}"));
    }
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return Ended::Cut(format!("no head in {text:?}")) };
    let length: Option<usize> =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let whole = match length {
        Some(length) => body.len() == length,
        None => body.ends_with("0\r\n\r\n"),
    };
    match head.split(' ').nth(1).and_then(|status| status.parse().ok()) {
        Some(status) if whole => Ended::Whole(status),
        _ => Ended::Cut(format!("{} bytes of body after {head:?}", body.len())),
    }
}

fn metric(server: &Server, name: &str) -> u64 {
    let metrics = request("GET", &format!("{}/metrics", server.admin()), &[], b"");
    let metrics = String::from_utf8(metrics.body).unwrap();
    metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0)
}

fn served(limits: &str) -> (Installation, Login, Server) {
    let installation = Installation::with(LIMITS, "");
    let file = installation.path("keyholder.toml");
    let section = format!("[gateway.limits]\n{limits}\n[admin]");
    std::fs::write(&file, std::fs::read_to_string(&file).unwrap().replacen("[admin]", &section, 1)).unwrap();
    let login = installation.add_client("app", &["--credential", "genesys", "--allow-all"]);
    let server = installation.serve();
    (installation, login, server)
}

#[test]
fn sigterm_under_load_cuts_no_answer() {
    let (installation, login, mut server) = served("drain_delay = \"2s\"\ndrain = \"20s\"");
    let bearer = format!("Bearer {}", server.login(&login));
    let host = server.gateway().strip_prefix("http://").unwrap().to_owned();
    assert_eq!(call(&host, &bearer, USERS), Ended::Whole(200));
    let rule = json!({ "match": { "method": "GET", "path": "/api/v2/routing/queues" }, "effect": { "kind": "delay", "ms": HOLD_MS } });
    installation.sandbox.control("PUT", "faults", &json!({ "rules": [rule] }));
    let held: Vec<_> = (0..HELD)
        .map(|_| {
            let (host, bearer) = (host.clone(), bearer.clone());
            std::thread::spawn(move || call(&host, &bearer, "/api/v2/routing/queues"))
        })
        .collect();
    let over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (host, bearer, over) = (host.clone(), bearer.clone(), Arc::clone(&over));
            std::thread::spawn(move || {
                let mut all = Vec::new();
                while !over.load(Ordering::SeqCst) && all.last() != Some(&Ended::Refused) {
                    all.push(call(&host, &bearer, USERS));
                }
                all
            })
        })
        .collect();
    let all_in_flight = || in_flight(&server) >= HELD as u64;
    eventually(&true, all_in_flight);
    server.process.signal("TERM");
    let ready = format!("{}/readyz", server.admin());
    eventually(&503, || request("GET", &ready, &[], b"").status);
    assert_eq!(call(&host, &bearer, USERS), Ended::Whole(200), "calls are taken until load balancers have noticed");
    assert_eq!(request("GET", &format!("{}/livez", server.admin()), &[], b"").status, 200);
    assert!(all_in_flight(), "the metrics are there to the end");
    for held in held {
        assert_eq!(held.join().unwrap(), Ended::Whole(200));
    }
    let all: Vec<Ended> = callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect();
    over.store(true, Ordering::SeqCst);
    let cut: Vec<_> = all.iter().filter(|ended| matches!(ended, Ended::Cut(_))).collect();
    let whole = all.iter().filter(|ended| **ended == Ended::Whole(200)).count();
    println!("{HELD} held calls and {whole} others finished, {} cut", cut.len());
    assert!(cut.is_empty(), "{} of {} answers were cut: {:?}", cut.len(), all.len(), cut.first());
    assert!(whole > 20 && all.iter().filter(|ended| **ended == Ended::Refused).count() == 4, "{whole}");
    assert_eq!(server.process.end(), Some(0));
    assert!(server.process.said().contains("stopped"), "{}", server.process.said());
    assert!(!server.process.said().contains("requests unfinished"), "{}", server.process.said());
}

/// A server with one call in flight, which the platform holds for as long as the test runs.
fn holding(drain: &str) -> (Installation, Server, JoinHandle<Ended>) {
    let (installation, login, server) = served(&format!("drain = \"{drain}\""));
    let bearer = format!("Bearer {}", server.login(&login));
    let host = server.gateway().strip_prefix("http://").unwrap().to_owned();
    assert_eq!(call(&host, &bearer, USERS), Ended::Whole(200));
    let rule = json!({ "match": { "method": "GET", "path": "/api/v2/routing/queues" }, "effect": { "kind": "delay", "ms": 3_600_000 } });
    installation.sandbox.control("PUT", "faults", &json!({ "rules": [rule] }));
    let held = std::thread::spawn(move || call(&host, &bearer, "/api/v2/routing/queues"));
    eventually(&1, || in_flight(&server));
    (installation, server, held)
}

fn in_flight(server: &Server) -> u64 {
    metric(server, "keyholder_gateway_in_flight_requests ")
}

/// It ends well, though a call is not finished: had it waited for that, until the caller gives up after a minute, then
/// nothing would be unfinished.
fn is_cut_short(mut server: Server, held: JoinHandle<Ended>) {
    assert_eq!(server.process.end(), Some(0));
    let said = server.process.said();
    assert!(said.contains("stopping: requests in flight may finish"), "{said}");
    assert!(said.contains("stopped with requests unfinished"), "{said}");
    assert_ne!(held.join().unwrap(), Ended::Whole(200));
}

#[test]
fn the_deadline_ends_what_does_not_finish() {
    let (_installation, server, held) = holding("1s");
    server.process.signal("TERM");
    is_cut_short(server, held);
}

/// The deadline is far beyond what the harness waits for an end, so only the second signal can bring it.
#[test]
fn a_second_signal_ends_at_once() {
    let (_installation, server, held) = holding(&format!("{}s", 12 * PATIENCE.as_secs()));
    server.process.signal("TERM");
    let ready = format!("{}/readyz", server.admin());
    eventually(&503, || request("GET", &ready, &[], b"").status);
    assert_eq!(in_flight(&server), 1, "after the first signal the call may finish");
    server.process.signal("TERM");
    is_cut_short(server, held);
}
