//! The security log: takes events, finds out where they came from, writes them, passes them on, and raises alerts.
//!
//! Everything but putting an event into a queue is done on one thread: looking up places, comparing, writing. The order of
//! lines is that in which events came in.
//!
//! Invariants: recording an event never waits; an event that finds the queue full is counted as dropped; what is written
//! to the file and what is offered to the collector are the same bytes.

use std::{
    hash::{BuildHasher, RandomState},
    io,
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use kh_core::{
    Clock, Entropy, Now,
    port::{
        AuthenticationEvent, Notice, Notifier, SecurityLog, Urgency,
        security::{Outcome, Told},
    },
};
use kh_linelog::{LineLog, Target};

use crate::{
    collector::{Collector, Offer},
    counters::Counters,
    geo::{Geo, Place},
    guard::{RetryAfter, Scope},
    ocsf::{EventId, Finding, FindingKind, write_authentication, write_finding},
    seen::Seen,
    travel::{Rules, Travel},
};

/// Events that may wait to be written: some hundred milliseconds of a stalled disk at a rate that the whole process hardly
/// answers with. One takes some 500 bytes, and at most four KiB if callers make every text as long as they can.
const QUEUE: usize = 4_096;

/// Which successes are written. Failures always are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Successes {
    /// None; they are looked at for alerts all the same.
    #[default]
    No,
    /// The first of a subject from a country within a day.
    FirstPerCountry,
    /// All that were recorded: one of a subject from a network within an hour, at least.
    All,
}

/// What is written where, and what is looked for.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Settings {
    /// The file; none writes no file, and the collector alone gets the lines.
    pub target: Option<Target>,
    /// Which successes are written.
    pub successes: Successes,
    /// Alerts; none looks for none.
    pub alerts: Option<Rules>,
}

/// What the log works with.
pub struct Parts {
    /// Places.
    pub geo: Arc<Geo>,
    /// Tells people about alerts.
    pub notifier: Option<Arc<dyn Notifier>>,
    /// Gets every line.
    pub collector: Option<Arc<Collector>>,
    /// Both clocks.
    pub clock: Arc<dyn Clock>,
    /// For the first half of the events' ids.
    pub entropy: Arc<dyn Entropy>,
}

/// What comes through the queue.
enum Item {
    Event(Box<AuthenticationEvent>, Now),
    Throttled(Box<Throttled>, Now),
}

/// The guard began to refuse somebody.
struct Throttled {
    refused: RetryAfter,
    address: Option<IpAddr>,
    client: Option<Told>,
}

/// The running log.
pub struct Log {
    lines: LineLog<Item>,
    seen: Option<Seen>,
    clock: Arc<dyn Clock>,
    counters: Counters,
    collector: Option<Arc<Collector>>,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Log")
    }
}

impl Log {
    /// Opens the file and starts the thread.
    pub fn start(settings: Settings, parts: Parts, counters: &Counters) -> io::Result<Arc<Self>> {
        let wants_successes = settings.successes != Successes::No || settings.alerts.is_some();
        let mut boot = [0; 8];
        parts.entropy.fill(&mut boot);
        let mut writer = Writer {
            successes: settings.successes,
            geo: parts.geo,
            travel: Travel::new(settings.alerts.clone().unwrap_or_default()),
            alerts: settings.alerts.is_some(),
            hasher: RandomState::new(),
            notifier: parts.notifier,
            offer: parts.collector.as_ref().map(|collector| collector.offer()),
            id: EventId { boot: u64::from_be_bytes(boot), sequence: 0 },
            counters: counters.clone(),
        };
        let target = settings.target.unwrap_or(Target::Nowhere);
        let render = move |item, lines: &mut Vec<u8>| writer.write(item, lines);
        Ok(Arc::new(Self {
            lines: LineLog::start("security log", &target, QUEUE, counters.lines.clone(), render)?,
            seen: wants_successes.then(Seen::new),
            clock: parts.clock,
            counters: counters.clone(),
            collector: parts.collector,
        }))
    }

    /// The guard began to refuse somebody: an alert of its own.
    pub fn throttled(&self, refused: RetryAfter, address: Option<IpAddr>, client: Option<&str>) {
        let throttled = Throttled { refused, address, client: client.map(Told::new) };
        self.lines.tell(Item::Throttled(Box::new(throttled), self.clock.now()));
    }

    /// Opens the file again before the next line: for rotation.
    pub fn reopen(&self) {
        self.lines.reopen();
    }

    /// Writes and sends what waits, for at most `deadline` each, and ends; answers whether all was done. Blocks for at
    /// most that long.
    pub fn stop(&self, deadline: Duration) -> bool {
        let written = self.lines.stop(deadline);
        let sent = self.collector.as_ref().is_none_or(|collector| collector.stop(deadline));
        written & sent
    }
}

impl SecurityLog for Log {
    fn record(&self, event: AuthenticationEvent) {
        self.counters.event(event.outcome == Outcome::Success);
        self.lines.tell(Item::Event(Box::new(event), self.clock.now()));
    }

