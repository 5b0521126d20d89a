//! Genesys Cloud's opaque tokens against the sandbox: roles, other organisations, revocation, what cannot be read.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use kh_core::{
    SecretString,
    identity::Identity,
    port::{BoxFuture, OwnToken, RemoteError, TokenAnswer, TokenAuthority},
};
use kh_platform::inbound::{GenesysRoles, GenesysTokens};
use kh_sandbox::SandboxConfig;
use serde_json::json;
use tokio::{sync::Semaphore, task::JoinHandle};

use super::told;
use crate::{
    fake::{Fake, Reply, address, client, json as reply},
    management::rig::{FIRST, Rig, TARGET, WEAK, organisation},
};

const ORGANISATION: &str = "0e1c0e1c-0000-4000-8000-000000000001";

/// Tokens that are handed out in turn, the last one again and again.
struct Own {
    tokens: Mutex<Vec<SecretString>>,
    refused: AtomicUsize,
}

impl Own {
    fn of(tokens: Vec<SecretString>) -> Arc<Self> {
        Arc::new(Self { tokens: Mutex::new(tokens), refused: AtomicUsize::new(0) })
    }
}

impl OwnToken for Own {
    fn token(&self) -> BoxFuture<'_, Result<SecretString, RemoteError>> {
        let mut tokens = self.tokens.lock().unwrap();
        let next = if tokens.len() > 1 { Some(tokens.remove(0)) } else { tokens.first().map(SecretString::duplicate) };
        Box::pin(async move { next.ok_or_else(|| RemoteError::new("no token")) })
    }

    fn refused(&self, _token: &SecretString) {
        self.refused.fetch_add(1, Ordering::SeqCst);
    }
}

async fn rig() -> Rig {
    let mut config = SandboxConfig::default();
    config.genesys.organization.id = Some(ORGANISATION.to_owned());
    Rig::start(organisation(config)).await
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}

fn tokens_of(rig: &Rig, organisation: &str, own: Arc<Own>) -> GenesysTokens {
    let api = address(&rig.sandbox.genesys_url);
    let vocabulary = words(&["oauth:client:view", "oauth:client:edit", "users:a:view", "routing:queue:view"]);
    let roles = GenesysRoles::new(rig.http.clone(), api.clone(), own, vocabulary);
    GenesysTokens::new(rig.http.clone(), api, "https://genesys.example".into(), organisation.to_owned(), roles)
}

async fn admin(rig: &Rig) -> Arc<Own> {
    Own::of(vec![rig.login(&rig.document(FIRST)).await.unwrap()])
}

async fn ask(tokens: &GenesysTokens, token: &SecretString) -> Result<Option<(Identity, Duration)>, RemoteError> {
    match tokens.ask(token).await? {
        TokenAnswer::Active { identity, age } => Ok(Some((*identity, age))),
        TokenAnswer::Inactive => Ok(None),
    }
}

