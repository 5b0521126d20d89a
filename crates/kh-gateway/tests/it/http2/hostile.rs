//! What is refused, and what is survived.

use std::time::Duration;

use tokio::io::AsyncReadExt;

use super::{
    frames::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, Fate, GOAWAY, HEADERS, RST_STREAM, Raw, SETTINGS, block, encode,
        error,
    },
    *,
};

/// One hostile request: its fields without the usual ones, the bytes of its body, and its fate.
struct Row {
    name: &'static str,
    fields: Vec<(&'static str, String)>,
    body: Option<&'static str>,
    fate: &'static [Fate],
}

const REFUSED: &[Fate] = &[Fate::Answered(400)];
/// The h2 library's answer to a malformed request (RFC 9113 section 8.1.1).
const MALFORMED: &[Fate] = &[Fate::Reset, Fate::Gone];

fn row(name: &'static str, fields: &[(&'static str, &str)], fate: &'static [Fate]) -> Row {
    let fields = fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Row { name, fields, body: None, fate }
}

/// An ordinary request, its pseudo-headers replaced by those of the row that have a value, and left out where it is
/// `-`.
fn fields(row: &Row, token: &str) -> Vec<(&'static str, String)> {
    let usual =
        [(":method", "GET"), (":scheme", "https"), (":authority", "keyholder.example"), (":path", "/api/v2/users")];
    let own = |name: &str| row.fields.iter().any(|(other, _)| *other == name);
    let mut all: Vec<(&'static str, String)> =
        usual.iter().filter(|(name, _)| !own(name)).map(|(name, value)| (*name, (*value).to_owned())).collect();
    let late = row.name.contains("after");
    let mine = row.fields.iter().filter(|(_, value)| value != "-").cloned();
    let (pseudo, rest): (Vec<_>, Vec<_>) = mine.partition(|(name, _)| name.starts_with(':') && !late);
    all.extend(pseudo);
    all.push(("authorization", format!("Bearer {token}")));
    all.extend(rest);
    all
}

fn rows() -> Vec<Row> {
    let long = "a".repeat(20_000);
    let mut rows = vec![
        row("two authorization", &[("authorization", "Bearer x")], REFUSED),
        row("host is another", &[("host", "other.example")], REFUSED),
        row("two hosts", &[("host", "keyholder.example"), ("host", "keyholder.example")], REFUSED),
        row("no host at all", &[(":authority", "-")], REFUSED),
        row("two authorities", &[(":authority", "keyholder.example"), (":authority", "keyholder.example")], MALFORMED),
        row("user information", &[(":authority", "u:p@keyholder.example")], &[Fate::Answered(400), Fate::Reset]),
        row("a connection header", &[("connection", "close")], MALFORMED),
        row("chunked", &[("transfer-encoding", "chunked")], MALFORMED),
        row("an upgrade", &[("upgrade", "websocket")], MALFORMED),
        row("keep-alive", &[("keep-alive", "timeout=5")], MALFORMED),
        row("proxy-connection", &[("proxy-connection", "keep-alive")], MALFORMED),
        row("TE of more than trailers", &[("te", "trailers, gzip")], MALFORMED),
        row("upper case", &[("X-Upper", "1")], MALFORMED),
        row("CR LF in a value", &[("x-a", "b\r\nauthorization: Bearer x")], MALFORMED),
        row("NUL in a value", &[("x-a", "b\0c")], MALFORMED),
        row("a colon in a name", &[("x:a", "b")], MALFORMED),
        row("an empty name", &[("", "b")], MALFORMED),
        row("a pseudo-header after the others", &[(":path", "/api/v2/other")], MALFORMED),
        row("an unknown pseudo-header", &[(":protocols", "x")], MALFORMED),
        row("a pseudo-header of answers", &[(":status", "200")], MALFORMED),
        row("two paths", &[(":path", "/api/v2/users"), (":path", "/api/v2/other")], MALFORMED),
        row("no path", &[(":path", "-")], MALFORMED),
        row("an empty path", &[(":path", "")], MALFORMED),
        row("no method", &[(":method", "-")], MALFORMED),
        row("no scheme", &[(":scheme", "-")], MALFORMED),
        row("another scheme", &[(":scheme", "ftp")], REFUSED),
        row("CONNECT", &[(":method", "CONNECT"), (":scheme", "-"), (":path", "-")], REFUSED),
        row(
            "extended CONNECT",
            &[(":method", "CONNECT"), (":protocol", "websocket")],
            &[Fate::Answered(400), Fate::Reset],
        ),
        row("TRACE", &[(":method", "TRACE")], REFUSED),
        row("a method with a space", &[(":method", "GET /x HTTP/1.1")], MALFORMED),
        row("dot segments", &[(":path", "/api/v2/public/../oauth/clients")], REFUSED),
        row("double slash", &[(":path", "//api/v2/users")], REFUSED),
        row("encoded slash", &[(":path", "/api/v2/users%2F1")], REFUSED),
        row("backslash", &[(":path", "/api/v2\\users")], &[Fate::Answered(400), Fate::Reset]),
        row("overlong UTF-8", &[(":path", "/api/v2/users/%C0%AF")], REFUSED),
        row("a path with a space", &[(":path", "/api/v2/users HTTP/1.1")], MALFORMED),
        row(
            "a path that is a URL",
            &[(":path", "http://other.example/api/v2/users")],
            &[Fate::Answered(400), Fate::Reset],
        ),
        row("star", &[(":method", "OPTIONS"), (":path", "*")], REFUSED),
        row("method override", &[("x-http-method-override", "DELETE")], REFUSED),
        row("a token in the query", &[(":path", "/api/v2/users?access_token=x")], REFUSED),
        row("two content types", &[("content-type", "a/b"), ("content-type", "a/c")], REFUSED),
        row("long path", &[(":path", &format!("/api/v2/{}", &long[..9_000]))], &[Fate::Answered(414)]),
        row("long query", &[(":path", &format!("/api/v2/users?a={long}"))], &[Fate::Answered(414)]),
        row(
            "a list that is too large",
            &[("x-a", &long), ("x-b", &long), ("x-c", &long), ("x-d", &long)],
            &[Fate::Answered(431), Fate::Gone],
        ),
        row("200 headers", &[("x-many", "y"); 200], &[Fate::Answered(431)]),
        row("a length without a body", &[(":method", "POST"), ("content-length", "4")], MALFORMED),
        row("two lengths", &[(":method", "POST"), ("content-length", "4"), ("content-length", "5")], MALFORMED),
        row("a length with a sign", &[(":method", "POST"), ("content-length", "+4")], MALFORMED),
        row(
            "a length of nothing and a body",
            &[(":method", "POST"), ("content-length", "0")],
            &[Fate::Answered(400), Fate::Reset],
        ),
    ];
    for row in &mut rows {
        if matches!(row.name, "two lengths" | "a length with a sign" | "a length of nothing and a body") {
            row.body = Some("null");
        }
    }
    rows
}

/// HTTP/1.1's table of the same name, translated (RFC 9113 sections 8.1.1, 8.2 and 8.3).
/// A platform that answers `.../quick` and nothing else.
async fn only_quick() -> Upstream {
    Upstream::start(|request| {
        Box::pin(async move {
            if !request.uri().path().ends_with("quick") {
                std::future::pending::<()>().await;
            }
            reply(200, &[], "ok")
        })
    })
    .await
}

#[tokio::test]
async fn ambiguous_and_broken_requests_are_refused_and_never_forwarded() {
    let upstream = Upstream::start(|_| Box::pin(async { reply(200, &[], "reached") })).await;
    let (world, caller) = secure(Setup::new(upstream.address)).await;
    for row in rows() {
        let mut raw = Raw::open(&caller).await;
        let all = fields(&row, &world.token);
        let all: Vec<(&str, &str)> = all.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let block = block(&all);
        // as large as frames may be
        let mut pieces = block.chunks(16 * 1024).peekable();
        let mut kind = HEADERS;
        let end = if row.body.is_none() { END_STREAM } else { 0 };
        while let Some(piece) = pieces.next() {
            let last = if pieces.peek().is_none() { END_HEADERS } else { 0 };
            raw.frame(kind, last | if kind == HEADERS { end } else { 0 }, 1, piece).await;
            kind = CONTINUATION;
        }
        if let Some(body) = row.body {
            raw.frame(DATA, END_STREAM, 1, body.as_bytes()).await;
        }
        let fate = raw.fate(1).await;
        assert!(row.fate.contains(&fate), "{}: {fate:?}, not one of {:?}", row.name, row.fate);
        assert_eq!(upstream.seen().len(), 0, "{}: {:?}", row.name, upstream.seen());
    }
    // and the way to send an ordinary one is right
    for extra in [vec![], vec![("host", "KEYHOLDER.example"), ("te", "trailers"), ("cookie", "a=b"), ("cookie", "c=d")]]
    {
        let mut raw = Raw::open(&caller).await;
        let ordinary = row("ordinary", &extra, &[]);
        let all = fields(&ordinary, &world.token);
        let all: Vec<(&str, &str)> = all.iter().map(|(name, value)| (*name, value.as_str())).collect();
        raw.head(1, &all, END_STREAM).await;
        assert_eq!(raw.fate(1).await, Fate::Answered(200));
    }
    assert_eq!(upstream.seen().len(), 2);
    let seen = format!("{:?}", upstream.seen());
    assert!(!seen.contains("cookie") && !seen.contains("trailers") && !seen.contains("xample"), "{seen}");
}

/// A body that is shorter or longer than it was announced breaks the platform's request off; it never looks whole.
#[tokio::test]
async fn a_body_of_another_length_than_announced_never_looks_whole() {
    let (told, mut read) = tokio::sync::mpsc::unbounded_channel();
    let upstream = Upstream::start(move |request| {
        let told = told.clone();
        Box::pin(async move {
            use http_body_util::BodyExt;
            let whole = request.into_body().collect().await.is_ok();
            told.send(whole).unwrap();
            reply(200, &[], "read")
        })
    })
    .await;
    let (world, caller) = secure(Setup::new(upstream.address)).await;
    for body in ["nul", "null, and more"] {
        let mut raw = Raw::open(&caller).await;
        let post = row("post", &[(":method", "POST"), ("content-length", "4")], &[]);
        let all = fields(&post, &world.token);
        let all: Vec<(&str, &str)> = all.iter().map(|(name, value)| (*name, value.as_str())).collect();
        raw.head(1, &all, 0).await;
        raw.frame(DATA, 0, 1, &body.as_bytes()[..2]).await;
        raw.frame(DATA, END_STREAM, 1, &body.as_bytes()[2..]).await;
        let fate = raw.fate(1).await;
        assert_ne!(fate, Fate::Answered(200), "{body}");
        if let Ok(Some(whole)) = tokio::time::timeout(Duration::from_millis(100), read.recv()).await {
            assert!(!whole, "{body}");
        }
    }
}

fn ordinary(world: &World) -> Vec<u8> {
    let authorization = format!("Bearer {}", world.token);
    block(&[
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "keyholder.example"),
        (":path", "/api/v2/users"),
        ("authorization", &authorization),
    ])
}

