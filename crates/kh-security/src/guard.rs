//! The brute-force guard: who failed too often waits.
//!
//! It is asked where a caller failed and at the token endpoint, and not on the way of a token that is known: who shares an
//! address with an offender and holds a valid token in the cache never meets it.
//!
//! Three things are counted: an address (IPv6 by /64), a client id, and a client id at an address. A client id that
//! fails too often is refused from everywhere except from the addresses where it succeeded within a day, because
//! otherwise anybody who knows a client's id could lock it out; at those addresses the pair has a count of its own, and
//! what others do there is not held against it.
//!
//! An address that mostly succeeds is shared (NAT, a platform's way out): it is refused only when its failures outnumber
//! its successes, or reach [`Limits::hard_factor`] times the limit. So one bad caller does not lock out an office, and an
//! attacker with an account of his own gets no more than that factor.
//!
//! Invariants: memory is fixed from the start ([`Limits`] says how much); no address and no name of a client is kept, only
//! keyed hashes; every operation takes four locks at most, one after the other, each for some ten comparisons.

mod table;

use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use kh_core::{
    Now,
    port::security::{Attempt, AttemptGuard},
};

use self::table::{Known, Rule, Table};
use crate::{
    address::{Network, counted},
    counters::{Counters, GuardCounters},
    log::Log,
};

/// Thresholds. The tokens and secrets that are guessed at have 128 bits and more, so the thresholds are made against the
/// load and the noise of guessing, and for client secrets that people chose.
#[derive(Clone, PartialEq, Debug)]
pub struct Limits {
    /// Failures of one address within [`Limits::window`]: generous, because one misconfigured program behind a NAT makes
    /// a failure with every call.
    pub address_failures: u32,
    /// Failures of one client id (and of one client at one address) within the window: a program with a wrong secret that
    /// tries again every half minute stays below.
    pub client_failures: u32,
    /// The window. Counts leak away evenly: after one window without a failure nothing is left.
    pub window: Duration,
    /// From this many times the limit on, successes do not help any more.
    pub hard_factor: u32,
    /// The first wait.
    pub wait_first: Duration,
    /// The longest wait. Each wait is twice the one before.
    pub wait_max: Duration,
    /// A wait is forgotten after that long: the next one is half as long.
    pub strike_memory: Duration,
    /// Addresses that are counted at once; 40 bytes each, taken at the start.
    pub addresses: usize,
    /// Clients, and pairs of client and address, that are counted at once; 40 bytes each, taken at the start.
    pub clients: usize,
    /// Addresses that are never counted nor refused, for example the operator's own monitoring.
    pub exempt: Vec<Network>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            address_failures: 100,
            client_failures: 20,
            window: Duration::from_mins(10),
            hard_factor: 10,
            wait_first: Duration::from_secs(5),
            wait_max: Duration::from_mins(15),
            strike_memory: Duration::from_hours(1),
            addresses: 32_768,
            clients: 8_192,
            exempt: Vec::new(),
        }
    }
}

/// What is refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Scope {
    /// An address, or a /64.
    Address,
    /// A client id, from everywhere but where it is known.
    Client,
    /// A client id at one address.
    ClientAtAddress,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 3] = [Self::Address, Self::Client, Self::ClientAtAddress];

    /// Its name in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Client => "client",
            Self::ClientAtAddress => "client_at_address",
        }
    }

    /// Its place in [`Scope::ALL`].
    fn index(self) -> usize {
        match self {
            Self::Address => 0,
            Self::Client => 1,
            Self::ClientAtAddress => 2,
        }
    }
}

/// A caller has to wait: 429 with `Retry-After` (RFC 6585 section 4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetryAfter {
    /// Why.
    pub scope: Scope,
    /// How long, never zero.
    pub wait: Duration,
}

impl RetryAfter {
    /// The value of `Retry-After`: whole seconds, rounded up.
    pub fn seconds(self) -> u64 {
        self.wait.as_millis().div_ceil(1_000).try_into().unwrap_or(u64::MAX)
    }
}

/// The guard. Shared by all workers.
pub struct Guard {
    limits: Limits,
    hasher: RandomState,
    addresses: Table,
    clients: Table,
    pairs: Table,
    known: Known,
    counters: GuardCounters,
    log: Option<Arc<Log>>,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// How long an address is where a client is known, after its last success there.
const KNOWN: Duration = Duration::from_hours(24);

impl Guard {
    /// Takes its whole memory now.
    pub fn new(limits: Limits, counters: &Counters) -> Self {
        let rule = |limit| Rule {
            limit: f64::from(limit),
            hard: f64::from(limit) * f64::from(limits.hard_factor.max(1)),
            leak_per_ms: f64::from(limit) / limits.window.as_secs_f64().max(0.001) / 1_000.0,
            wait_first: limits.wait_first,
            wait_max: limits.wait_max,
            strike_memory: limits.strike_memory,
        };
        Self {
            hasher: RandomState::new(),
            addresses: Table::new(limits.addresses, rule(limits.address_failures)),
            clients: Table::new(limits.clients, rule(limits.client_failures)),
            pairs: Table::new(limits.clients, rule(limits.client_failures)),
            known: Known::new(limits.clients),
            counters: counters.guard.clone(),
            limits,
            log: None,
        }
    }

