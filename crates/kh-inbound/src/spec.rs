//! Which issuers there are, and what is asked of their tokens.
//!
//! Invariant: a token has one issuer at most: no two issuers share an `iss` or a beginning of opaque tokens, so that no
//! token is ever shown to, or tried with the keys of, an issuer that it does not name.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use kh_core::port::{KeySource, TokenAuthority};
use kh_verify::Policy;

use crate::{Bounds, Caps};

/// Most issuers of one verifier.
pub const ISSUERS_MAX: usize = 1000;

/// The longest life of a JWT that is taken where nothing else is configured: long enough for what people issue by hand,
/// short enough that a revocation need not be remembered for ever.
pub const LIFE_MAX: Duration = Duration::from_hours(31 * 24);

/// How long an authority's yes is believed where nothing else is configured.
pub const MAX_AGE: Duration = Duration::from_mins(1);

/// How long an authority's no is believed: long enough for a client that asks in a loop, and a token that is not known
/// yet is known soon.
pub const NEGATIVE_AGE: Duration = Duration::from_secs(5);

/// One issuer of tokens.
#[derive(Clone)]
pub struct IssuerSpec {
    /// Its name in the configuration, for routes, logs and metrics.
    pub name: Arc<str>,
    /// The values of `iss` that are its tokens', compared letter by letter. CXone has two.
    pub issuers: Vec<Arc<str>>,
    /// The longest that one of its tokens lives. One that has longer to live is refused, so that none outlives its
    /// revocation. `None` refuses none.
    pub life_max: Option<Duration>,
    /// Who vouches for its tokens.
    pub trust: Trust,
}

/// Who vouches for an issuer's tokens.
#[derive(Clone)]
pub enum Trust {
    /// Its tokens are JWTs; these keys sign them.
    Keys {
        /// Where the keys come from.
        source: Arc<dyn KeySource>,
        /// When they are fetched.
        bounds: Bounds,
        /// What else is asked of a token. Its list of issuers is [`IssuerSpec::issuers`].
        policy: Policy,
    },
    /// Somebody is asked for each token that is not in memory.
    Authority {
        /// Who.
        authority: Arc<dyn TokenAuthority>,
        /// What is asked of its answer.
        rules: AnswerRules,
    },
}

/// What is asked of an authority's answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AnswerRules {
    /// How its opaque tokens begin; `None`: any token that is no JWT and has no other issuer's beginning. A JWT is
    /// its own if the JWT names one of [`IssuerSpec::issuers`].
    pub prefix: Option<String>,
    /// Audiences of which the answer must name one; empty: whatever it says.
    pub audiences: Vec<String>,
    /// How far its clock and ours may differ.
    pub leeway: Duration,
    /// How long a yes is believed at most, without asking again; zero asks for each request.
    pub max_age: Duration,
    /// How long a no is believed; zero asks for each request.
    pub negative_age: Duration,
    /// The longest that a token lives of which the answer tells neither when it was issued nor when it ends; `None`: nobody
    /// can tell, and it counts as older than any revocation.
    pub untold_life: Option<Duration>,
}

impl Default for AnswerRules {
    fn default() -> Self {
        Self {
            prefix: None,
            audiences: Vec::new(),
            leeway: Duration::from_secs(30),
            max_age: MAX_AGE,
            negative_age: NEGATIVE_AGE,
            untold_life: None,
        }
    }
}

impl AnswerRules {
    /// For an authority in the same process that has its tokens in memory: nothing is believed for longer than one
    /// request, and expiry has no leeway, because both read the same clock.
    pub fn in_process(prefix: &str) -> Self {
        let zero = Duration::ZERO;
        Self { prefix: Some(prefix.to_owned()), leeway: zero, max_age: zero, negative_age: zero, ..Self::default() }
    }
}

impl fmt::Debug for IssuerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.trust {
            Trust::Keys { .. } => "keys",
            Trust::Authority { .. } => "authority",
        };
        f.debug_struct("IssuerSpec")
            .field("name", &self.name)
            .field("issuers", &self.issuers)
            .field("trust", &kind)
            .finish_non_exhaustive()
    }
}

