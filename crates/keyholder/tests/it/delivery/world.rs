//! An installation with a broker on a port and on a socket, and what of it no caller may ever hold.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;

use crate::{
    harness::{Installation, Said, Server, run, text},
    leaks::evidence::Evidence,
};

/// Where the tools of these tests are.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A credential of production beside the others, with the same secret.
const PRODUCTION: &str =
    "[credential.prod]\nplatform = \"genesys\"\nsecret = \"store:genesys\"\nenvironment = \"production\"\n";

/// An installation whose broker also listens on a socket.
pub fn installation() -> Installation {
    let made = Installation::with("", PRODUCTION);
    set_broker(&made, "socket = \"run/broker.sock\"");
    fs::create_dir(made.path("run")).unwrap();
    fs::set_permissions(made.path("run"), fs::Permissions::from_mode(0o700)).unwrap();
    made
}

/// Puts lines into `[broker]`.
pub fn set_broker(installation: &Installation, lines: &str) {
    let file = installation.path("keyholder.toml");
    let config = fs::read_to_string(&file).unwrap();
    fs::write(&file, config.replace("[broker]\n", &format!("[broker]\n{lines}\n"))).unwrap();
}

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// A foreign program with an environment of its own, which finds the broker by `url`.
pub fn program(name: &str, server: &Server, url: &str) -> Command {
    let mut command = Command::new(name);
    command.env_clear().env("PATH", path_with_keyholder()).env("HOME", "/nonexistent").env("KEYHOLDER_URL", url);
    command.env("KEYHOLDER_TOKEN_FILE", text(&server.ready, "broker_token_file"));
    command
}

/// The usual folders, and the one of the program under test.
pub fn path_with_keyholder() -> String {
    let folder = Path::new(env!("CARGO_BIN_EXE_keyholder")).parent().unwrap();
    format!("{}:{PATH}", folder.display())
}

pub fn socket_url(server: &Server) -> &str {
    text(&server.ready, "broker_socket_url")
}

/// Runs it to its end, and keeps what it said for the search.
pub fn said(command: &mut Command, evidence: &mut Evidence) -> Said {
    let name = format!("{command:?}");
    let said = run(command, b"");
    evidence.add(&format!("stdout of {name}"), &said.out);
    evidence.add(&format!("stderr of {name}"), &said.err);
    said
}

/// What must not be found: the platforms' secrets and the key of the store.
pub fn evidence(installation: &Installation) -> Evidence {
    let mut evidence = Evidence::default();
    evidence.secret("client secret", text(&installation.sandbox.ready, "client_secret"));
    for name in ["client_secret", "access_key_secret"] {
        evidence.secret(name, text(&installation.sandbox.ready["cxone"], name));
    }
    let key = fs::read_to_string(installation.path("state/store.key")).unwrap();
    evidence.secret("store key", key.trim());
    evidence
}

/// How often the platform was asked for a token.
pub fn logins(installation: &Installation) -> u64 {
    installation.sandbox.count("POST /oauth/token")
}

/// The current token's digest, asked for without a new login.
pub fn token_of(server: &Server) -> String {
    let answer = crate::harness::request(
        "GET",
        &format!("{}/v1/token/genesys", server.broker()),
        &[("X-Keyholder-Token", &server.guard())],
        b"",
    );
    text(&answer.json(), "access_token").to_owned()
}

/// The platform takes this token.
pub fn assert_good(installation: &Installation, token: &str) {
    let bearer = format!("Bearer {token}");
    let url = format!("{}/api/v2/users?pageSize=1", installation.sandbox.url());
    let answer = crate::harness::request("GET", &url, &[("Authorization", bearer.as_str())], b"");
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// Kills the platform's tokens, so that the next use gets a 401.
pub fn revoke(installation: &Installation) {
    installation.sandbox.control("POST", "tokens/revoke", &json!({ "all": true }));
}
