//! A made-up secret of the sandbox. Invariant: it cannot be printed by accident; only `expose` gives the text.
//!
//! The sandbox's secrets protect nothing, but users put real ones into a configuration by mistake, and the logs of a
//! test run are public more often than not.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Text that `Debug` does not show.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SandboxSecret(String);

impl SandboxSecret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SandboxSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SandboxSecret(..)")
    }
}

impl From<&str> for SandboxSecret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}
