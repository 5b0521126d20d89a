//! What follows a promotion: hooks that make consumers take a new secret, and notices to people.
//!
//! Each hook is a [`kh_core::port::DeliveryHook`]: repeating one delivery does no harm, because receivers can tell it
//! by its id, or because what it writes is the same again. Each way to people is a [`Channel`] behind one bounded
//! [`NoticeQueue`].
//!
//! Invariants: nothing here puts a secret into an argument, an environment variable, a URL that is told, a log line or
//! an error; every call, answer, wait and queue is bounded; credentials for the receivers are read from their files
//! when they are used, so that they can be replaced while keyholder runs.

mod command;
#[cfg(fuzzing)]
pub mod fuzzing;
mod github;
mod hook;
mod http;
mod kubernetes;
mod notify;
mod place;
mod redact;
mod secret_file;
mod signature;
mod webhook;

pub use command::{Command, CommandError, GRACE_DEFAULT, TIMEOUT_DEFAULT};
pub use github::{Field, GithubSecret, Owner, PlacementError, SecretValue, Visibility};
pub use kubernetes::{Access, AccessError, Rollout, Trust, Workload, WorkloadError, WorkloadKind};
pub use notify::{
    Channel, ChannelCounts, Limits, Mail, MailError, MailTls, NoticeQueue, PagerDuty, PagerDutyRegion, SendError,
    Slack, WebhookChannel,
};
pub use place::{Place, PlaceError};
pub use secret_file::{SecretFile, SecretFileError};
pub use signature::{KeyError, SigningKeys};
pub use webhook::Webhook;
