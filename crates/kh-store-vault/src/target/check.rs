//! A look before a rotation: rights by `sys/capabilities-self`, settings by `metadata/` and `config`.

use std::collections::BTreeMap;

use kh_core::{
    SecretBytes,
    port::{
        TargetError,
        secret_target::{Right, TargetCheck},
    },
    rotation::SecretPath,
};

use super::version;
use crate::{
    VaultStore,
    client::{Ask, Effect},
    wire::{self, KeyMetadata, MountSettings},
};

/// Fewer kept versions than this are warned of: a few failed rotations could push out the one to go back to.
const VERSIONS_ADVISED: u64 = 20;

/// Versions kept where nothing is set (vault-plugin-secrets-kv, defaultMaxVersions).
const VERSIONS_DEFAULT: u64 = 10;

type Granted = BTreeMap<String, Vec<String>>;

impl VaultStore {
    pub(super) async fn look(&self, path: &SecretPath) -> Result<TargetCheck, TargetError> {
        let places = Self::places(path)?;
        let [live, staged, destroy, metadata] = [
            self.below("data", &places.live),
            self.below("data", &places.staged),
            self.below("destroy", &places.staged),
            self.below("metadata", &places.live),
        ];
        let granted = self.granted(&[&live, &staged, &destroy, &metadata]).await?;
        let found = match self.read(&places.live).await {
            Ok(found) => Some(found),
            Err(TargetError::Denied(_)) => None,
            Err(error) => return Err(error),
        };
        let read = if found.is_some() { Right::Granted } else { Right::Denied };
        // a key with metadata is updated, also when its newest version is deleted
        let verb = if found.as_ref().is_some_and(|found| found.version == 0) { "create" } else { "update" };
        let all = [(&live, verb), (&staged, "create"), (&staged, "update"), (&staged, "read")];
        let write = all.iter().map(|(at, verb)| right(granted.as_ref(), at, verb)).fold(Right::Granted, worse);
        let mut warnings = Vec::new();
        if right(granted.as_ref(), &destroy, "update") == Right::Denied {
            warnings.push(format!("{destroy} may not be updated: staged copies of secrets stay in Vault's history"));
        }
        self.look_at_settings(&metadata, &mut warnings).await?;
        let live = found.and_then(|found| found.document.map(|_| version(found.version)));
        Ok(TargetCheck { live, read, write, warnings })
    }

    /// What the token may do; none where it may not even ask.
    async fn granted(&self, paths: &[&str]) -> Result<Option<Granted>, TargetError> {
        let body = SecretBytes::new(serde_json::json!({ "paths": paths }).to_string().into_bytes());
        match self.send(&Ask::post(Effect::None, "sys/capabilities-self", body)).await {
            Ok(reply) if reply.status == 200 => Ok(wire::capabilities(&reply.body)),
            Ok(_) | Err(TargetError::Denied(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn look_at_settings(&self, metadata: &str, warnings: &mut Vec<String>) -> Result<(), TargetError> {
        let key: Option<KeyMetadata> = self.optional(metadata, wire::metadata).await?;
        let mount: Option<MountSettings> = self.optional(&self.settings_path(), wire::settings).await?;
        let (Some(kept), Some(demanded)) = (
            key.as_ref().map(|key| key.max_versions).max(mount.map(|mount| mount.max_versions)),
            key.as_ref().map(|key| key.cas_required).max(mount.map(|mount| mount.cas_required)),
        ) else {
            warnings.push(format!(
                "neither {metadata} nor the mount's config can be read: the history's length is unknown"
            ));
            return Ok(());
        };
        let kept = if kept == 0 { VERSIONS_DEFAULT } else { kept };
        if kept < VERSIONS_ADVISED {
            warnings.push(format!(
                "{kept} versions are kept; set max_versions to {VERSIONS_ADVISED} or more, so that failed rotations \
                 cannot push out the version to go back to"
            ));
        }
        if !demanded {
            warnings
                .push("cas_required is off: another program can overwrite the secret without noticing ours".to_owned());
        }
        if key.is_some_and(|key| !matches!(key.delete_version_after.as_str(), "" | "0s")) {
            warnings.push("delete_version_after is set: versions of this secret delete themselves".to_owned());
        }
        Ok(())
    }

    /// What is at `path`; none where nothing is or it may not be read.
    async fn optional<T>(&self, path: &str, parse: fn(&[u8]) -> Option<T>) -> Result<Option<T>, TargetError> {
        match self.send(&Ask::get(path)).await {
            Ok(reply) if reply.status == 200 => Ok(parse(&reply.body)),
            Ok(_) | Err(TargetError::Denied(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn right(granted: Option<&Granted>, path: &str, verb: &str) -> Right {
    match granted.and_then(|granted| granted.get(path)) {
        None => Right::Unknown,
        Some(all) if all.iter().any(|one| one == verb || one == "root") => Right::Granted,
        Some(_) => Right::Denied,
    }
}

/// Denied before unknown before granted.
fn worse(left: Right, right: Right) -> Right {
    match (left, right) {
        (Right::Denied, _) | (_, Right::Denied) => Right::Denied,
        (Right::Unknown, _) | (_, Right::Unknown) => Right::Unknown,
        (Right::Granted, Right::Granted) => Right::Granted,
    }
}
