//! The environment of a credential and of a client (`production`, `staging`, ...), and the two rules that follow.
//!
//! Invariants: what is done with a credential of [`PRODUCTION`] was asked for by that name; a client that belongs to
//! one environment never uses a credential of another.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Code, CredentialName};

/// Longest accepted environment, in bytes: `integration-test` has half of it.
pub const ENVIRONMENT_MAX: usize = 32;

/// The environment that has to be named by whoever wants it.
pub const PRODUCTION: &str = "production";

/// Words that people write for [`PRODUCTION`], and that are not guarded like it.
const LOOK_ALIKES: [&str; 6] = ["prod", "prd", "live", "productive", "production-eu", "production-us"];

/// The name of an environment: a lower-case word of letters, digits and dashes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EnvironmentName(Arc<str>);

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "environment {0:?} is not valid: use 1 to {ENVIRONMENT_MAX} characters of a-z, 0-9 and '-', starting with a letter"
)]
pub struct EnvironmentNameError(String);

/// Why a credential is not to be used; [`Code::ENVIRONMENT_REFUSED`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentRefused {
    /// Nobody said that production is meant.
    #[error("the credential is one of production, and nobody asked for production")]
    NotAsked,
    /// Another environment was asked for.
    #[error("the environment {asked} was asked for, and the credential is one of {}", Named(.own.as_ref()))]
    Other {
        /// What was asked for.
        asked: EnvironmentName,
        /// The credential's.
        own: Option<EnvironmentName>,
    },
    /// The client belongs to another environment than the credential does now.
    #[error("the client belongs to the environment {client}, and the credential {credential} is one of {}", Named(.own.as_ref()))]
    Client {
        /// The client's.
        client: EnvironmentName,
        /// The credential.
        credential: CredentialName,
        /// The credential's.
        own: Option<EnvironmentName>,
    },
}

/// An environment that may be missing, in a sentence.
struct Named<'a>(Option<&'a EnvironmentName>);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(name) => name.fmt(f),
            None => f.write_str("no environment"),
        }
    }
}

impl EnvironmentRefused {
    /// The stable code.
    pub fn code(&self) -> Code {
        Code::ENVIRONMENT_REFUSED
    }
}

impl EnvironmentName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the environment that has to be asked for by name.
    pub fn is_production(&self) -> bool {
        &*self.0 == PRODUCTION
    }

    /// Whether somebody may have meant [`PRODUCTION`] and is not protected.
    pub fn looks_like_production(&self) -> bool {
        !self.is_production() && (LOOK_ALIKES.contains(&&*self.0) || self.0.starts_with("prod"))
    }

    /// Whether a credential of this environment may be used by somebody who asked for `asked`: production only by its
    /// name, and no environment by another's name.
    pub fn permits(&self, asked: Option<&Self>) -> Result<(), EnvironmentRefused> {
        permit(Some(self), asked)
    }
}

/// As [`EnvironmentName::permits`], for a credential that may have no environment.
pub fn permit(own: Option<&EnvironmentName>, asked: Option<&EnvironmentName>) -> Result<(), EnvironmentRefused> {
    match (own, asked) {
        (own, Some(asked)) if own != Some(asked) => {
            Err(EnvironmentRefused::Other { asked: asked.clone(), own: own.cloned() })
        }
        (Some(own), None) if own.is_production() => Err(EnvironmentRefused::NotAsked),
        _ => Ok(()),
    }
}

/// Whether a client of the environment `client` may use a credential of the environment `own`, as that is configured
/// now. A client without an environment is not bound yet. Cheap: it is asked on every call.
pub fn fits(client: Option<&EnvironmentName>, own: Option<&EnvironmentName>) -> bool {
    client.is_none() || client == own
}

/// As [`fits`], with the words for a refusal.
pub fn check_fit(
    client: Option<&EnvironmentName>,
    credential: &CredentialName,
    own: Option<&EnvironmentName>,
) -> Result<(), EnvironmentRefused> {
    match client {
        Some(bound) if !fits(client, own) => {
            Err(EnvironmentRefused::Client { client: bound.clone(), credential: credential.clone(), own: own.cloned() })
        }
        _ => Ok(()),
    }
}

impl FromStr for EnvironmentName {
    type Err = EnvironmentNameError;
    fn from_str(text: &str) -> Result<Self, EnvironmentNameError> {
        let mut bytes = text.bytes();
        let good = text.len() <= ENVIRONMENT_MAX
            && bytes.next().is_some_and(|first| first.is_ascii_lowercase())
            && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if good {
            return Ok(Self(text.into()));
        }
        Err(EnvironmentNameError(text.chars().take(ENVIRONMENT_MAX).collect()))
    }
}

impl fmt::Display for EnvironmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EnvironmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl Serialize for EnvironmentName {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for EnvironmentName {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Option<EnvironmentName> {
        (text != "-").then(|| text.parse().unwrap())
    }

    #[test]
    fn names() {
        for good in ["production", "staging", "test-2", "a", &"x".repeat(ENVIRONMENT_MAX)] {
            assert!(good.parse::<EnvironmentName>().is_ok(), "{good}");
        }
        for bad in ["", "Production", "-a", "2a", "a b", "a.b", "ä", "a\n", &"x".repeat(ENVIRONMENT_MAX + 1)] {
            assert!(bad.parse::<EnvironmentName>().is_err(), "{bad:?}");
        }
        for (text, expected) in
            [("prod", true), ("live", true), ("prod-eu", true), ("production", false), ("dev", false)]
        {
            assert_eq!(named(text).unwrap().looks_like_production(), expected, "{text}");
        }
    }

    /// A credential's environment, what was asked for, and the verdict; `-` is none.
    #[test]
    fn production_has_to_be_asked_for_and_no_other_name_gets_a_credential() {
        for (own, asked, expected) in [
            ("production", "production", "yes"),
            ("production", "-", "not asked"),
            ("production", "staging", "other"),
            ("staging", "-", "yes"),
            ("staging", "staging", "yes"),
            ("staging", "production", "other"),
            ("prod", "-", "yes"),
            ("-", "-", "yes"),
            ("-", "production", "other"),
            ("-", "staging", "other"),
        ] {
            let verdict = match permit(named(own).as_ref(), named(asked).as_ref()) {
                Ok(()) => "yes",
                Err(EnvironmentRefused::NotAsked) => "not asked",
                Err(EnvironmentRefused::Other { .. }) => "other",
                Err(EnvironmentRefused::Client { .. }) => "client",
            };
            assert_eq!(verdict, expected, "{own} asked as {asked}");
            if let Some(own) = named(own) {
                assert_eq!(own.permits(named(asked).as_ref()).is_ok(), expected == "yes");
            }
        }
    }

    #[test]
    fn a_client_of_one_environment_has_no_credential_of_another() {
        let credential: CredentialName = "acme".parse().unwrap();
        for (client, own, fit) in [
            ("staging", "staging", true),
            ("staging", "production", false),
            ("production", "staging", false),
            ("production", "-", false),
            ("-", "production", true),
            ("-", "-", true),
        ] {
            let (client, own) = (named(client), named(own));
            assert_eq!(fits(client.as_ref(), own.as_ref()), fit, "{client:?} {own:?}");
            assert_eq!(check_fit(client.as_ref(), &credential, own.as_ref()).is_ok(), fit);
        }
        let told = check_fit(named("production").as_ref(), &credential, None).unwrap_err().to_string();
        assert_eq!(
            told,
            "the client belongs to the environment production, and the credential acme is one of no environment"
        );
    }
}
