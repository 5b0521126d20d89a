//! What the kernel keeps of a process: its core file.
//!
//! Invariant: proven beside a process that does leave one, where this machine leaves any.

use std::{fs, os::unix::process::ExitStatusExt, process::Command};

use super::world::Apart;

/// Ends `words` with SIGABRT under an unlimited core size; answers whether the kernel dumped it.
fn dumps(folder: &std::path::Path, name: &str, words: &[&str], ready: Option<&std::path::Path>) -> bool {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -c unlimited && exec \"$0\" \"$@\""]).args(words).current_dir(folder).env_clear();
    let mut process = Apart::start(&mut command, folder, name);
    match ready {
        Some(file) => drop(process.ready(file)),
        // The shell has replaced itself once the command line is the other program's.
        None => {
            while fs::read(format!("/proc/{}/cmdline", process.pid())).unwrap().starts_with(b"sh") {
                std::thread::yield_now();
            }
        }
    }
    let ended = process.end("ABRT");
    assert_eq!(ended.signal(), Some(6));
    ended.core_dumped()
}

#[test]
fn a_killed_server_leaves_no_core_file() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[gateway]\nlisten = [\"127.0.0.1:0\"]\n[admin]\nlisten = \"127.0.0.1:0\"\n[broker]\nlisten = \"127.0.0.1:0\"\n[state]\ndir = \"state\"\n";
    fs::write(folder.path().join("keyholder.toml"), config).unwrap();
    let ready = folder.path().join("ready.json");
    let program = env!("CARGO_BIN_EXE_keyholder");
    let words = [program, "serve", "--config", "keyholder.toml", "--ready-file", ready.to_str().unwrap()];
    let control = dumps(folder.path(), "control", &["/bin/sleep", "1000"], None);
    assert!(!dumps(folder.path(), "serve", &words, Some(&ready)), "the kernel dumped the server's memory");
    if !control {
        println!("this machine dumps nothing at all; only the limit itself was checked, in the scenario");
    }
    let files = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    let cores = files.iter().filter(|name| name.to_string_lossy().starts_with("core")).count();
    assert!(cores <= usize::from(control), "{files:?}");
}
