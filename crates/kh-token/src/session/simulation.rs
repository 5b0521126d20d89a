//! Seeded runs of several processes over one journal against a platform that counts every use of every refresh token:
//! kills at each point, answers that get lost, platforms that rotate and those that don't. What must hold is asked after
//! every step; the rules are also run broken, one at a time, so that it is known that a breach would be seen.

use std::collections::BTreeMap;

use kh_core::{Entropy, SeededEntropy};
use uuid::Uuid;

use super::*;

const PROCESSES: usize = 3;
const STEPS: usize = 120;
const RUNS: u64 = 4000;

/// One rule taken away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Broken {
    Nothing,
    /// The request is sent before it is journalled.
    SendsFirst,
    /// Another instance's request counts as gone while it is under way.
    TakesOver,
    /// A lost answer is not counted.
    ForgetsLost,
    /// The journal is written without comparing versions.
    WritesBlindly,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Platform {
    Rotating,
    Keeping,
}

/// A request from its beginning to its record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Task {
    /// Decided by the journal of this version.
    Decided { version: u64, journal: RefreshJournal },
    /// Journalled, not yet with the platform.
    Journalled { version: u64, journal: RefreshJournal, token: u64 },
    /// The platform has acted.
    Answered { version: u64, journal: RefreshJournal, landing: Landing, newest: u64 },
}

struct Process {
    id: InstanceId,
    task: Option<Task>,
}

struct World {
    broken: Broken,
    platform: Platform,
    policy: RenewalPolicy,
    version: u64,
    journal: RefreshJournal,
    /// The refresh token as it is stored, and the newest that the platform gave.
    stored: u64,
    given: u64,
    end: Option<SessionEnd>,
    access: Access,
    uses: BTreeMap<u64, u32>,
    processes: Vec<Process>,
    next: u128,
    renewed: u32,
    lost: u32,
    kills: u32,
    retried: u32,
}

fn below(entropy: &SeededEntropy, bound: u64) -> u64 {
    entropy.below(bound)
}

impl World {
    fn new(seed: u64, broken: Broken) -> Self {
        let platform = if seed.is_multiple_of(4) { Platform::Keeping } else { Platform::Rotating };
        let process = |number: usize| Process { id: InstanceId(Uuid::from_u128(number as u128 + 1)), task: None };
        Self {
            broken,
            platform,
            policy: RenewalPolicy { retry_lost: !seed.is_multiple_of(3) },
            version: 1,
            journal: RefreshJournal::begin(true),
            stored: 1,
            given: 1,
            end: None,
            access: Access::Fresh,
            uses: BTreeMap::new(),
            processes: (0..PROCESSES).map(process).collect(),
            next: 100,
            renewed: 0,
            lost: 0,
            kills: 0,
            retried: 0,
        }
    }

    fn sender(&self, of: &RefreshJournal) -> Sender {
        let RefreshPhase::Sent { by } = of.phase else { return Sender::There };
        let alive = self.processes.iter().any(|process| process.id == by && process.task.is_some());
        if alive && self.broken != Broken::TakesOver { Sender::There } else { Sender::Gone }
    }

    /// Compare and set.
    fn write(&mut self, seen: u64, journal: RefreshJournal, stored: u64) -> Option<u64> {
        if self.end.is_some() || (self.version != seen && self.broken != Broken::WritesBlindly) {
            return None;
        }
        self.version += 1;
        self.journal = journal;
        if self.broken == Broken::ForgetsLost {
            self.journal.lost = 0;
        }
        self.stored = stored;
        Some(self.version)
    }

    /// What the platform makes of a refresh token.
    fn ask(&mut self, token: u64) -> Landing {
        let uses = self.uses.entry(token).or_default();
        *uses += 1;
        if self.platform == Platform::Keeping {
            return Landing::Kept;
        }
        if *uses > 1 {
            self.retried += 1;
            return Landing::Refused;
        }
        self.given += 1;
        Landing::Rotated
    }

    fn step(&mut self, who: usize, entropy: &SeededEntropy) {
        let Some(task) = self.processes[who].task.take() else { return self.start(who) };
        let after = match task {
            Task::Decided { version, journal } => self.journalled(who, version, journal),
            Task::Journalled { version, journal, token } => match below(entropy, 5) {
                0 => Some(Task::Answered { version, journal, landing: Landing::NotDone, newest: token }),
                1 => {
                    // acted or not: the answer is lost
                    if below(entropy, 2) == 0 {
                        self.ask(token);
                    } else {
                        *self.uses.entry(token).or_default() += 1;
                    }
                    self.lost += 1;
                    Some(Task::Answered { version, journal, landing: Landing::Lost, newest: token })
                }
                _ => {
                    let landing = self.ask(token);
                    let newest = if landing == Landing::Rotated { self.given } else { token };
                    Some(Task::Answered { version, journal, landing, newest })
                }
            },
            Task::Answered { version, journal, landing, newest } => {
                match land(&journal, landing) {
                    Ok(next) => {
                        if self.write(version, next, newest).is_some()
                            && matches!(landing, Landing::Rotated | Landing::Kept)
                        {
                            self.access = Access::Fresh;
                            self.renewed += 1;
                        }
                    }
                    Err(end) => self.end = Some(end),
                }
                None
            }
        };
        self.processes[who].task = after;
    }

