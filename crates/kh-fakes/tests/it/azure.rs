//! The rules of the fake vault, each as one statement.

use http::{HeaderMap, HeaderValue, Method};
use kh_fakes::{Fake, FakeClock, Reply, Request, azure::KeyVault};
use serde_json::{Value, json};

/// The vault, its clock, and a token.
struct Bench {
    vault: KeyVault,
    clock: FakeClock,
    token: String,
}

impl Bench {
    fn new() -> Self {
        let vault = KeyVault::default();
        let clock = FakeClock::default();
        clock.freeze();
        let known = vault.credentials();
        let text = |name: &str| known[name].as_str().unwrap().to_owned();
        let form = format!(
            "grant_type=client_credentials&client_id={}&client_secret={}&scope=https%3A%2F%2Fvault.azure.net%2F.default",
            text("client_id"),
            text("client_secret")
        );
        let mut bench = Self { vault, clock, token: String::new() };
        let login = bench.login(&form);
        assert_eq!(login.status, 200);
        body(&login)["access_token"].as_str().unwrap().clone_into(&mut bench.token);
        bench
    }

    fn login(&self, form: &str) -> Reply {
        let known = self.vault.credentials();
        let path = format!("/{}/oauth2/v2.0/token", known["tenant"].as_str().unwrap());
        let mut request = request("https://login.microsoftonline.com", Method::POST, &path, form.as_bytes());
        let media = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers.insert("content-type", media);
        self.vault.answer(&request, &self.clock)
    }

    fn ask_as(&self, token: Option<&str>, method: Method, path: &str, body: &Value) -> Reply {
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let (path, query) = path.split_once('?').unwrap_or((path, "api-version=7.4"));
        let mut request = request("https://acme.vault.azure.net", method, path, &bytes);
        query.clone_into(&mut request.query);
        if let Some(token) = token {
            request.headers.insert("authorization", HeaderValue::from_str(&format!("Bearer {token}")).unwrap());
        }
        self.vault.answer(&request, &self.clock)
    }

    fn ask(&self, method: Method, path: &str, body: impl Into<Value>) -> (u16, Value) {
        let reply = self.ask_as(Some(&self.token), method, path, &body.into());
        (reply.status, self::body(&reply))
    }

    fn set(&self, name: &str, value: &str) -> String {
        let (status, made) = self.ask(Method::PUT, &format!("/secrets/{name}"), json!({"value": value}));
        assert_eq!(status, 200, "{made}");
        made["id"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()
    }
}

fn request(origin: &str, method: Method, path: &str, body: &[u8]) -> Request {
    Request {
        method,
        origin: origin.to_owned(),
        path: path.to_owned(),
        query: String::new(),
        headers: HeaderMap::new(),
        body: body.to_vec().into(),
    }
}

fn body(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).unwrap_or_default()
}

fn inner(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["error"]["innererror"]["code"].as_str().unwrap_or_default())
}

#[test]
fn without_a_live_token_there_is_a_challenge() {
    let bench = Bench::new();
    for token in [None, Some("another")] {
        let reply = bench.ask_as(token, Method::GET, "/secrets/a", &Value::Null);
        assert_eq!(reply.status, 401);
        let challenge = &reply.headers.iter().find(|(name, _)| name == "www-authenticate").unwrap().1;
        assert!(challenge.contains("resource=\"https://vault.azure.net\"") && challenge.starts_with("Bearer "));
    }
    bench.set("a", "v");
    bench.clock.shift(3_600);
    assert_eq!(bench.ask(Method::GET, "/secrets/a", Value::Null).0, 401, "a token ends");
}

