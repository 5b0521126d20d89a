//! Client certificates on the listener.

use kh_gateway::{CertificateSlot, ClientAuth, ClientTrust, server_tls};
use rustls::{ClientConfig, ProtocolVersion, ServerConfig, crypto::aws_lc_rs, sign::CertifiedKey, version};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::*;
use crate::tls::trusting;

/// The server's own authority is another one than that of its clients.
static SERVERS: LazyLock<Authority> = LazyLock::new(|| Authority::new("servers"));

fn listener(trust: Option<&ClientTrust>) -> Arc<ServerConfig> {
    let own = SERVERS.issue("gateway.example");
    let key = CertifiedKey::from_der(vec![own.0.clone()], private(&own), &aws_lc_rs::default_provider()).unwrap();
    server_tls(CertificateSlot::new(key), trust).unwrap()
}

fn trust(authority: &Authority, auth: ClientAuth, names: &[&str]) -> ClientTrust {
    let names = names.iter().map(|&name| name.to_owned()).collect();
    ClientTrust::parse(authority.pem().as_bytes(), auth, names).unwrap()
}

/// A site whose listener trusts `REGION`.
async fn behind(auth: ClientAuth, names: &[&str]) -> (Upstream, Site) {
    let upstream = echo().await;
    let mut setup = Setup::new(upstream.address);
    setup.config.tls = Some(listener(Some(&trust(&REGION, auth, names))));
    let site = setup.start();
    (upstream, site)
}

fn client(identity: Option<&Holder>) -> Arc<ClientConfig> {
    let base = trusting(&[SERVERS.0.der().clone()]);
    let Some(identity) = identity else { return base };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut store = rustls::RootCertStore::empty();
    store.add(SERVERS.0.der().clone()).unwrap();
    let builder = builder.with_root_certificates(store);
    Arc::new(builder.with_client_auth_cert(vec![identity.0.clone()], private(identity)).unwrap())
}

