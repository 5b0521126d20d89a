//! What the security log is told of calls to platforms and of keyholder's own endpoints, and whose address counts there.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use kh_core::{
    Code, Now,
    port::security::{AuthenticationEvent, Outcome, Presented, Security, SecurityLog, Site, TokenDigest, Told},
};
use kh_gateway::{CertificateSlot, ClientAuth, ClientTrust, inbound::Proxies, server_tls};
use kh_issuer::{NewClient, NewTokens};
use kh_net::client_address::{ClientAddressing, ForwardingHeader, TrustedProxies};
use kh_security::{Counters, Guard, Limits};
use kh_verify::Reason;
use parking_lot::Mutex;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, sign::CertifiedKey};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::{
    holder::{Authority, Holder, private},
    support::{Got, Setup, World},
    upstream::{Upstream, reply},
};

/// Keeps events, and wants to hear of every success.
#[derive(Default)]
pub(crate) struct Journal(Mutex<Vec<AuthenticationEvent>>);

impl SecurityLog for Journal {
    fn record(&self, event: AuthenticationEvent) {
        self.0.lock().push(event);
    }

    fn wants_success(&self, issuer: &str, _subject: &str, _address: Option<IpAddr>, _now: Now) -> bool {
        issuer == "keyholder"
    }
}

impl Journal {
    /// What was told since it was asked last: site, reason (`ok` for a success), what was shown, status, client, whether
    /// that is verified.
    pub(crate) fn take(&self, world: &World) -> Vec<String> {
        self.take_of(&world.client_id)
    }

    /// The same, where `app` is the client with this id.
    pub(crate) fn take_of(&self, app: &str) -> Vec<String> {
        let events = std::mem::take(&mut *self.0.lock());
        let line = |event: &AuthenticationEvent| {
            let reason = match event.outcome {
                Outcome::Success => "ok",
                Outcome::Failure { reason } => reason,
            };
            let client = event.client.as_ref().map_or("-", |client| client.as_str()).replace(app, "app");
            let status = event.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
            let verified = if event.verified { "verified" } else { "claimed" };
            format!("{} {reason} {} {status} {client} {verified}", event.site.as_str(), event.presented.as_str())
        };
        events.iter().map(line).collect()
    }

    /// The tokens of the events that [`Self::take`] will tell.
    pub(crate) fn tokens(&self) -> Vec<Option<TokenDigest>> {
        self.0.lock().iter().map(|event| event.token).collect()
    }

    /// Route and path's template of each event since it was asked last.
    pub(crate) fn routes(&self) -> Vec<String> {
        let events = std::mem::take(&mut *self.0.lock());
        let text = |told: Option<&Told>| told.map_or("-", Told::as_str).to_owned();
        let line = |event: &AuthenticationEvent| {
            format!("{} {}", text(event.route.as_ref()), text(event.path_template.as_ref()))
        };
        events.iter().map(line).collect()
    }
}

async fn world(change: impl FnOnce(&mut Setup)) -> (Upstream, Arc<Journal>, World) {
    let upstream = Upstream::start(|_| Box::pin(async { reply(200, &[], "{}") })).await;
    let journal = Arc::new(Journal::default());
    let mut setup = Setup::new(upstream.address);
    setup.security = Security { log: Some(journal.clone()), guard: None };
    change(&mut setup);
    (upstream, journal, setup.start().await)
}

async fn send(world: &World, call: &str, headers: &[(&str, &str)], body: &str) -> Got {
    let (method, target) = call.split_once(' ').unwrap();
    let mut request = Request::builder().method(method).uri(target).header("host", "keyholder.example");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    world.send(request.body(Full::new(Bytes::from(body.to_owned()))).unwrap()).await
}

fn basic(id: &str, secret: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{id}:{secret}")))
}

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const GRANT: &str = "grant_type=client_credentials";

