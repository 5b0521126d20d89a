//! A token as it is handed out.
//!
//! Invariant: the token's bytes exist in two buffers, the secret itself and the header value, and both are wiped when
//! the last lease is dropped.

use std::{
    fmt,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderValue;
use kh_core::{Now, SecretString, Sha256, UnixMillis};
use kh_token::{Held, Lifetime, life};
use zeroize::Zeroizing;

/// How often a token that is due is offered to the core again while its refresh is late.
const RECHECK: Duration = Duration::from_secs(1);

/// One token and where it is good for. Shared by all callers until the next one replaces it.
pub struct Lease {
    authorization: HeaderValue,
    token: SecretString,
    sha256: Sha256,
    generation: u64,
    lifetime: Lifetime,
    idle_limit: Option<Duration>,
    api_base: String,
    auth_base: Option<String>,
    last_used: LastUse,
    /// Whether the platform took it for a call.
    proven: AtomicBool,
    /// The age in milliseconds at which the core is asked about an early refresh.
    ask_at_age: AtomicU64,
}

kh_core::assert_closed!(Lease);

/// Where calls with a token go.
pub(crate) struct Bases {
    pub(crate) api: String,
    pub(crate) auth: Option<String>,
}

/// What else a session's token has.
pub(crate) struct OfSession {
    pub(crate) life: Lifetime,
    /// The age at which it is renewed early.
    pub(crate) refresh_age: Duration,
    /// Counts the session's tokens in this process.
    pub(crate) generation: u64,
}

/// The `Authorization` value of a bearer token (RFC 6750 section 2.1): sensitive, its buffer wiped when dropped.
/// `None` when the token has bytes that a header cannot carry.
pub(crate) fn bearer(token: &SecretString) -> Option<HeaderValue> {
    const SCHEME: &[u8] = b"Bearer ";
    let mut text = Zeroizing::new(Vec::with_capacity(SCHEME.len() + token.len()));
    text.extend_from_slice(SCHEME);
    text.extend_from_slice(token.expose().as_bytes());
    let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(text)).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// When many threads used something last.
struct LastUse {
    wall: AtomicU64,
    mono: AtomicU64,
}

impl LastUse {
    fn at(now: Now) -> Self {
        Self { wall: AtomicU64::new(now.wall.0), mono: AtomicU64::new(millis(now.mono)) }
    }

    /// A late report of an earlier use changes nothing.
    fn note(&self, now: Now) {
        let mono = millis(now.mono);
        // Two uses at once may leave the wall time of the other one: both are of the same moment.
        if self.mono.fetch_max(mono, Ordering::Relaxed) <= mono {
            self.wall.store(now.wall.0, Ordering::Relaxed);
        }
    }

    fn read(&self) -> Now {
        Now {
            wall: UnixMillis(self.wall.load(Ordering::Relaxed)),
            mono: Duration::from_millis(self.mono.load(Ordering::Relaxed)),
        }
    }
}

impl Lease {
    pub(crate) fn new(
        token: SecretString,
        authorization: HeaderValue,
        held: &Held,
        idle_limit: Option<Duration>,
        bases: Bases,
        now: Now,
    ) -> Self {
        Self {
            authorization,
            token,
            sha256: held.sha256,
            generation: held.generation,
            lifetime: held.life,
            idle_limit,
            api_base: bases.api,
            auth_base: bases.auth,
            last_used: LastUse::at(now),
            proven: AtomicBool::new(false),
            ask_at_age: AtomicU64::new(millis(held.refresh_age)),
        }
    }

    /// A token of a user's session. Its idle time begins anew.
    pub(crate) fn of_session(
        token: &SecretString,
        authorization: HeaderValue,
        of: &OfSession,
        idle_limit: Option<Duration>,
        bases: Bases,
        now: Now,
    ) -> Self {
        Self {
            authorization,
            token: SecretString::copied(token.expose()),
            sha256: token.sha256(),
            generation: of.generation,
            lifetime: of.life,
            idle_limit,
            api_base: bases.api,
            auth_base: bases.auth,
            last_used: LastUse::at(now),
            proven: AtomicBool::new(false),
            ask_at_age: AtomicU64::new(millis(of.refresh_age)),
        }
    }

    /// `Bearer TOKEN`, marked sensitive. Cloning it shares the wiped buffer.
    pub fn authorization(&self) -> &HeaderValue {
        &self.authorization
    }

    /// The access token.
    pub fn token(&self) -> &SecretString {
        &self.token
    }

    /// Digest of the access token: its name in reports and answers.
    pub fn sha256(&self) -> Sha256 {
        self.sha256
    }

    /// Counts the credential's tokens, from 1.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// When the token expires, by the wall clock of the moment it was requested.
    pub fn expires_at(&self) -> UnixMillis {
        self.lifetime.expires_at()
    }

    /// What is left of the token's life, by the clock that says less.
    pub fn remaining(&self, now: Now) -> Duration {
        self.lifetime.remaining(now)
    }

    /// How old the token is, by the clock that says more.
    pub fn age(&self, now: Now) -> Duration {
        self.lifetime.elapsed(now)
    }

    /// Where API calls with this token go.
    pub fn api_base(&self) -> &str {
        &self.api_base
    }

    /// Where account operations with this token go, if the platform has a separate place.
    pub fn auth_base(&self) -> Option<&str> {
        self.auth_base.as_deref()
    }

    /// The token was used for a call that the platform answered: its inactivity timer started anew.
    pub fn note_used(&self, now: Now) {
        if !self.proven.load(Ordering::Relaxed) {
            self.proven.store(true, Ordering::Relaxed);
        }
        self.last_used.note(now);
    }

    /// Whether the platform answered a call with this token otherwise than by refusing it.
    pub fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }

    pub(crate) fn last_used(&self) -> Now {
        self.last_used.read()
    }

    /// Whether the token may be handed out: alive, and not presumed dead by inactivity.
    pub(crate) fn is_usable(&self, now: Now) -> bool {
        let idle = self.idle_limit.is_some_and(|limit| life::elapsed(self.last_used(), now) >= limit);
        !idle && !self.lifetime.is_dead(now)
    }

    /// Whether this caller is the one that asks the core about an early refresh: true for one caller per second from
    /// the moment it is due.
    pub(crate) fn claims_refresh(&self, now: Now) -> bool {
        let age = millis(self.age(now));
        let ask_at = self.ask_at_age.load(Ordering::Relaxed);
        let next = age.saturating_add(millis(RECHECK));
        age >= ask_at && self.ask_at_age.compare_exchange(ask_at, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("sha256", &self.sha256)
            .field("generation", &self.generation)
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A widely copied tutorial writes it from every request without a lock.
    #[test]
    fn the_last_use_of_many_at_once_is_the_latest() {
        let at = |millis: u64| Now { wall: UnixMillis(1_000_000 + millis), mono: Duration::from_millis(millis) };
        let last = LastUse::at(at(0));
        std::thread::scope(|scope| {
            for worker in 0..8 {
                let last = &last;
                scope.spawn(move || (0..10_000).for_each(|round| last.note(at(round * 8 + worker))));
            }
        });
        assert_eq!(last.read().mono, Duration::from_millis(79_999));
        last.note(at(5));
        assert_eq!(last.read().mono, Duration::from_millis(79_999), "a late report does not turn it back");
    }

    #[test]
    fn a_bearer_header_is_sensitive_and_refuses_bad_bytes() {
        let value = bearer(&SecretString::copied("abc-DEF_123")).unwrap();
        assert_eq!(value.as_bytes(), b"Bearer abc-DEF_123");
        assert!(value.is_sensitive() && !format!("{value:?}").contains("abc"));
        for bad in ["a\nb", "a\rb", "a\0b"] {
            assert!(bearer(&SecretString::copied(bad)).is_none(), "{bad:?}");
        }
    }
}
