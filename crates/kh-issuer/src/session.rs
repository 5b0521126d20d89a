//! One valid token of one client, as a request sees it.

use std::sync::Arc;

use kh_core::{Confirmation, Sha256, UnixMillis};

use crate::Client;

/// A valid token and the client it speaks for, as both were when the request came in. Small and cheap to clone; not
/// to be kept beyond the request, or a later disable is missed.
#[derive(Clone, Debug)]
pub struct Session {
    /// The client, with its allow-list.
    pub client: Arc<Client>,
    /// Narrower scopes, if the login asked for them.
    pub(crate) scopes: Option<Arc<[String]>>,
    /// When the token was issued.
    pub issued_at: UnixMillis,
    /// When the token stops being valid.
    pub expires_at: UnixMillis,
    /// What its sender must prove to hold. Few tokens have it, so that it takes a pointer's room.
    pub(crate) confirmation: Option<Arc<Confirmation>>,
    /// SHA-256 of the token: its name in logs, and the key for `Issuer::revoke_digest`.
    pub digest: Sha256,
}

impl Session {
    /// The scopes of the token: those that the login asked for, else all of the client's.
    pub fn scopes(&self) -> &[String] {
        self.scopes.as_deref().unwrap_or(&self.client.record.scopes)
    }

    /// What the sender of the token must prove to hold; who does not is not whom it was issued to.
    pub fn confirmation(&self) -> Option<&Confirmation> {
        self.confirmation.as_deref()
    }
}
