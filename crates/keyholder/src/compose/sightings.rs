//! Who this process is in the records of rotations, and the task that keeps them.
//!
//! Invariant: no two processes have one name, so that what one was seen with never stands for another.

use std::{collections::BTreeSet, sync::Arc};

use kh_broker::{Broker, CredentialSpec, LoginObserver, Sightings};
use kh_core::{
    Clock, CredentialName, Entropy,
    port::{SecretSource, SightingLog},
};
use tokio::runtime::Handle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::Base;
use crate::config::Config;

/// Longest part of the machine's name that is told: a label of DNS.
const HOST_MAX: usize = 63;

/// What keeps the records; ended after the broker, so that its last login is in them.
pub(crate) struct Record {
    sightings: Arc<Sightings>,
    cancel: CancellationToken,
    tasks: TaskTracker,
}

impl Record {
    /// A broker whose logins are recorded under `kind` (`gateway`, `exec`) where `config` rotates the credential, and
    /// its record. Must run on the control runtime.
    pub(crate) fn start(
        kind: &str,
        (base, config): (&Base, &Config),
        specs: Vec<CredentialSpec>,
        source: Arc<dyn SecretSource>,
    ) -> (Arc<Broker>, Self) {
        let journal = Arc::clone(&base.state) as Arc<dyn SightingLog>;
        let consumer = consumer(kind, &*base.entropy);
        let sightings = Sightings::new(consumer, journal, Arc::clone(&base.fingerprinter), Arc::clone(&base.clock));
        sightings.write_of(rotated(config));
        let ports: (Arc<dyn Clock>, _) = (Arc::clone(&base.clock), Arc::clone(&base.entropy));
        let observer = Arc::clone(&sightings) as Arc<dyn LoginObserver>;
        let broker = Broker::observed(specs, source, ports, Handle::current(), observer);
        let (cancel, tasks) = (CancellationToken::new(), TaskTracker::new());
        drop(tasks.spawn(Arc::clone(&sightings).run(cancel.clone())));
        (broker, Self { sightings, cancel, tasks })
    }

    /// What is told of a changed configuration.
    pub(crate) fn sightings(&self) -> &Arc<Sightings> {
        &self.sightings
    }

    /// Writes that this process is gone. The broker must have ended.
    pub(crate) async fn end(self) {
        self.cancel.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// The credentials whose secret is rotated: of all others nobody needs to know who uses which.
pub(crate) fn rotated(config: &Config) -> BTreeSet<CredentialName> {
    let rotated = config.credentials.iter().filter(|(_, credential)| credential.rotation.is_some());
    rotated.map(|(name, _)| name.clone()).collect()
}

/// The machine's name in plain letters. The kernel tells it by uname(2) also to a service that sees nothing of /proc but
/// processes (systemd's `ProcSubset=pid`).
pub(crate) fn host() -> String {
    let machine = rustix::system::uname();
    in_plain_letters(&machine.nodename().to_string_lossy())
}

fn in_plain_letters(told: &str) -> String {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() || "-_.".contains(letter) { letter } else { '-' };
    let host: String = told.trim().chars().take(HOST_MAX).map(plain).collect();
    if host.is_empty() { "host".to_owned() } else { host }
}

/// `kind/machine/pid-random`: the random part tells containers apart whose first process always has the same number.
fn consumer(kind: &str, entropy: &dyn Entropy) -> String {
    let host = host();
    let mut random = [0; 4];
    entropy.fill(&mut random);
    format!("{kind}/{host}/{}-{:08x}", std::process::id(), u32::from_be_bytes(random))
}

#[cfg(test)]
mod tests {
    use kh_core::SeededEntropy;

    use super::*;

    #[test]
    fn a_machines_name_is_told_in_plain_letters() {
        let long = "a".repeat(HOST_MAX + 1);
        for (told, name) in [
            ("web-1.example", "web-1.example"),
            (" web_1\n", "web_1"),
            ("b\u{f6}se/1", "b-se-1"),
            ("", "host"),
            (long.as_str(), &long[1..]),
        ] {
            assert_eq!(in_plain_letters(told), name, "{told:?}");
        }
    }

    #[test]
    fn processes_have_different_names_that_begin_with_their_kind() {
        let entropy = SeededEntropy::new(1);
        let (one, two) = (consumer("gateway", &entropy), consumer("gateway", &entropy));
        assert_ne!(one, two);
        for name in [one, two] {
            assert_eq!(name.split('/').count(), 3, "{name}");
            assert!(name.starts_with("gateway/") && name.len() < 128, "{name}");
        }
    }
}
