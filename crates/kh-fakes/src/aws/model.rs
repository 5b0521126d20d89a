//! What AWS Secrets Manager keeps: regions, secrets, versions and their staging labels, and copies in other regions.
//!
//! Invariants: a version's value never changes after it was written; a staging label is on at most one version of a
//! secret; once a secret has a current version it always has one. The sources of the rules are the service model
//! `secretsmanager/2017-10-17` (as botocore 1.44.5 ships it, "model" below) and the user guide.

use std::collections::{BTreeMap, BTreeSet};

use super::wire::Refusal;

/// The label that consumers read.
pub const CURRENT: &str = "AWSCURRENT";
/// The label of what was current before.
pub const PREVIOUS: &str = "AWSPREVIOUS";
/// Largest value in bytes; model, `SecretStringType.max`.
pub const VALUE_MAX: usize = 65_536;
/// Most labels of one secret; user guide, "Secrets Manager quotas": labels across all versions of a secret, 20.
pub const LABELS_MAX: usize = 20;
/// Versions above which unlabelled ones of a day's age are removed; user guide, "Secrets Manager quotas".
pub const VERSIONS_KEPT: usize = 100;
/// A version younger than this is never removed; user guide, "Secrets Manager quotas".
const VERSION_AGE_KEPT_MS: u64 = 24 * 3_600_000;
/// The sustained distance of writes; model, `PutSecretValue`.
pub const PUT_DISTANCE_MS: u64 = 600_000;

/// What a version holds.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// `SecretString`.
    Text(String),
    /// `SecretBinary`, as base64.
    Binary(String),
}

/// One version.
#[derive(Clone)]
pub struct Version {
    /// Its value; never changed.
    pub value: Value,
    /// Its staging labels; without one it counts as deprecated and is hidden.
    pub stages: BTreeSet<String>,
    /// When it was written, Unix milliseconds.
    pub created_ms: u64,
}

/// How far a copy in another region is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Copying {
    /// It is as the primary.
    InSync,
    /// It becomes so after this many further requests to the secret.
    InProgress(u32),
    /// It got stuck: labels moved while it was copied. Source: square/password-rotation-lambda#12 (two
    /// `UpdateSecretVersionStage` calls in a row, with replicas).
    Failed,
}

impl Copying {
    /// `StatusType` of the model.
    pub fn word(self) -> &'static str {
        match self {
            Self::InSync => "InSync",
            Self::InProgress(_) => "InProgress",
            Self::Failed => "Failed",
        }
    }
}

/// One secret in one region.
#[derive(Clone)]
pub struct Secret {
    /// Its name.
    pub name: String,
    /// Its address: ends with a hyphen and six characters; model, `CreateSecret`.
    pub arn: String,
    /// Oldest first.
    pub versions: Vec<(String, Version)>,
    /// Set by `DeleteSecret`, Unix milliseconds.
    pub deleted_ms: Option<u64>,
    /// When it was made, Unix milliseconds.
    pub created_ms: u64,
    /// Copies by region; none at a copy.
    pub copies: BTreeMap<String, Copying>,
    /// The region of the primary.
    pub primary: String,
    /// What it was before the last change, and how many reads still see that.
    pub before: Option<(Box<Secret>, u32)>,
    /// When values were put, for the warning about the rate.
    pub puts_ms: Vec<u64>,
}

impl Secret {
    /// The version with an id.
    pub fn version(&self, id: &str) -> Option<&Version> {
        self.versions.iter().find(|(known, _)| known == id).map(|(_, version)| version)
    }

    fn version_mut(&mut self, id: &str) -> Option<&mut Version> {
        self.versions.iter_mut().find(|(known, _)| known == id).map(|(_, version)| version)
    }

    /// The id of the version with a label.
    pub fn labelled(&self, label: &str) -> Option<&str> {
        self.versions.iter().find(|(_, version)| version.stages.contains(label)).map(|(id, _)| id.as_str())
    }

