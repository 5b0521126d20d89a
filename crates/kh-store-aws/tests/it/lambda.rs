//! The hook that refreshes Lambda functions.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use aws_credential_types::provider::{ProvideCredentials, error::CredentialsError, future};
use kh_core::{
    Fingerprint, SecretBytes, SystemClock, UnixMillis,
    credential::CredentialDocument,
    port::{
        DeliveryHook,
        delivery::{HookError, Promotion},
    },
};
use kh_fakes::{FakeClock, Fault, Options, Reply, Request, aws::Function, start};
use kh_store_aws::{Account, Credentials, SharedCredentialsProvider, lambda::LambdaRefresh};
use serde_json::{Value, json};

use crate::bench::{Fake, settings, transport};

/// Each generation is promoted a second after the one before.
fn promotion(generation: u64) -> Promotion {
    Promotion {
        run: format!("01900000-0000-7000-8000-{generation:012x}").parse().unwrap(),
        delivery: format!("01900000-0000-7000-9000-{generation:012x}").parse().unwrap(),
        credential: "acme".parse().unwrap(),
        generation,
        fingerprint: Fingerprint::try_from("0123456789abcdef".to_owned()).unwrap(),
        stores: Vec::new(),
        promoted_at: UnixMillis(1_700_000_000_000 + 1_000 * generation),
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
        "takes orders [keyholder generation 7 fingerprint 0123456789abcdef at 1700000007000 \
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
        promoted_at: UnixMillis(1_700_000_060_000),
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
        (format!("{words} [keyholder generation 7 at 1700000007000 delivery 01900000-0000-7000-9000-000000000007]"), 1)
    );
}

/// The first day of the year 2100, by a clock that was wrong.
#[tokio::test]
async fn a_mark_ahead_of_now_keeps_nothing_out() {
    let ahead = "[keyholder generation 9 at 4102444800000 delivery 01900000-0000-7000-9000-000000000009]";
    let fake = with_function(Function { description: ahead.to_owned(), ..Function::default() }).await;
    assert_eq!(deliver_by(&fake, 7).await.unwrap(), "orders starts anew with generation 7");
    assert_eq!(fake.aws.function("orders").unwrap().updates, 1);
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

/// What a source of credentials answers, given how often it was asked before.
type Answer = dyn Fn(usize) -> Result<Credentials, CredentialsError> + Send + Sync;

/// A source of credentials that counts how often it is asked.
#[derive(Clone)]
struct Source {
    asked: Arc<AtomicUsize>,
    answer: Arc<Answer>,
}

impl Source {
    fn of(answer: impl Fn(usize) -> Result<Credentials, CredentialsError> + Send + Sync + 'static) -> Self {
        Self { asked: Arc::default(), answer: Arc::new(answer) }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    async fn account_at(&self, url: &str) -> Arc<Account> {
        let provider = SharedCredentialsProvider::new(self.clone());
        Arc::new(Account::with_provider(settings(url), transport(Arc::new(SystemClock::new())), provider).await)
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Source")
    }
}

impl ProvideCredentials for Source {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready((self.answer)(self.asked.fetch_add(1, Ordering::SeqCst)))
    }
}

#[tokio::test]
async fn credentials_are_fetched_once_for_a_delivery() {
    let fake = with_function(Function { update_reads: 5, ..Function::default() }).await;
    let (id, secret) = (fake.aws.key().0.to_owned(), fake.aws.key().1.to_owned());
    let source = Source::of(move |_| Ok(Credentials::new(id.as_str(), secret.as_str(), None, None, "test")));
    let account = source.account_at(&fake.running.url).await;
    deliver(Arc::clone(&account), 7).await.unwrap();
    assert!(fake.operations().len() > 5, "{:?}", fake.operations());
    assert_eq!(source.asked(), 1);
    deliver(account, 8).await.unwrap();
    assert_eq!(source.asked(), 2, "the next delivery may find others");
}

#[tokio::test]
async fn a_source_of_credentials_that_was_slow_is_asked_again() {
    let fake = with_function(Function::default()).await;
    let (id, secret) = (fake.aws.key().0.to_owned(), fake.aws.key().1.to_owned());
    let source = Source::of(move |asked| match asked {
        0 => Err(CredentialsError::provider_timed_out(std::time::Duration::from_secs(5))),
        1 => Err(CredentialsError::not_loaded("there is no profile of this name")),
        _ => Ok(Credentials::new(id.as_str(), secret.as_str(), None, None, "test")),
    });
    let account = source.account_at(&fake.running.url).await;
    let slow = deliver(Arc::clone(&account), 7).await;
    assert!(
        matches!(&slow, Err(HookError::Transient(text)) if text.starts_with("no AWS credentials: ")),
        "it may come later: {slow:?}"
    );
    let lacking = deliver(Arc::clone(&account), 7).await;
    assert!(
        matches!(&lacking, Err(HookError::Refused(text)) if text.ends_with("there is no profile of this name")),
        "somebody has to act: {lacking:?}"
    );
    assert_eq!(fake.operations(), Vec::<String>::new(), "nothing was sent");
    deliver(account, 7).await.unwrap();
    assert_eq!(fake.aws.function("orders").unwrap().updates, 1);
}

/// Lambda for which one session has expired, with a function that had the delivery of generation 7.
struct Expired;

impl kh_fakes::Fake for Expired {
    fn operation(&self, request: &Request) -> String {
        request.header("x-amz-security-token").unwrap_or_default().to_owned()
    }

    fn answer(&self, request: &Request, _: &FakeClock) -> Reply {
        if request.header("x-amz-security-token") == Some("new-session") {
            let delivery = promotion(7).delivery;
            let description = format!("[keyholder generation 7 at 1700000007000 delivery {delivery}]");
            return Reply::json(200, &json!({"Description": description, "LastUpdateStatus": "Successful"}));
        }
        Reply::json(403, &json!({"message": "expired"})).with("x-amzn-errortype", "ExpiredTokenException")
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
async fn expired_credentials_are_fetched_anew_once() {
    let running = start(Arc::new(Expired), Options::default()).await.unwrap();
    for (second, good) in [("new-session", true), ("old-session", false)] {
        let source = Source::of(move |asked| {
            let session = if asked == 0 { "old-session" } else { second };
            Ok(Credentials::new("ASIASESSION", "secret", Some(session.to_owned()), None, "test"))
        });
        let told = deliver(source.account_at(&running.url).await, 7).await;
        assert_eq!(told.is_ok(), good, "{told:?}");
        assert_eq!(source.asked(), 2);
    }
}
