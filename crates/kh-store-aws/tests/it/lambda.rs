//! The hook that refreshes Lambda functions.

use std::sync::Arc;

use kh_core::{
    Fingerprint, SecretBytes, UnixMillis,
    credential::CredentialDocument,
    port::{
        DeliveryHook,
        delivery::{HookError, Promotion},
    },
};
use kh_fakes::{Fault, aws::Function};
use kh_store_aws::{Account, lambda::LambdaRefresh};

use crate::bench::Fake;

/// Each generation is promoted a second after the one before.
fn promotion(generation: u64) -> Promotion {
    Promotion {
        run: format!("01900000-0000-7000-8000-{generation:012x}").parse().unwrap(),
        delivery: format!("01900000-0000-7000-9000-{generation:012x}").parse().unwrap(),
        credential: "acme".parse().unwrap(),
        generation,
        fingerprint: Fingerprint::try_from("0123456789abcdef".to_owned()).unwrap(),
        stores: Vec::new(),
        promoted_at: UnixMillis(1_790_000_000_000 + 1_000 * generation),
    }
}

async fn deliver_by(fake: &Fake, generation: u64) -> Result<String, HookError> {
    deliver(Arc::clone(&fake.account), generation).await
}

pub(crate) async fn deliver(account: Arc<Account>, generation: u64) -> Result<String, HookError> {
    deliver_this(account, &promotion(generation)).await
}

async fn deliver_this(account: Arc<Account>, promotion: &Promotion) -> Result<String, HookError> {
    let hook = LambdaRefresh::new("refresh", "orders", account).unwrap();
    let json = SecretBytes::new(br#"{"client_id":"c","client_secret":"MARKED-SECRET"}"#.to_vec());
    let document = CredentialDocument::parse(&json).unwrap();
    hook.deliver(promotion, &document).await
}

async fn with_function(function: Function) -> Fake {
    let fake = Fake::start().await;
    fake.aws.add_function(Function { name: "orders".to_owned(), ..function });
    fake
}

#[tokio::test]
async fn a_delivery_changes_the_description_once_and_waits_for_the_update() {
    let variables = [("SECRET_NAME".to_owned(), "kv/acme".to_owned())].into();
    let fake = with_function(Function {
        description: "takes orders".to_owned(),
        update_reads: 3,
        variables,
        ..Function::default()
    })
    .await;
    let told = deliver_by(&fake, 7).await.unwrap();
    assert_eq!(told, "orders starts anew with generation 7");
    let function = fake.aws.function("orders").unwrap();
    assert_eq!(
        function.description,
        "takes orders [keyholder generation 7 fingerprint 0123456789abcdef at 1790000007000 \
         delivery 01900000-0000-7000-9000-000000000007]"
    );
    assert_eq!((function.updates, function.reads_left, function.variables.len()), (1, 0, 1));
    deliver_by(&fake, 7).await.unwrap();
    assert_eq!(fake.aws.function("orders").unwrap().updates, 1, "a repeat changes nothing");
    deliver_by(&fake, 8).await.unwrap();
    deliver_by(&fake, 7).await.unwrap();
    let function = fake.aws.function("orders").unwrap();
    assert!(function.description.starts_with("takes orders [keyholder generation 8 "), "{}", function.description);
    assert_eq!(function.updates, 2, "a late delivery of an older generation changes nothing");
}

#[tokio::test]
async fn a_rollback_refreshes_the_older_generation_that_is_live_again() {
    let fake = with_function(Function { description: "takes orders".to_owned(), ..Function::default() }).await;
    deliver_by(&fake, 8).await.unwrap();
    let back = Promotion {
        delivery: "01900000-0000-7000-9000-0000000000ff".parse().unwrap(),
        promoted_at: UnixMillis(1_790_000_060_000),
        ..promotion(7)
    };
    let told = deliver_this(Arc::clone(&fake.account), &back).await.unwrap();
    assert_eq!(told, "orders starts anew with generation 7");
    assert_eq!(fake.aws.function("orders").unwrap().updates, 2);
    let late = deliver_by(&fake, 8).await.unwrap();
    assert_eq!(late, "orders was refreshed after a later promotion already, that of generation 7");
    let function = fake.aws.function("orders").unwrap();
    assert!(function.description.starts_with("takes orders [keyholder generation 7 "), "{}", function.description);
    assert_eq!(function.updates, 2, "the promotion that was taken back is not delivered again");
}

#[tokio::test]
async fn a_mark_without_a_time_is_older_and_a_long_description_keeps_its_words() {
    let old = "[keyholder generation 9 fingerprint 0123456789abcdef delivery 01900000-0000-7000-9000-000000000009]";
    let words = "x".repeat(150);
    let fake = with_function(Function { description: format!("{words} {old}"), ..Function::default() }).await;
    deliver_by(&fake, 7).await.unwrap();
    let function = fake.aws.function("orders").unwrap();
    assert_eq!(
        (function.description, function.updates),
        (format!("{words} [keyholder generation 7 at 1790000007000 delivery 01900000-0000-7000-9000-000000000007]"), 1)
    );
}

#[tokio::test]
async fn whatever_call_fails_the_same_delivery_again_ends_in_one_refresh() {
    let mut reached = 0;
    for fault in [Fault::DropBefore, Fault::DropAfter, Fault::FailAfter, Fault::Throttle { retry_after_seconds: None }]
    {
        for skip in 0..10 {
            let fake = with_function(Function { update_reads: 1, ..Function::default() }).await;
            fake.running.control.fault(fault.clone().once().after(skip));
            let mut tries = 0;
            while let Err(error) = deliver_by(&fake, 7).await {
                assert!(matches!(error, HookError::Transient(_)), "{fault:?} at {skip}: {error:?}");
                tries += 1;
                assert!(tries < 5);
            }
            assert_eq!(fake.aws.function("orders").unwrap().updates, 1, "{fault:?} at {skip}");
            if skip >= fake.operations().len() as u64 {
                break;
            }
            reached += 1;
        }
    }
    assert!(reached >= 12, "calls that failed: {reached}");
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let fake = Fake::start().await;
    assert!(matches!(deliver_by(&fake, 7).await, Err(HookError::Refused(_))), "there is no such function");
    let fake = with_function(Function { fails: Some("InvalidSubnet"), ..Function::default() }).await;
    let failed = deliver_by(&fake, 7).await;
    assert!(matches!(&failed, Err(HookError::Transient(text)) if text.contains("InvalidSubnet")), "{failed:?}");
    let fake = with_function(Function { description: "x".repeat(200), ..Function::default() }).await;
    assert!(matches!(deliver_by(&fake, 7).await, Err(HookError::Refused(_))), "no room for the mark");
    assert_eq!(fake.aws.function("orders").unwrap().updates, 0);
    fake.aws.deny(fake.aws.key().0, "GetFunctionConfiguration");
    assert!(matches!(deliver_by(&fake, 7).await, Err(HookError::Refused(_))));
    for bad in ["", "a b", "arn:aws:lambda:x", "../x", &"x".repeat(65)] {
        assert!(LambdaRefresh::new("hook", bad, Arc::clone(&fake.account)).is_err(), "{bad:?}");
    }
}

#[tokio::test]
async fn a_wrong_clock_is_corrected_by_the_services() {
    let fake = with_function(Function::default()).await;
    fake.running.control.clock().shift(7_200);
    deliver_by(&fake, 7).await.unwrap();
    assert_eq!(fake.aws.function("orders").unwrap().updates, 1);
}
