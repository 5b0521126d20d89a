//! What goes into the token core and what comes out: every input and every decision as an enum.
//!
//! Invariant: no secret is among them; a token and a document are named by their digests.

use std::time::Duration;

use kh_core::Sha256;
use kh_resilience::Share;

/// What a caller asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Want {
    /// The token must live at least this much longer.
    pub min_ttl: Duration,
}

/// Names one fetch; what is told about any other than the current one is ignored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FetchOrder {
    /// Number of the attempt, from 1.
    pub attempt: u64,
}

/// What to do for a caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Decision {
    /// Hand out the held token.
    Serve,
    /// Hand out the held token and carry out the order in the background.
    ServeAndFetch(FetchOrder),
    /// Carry out the order, then ask again.
    Fetch(FetchOrder),
    /// A fetch is in flight: wait until it ended, then ask again.
    Wait,
    /// Nobody may fetch yet: wait this long, then ask again.
    Hold(Duration),
    /// Answer with an error now.
    Refuse(Refusal),
}

/// Why a caller gets no token now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// A fresh token does not live as long as was asked for.
    TtlUnsatisfiable {
        /// The largest `min_ttl` that can be had.
        longest: Duration,
    },
    /// The platform refused this id and secret; it is not asked again before the secret changes or `retry_in` passes.
    Rejected {
        /// Until the unchanged document is tried once more.
        retry_in: Duration,
    },
    /// The platform limits token requests for longer than is worth waiting.
    RateLimited {
        /// Until the next token request.
        retry_in: Duration,
    },
    /// The last fetch failed and the pause after it is longer than is worth waiting.
    Unavailable {
        /// What failed.
        cause: Cause,
        /// Until the next try.
        retry_in: Duration,
    },
}

/// Why there is a pause before the next fetch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// The token endpoint limits requests.
    RateLimited,
    /// The token endpoint failed.
    Transient,
    /// The secret store failed.
    Store,
    /// A fetch ended without an answer.
    Aborted,
    /// The platform invalidates one fresh token after the other.
    Storm,
}

/// What may be sent to the token endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FetchKind {
    /// The document alone.
    Login,
    /// The held refresh token.
    Refresh,
}

/// The answer to "may this document be sent?"
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Permit {
    /// Yes.
    Send(FetchKind),
    /// No: the platform refused this very document before. The fetch is over.
    Rejected,
    /// No: this attempt is not the current one.
    Stale,
}

/// A token that a fetch brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fetched {
    /// Digest of the access token.
    pub sha256: Sha256,
    /// `expires_in`.
    pub life: Duration,
    /// Whether a refresh token came with it or an earlier one stays valid.
    pub refresh_held: bool,
    /// Random share for the early refresh, drawn once for this token.
    pub share: Share,
}

/// What became of a fetched token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Outcome {
    /// It is the current token now.
    Accepted {
        /// Its number, from 1.
        generation: u64,
    },
    /// It came from an attempt that is not the current one.
    Stale,
    /// It was reported as bad while it was on its way (the issuer handed the same token out again).
    KnownBad,
    /// Its life was over before it arrived.
    DeadOnArrival,
}

/// Why a fetch brought no token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// The platform refused the id and secret.
    Rejected,
    /// The document does not fit the platform; nothing was sent.
    Unusable,
    /// The platform refused the refresh token; the document may still be good.
    RefreshRefused,
    /// The endpoint answered the refresh token with neither a token nor a refusal that can be read; the document may
    /// still be good.
    RefreshFailed {
        /// What `Retry-After` said.
        retry_after: Option<Duration>,
    },
    /// Too many token requests.
    RateLimited {
        /// What `Retry-After` said.
        retry_after: Option<Duration>,
    },
    /// The endpoint failed.
    Transient {
        /// What `Retry-After` said.
        retry_after: Option<Duration>,
    },
    /// The document could not be read from its store.
    Store,
    /// The fetch ended without an answer: it panicked or was cancelled.
    Aborted,
}

/// What an invalidation did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Invalidation {
    /// The held token was this one and is gone.
    Removed,
    /// The held token is another one, or none is held: nothing changed.
    NotCurrent,
}
