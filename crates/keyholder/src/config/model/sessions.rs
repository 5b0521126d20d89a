//! The sessions of users, as the configuration says them.

use std::time::Duration;

use kh_broker::SessionPolicy;
use serde::Serialize;

use super::optional_duration;

/// `[credential.NAME.sessions]`: users log in with the credential.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SessionsConfig {
    /// How long a session lives at most; none is 30 days.
    #[serde(serialize_with = "optional_duration")]
    pub life: Option<Duration>,
    /// How long it may go unused; none is 7 days.
    #[serde(serialize_with = "optional_duration")]
    pub idle_life: Option<Duration>,
    /// How many a client may have; none is 10,000.
    pub per_client: Option<u64>,
    /// Whether a refresh token whose answer was lost is sent once more; none is yes.
    pub retry_lost_answer: Option<bool>,
}

impl SessionsConfig {
    /// With the usual values where nothing is said.
    pub fn policy(&self) -> SessionPolicy {
        let usual = SessionPolicy::default();
        let life = self.life.unwrap_or(usual.life);
        SessionPolicy {
            life,
            idle_life: self.idle_life.unwrap_or(usual.idle_life).min(life),
            per_client: self.per_client.and_then(|count| u32::try_from(count).ok()).unwrap_or(usual.per_client),
            retry_lost: self.retry_lost_answer.unwrap_or(usual.retry_lost),
        }
    }
}
