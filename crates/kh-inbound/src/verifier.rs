//! Who a caller's token speaks for.
//!
//! Invariants: what comes out says who somebody is and nothing of what they may do; a token is verified with the keys
//! of the issuer that it names and no other; an authority is asked about a token only for who takes its tokens, and about
//! another secret of keyholder's own for nobody; nothing is served from memory past its end by either clock, past a change
//! of its issuer's keys, or past a revocation; where nobody knows, the answer is "unavailable" and never "valid".

mod form;
mod run;

use std::{
    sync::{Arc, atomic::AtomicU64, atomic::Ordering},
    time::Duration,
};

pub(crate) use form::signing_input;
use form::{is_like_a_jwt, is_other_secret};
use kh_core::{
    Clock, Hashed, Now, SecretString, Sha256, UnixMillis,
    identity::Identity,
    port::{RevocationStore, StateError},
};
use kh_verify::{Compact, Policy, Reason, Unverified};
use tokio::runtime::Handle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Denied, DenyReason, IssuerSpec, Revocations, SpecError, Trust, VerifierConfig,
    cache::{self, Cache, Refused, TokenKey, Verified},
    flight::{Flights, NoOutcome, Outcome, Tasks},
    remote::{Remote, TOKEN_MAX},
    revocations::Named,
    ring::{Asked, Ring},
    spec::Directory,
};

/// Advice to callers where a fetch was lost or too many wait.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Questions that one request waits for in a row: the one that was under way when it began, which an order to ask anew
/// may have overtaken before; the same once more, in the moment in which it is taken off the list; and one of its own.
const QUESTIONS_MAX: u32 = 3;

/// What became of a question.
#[derive(Clone)]
struct Heard {
    outcome: Outcome,
    /// The orders that had come when it was asked, see [`Revocations::changes`].
    changes: u64,
}

/// One issuer at work.
pub(crate) struct Issuer {
    pub(crate) name: Arc<str>,
    issuers: Vec<Arc<str>>,
    pub(crate) life_max: Option<Duration>,
    pub(crate) trust: At,
}

/// Who vouches for its tokens.
pub(crate) enum At {
    Keys(Arc<Ring>, Box<Policy>),
    Authority(Box<Remote>),
}

impl Issuer {
    fn new(spec: IssuerSpec, clock: &Arc<dyn Clock>) -> Self {
        let IssuerSpec { name, issuers, life_max, trust } = spec;
        let trust = match trust {
            Trust::Keys { source, bounds, policy } => {
                At::Keys(Arc::new(Ring::new(Arc::clone(&name), source, bounds, Arc::clone(clock))), Box::new(policy))
            }
            Trust::Authority { authority, rules } => {
                At::Authority(Box::new(Remote::new(Arc::clone(&name), authority, rules, issuers.clone())))
            }
        };
        Self { name, issuers, life_max, trust }
    }

    /// Whether a token that is accepted until `ends` can come back after its revocation was forgotten. An authority's
    /// token without an end has the life that is configured.
    fn outlives_revocations(&self, ends: Option<UnixMillis>, now: Now) -> bool {
        let Some(max) = self.life_max else { return false };
        match ends {
            Some(end) => end.since(now.wall) > max.saturating_add(self.leeway()),
            None => matches!(self.trust, At::Keys(..)),
        }
    }

    /// The longest that a token of this identity lives from the moment at which it was issued, where that is known. Of a
    /// token that tells its end only the rest is bounded: it may have lived for any time before.
    fn whole_life(&self, identity: &Identity) -> Option<Duration> {
        match &self.trust {
            At::Authority(remote) if identity.expires_at().is_none() => remote.rules.untold_life,
            _ => None,
        }
    }

    fn leeway(&self) -> Duration {
        match &self.trust {
            At::Keys(_, policy) => policy.leeway(),
            At::Authority(remote) => remote.rules.leeway,
        }
    }
}

