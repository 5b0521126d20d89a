//! What an issuer's tokens must be like to be taken.
//!
//! Invariant: what is not said is checked. Leaving a check out (any issuer, any audience, no expiry) is written down.

use std::{sync::Arc, time::Duration};

use crate::{Algorithms, jws::media_type};

/// The usual leeway between the issuer's clock and ours.
pub const LEEWAY_DEFAULT: Duration = Duration::from_secs(30);

/// Longest leeway: RFC 7519 section 4.1.4 speaks of a few minutes.
pub const LEEWAY_MAX: Duration = Duration::from_mins(5);

/// Which values of a claim are taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Accepted {
    /// One of these, letter by letter.
    OneOf(Vec<Arc<str>>),
    /// Any value, or none at all: the claim is not checked.
    Any,
}

impl Accepted {
    /// Exactly this one.
    pub fn only(value: &str) -> Self {
        Self::OneOf(vec![value.into()])
    }

    /// The accepted value that equals this one.
    pub(crate) fn find(&self, value: &str) -> Option<&Arc<str>> {
        match self {
            Self::OneOf(values) => values.iter().find(|own| &***own == value),
            Self::Any => None,
        }
    }
}

/// Which kind of token it must be (`typ`, RFC 8725 section 3.11).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Profile {
    /// `typ` is missing, `JWT` or `at+jwt`. Any other kind (a `DPoP` proof, a logout token) is refused.
    #[default]
    Jwt,
    /// RFC 9068: `typ` is `at+jwt`, and `iss`, `exp`, `aud`, `sub`, `client_id`, `iat` and `jti` are there.
    AccessToken,
}

/// What an issuer's tokens must be like.
#[derive(Clone, Debug)]
pub struct Policy {
    algorithms: Algorithms,
    pub(crate) issuers: Accepted,
    pub(crate) audiences: Accepted,
    profile: Profile,
    pub(crate) expiry_needed: bool,
    pub(crate) leeway: Duration,
    pub(crate) age_max: Option<Duration>,
    pub(crate) claims: Vec<Box<str>>,
}

impl Policy {
    /// Tokens of these issuers for these audiences (one of them suffices), by any algorithm whose key is public, with
    /// an expiry, and [`LEEWAY_DEFAULT`] between the clocks.
    pub fn new(issuers: Accepted, audiences: Accepted) -> Self {
        Self {
            algorithms: Algorithms::ASYMMETRIC,
            issuers,
            audiences,
            profile: Profile::default(),
            expiry_needed: true,
            leeway: LEEWAY_DEFAULT,
            age_max: None,
            claims: Vec::new(),
        }
    }

    /// Takes these algorithms and no other. The key must be for the algorithm too.
    pub fn with_algorithms(mut self, algorithms: Algorithms) -> Self {
        self.algorithms = algorithms;
        self
    }

    /// Which kind of token it must be.
    pub fn with_profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }

    /// Takes tokens without `exp` too. One that is there still counts.
    pub fn without_expiry(mut self) -> Self {
        self.expiry_needed = false;
        self
    }

    /// How far the issuer's clock and ours may differ; at most [`LEEWAY_MAX`] counts.
    pub fn with_leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway.min(LEEWAY_MAX);
        self
    }

    /// Takes no token that was issued longer ago than this; then `iat` is needed.
    pub fn with_age_max(mut self, age: Duration) -> Self {
        self.age_max = Some(age);
        self
    }

    /// Keeps these claims in the identity: a claim's name, or a JSON pointer (RFC 6901) such as
    /// `/realm_access/roles`. Kept are texts, lists of texts, whole numbers and truth values.
    pub fn with_claims<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        self.claims = names.into_iter().map(Into::into).collect();
        self
    }

    /// The algorithms that are taken.
    pub fn algorithms(&self) -> Algorithms {
        self.algorithms
    }

    /// How far the issuer's clock and ours may differ.
    pub fn leeway(&self) -> Duration {
        self.leeway
    }

    /// How long ago a token may have been issued, where that is bounded.
    pub fn age_max(&self) -> Option<Duration> {
        self.age_max
    }

    pub(crate) fn is_strict(&self) -> bool {
        self.profile == Profile::AccessToken
    }

    pub(crate) fn takes_type(&self, typ: Option<&str>) -> bool {
        let typ = typ.map(media_type);
        let is = |wanted: &str| typ.is_some_and(|typ| typ.eq_ignore_ascii_case(wanted));
        match self.profile {
            Profile::Jwt => typ.is_none() || is("JWT") || is("at+jwt"),
            Profile::AccessToken => is("at+jwt"),
        }
    }
}
