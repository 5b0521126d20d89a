//! Rules of the documents that are not live yet.

use kh_core::port::{SecretTarget, TargetError};

use super::{Bench, altered, is_live, live, members, nothing_is_live, same, seeded, text, write, write_with};

pub(super) async fn a_staged_document_is_invisible_to_consumers(target: &dyn SecretTarget, bench: &dyn Bench) {
    let at = bench.fresh_path();
    let first = write();
    target.stage(&at, first.token, &first.document).await.expect("staging is taken");
    nothing_is_live(target, bench, &at).await;

    let (at, one) = seeded(target, bench).await;
    let next = write();
    target.stage(&at, next.token, &next.document).await.expect("staging is taken");
    is_live(target, bench, &at, &one.write.document, "while another is staged").await;
    assert_eq!(live(target, &at).await.version, one.version);
    assert_eq!(target.live_version(&at).await.expect("one is live"), one.version);
    let staged = target.staged(&at, next.token).await.expect("it is read back").expect("it is staged");
    same(&staged, &next.document, "read back");
}

pub(super) async fn the_same_write_can_be_staged_again(target: &dyn SecretTarget, bench: &dyn Bench) {
    let (at, one) = seeded(target, bench).await;
    let next = write();
    for _ in 0..3 {
        target.stage(&at, next.token, &next.document).await.expect("the same document is taken again");
    }
    let staged = target.staged(&at, next.token).await.expect("it is read back").expect("it is staged");
    same(&staged, &next.document, "after repeats");
    let promoted = target.promote(&at, next.token, Some(&one.version)).await.expect("nobody else wrote");
    target.stage(&at, next.token, &next.document).await.expect("also when it is live already");
    is_live(target, bench, &at, &next.document, "staged after it was promoted").await;
    assert_eq!(live(target, &at).await.version, promoted);
}

pub(super) async fn a_write_cannot_be_given_another_document(target: &dyn SecretTarget, bench: &dyn Bench) {
    let (at, one) = seeded(target, bench).await;
    let next = write();
    let other = altered(&next);
    target.stage(&at, next.token, &next.document).await.expect("staging is taken");
    let refused = target.stage(&at, next.token, &other).await;
    assert!(
        matches!(&refused, Err(TargetError::TokenReused { path, token }) if *path == at && *token == next.token),
        "staged already: {refused:?}"
    );
    let staged = target.staged(&at, next.token).await.expect("it is read back").expect("it is staged");
    same(&staged, &next.document, "after a refusal");
    target.promote(&at, next.token, Some(&one.version)).await.expect("nobody else wrote");
    let refused = target.stage(&at, next.token, &other).await;
    assert!(matches!(refused, Err(TargetError::TokenReused { .. })), "live already: {refused:?}");
    is_live(target, bench, &at, &next.document, "after refusals").await;
}

