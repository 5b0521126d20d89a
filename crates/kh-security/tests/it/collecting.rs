//! Lines on their way to a real collector.

use std::{fs, sync::Arc, time::Duration};

use kh_core::port::SecurityLog;
use kh_security::{BearerSource, Target};

use crate::{
    receiver::Receiver,
    rig::{Stored, client, failure, start, trusting, until},
};

const SENT: &str = "keyholder_security_collector_lines_total{result=\"sent\"}";

#[test]
fn the_collector_gets_what_stands_in_the_file() {
    for gzip in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let receiver = Receiver::start();
        let path = folder.path().join("security.jsonl");
        let url = format!("http://{}/ingest?index=auth", receiver.address);
        let rig = start(folder.path(), client(&url, gzip, None), Some(Target::File(path.clone())));
        for number in 0..2_000 {
            rig.log.record(failure(&number.to_string()));
        }
        until("all are there", || receiver.count() == 2_000);
        assert!(rig.log.stop(Duration::from_mins(1)));
        let file: Vec<serde_json::Value> =
            fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(receiver.received.lock().unwrap().lines, file);
        assert_eq!(rig.metric(SENT), 2_000);
        assert!(receiver.received.lock().unwrap().tokens.is_empty());
    }
}

#[test]
fn a_collector_in_trouble_costs_no_line_and_no_wait() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start();
    receiver.answer_with(503);
    let url = format!("http://{}/", receiver.address);
    let rig = start(folder.path(), client(&url, true, None), None);
    for number in 0..1_000 {
        rig.log.record(failure(&number.to_string()));
    }
    for status in [503, 401, 302, 429] {
        receiver.answer_with(status);
        let before = receiver.requests();
        until("it is tried again", || receiver.requests() > before + 1);
        assert_eq!(receiver.count(), 0);
    }
    receiver.answer_with(200);
    until("all are there", || receiver.count() == 1_000);
    assert!(rig.log.stop(Duration::from_mins(1)));
    assert_eq!(rig.metric(SENT), 1_000);
}

#[test]
fn a_new_token_is_taken_up_after_a_refusal_and_stands_in_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start();
    receiver.answer_with(401);
    let stored = Arc::new(Stored(std::sync::Mutex::new("old-COLLECTOR-TOKEN\n")));
    let bearer = BearerSource::new(Arc::clone(&stored) as _, "store:collector".parse().unwrap());
    let url = format!("http://{}/", receiver.address);
    let rig = start(folder.path(), client(&url, false, Some(bearer)), Some(Target::File(folder.path().join("log"))));
    rig.log.record(failure("a"));
    until("the old one was tried", || receiver.requests() > 0);
    *stored.0.lock().unwrap() = "new-COLLECTOR-TOKEN";
    let has_new = || receiver.received.lock().unwrap().tokens.iter().any(|token| token == "Bearer new-COLLECTOR-TOKEN");
    until("the new one is tried", has_new);
    receiver.answer_with(200);
    until("the line is there", || receiver.count() == 1);
    assert!(rig.log.stop(Duration::from_mins(1)));
    assert_eq!(receiver.received.lock().unwrap().tokens[0], "Bearer old-COLLECTOR-TOKEN");
    let mut folders = vec![folder.path().to_owned()];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            files += 1;
            assert!(!String::from_utf8_lossy(&fs::read(&path).unwrap()).contains("COLLECTOR-TOKEN"), "{path:?}");
        }
    }
    assert!(files >= 3, "log, lock and segment");
}

#[test]
fn nothing_is_sent_to_a_collector_whose_certificate_is_not_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let (receiver, pem) = Receiver::over_tls();
    let url = format!("https://localhost:{}/ingest", receiver.address.port());
    let stored = Arc::new(Stored(std::sync::Mutex::new("COLLECTOR-TOKEN")));
    let bearer = BearerSource::new(stored as _, "store:collector".parse().unwrap());
    let rig = start(folder.path(), client(&url, true, Some(bearer.clone())), None);
    rig.log.record(failure("a"));
    until("it was tried", || rig.metric("keyholder_security_collector_requests_total{result=\"later\"}") > 2);
    assert_eq!(receiver.requests(), 0);
    assert!(rig.log.stop(Duration::from_mins(1)));
    drop(rig);
    let rig = start(folder.path(), trusting(vec![pem.into_bytes()], &url, true, Some(bearer)), None);
    until("the line is there", || receiver.count() == 1);
    assert!(rig.log.stop(Duration::from_mins(1)));
    assert_eq!(receiver.received.lock().unwrap().tokens, ["Bearer COLLECTOR-TOKEN"]);
}

#[test]
fn nobody_listens_and_then_somebody_does() {
    let folder = tempfile::tempdir().unwrap();
    // a port that was just free
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let rig = start(folder.path(), client(&format!("http://{address}/"), false, None), None);
    for number in 0..10 {
        rig.log.record(failure(&number.to_string()));
    }
    let later = "keyholder_security_collector_requests_total{result=\"later\"}";
    until("it was tried", || rig.metric(later) > 2);
    assert!(rig.log.stop(Duration::from_mins(1)));
    drop(rig);
    // the next process reaches one
    let receiver = Receiver::start();
    let rig = start(folder.path(), client(&format!("http://{}/", receiver.address), false, None), None);
    until("what was left is there", || receiver.count() == 10);
    assert!(rig.log.stop(Duration::from_mins(1)));
}
