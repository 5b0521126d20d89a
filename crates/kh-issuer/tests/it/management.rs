//! Two live secrets of a client, each removed by its id: as calls of the issuer, and as a platform that is rotated.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use kh_core::{
    ManualClock, SecretString, SystemEntropy,
    credential::CredentialDocument,
    port::{ManageError, SecretManagement, Strategy, secret_management::Rotator::First},
    rotation::ManagedId,
};
use kh_issuer::{Issuer, IssuerManagement, LASTING, SecretError, SecretOverlap};

use crate::{
    support::{World, add, bytes, login},
    unsteady::Unsteady,
};

fn document(id: &str, secret: &SecretString) -> CredentialDocument {
    CredentialDocument {
        client_id: Some(id.to_owned()),
        client_secret: Some(secret.duplicate()),
        ..CredentialDocument::default()
    }
}

async fn works(issuer: &Issuer, document: &CredentialDocument) -> bool {
    let secret = document.client_secret.as_ref().unwrap();
    issuer.login(document.client_id.as_deref().unwrap(), secret).await.is_ok()
}

/// A login that another process still let through while the tokens were being revoked is revoked as well.
#[tokio::test]
async fn every_token_of_one_client_is_revoked_and_of_no_other() {
    let world = World::new();
    let (here, there) = (world.issuer().await, world.issuer().await);
    let (client, secret) = add(&here, "reports").await;
    let (other, other_secret) = add(&here, "billing").await;
    there.refresh().await.unwrap();
    let before = [login(&here, &client, &secret).await, login(&there, &client, &secret).await];
    let kept = login(&here, &other, &other_secret).await;
    let late = async {
        // the first pass has begun
        tokio::task::yield_now().await;
        login(&there, &client, &secret).await
    };
    let (revoked, late) = tokio::join!(here.revoke_tokens_of(&client.id), late);
    assert_eq!(revoked.unwrap(), 3);
    there.refresh().await.unwrap();
    for token in before.iter().chain([&late]) {
        assert!(here.session_or_load(bytes(token)).await.unwrap().is_none());
        assert!(there.session_or_load(bytes(token)).await.unwrap().is_none());
    }
    assert!(here.session(bytes(&kept)).is_some() && there.session_or_load(bytes(&kept)).await.unwrap().is_some());
    assert_eq!(here.revoke_tokens_of(&client.id).await.unwrap(), 0, "it may be repeated");
    assert!(here.login(client.id.as_str(), &secret).await.is_ok(), "the secret is another matter");
}

#[tokio::test]
async fn two_secrets_live_until_one_is_removed_and_time_alone_ends_nothing() {
    let world = World::new();
    let issuer = world.issuer().await;
    let (client, first) = add(&issuer, "reports").await;
    let own = IssuerManagement::new(Arc::clone(&issuer), "rotation");
    let current = document(client.id.as_str(), &first);
    let kept = login(&issuer, &client, &first).await;

    let look = own.check(&current, Strategy::Overlap, First).await.unwrap();
    assert_eq!((look.obstacles.len(), look.free), (0, Some(1)));
    let made = own.create(&current, "run-1", First).await.unwrap();
    assert!(works(&issuer, &current).await && works(&issuer, &made.document).await);
    assert_eq!(own.id_of(&made.document).unwrap(), made.id);
    let old = own.id_of(&current).unwrap();
    let listed: Vec<ManagedId> = own.list(&current, First).await.unwrap().into_iter().map(|one| one.id).collect();
    assert_eq!(listed, [made.id.clone(), old.clone()]);
    let full = own.create(&current, "run-2", First).await;
    assert!(matches!(full, Err(ManageError::LimitReached { .. })), "{full:?}");
    assert_eq!(own.check(&current, Strategy::Overlap, First).await.unwrap().free, Some(0));

    world.clock.advance(Duration::from_hours(24 * 365 * 50));
    assert!(works(&issuer, &current).await, "no time ends the overlap");
    own.delete(&current, &old, First).await.unwrap();
    assert!(!works(&issuer, &current).await && works(&issuer, &made.document).await);
    assert!(matches!(own.delete(&current, &old, First).await, Err(ManageError::NotFound(_))));
    let last = own.delete(&current, &made.id, First).await;
    assert!(matches!(&last, Err(ManageError::Denied { platform_code, .. }) if platform_code == "last.secret"));
    assert!(!own.probe(&kept.access_token).await.unwrap(), "fifty years are more than a token's life");
    let fresh = issuer.login(client.id.as_str(), made.document.client_secret.as_ref().unwrap()).await.unwrap();
    assert!(own.probe(&fresh.access_token).await.unwrap() && issuer.session(bytes(&fresh)).is_some());
    let actions: Vec<String> = world.audit.0.lock().iter().map(|event| event.action.clone()).collect();
    assert_eq!(actions, ["client.add", "client.add_secret", "client.remove_secret"]);
    let told = format!("{:?} {made:?} {own:?}", world.audit.0.lock());
    assert!(!told.contains(made.document.client_secret.as_ref().unwrap().expose()), "{told}");
}

#[tokio::test]
async fn the_new_one_can_be_taken_back_and_the_old_one_lasts() {
    let world = World::new();
    let issuer = world.issuer().await;
    let (client, first) = add(&issuer, "reports").await;
    let own = IssuerManagement::new(Arc::clone(&issuer), "rotation");
    let current = document(client.id.as_str(), &first);
    let made = own.create(&current, "run-1", First).await.unwrap();
    own.delete(&current, &made.id, First).await.unwrap();
    assert!(works(&issuer, &current).await && !works(&issuer, &made.document).await);
    let record = issuer.client("reports").unwrap().record.clone();
    assert_eq!((record.secret_digests.len(), record.old_secrets_until), (1, None));
}

