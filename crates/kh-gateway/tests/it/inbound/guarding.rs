//! The brute-force guard before a protected API: who waits, who does not, and by whose address.

use http::HeaderMap;
use kh_core::port::security::{AuthenticationEvent, Outcome};
use kh_net::client_address::{ClientAddressing, ForwardingHeader, TrustedProxies};
use kh_security::{Counters, Guard, Limits};

use super::*;

/// Keeps events.
#[derive(Default)]
struct Journal(Mutex<Vec<AuthenticationEvent>>);

impl SecurityLog for Journal {
    fn record(&self, event: AuthenticationEvent) {
        self.0.lock().push(event);
    }

    fn wants_success(&self, _issuer: &str, _subject: &str, _address: Option<std::net::IpAddr>, _now: Now) -> bool {
        false
    }
}

/// Failures that an address has.
const FREE: u32 = 5;

/// A site whose guard lets few failures through, for so long that no test sees the end of a wait.
async fn guarded(proxies: Proxies) -> (Upstream, Arc<Journal>, Site) {
    let (upstream, journal) = (echo().await, Arc::new(Journal::default()));
    let limits = Limits {
        address_failures: FREE,
        client_failures: 3,
        window: Duration::from_hours(1),
        wait_first: Duration::from_mins(10),
        ..Limits::default()
    };
    let mut setup = Setup::new(upstream.address);
    setup.proxies = proxies;
    let guard = Guard::new(limits, &Counters::default());
    setup.security = Security { log: Some(journal.clone()), guard: Some(Arc::new(guard)) };
    (upstream, journal, setup.start())
}

/// Status of `GET /reports` with this `Authorization` and `X-Forwarded-For`.
async fn get(site: &Site, authorization: &str, forwarded_for: &str) -> Got {
    let mut request = site.request("GET /reports", authorization, "");
    if !forwarded_for.is_empty() {
        request.headers_mut().insert("x-forwarded-for", forwarded_for.parse().unwrap());
    }
    site.send(request).await
}

fn comparable(headers: &HeaderMap) -> Vec<String> {
    let mut names: Vec<_> = headers.keys().map(|name| name.as_str().to_owned()).collect();
    names.sort();
    names
}

/// A good token at the wrong API is no guess, and whoever shares the address has nothing to do with it.
#[tokio::test]
async fn a_token_that_nobody_looked_at_is_held_against_nobody() {
    let (_upstream, _journal, site) = guarded(Proxies::default()).await;
    for _ in 0..4 * FREE {
        assert_eq!(get(&site, "Bearer elsewhere", "").await.status, 401);
    }
    assert_eq!(get(&site, "Bearer reader", "").await.status, 200);
}

#[tokio::test]
async fn who_fails_too_often_waits_and_who_holds_a_known_token_goes_on() {
    let (upstream, journal, site) = guarded(Proxies::default()).await;
    assert_eq!(get(&site, "Bearer reader", "").await.status, 200);
    // one success at the address, so that it takes one failure more to outnumber it
    let statuses: Vec<u16> = {
        let mut all = Vec::new();
        for number in 0..FREE {
            let token = if number == 0 { "Bearer rea\"der".to_owned() } else { format!("Bearer unknown-{number}") };
            all.push(get(&site, &token, "").await.status);
        }
        all
    };
    assert_eq!(statuses, [400, 401, 401, 401, 401]);
    let mut answers = Vec::new();
    for authorization in ["Bearer unknown", "Bearer writer", "Bearer rea\"der", "Basic x", ""] {
        let got = get(&site, authorization, "").await;
        assert_eq!((got.status, got.json()["code"].as_str()), (429, Some("keyholder.inbound.throttled")));
        let wait: u64 = got.header("retry-after").parse().unwrap();
        assert!((1..=600).contains(&wait), "{wait}");
        let mut body = got.json();
        body.as_object_mut().unwrap().remove("correlation_id");
        answers.push((body, got.header("content-type").to_owned(), comparable(&got.headers)));
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "the answer tells nothing of what was shown: {answers:?}");
    assert_eq!(answers[0].1, "application/problem+json");
    assert_eq!(get(&site, "Bearer reader", "").await.status, 200, "a token that is known never meets the guard");
    assert_eq!(upstream.seen().len(), 2);
    let events = journal.0.lock();
    let throttled = events.iter().filter(|event| event.outcome == Outcome::Failure { reason: "throttled" });
    assert_eq!((throttled.count(), events.len()), (5, 10), "one event for each refusal");
    assert_eq!(site.metric(r#"keyholder_inbound_refusals_total{site="api",reason="throttled"}"#), 5);
}

/// The mistake of a widely copied tutorial: `X-Forwarded-For` believed of anybody lets an attacker have a new address with
/// each request, and makes others wait in its place.
#[tokio::test]
async fn x_forwarded_for_of_a_stranger_neither_frees_nor_frames_anybody() {
    let (_upstream, journal, site) = guarded(Proxies::default()).await;
    for number in 0..FREE {
        assert_eq!(get(&site, "Bearer unknown", &format!("198.51.100.{number}")).await.status, 401);
    }
    assert_eq!(get(&site, "Bearer unknown", "198.51.100.99").await.status, 429);
    let events = journal.0.lock();
    assert!(events.iter().all(|event| event.client_address.unwrap().ip.is_loopback()), "{events:?}");
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_client_has_its_own_count() {
    let trusted = TrustedProxies::parse(&["127.0.0.1".to_owned()]).unwrap();
    let addressing = ClientAddressing::new(trusted, ForwardingHeader::XForwardedFor);
    let (_upstream, _journal, site) = guarded(Proxies { addressing, ..Proxies::default() }).await;
    for number in 0..FREE {
        // what the client wrote itself stands on the left, and the proxy's own entry on the right
        let told = format!("203.0.113.{number}, 198.51.100.1");
        assert_eq!(get(&site, "Bearer unknown", &told).await.status, 401);
    }
    assert_eq!(get(&site, "Bearer unknown", "198.51.100.1").await.status, 429);
    assert_eq!(get(&site, "Bearer unknown", "198.51.100.2").await.status, 401, "another client");
    assert_eq!(get(&site, "Bearer writer", "203.0.113.0").await.status, 200, "nor is anybody framed");
}

#[tokio::test]
async fn what_is_nobodys_guess_is_not_counted() {
    let (_upstream, _journal, site) = guarded(Proxies::default()).await;
    for _ in 0..4 * FREE {
        for (authorization, status) in [
            // no credential at all, one that is not looked at, an issuer that does not answer, and too little scope
            ("", 401),
            ("Basic x", 401),
            ("Bearer later", 503),
            ("Bearer nothing", 403),
        ] {
            assert_eq!(get(&site, authorization, "").await.status, status, "{authorization:?}");
        }
    }
}

#[tokio::test]
async fn one_clients_dead_token_holds_up_that_client_and_not_its_address() {
    let (_upstream, _journal, site) = guarded(Proxies::default()).await;
    let statuses = {
        let mut all = Vec::new();
        for _ in 0..3 * FREE {
            all.push(get(&site, "Bearer ended", "").await.status);
        }
        all
    };
    assert_eq!(statuses[..3], [401; 3]);
    assert_eq!(statuses[3..], [429; 12], "the client waits");
    assert_eq!(get(&site, "Bearer unknown", "").await.status, 401, "its address does not");
    assert_eq!(get(&site, "Bearer writer", "").await.status, 200);
}
