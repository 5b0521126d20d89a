//! Who is let in, and what the others are told.

use super::*;

/// What a request gets: the status, the code and the challenge.
async fn check(site: &Site, call: &str, authorization: &str, expected: (u16, &str, &str)) -> Got {
    let got = site.send(site.request(call, authorization, "")).await;
    let code = got.json()["code"].as_str().unwrap_or_default().to_owned();
    let found = (got.status, code.as_str(), got.header("www-authenticate"));
    assert_eq!(found, expected, "{call} with {authorization:?}");
    assert_eq!(got.header("content-type"), "application/problem+json");
    assert_eq!(got.header("cache-control"), "no-store");
    assert_eq!(got.json()["status"], got.status);
    got
}

const NONE: &str = r#"Bearer realm="api""#;
const MALFORMED: &str = r#"Bearer realm="api", error="invalid_request", error_description="the Authorization header does not have the form of a bearer token""#;
const INVALID: &str = r#"Bearer realm="api", error="invalid_token", error_description="the access token is not valid""#;
const NOT_ALLOWED: &str = r#"Bearer realm="api", error="insufficient_scope", error_description="the access token does not allow this request""#;

#[tokio::test]
async fn each_refusal_is_answered_by_the_book_and_never_forwarded() {
    let (upstream, site) = site().await;
    let missing = (401, "keyholder.inbound.token_missing", NONE);
    let malformed = (400, "keyholder.inbound.authorization_malformed", MALFORMED);
    let invalid = (401, "keyholder.inbound.token_invalid", INVALID);
    let scope = |scope: &str| format!("{NOT_ALLOWED}, scope=\"{scope}\"");
    let (read, write) = (scope("reports:read"), scope("reports:read reports:write"));
    for (call, authorization, expected) in [
        ("GET /reports", "", missing),
        ("GET /reports", "Basic cmVhZGVyOng=", missing),
        ("GET /reports", "DPoP", missing),
        ("GET /reports", "reader", missing),
        ("GET /reports", "Bearer", missing),
        ("GET /reports", "Bearer  reader", malformed),
        ("GET /reports", "Bearer reader reader", malformed),
        ("GET /reports", "Bearer rea\"der", malformed),
        ("GET /reports", "Bearer reader,reader", malformed),
        ("GET /reports", "Bearer unknown", invalid),
        ("GET /reports", "Bearer expired", invalid),
        ("GET /reports", "Bearer revoked", invalid),
        ("GET /reports", "Bearer forged", invalid),
        ("GET /reports", "Bearer stranger", invalid),
        ("GET /reports", "Bearer bound", invalid),
        ("GET /reports", "Bearer umlaut", invalid),
        ("GET /of-other", "Bearer reader", invalid),
        ("GET /reports", "Bearer nothing", (403, "keyholder.inbound.not_allowed", &read)),
        ("GET /reports", "Bearer prefix", (403, "keyholder.inbound.not_allowed", &read)),
        ("POST /reports", "Bearer reader", (403, "keyholder.inbound.not_allowed", &write)),
        ("GET /tenant", "Bearer reader", (403, "keyholder.inbound.not_allowed", NOT_ALLOWED)),
        ("GET /reports", "Bearer later", (503, "keyholder.inbound.issuer_unavailable", "")),
        ("GET /nowhere", "Bearer reader", (404, "keyholder.not_found", "")),
        ("GET /hosted", "Bearer reader", (404, "keyholder.not_found", "")),
        ("DELETE /reports", "Bearer writer", (405, "keyholder.method.not_allowed", "")),
        ("get /reports", "Bearer reader", (404, "keyholder.not_found", "")),
    ] {
        let got = check(&site, call, authorization, expected).await;
        assert_eq!(got.header("retry-after"), if got.status == 503 { "7" } else { "" });
        assert_eq!(got.header("allow"), if got.status == 405 { "GET, HEAD, POST" } else { "" }, "{call}");
    }
    assert!(upstream.seen().is_empty(), "{:?}", upstream.seen());
}

#[tokio::test]
async fn what_a_route_takes_passes() {
    let (upstream, site) = site().await;
    for (call, token) in [
        ("GET /reports", "reader"),
        ("GET /reports", "writer"),
        ("HEAD /reports", "reader"),
        ("GET /reports/7", "reader"),
        ("POST /reports", "writer"),
        ("GET /tenant", "acme"),
        ("GET /of-other", "other"),
        ("GET /reports", "other"),
        ("GET /health", ""),
        ("GET /health", "expired"),
        ("GET /any", "nothing"),
    ] {
        // the first time the token is verified, the second time it is known
        for time in 1..=2 {
            assert_eq!(site.call(call, token).await.status, 200, "{call} {token} {time}");
        }
    }
    assert_eq!(upstream.seen().len(), 22);
    let hosted =
        Request::builder().uri("/hosted").header("host", "API.example:80").header("authorization", "bearer reader");
    assert_eq!(site.send(hosted.body(Full::default()).unwrap()).await.status, 200);
}