#[tokio::test]
async fn an_overlap_with_an_end_frees_its_place_when_it_is_over() {
    let world = World::new();
    let issuer = world.issuer().await;
    let (client, first) = add(&issuer, "reports").await;
    let id = client.id.as_str();
    let overlap = SecretOverlap::For(Duration::from_mins(10));
    let (_, second) = issuer.rotate_secret(id, overlap, "cli:test").await.unwrap();
    assert!(matches!(issuer.add_secret(id, "cli:test").await, Err(SecretError::TooMany)));
    world.clock.advance(Duration::from_mins(10));
    let (record, third) = issuer.add_secret(id, "cli:test").await.unwrap();
    assert_eq!(record.old_secrets_until, Some(LASTING));
    for (secret, good) in [(&first, false), (&second, true), (&third, true)] {
        assert_eq!(issuer.login(id, secret).await.is_ok(), good, "an ended overlap is not revived");
    }
}

#[tokio::test]
async fn what_is_asked_for_another_client_or_strategy_is_refused() {
    let world = World::new();
    let issuer = world.issuer().await;
    let (client, secret) = add(&issuer, "reports").await;
    let (other, _) = add(&issuer, "other").await;
    let own = IssuerManagement::new(Arc::clone(&issuer), "rotation");
    let current = document(client.id.as_str(), &secret);
    let others = own.list(&document(other.id.as_str(), &secret), First).await.unwrap().remove(0).id;
    for id in [others, ManagedId("x".to_owned())] {
        assert!(matches!(own.delete(&current, &id, First).await, Err(ManageError::NotDone { .. })), "{id}");
    }
    let odd = ManagedId(format!("{}/zz", client.id));
    assert!(matches!(own.delete(&current, &odd, First).await, Err(ManageError::NotFound(_))));
    let by_name = document("reports", &secret);
    assert!(matches!(own.list(&by_name, First).await, Err(ManageError::NotFound(_))), "a name is no client_id");
    for strategy in [Strategy::Pair, Strategy::Swap] {
        assert_eq!(own.check(&current, strategy, First).await.unwrap().obstacles.len(), 1);
    }
    assert_eq!(own.regenerate(&current, First).await.unwrap_err(), ManageError::Unsupported);
    assert_eq!(own.inventory(First).await.unwrap().len(), 2);
    let rights = own.rights(&own.id_of(&current).unwrap(), First).await.unwrap();
    let expected = ["allow GET /api/v2/users/**", "credential acme", "scope broker:read", "token life 86400 s"];
    assert_eq!(rights.lines, expected);
    issuer.set_enabled("reports", false, "cli:test").await.unwrap();
    let look = own.check(&current, Strategy::Overlap, First).await.unwrap();
    assert_eq!((look.obstacles.len(), look.switched_off), (1, true), "{look:?}");
}

#[tokio::test]
async fn two_processes_add_at_once_and_one_of_them_is_refused() {
    let world = World::new();
    let (here, there) = (world.issuer().await, world.issuer().await);
    let (client, first) = add(&here, "reports").await;
    let current = document(client.id.as_str(), &first);
    let (one, two) = (IssuerManagement::new(here, "rotation"), IssuerManagement::new(there, "rotation"));
    let (one, two) = tokio::join!(one.create(&current, "a", First), two.create(&current, "b", First));
    assert_eq!(usize::from(one.is_ok()) + usize::from(two.is_ok()), 1, "{one:?} {two:?}");
    let refused = one.err().or(two.err()).unwrap();
    assert!(matches!(refused, ManageError::LimitReached { .. }), "{refused:?}");
}

#[tokio::test]
async fn a_change_that_was_written_and_not_confirmed_is_unknown_and_found_by_listing() {
    let world = World::new();
    let state = Arc::new(Unsteady::over(world.state()));
    let clock: ManualClock = world.clock.clone();
    let issuer = Issuer::open(Arc::<Unsteady>::clone(&state), Arc::new(clock), Arc::new(SystemEntropy)).await.unwrap();
    let (client, first) = add(&issuer, "reports").await;
    let own = IssuerManagement::new(Arc::clone(&issuer), "rotation");
    let current = document(client.id.as_str(), &first);
    state.lost_answers.store(1, Ordering::SeqCst);
    let lost = own.create(&current, "run-1", First).await;
    assert!(matches!(lost, Err(ManageError::Unknown { .. })), "{lost:?}");
    assert_eq!(state.updates.load(Ordering::SeqCst), 1, "and it was not written again");
    let listed = own.list(&current, First).await.unwrap();
    assert_eq!(listed.len(), 2, "the orphan is listed");
    assert!(works(&issuer, &current).await);
    let orphan = listed.into_iter().find(|one| Some(&one.id) != own.id_of(&current).as_ref()).unwrap().id;
    state.lost_answers.store(1, Ordering::SeqCst);
    assert!(matches!(own.delete(&current, &orphan, First).await, Err(ManageError::Unknown { .. })));
    assert!(matches!(own.delete(&current, &orphan, First).await, Err(ManageError::NotFound(_))));
    assert_eq!(own.list(&current, First).await.unwrap().len(), 1);
}
