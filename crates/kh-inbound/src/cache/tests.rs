//! What a wide-spread tutorial gets wrong about caching tokens, and what must never be served.

use super::*;

fn at(seconds: u64) -> Now {
    Now { wall: UnixMillis((1_790_000_000 + seconds) * 1000), mono: Duration::from_secs(seconds) }
}

fn identity(subject: &str) -> Arc<Identity> {
    Arc::new(Identity::builder(Arc::from("i")).subject(subject).build().unwrap())
}

fn verified(subject: &str, until: Until) -> Verified {
    Verified::new(identity(subject), 0, 0, 0, until)
}

/// The tutorial's cache is keyed by the token's first 8 bytes, which are `eyJhbGci` for every JWT.
#[test]
fn tokens_with_the_same_beginning_share_nothing() {
    let cache = Cache::new(1 << 20);
    let (one, two) =
        (&b"eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln"[..], &b"eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJiIn0.c2ln"[..]);
    assert_eq!(one[..8], two[..8]);
    cache.put(TokenKey::of(one), verified("a", Until::NEVER));
    assert!(cache.get(&TokenKey::of(two)).is_none());
    cache.put(TokenKey::of(two), verified("b", Until::NEVER));
    assert_eq!(cache.get(&TokenKey::of(one)).unwrap().identity.subject(), Some("a"));
    assert_eq!(cache.get(&TokenKey::of(two)).unwrap().identity.subject(), Some("b"));
}

/// Nor by the first 8 bytes of its digest: two keys that hash alike stay two keys.
#[test]
fn digests_with_the_same_beginning_share_nothing() {
    let cache = Cache::new(1 << 20);
    let key = |last: u8| {
        let mut digest = Sha256::of(b"t");
        digest.0[31] = last;
        TokenKey(digest)
    };
    let hash = |key: TokenKey| Digested::default().hash_one(key);
    assert_eq!(hash(key(1)), hash(key(2)));
    cache.put(key(1), verified("a", Until::NEVER));
    assert!(cache.get(&key(2)).is_none());
    cache.put(key(2), verified("b", Until::NEVER));
    assert_eq!(cache.get(&key(1)).unwrap().identity.subject(), Some("a"));
}

/// The tutorial writes under one key and reads under another, so that nothing is ever found.
#[test]
fn what_is_written_is_found() {
    let cache = Cache::new(1 << 20);
    for round in 0..500 {
        let token = format!("token-{round}");
        cache.put(TokenKey::of(token.as_bytes()), verified(&token, Until::NEVER));
        let found = cache.get(&TokenKey::of(token.as_bytes())).expect("it was put there");
        assert_eq!(found.identity.subject(), Some(token.as_str()));
    }
}

#[test]
fn an_entry_ends_by_either_clock_and_never_late() {
    let entry = verified("a", end(at(0), Some(at(10).wall), None));
    assert!(!entry.is_over(at(9)));
    assert!(entry.is_over(at(10)));
    assert!(entry.is_over(Now { mono: Duration::ZERO, ..at(10) }));
    assert!(entry.is_over(Now { wall: at(0).wall, ..at(10) }));
    // rounding is down
    let half = Now { wall: UnixMillis(at(10).wall.0 + 999), mono: Duration::from_millis(10_999) };
    assert!(verified("a", end(at(0), Some(half.wall), None)).is_over(at(10)));
    let capped = verified("a", end(at(0), Some(at(3600).wall), Some(Duration::from_mins(1))));
    assert!(!capped.is_over(at(59)));
    assert!(capped.is_over(at(60)));
    assert!(verified("a", end(at(10), Some(at(9).wall), None)).is_over(at(10)), "a dead token has no life");
}

#[test]
fn bytes_are_bounded() {
    let cache = Cache::new(1 << 20);
    for round in 0_u32..20_000 {
        cache.put(TokenKey::of(&round.to_be_bytes()), verified(&"x".repeat(200), Until::NEVER));
        assert!(cache.size().1 <= 1 << 20);
    }
    let (entries, bytes) = cache.size();
    assert!(entries > 1000 && bytes > 1 << 19, "{entries} entries of {bytes} bytes");
}

#[test]
fn refused_tokens_are_remembered_briefly_and_boundedly() {
    let refused = Refused::new();
    refused.put(TokenKey::of(b"t"), Duration::from_secs(10));
    assert!(refused.holds(&TokenKey::of(b"t"), at(9)));
    assert!(!refused.holds(&TokenKey::of(b"t"), at(10)));
    assert!(!refused.holds(&TokenKey::of(b"u"), at(0)));
    for round in 0_u32..50_000 {
        refused.put(TokenKey::of(&round.to_be_bytes()), Duration::from_secs(10));
    }
    assert!(refused.0.len() as u64 <= REFUSED_MAX);
}
