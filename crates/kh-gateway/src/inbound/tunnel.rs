//! The right by which a caller's tunnel to the API stands: the token that opened it.
//!
//! Invariants: who is asked about the token is the verifier that is in force then, so that a change of the issuers ends
//! tunnels as well; the token is kept for as long as its tunnel stands, and wiped after it.

use std::sync::Arc;

use http::HeaderMap;
use kh_core::{Hashed, Identity, Now, SecretBytes, UnixMillis, port::BoxFuture};

use super::{Call, Inbound, token::Shown};
use crate::exchange::right::Right;

/// The right of who showed a token.
pub(super) struct ByToken {
    site: Arc<Inbound>,
    token: SecretBytes,
    ends_at: Option<UnixMillis>,
}

impl ByToken {
    /// Of an admitted request, whose headers have its token still. Without one it is the right of an empty token, which
    /// nobody takes.
    pub(super) fn of(call: &Call<'_>, headers: &HeaderMap, identity: &Identity) -> Self {
        let token = Shown::of(headers).token().unwrap_or_default();
        Self {
            site: Arc::clone(call.site),
            token: SecretBytes::new(token.to_vec()),
            ends_at: call.live.api.verifier.taken_until(identity),
        }
    }
}

impl Right for ByToken {
    fn ends_at(&self) -> Option<UnixMillis> {
        self.ends_at
    }

    /// As a request with the token would be: where nobody can say whether it is good, it is not taken.
    fn stands(&self, now: Now) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            let live = self.site.live();
            let (api, token) = (&live.api, Hashed::of(self.token.expose()));
            // what is not known may only have left the memory
            let identity = match api.verifier.known(token, now) {
                Some(identity) => Ok(identity),
                None => api.verifier.verify(token, &api.issuers, now).await,
            };
            // the routes may be others by now, but not the issuers and the audience
            let is_taken = |who: &Identity| api.issuers.iter().any(|iss| iss == who.issuer()) && api.is_meant(who);
            identity.is_ok_and(|who| is_taken(&who))
        })
    }
}
