//! Callers that do not take their answers: by flow control, by not reading at all, and slowly.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::client::conn::http2::Builder;
use tokio::time::{Instant, sleep, timeout};

use super::{
    frames::{DATA, END_STREAM, Fate, HEADERS, RST_STREAM, Raw, SETTINGS, WINDOW_UPDATE},
    *,
};

/// How long an answer may wait for its caller here.
const SHORT: Duration = Duration::from_millis(400);
/// The same where one is taken slowly, and the pause between two of its frames.
const UNREAD: Duration = Duration::from_secs(2);
const SIP: Duration = Duration::from_millis(20);

/// SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113 section 6.5.2) of nothing and of as much as there is.
const NO_WINDOW: [u8; 6] = [0, 4, 0, 0, 0, 0];
const WIDE_WINDOW: [u8; 6] = [0, 4, 0x7f, 0xff, 0xff, 0xff];

/// A platform with an answer of that size at `.../large` and a short one everywhere else.
async fn platform(large: usize) -> Upstream {
    Upstream::start(move |request| {
        Box::pin(async move {
            if request.uri().path().ends_with("large") {
                return reply(200, &[], vec![b'x'; large]);
            }
            reply(200, &[], "ok")
        })
    })
    .await
}

/// Asks for `path`, with the client's token or without one.
async fn ask(raw: &mut Raw, stream: u32, path: &str, token: Option<&str>) {
    let authorization = token.map(|token| format!("Bearer {token}"));
    let mut fields =
        vec![(":method", "GET"), (":scheme", "https"), (":authority", "keyholder.example"), (":path", path)];
    fields.extend(authorization.as_deref().map(|value| ("authorization", value)));
    raw.head(stream, &fields, END_STREAM).await;
}

/// There is room for one more connection, soon.
async fn has_room(world: &World, caller: &Caller) {
    let next = async {
        let mut client = caller.client().await;
        send(&mut client, request(world, "GET /api/v2/quick", "")).await.status
    };
    assert_eq!(timeout(PATIENCE, next).await.expect("there is room for the next caller"), 200);
}

#[tokio::test]
async fn an_answer_without_a_window_is_reset_and_its_connection_ends() {
    let upstream = platform(0).await;
    let mut setup = Setup::new(upstream.address);
    setup.config.limits.body_idle = SHORT;
    // also the time from the handshake to the first frame of a busy machine
    setup.config.limits.header_read = UNREAD;
    setup.config.limits.connections_per_worker = 1;
    let (world, caller) = secure(setup).await;
    let mut raw = Raw::open(&caller).await;
    raw.frame(SETTINGS, 0, 0, &NO_WINDOW).await;
    ask(&mut raw, 1, "/api/v2/users", None).await;
    assert_eq!(raw.fate(1).await, Fate::Answered(401));
    // everything else is answered as by any caller
    let rest = async {
        let mut reset = false;
        while let Some(frame) = raw.next().await {
            assert!(frame.kind != DATA && frame.kind != HEADERS, "{frame:?}");
            reset |= frame.kind == RST_STREAM && frame.stream == 1;
        }
        reset
    };
    assert!(timeout(PATIENCE, rest).await.expect("the connection ends"), "the stream was reset before");
    has_room(&world, &caller).await;
}

#[tokio::test]
async fn an_answer_that_is_taken_byte_by_byte_is_reset_and_nothing_else() {
    let upstream = platform(1024 * 1024).await;
    let mut setup = Setup::new(upstream.address);
    setup.config.limits.body_idle = UNREAD;
    let (world, caller) = secure(setup).await;
    let mut raw = Raw::open(&caller).await;
    raw.frame(SETTINGS, 0, 0, &NO_WINDOW).await;
    ask(&mut raw, 1, "/api/v2/large", Some(&world.token)).await;
    assert_eq!(raw.fate(1).await, Fate::Answered(200));
    let dribble = async {
        let mut taken = 0;
        loop {
            raw.frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes()).await;
            let frame = loop {
                let frame = raw.next().await.expect("the connection goes on");
                if matches!(frame.kind, DATA | RST_STREAM) {
                    break frame;
                }
            };
            if frame.kind == RST_STREAM {
                return taken;
            }
            taken += frame.payload.len();
            sleep(SIP).await;
        }
    };
    let taken = timeout(PATIENCE, dribble).await.expect("the stream is reset");
    assert!(taken > 0, "it was taken byte by byte");
    assert_eq!(world.metric("keyholder_gateway_in_flight_requests"), 0, "nor is the platform's connection held");
    ask(&mut raw, 3, "/api/v2/quick", Some(&world.token)).await;
    assert_eq!(raw.fate(3).await, Fate::Answered(200));
}

#[tokio::test]
async fn a_connection_that_is_not_read_ends() {
    let upstream = platform(32 * 1024 * 1024).await;
    let mut setup = Setup::new(upstream.address);
    setup.config.limits.body_idle = SHORT;
    setup.config.limits.connections_per_worker = 1;
    let (world, caller) = secure(setup).await;
    let mut raw = Raw::open(&caller).await;
    raw.frame(SETTINGS, 0, 0, &WIDE_WINDOW).await;
    // as large as a window may be, with the 65,535 bytes that it begins with
    raw.frame(WINDOW_UPDATE, 0, 0, &(0x7fff_ffff_u32 - 65_535).to_be_bytes()).await;
    ask(&mut raw, 1, "/api/v2/large", Some(&world.token)).await;
    has_room(&world, &caller).await;
    drop(raw);
}

#[tokio::test]
async fn a_large_answer_is_sent_whole_to_a_slow_and_steady_reader() {
    const LARGE: usize = 4 * 1024 * 1024;
    let upstream = platform(LARGE).await;
    let mut setup = Setup::new(upstream.address);
    setup.config.limits.body_idle = UNREAD;
    let (world, caller) = secure(setup).await;
    let stream = TokioIo::new(caller.connect().await);
    let mut builder = Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(32 * 1024_u32).initial_connection_window_size(64 * 1024_u32);
    let (mut client, connection) = builder.handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let began = Instant::now();
    let answer = client.send_request(request(&world, "GET /api/v2/large", "")).await.unwrap();
    let (mut body, mut taken) = (answer.into_body(), 0);
    while let Some(frame) = body.frame().await {
        taken += frame.expect("it is not cut off").into_data().unwrap_or_default().len();
        sleep(SIP).await;
    }
    assert_eq!(taken, LARGE);
    assert!(began.elapsed() > 2 * UNREAD, "long enough to be cut off");
}