    /// The same that tells `log` when it begins to refuse somebody.
    pub fn telling(self, log: Arc<Log>) -> Self {
        Self { log: Some(log), ..self }
    }

    /// Whether this caller may try. An address of `None` is a unix socket's, whose callers are this machine's own.
    fn check_attempt(&self, attempt: Attempt<'_>, now: Now) -> Result<(), RetryAfter> {
        let keys = self.keys(attempt);
        // where a client succeeded lately, what others do at the same address is not its business
        let at_home = keys.pair.is_some_and(|pair| self.known.is_known(pair, now.mono, KNOWN));
        let abroad = |key: &u64| (!at_home).then_some(*key);
        let waits = [
            (Scope::Address, keys.address.as_ref().and_then(abroad).and_then(|key| self.addresses.wait(key, now.mono))),
            (Scope::ClientAtAddress, keys.pair.and_then(|key| self.pairs.wait(key, now.mono))),
            (Scope::Client, keys.client.as_ref().and_then(abroad).and_then(|key| self.clients.wait(key, now.mono))),
        ];
        // the longest wait is the one that helps
        let longest = waits.into_iter().filter_map(|(scope, wait)| Some(RetryAfter { scope, wait: wait? }));
        let Some(refused) = longest.max_by_key(|refused| refused.wait) else { return Ok(()) };
        if let Some(counter) = self.counters.refused.get(refused.scope.index()) {
            counter.inc();
        }
        Err(refused)
    }

    /// The caller failed. Answers who has to wait from now on, and did not before: news for the security log.
    fn count_failure(&self, attempt: Attempt<'_>, now: Now) -> Option<RetryAfter> {
        let keys = self.keys(attempt);
        let count = |scope, table: &Table, key: Option<u64>| {
            let failed = table.failed(key?, now.mono);
            if failed.untracked {
                self.counters.untracked.inc();
            }
            failed.began.map(|wait| RetryAfter { scope, wait })
        };
        let began = [
            count(Scope::Address, &self.addresses, keys.address),
            count(Scope::ClientAtAddress, &self.pairs, keys.pair),
            count(Scope::Client, &self.clients, keys.client),
        ];
        for news in began.iter().flatten() {
            if let Some(counter) = self.counters.began.get(news.scope.index()) {
                counter.inc();
            }
        }
        began.into_iter().flatten().max_by_key(|news| news.wait)
    }

    fn keys(&self, Attempt { address, realm, client }: Attempt<'_>) -> Keys {
        let exempt = |ip: &IpAddr| self.limits.exempt.iter().any(|network| network.contains(*ip));
        if address.is_none_or(|ip| exempt(&ip)) {
            return Keys::default();
        }
        let address = address.map(counted);
        let client = client.map(|client| (realm, client));
        Keys {
            address: address.map(|ip| self.hasher.hash_one(ip)),
            client: client.map(|client| self.hasher.hash_one(client)),
            pair: address.zip(client).map(|pair| self.hasher.hash_one(pair)),
        }
    }
}

impl AttemptGuard for Guard {
    fn check(&self, attempt: Attempt<'_>, now: Now) -> Result<(), Duration> {
        self.check_attempt(attempt, now).map_err(|refused| refused.wait)
    }

    fn failed(&self, attempt: Attempt<'_>, now: Now) {
        if let Some((news, log)) = self.count_failure(attempt, now).zip(self.log.as_ref()) {
            // an id that was only claimed may be a secret in the wrong place
            log.throttled(news, attempt.address, attempt.client.filter(|_| attempt.realm.is_some()));
        }
    }

    fn succeeded(&self, attempt: Attempt<'_>, now: Now) {
        let keys = self.keys(attempt);
        if let Some(key) = keys.address {
            self.addresses.succeeded(key, now.mono);
        }
        if let Some(key) = keys.pair {
            self.pairs.succeeded(key, now.mono);
            self.known.succeeded(key, now.mono);
        }
    }
}

/// Keyed hashes of what is counted; none of them for an exempt caller.
#[derive(Default)]
struct Keys {
    address: Option<u64>,
    client: Option<u64>,
    pair: Option<u64>,
}

#[cfg(test)]
mod tests;
