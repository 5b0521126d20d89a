//! keyholder as an authorization server, as the configuration says it.

use std::time::Duration;

use kh_issuer::{Algorithm, IssuerId, SigningPolicy};
use serde::{Serialize, Serializer};

use super::optional_duration;

/// `[token_endpoint]`
#[derive(Clone, Debug, Default, Serialize)]
pub struct TokenEndpointConfig {
    /// What stands as `iss` in JWTs; none: all tokens are opaque.
    #[serde(serialize_with = "optional_issuer")]
    pub issuer: Option<IssuerId>,
    /// The algorithm of the next signing key; none is ES256.
    pub signing_algorithm: Option<Algorithm>,
    /// For how long one key signs; none is 30 days.
    #[serde(serialize_with = "optional_duration")]
    pub key_interval: Option<Duration>,
    /// Whether a proof must repeat a nonce.
    pub dpop_nonce: bool,
}

impl TokenEndpointConfig {
    /// How keys are made and replaced.
    pub fn policy(&self) -> SigningPolicy {
        SigningPolicy {
            algorithm: self.signing_algorithm.unwrap_or_default(),
            interval: self.key_interval.unwrap_or(SigningPolicy::INTERVAL),
        }
    }
}

#[allow(clippy::ref_option, reason = "serde passes the field like this")]
fn optional_issuer<S: Serializer>(issuer: &Option<IssuerId>, to: S) -> Result<S::Ok, S::Error> {
    match issuer {
        Some(issuer) => to.collect_str(issuer),
        None => to.serialize_none(),
    }
}
