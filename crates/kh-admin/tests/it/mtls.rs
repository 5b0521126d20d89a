//! The admin API behind TLS: operators known by their client certificate.

use std::sync::Arc;

use kh_admin::{Limits, Operator, Role, serve_tls};
use kh_core::port::security::Outcome;
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
    let (certificate, key) = leaf(authority, &["localhost"]);
    let verifier = WebPkiClientVerifier::builder(roots(authority)).allow_unauthenticated().build().unwrap();
    let tls =
        ServerConfig::builder().with_client_cert_verifier(verifier).with_single_cert(vec![certificate], key).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve_tls(listener, Arc::new(tls), rig.router.clone(), Limits::default(), rig.cancel.clone()));
    address
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
    for (identity, token, expected, case) in [
        (Some(&ann), None, Some(200), "by name"),
        (Some(&pinned), None, Some(200), "by digest"),
        (None, Some(rig.token()), Some(200), "by token, without a certificate"),
        (None, None, Some(403), "nothing"),
        (Some(&ann), Some("khg_wrong"), Some(403), "a wrong token beside a right certificate"),
        (Some(&longer), None, Some(403), "another name"),
        (Some(&same_name), None, None, "another authority"),
    ] {
        assert_eq!(ask(address, &ours, identity, token).await, expected, "{case}");
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
