//! What an identity may not do is told as that, before a rotation where it can be known.

use kh_core::port::{SecretTarget, TargetError, secret_target::Right};

use crate::bench::{Fake, path, write};

#[tokio::test]
async fn a_check_tells_missing_rights_and_changes_nothing() {
    let fake = Fake::start().await;
    let (store, at) = (fake.store(), path("checked"));
    let (token, document) = write(1);
    store.stage(&at, token, &document).await.unwrap();
    let version = store.promote(&at, token, None).await.unwrap();
    let before = fake.running.control.changes();
    let check = store.check(&at).await.unwrap();
    assert_eq!((check.live, check.read, check.write), (Some(version), Right::Granted, Right::Unknown));
    assert_eq!(check.warnings, Vec::<String>::new());
    for (operation, read, write) in [
        ("UpdateSecretVersionStage", Right::Granted, Right::Denied),
        ("GetSecretValue", Right::Denied, Right::Denied),
        ("DescribeSecret", Right::Denied, Right::Unknown),
    ] {
        fake.aws.deny(fake.aws.key().0, operation);
        let check = store.check(&at).await.unwrap();
        assert_eq!((check.read, check.write), (read, write), "{operation}");
    }
    assert_eq!(fake.running.control.changes(), before);
}

#[tokio::test]
async fn an_unknown_key_and_a_missing_right_are_told_apart() {
    let fake = Fake::start().await;
    let account = crate::bench::account_at(&fake.running.url, "AKIAUNKNOWN", "x").await;
    let refused = kh_store_aws::AwsStore::new(account).live(&path("x")).await;
    assert!(matches!(refused, Err(TargetError::Unauthenticated(_))), "{refused:?}");
    fake.aws.deny(fake.aws.key().0, "ListSecrets");
    let refused = fake.store().list("", 5).await;
    assert!(matches!(refused, Err(TargetError::Denied(_))), "{refused:?}");
}

#[tokio::test]
async fn a_secret_that_is_marked_for_deletion_is_left_alone() {
    let fake = Fake::start().await;
    let (store, at) = (fake.store(), path("doomed"));
    let (token, document) = write(1);
    store.stage(&at, token, &document).await.unwrap();
    let one = store.promote(&at, token, None).await.unwrap();
    let client = crate::bench::plain_client(&fake.running.url, fake.aws.key()).await;
    client.delete_secret().secret_id("doomed").send().await.unwrap();
    let (token, document) = write(2);
    assert!(matches!(store.stage(&at, token, &document).await, Err(TargetError::Unusable(_))));
    assert!(matches!(store.promote(&at, token, Some(&one)).await, Err(TargetError::Unusable(_))));
    assert!(matches!(store.live(&at).await, Err(TargetError::Unusable(_))));
    let check = store.check(&at).await.unwrap();
    assert!(check.warnings.iter().any(|warning| warning.contains("marked for deletion")), "{check:?}");
}
