//! Several processes on one database.

use kh_core::port::StateStore;

use crate::{
    child::{BURST, command, open, said},
    support::{FileAudit, START},
};

#[tokio::test]
async fn processes_that_open_create_and_write_at_once_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let this = std::env::current_exe().unwrap();
    let names = ["one", "two", "three"];
    let children: Vec<_> = names
        .iter()
        .map(|name| command(&this, &[], &format!("burst {name}"), folder.path()).spawn().unwrap())
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert_eq!(said(&output.stdout), ["done"], "{}", String::from_utf8_lossy(&output.stdout));
    }
    let state = open(folder.path()).unwrap();
    assert_eq!(state.live_tokens(START).await.unwrap().len(), names.len() * BURST);
    assert_eq!(state.clients().await.unwrap().len(), names.len());
    let mut actions: Vec<_> =
        FileAudit(folder.path().join("audit")).read().into_iter().map(|event| event.action).collect();
    let written = actions.len();
    actions.sort();
    actions.dedup();
    assert_eq!((written, actions.len()), (names.len() * (1 + BURST.div_ceil(15)), written), "each event once");
}
