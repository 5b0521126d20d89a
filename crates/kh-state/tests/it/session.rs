//! Sessions of users: their port, and the way back to an older schema.

use std::{sync::Arc, time::Duration};

use kh_core::{
    Sha256, UnixMillis,
    port::{ClientRecord, SessionLimits, SessionRecord, SessionStore, StateStore, TokenBinding, TokenRecord},
    session::RefreshJournal,
};
use kh_state::conformance;

use crate::support::{Fixture, START, client, event, token};

#[tokio::test]
async fn the_store_of_sessions_does_what_its_port_says() {
    let fixture = Fixture::new();
    let open = || -> (Arc<dyn SessionStore>, Arc<dyn StateStore>) {
        let state = Arc::new(fixture.open());
        (Arc::clone(&state) as Arc<dyn SessionStore>, state)
    };
    let audited = || fixture.audit.events.lock().clone();
    let subject = conformance::SessionSubject { open: &open, audited: &audited };
    conformance::run_sessions(&subject).await;
    conformance::run_sessions(&subject).await;
}

fn record(token: Sha256, sealed: usize) -> SessionRecord {
    SessionRecord {
        token,
        client: client("one").id,
        credential: "acme".parse().unwrap(),
        began_at: START,
        used_at: START,
        expires_at: UnixMillis(START.0 + 1000),
        idle_life: Duration::from_secs(500),
        version: 1,
        journal: RefreshJournal::begin(true),
        sealed: Some(vec![7; sealed]),
        end: None,
    }
}

#[tokio::test]
async fn the_way_back_ends_sessions_and_the_tokens_that_speak_for_them() {
    let fixture = Fixture::new();
    let state = fixture.open();
    let owner = ClientRecord { token_binding: TokenBinding::None, ..client("one") };
    state.add_client(owner.clone(), event("client.add")).await.unwrap();
    let free = |name| TokenRecord { confirmation: None, ..token(&owner, name, 1000) };
    let (of_session, plain) = (free("session"), free("plain"));
    for token in [&of_session, &plain] {
        state.add_token(token.clone()).await.unwrap();
    }
    let limits = SessionLimits { per_client: 9, total: 9 };
    let too_long = state.begin_session(record(of_session.digest, 100_000), limits).await;
    assert!(too_long.is_err(), "a value is bounded");
    state.begin_session(record(of_session.digest, 10), limits).await.unwrap();
    drop(state);
    let (from, losses) = kh_state::losses(&fixture.path(), 6).unwrap();
    assert_eq!((from, losses.len(), losses[0].count, losses[0].whose), (kh_state::SCHEMA, 1, 1, "sessions"));
    kh_state::downgrade(&fixture.path(), 6).unwrap();
    let state = fixture.open();
    assert_eq!(state.session(of_session.digest).await.unwrap(), None);
    assert_eq!(state.live_tokens(START).await.unwrap(), [plain]);
}
