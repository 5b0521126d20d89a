//! The certificates of the listeners replaced on disk while callers shake hands, and while they stay connected.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kh_core::Sha256;
use rcgen::{CertificateParams, KeyPair};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::{CertificateDer, ServerName};

use super::Stage;
use crate::{
    harness::{Installation, eventually, parse_answer, text},
    inbound::{installed, of_api, of_file},
    protected_api::{Api, tokens::Key},
};

/// Replacements.
const REPLACEMENTS: u32 = 20;

/// A certificate for 127.0.0.1 as `NAME.pem` and `NAME.key` in the installation's folder.
pub fn write(installation: &Installation, name: &str) -> CertificateDer<'static> {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    let certificate = params.self_signed(&key).unwrap();
    fs::write(installation.path(&format!("{name}.pem")), certificate.pem()).unwrap();
    fs::write(installation.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    certificate.der().clone()
}

/// Certificates from `n0` up to the last one in the installation's folder, of which `n0` is in force: their digests, and a
/// client that trusts them all.
fn prepare(installation: &Installation, last: u32) -> (Vec<String>, Arc<ClientConfig>) {
    let (mut roots, mut made) = (RootCertStore::empty(), Vec::new());
    for number in 0..=last {
        let certificate = write(installation, &format!("n{number}"));
        made.push(Sha256::of(&certificate).to_hex());
        roots.add(certificate).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut trusted = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    // Every handshake is a full one: a resumed session shows no new certificate.
    trusted.resumption = rustls::client::Resumption::disabled();
    put(installation, 0);
    (made, Arc::new(trusted))
}

/// Puts one of the certificates where the configuration says, as renewal programs do.
fn put(installation: &Installation, number: u32) {
    for ending in ["pem", "key"] {
        let draft = installation.path(&format!("draft.{ending}"));
        fs::copy(installation.path(&format!("n{number}.{ending}")), &draft).unwrap();
        fs::rename(draft, installation.path(&format!("server.{ending}"))).unwrap();
    }
}

/// One handshake and one request; answers the digest of the certificate that was served.
fn call(address: &str, trusted: &Arc<ClientConfig>) -> Result<String, String> {
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let failed = |step: &str, error: &dyn std::fmt::Display| format!("{step}: {error}");
    let socket = TcpStream::connect(address).map_err(|error| failed("connect", &error))?;
    let connection = ClientConnection::new(Arc::clone(trusted), name).map_err(|error| failed("tls", &error))?;
    let mut stream = StreamOwned::new(connection, socket);
    let head = format!("GET /auth/jwks HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).map_err(|error| failed("write", &error))?;
    let mut answer = Vec::new();
    // The peer may close without saying so once the answer is whole.
    stream.read_to_end(&mut answer).ok();
    let answer = String::from_utf8_lossy(&answer);
    if !answer.starts_with("HTTP/1.1 200") || !answer.ends_with("{\"keys\":[]}") {
        return Err(format!("no whole answer: {answer:?}"));
    }
    let leaf = stream.conn.peer_certificates().and_then(|chain| chain.first()).map(|leaf| Sha256::of(leaf).to_hex());
    leaf.ok_or_else(|| "no certificate".to_owned())
}

#[test]
fn a_certificate_replaced_under_load_fails_no_handshake() {
    let installation = Installation::new();
    let (made, trusted) = prepare(&installation, REPLACEMENTS);
    let file = installation.path("keyholder.toml");
    let tls = "[gateway.tls]\nlisten = [\"127.0.0.1:0\"]\ncert = \"server.pem\"\nkey = \"server.key\"\n[admin]";
    fs::write(&file, fs::read_to_string(&file).unwrap().replacen("[admin]", tls, 1)).unwrap();
    let server = installation.serve();
    let address = text(&server.ready, "gateway_tls_url").strip_prefix("https://").unwrap().to_owned();
    let over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..3)
        .map(|_| {
            let (over, address, trusted) = (Arc::clone(&over), address.clone(), Arc::clone(&trusted));
            std::thread::spawn(move || {
                let (mut seen, mut failures, mut calls) = (BTreeSet::new(), Vec::new(), 0_u64);
                while !over.load(Ordering::SeqCst) {
                    match call(&address, &trusted) {
                        Ok(digest) => drop(seen.insert(digest)),
                        Err(failure) => failures.push(failure),
                    }
                    calls += 1;
                }
                (seen, failures, calls)
            })
        })
        .collect();
    let stage = Stage { installation, server };
    for number in 1..=REPLACEMENTS {
        put(&stage.installation, number);
        // A renewal that nobody tells keyholder about is found as well.
        if number % 5 != 0 {
            stage.server.process.signal("HUP");
        }
        let expected = made[number as usize].clone();
        eventually(&expected, || text(&stage.status()["tls"], "certificate_sha256").to_owned());
        assert_eq!(text(&stage.last(), "result"), "applied");
        eventually(&Ok(expected), || call(&address, &trusted));
    }
    over.store(true, Ordering::SeqCst);
    let (mut seen, mut calls) = (BTreeSet::new(), 0);
    for caller in callers {
        let (digests, failures, made) = caller.join().unwrap();
        assert!(failures.is_empty(), "{} handshakes failed, the first: {:?}", failures.len(), failures.first());
        seen.extend(digests);
        calls += made;
    }
    println!("{calls} handshakes met {} certificates", seen.len());
    assert!(seen.len() > 3 && calls > u64::from(REPLACEMENTS), "{calls} handshakes, {} certificates", seen.len());
    let audited = stage.installation.run(&["audit", "list", "--action", "config.change", "--output", "json"]).json();
    assert_eq!(audited["entries"].as_array().unwrap().len(), 1, "the file itself never changed");
}

/// A connection that stays open, and the request that is sent on it again and again.
struct Open {
    stream: StreamOwned<ClientConnection, TcpStream>,
    request: String,
}

impl Open {
    /// A new one; `header` ends in CRLF.
    fn to(url: &str, trusted: &Arc<ClientConfig>, (path, header): (&str, &str)) -> Self {
        let address = url.strip_prefix("https://").unwrap();
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let connection = ClientConnection::new(Arc::clone(trusted), name).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{header}\r\n");
        Self { stream: StreamOwned::new(connection, socket), request }
    }

    /// The status of one more request, whose answer is read whole.
    fn ask(&mut self) -> u16 {
        self.stream.write_all(self.request.as_bytes()).expect("the connection is open");
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            self.stream.read_exact(&mut byte).expect("the connection goes on");
            head.push(byte[0]);
        }
        let answer = parse_answer(&head);
        let length = answer.header("content-length").expect("the answer says its length").parse().unwrap();
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        answer.status
    }

    /// The digest of the certificate that was shown when it began.
    fn certificate(&self) -> String {
        let chain = self.stream.conn.peer_certificates().expect("there was a handshake");
        Sha256::of(&chain[0]).to_hex()
    }
}

