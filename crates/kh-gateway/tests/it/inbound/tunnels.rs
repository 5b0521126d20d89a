//! Tunnels to the API: what the answer that begins one tells, and what ends one.

use hyper_util::rt::TokioIo;
use kh_core::Clock;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use super::*;

/// How often tokens are looked at here.
const LOOK: Duration = Duration::from_millis(40);
/// No look, and no other reason to close a tunnel, comes as late as that.
const NEVER: Duration = Duration::from_hours(1);

/// An API that switches to whatever it is asked for, echoes, and says this and that about itself.
async fn echoing() -> Upstream {
    Upstream::start(|mut request| {
        Box::pin(async move {
            tokio::spawn(async move {
                let mut io = TokioIo::new(hyper::upgrade::on(&mut request).await.unwrap());
                let mut buffer = [0; 1024];
                while let Ok(count @ 1..) = io.read(&mut buffer).await {
                    // the gateway may have closed it meanwhile
                    if io.write_all(&buffer[..count]).await.is_err() {
                        return;
                    }
                }
            });
            let headers = [
                ("connection", "upgrade"),
                ("upgrade", "websocket"),
                ("sec-websocket-accept", "x"),
                ("set-cookie", "a=1"),
                ("alt-svc", "h3=\":443\""),
            ];
            reply(101, &headers, "")
        })
    })
    .await
}

/// A site to be started that looks at its tunnels' tokens every `look`.
async fn looking_every(look: Duration) -> (Upstream, Setup) {
    let upstream = echoing().await;
    let mut setup = Setup::new(upstream.address);
    setup.config.limits.tunnel_look = look;
    setup.config.limits.tunnel_idle = NEVER;
    (upstream, setup)
}

