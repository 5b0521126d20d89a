//! keyholder's own opaque tokens: in force and out of force with the next request.

use std::sync::Arc;

use kh_core::{Clock, ManualClock, SystemEntropy, port::ClientRecord};
use kh_inbound::{AnswerRules, IssuerSpec, Trust, Verifier, VerifierConfig};
use kh_issuer::{Issuer, NewClient, NewTokens, OwnTokens};
use tokio::runtime::Handle;

use crate::support::{START, against, carry_out, state_in};

const ISS: &str = "https://keyholder.example";

struct World {
    issuer: Arc<Issuer>,
    verifier: Verifier,
    clock: ManualClock,
    client: ClientRecord,
    token: String,
    _folder: tempfile::TempDir,
}

async fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(START);
    let state = state_in(folder.path(), clock.clone());
    let store: Arc<dyn kh_core::port::StateStore> = Arc::<kh_state::SqliteState>::clone(&state);
    let issuer = Issuer::open(store, Arc::new(clock.clone()), Arc::new(SystemEntropy)).await.unwrap();
    let new = NewClient {
        name: "app".parse().unwrap(),
        credential: None,
        environment: None,
        scopes: vec!["orders.read".to_owned()],
        tokens: NewTokens::default(),
        allow: Vec::new(),
        allow_all: false,
        allow_secret_operations: false,
        ttl: None,
    };
    let (client, secret) = issuer.add_client(new, "test").await.unwrap();
    let login = issuer.login(client.id.as_str(), &secret).await.unwrap();
    let token = login.access_token.expose().to_owned();
    let authority = Arc::new(OwnTokens::new(Arc::clone(&issuer), ISS.into()));
    let spec = IssuerSpec {
        name: "keyholder".into(),
        issuers: vec![ISS.into()],
        life_max: None,
        trust: Trust::Authority { authority, rules: AnswerRules::in_process("kht_") },
    };
    let config = VerifierConfig::new(vec![spec]);
    let verifier = Verifier::new(config, state, Arc::new(clock.clone()), Handle::current()).unwrap();
    verifier.load().await.unwrap();
    World { issuer, verifier, clock, client, token, _folder: folder }
}

impl World {
    fn is_known(&self) -> bool {
        self.verifier.known(self.token.as_bytes(), self.clock.now()).is_some()
    }

    async fn code(&self, token: &str) -> &'static str {
        match self.verifier.verify(token.as_bytes(), self.clock.now()).await {
            Ok(_) => "ok",
            Err(denied) => denied.reason.as_str(),
        }
    }
}

#[tokio::test]
async fn a_token_of_ours_is_known_from_the_issuers_memory() {
    let world = world().await;
    let identity = world.verifier.known(world.token.as_bytes(), world.clock.now()).unwrap();
    let id = world.client.id.as_str();
    assert_eq!((&**identity.issuer(), identity.client(), identity.subject()), (ISS, Some(id), Some(id)));
    assert!(identity.scopes().contains("orders.read"));
    assert_eq!(world.verifier.stats().cached, 0, "it is kept nowhere else");
    assert_eq!(world.code("kht_nonsense").await, "inactive");
    assert_eq!(world.code("other").await, "unrecognised");
}

#[tokio::test]
async fn a_disabled_client_a_revocation_and_the_end_count_at_once() {
    let world = world().await;
    assert!(world.is_known());
    world.issuer.set_enabled("app", false, "test").await.unwrap();
    assert!(!world.is_known());
    assert_eq!(world.code(&world.token).await, "inactive");
    world.issuer.set_enabled("app", true, "test").await.unwrap();
    let again = self::world().await;
    assert!(again.is_known());
    carry_out(&again.verifier, &against(&again.token), again.clock.now().wall).await.unwrap();
    assert!(!again.is_known());
    assert_eq!(again.code(&again.token).await, "revoked");
    let last = self::world().await;
    last.clock.advance(std::time::Duration::from_hours(24));
    assert!(!last.is_known());
    assert_eq!(last.code(&last.token).await, "inactive");
}
