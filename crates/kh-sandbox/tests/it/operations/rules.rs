//! Requests that the platform refuses, requests that it takes although they look odd, permissions and bounds.

use http::Method;
use kh_sandbox::operations::{Lookup, Needed, Operations, PermissionSet, StoreLimits};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::client::Client;

const QUEUES: &str = "/api/v2/routing/queues";

#[test]
fn a_wrong_body_is_refused_with_the_platforms_error() {
    let client = Client::new(1);
    let refused = |body: &[u8], code: &str| {
        let answer = client.send("POST", QUEUES, Some("application/json"), body);
        assert_eq!(answer.status, 400, "{answer:?}");
        assert_eq!(answer.json().unwrap()["code"], json!(code), "{answer:?}");
        answer.json().unwrap().clone()
    };
    refused(b"{\"name\":", "bad.request");
    refused(b"\xff\xfe", "bad.request");
    refused(b"", "bad.request");
    refused(b"null", "bad.request");
    refused(b"[]", "bad.request");
    let error = refused(br#"{"description": "no name"}"#, "bad.request");
    assert_eq!(error["details"][0]["fieldName"], json!("name"));
    let error = refused(br#"{"name": "x", "scoringMethod": "Coin"}"#, "invalid.value");
    assert_eq!(error["details"][0]["fieldName"], json!("scoringMethod"));
    assert!(error["message"].as_str().unwrap().contains("TimestampAndPriority"), "{error}");
    refused(br#"{"name": {"first": "x"}}"#, "bad.request");
    let xml = client.send("POST", QUEUES, Some("text/xml"), b"<queue/>");
    assert_eq!((xml.status, &xml.json().unwrap()["code"]), (415, &json!("unsupported.media.type")));
}

#[test]
fn deep_nesting_is_refused_not_fatal() {
    let client = Client::new(1);
    let deep = format!("{{\"name\":\"x\",\"mediaSettings\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(client.send("POST", QUEUES, Some("application/json"), deep.as_bytes()).status, 400);
}

#[test]
fn what_official_sdks_send_is_taken() {
    let client = Client::new(1);
    // `null` and an empty body where none is needed, Content-Type on GET and DELETE.
    let path = "/api/v2/oauth/clients/c1/secret";
    for body in [&b"null"[..], b"", b" \n"] {
        assert_eq!(client.send("POST", path, Some("application/json"), body).status, 200);
    }
    assert_eq!(client.send("GET", QUEUES, Some("application/json"), b"null").status, 200);
    let optional = client
        .operations
        .all()
        .iter()
        .filter(|operation| operation.method() == "PATCH" && client.operations.sample_body(operation, 1).is_some());
    assert!(optional.count() > 10);
    let charset =
        client.send("POST", QUEUES, Some("application/json; charset=UTF-8"), br#"{"name": "x", "unknown": 1}"#);
    assert_eq!(charset.status, 200, "unknown members are dropped: {charset:?}");
    assert!(charset.json().unwrap().get("unknown").is_none());
    let bare = client.send("POST", QUEUES, None, br#"{"name": "y"}"#);
    assert_eq!(bare.status, 200);
}

#[test]
fn uploads_are_taken() {
    let client = Client::new(1);
    let multipart = b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.csv\"\r\n\r\nx\r\n--b--\r\n";
    let content_type = Some("multipart/form-data; boundary=b");
    let answer = client.send("POST", "/api/v2/uploads/recordings", content_type, multipart);
    assert!((200..300).contains(&answer.status), "{answer:?}");
}

#[test]
fn required_parameters_are_asked_for() {
    let client = Client::new(1);
    let operation = client.operations.all().iter().find(|operation| operation.operation_id() == "getSearch").unwrap();
    let without = client.call("GET", operation.template(), None);
    assert_eq!((without.status, &without.json().unwrap()["code"]), (400, &json!("bad.request")));
    let query = client.operations.sample_query(operation, 1);
    client.ok("GET", &format!("{}?{query}", operation.template()), None);
    client.refused(400, "invalid.query.param.value", "GET", "/api/v2/routing/queues?sortOrder=sideways", None);
    client.refused(400, "invalid.query.param.value", "GET", "/api/v2/routing/queues?pageSize=x", None);
}

#[test]
fn unknown_paths_methods_and_parents_are_told_apart() {
    let operations = Operations::shared();
    assert!(matches!(operations.find(&Method::GET, "/api/v2/api-docs"), Lookup::NotFound));
    assert!(matches!(operations.find(&Method::GET, "/api/v2/routing/queues/"), Lookup::NotFound));
    let Lookup::MethodNotAllowed { allowed } = operations.find(&Method::DELETE, QUEUES) else { panic!("405 expected") };
    assert!(allowed.contains(&"GET".into()) && allowed.contains(&"POST".into()), "{allowed:?}");
    let client = Client::new(1);
    client.refused(404, "not.found", "GET", "/api/v2/routing/queues/unknown/members", None);
}

#[test]
fn permissions_come_from_the_published_list() {
    let operations = Operations::shared();
    let named = |id: &str| operations.all().iter().find(|operation| operation.operation_id() == id).unwrap();
    let gap = |id: &str, grants: &[&str]| named(id).permission_gap(&PermissionSet::new(grants)).map(|gap| gap.code());
    assert_eq!(gap("postOauthClients", &["oauth:client:view"]), Some("missing.any.permissions"));
    assert_eq!(gap("postOauthClients", &["oauth:client:add"]), None);
    assert_eq!(gap("postOauthClients", &["oauth:*:*"]), None);
    assert_eq!(gap("deleteAlertingAlertsAll", &[]), Some("missing.permissions"));
    assert_eq!(gap("headTokensMe", &[]), None);
    let everything = PermissionSet::all();
    let nothing = PermissionSet::default();
    let mut guarded = [0; 2];
    for operation in operations.all() {
        assert_eq!(operation.permission_gap(&everything), None, "{}", operation.operation_id());
        let gap = operation.permission_gap(&nothing);
        assert_eq!(gap.is_some(), operation.requirement().is_some());
        if let Some(gap) = gap {
            guarded[usize::from(gap.needed == Needed::All)] += 1;
        }
    }
    // 2,006 ANY less the one whose list is a sentence, and 803 ALL.
    assert_eq!(guarded, [2005, 803]);
    let open = operations.all().iter().filter(|operation| !operation.requires_authentication()).count();
    assert!((33..60).contains(&open), "{open}");
    assert_eq!(named("getUsers").scopes(), ["users".into(), "users:readonly".into()]);
}

#[test]
fn a_full_store_says_so_and_has_room_again_after_a_deletion() {
    let limits = StoreLimits { per_collection: 5, ..StoreLimits::default() };
    let client = Client::with_limits(1, limits);
    let create = |name: &str| client.call("POST", QUEUES, Some(&json!({"name": name})));
    let mut made = Vec::new();
    let full = loop {
        let answer = create("more");
        if answer.status != 200 {
            break answer;
        }
        made.push(answer.json().unwrap()["id"].as_str().unwrap().to_owned());
        assert!(made.len() <= 5, "the bound holds");
    };
    assert_eq!((full.status, &full.json().unwrap()["code"]), (400, &json!("sandbox.store.full")));
    client.call("DELETE", &format!("{QUEUES}/{}", made[0]), None);
    assert_eq!(create("again").status, 200);
}

#[test]
fn the_seeds_are_whole() {
    let client = Client::new(1);
    let seeds: std::collections::BTreeMap<String, Vec<Value>> =
        serde_json::from_str(include_str!("../../../data/seeds.json")).unwrap();
    let planted: usize = seeds.values().map(Vec::len).sum();
    assert_eq!(client.store.len(), planted, "every seed was planted");
    for (collection, entities) in seeds {
        let listed = client.ok("GET", &collection, None);
        for (seed, shown) in entities.iter().zip(listed["entities"].as_array().unwrap()) {
            assert_eq!((&seed["id"], &seed["name"]), (&shown["id"], &shown["name"]), "{collection}");
        }
    }
}

proptest! {
    #[test]
    fn no_path_query_or_body_panics(
        path in "/api/v2/(users|routing/queues|groups|[a-z]{1,6})(/\\PC{0,12}){0,4}",
        query in "\\PC{0,40}",
        page in any::<u64>(),
        body in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let client = Client::new(1);
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"] {
            if let Some(found) = client.find(method, &path) {
                let context = kh_sandbox::operations::Context { now: client.now, correlation_id: "c", caller_id: "u" };
                for query in [query.clone(), format!("pageNumber={page}&pageSize={page}")] {
                    let view = kh_sandbox::operations::RequestView { query: &query, content_type: None, body: &body };
                    let answer = client.operations.answer(&client.store, &found, &view, &context);
                    prop_assert!((200..500).contains(&answer.status));
                }
            }
        }
    }
}
