//! The management adapters against the sandbox, whose journal says what was really sent.

mod cxone_keys;
mod lost;
mod pair;
pub(crate) mod rig;
mod roles;
mod secrets_api;
mod swap;
mod usage;
