//! Copies in other regions.

use kh_core::port::{SecretTarget, TargetError};
use kh_fakes::aws::Copying;

use crate::bench::{Fake, REGION, path, plain_client, write};

async fn replicated(fake: &Fake, name: &str) -> kh_core::rotation::VersionId {
    let (token, document) = write(1);
    let (store, at) = (fake.store(), path(name));
    store.stage(&at, token, &document).await.unwrap();
    let version = store.promote(&at, token, None).await.unwrap();
    let region = aws_sdk_secretsmanager::types::ReplicaRegionType::builder().region("eu-west-1").build();
    let client = plain_client(&fake.running.url, fake.aws.key()).await;
    client.replicate_secret_to_regions().secret_id(name).add_replica_regions(region).send().await.unwrap();
    version
}

#[tokio::test]
async fn copies_are_read_back_in_their_own_region() {
    let fake = Fake::start().await;
    fake.aws.set_copy_lag(3);
    let one = replicated(&fake, "copied").await;
    let (store, at) = (fake.store(), path("copied"));
    let told = store.replicas(&at).await.unwrap();
    assert_eq!(told.len(), 1);
    assert!(!told[0].in_step && told[0].region == "eu-west-1", "{told:?}");
    let mut looks = 0;
    while !store.replicas(&at).await.unwrap()[0].in_step {
        looks += 1;
        assert!(looks < 20, "it is copied in the end");
    }
    let (token, document) = write(2);
    store.stage(&at, token, &document).await.unwrap();
    let two = store.promote(&at, token, Some(&one)).await.unwrap();
    let secret = fake.aws.secret(REGION, "copied").unwrap();
    assert!(!matches!(secret.copies["eu-west-1"], Copying::Failed), "no two moves in a row: {:?}", secret.copies);
    looks = 0;
    while !store.replicas(&at).await.unwrap()[0].in_step {
        looks += 1;
        assert!(looks < 20, "it is copied in the end");
    }
    let copy = fake.aws.secret("eu-west-1", "copied").unwrap();
    assert_eq!(copy.labelled("AWSCURRENT"), Some(two.0.as_str()));
}

#[tokio::test]
async fn a_copy_that_never_ends_stops_the_promotion_before_it_begins() {
    let fake = Fake::start().await;
    let one = replicated(&fake, "slow").await;
    fake.aws.set_copy_lag(10_000);
    let (store, at) = (fake.store(), path("slow"));
    let (token, document) = write(2);
    store.stage(&at, token, &document).await.unwrap();
    let refused = store.promote(&at, token, Some(&one)).await;
    assert!(matches!(&refused, Err(TargetError::Unavailable(text)) if text.contains("eu-west-1")), "{refused:?}");
    assert_eq!(store.live_version(&at).await.unwrap(), one);
}

#[tokio::test]
async fn a_copy_is_not_written_and_says_so() {
    let fake = Fake::start().await;
    replicated(&fake, "home").await;
    let clock = std::sync::Arc::new(kh_core::SystemClock::new());
    let settings =
        kh_store_aws::Settings { region: "eu-west-1".to_owned(), ..crate::bench::settings(&fake.running.url) };
    let key = crate::bench::static_key(fake.aws.key().0, fake.aws.key().1);
    let account = kh_store_aws::Account::with_provider(settings, crate::bench::transport(clock), key).await;
    let store = kh_store_aws::AwsStore::new(std::sync::Arc::new(account));
    let check = store.check(&path("home")).await.unwrap();
    assert!(check.warnings.iter().any(|warning| warning.contains("primary in eu-central-1")), "{check:?}");
    let (token, document) = write(2);
    let refused = store.stage(&path("home"), token, &document).await;
    assert!(matches!(refused, Err(TargetError::Unusable(_))), "{refused:?}");
}
