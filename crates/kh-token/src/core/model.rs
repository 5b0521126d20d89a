//! The outside world as the core's tests see it: it plays events, keeps its own account of what is true, and asserts
//! every invariant after every event. Shared by the exploration and the property tests.

use std::collections::{BTreeMap, BTreeSet};

use kh_core::{Now, Sha256, UnixMillis};

use super::{tests::digest, *};

/// What can happen. Times are in seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Event {
    Ask { min_ttl: u64 },
    Read,
    Ok { life: u64, refresh: bool },
    OkSameToken,
    Fail(Failure),
    LateOk,
    LateFail,
    KillCurrent,
    KillPrevious,
    ChangeSecret,
    NoticeVersion,
    Renew,
    Used,
    Pass(u64),
    WallOnly(i64),
    MonoOnly(u64),
}

/// The world.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) core: TokenCore,
    now: Now,
    /// The fetch that was ordered and has not ended.
    open: Option<(FetchOrder, Now)>,
    /// The document that the open fetch sent, and how.
    sent: Option<(Sha256, FetchKind)>,
    /// The document in the store: its version, and its content (two take turns).
    version: u64,
    refused_until: BTreeMap<Sha256, Duration>,
    /// The accepted token that nobody has reported: digest, when its request began, its life.
    current: Option<(Sha256, Now, Duration)>,
    previous: Option<Sha256>,
    tokens: u64,
    last_used: Now,
    idle: Option<Duration>,
    /// The document of the newest token, if it was not refused since, and until when its refusal makes callers wait.
    worked: Option<Sha256>,
    replaced_until: Option<Duration>,
    /// Refusals of documents that took its place.
    too_new: u32,
    /// What was seen, by name.
    pub(super) seen: BTreeSet<&'static str>,
}

impl Model {
    pub(super) fn new(policy: TokenPolicy) -> Self {
        let now = Now { wall: UnixMillis(1_800_000_000_000), mono: Duration::from_secs(5_000) };
        Self {
            core: TokenCore::new(policy),
            now,
            open: None,
            sent: None,
            version: 1,
            refused_until: BTreeMap::new(),
            current: None,
            previous: None,
            tokens: 0,
            last_used: now,
            idle: policy.idle_limit(),
            worked: None,
            replaced_until: None,
            too_new: 0,
            seen: BTreeSet::new(),
        }
    }

    /// What tells two worlds apart; how a state was reached does not.
    pub(super) fn key(&self) -> String {
        format!(
            "{:?} {:?} {:?} {:?} {:?} {:?}",
            self.core, self.now, self.open, self.version, self.current, self.previous
        )
    }

    pub(super) fn play(&mut self, event: Event) {
        match event {
            Event::Ask { min_ttl } => self.ask(Duration::from_secs(min_ttl)),
            Event::Read => self.read(),
            Event::Ok { life, refresh } => {
                self.tokens += 1;
                self.fetched(digest(&format!("T{}", self.tokens)), life, refresh);
            }
            Event::OkSameToken => {
                if let Some(same) = self.previous.or(self.current.map(|(token, ..)| token)) {
                    self.fetched(same, 100, false);
                }
            }
            Event::Fail(failure) => self.failed(failure),
            Event::LateOk | Event::LateFail => self.late(event),
            Event::KillCurrent => self.kill(self.current.map(|(token, ..)| token)),
            Event::KillPrevious => self.kill(self.previous),
            Event::ChangeSecret => self.version += 1,
            Event::NoticeVersion => {
                self.core.on_secret_changed(self.version);
            }
            Event::Renew => {
                self.core.renew();
                self.seen.insert("renewed");
            }
            Event::Used => {
                let generation = self.core.token().map_or(0, |token| token.generation);
                self.core.note_used(generation, self.now);
                self.last_used = self.now;
            }
            Event::Pass(seconds) => self.now = self.now.plus(Duration::from_secs(seconds)),
            Event::MonoOnly(seconds) => self.now.mono += Duration::from_secs(seconds),
            Event::WallOnly(seconds) => {
                let by = Duration::from_secs(seconds.unsigned_abs());
                self.now.wall = if seconds < 0 { self.now.wall.minus(by) } else { self.now.wall.plus(by) };
            }
        }
        assert_eq!(self.core.is_fetching(), self.open.is_some(), "the core and the world disagree about the fetch");
    }

