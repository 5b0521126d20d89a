//! What a verified token must say before a route takes it: words that were granted, and conditions on claims.
//!
//! Invariant: words and values are compared whole, never by their beginning, and never across types. A claim that is
//! missing meets no condition. The decision is made anew for each request, on what the token says.

use std::borrow::Cow;

use kh_core::{ClaimValue, Identity, scope::is_scope_byte};

/// Longest scope, permission, claim name or claim value of a requirement, in bytes. The longest permission of Genesys
/// Cloud has 76.
pub const TEXT_MAX: usize = 256;
/// Most words of one set, and most conditions: each is looked for in the token on every request.
pub const WORDS_MAX: usize = 64;
/// Most sets of one requirement. Genesys Cloud's longest list has 77 permissions, any of which will do; beside four
/// scopes that makes 308.
pub const SETS_MAX: usize = 512;

/// Why a requirement was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequirementError {
    /// A word is empty or longer than [`TEXT_MAX`].
    #[error("a scope or permission has from 1 to {TEXT_MAX} bytes")]
    WordLength,
    /// RFC 6749 section 3.3: a scope is visible ASCII without `"` and `\`.
    #[error("a scope or permission is visible ASCII without quotation mark and backslash")]
    WordCharacter,
    /// A list that is empty, which might mean everything or nothing.
    #[error("an empty list of scopes or permissions: say `any token` or name what is required")]
    EmptySet,
    /// More than [`WORDS_MAX`] words or conditions, or [`SETS_MAX`] sets.
    #[error("a requirement has at most {SETS_MAX} sets of {WORDS_MAX} words, and {WORDS_MAX} conditions")]
    TooMany,
    /// A claim's name or wanted value is empty, too long or not there.
    #[error("a condition has the name of a claim and at least one value, each of 1 to {TEXT_MAX} bytes")]
    Condition,
    /// Conditions on a route that takes requests without a token.
    #[error("a public route reads no token, so it can have no condition")]
    PublicCondition,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Scope,
    Permission,
}

/// Something that an issuer grants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Word {
    kind: Kind,
    text: Cow<'static, str>,
}

impl Word {
    /// A scope (RFC 6749 section 3.3).
    pub fn scope(text: impl Into<Cow<'static, str>>) -> Result<Self, RequirementError> {
        Self::checked(Kind::Scope, text.into())
    }

    /// A permission of the platform, such as `routing:queue:view` of Genesys Cloud.
    pub fn permission(text: impl Into<Cow<'static, str>>) -> Result<Self, RequirementError> {
        Self::checked(Kind::Permission, text.into())
    }

    /// A permission out of a built-in table, whose texts are held by tests.
    pub(crate) fn known_permission(text: &'static str) -> Self {
        Self { kind: Kind::Permission, text: Cow::Borrowed(text) }
    }

    /// A scope out of a built-in table.
    pub(crate) fn known_scope(text: &'static str) -> Self {
        Self { kind: Kind::Scope, text: Cow::Borrowed(text) }
    }

    fn checked(kind: Kind, text: Cow<'static, str>) -> Result<Self, RequirementError> {
        if text.is_empty() || text.len() > TEXT_MAX {
            return Err(RequirementError::WordLength);
        }
        if !text.bytes().all(is_scope_byte) {
            return Err(RequirementError::WordCharacter);
        }
        Ok(Self { kind, text })
    }

    /// The word itself.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is a scope, which a challenge may name, and not a permission.
    pub fn is_scope(&self) -> bool {
        self.kind == Kind::Scope
    }

    fn is_granted(&self, identity: &Identity) -> bool {
        match self.kind {
            Kind::Scope => identity.scopes().contains(&self.text),
            Kind::Permission => identity.permissions().contains(&self.text),
        }
    }
}

/// A value that a claim should have. Types are not converted: `"1"` is not `1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A JSON string.
    Text(Box<str>),
    /// A JSON number without a fraction.
    Number(i64),
    /// A JSON boolean.
    Bool(bool),
}

impl Value {
    fn equals(&self, claim: &ClaimValue<'_>) -> bool {
        match (self, claim) {
            (Self::Text(wanted), ClaimValue::Text(is)) => **wanted == **is,
            (Self::Number(wanted), ClaimValue::Number(is)) => wanted == is,
            (Self::Bool(wanted), ClaimValue::Bool(is)) => wanted == is,
            _ => false,
        }
    }
}

/// How a claim is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimTest {
    /// It is exactly this value.
    Equals(Value),
    /// It is one of these values.
    OneOf(Box<[Value]>),
    /// It is a list with this value in it, or this value alone: issuers write a list of one either way, as `aud` in
    /// RFC 7519 section 4.1.3.
    Contains(Value),
}

/// A condition on one claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    claim: Box<str>,
    test: ClaimTest,
}

impl Condition {
    /// That the claim named `claim` passes `test`.
    pub fn new(claim: &str, test: ClaimTest) -> Result<Self, RequirementError> {
        let values = match &test {
            ClaimTest::Equals(value) | ClaimTest::Contains(value) => std::slice::from_ref(value),
            ClaimTest::OneOf(values) => values,
        };
        let fits = |text: &str| !text.is_empty() && text.len() <= TEXT_MAX;
        let good = |value: &Value| !matches!(value, Value::Text(text) if !fits(text));
        if !fits(claim) || values.is_empty() || values.len() > WORDS_MAX || !values.iter().all(good) {
            return Err(RequirementError::Condition);
        }
        Ok(Self { claim: claim.into(), test })
    }