    fn wants_success(&self, issuer: &str, subject: &str, address: Option<IpAddr>, now: Now) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.is_news(issuer, subject, address, now.mono))
    }
}

/// The thread's part.
struct Writer {
    successes: Successes,
    geo: Arc<Geo>,
    travel: Travel,
    alerts: bool,
    hasher: RandomState,
    notifier: Option<Arc<dyn Notifier>>,
    offer: Option<Offer>,
    id: EventId,
    counters: Counters,
}

impl Writer {
    fn write(&mut self, item: Item, lines: &mut Vec<u8>) {
        match item {
            Item::Event(event, now) => self.event(&event, now, lines),
            Item::Throttled(throttled, now) => self.throttled(*throttled, now, lines),
        }
    }

    fn event(&mut self, event: &AuthenticationEvent, now: Now, lines: &mut Vec<u8>) {
        let address = event.client_address.map(|client| client.ip).or(event.peer);
        let place = address.map(|ip| self.geo.look_up(ip)).unwrap_or_default();
        match event.outcome {
            Outcome::Failure { .. } => {
                self.line(lines, |id, lines| write_authentication(event, &place, id, lines));
            }
            Outcome::Success => self.success(event, address, &place, now, lines),
        }
    }

    fn success(
        &mut self,
        event: &AuthenticationEvent,
        address: Option<IpAddr>,
        place: &Place,
        now: Now,
        lines: &mut Vec<u8>,
    ) {
        let subject = event.subject.as_ref().or(event.client.as_ref()).filter(|_| event.verified);
        let observed = subject.map(|subject| {
            let key = self.hasher.hash_one((event.issuer.as_ref(), subject));
            // the event's own time, with the clock that does not jump beside it
            let at = Now { wall: event.at, mono: now.mono };
            let observed = self.travel.observe(key, subject.as_str(), address, place, at);
            self.counters.subjects.set(i64::try_from(self.travel.len()).unwrap_or(i64::MAX));
            observed
        });
        let first = observed.as_ref().is_none_or(|observed| observed.first_of_day);
        let written = match self.successes {
            Successes::No => false,
            Successes::FirstPerCountry => first,
            Successes::All => true,
        };
        if written {
            self.line(lines, |id, lines| write_authentication(event, place, id, lines));
        }
        let found = observed.filter(|_| self.alerts).map(|observed| observed.alerts).unwrap_or_default();
        for alert in found {
            let finding = Finding {
                kind: alert.kind(),
                at: event.at,
                subject: event.subject.clone(),
                client: event.client.clone(),
                address,
                place: place.clone(),
                description: alert.told(),
            };
            self.finding(&finding, lines);
        }
    }

    fn throttled(&mut self, throttled: Throttled, now: Now, lines: &mut Vec<u8>) {
        let Throttled { refused, address, client } = throttled;
        let what = match refused.scope {
            Scope::Address => "an address",
            Scope::Client => "a client, from everywhere but where it is known,",
            Scope::ClientAtAddress => "a client at one address",
        };
        let finding = Finding {
            kind: FindingKind::BruteForce,
            at: now.wall,
            subject: None,
            client,
            address,
            place: address.map(|ip| self.geo.look_up(ip)).unwrap_or_default(),
            description: format!("{what} failed too often and is refused for {} seconds", refused.seconds()),
        };
        self.finding(&finding, lines);
    }

    fn finding(&mut self, finding: &Finding, lines: &mut Vec<u8>) {
        self.counters.alert(finding.kind);
        let id = self.line(lines, |id, lines| write_finding(finding, id, lines));
        // who is refused by the guard is told in the log and counted; people are told what they have to judge
        if finding.kind != FindingKind::BruteForce
            && let Some(notifier) = &self.notifier
        {
            notifier.notify(notice(finding, id));
        }
    }

    /// Writes one line with the next id, and offers it to the collector.
    fn line(&mut self, lines: &mut Vec<u8>, write: impl FnOnce(EventId, &mut Vec<u8>)) -> EventId {
        let id = self.id;
        self.id.sequence += 1;
        let before = lines.len();
        write(id, lines);
        if let Some((offer, line)) = self.offer.as_ref().zip(lines.get(before..)).filter(|(_, line)| !line.is_empty()) {
            offer.offer(Bytes::copy_from_slice(line));
        }
        id
    }
}

/// The notice about an alert.
fn notice(finding: &Finding, id: EventId) -> Notice {
    let who = finding.subject.as_ref().or(finding.client.as_ref()).map_or("a subject", Told::as_str);
    let kind = finding.kind.as_str();
    Notice {
        id: uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, format!("keyholder security {id}").as_bytes()),
        kind: format!("security.{kind}"),
        urgency: Urgency::Warning,
        at: finding.at,
        credential: None,
        run: None,
        summary: format!("{who}: {}", finding.description),
        next: Some(format!(
            "ask them; if it was not them, revoke their tokens; the security log has more under the id {id}"
        )),
    }
}

#[cfg(test)]
mod tests;
