//! The composition root: which adapter stands behind which port.
//!
//! Invariant: everything is made in one order (key, secret store, audit log, state, issuer, platforms, broker,
//! listeners), and whatever fails stops the start with the reason.

mod activation;
mod admin_access;
mod base;
mod deliver;
mod egress;
mod endpoints;
mod environments;
mod events;
mod hardening;
mod inbound;
mod listeners;
mod live;
mod local;
mod lock;
mod look;
mod notices;
mod open_files;
mod paths;
mod private_broker;
mod private_folder;
mod profile_proxy;
mod pulses;
mod record;
mod reload;
mod rotation;
mod running;
mod schedule;
mod security;
mod serving;
mod sightings;
mod standing;
mod stores;
mod systemd;
mod tls;
mod validity;
mod watches;

pub(crate) use activation::Sockets;
pub(crate) use base::{Base, audit_key, public_key_of, refuse_missing, refuse_unfinished, store_key, unlock};
pub(crate) use deliver::{Deliveries, Senders};
pub(crate) use egress::{ProxyVariables, broken_ways, egresses};
pub(crate) use endpoints::specs;
pub(crate) use environments::{bind_environments, client_fits, environment_of};
pub(crate) use hardening::{forget_variable, harden, hide_memory};
pub(crate) use inbound::{OneApi, PreparedInbound, SeenIssuer, look_at_issuers};
pub(crate) use listeners::{Addresses, cannot_listen};
pub(crate) use live::{DRAIN, Live, Prepared, broken_authorities};
pub(crate) use local::{local_http, local_http_over};
pub(crate) use lock::InstallationLock;
pub(crate) use look::{Look, Sight};
pub(crate) use notices::Notices;
pub(crate) use open_files::raise_open_files;
pub(crate) use paths::{Paths, remove_ready_file, write_private_file};
pub(crate) use private_broker::{PrivateBroker, Reach};
pub(crate) use private_folder::PrivateFolder;
pub(crate) use profile_proxy::GatewayProxy;
pub(crate) use reload::{Reloader, Seen};
pub(crate) use rotation::{
    Rotation, embedded_target, managements, own_issuer, private_tokens, rules, services, subjects, target_of,
};
pub(crate) use running::Running;
pub(crate) use schedule::{Plan, Schedule};
pub(crate) use security::{broken_security, plain_log};
pub(crate) use serving::{Claim, SEEN_WITHIN, Serving, running as running_on, seen_by_all};
pub(crate) use sightings::host;
pub(crate) use stores::{Targets, broken_stores, outside, targets};
pub(crate) use systemd::{ready as tell_ready, stopping as tell_stopping, watchdog};
pub(crate) use tls::certificate;
pub(crate) use validity::Standing;
pub(crate) use watches::{HEADERS as OTLP_HEADERS, Watches, broken_logs, broken_telemetry};
