//! `[security]` of a configured `serve`: what stands in the log, who waits, and that nothing of it holds up a request.

mod receiver;

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use serde_json::{Value, json};

use self::receiver::Receiver;
use crate::{
    harness::{Answer, Installation, Login, Server, eventually, request, text},
    protected_api::{Api, ISSUER, claims, key_set, tokens::Key},
    telemetry::{repository, scrape, value},
};

const LONDON: &str = "81.2.69.160";
const MILTON: &str = "216.160.83.56";

/// A gateway and an API behind a proxy on this machine, which tells whose request it is.
fn sections(api: &Api, security: &str) -> String {
    format!(
        r#"
[issuer.corp]
kind = "jwks"
iss = ["{ISSUER}"]
jwks_file = "keys.json"
audiences = ["reports-api"]
[inbound.reports]
listen = ["127.0.0.1:0"]
upstream = "http://{}"
issuers = ["corp"]
trusted_proxies = ["127.0.0.1"]
client_address = "x-forwarded-for"
[[inbound.reports.route]]
name = "read"
match = ["GET /reports"]
scopes = ["reports:read"]
{security}
"#,
        api.address
    )
}

fn installed(api: &Api, security: &str, key: &Key) -> Installation {
    let installation = Installation::with("", &sections(api, security));
    fs::write(installation.path("keys.json"), key_set(&[key])).unwrap();
    let file = installation.path("keyholder.toml");
    let text = fs::read_to_string(&file).unwrap();
    let gateway = "[gateway]\ntrusted_proxies = [\"127.0.0.1\"]\nclient_address = \"x-forwarded-for\"\n";
    fs::write(&file, text.replacen("[gateway]\n", gateway, 1)).unwrap();
    installation
}

fn databases() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kh-security/tests/data/maxmind");
    let file = |name: &str| folder.join(format!("GeoLite2-{name}-Test.mmdb")).display().to_string();
    format!("[security.geoip]\ncity = {:?}\nasn = {:?}\n", file("City"), file("ASN"))
}

/// A request to the API from an address, as the proxy tells it.
fn get(server: &Server, authorization: &str, from: &str) -> Answer {
    let url = format!("{}/reports", text(&server.ready["inbound_urls"], "reports"));
    let headers = [("X-Forwarded-For", from), ("User-Agent", "probe/1"), ("Authorization", authorization)];
    let headers = if authorization.is_empty() { &headers[..2] } else { &headers[..] };
    request("GET", &url, headers, b"")
}

fn login(server: &Server, login: &Login, from: &str) -> Answer {
    let form = format!("grant_type=client_credentials&client_id={}&client_secret={}", login.id, login.secret);
    let headers =
        [("Content-Type", "application/x-www-form-urlencoded"), ("X-Forwarded-For", from), ("User-Agent", "probe/1")];
    request("POST", &format!("{}/oauth/token", server.gateway()), &headers, form.as_bytes())
}

fn loaded(server: &Server) {
    for database in ["city", "asn"] {
        let series = format!(r#"keyholder_security_geo_loads_total{{database="{database}",result="loaded"}}"#);
        eventually(&true, || value(&scrape(server), &series) >= 1.0);
    }
}

/// The log's lines, each of them valid by the published schema.
pub(crate) fn lines(file: &Path) -> Vec<Value> {
    let schema = serde_json::from_str(&repository("docs/reference/security-log.schema.json")).unwrap();
    let schema = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
    let text = fs::read_to_string(file).unwrap();
    let parsed = text.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(
            schema.is_valid(&line),
            "{:?}\n{line}",
            schema.iter_errors(&line).map(|e| e.to_string()).collect::<Vec<_>>()
        );
        line
    });
    parsed.collect()
}

/// Where, why, and from which city and network.
fn told(line: &Value) -> String {
    let of = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let from = &line["src_endpoint"];
    let asn = from["autonomous_system"]["number"].as_u64().map_or_else(|| "-".to_owned(), |asn| asn.to_string());
    let (site, reason) = (of(&line["service"]["name"]), of(&line["status_code"]));
    format!("{site} {reason} {} {} {asn}", of(&from["ip"]), of(&from["location"]["city"]))
}

