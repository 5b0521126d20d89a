//! A receiver of signed webhooks, which checks every signature itself and answers what it is told to.
//!
//! Invariant: what it keeps was signed with its own key; anything else makes it fail its test.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
};

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

/// The key of all tests, as bytes.
const KEY: [u8; 32] = [0x5a; 32];

/// One message.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) body: Value,
    is_signed: bool,
}

/// A receiver on a port of its own. It lives as long as the test's process.
pub(crate) struct Receiver {
    pub(crate) url: String,
    status: Arc<AtomicU16>,
    messages: Arc<Mutex<Vec<Message>>>,
}

/// Puts the key where keyholder reads it.
pub(crate) fn write_key(path: &Path) {
    fs::write(path, format!("whsec_{}\n", STANDARD.encode(KEY))).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

impl Receiver {
    /// Answers every message with `status`.
    pub(crate) fn start(status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let (status, messages) = (Arc::new(AtomicU16::new(status)), Arc::new(Mutex::new(Vec::new())));
        let (answer, kept) = (Arc::clone(&status), Arc::clone(&messages));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some(message) = read(&mut BufReader::new(&stream)) else { continue };
                kept.lock().unwrap().push(message);
                let status = answer.load(Ordering::SeqCst);
                let head = format!("HTTP/1.1 {status} Told\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                stream.write_all(head.as_bytes()).ok();
            }
        });
        Self { url, status, messages }
    }

    pub(crate) fn answer(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// Everything that came, each with a valid signature.
    pub(crate) fn messages(&self) -> Vec<Message> {
        let all = self.messages.lock().unwrap().clone();
        assert!(all.iter().all(|message| message.is_signed), "{all:?}");
        all
    }
}

fn read(stream: &mut impl BufRead) -> Option<Message> {
    let mut headers = Vec::new();
    let mut line = String::new();
    while stream.read_line(&mut line).ok()? > 2 {
        if let Some((name, value)) = line.split_once(':') {
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        line.clear();
    }
    let header = |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let mut body = vec![0; header("content-length")?.parse().ok()?];
    stream.read_exact(&mut body).ok()?;
    let (id, at, signature) = (header("webhook-id")?, header("webhook-timestamp")?, header("webhook-signature")?);
    let signed = [format!("{id}.{at}.").as_bytes(), &body].concat();
    let tag = STANDARD.decode(signature.strip_prefix("v1,")?).ok()?;
    let is_signed = hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, &KEY), &signed, &tag).is_ok();
    Some(Message { id, body: serde_json::from_slice(&body).ok()?, is_signed })
}