pub(super) async fn a_document_that_does_not_name_its_write_is_refused(target: &dyn SecretTarget, bench: &dyn Bench) {
    let at = bench.fresh_path();
    let (one, other) = (write(), write());
    let before = bench.changes();
    for wrong in [
        other.document.duplicate(),
        text(r#"{"client_id":"a","client_secret":"b"}"#),
        text(r#"["_kh"]"#),
        text("not JSON"),
    ] {
        let refused = target.stage(&at, one.token, &wrong).await;
        assert!(matches!(refused, Err(TargetError::Unusable(_))), "{refused:?}");
    }
    assert_eq!(bench.changes(), before, "nothing was sent");
    assert!(target.staged(&at, one.token).await.expect("that is an answer").is_none());
}

pub(super) async fn a_document_is_refused_by_its_size_before_anything_is_sent(
    target: &dyn SecretTarget,
    bench: &dyn Bench,
) {
    let max = target.traits().value_bytes_max;
    let fixed = write_with("\"client_secret\":\"\"").document.expose().len();
    // A generation may have a digit more than the one before it.
    let sized = |wanted: usize| {
        let mut fill = wanted.saturating_sub(fixed);
        loop {
            let made = write_with(&format!("\"client_secret\":\"{}\"", "x".repeat(fill)));
            match made.document.expose().len() {
                size if size == wanted => return made,
                size if size > wanted => fill -= size - wanted,
                size => fill += wanted - size,
            }
        }
    };
    let at = bench.fresh_path();
    let largest = sized(max);
    target.stage(&at, largest.token, &largest.document).await.expect("the largest is taken");
    target.promote(&at, largest.token, None).await.expect("the largest becomes live");
    is_live(target, bench, &at, &largest.document, "the largest").await;

    let at = bench.fresh_path();
    let larger = sized(max + 1);
    let before = bench.changes();
    let refused = target.stage(&at, larger.token, &larger.document).await;
    assert!(
        matches!(refused, Err(TargetError::TooLarge { size, max: told }) if size == max + 1 && told == max),
        "{refused:?}"
    );
    assert_eq!(bench.changes(), before, "nothing was sent");
    nothing_is_live(target, bench, &at).await;
}

pub(super) async fn any_text_comes_back_as_it_was(target: &dyn SecretTarget, bench: &dyn Bench) {
    let every_ascii: String = (0..128_u8).map(char::from).collect();
    let long = "é\u{1F511}".repeat(1_500);
    let texts = [
        "quote \" backslash \\ slash / tab \t line \r\n end",
        &every_ascii,
        "\u{0}\u{7f}\u{80}\u{2028}\u{2029}\u{feff}\u{fffd}\u{10ffff}",
        "<script>&amp;</script> %41 + \\u0041 ${HOME} {{x}} $1",
        " leading and trailing ",
        "true",
        "12345678901234567890.10",
        &long,
    ];
    for value in texts {
        let (at, one) = seeded(target, bench).await;
        let json = serde_json::to_string(value).expect("text has a JSON form");
        let next = write_with(&format!("\"client_id\":{json},\"client_secret\":{json},\"refresh_token\":\"r\""));
        target.stage(&at, next.token, &next.document).await.expect("staging is taken");
        let staged = target.staged(&at, next.token).await.expect("it is read back").expect("it is staged");
        same(&staged, &next.document, "staged text");
        target.promote(&at, next.token, Some(&one.version)).await.expect("nobody else wrote");
        is_live(target, bench, &at, &next.document, "live text").await;
        let found = members(&live(target, &at).await.value);
        assert_eq!(found.get("client_secret").and_then(serde_json::Value::as_str), Some(value), "byte for byte");
    }
}

pub(super) async fn taking_away_can_be_repeated_and_never_touches_what_is_live(
    target: &dyn SecretTarget,
    bench: &dyn Bench,
) {
    let (at, one) = seeded(target, bench).await;
    let next = write();
    target.stage(&at, next.token, &next.document).await.expect("staging is taken");
    for _ in 0..2 {
        target.unstage(&at, next.token).await.expect("it is taken away, or gone already");
        assert!(target.staged(&at, next.token).await.expect("that is an answer").is_none());
    }
    let promoted = target.promote(&at, next.token, Some(&one.version)).await;
    assert!(matches!(promoted, Err(TargetError::NotFound(_))), "what was taken away is not promoted: {promoted:?}");
    for _ in 0..2 {
        target.unstage(&at, one.write.token).await.expect("the live write is no staged one");
    }
    is_live(target, bench, &at, &one.write.document, "after taking away").await;
    assert_eq!(live(target, &at).await.version, one.version);

    let after = write();
    target.stage(&at, after.token, &after.document).await.expect("the place can be staged at again");
    target.promote(&at, after.token, Some(&one.version)).await.expect("nobody else wrote");
    target.unstage(&at, after.token).await.expect("it may be told after a promotion too");
    assert!(target.staged(&at, after.token).await.expect("that is an answer").is_none());
    is_live(target, bench, &at, &after.document, "taken away after a promotion").await;
}

pub(super) async fn writes_are_told_apart_at_one_place(target: &dyn SecretTarget, bench: &dyn Bench) {
    let (at, one) = seeded(target, bench).await;
    let (left, right) = (write(), write());
    target.stage(&at, left.token, &left.document).await.expect("staging is taken");
    target.stage(&at, right.token, &right.document).await.expect("a left one does not block the next");
    let staged = target.staged(&at, right.token).await.expect("it is read back").expect("it is staged");
    same(&staged, &right.document, "the later one");
    if let Some(staged) = target.staged(&at, left.token).await.expect("that is an answer") {
        same(&staged, &left.document, "the earlier one, if it was kept");
    }
    target.unstage(&at, left.token).await.expect("it is taken away, or gone already");
    let staged = target.staged(&at, right.token).await.expect("it is read back").expect("it is still staged");
    same(&staged, &right.document, "after the earlier one was taken away");
    let promoted = target.promote(&at, left.token, Some(&one.version)).await;
    assert!(matches!(promoted, Err(TargetError::NotFound(_))), "never another's document: {promoted:?}");
    target.promote(&at, right.token, Some(&one.version)).await.expect("nobody else wrote");
    is_live(target, bench, &at, &right.document, "the later one").await;
}
