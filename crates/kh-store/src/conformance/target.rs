//! What every store must do that rotation writes ([`SecretTarget`]), as one suite that each adapter's tests run.
//!
//! Invariant: uses the port alone, and a [`Bench`] for what an adapter cannot do itself: an unused place, another
//! program's write, a consumer's read. Each rule starts from places of its own, so that a store that is not empty passes
//! too.

mod promotion;
mod staging;

use std::sync::atomic::{AtomicU64, Ordering};

use kh_core::{
    Fingerprint, SecretBytes, UnixMillis,
    port::{BoxFuture, SecretTarget, TargetError, secret_target::LiveSecret},
    rotation::{Marker, RunId, SecretPath, VersionId, WriteToken},
};

/// What the suite needs beside the adapter.
pub trait Bench: Send + Sync {
    /// A place that nothing was ever written to. Each call tells another one.
    fn fresh_path(&self) -> SecretPath;

    /// Another program replaces the live document (or writes the first), behind the adapter's back.
    fn foreign_write<'a>(&'a self, path: &'a SecretPath, document: &'a SecretBytes) -> BoxFuture<'a, ()>;

    /// What a consumer reads there that knows the place and nothing of keyholder, as a JSON document; none when there
    /// is nothing for it. Best through another client than the adapter's.
    fn consumer_read<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Option<SecretBytes>>;

    /// How many changes the store was asked for so far, by whomever: it stays the same while nothing is changed.
    fn changes(&self) -> u64;
}

/// Runs every rule.
///
/// # Panics
/// On the first rule that does not hold; its name stands in the backtrace and the message.
pub async fn run(target: &dyn SecretTarget, bench: &dyn Bench) {
    nothing_there_is_a_typed_answer(target, bench).await;
    a_check_tells_the_live_version_and_changes_nothing(target, bench).await;
    places_are_listed_up_to_the_limit(target, bench).await;
    copies_are_told_only_by_a_store_that_has_them(target, bench).await;

    staging::a_staged_document_is_invisible_to_consumers(target, bench).await;
    staging::the_same_write_can_be_staged_again(target, bench).await;
    staging::a_write_cannot_be_given_another_document(target, bench).await;
    staging::a_document_that_does_not_name_its_write_is_refused(target, bench).await;
    staging::a_document_is_refused_by_its_size_before_anything_is_sent(target, bench).await;
    staging::any_text_comes_back_as_it_was(target, bench).await;
    staging::taking_away_can_be_repeated_and_never_touches_what_is_live(target, bench).await;
    staging::writes_are_told_apart_at_one_place(target, bench).await;

    promotion::the_first_document_becomes_live_where_nothing_is(target, bench).await;
    promotion::a_promotion_is_refused_unless_the_planned_version_is_live(target, bench).await;
    promotion::a_promotion_repeated_tells_the_same_version(target, bench).await;
    promotion::a_foreign_write_is_a_conflict_before_and_after(target, bench).await;
    promotion::of_two_writes_from_one_version_one_wins(target, bench).await;
    promotion::one_write_promoted_twice_at_once_is_one_version(target, bench).await;
    promotion::the_old_document_comes_back_by_a_write_of_its_own(target, bench).await;
    promotion::the_live_document_tells_its_marker_and_its_version(target, bench).await;
    promotion::many_promotions_follow_each_other(target, bench).await;
}

static COUNTER: AtomicU64 = AtomicU64::new(1);

/// One write with its document.
struct Write {
    token: WriteToken,
    marker: Marker,
    document: SecretBytes,
}

/// A write of its own run whose document has `members` as JSON text without the braces, and the marker.
fn write_with(members: &str) -> Write {
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let run: RunId = format!("01900000-0000-7000-8000-{number:012x}").parse().expect("it has the form of a UUID");
    let token = WriteToken::of(run, "conformance", "promote");
    let marker = marker(run, token, number);
    let json = serde_json::to_string(&marker).expect("a marker has a JSON form");
    Write { token, marker, document: text(&format!("{{{members},\"_kh\":{json}}}")) }
}

fn marker(run: RunId, write: WriteToken, generation: u64) -> Marker {
    let fingerprint = Fingerprint::try_from("0123456789abcdef".to_owned()).expect("it has 16 digits");
    Marker { run, write, generation, fingerprint, created_at: UnixMillis(1_790_000_000_000) }
}

/// A write whose secret is told apart from every other's.
fn write() -> Write {
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    write_with(&format!("\"client_id\":\"client-{number}\",\"client_secret\":\"MARKER-secret-{number}\""))
}

/// The same write with another secret in it.
fn altered(write: &Write) -> SecretBytes {
    let changed = std::str::from_utf8(write.document.expose()).expect("JSON is text").replace("MARKER", "ALTERED");
    assert_ne!(changed.as_bytes(), write.document.expose());
    text(&changed)
}

fn text(text: &str) -> SecretBytes {
    SecretBytes::new(text.as_bytes().to_vec())
}

/// The members of a document: stores that keep objects may order them anew.
fn members(document: &SecretBytes) -> serde_json::Map<String, serde_json::Value> {
    serde_json::from_slice(document.expose()).expect("the document is a JSON object")
}

