//! What keyholder tells about itself: metrics, access log, traces, and that the documents and rules about them hold.

pub mod collector;
mod export;
mod logs;
mod metrics;
mod rules;

use std::{fs, path::Path};

use crate::harness::{Installation, Server, request};

/// The scrape.
pub fn scrape(server: &Server) -> String {
    let answer = request("GET", &format!("{}/metrics", server.admin()), &[], b"");
    assert_eq!(answer.status, 200);
    String::from_utf8(answer.body).unwrap()
}

/// The value of one series.
pub fn value(scrape: &str, series: &str) -> f64 {
    let found = scrape.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("no {series} in\n{scrape}")).parse().unwrap()
}

/// A file of the repository.
pub fn repository(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Everything that can be done to a keyholder, once: logins, calls, refusals, the broker, a reload.
fn exercise(installation: &Installation, server: &Server) {
    let login = installation.add_client("app", &["--credential", "genesys", "--allow", "GET /api/v2/**"]);
    crate::harness::eventually(&200, || server.try_login(&login).status);
    let token = server.login(&login);
    assert_eq!(server.call(&token, "GET", "/api/v2/users").status, 200);
    assert_eq!(server.call(&token, "DELETE", "/api/v2/users/1").status, 403);
    assert_eq!(server.try_login(&crate::harness::Login { id: login.id, secret: "khs_wrong".to_owned() }).status, 401);
    let guard = server.guard();
    let broker = |path: &str, guard: &str| {
        request("GET", &format!("{}{path}", server.broker()), &[("X-Keyholder-Token", guard)], b"").status
    };
    assert_eq!(broker("/v1/token/genesys", &guard), 200);
    assert_eq!(broker("/v1/token/genesys", "wrong"), 403);
    assert_eq!(request("GET", &format!("{}/v1/status", server.admin()), &[], b"").status, 403);
    server.process.signal("HUP");
    let reloads = || -> f64 {
        ["applied", "unchanged"]
            .iter()
            .map(|result| value(&scrape(server), &format!("keyholder_config_reloads_total{{result=\"{result}\"}}")))
            .sum()
    };
    crate::harness::eventually(&true, || reloads() >= 1.0);
}
