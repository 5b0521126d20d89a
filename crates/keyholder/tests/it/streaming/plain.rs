//! A platform without limits, faults or memory: it streams what it is asked for and digests what it is sent.
//!
//! Invariant: a body that breaks off is counted as broken and never answered as if it were whole.

use std::{
    io::{BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use serde_json::json;

use super::{
    PATIENCE,
    body::{BLOCK, Framing, Head, announce, read_body, write_body},
};

/// What a plain platform saw.
#[derive(Default)]
pub(crate) struct Seen {
    /// Bytes of download bodies that its socket took.
    pub(crate) sent: AtomicU64,
    /// A download that the other side broke off.
    pub(crate) broken_downloads: AtomicU64,
    /// An upload that broke off before its end.
    pub(crate) broken_uploads: AtomicU64,
    tokens: AtomicU64,
    stop: AtomicBool,
}

/// An API of the user's own with a token endpoint: `kind = "oauth2"`, no limits, no faults.
pub(crate) struct Plain {
    pub(crate) address: String,
    pub(crate) seen: Arc<Seen>,
}

impl Plain {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Seen::default());
        let of_thread = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if of_thread.stop.load(Ordering::Relaxed) {
                    return;
                }
                let seen = Arc::clone(&of_thread);
                thread::spawn(move || serve(stream.unwrap(), &seen));
            }
        });
        Self { address, seen }
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.seen.stop.store(true, Ordering::Relaxed);
        // the accepting thread looks at the flag once more
        TcpStream::connect(&self.address).ok();
    }
}

/// One connection; an error ends it, which its caller notices.
fn serve(stream: TcpStream, seen: &Seen) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let mut to = stream.try_clone().unwrap();
    let mut from = BufReader::with_capacity(BLOCK, stream);
    while let Ok(Some(head)) = Head::read(&mut from) {
        if answer(&head, &mut from, &mut to, seen).is_err() {
            return;
        }
    }
}

fn answer(head: &Head, from: &mut BufReader<TcpStream>, to: &mut TcpStream, seen: &Seen) -> std::io::Result<()> {
    let (method, target) = head.first.split_once(' ').unwrap();
    let target = target.split(' ').next().unwrap();
    if let ("get", Some(length)) = (method, target.strip_prefix("/download/")) {
        let (framing, length) = length.split_once('/').unwrap();
        let framing = if framing == "chunked" { Framing::Chunked } else { Framing::Length };
        let length = length.parse().unwrap();
        write!(to, "HTTP/1.1 200 OK\r\n{}\r\n", announce(framing, length))?;
        return write_body(to, framing, length, &seen.sent).inspect_err(|_| {
            seen.broken_downloads.fetch_add(1, Ordering::Relaxed);
        });
    }
    if head.lines.iter().any(|line| line == "upgrade: echo") {
        to.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")?;
        return echo(from, to);
    }
    let read = read_body(from, head);
    if read.is_err() {
        seen.broken_uploads.fetch_add(1, Ordering::Relaxed);
    }
    let (length, digest) = read?;
    let body = if target == "/oauth/token" {
        let number = seen.tokens.fetch_add(1, Ordering::Relaxed);
        json!({ "access_token": format!("plain-{number}"), "token_type": "Bearer", "expires_in": 3_600 })
    } else {
        json!({ "length": length, "sha256": digest, "framing": if head.length.is_some() { "length" } else { "chunked" } })
    };
    let body = body.to_string();
    let length = body.len();
    write!(to, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
}

fn echo(from: &mut BufReader<TcpStream>, to: &mut TcpStream) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        to.write_all(&buffer[..count])?;
    }
}
