//! Tokens that are bound to their client: what a login has to prove, where it is kept, and that a client whose tokens must
//! be bound has no others.

use kh_core::{
    Confirmation, SecretString, Sha256,
    port::{ClientRecord, StateStore, TokenBinding},
};
use kh_issuer::{Asked, Held, Issuer, Login, LoginError, NewClient, NewTokens, SecretOverlap};

use crate::support::{START, World, bytes, jwt_client, new_client};

const CERTIFICATE: Sha256 = Sha256([1; 32]);
const KEY: Sha256 = Sha256([2; 32]);
const OF_CERTIFICATE: Confirmation = Confirmation::X5tS256([1; 32]);
const OF_KEY: Confirmation = Confirmation::Jkt([2; 32]);

fn held(certificate: bool, key: bool) -> Held {
    Held { certificate: certificate.then_some(CERTIFICATE), key: key.then_some(KEY) }
}

fn bound(new: NewClient, binding: TokenBinding) -> NewClient {
    NewClient { tokens: NewTokens { binding, ..new.tokens.clone() }, ..new }
}

async fn login(issuer: &Issuer, client: &ClientRecord, secret: &SecretString, held: Held) -> Result<Login, LoginError> {
    issuer.login_if(client.id.as_str(), secret, Asked { held, ..Asked::default() }, |_| Ok(())).await
}

#[tokio::test]
async fn what_a_client_proves_is_what_its_token_is_bound_to() {
    let world = World::new();
    let issuer = world.authority().await;
    for (name, binding, certificate, key, expected) in [
        ("a", TokenBinding::None, false, false, Ok(None)),
        // a certificate that the client was not asked for says nothing: a proxy may have brought it
        ("b", TokenBinding::None, true, false, Ok(None)),
        ("c", TokenBinding::None, false, true, Ok(Some(OF_KEY))),
        ("d", TokenBinding::None, true, true, Ok(Some(OF_KEY))),
        ("e", TokenBinding::Certificate, true, false, Ok(Some(OF_CERTIFICATE))),
        ("f", TokenBinding::Certificate, false, false, Err("invalid_request")),
        ("g", TokenBinding::Certificate, false, true, Err("invalid_request")),
        ("h", TokenBinding::Certificate, true, true, Err("invalid_request")),
        ("i", TokenBinding::Dpop, false, true, Ok(Some(OF_KEY))),
        ("j", TokenBinding::Dpop, true, true, Ok(Some(OF_KEY))),
        ("k", TokenBinding::Dpop, false, false, Err("invalid_dpop_proof")),
        ("l", TokenBinding::Dpop, true, false, Err("invalid_dpop_proof")),
    ] {
        for new in [new_client(&format!("opaque-{name}")), jwt_client(&format!("jwt-{name}"), &[])] {
            let (client, secret) = issuer.add_client(bound(new, binding), "cli:test").await.unwrap();
            let told = login(&issuer, &client, &secret, held(certificate, key)).await;
            let told = told.as_ref().map(|login| login.bound).map_err(LoginError::oauth_error);
            assert_eq!(told, expected, "{}", client.name);
            // who has no secret hears of that and of nothing else
            let wrong = SecretString::new("khs_wrong".to_owned());
            let error = login(&issuer, &client, &wrong, held(certificate, key)).await.unwrap_err();
            assert!(matches!(error, LoginError::Rejected), "{error:?}");
        }
    }
}

#[tokio::test]
async fn a_binding_survives_a_restart_and_another_process_reads_it() {
    let world = World::new();
    let issuer = world.issuer().await;
    let new = bound(new_client("one"), TokenBinding::Certificate);
    let (client, secret) = issuer.add_client(new, "cli:test").await.unwrap();
    let made = login(&issuer, &client, &secret, held(true, false)).await.unwrap();
    assert_eq!(issuer.session(bytes(&made)).unwrap().confirmation(), Some(&OF_CERTIFICATE));
    // one that was there before the token, and asks the state for it
    let other = world.issuer().await;
    let later = login(&issuer, &client, &secret, held(true, false)).await.unwrap();
    let loaded = other.session_or_load(bytes(&later)).await.unwrap().unwrap();
    assert_eq!(loaded.confirmation(), Some(&OF_CERTIFICATE));
    assert_eq!(world.issuer().await.session(bytes(&made)).unwrap().confirmation(), Some(&OF_CERTIFICATE));
}

#[tokio::test]
async fn a_new_secret_keeps_the_binding() {
    let world = World::new();
    let issuer = world.issuer().await;
    let new = bound(new_client("one"), TokenBinding::Dpop);
    let (client, first) = issuer.add_client(new, "cli:test").await.unwrap();
    let overlap = SecretOverlap::For(std::time::Duration::from_hours(1));
    let (client, second) = issuer.rotate_secret(client.id.as_str(), overlap, "cli:test").await.unwrap();
    assert_eq!(client.token_binding, TokenBinding::Dpop);
    for secret in [&first, &second] {
        let error = login(&issuer, &client, secret, held(true, false)).await.unwrap_err();
        assert_eq!(error.oauth_error(), "invalid_dpop_proof");
        assert_eq!(login(&issuer, &client, secret, held(false, true)).await.unwrap().bound, Some(OF_KEY));
    }
}

/// From the moment that a client's tokens must be bound there are no others: not those that it has, and not in another
/// process.
#[tokio::test]
async fn a_client_that_must_be_bound_has_no_bearer_tokens_left() {
    let world = World::new();
    let issuer = world.authority().await;
    let api = NewTokens { may_introspect: true, ..NewTokens::default() };
    let api = NewClient { tokens: api, ..new_client("api") };
    let (api, _) = issuer.add_client(api, "cli:test").await.unwrap();
    let mut tokens = Vec::new();
    for new in [new_client("opaque"), jwt_client("jwt", &[])] {
        let (client, secret) = issuer.add_client(new, "cli:test").await.unwrap();
        for proven in [held(false, false), held(false, true)] {
            let made = login(&issuer, &client, &secret, proven).await.unwrap();
            assert!(issuer.introspect(&api, bytes(&made)).await.unwrap().is_some());
            tokens.push((client.clone(), made));
        }
    }
    let other = world.authority().await;
    for name in ["opaque", "jwt"] {
        let changed = issuer.set_token_binding(name, TokenBinding::Dpop, "cli:test").await.unwrap();
        assert_eq!(changed.token_binding, TokenBinding::Dpop);
    }
    other.refresh().await.unwrap();
    for issuer in [&issuer, &other] {
        for (client, made) in &tokens {
            let found = issuer.introspect(&api, bytes(made)).await.unwrap();
            // JWTs are revoked one and all: their verifiers know no client, and of a token only when it was issued
            let stands = made.bound.is_some() && client.name.as_str() == "opaque";
            assert_eq!(found.is_some(), stands, "{}", client.name);
        }
    }
    // and the way back gives none of a client whose tokens were not bound a second life as what it is not
    issuer.set_token_binding("opaque", TokenBinding::Certificate, "cli:test").await.unwrap();
    for (_, made) in tokens.iter().filter(|(client, _)| client.name.as_str() == "opaque") {
        assert!(issuer.session(bytes(made)).is_none(), "bound to a key is not bound to a certificate");
    }
    assert_eq!(world.state().live_tokens(START).await.unwrap().len(), 2, "they wait for their end");
}
