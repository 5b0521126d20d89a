//! Retry-After, backoff and retry decisions: pure functions of state and time.
//!
//! Invariant: nothing here waits, reads a clock or keeps state; every answer is bounded by a named constant.

pub mod backoff;
pub mod jitter;
pub mod replay;
pub mod retry_after;

pub use backoff::Backoff;
pub use jitter::Share;
pub use retry_after::RETRY_AFTER_FAIL_FAST;
