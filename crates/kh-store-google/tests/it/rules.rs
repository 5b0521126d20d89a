//! What is particular to Secret Manager: aliases and etags, states of versions, checksums, late sight.

use http::Method;
use kh_core::port::{SecretTarget, TargetError, secret_target::Right};
use kh_fakes::Fault;
use kh_store::conformance::target::Bench;
use kh_store_google::{Auth, SecretManagerTarget};
use serde_json::json;

use crate::support::{Google, write};

#[tokio::test]
async fn places_that_do_not_fit_are_refused_and_nothing_is_asked() {
    let google = Google::start().await;
    let target = google.target().await;
    let (token, document) = write(1, "s");
    for bad in ["kv/acme", "acme.prod", "a@b", &"x".repeat(256)] {
        let at = bad.parse().unwrap();
        for refused in [
            target.live(&at).await.unwrap_err(),
            target.stage(&at, token, &document).await.unwrap_err(),
            target.promote(&at, token, None).await.unwrap_err(),
        ] {
            assert!(matches!(refused, TargetError::Unusable(_)), "{refused}");
        }
    }
    let asked = google.running.control.journal();
    assert!(
        asked.iter().all(|entry| entry.operation == "metadata.token"),
        "a token may be fetched before it is needed"
    );
}

/// Whoever reads a secret without the alias reads `latest`, which is whatever was added last.
#[tokio::test]
async fn a_secret_whose_readers_do_not_read_the_alias_is_left_alone() {
    let google = Google::start().await;
    let target = google.target().await;
    let at = google.fresh_path();
    let container = json!({"replication": {"automatic": {}}});
    google.ask(Method::POST, &format!("?secretId={at}"), Some(&container)).await;
    google.add(&at, b"in use by readers of latest").await;
    let (token, document) = write(1, "s");
    let before = google.changes();
    let refused = target.stage(&at, token, &document).await.unwrap_err();
    assert!(
        matches!(&refused, TargetError::Unusable(why) if why.contains("--update-version-aliases=current=1")),
        "{refused}"
    );
    let found = target.check(&at).await.unwrap();
    assert_eq!((found.live, found.write, found.warnings.len()), (None, Right::Denied, 1));
    assert_eq!(google.changes(), before);
    assert!(matches!(target.live(&at).await, Err(TargetError::NotFound(_))));

    let aliases = json!({"versionAliases": {"current": "1", "other": "1"}});
    google.ask(Method::PATCH, &format!("/{at}?updateMask=versionAliases"), Some(&aliases)).await;
    target.stage(&at, token, &document).await.unwrap();
    let planned = target.live_version(&at).await.unwrap();
    target.promote(&at, token, Some(&planned)).await.unwrap();
    let (_, secret) = google.ask(Method::GET, &format!("/{at}"), None).await;
    assert_eq!(secret["versionAliases"], json!({"current": "2", "other": "1"}), "other aliases stay");
}

