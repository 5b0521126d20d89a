//! What `store check` finds in a journal, what the database refuses by itself, and the way back to an older schema.

use kh_core::port::{
    RotationJournal,
    rotation_journal::{EscrowChange, Hold},
};
use rusqlite::Connection;

use super::{begun, leased, name, next};
use crate::support::{Fixture, START, event};

async fn filled() -> Fixture {
    let fixture = Fixture::new();
    let state = fixture.open();
    let lease = leased(&state, "a", "one", START).await;
    let run = begun(&state, "a", &lease, START).await;
    let mut append = next(run, 2, &lease, START);
    append.escrow = vec![EscrowChange::Keep { name: "new", sealed: b"sealed".to_vec() }];
    state.append(append).await.unwrap();
    fixture
}

#[tokio::test]
async fn the_database_itself_refuses_to_rewrite_history() {
    let fixture = filled().await;
    let raw = Connection::open(fixture.path()).unwrap();
    raw.pragma_update(None, "foreign_keys", true).unwrap();
    for statement in [
        "UPDATE rotation_records SET record = '{}'",
        "DELETE FROM rotation_records WHERE seq = 2",
        "DELETE FROM rotation_runs",
        "INSERT INTO rotation_runs (id, credential, lease, began_at) VALUES ('x', 'a', 'l', 1)",
        "INSERT INTO rotation_records VALUES (99, 1, 1, 1, '{}')",
        "UPDATE rotation_leases SET fence = 0",
    ] {
        raw.execute(statement, []).expect_err(statement);
    }
    raw.execute("UPDATE rotation_runs SET ended_at = 1", []).unwrap();
    assert_eq!(raw.execute("DELETE FROM rotation_runs", []).unwrap(), 1, "an ended one may go, with all that it has");
    let left: u32 = raw
        .query_row(
            "SELECT (SELECT count(*) FROM rotation_records) + (SELECT count(*) FROM rotation_escrow)",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_check_tells_what_is_wrong_with_a_run() {
    let fixture = filled().await;
    assert_eq!(kh_state::check(&fixture.path()).unwrap().findings, []);
    let damages = [
        ("UPDATE rotation_records SET record = '{half' WHERE seq = 2", "no JSON"),
        ("UPDATE rotation_records SET seq = 9 WHERE seq = 2", "have a gap"),
        ("UPDATE rotation_records SET fence = 7 WHERE seq = 1", "fences that went back"),
        ("UPDATE rotation_records SET fence = 9", "a fence that its lease never had"),
        ("DELETE FROM rotation_records", "it has no records"),
        ("UPDATE rotation_runs SET credential = '../x'", "no valid name"),
        ("DELETE FROM rotation_runs", "belong to no rotation run"),
    ];
    for (damage, expected) in damages {
        let fixture = filled().await;
        let raw = Connection::open(fixture.path()).unwrap();
        raw.execute_batch(
            "PRAGMA foreign_keys = off; DROP TRIGGER rotation_records_stay; \
             DROP TRIGGER rotation_records_go_with_their_run; DROP TRIGGER rotation_runs_end_before_they_go;",
        )
        .unwrap();
        raw.execute(damage, []).unwrap();
        drop(raw);
        let findings = kh_state::check(&fixture.path()).unwrap().findings;
        assert!(findings.iter().any(|finding| finding.problem.contains(expected)), "{expected}: {findings:?}");
    }
}

#[tokio::test]
async fn the_way_back_says_what_is_lost_and_leaves_the_older_schema_alone() {
    let fixture = filled().await;
    let state = fixture.open();
    let hold = Hold { since: START, actor: "cli:ops".to_owned(), reason: "wait".to_owned() };
    state.set_hold(&name("b"), Some(hold), event("rotation.hold")).await.unwrap();
    drop(state);
    let (from, losses) = kh_state::losses(&fixture.path(), 3).unwrap();
    assert_eq!((from, losses.len(), losses[0].count, losses[0].whose), (kh_state::SCHEMA, 1, 2, "credentials"));
    let kept = kh_state::downgrade(&fixture.path(), 3).unwrap().unwrap();
    let tables = |path: &std::path::Path| -> u32 {
        let raw = Connection::open(path).unwrap();
        raw.query_row("SELECT count(*) FROM sqlite_schema WHERE name LIKE 'rotation%'", [], |row| row.get(0)).unwrap()
    };
    assert_eq!(tables(&fixture.path()), 0);
    assert!(tables(&kept) > 6, "the copy has everything");
    let state = fixture.open();
    assert_eq!(state.unfinished().await.unwrap(), [], "and forward again, empty");
    drop(state);
    assert_eq!(kh_state::losses(&fixture.path(), 3).unwrap().1, []);
}
