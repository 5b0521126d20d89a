//! Rules of making a document live.

use kh_core::{
    port::{SecretTarget, TargetError},
    rotation::{Marker, SecretPath, VersionId, WriteToken},
};

use super::{Bench, Seeded, Write, is_live, live, same, seeded, staged_and_promoted, text, write, write_with};

/// How often a race is run.
const RACES: usize = 12;

pub(super) async fn the_first_document_becomes_live_where_nothing_is(target: &dyn SecretTarget, bench: &dyn Bench) {
    let (_, elsewhere) = seeded(target, bench).await;
    let at = bench.fresh_path();
    let first = write();
    target.stage(&at, first.token, &first.document).await.expect("staging is taken");
    let refused = target.promote(&at, first.token, Some(&elsewhere.version)).await;
    assert!(matches!(refused, Err(TargetError::Conflict { found: None, .. })), "nothing is live yet: {refused:?}");
    let version = target.promote(&at, first.token, None).await.expect("nothing was live");
    is_live(target, bench, &at, &first.document, "the first").await;
    assert_eq!(target.live_version(&at).await.expect("one is live"), version);
}

pub(super) async fn a_promotion_is_refused_unless_the_planned_version_is_live(
    target: &dyn SecretTarget,
    bench: &dyn Bench,
) {
    let (at, one) = seeded(target, bench).await;
    let two = staged_and_promoted(target, &at, Some(&one.version)).await;
    let next = write();
    target.stage(&at, next.token, &next.document).await.expect("staging is taken");
    for planned in [Some(&one.version), None] {
        match target.promote(&at, next.token, planned).await {
            Err(TargetError::Conflict { path, found: Some(found) }) => {
                assert_eq!((path, found), (at.clone(), two.version.clone()));
            }
            other => unexpected(&other),
        }
        is_live(target, bench, &at, &two.write.document, "after a refusal").await;
        assert_eq!(target.live_version(&at).await.expect("one is live"), two.version);
    }
    let staged = target.staged(&at, next.token).await.expect("it is read back").expect("it is still staged");
    same(&staged, &next.document, "after refusals");
    target.promote(&at, next.token, Some(&two.version)).await.expect("that version is live");
    is_live(target, bench, &at, &next.document, "planned rightly").await;
}

pub(super) async fn a_promotion_repeated_tells_the_same_version(target: &dyn SecretTarget, bench: &dyn Bench) {
    let (at, one) = seeded(target, bench).await;
    let next = staged_and_promoted(target, &at, Some(&one.version)).await;
    assert_ne!(next.version, one.version);
    for planned in [Some(&one.version), Some(&one.version), Some(&next.version), None] {
        let again = target.promote(&at, next.write.token, planned).await.expect("the write is live");
        assert_eq!(again, next.version, "whatever was planned");
    }
    target.unstage(&at, next.write.token).await.expect("it is taken away, or gone already");
    let again = target.promote(&at, next.write.token, Some(&one.version)).await.expect("the write is live");
    assert_eq!(again, next.version, "also when its staged copy is gone");
    assert_eq!(live(target, &at).await.version, next.version);
    is_live(target, bench, &at, &next.write.document, "after repeats").await;
}