/// Whether the gateway still answers others.
async fn still_serves(world: &World, caller: &Caller) {
    let mut client = caller.client().await;
    assert_eq!(send(&mut client, request(world, "GET /api/v2/quick", "")).await.status, 200);
}

/// CVE-2023-44487: requests that are reset as soon as they are sent.
#[tokio::test]
async fn a_rapid_reset_ends_the_connection_and_reaches_no_platform_in_numbers() {
    let upstream = only_quick().await;
    let (world, caller) = secure(Setup::new(upstream.address)).await;
    let mut raw = Raw::open(&caller).await;
    let head = ordinary(&world);
    let mut flood = Vec::new();
    for index in 0..10_000_u32 {
        let stream = index * 2 + 1;
        flood.extend(encode(HEADERS, END_HEADERS | END_STREAM, stream, &head));
        flood.extend(encode(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }
    raw.bytes(&flood).await;
    let mut code = None;
    while let Some(frame) = raw.next().await {
        if frame.kind == GOAWAY && error(&frame) != 0 {
            code = Some(error(&frame));
        }
    }
    // RFC 9113 section 7: ENHANCE_YOUR_CALM; the connection may also be gone before that was read
    assert!(matches!(code, None | Some(0xb)), "{code:?}");
    still_serves(&world, &caller).await;
    let reached = upstream.seen().len();
    assert!(reached < 1_000, "{reached} of 10000 reset requests reached the platform");
}

/// CVE-2024-27316 and its kin: a header block that never ends.
#[tokio::test]
async fn a_continuation_flood_ends_the_connection() {
    let upstream = Upstream::start(|_| Box::pin(async { reply(200, &[], "ok") })).await;
    let (world, caller) = secure(Setup::new(upstream.address)).await;
    for piece in [&block(&[("x-filler", &"y".repeat(1000))])[..], &[]] {
        let mut raw = Raw::open(&caller).await;
        raw.frame(HEADERS, END_STREAM, 1, &ordinary(&world)).await;
        let flood: Vec<u8> = (0..200).flat_map(|_| encode(CONTINUATION, 0, 1, piece)).collect();
        // what is sent after the connection has ended is not read by anybody
        for _ in 0..50 {
            raw.bytes(&flood).await;
        }
        let mut ended = false;
        while let Some(frame) = raw.next().await {
            ended |= frame.kind == GOAWAY && error(&frame) != 0;
            assert_ne!(frame.kind, HEADERS, "an endless request is not answered");
        }
        // the end of the frames is the end of the connection; a GOAWAY before it may have been lost to a reset
        assert!(ended || raw.next().await.is_none());
    }
    still_serves(&world, &caller).await;
    assert_eq!(upstream.seen().len(), 1, "the last, honest one alone");
}

#[tokio::test]
async fn streams_above_the_limit_are_refused_and_the_others_go_on() {
    let upstream = only_quick().await;
    let mut setup = Setup::new(upstream.address);
    setup.config.limits.streams_per_connection = 4;
    let (world, caller) = secure(setup).await;
    let mut raw = Raw::open(&caller).await;
    let settings = loop {
        let frame = raw.next().await.unwrap();
        if frame.kind == SETTINGS && !frame.payload.is_empty() {
            break frame.payload;
        }
    };
    // RFC 9113 section 6.5.2: SETTINGS_MAX_CONCURRENT_STREAMS is 3, SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 8441) is 8
    let settings: Vec<(u16, u32)> = settings
        .chunks(6)
        .map(|each| (u16::from_be_bytes([each[0], each[1]]), u32::from_be_bytes(each[2..6].try_into().unwrap())))
        .collect();
    assert!(settings.contains(&(3, 4)) && settings.iter().all(|(id, _)| *id != 8), "{settings:?}");
    let head = ordinary(&world);
    for stream in [1, 3, 5, 7, 9] {
        raw.frame(HEADERS, END_HEADERS | END_STREAM, stream, &head).await;
    }
    // REFUSED_STREAM: it may be sent again (RFC 9113 section 8.7)
    let refused = loop {
        let frame = raw.next().await.expect("the connection goes on");
        if frame.kind == RST_STREAM {
            break frame;
        }
    };
    assert_eq!((refused.stream, refused.payload), (9, 7_u32.to_be_bytes().to_vec()));
    still_serves(&world, &caller).await;
    assert_eq!(upstream.seen().iter().filter(|seen| !seen.target.ends_with("quick")).count(), 4);
}

/// As over HTTP/1.1: a connection on which nothing goes on ends after the time for a request's head; one on which
/// something goes on does not.
#[tokio::test]
async fn an_idle_connection_ends_and_a_busy_one_does_not() {
    let gate = Arc::new(tokio::sync::Notify::new());
    let of_upstream = Arc::clone(&gate);
    let upstream = Upstream::start(move |_| {
        let gate = Arc::clone(&of_upstream);
        Box::pin(async move {
            gate.notified().await;
            reply(200, &[], "ok")
        })
    })
    .await;
    let mut setup = Setup::new(upstream.address);
    setup.config.limits.header_read = Duration::from_millis(100);
    let (world, caller) = secure(setup).await;
    let mut busy = caller.client().await;
    let call = request(&world, "GET /api/v2/slow", "");
    let call = tokio::spawn(async move { send(&mut busy, call).await });
    // one that says nothing, one that says hello and nothing more, one whose head never ends
    let mut silent = caller.connect().await;
    let mut idle = Raw::open(&caller).await;
    let mut endless = Raw::open(&caller).await;
    endless.frame(HEADERS, END_STREAM, 1, &ordinary(&world)).await;
    for raw in [&mut idle, &mut endless] {
        let mut told = false;
        while let Some(frame) = raw.next().await {
            told |= frame.kind == GOAWAY;
        }
        assert!(told, "an idle connection is told before it ends");
    }
    let mut rest = Vec::new();
    drop(tokio::time::timeout(PATIENCE, silent.read_to_end(&mut rest)).await.expect("it is closed"));
    assert!(!call.is_finished());
    gate.notify_one();
    assert_eq!(call.await.unwrap().status, 200);
}

/// A platform that does not begin its answer, and a caller that gives up: only their stream ends.
#[tokio::test]
async fn a_streams_deadline_and_its_end_are_its_own() {
    let upstream = only_quick().await;
    let mut setup = Setup::new(upstream.address);
    setup.config.limits.response_header = Duration::from_millis(200);
    let (world, caller) = secure(setup).await;
    let mut client = caller.client().await;
    let got = send(&mut client, request(&world, "GET /api/v2/never", "")).await;
    assert_eq!((got.status, got.json()["code"].as_str()), (504, Some("keyholder.upstream.timeout")));
    assert_eq!(send(&mut client, request(&world, "GET /api/v2/quick", "")).await.status, 200);
    let mut raw = Raw::open(&caller).await;
    raw.frame(HEADERS, END_HEADERS | END_STREAM, 1, &ordinary(&world)).await;
    raw.frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes()).await;
    for _ in 0..1_000 {
        if world.metric("keyholder_gateway_in_flight_requests") == 0 {
            break;
        }
        assert!(raw.soon(Duration::from_millis(10)).await.is_none_or(|frame| frame.kind != GOAWAY));
    }
    assert_eq!(world.metric("keyholder_gateway_in_flight_requests"), 0, "nobody waits for an answer that nobody wants");
}
