//! keyholder's own opaque tokens as they are verified in production.

use std::time::Duration;

use kh_core::{
    ManualClock, SystemEntropy, UnixMillis,
    audit::AuditEvent,
    port::{AuditError, AuditLog, StateStore},
};
use kh_inbound::{Verifier, VerifierConfig};
use kh_issuer::{NewClient, NewTokens};
use kh_state::SqliteState;
use tokio::runtime::Handle;

use super::*;

/// Takes everything.
struct Audit;

impl AuditLog for Audit {
    fn append(&self, _events: &[AuditEvent]) -> Result<(), AuditError> {
        Ok(())
    }
}

#[tokio::test]
async fn a_token_of_ours_that_lives_long_is_taken_by_the_process_that_did_not_issue_it() {
    let folder = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(UnixMillis(1_790_000_000_000)));
    let database = folder.path().join("state").join("state.db");
    let state = Arc::new(SqliteState::open(&database, Arc::new(Audit), Arc::clone(&clock)).unwrap());
    let open = || {
        let store: Arc<dyn StateStore> = Arc::<SqliteState>::clone(&state);
        Issuer::open(store, Arc::clone(&clock), Arc::new(SystemEntropy))
    };
    let issuing = open().await.unwrap();
    let new = NewClient {
        name: "app".parse().unwrap(),
        credential: None,
        environment: None,
        scopes: Vec::new(),
        tokens: NewTokens::default(),
        allow: Vec::new(),
        allow_all: false,
        allow_secret_operations: false,
        ttl: Some(Duration::from_hours(90 * 24)),
    };
    let (client, secret) = issuing.add_client(new, "test").await.unwrap();
    let other = open().await.unwrap();
    let login = issuing.login(client.id.as_str(), &secret).await.unwrap();
    for issuer in [&issuing, &other] {
        let config = VerifierConfig::new(vec![own_opaque("own", Vec::new(), issuer)]);
        let store = Arc::<SqliteState>::clone(&state);
        let verifier = Verifier::new(config, store, Arc::clone(&clock), Handle::current()).unwrap();
        verifier.load().await.unwrap();
        let taken = verifier.verify(login.access_token.expose().as_bytes(), clock.now()).await;
        assert_eq!(taken.map(|identity| identity.client() == Some(client.id.as_str())), Ok(true));
    }
}
