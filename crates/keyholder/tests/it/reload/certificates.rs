//! The gateway's certificate replaced on disk while callers shake hands.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use kh_core::Sha256;
use rcgen::{CertificateParams, KeyPair};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::{CertificateDer, ServerName};

use super::Stage;
use crate::harness::{Installation, eventually, text};

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
    let mut roots = RootCertStore::empty();
    let mut made = Vec::new();
    for number in 0..=REPLACEMENTS {
        let certificate = write(&installation, &format!("n{number}"));
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
    let trusted = Arc::new(trusted);
    put(&installation, 0);
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
