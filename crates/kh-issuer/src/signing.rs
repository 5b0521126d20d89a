//! The keys that sign access tokens: kept in one sealed document of the secret store, replaced by schedule and by order,
//! shown as a key set (RFC 7517).
//!
//! What is to be done is decided in `schedule`; here it is carried out. Two processes over one store agree because every
//! change is a compare-and-set of the whole document, and each looks for the other's changes every [`POLL_EVERY`], long
//! before a key that was only published begins to sign.

mod document;
mod key;
mod schedule;

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use kh_core::{
    Blame, Clock, Code, Entropy, Now, Retry, SecretName, Steadiness, UnixMillis,
    audit::AuditEvent,
    port::{Expected, SecretStore, StoreError},
};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

pub use schedule::{Algorithm, JWT_TTL_MAX, KEYS_MAX, Order, Policy as SigningPolicy};

use key::Key;
use schedule::{LEEWAY, Step, Times};

/// How often the store is asked whether another process changed the keys, as for every other secret.
const POLL_EVERY: Duration = Duration::from_secs(5);

/// How long a key set may be kept by whoever fetched it (`Cache-Control: max-age`). Far below the time for which a key
/// is published before it signs.
pub const JWKS_MAX_AGE: Duration = Duration::from_mins(5);

/// How often a change is tried again when another process changed the keys at the same time.
const CHANGE_TRIES: usize = 8;

/// Under which name the keys are in the secret store.
const DOCUMENT: &str = "issuer/signing-keys";

/// Why the keys could not be read, changed or used.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// The secret store.
    #[error("the signing keys cannot be read or written")]
    Store(#[from] StoreError),
    /// The document of the keys is not one; the text says how.
    #[error("the signing keys are damaged: {0}")]
    Damaged(&'static str),
    /// There is no key yet.
    #[error("there is no signing key yet")]
    NoKey,
    /// A key could not be made, or did not sign.
    #[error("a signing key could not be made or used")]
    Key,
    /// Nothing can be done to the keys now: one waits already, or there are [`KEYS_MAX`].
    #[error("no key can be added: one waits already, or {KEYS_MAX} keys are published")]
    Refused,
}

impl SigningError {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Store(error) => error.code(),
            Self::Damaged(_) => Code::STORE_TAMPERED,
            Self::NoKey | Self::Key => Code::SIGNING_UNAVAILABLE,
            Self::Refused => Code::STORE_CONFLICT,
        }
    }

    /// Who has to act.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Store(error) => error.blame(),
            Self::Damaged(_) => Blame::Store,
            Self::NoKey | Self::Key => Blame::Keyholder,
            Self::Refused => Blame::Caller,
        }
    }

    /// Whether the same call may succeed later.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Store(error) => error.retry(),
            Self::NoKey => Retry::After(POLL_EVERY),
            Self::Damaged(_) | Self::Key | Self::Refused => Retry::Never,
        }
    }
}

/// What a key is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyState {
    /// Published, and signs later.
    Waiting,
    /// Signs.
    Signing,
    /// Published for the tokens that it signed.
    Retiring,
    /// Not published any more; gone with the next change.
    Ended,
}

impl KeyState {
    /// Its name in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Signing => "signing",
            Self::Retiring => "retiring",
            Self::Ended => "ended",
        }
    }
}

/// One key as a person may see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyDescription {
    /// Its `kid`: the RFC 7638 thumbprint.
    pub kid: String,
    /// Its algorithm.
    pub algorithm: Algorithm,
    /// What it is doing.
    pub state: KeyState,
    /// When it was made and first published.
    pub made_at: UnixMillis,
    /// From when it signs.
    pub signs_from: UnixMillis,
    /// Until when it is published, once its successor is known.
    pub published_until: Option<UnixMillis>,
}

/// The keys in memory, as of one version of the document.
#[derive(Debug, Default)]
struct Ring {
    /// Zero: there is no document.
    version: u64,
    keys: Vec<Key>,
}

impl Ring {
    fn times(&self) -> Vec<Times> {
        self.keys.iter().map(|key| key.times).collect()
    }
}

/// The signing keys of one installation. Share it as an `Arc`.
pub struct SigningKeys {
    store: Arc<dyn SecretStore>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    policy: SigningPolicy,
    name: SecretName,
    ring: ArcSwap<Ring>,
    wall: Mutex<Steadiness>,
    /// Held while the document is read or changed.
    turn: tokio::sync::Mutex<()>,
}

impl SigningKeys {
    /// Reads the keys that there are; none are made.
    pub async fn open(
        store: Arc<dyn SecretStore>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        policy: SigningPolicy,
    ) -> Result<Arc<Self>, SigningError> {
        let name = SecretName::own_document(DOCUMENT);
        let (ring, turn) = (ArcSwap::default(), tokio::sync::Mutex::default());
        let wall = Mutex::new(Steadiness::new(clock.now()));
        let keys = Self { store, clock, entropy, policy, name, ring, wall, turn };
        keys.refresh().await?;
        Ok(Arc::new(keys))
    }

