//! What a desk takes of events, and what it does for them.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use kh_core::{
    SecretString, Sha256,
    port::{BoxFuture, RevocationStore, inbound::PlacedRevocation},
    revocation::{RevocationRecord, RevocationTarget},
};
use serde_json::{Value, json};

use super::*;
use crate::Caps;

/// 2026-11-21T00:00:00Z.
const START: UnixMillis = UnixMillis(1_795_219_200_000);

/// The platform's organisation in the sample.
const ORG: &str = "23faea37-1117-4c0a-88a2-572c46780b03";

fn now(after: Duration) -> Now {
    Now { wall: START.plus(after), mono: after }
}

/// The key of the standard's own examples.
const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn keys(text: &str) -> EventKeys {
    EventKeys::parse(&SecretString::copied(text)).unwrap()
}

/// A signature by the rules of the standard, made without the code under test.
fn signed(key: &str, id: &str, seconds: u64, body: &[u8]) -> String {
    let key = STANDARD.decode(key.strip_prefix("whsec_").unwrap()).unwrap();
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &key);
    let message = [format!("{id}.{seconds}.").as_bytes(), body].concat();
    format!("v1,{}", STANDARD.encode(aws_lc_rs::hmac::sign(&key, &message)))
}

/// The official sample of an audit event: an OAuth client was deleted.
fn sample() -> Value {
    json!({
        "version": "0",
        "id": "e9938ff0-50e2-45f8-950f-ad02d95fee85",
        "detail-type": "v2.audits.entitytype.{id}.entityid.{id}",
        "source": format!("aws.partner/genesys.com/cloud/{ORG}/quickstart-test"),
        "account": "490606849374",
        "time": "2021-05-31T09:49:26Z",
        "region": "us-east-1",
        "resources": [],
        "detail": {
            "topicName": "v2.audits.entitytype.OAuthClient.entityid.46a10c81-ca63-4bfe-bc9d-3fbf41ee06b5",
            "version": "2",
            "eventBody": {
                "id": "128b506d-0a67-4e8c-a27c-fd3ed9566094",
                "userId": "d7ff136e-8f5a-4878-a0ae-e2138ad0345d",
                "userHomeOrgId": ORG,
                "username": { "id": "" },
                "clientId": { "id": "46a10c81-ca63-4bfe-bc9d-3fbf41ee06b5" },
                "serviceName": "PeoplePermissions",
                "eventTime": "2021-05-31T09:49:25.000Z",
                "action": "Delete",
                "entityType": "OAuthClient",
                "entity": { "id": "46a10c81-ca63-4bfe-bc9d-3fbf41ee06b5", "name": "My OAuth Client" },
                "propertyChanges": [{ "property": "deleted_on", "newValues": ["2021-05-31T09:44:53Z"] }]
            },
            "metadata": { "CorrelationId": "8f725aa1-d831-4fb3-a8ea-9ccf7d44db68-archival" },
            "timestamp": "2021-05-31T09:49:26.031Z"
        }
    })
}

fn parse(event: &Value) -> Result<PlatformEvent, EventError> {
    PlatformEvent::parse(event.to_string().as_bytes())
}

#[test]
fn the_official_sample() {
    let event = parse(&sample()).unwrap();
    assert_eq!(event.id, "e9938ff0-50e2-45f8-950f-ad02d95fee85");
    assert_eq!(event.organization.as_deref(), Some(ORG));
    let client = Some("46a10c81-ca63-4bfe-bc9d-3fbf41ee06b5".to_owned());
    assert_eq!(event.effect, Effect::AskAnew { client });
}