/// What a verifier has done and holds, for metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VerifierStats {
    /// Tokens found in memory.
    pub hits: u64,
    /// Tokens verified anew, or refused.
    pub misses: u64,
    /// Verified tokens in memory.
    pub cached: usize,
    /// Their bytes.
    pub cached_bytes: u64,
    /// Revocations of single tokens in memory.
    pub revoked_tokens: usize,
    /// Revocations of clients, subjects and issuers in memory.
    pub revoked_classes: usize,
    /// Tokens whose authority is being asked.
    pub asking: usize,
}

/// Verifies callers' tokens. One is shared by all workers.
pub struct Verifier {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    issuers: Vec<Arc<Issuer>>,
    directory: Directory,
    cache: Cache,
    refused: Refused,
    /// By place, like the issuers.
    flights: Vec<Flights<Heard>>,
    revocations: Arc<Revocations>,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl Verifier {
    /// A verifier that can be asked at once for issuers whose keys are in files. [`Verifier::load`] comes before the
    /// first request, [`Verifier::run`] goes on beside all of them. Tasks run on `runtime`, which must have timers.
    pub fn new(
        config: VerifierConfig,
        store: Arc<dyn RevocationStore>,
        clock: Arc<dyn Clock>,
        runtime: Handle,
    ) -> Result<Self, SpecError> {
        let revocations = Arc::new(Revocations::new(store, config.revocations));
        Self::over(config, revocations, clock, runtime)
    }

    /// The same over revocations that others of this process read and write as well: what one of them revokes is in
    /// force for all with their next request.
    pub fn over(
        config: VerifierConfig,
        revocations: Arc<Revocations>,
        clock: Arc<dyn Clock>,
        runtime: Handle,
    ) -> Result<Self, SpecError> {
        let directory = Directory::of(&config.issuers)?;
        let issuers = config.issuers.into_iter().map(|spec| Arc::new(Issuer::new(spec, &clock))).collect();
        Ok(Self::of(Shared::new((issuers, directory), Cache::new(config.cache_bytes), revocations, clock, runtime)))
    }

    /// The verifier of another configuration in the place of this one. It has the revocations of this one, and of the
    /// issuers that `is_same` (the same name, and the same in everything) their keys and what was verified with them.
    pub fn succeeded_by(&self, config: VerifierConfig, is_same: impl Fn(&str) -> bool) -> Result<Self, SpecError> {
        let directory = Directory::of(&config.issuers)?;
        let before = &self.shared;
        let clock = &before.clock;
        let issuer = |spec: IssuerSpec| {
            let known = before.issuers.iter().find(|issuer| issuer.name == spec.name && is_same(&spec.name));
            known.map_or_else(|| Arc::new(Issuer::new(spec, clock)), Arc::clone)
        };
        let issuers: Vec<_> = config.issuers.into_iter().map(issuer).collect();
        let place = |old: u16| {
            let issuer = before.issuers.get(usize::from(old))?;
            issuers.iter().zip(0_u16..).find(|(new, _)| Arc::ptr_eq(new, issuer)).map(|(_, place)| place)
        };
        let cache = Cache::new(config.cache_bytes);
        cache.take_over(&before.cache, place);
        let (revocations, runtime) = (Arc::clone(&before.revocations), before.tasks.runtime.clone());
        Ok(Self::of(Shared::new((issuers, directory), cache, revocations, Arc::clone(clock), runtime)))
    }

    fn of(shared: Shared) -> Self {
        Self { shared: Arc::new(shared) }
    }

    /// Reads the revocations. Without them nothing may be served.
    pub async fn load(&self) -> Result<(), StateError> {
        self.shared.revocations.refresh(self.shared.clock.now()).await.map(drop)
    }

    /// The identity of `token` if memory has it: unexpired by both clocks, under the present keys, not revoked.
    pub fn known(&self, token: &[u8], now: Now) -> Option<Arc<Identity>> {
        self.known_hashed(Hashed::of(token), now)
    }

    /// The same of a token whose digest is there already.
    pub fn known_hashed(&self, token: Hashed<'_>, now: Now) -> Option<Arc<Identity>> {
        self.shared.known(TokenKey(token.digest()), token.bytes(), now)
    }

    /// The identity of `token`. It completes without waiting where the keys are in memory.
    pub async fn verify(&self, token: &[u8], now: Now) -> Result<Arc<Identity>, Denied> {
        self.shared.verify(Hashed::of(token), None, now).await
    }

    /// The same of a token whose digest is there already, for a place that takes tokens with these values of `iss` alone:
    /// no other authority is asked about it. The identity may be another issuer's still, by memory or by keys.
    pub async fn verify_for(&self, taken: &[Arc<str>], token: Hashed<'_>, now: Now) -> Result<Arc<Identity>, Denied> {
        self.shared.verify(token, Some(taken), now).await
    }

    /// Until when tokens of this identity are taken at most: their end, and the leeway of their issuer. `None`: they have
    /// no end, or their issuer is none of these.
    pub fn taken_until(&self, identity: &Identity) -> Option<UnixMillis> {
        let issuer = self.shared.issuer(self.shared.directory.by_iss(identity.issuer())?)?;
        Some(identity.expires_at()?.plus(issuer.leeway()))
    }

    /// The values of `iss` that the tokens of the issuer `name` have; empty where there is no such issuer.
    pub fn values_of_iss(&self, name: &str) -> &[Arc<str>] {
        self.shared.issuers.iter().find(|issuer| *issuer.name == *name).map_or(&[], |issuer| &issuer.issuers)
    }

    /// The names of the issuers whose tokens cannot be verified, because their keys are missing or too old.
    pub fn lacking(&self) -> Vec<Arc<str>> {
        let now = self.shared.clock.now();
        let lacks = |issuer: &&Arc<Issuer>| match &issuer.trust {
            At::Keys(ring, _) => ring.keys(now).is_none(),
            At::Authority(_) => false,
        };
        self.shared.issuers.iter().filter(lacks).map(|issuer| Arc::clone(&issuer.name)).collect()
    }

    /// The revocations.
    pub fn revocations(&self) -> &Arc<Revocations> {
        &self.shared.revocations
    }

    /// For metrics.
    pub fn stats(&self) -> VerifierStats {
        let shared = &self.shared;
        let (cached, cached_bytes) = shared.cache.size();
        let (revoked_tokens, revoked_classes) = shared.revocations.sizes();
        VerifierStats {
            hits: shared.hits.load(Ordering::Relaxed),
            misses: shared.misses.load(Ordering::Relaxed),
            cached,
            cached_bytes,
            revoked_tokens,
            revoked_classes,
            asking: shared.flights.iter().map(Flights::len).sum(),
        }
    }
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        self.shared.tasks.cancel.cancel();
    }
}

