//! Lines against the published JSON schema, and that schema's fields against the facts of OCSF 1.8.0.

use std::{collections::BTreeSet, net::IpAddr};

use jsonschema::Validator;
use kh_core::{
    Entropy, SeededEntropy, Sha256, UnixMillis,
    port::security::{
        AddressSource, AuthenticationEvent, ClientAddress, Outcome, Presented, Site, TlsSession, TokenDigest, Told,
    },
    trace::TraceContext,
};
use serde_json::{Map, Value, json};

use super::*;
use crate::geo::{Country, Place, Position};

const SCHEMA: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/security-log.schema.json"));
const OCSF: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/ocsf-1.8.0.json"));

fn validator() -> Validator {
    jsonschema::options().should_validate_formats(true).build(&serde_json::from_str(SCHEMA).unwrap()).unwrap()
}

fn id() -> EventId {
    EventId { boot: 0xabc, sequence: 7 }
}

/// An event with everything.
pub(crate) fn full() -> AuthenticationEvent {
    let told = |text: &str| Some(Told::new(text));
    AuthenticationEvent {
        presented: Presented::Bearer,
        route: told("orders"),
        issuer: told("https://id.example"),
        client: told("billing"),
        subject: told("zoë"),
        token: Some(TokenDigest::of(Sha256::of(b"token"))),
        method: told("GET"),
        path_template: told("/orders/{id}"),
        user_agent: told("sdk/1"),
        tls: Some(TlsSession { version: "1.3", cipher: "TLS_AES_256_GCM_SHA384" }),
        client_address: Some(ClientAddress { ip: "81.2.69.160".parse().unwrap(), source: AddressSource::Forwarded }),
        peer: Some("10.0.0.1".parse().unwrap()),
        status: Some(401),
        trace: TraceContext::parse(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ..AuthenticationEvent::new(UnixMillis(1_790_000_000_123), Site::Gateway, Outcome::Failure { reason: "expired" })
    }
}

fn london() -> Place {
    Place {
        country: Country::new("GB"),
        region: Some(Told::new("ENG")),
        city: Some(Told::new("London")),
        position: Some(Position { latitude: 51.5142, longitude: -0.0931, radius_km: 10.0 }),
        asn: Some(20_712),
        operator: Some(Told::new("Andrews & Arnold Ltd")),
    }
}

fn finding(kind: FindingKind) -> Finding {
    Finding {
        kind,
        at: UnixMillis(1_790_000_000_123),
        subject: Some(Told::new("zoë")),
        client: Some(Told::new("billing")),
        address: Some("81.2.69.160".parse().unwrap()),
        place: london(),
        description: "what was compared".to_owned(),
    }
}

fn text(event: &AuthenticationEvent, place: &Place) -> String {
    let mut lines = Vec::new();
    write_authentication(event, place, id(), &mut lines);
    String::from_utf8(lines).unwrap()
}

fn value(event: &AuthenticationEvent, place: &Place) -> Value {
    serde_json::from_str(&text(event, place)).unwrap()
}

fn finding_value(finding: &Finding) -> Value {
    let mut lines = Vec::new();
    write_finding(finding, id(), &mut lines);
    assert_eq!(std::str::from_utf8(&lines).unwrap().lines().count(), 1);
    serde_json::from_slice(&lines).unwrap()
}

fn check(validator: &Validator, line: &Value) {
    let mistakes: Vec<String> =
        validator.iter_errors(line).map(|error| format!("{} at {}", error, error.instance_path())).collect();
    assert!(mistakes.is_empty(), "{mistakes:#?}\n{line:#}");
}

#[test]
fn a_line_with_everything() {
    let expected = json!({
        "activity_id": 1, "activity_name": "Logon",
        "category_uid": 3, "category_name": "Identity & Access Management",
        "class_uid": 3002, "class_name": "Authentication",
        "type_uid": 300_201, "type_name": "Authentication: Logon",
        "time": 1_790_000_000_123_u64,
        "severity_id": 2, "severity": "Low", "status_id": 2, "status": "Failure", "status_code": "expired",
        "message": "a caller was refused",
        "metadata": {
            "version": "1.8.0",
            "product": {"name": "keyholder", "vendor_name": "keyholder", "version": env!("CARGO_PKG_VERSION")},
            "log_name": "security", "uid": "0000000000000abc-7", "sequence": 7,
            "correlation_uid": "4bf92f3577b34da6a3ce929d0e0e4736",
        },
        "user": {"uid": "zoë", "type": "User", "type_id": 1},
        "actor": {"app_uid": "billing"},
        "session": {"uid": Sha256::of(b"token").to_hex()[..16], "issuer": "https://id.example"},
        "service": {"name": "gateway", "uid": "orders"},
        "auth_protocol_id": 6, "auth_protocol": "OAUTH 2.0", "logon_type_id": 3, "logon_type": "Network",
        "is_remote": true,
        "src_endpoint": {
            "ip": "81.2.69.160", "intermediate_ips": ["10.0.0.1"],
            "location": {"country": "GB", "region": "ENG", "city": "London", "lat": 51.5142, "long": -0.0931},
            "autonomous_system": {"number": 20_712, "name": "Andrews & Arnold Ltd"},
        },
        "http_request": {"http_method": "GET", "url": {"path": "/orders/{id}"}, "user_agent": "sdk/1"},
        "http_response": {"code": 401},
        "unmapped": {
            "presented": "bearer", "identity_verified": false, "client_address_source": "forwarded",
            "tls_version": "1.3", "tls_cipher": "TLS_AES_256_GCM_SHA384",
        },
    });
    assert_eq!(value(&full(), &london()), expected);
}

/// Every combination of what may be missing, every site and everything that may be shown.
#[test]
fn every_line_is_valid_by_the_published_schema() {
    let validator = validator();
    check(&validator, &value(&full(), &london()));
    let sites = [Site::Gateway, Site::TokenEndpoint, Site::Admin, Site::Broker, Site::Events];
    let shown = [
        Presented::Nothing,
        Presented::Bearer,
        Presented::DPoP,
        Presented::Basic,
        Presented::ClientSecretPost,
        Presented::Certificate,
        Presented::Signature,
        Presented::Other,
    ];
    let entropy = SeededEntropy::new(5);
    let maybe = |there: &mut u64| {
        *there >>= 1;
        *there & 1 == 1
    };
    for round in 0..4_000_usize {
        let mut bits = entropy.below(u64::MAX);
        let event = full();
        let mut place = london();
        let event = AuthenticationEvent {
            site: sites[round % sites.len()],
            presented: shown[round % 7],
            outcome: if maybe(&mut bits) { Outcome::Success } else { event.outcome },
            verified: maybe(&mut bits),
            route: event.route.filter(|_| maybe(&mut bits)),
            issuer: event.issuer.filter(|_| maybe(&mut bits)),
            client: event.client.filter(|_| maybe(&mut bits)),
            subject: event.subject.filter(|_| maybe(&mut bits)),
            token: event.token.filter(|_| maybe(&mut bits)),
            method: event.method.filter(|_| maybe(&mut bits)),
            path_template: event.path_template.filter(|_| maybe(&mut bits)),
            user_agent: event.user_agent.filter(|_| maybe(&mut bits)),
            tls: event.tls.filter(|_| maybe(&mut bits)),
            client_address: event.client_address.filter(|_| maybe(&mut bits)),
            peer: event.peer.filter(|_| maybe(&mut bits)),
            status: event.status.filter(|_| maybe(&mut bits)),
            trace: event.trace.filter(|_| maybe(&mut bits)),
            at: event.at,
        };
        place.country = place.country.filter(|_| maybe(&mut bits));
        place.region = place.region.filter(|_| maybe(&mut bits));
        place.city = place.city.filter(|_| maybe(&mut bits));
        place.position = place.position.filter(|_| maybe(&mut bits));
        place.asn = place.asn.filter(|_| maybe(&mut bits));
        place.operator = place.operator.filter(|_| maybe(&mut bits));
        check(&validator, &value(&event, &place));
    }
    for kind in FindingKind::ALL {
        check(&validator, &finding_value(&finding(kind)));
        let bare = Finding { subject: None, client: None, address: None, place: Place::default(), ..finding(kind) };
        check(&validator, &finding_value(&bare));
    }
}

#[test]
fn the_schema_refuses_what_is_no_line() {
    let validator = validator();
    let good = value(&full(), &london());
    for (pointer, bad) in [
        ("/class_uid", json!(3001)),
        ("/status_id", json!(1)),
        ("/src_endpoint/ip", json!("nowhere")),
        ("/session/uid", json!("eyJhbGciOi")),
        ("/http_request/user_agent", json!("x".repeat(257))),
        ("/unmapped/token", json!("x")),
        ("/src_endpoint/location", json!({"lat": 1.0, "long": 1.0})),
    ] {
        let mut line = good.clone();
        match line.pointer_mut(pointer) {
            Some(place) => *place = bad,
            None => drop(line["unmapped"].as_object_mut().unwrap().insert("token".to_owned(), bad)),
        }
        assert!(!validator.is_valid(&line), "{pointer}");
    }
}

/// What OCSF says of an attribute: it is there, of this type, and for a number of a list its caption stands beside it.
fn check_object(facts: &Value, of: &Value, object: &Map<String, Value>, path: &str) {
    let attributes = of["attributes"].as_object().unwrap();
    for (name, fact) in attributes {
        assert!(fact["requirement"] != "required" || object.contains_key(name), "{path}.{name} is required");
    }
    if let Some(one_of) = of.pointer("/constraints/at_least_one") {
        let named = one_of.as_array().unwrap().iter().any(|name| object.contains_key(name.as_str().unwrap()));
        assert!(named, "{path} has none of {one_of}");
    }
    for (name, value) in object {
        let path = format!("{path}.{name}");
        let fact = attributes.get(name).unwrap_or_else(|| panic!("{path} is not in the schema"));
        assert!(fact.get("deprecated").is_none(), "{path} is deprecated");
        let kind = fact["type"].as_str().unwrap();
        match kind.strip_suffix("[]") {
            None => check_value(facts, fact, kind, value, object, &path),
            Some(kind) => {
                for value in value.as_array().unwrap() {
                    check_value(facts, fact, kind, value, object, &path);
                }
            }
        }
    }
}

fn check_value(facts: &Value, fact: &Value, kind: &str, value: &Value, within: &Map<String, Value>, path: &str) {
    match kind {
        "string_t" | "username_t" => assert!(value.is_string(), "{path}"),
        "integer_t" | "long_t" | "timestamp_t" => assert!(value.is_u64(), "{path}"),
        "float_t" => assert!(value.is_f64(), "{path}"),
        "boolean_t" => assert!(value.is_boolean(), "{path}"),
        "ip_t" => assert!(value.as_str().unwrap().parse::<IpAddr>().is_ok(), "{path}"),
        // `unmapped`: whatever has no place
        "object" => assert!(value.is_object(), "{path}"),
        _ => {
            let of = facts["objects"].get(kind).unwrap_or_else(|| panic!("{path} has the unknown type {kind}"));
            return check_object(facts, of, value.as_object().unwrap(), path);
        }
    }
    let (name, number) = (path.rsplit('.').next().unwrap(), value.to_string());
    // the number of a class, a category and a type is generated, and checked with the class
    if let Some(captions) = fact.get("enum").filter(|_| name.ends_with("_id")) {
        let caption = captions.get(&number).unwrap_or_else(|| panic!("{path} has no value {number}"));
        let label = name.strip_suffix("_id").unwrap();
        let label = if label == "activity" { "activity_name" } else { label };
        // 99, Other, has a name of the source's own
        assert!(number == "99" || within[label] == *caption, "{path}: {caption} is not {}", within[label]);
    }
}

#[test]
fn every_field_is_one_of_ocsf_1_8_0() {
    let facts: Value = serde_json::from_str(OCSF).unwrap();
    assert_eq!(facts["version"], VERSION);
    let mut lines = Vec::new();
    let shown = [Presented::Nothing, Presented::Bearer, Presented::Basic, Presented::Certificate];
    for (presented, outcome) in
        shown.into_iter().zip([full().outcome, Outcome::Success, Outcome::Success, full().outcome])
    {
        lines.push(("authentication", value(&AuthenticationEvent { presented, outcome, ..full() }, &london())));
    }
    let bare = AuthenticationEvent::new(UnixMillis(1), Site::Broker, full().outcome);
    lines.push(("authentication", value(&bare, &Place::default())));
    for kind in FindingKind::ALL {
        lines.push(("detection_finding", finding_value(&finding(kind))));
    }
    for (class, line) in lines {
        let of = &facts["classes"][class];
        check_object(&facts, of, line.as_object().unwrap(), class);
        assert_eq!((&line["class_uid"], &line["class_name"]), (&of["class_uid"], &of["caption"]));
        assert_eq!((&line["category_uid"], &line["category_name"]), (&of["category_uid"], &of["category"]));
        let number = of["class_uid"].as_u64().unwrap() * 100 + line["activity_id"].as_u64().unwrap();
        assert_eq!(line["type_uid"], number);
        let name = format!("{}: {}", of["caption"].as_str().unwrap(), line["activity_name"].as_str().unwrap());
        assert_eq!(line["type_name"], name);
    }
}

#[test]
fn the_schema_names_every_field_that_is_written() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let named: BTreeSet<&str> =
        schema["$defs"]["authentication"]["properties"].as_object().unwrap().keys().map(String::as_str).collect();
    let line = value(&full(), &london());
    let written: BTreeSet<&str> = line.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(written, named, "a line with everything has every field of the schema, and no other");
}