/// `topic body -> effect`
#[test]
fn what_events_mean() {
    let audit = |entity: &str, action: &str| json!({ "entityType": entity, "action": action, "entity": { "id": "e" } });
    let system = "v2.system.token_revoked.d7ff136e";
    for (topic, body, effect) in [
        (system, json!({ "oauthClientId": "c", "userId": "u", "reason": "user_tokens_revoked" }), "client c"),
        ("v2.system.token_revoked", json!({ "oauthClientId": "c" }), "client c"),
        (system, json!({ "userId": "u" }), "all"),
        (system, json!({ "oauthClientId": null }), "all"),
        (system, json!({ "oauthClientId": "two words" }), "all"),
        (system, json!({ "oauthClientId": "x".repeat(300) }), "all"),
        ("v2.system.token_revoked_not", json!({}), "unknown"),
        ("v2.audits.entitytype.OAuthClient.entityid.e", audit("OAuthClient", "Delete"), "client e"),
        ("v2.audits.entitytype.OAuthClient.entityid.e", audit("OAuthClient", "Update"), "client e"),
        ("v2.audits.entitytype.OAuthClient.entityid.e", audit("OAuthClient", "Create"), "none"),
        ("v2.audits.entitytype.AccessToken.entityid.e", audit("AccessToken", "Revoke"), "all"),
        ("v2.audits.entitytype.AccessToken.entityid.e", audit("AccessToken", "Create"), "none"),
        ("v2.audits.entitytype.AuthUser.entityid.e", audit("AuthUser", "Delete"), "all"),
        ("v2.audits.entitytype.Queue.entityid.e", audit("Queue", "Delete"), "none"),
        ("v2.audits.entitytype.Queue.entityid.e", json!({}), "none"),
        ("v2.users.u.tokens", json!({ "tokenHash": "h" }), "unknown"),
        ("v2.routing.queues.q.conversations", json!({}), "unknown"),
    ] {
        let mut event = sample();
        event["detail"]["topicName"] = json!(topic);
        event["detail"]["eventBody"] = body.clone();
        let told = match parse(&event).unwrap().effect {
            Effect::AskAnew { client: Some(client) } => format!("client {client}"),
            Effect::AskAnew { client: None } => "all".to_owned(),
            Effect::None => "none".to_owned(),
            Effect::UnknownTopic => "unknown".to_owned(),
        };
        assert_eq!(told, effect, "{topic} {body}");
    }
}

#[test]
fn what_is_no_event() {
    for (path, value) in [
        ("/id", json!("")),
        ("/id", json!("two words")),
        ("/id", json!(7)),
        ("/id", json!("x".repeat(300))),
        ("/source", json!(null)),
        ("/detail", json!([])),
        ("/detail/topicName", json!("a\nb")),
        ("/detail/eventBody", json!("text")),
        ("/detail/eventBody/entity", json!("e")),
    ] {
        let mut event = sample();
        *event.pointer_mut(path).unwrap() = value.clone();
        assert_eq!(parse(&event), Err(EventError::Shape), "{path} = {value}");
    }
    for bytes in [&b""[..], b"{}", b"[]", b"\xff", br#"{"id":"a","id":"b"}"#] {
        assert_eq!(PlatformEvent::parse(bytes), Err(EventError::Shape));
    }
    assert_eq!(PlatformEvent::parse(&vec![b' '; EVENT_BYTES_MAX + 1]), Err(EventError::TooLarge));
    let mut foreign = sample();
    foreign["source"] = json!("aws.ec2");
    assert_eq!(parse(&foreign).unwrap().organization, None);
}

/// The example that the libraries of the standard share in their tests.
#[test]
fn the_published_vector() {
    let (id, body) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", br#"{"test": 2432232314}"#);
    let signatures = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    let delivery = Delivery { id, timestamp: "1614265330", signatures, body };
    assert!(keys(KEY).verify(&delivery, UnixMillis(1_614_265_330_000)).is_some());
    assert!(keys(KEY).verify(&Delivery { body: b"{}", ..delivery }, UnixMillis(1_614_265_330_000)).is_none());
}

