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
}