#[tokio::test]
async fn each_refused_call_is_told_once_with_its_reason() {
    let (_upstream, journal, world) = world(|setup| {
        setup.allow = vec!["GET /api/v2/users"];
        setup.allow_all = false;
    })
    .await;
    let good = format!("Bearer {}", world.token);
    for (call, authorization, status, told) in [
        ("GET /api/v2/users", "", 401, "gateway token_missing nothing 401 - claimed"),
        ("GET /api/v2/users", "Basic eDp5", 401, "gateway scheme_refused other 401 - claimed"),
        ("GET /api/v2/users", "Bearer a b", 401, "gateway authorization_malformed bearer 401 - claimed"),
        ("GET /api/v2/users", "Bearer kht_nobody", 401, "gateway token_unknown bearer 401 - claimed"),
        ("GET /api/v2/tokens/me", "Bearer kht_nobody", 401, "gateway token_unknown bearer 401 - claimed"),
        ("GET /api/v2/groups", &good, 403, "gateway call_not_allowed bearer 403 app verified"),
        ("POST /api/v2/oauth/clients", &good, 403, "gateway call_guarded bearer 403 app verified"),
        ("GET /api/v2/users", &good, 200, "gateway ok bearer - app verified"),
    ] {
        let headers = [("authorization", authorization)];
        let headers = if authorization.is_empty() { &[][..] } else { &headers[..] };
        assert_eq!(send(&world, call, headers, "").await.status, status, "{call} {authorization}");
        assert_eq!(journal.take(&world), [told], "{call} {authorization}");
    }
}

/// The status of a call over TLS with this certificate; none when there was no connection.
async fn call_with(world: &World, servers: &Authority, holder: &Holder) -> Option<u16> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(servers.0.der().clone()).unwrap();
    let builder = builder.with_root_certificates(roots);
    let config = builder.with_client_auth_cert(vec![holder.0.clone()], private(holder)).unwrap();
    let stream = TcpStream::connect(world.address).await.unwrap();
    let name = ServerName::try_from("keys.example").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.ok()?;
    let head = "GET /api/v2/users HTTP/1.1\r\nHost: keys.example\r\nConnection: close\r\n";
    let request = format!("{head}Authorization: Bearer {}\r\n\r\n", world.token);
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok()?;
    std::str::from_utf8(&answer).unwrap().split(' ').nth(1)?.parse().ok()
}

#[tokio::test]
async fn a_client_whose_certificate_is_refused_is_told_once() {
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let own = servers.issue("keys.example");
    let key = CertifiedKey::from_der(vec![own.0.clone()], private(&own), &aws_lc_rs::default_provider()).unwrap();
    let trust = ClientTrust::parse(clients.pem().as_bytes(), ClientAuth::Optional, Vec::new()).unwrap();
    let tls = server_tls(CertificateSlot::new(key), Some(&trust)).unwrap();
    let (_upstream, journal, world) = world(|setup| setup.config.tls = Some(tls)).await;
    let (ours, foreign) = (clients.issue("ours.example"), Authority::new("clients").issue("ours.example"));
    assert_eq!(call_with(&world, &servers, &foreign).await, None);
    // the gateway has one worker, so that whatever it had to tell of the first it told before this
    assert_eq!(call_with(&world, &servers, &ours).await, Some(200));
    let told = ["gateway certificate_refused certificate - - claimed", "gateway ok bearer - app verified"];
    assert_eq!(journal.take(&world), told);
}

