//! Writes down which secret this process logs in with: the evidence by which a rotation knows that the new one is used
//! and the old one is not.
//!
//! A process counts as alive for [`ALIVE`] after its last sign and says so again before that is over, as long as it holds
//! a token from its last login; at its end it says that it is gone. A login that the platform refused is a sign as well:
//! whoever tries a secret has it, and may miss it; the token of the login before it stays in use.
//!
//! Of credentials that are not rotated nothing is written, so that using them changes no state. It is remembered all the
//! same: when one of them is rotated from now on, the journal is told of the token that is held already.
//!
//! Invariants: nobody waits for the journal; what could not be written stays and is written when the journal can be
//! written again; a sighting of an earlier secret keeps the time of its last login, so that signs of life never look
//! like a use of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kh_core::{
    Clock, CredentialName, Fingerprint, Fingerprinter, UnixMillis,
    port::{Grade, Sighting, SightingLog},
    rotation::VersionId,
};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{Login, LoginObserver, LoginOutcome};

/// How long a process counts as alive after its last sign. A rotation waits as long for one that was killed.
pub const ALIVE: Duration = Duration::from_mins(15);

/// How often signs of life are given: two may be lost.
const SIGN: Duration = Duration::from_mins(5);

/// Pause before something is written again that the journal did not take.
const AGAIN: Duration = Duration::from_secs(5);

/// Secrets of one credential that are remembered while they wait to be written: a run has two, and one may follow it.
const SECRETS_MAX: usize = 4;

/// What is known of one secret.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Seen {
    fingerprint: Fingerprint,
    grade: Grade,
    version: u64,
    /// The last login.
    at: UnixMillis,
    /// End of the token that it brought.
    until: UnixMillis,
    is_written: bool,
}

/// The secrets of each credential, the one of the last login last.
type Book = BTreeMap<CredentialName, Vec<Seen>>;

/// Where the secret stands whose token is in use: the one of the last login that brought a token, while that lives. Those
/// that were refused after it brought none.
fn in_use(secrets: &[Seen], now: UnixMillis) -> Option<usize> {
    let last = secrets.iter().rposition(|seen| seen.grade == Grade::Used)?;
    secrets.get(last).is_some_and(|seen| seen.until > now).then_some(last)
}

/// The sightings of one process.
pub struct Sightings {
    journal: Arc<dyn SightingLog>,
    fingerprinter: Arc<Fingerprinter>,
    clock: Arc<dyn Clock>,
    consumer: String,
    /// The credentials that are rotated.
    rotated: Mutex<BTreeSet<CredentialName>>,
    book: Mutex<Book>,
    news: Notify,
    /// So that one outage of the journal is told once.
    is_failing: AtomicBool,
}

impl fmt::Debug for Sightings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sightings").field("consumer", &self.consumer).finish_non_exhaustive()
    }
}

impl Sightings {
    /// The sightings of the process that calls itself `consumer`, such as `gateway/host/4711-0badcafe`: different for
    /// every process, because what one uses says nothing about another.
    pub fn new(
        consumer: String,
        journal: Arc<dyn SightingLog>,
        fingerprinter: Arc<Fingerprinter>,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        let (rotated, book) = (Mutex::default(), Mutex::default());
        let (news, is_failing) = (Notify::new(), AtomicBool::new(false));
        Arc::new(Self { journal, fingerprinter, clock, consumer, rotated, book, news, is_failing })
    }

    /// Writes from now on what is known, and becomes known, of exactly these credentials: those that are rotated.
    pub fn write_of(&self, rotated: BTreeSet<CredentialName>) {
        *self.rotated.lock() = rotated;
        self.news.notify_one();
    }

    /// Its name.
    pub fn consumer(&self) -> &str {
        &self.consumer
    }

    /// Writes until `cancel`, then that the process is gone. Tasks that log in must have ended by then.
    pub async fn run(self: Arc<Self>, cancel: CancellationToken) {
        let mut pause = SIGN;
        loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                () = self.news.notified() => {}
                () = tokio::time::sleep(pause) => self.give_signs(),
            }
            pause = if self.write(ALIVE).await { SIGN } else { AGAIN };
        }
        self.book.lock().values_mut().flatten().for_each(|seen| seen.is_written = false);
        self.write(Duration::ZERO).await;
    }

    /// The secret of the last login that brought a token is in use for as long as that token lives.
    fn give_signs(&self) {
        let now = self.clock.now().wall;
        for secrets in self.book.lock().values_mut() {
            if let Some(seen) = in_use(secrets, now).and_then(|index| secrets.get_mut(index)) {
                seen.is_written = false;
            }
        }
    }

    /// Writes what is not written yet; whether the journal took it all.
    async fn write(&self, alive: Duration) -> bool {
        let now = self.clock.now().wall;
        let due: Vec<(CredentialName, Seen)> = {
            let (rotated, book) = (self.rotated.lock(), self.book.lock());
            let wanted = book.iter().filter(|(name, _)| rotated.contains(*name));
            let all = wanted.flat_map(|(name, secrets)| secrets.iter().map(move |seen| (name.clone(), seen.clone())));
            all.filter(|(_, seen)| !seen.is_written).collect()
        };
        for (credential, seen) in due {
            // nobody is alive with a secret whose token is over, or that was refused
            let alive_until = now.plus(alive).min(seen.until).max(seen.at);
            let sighting = Sighting {
                credential: credential.clone(),
                consumer: self.consumer.clone(),
                fingerprint: seen.fingerprint.clone(),
                version: Some(VersionId(seen.version.to_string())),
                grade: seen.grade,
                at: seen.at,
                alive_until,
            };
            if let Err(error) = self.journal.sight(sighting).await {
                if !self.is_failing.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        credential.name = %credential, error.code = %error.code(),
                        "it could not be written down which secret is in use; a rotation waits for it: {error}"
                    );
                }
                return false;
            }
            self.is_failing.store(false, Ordering::Relaxed);
            self.written(&credential, &seen);
        }
        true
    }

    /// Marks it, unless there was another login meanwhile, and forgets earlier secrets that are written and not in use.
    fn written(&self, credential: &CredentialName, of: &Seen) {
        let now = self.clock.now().wall;
        let mut book = self.book.lock();
        let Some(secrets) = book.get_mut(credential) else { return };
        if let Some(seen) = secrets.iter_mut().find(|seen| *seen == of) {
            seen.is_written = true;
        }
        let (last, used) = (secrets.len().saturating_sub(1), in_use(secrets, now));
        let mut place = 0..;
        secrets.retain(|seen| {
            let index = place.next();
            index == Some(last) || index == used || !seen.is_written
        });
    }
}

impl LoginObserver for Sightings {
    fn logged_in(&self, login: Login) {
        let (grade, until) = match login.outcome {
            LoginOutcome::Token { until } => (Grade::Used, until),
            LoginOutcome::Refused => (Grade::Fetched, login.at),
        };
        let fingerprint = self.fingerprinter.fingerprint(&login.document.0);
        let seen = Seen { fingerprint, grade, version: login.version, at: login.at, until, is_written: false };
        let mut book = self.book.lock();
        let secrets = book.entry(login.credential).or_default();
        secrets.retain(|other| (&other.fingerprint, other.grade) != (&seen.fingerprint, seen.grade));
        secrets.push(seen);
        if secrets.len() > SECRETS_MAX {
            // the first one, unless its token is in use: then the one after it
            let used = in_use(secrets, login.at);
            secrets.remove(usize::from(used == Some(0)));
        }
        drop(book);
        self.news.notify_one();
    }
}
