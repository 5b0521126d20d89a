//! Client certificates on the listener: who gets a connection, and what the security log is told of who does not.

use kh_core::{
    Clock,
    port::security::{self, AttemptGuard, AuthenticationEvent, Outcome, Presented},
};
use kh_gateway::{CertificateSlot, ClientAuth, ClientTrust, server_tls};
use kh_net::client_address::TrustedProxies;
use kh_security::{Counters, Guard, Limits};
use rustls::{
    ClientConfig, ProtocolVersion, ServerConfig,
    crypto::aws_lc_rs,
    sign::{CertifiedKey, SingleCertAndKey},
    version,
};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
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

/// Sends on what the security log is told: a refused handshake is told after its client has heard of it.
struct Teller(mpsc::UnboundedSender<AuthenticationEvent>);

impl SecurityLog for Teller {
    fn record(&self, event: AuthenticationEvent) {
        // not every test listens to its end
        drop(self.0.send(event));
    }

    fn wants_success(&self, _issuer: &str, _subject: &str, _address: Option<std::net::IpAddr>, _now: Now) -> bool {
        false
    }
}

/// What the security log of a site is told.
struct Told(mpsc::UnboundedReceiver<AuthenticationEvent>);

impl Told {
    async fn event(&mut self) -> AuthenticationEvent {
        tokio::time::timeout(PATIENCE, self.0.recv()).await.expect("it is told").unwrap()
    }

    /// Reason and what was shown, of the next failure.
    async fn next(&mut self) -> String {
        let event = self.event().await;
        let Outcome::Failure { reason } = event.outcome else { panic!("{event:?}") };
        format!("{reason} {}", event.presented.as_str())
    }

    /// Nothing was told that nobody asked for.
    fn is_silent(&mut self) -> bool {
        matches!(self.0.try_recv(), Err(mpsc::error::TryRecvError::Empty))
    }
}

/// A site whose listener trusts `REGION`.
async fn behind(auth: ClientAuth, names: &[&str]) -> (Upstream, Site, Told) {
    behind_with(auth, names, |_| ()).await
}

/// The same, changed.
async fn behind_with(auth: ClientAuth, names: &[&str], change: impl FnOnce(&mut Setup)) -> (Upstream, Site, Told) {
    let (to, told) = mpsc::unbounded_channel();
    let upstream = echo().await;
    let mut setup = Setup::new(upstream.address);
    setup.config.tls = Some(listener(Some(&trust(&REGION, auth, names))));
    setup.security.log = Some(Arc::new(Teller(to)));
    change(&mut setup);
    let site = setup.start();
    (upstream, site, Told(told))
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
    ask_over(TcpStream::connect(site.address).await.unwrap(), client, lines).await
}

