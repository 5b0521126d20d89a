//! What the journal keeps of a run: its records, one JSON object each.
//!
//! Invariant: whatever changes something outside is [`Step::Intended`] before it is sent, with every id, token and
//! expected version that the call carries, and [`Step::Settled`] or [`Step::Resolved`] after. No record holds a secret:
//! fingerprints, ids and versions only.

use kh_core::{
    CredentialName, Fingerprint, UnixMillis,
    port::{
        Strategy,
        rotation_journal::{ApprovalOf, Grade},
        secret_management::Rotator,
    },
    rotation::{ManagedId, RunId, SecretPath, VersionId},
};
use serde::{Deserialize, Serialize};

use crate::effect::{Effect, Outcome};

/// The form of the records that this version writes and reads.
pub const RECORD_VERSION: u8 = 1;

/// Most stores, hooks, earlier runs or listed ids in one record: far above what a credential has (AWS takes 20
/// replicas), low enough that a record stays under 1 MiB.
pub const LIST_MAX: usize = 4096;

/// One line of a run's history.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// [`RECORD_VERSION`]. A higher one was written by a newer keyholder and is refused.
    pub v: u8,
    /// When it was decided, wall time.
    pub at: UnixMillis,
    /// What happened.
    pub step: Step,
}

impl Record {
    /// A record of this version.
    pub fn new(at: UnixMillis, step: Step) -> Self {
        Self { v: RECORD_VERSION, at, step }
    }

    /// Reads one from its JSON form. The message names the place of the mistake, never a value.
    pub fn parse(json: &str) -> Result<Self, ParseError> {
        let record: Self = serde_json::from_str(json)
            .map_err(|error| ParseError::Malformed { line: error.line(), column: error.column() })?;
        if record.v != RECORD_VERSION {
            return Err(ParseError::Version(record.v));
        }
        Ok(record)
    }

    /// Its JSON form, one line.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a record has text keys and finite numbers only, so it has a JSON form")
    }
}

/// Why a line of the journal is no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not the JSON of a record.
    #[error("not a record of a rotation (line {line}, column {column})")]
    Malformed {
        /// 1-based line of the mistake.
        line: usize,
        /// 1-based column of the mistake.
        column: usize,
    },
    /// Written by another version of keyholder.
    #[error("a record of version {0}, this keyholder reads version {RECORD_VERSION}")]
    Version(u8),
}

/// What a record tells.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// The run begins. The first record, and only the first.
    Begun(Box<Begin>),
    /// Enough persons said yes.
    Approved {
        /// To what.
        of: ApprovalOf,
        /// Who, sorted; empty where the policy asks nobody.
        by: Vec<String>,
    },
    /// What was there before anything was changed: the preflight is over. Keeps the old document in escrow.
    Preflighted(Box<Baseline>),
    /// A change is about to be made. Nothing is sent before this is durable.
    Intended {
        /// The change, exactly as it will be sent.
        effect: Effect,
        /// What allows it, where a gate had to open.
        basis: Option<Box<Basis>>,
    },
    /// What became of the open intent, as its own call told.
    Settled {
        /// The answer.
        outcome: Outcome,
    },
    /// What became of the open intent, found out by looking because its answer was lost.
    Resolved {
        /// What was found.
        finding: Finding,
    },
    /// The platform lists secrets that this or an earlier run made and never recorded: they will be deleted.
    Orphaned {
        /// Their ids.
        ids: Vec<ManagedId>,
    },
    /// The new secret logged in as often as the policy asks.
    Verified {
        /// Consecutive successes.
        successes: u32,
    },
    /// The new secret never worked within its time; it will be deleted.
    Rejected {
        /// Why.
        why: String,
    },
    /// What became of access tokens that were made with the old secret when it was regenerated.
    OldTokens {
        /// Whether one still worked.
        alive: bool,
    },
    /// A person gave an order.
    Ordered {
        /// The order.
        order: Order,
        /// Who.
        actor: String,
        /// Why.
        reason: String,
    },
    /// Somebody must look, but the run goes on by itself as soon as it can.
    Alarmed {
        /// Why.
        why: String,
        /// The command that helps.
        next: String,
    },
    /// The run stands still until a person decides.
    Stuck {
        /// Why.
        why: String,
        /// The command that goes on.
        next: String,
    },
    /// The run is over.
    Ended {
        /// How.
        end: End,
    },
}

/// How urgent a run is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// By schedule or by hand, with everything the policy asks.
    Regular,
    /// E1: no minimum overlap; the old secret dies after the pickup deadline even where evidence is missing.
    Fast,
    /// E2: the old secret dies as soon as the new one is live, at the latest at the revocation deadline.
    Revoke,
    /// E3: the old secret dies now and is not replaced.
    Kill,
}

impl Level {
    /// Whether evidence may be missing because somebody ordered it so.
    pub fn emergency(self) -> bool {
        self != Self::Regular
    }
}

/// One store that holds the credential, in the order in which stores are promoted.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// The store's name in the configuration.
    pub store: String,
    /// Where in the store.
    pub path: SecretPath,
}