/// Who signs, what is changed, and whether it is taken.
#[test]
fn signatures_that_are_taken_and_that_are_not() {
    let other = format!("whsec_{}", STANDARD.encode([7; 32]));
    let at = START.as_secs();
    let (id, body) = ("msg_1", b"{}".as_slice());
    let good = signed(KEY, id, at, body);
    let time = at.to_string();
    let ok = Delivery { id, timestamp: &time, signatures: &good, body };
    let takes = |text: &str, delivery: Delivery<'_>| keys(text).verify(&delivery, START).is_some();
    assert!(takes(KEY, ok) && takes(&format!("{other}\n{KEY}\n"), ok), "by any of the keys");
    let several = format!("v1a,AAAA v1,AAAA {good}");
    assert!(takes(KEY, Delivery { signatures: &several, ..ok }), "any of the signatures");
    assert!(!takes(&other, ok));
    for bad in [
        Delivery { id: "msg_2", ..ok },
        Delivery { id: "", ..ok },
        Delivery { body: b"{ }", ..ok },
        Delivery { timestamp: "1795219201", ..ok },
        Delivery { timestamp: "", ..ok },
        Delivery { timestamp: "+1795219200", ..ok },
        Delivery { timestamp: "99999999999999999999", ..ok },
        Delivery { signatures: "", ..ok },
        Delivery { signatures: "v1,", ..ok },
        Delivery { signatures: &good[3..], ..ok },
        Delivery { signatures: &good[..good.len() - 4], ..ok },
        Delivery { signatures: &"v1,AAAA ".repeat(5), ..ok },
    ] {
        assert!(!takes(KEY, bad), "{} {} {}", bad.id, bad.timestamp, bad.signatures);
    }
    // an id with a dot could be read as another id and time
    let dotted = signed(KEY, "a.b", at, body);
    assert!(!takes(KEY, Delivery { id: "a.b", signatures: &dotted, ..ok }));
    for (seconds, taken) in [(at - 300, true), (at - 301, false), (at + 300, true), (at + 301, false), (0, false)] {
        let (signatures, timestamp) = (signed(KEY, id, seconds, body), seconds.to_string());
        let delivery = Delivery { id, timestamp: &timestamp, signatures: &signatures, body };
        assert_eq!(takes(KEY, delivery), taken, "{seconds}");
    }
}

#[test]
fn keys_that_are_refused() {
    let of = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![1; bytes]));
    let parse = |text: &str| EventKeys::parse(&SecretString::copied(text)).map(drop);
    assert!(parse(&of(24)).is_ok() && parse(&of(64)).is_ok());
    for (bad, why) in [
        (of(23), KeysError::Malformed),
        (of(65), KeysError::Malformed),
        ("secret".to_owned(), KeysError::Malformed),
        (String::new(), KeysError::Count),
        (vec![of(32); 5].join("\n"), KeysError::Count),
    ] {
        assert_eq!(parse(&bad), Err(why));
    }
    assert!(!format!("{:?}", keys(KEY)).contains("MfKQ"));
}

#[derive(Default)]
struct Store(Mutex<Vec<(RevocationRecord, AuditEvent)>>);

impl RevocationStore for Store {
    fn add_revocations(
        &self,
        records: Vec<RevocationRecord>,
        event: Option<AuditEvent>,
    ) -> BoxFuture<'_, Result<(), StateError>> {
        let event = event.expect("each has its entry");
        self.0.lock().extend(records.into_iter().map(|record| (record, event.clone())));
        Box::pin(async { Ok(()) })
    }

    fn revocations_after(&self, _: u64, _: u32) -> BoxFuture<'_, Result<Vec<PlacedRevocation>, StateError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn forget_revocations(&self, _: UnixMillis, _: u32) -> BoxFuture<'_, Result<usize, StateError>> {
        Box::pin(async { Ok(0) })
    }
}

fn desk() -> (EventDesk, Arc<Store>) {
    let store = Arc::new(Store::default());
    let revocations = Arc::new(Revocations::new(Arc::clone(&store) as Arc<dyn RevocationStore>, Caps::default()));
    (EventDesk::new("main".into(), Some(ORG.to_owned()), revocations), store)
}

async fn take(desk: &EventDesk, event: &Value, at: Duration) -> Result<Taken, TakeError> {
    let body = event.to_string();
    let issuers = ["genesys".into()];
    let taken = desk.take(body.as_bytes(), ("client:c", &issuers), now(at), &kh_core::SystemEntropy).await;
    taken.map(|(_, taken)| taken)
}

