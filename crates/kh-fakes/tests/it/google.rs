//! The rules of the fake Secret Manager, each as one statement.

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderValue, Method};
use kh_fakes::{Fake, FakeClock, Request, google::SecretManager};
use serde_json::{Value, json};

struct Bench {
    fake: SecretManager,
    clock: FakeClock,
}

impl Bench {
    /// A project with the secret `s`.
    fn new() -> Self {
        let bench = Self { fake: SecretManager::default(), clock: FakeClock::default() };
        let made = bench.ask(Method::POST, "?secretId=s", json!({"replication": {"automatic": {}}}));
        assert_eq!(made.0, 200, "{made:?}");
        bench
    }

    fn ask_as(&self, token: Option<&str>, method: Method, path: &str, body: &Value) -> (u16, Value) {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            headers.insert("authorization", HeaderValue::from_str(&format!("Bearer {token}")).unwrap());
        }
        let request = Request {
            method,
            origin: "http://127.0.0.1:1".to_owned(),
            path: format!("/v1/projects/acme/secrets{path}"),
            query: query.to_owned(),
            headers,
            body: if body.is_null() { Vec::new().into() } else { body.to_string().into() },
        };
        let reply = self.fake.answer(&request, &self.clock);
        (reply.status, serde_json::from_slice(&reply.body).unwrap_or_default())
    }

    fn ask(&self, method: Method, path: &str, body: impl Into<Value>) -> (u16, Value) {
        let token = self.fake.credentials()["token"].as_str().unwrap().to_owned();
        self.ask_as(Some(&token), method, path, &body.into())
    }

    fn add(&self, text: &str) -> (u16, Value) {
        self.ask(Method::POST, "/s:addVersion", json!({"payload": {"data": BASE64_STANDARD.encode(text)}}))
    }

    fn etag(&self) -> String {
        self.ask(Method::GET, "/s", Value::Null).1["etag"].as_str().unwrap().to_owned()
    }
}

/// Status and the code's name.
fn told(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["error"]["status"].as_str().unwrap_or_default())
}

#[test]
fn an_identity_is_needed() {
    let bench = Bench::new();
    for token in [None, Some("ya29.another")] {
        let answer = bench.ask_as(token, Method::GET, "/s", &Value::Null);
        assert_eq!(told(&answer), (401, "UNAUTHENTICATED"));
    }
}

#[test]
fn the_metadata_server_wants_its_header() {
    let bench = Bench::new();
    let ask = |flavor: bool| {
        let mut headers = HeaderMap::new();
        if flavor {
            headers.insert("metadata-flavor", HeaderValue::from_static("Google"));
        }
        let request = Request {
            method: Method::GET,
            origin: "http://metadata.google.internal".to_owned(),
            path: "/computeMetadata/v1/instance/service-accounts/default/token".to_owned(),
            query: String::new(),
            headers,
            body: Vec::new().into(),
        };
        bench.fake.answer(&request, &bench.clock)
    };
    assert_eq!(ask(false).status, 403);
    let token: Value = serde_json::from_slice(&ask(true).body).unwrap();
    let token = token["access_token"].as_str().unwrap();
    assert_eq!(bench.ask_as(Some(token), Method::GET, "/s", &Value::Null).0, 200);
    bench.clock.shift(3_600);
    assert_eq!(bench.ask_as(Some(token), Method::GET, "/s", &Value::Null).0, 401, "it ends");
}

#[test]
fn an_etag_that_is_given_must_match_and_changes_with_each_change() {
    let bench = Bench::new();
    bench.add("one");
    let before = bench.etag();
    let patch = |etag: &str| {
        bench.ask(
            Method::PATCH,
            "/s?updateMask=versionAliases",
            json!({"etag": etag, "versionAliases": {"current": "1"}}),
        )
    };
    assert_eq!(patch(&before).0, 200);
    assert_ne!(bench.etag(), before);
    assert_eq!(told(&patch(&before)), (400, "FAILED_PRECONDITION"), "docs/etags: status 400, not 409 or 412");
    let same = bench.etag();
    assert_eq!(patch(&same).0, 200, "it changes nothing");
    assert_ne!(bench.etag(), same, "and yet the etag is another");
    assert_eq!(patch("").0, 200, "none given, none checked");
    let now = bench.etag();
    bench.add("two");
    assert_eq!(bench.etag(), now, "a version is another resource");
}

