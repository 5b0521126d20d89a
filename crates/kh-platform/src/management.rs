//! Management of a platform's own credentials: the adapters of [`kh_core::port::SecretManagement`].
//!
//! | adapter | strategy | what it calls |
//! |---|---|---|
//! | [`GenesysManagement`] | pair, swap | `/api/v2/oauth/clients` |
//! | [`CxoneManagement`] | overlap | `/access-key-management/v1/access-keys` |
//! | [`SecretsApiManagement`] | overlap | `/api/v2/oauth/clients/{id}/secrets`, which Genesys Cloud does not have |
//!
//! Invariants: a call of the port sends at most one changing request, never twice; what may have been applied is
//! [`kh_core::port::ManageError::Unknown`]; what an answer means is decided by pure functions ([`refusal`],
//! [`client_document`], [`superset`]) that never see a socket.

mod calls;
pub mod client_document;
mod cxone;
mod genesys;
mod pace;
pub mod refusal;
mod secrets_api;
mod shared;
pub mod superset;

pub use cxone::CxoneManagement;
pub use genesys::{GenesysManagement, GenesysRotation};
pub use secrets_api::SecretsApiManagement;
pub use shared::Shared;
