//! What every implementation of the `StateStore` port must do. Written against the trait alone: another database runs
//! the same by adding one line to [`stores`].

use std::{future::Future, sync::Arc};

use kh_core::port::{ClientRecord, StateError, StateStore};

use crate::support::{Fixture, START, client, event, token};

/// Opens a store, and opens the same state again: what was acknowledged must be there then.
struct Subject {
    open: Box<dyn Fn() -> Arc<dyn StateStore>>,
    _keep: Fixture,
}

fn stores() -> Vec<Subject> {
    let fixture = Fixture::new();
    let (path, clock) = (fixture.path(), fixture.clock.clone());
    let audit = Arc::clone(&fixture.audit);
    let open = move || -> Arc<dyn StateStore> {
        Arc::new(
            kh_state::SqliteState::open(
                &path,
                Arc::<crate::support::MemoryAudit>::clone(&audit),
                Arc::new(clock.clone()),
            )
            .unwrap(),
        )
    };
    vec![Subject { open: Box::new(open), _keep: fixture }]
}

fn check<F: Future<Output = ()>>(behaviour: impl Fn(Reopen) -> F) {
    for subject in stores() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(behaviour(Reopen(subject)));
    }
}

struct Reopen(Subject);

impl Reopen {
    fn open(&self) -> Arc<dyn StateStore> {
        (self.0.open)()
    }
}

#[test]
fn clients_come_back_as_they_were_given() {
    check(|subject| async move {
        let store = subject.open();
        let (one, mut two) = (client("one"), client("two"));
        two.credential = None;
        two.old_secrets_until = None;
        two.allow_all = false;
        two.enabled = false;
        two.scopes.clear();
        store.add_client(two.clone(), event("client.add")).await.unwrap();
        store.add_client(one.clone(), event("client.add")).await.unwrap();
        assert_eq!(store.clients().await.unwrap(), [one.clone(), two.clone()]);
        drop(store);
        assert_eq!(subject.open().clients().await.unwrap(), [one, two]);
    });
}

#[test]
fn a_name_is_taken_once() {
    check(|subject| async move {
        let store = subject.open();
        let one = client("one");
        store.add_client(one.clone(), event("client.add")).await.unwrap();
        let refused = store.add_client(one.clone(), event("client.add")).await;
        assert!(matches!(refused, Err(StateError::NameTaken(_))), "the same client again");
        let thief = ClientRecord { id: "other".parse().unwrap(), ..one.clone() };
        let refused = store.add_client(thief, event("client.add")).await;
        assert!(matches!(refused, Err(StateError::NameTaken(name)) if name == one.name));
        let two = client("two");
        store.add_client(two.clone(), event("client.add")).await.unwrap();
        let renamed = ClientRecord { name: one.name.clone(), ..two.clone() };
        let refused = store.update_client(two.clone(), renamed, event("client.rename")).await;
        assert!(matches!(refused, Err(StateError::NameTaken(_))));
        assert_eq!(store.clients().await.unwrap(), [one, two]);
    });
}

#[test]
fn an_update_replaces_only_what_its_author_saw() {
    check(|subject| async move {
        let store = subject.open();
        let before = client("one");
        store.add_client(before.clone(), event("client.add")).await.unwrap();
        let disabled = ClientRecord { enabled: false, ..before.clone() };
        store.update_client(before.clone(), disabled.clone(), event("client.disable")).await.unwrap();
        let rotated = ClientRecord { token_ttl_s: 1, ..before.clone() };
        let refused = store.update_client(before.clone(), rotated, event("client.rotate")).await;
        assert!(matches!(refused, Err(StateError::Changed(_))), "{refused:?}");
        assert_eq!(store.clients().await.unwrap(), [disabled]);
        let nobody = client("nobody");
        let refused = store.update_client(nobody.clone(), nobody, event("client.disable")).await;
        assert!(matches!(refused, Err(StateError::NoSuchClient(_))));
    });
}

