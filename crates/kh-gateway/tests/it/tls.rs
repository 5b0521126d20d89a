//! TLS on both sides, with a certificate authority of the test's own.

use std::sync::Arc;

use http::Request;
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use kh_net::Egress;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::{
    support::{Setup, read},
    upstream::{Upstream, reply},
};

/// A client configuration that trusts exactly these roots.
pub(crate) fn trusting(roots: &[CertificateDer<'static>]) -> Arc<ClientConfig> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_root_certificates(store).with_no_client_auth())
}

/// An authority and a server configuration for 127.0.0.1, expired or not.
pub(crate) fn authority(expired: bool) -> (CertificateDer<'static>, Arc<ServerConfig>) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    let name = if expired { "expired" } else { "private" };
    params.distinguished_name.push(rcgen::DnType::CommonName, format!("test authority ({name})"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    if expired {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    }
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    (issuer.der().clone(), Arc::new(config))
}

async fn platform(config: Arc<ServerConfig>) -> Upstream {
    Upstream::start_tls(|_| Box::pin(async { reply(200, &[], "over tls") }), TlsAcceptor::from(config)).await
}

#[tokio::test]
async fn a_platform_with_a_private_authority() {
    let (root, config) = authority(false);
    let upstream = platform(config).await;
    let mut setup = Setup::new(upstream.address);
    setup.api_base = format!("https://{}", upstream.address);
    setup.egress = Arc::new(Egress::trusting(&[root]).unwrap());
    let world = setup.start().await;
    for _ in 0..3 {
        let got = world.call("GET /api/v2/users").await;
        assert_eq!((got.status, &got.body[..]), (200, &b"over tls"[..]));
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn an_expired_or_unknown_certificate_is_a_502_that_says_so() {
    let (root, expired) = authority(true);
    let (_, unknown) = authority(false);
    for (config, word) in [(expired, "expired"), (unknown, "UnknownIssuer")] {
        let upstream = platform(config).await;
        let mut setup = Setup::new(upstream.address);
        setup.api_base = format!("https://{}", upstream.address);
        setup.egress = Arc::new(Egress::trusting(std::slice::from_ref(&root)).unwrap());
        let world = setup.start().await;
        let got = world.call("GET /api/v2/users").await;
        let body = got.json();
        assert_eq!((got.status, body["code"].as_str()), (502, Some("keyholder.upstream.tls")));
        assert!(body["message"].as_str().unwrap().contains(word), "{body}");
        assert!(upstream.seen().is_empty());
        assert_eq!(world.metric(r#"keyholder_gateway_upstream_errors_total{kind="tls"}"#), 1);
    }
}

#[tokio::test]
async fn callers_over_tls() {
    let upstream = Upstream::start(|_| Box::pin(async { reply(200, &[], "ok") })).await;
    let (root, config) = authority(false);
    let mut setup = Setup::new(upstream.address);
    setup.config.tls = Some(config);
    let world = setup.start().await;
    let mut client = ClientConfig::clone(&trusting(&[root]));
    client.alpn_protocols = vec![b"http/1.1".to_vec()];
    let connector = TlsConnector::from(Arc::new(client));
    let stream = TcpStream::connect(world.address).await.unwrap();
    let stream = connector.connect(ServerName::try_from("127.0.0.1").unwrap(), stream).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    let driver = tokio::spawn(connection);
    let got = read(sender.send_request(world.request("GET /api/v2/users", "")).await.unwrap()).await;
    assert_eq!(got.status, 200);
    let request = Request::get("/.well-known/openid-configuration").header("host", "k.example");
    let got = read(sender.send_request(request.body(Full::default()).unwrap()).await.unwrap()).await;
    assert_eq!(got.json()["issuer"], "https://k.example");
    driver.abort();
    // plain HTTP at the TLS port gets no HTTP answer and harms nobody
    assert!(!world.raw(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.contains("HTTP/1.1"));
}