#[tokio::test]
async fn each_refused_login_is_told_once_with_its_reason() {
    let (_upstream, journal, world) = world(|_| ()).await;
    let (id, secret) = (world.client_id.clone(), world.client_secret.clone());
    let post = format!("{GRANT}&client_id={id}&client_secret={secret}");
    let wrong = format!("{GRANT}&client_id={id}&client_secret=khs_wrong");
    // id and secret exchanged, as people do
    let swapped = basic(&secret, &id);
    let endpoint = |rest: &str| format!("token_endpoint {rest}");
    for (call, authorization, body, status, told) in [
        ("POST /oauth/token", basic(&id, &secret), GRANT, 200, Some("ok basic - app verified")),
        ("POST /oauth/token", String::new(), &*post, 200, Some("ok client_secret_post - app verified")),
        ("POST /oauth/token", basic(&id, "khs_wrong"), GRANT, 401, Some("invalid_client basic 401 app claimed")),
        ("POST /oauth/token", String::new(), &*wrong, 401, Some("invalid_client client_secret_post 401 app claimed")),
        ("POST /oauth/token", swapped, GRANT, 401, Some("invalid_client basic 401 - claimed")),
        ("POST /oauth/token", String::new(), GRANT, 401, Some("invalid_client nothing 401 - claimed")),
        ("POST /oauth/revoke", basic(&id, "khs_wrong"), "token=x", 401, Some("invalid_client basic 401 app claimed")),
        (
            "POST /oauth/introspect",
            basic(&id, &secret),
            "token=x",
            403,
            Some("introspection_not_allowed basic 403 app verified"),
        ),
        // it is not for users
        (
            "POST /oauth/token",
            basic(&id, &secret),
            "grant_type=authorization_code&code=x",
            400,
            Some("unauthorized_client basic 400 app verified"),
        ),
        // nobody tried to authenticate
        ("POST /oauth/token", basic(&id, &secret), "grant_type=password", 400, None),
        ("GET /oauth/token", String::new(), "", 405, None),
    ] {
        let headers = [FORM, ("authorization", authorization.as_str())];
        let headers = if authorization.is_empty() { &headers[..1] } else { &headers[..] };
        let got = send(&world, call, headers, body).await;
        assert_eq!(got.status, status, "{call} {body}");
        assert!(!format!("{:?}", journal.0.lock()).contains(&secret), "{call} {body}");
        let mut found = journal.take(&world);
        // introspection: the client authenticated itself first, which is a success of its own
        found.retain(|line| status != 403 || !line.contains(" ok "));
        assert_eq!(found, told.into_iter().map(endpoint).collect::<Vec<_>>(), "{call} {body}");
    }
    let (record, other) = world.issuer.add_client(scoped(), "cli:test").await.unwrap();
    let authorization = basic(record.id.as_str(), other.expose());
    let headers = [FORM, ("authorization", authorization.as_str())];
    let got = send(&world, "POST /oauth/token", &headers, &format!("{GRANT}&scope=reports:write")).await;
    assert_eq!(got.status, 400);
    let told = format!("token_endpoint invalid_scope basic 400 {} verified", record.id);
    assert_eq!(journal.take(&world), [told]);
    // a token of the first client's
    let got = send(&world, "POST /oauth/revoke", &headers, &format!("token={}", world.token)).await;
    assert_eq!(got.status, 400);
    let told = ["ok basic -", "token_of_another_client basic 400"];
    assert_eq!(journal.take(&world), told.map(|told| format!("token_endpoint {told} {} verified", record.id)));
}

#[tokio::test]
async fn each_event_names_its_route_and_nothing_of_the_path_that_its_caller_chose() {
    let (_upstream, journal, world) = world(|_| ()).await;
    let (good, login) = (format!("Bearer {}", world.token), basic(&world.client_id, &world.client_secret));
    let wrong = basic(&world.client_id, "khs_wrong");
    let (good, login, wrong, nobody) = (good.as_str(), login.as_str(), wrong.as_str(), "Bearer kht_nobody");
    let password = "grant_type=password&username=jane&password=x";
    let key = r#"{"accessKeyId":"jane","accessKeySecret":"x"}"#;
    for (call, authorization, body, route) in [
        ("GET /api/v2/users/jane", good, "", "/api/v2/**"),
        ("GET /api/v2/users/jane", nobody, "", "/api/v2/**"),
        ("GET /jane/api/v2/users", nobody, "", "/api/v2/**"),
        ("GET /jane/api/v2/tokens/me", nobody, "", "/api/v2/tokens/me"),
        ("GET /jane", nobody, "", "/**"),
        ("POST /oauth/token", login, GRANT, "/oauth/token"),
        ("POST /jane/oauth/token", wrong, GRANT, "/oauth/token"),
        ("POST /oauth/revoke", wrong, "token=x", "/oauth/revoke"),
        ("POST /oauth/introspect", wrong, "token=x", "/oauth/introspect"),
        ("POST /jane/auth/token", "", password, "/auth/token"),
        ("POST /authentication/v1/token/access-key", "", key, "/authentication/v1/token/access-key"),
    ] {
        let media = if body == key { ("content-type", "application/json") } else { FORM };
        let headers = [media, ("authorization", authorization)];
        let headers = if authorization.is_empty() { &headers[..1] } else { &headers[..] };
        send(&world, call, headers, body).await;
        let heard = format!("{:?}", journal.0.lock());
        assert!(!heard.contains("jane"), "{call}: {heard}");
        assert_eq!(journal.routes(), [format!("{route} {route}")], "{call} {body}");
    }
}

fn scoped() -> NewClient {
    NewClient {
        name: "scoped".parse().unwrap(),
        credential: None,
        environment: None,
        scopes: vec!["reports:read".to_owned()],
        tokens: NewTokens::default(),
        allow: Vec::new(),
        allow_all: false,
        allow_secret_operations: false,
        ttl: None,
    }
}