    /// The name of the claim.
    pub fn claim(&self) -> &str {
        &self.claim
    }

    fn is_met(&self, identity: &Identity) -> bool {
        let Some(claim) = identity.claim(&self.claim) else { return false };
        match &self.test {
            ClaimTest::Equals(wanted) => wanted.equals(&claim),
            ClaimTest::OneOf(wanted) => wanted.iter().any(|wanted| wanted.equals(&claim)),
            ClaimTest::Contains(wanted) => match (wanted, claim) {
                (Value::Text(wanted), ClaimValue::List(mut items)) => items.any(|item| *item == **wanted),
                (wanted, single) => wanted.equals(&single),
            },
        }
    }
}

/// What a verified token must say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// One of these sets must be granted whole; with no set at all, every verified token will do.
    any_of: Box<[Box<[Word]>]>,
    /// All of these must be met besides.
    conditions: Box<[Condition]>,
}

/// What a route requires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// Nothing: a request without a token is taken, and a token is not looked at. Never a default.
    Public,
    /// A verified token that says this.
    Token(Grant),
}

/// The answer for one identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision<'a> {
    /// The request may go on.
    Allowed,
    /// The token was not granted what is required (RFC 6750 section 3.1 `insufficient_scope`).
    InsufficientScope {
        /// The scopes of the set that lacks the fewest words, for `scope=` of the challenge. `None` when what is
        /// lacking is not a scope: a permission cannot be asked for at an authorization server.
        scope: Option<String>,
    },
    /// A claim is missing or has another value.
    ConditionNotMet {
        /// The name of the claim, for the log.
        claim: &'a str,
    },
}

impl Requirement {
    /// A verified token, whatever it says.
    pub fn any_token() -> Self {
        Self::Token(Grant { any_of: Box::default(), conditions: Box::default() })
    }

    /// A token that was granted every word of one of these sets.
    pub fn any_of(sets: Vec<Vec<Word>>) -> Result<Self, RequirementError> {
        if sets.is_empty() || sets.iter().any(Vec::is_empty) {
            return Err(RequirementError::EmptySet);
        }
        if sets.len() > SETS_MAX || sets.iter().any(|set| set.len() > WORDS_MAX) {
            return Err(RequirementError::TooMany);
        }
        let any_of = sets.into_iter().map(Vec::into_boxed_slice).collect();
        Ok(Self::Token(Grant { any_of, conditions: Box::default() }))
    }

    /// A token that was granted all of these scopes, which are written with one space between them.
    pub fn scopes(text: &str) -> Result<Self, RequirementError> {
        let words: Result<Vec<Word>, RequirementError> =
            text.split(' ').map(|word| Word::scope(word.to_owned())).collect();
        Self::any_of(vec![words?])
    }

    /// The same, and these conditions besides those that it has.
    pub fn with_conditions(self, conditions: Vec<Condition>) -> Result<Self, RequirementError> {
        let Self::Token(Grant { any_of, conditions: before }) = self else {
            return if conditions.is_empty() { Ok(self) } else { Err(RequirementError::PublicCondition) };
        };
        let conditions: Box<[Condition]> = before.into_iter().chain(conditions).collect();
        if conditions.len() > WORDS_MAX {
            return Err(RequirementError::TooMany);
        }
        Ok(Self::Token(Grant { any_of, conditions }))
    }

    /// Whether a request without a token is taken.
    pub fn is_public(&self) -> bool {
        matches!(self, Self::Public)
    }

    /// The claims that [`Requirement::decide`] reads: those who make identities must keep them.
    pub fn claims(&self) -> impl Iterator<Item = &str> {
        let conditions = match self {
            Self::Public => &[][..],
            Self::Token(grant) => &grant.conditions,
        };
        conditions.iter().map(Condition::claim)
    }

    /// The sets of words, one of which must be granted whole; none when no word is required.
    pub fn sets(&self) -> impl Iterator<Item = &[Word]> {
        let sets = match self {
            Self::Public => &[][..],
            Self::Token(grant) => &grant.any_of,
        };
        sets.iter().map(|set| &**set)
    }

    /// Whether this identity may go on. Allocates only to refuse.
    pub fn decide(&self, identity: &Identity) -> Decision<'_> {
        let Self::Token(Grant { any_of, conditions }) = self else { return Decision::Allowed };
        let granted = |set: &[Word]| set.iter().all(|word| word.is_granted(identity));
        if !any_of.is_empty() && !any_of.iter().any(|set| granted(set)) {
            return Decision::InsufficientScope { scope: challenge(any_of, identity) };
        }
        match conditions.iter().find(|condition| !condition.is_met(identity)) {
            Some(condition) => Decision::ConditionNotMet { claim: condition.claim() },
            None => Decision::Allowed,
        }
    }
}

/// The scopes to ask for: those of the first of the sets that lack the fewest words.
fn challenge(any_of: &[Box<[Word]>], identity: &Identity) -> Option<String> {
    let distance = |set: &[Word]| {
        let lacking = set.iter().filter(|word| !word.is_granted(identity));
        // of two that are as near, the one whose words can be asked for
        (lacking.clone().count(), lacking.filter(|word| !word.is_scope()).count())
    };
    let nearest = any_of.iter().min_by_key(|set| distance(set))?;
    nearest.iter().find(|word| word.is_scope() && !word.is_granted(identity))?;
    let scopes: Vec<&str> = nearest.iter().filter(|word| word.is_scope()).map(Word::as_str).collect();
    Some(scopes.join(" "))
}

#[cfg(test)]
mod tests;