#[tokio::test]
async fn an_event_is_carried_out_and_written_down_and_a_foreign_one_changes_nothing() {
    let (desk, store) = desk();
    assert_eq!(take(&desk, &sample(), Duration::ZERO).await.unwrap(), Taken::Applied);
    {
        let kept = store.0.lock();
        let (record, entry) = kept.first().unwrap();
        let client = Some("46a10c81-ca63-4bfe-bc9d-3fbf41ee06b5".to_owned());
        assert_eq!(record.target, RevocationTarget::Answers { issuer: "genesys".to_owned(), client });
        assert_eq!(record.before, START, "by our own clock: an old event delivered late forgets what is known now");
        assert_eq!((&*entry.actor, &*entry.action, &*entry.subject), ("client:c", "revocation.event", "main"));
    }
    let mut foreign = sample();
    foreign["source"] = json!("aws.partner/genesys.com/cloud/somebody-else/x");
    let mut unknown = sample();
    unknown["detail"]["topicName"] = json!("v2.users.u.presence");
    for (event, taken) in [(foreign, Taken::Foreign), (unknown, Taken::UnknownTopic)] {
        assert_eq!(take(&desk, &event, Duration::ZERO).await.unwrap(), taken);
    }
    assert_eq!(store.0.lock().len(), 1);
}

#[tokio::test]
async fn events_that_write_are_bounded_in_a_minute_and_others_are_not() {
    let (desk, store) = desk();
    for _ in 0..CHANGES_PER_MINUTE {
        take(&desk, &sample(), Duration::from_secs(1)).await.unwrap();
    }
    let refused = take(&desk, &sample(), Duration::from_secs(59)).await;
    assert!(matches!(refused, Err(TakeError::TooMany)), "{refused:?}");
    let mut unknown = sample();
    unknown["detail"]["topicName"] = json!("v2.users.u.presence");
    take(&desk, &unknown, Duration::from_secs(59)).await.unwrap();
    take(&desk, &sample(), Duration::from_secs(61)).await.unwrap();
    assert_eq!(store.0.lock().len(), CHANGES_PER_MINUTE as usize + 1);
}

#[test]
fn a_delivery_is_taken_once_in_its_window_and_memory_is_bounded() {
    let (desk, _) = desk();
    let keys = keys(&format!("{KEY}\nwhsec_{}", STANDARD.encode([7; 32])));
    let at = START.as_secs();
    let deliver = |key: &str, id: &str, after: Duration| {
        let (signatures, timestamp) = (signed(key, id, at, b"{}"), at.to_string());
        let delivery = Delivery { id, timestamp: &timestamp, signatures: &signatures, body: b"{}" };
        desk.admit(&keys, &delivery, now(after))
    };
    let admit = |key: &str, id: &str, after: Duration| deliver(key, id, after).map(Admitted::keep);
    assert_eq!(admit(KEY, "a", Duration::ZERO), Ok(()));
    assert_eq!(admit(KEY, "a", Duration::from_mins(5)), Err(DeliveryError::Replayed), "to the end of the window");
    let other = format!("whsec_{}", STANDARD.encode([7; 32]));
    assert_eq!(admit(&other, "a", Duration::ZERO), Err(DeliveryError::Replayed), "signed by the next key as well");
    assert_eq!(admit(KEY, "a", Duration::from_secs(301)), Err(DeliveryError::Signature), "then by its time");
    let under_way = deliver(KEY, "b", Duration::ZERO).unwrap();
    assert_eq!(admit(KEY, "b", Duration::ZERO), Err(DeliveryError::Replayed), "not while it is carried out");
    drop(under_way);
    assert_eq!(desk.seen.lock().len(), 1, "as if it had never come");
    assert_eq!(admit(KEY, "b", Duration::ZERO), Ok(()), "what was not carried out may come again");
    assert_eq!(admit(KEY, "b", Duration::ZERO), Err(DeliveryError::Replayed), "until it was kept");

    let mut seen = Seen::default();
    let tag = |number: usize| Sha256::of(&number.to_be_bytes());
    for number in 0..seen::SEEN_MAX {
        seen.insert(tag(number), START, START).unwrap();
    }
    assert_eq!(seen.insert(tag(0), START, START), Err(DeliveryError::Replayed));
    assert_eq!(seen.insert(tag(seen::SEEN_MAX), START, START), Err(DeliveryError::Full), "and nothing is forgotten");
    let later = START.plus(WINDOW + Duration::from_millis(1));
    seen.insert(tag(seen::SEEN_MAX), later, later).unwrap();
    assert_eq!(seen.len(), 1, "what no clock would take any more is forgotten");
}
