//! The admin API behind TLS: operators known by their client certificate, and what the security log is told of others.

use std::{sync::Arc, time::Duration};

use kh_admin::{Limits, Operator, Role, Tls, serve_tls};
use kh_core::{
    Clock,
    port::security::{AuthenticationEvent, Outcome, Security},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
    server::WebPkiClientVerifier,
    version::{TLS12, TLS13},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::rig::{Probes, Rig, Surface, start};

type Identity = (CertificateDer<'static>, PrivateKeyDer<'static>);

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "test authority");
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn leaf(authority: &CertifiedIssuer<'static, KeyPair>, names: &[&str]) -> Identity {
    signed(authority, &named(names))
}

/// One that was good until some years ago.
fn expired(authority: &CertifiedIssuer<'static, KeyPair>, names: &[&str]) -> Identity {
    let mut params = named(names);
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    signed(authority, &params)
}

fn named(names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names
        .iter()
        .map(|&name| {
            if name.contains("://") {
                SanType::URI(name.try_into().unwrap())
            } else {
                SanType::DnsName(name.try_into().unwrap())
            }
        })
        .collect();
    params
}

fn signed(authority: &CertifiedIssuer<'static, KeyPair>, params: &CertificateParams) -> Identity {
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    (certificate.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).unwrap())
}

fn roots(authority: &CertifiedIssuer<'static, KeyPair>) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    Arc::new(roots)
}

/// The rig's router behind TLS, and where.
async fn listen(rig: &Rig, authority: &CertifiedIssuer<'static, KeyPair>) -> std::net::SocketAddr {
    listen_with(rig, authority, Limits::default()).await.0
}

async fn listen_with(
    rig: &Rig,
    authority: &CertifiedIssuer<'static, KeyPair>,
    limits: Limits,
) -> (std::net::SocketAddr, JoinHandle<()>) {
    let (certificate, key) = leaf(authority, &["localhost"]);
    let verifier = WebPkiClientVerifier::builder(roots(authority)).allow_unauthenticated().build().unwrap();
    let config =
        ServerConfig::builder().with_client_cert_verifier(verifier).with_single_cert(vec![certificate], key).unwrap();
    let security = Security { log: Some(rig.heard.clone()), guard: None };
    let tls = Tls { config: Arc::new(config), security, clock: Arc::new(rig.clock.clone()) };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (address, tokio::spawn(serve_tls(listener, tls, rig.router.clone(), limits, rig.cancel.clone())))
}

/// The status of `GET /v1/clients`; none when the connection was refused.
async fn ask(
    address: std::net::SocketAddr,
    authority: &CertifiedIssuer<'static, KeyPair>,
    identity: Option<&Identity>,
    token: Option<&str>,
) -> Option<u16> {
    ask_by(rustls::DEFAULT_VERSIONS, address, authority, identity, token).await
}

