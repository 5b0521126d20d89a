//! The access log's lines, its queue, its rotation and its misfortunes.

use std::{net::Ipv4Addr, os::unix::fs::PermissionsExt, path::Path, thread};

use kh_core::{
    Code, UnixMillis,
    port::{
        observer::{Attempt, Ended, RequestTrace},
        security::Told,
    },
    trace::TraceContext,
};
use serde_json::Value;

use super::*;

/// A request with everything.
fn full() -> Finished {
    let context = TraceContext::parse(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
    Finished {
        began: UnixMillis(1_790_000_000_123),
        took: Duration::from_micros(12_345),
        head_took: Some(Duration::from_micros(2_500)),
        method: "POST".into(),
        path: Some("/api/v2/users/6c5f4b1e".into()),
        http_version: "1.1",
        secure: true,
        peer: Some(Ipv4Addr::LOCALHOST.into()),
        user_agent: Some("sdk/1 \"quoted\"".into()),
        status: Some(502),
        outcome: Some("failed"),
        code: Some(Code::UPSTREAM_TIMEOUT),
        client: Some("0190a1b2-0000-7000-8000-000000000000".parse().unwrap()),
        client_name: Some("billing".parse().unwrap()),
        route: None,
        caller: Some(Told::new("reports")),
        credential: Some("acme".parse().unwrap()),
        correlation_id: Some("c-1".into()),
        bytes_in: 5,
        bytes_out: 7,
        ended: Ended::Complete,
        trace: Some(RequestTrace { context, parent: None }),
        attempts: vec![Attempt {
            span: None,
            after: Duration::ZERO,
            took: Duration::from_millis(2),
            host: "api.example".into(),
            port: 443,
            secure: true,
            status: Some(503),
            error: Some("timeout"),
        }],
    }
}

fn rendered(request: &Finished, form: Form) -> String {
    let mut lines = Vec::new();
    line::write(request, form, &mut lines);
    String::from_utf8(lines).unwrap()
}

#[test]
fn a_json_line_has_the_documented_fields_and_no_other() {
    let text = rendered(&full(), Form::Json);
    assert!(text.ends_with("}\n") && text.matches('\n').count() == 1, "{text}");
    let line: Value = serde_json::from_str(&text).unwrap();
    let mut found: Vec<&str> = line.as_object().unwrap().keys().map(String::as_str).collect();
    let mut documented: Vec<&str> = FIELDS.iter().map(|(name, ..)| *name).collect();
    found.sort_unstable();
    documented.sort_unstable();
    assert_eq!(found, documented);
    for (name, kind, _) in FIELDS {
        let fits = match *kind {
            "text" => line[name].is_string(),
            "number" => line[name].is_number(),
            "flag" => line[name].is_boolean(),
            _ => false,
        };
        assert!(fits, "{name} is {}", line[name]);
    }
    assert_eq!(line["timestamp"], "2026-09-21T14:13:20.123Z");
    assert_eq!((line["duration_ms"].as_f64(), line["route"].as_str()), (Some(12.345), Some("/api/v2/users/{id}")));
}

#[test]
fn a_request_to_a_protected_api_is_told_by_its_route_and_its_caller() {
    let caller = Some(Told::new("night\nly reports"));
    let request = Finished { route: Some("GET /users/{id}".into()), client: None, client_name: None, caller, ..full() };
    let line: Value = serde_json::from_str(&rendered(&request, Form::Json)).unwrap();
    assert_eq!(
        (line["route"].as_str(), line["caller"].as_str()),
        (Some("GET /users/{id}"), Some("night\u{fffd}ly reports"))
    );
    assert!(rendered(&request, Form::Text).starts_with("127.0.0.1 - night\u{fffd}ly_reports ["));
}

#[test]
fn a_line_for_people() {
    let expected = "127.0.0.1 - billing [2026-09-21T14:13:20.123Z] \"POST /api/v2/users/6c5f4b1e HTTP/1.1\" 502 7 \"-\" \
                    \"sdk/1 ?quoted?\" 12.345 failed complete\n";
    assert_eq!(rendered(&full(), Form::Text), expected);
}

#[test]
fn what_a_caller_sends_forges_no_line_and_tells_no_token() {
    let token = "kht_".to_owned() + &"A".repeat(40);
    let long = "x".repeat(25);
    let secret = "q3Jx0vT8bKc5mZr2Yw7LdPf1Ng4Hs6Ae9Uo-Ii_Qt5E";
    for (path, hidden) in [
        (format!("/api/v2/tokens/{token}/x"), token.as_str()),
        ("/api/v2/users/eyJhbGciOi.eyJzdWIi.c2ln".to_owned(), "eyJ"),
        (format!("/api/v2/{long}"), long.as_str()),
        (format!("/api/v2/users/{secret}"), secret),
    ] {
        let request = Finished { path: Some(path.into()), ..full() };
        for form in [Form::Json, Form::Text] {
            let text = rendered(&request, form);
            assert!(text.contains("[redacted]") && !text.contains(hidden), "{text}");
        }
    }
    for path in
        ["/api/v2/users/6c5f4b1e-0000-4000-8000-0123456789ab", "/api/v2/users/me", "/api/v2/wfm/agents/jane.doe"]
    {
        let request = Finished { path: Some(path.into()), ..full() };
        assert!(rendered(&request, Form::Text).contains(path), "{path} is told");
    }
    let request = Finished { path: Some("/a\"b\nc d".into()), method: "G\u{1b}T".into(), ..full() };
    for form in [Form::Json, Form::Text] {
        assert_eq!(rendered(&request, form).matches(['\n', '\u{1b}']).count(), 1);
    }
}

fn counts(log: &AccessLog) -> [u64; 3] {
    let counters = log.0.counters();
    [counters.written.get(), counters.dropped.get(), counters.failed.get()]
}

fn start(path: &Path) -> AccessLog {
    AccessLog::start(&Target::File(path.to_owned()), Form::Json, &mut Registry::default()).unwrap()
}

#[test]
fn everything_taken_is_written_before_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let log = start(&path);
    let request = Arc::new(full());
    for _ in 0..5_000 {
        log.tell(&request);
    }
    assert!(log.stop(Duration::from_mins(1)));
    let lines = std::fs::read_to_string(&path).unwrap().lines().count() as u64;
    assert_eq!(counts(&log), [lines, 5_000 - lines, 0]);
    assert!(lines > 0);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o007, 0, "others read nothing");
}

