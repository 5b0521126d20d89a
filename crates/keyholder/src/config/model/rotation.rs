//! How a credential's secret is rotated, as the configuration says it, and the defaults that `[rotation]` sets.

use std::time::Duration;

use kh_core::{
    SecretReference,
    port::{Strategy, rotation_journal::Grade},
};
use serde::{Serialize, Serializer};

use super::{
    super::calendar::{Blackout, Window},
    optional_duration,
};

/// `[rotation]`: what holds for every credential that does not say otherwise.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RotationConfig {
    /// Whether `serve` rotates by the schedule; none is yes.
    pub scheduler: Option<bool>,
    /// Most runs at a time; none is 4.
    pub parallel: Option<u64>,
    /// How long a lease lives, and twice as long as one call may take; none is 2 min.
    #[serde(serialize_with = "optional_duration")]
    pub call_max: Option<Duration>,
    /// The rest.
    #[serde(flatten)]
    pub usual: RotationTimes,
}

/// What both `[rotation]` and a credential can say.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RotationTimes {
    /// Age at which a secret is replaced.
    #[serde(serialize_with = "optional_duration")]
    pub interval: Option<Duration>,
    /// Spread of the starts.
    #[serde(serialize_with = "optional_duration")]
    pub jitter: Option<Duration>,
    /// When a promotion or the end of an old secret may happen; none is always.
    pub windows: Option<Vec<Window>>,
    /// Days on which neither happens.
    pub blackout: Option<Vec<Blackout>>,
    /// IANA time zone of both.
    pub zone: Option<String>,
    /// Shortest time with both secrets.
    #[serde(serialize_with = "optional_duration")]
    pub overlap_min: Option<Duration>,
    /// After this time with both secrets people are told.
    #[serde(serialize_with = "optional_duration")]
    pub overlap_max: Option<Duration>,
    /// How long nobody may have used the old secret.
    #[serde(serialize_with = "optional_duration")]
    pub quiet: Option<Duration>,
    /// How long a run watches after an old secret was stopped, and again after it was deleted.
    #[serde(serialize_with = "optional_duration")]
    pub watch: Option<Duration>,
    /// Names of `[notify.NAME]`.
    pub notify: Option<Vec<String>>,
    /// How the new secret is proved.
    #[serde(skip_serializing_if = "VerifyConfig::is_usual")]
    pub verify: VerifyConfig,
    /// How many people have to agree.
    #[serde(skip_serializing_if = "ApprovalsConfig::is_usual")]
    pub approvals: ApprovalsConfig,
}

/// How a new secret is proved.
#[derive(Clone, Debug, Default, Serialize)]
pub struct VerifyConfig {
    /// Logins and calls in a row.
    pub successes: Option<u64>,
    /// Within this time.
    #[serde(serialize_with = "optional_duration")]
    pub deadline: Option<Duration>,
}

impl VerifyConfig {
    fn is_usual(&self) -> bool {
        self.successes.is_none() && self.deadline.is_none()
    }
}

/// How many people have to agree; none is 0 for a start, 1 for pruning without evidence, and none
/// beside the one who orders it for a revocation.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct ApprovalsConfig {
    /// To a start.
    pub start: Option<u64>,
    /// To pruning without the evidence of every consumer.
    pub prune: Option<u64>,
    /// To a revocation at once.
    pub revoke: Option<u64>,
}

impl ApprovalsConfig {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
    fn is_usual(&self) -> bool {
        self.start.is_none() && self.prune.is_none() && self.revoke.is_none()
    }
}

/// `[credential.NAME.rotation]`
#[derive(Clone, Debug, Serialize)]
pub struct CredentialRotationConfig {
    /// How; none is the best that the platform has.
    #[serde(serialize_with = "strategy")]
    pub strategy: Option<Strategy>,
    /// When.
    #[serde(flatten)]
    pub times: RotationTimes,
    /// Places that get the new document beside the credential's own.
    #[serde(serialize_with = "references")]
    pub targets: Vec<SecretReference>,
    /// Names of `[hook.NAME]`.
    pub hooks: Vec<String>,
    /// Who uses the secret.
    pub consumers: Vec<ConsumerConfig>,
}

/// One that uses a secret.
#[derive(Clone, Debug, Serialize)]
pub struct ConsumerConfig {
    /// Its name.
    pub name: String,
    /// How well it must be known that it uses the new secret; none is `used`.
    pub grade: Option<Grade>,
    /// Whether it reads the store itself.
    pub direct: bool,
    /// How long it keeps what it read.
    #[serde(serialize_with = "optional_duration")]
    pub cache: Option<Duration>,
}

#[allow(clippy::ref_option, clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn strategy<S: Serializer>(value: &Option<Strategy>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(value.map_or("auto", Strategy::as_str))
}

fn references<S: Serializer>(values: &[SecretReference], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(values.iter().map(ToString::to_string))
}
