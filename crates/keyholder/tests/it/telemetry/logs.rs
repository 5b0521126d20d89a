//! The access log and the log file of a real `keyholder serve`: content, rotation, level.

use std::fs;

use serde_json::Value;

use super::{exercise, scrape, value};
use crate::harness::{Installation, eventually};

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[test]
fn one_line_per_request_rotated_by_sighup() {
    let lines_of_config = "[log]\nformat = \"json\"\nfile = \"keyholder.log\"\naccess = \"access.log\"\n";
    let installation = Installation::with("", lines_of_config);
    let server = installation.serve();
    exercise(&installation, &server);
    let written = || value(&scrape(&server), r#"keyholder_access_log_lines_total{result="written"}"#);
    let requests = || {
        let text = scrape(&server);
        let all = text.lines().filter(|line| line.starts_with("keyholder_gateway_requests_total"));
        all.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum::<f64>()
    };
    eventually(&true, || (written() - requests()).abs() < 0.5);
    for name in ["access.log", "keyholder.log"] {
        fs::rename(installation.path(name), installation.path(&format!("{name}.1"))).unwrap();
    }
    server.process.signal("HUP");
    eventually(&true, || installation.path("access.log").exists() && installation.path("keyholder.log").exists());
    let unknown = server.call("kht_nobody", "GET", "/api/v2/users?name=somebody");
    assert_eq!(unknown.status, 401);
    eventually(&1, || fs::read_to_string(installation.path("access.log")).unwrap().lines().count());
    let (code, said) = server.process.stop();
    assert_eq!(code, Some(0), "{said}");

    let before = lines(&fs::read_to_string(installation.path("access.log.1")).unwrap());
    let call = before.iter().find(|line| line["outcome"] == "proxied").unwrap();
    assert_eq!((call["path"].as_str(), call["status"].as_u64()), (Some("/api/v2/users"), Some(200)));
    assert_eq!((call["client.name"].as_str(), call["credential.name"].as_str()), (Some("app"), Some("genesys")));
    assert_eq!((call["ended"].as_str(), call["upstream.status"].as_u64()), (Some("complete"), Some(200)));
    assert!(call.get("trace.id").is_none(), "tracing is off: {call}");
    let refused = before.iter().find(|line| line["status"] == 403).unwrap();
    assert_eq!(refused["code"], "keyholder.call.not_allowed");
    let after = fs::read_to_string(installation.path("access.log")).unwrap();
    assert!(!after.contains("somebody") && !after.contains("kht_nobody"), "{after}");

    // the process log is in its file, as JSON, and its first lines in the rotated one
    let first = lines(&fs::read_to_string(installation.path("keyholder.log.1")).unwrap());
    assert!(first.iter().any(|line| line["message"] == "keyholder is ready"), "{first:?}");
    for line in &first {
        for member in ["timestamp", "level", "target", "message"] {
            assert!(line[member].is_string(), "no {member} in {line}");
        }
    }
    let last = lines(&fs::read_to_string(installation.path("keyholder.log")).unwrap());
    assert!(last.iter().any(|line| line["message"] == "stopped"), "{last:?}");
}

#[test]
fn the_level_changes_while_it_runs() {
    let installation = Installation::with("", "[log]\nformat = \"json\"\nlevel = \"warn\"\n");
    let server = installation.serve();
    assert!(!server.process.said().contains("keyholder is ready"));
    let file = installation.path("keyholder.toml");
    let changed = fs::read_to_string(&file).unwrap().replace("level = \"warn\"", "level = \"info\"");
    fs::write(&file, changed).unwrap();
    server.process.signal("HUP");
    eventually(&true, || server.process.said().contains("the configuration was reloaded"));
}

/// What the page says: level and message, with `{}` for what differs.
fn catalogue() -> Vec<(String, String)> {
    let page = super::repository("docs/reference/logs.md");
    let (mut level, mut all) = (String::new(), Vec::new());
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            heading.clone_into(&mut level);
        } else if let Some(cell) = line.strip_prefix("| `") {
            let end = if cell.starts_with('`') { " `` |" } else { "` |" };
            let message = cell.trim_start_matches("` ").split(end).next().unwrap_or_default();
            all.push((level.clone(), message.replace("\\|", "|")));
        }
    }
    all
}

fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split("{}");
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        let found = if parts.peek().is_none() { rest.ends_with(part).then_some(rest.len()) } else { rest.find(part) };
        let Some(at) = found else { return false };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    rest.is_empty() || pattern.ends_with("{}")
}

/// Every line of a log that this process wrote as JSON is in the catalogue.
pub(crate) fn check_lines(log: &str) -> usize {
    let catalogue = catalogue();
    let mut count = 0;
    for line in log.lines().filter(|line| line.starts_with("{\"timestamp\"")) {
        let line: Value = serde_json::from_str(line).unwrap();
        let (level, message) = (line["level"].as_str().unwrap(), line["message"].as_str().unwrap_or_default());
        if !["ERROR", "WARN", "INFO"].contains(&level) || !line["target"].as_str().unwrap_or_default().starts_with('k')
        {
            continue;
        }
        let known = catalogue.iter().any(|(of, pattern)| of == level && fits(pattern, message));
        assert!(known, "the line is not in docs/reference/logs.md: {line}");
        count += 1;
    }
    count
}

#[test]
fn every_line_that_is_written_is_in_the_catalogue() {
    assert!(fits("a {} c: {}", "a b c: d") && fits("plain", "plain") && fits("no {}", "no "));
    assert!(!fits("plain", "plain and more") && !fits("a {} c", "a b d") && !fits("x", "y"));
    let installation = Installation::with("", "[log]\nformat = \"json\"\n");
    let server = installation.serve();
    exercise(&installation, &server);
    fs::write(installation.path("keyholder.toml"), "broken = true").unwrap();
    server.process.signal("HUP");
    eventually(&true, || server.process.said().contains("was refused and the old one stays"));
    let (_, log) = server.process.stop();
    let count = check_lines(&log);
    assert!(count >= 7, "only {count} lines:\n{log}");
}