#[test]
fn a_writer_that_stands_still_costs_lines_and_never_a_wait() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    // both ends are held open here and nobody reads: the writer blocks once the pipe is full
    let held = std::fs::OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
    let log = start(&fifo);
    let request = Arc::new(full());
    for _ in 0..4 * QUEUE {
        log.tell(&request);
    }
    assert!(counts(&log)[1] > QUEUE as u64, "{:?}", counts(&log));
    assert!(!log.stop(Duration::from_millis(1)), "the end does not wait for it either");
    drop(held);
}

#[test]
fn a_full_disk_is_counted_and_a_reopened_file_works_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    let log = start(&path);
    let request = Arc::new(full());
    log.tell(&request);
    until(|| counts(&log)[2] == 1);
    std::fs::remove_file(&path).unwrap();
    log.reopen();
    log.tell(&request);
    until(|| counts(&log)[0] == 1);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), rendered(&request, Form::Json));
}

#[test]
fn rotation_loses_and_doubles_no_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let log = start(&path);
    for round in 0..20_u64 {
        let request = Arc::new(Finished { bytes_in: round, ..full() });
        log.tell(&request);
        std::fs::rename(&path, folder.path().join(format!("access.log.{round}"))).unwrap();
        log.reopen();
        until(|| path.exists());
    }
    assert!(log.stop(Duration::from_mins(1)));
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        for line in std::fs::read_to_string(entry.unwrap().path()).unwrap().lines() {
            seen.push(serde_json::from_str::<Value>(line).unwrap()["bytes_in"].as_u64().unwrap());
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..20).collect::<Vec<_>>());
}

/// Polls a bounded number of times.
fn until(held: impl Fn() -> bool) {
    for _ in 0..3_000 {
        if held() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("it never came true");
}
