//! Where GitHub Actions secrets lie and what they are called.
//!
//! Invariant: a name that passed here is one segment of a path and means what it says.

use std::fmt;

use super::Field;
use crate::PlaceError;

/// Longest name of an owner, repository, environment or secret (environments: 255 characters; the others have less).
const NAME_MAX: usize = 255;

/// Most repositories of one organization's secret that are listed.
const SELECTED_MAX: usize = 1000;

/// Why a target was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// The API's address.
    #[error("the API's address is not usable: {0}")]
    Api(PlaceError),
    /// An owner, a repository or an environment.
    #[error("{0:?} is no name of an owner, a repository or an environment")]
    Name(String),
    /// A secret's name.
    #[error("{0:?} is no name of a secret: use A-Z, 0-9 and _, no digit first, not GITHUB_ at its beginning")]
    SecretName(String),
    /// Nothing to write.
    #[error("no secret is named")]
    NoValue,
    /// More repositories than are listed.
    #[error("at most {SELECTED_MAX} repositories can be listed")]
    Selected,
}

/// Which repositories see an organization's secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Visibility {
    /// All.
    All,
    /// Private and internal ones.
    Private,
    /// Those with these ids. The list replaces the one at GitHub.
    Selected(Vec<u64>),
}

/// Whose secret it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Owner {
    /// A repository's.
    Repository {
        /// The account.
        owner: String,
        /// The repository.
        repository: String,
    },
    /// An environment's of a repository.
    Environment {
        /// The account.
        owner: String,
        /// The repository.
        repository: String,
        /// The environment.
        environment: String,
    },
    /// An organization's.
    Organization {
        /// The organization.
        organization: String,
        /// Who sees it.
        visibility: Visibility,
    },
}

impl Owner {
    /// A repository, written `owner/name`.
    pub fn repository(text: &str) -> Result<Self, PlacementError> {
        let (owner, repository) = split(text)?;
        Ok(Self::Repository { owner, repository })
    }

    /// An environment of a repository.
    pub fn environment(repository: &str, environment: &str) -> Result<Self, PlacementError> {
        let (owner, repository) = split(repository)?;
        // GitHub allows nearly every character; a segment of dots alone would be another path
        let dots = environment.bytes().all(|byte| byte == b'.');
        if dots || environment.len() > NAME_MAX || environment.chars().any(char::is_control) {
            return Err(PlacementError::Name(environment.chars().take(64).collect()));
        }
        Ok(Self::Environment { owner, repository, environment: environment.to_owned() })
    }

    /// An organization.
    pub fn organization(text: &str, visibility: Visibility) -> Result<Self, PlacementError> {
        if matches!(&visibility, Visibility::Selected(ids) if ids.len() > SELECTED_MAX) {
            return Err(PlacementError::Selected);
        }
        Ok(Self::Organization { organization: plain(text)?, visibility })
    }

    /// The path of its secrets.
    pub(super) fn segments(&self) -> Vec<&str> {
        match self {
            Self::Repository { owner, repository } => vec!["repos", owner, repository, "actions", "secrets"],
            Self::Environment { owner, repository, environment } => {
                vec!["repos", owner, repository, "environments", environment, "secrets"]
            }
            Self::Organization { organization, .. } => vec!["orgs", organization, "actions", "secrets"],
        }
    }

    /// `visibility`, which an organization's secret must have at each write.
    pub(super) fn visibility(&self) -> Option<&'static str> {
        let Self::Organization { visibility, .. } = self else { return None };
        Some(match visibility {
            Visibility::All => "all",
            Visibility::Private => "private",
            Visibility::Selected(_) => "selected",
        })
    }

    pub(super) fn selected(&self) -> Option<&[u64]> {
        match self {
            Self::Organization { visibility: Visibility::Selected(ids), .. } => Some(ids),
            Self::Organization { visibility: Visibility::All | Visibility::Private, .. }
            | Self::Repository { .. }
            | Self::Environment { .. } => None,
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repository { owner, repository } => write!(f, "repository {owner}/{repository}"),
            Self::Environment { owner, repository, environment } => {
                write!(f, "environment {environment} of repository {owner}/{repository}")
            }
            Self::Organization { organization, .. } => write!(f, "organization {organization}"),
        }
    }
}

/// One secret to write, with the part of the document that it gets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SecretValue {
    name: String,
    field: Field,
}

impl SecretValue {
    /// The secret `name` (docs.github.com, "Using secrets in GitHub Actions", naming: letters, digits and `_`, no digit
    /// first, not `GITHUB_` first, in any case) with `field`.
    pub fn new(name: &str, field: Field) -> Result<Self, PlacementError> {
        let letters = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let digit_first = name.bytes().next().is_none_or(|byte| byte.is_ascii_digit());
        let reserved = name.to_ascii_uppercase().starts_with("GITHUB_");
        if !letters || digit_first || reserved || name.len() > NAME_MAX {
            return Err(PlacementError::SecretName(name.chars().take(64).collect()));
        }
        Ok(Self { name: name.to_owned(), field })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn field(&self) -> Field {
        self.field
    }
}

fn split(text: &str) -> Result<(String, String), PlacementError> {
    let wrong = || PlacementError::Name(text.chars().take(64).collect());
    let (owner, repository) = text.split_once('/').ok_or_else(wrong)?;
    Ok((plain(owner)?, plain(repository)?))
}

/// Letters, digits, `-`, `_` and `.`, and not dots alone.
fn plain(text: &str) -> Result<String, PlacementError> {
    let letters = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if !letters || text.bytes().all(|byte| byte == b'.') || text.len() > NAME_MAX {
        return Err(PlacementError::Name(text.chars().take(64).collect()));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert!(Owner::repository("acme/crm-sync.v2").is_ok());
        for bad in ["acme", "acme/", "/crm", "acme/..", "acme/a/b", "acme/a b", "acme/%2e%2e", "../x"] {
            assert!(Owner::repository(bad).is_err(), "{bad}");
        }
        assert!(Owner::environment("acme/crm", "Prod EU/1").is_ok());
        for bad in ["", ".", "..", "a\nb"] {
            assert!(Owner::environment("acme/crm", bad).is_err(), "{bad:?}");
        }
        assert!(SecretValue::new("GENESYS_CREDENTIAL", Field::Document).is_ok());
        for bad in ["", "1A", "A-B", "GITHUB_TOKEN", "github_x", "A/B", "\u{c4}"] {
            assert!(SecretValue::new(bad, Field::Document).is_err(), "{bad}");
        }
    }
}