#[test]
fn aliases() {
    let bench = Bench::new();
    bench.add("one");
    let set = |aliases: Value| {
        told(&bench.ask(Method::PATCH, "/s?updateMask=version_aliases", json!({"versionAliases": aliases}))).0
    };
    for bad in [json!({"latest": 1}), json!({"NEW": 1}), json!({"1st": 1}), json!({"a.b": 1}), json!({"current": 2})] {
        assert_eq!(set(bad.clone()), 400, "{bad}");
    }
    let many: Value = (0..51).map(|number| (format!("a{number}"), json!(1))).collect::<serde_json::Map<_, _>>().into();
    assert_eq!(set(many), 400);
    assert_eq!(told(&bench.ask(Method::GET, "/s/versions/current", Value::Null)), (404, "NOT_FOUND"));
    assert_eq!(set(json!({"current": "1", "b": 1})), 200);
    let (_, found) = bench.ask(Method::GET, "/s/versions/current", Value::Null);
    assert_eq!(found["name"], "projects/424242/secrets/s/versions/1", "the answer has the numbers");
    assert_eq!(bench.ask(Method::GET, "/s", Value::Null).1["versionAliases"], json!({"b": "1", "current": "1"}));
    let (status, _) = bench.ask(Method::POST, "/s/versions/current:disable", json!({}));
    assert_eq!(status, 400, "a version is changed by its number");
    assert_eq!(told(&bench.ask(Method::PATCH, "/s", json!({"versionAliases": {}}))), (400, "INVALID_ARGUMENT"));
}

#[test]
fn the_state_decides_what_can_be_read() {
    let bench = Bench::new();
    assert_eq!(told(&bench.ask(Method::GET, "/s/versions/latest:access", Value::Null)), (404, "NOT_FOUND"));
    bench.add("one");
    bench.add("two");
    let access = |version: &str| bench.ask(Method::GET, &format!("/s/versions/{version}:access"), Value::Null);
    let turn = |verb: &str| bench.ask(Method::POST, &format!("/s/versions/2:{verb}"), json!({}));
    assert_eq!(access("latest").1["payload"]["data"], BASE64_STANDARD.encode("two"));
    turn("disable");
    assert_eq!(told(&access("latest")), (400, "FAILED_PRECONDITION"), "the newest, not the newest that is enabled");
    assert_eq!(access("1").0, 200);
    turn("enable");
    assert_eq!(access("2").0, 200);
    let (_, destroyed) = turn("destroy");
    assert!(destroyed["destroyTime"].is_string());
    assert_eq!(told(&access("2")), (400, "FAILED_PRECONDITION"));
    assert_eq!(told(&turn("enable")), (400, "FAILED_PRECONDITION"), "destroyed is for ever");
    let (_, page) = bench.ask(Method::GET, "/s/versions", Value::Null);
    assert_eq!(page["versions"][0]["state"], "DESTROYED", "newest first, destroyed ones too");
    let (_, page) = bench.ask(Method::GET, "/s/versions?%24alt=json%3Benum-encoding%3Dint", Value::Null);
    assert_eq!(page["versions"][0]["state"], 3, "as the Python library asks for it");
}

