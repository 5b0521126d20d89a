//! Where a socket may be made, what it replaces, and who is let in.

use std::io::Read;

use super::*;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn it_is_private_and_gone_at_the_end() {
    let folder = folder();
    let path = folder.path().join("broker.sock");
    for (callers, mode) in [
        (Callers::own(), 0o600),
        (Callers::own_and(&[]), 0o600),
        (Callers::own_and(&[own_uid()]), 0o600),
        (Callers::own_and(&[own_uid() + 1]), 0o666),
    ] {
        let listener = SocketListener::bind(&path, callers.clone()).unwrap();
        let about = fs::symlink_metadata(&path).unwrap();
        assert!(about.file_type().is_socket());
        assert_eq!(about.permissions().mode() & 0o777, mode, "{callers:?}");
        drop(listener);
        assert!(!path.exists());
    }
}

#[tokio::test]
async fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
    let folder = folder();
    let path = folder.path().join("broker.sock");
    drop(StdListener::bind(&path).unwrap());
    assert!(path.exists(), "the standard library leaves its file behind, as a killed process does");
    let first = SocketListener::bind(&path, Callers::own()).unwrap();
    for _ in 0..3 {
        assert!(matches!(SocketListener::bind(&path, Callers::own()), Err(SocketError::InUse { .. })));
    }
    assert!(StdStream::connect(&path).is_ok(), "the live one is still there");
    drop(first);
    let foreign = StdListener::bind(&path).unwrap();
    assert!(matches!(SocketListener::bind(&path, Callers::own()), Err(SocketError::InUse { .. })));
    drop(foreign);
    SocketListener::bind(&path, Callers::own()).unwrap();
}

#[tokio::test]
#[allow(clippy::used_underscore_binding, reason = "the field is only there to be dropped")]
async fn a_program_that_is_being_started_does_not_hold_the_name() {
    let folder = folder();
    let path = folder.path().join("broker.sock");
    let first = SocketListener::bind(&path, Callers::own()).unwrap();
    let inherited = first._place.as_ref().unwrap().lock.try_clone().unwrap();
    drop(first);
    SocketListener::bind(&path, Callers::own()).unwrap();
    drop(inherited);
}

