//! What each operation of the Genesys Cloud Platform API requires: 3,180 operations of the published document of July
//! 2026, as `data/genesys-operations.txt`, which tells its source and the format.
//!
//! Invariant: no operation is public. Those that the platform serves without a token (33) or with the token of a guest
//! (12) want a verified token here like all others; who wants to open one writes a route of their own for it.
//!
//! The text is read when a site asks for it, and not before.

mod table;

use table::{Operation, Permissions};

use crate::{Requirement, RouteRule, Word, template::Template};

/// The built-in table: the month of the document, and how many operations it has.
pub const DOCUMENT: &str = "2026-07";
/// Number of operations.
pub const OPERATIONS: usize = 3_180;

/// What decides: it depends on the tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// The permissions that the operation names, any or all of them as it says. For Genesys Cloud's own tokens: what a
    /// client-credentials caller may do comes from its roles alone (scopes do not apply to it), and a user's scopes
    /// are not enforced unless the organisation says so.
    Permissions,
    /// Any of the operation's scopes. For tokens of an issuer that grants Genesys Cloud's scopes by name.
    Scopes,
    /// Both.
    Both,
}

impl Basis {
    /// Its name in configurations.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Permissions => "genesys-permissions",
            Self::Scopes => "genesys-scopes",
            Self::Both => "genesys-both",
        }
    }
}

/// The routes of all operations, named like `GET /api/v2/users/{userId}`. An operation that names no permission (for
/// [`Basis::Scopes`]: no scope) takes every verified token.
pub fn routes(basis: Basis) -> Vec<RouteRule> {
    let route = |operation: Operation| {
        let template = Template::known(operation.method, &operation.path);
        RouteRule::known(template, requirement(&operation, basis))
    };
    let mut routes = Vec::with_capacity(OPERATIONS);
    routes.extend(table::operations().map(route));
    routes
}

fn requirement(operation: &Operation, basis: Basis) -> Requirement {
    let scopes: Vec<Vec<Word>> = operation.scopes.iter().map(|scope| vec![Word::known_scope(scope)]).collect();
    let known = |name: &&'static str| Word::known_permission(name);
    let permissions: Vec<Vec<Word>> = match &operation.permissions {
        Permissions::Any(names) => names.iter().map(|name| vec![known(name)]).collect(),
        Permissions::All(names) => vec![names.iter().map(known).collect()],
    };
    let sets = match basis {
        Basis::Permissions => permissions,
        Basis::Scopes => scopes,
        Basis::Both if permissions.is_empty() => scopes,
        Basis::Both if scopes.is_empty() => permissions,
        Basis::Both => scopes
            .iter()
            .flat_map(|scope| permissions.iter().map(|permissions| [scope.as_slice(), permissions].concat()))
            .collect(),
    };
    if sets.is_empty() {
        return Requirement::any_token();
    }
    Requirement::any_of(sets).expect("no operation of the table names more than a requirement may have")
}

#[cfg(test)]
mod tests;