pub(super) async fn a_foreign_write_is_a_conflict_before_and_after(target: &dyn SecretTarget, bench: &dyn Bench) {
    let by_hand = text(r#"{"client_id":"by-hand","client_secret":"typed-by-a-person"}"#);
    let (at, one) = seeded(target, bench).await;
    let next = write();
    target.stage(&at, next.token, &next.document).await.expect("staging is taken");
    bench.foreign_write(&at, &by_hand).await;
    let foreign = target.live_version(&at).await.expect("one is live");
    assert_ne!(foreign, one.version, "a foreign write is another version");
    match target.promote(&at, next.token, Some(&one.version)).await {
        Err(TargetError::Conflict { found: Some(found), .. }) => assert_eq!(found, foreign),
        other => unexpected(&other),
    }
    is_live(target, bench, &at, &by_hand, "the foreign document stays").await;

    let version = target.promote(&at, next.token, Some(&foreign)).await.expect("planned anew");
    bench.foreign_write(&at, &by_hand).await;
    for planned in [Some(&foreign), Some(&version)] {
        let refused = target.promote(&at, next.token, planned).await;
        assert!(
            matches!(refused, Err(TargetError::Conflict { .. } | TargetError::NotFound(_))),
            "it was replaced since: {refused:?}"
        );
    }
    let refused = target.promote(&at, next.token, Some(&foreign)).await;
    assert!(matches!(refused, Err(TargetError::Conflict { .. })), "not the planned version: {refused:?}");
    is_live(target, bench, &at, &by_hand, "a late repeat does not undo it").await;
    assert_eq!(Marker::read(&live(target, &at).await.value), None);
}

async fn stage_and_promote(
    target: &dyn SecretTarget,
    at: &SecretPath,
    write: &Write,
    expect: &VersionId,
) -> Result<VersionId, TargetError> {
    target.stage(at, write.token, &write.document).await?;
    target.promote(at, write.token, Some(expect)).await
}

pub(super) async fn of_two_writes_from_one_version_one_wins(target: &dyn SecretTarget, bench: &dyn Bench) {
    for _ in 0..RACES {
        let (at, one) = seeded(target, bench).await;
        let (left, right) = (write(), write());
        let (left_ended, right_ended) = tokio::join!(
            stage_and_promote(target, &at, &left, &one.version),
            stage_and_promote(target, &at, &right, &one.version),
        );
        let told = live(target, &at).await;
        let winner = Marker::read(&told.value).expect("a write of ours is live").write;
        assert!(winner == left.token || winner == right.token, "one of the two is live, whole");
        let document = if winner == left.token { &left.document } else { &right.document };
        is_live(target, bench, &at, document, "the winner").await;
        for (ended, write) in [(left_ended, &left), (right_ended, &right)] {
            match ended {
                Ok(version) if write.token == winner => assert_eq!(version, told.version),
                // Without compare-and-set a promotion can be overtaken after it was read back.
                Ok(_) => assert!(!target.traits().compare_and_set, "only one may be told that it won"),
                Err(TargetError::Conflict { .. } | TargetError::NotFound(_)) => {
                    assert!(write.token != winner, "the winner is told so");
                }
                other => unexpected(&other),
            }
        }
    }
}

pub(super) async fn one_write_promoted_twice_at_once_is_one_version(target: &dyn SecretTarget, bench: &dyn Bench) {
    for _ in 0..RACES {
        let (at, one) = seeded(target, bench).await;
        let next = write();
        target.stage(&at, next.token, &next.document).await.expect("staging is taken");
        let (left, right) = tokio::join!(
            target.promote(&at, next.token, Some(&one.version)),
            target.promote(&at, next.token, Some(&one.version)),
        );
        is_live(target, bench, &at, &next.document, "promoted twice").await;
        let (left, right) = (left.expect("the write is live"), right.expect("the write is live"));
        if target.traits().compare_and_set {
            assert_eq!(left, right, "one version was written");
        }
        let version = target.live_version(&at).await.expect("one is live");
        assert!(version == left || version == right);
    }
}

pub(super) async fn the_old_document_comes_back_by_a_write_of_its_own(target: &dyn SecretTarget, bench: &dyn Bench) {
    let (at, old) = seeded(target, bench).await;
    let new = staged_and_promoted(target, &at, Some(&old.version)).await;
    let back = returning(&old);
    target.stage(&at, back.token, &back.document).await.expect("staging is taken");
    is_live(target, bench, &at, &new.write.document, "before the way back").await;
    let version = target.promote(&at, back.token, Some(&new.version)).await.expect("nobody else wrote");
    is_live(target, bench, &at, &back.document, "after the way back").await;
    assert!(version != old.version && version != new.version, "a version is never used again");
    let late = target.promote(&at, new.write.token, Some(&old.version)).await;
    assert!(
        matches!(late, Err(TargetError::Conflict { .. })),
        "the write that was undone does not come back: {late:?}"
    );
    is_live(target, bench, &at, &back.document, "after a late repeat").await;
}

/// The secret of `old`, as a write for the way back: the same members but the marker.
fn returning(old: &Seeded) -> Write {
    let token = WriteToken::of(old.write.marker.run, "conformance", "rollback");
    let marker = Marker { write: token, ..old.write.marker.clone() };
    let json = std::str::from_utf8(old.write.document.expose()).expect("JSON is text");
    let document = json.replace(&old.write.token.to_string(), &token.to_string());
    Write { token, marker, document: text(&document) }
}

pub(super) async fn the_live_document_tells_its_marker_and_its_version(target: &dyn SecretTarget, bench: &dyn Bench) {
    let (at, one) = seeded(target, bench).await;
    let two = staged_and_promoted(target, &at, Some(&one.version)).await;
    let found = live(target, &at).await;
    assert_eq!(Marker::read(&found.value).as_ref(), Some(&two.write.marker));
    assert_eq!(found.version, two.version);
    let before = bench.changes();
    assert_eq!(target.live_version(&at).await.expect("one is live"), found.version);
    assert_eq!(bench.changes(), before, "asking changes nothing");
}

pub(super) async fn many_promotions_follow_each_other(target: &dyn SecretTarget, bench: &dyn Bench) {
    let (at, mut last) = seeded(target, bench).await;
    let mut seen = vec![last.version.clone()];
    for round in 0..15 {
        let next = write_with(&format!("\"client_secret\":\"round-{round}\""));
        target.stage(&at, next.token, &next.document).await.expect("staging is taken");
        let version = target.promote(&at, next.token, Some(&last.version)).await.expect("nobody else wrote");
        assert!(!seen.contains(&version), "{version} was used before");
        is_live(target, bench, &at, &next.document, "the newest").await;
        seen.push(version.clone());
        last = Seeded { write: next, version };
    }
}

fn unexpected(found: &Result<VersionId, TargetError>) {
    assert_eq!(format!("{found:?}"), "a conflict, nothing staged, or success");
}
