//! Incidents of others, replayed: what they did by schedule must not happen here.

use std::time::Duration;

use kh_core::port::{Strategy, Urgency, rotation_journal::Hold};
use kh_rotation::{End, Need, State};
use kh_rotator::{Standing, Wanted};

use crate::{
    platform::Call,
    world::{Act, START, World},
};

fn completed() -> Standing {
    Standing::Ended(End::Completed { unknown: Vec::new() })
}

/// Cloudflare R2, 2025-03-21: the new credential was deployed to the wrong environment, and the old one deleted on
/// schedule. Every write failed for 67 minutes. <https://blog.cloudflare.com/cloudflare-incident-march-21-2025/>
#[tokio::test]
async fn a_deployment_to_the_wrong_environment_never_deletes_the_old_secret() {
    let world = World::new(Strategy::Pair, 1);
    let old = world.platform.first();
    // the application's own deployment goes on with the old secret for ever
    *world.stuck_application.lock().unwrap() = Some(old.copied());
    let services = world.boot();
    let subject = world.subject();
    let mut session =
        kh_rotator::open(&services, &subject, Some(Wanted::scheduled())).await.unwrap().expect("a session");
    for _ in 0..10 * 24 * 6 {
        let Standing::Waiting { .. } = session.work().await.unwrap() else { panic!("it must wait") };
        session.rest().await;
        world.pass_until(world.now().plus(Duration::from_mins(10))).await;
        session.wake().await.unwrap();
    }
    assert!(world.now().since(START) >= Duration::from_hours(10 * 24));
    assert!(world.platform.accepts(&old), "ten days later the old secret still works");
    assert_eq!(*world.failures.lock().unwrap(), <[String; 0]>::default(), "and nobody failed");
    let calls = world.platform.state.lock().unwrap().calls.clone();
    assert!(matches!(calls[..], [Call::Create(_)]), "nothing was stopped or deleted: {calls:?}");
    assert_eq!(session.run().state(), State::NeedsOperator, "and a person was told");
    let notices = world.notifier.0.lock().unwrap().clone();
    let alarm = notices.iter().find(|notice| notice.kind == "rotation.alarm").expect("an alarm");
    assert!(alarm.urgency >= Urgency::Warning && alarm.summary.contains("application"), "{alarm:?}");
    session.release().await;
    // the deployment is put right, and it goes on by itself
    *world.stuck_application.lock().unwrap() = None;
    let (standing, _) = world.until_standing(&Wanted::scheduled()).await;
    assert_eq!(standing, completed());
    world.check(&End::Completed { unknown: Vec::new() }).await;
}

/// Azure AD, 2021-03-15: a key that was marked to be kept was removed all the same, because automation did not read the
/// mark. Here the mark is set after the decision to prune and before its record.
#[tokio::test]
async fn a_hold_that_is_placed_at_the_last_moment_stops_the_prune() {
    let world = World::new(Strategy::Overlap, 2);
    let hold = Hold { since: START, actor: "cli:ops".to_owned(), reason: "a migration is under way".to_owned() };
    *world.traps.hold_before.lock().unwrap() = Some(("\"stop\":{".to_owned(), hold));
    let until = START.plus(Duration::from_hours(3 * 24));
    world.acts.lock().unwrap().push((until, Act::Unhold));
    let old = world.platform.first();
    let due = Wanted::scheduled();
    let watched = tokio::select! {
        standing = world.live(&due) => Err(standing),
        () = async {
            // looked at often, until just before the hold is lifted
            while world.now() < until {
                assert!(world.platform.accepts(&old), "the old secret works while the hold stands");
                tokio::task::yield_now().await;
            }
        } => Ok(()),
    };
    assert_eq!(watched, Ok(()), "it must not end while the hold stands");
    assert!(world.traps.hold_before.lock().unwrap().is_none(), "the hold was placed in that very moment");
    world.clock.advance(Duration::from_mins(5));
    let (standing, _) = world.until_standing(&Wanted::scheduled()).await;
    assert_eq!(standing, completed(), "and goes on once it is lifted");
    world.check(&End::Completed { unknown: Vec::new() }).await;
}

/// The disk is full at the one moment when the only copy of the new secret is in memory.
#[tokio::test]
async fn a_new_secret_that_cannot_be_kept_is_tried_until_it_can() {
    for strategy in [Strategy::Overlap, Strategy::Pair, Strategy::Swap] {
        let world = World::new(strategy, 3);
        *world.traps.full_disk.lock().unwrap() = 40;
        let (standing, lives) = world.until_standing(&Wanted::scheduled()).await;
        assert_eq!((standing, lives), (completed(), 1), "{strategy:?}");
        let counts = world.check(&End::Completed { unknown: Vec::new() }).await;
        let made = counts.get("created").or(counts.get("regenerated"));
        assert_eq!(made, Some(&1), "{strategy:?}: it was not made a second time");
        assert_eq!(*world.traps.full_disk.lock().unwrap(), 0);
    }
}

/// Somebody writes the store `two` by hand while a rotation is about to: what a person is told.
async fn overwritten(world: &World) -> Need {
    let first = world.platform.first();
    let services = world.boot();
    let subject = world.subject();
    let mut session =
        kh_rotator::open(&services, &subject, Some(Wanted::scheduled())).await.unwrap().expect("a session");
    while session.run().new_secret().is_none() {
        assert_eq!(session.step().await.unwrap(), None);
    }
    // the same secret, another version
    world.stores[1].write_by_hand(&first);
    let need = loop {
        match session.work().await.unwrap() {
            Standing::NeedsOperator(need) => break need,
            Standing::Waiting { until, .. } => {
                world.pass_until(until).await;
                session.waited().await.unwrap();
            }
            Standing::Ended(end) => panic!("{end:?}"),
        }
    };
    session.release().await;
    need
}

#[tokio::test]
async fn a_store_that_somebody_else_wrote_is_not_overwritten() {
    let world = World::new(Strategy::Pair, 4);
    let need = overwritten(&world).await;
    assert!(need.why.contains("somebody else wrote"), "{need:?}");
    let version = world.stores[1].version();
    assert!(need.next.contains(&format!("--adopt two={version}")), "the exact command: {need:?}");
    assert!(world.platform.accepts(&world.stores[0].document()) && world.platform.accepts(&world.stores[1].document()));
    let adopt = kh_rotation::Order::Adopt { store: "two".to_owned(), version };
    world.act(Act::Order(adopt)).await.unwrap();
    let (standing, _) = world.until_standing(&Wanted::scheduled()).await;
    assert_eq!(standing, completed());
    world.check(&End::Completed { unknown: Vec::new() }).await;
}

/// Somebody puts keyholder's own document back, and types the command that was told before that all the same.
#[tokio::test]
async fn a_store_that_serves_the_new_document_already_is_adopted() {
    let world = World::new(Strategy::Pair, 5);
    let need = overwritten(&world).await;
    let version = world.stores[1].version();
    assert!(need.next.contains(&format!("--adopt two={version}")), "{need:?}");
    world.stores[1].promote_by_hand();
    assert_eq!(world.stores[1].staged_count(), 0);
    let adopt = kh_rotation::Order::Adopt { store: "two".to_owned(), version };
    world.act(Act::Order(adopt)).await.unwrap();
    let (standing, _) = world.until_standing(&Wanted::scheduled()).await;
    assert_eq!(standing, completed());
    world.check(&End::Completed { unknown: Vec::new() }).await;
}
