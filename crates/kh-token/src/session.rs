//! The core of a user's session: what to do about its access token, and what its refresh token may still be used for.
//!
//! A platform may take a refresh token once only, and end the whole session at the second use (RFC 9700 section
//! 4.14.2). So each request with it is journalled before it is sent. A request whose answer is lost (the connection
//! broke, the process was killed) leaves a refresh token of which nobody knows whether it still works.
//!
//! Invariants: nothing is sent before it is journalled; while one instance may be sending, no other begins; a refresh
//! token whose platform has not shown that it works again is sent at most twice, and the second time only because the
//! answer to the first is lost and the policy allows it.

use kh_core::session::{InstanceId, RefreshJournal, RefreshPhase, RefreshUse, SessionEnd};

/// What can be set about a session's renewals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RenewalPolicy {
    /// Whether a refresh token whose answer was lost is sent once more. A platform that detects reuse without any grace
    /// ends the session then, access token and all; without the second try it ends when its access token does.
    pub retry_lost: bool,
}

impl Default for RenewalPolicy {
    fn default() -> Self {
        Self { retry_lost: true }
    }
}

/// How the access token stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Good for longer.
    Fresh,
    /// Good, and inside the threshold before its end.
    Due,
    /// Over, refused by the platform, or never seen by this process.
    Dead,
}

/// Who is about to send the request that the journal tells of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sender {
    /// A task of this process, or another process that is not certain to be gone.
    There,
    /// Nobody any more: its process is gone, or its task ended without a word.
    Gone,
}

/// What is known besides the journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct View {
    /// The access token.
    pub access: Access,
    /// The sender that the journal names; without meaning where it names none.
    pub sender: Sender,
    /// The pause after a failed renewal is not over.
    pub paused: bool,
}

/// What to do for a request of the session's caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum SessionDecision {
    /// Use the access token.
    Serve,
    /// Use it, and renew it beside.
    ServeAndRenew,
    /// Renew, then ask again.
    Renew,
    /// Somebody renews: wait, then ask again.
    Wait,
    /// There is no token, and the platform must not be asked yet.
    Hold,
    /// The session is over.
    End(SessionEnd),
}

/// How a renewal ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Landing {
    /// A token came, with another refresh token.
    Rotated,
    /// A token came, and the refresh token stays as it is.
    Kept,
    /// The platform refused the refresh token (`invalid_grant`).
    Refused,
    /// The platform certainly did not act: it was not reached, or refused for another reason.
    NotDone,
    /// Nobody knows: it was sent, and no answer came.
    Lost,
}

/// Whether the refresh token may be sent now.
fn may_send(journal: &RefreshJournal, policy: RenewalPolicy) -> bool {
    match journal.refresh {
        RefreshUse::Absent => false,
        RefreshUse::Again => true,
        RefreshUse::Once => journal.lost == 0 || (journal.lost == 1 && policy.retry_lost),
    }
}

/// The journal without its sender, if that is gone: what it sent is lost.
fn settled(journal: &RefreshJournal, sender: Sender) -> Option<RefreshJournal> {
    match (journal.phase, sender) {
        (RefreshPhase::Idle, _) => Some(*journal),
        (RefreshPhase::Sent { .. }, Sender::There) => None,
        (RefreshPhase::Sent { .. }, Sender::Gone) => {
            Some(RefreshJournal { phase: RefreshPhase::Idle, lost: journal.lost.saturating_add(1), ..*journal })
        }
    }
}

/// What to do for a request.
pub fn decide(journal: &RefreshJournal, view: View, policy: RenewalPolicy) -> SessionDecision {
    let Some(settled) = settled(journal, view.sender) else {
        return if view.access == Access::Dead { SessionDecision::Wait } else { SessionDecision::Serve };
    };
    let may = may_send(&settled, policy);
    match view.access {
        Access::Due if may && !view.paused => SessionDecision::ServeAndRenew,
        Access::Fresh | Access::Due => SessionDecision::Serve,
        Access::Dead if !may => SessionDecision::End(match settled.refresh {
            RefreshUse::Absent => SessionEnd::NotRenewable,
            RefreshUse::Once | RefreshUse::Again => SessionEnd::RefreshLost,
        }),
        Access::Dead if view.paused => SessionDecision::Hold,
        Access::Dead => SessionDecision::Renew,
    }
}

/// The journal that has to be durable before `by` sends the refresh token. `None`: it must not be sent.
pub fn begin(
    journal: &RefreshJournal,
    sender: Sender,
    by: InstanceId,
    policy: RenewalPolicy,
) -> Option<RefreshJournal> {
    let settled = settled(journal, sender)?;
    may_send(&settled, policy).then_some(RefreshJournal { phase: RefreshPhase::Sent { by }, ..settled })
}

/// The journal after the renewal that `begin` let out, and how the session ended if it did.
pub fn land(journal: &RefreshJournal, landing: Landing) -> Result<RefreshJournal, SessionEnd> {
    let idle = RefreshJournal { phase: RefreshPhase::Idle, ..*journal };
    match landing {
        Landing::Rotated => Ok(RefreshJournal { lost: 0, refresh: RefreshUse::Once, ..idle }),
        Landing::Kept => Ok(RefreshJournal { lost: 0, refresh: RefreshUse::Again, ..idle }),
        Landing::NotDone => Ok(idle),
        Landing::Lost => Ok(RefreshJournal { lost: journal.lost.saturating_add(1), ..idle }),
        Landing::Refused if journal.lost > 0 && journal.refresh == RefreshUse::Once => Err(SessionEnd::RefreshLost),
        Landing::Refused => Err(SessionEnd::RefreshRefused),
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