    fn start(&mut self, who: usize) {
        if self.end.is_some() {
            return;
        }
        let view = View { access: self.access, sender: self.sender(&self.journal), paused: false };
        match decide(&self.journal, view, self.policy) {
            SessionDecision::ServeAndRenew | SessionDecision::Renew => {
                let task = Task::Decided { version: self.version, journal: self.journal };
                self.processes[who].task = Some(task);
            }
            SessionDecision::End(end) => self.end = Some(end),
            SessionDecision::Serve | SessionDecision::Wait | SessionDecision::Hold => {}
        }
    }

    fn journalled(&mut self, who: usize, version: u64, journal: RefreshJournal) -> Option<Task> {
        let token = self.stored;
        if self.broken == Broken::SendsFirst {
            return Some(Task::Journalled { version, journal, token });
        }
        // a decided task is not sending yet, so its own name in the journal is another's
        let next = begin(&journal, self.sender(&journal), self.processes[who].id, self.policy)?;
        let version = self.write(version, next, token)?;
        Some(Task::Journalled { version, journal: next, token })
    }

    /// Killed: what it knew is gone, and it comes back under another name.
    fn kill(&mut self, who: usize) {
        self.kills += u32::from(self.processes[who].task.is_some());
        self.next += 1;
        self.processes[who] = Process { id: InstanceId(Uuid::from_u128(self.next)), task: None };
    }

    fn check(&self) -> Result<(), String> {
        let sending = |process: &&Process| matches!(process.task, Some(Task::Journalled { .. }));
        let sending = self.processes.iter().filter(sending).count();
        if sending > 1 {
            return Err(format!("{sending} at once"));
        }
        let most = if self.policy.retry_lost { 2 } else { 1 };
        match self.uses.iter().find(|(_, uses)| self.platform == Platform::Rotating && **uses > most) {
            Some((token, uses)) => Err(format!("refresh token {token} was sent {uses} times")),
            None => Ok(()),
        }
    }
}

/// Plays one run; what broke, if something did.
fn play(seed: u64, broken: Broken) -> (World, Result<(), String>) {
    let entropy = SeededEntropy::new(seed);
    let mut world = World::new(seed, broken);
    for _ in 0..STEPS {
        let who = usize::try_from(below(&entropy, PROCESSES as u64)).unwrap();
        match below(&entropy, 12) {
            0 => world.kill(who),
            1 => world.access = Access::Due,
            2 => world.access = Access::Dead,
            _ => world.step(who, &entropy),
        }
        if let Err(breach) = world.check() {
            return (world, Err(breach));
        }
    }
    (world, Ok(()))
}

#[test]
fn no_refresh_token_is_used_by_two_or_more_often_than_a_lost_answer_allows() {
    let (mut renewed, mut lost, mut kills, mut retried) = (0, 0, 0, 0);
    let mut ends = std::collections::BTreeSet::new();
    for seed in 0..RUNS {
        let (world, held) = play(seed, Broken::Nothing);
        assert_eq!(held, Ok(()), "seed {seed}");
        renewed += world.renewed;
        lost += world.lost;
        kills += world.kills;
        retried += world.retried;
        ends.extend(world.end.map(SessionEnd::as_str));
    }
    assert!(renewed > 5_000 && lost > 1_000 && kills > 1_000 && retried > 100, "{renewed} {lost} {kills} {retried}");
    assert!(ends.contains("refresh_lost"), "{ends:?}");
}

/// A sender that is alive for sure would be needed for a refusal without a lost answer; the user's own revocation is.
#[test]
fn a_session_that_meets_no_trouble_never_ends() {
    let entropy = SeededEntropy::new(1);
    let mut world = World::new(1, Broken::Nothing);
    for round in 0..1000 {
        world.access = Access::Due;
        for who in 0..PROCESSES {
            // no draw of these steps is a loss
            while world.processes[who].task.is_some() || world.access == Access::Due {
                let lucky = SeededEntropy::new(below(&entropy, u64::MAX));
                if matches!(world.processes[who].task, Some(Task::Journalled { .. })) {
                    let Some(Task::Journalled { version, journal, token }) = world.processes[who].task.take() else {
                        unreachable!("it was matched just before")
                    };
                    let landing = world.ask(token);
                    let newest = world.given;
                    world.processes[who].task = Some(Task::Answered { version, journal, landing, newest });
                } else {
                    world.step(who, &lucky);
                }
            }
        }
        assert_eq!((world.end, world.retried), (None, 0), "round {round}");
    }
    assert_eq!(world.renewed, 1000);
}

#[test]
fn each_rule_is_needed() {
    for broken in [Broken::SendsFirst, Broken::TakesOver, Broken::ForgetsLost, Broken::WritesBlindly] {
        let seen = (0..RUNS).any(|seed| play(seed, broken).1.is_err());
        assert!(seen, "{broken:?} would not be noticed");
    }
}
