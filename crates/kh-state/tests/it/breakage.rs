//! A full disk and a read-only folder: a clear error, and the last good state is still there.

use std::{
    fs::{self, Permissions},
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::Path,
};

use kh_core::port::StateStore;

use crate::{
    child::{command, open, said, state_path},
    support::{START, client, event, token},
};

/// Nobody's user id on Linux.
const NOBODY: u32 = 65_534;

#[tokio::test]
async fn a_full_disk_refuses_writes_and_keeps_what_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let this = std::env::current_exe().unwrap();
    // a file size limit stands in for the disk's end; ignoring the signal turns it into a failed write
    let script = "trap '' XFSZ; ulimit -f 1000; exec \"$0\" \"$@\"";
    let starve = ["-c", script, this.to_str().unwrap()];
    let output = command(Path::new("/bin/sh"), &starve, "fill", folder.path()).output().unwrap();
    let said = said(&output.stdout);
    let [failed, setting, live] = &said[..] else { panic!("{said:?} {}", String::from_utf8_lossy(&output.stdout)) };
    let (written, reason) = failed.strip_prefix("failed ").unwrap().split_once(' ').unwrap();
    let written: usize = written.parse().unwrap();
    assert!(written > 10, "it failed before it began: {failed}");
    assert!(reason.starts_with("the state is not available: "), "{reason}");
    assert_eq!((setting.as_str(), live.as_str()), ("setting true", format!("live {written}").as_str()));

    let state = open(folder.path()).unwrap();
    assert_eq!(state.live_tokens(START).await.unwrap().len(), written, "no more and no less than acknowledged");
    state.add_token(token(&client("writer"), "with room again", 1000)).await.unwrap();
}

#[tokio::test]
async fn a_read_only_folder_is_said_clearly_and_nothing_changes() {
    let folder = tempfile::tempdir().unwrap();
    let state = open(folder.path()).unwrap();
    state.add_client(client("one"), event("client.add")).await.unwrap();
    drop(state);
    let (path, inner) = (state_path(folder.path()), folder.path().join("state"));
    let before = fs::read(&path).unwrap();
    let lock = inner.join("state.db.lock");
    let this = folder.path().join("child");
    fs::copy(std::env::current_exe().unwrap(), &this).unwrap();

    let mut child = command(&this, &[], "open", folder.path());
    if fs::metadata(&path).unwrap().uid() == 0 {
        // root may write anywhere, so the child is nobody
        for owned in [&path, &inner, &lock] {
            chown(owned, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        child.uid(NOBODY).gid(NOBODY);
    }
    fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
    fs::set_permissions(&lock, Permissions::from_mode(0o400)).unwrap();
    fs::set_permissions(&inner, Permissions::from_mode(0o500)).unwrap();
    let output = child.output().unwrap();
    fs::set_permissions(&inner, Permissions::from_mode(0o700)).unwrap();

    let said = said(&output.stdout);
    let [line] = &said[..] else { panic!("{said:?} {}", String::from_utf8_lossy(&output.stdout)) };
    assert!(line.contains("the state folder cannot be written"), "{line}");
    assert_eq!(fs::read(&path).unwrap(), before);
}