#[test]
fn each_failure_is_one_valid_line_with_its_place_and_no_secret() {
    let (api, key, stranger) = (Api::start(), Key::new("k1"), Key::new("k1"));
    let installation = installed(&api, &format!("[security]\n{}", databases()), &key);
    let app = installation.add_client("app", &["--credential", "genesys", "--allow", "GET /api/v2/users"]);
    let server = installation.serve();
    loaded(&server);
    let bearer = |key: &Key, changes: &Value| format!("Bearer {}", key.sign(&claims(changes)));
    let good = bearer(&key, &json!({}));
    assert_eq!(get(&server, &good, LONDON).status, 200, "a success is not written unless it is wanted");
    let shown = [
        (String::new(), 401, "token_missing"),
        ("Basic eDp5".to_owned(), 401, "basic_refused"),
        ("Bearer a b".to_owned(), 400, "authorization_malformed"),
        (bearer(&stranger, &json!({})), 401, "signature_invalid"),
        (bearer(&key, &json!({ "exp": 1 })), 401, "expired"),
        (bearer(&key, &json!({ "aud": "another-api" })), 401, "audience_refused"),
        (bearer(&key, &json!({ "scope": "other" })), 403, "insufficient_scope"),
    ];
    for (authorization, status, _) in &shown {
        assert_eq!(get(&server, authorization, LONDON).status, *status, "{authorization}");
    }
    let wrong = Login { secret: "khs_wrong-secret".to_owned(), ..app.clone() };
    assert_eq!(login(&server, &wrong, MILTON).status, 401);
    let token = text(&login(&server, &app, LONDON).json(), "access_token").to_owned();
    assert_eq!(server.call("kht_nobody", "GET", "/api/v2/users").status, 401);
    assert_eq!(server.call(&token, "DELETE", "/api/v2/users/1").status, 403);
    let url = format!("{}/v1/status", server.admin());
    assert_eq!(request("GET", &url, &[("X-Keyholder-Token", "khg_wrong-admin")], b"").status, 403);
    let url = format!("{}/v1/token/genesys", server.broker());
    assert_eq!(request("GET", &url, &[("X-Keyholder-Token", "khg_wrong-guard")], b"").status, 403);
    let events = r#"keyholder_security_events_total{outcome="failure"}"#;
    assert!(value(&scrape(&server), events) >= 12.0);
    let (guard, (code, said)) = (server.guard(), server.process.stop());
    assert_eq!(code, Some(0), "{said}");
    let file = installation.path("state/security.log");
    let found = lines(&file);
    let mut expected: Vec<String> =
        shown.iter().map(|(_, _, reason)| format!("gateway {reason} {LONDON} London -")).collect();
    expected.extend([
        format!("token_endpoint invalid_client {MILTON} Milton 209"),
        "gateway token_unknown 127.0.0.1 - -".to_owned(),
        "gateway call_not_allowed 127.0.0.1 - -".to_owned(),
        "admin token_unknown 127.0.0.1 - -".to_owned(),
        "broker token_unknown 127.0.0.1 - -".to_owned(),
    ]);
    assert_eq!(found.iter().map(told).collect::<Vec<_>>(), expected);
    assert_eq!(found[0]["http_request"]["user_agent"], "probe/1");
    assert_eq!(found[0]["service"]["uid"], "read");
    let routes: Vec<&str> = found[shown.len()..].iter().map(|line| text(&line["service"], "uid")).collect();
    assert_eq!(routes, ["/oauth/token", "/api/v2/**", "/api/v2/**", "/v1/status", "/v1/token/{profile}"]);
    assert_eq!(found[6]["actor"]["app_uid"], "job");
    let log = fs::read_to_string(&file).unwrap();
    let mut secrets = vec![wrong.secret, app.secret, token, guard, "khg_wrong".to_owned(), "kht_nobody".to_owned()];
    secrets.extend(shown.iter().filter_map(|(shown, ..)| shown.strip_prefix("Bearer ey").map(str::to_owned)));
    for secret in secrets {
        assert!(!log.contains(&secret) && !said.contains(&secret), "{secret}");
    }
}

