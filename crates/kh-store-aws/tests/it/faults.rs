//! What can go wrong between the adapter and the service: each call of a staging and a promotion fails in each way,
//! and the same write again ends in the same state.

use std::sync::Arc;

use kh_core::{
    port::{SecretTarget, TargetError},
    rotation::{SecretPath, VersionId, WriteToken},
};
use kh_fakes::{FakeClock, Fault, Options, Reply, Request, Rule, start};
use kh_store_aws::AwsStore;
use serde_json::{Value, json};

use crate::bench::{Fake, path, write};

/// How often a rotation is tried again.
const TRIES: u32 = 8;

/// A way for a call to fail.
type Way = (&'static str, fn() -> Fault);

const WAYS: [Way; 6] = [
    ("dropped before", || Fault::DropBefore),
    ("dropped after", || Fault::DropAfter),
    ("failed before", || Fault::FailBefore),
    ("failed after", || Fault::FailAfter),
    ("throttled", || Fault::Throttle { retry_after_seconds: None }),
    ("a page of a proxy", || Fault::Answer { status: 503, body: "<html>busy</html>".to_owned() }),
];

async fn stage_and_promote(
    store: &AwsStore,
    at: &SecretPath,
    number: u64,
    expect: Option<&VersionId>,
) -> Result<VersionId, TargetError> {
    let (token, document) = write(number);
    store.stage(at, token, &document).await?;
    store.promote(at, token, expect).await
}

/// Repeats what a driver repeats: the same write, with the version that was planned.
async fn to_the_end(store: &AwsStore, at: &SecretPath, number: u64, expect: Option<&VersionId>) -> VersionId {
    for _ in 0..TRIES {
        match stage_and_promote(store, at, number, expect).await {
            Ok(version) => return version,
            Err(error) => assert!(
                matches!(error, TargetError::Unknown(_) | TargetError::Unavailable(_) | TargetError::Throttled(_)),
                "every such failure may be tried again: {error:?}"
            ),
        }
    }
    panic!("it never ended")
}

fn is_live(fake: &Fake, at: &SecretPath, token: WriteToken, what: &str) {
    let labels = fake.labels(at);
    assert!(labels.contains(&format!("AWSCURRENT={token}")), "{what}: {labels:?}");
    assert!(!labels.iter().any(|label| label.starts_with("AWSPENDING")), "{what}: {labels:?}");
}

/// `expect` is none for the first document of a secret.
async fn every_call_in_every_way(first: bool) {
    let mut reached = 0;
    for (what, fault) in WAYS {
        for skip in 0..40 {
            let fake = Fake::start().await;
            let store = fake.store();
            let at = path("enumerated");
            let expect = if first { None } else { Some(stage_and_promote(&store, &at, 1, None).await.unwrap()) };
            fake.running.control.forget();
            fake.running.control.fault(fault().once().after(skip));
            let version = to_the_end(&fake.other_store().await, &at, 2, expect.as_ref()).await;
            let arrived = fake.operations().len() as u64;
            fake.running.control.heal();
            let (token, document) = write(2);
            let what = format!("{what} at call {skip} of {arrived}");
            assert_eq!(version.0, token.to_string(), "{what}");
            is_live(&fake, &at, token, &what);
            assert_eq!(store.live(&at).await.unwrap().value, document, "{what}");
            store.unstage(&at, token).await.unwrap();
            assert!(!fake.labels(&at).iter().any(|label| label.starts_with("KH_PENDING")), "{what}");
            let names = fake.aws.names(crate::bench::REGION);
            assert_eq!(names, ["enumerated"], "{what}: no waiting place is left");
            if skip >= arrived {
                break;
            }
            reached += 1;
        }
    }
    // 6 ways at each of at least 5 calls.
    assert!(reached >= 30, "calls that failed: {reached}");
}

#[tokio::test]
async fn a_rotation_ends_whatever_call_fails() {
    every_call_in_every_way(false).await;
}

#[tokio::test]
async fn a_first_document_becomes_live_whatever_call_fails() {
    every_call_in_every_way(true).await;
}

#[tokio::test]
async fn a_lost_answer_of_the_move_is_told_as_unknown_and_found_done() {
    let fake = Fake::start().await;
    let store = fake.store();
    let at = path("lost");
    let one = stage_and_promote(&store, &at, 1, None).await.unwrap();
    let (token, document) = write(2);
    store.stage(&at, token, &document).await.unwrap();
    fake.running.control.fault(Fault::DropAfter.once().on("UpdateSecretVersionStage"));
    let lost = store.promote(&at, token, Some(&one)).await;
    assert!(matches!(lost, Err(TargetError::Unknown(_))), "{lost:?}");
    fake.running.control.forget();
    let again = store.promote(&at, token, Some(&one)).await.unwrap();
    assert_eq!(again.0, token.to_string());
    let current = fake.operations().iter().filter(|operation| *operation == "UpdateSecretVersionStage").count();
    assert_eq!(current, 1, "the move is not made again; only the own label is dropped");
}

#[tokio::test]
async fn what_was_not_sent_is_told_as_not_done() {
    let fake = Fake::start().await;
    let store = fake.store();
    let at = path("refused");
    let one = stage_and_promote(&store, &at, 1, None).await.unwrap();
    let (token, document) = write(2);
    let address = fake.running.url.clone();
    let account = crate::bench::account_at(&address, fake.aws.key().0, fake.aws.key().1).await;
    drop(fake);
    let gone = AwsStore::new(account);
    let refused = gone.stage(&at, token, &document).await;
    assert!(matches!(refused, Err(TargetError::Unavailable(_))), "nobody listens: {refused:?}");
    let refused = gone.promote(&at, token, Some(&one)).await;
    assert!(matches!(refused, Err(TargetError::Unavailable(_))), "{refused:?}");
}

#[tokio::test]
async fn a_throttled_call_says_when_to_come_back() {
    let fake = Fake::start().await;
    let store = fake.store();
    for (told, heeded) in [(7, 7), (31_536_000, 600)] {
        let rule: Rule = Fault::Throttle { retry_after_seconds: Some(told) }.once();
        fake.running.control.fault(rule);
        let throttled = store.live(&path("x")).await;
        let after = std::time::Duration::from_secs(heeded);
        assert!(matches!(throttled, Err(TargetError::Throttled(Some(found))) if found == after), "{throttled:?}");
    }
}

#[tokio::test]
async fn rights_that_are_lost_in_the_middle_leave_the_old_secret_live() {
    let fake = Fake::start().await;
    let store = fake.store();
    let at = path("middle");
    let one = stage_and_promote(&store, &at, 1, None).await.unwrap();
    let (token, document) = write(2);
    store.stage(&at, token, &document).await.unwrap();
    fake.running.control.fault(Fault::Forbid.always().on("UpdateSecretVersionStage"));
    let denied = store.promote(&at, token, Some(&one)).await;
    assert!(matches!(denied, Err(TargetError::Denied(_))), "{denied:?}");
    assert_eq!(store.live_version(&at).await.unwrap(), one);
    fake.running.control.heal();
    assert_eq!(store.promote(&at, token, Some(&one)).await.unwrap().0, token.to_string());
}

#[tokio::test]
async fn a_label_that_cannot_be_dropped_is_no_failure_of_the_promotion() {
    let fake = Fake::start().await;
    let store = fake.store();
    let at = path("label");
    let one = stage_and_promote(&store, &at, 1, None).await.unwrap();
    let (token, document) = write(2);
    store.stage(&at, token, &document).await.unwrap();
    fake.running.control.fault(Fault::Forbid.always().on("UpdateSecretVersionStage").after(1));
    let two = store.promote(&at, token, Some(&one)).await.unwrap();
    assert!(fake.labels(&at).contains(&format!("KH_PENDING={token}")));
    fake.running.control.heal();
    let three = stage_and_promote(&store, &at, 3, Some(&two)).await.unwrap();
    assert_eq!(
        fake.labels(&at),
        [format!("AWSCURRENT={three}"), format!("AWSPREVIOUS={two}")],
        "the next rotation takes the label along"
    );
}

#[tokio::test]
async fn a_secret_without_a_value_gets_its_first_document() {
    let fake = Fake::start().await;
    let client = crate::bench::plain_client(&fake.running.url, fake.aws.key()).await;
    client.create_secret().name("made/by-terraform").send().await.unwrap();
    let (store, at) = (fake.store(), path("made/by-terraform"));
    let (token, document) = write(1);
    store.stage(&at, token, &document).await.unwrap();
    assert!(matches!(store.live(&at).await, Err(TargetError::NotFound(_))), "staged is not live");
    let version = store.promote(&at, token, None).await.unwrap();
    assert_eq!(fake.labels(&at), [format!("AWSCURRENT={version}")]);
    assert_eq!(fake.aws.names(crate::bench::REGION), ["made/by-terraform"]);
}

#[tokio::test]
async fn a_first_document_never_takes_the_place_of_another() {
    for made in [false, true] {
        let fake = Fake::start().await;
        let client = crate::bench::plain_client(&fake.running.url, fake.aws.key()).await;
        if made {
            client.create_secret().name("contested").send().await.unwrap();
        }
        let (store, at) = (fake.store(), path("contested"));
        let (token, document) = write(1);
        store.stage(&at, token, &document).await.unwrap();
        // The other writes between our look and our write: the look sees the old state.
        let foreign = kh_core::SecretBytes::new(br#"{"client_secret":"by hand"}"#.to_vec());
        fake.aws.set_read_lag(5);
        crate::bench::foreign_write(&client, &at, &foreign).await;
        let refused = store.promote(&at, token, None).await;
        assert!(matches!(refused, Err(TargetError::Conflict { .. })), "{refused:?}");
        fake.aws.set_read_lag(0);
        for _ in 0..6 {
            let _settles = store.live_version(&at).await;
        }
        assert_eq!(store.live(&at).await.unwrap().value, foreign, "made before: {made}");
    }
}

/// Somebody makes the secret between the staging and the promotion, and a person has what is there replaced.
#[tokio::test]
async fn a_secret_that_was_made_meanwhile_keeps_no_copy_beside_it() {
    let fake = Fake::start().await;
    let client = crate::bench::plain_client(&fake.running.url, fake.aws.key()).await;
    let (store, at) = (fake.store(), path("made/meanwhile"));
    let (token, document) = write(1);
    store.stage(&at, token, &document).await.unwrap();
    let foreign = kh_core::SecretBytes::new(br#"{"client_secret":"by hand"}"#.to_vec());
    crate::bench::foreign_write(&client, &at, &foreign).await;
    let refused = store.promote(&at, token, None).await;
    let Err(TargetError::Conflict { found: Some(found), .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(fake.aws.names(crate::bench::REGION).len(), 2, "the copy waits");
    store.stage(&at, token, &document).await.unwrap();
    let version = store.promote(&at, token, Some(&found)).await.unwrap();
    assert_eq!(store.live_version(&at).await.unwrap(), version);
    assert_eq!(fake.aws.names(crate::bench::REGION), ["made/meanwhile"]);
}

/// The service's words are not ours to pass on: a refused value is told by AWS with the value, and a refused signature
/// with what was signed, session token included.
#[tokio::test]
async fn no_failure_tells_a_secret() {
    let fake = Fake::start().await;
    let store = fake.store();
    let at = path("told");
    let one = stage_and_promote(&store, &at, 1, None).await.unwrap();
    let (token, document) = write(2);
    store.stage(&at, token, &document).await.unwrap();
    let mut told = Vec::new();
    for code in [
        "ValidationException",
        "InvalidParameterException",
        "InvalidRequestException",
        "SignatureDoesNotMatch",
        "AccessDeniedException",
        "LimitExceededException",
        "InternalServiceError",
    ] {
        for status in [400, 403, 500] {
            let body = format!(r#"{{"__type":"{code}","message":"Value 'MARKED-SECRET-2' at 'secretString'"}}"#);
            fake.running.control.fault(Fault::Answer { status, body }.always());
            let (third, document) = write(3);
            let refusals = [
                store.stage(&at, third, &document).await.err(),
                store.promote(&at, token, Some(&one)).await.err(),
                store.live(&at).await.err(),
                store.check(&at).await.err(),
                store.list("", 5).await.err(),
            ];
            for refusal in refusals.into_iter().flatten() {
                told.push(format!("{refusal} {refusal:?}"));
            }
            fake.running.control.heal();
        }
    }
    let told = told.join("\n");
    assert!(told.lines().count() > 60 && told.contains("ValidationException"), "{told}");
    assert!(!told.contains("MARKED"), "{told}");
}

/// What a seal is at Vault is the key of the KMS here: without it nobody reads or writes.
#[tokio::test]
async fn a_key_of_the_kms_that_is_gone_is_told_as_a_missing_right_and_nothing_is_done() {
    let fake = Fake::start().await;
    let store = fake.store();
    let at = path("sealed");
    let one = stage_and_promote(&store, &at, 1, None).await.unwrap();
    let (token, document) = write(2);
    for (operation, code) in [("PutSecretValue", "EncryptionFailure"), ("GetSecretValue", "DecryptionFailure")] {
        let body = format!(r#"{{"__type":"{code}","Message":"Access to KMS is not allowed"}}"#);
        fake.running.control.fault(Fault::Answer { status: 400, body }.always().on(operation));
        let refused = store.stage(&at, token, &document).await;
        assert!(
            matches!(&refused, Err(TargetError::Denied(text)) if text.contains(code) && text.contains("KMS")),
            "{refused:?}"
        );
        fake.running.control.heal();
        assert_eq!(store.live_version(&at).await.unwrap(), one);
    }
    stage_and_promote(&store, &at, 2, Some(&one)).await.unwrap();
}

/// How many secrets [`Large`] has.
const MANY: usize = 100;

/// A service that lists secrets with the largest tags that there are: 50, with keys of 128 and values of 256 characters.
struct Large;

impl kh_fakes::Fake for Large {
    fn operation(&self, _: &Request) -> String {
        "ListSecrets".to_owned()
    }

    fn answer(&self, request: &Request, _: &FakeClock) -> Reply {
        let asked: Value = serde_json::from_slice(&request.body).expect("it is JSON");
        let most = asked["MaxResults"].as_u64().and_then(|most| usize::try_from(most).ok()).unwrap_or(MANY);
        let skip: usize = asked["NextToken"].as_str().map_or(0, |token| token.parse().expect("it is ours"));
        let tag = json!({"Key": "\u{5bc6}".repeat(128), "Value": "\u{5bc6}".repeat(256)});
        let tags = vec![tag; 50];
        let entry = |number: usize| {
            let stages = json!({"01900000-0000-7000-8000-000000000001": ["AWSCURRENT"]});
            json!({"Name": format!("large/{number}"), "Tags": tags, "SecretVersionsToStages": stages})
        };
        let entries: Vec<Value> = (skip..MANY).take(most).map(entry).collect();
        let next = skip + entries.len();
        let mut page = json!({"SecretList": entries});
        if next < MANY {
            page["NextToken"] = json!(next.to_string());
        }
        Reply::json(200, &page)
    }

    fn forbidden(&self) -> Reply {
        Reply::empty(403)
    }

    fn throttled(&self, _: Option<u64>) -> Reply {
        Reply::empty(429)
    }

    fn failed(&self) -> Reply {
        Reply::empty(500)
    }

    fn credentials(&self) -> Value {
        json!({})
    }

    fn command(&self, _: &str, _: &Value) -> Result<Value, String> {
        Err("there is none".to_owned())
    }
}

#[tokio::test]
async fn a_list_of_secrets_with_the_largest_tags_is_read_to_its_end() {
    let running = start(Arc::new(Large), Options::default()).await.expect("a free port");
    let store = AwsStore::new(crate::bench::account_at(&running.url, "AKIALARGE", "secret").await);
    let found = store.list("large/", 2 * MANY).await.unwrap();
    assert_eq!(found.len(), MANY);
}