impl Shared {
    fn new(
        (issuers, directory): (Vec<Arc<Issuer>>, Directory),
        cache: Cache,
        revocations: Arc<Revocations>,
        clock: Arc<dyn Clock>,
        runtime: Handle,
    ) -> Self {
        let flights = Flights::of_each(issuers.len());
        Self {
            issuers,
            directory,
            cache,
            refused: Refused::new(),
            flights,
            revocations,
            clock,
            tasks: Tasks { runtime, tracker: TaskTracker::new(), cancel: CancellationToken::new() },
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    fn issuer(&self, place: u16) -> Option<&Issuer> {
        self.issuers.get(usize::from(place)).map(|issuer| &**issuer)
    }

    fn known(&self, key: TokenKey, token: &[u8], now: Now) -> Option<Arc<Identity>> {
        let Some(found) = self.cache.get(&key) else { return self.in_memory(key, token, now) };
        let issuer = self.issuer(found.issuer)?;
        let stands = match &issuer.trust {
            At::Keys(ring, _) => ring.stands(found.generation, now),
            At::Authority(_) => true,
        };
        if !stands || found.is_over(now) {
            self.cache.remove(&key);
            return None;
        }
        // read before the look: what is revoked in between has a later number
        let epoch = self.revocations.epoch();
        if found.epoch != epoch {
            let believed =
                matches!(issuer.trust, At::Keys(..)) || self.revocations.believes(&found.identity, found.asked_s());
            if !believed || self.is_revoked(issuer, (key, token), &found.identity, now) {
                self.cache.remove(&key);
                return None;
            }
            self.cache.put(key, found.clone().checked_at(epoch));
        }
        self.hits.fetch_add(1, Ordering::Relaxed);
        Some(found.identity)
    }

    /// A token whose authority has it in memory. It is kept nowhere else, so that what the authority says is in force
    /// with the next request.
    fn in_memory(&self, key: TokenKey, token: &[u8], now: Now) -> Option<Arc<Identity>> {
        let place = self.directory.by_prefix(token)?;
        let issuer = self.issuer(place)?;
        let At::Authority(remote) = &issuer.trust else { return None };
        let identity = remote.in_memory(token, now)?;
        if self.is_revoked(issuer, (key, token), &identity, now) {
            return None;
        }
        self.hits.fetch_add(1, Ordering::Relaxed);
        Some(Arc::new(identity))
    }

    /// A token that does not tell when it was issued is as old as it can be.
    fn is_revoked(&self, issuer: &Issuer, (key, token): (TokenKey, &[u8]), identity: &Identity, now: Now) -> bool {
        let earliest = || Some(self.revocations.issued_from(now, issuer.whole_life(identity)?));
        let issued_at = identity.issued_at().or_else(earliest).unwrap_or(UnixMillis(0));
        let signed = || signing_input(token).map(Sha256::of);
        self.revocations.hits(Named { digest: &key.0, issued_at, identity }, signed)
    }

    /// Where `taken` are the values of `iss` that count, no other authority is asked. Nothing is remembered of a token that
    /// was refused for that: elsewhere it may be good.
    async fn verify(self: &Arc<Self>, token: Hashed<'_>, taken: Option<&[Arc<str>]>, now: Now) -> Outcome {
        let (key, token) = (TokenKey(token.digest()), token.bytes());
        if let Some(identity) = self.known(key, token, now) {
            return Ok(identity);
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        if is_other_secret(token) {
            return Err(Denied::invalid(DenyReason::Unrecognised));
        }
        let refused = |reason| Denied::invalid(DenyReason::Token(reason));
        if let Some(place) = self.directory.by_prefix(token) {
            if !self.is_taken(place, taken) {
                return Err(self.named(Denied::invalid(DenyReason::NotOfRoute), place));
            }
            return self.by_authority(place, key, token, now).await;
        }
        let compact = match Compact::decode(token) {
            Ok(compact) => compact,
            // it was meant to be a JWT, so nobody else is shown it
            Err(reason) if is_like_a_jwt(token) => return Err(refused(reason)),
            Err(_no_jwt) => {
                let place = self.directory.opaque().ok_or_else(|| Denied::invalid(DenyReason::Unrecognised))?;
                if !self.is_taken(place, taken) {
                    // whose it is, nobody knows
                    return Err(Denied::invalid(DenyReason::NotOfRoute));
                }
                return self.by_authority(place, key, token, now).await;
            }
        };
        let unverified = compact.read().map_err(refused)?;
        let iss = unverified.issuer().ok_or_else(|| refused(Reason::IssuerMissing))?;
        let place = self.directory.by_iss(iss).ok_or_else(|| Denied::invalid(DenyReason::IssuerUnknown))?;
        match self.issuer(place) {
            Some(Issuer { trust: At::Keys(ring, policy), .. }) => {
                self.by_keys(place, (ring, policy), key, (token, &unverified), now).await
            }
            Some(Issuer { trust: At::Authority(_), .. }) if !self.is_taken(place, taken) => {
                Err(self.named(Denied::invalid(DenyReason::NotOfRoute), place))
            }
            Some(Issuer { trust: At::Authority(_), .. }) => self.by_authority(place, key, token, now).await,
            None => Err(Denied::invalid(DenyReason::IssuerUnknown)),
        }
    }

    /// Whether one of the issuer's values of `iss` is taken; whoever does not say which takes all.
    fn is_taken(&self, place: u16, taken: Option<&[Arc<str>]>) -> bool {
        let Some(issuer) = self.issuer(place) else { return false };
        taken.is_none_or(|taken| issuer.issuers.iter().any(|iss| taken.contains(iss)))
    }

    async fn by_keys(
        self: &Arc<Self>,
        place: u16,
        (ring, policy): (&Arc<Ring>, &Policy),
        key: TokenKey,
        (token, unverified): (&[u8], &Unverified<'_>),
        now: Now,
    ) -> Outcome {
        let (mut now, mut asked) = (now, false);
        let denied = |denied: Denied| Err(self.named(denied, place));
        loop {
            // the revocations are looked at after this
            let epoch = self.revocations.epoch();
            let tried = ring.keys(now).map(|held| {
                let held = held.as_ref().expect("the ring hands out no empty guard");
                (unverified.verify(&held.keys, policy, now.wall), held.generation)
            });
            match tried {
                Some((Ok(identity), generation)) => {
                    let max_age = age_left(policy, &identity, now);
                    return self.admit(place, (key, token), identity, (generation, epoch), max_age, (now, None));
                }
                Some((Err(reason), _)) if !reason.wants_fresh_keys() => {
                    return denied(Denied::invalid(DenyReason::Token(reason)));
                }
                Some((Err(reason), _)) if asked => return denied(self.no_such_key(ring, reason)),
                None if asked => return denied(self.no_keys(ring)),
                Some((Err(reason), _)) => {
                    if ring.ask(&self.tasks).await == Asked::TooEarly {
                        return denied(self.no_such_key(ring, reason));
                    }
                }
                None => {
                    if ring.ask(&self.tasks).await == Asked::TooEarly {
                        return denied(self.no_keys(ring));
                    }
                }
            }
            asked = true;
            now = self.clock.now();
        }
    }

    /// The keys that are held do not make the token good: for that `reason`, or nobody knows what newer ones would do.
    fn no_such_key(&self, ring: &Ring, reason: Reason) -> Denied {
        if ring.is_behind() { self.no_keys(ring) } else { Denied::invalid(DenyReason::Token(reason)) }
    }

    fn no_keys(&self, ring: &Ring) -> Denied {
        let now = self.clock.now();
        let retry_after = ring.ask_in(now).min(ring.due_in(now)).max(RETRY_AFTER);
        Denied::unavailable(DenyReason::KeysUnavailable, retry_after)
    }

    /// What is asked of every verified token, whoever vouches for it; then it is kept for at most `max_age`.
    fn admit(
        &self,
        place: u16,
        (key, token): (TokenKey, &[u8]),
        identity: Identity,
        (generation, epoch): (u32, u32),
        max_age: Option<Duration>,
        (now, asked): (Now, Option<UnixMillis>),
    ) -> Outcome {
        let issuer = self.issuer(place).ok_or_else(|| Denied::invalid(DenyReason::IssuerUnknown))?;
        let ends = identity.expires_at().map(|end| end.plus(issuer.leeway()));
        let refused = if !issuer.issuers.contains(identity.issuer()) {
            Some(DenyReason::Token(Reason::IssuerRefused))
        } else if issuer.outlives_revocations(ends, now) {
            Some(DenyReason::LifeTooLong)
        } else if self.is_revoked(issuer, (key, token), &identity, now) {
            Some(DenyReason::Revoked)
        } else {
            None
        };
        if let Some(reason) = refused {
            return Err(Denied::invalid(reason).of(&issuer.name).client(identity.client()));
        }
        let identity = Arc::new(identity);
        let until = cache::end(now, ends, max_age);
        let believed = asked.is_none_or(|asked| self.revocations.believes(&identity, asked.as_secs()));
        if believed && !until.is_over(now) {
            let verified = Verified::new(Arc::clone(&identity), place, generation, epoch, until);
            self.cache.put(key, verified.asked_at(asked.unwrap_or_default()));
        }
        Ok(identity)
    }

    fn named(&self, denied: Denied, place: u16) -> Denied {
        match self.issuer(place) {
            Some(issuer) => denied.of(&issuer.name),
            None => denied,
        }
    }

    async fn by_authority(self: &Arc<Self>, place: u16, key: TokenKey, token: &[u8], now: Now) -> Outcome {
        let denied = |denied| Err(self.named(denied, place));
        if self.refused.holds(&key, now) {
            return denied(Denied::invalid(DenyReason::Inactive));
        }
        let text = match std::str::from_utf8(token) {
            _ if token.len() > TOKEN_MAX => return denied(Denied::invalid(DenyReason::Token(Reason::TooLarge))),
            Ok(text) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) => {
                SecretString::copied(text)
            }
            _ => return denied(Denied::invalid(DenyReason::Token(Reason::Malformed))),
        };
        let Some(flights) = self.flights.get(usize::from(place)) else {
            return denied(Denied::invalid(DenyReason::IssuerUnknown));
        };
        let (began, text) = (self.revocations.changes(), Arc::new(text));
        for _ in 0..QUESTIONS_MAX {
            let (shared, text) = (Arc::clone(self), Arc::clone(&text));
            let ask = move || async move { shared.ask(place, key, &text).await };
            match flights.join(key, &self.tasks, ask).await {
                Ok(heard) if self.is_stale(&heard, began) => {}
                Ok(heard) => return heard.outcome,
                Err(NoOutcome::Full) => return denied(Denied::unavailable(DenyReason::Overloaded, RETRY_AFTER)),
                Err(NoOutcome::Lost) => break,
            }
        }
        denied(Denied::unavailable(DenyReason::IssuerUnavailable, RETRY_AFTER))
    }

    /// Whether an answer may be of before an order to ask anew that had come when a request began, at `began`: whoever
    /// begins while a question is under way joins it. What comes later is the business of those who begin later.
    fn is_stale(&self, heard: &Heard, began: u64) -> bool {
        let Ok(identity) = &heard.outcome else { return false };
        heard.changes < began && self.revocations.overtakes(identity, heard.changes)
    }

    /// Asks the authority, as a task of its own.
    async fn ask(&self, place: u16, key: TokenKey, token: &SecretString) -> Heard {
        let changes = self.revocations.changes();
        Heard { outcome: self.ask_since(changes, place, key, token).await, changes }
    }

    async fn ask_since(&self, changes: u64, place: u16, key: TokenKey, token: &SecretString) -> Outcome {
        let Some(Issuer { trust: At::Authority(remote), .. }) = self.issuer(place) else {
            return Err(Denied::invalid(DenyReason::IssuerUnknown));
        };
        // who looked before the last question's answer came, and took a place after it had ended, has the answer here
        let now = self.clock.now();
        if let Some(identity) = self.known(key, token.expose().as_bytes(), now) {
            return Ok(identity);
        }
        if self.refused.holds(&key, now) {
            return Err(self.named(Denied::invalid(DenyReason::Inactive), place));
        }
        let outcome = self.question(place, remote, key, token).await;
        // the answer of those who wait for it, and of nobody who comes after the order
        if let Ok(identity) = &outcome
            && self.revocations.overtakes(identity, changes)
        {
            self.cache.remove(&key);
        }
        outcome
    }

    /// One question to the authority.
    async fn question(&self, place: u16, remote: &Remote, key: TokenKey, token: &SecretString) -> Outcome {
        // an answer of before a revocation is looked at after it
        let epoch = self.revocations.epoch();
        let asked = self.clock.now();
        let heard = remote.ask(token, || self.clock.now()).await;
        let now = self.clock.now();
        match heard {
            // its age counts from the question
            Ok((identity, age)) => {
                let age = age.saturating_add(now.mono.saturating_sub(asked.mono));
                let rest = remote.rules.max_age.saturating_sub(age);
                let token = token.expose().as_bytes();
                self.admit(place, (key, token), identity, (0, epoch), Some(rest), (now, Some(asked.wall)))
            }
            Err(denied) => {
                if denied.reason == DenyReason::Inactive {
                    self.refused.put(key, now.mono.saturating_add(remote.rules.negative_age));
                }
                Err(self.named(denied, place))
            }
        }
    }
}

/// What is left of the age that the policy allows.
fn age_left(policy: &Policy, identity: &Identity, now: Now) -> Option<Duration> {
    let end = identity.issued_at()?.plus(policy.age_max()?).plus(policy.leeway());
    Some(end.since(now.wall))
}
