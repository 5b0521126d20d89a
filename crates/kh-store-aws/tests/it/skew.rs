//! A wrong clock: signatures are good for five minutes.

use std::{sync::Arc, time::Duration};

use kh_core::{
    Clock, ManualClock, SystemClock,
    port::{SecretTarget, TargetError},
};
use kh_store_aws::{Account, AwsStore};

use crate::bench::{Fake, path, settings, static_key, transport, write};

async fn store_at(fake: &Fake, shift_seconds: i64) -> AwsStore {
    let now = SystemClock::new().now().wall;
    let shift = Duration::from_secs(shift_seconds.unsigned_abs());
    let wrong = if shift_seconds < 0 { now.minus(shift) } else { now.plus(shift) };
    let key = static_key(fake.aws.key().0, fake.aws.key().1);
    let transport = transport(Arc::new(ManualClock::at(wrong)));
    AwsStore::new(Arc::new(Account::with_provider(settings(&fake.running.url), transport, key).await))
}

#[tokio::test]
async fn a_wrong_clock_costs_one_refused_request_and_no_more() {
    for shift in [-86_400, -3_600, -290, 290, 3_600, 86_400] {
        let fake = Fake::start().await;
        let store = store_at(&fake, shift).await;
        let at = path("skewed");
        let (token, document) = write(1);
        store.stage(&at, token, &document).await.unwrap();
        store.promote(&at, token, None).await.unwrap();
        assert_eq!(store.live(&at).await.unwrap().value, document);
        let refused = fake.running.control.journal().iter().filter(|entry| entry.status == 400).count();
        let answers_that_are_not_refusals_of_the_clock = 4;
        let wrong = i64::from(shift.unsigned_abs() > 300);
        let refused = i64::try_from(refused).unwrap();
        assert!(refused <= wrong + answers_that_are_not_refusals_of_the_clock, "{shift}: {refused}");
    }
}

#[tokio::test]
async fn a_wrong_key_is_not_mistaken_for_a_wrong_clock() {
    let fake = Fake::start().await;
    let key = static_key(fake.aws.key().0, "another-secret");
    let transport = transport(Arc::new(SystemClock::new()));
    let store = AwsStore::new(Arc::new(Account::with_provider(settings(&fake.running.url), transport, key).await));
    let refused = store.live(&path("x")).await;
    assert!(matches!(refused, Err(TargetError::Unauthenticated(_))), "{refused:?}");
    assert_eq!(fake.operations().len(), 2, "tried again once");
}

/// A front door that refuses the time of each request, whatever is sent: the clock cannot be learnt from it.
#[tokio::test]
async fn a_clock_that_cannot_be_corrected_is_told_as_the_reason() {
    use kh_fakes::Fault;
    for (status, body) in [
        (
            400,
            r#"{"__type":"InvalidSignatureException","message":"Signature expired: 20260101T000000Z is now earlier than 20260101T001000Z"}"#,
        ),
        (403, "<ErrorResponse><Error><Code>RequestTimeTooSkewed</Code><Message>x</Message></Error></ErrorResponse>"),
    ] {
        let fake = Fake::start().await;
        let store = store_at(&fake, -3_600).await;
        let fault = Fault::Answer { status, body: body.to_owned() };
        fake.running.control.fault(fault.always());
        let (token, document) = write(1);
        for refused in [
            store.live(&path("x")).await.map(drop),
            store.stage(&path("x"), token, &document).await,
            store.promote(&path("x"), token, None).await.map(drop),
        ] {
            assert!(
                matches!(&refused, Err(TargetError::Unauthenticated(text)) if text.contains("clock of this machine")),
                "{refused:?}"
            );
        }
        assert_eq!(fake.operations().len(), 6, "each is tried once more and no oftener");
        assert_eq!(fake.running.control.changes(), 0);
        fake.running.control.heal();
        store.stage(&path("x"), token, &document).await.unwrap();
    }
}
