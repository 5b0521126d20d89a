//! `keyholder status` and `credential list`, with keyholder running well, badly, twice and not at all.

use std::fs;

use serde_json::{Value, json};

use crate::{
    harness::{Installation, Process, Said, eventually, request, text},
    telemetry::{scrape, value},
};

fn status(installation: &Installation) -> (Option<i32>, Value) {
    let said = installation.run(&["status", "--output", "json"]);
    let text = if said.out.is_empty() { &said.err } else { &said.out };
    (said.code, serde_json::from_str(text).unwrap_or_else(|_| panic!("{said:?}")))
}

fn lease(server: &crate::harness::Server, name: &str) -> u16 {
    let guard = server.guard();
    request("GET", &format!("{}/v1/token/{name}", server.broker()), &[("X-Keyholder-Token", &guard)], b"").status
}

#[test]
fn status_tells_everything_and_the_exit_code_says_whether_it_is_well() {
    let installation = Installation::new();
    let (code, gone) = status(&installation);
    assert_eq!((code, text(&gone, "code")), (Some(3), "keyholder.upstream.unreachable"));
    installation.add_client("app", &["--credential", "genesys", "--allow-all"]);
    let server = installation.serve();
    assert_eq!(lease(&server, "genesys"), 200);
    let (code, well) = status(&installation);
    assert_eq!((code, &well["healthy"]), (Some(0), &true.into()), "{well}");
    assert_eq!(well["pid"], server.process.pid());
    assert_eq!((&well["clients"], &well["draining"]), (&1.into(), &false.into()));
    let names: Vec<_> = well["listeners"].as_array().unwrap().iter().map(|found| text(found, "name")).collect();
    assert_eq!(names, ["gateway", "broker", "admin"]);
    assert_eq!(well["stores"].as_array().unwrap().iter().filter(|store| store["ready"] == true).count(), 2);
    assert!(well["audit"]["entries"].as_u64().unwrap() > 0 && well["audit"]["head"].is_string(), "{well}");
    let genesys = &well["credentials"][1];
    assert_eq!((text(genesys, "name"), text(genesys, "state")), ("genesys", "ready"));
    let Said { code, out, .. } = installation.run(&["status"]);
    assert_eq!(code, Some(0));
    for part in ["keyholder 0", "config ", "in force for", "genesys", "drain 20s", "healthy"] {
        assert!(out.contains(part), "{part}: {out}");
    }
    // A credential that the platform refuses.
    installation.store_secret("genesys", &json!({ "client_id": "nobody", "client_secret": "wrong" }));
    eventually(&Some(1), || status(&installation).0);
    let (_, bad) = status(&installation);
    assert!(bad["problems"].to_string().contains("genesys"), "{bad}");
    installation.store_secret("genesys", &installation.sandbox.genesys_document());
    eventually(&Some(0), || status(&installation).0);
    // A file that cannot even be parsed: status finds the process all the same, and says what is wrong.
    let file = installation.path("keyholder.toml");
    let broken = fs::read_to_string(&file).unwrap() + "[broken\n";
    fs::write(&file, broken).unwrap();
    server.process.signal("HUP");
    eventually(&Some(1), || status(&installation).0);
    let (_, refused) = status(&installation);
    assert!(refused["problems"].to_string().contains("the old one is in force"), "{refused}");
    assert_eq!(server.process.stop().0, Some(0));
    assert_eq!(status(&installation).0, Some(3));
}

#[test]
fn two_on_one_state_share_it_and_are_both_found() {
    let installation = Installation::new();
    let first = installation.serve();
    let file = installation.path("second.json");
    let mut command = installation.command(&["serve", "--ready-file", file.to_str().unwrap()]);
    let mut second = Process::start(&mut command, &installation.path("second.log"));
    second.ready(&file);
    eventually(&true, || second.said().contains("another keyholder serves the same state"));
    let (code, newest) = status(&installation);
    assert_eq!((code, &newest["pid"]), (Some(0), &second.pid().into()));
    assert_eq!(newest["other_pids"], json!([first.process.pid()]));
    let pid = first.process.pid().to_string();
    let older = installation.run(&["status", "--output", "json", "--pid", &pid]).json();
    assert_eq!(older["pid"], first.process.pid());
    // One that was killed leaves nothing that misleads.
    second.signal("KILL");
    second.end();
    let (code, left) = status(&installation);
    assert_eq!((code, &left["pid"]), (Some(0), &first.process.pid().into()));
    assert_eq!(first.process.stop().0, Some(0));
}

#[test]
fn who_ends_takes_its_own_ready_file_and_not_that_of_who_took_over() {
    let installation = Installation::new();
    let first = installation.serve();
    let file = installation.path("ready.json");
    let mut command = installation.command(&["serve", "--ready-file", file.to_str().unwrap()]);
    let second = Process::start(&mut command, &installation.path("second.log"));
    let told = || serde_json::from_slice::<Value>(&fs::read(&file).unwrap()).unwrap();
    eventually(&true, || told() != first.ready);
    let newest = told();
    assert_eq!(first.process.stop().0, Some(0));
    assert_eq!(told(), newest, "it names who serves on");
    assert_eq!(second.stop().0, Some(0));
    assert!(!file.exists());
}

#[test]
fn an_audit_log_that_does_not_answer_costs_one_thread_however_often_status_is_asked() {
    let installation = Installation::new();
    let server = installation.serve();
    let url = format!("{}/v1/status", server.admin());
    let token = fs::read_to_string(text(&server.ready, "admin_token_file")).unwrap();
    let is_ready =
        || request("GET", &url, &[("X-Keyholder-Token", token.trim())], b"").json()["audit"]["ready"].clone();
    let threads = || value(&scrape(&server), "process_threads");
    assert_eq!(is_ready(), true);
    let before = threads();
    // as a process that is stopped leaves it
    let log = fs::File::open(installation.path("state/audit.log")).unwrap();
    log.lock().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| assert_eq!(is_ready(), false));
        }
    });
    let meanwhile = threads();
    // one that waits, and a few that other work may have started
    assert!(meanwhile <= before + 4.0, "{before} {meanwhile}");
    drop(log);
    eventually(&json!(true), is_ready);
    assert_eq!(server.process.stop().0, Some(0));
}

#[test]
fn credential_list_works_with_and_without_a_running_keyholder() {
    let installation = Installation::new();
    let list = || installation.run(&["credential", "list", "--output", "json"]).json();
    let row = |answer: &Value| answer["credentials"][1].clone();
    let stopped = list();
    assert_eq!((&stopped["running"], text(&row(&stopped), "name")), (&false.into(), "genesys"));
    assert_eq!((&row(&stopped)["state"], &row(&stopped)["secret_version"]), (&Value::Null, &Value::Null));
    let server = installation.serve();
    assert_eq!(lease(&server, "genesys"), 200);
    let running = list();
    let genesys = row(&running);
    assert_eq!((&running["running"], text(&genesys, "state")), (&true.into(), "ready"));
    assert_eq!((&genesys["secret_version"], text(&genesys, "platform")), (&1.into(), "genesys"));
    let shown = installation.run(&["credential", "list"]).done();
    assert!(shown.starts_with("NAME") && shown.contains("ready"), "{shown}");
    drop(server);
}
