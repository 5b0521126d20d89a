//! A notice in words.
//!
//! Invariant: every line is printable and bounded; a control character that a name might carry forges no line.

use kh_core::port::{Notice, Urgency};

use crate::hook::rfc3339;

/// Longest sentence that is told, in characters.
const SENTENCE_MAX: usize = 1000;

pub(super) fn urgency(urgency: Urgency) -> &'static str {
    match urgency {
        Urgency::Info => "info",
        Urgency::Warning => "warning",
        Urgency::Critical => "critical",
    }
}

/// Controls become blanks; everything else stays, as people write in all languages.
pub(super) fn sentence(text: &str, max: usize) -> String {
    text.chars().take(max).map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// One line.
pub(super) fn summary(notice: &Notice) -> String {
    sentence(&notice.summary, SENTENCE_MAX)
}

/// The facts beside the summary, in order.
pub(super) fn facts(notice: &Notice) -> Vec<(&'static str, String)> {
    let mut facts = vec![("Kind", notice.kind.clone()), ("Time", rfc3339(notice.at))];
    facts.extend(notice.credential.as_ref().map(|name| ("Credential", name.to_string())));
    facts.extend(notice.run.map(|run| ("Run", run.to_string())));
    facts.extend(notice.next.as_ref().map(|next| ("Next", next.clone())));
    facts.into_iter().map(|(name, text)| (name, sentence(&text, SENTENCE_MAX))).collect()
}