#[test]
fn tokens_live_until_they_expire_or_go() {
    check(|subject| async move {
        let store = subject.open();
        let owner = client("one");
        store.add_client(owner.clone(), event("client.add")).await.unwrap();
        let (short, long) = (token(&owner, "short", 10), token(&owner, "long", 1000));
        store.add_token(short.clone()).await.unwrap();
        store.add_token(long.clone()).await.unwrap();
        store.add_token(long.clone()).await.expect("the same token again is no error");
        assert_eq!(store.token(short.digest).await.unwrap(), Some(short.clone()));
        let live_at = |after: u64| {
            let store = Arc::clone(&store);
            async move { store.live_tokens(kh_core::UnixMillis(START.0 + after)).await.unwrap() }
        };
        assert_eq!(live_at(9).await.len(), 2);
        assert_eq!(live_at(10).await, std::slice::from_ref(&long), "a token is dead from its end on");
        assert_eq!(live_at(1000).await, []);
        drop(store);
        let store = subject.open();
        assert_eq!(store.token(long.digest).await.unwrap(), Some(long.clone()));
        store.remove_token(long.digest).await.unwrap();
        store.remove_token(long.digest).await.expect("forgetting twice is no error");
        assert_eq!(store.token(long.digest).await.unwrap(), None);
    });
}

#[test]
fn no_token_for_who_is_unknown_disabled_or_removed() {
    check(|subject| async move {
        let store = subject.open();
        let owner = client("one");
        let refused = store.add_token(token(&owner, "t", 10)).await;
        assert!(matches!(refused, Err(StateError::NoSuchClient(_))));
        store.add_client(owner.clone(), event("client.add")).await.unwrap();
        store.add_token(token(&owner, "t", 10)).await.unwrap();
        let disabled = ClientRecord { enabled: false, ..owner.clone() };
        store.update_client(owner.clone(), disabled, event("client.disable")).await.unwrap();
        let refused = store.add_token(token(&owner, "u", 10)).await;
        assert!(matches!(refused, Err(StateError::NoSuchClient(_))));
        assert!(store.token(token(&owner, "t", 10).digest).await.unwrap().is_some(), "a disable is not a removal");
        store.remove_client(owner.id.clone(), event("client.remove")).await.unwrap();
        assert_eq!(store.token(token(&owner, "t", 10).digest).await.unwrap(), None);
        let refused = store.remove_client(owner.id.clone(), event("client.remove")).await;
        assert!(matches!(refused, Err(StateError::NoSuchClient(_))));
    });
}

#[test]
fn settings_are_replaced() {
    check(|subject| async move {
        let store = subject.open();
        assert_eq!(store.setting("k").await.unwrap(), None);
        store.set_setting("k", "1", event("setting.set")).await.unwrap();
        store.set_setting("k", "2", event("setting.set")).await.unwrap();
        drop(store);
        assert_eq!(subject.open().setting("k").await.unwrap().as_deref(), Some("2"));
    });
}

#[test]
fn the_change_counter_moves_for_others_and_rests_for_own_tokens() {
    check(|subject| async move {
        let (mine, theirs) = (subject.open(), subject.open());
        let owner = client("one");
        mine.add_client(owner.clone(), event("client.add")).await.unwrap();
        let (mut mine_at, mut theirs_at) =
            (mine.change_counter().await.unwrap(), theirs.change_counter().await.unwrap());
        assert_eq!(mine.change_counter().await.unwrap(), mine_at, "nothing happened");
        mine.add_token(token(&owner, "t", 10)).await.unwrap();
        assert_eq!(mine.change_counter().await.unwrap(), mine_at, "its own token");
        let moved = |at: &mut u64, now: u64| std::mem::replace(at, now) != now;
        assert!(moved(&mut theirs_at, theirs.change_counter().await.unwrap()), "another's token");
        theirs.remove_token(token(&owner, "t", 10).digest).await.unwrap();
        assert!(moved(&mut mine_at, mine.change_counter().await.unwrap()), "another's revocation");
        mine.set_setting("k", "v", event("setting.set")).await.unwrap();
        assert!(moved(&mut mine_at, mine.change_counter().await.unwrap()), "its own setting");
        assert!(moved(&mut theirs_at, theirs.change_counter().await.unwrap()), "another's setting");
    });
}