/// A web socket of who has `token`, and the head of the answer in lower case.
async fn open(site: &Site, token: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(site.address).await.unwrap();
    let head = format!(
        "GET /socket HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap().to_lowercase();
    assert!(answer.starts_with("http/1.1 101 "), "{answer}");
    (stream, answer)
}

/// Whether a ping goes through and comes back.
async fn ping(stream: &mut TcpStream) -> bool {
    let mut echoed = [0; 4];
    stream.write_all(b"ping").await.is_ok() && stream.read_exact(&mut echoed).await.is_ok() && echoed == *b"ping"
}

/// Pings, as web sockets do to be kept open, until the tunnel ends.
async fn ping_to_the_end(stream: &mut TcpStream) {
    let pinging = async {
        while ping(stream).await {
            sleep(LOOK / 4).await;
        }
    };
    timeout(PATIENCE, pinging).await.expect("the tunnel ends");
}

#[tokio::test]
async fn the_apis_101_leads_nobody_around_the_gateway() {
    let (_upstream, setup) = looking_every(LOOK).await;
    let (_stream, answer) = open(&setup.start(), "reader").await;
    assert!(!answer.contains("alt-svc"), "{answer}");
    for kept in ["set-cookie: a=1", "sec-websocket-accept: x", "upgrade: websocket"] {
        assert!(answer.contains(kept), "{answer}");
    }
}

#[tokio::test]
async fn a_tunnel_ends_when_its_token_is_not_taken_any_more() {
    for end in [denied("revoked", None), denied("keys_unavailable", Some(Duration::from_secs(7)))] {
        let (_upstream, setup) = looking_every(LOOK).await;
        let tokens = Arc::clone(&setup.tokens);
        let site = setup.start();
        let (mut stream, _) = open(&site, "reader").await;
        let (mut other, _) = open(&site, "writer").await;
        assert!(ping(&mut stream).await && ping(&mut other).await);
        tokens.end("reader", end);
        ping_to_the_end(&mut stream).await;
        assert!(ping(&mut other).await, "another caller's goes on");
    }
}

/// The memory is bounded: a token that others have pushed out of it is as good as before.
#[tokio::test]
async fn a_tunnel_goes_on_when_its_token_only_left_the_memory() {
    let (_upstream, setup) = looking_every(LOOK).await;
    let tokens = Arc::clone(&setup.tokens);
    let site = setup.start();
    let (mut stream, _) = open(&site, "reader").await;
    for _ in 0..3 {
        tokens.forget("reader");
        tokens.taken.lock().clear();
        let verified_again = async {
            while !tokens.remembers("reader") {
                assert!(ping(&mut stream).await);
                sleep(LOOK / 4).await;
            }
        };
        timeout(PATIENCE, verified_again).await.expect("it is looked at");
        assert_eq!(tokens.taken(), [ISSUER, OTHER], "whatever routes there are by now");
    }
    assert!(ping(&mut stream).await);
}

#[tokio::test]
async fn a_tunnel_ends_with_its_token_and_the_leeway() {
    let (_upstream, mut setup) = looking_every(NEVER).await;
    let clock = SystemClock::new();
    let end = clock.now().wall.plus(Duration::from_secs(1));
    let brief = identity(ISSUER, "alice", &["reports:read"]).expires_at(end).build().unwrap();
    setup.tokens = Arc::new(Tokens { all: HashMap::from([("brief", Ok(Arc::new(brief)))]), ..Tokens::default() });
    let site = setup.start();
    let (mut stream, _) = open(&site, "brief").await;
    ping_to_the_end(&mut stream).await;
    assert!(clock.now().wall >= end.plus(LEEWAY));
}

/// A reload takes another verifier into use: it decides about the tunnels of before as well.
#[tokio::test]
async fn a_tunnel_ends_when_the_verifier_in_force_does_not_know_its_token() {
    let (upstream, setup) = looking_every(LOOK).await;
    let site = setup.start();
    let (mut stream, _) = open(&site, "reader").await;
    assert!(ping(&mut stream).await);
    let at = format!("http://{}", upstream.address);
    let next = Api::new(spec(&at, routes(), Authorization::Remove, SentHost::Upstream)).unwrap();
    site.inbound.replace(next.verified_by(Arc::new(Tokens::default())));
    ping_to_the_end(&mut stream).await;
}

/// As a request with the token would not be taken any more.
#[tokio::test]
async fn a_tunnel_ends_when_the_api_takes_its_issuer_or_its_audience_no_longer() {
    for is_of_issuer in [true, false] {
        let (upstream, setup) = looking_every(LOOK).await;
        let tokens = Arc::clone(&setup.tokens);
        let site = setup.start();
        let (mut stream, _) = open(&site, "reader").await;
        assert!(ping(&mut stream).await);
        let at = format!("http://{}", upstream.address);
        let mut next = spec(&at, routes(), Authorization::Remove, SentHost::Upstream);
        if is_of_issuer {
            next.issuers.retain(|issuer| issuer.issuers.iter().all(|iss| **iss != *ISSUER));
        }
        let next = Api::new(next).unwrap().verified_by(tokens);
        let audiences = if is_of_issuer { Vec::new() } else { vec!["https://elsewhere.example".into()] };
        site.inbound.replace(next.for_audiences(audiences));
        ping_to_the_end(&mut stream).await;
    }
}

#[tokio::test]
async fn a_tunnel_keeps_the_place_of_its_connection() {
    let (_upstream, mut setup) = looking_every(NEVER).await;
    setup.config.limits.connections_per_worker = 1;
    let site = setup.start();
    let (mut stream, _) = open(&site, "reader").await;
    assert!(ping(&mut stream).await);
    let mut next = std::pin::pin!(site.call("GET /reports", ""));
    assert!(timeout(LOOK * 10, &mut next).await.is_err(), "its place is taken");
    assert_eq!(site.metric("keyholder_gateway_connections"), 1);
    assert!(ping(&mut stream).await, "it stands");
    drop(stream);
    let next = timeout(PATIENCE, next).await.expect("its place is free");
    assert_eq!(next.status, 401);
}

/// Each direction of a tunnel ends by itself.
#[tokio::test]
async fn what_a_caller_sends_after_the_apis_end_arrives_whole() {
    const MESSAGES: usize = 100;
    let (told, heard) = tokio::sync::oneshot::channel();
    let told = Mutex::new(Some(told));
    let upstream = Upstream::start(move |mut request| {
        let told = told.lock().take().unwrap();
        Box::pin(async move {
            tokio::spawn(async move {
                let mut io = TokioIo::new(hyper::upgrade::on(&mut request).await.unwrap());
                io.shutdown().await.unwrap();
                let mut all = Vec::new();
                io.read_to_end(&mut all).await.unwrap();
                told.send(all).unwrap();
            });
            reply(101, &[("connection", "upgrade"), ("upgrade", "websocket")], "")
        })
    })
    .await;
    let site = Setup::new(upstream.address).start();
    let (mut stream, _) = open(&site, "reader").await;
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0, "the API has said all that it has to say");
    for _ in 0..MESSAGES {
        stream.write_all(b"ping").await.unwrap();
        sleep(Duration::from_millis(2)).await;
    }
    stream.shutdown().await.unwrap();
    let all = timeout(PATIENCE, heard).await.expect("the API hears to the end").unwrap();
    assert_eq!(all, b"ping".repeat(MESSAGES));
}
