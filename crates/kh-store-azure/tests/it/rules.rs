//! What is particular to Key Vault: names, tags, disabled and deleted secrets, other programs' writes.

use http::Method;
use kh_core::port::{SecretTarget, TargetError};
use kh_store::conformance::target::Bench;
use serde_json::json;

use crate::support::{Azure, write};

#[tokio::test]
async fn places_that_do_not_fit_are_refused_and_nothing_is_asked() {
    let azure = Azure::start().await;
    let target = azure.target();
    let (token, document) = write(1, "s");
    for bad in ["kv/acme", "acme_prod", "acme.prod", "acme-kh-next"] {
        let at = bad.parse().unwrap();
        for refused in [
            target.live(&at).await.unwrap_err(),
            target.stage(&at, token, &document).await.unwrap_err(),
            target.promote(&at, token, None).await.unwrap_err(),
            target.unstage(&at, token).await.unwrap_err(),
        ] {
            assert!(matches!(&refused, TargetError::Unusable(why) if why.contains(bad)), "{refused}");
        }
    }
    assert!(azure.vault.control.journal().is_empty());
}

#[tokio::test]
async fn a_staged_document_is_no_version_of_the_live_name() {
    let azure = Azure::start().await;
    let target = azure.target();
    let at = azure.fresh_path();
    let (one, first) = write(1, "one");
    target.stage(&at, one, &first).await.unwrap();
    let version = target.promote(&at, one, None).await.unwrap();
    let (two, second) = write(2, "two");
    target.stage(&at, two, &second).await.unwrap();
    assert_eq!(azure.tags(at.as_str()).await.len(), 1, "the live name has one version");
    target.promote(&at, two, Some(&version)).await.unwrap();
    let tags = azure.tags(at.as_str()).await;
    assert_eq!(tags.len(), 2);
    assert!(tags.iter().any(|tags| tags["kh-write"] == two.to_string() && tags["kh-generation"] == "1"), "{tags:?}");

    // what was staged cannot be read any more, also not by who knows its name
    let (status, answer) = azure.ask_json(Method::GET, &format!("/secrets/{at}-kh-next"), None).await;
    assert_eq!((status, answer["error"]["innererror"]["code"].as_str()), (403, Some("SecretDisabled")));
}

#[tokio::test]
async fn a_disabled_live_secret_is_told_as_such_and_is_not_written_over() {
    let azure = Azure::start().await;
    let target = azure.target();
    let at = azure.fresh_path();
    let (one, first) = write(1, "one");
    target.stage(&at, one, &first).await.unwrap();
    let version = target.promote(&at, one, None).await.unwrap();
    let body = json!({"attributes": {"enabled": false}});
    azure.ask_json(Method::PATCH, &format!("/secrets/{at}/{version}"), Some(&body)).await;
    let found = target.live(&at).await.unwrap_err();
    assert_eq!(found.to_string(), format!("the store does not allow this: the newest version of {at} is disabled"));
    let (two, second) = write(2, "two");
    let refused = target.stage(&at, two, &second).await.unwrap_err();
    assert!(matches!(refused, TargetError::Denied(_)), "{refused}");
    let refused = target.promote(&at, two, Some(&version)).await.unwrap_err();
    assert!(matches!(refused, TargetError::Denied(_)), "{refused}");
    assert_eq!(target.list("", 10).await.unwrap(), []);
}

#[tokio::test]
async fn a_deleted_live_secret_is_not_brought_back() {
    let azure = Azure::start().await;
    let target = azure.target();
    let at = azure.fresh_path();
    let (one, first) = write(1, "one");
    target.stage(&at, one, &first).await.unwrap();
    target.promote(&at, one, None).await.unwrap();
    azure.ask_json(Method::DELETE, &format!("/secrets/{at}"), None).await;
    assert!(matches!(target.live(&at).await, Err(TargetError::NotFound(_))));
    let found = target.check(&at).await.unwrap();
    assert_eq!(found.live, None);
    assert!(found.warnings.iter().any(|warning| warning.contains("was deleted")), "{found:?}");
    let (two, second) = write(2, "two");
    target.stage(&at, two, &second).await.unwrap();
    let refused = target.promote(&at, two, None).await.unwrap_err();
    assert!(matches!(&refused, TargetError::Unusable(why) if why.contains("recovered or purged")), "{refused}");
}

