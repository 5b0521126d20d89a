//! The files of `examples/shims`, run as they are: a call, a token that the platform killed, and the call again.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
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

/// An answer that is not keyholder's, or not whole, rejects the call: nothing is thrown where no caller can catch it, and
/// nothing waits for ever.
#[test]
fn node_tells_what_is_no_answer() {
    for (answer, told) in [
        ("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n", "Error: keyholder: 500\n"),
        ("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 6\r\n\r\n<html>", "Error: keyholder: 502, and no JSON\n"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"access_", "Error: keyholder: the answer broke off\n"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answering = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = BufReader::new(stream.try_clone().unwrap());
            let mut line = String::new();
            // the empty line has the two bytes of its end
            while head.read_line(&mut line).unwrap() > 2 {
                line.clear();
            }
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let mut command = Command::new("node");
        command.env_clear().env("PATH", PATH).env("KEYHOLDER_URL", url).env("KEYHOLDER_PROFILE", "genesys");
        let said = run(command.arg(shim("node/keyholder-token.mjs")).arg(CALL), b"");
        assert_eq!(said.code, Some(1), "{}", said.err);
        assert!(said.err.contains(told), "no {told} in {}", said.err);
        // last, for it waits for ever when node never connected
        answering.join().unwrap();
    }
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