fn permissions(identity: &Identity) -> Vec<String> {
    identity.permissions().iter().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_client_may_do_what_its_roles_grant() {
    let rig = rig().await;
    let tokens = tokens_of(&rig, ORGANISATION, admin(&rig).await);
    let target = rig.login(&rig.document(TARGET)).await.unwrap();
    let (identity, age) = ask(&tokens, &target).await.unwrap().unwrap();
    let id = rig.sandbox.clients[TARGET].id.as_str();
    assert_eq!((identity.client(), identity.subject()), (Some(id), Some(id)));
    assert_eq!(&**identity.issuer(), "https://genesys.example");
    assert_eq!(permissions(&identity), ["users:a:view", "users:b:view"]);
    assert!(age.is_zero() && identity.scopes().is_empty() && identity.expires_at().is_none());
    // a wildcard is the words that it stands for
    let weak = rig.login(&rig.document(WEAK)).await.unwrap();
    let (identity, _) = ask(&tokens, &weak).await.unwrap().unwrap();
    assert_eq!(permissions(&identity), ["oauth:client:edit", "oauth:client:view"]);
    // what was read a moment ago is not read again, and tells its age
    rig.clock.advance(Duration::from_secs(10));
    let reads = |rig: &Rig| rig.sandbox.requests().iter().filter(|entry| entry.path.contains("/roles/")).count();
    let before = reads(&rig);
    assert_eq!(ask(&tokens, &target).await.unwrap().unwrap().1, Duration::from_secs(10));
    assert_eq!(reads(&rig), before);
    rig.clock.advance(Duration::from_secs(5));
    assert_eq!(ask(&tokens, &target).await.unwrap().unwrap().1, Duration::ZERO);
    assert_eq!(reads(&rig), before + 2);
}

#[tokio::test]
async fn a_token_of_another_organisation_is_not_active() {
    let rig = rig().await;
    let tokens = tokens_of(&rig, "0e1c0e1c-0000-4000-8000-000000000002", admin(&rig).await);
    let target = rig.login(&rig.document(TARGET)).await.unwrap();
    assert_eq!(ask(&tokens, &target).await, Ok(None));
}

#[tokio::test]
async fn unknown_and_revoked_tokens_are_not_active() {
    let rig = rig().await;
    let tokens = tokens_of(&rig, ORGANISATION, admin(&rig).await);
    assert_eq!(ask(&tokens, &SecretString::copied("never-issued")).await, Ok(None));
    let target = rig.login(&rig.document(TARGET)).await.unwrap();
    assert!(ask(&tokens, &target).await.unwrap().is_some());
    rig.revoke(&rig.sandbox.clients[TARGET].id).await;
    assert_eq!(ask(&tokens, &target).await, Ok(None));
}

/// Nothing is known of such a token, and each caller of the region can have one.
#[tokio::test]
async fn a_token_that_keyholders_address_is_refused_for_is_taken_no_more_than_an_unknown_one() {
    let mut config = SandboxConfig::default();
    config.genesys.organization.id = Some(ORGANISATION.to_owned());
    config.behaviours.enforce_allowed_ips = true;
    let rig = Rig::start(config).await;
    let tokens = tokens_of(&rig, ORGANISATION, admin(&rig).await);
    let target = rig.login(&rig.document(TARGET)).await.unwrap();
    assert!(ask(&tokens, &target).await.unwrap().is_some());
    rig.allow_only(rig.sandbox.clients[TARGET].id.as_str(), "192.0.2.0/24").await;
    assert_eq!(ask(&tokens, &target).await, Ok(None));
}

#[tokio::test]
async fn roles_that_cannot_be_read_are_no_roles() {
    let rig = rig().await;
    let target = rig.login(&rig.document(TARGET)).await.unwrap();
    // keyholder's own client lacks the permission to read roles
    let weak = Own::of(vec![rig.login(&rig.document(WEAK)).await.unwrap()]);
    let error = ask(&tokens_of(&rig, ORGANISATION, weak), &target).await.unwrap_err();
    assert!(told(&error).contains("answered 403"), "{error:?}");
    let nobody = Own::of(Vec::new());
    assert!(ask(&tokens_of(&rig, ORGANISATION, nobody), &target).await.is_err());
    let tokens = tokens_of(&rig, ORGANISATION, admin(&rig).await);
    rig.fault(
        "GET",
        "/api/v2/authorization/roles/role-b",
        json!({"kind": "status", "status": 503, "retry_after": "9"}),
    )
    .await;
    assert!(ask(&tokens, &target).await.is_err(), "one of two roles is not enough");
    assert!(ask(&tokens, &target).await.unwrap().is_some(), "and nothing of it is remembered");
}

#[tokio::test]
async fn a_dead_token_of_our_own_is_replaced_once() {
    let rig = rig().await;
    let target = rig.login(&rig.document(TARGET)).await.unwrap();
    let good = rig.login(&rig.document(FIRST)).await.unwrap();
    let own = Own::of(vec![SecretString::copied("dead"), good]);
    let answer = ask(&tokens_of(&rig, ORGANISATION, Arc::clone(&own)), &target).await.unwrap();
    assert!(answer.is_some());
    assert_eq!(own.refused.load(Ordering::SeqCst), 1);
    let own = Own::of(vec![SecretString::copied("dead")]);
    assert!(ask(&tokens_of(&rig, ORGANISATION, Arc::clone(&own)), &target).await.is_err());
    assert_eq!(own.refused.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_refused_address_leaves_our_own_token_alone() {
    let rig = rig().await;
    let target = rig.login(&rig.document(TARGET)).await.unwrap();
    let own = admin(&rig).await;
    let tokens = tokens_of(&rig, ORGANISATION, Arc::clone(&own));
    let effect = json!({"kind": "unauthorized", "code": "ip.not.authorized"});
    rig.fault("GET", "/api/v2/authorization/roles/*", effect).await;
    let error = ask(&tokens, &target).await.unwrap_err();
    assert!(told(&error).contains("ip.not.authorized"), "{error:?}");
    assert_eq!(own.refused.load(Ordering::SeqCst), 0);
    let reads = rig.sandbox.requests().iter().filter(|entry| entry.path.contains("/roles/")).count();
    assert_eq!(reads, 1, "a second token would be refused as well");
    assert!(ask(&tokens, &target).await.unwrap().is_some(), "and nothing of it is remembered");
}

/// The sandbox serves no user's token without a browser, and no condition: these answers have the published shape.
#[tokio::test]
async fn users_have_scopes_and_conditions_grant_nothing() {
    let own = r#"{"organization":{"id":"o"},"authorizedScope":["users:readonly"],
        "OAuthClient":{"id":"c","authorizedGrantType":"CODE","roleDivisions":[{"roleId":"r","divisionId":"*"}]}}"#;
    let role = r#"{"id":"r","permissions":["a:b:c"],"permissionPolicies":[
        {"domain":"d","entityName":"e","actionSet":["view"]},
        {"domain":"d","entityName":"f","actionSet":["view"],"resourceConditionNode":{"operator":"IN"}}]}"#;
    let me = |grant: &str| own.replace("CODE", grant);
    for (body, expected_permissions, expected_scopes) in [
        (me("CODE"), vec![], vec!["users:readonly"]),
        (me("CLIENT-CREDENTIALS"), vec!["a:b:c", "d:e:view"], vec!["users:readonly"]),
        (r#"{"organization":{"id":"o"}}"#.to_owned(), vec![], vec![]),
    ] {
        let fake =
            Fake::start(move |seen| if seen.target.contains("/roles/") { reply(200, role) } else { reply(200, &body) })
                .await;
        let (http, _) = client();
        let own = Own::of(vec![SecretString::copied("own-token")]);
        let roles = GenesysRoles::new(http.clone(), fake.base(), own, []);
        let tokens = GenesysTokens::new(http, fake.base(), "i".into(), "o".to_owned(), roles);
        let (identity, _) = ask(&tokens, &SecretString::copied("caller-token")).await.unwrap().unwrap();
        assert_eq!(permissions(&identity), words(&expected_permissions));
        assert_eq!(identity.scopes().iter().collect::<Vec<_>>(), expected_scopes);
        let seen = fake.seen();
        assert_eq!(seen[0].line(), "GET /api/v2/tokens/me?preserveIdleTTL=true");
        assert_eq!(seen[0].header("authorization"), Some("Bearer caller-token"));
        assert!(seen.iter().skip(1).all(|request| request.header("authorization") == Some("Bearer own-token")));
    }
}

/// The platform has answered, and each user of the region can have such a token.
#[tokio::test]
async fn a_token_without_the_scope_of_the_question_is_not_active() {
    let fake = Fake::start(|_| {
        reply(403, r#"{"message":"m","code":"app.not.authorized.for.scope","status":403,"contextId":"c","errors":[]}"#)
    })
    .await;
    let (http, _) = client();
    let roles = GenesysRoles::new(http.clone(), fake.base(), Own::of(vec![SecretString::copied("t")]), []);
    let tokens = GenesysTokens::new(http, fake.base(), "i".into(), "o".to_owned(), roles);
    assert_eq!(ask(&tokens, &SecretString::copied("caller-token")).await, Ok(None));
    assert_eq!(fake.seen().len(), 1);
}

#[tokio::test]
async fn what_is_no_answer_is_an_error() {
    for (status, body) in [
        (200, "{}"),
        (200, r#"{"organization":{}}"#),
        (200, r#"{"organization":{"id":"o"},"organization":{"id":"o"}}"#),
        (200, r#"{"organization":{"id":"o"},"OAuthClient":{"authorizedGrantType":"CLIENT-CREDENTIALS"}}"#),
        (
            200,
            r#"{"organization":{"id":"o"},"OAuthClient":{"id":"c","authorizedGrantType":"CLIENT-CREDENTIALS",
            "roleDivisions":[{"roleId":"../../oauth/clients"}]}}"#,
        ),
        (200, "[]"),
        (200, ""),
        (403, ""),
        (403, r#"{"organization":{"id":"o"}}"#),
        (403, r#"{"code":"missing.permissions","status":403}"#),
        (403, r#"{"code":"other","message":"app.not.authorized.for.scope"}"#),
        (500, r#"{"code":"app.not.authorized.for.scope","status":500}"#),
        (429, r#"{"organization":{"id":"o"}}"#),
        (500, ""),
    ] {
        let fake = Fake::start(move |_| reply(status, body)).await;
        let (http, _) = client();
        let roles = GenesysRoles::new(http.clone(), fake.base(), Own::of(vec![SecretString::copied("t")]), []);
        let tokens = GenesysTokens::new(http, fake.base(), "i".into(), "o".to_owned(), roles);
        let error = ask(&tokens, &SecretString::copied("caller-token")).await.unwrap_err();
        told(&error);
        assert_eq!(fake.seen().len(), 1, "{body}");
    }
}

/// A platform where a caller's token is the id of its one role, and each answer about the role `slow` needs a permit.
async fn with_a_slow_role() -> (Fake, Arc<Semaphore>, Arc<GenesysTokens>) {
    let permits = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&permits);
    let fake = Fake::start(move |seen| {
        let Some((_, role)) = seen.target.split_once("/roles/") else {
            let role = seen.header("authorization").unwrap().strip_prefix("Bearer ").unwrap();
            let client =
                json!({"id": "c", "authorizedGrantType": "CLIENT-CREDENTIALS", "roleDivisions": [{"roleId": role}]});
            return reply(200, &json!({"organization": {"id": "o"}, "OAuthClient": client}).to_string());
        };
        match reply(200, &json!({"id": role, "permissions": [format!("role:{role}:view")]}).to_string()) {
            Reply::Raw(bytes) if role == "slow" => Reply::Held(Arc::clone(&held), bytes),
            other => other,
        }
    })
    .await;
    let (http, _) = client();
    let roles = GenesysRoles::new(http.clone(), fake.base(), Own::of(vec![SecretString::copied("own")]), []);
    let tokens = GenesysTokens::new(http, fake.base(), "i".into(), "o".to_owned(), roles);
    (fake, permits, Arc::new(tokens))
}

/// What a caller with this token may do, asked by a task of its own.
fn asking(tokens: &Arc<GenesysTokens>, token: &'static str) -> JoinHandle<Vec<String>> {
    let tokens = Arc::clone(tokens);
    tokio::spawn(async move {
        let (identity, _) = ask(&tokens, &SecretString::copied(token)).await.unwrap().unwrap();
        permissions(&identity)
    })
}

fn reads_of(fake: &Fake, role: &str) -> usize {
    let line = format!("GET /api/v2/authorization/roles/{role}");
    fake.lines().iter().filter(|seen| **seen == line).count()
}

#[tokio::test]
async fn a_slow_role_holds_up_nobody_who_has_another() {
    let (fake, permits, tokens) = with_a_slow_role().await;
    assert_eq!(asking(&tokens, "kept").await.unwrap(), ["role:kept:view"]);
    let slow = asking(&tokens, "slow");
    fake.arrived(4).await;
    for (role, expected) in [("kept", "role:kept:view"), ("new", "role:new:view")] {
        assert_eq!(asking(&tokens, role).await.unwrap(), [expected]);
        assert!(!slow.is_finished(), "{role} did not wait for the slow one");
    }
    assert_eq!((reads_of(&fake, "kept"), reads_of(&fake, "new")), (1, 1));
    permits.add_permits(1);
    assert_eq!(slow.await.unwrap(), ["role:slow:view"]);
}

#[tokio::test]
async fn a_role_is_read_once_however_many_wait_and_one_that_goes_away_strands_nobody() {
    let (fake, permits, tokens) = with_a_slow_role().await;
    let first = asking(&tokens, "slow");
    fake.arrived(2).await;
    let others: Vec<_> = (0..20).map(|_| asking(&tokens, "slow")).collect();
    fake.arrived(22).await;
    assert_eq!(reads_of(&fake, "slow"), 1);
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    fake.arrived(23).await;
    assert_eq!(reads_of(&fake, "slow"), 2, "the next one asks");
    permits.add_permits(2);
    for other in others {
        assert_eq!(other.await.unwrap(), ["role:slow:view"]);
    }
    assert_eq!(reads_of(&fake, "slow"), 2, "for all of them");
}
