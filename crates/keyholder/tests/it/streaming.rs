//! Bodies far larger than memory allows to keep, slow and vanishing callers, and tunnels, through the real process.
//!
//! Invariants: every byte is checked by length and SHA-256 on both ends; the memory of the serving process is read
//! from its own `/proc` entry and printed.

mod body;
mod plain;

use std::{
    io::{BufReader, Read, Write},
    net::TcpStream,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use self::{
    body::{BLOCK, Content, Framing, Head, announce, read_body, write_body},
    plain::Plain,
};
use crate::harness::{Installation, Server, text};

const MIB: u64 = 1024 * 1024;

/// The most that the process may grow while a body of any size passes.
const GROWTH_MAX: u64 = 64 * MIB;

/// What may lie in the process itself: a few frames of one connection each way.
const FRAMES: u64 = 4 * MIB;

/// Long enough for a busy machine; a test that hangs says so.
const PATIENCE: Duration = Duration::from_mins(2);

/// What passes each way; it takes a few seconds, also unoptimised.
const SIZE: u64 = 1024 * MIB;

/// A keyholder before a plain platform, and a token for it.
struct Stage {
    plain: Plain,
    server: Server,
    token: String,
    #[allow(dead_code, reason = "keeps the folder until the end")]
    installation: Installation,
}

impl Stage {
    fn new() -> Self {
        let plain = Plain::start();
        let address = &plain.address;
        let lines = format!(
            "[platform.plain]\nkind = \"oauth2\"\ntoken_url = \"http://{address}/oauth/token\"\napi_url = \"http://{address}\"\n\
             [credential.plain]\nplatform = \"plain\"\nsecret = \"store:plain\"\n"
        );
        let installation = Installation::with("", &lines);
        installation.store_secret("plain", &json!({ "client_id": "plain", "client_secret": "plain-secret" }));
        let login = installation.add_client("app", &["--credential", "plain", "--allow-all"]);
        let server = installation.serve();
        let token = server.login(&login);
        // everything that is made once is made: connections, token, threads
        let first = server.call(&token, "GET", "/first");
        assert_eq!(first.status, 200, "{first:?}");
        Self { plain, server, token, installation }
    }

    /// A connection on which a request's head was sent.
    fn ask(&self, method: &str, target: &str, lines: &str) -> TcpStream {
        let host = self.server.gateway().strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(host).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let token = &self.token;
        write!(stream, "{method} {target} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n{lines}\r\n")
            .unwrap();
        stream
    }

    /// `VmRSS` or `VmHWM` of the serving process, in bytes.
    fn memory(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.server.process.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Does something and tells by how much the process grew at most.
    fn growth<T>(&self, what: &str, doing: impl FnOnce() -> T) -> T {
        let before = self.memory("VmRSS");
        let done = doing();
        let (peak, after) = (self.memory("VmHWM"), self.memory("VmRSS"));
        let growth = peak.saturating_sub(before);
        let mib = |bytes: u64| format!("{}.{} MiB", bytes / MIB, bytes % MIB * 10 / MIB);
        println!(
            "{what}: RSS before {}, after {}, peak {}; growth at most {}",
            mib(before),
            mib(after),
            mib(peak),
            mib(growth)
        );
        assert!(growth < GROWTH_MAX, "{what}: the process grew by {}", mib(growth));
        done
    }
}

fn upload(stage: &Stage, framing: Framing, length: u64) -> Value {
    let mut stream = stage.ask("PUT", "/upload", &announce(framing, length));
    write_body(&mut stream, framing, length, &AtomicU64::new(0)).unwrap();
    let mut from = BufReader::new(stream);
    let head = Head::read(&mut from).unwrap().expect("an answer");
    assert!(head.first.starts_with("http/1.1 200 "), "{head:?}");
    let mut body = vec![0; usize::try_from(head.length.unwrap()).unwrap()];
    from.read_exact(&mut body).unwrap();
    serde_json::from_slice(&body).unwrap()
}

fn uploads(framing: Framing, name: &str) {
    let (stage, length) = (Stage::new(), SIZE);
    let got = stage.growth(&format!("upload of {} MiB, {name}", length / MIB), || upload(&stage, framing, length));
    assert_eq!(got["length"], length);
    assert_eq!(text(&got, "sha256"), Content::digest_of(length));
    assert_eq!(text(&got, "framing"), name, "it is forwarded as it is framed, without being read whole");
}

fn downloads(framing: Framing, name: &str) {
    let (stage, length) = (Stage::new(), SIZE);
    let got = stage.growth(&format!("download of {} MiB, {name}", length / MIB), || {
        let mut from = BufReader::with_capacity(BLOCK, stage.ask("GET", &format!("/download/{name}/{length}"), ""));
        let head = Head::read(&mut from).unwrap().expect("an answer");
        assert!(head.first.starts_with("http/1.1 200 "), "{head:?}");
        assert_eq!(head.length, (framing == Framing::Length).then_some(length));
        read_body(&mut from, &head).unwrap()
    });
    assert_eq!(got, (length, Content::digest_of(length)));
}

#[test]
fn a_large_upload_with_a_length_streams() {
    uploads(Framing::Length, "length");
}

#[test]
fn a_large_chunked_upload_streams() {
    uploads(Framing::Chunked, "chunked");
}

#[test]
fn a_large_download_with_a_length_streams() {
    downloads(Framing::Length, "length");
}

#[test]
fn a_large_chunked_download_streams() {
    downloads(Framing::Chunked, "chunked");
}

/// Waits for something that another thread or process brings about.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..3_000 {
        if holds() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("in vain: {what}");
}

/// What the kernel may hold of one direction between the platform and a caller: two connections, each with a buffer of
/// the sender and one of the receiver, which grow as far as this machine allows (tcp(7), `tcp_rmem` and `tcp_wmem`).
fn kernel_holds() -> u64 {
    let most = |name: &str| -> u64 {
        let limits = std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap();
        limits.split_whitespace().next_back().unwrap().parse().unwrap()
    };
    2 * (most("tcp_rmem") + most("tcp_wmem"))
}

/// A caller that does not read stops the platform from sending, and costs no memory.
#[test]
fn a_slow_reader_slows_the_platform_down() {
    let stage = Stage::new();
    let between = kernel_holds() + FRAMES;
    let length = (4 * between).max(1024 * MIB);
    let stream = stage.ask("GET", &format!("/download/length/{length}"), "");
    let mut from = BufReader::with_capacity(BLOCK, stream);
    stage.growth("slow reader", || {
        let head = Head::read(&mut from).unwrap().expect("an answer");
        assert_eq!(head.length, Some(length));
        let mut taken = 0;
        for pause in 0..3 {
            // the platform's socket takes nothing more for a whole second: everything between is full
            let mut last = (0, 0);
            until("the platform stands still", || {
                let sent = stage.plain.seen.sent.load(Ordering::Relaxed);
                last = if sent == last.0 { (sent, last.1 + 1) } else { (sent, 0) };
                last.1 == 100
            });
            let ahead = last.0 - taken;
            println!("pause {pause}: the platform is {} KiB ahead of the reader", ahead / 1024);
            assert!(ahead < between, "only kernel buffers and a few frames lie between: {} KiB", between / 1024);
            let mut piece = vec![0; 32 * 1024 * 1024];
            from.read_exact(&mut piece).unwrap();
            taken += piece.len() as u64;
        }
    });
    // and a caller that leaves in the middle takes the platform's connection with it
    assert_eq!(stage.plain.seen.broken_downloads.load(Ordering::Relaxed), 0);
    drop(from);
    until("the platform's connection is closed", || stage.plain.seen.broken_downloads.load(Ordering::Relaxed) == 1);
    let sent = stage.plain.seen.sent.load(Ordering::Relaxed);
    assert!(sent < length / 2, "the rest of the {length} bytes was never fetched: {sent}");
    assert_eq!(stage.server.call(&stage.token, "GET", "/after").status, 200);
}

#[test]
fn an_upload_that_breaks_off_breaks_off_at_the_platform_too() {
    let stage = Stage::new();
    for framing in [Framing::Length, Framing::Chunked] {
        let before = stage.plain.seen.broken_uploads.load(Ordering::Relaxed);
        let mut stream = stage.ask("PUT", "/upload", &announce(framing, 8 * MIB));
        if framing == Framing::Chunked {
            stream.write_all(b"400000\r\n").unwrap();
        }
        stream.write_all(&vec![7; 2 * 1024 * 1024]).unwrap();
        drop(stream);
        until("the platform sees the upload break off, not end", || {
            stage.plain.seen.broken_uploads.load(Ordering::Relaxed) == before + 1
        });
    }
    assert_eq!(stage.server.call(&stage.token, "GET", "/after").status, 200);
}

#[test]
fn a_tunnel_passes_bytes_both_ways_until_one_side_leaves() {
    let stage = Stage::new();
    let stream = stage.ask("GET", "/socket", "Connection: Upgrade\r\nUpgrade: echo\r\n");
    let mut to = stream.try_clone().unwrap();
    let mut from = BufReader::new(stream);
    let head = Head::read(&mut from).unwrap().expect("an answer");
    assert!(head.first.starts_with("http/1.1 101 "), "{head:?}");
    assert!(head.lines.iter().any(|line| line == "upgrade: echo"), "{head:?}");
    let mut content = Content::of(4 * MIB);
    loop {
        let block = content.next().to_vec();
        if block.is_empty() {
            break;
        }
        to.write_all(&block).unwrap();
        let mut back = vec![0; block.len()];
        from.read_exact(&mut back).unwrap();
        assert!(block == back, "block {}", content.number);
    }
    // what looks like a request is only bytes now
    let smuggled = b"GET /api/v2/users HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n";
    to.write_all(smuggled).unwrap();
    let mut back = vec![0; smuggled.len()];
    from.read_exact(&mut back).unwrap();
    assert_eq!(back, smuggled);
    to.shutdown(std::net::Shutdown::Both).unwrap();
    assert_eq!(stage.server.call(&stage.token, "GET", "/after").status, 200);
}
