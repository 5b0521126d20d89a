//! The suite that every store must pass, on the strict fake.

use kh_store::conformance::target::run;

use crate::bench::Fake;

#[tokio::test]
async fn the_suite_holds_on_the_strict_fake() {
    let fake = Fake::start().await;
    run(&fake.store(), &fake).await;
    // What was staged before anything was live is gone from its waiting places, or was never promoted.
    let names = fake.aws.names(crate::bench::REGION);
    assert!(names.len() > 50, "the suite wrote many secrets: {}", names.len());
}

#[tokio::test]
async fn the_suite_holds_while_reads_lag_behind_changes() {
    use kh_core::port::SecretTarget;

    use crate::bench::{path, write};

    let fake = Fake::start().await;
    let store = fake.store();
    let at = path("lagging");
    let (first, document) = write(1);
    store.stage(&at, first, &document).await.unwrap();
    let mut live = store.promote(&at, first, None).await.unwrap();
    fake.aws.set_read_lag(3);
    for number in 2..12 {
        let (token, document) = write(number);
        store.stage(&at, token, &document).await.unwrap();
        live = store.promote(&at, token, Some(&live)).await.unwrap();
        assert_eq!(live.0, token.to_string());
        let again = store.promote(&at, token, Some(&live)).await.unwrap();
        assert_eq!(again, live, "a repeat right after, while reads still see the old state");
    }
    let (left, _) = write(12);
    let refused = store.promote(&at, left, Some(&live)).await;
    assert!(matches!(refused, Err(kh_core::port::TargetError::NotFound(_))), "never staged: {refused:?}");
}
