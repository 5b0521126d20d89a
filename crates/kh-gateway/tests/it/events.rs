//! The endpoint for platform events over real connections: who is let in and in which order, and what each refusal is.

use std::{
    net::SocketAddr,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use kh_core::{
    Clock, SystemClock,
    port::{BoxFuture, security::Security},
};
use kh_gateway::{Bearer, EventSink, Events, NotTaken, Proof};
use kh_security::{Counters, Guard, Limits};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    task::JoinSet,
    time::timeout,
};

use crate::{
    security::Journal,
    support::{Got, PATIENCE, Setup, World},
};

/// Takes what it is told to, and keeps what it was asked.
#[derive(Default)]
struct Sink {
    refuse: Mutex<Option<NotTaken>>,
    asked: Mutex<Vec<String>>,
    /// What was refused without it.
    refused: Mutex<Vec<NotTaken>>,
}

impl EventSink for Sink {
    fn body_max(&self, name: &str) -> Option<usize> {
        (name == "main").then_some(1000)
    }

    fn admit<'a>(&'a self, name: &'a str, token: &'a [u8]) -> BoxFuture<'a, Result<Bearer, NotTaken>> {
        self.asked.lock().unwrap().push(format!("admit {name}"));
        let known = match token {
            b"good" => Ok(Bearer { client: "client:c".to_owned(), bound: None }),
            b"bound" => {
                let bound = Some(kh_core::Confirmation::X5tS256([7; 32]));
                Ok(Bearer { client: "client:bound".to_owned(), bound })
            }
            b"weak" => Err(NotTaken::Forbidden),
            _ => Err(NotTaken::Unauthenticated),
        };
        Box::pin(async move { known })
    }

    fn refused(&self, name: &str, why: NotTaken) {
        assert_eq!(name, "main");
        self.refused.lock().unwrap().push(why);
    }

    fn take<'a>(&'a self, name: &'a str, proof: Proof<'a>, body: &'a [u8]) -> BoxFuture<'a, Result<(), NotTaken>> {
        let proof = match proof {
            Proof::Admitted(client) => client.to_owned(),
            Proof::Signed(headers) => headers.join(","),
        };
        self.asked.lock().unwrap().push(format!("take {name} {proof} {}", String::from_utf8_lossy(body)));
        let outcome = self.refuse.lock().unwrap().map_or(Ok(()), Err);
        Box::pin(async move { outcome })
    }
}

async fn world() -> (World, Arc<Sink>) {
    watched(Security::default()).await
}

async fn watched(security: Security) -> (World, Arc<Sink>) {
    changed(security, |_| {}).await
}

async fn changed(security: Security, change: impl FnOnce(&mut Setup)) -> (World, Arc<Sink>) {
    let sink = Arc::new(Sink::default());
    let mut setup = Setup::new("127.0.0.1:1".parse().unwrap());
    setup.events = Some(Events::new(Arc::clone(&sink) as Arc<dyn EventSink>));
    setup.security = security;
    change(&mut setup);
    (setup.start().await, sink)
}

async fn post(world: &World, path: &str, headers: &[(&str, &str)], body: &str) -> Got {
    let mut request = Request::post(path).header("host", "keyholder.example");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    world.send(request.body(Full::new(Bytes::from(body.to_owned()))).unwrap()).await
}

/// A delivery of now.
static SIGNED: LazyLock<[(&str, &str); 3]> = LazyLock::new(|| signed_at(0));

/// A delivery whose time is so many seconds away from now.
fn signed_at(seconds: i64) -> [(&'static str, &'static str); 3] {
    let now = SystemClock::new().now().wall.as_secs();
    let at: &str = now.saturating_add_signed(seconds).to_string().leak();
    [("webhook-id", "i"), ("webhook-timestamp", at), ("webhook-signature", "v1,x")]
}

