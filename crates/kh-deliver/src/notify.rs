//! Notices to people: ways to send them, and the queue that keeps rotation from waiting for any of them.
//!
//! Invariant: a notice is text of ours about names and times; no way adds anything to it but its own form.

mod mail;
mod pagerduty;
mod queue;
mod slack;
mod text;
mod webhook;

use kh_core::port::{BoxFuture, Notice, Urgency};

pub use mail::{Mail, MailError, MailTls};
pub use pagerduty::{PagerDuty, PagerDutyRegion};
pub use queue::{ChannelCounts, Limits, NoticeQueue};
pub use slack::Slack;
pub use webhook::WebhookChannel;

pub use crate::http::SendError;

/// One way to people.
pub trait Channel: Send + Sync {
    /// Its name in the configuration.
    fn name(&self) -> &str;

    /// From which urgency on it is used.
    fn threshold(&self) -> Urgency;

    /// Whether this notice goes this way. More than the threshold where a way has to hear that something is over.
    fn wants(&self, notice: &Notice) -> bool {
        notice.urgency >= self.threshold()
    }

    /// Sends it once.
    fn send<'a>(&'a self, notice: &'a Notice) -> BoxFuture<'a, Result<(), SendError>>;
}

/// The kind of a notice that a secret gets old.
pub(crate) const AGE: &str = "rotation.age";

/// The kind of a notice that a new secret has taken the old one's place.
pub(crate) const COMPLETED: &str = "rotation.completed";

/// Whether a notice is the last one of its run, however urgent it is: nothing that is told later could close what was
/// opened for the run.
pub(crate) fn is_over(notice: &Notice) -> bool {
    const OVER: [&str; 4] = [COMPLETED, "rotation.rolled_back", "rotation.aborted", "rotation.ended"];
    OVER.contains(&notice.kind.as_str())
}
