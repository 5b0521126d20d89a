//! Typed names and ids. Each is parsed once at the boundary; afterwards it is known to be well formed.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest accepted name, in bytes: long enough for `team.service.environment`, short enough for a log field.
pub const NAME_MAX: usize = 64;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{kind} {text:?} is not valid: use 1 to {NAME_MAX} characters of a-z, A-Z, 0-9, '.', '_', '-' or '/', starting with a letter or digit"
)]
pub struct NameError {
    kind: &'static str,
    text: String,
}

fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    text.len() <= NAME_MAX
        && bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte))
        && !text.contains("..")
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(Arc<str>);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                if is_name(text) {
                    return Ok(Self(text.into()));
                }
                let shown = text.chars().take(NAME_MAX).collect();
                Err(NameError { kind: $kind, text: shown })
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = String::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name!(
    /// The name of a `[platform.NAME]` in the configuration: one organisation in one region.
    PlatformName,
    "platform name"
);
name!(
    /// The name of a `[credential.NAME]` in the configuration: what keyholder logs in with at a platform.
    CredentialName,
    "credential name"
);
name!(
    /// The name of one versioned document in a secret store.
    SecretName,
    "secret name"
);
name!(
    /// The name of a `[secret_store.NAME]` in the configuration: a secret store outside keyholder.
    StoreName,
    "store name"
);
name!(
    /// What a person calls a keyholder client.
    ClientName,
    "client name"
);
name!(
    /// The `client_id` (RFC 6749 section 2.2) that keyholder issued to an application.
    ClientId,
    "client id"
);

/// How the names of keyholder's own documents in a secret store begin. No name that a person gives can: it starts with
/// a letter or digit, so no command and no configuration reaches them.
const OWN_DOCUMENTS: &str = "_kh/";

impl SecretName {
    /// The name of a document of keyholder's own, `_kh/NAME`. `name` is a constant of the program.
    ///
    /// # Panics
    /// If `name` is no name.
    pub fn own_document(name: &'static str) -> Self {
        Self::stored(&format!("{OWN_DOCUMENTS}{name}")).expect("a name that the program is built with is one")
    }

    /// A name as a store has it, keyholder's own documents included.
    pub fn stored(text: &str) -> Result<Self, NameError> {
        match text.strip_prefix(OWN_DOCUMENTS) {
            Some(rest) if text.len() <= NAME_MAX && is_name(rest) => Ok(Self(text.into())),
            _ => text.parse(),
        }
    }

    /// Whether this is a document of keyholder's own.
    pub fn is_own_document(&self) -> bool {
        self.0.starts_with(OWN_DOCUMENTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "acme-prod", "a.b_c/d", "9", &"x".repeat(NAME_MAX)] {
            assert!(good.parse::<SecretName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a b", "a\n", "ä", "../x", "a..b", "/a", &"x".repeat(NAME_MAX + 1)] {
            assert!(bad.parse::<SecretName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_of_own_documents_come_from_a_store_and_never_from_a_person() {
        let own = SecretName::own_document("issuer/signing-keys");
        assert_eq!(own.as_str(), "_kh/issuer/signing-keys");
        assert_eq!(SecretName::stored(own.as_str()), Ok(own.clone()));
        assert!(own.is_own_document() && own.as_str().parse::<SecretName>().is_err());
        let plain = SecretName::stored("acme").unwrap();
        assert!(!plain.is_own_document());
        for bad in ["_kh/", "_kh/-a", "_kh/../a", "_kh", "_a/b", &format!("_kh/{}", "x".repeat(NAME_MAX))] {
            assert!(SecretName::stored(bad).is_err(), "{bad}");
        }
    }
}
