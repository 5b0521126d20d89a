//! Where credentials come from, and what is not taken from the environment.

use std::sync::Arc;

use kh_core::{
    SystemClock,
    port::{SecretTarget, TargetError},
};
use kh_store_aws::{Account, AwsStore, CredentialSource, Credentials, Settings, SharedCredentialsProvider};

use crate::bench::{Fake, path, settings, transport};

#[tokio::test]
async fn a_session_token_is_sent_and_checked() {
    let fake = Fake::start().await;
    fake.aws.add_key("ASIASESSION", "secret", Some("session-token"));
    for (token, good) in [(Some("session-token"), true), (Some("other"), false), (None, false)] {
        let key = Credentials::new("ASIASESSION", "secret", token.map(str::to_owned), None, "test");
        let transport = transport(Arc::new(SystemClock::new()));
        let provider = SharedCredentialsProvider::new(key);
        let account = Account::with_provider(settings(&fake.running.url), transport, provider).await;
        let found = AwsStore::new(Arc::new(account)).live(&path("x")).await;
        match found {
            Err(TargetError::NotFound(_)) => assert!(good, "{token:?}"),
            Err(TargetError::Unauthenticated(_)) => assert!(!good, "{token:?}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn without_credentials_nothing_is_sent() {
    let fake = Fake::start().await;
    // No test of this workspace runs with AWS credentials in its environment or with a profile of this name.
    for credentials in [
        CredentialSource::Profile("keyholder-test-that-does-not-exist".to_owned()),
        CredentialSource::WebIdentity,
        CredentialSource::Container,
    ] {
        let settings = Settings { credentials: credentials.clone(), ..settings(&fake.running.url) };
        let account = Account::new(settings, transport(Arc::new(SystemClock::new()))).await;
        let refused = AwsStore::new(Arc::new(account)).live(&path("x")).await;
        assert!(matches!(refused, Err(TargetError::Unauthenticated(_))), "{credentials:?}: {refused:?}");
    }
    assert_eq!(fake.operations(), Vec::<String>::new());
}