#[test]
fn the_token_endpoint_takes_one_application() {
    let bench = Bench::new();
    let known = bench.vault.credentials();
    let base = format!(
        "grant_type=client_credentials&client_id={}&scope=https://vault.azure.net/.default",
        known["client_id"].as_str().unwrap()
    );
    let assertion = "&client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer&client_assertion=";
    let good = format!("{base}{assertion}{}", known["federated_token"].as_str().unwrap());
    assert_eq!(bench.login(&good).status, 200);
    for (form, code) in [
        (format!("{base}{assertion}another"), 7_000_215),
        (format!("{base}&client_secret=another"), 7_000_215),
        (base.replace("client_id=a", "client_id=b"), 700_016),
        (good.replace("vault.azure.net", "graph.microsoft.com"), 70_011),
        (good.replace("client_credentials", "password"), 70_003),
    ] {
        assert_eq!(body(&bench.login(&form))["error_codes"][0], code, "{form}");
    }
    let tenant = known["tenant"].as_str().unwrap();
    let at = |tenant: &str| {
        request("https://login.microsoftonline.com", Method::POST, &format!("/{tenant}/oauth2/v2.0/token"), b"")
    };
    let no_form = bench.vault.answer(&at(tenant), &bench.clock);
    assert_eq!((no_form.status, &body(&no_form)["error"]), (400, &json!("invalid_request")));
    let mut stranger = at("another");
    stranger.headers.insert("content-type", HeaderValue::from_static("application/x-www-form-urlencoded"));
    assert_eq!(body(&bench.vault.answer(&stranger, &bench.clock))["error"], "invalid_tenant");
}

#[test]
fn the_metadata_service_wants_its_header_and_no_tls() {
    let bench = Bench::new();
    let ask = |origin: &str, header: bool, query: &str| {
        let mut request = request(origin, Method::GET, "/metadata/identity/oauth2/token", b"");
        query.clone_into(&mut request.query);
        if header {
            request.headers.insert("metadata", HeaderValue::from_static("true"));
        }
        bench.vault.answer(&request, &bench.clock).status
    };
    let query = "api-version=2019-08-01&resource=https://vault.azure.net";
    assert_eq!(ask("http://169.254.169.254", true, query), 200);
    assert_eq!(ask("http://169.254.169.254", false, query), 400);
    assert_eq!(ask("https://169.254.169.254", true, query), 404);
    assert_eq!(ask("http://169.254.169.254", true, "resource=https://vault.azure.net"), 400);
    assert_eq!(ask("http://169.254.169.254", true, &format!("{query}&client_id=other")), 400);
    assert_eq!(ask("http://169.254.169.254", true, "api-version=2019-08-01&resource=https://graph"), 400);
}

#[test]
fn the_newest_version_is_the_one_made_last() {
    let bench = Bench::new();
    let versions: Vec<String> = (0..8).map(|number| bench.set("a", &format!("value {number}"))).collect();
    let (_, newest) = bench.ask(Method::GET, "/secrets/a/", Value::Null);
    assert_eq!(newest["value"], "value 7");
    let (_, first) = bench.ask(Method::GET, &format!("/secrets/a/{}", versions[0]), Value::Null);
    assert_eq!(first["value"], "value 0");
    let (_, page) = bench.ask(Method::GET, "/secrets/a/versions", Value::Null);
    let listed: Vec<&str> = page["value"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap()).collect();
    assert!(listed.is_sorted(), "lists are in the order of the names");
    assert!(!listed.iter().zip(&versions).all(|(id, version)| id.ends_with(version)), "which is not that of their age");
    assert!(page["value"].as_array().unwrap().iter().all(|item| item.get("value").is_none()));
}

#[test]
fn lists_have_pages_of_at_most_25() {
    let bench = Bench::new();
    (0..60).for_each(|number| drop(bench.set(&format!("s-{number:02}"), "v")));
    let mut next = "/secrets?api-version=7.4".to_owned();
    let mut sizes = Vec::new();
    while !next.is_empty() {
        let (status, page) = bench.ask(Method::GET, &next, Value::Null);
        assert_eq!(status, 200);
        sizes.push(page["value"].as_array().unwrap().len());
        next = page["nextLink"].as_str().unwrap_or_default().replace("https://acme.vault.azure.net", "");
    }
    assert_eq!(sizes, [25, 25, 10]);
    assert_eq!(bench.ask(Method::GET, "/secrets?api-version=7.4&maxresults=26", Value::Null).0, 400);
}