/// The status of `GET /reports` with these lines; none when there was no connection.
async fn ask(site: &Site, client: &Arc<ClientConfig>, lines: &str) -> Option<u16> {
    let stream = TcpStream::connect(site.address).await.unwrap();
    let name = ServerName::try_from("gateway.example").unwrap();
    let mut stream = TlsConnector::from(Arc::clone(client)).connect(name, stream).await.ok()?;
    let request = format!("GET /reports HTTP/1.1\r\nHost: gateway.example\r\nConnection: close\r\n{lines}\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    // with TLS 1.3 a refused certificate is told after the client's own handshake is over
    stream.read_to_end(&mut answer).await.ok()?;
    std::str::from_utf8(&answer).unwrap().split(' ').nth(1)?.parse().ok()
}

const READER: &str = "authorization: Bearer reader\r\n";
const BOUND: &str = "authorization: Bearer of-certificate\r\n";

#[tokio::test]
async fn the_certificate_alone_never_suffices_and_a_bound_token_needs_its_own() {
    let (upstream, site) = behind(ClientAuth::Optional, &[]).await;
    let foreign = Authority::new("region").issue("ours.example");
    let (ours, theirs) = (client(Some(&OURS)), client(Some(&THEIRS)));
    for (client, lines, expected, case) in [
        (&ours, "", Some(401), "a certificate and no token"),
        (&ours, "authorization: Bearer unknown\r\n", Some(401), "a certificate and a bad token"),
        (&ours, "authorization: Bearer nothing\r\n", Some(403), "a certificate and a token without the scope"),
        (&ours, READER, Some(200), "a token that is not bound"),
        (&client(None), READER, Some(200), "the same without a certificate"),
        (&ours, BOUND, Some(200), "a bound token with its certificate"),
        (&theirs, BOUND, Some(401), "a bound token with another tenant's certificate of the same authority"),
        (&client(None), BOUND, Some(401), "a bound token without a certificate"),
        (&ours, "authorization: DPoP of-certificate\r\n", Some(401), "a bound token by the wrong scheme"),
        (&client(Some(&foreign)), BOUND, None, "the same name of another authority"),
    ] {
        assert_eq!(ask(&site, client, lines).await, expected, "{case}");
    }
    assert_eq!(upstream.seen().len(), 3);
    for (reason, count) in [("certificate_mismatch", 1), ("certificate_missing", 1), ("proof_unbound", 1)] {
        let line = format!(r#"keyholder_inbound_refusals_total{{site="api",reason="{reason}"}}"#);
        assert_eq!(site.metric(&line), count, "{reason}");
    }
}

/// What a proxy would write into a header is nothing to this listener: the certificate is that of the handshake.
#[tokio::test]
async fn a_certificate_in_a_header_is_none() {
    let (_upstream, site) = behind(ClientAuth::Optional, &[]).await;
    let der = base64::prelude::BASE64_STANDARD.encode(&OURS.0);
    for header in ["client-cert", "x-forwarded-client-cert", "x-ssl-client-cert", "ssl-client-cert"] {
        let lines = format!("{BOUND}{header}: :{der}:\r\n");
        assert_eq!(ask(&site, &client(None), &lines).await, Some(401), "{header}");
    }
}

#[tokio::test]
async fn a_listener_that_requires_a_certificate_has_no_connection_without_one_and_without_its_name() {
    let (upstream, site) = behind(ClientAuth::Required, &["ours.example"]).await;
    assert_eq!(ask(&site, &client(None), READER).await, None);
    assert_eq!(ask(&site, &client(Some(&THEIRS)), READER).await, None, "of the authority, and somebody else");
    assert!(upstream.seen().is_empty());
    assert_eq!(ask(&site, &client(Some(&OURS)), "").await, Some(401));
    assert_eq!(ask(&site, &client(Some(&OURS)), READER).await, Some(200));
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let (_upstream, site) = behind(ClientAuth::Optional, &[]).await;
    let mut params = CertificateParams::new(vec!["ours.example".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let key = KeyPair::generate().unwrap();
    let expired = (params.signed_by(&key, &REGION.0).unwrap().der().clone(), key.serialize_der());
    assert_eq!(ask(&site, &client(Some(&expired)), READER).await, None);
}

/// The authority changes while the listener serves: from then on the old one's clients are refused, also those that come
/// back with a session of before.
#[tokio::test]
async fn another_authority_takes_effect_at_once_and_no_session_outlives_the_old_one() {
    for version in [&version::TLS12, &version::TLS13] {
        let (_upstream, site) = behind(ClientAuth::Optional, &[]).await;
        let next = Authority::new("next region");
        let newcomer = next.issue("ours.example");
        let of = |identity: &Holder| {
            let provider = Arc::new(aws_lc_rs::default_provider());
            let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
            let mut store = rustls::RootCertStore::empty();
            store.add(SERVERS.0.der().clone()).unwrap();
            let builder = builder.with_root_certificates(store);
            Arc::new(builder.with_client_auth_cert(vec![identity.0.clone()], private(identity)).unwrap())
        };
        let (old, new) = (of(&OURS), of(&newcomer));
        // the second time it resumes its session
        for _ in 0..2 {
            assert_eq!(ask(&site, &old, BOUND).await, Some(200));
        }
        assert_eq!(ask(&site, &new, READER).await, None);
        site.gateway.tls().unwrap().replace(&listener(Some(&trust(&next, ClientAuth::Optional, &[]))));
        assert_eq!(ask(&site, &old, BOUND).await, None, "{:?}", version.version);
        assert_eq!(ask(&site, &new, READER).await, Some(200));
        assert_eq!(ask(&site, &new, BOUND).await, Some(401), "the token is of the old certificate");
        assert!(matches!(version.version, ProtocolVersion::TLSv1_2 | ProtocolVersion::TLSv1_3));
    }
    let (_upstream, plain) = site().await;
    assert!(plain.gateway.tls().is_none(), "there is no TLS to replace");
}

/// The certificate is the connection's, so each stream of HTTP/2 has it.
#[tokio::test]
async fn over_http2_each_stream_has_the_certificate() {
    let (_upstream, site) = behind(ClientAuth::Optional, &[]).await;
    for (identity, expected) in [(&OURS, 200), (&THEIRS, 401)] {
        let mut config = ClientConfig::clone(&client(Some(identity)));
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(site.address).await.unwrap();
        let name = ServerName::try_from("gateway.example").unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        let executor = hyper_util::rt::TokioExecutor::new();
        let io = hyper_util::rt::TokioIo::new(stream);
        let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
        let driver = tokio::spawn(connection);
        for _ in 0..2 {
            let request = Request::get("https://gateway.example/reports");
            let request = request.header("authorization", "Bearer of-certificate").body(Full::<Bytes>::default());
            assert_eq!(sender.send_request(request.unwrap()).await.unwrap().status(), expected);
        }
        driver.abort();
    }
}
