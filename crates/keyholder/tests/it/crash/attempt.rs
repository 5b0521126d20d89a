//! Requests to a server that may die at any moment.
//!
//! Invariant: only an answer that came whole counts as one.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use crate::harness::{Answer, Login, parse_answer};

/// Longer than any answer takes on a busy machine; a dead server closes at once.
const PATIENCE: Duration = Duration::from_mins(1);

/// One request on a connection of its own; none when no whole answer came.
pub fn attempt(method: &str, base: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Option<Answer> {
    let host = base.strip_prefix("http://").expect("plain http");
    let lines: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let (lines, length) = (lines.concat(), body.len());
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{lines}Content-Length: {length}\r\n\r\n{body}"
    );
    let mut stream = TcpStream::connect(host).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(head.as_bytes()).ok()?;
    let mut raw = Vec::new();
    // A reset after a whole answer is as good as a close.
    stream.read_to_end(&mut raw).ok();
    is_whole(&raw).then(|| parse_answer(&raw))
}

fn is_whole(raw: &[u8]) -> bool {
    let Some(end) = raw.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&raw[..end]).to_ascii_lowercase();
    let body = &raw[end + 4..];
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    match length {
        Some(length) => body.len() >= length,
        None if head.contains("transfer-encoding") => body.ends_with(b"0\r\n\r\n"),
        None => body.is_empty(),
    }
}

/// Logs in as an official Genesys Cloud SDK does.
pub fn log_in(gateway: &str, login: &Login) -> Option<Answer> {
    let form = format!("grant_type=client_credentials&client_id={}&client_secret={}", login.id, login.secret);
    attempt("POST", gateway, "/oauth/token", &[("Content-Type", "application/x-www-form-urlencoded")], &form)
}

/// A call through the gateway that the platform answers.
pub fn call(gateway: &str, token: &str) -> Option<Answer> {
    let bearer = format!("Bearer {token}");
    attempt("GET", gateway, "/api/v2/users?pageSize=1", &[("Authorization", &bearer)], "")
}

/// Gives a token back.
pub fn revoke(gateway: &str, token: &str) -> Option<Answer> {
    let bearer = format!("Bearer {token}");
    attempt("DELETE", gateway, "/api/v2/tokens/me", &[("Authorization", &bearer)], "")
}