#[test]
fn a_disabled_version_cannot_be_read() {
    let bench = Bench::new();
    let version = bench.set("a", "v");
    let off = json!({"attributes": {"enabled": false}, "tags": {"k": "v"}});
    let (status, told) = bench.ask(Method::PATCH, &format!("/secrets/a/{version}"), off);
    assert_eq!((status, &told["tags"]["k"], told.get("value")), (200, &json!("v"), None));
    assert_eq!(inner(&bench.ask(Method::GET, "/secrets/a", Value::Null)), (403, "SecretDisabled"));
    let by_version = bench.ask(Method::GET, &format!("/secrets/a/{version}"), Value::Null);
    assert_eq!(inner(&by_version), (403, "SecretDisabled"));
    bench.set("a", "w");
    assert_eq!(bench.ask(Method::GET, "/secrets/a", Value::Null).1["value"], "w");
}

#[test]
fn a_deleted_name_is_taken() {
    let bench = Bench::new();
    bench.set("a", "v");
    let (status, told) = bench.ask(Method::DELETE, "/secrets/a", Value::Null);
    assert_eq!((status, &told["recoveryId"]), (200, &json!("https://acme.vault.azure.net/deletedsecrets/a")));
    assert_eq!(bench.ask(Method::GET, "/secrets/a", Value::Null).0, 404);
    let again = bench.ask(Method::PUT, "/secrets/a", json!({"value": "w"}));
    assert_eq!(inner(&again), (409, "ObjectIsDeletedButRecoverable"));
    bench.vault.command("recovery", &json!({"count": 1})).unwrap();
    assert_eq!(bench.ask(Method::POST, "/deletedsecrets/a/recover", Value::Null).0, 200);
    let again = bench.ask(Method::PUT, "/secrets/a", json!({"value": "w"}));
    assert_eq!(inner(&again), (409, "ObjectIsBeingRecovered"));
    bench.set("a", "w");
    bench.ask(Method::DELETE, "/secrets/a", Value::Null);
    assert_eq!(bench.ask(Method::DELETE, "/deletedsecrets/a", Value::Null).0, 204);
    assert_eq!(bench.ask(Method::GET, "/deletedsecrets/a", Value::Null).0, 404);
    bench.set("a", "x");
}

#[test]
fn what_does_not_fit_is_refused() {
    let bench = Bench::new();
    for (path, value) in [
        ("/secrets/under_score", json!({"value": "v"})),
        ("/secrets/a", json!({})),
        ("/secrets/a", json!({"value": "x".repeat(25_601)})),
        (
            "/secrets/a",
            json!({"value": "v", "tags": (0..16).map(|n| (n.to_string(), "t")).collect::<std::collections::BTreeMap<_, _>>()}),
        ),
        ("/secrets/a?x=y", json!({"value": "v"})),
    ] {
        let (status, answer) = bench.ask(Method::PUT, path, value);
        assert_eq!((status, &answer["error"]["code"]), (400, &json!("BadParameter")), "{path}");
    }
    bench.set("a", &"x".repeat(25_600));
    let nowhere = bench.ask(Method::GET, "/keys/a", Value::Null);
    assert_eq!((nowhere.0, &nowhere.1["error"]["code"]), (404, &json!("NotFound")));
    assert_eq!(bench.ask(Method::PATCH, "/secrets/a", json!({"value": "w"})).0, 400, "a value never changes");
}

#[test]
fn each_right_is_asked_for() {
    let bench = Bench::new();
    bench.set("a", "v");
    bench.vault.command("rights", &json!({"rights": []})).unwrap();
    for (method, path) in [
        (Method::GET, "/secrets/a"),
        (Method::GET, "/secrets"),
        (Method::PUT, "/secrets/a"),
        (Method::DELETE, "/secrets/a"),
        (Method::POST, "/deletedsecrets/a/recover"),
        (Method::DELETE, "/deletedsecrets/a"),
    ] {
        let answer = bench.ask(method, path, json!({"value": "w"}));
        assert_eq!(inner(&answer), (403, "AccessDenied"), "{path}");
    }
}
