//! What was observed outside in this process: lost at a crash and observed again.
//!
//! Invariant: a view never outlives a change. [`View::after_append`] and [`View::after_wait`] say what is kept.

use std::collections::BTreeMap;

use kh_core::{
    Fingerprint, UnixMillis,
    port::rotation_journal::{Approval, Hold, Sighting},
    rotation::{ManagedId, RunId, VersionId},
};

use crate::effect::{Acting, Escrow};

/// Something to look at. No look changes anything.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Look {
    /// `SecretManagement::check` and `SecretTarget::check` of every store, into [`View::check`].
    Check {
        /// Who acts.
        by: Acting,
    },
    /// `SecretManagement::list`, into [`View::list`].
    List {
        /// Who acts.
        by: Acting,
    },
    /// `SecretTarget::live` and `SecretTarget::replicas`, into [`View::live`].
    Live {
        /// The store.
        store: String,
    },
    /// Fetch an access token with a document of the escrow, probe with it, and compare rights where they can be
    /// compared, into [`View::tries`].
    Try {
        /// Which document.
        document: Escrow,
    },
    /// `SecretManagement::probe` with [`Escrow::Token`], into [`View::token`].
    Token,
    /// Hold, approvals and sightings, into [`View::journal`].
    Journal,
    /// `SecretManagement::used_since`, into [`View::uses`].
    Uses {
        /// Whose uses.
        id: ManagedId,
        /// Since when.
        since: UnixMillis,
        /// Who acts.
        by: Acting,
    },
}

/// What a check before a rotation found.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Checked {
    /// What is in the way, each a sentence that says what to do.
    pub obstacles: Vec<String>,
    /// What an operator should know.
    pub warnings: Vec<String>,
}

/// One that the platform lists.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Listed {
    /// Its id.
    pub id: ManagedId,
    /// Its name or description, if it has one.
    pub name: Option<String>,
    /// Whether it can log in.
    pub active: bool,
}

/// The platform's list.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct List {
    /// When it was asked for (before the request was sent).
    pub at: UnixMillis,
    /// What it holds.
    pub secrets: Vec<Listed>,
}

impl List {
    /// The one of this id.
    pub fn find(&self, id: &ManagedId) -> Option<&Listed> {
        self.secrets.iter().find(|secret| secret.id == *id)
    }
}

/// What a store serves.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Live {
    /// The live version; none: nothing is live.
    pub version: Option<VersionId>,
    /// The fingerprint of the secret that was read (computed from the value, not taken from its marker).
    pub fingerprint: Option<Fingerprint>,
    /// The id that the document names, `SecretManagement::id_of`.
    pub id: Option<ManagedId>,
    /// The run whose marker stands beside it.
    pub run: Option<RunId>,
    /// Regions whose copy does not serve the live version.
    pub behind: Vec<String>,
}

/// Logins with one document.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Tries {
    /// Successes without a failure between them, each a token that was fetched and probed, with equal rights.
    pub successes: u32,
    /// When the newest one was made.
    pub last_at: UnixMillis,
    /// Whether the newest one was made since the last change or wait.
    pub fresh: bool,
    /// Why the newest one failed.
    pub failure: Option<TryFailure>,
}

/// Why a login failed.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum TryFailure {
    /// The platform said that the secret is not valid (`invalid_client`), or the probe that the token is dead.
    Dead(String),
    /// It works, but may not do what the other may.
    Rights(String),
    /// It could not be found out.
    Unreachable(String),
}

/// What the journal tells about a run from outside of its records.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct JournalView {
    /// When it was read.
    pub at: UnixMillis,
    /// The hold on the credential.
    pub hold: Option<Hold>,
    /// Approvals of the run.
    pub approvals: Vec<Approval>,
    /// What consumers were seen with.
    pub sightings: Vec<Sighting>,
}

/// Uses as the platform counts them.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Uses {
    /// Whose.
    pub id: ManagedId,
    /// Since when.
    pub since: UnixMillis,
    /// How many; none where the platform does not tell.
    pub count: Option<u64>,
}

/// A look that failed.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct LookFailure {
    /// The look.
    pub look: Look,
    /// When.
    pub at: UnixMillis,
    /// Why, without secrets.
    pub reason: String,
    /// Whether trying again as it is does not help.
    pub refused: bool,
}

/// What this process knows since its last change or wait.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct View {
    /// Whether the newest record is an intent that this process wrote and has not sent yet. Only then may it be sent
    /// without looking first.
    pub armed: bool,
    /// [`Look::Check`].
    pub check: Option<Checked>,
    /// [`Look::List`].
    pub list: Option<List>,
    /// [`Look::Live`] by store.
    pub live: BTreeMap<String, Live>,
    /// [`Look::Try`] by document.
    pub tries: BTreeMap<Escrow, Tries>,
    /// [`Look::Token`]: whether it works.
    pub token: Option<bool>,
    /// [`Look::Journal`].
    pub journal: Option<JournalView>,
    /// [`Look::Uses`].
    pub uses: Option<Uses>,
    /// A look that failed since the last change or wait.
    pub failed: Option<LookFailure>,
    /// Looks that failed one after the other, waits included.
    pub failures: u32,
}

impl View {
    /// The view after a record was appended. `intent`: the record is an intent, written by this process.
    pub fn after_append(intent: bool) -> Self {
        Self { armed: intent, ..Self::default() }
    }

    /// The view after a wait: logins and failures are counted on, all else is looked at again.
    pub fn after_wait(&self) -> Self {
        let mut tries = self.tries.clone();
        for tries in tries.values_mut() {
            tries.fresh = false;
        }
        Self { tries, failures: self.failures, armed: self.armed, ..Self::default() }
    }

    /// Notes that a look succeeded.
    pub fn looked(&mut self) {
        self.failed = None;
        self.failures = 0;
    }

    /// Notes that a look failed.
    pub fn look_failed(&mut self, failure: LookFailure) {
        self.failed = Some(failure);
        self.failures = self.failures.saturating_add(1);
    }

    /// Counts a login with `document`.
    pub fn tried(&mut self, document: Escrow, at: UnixMillis, result: Result<(), TryFailure>) {
        let tries = self.tries.entry(document).or_default();
        tries.last_at = at;
        tries.fresh = true;
        match result {
            Ok(()) => {
                tries.successes = tries.successes.saturating_add(1);
                tries.failure = None;
            }
            Err(failure) => {
                tries.successes = 0;
                tries.failure = Some(failure);
            }
        }
    }
}