/// Replaces a listener's certificate twice, once with a signal and once without: whoever connects then is shown the new
/// one, and a connection of before is served all the while.
fn replace_under_a_connection(
    stage: &Stage,
    (made, trusted): (&[String], &Arc<ClientConfig>),
    url: &str,
    request: (&str, &str),
) {
    let new = || {
        let mut open = Open::to(url, trusted, request);
        assert_eq!(open.ask(), 200);
        open
    };
    let before = RefCell::new(new());
    assert_eq!(before.borrow().certificate(), made[0]);
    for (number, expected) in (1..).zip(&made[1..]) {
        put(&stage.installation, number);
        if number == 1 {
            stage.server.process.signal("HUP");
        }
        // an idle connection would end by itself on a slow machine
        eventually(&(200, expected.clone()), || (before.borrow_mut().ask(), new().certificate()));
        eventually(&u64::from(number), || stage.reloads("applied"));
    }
    assert_eq!(before.borrow_mut().ask(), 200);
    assert_eq!(before.borrow().certificate(), made[0], "it is the same connection");
}

#[test]
fn a_protected_apis_certificate_is_replaced_and_open_connections_go_on() {
    let (api, key) = (Api::start(), Key::new("k1"));
    let lines = "[inbound.reports.tls]\ncert = \"server.pem\"\nkey = \"server.key\"\n\
                 [[inbound.reports.route]]\nmatch = [\"GET /health\"]\npublic = true\n";
    let installation = installed(&(of_file() + &of_api(&api, "\"corp\"", lines)), &[&key]);
    let (made, trusted) = prepare(&installation, 2);
    let server = installation.serve();
    let url = text(&server.ready["inbound_urls"], "reports").to_owned();
    let stage = Stage { installation, server };
    replace_under_a_connection(&stage, (&made, &trusted), &url, ("/health", ""));
    assert_eq!(stage.server.process.stop().0, Some(0));
}

#[test]
fn the_admin_listeners_certificate_is_replaced_and_open_connections_go_on() {
    let sections = "[admin.tls]\nlisten = \"127.0.0.1:0\"\ncert = \"server.pem\"\nkey = \"server.key\"\n";
    let installation = Installation::with("", sections);
    let (made, trusted) = prepare(&installation, 2);
    let server = installation.serve();
    let token = fs::read_to_string(text(&server.ready, "admin_token_file")).unwrap();
    let header = format!("X-Keyholder-Token: {}\r\n", token.trim());
    let url = text(&server.ready, "admin_tls_url").to_owned();
    let stage = Stage { installation, server };
    replace_under_a_connection(&stage, (&made, &trusted), &url, ("/v1/status", &header));
    assert_eq!(stage.server.process.stop().0, Some(0));
}
