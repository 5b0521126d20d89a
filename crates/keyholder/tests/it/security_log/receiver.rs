//! A collector over https: takes lines, or answers with a status that says that it does not.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{ServerConfig, ServerConnection, StreamOwned, crypto::aws_lc_rs};
use rustls_pki_types::PrivateKeyDer;
use serde_json::Value;

#[derive(Default)]
struct Received {
    lines: Vec<Value>,
    tokens: Vec<String>,
    requests: usize,
}

/// It ends with the test's process.
pub struct Receiver {
    pub port: u16,
    pub ca: PathBuf,
    received: Arc<Mutex<Received>>,
    status: Arc<AtomicU16>,
}

impl Receiver {
    pub fn start(folder: &Path, status: u16) -> Self {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let ca = folder.join("collector-ca.pem");
        fs::write(&ca, cert.pem()).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let (config, listener) = (Arc::new(config), TcpListener::bind("127.0.0.1:0").unwrap());
        let port = listener.local_addr().unwrap().port();
        let (received, status): (Arc<Mutex<Received>>, _) = (Arc::default(), Arc::new(AtomicU16::new(status)));
        let (into, answers) = (Arc::clone(&received), Arc::clone(&status));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = StreamOwned::new(connection, stream.unwrap());
                let (into, answers) = (Arc::clone(&into), Arc::clone(&answers));
                std::thread::spawn(move || while serve(&mut stream, &into, &answers) {});
            }
        });
        Self { port, ca, received, status }
    }

    pub fn answer_with(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    pub fn requests(&self) -> usize {
        self.received.lock().unwrap().requests
    }

    pub fn lines(&self) -> Vec<Value> {
        self.received.lock().unwrap().lines.clone()
    }

    pub fn tokens(&self) -> Vec<String> {
        self.received.lock().unwrap().tokens.clone()
    }
}

/// One request; whether another one may follow.
fn serve(stream: &mut StreamOwned<ServerConnection, TcpStream>, into: &Mutex<Received>, answers: &AtomicU16) -> bool {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if !matches!(stream.read(&mut byte), Ok(1)) {
            return false;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let field = |name: &str| {
        let found = head.lines().find(|line| line.to_ascii_lowercase().starts_with(name));
        found.and_then(|line| line.split_once(": ")).map(|(_, value)| value.to_owned())
    };
    let mut body = vec![0; field("content-length:").map_or(0, |length| length.parse().unwrap())];
    if stream.read_exact(&mut body).is_err() {
        return false;
    }
    let status = answers.load(Ordering::SeqCst);
    let mut received = into.lock().unwrap();
    received.requests += 1;
    received.tokens.extend(field("authorization:"));
    if status == 200 {
        let text = String::from_utf8(body).unwrap();
        received.lines.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
    }
    drop(received);
    write!(stream, "HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n").and_then(|()| stream.flush()).is_ok()
}