    /// Writes a version. Model, `PutSecretValue`: the same token with the same data does nothing, with other data
    /// fails; a label named here leaves the version that has it; without labels the new version becomes current, and
    /// so does the first version of a secret in any case.
    pub fn put(&mut self, id: &str, value: Value, labels: &[String], now_ms: u64) -> Result<(), Refusal> {
        if let Some(known) = self.version(id) {
            if known.value == value {
                return Ok(());
            }
            return Err(Refusal::exists(
                "A resource with the ID you requested already exists: you can't modify an existing version.",
            ));
        }
        let mut wanted: BTreeSet<String> = labels.iter().cloned().collect();
        if wanted.is_empty() || self.versions.is_empty() {
            wanted.insert(CURRENT.to_owned());
        }
        self.check_label_quota(&wanted)?;
        self.drop_deprecated(now_ms)?;
        self.versions.push((id.to_owned(), Version { value, stages: BTreeSet::new(), created_ms: now_ms }));
        for label in wanted {
            self.attach(&label, id);
        }
        self.puts_ms.push(now_ms);
        Ok(())
    }

    fn check_label_quota(&self, wanted: &BTreeSet<String>) -> Result<(), Refusal> {
        let mut all: BTreeSet<&String> = self.versions.iter().flat_map(|(_, version)| &version.stages).collect();
        all.extend(wanted);
        if all.len() > LABELS_MAX {
            return Err(Refusal::limit("The secret has the largest number of staging labels."));
        }
        Ok(())
    }

    /// User guide, "Secrets Manager quotas": unlabelled versions are removed when there are more than 100, but not
    /// those of the last 24 hours; who writes too often reaches the quota.
    fn drop_deprecated(&mut self, now_ms: u64) -> Result<(), Refusal> {
        while self.versions.len() >= VERSIONS_KEPT {
            let old = self.versions.iter().position(|(_, version)| {
                version.stages.is_empty() && version.created_ms + VERSION_AGE_KEPT_MS <= now_ms
            });
            let Some(old) = old else {
                return Err(Refusal::limit("The secret has the largest number of versions."));
            };
            self.versions.remove(old);
        }
        Ok(())
    }

    /// Moves a label. With `AWSCURRENT` the label `AWSPREVIOUS` goes to the version that had it; model,
    /// `UpdateSecretVersionStage`.
    fn attach(&mut self, label: &str, to: &str) {
        let from = self.labelled(label).map(str::to_owned);
        for (_, version) in &mut self.versions {
            version.stages.remove(label);
        }
        if let Some(version) = self.version_mut(to) {
            version.stages.insert(label.to_owned());
        }
        let Some(from) = from.filter(|from| label == CURRENT && from != to) else { return };
        for (_, version) in &mut self.versions {
            version.stages.remove(PREVIOUS);
        }
        if let Some(version) = self.version_mut(&from) {
            version.stages.insert(PREVIOUS.to_owned());
        }
    }

    /// Model, `UpdateSecretVersionStage`: a label that is attached elsewhere moves only when the version that has it
    /// is named; anything else fails. The current label can be moved and not dropped (seen by users of the service;
    /// the model does not say it).
    pub fn move_label(&mut self, label: &str, from: Option<&str>, to: Option<&str>) -> Result<(), Refusal> {
        for id in [from, to].into_iter().flatten() {
            if self.version(id).is_none() {
                return Err(Refusal::not_found(&format!(
                    "Secrets Manager can't find the specified secret version: {id}"
                )));
            }
        }
        let holder = self.labelled(label).map(str::to_owned);
        if let Some(from) = from
            && holder.as_deref() != Some(from)
        {
            return Err(Refusal::parameter(&format!(
                "The parameter RemoveFromVersionId is not the version that has the staging label {label}."
            )));
        }
        let Some(to) = to else {
            let Some(from) = from else {
                return Err(Refusal::parameter("You must name a version to move the label to or to remove it from."));
            };
            if label == CURRENT {
                return Err(Refusal::parameter(
                    "You can't remove the staging label AWSCURRENT. You can only move it to another version.",
                ));
            }
            if let Some(version) = self.version_mut(from) {
                version.stages.remove(label);
            }
            return Ok(());
        };
        if let Some(holder) = holder
            && holder != to
            && from.is_none()
        {
            return Err(Refusal::parameter(&format!(
                "The parameter RemoveFromVersionId can't be empty. Staging label {label} is currently attached to \
                 version {holder}, so you must explicitly reference that version in RemoveFromVersionId."
            )));
        }
        self.check_label_quota(&BTreeSet::from([label.to_owned()]))?;
        self.attach(label, to);
        Ok(())
    }

