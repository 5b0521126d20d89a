//! Who says whom a token speaks for.

use std::{sync::Arc, time::Duration};

use kh_core::{Hashed, Identity, Now, UnixMillis, port::BoxFuture};

/// Verifies tokens, for all workers.
pub trait TokenVerifier: Send + Sync {
    /// Whom a token speaks for that was verified before, is not expired by either clock, and was not revoked. Reads
    /// memory alone.
    fn known(&self, token: Hashed<'_>, now: Now) -> Option<Arc<Identity>>;

    /// Whom a token speaks for. Asks nobody about it but an issuer that has one of the values of `iss` in `taken`. The
    /// identity may be another issuer's still, where nobody had to be asked.
    fn verify<'a>(
        &'a self,
        token: Hashed<'a>,
        taken: &'a [Arc<str>],
        now: Now,
    ) -> BoxFuture<'a, Result<Arc<Identity>, Denied>>;

    /// Until when a token of this identity is taken at most: its end, and what its issuer's clock may differ by. `None`: it
    /// has no end.
    fn taken_until(&self, identity: &Identity) -> Option<UnixMillis>;
}

/// A token is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// Why: a published code, for the log and the metrics.
    pub reason: &'static str,
    /// When nobody can say now whether the token is valid: when to try again.
    pub retry_after: Option<Duration>,
    /// The configured name of the issuer, where it is known.
    pub issuer: Option<Arc<str>>,
    /// The client that a token belongs to whose signature was good.
    pub client: Option<Box<str>>,
}
