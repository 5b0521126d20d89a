//! Bytes that no honest client sends, and logins that cannot work: what comes back, in whose shape, and that none of
//! it reaches the platform.
//!
//! Invariants: rows are exact bytes over a raw socket; after each row the sandbox's journal is as long as before; the
//! same process answers a good call at the end and has not grown.

use std::fmt::Write as _;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;

use crate::{
    harness::{Installation, Login, Server, exchange, parse_answer, text},
    shapes::{Shape, check_error, peak},
};

const MIB: u64 = 1024 * 1024;

/// Raw sockets may cost buffers of a few hundred KiB each, not the megabytes that are sent.
const GROWTH_MAX: u64 = 64 * MIB;

struct Stage {
    installation: Installation,
    server: Server,
    login: Login,
    token: String,
    memory: u64,
}

impl Stage {
    fn new() -> Self {
        let installation = Installation::new();
        let login = installation.add_client("app", &["--credential", "genesys", "--allow-all"]);
        let server = installation.serve();
        let token = server.login(&login);
        assert_eq!(server.call(&token, "GET", "/api/v2/users").status, 200);
        let memory = peak(&server);
        Self { installation, server, login, token, memory }
    }

    fn host(&self) -> &str {
        self.server.gateway().strip_prefix("http://").unwrap()
    }

    /// How many requests the platform has seen.
    fn seen(&self) -> Value {
        self.installation.sandbox.control("GET", "requests?limit=1", &Value::Null)["total"].clone()
    }

    /// Sends a row's bytes and checks what comes back, and that the platform saw nothing.
    fn row(&self, name: &str, bytes: &[u8], status: u16, shape: Shape, code: &str) {
        let before = self.seen();
        let raw = exchange(self.host(), bytes);
        let shown = String::from_utf8_lossy(&raw);
        assert_eq!(shown.matches("HTTP/1.1 ").count(), 1, "{name}: one answer, then the end: {shown}");
        for secret in [&self.token, &self.login.secret] {
            assert!(!shown.contains(secret.as_str()), "{name}: nothing secret comes back: {shown}");
        }
        let answer = parse_answer(&raw);
        assert_eq!(answer.status, status, "{name}: {shown}");
        check_error(name, &answer, shape, code);
        assert_eq!(self.seen(), before, "{name}: nothing of it was forwarded");
    }

    /// The process is as it was.
    fn end(&self) {
        assert_eq!(self.server.call(&self.token, "GET", "/api/v2/users").status, 200);
        let grown = peak(&self.server).saturating_sub(self.memory);
        println!("the process has grown by {} KiB", grown / 1024);
        assert!(grown < GROWTH_MAX, "the process has grown by {} MiB", grown / MIB);
    }
}

