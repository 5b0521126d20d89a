//! What a client may call: canonical paths, allow-lists, and the operations that stay shut because they return or
//! change a platform's secrets.
//!
//! Invariant: a verdict is only ever given on a [`CanonicalPath`], a path that every server between here and the
//! platform reads in the same way. A guarded operation is refused whatever the rules say, unless the client was given
//! that right by name. Pure: no I/O, no clock, and no allocation in [`AllowList::decide`].

pub mod allow;
pub mod guarded;
pub mod path;
pub mod rule;

mod segment;

pub use allow::{AllowList, RULES_MAX, Verdict};
pub use guarded::{Guarded, guarded};
pub use path::{CanonicalPath, PATH_MAX, PathError};
pub use rule::{Rule, RuleError};