/// What the platform can do, as it was when the run began.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlatformFacts {
    /// Whether one can be made inactive and active again.
    pub reversible_stop: bool,
    /// Most live ones at a time, where it is known.
    pub active_max: Option<u32>,
    /// How long one that was just made may still be missing from the list or be refused, milliseconds.
    pub settles_within_ms: u64,
    /// Longest life of an access token that was made with an old one, milliseconds.
    pub token_life_max_ms: u64,
    /// Whether the rotator has its second identity.
    pub second_rotator: bool,
}

/// What an earlier run of the same credential did, so that what it left behind can be told from what others made.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Earlier {
    /// The run.
    pub run: RunId,
    /// What it made and recorded: id and fingerprint.
    pub created: Vec<(ManagedId, Option<Fingerprint>)>,
    /// When it meant to make one.
    pub intents: Vec<UnixMillis>,
}

/// How a run begins.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Begin {
    /// Its id.
    pub run: RunId,
    /// Whose secret is replaced.
    pub credential: CredentialName,
    /// How.
    pub strategy: Strategy,
    /// How urgent it is.
    pub level: Level,
    /// Counts the secrets of the credential; the new one's number.
    pub generation: u64,
    /// The rotator's identity that acts.
    pub by: Rotator,
    /// Whether the credential is the rotator's own.
    pub own: bool,
    /// The stores that hold it, in the order of promotion. At least one.
    pub places: Vec<Place>,
    /// Names of the hooks that are called after promotion, in order.
    pub hooks: Vec<String>,
    /// What the platform can do.
    pub platform: PlatformFacts,
    /// Earlier runs of the credential, newest first.
    pub earlier: Vec<Earlier>,
    /// Who or what began it.
    pub actor: String,
    /// Why.
    pub reason: String,
}

/// What was there before anything was changed.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// The old secret's fingerprint.
    pub old: Fingerprint,
    /// Its id on the platform; none for [`Strategy::Swap`] where the one secret has no id.
    pub old_id: Option<ManagedId>,
    /// Everything that the platform listed, sorted.
    pub listed: Vec<ManagedId>,
    /// The live version of every store, in the order of [`Begin::places`]. The promotion expects exactly these.
    pub expected: Vec<Option<VersionId>>,
}

/// What allowed a promotion or a prune.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Basis {
    /// What was known of the consumers.
    pub evidence: Vec<Evidence>,
    /// What was missing and overridden, each a sentence.
    pub overridden: Vec<String>,
    /// Who overrode it.
    pub by: Vec<String>,
}

/// How well it is known that a consumer uses the secret that stays.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// The consumer.
    pub consumer: String,
    /// How well; none: not at all.
    pub grade: Option<Grade>,
    /// The version that it was seen with, where it is known.
    pub seen_version: Option<VersionId>,
    /// When.
    pub at: Option<UnixMillis>,
}

/// What a look found out about an intent whose answer was lost.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Finding {
    /// It was not carried out, and no call of it can still be under way.
    NotDone,
    /// The platform made these; their secrets are lost, so they are deleted.
    Orphans {
        /// Their ids.
        ids: Vec<ManagedId>,
    },
    /// The one secret was regenerated and the new one is lost: nobody holds a secret that works.
    Lost,
    /// The store serves the document.
    Live {
        /// Its version.
        version: VersionId,
    },
}

/// What a person may order.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Order {
    /// Look again and go on.
    Resume,
    /// Go on without the hooks that did not succeed.
    SkipHooks,
    /// The version that a store holds now is the one to replace: somebody wrote the same secret by hand.
    Adopt {
        /// The store.
        store: String,
        /// The version it holds.
        version: VersionId,
    },
    /// These secrets on the platform were made by this run: delete them.
    Own {
        /// Their ids.
        ids: Vec<ManagedId>,
    },
    /// These secrets on the platform are somebody else's: leave them.
    Foreign {
        /// Their ids.
        ids: Vec<ManagedId>,
    },
    /// The old secret leaked meanwhile: go on as urgently as this. Until the old one is being deleted.
    Hurry {
        /// How urgent the run is from here on.
        level: Level,
    },
    /// Make the old secret live again and delete the new one. Until the old one is deleted.
    Rollback,
    /// Give up before anything was promoted: delete what was made.
    Abort,
    /// End at once and touch nothing more. What is left is listed in the last record.
    Abandon,
}

/// How a run ended.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum End {
    /// The new secret is live everywhere and the old one is dead.
    Completed {
        /// On the platform and not made by keyholder, as far as the journal can tell.
        unknown: Vec<ManagedId>,
    },
    /// The old secret is live everywhere again and the new one is deleted.
    RolledBack {
        /// On the platform and not made by keyholder, as far as the journal can tell.
        unknown: Vec<ManagedId>,
    },
    /// Given up before anything was promoted.
    Aborted {
        /// On the platform and not made by keyholder, as far as the journal can tell.
        unknown: Vec<ManagedId>,
    },
    /// The old secret is dead and was not replaced (E3).
    Killed,
    /// A person ended it as it stood.
    Abandoned {
        /// Left on the platform by this run.
        left: Vec<ManagedId>,
    },
}
