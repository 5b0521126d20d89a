//! The dashboard and the alert rules name metrics and labels that exist.

use std::process::Command;

use kh_core::metric::{self, Kind};
use serde_json::Value;

use super::repository;

/// Labels that Prometheus adds, and those of histograms.
const ADDED: [&str; 3] = ["job", "instance", "le"];

/// Metrics that Prometheus makes itself.
const MADE: [&str; 1] = ["up"];

/// Every metric of an expression with the labels of its selector.
fn selectors(expression: &str) -> Vec<(String, Vec<String>)> {
    let word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(at) = rest.find(|letter: char| letter.is_ascii_lowercase()) {
        let name: String = rest[at..].chars().take_while(|letter| word(*letter)).collect();
        rest = &rest[at + name.len()..];
        if name.starts_with("keyholder_") || name.starts_with("process_") || MADE.contains(&name.as_str()) {
            let inside = rest.strip_prefix('{').and_then(|inside| inside.split_once('}'));
            let (labels, after) = inside.unwrap_or(("", rest));
            rest = after;
            let labels = labels.split(',').filter_map(|label| label.split(['=', '!']).next());
            found.push((name, labels.map(|label| label.trim().to_owned()).filter(|label| !label.is_empty()).collect()));
        }
    }
    found
}

/// The words of `by (...)` and `on (...)`.
fn grouped(expression: &str) -> Vec<String> {
    let lists = expression.match_indices("by (").chain(expression.match_indices("on ("));
    lists
        .filter_map(|(at, start)| expression[at + start.len()..].split_once(')'))
        .flat_map(|(inside, _)| inside.split(',').map(|label| label.trim().to_owned()))
        .collect()
}

fn row_of(series: &str) -> Option<&'static metric::Metric> {
    metric::METRICS.iter().find(|row| {
        let suffixes: &[&str] = match row.kind {
            Kind::Counter => &["_total"],
            Kind::Gauge => &[""],
            Kind::Histogram => &["_bucket", "_sum", "_count"],
            Kind::Info => &["_info"],
        };
        suffixes.iter().any(|suffix| series.strip_suffix(suffix) == Some(row.name))
    })
}

/// What is wrong with an expression.
fn mistakes(expression: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut known: Vec<&str> = ADDED.to_vec();
    for (name, labels) in selectors(expression) {
        if MADE.contains(&name.as_str()) {
            continue;
        }
        let Some(row) = row_of(&name) else {
            found.push(format!("there is no series {name}"));
            continue;
        };
        known.extend(row.labels);
        for label in
            labels.iter().filter(|label| !row.labels.contains(&label.as_str()) && !ADDED.contains(&label.as_str()))
        {
            found.push(format!("{name} has no label {label}"));
        }
    }
    found.extend(
        grouped(expression)
            .into_iter()
            .filter(|label| !known.contains(&label.as_str()))
            .map(|label| format!("no metric here has the label {label}")),
    );
    found
}

#[test]
fn mistakes_are_found() {
    for (expression, count) in [
        ("sum by (outcome) (rate(keyholder_gateway_requests_total{job=\"a\",status!=\"5xx\"}[5m]))", 0),
        ("keyholder_gateway_requests", 1),
        ("keyholder_no_such_total + process_open_fds", 1),
        ("keyholder_gateway_requests_total{method=\"GET\"}", 1),
        ("sum by (method) (keyholder_gateway_requests_total)", 1),
        ("keyholder_gateway_request_duration_seconds_bucket", 0),
        ("keyholder_gateway_request_duration_seconds", 1),
    ] {
        assert_eq!(mistakes(expression).len(), count, "{expression}: {:?}", mistakes(expression));
    }
}

#[test]
fn every_panel_of_the_dashboard_shows_a_metric_that_exists() {
    let dashboard: Value = serde_json::from_str(&repository("deploy/grafana/keyholder.json")).unwrap();
    for member in ["title", "uid", "schemaVersion", "panels", "templating", "time", "__requires"] {
        assert!(!dashboard[member].is_null(), "an importable dashboard has {member}");
    }
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    assert!(variables.iter().any(|variable| variable["type"] == "datasource" && variable["name"] == "datasource"));
    let (mut ids, mut expressions) = (Vec::new(), Vec::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        ids.push(panel["id"].as_u64().unwrap());
        let place = &panel["gridPos"];
        assert!(place["x"].as_u64().unwrap() + place["w"].as_u64().unwrap() <= 24, "{panel}");
        if panel["type"] == "row" {
            continue;
        }
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{}", panel["title"]);
        expressions.extend(targets.iter().map(|target| target["expr"].as_str().unwrap().to_owned()));
    }
    let unique = ids.iter().collect::<std::collections::BTreeSet<_>>().len();
    assert_eq!(unique, ids.len(), "panel ids are unique");
    let queries = variables.iter().filter_map(|variable| variable["query"]["query"].as_str());
    let all: Vec<String> = expressions.iter().cloned().chain(queries.map(str::to_owned)).collect();
    let wrong: Vec<_> = all.iter().map(|expression| (expression, mistakes(expression))).collect();
    let wrong: Vec<_> = wrong.into_iter().filter(|(_, mistakes)| !mistakes.is_empty()).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    // what an on-call person needs
    for needed in [
        "keyholder_gateway_requests_total",
        "keyholder_gateway_request_duration_seconds_bucket",
        "keyholder_gateway_token_heals_total",
        "keyholder_token_age_seconds",
        "keyholder_token_expires_in_seconds",
        "keyholder_token_fetches_total",
        "keyholder_gateway_upstream_errors_total",
        "keyholder_config_reloads_total",
        "keyholder_gateway_certificate_not_after_seconds",
        "keyholder_access_log_lines_total",
    ] {
        assert!(expressions.iter().any(|expression| expression.contains(needed)), "no panel shows {needed}");
    }
}

/// `key: value` lines of the rules, in their order.
fn values(rules: &str, key: &str) -> Vec<String> {
    let start = format!("{key}: ");
    let lines = rules.lines().map(|line| line.trim().trim_start_matches("- "));
    lines.filter_map(|line| line.strip_prefix(&start)).map(str::to_owned).collect()
}

#[test]
fn every_alert_names_metrics_that_exist_and_a_page_that_helps() {
    let rules = repository("deploy/prometheus/alerts.yml");
    let alerts = values(&rules, "alert");
    for key in ["expr", "for", "severity", "summary", "runbook_url"] {
        assert_eq!(values(&rules, key).len(), alerts.len(), "each alert has {key}");
    }
    for (alert, expression) in alerts.iter().zip(values(&rules, "expr")) {
        assert_eq!(mistakes(&expression), Vec::<String>::new(), "{alert}");
    }
    for (alert, page) in alerts.iter().zip(values(&rules, "runbook_url")) {
        let text = repository(&page);
        assert!(page.starts_with("docs/runbooks/") && text.starts_with("# "), "{alert}: {page}");
    }
    let tested = values(&repository("deploy/prometheus/alerts_test.yml"), "alertname");
    for alert in &alerts {
        assert!(tested.iter().filter(|name| *name == alert).count() >= 2, "{alert} is tested firing and silent");
    }
}

#[test]
fn promtool_accepts_the_rules_and_their_tests() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/prometheus");
    for words in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]] {
        let said = Command::new("promtool").current_dir(&folder).args(words).output();
        let said = said.expect("promtool is installed by `cargo xtask tools` (Debian package prometheus)");
        let text = String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
        assert!(said.status.success(), "{text}");
    }
}