#[test]
fn a_collector_that_is_away_holds_up_nobody_and_gets_every_line_later() {
    let (api, key, folder) = (Api::start(), Key::new("k1"), tempfile::tempdir().unwrap());
    let receiver = Receiver::start(folder.path(), 503);
    let security = format!(
        "[security]\n[security.collector]\nurl = \"https://localhost:{}/ingest\"\ntoken_secret = \"store:siem\"\n\
         gzip = false\nretry_max = \"1s\"\nextra_ca = {:?}\n",
        receiver.port, receiver.ca
    );
    let installation = installed(&api, &security, &key);
    let token = "collector-token-of-this-test";
    crate::harness::run(&mut installation.command(&["secret", "set", "siem", "--opaque"]), token.as_bytes()).done();
    let server = installation.serve();
    for number in 0..20 {
        assert_eq!(get(&server, "", &format!("198.51.100.{number}")).status, 401);
    }
    eventually(&true, || receiver.requests() >= 1);
    // the collector's troubles are told and keep nobody away
    let checks = || {
        let ready = request("GET", &format!("{}/readyz", server.admin()), &[], b"");
        assert_eq!(ready.status, 200, "{ready:?}");
        let all = ready.json()["checks"].as_array().unwrap().clone();
        all.into_iter().find(|check| check["name"] == "security_collector").unwrap()
    };
    let bad = json!({ "name": "security_collector", "ready": false, "code": "keyholder.upstream.unreachable", "advisory": true });
    eventually(&bad, checks);
    receiver.answer_with(200);
    eventually(&20, || receiver.lines().len());
    eventually(&json!(true), || checks()["ready"].clone());
    assert!(receiver.tokens().iter().all(|value| *value == format!("Bearer {token}")));
    let sent = r#"keyholder_security_collector_lines_total{result="sent"}"#;
    eventually(&true, || (value(&scrape(&server), sent) - 20.0).abs() < 0.5);
    let (code, said) = server.process.stop();
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains(token), "{said}");
    assert_eq!(receiver.lines(), lines(&installation.path("state/security.log")), "the same lines in the same order");
}

#[test]
fn a_collectors_token_file_that_others_may_read_is_named_and_read_again() {
    let (api, key, folder) = (Api::start(), Key::new("k1"), tempfile::tempdir().unwrap());
    let receiver = Receiver::start(folder.path(), 200);
    let security = format!(
        "[security]\n[security.collector]\nurl = \"https://localhost:{}/ingest\"\ntoken_file = \"collector.token\"\n\
         gzip = false\nretry_max = \"1s\"\nextra_ca = {:?}\n",
        receiver.port, receiver.ca
    );
    let installation = installed(&api, &security, &key);
    let (file, token) = (installation.path("collector.token"), "collector-token-of-this-test");
    fs::write(&file, format!("{token}\n")).unwrap();
    let allow = |mode| fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
    allow(0o600);
    let server = installation.serve();
    allow(0o644);
    assert_eq!(get(&server, "", LONDON).status, 401);
    eventually(&true, || server.process.said().contains("collector.token may be read by others"));
    allow(0o600);
    eventually(&1, || receiver.lines().len());
    assert!(receiver.tokens().iter().all(|value| *value == format!("Bearer {token}")));
    let (code, said) = server.process.stop();
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("store:collector") && !said.contains(token), "{said}");
}

