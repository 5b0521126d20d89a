//! What a client may call: canonical paths, allow-lists, and the operations that stay shut because they return or
//! change a platform's secrets. And what a verified token must say for a route of a protected API.
//!
//! Invariant: a verdict is only ever given on a [`CanonicalPath`], a path that every server between here and the
//! platform reads in the same way. A guarded operation is refused whatever the rules say, unless the client was given
//! that right by name. What no rule names is refused. Pure: no I/O, no clock, and no allocation in
//! [`AllowList::decide`] and [`RouteTable::find`].

pub mod allow;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
pub mod genesys;
pub mod guarded;
pub mod path;
pub mod requirement;
pub mod route;
pub mod rule;

mod segment;
mod template;

pub use allow::{AllowList, RULES_MAX, Verdict};
pub use guarded::{Guarded, guarded};
pub use path::{CanonicalPath, PATH_MAX, PathError};
pub use requirement::{ClaimTest, Condition, Decision, Requirement, RequirementError, Value, Word};
pub use route::{Found, Methods, RouteRule, RouteTable, RouteTableError};
pub use rule::Rule;
pub use template::{RULE_MAX, RuleError};