#[test]
fn who_it_is_about() {
    let told = |text: &str| Some(Told::new(text));
    for (subject, client, uid, kind) in [
        (told("zoe"), told("app"), json!("zoe"), "User"),
        (told("app"), told("app"), json!("app"), "Service"),
        (None, told("app"), json!("app"), "Service"),
        (told("zoe"), None, json!("zoe"), "Unknown"),
        (None, None, Value::Null, "Unknown"),
    ] {
        let line = value(&AuthenticationEvent { subject, client, ..full() }, &Place::default());
        assert_eq!((&line["user"]["uid"], &line["user"]["type"]), (&uid, &json!(kind)));
    }
}

#[test]
fn from_this_machine_is_not_remote() {
    let from = |ip: Option<&str>| {
        let event = AuthenticationEvent { client_address: None, peer: ip.map(|ip| ip.parse().unwrap()), ..full() };
        value(&event, &Place::default())["is_remote"].clone()
    };
    assert_eq!(
        [from(None), from(Some("127.0.0.1")), from(Some("::1")), from(Some("10.0.0.1"))],
        [false, false, false, true]
    );
}

/// Whatever a caller sends in every field: one line, valid, and nothing of it looks like another field.
#[test]
fn nothing_that_is_sent_forges_a_line() {
    let validator = validator();
    let entropy = SeededEntropy::new(3002);
    let attacks = [
        "\"}\n{\"class_uid\":3002,\"status_id\":1}",
        "\\\"\\u000a",
        "\u{2028}\u{2029}\u{85}\u{b}\u{c}",
        "</script><script>",
        "\u{202e}txt.exe",
        "\0\u{1b}[31m",
        "{{7*7}} ${jndi:ldap://x}",
        "\u{feff}",
        "\\",
        "\"",
    ];
    for round in 0..3_000_usize {
        let mut bytes = [0; 64];
        entropy.fill(&mut bytes);
        let hostile = if round < attacks.len() { Told::new(attacks[round]) } else { Told::of_bytes(&bytes) };
        let some = || Some(hostile.clone());
        let event = AuthenticationEvent {
            route: some(),
            issuer: some(),
            client: some(),
            subject: some(),
            method: some(),
            path_template: some(),
            user_agent: some(),
            ..full()
        };
        let text = text(&event, &london());
        let ends = text
            .chars()
            .filter(|letter| matches!(letter, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{b}' | '\u{c}'));
        assert_eq!((ends.count(), text.ends_with('\n')), (1, true));
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&line["status_id"], &line["user"]["uid"]), (&json!(2), &json!(hostile.as_str())));
        if round < 200 {
            check(&validator, &line);
        }
    }
}
