//! The composition root: which adapter stands behind which port.
//!
//! Invariant: everything is made in one order (key, secret store, audit log, state, issuer, platforms, broker,
//! listeners), and whatever fails stops the start with the reason.

mod base;
mod egress;
mod endpoints;
mod environments;
mod hardening;
mod local;
mod open_files;
mod paths;
mod running;
mod tls;

pub(crate) use base::{Base, audit_key};
pub(crate) use egress::egresses;
pub(crate) use environments::{bind_environments, client_fits, environment_of};
pub(crate) use hardening::{forget_variable, harden};
pub(crate) use local::local_http;
pub(crate) use open_files::raise_open_files;
pub(crate) use paths::{Paths, write_private_file};
pub(crate) use running::{Addresses, Running};
pub(crate) use tls::server_tls;
