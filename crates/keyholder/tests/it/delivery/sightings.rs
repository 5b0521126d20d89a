//! Which secret each process uses, as the rotation journal knows it: a serving keyholder, a child of `exec`, and a
//! program that reads the secret itself and reports.

use std::fs;

use rusqlite::{Connection, OpenFlags};
use serde_json::json;

use super::world::{self, installation};
use crate::harness::{Installation, eventually, request, run};

/// One row of the journal.
#[derive(Clone, PartialEq, Debug)]
struct Row {
    consumer: String,
    fingerprint: String,
    grade: String,
    at: i64,
    alive_until: i64,
}

/// An installation whose credential `genesys` is rotated when somebody says so: of others nothing is written down.
fn rotated() -> Installation {
    let installation = installation();
    let file = installation.path("keyholder.toml");
    let before = fs::read_to_string(&file).unwrap();
    let changed = before.replace("kind = \"genesys\"", "kind = \"genesys\"\nrotator = \"rotator\"")
        + "[credential.rotator]\nplatform = \"genesys\"\nsecret = \"store:genesys\"\n\
           [credential.genesys.rotation]\nstrategy = \"pair\"\n[rotation]\nscheduler = false\n";
    fs::write(file, changed).unwrap();
    installation
}

fn rows(installation: &Installation) -> Vec<Row> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let database = Connection::open_with_flags(installation.path("state/state.db"), flags).unwrap();
    let sql = "SELECT consumer, fingerprint, grade, at, alive_until FROM rotation_sightings ORDER BY at";
    let mut statement = database.prepare(sql).unwrap();
    let row = |row: &rusqlite::Row<'_>| {
        Ok(Row {
            consumer: row.get(0)?,
            fingerprint: row.get(1)?,
            grade: row.get(2)?,
            at: row.get(3)?,
            alive_until: row.get(4)?,
        })
    };
    statement.query_map([], row).unwrap().map(Result::unwrap).collect()
}

/// The rows whose consumer begins so.
fn of(installation: &Installation, kind: &str) -> Vec<Row> {
    rows(installation).into_iter().filter(|row| row.consumer.starts_with(kind)).collect()
}

#[test]
fn a_serving_process_is_seen_with_each_secret_it_uses_and_gone_at_its_end() {
    let installation = rotated();
    let server = installation.serve();
    world::token_of(&server);
    eventually(&1, || of(&installation, "gateway/").len());
    let first = of(&installation, "gateway/").remove(0);
    assert_eq!((first.grade.as_str(), first.fingerprint.len()), ("\"used\"", 16));
    assert!(first.alive_until > first.at + 60_000, "{first:?}");
    // the same login again with another document: a newer version, and another fingerprint
    let mut document = installation.sandbox.genesys_document();
    document["access_key_id"] = json!("not-used-by-this-grant");
    installation.store_secret("genesys", &document);
    eventually(&2, || of(&installation, "gateway/").len());
    let second = of(&installation, "gateway/").remove(1);
    assert_ne!(second.fingerprint, first.fingerprint);
    assert_eq!(second.consumer, first.consumer);
    assert!(second.at > first.at && second.grade == first.grade);
    assert_eq!(server.process.stop().0, Some(0));
    let last = of(&installation, "gateway/").into_iter().find(|row| row.fingerprint == second.fingerprint).unwrap();
    assert_eq!(last.at, second.at, "its end is no use of the secret");
    assert!(last.alive_until < second.alive_until, "nobody waits for a process that is gone: {last:?} {second:?}");
}

#[test]
fn a_child_of_exec_is_seen_while_it_runs() {
    let installation = rotated();
    let script = "keyholder token get genesys >/dev/null";
    let mut command = installation.command(&["exec", "--profile", "genesys", "--", "sh", "-c", script]);
    command.env("PATH", world::path_with_keyholder());
    let said = run(&mut command, b"");
    assert_eq!(said.code, Some(0), "{}", said.err);
    let [row] = <[Row; 1]>::try_from(of(&installation, "exec/")).unwrap();
    assert_eq!(row.grade, "\"used\"");
    assert!(row.alive_until < row.at + 10 * 60_000, "it is gone: {row:?}");
}

#[test]
fn a_program_that_reads_the_secret_reports_what_it_uses() {
    let installation = installation();
    let server = installation.serve();
    let report = json!({"profile": "genesys", "consumer": "crm-sync/eu-1", "fingerprint": "0123456789abcdef",
                        "last_mint_ok_at": "2026-01-01T00:00:00Z", "generation": 2, "alive_for": 60});
    let url = format!("{}/v1/pickup", server.broker());
    let guard = server.guard();
    let post = |body: &serde_json::Value, guard: &str| {
        request("POST", &url, &[("X-Keyholder-Token", guard)], body.to_string().as_bytes()).status
    };
    assert_eq!(post(&report, "wrong"), 403);
    assert_eq!(post(&report, &guard), 204);
    // by time: its login, and that it holds the secret
    let [row, holds] = <[Row; 2]>::try_from(rows(&installation)).unwrap();
    assert_eq!((row.consumer.as_str(), row.grade.as_str()), ("crm-sync/eu-1", "\"used\""));
    assert_eq!((holds.consumer.as_str(), holds.grade.as_str()), ("crm-sync/eu-1", "\"fetched\""));
    assert_eq!(row.at, 1_767_225_600_000);
    assert_eq!(row.fingerprint, "0123456789abcdef");
    let mut own = report.clone();
    own["consumer"] = json!("gateway/elsewhere/1-ab");
    assert_eq!(post(&own, &guard), 400, "nobody reports for keyholder's own processes");
}
