//! A full disk (a file size limit of a child process) and a read-only directory (a child that is not the superuser).

use std::{
    fs::{self, Permissions},
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::Path,
    process::Command,
};

use kh_core::port::StoreError;

use crate::support::{filled, get, open, put};

fn in_child(path: &Path, prepare: &str, user: Option<u32>) -> String {
    let mut command = Command::new("/bin/sh");
    command
        .args([
            "-c",
            &format!("{prepare} exec \"$0\" --exact disk::child_writes_until_it_fails --nocapture --test-threads=1"),
        ])
        .arg(std::env::current_exe().unwrap())
        .env("KH_STORE_CHILD", path);
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    let output = command.output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn a_full_disk_is_an_error_that_keeps_the_last_good_state() {
    let filled = filled();
    // In sh's blocks of 512 bytes: 128 KiB. SIGXFSZ is ignored, so that the write fails instead of killing.
    let output = in_child(&filled.path, "trap '' XFSZ; ulimit -f 256;", None);
    let acknowledged = output.matches("acknowledged").count() as u64;
    assert!(acknowledged >= 2, "{output}");
    assert!(output.contains("refused: the secret store is not available"), "{output}");
    assert!(output.contains("disk full"), "{output}");
    assert!(output.contains(&format!("then reads {acknowledged}")), "{output}");
    filled.is_whole();
    let store = open(&filled.path).unwrap();
    assert_eq!(get(&store, "filler").unwrap().0, acknowledged);
    assert_eq!(put(&store, "filler", b"x").unwrap(), acknowledged + 1);
}

#[test]
fn a_read_only_directory_is_a_clear_error_and_reading_goes_on() {
    let filled = filled();
    let directory = filled.path.parent().unwrap();
    let is_root = fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0);
    let nobody = is_root.then_some(65534);
    if let Some(user) = nobody {
        std::os::unix::fs::chown(&filled.path, Some(user), Some(user)).unwrap();
    }
    fs::set_permissions(directory, Permissions::from_mode(0o555)).unwrap();
    for (mode, reads) in [(0o600, true), (0o400, true), (0o000, false)] {
        fs::set_permissions(&filled.path, Permissions::from_mode(mode)).unwrap();
        let before = is_root.then(|| fs::read(&filled.path).unwrap());
        let output = in_child(&filled.path, "", nobody);
        assert!(output.contains("refused: the secret store is not available"), "{mode:o} {output}");
        assert_eq!(output.contains("then reads 3"), reads, "{mode:o} {output}");
        assert_eq!(before, is_root.then(|| fs::read(&filled.path).unwrap()));
    }
    let fresh = directory.join("new/secrets.db");
    let output = in_child(&fresh, "", nobody);
    assert!(output.contains("cannot create the directory"), "{output}");
    fs::set_permissions(directory, Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(&filled.path, Permissions::from_mode(0o600)).unwrap();
    filled.is_whole();
}

/// Not a test of its own: the process that the two above start.
#[test]
fn child_writes_until_it_fails() {
    let Some(path) = std::env::var_os("KH_STORE_CHILD") else { return };
    let store = match open(path.as_ref()) {
        Ok(store) => store,
        Err(error) => return println!("refused: {error}"),
    };
    for number in 0..100_u32 {
        match put(&store, "filler", &vec![7; 20_000]) {
            Ok(version) => println!("acknowledged {version}"),
            Err(error) => {
                println!("refused: {error}");
                assert!(matches!(error, StoreError::Unavailable { .. }), "{number}");
                let name = if number == 0 { "acme" } else { "filler" };
                println!("then reads {}", get(&store, name).unwrap().0);
                return;
            }
        }
    }
}