    fn document(&self) -> Sha256 {
        digest(if self.version % 2 == 1 { "odd" } else { "even" })
    }

    /// What is left of the current token by the world's own account, written without the core's helpers.
    fn left(&self) -> Option<Duration> {
        let (_, began, life) = self.current?;
        let by_wall = Duration::from_millis(self.now.wall.0.saturating_sub(began.wall.0));
        let by_mono = self.now.mono.saturating_sub(began.mono);
        let left = life.checked_sub(by_wall)?.min(life.checked_sub(by_mono)?);
        let unused_wall = Duration::from_millis(self.now.wall.0.saturating_sub(self.last_used.wall.0));
        let unused = unused_wall.max(self.now.mono.saturating_sub(self.last_used.mono));
        let idle = self.idle.is_some_and(|limit| unused >= limit);
        (!idle && !left.is_zero()).then_some(left)
    }

    fn ask(&mut self, min_ttl: Duration) {
        let left = self.left();
        let died = self.current.is_some() && left.is_none();
        if died {
            self.previous = self.current.take().map(|(token, ..)| token);
        }
        let decision = self.core.decide(self.now, Want { min_ttl });
        match decision {
            Decision::Serve | Decision::ServeAndFetch(_) => {
                let token = self.core.token().expect("a served token is held");
                assert_eq!(Some(token.sha256), self.current.map(|(token, ..)| token), "served another token");
                assert!(left.is_some_and(|left| left >= min_ttl && !left.is_zero()), "served a dead or short token");
            }
            Decision::Fetch(_) | Decision::Wait | Decision::Hold(_) | Decision::Refuse(_) => {
                assert!(left.is_none_or(|left| left < min_ttl), "a good token was held back: {decision:?}");
            }
        }
        match decision {
            Decision::Fetch(order) | Decision::ServeAndFetch(order) => {
                assert!(self.open.is_none(), "a second fetch in flight");
                (self.open, self.sent) = (Some((order, self.now)), None);
            }
            Decision::Wait => assert!(self.open.is_some(), "waits for nothing"),
            Decision::Serve | Decision::Hold(_) | Decision::Refuse(_) => {}
        }
        let awaits = self.replaced_until.is_some_and(|until| self.now.mono < until);
        if matches!(decision, Decision::Refuse(Refusal::Rejected { .. })) {
            assert!(!awaits, "a caller is sent away although the secret was just replaced");
        }
        self.seen.insert(match decision {
            Decision::Hold(_) if awaits && self.core.paused(self.now).is_none() => "waits for a replaced secret",
            Decision::Serve => "serve",
            Decision::ServeAndFetch(_) => "early refresh",
            Decision::Fetch(_) if died => "fetch after death",
            Decision::Fetch(_) => "fetch",
            Decision::Wait => "wait",
            Decision::Hold(_) => "hold",
            Decision::Refuse(Refusal::TtlUnsatisfiable { .. }) => "ttl refused",
            Decision::Refuse(Refusal::Rejected { .. }) => "rejected",
            Decision::Refuse(Refusal::RateLimited { .. }) => "rate limited",
            Decision::Refuse(Refusal::Unavailable { cause: Cause::Storm, .. }) => "storm",
            Decision::Refuse(Refusal::Unavailable { .. }) => "unavailable",
        });
    }

    fn read(&mut self) {
        let Some((order, _)) = self.open else { return };
        let document = self.document();
        match self.core.permit(self.now, order, document, self.version) {
            Permit::Send(kind) => {
                let refused = self.refused_until.get(&document).is_some_and(|until| self.now.mono < *until);
                assert!(!refused, "a refused document was sent again");
                self.sent = Some((document, kind));
                self.seen.insert(if kind == FetchKind::Refresh { "refresh grant" } else { "login" });
            }
            Permit::Rejected => {
                assert!(self.refused_until.contains_key(&document), "refused a document that was never refused");
                self.open = None;
                self.seen.insert("kept from sending");
            }
            Permit::Stale => panic!("the open fetch is the current one"),
        }
    }

