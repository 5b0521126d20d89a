//! The allow-list of one client and its verdicts.
//!
//! Invariant: no rule opens a guarded operation; only `allow_secret_operations` does, and then the call must still be
//! listed.

use kh_core::{PlatformKind, port::AllowRule};

use crate::{guarded::guarded, path::CanonicalPath, rule::Rule, template::RuleError};

/// Most rules one client may have. Rules are tried in turn on every call: at some 20 ns each, this many cost 10 us.
pub const RULES_MAX: usize = 512;

/// The answer to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The call may go out.
    Allowed,
    /// No rule names it.
    NotListed,
    /// It returns or changes a platform's secrets, and the client has no right to that.
    Guarded,
}

/// Everything one client may call.
#[derive(Clone, Debug, Default)]
pub struct AllowList {
    rules: Box<[Rule]>,
    all: bool,
    secret_operations: bool,
}

impl AllowList {
    /// Parses the rules of a client. With `allow_all` every call is listed; with `allow_secret_operations` guarded
    /// operations are treated like any other. The first mistake is told with its rule's index.
    pub fn parse(rules: &[AllowRule], allow_all: bool, allow_secret_operations: bool) -> Result<Self, RuleError> {
        if rules.len() > RULES_MAX {
            return Err(RuleError {
                index: RULES_MAX,
                column: 1,
                problem: "there are too many rules",
                hint: "use `*` and `**` to say the same with fewer",
            });
        }
        let parsed: Result<Box<[Rule]>, RuleError> = rules
            .iter()
            .enumerate()
            .map(|(index, AllowRule(text))| Rule::parse(text).map_err(|error| RuleError { index, ..error }))
            .collect();
        Ok(Self { rules: parsed?, all: allow_all, secret_operations: allow_secret_operations })
    }

    /// Whether the client may make this call on a platform of `kind`.
    pub fn decide(&self, kind: PlatformKind, method: &str, path: &CanonicalPath<'_>) -> Verdict {
        if !self.secret_operations && guarded(kind, method, path).is_some() {
            return Verdict::Guarded;
        }
        if self.all || self.rules.iter().any(|rule| rule.matches(method, path)) {
            return Verdict::Allowed;
        }
        Verdict::NotListed
    }

    /// Whether no call at all is allowed, which is worth telling the person who made the client.
    pub fn is_empty(&self) -> bool {
        !self.all && self.rules.is_empty()
    }
}

#[cfg(test)]
mod tests;
