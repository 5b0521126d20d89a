//! What stands around keyholder in a rotation: stores that remember every byte, a tunnel that leads the real names of
//! Azure to one of them, and the receivers of what follows a promotion.
//!
//! Invariant: everything that keyholder sent is kept as it came.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use kh_fakes::{Fake, FakeClock, Reply, Request};
use serde_json::{Value, json};

/// A fake that remembers what it was sent and what it answered.
pub struct Heard {
    inner: Arc<dyn Fake>,
    tape: Mutex<String>,
}

impl Heard {
    pub fn new(inner: Arc<dyn Fake>) -> Arc<Self> {
        Arc::new(Self { inner, tape: Mutex::default() })
    }

    pub fn tape(&self) -> String {
        self.tape.lock().unwrap().clone()
    }
}

impl Fake for Heard {
    fn operation(&self, request: &Request) -> String {
        self.inner.operation(request)
    }

    fn answer(&self, request: &Request, clock: &FakeClock) -> Reply {
        let reply = self.inner.answer(request, clock);
        let mut tape = self.tape.lock().unwrap();
        for (name, value) in &request.headers {
            write!(tape, "{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes())).unwrap();
        }
        for body in [&request.body, &reply.body] {
            tape.push_str(&String::from_utf8_lossy(body));
            tape.push('\n');
        }
        reply
    }

    fn forbidden(&self) -> Reply {
        self.inner.forbidden()
    }

    fn throttled(&self, retry_after_seconds: Option<u64>) -> Reply {
        self.inner.throttled(retry_after_seconds)
    }

    fn failed(&self) -> Reply {
        self.inner.failed()
    }

    fn credentials(&self) -> Value {
        self.inner.credentials()
    }

    fn names(&self) -> Vec<String> {
        self.inner.names()
    }

    fn command(&self, name: &str, argument: &Value) -> Result<Value, String> {
        self.inner.command(name, argument)
    }
}

/// A proxy whose tunnels all lead to one place, whatever was asked for. Its threads end with their connections.
pub struct Tunnel {
    pub url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Tunnel {
    pub fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&asked);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let kept = Arc::clone(&kept);
                thread::spawn(move || tunnel(client, target, &kept));
            }
        });
        Self { url, asked }
    }

    /// The heads of all requests for a tunnel.
    pub fn asked(&self) -> String {
        self.asked.lock().unwrap().concat()
    }
}

/// Byte by byte, so that nothing behind the head is taken.
fn head(stream: &mut impl Read) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}

fn tunnel(mut client: TcpStream, target: SocketAddr, asked: &Mutex<Vec<String>>) -> Option<()> {
    asked.lock().unwrap().push(head(&mut client)?);
    let mut server = TcpStream::connect(target).ok()?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").ok()?;
    let (mut back_from, mut back_to) = (server.try_clone().ok()?, client.try_clone().ok()?);
    thread::spawn(move || {
        std::io::copy(&mut back_from, &mut back_to).ok();
        back_to.shutdown(Shutdown::Write).ok();
    });
    std::io::copy(&mut client, &mut server).ok();
    server.shutdown(Shutdown::Write).ok()
}

/// Each request's path with all of its bytes.
type Came = Mutex<Vec<(String, Vec<u8>)>>;

/// Takes webhooks, notices, and what GitHub takes. It lives as long as the test's process.
pub struct Receiver {
    pub url: String,
    statuses: Arc<Mutex<BTreeMap<&'static str, u16>>>,
    came: Arc<Came>,
}

impl Receiver {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (statuses, came) = (Arc::new(Mutex::new(BTreeMap::new())), Arc::new(Mutex::new(Vec::new())));
        let (answers, kept) = (Arc::clone(&statuses), Arc::clone(&came));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                take(stream, &answers, &kept);
            }
        });
        Self { url, statuses, came }
    }

    /// What comes to `path` is answered with `status` from now on.
    pub fn answer(&self, path: &'static str, status: u16) {
        self.statuses.lock().unwrap().insert(path, status);
    }

    /// Each request's path with all of its bytes.
    pub fn came(&self) -> Vec<(String, Vec<u8>)> {
        self.came.lock().unwrap().clone()
    }
}

fn take(mut stream: TcpStream, statuses: &Mutex<BTreeMap<&'static str, u16>>, kept: &Came) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let (mut all, mut length) = (Vec::new(), 0);
    loop {
        let start = all.len();
        reader.read_until(b'\n', &mut all).ok()?;
        let line = String::from_utf8_lossy(&all[start..]).to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    all.extend(body);
    let path = String::from_utf8_lossy(&all).split(' ').nth(1)?.to_owned();
    let set = statuses.lock().unwrap().iter().find(|(known, _)| path.starts_with(**known)).map(|(_, status)| *status);
    let (status, body) = match path.as_str() {
        _ if set.is_some() => (set?, String::new()),
        path if path.ends_with("/public-key") => (200, public_key().to_string()),
        path if path.starts_with("/slack") => (200, "ok".to_owned()),
        path if path.starts_with("/on-call") => (202, json!({ "status": "success", "dedup_key": "x" }).to_string()),
        path if path.starts_with("/repos") => (201, "{}".to_owned()),
        _ => (204, String::new()),
    };
    kept.lock().unwrap().push((path, all));
    let head = format!("HTTP/1.1 {status} Told\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all((head + &body).as_bytes()).ok()
}

/// The base point of Curve25519 is a public key like any other.
fn public_key() -> Value {
    let mut key = [0; 32];
    key[0] = 9;
    json!({ "key_id": "568250167242549743", "key": STANDARD.encode(key) })
}
