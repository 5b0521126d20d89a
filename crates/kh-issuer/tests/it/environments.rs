//! Clients and their environments: who is bound when, who may log in, and that every change is audited.

use kh_core::{CredentialName, EnvironmentName, environment::EnvironmentRefused, port::StateStore};
use kh_issuer::{Asked, IssuerError, LoginError, NewClient};

use crate::support::{World, add, new_client};

fn named(text: &str) -> EnvironmentName {
    text.parse().unwrap()
}

/// A configuration whose one credential is `acme`.
fn config(environment: Option<&str>) -> impl Fn(&CredentialName) -> Option<EnvironmentName> + Send + Sync {
    let environment = environment.map(named);
    move |name| environment.clone().filter(|_| name.as_str() == "acme")
}

#[tokio::test]
async fn a_client_without_an_environment_is_bound_once_and_audited() {
    let world = World::new();
    let issuer = world.issuer().await;
    add(&issuer, "old").await;
    let other = NewClient { credential: Some("gone".parse().unwrap()), ..new_client("other") };
    issuer.add_client(other, "cli:test").await.unwrap();
    let none = NewClient { credential: None, ..new_client("none") };
    issuer.add_client(none, "cli:test").await.unwrap();

    assert_eq!(issuer.bind_environments(&config(None), "keyholder").await.unwrap(), 0, "there is none to bind to");
    assert_eq!(issuer.bind_environments(&config(Some("staging")), "keyholder").await.unwrap(), 1);
    let of = |name: &str| issuer.client(name).unwrap().record.environment.clone();
    assert_eq!((of("old"), of("other"), of("none")), (Some(named("staging")), None, None));
    let event = world.audit.0.lock().last().unwrap().clone();
    assert_eq!(
        (event.actor.as_str(), event.action.as_str(), event.subject.as_str()),
        ("keyholder", "client.bind_environment", "old")
    );
    assert!(event.detail.contains(&("environment".to_owned(), "staging".to_owned())), "{event:?}");

    // a credential that changes its environment later moves no client
    assert_eq!(issuer.bind_environments(&config(Some("production")), "keyholder").await.unwrap(), 0);
    assert_eq!(of("old"), Some(named("staging")));
    drop(issuer);
    assert_eq!(world.issuer().await.client("old").unwrap().record.environment, Some(named("staging")), "it is durable");
}

#[tokio::test]
async fn a_refused_login_issues_nothing_and_says_which_environments_differ() {
    let world = World::new();
    let state = world.state();
    let issuer = world.issuer_over(state.clone()).await;
    let new = NewClient { environment: Some(named("staging")), ..new_client("app") };
    let (record, secret) = issuer.add_client(new, "cli:test").await.unwrap();
    let admit = |own: &str| {
        let own = named(own);
        move |client: &kh_core::port::ClientRecord| {
            let credential = client.credential.clone().unwrap();
            kh_core::environment::check_fit(client.environment.as_ref(), &credential, Some(&own))
        }
    };
    let refused =
        issuer.login_if(record.id.as_str(), &secret, Asked::default(), admit("production")).await.unwrap_err();
    assert!(matches!(&refused, LoginError::Environment(EnvironmentRefused::Client { .. })), "{refused:?}");
    assert_eq!((refused.code().0, refused.oauth_error()), ("keyholder.environment.refused", "unauthorized_client"));
    assert_eq!(state.live_tokens(crate::support::START).await.unwrap().len(), 0);
    // a wrong secret learns nothing of environments
    let wrong = kh_core::SecretString::new("khs_wrong".to_owned());
    let refused = issuer.login_if(record.id.as_str(), &wrong, Asked::default(), admit("production")).await.unwrap_err();
    assert!(matches!(refused, LoginError::Rejected));
    issuer.login_if(record.id.as_str(), &secret, Asked::default(), admit("staging")).await.unwrap();
}

#[tokio::test]
async fn a_person_confirms_the_environment_that_the_credential_has_and_no_other() {
    let world = World::new();
    let issuer = world.issuer().await;
    let new = NewClient { environment: Some(named("test")), ..new_client("app") };
    issuer.add_client(new, "cli:test").await.unwrap();
    for (own, asked) in [(Some("staging"), "production"), (Some("production"), "staging"), (None, "staging")] {
        let refused = issuer.set_environment("app", &named(asked), &config(own), "cli:test").await;
        assert!(matches!(refused, Err(IssuerError::Environment(EnvironmentRefused::Other { .. }))), "{own:?} {asked}");
    }
    assert_eq!(issuer.client("app").unwrap().record.environment, Some(named("test")));
    let after = issuer.set_environment("app", &named("staging"), &config(Some("staging")), "cli:test").await.unwrap();
    assert_eq!(after.environment, Some(named("staging")));
    let event = world.audit.0.lock().last().unwrap().clone();
    assert_eq!(event.action, "client.set_environment");
    assert!(event.detail.contains(&("environment_before".to_owned(), "test".to_owned())), "{event:?}");
}