/// All of a verifier.
#[derive(Clone, Debug)]
pub struct VerifierConfig {
    /// The issuers.
    pub issuers: Vec<IssuerSpec>,
    /// What verified tokens may take in memory, in bytes.
    pub cache_bytes: u64,
    /// How many revocations are kept.
    pub revocations: Caps,
}

/// What verified tokens may take where nothing else is configured: 100,000 typical ones.
pub const CACHE_BYTES: u64 = 52 * 1024 * 1024;

impl VerifierConfig {
    /// These issuers and the usual limits.
    pub fn new(issuers: Vec<IssuerSpec>) -> Self {
        Self { issuers, cache_bytes: CACHE_BYTES, revocations: Caps::default() }
    }
}

/// Why issuers cannot stand together.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SpecError {
    /// Too many.
    #[error("there are more than {ISSUERS_MAX} issuers")]
    TooMany,
    /// Two of one name.
    #[error("two issuers are called {0}")]
    SameName(Arc<str>),
    /// Two would take the same tokens.
    #[error("the issuers {0} and {1} both take tokens whose iss is {2}")]
    SameIss(Arc<str>, Arc<str>, Arc<str>),
    /// Two would take the same opaque tokens.
    #[error("the issuers {0} and {1} take opaque tokens of the same beginning")]
    SamePrefix(Arc<str>, Arc<str>),
    /// It takes no token at all.
    #[error("the issuer {0} names no iss that its tokens have")]
    NoIss(Arc<str>),
}

/// Which issuer a token has, by place.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    by_iss: HashMap<Arc<str>, u16>,
    /// Longest first.
    by_prefix: Vec<(Box<[u8]>, u16)>,
    opaque: Option<u16>,
}

impl Directory {
    pub(crate) fn of(specs: &[IssuerSpec]) -> Result<Self, SpecError> {
        if specs.len() > ISSUERS_MAX {
            return Err(SpecError::TooMany);
        }
        let name_of =
            |place: u16| specs.get(usize::from(place)).map_or_else(|| "".into(), |spec| Arc::clone(&spec.name));
        let mut directory = Self::default();
        let mut names = std::collections::HashSet::new();
        for (spec, place) in specs.iter().zip(0_u16..) {
            let name = || Arc::clone(&spec.name);
            if !names.insert(&spec.name) {
                return Err(SpecError::SameName(name()));
            }
            if spec.issuers.is_empty() || spec.issuers.iter().any(|iss| iss.is_empty()) {
                return Err(SpecError::NoIss(name()));
            }
            for iss in &spec.issuers {
                if let Some(other) = directory.by_iss.insert(Arc::clone(iss), place)
                    && other != place
                {
                    return Err(SpecError::SameIss(name_of(other), name(), Arc::clone(iss)));
                }
            }
            let Trust::Authority { rules, .. } = &spec.trust else { continue };
            let Some(prefix) = rules.prefix.as_ref().filter(|prefix| !prefix.is_empty()) else {
                if let Some(other) = directory.opaque.replace(place) {
                    return Err(SpecError::SamePrefix(name_of(other), name()));
                }
                continue;
            };
            let prefix = prefix.as_bytes();
            if let Some((_, other)) = directory.by_prefix.iter().find(|(taken, _)| **taken == *prefix) {
                return Err(SpecError::SamePrefix(name_of(*other), name()));
            }
            directory.by_prefix.push((Box::from(prefix), place));
        }
        directory.by_prefix.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        Ok(directory)
    }

    /// The issuer of JWTs with this `iss`.
    pub(crate) fn by_iss(&self, iss: &str) -> Option<u16> {
        self.by_iss.get(iss).copied()
    }

    /// The issuer whose opaque tokens begin like this one.
    pub(crate) fn by_prefix(&self, token: &[u8]) -> Option<u16> {
        self.by_prefix.iter().find(|(prefix, _)| token.starts_with(prefix)).map(|(_, place)| *place)
    }

    /// The issuer of all other opaque tokens.
    pub(crate) fn opaque(&self) -> Option<u16> {
        self.opaque
    }
}
