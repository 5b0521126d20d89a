//! What runs in a process of its own, to be killed, starved or run beside another. This binary starts itself again
//! with a role in the environment; the test [`entry`] plays it and is empty without one.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use kh_core::{
    ManualClock, Sha256, UnixMillis,
    port::{StateError, StateStore, TokenRecord},
};
use kh_state::SqliteState;

use crate::support::{FileAudit, START, client, event, token};

const ROLE: &str = "KEYHOLDER_TEST_ROLE";
const FOLDER: &str = "KEYHOLDER_TEST_FOLDER";

/// Writers at once in the role `write`.
const WRITERS: usize = 8;

/// Tokens that the role `burst` adds.
pub(crate) const BURST: usize = 150;

/// The state in `folder`.
pub(crate) fn state_path(folder: &Path) -> PathBuf {
    folder.join("state").join("state.db")
}

/// Opens the state in `folder`, with an audit log in a file beside it.
pub(crate) fn open(folder: &Path) -> Result<SqliteState, StateError> {
    let audit = Arc::new(FileAudit(folder.join("audit")));
    SqliteState::open(&state_path(folder), audit, Arc::new(ManualClock::at(START)))
}

/// A command that plays `role`; it is started by `program` with `arguments` before the binary's own.
pub(crate) fn command(program: &Path, arguments: &[&str], role: &str, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .args(["--exact", "child::entry", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env(FOLDER, folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// The lines that a child said, without the test harness's own.
pub(crate) fn said(output: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(output);
    text.lines().filter_map(|line| line.strip_prefix("KH ").map(str::to_owned)).collect()
}

pub(crate) fn say(line: &str) {
    println!("KH {line}");
}

#[test]
fn entry() {
    let (Ok(role), Ok(folder)) = (std::env::var(ROLE), std::env::var(FOLDER)) else { return };
    // the harness prints the test's name without a line break
    println!();
    let folder = PathBuf::from(folder);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async move {
        match role.split_once(' ') {
            Some(("write", round)) => write(&folder, round).await,
            Some(("burst", name)) => burst(&folder, name).await,
            Some(("rotate", owner)) => crate::rotation::compete(&folder, owner).await,
            None if role == "fill_journal" => crate::rotation::fill(&folder).await,
            None if role == "fill" => fill(&folder).await,
            None if role == "open" => match open(&folder) {
                Ok(_) => say("opened"),
                Err(error) => say(&format!("{:?} {error}", error.code())),
            },
            _ => panic!("no such role: {role}"),
        }
    });
}

/// The digest of write number `number` of writer `writer`.
pub(crate) fn digest_of(label: &str) -> Sha256 {
    Sha256::of(label.as_bytes())
}

/// Writes until it is killed. Says `begin X` before and `done X` after each write; every eighth is a setting.
async fn write(folder: &Path, round: &str) {
    let state = Arc::new(open(folder).unwrap());
    let owner = client("writer");
    let added = state.add_client(owner.clone(), event("client.add")).await;
    assert!(matches!(added, Ok(()) | Err(StateError::NameTaken(_))), "{added:?}");
    let tasks = tokio::task::LocalSet::new();
    for writer in 0..WRITERS {
        let (state, owner, round) = (Arc::clone(&state), owner.clone(), round.to_owned());
        tasks.spawn_local(async move {
            for number in 0_u32.. {
                let label = format!("{round}-{writer}-{number}");
                say(&format!("begin {label}"));
                if number % 8 == 7 {
                    let change = event(&label);
                    state.set_setting(&label, &label, change).await.unwrap();
                } else {
                    let expires_at = UnixMillis(START.0 + 1000);
                    let digest = digest_of(&label);
                    let client = owner.id.clone();
                    state
                        .add_token(TokenRecord {
                            digest,
                            client,
                            issued_at: START,
                            expires_at,
                            scopes: None,
                            confirmation: None,
                        })
                        .await
                        .unwrap();
                }
                say(&format!("done {label}"));
            }
        });
    }
    tasks.await;
}

/// Adds a client of its own, tokens and settings, beside others that do the same.
async fn burst(folder: &Path, name: &str) {
    let state = open(folder).unwrap();
    let owner = client(name);
    state.add_client(owner.clone(), event(&format!("client.add {name}"))).await.unwrap();
    for number in 0..BURST {
        state.add_token(token(&owner, &format!("{name}-{number}"), 1000)).await.unwrap();
        if number % 15 == 0 {
            state.set_setting(name, &number.to_string(), event(&format!("set {name} {number}"))).await.unwrap();
        }
    }
    say("done");
}

/// Writes until the disk is full, then shows that reading goes on and what is there.
async fn fill(folder: &Path) {
    let state = open(folder).unwrap();
    let owner = client("writer");
    state.add_client(owner.clone(), event("client.add")).await.unwrap();
    for number in 0..20_000 {
        if let Err(error) = state.add_token(token(&owner, &number.to_string(), 1000)).await {
            say(&format!("failed {number} {error}"));
            let refused = state.set_setting("k", "v", event("setting.set")).await;
            say(&format!("setting {}", refused.is_err()));
            say(&format!("live {}", state.live_tokens(START).await.unwrap().len()));
            return;
        }
    }
    say("never full");
}
