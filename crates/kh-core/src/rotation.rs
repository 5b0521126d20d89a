//! The words that rotation, the secret stores and the platforms share: runs, versions, writes, markers.
//!
//! Invariant: nothing here holds a secret.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Fingerprint, SecretBytes, UnixMillis};

/// Longest place in a store, in bytes: AWS takes names of 512, a KV v2 path or a resource name is shorter.
pub const PATH_MAX: usize = 512;

/// One attempt to replace a credential's secret by the next generation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub Uuid);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RunId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        text.parse().map(Self)
    }
}

/// Names one write to one store, the same after every retry and restart: version 5 of run, store and purpose. It is 36
/// characters long, which AWS Secrets Manager takes as `ClientRequestToken` (32 to 64).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WriteToken(pub Uuid);

impl WriteToken {
    /// The token of `run`'s write to `store` for `purpose` (`promote`, `rollback`).
    pub fn of(run: RunId, store: &str, purpose: &str) -> Self {
        Self(Uuid::new_v5(&run.0, format!("{store}\n{purpose}").as_bytes()))
    }
}

impl fmt::Display for WriteToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A version in its store's own words: a KV v2 number, an AWS `VersionId`, a Key Vault version, a Google number.
/// Compared for equality alone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VersionId(pub String);

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A place in a store, in the store's own words: `kv/genesys/acme`, a secret's name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct SecretPath(Arc<str>);

/// Why a place was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no place in a store: use 1 to {PATH_MAX} characters of a-z, A-Z, 0-9 and /_+=.@- without .. or //")]
pub struct PathError(String);

impl SecretPath {
    /// The place as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SecretPath {
    type Err = PathError;
    fn from_str(text: &str) -> Result<Self, PathError> {
        let letters = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/_+=.@-".contains(&byte));
        let parts = !text.starts_with('/') && !text.ends_with('/') && !text.contains("//") && !text.contains("..");
        if text.is_empty() || text.len() > PATH_MAX || !letters || !parts {
            return Err(PathError(text.chars().take(64).collect()));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for SecretPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SecretPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl<'de> Deserialize<'de> for SecretPath {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// An id of the platform's: of a client, of one of its secrets, of an access key. Not secret.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ManagedId(pub String);

impl fmt::Display for ManagedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What keyholder writes beside the credential, as the member `_kh` of the document: a store whose versions are bare
/// numbers can then be asked whose write is live.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Marker {
    /// The run that wrote it.
    pub run: RunId,
    /// The write.
    pub write: WriteToken,
    /// Counts the secrets of one credential, from 1 upward.
    pub generation: u64,
    /// Of the secret beside it.
    pub fingerprint: Fingerprint,
    /// When it was written.
    pub created_at: UnixMillis,
}

impl Marker {
    /// The marker of a JSON document; none where it has none, or is no such document. Its other members are skipped
    /// unread.
    pub fn read(document: &SecretBytes) -> Option<Self> {
        #[derive(Deserialize)]
        struct Marked {
            #[serde(rename = "_kh")]
            marker: Option<Marker>,
        }
        serde_json::from_slice::<Marked>(document.expose()).ok()?.marker
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for good in ["a", "kv/genesys/acme", "acme-prod.kh-next", "a_b+c=d@e", &"x".repeat(PATH_MAX)] {
            assert!(good.parse::<SecretPath>().is_ok(), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "a/../b", "a b", "ä", "a?b", "a%2fb", "a\n", &"x".repeat(PATH_MAX + 1)] {
            assert!(bad.parse::<SecretPath>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_write_has_one_name_per_run_store_and_purpose() {
        let run = RunId(Uuid::from_u128(7));
        assert_eq!(WriteToken::of(run, "aws", "promote"), WriteToken::of(run, "aws", "promote"));
        let others = [
            WriteToken::of(run, "aws", "rollback"),
            WriteToken::of(run, "vault", "promote"),
            WriteToken::of(RunId(Uuid::from_u128(8)), "aws", "promote"),
        ];
        assert!(others.iter().all(|other| *other != WriteToken::of(run, "aws", "promote")));
        assert_eq!(others[0].to_string().len(), 36);
    }

    #[test]
    fn the_marker_is_read_from_any_document_that_has_one() {
        let read = |text: &str| Marker::read(&SecretBytes::new(text.as_bytes().to_vec()));
        let marker = r#"{"run":"00000000-0000-0000-0000-000000000007","write":"00000000-0000-0000-0000-000000000008","generation":2,"fingerprint":"0123456789abcdef","created_at":5}"#;
        assert_eq!(read(&format!(r#"{{"other":[1],"_kh":{marker}}}"#)).unwrap().generation, 2);
        for none in ["", "text", "[]", "{}", r#"{"_kh":null}"#, r#"{"_kh":{"run":"x"}}"#] {
            assert_eq!(read(none), None, "{none}");
        }
    }
}
