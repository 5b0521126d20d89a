//! Endpoints at which platforms tell of their tokens: `[events.NAME]`.

use kh_core::SecretReference;
use serde::{Serialize, Serializer};

/// `[events.NAME]`
#[derive(Clone, Debug, Serialize)]
pub struct EventsConfig {
    /// The `[issuer.NAME]` that the events are about.
    pub issuer: String,
    /// What a token of keyholder's own must have been granted to send here; none takes no token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The document with the keys that senders sign with; none takes no signature.
    #[serde(serialize_with = "optional_reference", skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretReference>,
}

#[allow(clippy::ref_option, reason = "serde hands over a reference")]
fn optional_reference<S: Serializer>(value: &Option<SecretReference>, to: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(reference) => to.collect_str(reference),
        None => to.serialize_none(),
    }
}