#[tokio::test]
async fn a_deleted_staged_secret_is_brought_back_and_used_again() {
    let azure = Azure::start().await;
    let target = azure.target();
    let at = azure.fresh_path();
    let (one, first) = write(1, "one");
    target.stage(&at, one, &first).await.unwrap();
    let version = target.promote(&at, one, None).await.unwrap();
    azure.command("recovery", &json!({"count": 2}));
    azure.ask_json(Method::DELETE, &format!("/secrets/{at}-kh-next"), None).await;
    let (two, second) = write(2, "two");
    let mut waits = 0;
    while let Err(error) = target.stage(&at, two, &second).await {
        assert!(matches!(error, TargetError::Unavailable(_)), "{error}");
        waits += 1;
        assert!(waits < 10, "recovery ends");
    }
    assert_eq!(waits, 3, "one finds it deleted, two find it being recovered");
    target.promote(&at, two, Some(&version)).await.unwrap();

    azure.ask_json(Method::DELETE, &format!("/secrets/{at}-kh-next"), None).await;
    azure.command("rights", &json!({"rights": ["get", "list", "set"]}));
    let (three, third) = write(3, "three");
    let refused = target.stage(&at, three, &third).await.unwrap_err();
    assert!(matches!(&refused, TargetError::Unusable(why) if why.contains("may not recover")), "{refused}");
}

#[tokio::test]
async fn a_document_or_tags_copied_by_hand_are_not_taken_for_a_write_of_ours() {
    let azure = Azure::start().await;
    let target = azure.target();
    let at = azure.fresh_path();
    let (one, first) = write(1, "one");
    target.stage(&at, one, &first).await.unwrap();
    let version = target.promote(&at, one, None).await.unwrap();
    let (two, second) = write(2, "two");
    target.stage(&at, two, &second).await.unwrap();
    let text = std::str::from_utf8(second.expose()).unwrap();
    let path = format!("/secrets/{at}");
    for copy in [json!({"value": text}), json!({"value": "other", "tags": {"kh-write": two.to_string()}})] {
        azure.ask_json(Method::PUT, &path, Some(&copy)).await;
        let refused = target.promote(&at, two, Some(&version)).await.unwrap_err();
        assert!(matches!(refused, TargetError::Conflict { .. }), "{refused}");
    }
}

/// Key Vault cannot prevent it: a write that comes between the look and ours is told afterwards.
#[tokio::test]
async fn another_programs_write_between_look_and_write_is_told() {
    let azure = Azure::start().await;
    let target = azure.target();
    let at = azure.fresh_path();
    let (one, first) = write(1, "one");
    target.stage(&at, one, &first).await.unwrap();
    let version = target.promote(&at, one, None).await.unwrap();
    let (two, second) = write(2, "two");
    target.stage(&at, two, &second).await.unwrap();
    azure.command("intrude", &json!({"name": at.as_str(), "value": r#"{"client_secret":"typed-by-a-person"}"#}));
    let promoted = target.promote(&at, two, Some(&version)).await;
    let live = target.live(&at).await.unwrap();
    match promoted {
        Err(TargetError::Conflict { found: Some(found), .. }) => assert_eq!(found, live.version),
        other => assert_eq!(format!("{other:?}"), "a conflict"),
    }
    assert!(live.value == second, "ours came last and is live");
    assert_eq!(target.promote(&at, two, Some(&version)).await.unwrap(), live.version, "a repeat says so");
    assert_eq!(azure.tags(at.as_str()).await.len(), 3, "the person's document is in the history");
}

#[tokio::test]
async fn a_write_that_is_not_seen_yet_is_unknown_and_settles() {
    let azure = Azure::start().await;
    let target = azure.target();
    let at = azure.fresh_path();
    let (one, first) = write(1, "one");
    target.stage(&at, one, &first).await.unwrap();
    let version = target.promote(&at, one, None).await.unwrap();
    let (two, second) = write(2, "two");
    target.stage(&at, two, &second).await.unwrap();
    azure.command("stale", &json!({"count": 1}));
    let unseen = target.promote(&at, two, Some(&version)).await.unwrap_err();
    assert!(matches!(&unseen, TargetError::Unknown(why) if why.contains("not read back")), "{unseen}");
    let again = target.promote(&at, two, Some(&version)).await.unwrap();
    assert_eq!(target.live_version(&at).await.unwrap(), again);
    assert_eq!(azure.tags(at.as_str()).await.len(), 2, "it was written once");
}