/// The same by one of these versions of TLS.
async fn ask_by(
    versions: &[&'static SupportedProtocolVersion],
    address: std::net::SocketAddr,
    authority: &CertifiedIssuer<'static, KeyPair>,
    identity: Option<&Identity>,
    token: Option<&str>,
) -> Option<u16> {
    let config = ClientConfig::builder_with_protocol_versions(versions).with_root_certificates(roots(authority));
    let config = match identity {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => config.with_client_auth_cert(vec![certificate.clone()], key.clone_key()).unwrap(),
    };
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.ok()?;
    let token = token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
    let request = format!("GET /v1/clients HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{token}\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok()?;
    std::str::from_utf8(&answer).unwrap().split(' ').nth(1)?.parse().ok()
}

/// What the security log heard since it was asked last: site, reason and what was shown.
fn take(rig: &Rig) -> Vec<String> {
    let events = std::mem::take(&mut *rig.heard.0.lock().unwrap());
    let told = |event: &AuthenticationEvent| {
        assert!(event.client_address.is_some_and(|client| client.ip.is_loopback()), "{event:?}");
        assert_eq!(event.at, rig.clock.now().wall);
        let Outcome::Failure { reason } = event.outcome else { panic!("{event:?}") };
        format!("{} {reason} {}", event.site.as_str(), event.presented.as_str())
    };
    events.iter().map(told).collect()
}

#[tokio::test]
async fn an_operators_certificate_is_as_good_as_its_token_and_no_other_certificate_is() {
    let (ours, foreign) = (authority(), authority());
    let ann = leaf(&ours, &["spiffe://corp.example/ann"]);
    let pinned = leaf(&ours, &["pinned.example"]);
    let operator = |name: &str, names: &[&str], certificates| Operator {
        name: name.to_owned(),
        role: Role::Read,
        tokens: Vec::new(),
        certificates,
        certificate_names: names.iter().map(|&name| name.to_owned()).collect(),
    };
    let operators = vec![
        operator("ann", &["spiffe://corp.example/ann"], vec![]),
        operator("pinned", &[], vec![kh_core::Sha256::of(&pinned.0)]),
    ];
    let rig = start(Surface::Admin(Probes { operators, ..Probes::default() })).await;
    let address = listen(&rig, &ours).await;
    let same_name = leaf(&foreign, &["spiffe://corp.example/ann"]);
    let longer = leaf(&ours, &["spiffe://corp.example/ann/evil"]);
    let old = expired(&ours, &["spiffe://corp.example/ann"]);
    let refused = "admin certificate_refused certificate";
    for (identity, token, expected, told, case) in [
        (Some(&ann), None, Some(200), "", "by name"),
        (Some(&pinned), None, Some(200), "", "by digest"),
        (None, Some(rig.token()), Some(200), "", "by token, without a certificate"),
        (None, None, Some(403), "admin token_missing nothing", "nothing"),
        (Some(&ann), Some("khg_wrong"), Some(403), "admin token_unknown bearer", "a wrong token, a right certificate"),
        (Some(&longer), None, Some(403), "admin certificate_unknown certificate", "another name"),
        (Some(&same_name), None, None, refused, "another authority"),
        (Some(&old), None, None, refused, "once right"),
        (Some(&same_name), Some(rig.token()), None, refused, "a right token behind another authority"),
    ] {
        assert_eq!(ask(address, &ours, identity, token).await, expected, "{case}");
        let told: Vec<&str> = if told.is_empty() { Vec::new() } else { vec![told] };
        assert_eq!(take(&rig), told, "{case}");
    }
}

#[tokio::test]
async fn who_is_not_let_in_is_told_with_the_version_of_tls() {
    let authority = authority();
    let stranger = leaf(&authority, &["stranger.example"]);
    let rig = start(Surface::Admin(Probes::default())).await;
    let address = listen(&rig, &authority).await;
    for (version, identity, token, told) in [
        (&TLS13, None, None, ("1.3", "token_missing")),
        (&TLS12, None, Some("khg_wrong"), ("1.2", "token_unknown")),
        (&TLS13, Some(&stranger), None, ("1.3", "certificate_unknown")),
    ] {
        assert_eq!(ask_by(&[version], address, &authority, identity, token).await, Some(403), "{told:?}");
        let events = std::mem::take(&mut *rig.heard.0.lock().unwrap());
        let [event] = &events[..] else { panic!("{events:?}") };
        let Outcome::Failure { reason } = event.outcome else { panic!("{event:?}") };
        let tls = event.tls.unwrap();
        assert_eq!((tls.version, reason), told);
        assert!(tls.cipher.starts_with("TLS_"), "{tls:?}");
    }
}

/// Nobody tried to authenticate: the security log has nothing of it.
#[tokio::test]
async fn a_handshake_that_fails_for_another_reason_is_not_told() {
    let (ours, foreign) = (authority(), authority());
    let rig = start(Surface::Admin(Probes::default())).await;
    let address = listen(&rig, &ours).await;
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // it may be reset
    drop(plain.read_to_end(&mut answer).await);
    assert!(!answer.starts_with(b"HTTP/"), "plain HTTP");
    drop(TcpStream::connect(address).await.unwrap());
    assert_eq!(ask(address, &foreign, None, None).await, None, "a client that does not trust the listener");
    assert_eq!(ask(address, &ours, None, Some(rig.token())).await, Some(200));
    assert!(take(&rig).is_empty());
}

#[tokio::test]
async fn a_handshake_that_never_begins_does_not_hold_up_the_end() {
    let authority = authority();
    let rig = start(Surface::Admin(Probes::default())).await;
    let (head, drain) = (Duration::from_mins(10), Duration::from_millis(50));
    let (address, server) = listen_with(&rig, &authority, Limits { head, drain, ..Limits::default() }).await;
    let silent = TcpStream::connect(address).await.unwrap();
    // accepted after the silent one
    assert_eq!(ask(address, &authority, None, Some(rig.token())).await, Some(200));
    rig.cancel.cancel();
    timeout(Duration::from_secs(20), server).await.expect("it ends without the silent connection").unwrap();
    drop(silent);
}
