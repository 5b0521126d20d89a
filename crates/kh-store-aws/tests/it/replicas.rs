//! Copies in other regions.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use kh_core::{
    SystemClock,
    port::{SecretTarget, TargetError},
    rotation::{SecretPath, VersionId, WriteToken},
};
use kh_fakes::aws::Copying;
use kh_store_aws::{Account, AwsStore, Settings};
use tokio::net::{TcpListener, TcpStream};

use crate::bench::{Fake, REGION, path, plain_client, static_key, transport, write};

async fn replicated(fake: &Fake, name: &str) -> VersionId {
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

/// How long a rotation waits for one call, if nothing else is configured.
const CALL: Duration = Duration::from_mins(1);

/// A way to `address` on which each request, which has a connection of its own, takes a tenth of a second.
async fn slow_way(address: SocketAddr) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(100)).await;
                let mut far = TcpStream::connect(address).await.unwrap();
                near.set_nodelay(true).unwrap();
                far.set_nodelay(true).unwrap();
                // a client that goes away ends it
                drop(tokio::io::copy_bidirectional(&mut near, &mut far).await);
            });
        }
    });
    url
}

/// A promotion with the usual waits over a slow way, given up when a rotation gives it up.
async fn promoted(
    fake: &Fake,
    at: &SecretPath,
    token: WriteToken,
    expect: &VersionId,
) -> Result<VersionId, TargetError> {
    let settings = Settings { endpoint: Some(slow_way(fake.running.address).await), ..Settings::new(REGION) };
    let key = static_key(fake.aws.key().0, fake.aws.key().1);
    let account = Account::with_provider(settings, transport(Arc::new(SystemClock::new())), key).await;
    let store = AwsStore::new(Arc::new(account));
    let promoted = tokio::time::timeout(CALL, store.promote(at, token, Some(expect))).await;
    promoted.expect("it ends before it is given up")
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_never_ends_stops_the_promotion_before_it_begins() {
    let fake = Fake::start().await;
    let one = replicated(&fake, "slow").await;
    fake.aws.set_copy_lag(10_000);
    let (store, at) = (fake.store(), path("slow"));
    let (token, document) = write(2);
    store.stage(&at, token, &document).await.unwrap();
    let refused = promoted(&fake, &at, token, &one).await;
    let told = "the copy in eu-west-1 is still under way; nothing was promoted";
    assert!(matches!(&refused, Err(TargetError::Unavailable(text)) if text == told), "{refused:?}");
    assert_eq!(store.live_version(&at).await.unwrap(), one);
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_never_ends_after_the_promotion_keeps_the_label_where_it_is() {
    let fake = Fake::start().await;
    let one = replicated(&fake, "slow").await;
    let (store, at) = (fake.store(), path("slow"));
    let (token, document) = write(2);
    store.stage(&at, token, &document).await.unwrap();
    fake.aws.set_copy_lag(10_000);
    let two = promoted(&fake, &at, token, &one).await.unwrap();
    assert_eq!(two.0, token.to_string());
    assert_eq!(store.live_version(&at).await.unwrap(), two);
    assert!(fake.labels(&at).contains(&format!("KH_PENDING={token}")), "no second move meanwhile");
    let secret = fake.aws.secret(REGION, "slow").unwrap();
    assert!(!matches!(secret.copies["eu-west-1"], Copying::Failed), "{:?}", secret.copies);
}

#[tokio::test]
async fn a_copy_is_not_written_and_says_so() {
    let fake = Fake::start().await;
    replicated(&fake, "home").await;
    let clock = Arc::new(SystemClock::new());
    let settings = Settings { region: "eu-west-1".to_owned(), ..crate::bench::settings(&fake.running.url) };
    let key = static_key(fake.aws.key().0, fake.aws.key().1);
    let account = Account::with_provider(settings, transport(clock), key).await;
    let store = AwsStore::new(Arc::new(account));
    let check = store.check(&path("home")).await.unwrap();
    assert!(check.warnings.iter().any(|warning| warning.contains("primary in eu-central-1")), "{check:?}");
    let (token, document) = write(2);
    let refused = store.stage(&path("home"), token, &document).await;
    assert!(matches!(refused, Err(TargetError::Unusable(_))), "{refused:?}");
}
