//! `keyholder serve` and the commands beside it, over a sandbox.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::harness::{Installation, eventually, keyholder, request, run, text};

const USERS: &str = "/api/v2/users?pageSize=1";

#[test]
fn a_client_added_while_serving_works_and_a_removed_one_does_not() {
    let installation = Installation::new();
    let server = installation.serve();
    let login = installation.add_client("late", &["--credential", "genesys", "--allow", "GET /api/v2/users/**"]);
    let token = server.login(&login);
    assert_eq!(server.call(&token, "GET", USERS).status, 200);
    assert_eq!(server.call(&token, "GET", "/api/v2/routing/queues").status, 403);
    installation.run(&["client", "disable", "late"]).done();
    eventually(&(401, 401), || (server.try_login(&login).status, server.call(&token, "GET", USERS).status));
    installation.run(&["client", "enable", "late"]).done();
    eventually(&200, || server.call(&token, "GET", USERS).status);
    installation.run(&["client", "rm", "late", "--yes"]).done();
    eventually(&(401, 401), || (server.try_login(&login).status, server.call(&token, "GET", USERS).status));
    let (code, log) = server.process.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("stopped"), "{log}");
}

#[test]
fn tokens_survive_a_restart_and_a_kill() {
    let installation = Installation::new();
    let login = installation.add_client("app", &["--credential", "genesys", "--allow-all"]);
    let server = installation.serve();
    let token = server.login(&login);
    assert_eq!(server.process.stop().0, Some(0));
    let server = installation.serve();
    assert_eq!(server.call(&token, "GET", USERS).status, 200);
    let second = server.login(&login);
    server.process.kill();
    let server = installation.serve();
    for token in [&token, &second] {
        assert_eq!(server.call(token, "GET", USERS).status, 200);
    }
    assert_eq!(installation.run(&["audit", "verify"]).code, Some(0));
}

#[test]
fn a_changed_configuration_is_audited_once() {
    let installation = Installation::new();
    let entries = || {
        let listed = installation.run(&["audit", "list", "--action", "config.change", "--output", "json"]).json();
        listed["entries"].as_array().unwrap().clone()
    };
    for (comment, expected) in [("", 1), ("", 1), ("\n# changed\n", 2), ("", 2)] {
        let file = installation.path("keyholder.toml");
        let text = std::fs::read_to_string(&file).unwrap() + comment;
        std::fs::write(&file, text).unwrap();
        assert_eq!(installation.serve().process.stop().0, Some(0));
        assert_eq!(entries().len(), expected);
    }
    let entries = entries();
    assert_eq!(entries[1]["detail"]["sha256_before"], entries[0]["detail"]["sha256"]);
    assert_ne!(entries[1]["detail"]["sha256"], entries[0]["detail"]["sha256"]);
}

#[test]
fn both_platforms_in_one_process_routed_by_client() {
    let installation = Installation::new();
    let genesys = installation.add_client("g", &["--credential", "genesys", "--allow-all"]);
    let cxone = installation.add_client("c", &["--credential", "cxone", "--allow-all"]);
    let server = installation.serve();
    let (genesys, cxone) = (server.login(&genesys), server.login(&cxone));
    let agents = "/inContactAPI/services/v30.0/agents";
    assert_eq!(server.call(&genesys, "GET", USERS).status, 200);
    assert_eq!(server.call(&cxone, "GET", agents).status, 200);
    assert_eq!(installation.sandbox.count("POST /oauth/token"), 1);
    assert_eq!(installation.sandbox.count("POST /auth/token"), 1);
}

#[test]
fn a_secret_changed_while_serving_is_used() {
    let installation = Installation::new();
    let login = installation.add_client("app", &["--credential", "genesys", "--allow-all"]);
    let right = installation.sandbox.genesys_document();
    let mut wrong = right.clone();
    wrong["client_secret"] = json!("x".repeat(43));
    installation.store_secret("genesys", &wrong);
    let server = installation.serve();
    let token = server.login(&login);
    let refused = server.call(&token, "GET", USERS);
    assert_eq!(refused.status, 502, "{refused:?}");
    assert_eq!(text(&refused.json(), "code"), "keyholder.credential.rejected");
    installation.store_secret("genesys", &right);
    eventually(&200, || server.call(&token, "GET", USERS).status);
}