/// The same over a connection on which TLS begins now.
async fn ask_over(stream: TcpStream, client: &Arc<ClientConfig>, lines: &str) -> Option<u16> {
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
const UNKNOWN: &str = "authorization: Bearer unknown\r\n";
const BOUND: &str = "authorization: Bearer of-certificate\r\n";

/// How the log tells of a certificate that was not taken, and of one that did not come.
const REFUSED: &str = "certificate_refused certificate";
const MISSING: &str = "certificate_missing nothing";

#[tokio::test]
async fn the_certificate_alone_never_suffices_and_a_bound_token_needs_its_own() {
    let (upstream, site, mut told) = behind(ClientAuth::Optional, &[]).await;
    let foreign = Authority::new("region").issue("ours.example");
    let (ours, theirs) = (client(Some(&OURS)), client(Some(&THEIRS)));
    let (none, small) = (client(None), "authorization: Bearer nothing\r\n");
    let by_key = "authorization: DPoP of-certificate\r\n";
    for (client, lines, expected, reason, case) in [
        (&ours, "", Some(401), "token_missing nothing", "a certificate and no token"),
        (&ours, UNKNOWN, Some(401), "unrecognised bearer", "a certificate and a bad token"),
        (&ours, small, Some(403), "insufficient_scope bearer", "a certificate and a token without the scope"),
        (&ours, READER, Some(200), "", "a token that is not bound"),
        (&none, READER, Some(200), "", "the same without a certificate"),
        (&ours, BOUND, Some(200), "", "a bound token with its certificate"),
        (&theirs, BOUND, Some(401), "certificate_mismatch bearer", "with another tenant's of the same authority"),
        (&none, BOUND, Some(401), "certificate_missing bearer", "a bound token without a certificate"),
        (&ours, by_key, Some(401), "proof_unbound dpop", "a bound token by the wrong scheme"),
        (&client(Some(&foreign)), BOUND, None, REFUSED, "the same name of another authority"),
    ] {
        assert_eq!(ask(&site, client, lines).await, expected, "{case}");
        if !reason.is_empty() {
            assert_eq!(told.next().await, reason, "{case}");
        }
        assert!(told.is_silent(), "{case}");
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
    let (_upstream, site, _told) = behind(ClientAuth::Optional, &[]).await;
    let der = base64::prelude::BASE64_STANDARD.encode(&OURS.0);
    for header in ["client-cert", "x-forwarded-client-cert", "x-ssl-client-cert", "ssl-client-cert"] {
        let lines = format!("{BOUND}{header}: :{der}:\r\n");
        assert_eq!(ask(&site, &client(None), &lines).await, Some(401), "{header}");
    }
}

#[tokio::test]
async fn a_listener_that_requires_a_certificate_has_no_connection_without_one_and_without_its_name() {
    let (upstream, site, mut told) = behind(ClientAuth::Required, &["ours.example"]).await;
    assert_eq!(ask(&site, &client(None), READER).await, None);
    assert_eq!(told.next().await, MISSING);
    assert_eq!(ask(&site, &client(Some(&THEIRS)), READER).await, None, "of the authority, and somebody else");
    assert_eq!(told.next().await, REFUSED);
    assert!(upstream.seen().is_empty());
    assert_eq!(ask(&site, &client(Some(&OURS)), "").await, Some(401));
    assert_eq!(told.next().await, "token_missing nothing");
    assert_eq!(ask(&site, &client(Some(&OURS)), READER).await, Some(200));
    assert!(told.is_silent());
}

/// What is known before there is a request: when, where, why, and whose address, also behind the PROXY protocol.
#[tokio::test]
async fn a_refused_certificate_is_told_with_the_clients_address() {
    let proxy = TrustedProxies::parse(&["127.0.0.1".to_owned()]).unwrap();
    let by_proxy = Proxies { proxy_protocol: proxy, ..Proxies::default() };
    let header = "PROXY TCP4 203.0.113.9 127.0.0.1 4711 443\r\n";
    for (proxies, header, expected) in
        [(Proxies::default(), "", "127.0.0.1 peer"), (by_proxy, header, "203.0.113.9 proxy_protocol")]
    {
        let names = &["ours.example"];
        let (_upstream, site, mut told) =
            behind_with(ClientAuth::Required, names, |setup| setup.proxies = proxies).await;
        for (identity, reason, presented) in [
            (Some(&*THEIRS), "certificate_refused", Presented::Certificate),
            (None, "certificate_missing", Presented::Nothing),
        ] {
            let before = SystemClock::new().now().wall;
            let mut stream = TcpStream::connect(site.address).await.unwrap();
            stream.write_all(header.as_bytes()).await.unwrap();
            assert_eq!(ask_over(stream, &client(identity), READER).await, None, "{reason}");
            let event = told.event().await;
            let address = event.client_address.unwrap();
            assert_eq!(format!("{} {}", address.ip, address.source.as_str()), expected, "{reason}");
            assert!(event.peer.unwrap().is_loopback(), "{event:?}");
            assert!(event.at >= before && event.at <= SystemClock::new().now().wall, "{event:?}");
            let bare = AuthenticationEvent {
                presented,
                client_address: event.client_address,
                peer: event.peer,
                ..AuthenticationEvent::new(event.at, security::Site::Gateway, Outcome::Failure { reason })
            };
            assert_eq!(event, bare, "and nothing else: nobody vouches for what the certificate says");
        }
        assert!(told.is_silent());
    }
}

/// Certificates are public: what counts is the key.
#[tokio::test]
async fn a_certificate_with_another_key_is_refused() {
    for version in [&version::TLS12, &version::TLS13] {
        let (upstream, site, mut told) = behind(ClientAuth::Optional, &[]).await;
        let key = aws_lc_rs::sign::any_supported_type(&private(&THEIRS)).unwrap();
        let stolen = SingleCertAndKey::from(CertifiedKey::new(vec![OURS.0.clone()], key));
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
        let mut store = rustls::RootCertStore::empty();
        store.add(SERVERS.0.der().clone()).unwrap();
        let thief = Arc::new(builder.with_root_certificates(store).with_client_cert_resolver(Arc::new(stolen)));
        assert_eq!(ask(&site, &thief, BOUND).await, None, "{:?}", version.version);
        assert_eq!(told.next().await, REFUSED, "{:?}", version.version);
        assert!(upstream.seen().is_empty());
    }
}

/// A port that the world can reach hears all sorts of things; none of these is somebody who tried to authenticate.
#[tokio::test]
async fn a_handshake_that_fails_for_another_reason_is_no_failure_of_authentication() {
    let (_upstream, site, mut told) = behind(ClientAuth::Required, &[]).await;
    assert!(!site.raw("GET /reports HTTP/1.1\r\nHost: a\r\n\r\n").await.contains("HTTP/1.1"), "plain HTTP");
    drop(TcpStream::connect(site.address).await.unwrap());
    assert_eq!(ask(&site, &trusting(&[]), READER).await, None, "a client that does not trust the listener");
    // the site has one worker, so that whatever it had to tell of them it told before this
    assert_eq!(ask(&site, &client(None), READER).await, None);
    assert_eq!(told.next().await, MISSING);
    assert_eq!(ask(&site, &client(Some(&OURS)), READER).await, Some(200));
    assert!(told.is_silent());
}

#[tokio::test]
async fn a_refused_certificate_counts_against_its_address_and_a_missing_one_does_not() {
    const FREE: u32 = 4;
    let limits = Limits {
        address_failures: FREE,
        window: Duration::from_hours(1),
        wait_first: Duration::from_mins(10),
        ..Limits::default()
    };
    let guard: Arc<dyn AttemptGuard> = Arc::new(Guard::new(limits, &Counters::default()));
    let (_upstream, site, mut told) =
        behind_with(ClientAuth::Required, &[], |setup| setup.security.guard = Some(guard)).await;
    for _ in 0..4 * FREE {
        assert_eq!(ask(&site, &client(None), READER).await, None);
        assert_eq!(told.next().await, MISSING);
    }
    let foreign = Authority::new("region").issue("ours.example");
    for _ in 1..FREE {
        assert_eq!(ask(&site, &client(Some(&foreign)), READER).await, None);
        assert_eq!(told.next().await, REFUSED);
    }
    let ours = client(Some(&OURS));
    assert_eq!(ask(&site, &ours, UNKNOWN).await, Some(401), "the last free one");
    assert_eq!(told.next().await, "unrecognised bearer");
    assert_eq!(ask(&site, &ours, UNKNOWN).await, Some(429));
    assert_eq!(told.next().await, "throttled bearer");
    // nobody is kept from a handshake
    assert_eq!(ask(&site, &client(Some(&foreign)), READER).await, None);
    assert_eq!(told.next().await, REFUSED);
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let (_upstream, site, mut told) = behind(ClientAuth::Optional, &[]).await;
    let mut params = CertificateParams::new(vec!["ours.example".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let key = KeyPair::generate().unwrap();
    let expired = (params.signed_by(&key, &REGION.0).unwrap().der().clone(), key.serialize_der());
    assert_eq!(ask(&site, &client(Some(&expired)), READER).await, None);
    assert_eq!(told.next().await, REFUSED);
}

/// The authority changes while the listener serves: from then on the old one's clients are refused, also those that come
/// back with a session of before.
#[tokio::test]
async fn another_authority_takes_effect_at_once_and_no_session_outlives_the_old_one() {
    for version in [&version::TLS12, &version::TLS13] {
        let (_upstream, site, mut told) = behind(ClientAuth::Optional, &[]).await;
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
        assert_eq!(told.next().await, REFUSED, "{:?}", version.version);
        site.gateway.tls().unwrap().replace(&listener(Some(&trust(&next, ClientAuth::Optional, &[]))));
        assert_eq!(ask(&site, &old, BOUND).await, None, "{:?}", version.version);
        assert_eq!(told.next().await, REFUSED, "{:?}", version.version);
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
    let (_upstream, site, _told) = behind(ClientAuth::Optional, &[]).await;
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
