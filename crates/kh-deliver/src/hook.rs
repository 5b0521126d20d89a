//! What hooks share: how times and ids are written, and how a file's error becomes a hook's.
//!
//! Invariant: a missing or broken file of ours is no reason to try again at once, but an operator may put it there: it
//! is refused, and the next attempt reads it anew.

use jiff::Timestamp;
use kh_core::UnixMillis;

use crate::{SecretFileError, SendError};

/// RFC 3339 with milliseconds.
pub(crate) fn rfc3339(at: UnixMillis) -> String {
    let millis = i64::try_from(at.0).unwrap_or(i64::MAX);
    // a time beyond the year 9999 is one that was never measured
    Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX).to_string()
}

impl From<SecretFileError> for SendError {
    fn from(error: SecretFileError) -> Self {
        Self::Refused(error.to_string())
    }
}
