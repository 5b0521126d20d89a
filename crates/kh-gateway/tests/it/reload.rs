//! The certificate replaced under load.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use kh_gateway::CertificateSlot;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ClientConfig, HandshakeKind, ServerConfig, crypto::aws_lc_rs::default_provider, server::ResolvesServerCert,
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    support::{PATIENCE, Setup, World},
    tls::trusting,
    upstream::{Upstream, reply},
};

/// An authority whose certificates differ by their serial and their key.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self) -> CertifiedKey {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        CertifiedKey::from_der(vec![certificate.der().clone()], key, &default_provider()).unwrap()
    }
}

async fn world(slot: &Arc<CertificateSlot>) -> (Upstream, World) {
    let upstream = Upstream::start(|_| Box::pin(async { reply(200, &[], "ok") })).await;
    let mut setup = Setup::new(upstream.address);
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(slot) as Arc<dyn ResolvesServerCert>);
    setup.config.tls = Some(Arc::new(config));
    setup.config.workers = 2;
    (upstream, setup.start().await)
}

/// One connection, one call; what the caller was shown.
async fn call(world: &World, client: &Arc<ClientConfig>) -> TlsStream<TcpStream> {
    let connector = TlsConnector::from(Arc::clone(client));
    let stream = TcpStream::connect(world.address).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut stream = connector.connect(name, stream).await.expect("no handshake fails");
    let head = format!(
        "GET /api/v2/users HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
        world.token
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    stream
}

fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

/// 50 replacements while eight callers open connection after connection, half of them with sessions to resume.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_replaced_under_load_fails_no_handshake() {
    const REPLACEMENTS: usize = 50;
    /// Calls that are seen between two replacements, so that they really happen under load.
    const BETWEEN: usize = 8;
    let authority = Authority::new();
    let certificates: Vec<CertifiedKey> = (0..=REPLACEMENTS).map(|_| authority.issue()).collect();
    let known: Vec<_> = certificates.iter().map(|key| key.cert[0].clone()).collect();
    let mut certificates = certificates.into_iter();
    let slot = CertificateSlot::new(certificates.next().unwrap());
    let (_upstream, world) = world(&slot).await;
    let world = Arc::new(world);
    let trusted = authority.0.der().clone();
    let (done, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let mut callers = JoinSet::new();
    for index in 0..8 {
        let (world, done, over) = (Arc::clone(&world), Arc::clone(&done), Arc::clone(&over));
        let (trusted, known) = (trusted.clone(), known.clone());
        callers.spawn(async move {
            // a configuration remembers its sessions
            let mut client = trusting(std::slice::from_ref(&trusted));
            let mut resumed = 0;
            while !over.load(Ordering::SeqCst) {
                if index % 2 == 0 {
                    client = trusting(std::slice::from_ref(&trusted));
                }
                let stream = call(&world, &client).await;
                assert!(known.contains(&shown(&stream)), "it is one that was in force");
                resumed += usize::from(stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed));
                done.fetch_add(1, Ordering::SeqCst);
            }
            resumed
        });
    }
    for next in certificates {
        let before = done.load(Ordering::SeqCst);
        while done.load(Ordering::SeqCst) < before + BETWEEN {
            assert!(!callers.is_empty());
            tokio::task::yield_now().await;
            if let Some(ended) = callers.try_join_next() {
                panic!("a caller failed: {ended:?}");
            }
        }
        slot.replace(next);
    }
    // whoever begins now sees the last one
    for _ in 0..10 {
        let stream = call(&world, &trusting(std::slice::from_ref(&trusted))).await;
        assert_eq!(Some(&shown(&stream)), known.last());
    }
    over.store(true, Ordering::SeqCst);
    let resumed: usize = callers.join_all().await.into_iter().sum();
    assert!(done.load(Ordering::SeqCst) >= REPLACEMENTS * BETWEEN);
    assert!(resumed > 0, "sessions were resumed across replacements as well");
}

/// What is open stays open, and a session that was begun with the old certificate can be resumed.
#[tokio::test]
async fn open_connections_and_sessions_outlive_a_replacement() {
    let authority = Authority::new();
    let slot = CertificateSlot::new(authority.issue());
    let (_upstream, world) = world(&slot).await;
    let client = trusting(&[authority.0.der().clone()]);
    let connector = TlsConnector::from(Arc::clone(&client));
    let stream = TcpStream::connect(world.address).await.unwrap();
    let mut open = connector.connect(ServerName::try_from("127.0.0.1").unwrap(), stream).await.unwrap();
    let old = shown(&open);
    assert_eq!(call(&world, &client).await.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
    slot.replace(authority.issue());
    let resumed = call(&world, &client).await;
    assert_eq!(resumed.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
    let fresh = call(&world, &trusting(&[authority.0.der().clone()])).await;
    assert_ne!(shown(&fresh), old);
    let head = format!(
        "GET /api/v2/users HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
        world.token
    );
    open.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let reading = open.read_to_string(&mut answer);
    tokio::time::timeout(PATIENCE, reading).await.expect("it is answered").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}