    fn fetched(&mut self, sha256: Sha256, life: u64, refresh_held: bool) {
        let (Some((order, began)), Some((sent, _))) = (self.open, self.sent) else { return };
        let life = Duration::from_secs(life);
        let fetched = Fetched { sha256, life, refresh_held, share: Share::NONE };
        (self.open, self.sent) = (None, None);
        self.refused_until.remove(&sent);
        match self.core.on_fetched(self.now, order, fetched) {
            Outcome::Accepted { .. } => {
                (self.worked, self.replaced_until, self.too_new) = (Some(sent), None, 0);
                if self.current.is_some_and(|(token, ..)| token != sha256) {
                    self.previous = self.current.map(|(token, ..)| token);
                }
                (self.current, self.last_used) = (Some((sha256, began, life)), self.now);
                self.seen.insert("accepted");
            }
            Outcome::KnownBad => {
                assert_ne!(self.current.map(|(token, ..)| token), Some(sha256), "a good token was called bad");
                self.seen.insert("known bad");
            }
            Outcome::DeadOnArrival => {
                self.seen.insert("dead on arrival");
            }
            Outcome::Stale => panic!("the open fetch is the current one"),
        }
    }

    fn failed(&mut self, failure: Failure) {
        let Some((order, _)) = self.open.take() else { return };
        let sent = self.sent.take();
        assert!(self.core.on_failed(self.now, order, failure, Share::NONE), "the open fetch is the current one");
        let refused = match failure {
            Failure::Rejected | Failure::Unusable => sent,
            // Without a refresh token in the request this was a refusal of the document.
            Failure::RefreshRefused => sent.filter(|(_, kind)| *kind == FetchKind::Login),
            Failure::RefreshFailed { .. }
            | Failure::RateLimited { .. }
            | Failure::Transient { .. }
            | Failure::Store
            | Failure::Aborted => None,
        };
        if let Some((document, _)) = refused {
            let (patience, now) = (Duration::from_secs(20), self.now.mono);
            let worked = self.worked.take();
            let awaited = self.replaced_until.is_some_and(|until| now < until);
            let (pause, name) = if worked != Some(document) && (worked.is_some() || awaited) && self.too_new < 3 {
                self.too_new += 1;
                self.replaced_until = self.replaced_until.or(Some(now + patience));
                (Duration::from_secs(2), "too new")
            } else {
                self.replaced_until = (worked == Some(document)).then_some(now + patience);
                (Duration::from_mins(10), "struck")
            };
            self.refused_until.insert(document, now + pause);
            self.seen.insert(name);
        }
    }

    /// Somebody tells about an attempt that is over: nothing may change.
    fn late(&mut self, event: Event) {
        let before = self.core.clone();
        let old = FetchOrder { attempt: self.core.attempts.saturating_sub(u64::from(self.open.is_some())) };
        if event == Event::LateOk {
            let share = Share::NONE;
            let fetched = Fetched { sha256: digest("late"), life: Duration::from_secs(100), refresh_held: true, share };
            assert_eq!(self.core.on_fetched(self.now, old, fetched), Outcome::Stale);
            assert_eq!(self.core.permit(self.now, old, digest("late"), 99), Permit::Stale);
        } else {
            assert!(!self.core.on_failed(self.now, old, Failure::Rejected, Share::NONE));
        }
        assert_eq!(before, self.core, "a late result changed something");
        self.seen.insert("late result ignored");
    }

    fn kill(&mut self, token: Option<Sha256>) {
        let Some(token) = token else { return };
        let before = self.core.token().copied();
        match self.core.invalidate(self.now, token, Share::NONE) {
            Invalidation::Removed => {
                assert_eq!(before.map(|held| held.sha256), Some(token), "an old report removed a newer token");
                self.previous = Some(token);
                self.current = None;
                self.seen.insert("removed");
            }
            Invalidation::NotCurrent => {
                assert_ne!(before.map(|held| held.sha256), Some(token), "a report of the held token was ignored");
                assert_eq!(self.core.token().copied(), before);
                if before.is_some() {
                    self.seen.insert("old report ignored");
                }
            }
        }
    }
}
