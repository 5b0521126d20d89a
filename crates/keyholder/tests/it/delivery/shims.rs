//! The files of `examples/shims`, run as they are: a call, a token that the platform killed, and the call again.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Command, Stdio},
};

use super::world::{self, PATH, evidence, installation, program, root, socket_url};
use crate::harness::{Installation, Server, run, text};

const CALL: &str = "/api/v2/users?pageSize=1";

fn shim(path: &str) -> PathBuf {
    root().join("examples/shims").join(path)
}

/// Runs `command` beside the broker at both its addresses.
fn works(command: &[&str]) {
    let installation = installation();
    let server = installation.serve();
    for url in [text(&server.ready, "broker_url"), socket_url(&server)] {
        heals_a_killed_token(&installation, &server, url, command);
    }
}

fn heals_a_killed_token(installation: &Installation, server: &Server, url: &str, words: &[&str]) {
    let mut evidence = evidence(installation);
    let before = world::logins(installation);
    let mut command = program(words[0], server, url);
    command.args(&words[1..]).arg(CALL).env("KEYHOLDER_PROFILE", "genesys");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap());
    let mut next = || {
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        line
    };
    let first = next();
    evidence.add_process("the shim", child.id());
    world::revoke(installation);
    writeln!(child.stdin.as_mut().unwrap()).unwrap();
    let second = next();
    let ended = child.wait_with_output().unwrap();
    let err = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!((first.trim(), second.trim()), ("200", "200"), "{words:?} at {url}: {err}");
    // the token of before may have served the first call
    let logins = world::logins(installation) - before;
    assert!((1..=2).contains(&logins), "{logins} logins");
    evidence.add("standard error", err);
    assert_eq!(evidence.leaks(), Vec::<String>::new());
}

#[test]
fn python() {
    works(&["python3", shim("python/keyholder_token.py").to_str().unwrap()]);
}

#[test]
fn node() {
    works(&["node", shim("node/keyholder-token.mjs").to_str().unwrap()]);
}

#[test]
fn go() {
    let folder = tempfile::tempdir().unwrap();
    let built = folder.path().join("shim");
    let mut build = Command::new("go");
    build.env_clear().env("PATH", PATH).env("HOME", folder.path()).env("GOFLAGS", "-mod=mod").env("GO111MODULE", "off");
    // no module is fetched: the standard library is all it uses
    build.env("GOPROXY", "off").args(["build", "-o"]).arg(&built).arg(shim("go/keyholder_token.go"));
    run(&mut build, b"").done();
    works(&[built.to_str().unwrap()]);
}

#[test]
fn java() {
    let folder = tempfile::tempdir().unwrap();
    let mut build = Command::new("javac");
    build.env_clear().env("PATH", PATH).arg("-d").arg(folder.path()).arg(shim("java/KeyholderToken.java"));
    run(&mut build, b"").done();
    works(&["java", "-Xshare:auto", "-cp", folder.path().to_str().unwrap(), "KeyholderToken"]);
}

/// The guide shows the files, and not something like them.
#[test]
fn the_guide_quotes_the_files() {
    let page = fs::read_to_string(root().join("docs/guide/broker.md")).unwrap();
    for file in [
        "python/keyholder_token.py",
        "node/keyholder-token.mjs",
        "go/keyholder_token.go",
        "java/KeyholderToken.java",
        "csharp/KeyholderToken.cs",
    ] {
        assert!(shim(file).exists() && page.contains(&format!("examples/shims/{file}")), "{file}");
    }
}