#[test]
fn a_full_disk_holds_up_nobody_and_is_counted() {
    let (api, key) = (Api::start(), Key::new("k1"));
    let installation = installed(&api, "[security]\nlog = \"/dev/full\"\n", &key);
    let server = installation.serve();
    for _ in 0..30 {
        assert_eq!(get(&server, "", LONDON).status, 401);
    }
    let good = format!("Bearer {}", key.sign(&claims(&json!({}))));
    assert_eq!(get(&server, &good, LONDON).status, 200);
    let failed = r#"keyholder_security_log_lines_total{result="failed"}"#;
    eventually(&true, || value(&scrape(&server), failed) >= 30.0);
}

#[test]
fn a_guesser_waits_at_the_api_and_at_the_token_endpoint() {
    let (api, key, stranger) = (Api::start(), Key::new("k1"), Key::new("k1"));
    let security = "[security]\nlog = \"who.jsonl\"\n[security.guard]\naddress_failures = 5\nwait = \"10m\"\n";
    let installation = installed(&api, security, &key);
    let app = installation.add_client("app", &["--scope", "reports:read"]);
    let server = installation.serve();
    let bad = format!("Bearer {}", stranger.sign(&claims(&json!({}))));
    let good = format!("Bearer {}", key.sign(&claims(&json!({}))));
    for _ in 0..5 {
        assert_eq!(get(&server, &bad, LONDON).status, 401);
    }
    let held = get(&server, &bad, LONDON);
    assert_eq!((held.status, held.json()["code"].as_str()), (429, Some("keyholder.inbound.throttled")));
    assert!(held.header("retry-after").unwrap().parse::<u64>().unwrap() > 500, "{held:?}");
    let held = login(&server, &app, LONDON);
    assert_eq!((held.status, held.json()["error"].as_str()), (429, Some("temporarily_unavailable")));
    // what the caller itself writes in front changes nothing
    assert_eq!(get(&server, &bad, &format!("198.51.100.1, {LONDON}")).status, 429);
    assert_eq!((get(&server, &good, MILTON).status, login(&server, &app, MILTON).status), (200, 200));
    let began = r#"keyholder_security_guard_blocks_total{scope="address"}"#;
    assert!((value(&scrape(&server), began) - 1.0).abs() < 0.5);
    server.process.stop();
    let found = lines(&installation.path("who.jsonl"));
    let alerts: Vec<&Value> = found.iter().filter(|line| line["class_uid"] == 2004).collect();
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert_eq!(alerts[0]["finding_info"]["types"][0], "brute_force");
    let throttled = found.iter().filter(|line| line["status_code"] == "throttled").count();
    assert_eq!(throttled, 3, "{found:?}");
}

#[test]
fn alerts_stand_in_the_log_and_are_told_as_notices() {
    let (api, key) = (Api::start(), Key::new("k1"));
    let security = format!("[security]\nsuccesses = \"all\"\n{}", databases());
    let installation = installed(&api, &security, &key);
    let server = installation.serve();
    loaded(&server);
    let good = format!("Bearer {}", key.sign(&claims(&json!({}))));
    for from in [LONDON, MILTON] {
        assert_eq!(get(&server, &good, from).status, 200);
    }
    let (_, said) = server.process.stop();
    let found = lines(&installation.path("state/security.log"));
    let kind = |line: &Value| match line["class_uid"].as_u64() {
        Some(3002) => line["status"].as_str().unwrap_or_default().to_owned(),
        _ => line["finding_info"]["types"][0].as_str().unwrap_or_default().to_owned(),
    };
    let kinds: Vec<_> = found.iter().map(kind).collect();
    assert_eq!(kinds, ["Success", "Success", "new_country", "impossible_travel"]);
    assert!(said.contains("notice: alice: the subject came from US; until now from GB"), "{said}");
}