#[track_caller]
fn same(found: &SecretBytes, expected: &SecretBytes, what: &str) {
    assert!(members(found) == members(expected), "{what}: another document was found");
}

async fn staged_and_promoted(target: &dyn SecretTarget, at: &SecretPath, expect: Option<&VersionId>) -> Seeded {
    let write = write();
    target.stage(at, write.token, &write.document).await.expect("staging is taken");
    let version = target.promote(at, write.token, expect).await.expect("nobody else wrote");
    Seeded { write, version }
}

/// A document that is live.
struct Seeded {
    write: Write,
    version: VersionId,
}

/// A new place with one live document.
async fn seeded(target: &dyn SecretTarget, bench: &dyn Bench) -> (SecretPath, Seeded) {
    let at = bench.fresh_path();
    let seeded = staged_and_promoted(target, &at, None).await;
    (at, seeded)
}

async fn live(target: &dyn SecretTarget, at: &SecretPath) -> LiveSecret {
    target.live(at).await.expect("a document is live")
}

/// Exactly this document is live, for keyholder and for a consumer.
async fn is_live(target: &dyn SecretTarget, bench: &dyn Bench, at: &SecretPath, document: &SecretBytes, what: &str) {
    same(&live(target, at).await.value, document, what);
    let consumed = bench.consumer_read(at).await.expect("a consumer finds a document");
    same(&consumed, document, what);
}

/// Nothing is live: neither for keyholder nor for a consumer nor in a list.
async fn nothing_is_live(target: &dyn SecretTarget, bench: &dyn Bench, at: &SecretPath) {
    let found = target.live(at).await;
    assert!(matches!(&found, Err(TargetError::NotFound(path)) if path == at), "{found:?}");
    let found = target.live_version(at).await;
    assert!(matches!(&found, Err(TargetError::NotFound(path)) if path == at), "{found:?}");
    assert!(bench.consumer_read(at).await.is_none(), "a consumer finds nothing");
    let listed = target.list(at.as_str(), 10).await.expect("a list is given");
    assert_eq!(listed, [], "what is not live is not listed");
}

async fn nothing_there_is_a_typed_answer(target: &dyn SecretTarget, bench: &dyn Bench) {
    let at = bench.fresh_path();
    let write = write();
    nothing_is_live(target, bench, &at).await;
    assert!(target.staged(&at, write.token).await.expect("that is an answer").is_none());
    target.unstage(&at, write.token).await.expect("nothing to take away is fine");
    let promoted = target.promote(&at, write.token, None).await;
    assert!(matches!(&promoted, Err(TargetError::NotFound(path)) if *path == at), "never staged: {promoted:?}");
    nothing_is_live(target, bench, &at).await;
}

async fn a_check_tells_the_live_version_and_changes_nothing(target: &dyn SecretTarget, bench: &dyn Bench) {
    use kh_core::port::secret_target::Right;
    let (at, one) = seeded(target, bench).await;
    let fresh = bench.fresh_path();
    let before = bench.changes();
    let found = target.check(&at).await.expect("it can be looked at");
    assert_eq!(found.live.as_ref(), Some(&one.version));
    assert!(found.read != Right::Denied && found.write != Right::Denied, "{found:?}");
    let found = target.check(&fresh).await.expect("an unused place can be looked at");
    assert_eq!(found.live, None);
    assert!(found.read != Right::Denied && found.write != Right::Denied, "{found:?}");
    assert_eq!(bench.changes(), before, "a look changes nothing");
    nothing_is_live(target, bench, &fresh).await;
    is_live(target, bench, &at, &one.write.document, "after a look").await;
}

async fn places_are_listed_up_to_the_limit(target: &dyn SecretTarget, bench: &dyn Bench) {
    let mut places = Vec::new();
    for _ in 0..4 {
        places.push(seeded(target, bench).await.0);
    }
    let pending = write();
    let first = places.first().expect("four were made");
    target.stage(first, pending.token, &pending.document).await.expect("staging is taken");
    let all = target.list("", 10_000).await.expect("a list is given");
    for place in &places {
        assert_eq!(all.iter().filter(|listed| *listed == place).count(), 1, "{place} is listed once");
        let one = target.list(place.as_str(), 10).await.expect("a list is given");
        assert!(one.contains(place) && one.iter().all(|listed| listed.as_str().starts_with(place.as_str())), "{one:?}");
    }
    for listed in all.iter().filter(|listed| listed.as_str().starts_with(first.as_str())) {
        assert_eq!(listed, first, "a staged document is not a place of its own");
    }
    let few = target.list("", 3).await.expect("a list is given");
    assert_eq!(few.len(), 3, "the limit is kept: {few:?}");
    target.unstage(first, pending.token).await.expect("it can be taken away");
}

async fn copies_are_told_only_by_a_store_that_has_them(target: &dyn SecretTarget, bench: &dyn Bench) {
    let (at, _) = seeded(target, bench).await;
    let replicas = target.replicas(&at).await.expect("it can be asked");
    assert!(target.traits().replicas || replicas.is_empty(), "{replicas:?}");
}
