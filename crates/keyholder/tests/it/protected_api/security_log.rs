//! `--security-log` of the short form: what stands in the file, its rotation, and that lost lines are counted.

use std::{fs, path::Path};

use serde_json::json;

use super::{Api, Protected, claims, tokens::Key};
use crate::{harness::eventually, security_log::lines, telemetry::value};

const WRITTEN: &str = r#"keyholder_security_log_lines_total{result="written"}"#;
const FAILED: &str = r#"keyholder_security_log_lines_total{result="failed"}"#;

/// The reasons in a file, whose lines are valid by the published schema.
fn reasons(file: &Path) -> Vec<String> {
    lines(file).iter().map(|line| line["status_code"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_refused_request_is_one_line_and_a_renamed_file_is_opened_anew() {
    let (api, key) = (Api::start(), Key::new("k1"));
    let flags = ["--audience", "reports-api", "--metrics", "127.0.0.1:0", "--security-log", "who.jsonl"];
    let gateway = Protected::start(&api, &[&key], &flags);
    let (file, renamed) = (gateway.folder.path().join("who.jsonl"), gateway.folder.path().join("who.1.jsonl"));
    let (good, expired) = (key.sign(&claims(&json!({}))), key.sign(&claims(&json!({ "exp": 1 }))));
    assert!(value(&gateway.scrape(), WRITTEN) < 0.5, "the series is there from the start");
    assert_eq!(gateway.bearer("/reports/7", &good), 200);
    assert_eq!(gateway.call("GET", "/reports/7", "").status, 401);
    eventually(&true, || value(&gateway.scrape(), WRITTEN) >= 1.0);
    fs::rename(&file, &renamed).unwrap();
    gateway.process.signal("HUP");
    eventually(&true, || file.exists());
    assert_eq!(gateway.bearer("/reports/7", &expired), 401);
    let (code, said) = gateway.process.stop();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!((reasons(&renamed), reasons(&file)), (vec!["token_missing".to_owned()], vec!["expired".to_owned()]));
    let signature = expired.rsplit('.').next().unwrap();
    assert!(!fs::read_to_string(&file).unwrap().contains(signature), "no token is told");
}

#[test]
fn lines_that_the_disk_does_not_take_are_counted() {
    let (api, key) = (Api::start(), Key::new("k1"));
    let flags = ["--metrics", "127.0.0.1:0", "--security-log", "/dev/full"];
    let gateway = Protected::start(&api, &[&key], &flags);
    for _ in 0..3 {
        assert_eq!(gateway.call("GET", "/reports/7", "").status, 401);
    }
    eventually(&true, || value(&gateway.scrape(), FAILED) >= 3.0);
    let good = key.sign(&claims(&json!({})));
    assert_eq!(gateway.bearer("/reports/7", &good), 200, "and nobody is held up");
}