    /// Picks up what another process changed. `Ok(true)`: something was read.
    pub async fn refresh(&self) -> Result<bool, SigningError> {
        let _turn = self.turn.lock().await;
        self.read_if_changed().await
    }

    /// Only for the holder of the turn.
    async fn read_if_changed(&self) -> Result<bool, SigningError> {
        let newest = match self.store.newest_version(&self.name).await {
            Ok(version) => version,
            Err(StoreError::NotFound(_)) => 0,
            Err(error) => return Err(error.into()),
        };
        if self.ring.load().version == newest {
            return Ok(false);
        }
        let ring = match self.store.get(&self.name).await {
            Ok(stored) => Ring { version: stored.version, keys: document::decode(&stored.value)? },
            Err(StoreError::NotFound(_)) => Ring::default(),
            Err(error) => return Err(error.into()),
        };
        self.ring.store(Arc::new(ring));
        Ok(true)
    }

    /// Does what is due by schedule: the first key, the next one, the end of old ones. `Ok(true)`: something was done.
    /// While the wall clock cannot be believed, only the first key is made: a change takes keys out that seem to have
    /// ended.
    pub async fn tend(&self) -> Result<bool, SigningError> {
        let decide = |times: &[Times], now: Now| {
            let believed = self.wall.lock().holds(now);
            let due = schedule::due(times, &self.policy, now.wall);
            Ok(due.filter(|_| believed || times.is_empty()))
        };
        Ok(self.change("keyholder", decide).await?.is_some())
    }

    /// Carries out a person's order; answers the `kid` of the key that signs next. `actor` is for the audit log.
    pub async fn order(&self, order: Order, actor: &str) -> Result<String, SigningError> {
        let decide = |times: &[Times], now: Now| {
            schedule::ordered(times, &self.policy, order, now.wall).map(Some).ok_or(SigningError::Refused)
        };
        self.change(actor, decide).await?.ok_or(SigningError::Refused)
    }

    /// Decides over what is stored now and writes it, again if another process was faster.
    async fn change(
        &self,
        actor: &str,
        decide: impl Fn(&[Times], Now) -> Result<Option<Step>, SigningError>,
    ) -> Result<Option<String>, SigningError> {
        let _turn = self.turn.lock().await;
        let mut tries = 1;
        loop {
            self.read_if_changed().await?;
            let ring = self.ring.load_full();
            let now = self.clock.now();
            let Some(step) = decide(&ring.times(), now)? else { return Ok(None) };
            match self.carry_out(&ring, step, now.wall, actor).await {
                Err(SigningError::Store(StoreError::Conflict { .. })) if tries < CHANGE_TRIES => tries += 1,
                done => return done.map(Some),
            }
        }
    }

    async fn carry_out(&self, ring: &Ring, step: Step, now: UnixMillis, actor: &str) -> Result<String, SigningError> {
        let times = ring.times();
        let published = ring.keys.iter().enumerate().filter(|(place, _)| schedule::is_published(&times, *place, now));
        let kept = published.map(|(_, key)| copy(key)).collect::<Result<Vec<_>, _>>();
        let mut keys = kept?;
        // the keys are in the order in which they sign
        let (place, action) = match step {
            Step::Add(signs_from) => {
                let place = keys.partition_point(|key| key.times.signs_from <= signs_from);
                keys.insert(place, self.make(signs_from, now).await?);
                (place, "signing_key.add")
            }
            Step::Hasten(signs_from) => {
                for key in &mut keys {
                    key.times.signs_from = key.times.signs_from.min(signs_from);
                }
                (keys.len().saturating_sub(1), "signing_key.hasten")
            }
            Step::Begin(signs_from) => {
                keys.first_mut().ok_or(SigningError::NoKey)?.times.signs_from = signs_from;
                (0, "signing_key.hasten")
            }
            Step::Replace(signs_from) => {
                keys.clear();
                keys.push(self.make(signs_from, now).await?);
                (0, "signing_key.replace_all")
            }
        };
        let changed = keys.get(place).ok_or(SigningError::NoKey)?;
        let kid = changed.kid.clone();
        let event = AuditEvent::new(&*self.entropy, now, actor, action, &kid)
            .with("algorithm", &changed.times.algorithm.as_str())
            .with("signs_from_ms", &changed.times.signs_from.0)
            .with("published", &keys.iter().map(|key| key.kid.as_str()).collect::<Vec<_>>().join(" "));
        let expected = if ring.version == 0 { Expected::Absent } else { Expected::Version(ring.version) };
        let version = self.store.put(&self.name, document::encode(&keys)?, expected, event).await?;
        tracing::info!(
            key.id = kid,
            key.algorithm = changed.times.algorithm.as_str(),
            key.signs_from_ms = changed.times.signs_from.0,
            action,
            "changed the signing keys"
        );
        self.ring.store(Arc::new(Ring { version, keys }));
        Ok(kid)
    }