/// Announces a signed body and sends none of it. Answers how what comes back begins.
async fn trickle(from: &str, to: SocketAddr) -> String {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    let mut stream = socket.connect(to).await.unwrap();
    let mut head = "POST /keyholder/events/main HTTP/1.1\r\nhost: k\r\ncontent-length: 1000\r\n".to_owned();
    for (name, value) in *SIGNED {
        head.extend([name, ": ", value, "\r\n"]);
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    timeout(PATIENCE, stream.read_exact(&mut answer)).await.expect("an answer in time").unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn guard(address_failures: u32) -> Security {
    let limits = Limits { address_failures, window: Duration::from_hours(1), ..Limits::default() };
    Security { log: None, guard: Some(Arc::new(Guard::new(limits, &Counters::default()))) }
}

#[tokio::test]
async fn a_delivery_is_taken_by_bearer_or_signature() {
    let (world, sink) = world().await;
    for headers in [&[("authorization", "Bearer good")][..], &SIGNED[..]] {
        for path in ["/keyholder/events/main", "/login/keyholder/events/main"] {
            let got = post(&world, path, headers, "{}").await;
            assert_eq!((got.status, got.body.len()), (202, 0), "{got:?}");
        }
    }
    let asked = sink.asked.lock().unwrap().clone();
    assert_eq!(asked[..2], ["admit main".to_owned(), "take main client:c {}".to_owned()]);
    assert_eq!(*asked.last().unwrap(), format!("take main i,{},v1,x {{}}", SIGNED[1].1));
}

#[tokio::test]
async fn refusals_are_problems_and_an_unknown_sender_is_read_nothing_of() {
    let (world, sink) = world().await;
    let path = "/keyholder/events/main";
    for (headers, status, challenge) in [
        (&[][..], 401, Some(r#"Bearer realm="keyholder""#)),
        (&[("authorization", "Bearer bad")][..], 401, Some(r#"Bearer realm="keyholder", error="invalid_token""#)),
        (&[("authorization", "Basic Z29vZDo=")][..], 401, Some(r#"Bearer realm="keyholder", error="invalid_token""#)),
        (&[("authorization", "Bearer weak")][..], 403, None),
        // bound to a certificate, which this connection has not
        (
            &[("authorization", "Bearer bound")][..],
            401,
            Some(
                r#"Bearer realm="keyholder", error="invalid_token", error_description="the token is unknown, expired or revoked""#,
            ),
        ),
        (&SIGNED[..2], 401, Some(r#"Bearer realm="keyholder""#)),
        (&[SIGNED[0], SIGNED[1], SIGNED[2], SIGNED[2]][..], 401, Some(r#"Bearer realm="keyholder""#)),
    ] {
        let got = post(&world, path, headers, "{}").await;
        let told = got.headers.get("www-authenticate").map(|value| value.to_str().unwrap());
        assert_eq!((got.status, told), (status, challenge), "{headers:?}");
        assert_eq!(got.headers["content-type"], "application/problem+json");
    }
    assert!(sink.asked.lock().unwrap().iter().all(|asked| asked == "admit main"), "nothing was read or taken");
    let large = post(&world, path, &[("authorization", "Bearer good")], &"x".repeat(1001)).await;
    assert_eq!(large.status, 413);
    for other in ["/keyholder/events/other", "/keyholder/events/%6dain"] {
        let got = post(&world, other, &[("authorization", "Bearer good")], "{}").await;
        assert!(matches!(got.status, 400 | 404), "{other}: {got:?}");
    }
    let get = Request::get(path).header("host", "k").header("authorization", "Bearer good");
    assert_eq!(world.send(get.body(Full::default()).unwrap()).await.status, 405);
}

#[tokio::test]
async fn what_could_not_be_carried_out_is_told_so_that_it_comes_again() {
    let (world, sink) = world().await;
    for (refuse, status, retry) in [
        (NotTaken::Unauthenticated, 401, None),
        (NotTaken::Malformed, 400, None),
        (NotTaken::TooMany(Duration::from_millis(1500)), 429, Some("2")),
        (NotTaken::Unavailable, 503, Some("1")),
    ] {
        *sink.refuse.lock().unwrap() = Some(refuse);
        let got = post(&world, "/keyholder/events/main", &SIGNED[..], "{}").await;
        let told = got.headers.get("retry-after").map(|value| value.to_str().unwrap());
        assert_eq!((got.status, told), (status, retry), "{refuse:?}");
    }
}

#[tokio::test]
async fn the_sink_hears_once_of_each_delivery_that_was_refused_without_it() {
    let (world, sink) = world().await;
    let large = "x".repeat(1001);
    for (headers, body, status, told) in [
        (&[][..], "{}", 401, Some(NotTaken::Unauthenticated)),
        (&[("authorization", "Basic Z29vZDo=")], "{}", 401, Some(NotTaken::Unauthenticated)),
        (&[("authorization", "Bearer bound")], "{}", 401, Some(NotTaken::Unauthenticated)),
        (&[("authorization", "Bearer good")], &large, 413, Some(NotTaken::Malformed)),
        (&SIGNED[..2], "{}", 401, Some(NotTaken::Unauthenticated)),
        (&[SIGNED[0], SIGNED[1], SIGNED[2], SIGNED[2]], "{}", 401, Some(NotTaken::Unauthenticated)),
        (&SIGNED[..], &large, 413, Some(NotTaken::Malformed)),
        // it said so itself
        (&[("authorization", "Bearer bad")], "{}", 401, None),
        (&[("authorization", "Bearer weak")], "{}", 403, None),
        (&[("authorization", "Bearer good")], "{}", 202, None),
        (&SIGNED[..], "{}", 202, None),
    ] {
        assert_eq!(post(&world, "/keyholder/events/main", headers, body).await.status, status, "{headers:?}");
        let heard = std::mem::take(&mut *sink.refused.lock().unwrap());
        assert_eq!(heard, Vec::from_iter(told), "{headers:?}");
    }
    // and nothing of what is no delivery to an endpoint that there is
    post(&world, "/keyholder/events/other", &[], "{}").await;
    assert!(sink.refused.lock().unwrap().is_empty());
}

#[tokio::test]
async fn each_refused_sender_is_told_to_the_security_log_once() {
    let journal = Arc::new(Journal::default());
    let (world, sink) = watched(Security { log: Some(journal.clone()), guard: None }).await;
    let path = "/keyholder/events/main";
    for (headers, told) in [
        (&[][..], "events token_missing nothing 401 - claimed"),
        (&[("authorization", "Bearer bad")], "events token_unknown bearer 401 - claimed"),
        (&[("authorization", "Basic Z29vZDo=")], "events scheme_refused other 401 - claimed"),
        (&[("authorization", "Bearer weak")], "events sender_not_allowed bearer 403 - claimed"),
        (&[("authorization", "Bearer bound")], "events certificate_missing bearer 401 - claimed"),
        (&SIGNED[..2], "events token_missing nothing 401 - claimed"),
        (&[SIGNED[0], SIGNED[2]], "events signature_invalid signature 401 - claimed"),
        (&[SIGNED[0], SIGNED[1], SIGNED[2], SIGNED[2]], "events signature_invalid signature 401 - claimed"),
    ] {
        post(&world, path, headers, "{}").await;
        assert_eq!(journal.take(&world), [told], "{headers:?}");
    }
    for (refuse, told) in [
        (Some(NotTaken::Unauthenticated), &["events signature_invalid signature 401 - claimed"][..]),
        (Some(NotTaken::Forbidden), &["events sender_not_allowed signature 403 - claimed"]),
        (Some(NotTaken::Malformed), &[]),
        (Some(NotTaken::Unavailable), &[]),
        (None, &[]),
    ] {
        *sink.refuse.lock().unwrap() = refuse;
        post(&world, path, &SIGNED[..], "{}").await;
        assert_eq!(journal.take(&world), told, "{refuse:?}");
    }
    post(&world, "/login/keyholder/events/main", &[], "{}").await;
    assert_eq!(journal.routes(), ["main /keyholder/events/{name}"]);
}

#[tokio::test]
async fn who_is_refused_too_often_has_to_wait_and_a_sender_that_is_known_has_not() {
    let limits = Limits { address_failures: 3, window: Duration::from_hours(1), ..Limits::default() };
    let journal = Arc::new(Journal::default());
    let guard = Arc::new(Guard::new(limits, &Counters::default()));
    let (world, sink) = watched(Security { log: Some(journal.clone()), guard: Some(guard) }).await;
    let path = "/keyholder/events/main";
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(post(&world, path, &[("authorization", "Bearer bad")], "{}").await.status);
    }
    assert_eq!(statuses, [401, 401, 401, 429, 429]);
    assert_eq!(journal.take(&world).last().unwrap(), "events throttled bearer 429 - claimed");
    let unsigned = post(&world, path, &[], "{}").await;
    assert_eq!(unsigned.status, 429);
    let heard = sink.refused.lock().unwrap().clone();
    assert!(matches!(heard[..], [NotTaken::TooMany(_)]), "the others it refused itself: {heard:?}");
    assert!(unsigned.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() > 0);
    for headers in [&[("authorization", "Bearer good")][..], &SIGNED[..]] {
        assert_eq!(post(&world, path, headers, "{}").await.status, 202, "{headers:?}");
    }
}

#[tokio::test]
async fn a_delivery_out_of_its_time_is_not_read() {
    let journal = Arc::new(Journal::default());
    let (world, sink) = watched(Security { log: Some(journal.clone()), guard: None }).await;
    for (seconds, taken) in [(-330, false), (-270, true), (270, true), (330, false)] {
        // larger than what is read
        let body = if taken { "{}".to_owned() } else { "x".repeat(1001) };
        let got = post(&world, "/keyholder/events/main", &signed_at(seconds), &body).await;
        assert_eq!(got.status, if taken { 202 } else { 401 }, "{seconds}");
        let told: &[&str] = if taken { &[] } else { &["events signature_invalid signature 401 - claimed"] };
        assert_eq!(journal.take(&world), told, "{seconds}");
        let heard = std::mem::take(&mut *sink.refused.lock().unwrap());
        assert_eq!(heard, Vec::from_iter((!taken).then_some(NotTaken::Unauthenticated)), "{seconds}");
    }
    let no_time = [SIGNED[0], ("webhook-timestamp", "now"), SIGNED[2]];
    assert_eq!(post(&world, "/keyholder/events/main", &no_time, "{}").await.status, 401);
    assert_eq!(sink.asked.lock().unwrap().len(), 2);
}

/// Anybody may send three headers that look signed, and then nothing: of one address a few are waited for.
#[tokio::test]
async fn bodies_that_one_address_holds_back_leave_room_for_others() {
    let (world, _sink) = world().await;
    let address = world.address;
    let mut slow = JoinSet::new();
    for _ in 0..5 {
        slow.spawn(trickle("127.0.0.2", address));
    }
    assert_eq!(slow.join_next().await.unwrap().unwrap(), "HTTP/1.1 429");
    assert_eq!(post(&world, "/keyholder/events/main", &SIGNED[..], "{}").await.status, 202);
    assert_eq!(slow.len(), 4, "they are waited for");
}

#[tokio::test]
async fn who_holds_a_body_back_is_told_off_and_counted() {
    let (world, sink) = changed(guard(2), |setup| setup.config.limits.body_idle = Duration::from_millis(200)).await;
    let path = "/keyholder/events/main";
    for _ in 0..2 {
        assert_eq!(trickle("127.0.0.1", world.address).await, "HTTP/1.1 400");
    }
    assert_eq!(*sink.refused.lock().unwrap(), [NotTaken::Malformed; 2]);
    assert_eq!(post(&world, path, &[], "{}").await.status, 429);
    // one body is waited for all the same: its sender may be known
    assert_eq!(post(&world, path, &SIGNED[..], "{}").await.status, 202);
}