#[test]
fn requests_with_two_readings_and_none_are_refused_and_not_forwarded() {
    const AMBIGUOUS: &str = "keyholder.request.ambiguous";
    const TOO_LARGE: &str = "keyholder.request.too_large";
    let stage = Stage::new();
    let auth = format!("Authorization: Bearer {}\r\n", stage.token);
    let head = format!("Host: keyholder\r\nConnection: close\r\n{auth}");
    let (mib, long) = ("a".repeat(1024 * 1024), "a".repeat(20_000));
    let many = (0..200).fold(String::new(), |mut text, number| {
        write!(text, "X-{number}: y\r\n").unwrap();
        text
    });
    let users = "/api/v2/users";
    let get = |target: &str, lines: &str| format!("GET {target} HTTP/1.1\r\n{head}{lines}\r\n");
    let post = |lines: &str, body: &str| format!("POST {users} HTTP/1.1\r\n{head}{lines}\r\n{body}");
    let second = format!("GET {users} HTTP/1.1\r\n{head}\r\n");
    let smuggled = format!("0\r\n\r\n{second}");
    let bare = |name, bytes: String, status| (name, bytes.into_bytes(), status, Shape::Bare, "");
    let refused = |name, bytes: String| (name, bytes.into_bytes(), 400, Shape::Genesys, AMBIGUOUS);
    let rows: Vec<(&str, Vec<u8>, u16, Shape, &str)> = vec![
        refused("two Authorization", get(users, &auth)),
        refused("two Host", get(users, "Host: other\r\n")),
        refused("no Host", format!("GET {users} HTTP/1.1\r\n{auth}\r\n")),
        refused("two Content-Type", post("Content-Type: a/b\r\nContent-Type: c/d\r\nContent-Length: 0\r\n", "")),
        refused("method override", get(users, "X-HTTP-Method-Override: DELETE\r\n")),
        refused("path override", get(users, "X-Original-URL: /api/v2/oauth/clients\r\n")),
        refused("CL and TE", post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", &smuggled)),
        refused("TE and CL", post("Transfer-Encoding: chunked\r\ncontent-length: 4\r\n", &smuggled)),
        refused("TE identity, chunked", post("Transfer-Encoding: identity, chunked\r\n", &smuggled)),
        refused("TE twice", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", &smuggled)),
        bare("TE unknown", post("Transfer-Encoding: xchunked\r\n", &smuggled), 400),
        bare("TE chunked, identity", post("Transfer-Encoding: chunked, identity\r\n", &smuggled), 400),
        bare("CL 4 and 5", post("Content-Length: 4\r\nContent-Length: 5\r\n", "nullx"), 400),
        bare("CL +4", post("Content-Length: +4\r\n", "null"), 400),
        bare("CL -1", post("Content-Length: -1\r\n", ""), 400),
        bare("CL 0x4", post("Content-Length: 0x4\r\n", "null"), 400),
        bare("CL beyond u64", post("Content-Length: 18446744073709551616\r\n", "null"), 400),
        bare(
            "HTTP/1.0 with TE",
            format!("POST {users} HTTP/1.0\r\n{head}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            400,
        ),
        bare("HTTP/3.0", format!("GET {users} HTTP/3.0\r\n{head}\r\n"), 400),
        bare("space before colon", get(users, "X : y\r\n"), 400),
        bare("NUL in a header", get(users, "X: a\0b\r\n"), 400),
        bare("NUL in the path", get("/api/v2/us\0ers", ""), 400),
        bare("folded header", get(users, "X: a\r\n b\r\n"), 400),
        bare("bare CR", get(users, "X: a\rHost: b\r\n"), 400),
        bare("space in the path", get("/api/v2/users /x", ""), 400),
        bare("1 MB header", get(users, &format!("X: {mib}\r\n")), 431),
        bare("1 MB header name", get(users, &format!("{mib}: x\r\n")), 431),
        bare("1 MB target", get(&format!("/{mib}"), ""), 431),
        bare("200 headers", get(users, &many), 431),
        bare("garbage", "\x16\x03\x01\x02garbage\r\n\r\n".into(), 400),
        refused("dot segments", get("/api/v2/public/../oauth/clients", "")),
        refused("dot segment at the end", get("/api/v2/..", "")),
        refused("escaped dots", get("/api/v2/public/%2e%2e/oauth/clients", "")),
        refused("dots with a parameter", get("/api/v2/public/..;x/oauth/clients", "")),
        refused("double slash", get("/api/v2//users", "")),
        refused("double slash at the start", get("//api/v2/users", "")),
        refused("escaped slash", get("/api/v2/users%2F1", "")),
        refused("escaped backslash", get("/api/v2/users%5c1", "")),
        refused("escaped twice", get("/api/v2/users%252F1", "")),
        refused("escaped NUL", get("/api/v2/users%00", "")),
        refused("broken escape", get("/api/v2/users/%zz", "")),
        refused("needless escape", get("/api/v2/%75sers", "")),
        refused("overlong UTF-8", get("/api/v2/users/%C0%AF", "")),
        refused("invalid UTF-8, escaped", get("/api/v2/users/%ff%fe", "")),
        refused("backslash", get("/api/v2/users\\x", "")),
        refused("absolute form with a user", get("http://a:b@keyholder/api/v2/users", "")),
        refused("absolute form, other scheme", get("ftp://keyholder/api/v2/users", "")),
        ("long path", get(&format!("{users}/{}", &long[..9_000]), "").into_bytes(), 414, Shape::Genesys, TOO_LARGE),
        ("long query", get(&format!("{users}?a={long}"), "").into_bytes(), 414, Shape::Genesys, TOO_LARGE),
        (
            "CONNECT",
            format!("CONNECT api.mypurecloud.com:443 HTTP/1.1\r\n{head}\r\n").into_bytes(),
            400,
            Shape::Problem,
            AMBIGUOUS,
        ),
    ];
    for (name, bytes, status, shape, code) in &rows {
        stage.row(name, bytes, *status, *shape, code);
    }
    let invalid = [b"GET /api/v2/\xff\xfe HTTP/1.1\r\n".as_slice(), head.as_bytes(), b"\r\n"].concat();
    stage.row("invalid UTF-8 in the path", &invalid, 400, Shape::Bare, "");
    stage.end();
}

/// Bytes with one reading that look odd: they are passed on, once and whole.
#[test]
fn odd_requests_with_one_reading_pass() {
    let stage = Stage::new();
    let head = format!("Host: keyholder\r\nConnection: close\r\nAuthorization: Bearer {}\r\n", stage.token);
    let host = stage.host();
    for (name, bytes, status) in [
        ("absolute form", format!("GET http://{host}/api/v2/users HTTP/1.1\r\n{head}\r\n").into_bytes(), 200),
        ("bare LF", format!("GET /api/v2/users HTTP/1.1\r\n{head}\r\n").replace("\r\n", "\n").into_bytes(), 200),
        (
            "a fragment, which is cut off",
            format!("GET /api/v2/users#/../oauth HTTP/1.1\r\n{head}\r\n").into_bytes(),
            200,
        ),
        ("empty line first", format!("\r\nGET /api/v2/users HTTP/1.1\r\n{head}\r\n").into_bytes(), 200),
        ("same CL twice", format!("GET /api/v2/users HTTP/1.1\r\n{head}Content-Length: 0\r\n\r\n").into_bytes(), 200),
        (
            "obs-text in a header",
            [format!("GET /api/v2/users HTTP/1.1\r\n{head}X: ").as_bytes(), b"\xff\xfe\r\n\r\n"].concat(),
            200,
        ),
        (
            "invalid UTF-8 in a body, which the platform refuses",
            [
                format!(
                    "POST /api/v2/users HTTP/1.1\r\n{head}Content-Type: application/json\r\nContent-Length: 4\r\n\r\n"
                )
                .as_bytes(),
                b"\"\xff\xfe\"",
            ]
            .concat(),
            400,
        ),
    ] {
        let before = stage.seen().as_u64().unwrap();
        let answer = parse_answer(&exchange(host, &bytes));
        assert_eq!(answer.status, status, "{name}: {answer:?}");
        assert_eq!(stage.seen().as_u64(), Some(before + 1), "{name}: the platform saw it once");
        assert!(answer.header("inin-correlation-id").is_some(), "{name}: {answer:?}");
    }
    stage.end();
}

fn login(path: &str, lines: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: keyholder\r\nConnection: close\r\n{lines}Content-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

#[test]
fn logins_that_cannot_work_are_oauth_errors() {
    const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";
    const GRANT: &[u8] = b"grant_type=client_credentials";
    let stage = Stage::new();
    let disabled = stage.installation.add_client("off", &["--credential", "genesys", "--allow-all"]);
    stage.installation.run(&["client", "disable", "off"]).done();
    let basic = |text: &[u8]| format!("{FORM}Authorization: Basic {}\r\n", BASE64_STANDARD.encode(text));
    let of = |login: &Login| format!("{}:{}", login.id, login.secret);
    let (good, unknown) = (of(&stage.login), format!("nobody:{}", stage.login.secret));
    let twice = format!("{}{}", basic(good.as_bytes()), basic(good.as_bytes()).replace(FORM, ""));
    let large = [GRANT, b"&x=", "a".repeat(20_000).as_bytes()].concat();
    let token = "/oauth/token";
    let rows: Vec<(&str, Vec<u8>, u16, &str)> = vec![
        ("Basic without a colon", login(token, &basic(b"idsecret"), GRANT), 401, "invalid_client"),
        ("Basic of nothing", login(token, &basic(b""), GRANT), 401, "invalid_client"),
        ("Basic of a colon", login(token, &basic(b":"), GRANT), 401, "invalid_client"),
        ("Basic, not UTF-8", login(token, &basic(b"\xff:\xfe"), GRANT), 401, "invalid_client"),
        ("Basic with a line break", login(token, &basic(b"id\n:secret"), GRANT), 401, "invalid_client"),
        ("not base64", login(token, &format!("{FORM}Authorization: Basic !!!\r\n"), GRANT), 401, "invalid_client"),
        ("Basic of bytes", login(token, &format!("{FORM}Authorization: Basic é\r\n"), GRANT), 401, "invalid_client"),
        ("a Bearer", login(token, &format!("{FORM}Authorization: Bearer x\r\n"), GRANT), 401, "invalid_client"),
        ("two Basic", login(token, &twice, GRANT), 400, "invalid_request"),
        ("two Basic under a prefix", login("/eu/oauth/token", &twice, GRANT), 400, "invalid_request"),
        ("unknown client", login(token, &basic(unknown.as_bytes()), GRANT), 401, "invalid_client"),
        ("disabled client", login(token, &basic(of(&disabled).as_bytes()), GRANT), 401, "invalid_client"),
        ("wrong secret", login(token, &basic(format!("{good}x").as_bytes()), GRANT), 401, "invalid_client"),
        ("nobody", login(token, FORM, GRANT), 401, "invalid_client"),
        ("no grant", login(token, &basic(good.as_bytes()), b""), 400, "invalid_request"),
        ("another grant", login(token, &basic(good.as_bytes()), b"grant_type=password"), 400, "unsupported_grant_type"),
        ("grant twice", login(token, &basic(good.as_bytes()), &[GRANT, b"&", GRANT].concat()), 400, "invalid_request"),
        ("form not UTF-8", login(token, &basic(good.as_bytes()), b"grant_type=\xff"), 400, "invalid_request"),
        ("form escape", login(token, &basic(good.as_bytes()), b"grant_type=%f"), 400, "invalid_request"),
        (
            "JSON",
            login(token, &basic(good.as_bytes()).replace("x-www-form-urlencoded", "json"), b"{}"),
            400,
            "invalid_request",
        ),
        ("large form", login(token, &basic(good.as_bytes()), &large), 413, "invalid_request"),
        (
            "GET",
            format!("GET {token} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").into_bytes(),
            405,
            "invalid_request",
        ),
        ("CXone without a key", login("/auth/token", FORM, b"grant_type=password"), 400, "invalid_request"),
        (
            "CXone with an unknown key",
            login("/auth/token", FORM, b"grant_type=password&username=a&password=b"),
            401,
            "invalid_client",
        ),
        (
            "CXone regional, broken JSON",
            login("/authentication/v1/token/access-key", "Content-Type: application/json\r\n", b"{\"accessKeyId\":"),
            400,
            "invalid_request",
        ),
    ];
    for (name, bytes, status, error) in &rows {
        stage.row(name, bytes, *status, Shape::OAuth, error);
    }
    let good = parse_answer(&exchange(stage.host(), &login(token, &basic(good.as_bytes()), GRANT)));
    assert_eq!(good.status, 200, "{good:?}");
    stage.end();
}

#[test]
fn tokens_that_do_not_count_are_refused_in_the_shape_of_the_path() {
    const UNAUTHENTICATED: &str = "keyholder.caller.unauthenticated";
    let stage = Stage::new();
    let get =
        |target: &str, lines: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{lines}\r\n");
    let agents = "/inContactAPI/services/v30.0/agents";
    let with = |token: &str| format!("Authorization: Bearer {token}\r\n");
    // one letter of the checksum changed
    let mut forged = stage.token.clone();
    let last = forged.pop().unwrap();
    forged.push(if last == 'a' { 'b' } else { 'a' });
    for (name, target, lines, shape) in [
        ("none", "/api/v2/users", String::new(), Shape::Genesys),
        ("none, CXone", agents, String::new(), Shape::Cxone),
        ("none, elsewhere", "/somewhere", String::new(), Shape::Problem),
        ("garbage", "/api/v2/users", with("garbage"), Shape::Genesys),
        ("garbage, CXone", agents, with("garbage"), Shape::Cxone),
        ("forged", "/api/v2/users", with(&forged), Shape::Genesys),
        ("long", "/api/v2/users", with(&"k".repeat(30_000)), Shape::Genesys),
        ("not ASCII", "/api/v2/users", with("kht_é"), Shape::Genesys),
        ("Basic", "/api/v2/users", "Authorization: Basic YTpi\r\n".to_owned(), Shape::Genesys),
        ("empty", "/api/v2/users", "Authorization: \r\n".to_owned(), Shape::Genesys),
        ("tokens/me", "/api/v2/tokens/me", with("garbage"), Shape::Genesys),
    ] {
        stage.row(name, get(target, &lines).as_bytes(), 401, shape, UNAUTHENTICATED);
    }
    let short = stage.installation.add_client("short", &["--credential", "genesys", "--allow-all", "--ttl", "1s"]);
    let token = stage.server.login(&short);
    let expired = (0..3_000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        stage.server.call(&token, "HEAD", "/api/v2/tokens/me").status == 401
    });
    assert!(expired, "a token of one second lives for ever");
    stage.row("expired", get("/api/v2/users", &with(&token)).as_bytes(), 401, Shape::Genesys, UNAUTHENTICATED);
    stage.end();
}

#[test]
fn the_broker_refuses_what_no_local_program_sends() {
    let stage = Stage::new();
    let host = stage.server.broker().strip_prefix("http://").unwrap();
    let guard = format!("X-Keyholder-Token: {}\r\n", stage.server.guard());
    let get = |target: &str, lines: &str| format!("GET {target} HTTP/1.1\r\nConnection: close\r\n{lines}\r\n");
    let here = format!("Host: {host}\r\n");
    for (name, bytes, status, code) in [
        ("no guard", get("/v1/token/genesys", &here), 403, "keyholder.guard.refused"),
        (
            "wrong guard",
            get("/v1/token/genesys", &format!("{here}X-Keyholder-Token: x\r\n")),
            403,
            "keyholder.guard.refused",
        ),
        (
            "two guards",
            get("/v1/token/genesys", &format!("{here}{guard}X-Keyholder-Token: x\r\n")),
            403,
            "keyholder.guard.refused",
        ),
        ("unknown profile", get("/v1/token/none", &format!("{here}{guard}")), 404, "keyholder.not_found"),
        ("profile of bytes", get("/v1/token/%ff", &format!("{here}{guard}")), 404, "keyholder.not_found"),
        (
            "bad min_ttl",
            get("/v1/token/genesys?min_ttl=-1", &format!("{here}{guard}")),
            400,
            "keyholder.request.malformed",
        ),
        (
            "long min_ttl",
            get("/v1/token/genesys?min_ttl=999999999", &format!("{here}{guard}")),
            422,
            "keyholder.token.ttl_unsatisfiable",
        ),
    ] {
        let before = stage.seen();
        let answer = parse_answer(&exchange(host, bytes.as_bytes()));
        assert_eq!(answer.status, status, "{name}: {answer:?}");
        check_error(name, &answer, Shape::Problem, code);
        assert_eq!(stage.seen(), before, "{name}: no fetch");
    }
    let foreign =
        parse_answer(&exchange(host, get("/v1/token/genesys", &format!("Host: evil.example\r\n{guard}")).as_bytes()));
    assert!((400..500).contains(&foreign.status), "a page of another site: {foreign:?}");
    assert!(!text(&foreign.json(), "code").is_empty());
    stage.end();
}
