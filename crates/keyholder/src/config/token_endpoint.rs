//! Reads `[token_endpoint]`: keyholder as an authorization server.

use std::time::Duration;

use kh_issuer::{Algorithm, IssuerId};

use super::{keys::words, model::TokenEndpointConfig, reader::Section};

/// A key that signs for less than this makes verifiers fetch the key set all the time.
const INTERVAL_RISKY: Duration = Duration::from_hours(24);

/// `[token_endpoint]`
pub(super) fn read(root: &Section<'_>) -> TokenEndpointConfig {
    let Some(section) = root.section("token_endpoint") else { return TokenEndpointConfig::default() };
    let issuer = section.word("issuer", &words::ISSUER).and_then(|text| match text.parse::<IssuerId>() {
        Ok(issuer) => Some(issuer),
        Err(error) => {
            let place = section.place("issuer").unwrap_or_else(|| section.span.clone());
            section.error(place, error.to_string(), words::ISSUER.hint);
            None
        }
    });
    let algorithms = Algorithm::ALL.map(|algorithm| (algorithm.as_str(), algorithm));
    let signing_algorithm = section.choice("signing_algorithm", &algorithms).map(|found| found.value);
    let interval = section.duration("key_interval");
    if let Some(found) = interval.as_ref().filter(|found| found.value < INTERVAL_RISKY) {
        section.warning(found.span.clone(), "signing keys are replaced more than once a day", "key_interval = \"30d\"");
    }
    let key_interval = interval.map(|found| found.value);
    let dpop_nonce = section.flag("dpop_nonce").unwrap_or(false);
    let config = TokenEndpointConfig { issuer, signing_algorithm, key_interval, dpop_nonce };
    section.finish();
    config
}