    async fn make(&self, signs_from: UnixMillis, now: UnixMillis) -> Result<Key, SigningError> {
        let times = Times { algorithm: self.policy.algorithm, signs_from };
        let made = tokio::task::spawn_blocking(move || Key::generate(times, now)).await;
        made.ok().and_then(Result::ok).ok_or(SigningError::Key)
    }

    /// The public keys as a JWK Set, those that verifiers need now and the next one. Safe to show to anybody.
    pub fn key_set(&self) -> String {
        let (ring, now) = (self.ring.load(), self.clock.now().wall);
        let times = ring.times();
        let published = ring.keys.iter().enumerate().filter(|(place, _)| schedule::is_published(&times, *place, now));
        let keys: Vec<_> = published.map(|(_, key)| key.jwk.as_str()).collect();
        format!(r#"{{"keys":[{}]}}"#, keys.join(","))
    }

    /// A number that differs whenever the keys in memory were exchanged, for whoever keeps what [`Self::key_set`] said.
    pub fn version(&self) -> u64 {
        self.ring.load().version
    }

    /// Every key, for a person.
    pub fn describe(&self) -> Vec<KeyDescription> {
        let (ring, now) = (self.ring.load(), self.clock.now().wall);
        let times = ring.times();
        let signer = schedule::signer(&times, now);
        let state = |place: usize| match signer {
            _ if !schedule::is_published(&times, place, now) => KeyState::Ended,
            Some(signer) if place > signer => KeyState::Waiting,
            Some(signer) if place == signer => KeyState::Signing,
            _ => KeyState::Retiring,
        };
        let until = |place: usize| times.get(place + 1).map(|next| next.signs_from.plus(JWT_TTL_MAX).plus(LEEWAY));
        let all = ring.keys.iter().enumerate();
        all.map(|(place, key)| KeyDescription {
            kid: key.kid.clone(),
            algorithm: key.times.algorithm,
            state: state(place),
            made_at: key.made_at,
            signs_from: key.times.signs_from,
            published_until: until(place),
        })
        .collect()
    }

    /// The compact JWS over `payload` (RFC 7515 section 7.1), by the key that signs now.
    pub(crate) fn sign(&self, payload: &[u8]) -> Result<String, SigningError> {
        let ring = self.ring.load();
        let place = schedule::signer(&ring.times(), self.clock.now().wall).ok_or(SigningError::NoKey)?;
        let key = ring.keys.get(place).ok_or(SigningError::NoKey)?;
        let mut token = format!("{}.{}", key.header, key::encoded(payload));
        let signature = key.sign(token.as_bytes()).ok_or(SigningError::Key)?;
        token.push('.');
        token.push_str(&key::encoded(&signature));
        Ok(token)
    }

    /// The payload segment of a token that one of the published keys signed; none for anything else.
    ///
    /// What keyholder signs begins with one of its own headers, letter by letter, so no header is parsed: `alg` and
    /// `kid` of a stranger choose nothing.
    pub(crate) fn verified<'a>(&self, token: &'a str) -> Option<&'a str> {
        let (message, signature) = token.rsplit_once('.')?;
        let (header, payload) = message.split_once('.')?;
        let (ring, now) = (self.ring.load(), self.clock.now().wall);
        let place = ring.keys.iter().position(|key| key.header == header)?;
        if !schedule::is_published(&ring.times(), place, now) {
            return None;
        }
        let signature = key::decoded(signature)?;
        ring.keys.get(place)?.verifies(message.as_bytes(), &signature).then_some(payload)
    }

    /// Makes the first key, then follows the schedule and other processes until `cancel`.
    pub async fn run(self: Arc<Self>, cancel: CancellationToken) {
        let mut ticks = tokio::time::interval(POLL_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let outcome = self.tend().await;
            match &outcome {
                Ok(_) if failing => tracing::info!("the signing keys can be read and changed again"),
                Err(error) if !failing => {
                    tracing::error!(
                        code = error.code().0,
                        "the signing keys cannot be read or changed; the known ones go on signing: {error}"
                    );
                }
                _ => {}
            }
            failing = outcome.is_err();
        }
    }
}

/// A key for the next set: it shares nothing with the one in memory, which others may be using.
fn copy(key: &Key) -> Result<Key, SigningError> {
    Key::of(key.times, key.made_at, key.pkcs8.duplicate()).map_err(|_| SigningError::Key)
}

impl std::fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKeys").field("version", &self.version()).finish_non_exhaustive()
    }
}

kh_core::assert_closed!(SigningKeys);
