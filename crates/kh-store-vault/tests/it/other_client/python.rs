//! `hvac`, Python's client, in a process of its own that takes one request per line (`tests/stores/vault_lines.py`).

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Mutex,
};

use kh_core::{SecretBytes, port::BoxFuture};
use serde_json::{Value, json};

use super::Engine;

/// The interpreter with the pinned packages.
const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.test-tools/python/bin/python");

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/stores/vault_lines.py");

struct Lines {
    process: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// The process; it ends with its input.
pub(crate) struct Hvac(Mutex<Lines>);

impl Hvac {
    pub(crate) fn start(url: &str, token: &str) -> Self {
        assert!(Path::new(PYTHON).exists(), "{PYTHON} is missing: `cargo xtask tools` installs it, with hvac");
        let mut process =
            Command::new(PYTHON).arg(SCRIPT).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let requests = process.stdin.take().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap());
        let hvac = Self(Mutex::new(Lines { process, requests, answers }));
        hvac.exchange(&json!({"url": url, "token": token}));
        hvac
    }

    /// The fake answers on threads of its own.
    fn exchange(&self, request: &Value) -> Value {
        let mut lines = self.0.lock().unwrap();
        writeln!(lines.requests, "{request}").unwrap();
        let mut answer = String::new();
        lines.answers.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap_or_else(|_| panic!("hvac ended; its complaint stands above"))
    }

    fn ask(&self, request: &Value) -> Value {
        tokio::task::block_in_place(|| self.exchange(request))
    }
}

impl Drop for Hvac {
    fn drop(&mut self) {
        let lines = self.0.get_mut().unwrap();
        drop(lines.process.kill());
        drop(lines.process.wait());
    }
}

impl Engine for Hvac {
    fn read<'a>(&'a self, key: &'a str) -> BoxFuture<'a, (u64, Option<SecretBytes>)> {
        Box::pin(async move {
            let read = self.ask(&json!({"do": "read", "key": key}));
            let document = read["data"].is_object().then(|| SecretBytes::new(read["data"].to_string().into_bytes()));
            (read["version"].as_u64().unwrap(), document)
        })
    }

    fn write<'a>(&'a self, key: &'a str, document: &'a SecretBytes, cas: u64) -> BoxFuture<'a, Option<u64>> {
        Box::pin(async move {
            let data: Value = serde_json::from_slice(document.expose()).unwrap();
            self.ask(&json!({"do": "write", "key": key, "data": data, "cas": cas}))["version"].as_u64()
        })
    }

    fn destroy<'a>(&'a self, key: &'a str, version: u64) -> BoxFuture<'a, ()> {
        Box::pin(async move { drop(self.ask(&json!({"do": "destroy", "key": key, "version": version}))) })
    }

    fn list<'a>(&'a self, folder: &'a str) -> BoxFuture<'a, Vec<String>> {
        Box::pin(async move {
            let names = self.ask(&json!({"do": "list", "folder": folder}));
            serde_json::from_value(names["keys"].clone()).unwrap()
        })
    }
}