#[tokio::test]
async fn a_change_between_look_and_promotion_loses_the_etag_and_is_looked_at_again() {
    let google = Google::start().await;
    let target = google.target().await;
    let at = google.fresh_path();
    let (one, first) = write(1, "one");
    target.stage(&at, one, &first).await.unwrap();
    let version = target.promote(&at, one, None).await.unwrap();
    let (two, second) = write(2, "two");
    target.stage(&at, two, &second).await.unwrap();
    // The alias moves between our look and our change: the service refuses ours.
    google.command("intrude", &json!({"secret": at.as_str(), "payload": r#"{"client_secret":"typed"}"#}));
    let refused = target.promote(&at, two, Some(&version)).await.unwrap_err();
    assert!(matches!(refused, TargetError::Conflict { .. }), "{refused}");
    let consumed = google.consumer_read(&at).await.unwrap();
    assert_eq!(consumed.expose(), br#"{"client_secret":"typed"}"#, "the other program's document stays");

    // Another label changes the etag too, and is no reason to stop.
    let now = target.live_version(&at).await.unwrap();
    google.command("relabel", &json!({"secret": at.as_str()}));
    target.promote(&at, two, Some(&now)).await.unwrap();
    assert!(google.consumer_read(&at).await.unwrap() == second);
    let asked = google.running.control.journal();
    let patches: Vec<u16> =
        asked.iter().filter(|entry| entry.operation == "secrets.patch").map(|entry| entry.status).collect();
    assert_eq!(patches, [200, 400, 400, 200], "a first promotion, two lost etags, and a promotion");
}

#[tokio::test]
async fn disabled_and_destroyed_versions_are_told_as_such() {
    let google = Google::start().await;
    let target = google.target().await;
    let at = google.fresh_path();
    let (one, first) = write(1, "one");
    target.stage(&at, one, &first).await.unwrap();
    let version = target.promote(&at, one, None).await.unwrap();
    for verb in ["disable", "destroy"] {
        google.ask(Method::POST, &format!("/{at}/versions/{version}:{verb}"), Some(&json!({}))).await;
        let refused = target.live(&at).await.unwrap_err();
        assert!(matches!(&refused, TargetError::Denied(why) if why.contains("disabled or destroyed")), "{refused}");
    }
    let (two, second) = write(2, "two");
    target.stage(&at, two, &second).await.unwrap();
    google.ask(Method::POST, &format!("/{at}/versions/2:destroy"), Some(&json!({}))).await;
    assert!(target.staged(&at, two).await.unwrap().is_none());
    let refused = target.promote(&at, two, Some(&version)).await.unwrap_err();
    assert!(matches!(refused, TargetError::NotFound(_)), "{refused}");
}

#[tokio::test]
async fn a_wrong_checksum_is_noticed() {
    let google = Google::start().await;
    let target = google.target().await;
    let at = google.fresh_path();
    let (one, first) = write(1, "one");
    target.stage(&at, one, &first).await.unwrap();
    target.promote(&at, one, None).await.unwrap();
    google.command("break_checksum", &json!({}));
    let refused = target.live(&at).await.unwrap_err();
    assert!(matches!(&refused, TargetError::Unavailable(why) if why.contains("checksum")), "{refused}");
    assert!(target.live(&at).await.unwrap().value == first, "the next answer is whole");
    let (_, version) = google.ask(Method::GET, &format!("/{at}/versions/1"), None).await;
    assert_eq!(version["clientSpecifiedPayloadChecksum"], true, "the service checked ours");
}

#[tokio::test]
async fn readers_by_alias_may_see_a_promotion_late_and_so_do_we() {
    let google = Google::start().await;
    let target = google.target().await;
    let at = google.fresh_path();
    let (one, first) = write(1, "one");
    target.stage(&at, one, &first).await.unwrap();
    let version = target.promote(&at, one, None).await.unwrap();
    let (two, second) = write(2, "two");
    target.stage(&at, two, &second).await.unwrap();
    google.command("stale", &json!({"count": 3}));
    let promoted = target.promote(&at, two, Some(&version)).await.unwrap();
    assert!(target.live(&at).await.unwrap().value == first, "not seen yet");
    assert_eq!(target.live_version(&at).await.unwrap(), version);
    assert!(google.consumer_read(&at).await.unwrap() == first);
    assert_eq!(target.live_version(&at).await.unwrap(), promoted);
    assert!(target.live(&at).await.unwrap().value == second);
}

#[tokio::test]
async fn a_version_that_is_seen_late_to_be_disabled_is_disabled_once() {
    let google = Google::start().await;
    let target = google.target().await;
    let at = google.fresh_path();
    let (one, first) = write(1, "one");
    target.stage(&at, one, &first).await.unwrap();
    target.promote(&at, one, None).await.unwrap();
    let (two, second) = write(2, "two");
    target.stage(&at, two, &second).await.unwrap();
    google.command("stale_versions", &json!({"count": 20}));
    let disabled = || {
        let asked = google.running.control.journal();
        asked.iter().filter(|entry| entry.operation == "versions.disable").count()
    };
    target.unstage(&at, two).await.unwrap();
    assert_eq!(disabled(), 1);
    assert!(target.staged(&at, two).await.unwrap().is_some(), "it is still seen as it was");
    // another process, which remembers nothing and sees it too
    google.target().await.unstage(&at, two).await.unwrap();
    assert_eq!(disabled(), 2);
    for _ in 0..20 {
        target.staged(&at, two).await.unwrap();
    }
    assert!(target.staged(&at, two).await.unwrap().is_none());
    assert!(google.consumer_read(&at).await.unwrap() == first);
}

#[tokio::test]
async fn rights_are_told_one_by_one() {
    let google = Google::start().await;
    let target = google.target().await;
    let at = google.fresh_path();
    let (one, first) = write(1, "one");
    target.stage(&at, one, &first).await.unwrap();
    target.promote(&at, one, None).await.unwrap();
    let found = target.check(&at).await.unwrap();
    assert_eq!((found.read, found.write, found.warnings.len()), (Right::Granted, Right::Granted, 0), "{found:?}");
    let few = ["secretmanager.secrets.get", "secretmanager.versions.access", "secretmanager.versions.list"];
    google.command("permissions", &json!({ "permissions": few }));
    let found = target.check(&at).await.unwrap();
    assert_eq!((found.read, found.write, found.warnings.len()), (Right::Granted, Right::Denied, 3), "{found:?}");
    let (two, second) = write(2, "two");
    let refused = target.stage(&at, two, &second).await.unwrap_err();
    assert_eq!(refused.to_string(), "the store does not allow this: Secret Manager answered PERMISSION_DENIED");
    google.command("permissions", &json!({"permissions": []}));
    let found = target.check(&at).await.unwrap();
    assert_eq!((found.live, found.write), (None, Right::Denied));
}

#[tokio::test]
async fn an_identity_that_is_not_accepted() {
    let google = Google::start().await;
    let nobody = SecretManagerTarget::new(google.settings(Auth::Anonymous)).await.unwrap();
    let refused = nobody.live(&google.fresh_path()).await.unwrap_err();
    assert!(matches!(refused, TargetError::Unauthenticated(_)), "{refused}");

    // no metadata server there: nothing was sent to the service
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let auth = Auth::Metadata { endpoint: Some(format!("http://{unused}").parse().unwrap()) };
    let target = SecretManagerTarget::new(google.settings(auth)).await;
    if let Ok(target) = target {
        let (token, document) = write(1, "s");
        let refused = target.stage(&google.fresh_path(), token, &document).await.unwrap_err();
        assert!(matches!(refused, TargetError::Unauthenticated(_) | TargetError::Unavailable(_)), "{refused}");
    }
    assert_eq!(google.changes(), 0);
}

#[tokio::test]
async fn a_wait_that_the_service_asks_for_is_passed_on() {
    let google = Google::start().await;
    let target = google.target().await;
    google.running.control.fault(Fault::Throttle { retry_after_seconds: Some(7) }.once().on("versions.access"));
    let throttled = target.live(&google.fresh_path()).await.unwrap_err();
    assert!(matches!(throttled, TargetError::Throttled(Some(wait)) if wait.as_secs() == 7), "{throttled}");
}

#[tokio::test]
async fn errors_tell_no_secret() {
    let google = Google::start().await;
    let target = google.target().await;
    let (token, document) = write(1, "MARKED-secret");
    let body = json!({"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "MARKED-secret"}}).to_string();
    google.running.control.fault(Fault::Answer { status: 400, body }.once().on("secrets.add"));
    let error = target.stage(&google.fresh_path(), token, &document).await.unwrap_err();
    assert!(matches!(error, TargetError::Unusable(_)), "{error}");
    assert!(!format!("{error} {error:?} {target:?}").contains("MARKED"), "{error:?}");
}
