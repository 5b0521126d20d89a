//! The right by which a client's tunnel to a platform stands: its session, which its token speaks for.
//!
//! Invariant: the token itself is not needed, and not kept: a session is known by its token's digest.

use std::sync::Arc;

use kh_core::{Now, Sha256, UnixMillis, port::BoxFuture};
use kh_issuer::{Issuer, Session};

use crate::exchange::right::Right;

/// The right of who has a session.
pub(super) struct BySession {
    issuer: Arc<Issuer>,
    digest: Sha256,
    ends_at: UnixMillis,
}

impl BySession {
    pub(super) fn of(issuer: &Arc<Issuer>, session: &Session) -> Self {
        Self { issuer: Arc::clone(issuer), digest: session.digest, ends_at: session.expires_at }
    }
}

impl Right for BySession {
    fn ends_at(&self) -> Option<UnixMillis> {
        Some(self.ends_at)
    }

    fn stands(&self, now: Now) -> BoxFuture<'_, bool> {
        Box::pin(std::future::ready(self.issuer.is_live(self.digest, now)))
    }
}