/// What the reference publishes: the reasons of these places, those of tokens, and the error codes.
fn published() -> BTreeSet<String> {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/security-log.md");
    let page = std::fs::read_to_string(page).unwrap();
    let places = ["| calls to platforms |", "| the token endpoint |", "| endpoints for platform events |"];
    // the table of routes before it has the same places
    let table = page.lines().skip_while(|line| *line != "| where | reasons |");
    let rows: Vec<&str> = table.filter(|line| places.iter().any(|place| line.starts_with(place))).collect();
    assert_eq!(rows.len(), places.len(), "{rows:?}");
    let of_rows = rows.into_iter().flat_map(|row| row.split('`').skip(1).step_by(2)).map(str::to_owned);
    let of_tokens = Reason::ALL.iter().map(|reason| reason.as_str().to_owned());
    let of_errors = Code::ALL.iter().map(|(code, ..)| code.0.to_owned());
    of_rows.chain(of_tokens).chain(of_errors).collect()
}

#[tokio::test]
async fn each_refused_request_is_counted_once_by_its_route_and_a_published_code() {
    let (_upstream, _journal, world) = world(|setup| {
        setup.allow = vec!["GET /api/v2/users"];
        setup.allow_all = false;
        // nobody is there
        setup.api_base = "http://127.0.0.1:1".to_owned();
        // it is counted without a log as well
        setup.security = Security::default();
    })
    .await;
    let token = format!("Bearer {}", world.token);
    let (good, wrong) = (basic(&world.client_id, &world.client_secret), basic(&world.client_id, "khs_wrong"));
    for (call, authorization, body, route, reason) in [
        ("GET /api/v2/users", "", "", "/api/v2/**", "token_missing"),
        ("GET /api/v2/users", "Bearer kht_nobody", "", "/api/v2/**", "token_unknown"),
        ("GET /api/v2/groups", &*token, "", "/api/v2/**", "call_not_allowed"),
        ("POST /api/v2/oauth/clients", &token, "", "/api/v2/**", "call_guarded"),
        ("GET /api/v2/users", &token, "", "/api/v2/**", "keyholder.upstream.unreachable"),
        ("GET /api/v2/../x", &token, "", "/api/v2/**", "keyholder.request.ambiguous"),
        ("GET /nothing", &token, "", "/**", "keyholder.not_found"),
        ("POST /oauth/revoke", &wrong, "token=x", "/oauth/revoke", "invalid_client"),
        ("POST /oauth/revoke", &good, "", "/oauth/revoke", "keyholder.request.malformed"),
        ("GET /oauth/revoke", "", "", "/oauth/revoke", "keyholder.method.not_allowed"),
        ("POST /p/oauth/introspect", &good, "token=x", "/oauth/introspect", "introspection_not_allowed"),
        ("POST /p/oauth/introspect", &wrong, "token=x", "/oauth/introspect", "invalid_client"),
        ("POST /oauth/token", &wrong, GRANT, "/oauth/token", "invalid_client"),
        ("POST /auth/jwks", "", "", "/auth/jwks", "keyholder.method.not_allowed"),
        ("POST /keyholder/events/main", "", "", "/keyholder/events/{name}", "keyholder.not_found"),
    ] {
        let headers = [FORM, ("authorization", authorization)];
        let headers = if authorization.is_empty() { &headers[..1] } else { &headers[..] };
        let status = send(&world, call, headers, body).await.status;
        assert!(status >= 400, "{call}: {status}");
        let line = format!(r#"keyholder_gateway_refusals_total{{route="{route}",reason="{reason}"}}"#);
        assert_eq!(world.metric(&line), 1, "{call} {body}");
    }
    assert_eq!(send(&world, "GET /auth/jwks", &[], "").await.status, 200);
    let scrape = world.scrape();
    let sum = |start: &str| -> u64 {
        let series = scrape.lines().filter(|line| line.starts_with(start));
        series.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    };
    let ended = ["refused", "failed"].map(|how| sum(&format!(r#"keyholder_gateway_requests_total{{outcome="{how}""#)));
    assert_eq!(sum("keyholder_gateway_refusals_total{"), ended.iter().sum::<u64>(), "no other way to be refused");
    let published = published();
    for line in scrape.lines().filter(|line| line.starts_with("keyholder_gateway_refusals_total{")) {
        let reason = line.split("reason=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        assert!(published.contains(reason), "{reason} is not published");
    }
}

fn behind_a_proxy() -> Proxies {
    let trusted = TrustedProxies::parse(&["127.0.0.1".to_owned()]).unwrap();
    let addressing = ClientAddressing::new(trusted, ForwardingHeader::XForwardedFor);
    Proxies { addressing, ..Proxies::default() }
}

/// Logs in through the proxy that says who asks; the statuses of `times` tries.
async fn logins(world: &World, from: &str, authorization: &str, times: u32) -> Vec<u16> {
    let mut all = Vec::new();
    for _ in 0..times {
        let headers = [FORM, ("authorization", authorization), ("x-forwarded-for", from)];
        all.push(send(world, "POST /oauth/token", &headers, GRANT).await.status);
    }
    all
}

#[tokio::test]
async fn wrong_logins_are_held_against_the_address_that_a_trusted_proxy_tells() {
    let (_upstream, journal, world) = world(|setup| setup.proxies = behind_a_proxy()).await;
    let (good, wrong) = (basic(&world.client_id, &world.client_secret), basic(&world.client_id, "khs_wrong"));
    assert!(logins(&world, "198.51.100.1", &wrong, 12).await.contains(&429));
    assert_eq!(logins(&world, "198.51.100.2", &good, 1).await, [200], "the proxy's other clients go on");
    let events = journal.0.lock();
    let of = |event: &AuthenticationEvent| event.client_address.unwrap().ip.to_string();
    assert_eq!(of(&events[0]), "198.51.100.1");
    assert_eq!(events[0].peer.unwrap().to_string(), "127.0.0.1");
    assert!(events.iter().any(|event| event.outcome == Outcome::Failure { reason: "throttled" }));
    assert_eq!(of(events.last().unwrap()), "198.51.100.2");
}

/// The mistake of a widely copied tutorial, at the token endpoint.
#[tokio::test]
async fn x_forwarded_for_of_a_stranger_is_not_looked_at() {
    let (_upstream, journal, world) = world(|_| ()).await;
    let wrong = basic(&world.client_id, "khs_wrong");
    let mut statuses = Vec::new();
    for number in 0..12 {
        statuses.extend(logins(&world, &format!("198.51.100.{number}"), &wrong, 1).await);
    }
    assert!(statuses.contains(&429), "{statuses:?}");
    assert!(journal.0.lock().iter().all(|event| event.client_address.unwrap().ip.is_loopback()));
}

#[tokio::test]
async fn the_guard_and_the_lockout_hold_up_a_guesser_and_nobody_else() {
    let limits = Limits {
        address_failures: 4,
        client_failures: 4,
        window: Duration::from_hours(1),
        wait_first: Duration::from_mins(10),
        ..Limits::default()
    };
    let guard = Arc::new(Guard::new(limits, &Counters::default()));
    let (_upstream, journal, world) = world(|setup| {
        setup.proxies = behind_a_proxy();
        setup.security.guard = Some(guard);
    })
    .await;
    let good = basic(&world.client_id, &world.client_secret);
    assert_eq!(logins(&world, "198.51.100.2", &good, 1).await, [200]);
    // less than the lockout allows, of clients that nobody has
    for number in 0..4 {
        let unknown = basic(&format!("nobody-{number}"), "khs_wrong");
        assert_eq!(logins(&world, "198.51.100.1", &unknown, 1).await, [401]);
    }
    let headers = [FORM, ("authorization", good.as_str()), ("x-forwarded-for", "198.51.100.1")];
    let held = send(&world, "POST /oauth/token", &headers, GRANT).await;
    assert_eq!((held.status, held.json()["error"].as_str()), (429, Some("temporarily_unavailable")));
    assert!(held.header("retry-after").parse::<u64>().unwrap() > 500, "{held:?}");
    assert_eq!(logins(&world, "198.51.100.2", &good, 1).await, [200], "another address is not concerned");
    // where the client is known, what others do at its address does not hold it up
    for number in 0..8 {
        let unknown = basic(&format!("nobody-{number}"), "khs_wrong");
        logins(&world, "198.51.100.2", &unknown, 1).await;
    }
    assert_eq!(logins(&world, "198.51.100.2", &basic("nobody", "khs_wrong"), 1).await, [429]);
    assert_eq!(logins(&world, "198.51.100.2", &good, 1).await, [200]);
    let events = journal.0.lock();
    assert!(events.iter().all(|event| event.site == Site::TokenEndpoint && event.presented == Presented::Basic));
}