#[tokio::test]
async fn what_is_no_socket_is_left_alone() {
    let folder = folder();
    let (file, link, target) =
        (folder.path().join("file"), folder.path().join("link"), folder.path().join("target.sock"));
    fs::write(&file, "precious").unwrap();
    drop(StdListener::bind(&target).unwrap());
    std::os::unix::fs::symlink(&target, &link).unwrap();
    for path in [&file, &link] {
        let result = SocketListener::bind(path, Callers::own());
        assert!(matches!(result, Err(SocketError::NotASocket { .. })), "{result:?}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    assert!(target.exists());
}

#[tokio::test]
async fn a_socket_that_came_later_is_not_removed() {
    let folder = folder();
    let path = folder.path().join("broker.sock");
    let listener = SocketListener::bind(&path, Callers::own()).unwrap();
    fs::remove_file(&path).unwrap();
    let theirs = StdListener::bind(&path).unwrap();
    drop(listener);
    assert!(path.exists());
    drop(theirs);
}

#[tokio::test]
async fn a_folder_in_which_others_may_write_is_refused() {
    let folder = folder();
    let inner = folder.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let path = inner.join("broker.sock");
    for (outer_mode, inner_mode, good) in [
        (0o700, 0o700, true),
        (0o755, 0o755, true),
        (0o1777, 0o700, true),
        (0o777, 0o700, false),
        (0o770, 0o700, false),
        (0o700, 0o770, false),
        (0o700, 0o707, false),
        (0o700, 0o1777, false),
    ] {
        set_mode(folder.path(), outer_mode);
        set_mode(&inner, inner_mode);
        let result = SocketListener::bind(&path, Callers::own());
        assert_eq!(result.is_ok(), good, "{outer_mode:o} {inner_mode:o} {result:?}");
        assert!(good || matches!(result, Err(SocketError::Folder { .. })), "{result:?}");
    }
    set_mode(folder.path(), 0o700);
    let missing = folder.path().join("missing/broker.sock");
    assert!(matches!(SocketListener::bind(&missing, Callers::own()), Err(SocketError::Io { .. })));
    let long = folder.path().join("x".repeat(120));
    assert!(matches!(SocketListener::bind(&long, Callers::own()), Err(SocketError::Io { .. })));
}

#[tokio::test]
async fn a_strangers_folder_is_refused() {
    // nobody's user id on Linux
    const NOBODY: u32 = 65_534;
    if own_uid() != 0 {
        // only root can give a folder away
        return;
    }
    let folder = folder();
    let shared = folder.path().join("shared");
    let (lower, inner) = (shared.join("lower"), shared.join("lower/inner"));
    fs::create_dir_all(&inner).unwrap();
    for (shared_mode, lower_owner, inner_owner, for_caller, for_listener) in [
        (0o1777, 0, 0, true, true),
        (0o1777, 0, NOBODY, true, false),
        (0o1777, NOBODY, 0, false, false),
        (0o1777, NOBODY, NOBODY, false, false),
        (0o1770, NOBODY, 0, false, false),
        (0o755, NOBODY, 0, true, true),
    ] {
        set_mode(&shared, shared_mode);
        for (path, owner) in [(&lower, lower_owner), (&inner, inner_owner)] {
            set_mode(path, 0o755);
            std::os::unix::fs::chown(path, Some(owner), None).unwrap();
        }
        let path = inner.join("broker.sock");
        let case = format!("{shared_mode:o} {lower_owner} {inner_owner}");
        let (checked, bound) = (check_folder(&path), SocketListener::bind(&path, Callers::own()));
        assert_eq!((checked.is_ok(), bound.is_ok()), (for_caller, for_listener), "{case}: {checked:?} {bound:?}");
        assert!(for_listener || matches!(bound, Err(SocketError::Folder { .. })), "{case}: {bound:?}");
        let named = if lower_owner == 0 { &inner } else { &lower };
        let told = bound.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(for_listener || told.contains(&format!("{:?} ", named.canonicalize().unwrap())), "{case}: {told}");
    }
}

#[test]
fn who_is_admitted() {
    let own = own_uid();
    assert!(Callers::own().admit(own) && !Callers::own().admit(own + 1));
    if own != 0 {
        assert!(!Callers::own().admit(0), "root has other ways");
    }
    let both = Callers::own_and(&[own + 7]);
    assert!(both.admit(own) && both.admit(own + 7) && !both.admit(own + 8));
    assert!(!Callers::only(&[own + 1]).admit(own));
}

#[tokio::test]
async fn a_stranger_is_sent_away_before_it_says_a_word() {
    let folder = folder();
    let path = folder.path().join("broker.sock");
    let mut listener = SocketListener::bind(&path, Callers::only(&[own_uid() + 1])).unwrap();
    let accepting = tokio::spawn(async move { listener.accept().await.1 });
    // nothing is written: the answer does not wait for a request
    let answers = tokio::task::spawn_blocking(move || {
        let mut answers = Vec::new();
        for _ in 0..2 * PARTING_MAX {
            let mut answer = String::new();
            StdStream::connect(&path).unwrap().read_to_string(&mut answer).unwrap();
            answers.push(answer);
        }
        // one that is told while it still writes is not reset
        let mut stream = StdStream::connect(&path).unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        answers.push(String::from_utf8_lossy(&answer).into_owned() + &rest);
        answers
    });
    for answer in answers.await.unwrap() {
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
        assert!(answer.contains("keyholder.guard.refused") && answer.contains("allow_uids"), "{answer}");
    }
    assert!(!accepting.is_finished(), "no stranger is handed on");
    accepting.abort();
}
