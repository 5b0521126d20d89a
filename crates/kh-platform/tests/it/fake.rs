//! A scripted HTTP server: it records each request and answers with exactly the bytes it was told, valid or not.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use kh_core::{ManualClock, SecretBytes, UnixMillis, credential::CredentialDocument, port::FetchError};
use kh_net::{Egress, Settings, SystemRoots};
use kh_platform::{Address, HttpClient, PlainHttp, Timeouts};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    sync::{Semaphore, watch},
};
use tokio_rustls::TlsAcceptor;

/// What every secret of the tests contains, so that a leak can be searched for.
pub(crate) const MARK: &str = "MARKED-SECRET";

/// One recorded request.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(key, _)| key == name);
        let first = found.next();
        assert!(found.next().is_none(), "two {name} headers");
        first.map(|(_, value)| value.as_str())
    }

    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }
}

/// What is answered.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// These bytes, then the connection is closed.
    Raw(Vec<u8>),
    /// The same once there is a permit, which is used up.
    Held(Arc<Semaphore>, Vec<u8>),
    /// Nothing, and the connection stays open.
    Hang,
    /// A head of a chunked answer, then chunks for as long as anybody reads.
    Endless,
}

/// An answer of `status` with a JSON body and more header lines (each ending in CRLF).
pub(crate) fn with(status: u16, more: &str, body: &str) -> Reply {
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{more}\r\n");
    Reply::Raw(format!("{head}{body}").into_bytes())
}

/// An answer of `status` with a JSON body.
pub(crate) fn json(status: u16, body: &str) -> Reply {
    with(status, "", body)
}

/// What issuers answer at an address where they have no document.
pub(crate) fn without_a_document() -> Vec<Reply> {
    let page = b"HTTP/1.1 200 X\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>";
    let mut replies: Vec<Reply> = [400, 401, 403, 404, 405, 410].map(|status| json(status, "{}")).into();
    replies.extend([json(200, ""), json(200, "[]"), json(200, "no such page"), Reply::Raw(page.to_vec())]);
    replies.push(with(302, "Location: /login\r\n", ""));
    replies
}

/// What says nothing about whether there is a document, and a document that is not believed.
pub(crate) fn without_an_answer() -> [Reply; 6] {
    [json(408, ""), json(429, "{}"), json(500, ""), json(503, ""), json(200, "{}"), json(200, "{\"issuer\":\"x\"}")]
}

type Script = dyn Fn(&Seen) -> Reply + Send + Sync;