#[test]
fn payloads_are_checked() {
    let bench = Bench::new();
    let add = |data: &[u8], checksum: Value| {
        told(&bench.ask(
            Method::POST,
            "/s:addVersion",
            json!({"payload": {"data": BASE64_STANDARD.encode(data), "dataCrc32c": checksum}}),
        ))
        .0
    };
    assert_eq!(add(b"123456789", json!("3808858755")), 200, "the check value of CRC-32C");
    assert_eq!(add(b"123456789", json!("3808858756")), 400);
    assert_eq!(add(&vec![7; 65_536], Value::Null), 200);
    assert_eq!(add(&vec![7; 65_537], Value::Null), 400);
    assert_eq!(add(b"", Value::Null), 400);
    let (_, found) = bench.ask(Method::GET, "/s/versions/1:access", Value::Null);
    assert_eq!(found["payload"]["dataCrc32c"], "3808858755");
}

#[test]
fn containers() {
    let bench = Bench::new();
    let create = |id: &str, body: Value| told(&bench.ask(Method::POST, &format!("?secretId={id}"), body)).0;
    assert_eq!(create("s", json!({"replication": {"automatic": {}}})), 409);
    assert_eq!(create("t", json!({})), 400, "a replication policy is needed");
    assert_eq!(create("a.b", json!({"replication": {"automatic": {}}})), 400);
    assert_eq!(told(&bench.ask(Method::POST, "/t:addVersion", json!({}))), (404, "NOT_FOUND"));
    bench.fake.command("page", &json!({"count": 1})).unwrap();
    create("u", json!({"replication": {"automatic": {}}}));
    let (_, page) = bench.ask(Method::GET, "?pageSize=250", Value::Null);
    assert_eq!((page["totalSize"].as_u64(), page["secrets"].as_array().unwrap().len()), (Some(2), 1));
    let next = format!("?pageToken={}", page["nextPageToken"].as_str().unwrap());
    let (_, page) = bench.ask(Method::GET, &next, Value::Null);
    assert_eq!(
        (&page["secrets"][0]["name"], &page["nextPageToken"]),
        (&json!("projects/424242/secrets/u"), &Value::Null)
    );
    assert_eq!(bench.ask(Method::DELETE, "/u", Value::Null).0, 200);
    assert_eq!(bench.ask(Method::GET, "/u", Value::Null).0, 404);
}

#[test]
fn each_permission_is_asked_for() {
    let bench = Bench::new();
    bench.add("one");
    let asked = json!({"permissions": ["secretmanager.versions.access", "secretmanager.secrets.update"]});
    let (_, all) = bench.ask(Method::POST, "/s:testIamPermissions", asked.clone());
    assert_eq!(all, asked);
    let none = bench.ask(Method::POST, "/nothing:testIamPermissions", asked.clone());
    assert_eq!(none, (200, json!({"permissions": []})), "of a secret that does not exist, none");
    bench.fake.command("permissions", &json!({"permissions": []})).unwrap();
    for (method, path) in [
        (Method::GET, "/s"),
        (Method::GET, ""),
        (Method::PATCH, "/s?updateMask=labels"),
        (Method::POST, "/s:addVersion"),
        (Method::GET, "/s/versions/1:access"),
        (Method::POST, "/s/versions/1:destroy"),
    ] {
        assert_eq!(told(&bench.ask(method, path, json!({}))), (403, "PERMISSION_DENIED"), "{path}");
    }
}

#[test]
fn reads_by_alias_may_be_late_and_reads_by_number_are_not() {
    let bench = Bench::new();
    bench.add("one");
    bench.add("two");
    let point = |number: &str| {
        bench.ask(Method::PATCH, "/s?updateMask=versionAliases", json!({"versionAliases": {"current": number}}))
    };
    let seen = || {
        bench.ask(Method::GET, "/s/versions/current", Value::Null).1["name"]
            .as_str()
            .unwrap()
            .rsplit('/')
            .next()
            .unwrap()
            .to_owned()
    };
    point("1");
    bench.fake.command("stale", &json!({"count": 2})).unwrap();
    point("2");
    assert_eq!([seen(), seen(), seen()], ["1", "1", "2"]);
    assert_eq!(bench.ask(Method::GET, "/s/versions/2", Value::Null).0, 200);
}
