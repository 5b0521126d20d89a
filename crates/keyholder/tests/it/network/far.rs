//! A platform of the test's own, for what the sandbox does not do: client certificates and IPv6. It answers every
//! login with one token and every call with an empty list.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::Authority;

/// A running platform; its threads end with the test's process.
pub(super) struct Far {
    pub(super) address: SocketAddr,
    requests: Arc<AtomicUsize>,
}

impl Far {
    /// Speaks plain http on `ip`.
    pub(super) fn plain(ip: &str) -> Self {
        Self::start(ip, None)
    }

    /// Speaks https with a certificate of `server` and demands one of `clients`.
    pub(super) fn demanding(server: &Authority, clients: &Authority) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(clients.pem().as_bytes()).unwrap()).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
        let (certificate, key) = server.issue("127.0.0.1");
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap();
        Self::start("127.0.0.1", Some(Arc::new(config)))
    }

    fn start(ip: &str, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let requests: Arc<AtomicUsize> = Arc::default();
        let count = Arc::clone(&requests);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (tls, count) = (tls.clone(), Arc::clone(&count));
                thread::spawn(move || match tls {
                    None => serve(stream.unwrap(), &count),
                    Some(config) => {
                        serve(StreamOwned::new(ServerConnection::new(config).unwrap(), stream.unwrap()), &count);
                    }
                });
            }
        });
        Self { address, requests }
    }

    /// Requests that got through.
    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

/// Answers until the other side goes, or until it breaks a rule.
fn serve(mut stream: impl Read + Write, count: &AtomicUsize) {
    let mut seen = Vec::new();
    loop {
        let mut buffer = [0; 8 * 1024];
        let read = stream.read(&mut buffer).unwrap_or(0);
        if read == 0 {
            return;
        }
        seen.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&seen).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() < length.unwrap_or(0) {
            continue;
        }
        count.fetch_add(1, Ordering::SeqCst);
        let answer = if head.starts_with("POST /oauth/token ") {
            r#"{"access_token":"a-token-of-far","token_type":"bearer","expires_in":3600}"#
        } else {
            r#"{"entities":[]}"#
        };
        let length = answer.len();
        let sent = write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{answer}"
        );
        if sent.and_then(|()| stream.flush()).is_err() {
            return;
        }
        seen.clear();
    }
}
