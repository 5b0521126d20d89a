//! What can go wrong below HTTP semantics: TLS, time, size, redirects, broken bytes.

use std::time::Duration;

use kh_core::port::{FetchError, IssuedToken, TokenEndpoint};
use kh_platform::{GenesysEndpoint, HttpClient};

use crate::fake::{Fake, Identity, Reply, client, client_trusting, document, json, with, word};

const TOKEN: &str = r#"{"access_token":"opaque-1","token_type":"bearer","expires_in":86400}"#;

async fn fetch(http: HttpClient, fake: &Fake) -> Result<IssuedToken, FetchError> {
    let document = document(r#"{"client_id":"cid","client_secret":"MARKED-SECRET"}"#);
    GenesysEndpoint::new(http, fake.base()).fetch(&document, None).await
}

#[tokio::test]
async fn a_private_ca_is_enough_and_needed() {
    let identity = Identity::new(|_| {});
    let fake = Fake::start_tls(&identity, |_| json(200, TOKEN)).await;
    fetch(client_trusting(std::slice::from_ref(&identity.ca_pem)).0, &fake).await.unwrap();
    assert_eq!(fake.seen().len(), 1);
    let error = fetch(client().0, &fake).await.unwrap_err();
    assert_eq!(word(&error), "unreachable");
    assert!(error.to_string().contains("TLS connection to the platform failed: invalid peer certificate"), "{error}");
    assert_eq!(fake.seen().len(), 1, "nothing was sent to an unknown server");
}

#[tokio::test]
async fn wrong_certificates_get_no_secret() {
    type Change = fn(&mut rcgen::CertificateParams);
    let cases: [(&str, Change); 2] = [
        ("expired", |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1)),
        ("not valid for name", |params| {
            params.subject_alt_names = vec![rcgen::SanType::DnsName("other.example".try_into().unwrap())];
        }),
    ];
    for (reason, change) in cases {
        let identity = Identity::new(change);
        let fake = Fake::start_tls(&identity, |_| json(200, TOKEN)).await;
        let error = fetch(client_trusting(std::slice::from_ref(&identity.ca_pem)).0, &fake).await.unwrap_err();
        assert_eq!(word(&error), "unreachable");
        assert!(error.to_string().contains("TLS") && error.to_string().contains(reason), "{error}");
        assert!(fake.seen().is_empty());
    }
}

#[tokio::test]
async fn no_server_at_all() {
    let gone = Fake::start(|_| Reply::Hang).await;
    let (url, http) = (gone.base(), client().0);
    drop(gone);
    tokio::task::yield_now().await;
    let document = document(r#"{"client_id":"cid","client_secret":"MARKED-SECRET"}"#);
    let error = GenesysEndpoint::new(http, url).fetch(&document, None).await.unwrap_err();
    assert_eq!(word(&error), "unreachable");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn redirects_are_never_followed() {
    let trap = Fake::start(|_| json(200, TOKEN)).await;
    for status in [301, 302, 303, 307, 308] {
        let location = format!("Location: {}/oauth/token\r\n", trap.url());
        let fake = Fake::start(move |_| with(status, &location, "")).await;
        let error = fetch(client().0, &fake).await.unwrap_err();
        assert_eq!(word(&error), "transient");
        assert!(error.to_string().contains("redirect"), "{error}");
        assert_eq!(fake.seen().len(), 1);
    }
    assert!(trap.seen().is_empty());
}

#[tokio::test]
async fn a_silent_server_is_given_up() {
    let fake = Fake::start(|_| Reply::Hang).await;
    let (result, ()) = tokio::join!(fetch(client().0, &fake), async {
        fake.arrived(1).await;
        // From here on time runs only as fast as everybody waits.
        tokio::time::pause();
    });
    let error = result.unwrap_err();
    assert_eq!(word(&error), "unreachable");
    assert!(error.to_string().contains("in time"), "{error}");
    assert_eq!(fake.seen().len(), 1);
}

#[tokio::test]
async fn an_answer_that_stops_in_the_middle_is_given_up() {
    let reply = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"access_token\":\"MARKED-SECRET";
    let fake = Fake::start(move |_| Reply::Raw(reply.into())).await;
    let error = fetch(client().0, &fake).await.unwrap_err();
    assert_eq!(word(&error), "transient");
    assert_eq!(fake.seen().len(), 1);
}

#[tokio::test]
async fn large_answers_are_cut_off() {
    let announced = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000000000\r\n\r\n{";
    for reply in [Reply::Raw(announced.into()), Reply::Endless, json(200, &" ".repeat(256 * 1024 + 1))] {
        let fake = Fake::start(move |_| reply.clone()).await;
        let error = fetch(client().0, &fake).await.unwrap_err();
        assert_eq!(word(&error), "transient");
        assert!(error.to_string().contains("larger than"), "{error}");
        assert_eq!(fake.seen().len(), 1);
    }
    let padded = format!("{}{TOKEN}", " ".repeat(200 * 1024));
    let fake = Fake::start(move |_| json(200, &padded)).await;
    fetch(client().0, &fake).await.unwrap();
}

#[tokio::test]
async fn broken_bytes_and_wrong_types() {
    let html = format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n{TOKEN}", TOKEN.len());
    for raw in [
        b"SSH-2.0-OpenSSH\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n".to_vec(),
        b"".to_vec(),
        b"\x16\x03\x01\x00\x00".to_vec(),
        html.into_bytes(),
    ] {
        let fake = Fake::start(move |_| Reply::Raw(raw.clone())).await;
        let error = fetch(client().0, &fake).await.unwrap_err();
        assert_eq!(word(&error), "transient");
        assert_eq!(fake.seen().len(), 1, "{error}");
    }
}

#[tokio::test]
async fn a_cancelled_fetch_leaves_nothing_behind() {
    let fake = Fake::start(|_| Reply::Hang).await;
    let http = client().0;
    tokio::select! {
        _ = fetch(http.clone(), &fake) => panic!("nobody answers"),
        () = fake.arrived(1) => {}
    }
    let other = Fake::start(|_| json(200, TOKEN)).await;
    let token = fetch(http, &other).await.unwrap();
    assert_eq!(token.expires_in, Duration::from_hours(24));
    assert_eq!(fake.seen().len(), 1);
}
