//! Several keyholders on one state.
//!
//! Invariant: they see each other's changes, no change is made twice, and the audit log stays one chain.

use std::{collections::BTreeMap, time::Duration};

use super::attempt::{call, log_in, revoke};
use crate::{
    harness::{Installation, Server, run, text},
    telemetry::{scrape, value},
};

const USERS: &str = "/api/v2/users?pageSize=1";

/// Changes of other processes are looked for about once a second; a busy machine needs the rest.
fn eventually(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{what} never happened");
}

#[test]
fn two_servers_on_one_state_share_clients_tokens_and_revocations() {
    let installation = Installation::new();
    let login = installation.add_client("app", &["--credential", "genesys", "--allow-all"]);
    let (first, second) = (installation.serve(), installation.serve());
    let (at_first, at_second) = (first.login(&login), second.login(&login));
    assert_eq!(second.call(&at_first, "GET", USERS).status, 200);
    assert_eq!(first.call(&at_second, "GET", USERS).status, 200);
    let gone = revoke(first.gateway(), &at_first).expect("an answer").status;
    assert!(matches!(gone, 200 | 204), "{gone}");
    eventually("the other server's refusal", || call(second.gateway(), &at_first).expect("an answer").status == 401);
    assert_eq!(second.call(&at_second, "GET", USERS).status, 200);
    second.process.kill();
    assert_eq!(first.call(&at_second, "GET", USERS).status, 200, "a neighbour's death harms nobody");
    assert_eq!(first.try_login(&login).status, 200);
}

/// Lines that wait for the collector, those aside that are on their way from memory.
fn waiting(server: &Server) -> f64 {
    value(&scrape(server), "keyholder_security_backlog_lines")
}

#[test]
fn a_second_server_takes_over_what_waits_for_the_collector() {
    // nobody listens there
    let collector = "[security]\n[security.collector]\nurl = \"http://127.0.0.1:1/\"\n";
    let installation = Installation::with("", collector);
    let first = installation.serve();
    assert_eq!(first.call("kht_nobody", "GET", USERS).status, 401);
    eventually("the line in the spool", || waiting(&first) >= 1.0);
    let second = installation.serve();
    assert_eq!(second.call("kht_nobody", "GET", USERS).status, 401, "it serves");
    assert_eq!(first.process.stop().0, Some(0));
    eventually("both lines in the spool of the second", || waiting(&second) >= 2.0);
    assert_eq!(second.process.stop().0, Some(0));
    let third = installation.serve();
    assert!(waiting(&third) >= 2.0, "they are on disk");
}

#[test]
fn a_second_server_on_the_same_addresses_is_refused() {
    let installation = Installation::new();
    let first = installation.serve();
    let address = first.admin().strip_prefix("http://").expect("plain http");
    let config = std::fs::read_to_string(installation.path("keyholder.toml")).unwrap();
    let other = config.replacen("listen = \"127.0.0.1:0\"", &format!("listen = \"{address}\""), 1);
    assert_ne!(other, config);
    std::fs::write(installation.path("keyholder.toml"), &other).unwrap();
    let said = installation.run(&["serve", "--output", "json"]);
    assert_eq!(said.code, Some(3), "{}", said.err);
    assert!(said.err.contains("cannot listen on") && said.err.contains("perhaps another keyholder"), "{}", said.err);
    let login = installation.add_client("app", &["--credential", "genesys", "--allow-all"]);
    assert_eq!(log_in(first.gateway(), &login).expect("an answer").status, 200, "the first one serves on");
}

/// Writers at the same time.
const WRITERS: usize = 4;

/// Rounds of each.
const ROUNDS: usize = 6;

#[test]
fn commands_at_the_same_time_keep_one_chain_and_compare_and_set() {
    let installation = Installation::new();
    let server = installation.serve();
    let wins: Vec<u64> = std::thread::scope(|scope| {
        let installation = &installation;
        let writers: Vec<_> = (0..WRITERS).map(|writer| scope.spawn(move || compete(installation, writer))).collect();
        writers.into_iter().flat_map(|writer| writer.join().expect("the writer held")).collect()
    });
    let mut sorted = wins.clone();
    sorted.sort_unstable();
    assert!(!wins.is_empty());
    assert_eq!(sorted, (1..=wins.len() as u64).collect::<Vec<_>>(), "no version was won twice and none is missing");
    installation.run(&["audit", "verify"]).done();
    let entries = installation.run(&["audit", "list", "--limit", "10000", "--output", "json"]).json();
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    for entry in entries["entries"].as_array().expect("a list") {
        *counts.entry((text(entry, "action").to_owned(), text(entry, "subject").to_owned())).or_default() += 1;
    }
    assert_eq!(counts[&("secret.set".to_owned(), "race".to_owned())], wins.len());
    let added = counts.iter().filter(|((action, _), count)| action == "client.add" && **count == 1).count();
    assert_eq!(added, WRITERS * ROUNDS);
    assert_eq!(server.process.stop().0, Some(0));
}

/// Adds clients and tries for the next version of one secret; answers the versions that it won.
fn compete(installation: &Installation, writer: usize) -> Vec<u64> {
    let mut won = Vec::new();
    for round in 0..ROUNDS {
        installation.run(&["client", "add", &format!("w{writer}-{round}"), "--allow-all"]).done();
        let newest = run(&mut installation.command(&["secret", "show-metadata", "race", "--output", "json"]), b"");
        let version = if newest.code == Some(0) { newest.json()["version"].as_u64().expect("a number") } else { 0 };
        let expected = if version == 0 { "absent".to_owned() } else { version.to_string() };
        let words = ["secret", "set", "race", "--expect-version", &expected, "--output", "json"];
        let said = run(&mut installation.command(&words), br#"{"client_id":"id","client_secret":"s"}"#);
        if said.code == Some(0) {
            won.push(said.json()["version"].as_u64().expect("a number"));
        } else {
            assert_eq!(said.code, Some(1), "{}", said.err);
            assert!(said.err.contains("keyholder.store.conflict"), "{}", said.err);
        }
    }
    won
}