/// The server; it stops when dropped.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    scheme: &'static str,
    seen: Arc<Mutex<Vec<Seen>>>,
    count: watch::Receiver<usize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fake {
    pub(crate) async fn start(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::launch(script, None).await
    }

    pub(crate) async fn start_tls(
        identity: &Identity,
        script: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::launch(script, Some(identity.acceptor())).await
    }

    async fn launch(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (counter, count) = watch::channel(0);
        let (script, seen_too): (Arc<Script>, _) = (Arc::new(script), Arc::clone(&seen));
        let counter = Arc::new(counter);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (io, _) = listener.accept().await.unwrap();
                let (script, seen, tls) = (Arc::clone(&script), Arc::clone(&seen_too), tls.clone());
                let counter = Arc::clone(&counter);
                connections.spawn(async move {
                    match tls {
                        None => exchange(io, &script, &seen, &counter).await,
                        Some(tls) => {
                            if let Ok(io) = tls.accept(io).await {
                                exchange(io, &script, &seen, &counter).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, scheme, seen, count, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    pub(crate) fn base(&self) -> Address {
        address(&self.url())
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen().iter().map(Seen::line).collect()
    }

    /// Waits until `count` requests have arrived whole.
    pub(crate) async fn arrived(&self, count: usize) {
        self.count.clone().wait_for(|seen| *seen >= count).await.unwrap();
    }
}

async fn exchange<I: AsyncRead + AsyncWrite + Unpin>(
    mut io: I,
    script: &Arc<Script>,
    seen: &Mutex<Vec<Seen>>,
    counter: &watch::Sender<usize>,
) {
    let Some(request) = read_request(&mut io).await else { return };
    let reply = script(&request);
    seen.lock().unwrap().push(request);
    counter.send_modify(|count| *count += 1);
    match reply {
        Reply::Raw(bytes) => send(&mut io, &bytes).await,
        Reply::Held(permits, bytes) => {
            permits.acquire().await.unwrap().forget();
            send(&mut io, &bytes).await;
        }
        Reply::Hang => std::future::pending().await,
        Reply::Endless => {
            let head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
            drop(io.write_all(head).await);
            while io.write_all(format!("1000\r\n{}\r\n", " ".repeat(0x1000)).as_bytes()).await.is_ok() {}
        }
    }
}

async fn send(io: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
    drop(io.write_all(bytes).await);
    drop(io.shutdown().await);
}

async fn read_request(io: &mut (impl AsyncRead + Unpin)) -> Option<Seen> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let mut lines = head.split("\r\n");
            let mut first = lines.next().unwrap().split(' ').map(str::to_owned);
            let headers: Vec<_> = lines
                .map(|line| line.split_once(": ").unwrap())
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                .collect();
            let length = headers.iter().find(|(name, _)| name == "content-length");
            let length: usize = length.map_or(0, |(_, value)| value.parse().unwrap());
            if bytes.len() >= end + 4 + length {
                let body = String::from_utf8(bytes[end + 4..].to_vec()).unwrap();
                return Some(Seen { method: first.next().unwrap(), target: first.next().unwrap(), headers, body });
            }
        }
        if io.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// A private CA and a server certificate of it for 127.0.0.1.
pub(crate) struct Identity {
    pub(crate) ca_pem: Vec<u8>,
    certificate: rcgen::Certificate,
    key: rcgen::KeyPair,
}

impl Identity {
    pub(crate) fn new(change: impl FnOnce(&mut rcgen::CertificateParams)) -> Self {
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca_pem = ca.self_signed(&ca_key).unwrap().pem().into_bytes();
        let issuer = rcgen::Issuer::new(ca, ca_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &issuer).unwrap();
        Self { ca_pem, certificate, key }
    }

    fn acceptor(&self) -> TlsAcceptor {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.der().clone()], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

pub(crate) fn address(text: &str) -> Address {
    Address::parse(text, PlainHttp::LoopbackOnly).unwrap()
}

/// A client that trusts `ca_pem` besides the system, and the clock it reads.
pub(crate) fn client_trusting(ca_pem: &[Vec<u8>]) -> (HttpClient, ManualClock) {
    let clock = ManualClock::at(UnixMillis(1_795_000_000_000));
    let settings = Settings { extra_ca: ca_pem.to_vec(), ..Settings::default() };
    let egress = Egress::new(settings, &SystemRoots::load()).unwrap();
    let timeouts = Timeouts { connect: Duration::from_secs(5), total: Duration::from_secs(20) };
    (HttpClient::new(Arc::new(egress), timeouts, Arc::new(clock.clone())), clock)
}

/// A client for plain loopback; a CA of its own makes it independent of the machine's.
pub(crate) fn client() -> (HttpClient, ManualClock) {
    client_trusting(&[Identity::new(|_| {}).ca_pem])
}

pub(crate) fn document(text: &str) -> CredentialDocument {
    CredentialDocument::parse(&SecretBytes::new(text.as_bytes().to_vec())).unwrap()
}

/// One word per outcome, with a check that nothing secret is told.
pub(crate) fn word(error: &FetchError) -> &'static str {
    let told = format!("{error} {error:?}");
    assert!(!told.contains(MARK) && !told.contains("Basic "), "{told}");
    match error {
        FetchError::Rejected { .. } => "rejected",
        FetchError::RateLimited { .. } => "limited",
        FetchError::Transient { unreachable: Some(_), .. } => "unreachable",
        FetchError::Transient { .. } => "transient",
        FetchError::Unusable(_) => "unusable",
    }
}