    /// Whether values were put more often than once in 10 minutes, for longer than a burst of `burst`.
    pub fn puts_too_often(&self, burst: usize) -> bool {
        self.puts_ms.len() > burst
            && self.puts_ms.windows(burst + 1).any(|span| match (span.first(), span.last()) {
                (Some(first), Some(last)) => last - first < PUT_DISTANCE_MS * burst as u64,
                _ => false,
            })
    }
}

/// Every region's secrets.
#[derive(Default)]
pub(super) struct World {
    /// Region, then name.
    pub regions: BTreeMap<String, BTreeMap<String, Secret>>,
    /// Requests to a secret until its copies have a change.
    pub copy_lag: u32,
    /// Reads that still see what was before a change. Model, `ListSecrets`: "All Secrets Manager operations are
    /// eventually consistent"; seen as aws/aws-sdk-js-v3#7701.
    pub read_lag: u32,
    /// Counts changes.
    pub revision: u64,
}

impl World {
    /// A secret by name or whole address.
    pub(super) fn find(&self, region: &str, id: &str) -> Option<&Secret> {
        let secrets = self.regions.get(region)?;
        secrets.get(id).or_else(|| secrets.values().find(|secret| secret.arn == id))
    }

    /// As [`World::find`], to change it.
    pub(super) fn find_mut(&mut self, region: &str, id: &str) -> Option<&mut Secret> {
        let name = self.find(region, id)?.name.clone();
        self.regions.get_mut(region)?.get_mut(&name)
    }

    /// Notes that a secret was changed: copies lag behind, and so do reads. `labels_moved` tells a move of labels,
    /// which breaks a copy that is still under way.
    pub(super) fn changed(&mut self, region: &str, name: &str, before: Option<Secret>, labels_moved: bool) {
        self.revision += 1;
        let (copy_lag, read_lag) = (self.copy_lag, self.read_lag);
        let Some(secret) = self.find_mut(region, name) else { return };
        if read_lag > 0 {
            secret.before = before.map(|mut before| {
                before.before = None;
                (Box::new(before), read_lag)
            });
        }
        for copying in secret.copies.values_mut() {
            *copying = match *copying {
                Copying::Failed => Copying::Failed,
                Copying::InProgress(_) if labels_moved => Copying::Failed,
                Copying::InSync | Copying::InProgress(_) => Copying::InProgress(copy_lag),
            };
        }
        self.tick(region, name, false);
    }

    /// One request to a secret has passed: copies that are due are made.
    pub(super) fn tick(&mut self, region: &str, name: &str, count: bool) {
        let Some(secret) = self.find_mut(region, name) else { return };
        let mut due = Vec::new();
        for (to, copying) in &mut secret.copies {
            match copying {
                Copying::InProgress(0) => due.push(to.clone()),
                Copying::InProgress(left) if count => *left -= 1,
                Copying::InProgress(_) | Copying::InSync | Copying::Failed => {}
            }
        }
        let copy = secret.clone();
        for to in &due {
            secret.copies.insert(to.clone(), Copying::InSync);
        }
        for to in due {
            let mut copy = copy.clone();
            copy.copies.clear();
            copy.before = None;
            copy.arn = copy.arn.replacen(region, &to, 1);
            self.regions.entry(to).or_default().insert(copy.name.clone(), copy);
        }
    }
}
