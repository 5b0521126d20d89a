//! The table of decisions, one line per case.

use uuid::Uuid;

use super::*;

const ME: InstanceId = InstanceId(Uuid::from_u128(1));

/// `sent:once:1` is a journal.
fn journal(text: &str) -> RefreshJournal {
    let mut parts = text.split(':');
    let phase = match parts.next() {
        Some("sent") => RefreshPhase::Sent { by: ME },
        _ => RefreshPhase::Idle,
    };
    let refresh = match parts.next() {
        Some("once") => RefreshUse::Once,
        Some("again") => RefreshUse::Again,
        _ => RefreshUse::Absent,
    };
    RefreshJournal { phase, refresh, lost: parts.next().unwrap().parse().unwrap() }
}

fn decision(text: &str, access: Access, sender: Sender, paused: bool, retry_lost: bool) -> SessionDecision {
    decide(&journal(text), View { access, sender, paused }, RenewalPolicy { retry_lost })
}

#[test]
fn a_good_token_is_served_whatever_its_refresh_token_has_been_through() {
    for text in ["idle:once:0", "sent:once:0", "idle:once:2", "idle:absent:0", "sent:again:9"] {
        for sender in [Sender::There, Sender::Gone] {
            assert_eq!(decision(text, Access::Fresh, sender, true, false), SessionDecision::Serve, "{text}");
        }
    }
}

#[test]
fn decisions() {
    use SessionDecision::{End, Hold, Renew, Serve, ServeAndRenew, Wait};
    use SessionEnd::{NotRenewable, RefreshLost};
    let (there, gone) = (Sender::There, Sender::Gone);
    for (text, sender, paused, retry, due, dead) in [
        ("idle:once:0", there, false, true, ServeAndRenew, Renew),
        ("idle:once:0", there, true, true, Serve, Hold),
        ("sent:once:0", there, false, true, Serve, Wait),
        ("sent:once:0", gone, false, true, ServeAndRenew, Renew),
        ("sent:once:0", gone, false, false, Serve, End(RefreshLost)),
        ("sent:once:1", gone, false, true, Serve, End(RefreshLost)),
        ("idle:once:1", there, false, true, ServeAndRenew, Renew),
        ("idle:once:1", there, true, true, Serve, Hold),
        ("idle:once:1", there, false, false, Serve, End(RefreshLost)),
        ("idle:once:2", there, true, true, Serve, End(RefreshLost)),
        ("idle:again:5", there, false, false, ServeAndRenew, Renew),
        ("sent:again:5", gone, false, false, ServeAndRenew, Renew),
        ("idle:absent:0", there, false, true, Serve, End(NotRenewable)),
    ] {
        assert_eq!(decision(text, Access::Due, sender, paused, retry), due, "due, {text} {sender:?} {paused} {retry}");
        assert_eq!(
            decision(text, Access::Dead, sender, paused, retry),
            dead,
            "dead, {text} {sender:?} {paused} {retry}"
        );
    }
}

#[test]
fn nothing_is_sent_that_decide_would_not_send() {
    for text in
        ["idle:once:0", "idle:once:1", "idle:once:2", "sent:once:0", "sent:once:1", "idle:again:3", "idle:absent:0"]
    {
        for sender in [Sender::There, Sender::Gone] {
            for retry_lost in [true, false] {
                let policy = RenewalPolicy { retry_lost };
                let begun = begin(&journal(text), sender, ME, policy);
                let decided = decision(text, Access::Dead, sender, false, retry_lost);
                assert_eq!(begun.is_some(), decided == SessionDecision::Renew, "{text} {sender:?} {retry_lost}");
                let counted = u32::from(text.starts_with("sent"));
                assert!(
                    begun.is_none_or(|begun| begun.lost == journal(text).lost + counted),
                    "a gone sender's is lost"
                );
            }
        }
    }
}

#[test]
fn landings() {
    for (before, landing, after) in [
        ("sent:once:1", Landing::Rotated, Ok("idle:once:0")),
        ("sent:again:1", Landing::Rotated, Ok("idle:once:0")),
        ("sent:once:1", Landing::Kept, Ok("idle:again:0")),
        ("sent:once:1", Landing::NotDone, Ok("idle:once:1")),
        ("sent:once:0", Landing::Lost, Ok("idle:once:1")),
        ("sent:once:0", Landing::Refused, Err(SessionEnd::RefreshRefused)),
        ("sent:once:1", Landing::Refused, Err(SessionEnd::RefreshLost)),
        ("sent:again:1", Landing::Refused, Err(SessionEnd::RefreshRefused)),
    ] {
        assert_eq!(land(&journal(before), landing), after.map(journal), "{before} {landing:?}");
    }
}
