//! Tests of a socket's file.

use super::*;

const MODE: u32 = 0o640;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_socket_has_its_mode_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.sock");
    for wanted in [0o600, 0o660, 0o666] {
        let (listener, file) = bind(&path, wanted, 8).unwrap();
        assert_eq!(mode(&path), wanted);
        drop(UnixStream::connect(&path).unwrap());
        drop((listener, file));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "socket and lock are gone");
    }
}

#[test]
fn the_socket_of_a_dead_process_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.sock");
    // what is left when a process is killed: the socket's file, and a lock file that nobody has locked
    drop(UnixListener::bind(&path).unwrap());
    File::create(folder.path().join("gateway.sock.lock")).unwrap();
    assert!(path.exists());
    let (_listener, _file) = bind(&path, MODE, 8).unwrap();
    assert!(UnixStream::connect(&path).is_ok());
}

#[test]
fn a_live_socket_is_refused_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.sock");
    let (listener, file) = bind(&path, MODE, 8).unwrap();
    assert_eq!(bind(&path, MODE, 8).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    assert!(UnixStream::connect(&path).is_ok());
    drop((listener, file));
    // also one of a program that knows nothing of the lock
    let _foreign = UnixListener::bind(&path).unwrap();
    assert_eq!(bind(&path, MODE, 8).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    assert!(UnixStream::connect(&path).is_ok());
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.sock");
    fs::write(&path, "a file").unwrap();
    assert_eq!(bind(&path, MODE, 8).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read_to_string(&path).unwrap(), "a file");
    let link = folder.path().join("link.sock");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert_eq!(bind(&link, MODE, 8).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    // a lock file that is a link would let somebody choose which file is locked
    let other = folder.path().join("other.sock");
    std::os::unix::fs::symlink(&path, folder.path().join("other.sock.lock")).unwrap();
    assert!(bind(&other, MODE, 8).is_err());
}

#[test]
fn a_socket_that_somebody_else_put_there_is_not_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.sock");
    let (listener, file) = bind(&path, MODE, 8).unwrap();
    fs::remove_file(&path).unwrap();
    let _theirs = UnixListener::bind(&path).unwrap();
    drop((listener, file));
    assert!(UnixStream::connect(&path).is_ok());
}

#[test]
fn of_many_that_start_at_once_one_gets_the_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.sock");
    for _ in 0..20 {
        drop(UnixListener::bind(&path).unwrap());
        let start = std::sync::Barrier::new(8);
        let results: Vec<_> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        let bound = bind(&path, MODE, 8);
                        // held until everybody has tried
                        start.wait();
                        bound
                    })
                })
                .collect();
            all.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
        assert!(UnixStream::connect(&path).is_ok(), "whoever got it is the one that is reached");
    }
}