#[test]
fn the_local_listeners_answer_with_their_guards() {
    let installation = Installation::new();
    let server = installation.serve();
    assert_eq!(request("GET", &format!("{}/readyz", server.admin()), &[], b"").status, 200);
    let metrics = request("GET", &format!("{}/metrics", server.admin()), &[], b"");
    assert!(String::from_utf8_lossy(&metrics.body).contains("keyholder_gateway_connections"));
    let token = format!("{}/v1/token/genesys", server.broker());
    assert_eq!(request("GET", &token, &[], b"").status, 403);
    let guard = server.guard();
    let given = request("GET", &token, &[("X-Keyholder-Token", &guard)], b"");
    assert_eq!(given.status, 200);
    let mut command = installation.command(&["token", "get", "genesys"]);
    command.env("KEYHOLDER_URL", server.broker());
    command.env("KEYHOLDER_TOKEN_FILE", text(&server.ready, "broker_token_file"));
    assert_eq!(run(&mut command, b"").done().trim(), text(&given.json(), "access_token"));
    for file in [
        "state/broker.token",
        "state/admin.token",
        "state/store.key",
        "state/secrets.db",
        "state/state.db",
        "ready.json",
    ] {
        let mode = std::fs::metadata(installation.path(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[test]
fn the_example_configuration_serves() {
    let folder = tempfile::tempdir().unwrap();
    let example = run(keyholder().args(["config", "example"]), b"").done();
    let free = example.replace(":8080\"", ":0\"").replace(":8081\"", ":0\"").replace(":8082\"", ":0\"");
    assert_ne!(free, example);
    std::fs::write(folder.path().join("keyholder.toml"), free).unwrap();
    let ready = folder.path().join("ready.json");
    let mut command = keyholder();
    command.current_dir(folder.path()).env("HOME", folder.path()).args(["serve", "--ready-file"]).arg(&ready);
    let mut process = crate::harness::Process::start(&mut command, &folder.path().join("log"));
    let ready = process.ready(&ready);
    assert_eq!(request("GET", &format!("{}/livez", text(&ready, "admin_url")), &[], b"").status, 200);
    let state = folder.path().join(".local/state/keyholder");
    assert_eq!(std::fs::metadata(state).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(process.stop().0, Some(0));
}

#[test]
fn a_port_that_is_taken_and_a_store_that_is_locked_away_are_told() {
    let installation = Installation::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = std::fs::read_to_string(installation.path("keyholder.toml")).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let broken = config.replacen("listen = \"127.0.0.1:0\"", &format!("listen = \"{address}\""), 1);
    std::fs::write(installation.path("keyholder.toml"), broken).unwrap();
    let said = installation.run(&["serve"]);
    assert_eq!(said.code, Some(3), "it may be free a moment later: {}", said.err);
    assert!(said.err.contains(&format!("the admin cannot listen on {address}")), "{}", said.err);
    std::fs::remove_file(installation.path("state/store.key")).unwrap();
    let said = installation.run(&["--output", "json", "secret", "list"]);
    assert_eq!(said.code, Some(2), "{}", said.err);
    let problem: Value = serde_json::from_str(&said.err).unwrap();
    assert_eq!(text(&problem, "code"), "keyholder.store.wrong_key");
}

/// What a container's probe runs.
#[test]
fn the_health_check_tells_alive_ready_and_gone() {
    let installation = Installation::new();
    let server = installation.serve();
    let url = server.admin().to_owned();
    let ask = |words: &[&str]| installation.run(&[&["healthcheck", "--url", &url], words].concat());
    assert_eq!(ask(&[]).done(), "ok\n");
    assert_eq!(ask(&["--live"]).done(), "ok\n");
    assert_eq!(ask(&["--output", "json"]).json()["healthy"], true);
    // one credential that is refused takes nobody else's calls away; when all are, nobody should be sent here
    let guard = server.guard();
    let refuse = |name: &str, document: &Value| {
        installation.store_secret(name, document);
        let token = format!("{}/v1/token/{name}", server.broker());
        assert_eq!(request("GET", &token, &[("X-Keyholder-Token", &guard)], b"").status, 502);
    };
    refuse("genesys", &json!({ "client_id": "nobody", "client_secret": "wrong" }));
    assert_eq!(ask(&[]).code, Some(0));
    let mut document = installation.sandbox.cxone_document();
    document["access_key_secret"] = json!("wrong");
    refuse("cxone", &document);
    let refused = ask(&[]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.out.contains("not ready") && refused.out.contains("genesys"), "{refused:?}");
    assert_eq!(ask(&["--live"]).code, Some(0));
    drop(server);
    assert_eq!(ask(&[]).code, Some(3));
    let unknown = installation.run(&["healthcheck"]);
    assert_eq!(unknown.code, Some(2), "port 0 in the file: {}", unknown.err);
}

/// A change that keyholder refuses ends nobody's pod: the probe asks whoever serves, not the file.
#[test]
fn the_health_check_finds_whoever_serves_whatever_the_file_says_by_now() {
    let installation = Installation::new();
    let server = installation.serve();
    let (file, state) = (installation.path("keyholder.toml"), installation.path("state"));
    let state = state.to_str().unwrap();
    let good = std::fs::read_to_string(&file).unwrap();
    let moved = good.replacen("[admin]\nlisten = \"127.0.0.1:0\"", "[admin]\nlisten = \"127.0.0.1:9\"", 1);
    assert_ne!(moved, good);
    for changed in [moved, format!("{good}[broken\n")] {
        std::fs::write(&file, changed).unwrap();
        assert_eq!(installation.run(&["healthcheck"]).done(), "ok\n");
        assert_eq!(installation.run(&["healthcheck", "--live"]).done(), "ok\n");
    }
    // of this one nothing can be read, and the environment or a flag says where the state is
    std::fs::write(&file, "no TOML at all").unwrap();
    assert_eq!(installation.run(&["--state", state, "healthcheck"]).done(), "ok\n");
    assert_eq!(installation.run(&["--state", state, "healthcheck", "--live"]).done(), "ok\n");
    drop(server);
    assert_eq!(
        installation.run(&["--state", state, "healthcheck"]).code,
        Some(2),
        "nobody serves, and the file is bad"
    );
}

/// A killed keyholder leaves its ready file. Whoever starts it again must not take that for the new one's.
#[test]
fn a_ready_file_that_was_left_behind_is_removed_before_anything_listens() {
    let installation = Installation::new();
    installation.serve().process.kill();
    let left = installation.path("ready.json");
    assert!(left.exists());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = std::fs::read_to_string(installation.path("keyholder.toml")).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let busy = config.replacen("listen = \"127.0.0.1:0\"", &format!("listen = \"{address}\""), 1);
    std::fs::write(installation.path("keyholder.toml"), busy).unwrap();
    let said = installation.run(&["serve", "--ready-file", left.to_str().unwrap()]);
    assert!(said.err.contains("cannot listen"), "{said:?}");
    assert!(!left.exists(), "{said:?}");
}