/// The cache of a well-known library held verdicts: what one route had allowed was taken on another.
#[tokio::test]
async fn a_token_verified_on_one_route_is_not_authorised_on_another() {
    let (upstream, site) = site().await;
    assert_eq!(site.call("GET /reports", "reader").await.status, 200);
    for _ in 0..3 {
        assert_eq!(site.call("POST /reports", "reader").await.status, 403);
        assert_eq!(site.call("GET /tenant", "reader").await.status, 403);
        assert_eq!(site.call("GET /of-other", "reader").await.status, 401);
    }
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn a_token_is_verified_for_the_issuers_that_its_route_takes() {
    let upstream = echo().await;
    let setup = Setup::new(upstream.address);
    let tokens = Arc::clone(&setup.tokens);
    let site = setup.start();
    for (call, issuers) in
        [("GET /reports", vec![ISSUER, OTHER]), ("GET /of-other", vec![OTHER]), ("GET /any", vec![ISSUER, OTHER])]
    {
        assert_eq!(site.call(call, "unknown").await.status, 401, "{call}");
        assert_eq!(tokens.taken(), issuers, "{call}");
    }
}

/// Who tries tokens learns nothing of them: every bad one gets the same answer letter by letter.
#[tokio::test]
async fn a_bad_token_is_not_told_why() {
    let (_upstream, site) = site().await;
    let mut answers = Vec::new();
    for token in ["unknown", "expired", "revoked", "forged", "stranger", "bound"] {
        let got = site.call("GET /reports", token).await;
        let mut body = got.json();
        body.as_object_mut().unwrap().remove("correlation_id").expect("it names its place in the log");
        answers.push((got.status, got.header("www-authenticate").to_owned(), body));
        assert_eq!(
            site.metric(&format!(
                r#"keyholder_inbound_refusals_total{{site="api",reason="{}"}}"#,
                match token {
                    "unknown" => "unrecognised",
                    "forged" => "signature_invalid",
                    "stranger" => "issuer_not_of_route",
                    "bound" => "proof_missing",
                    reason => reason,
                }
            )),
            1,
            "the metrics know: {token}"
        );
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
}

/// Every spelling of a path that some server takes for another one is refused or is no route.
#[tokio::test]
async fn a_path_has_one_reading_or_no_route() {
    let (upstream, site) = site().await;
    for (path, status) in [
        ("/health/../reports", 400),
        ("/health/%2e%2e/reports", 400),
        ("/health/..;/reports", 400),
        ("/./reports", 400),
        ("//reports", 400),
        ("/health//reports", 400),
        ("/reports%2F7", 400),
        ("/reports%5C7", 400),
        ("/reports/%00", 400),
        ("/rep%6Frts", 400),
        ("/reports/", 404),
        ("/reports/7/", 404),
        ("/Reports", 404),
        ("/REPORTS/7", 404),
        ("/reports;v=1", 404),
        ("/reports.json", 404),
        ("/health/", 404),
        ("/HEALTH", 404),
        ("/health;x", 404),
        ("/", 404),
    ] {
        let answer = site
            .raw(&format!(
                "GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer reader\r\nConnection: close\r\n\r\n"
            ))
            .await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
    }
    assert!(upstream.seen().is_empty(), "{:?}", upstream.seen());
}

#[tokio::test]
async fn a_changed_configuration_counts_from_the_next_request_on() {
    let (upstream, site) = site().await;
    let stream = tokio::net::TcpStream::connect(site.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.unwrap();
    let driver = tokio::spawn(connection);
    for (line, status) in [("GET /any=", 404), ("GET /reports=reports:write", 403), ("GET /reports=reports:read", 200)]
    {
        let routes = RouteTable::new(vec![RouteRule::parse_line(line).unwrap()]).unwrap();
        let upstream = format!("http://{}", upstream.address);
        let next = Api::new(spec(&upstream, routes, Authorization::Remove, SentHost::Upstream)).unwrap();
        site.inbound.replace(next);
        let answer = sender.send_request(site.request("GET /reports", "Bearer reader", "")).await.unwrap();
        assert_eq!(crate::support::read(answer).await.status, status, "{line}, on a connection that was there before");
    }
    driver.abort();
}

#[test]
fn an_api_that_cannot_work_is_not_begun() {
    let bad = |change: fn(&mut ApiSpec)| {
        let mut spec = spec("http://127.0.0.1:1", routes(), Authorization::Remove, SentHost::Upstream);
        change(&mut spec);
        Api::new(spec).err().expect("it is refused").to_string()
    };
    let route = "the route `GET /of-other=` names the issuer other, which the API does not take";
    let found = [
        bad(|spec| "ftp://x".clone_into(&mut spec.upstream)),
        bad(|spec| spec.issuers.clear()),
        bad(|spec| spec.issuers.truncate(1)),
        bad(|spec| spec.identity_headers[0].name = http::header::HOST),
    ];
    assert!(found[0].starts_with("the upstream's address cannot be used: "), "{}", found[0]);
    assert_eq!(found[1], "the API names no issuer and has routes that need a token");
    assert_eq!(found[2], route.replace('=', ""));
    assert_eq!(found[3], "host cannot be an identity header");
}
