//! Where a credential's document is: in the embedded store, or at a place of a store outside keyholder.
//!
//! Invariant: a reference names a document and never holds one.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};

use crate::{SecretName, StoreName, rotation::SecretPath};

/// The word that stands for the embedded store, and that no other store can have as its name.
pub const EMBEDDED: &str = "store";

/// Names a document: `store:NAME` in the embedded store, `STORE:PATH` in another one.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum SecretReference {
    /// In the embedded store.
    Embedded(SecretName),
    /// In a store that the configuration names.
    Stored {
        /// The store.
        store: StoreName,
        /// The place in it.
        path: SecretPath,
    },
}

/// Why a reference was refused. Holds nothing of the text, which may be a secret that was put in the wrong place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Neither `store:NAME` nor `STORE:PATH`.
    #[error("it is neither store:NAME nor STORE:PATH")]
    Form,
    /// What stands after the colon is no name of the embedded store.
    #[error("what stands after the colon is no name of a secret")]
    Name,
    /// What stands after the colon is no place in a store.
    #[error("what stands after the colon is no place in a store")]
    Path,
}

impl SecretReference {
    /// The name, where the document is in the embedded store.
    pub fn embedded(&self) -> Option<&SecretName> {
        match self {
            Self::Embedded(name) => Some(name),
            Self::Stored { .. } => None,
        }
    }

    /// The store's name: the word `store` for the embedded one.
    pub fn store_name(&self) -> &str {
        match self {
            Self::Embedded(_) => EMBEDDED,
            Self::Stored { store, .. } => store.as_str(),
        }
    }

    /// What stands after the colon.
    pub fn place(&self) -> &str {
        match self {
            Self::Embedded(name) => name.as_str(),
            Self::Stored { path, .. } => path.as_str(),
        }
    }

    /// As answers show it: a document of the embedded store goes by its name alone, which has no colon.
    pub fn shown(&self) -> String {
        match self {
            Self::Embedded(name) => name.to_string(),
            Self::Stored { .. } => self.to_string(),
        }
    }

    /// The place as a [`SecretPath`]: the letters of a name are a path's letters too.
    pub fn path(&self) -> SecretPath {
        match self {
            Self::Embedded(name) => {
                let parts: Vec<_> = name.as_str().split('/').filter(|part| !part.is_empty()).collect();
                parts.join("/").parse().expect("a name without empty parts is a path")
            }
            Self::Stored { path, .. } => path.clone(),
        }
    }
}

impl From<SecretName> for SecretReference {
    fn from(name: SecretName) -> Self {
        Self::Embedded(name)
    }
}

impl FromStr for SecretReference {
    type Err = ReferenceError;
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let Some((store, place)) = text.split_once(':') else {
            // The short form that answers show.
            return text.parse().map(Self::Embedded).map_err(|_| ReferenceError::Form);
        };
        if store == EMBEDDED {
            return place.parse().map(Self::Embedded).map_err(|_| ReferenceError::Name);
        }
        let store = store.parse().map_err(|_| ReferenceError::Form)?;
        let path = place.parse().map_err(|_| ReferenceError::Path)?;
        Ok(Self::Stored { store, path })
    }
}

/// As the configuration writes it.
impl fmt::Display for SecretReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.store_name(), self.place())
    }
}

/// As [`SecretReference::shown`].
impl Serialize for SecretReference {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.shown())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        for (text, shown, json) in [
            ("store:acme", "store:acme", "\"acme\""),
            ("acme/login", "store:acme/login", "\"acme/login\""),
            ("prod-vault:kv/genesys/acme", "prod-vault:kv/genesys/acme", "\"prod-vault:kv/genesys/acme\""),
            ("aws:acme+prod=1@x", "aws:acme+prod=1@x", "\"aws:acme+prod=1@x\""),
        ] {
            let reference: SecretReference = text.parse().unwrap();
            assert_eq!(
                (reference.to_string().as_str(), serde_json::to_string(&reference).unwrap().as_str()),
                (shown, json)
            );
            assert_eq!(reference.to_string().parse(), Ok(reference.clone()));
            assert_eq!(reference.path().as_str(), reference.place());
        }
        for (text, error) in [
            ("", ReferenceError::Form),
            ("a b", ReferenceError::Form),
            (":x", ReferenceError::Form),
            ("store:", ReferenceError::Name),
            ("store:-a", ReferenceError::Name),
            ("vault:", ReferenceError::Path),
            ("vault:/a", ReferenceError::Path),
            ("vault:a b", ReferenceError::Path),
        ] {
            assert_eq!(text.parse::<SecretReference>(), Err(error), "{text:?}");
        }
    }

    #[test]
    fn every_name_of_the_embedded_store_has_a_path() {
        for name in ["a", "a/", "a//b", "a///b", "a//", "a.b_c-d/9"] {
            let reference = SecretReference::Embedded(name.parse().unwrap());
            assert!(!reference.path().as_str().is_empty(), "{name}");
        }
    }
}