#[test]
fn a_database_and_the_file_are_replaced_while_it_serves() {
    let (api, key) = (Api::start(), Key::new("k1"));
    let security = "[security]\nlog = \"who.jsonl\"\n[security.geoip]\ncity = \"city.mmdb\"\n";
    let installation = installed(&api, security, &key);
    let server = installation.serve();
    let written = || value(&scrape(&server), r#"keyholder_security_log_lines_total{result="written"}"#);
    assert_eq!(get(&server, "", LONDON).status, 401);
    eventually(&true, || written() >= 1.0);
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kh-security/tests/data/maxmind/GeoLite2-City-Test.mmdb");
    fs::copy(data, installation.path("next.mmdb")).unwrap();
    fs::rename(installation.path("next.mmdb"), installation.path("city.mmdb")).unwrap();
    fs::rename(installation.path("who.jsonl"), installation.path("who.1.jsonl")).unwrap();
    server.process.signal("HUP");
    let loads = r#"keyholder_security_geo_loads_total{database="city",result="loaded"}"#;
    eventually(&true, || value(&scrape(&server), loads) >= 1.0 && installation.path("who.jsonl").exists());
    assert_eq!(get(&server, "", LONDON).status, 401);
    // a bad one leaves the last good one in use
    fs::write(installation.path("bad.mmdb"), "no database").unwrap();
    fs::rename(installation.path("bad.mmdb"), installation.path("city.mmdb")).unwrap();
    server.process.signal("HUP");
    let refused = r#"keyholder_security_geo_loads_total{database="city",result="refused"}"#;
    eventually(&true, || value(&scrape(&server), refused) >= 2.0);
    assert_eq!(get(&server, "", LONDON).status, 401);
    server.process.stop();
    let cities = |name: &str| {
        let found = lines(&installation.path(name));
        found.iter().map(|line| line["src_endpoint"]["location"]["city"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(cities("who.1.jsonl"), [Value::Null]);
    assert_eq!(cities("who.jsonl"), ["London", "London"]);
}

#[test]
fn check_tells_what_is_wrong_with_the_section() {
    let (api, key) = (Api::start(), Key::new("k1"));
    let security = "[security]\nlog = \"no/such/folder/who.jsonl\"\n[security.geoip]\ncity = \"city.mmdb\"\n\
                    asn = \"gone.mmdb\"\n[security.collector]\nurl = \"https://siem.example\"\ntoken_file = \"token\"\n";
    let installation = installed(&api, security, &key);
    fs::write(installation.path("city.mmdb"), "no database").unwrap();
    fs::write(installation.path("token"), "t").unwrap();
    let said = installation.run(&["check"]);
    assert_eq!(said.code, Some(1), "{}", said.err);
    for told in ["[security.geoip] city", "[security.geoip] asn", "[security] log: ", "may be read by others"] {
        assert!(said.err.contains(told), "{told}\n{}", said.err);
    }
    // a folder that nobody makes, right below one that is there; the server says the same, with the path
    let security = "[security]\nlog = \"nowhere/who.jsonl\"\n";
    let missing = installed(&api, security, &key);
    for (words, code) in [(&["check"][..], 1), (&["serve"], 2)] {
        let said = missing.run(words);
        assert_eq!(said.code, Some(code), "{words:?}: {}", said.err);
        assert!(said.err.contains("nowhere/who.jsonl"), "{words:?}: {}", said.err);
    }
    // the spool's folders are made
    let spool = format!("{security}[security.collector]\nurl = \"https://siem.example\"\nspool = \"a/b/c\"\n")
        .replace("nowhere/", "");
    let fine = installed(&api, &spool, &key).run(&["check"]);
    assert_eq!(fine.code, Some(0), "{}", fine.err);
    let fine = installed(&api, &format!("[security]\n{}", databases()), &key).run(&["check"]);
    assert_eq!(fine.code, Some(0), "{}", fine.err);
}

/// The configuration that the guide shows is one.
#[test]
fn the_guides_configuration_is_valid() {
    let guide = repository("docs/guide/security-log.md");
    let blocks: Vec<&str> =
        guide.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default()).collect();
    assert!(blocks.len() >= 2, "the guide shows its configuration");
    for block in blocks {
        let parsed = keyholder::config::parse(block.as_bytes());
        assert!(parsed.is_ok_and(|parsed| parsed.config.security.is_some()), "{block}");
    }
}
