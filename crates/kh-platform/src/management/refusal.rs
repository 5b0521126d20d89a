//! What a platform's refusal of a management call means, decided from status, headers and body alone.
//!
//! The question that matters: did the platform certainly not do it, or may it have done it? Invariant: a changing
//! request is [`ManageError::Unknown`] unless the platform's own words or a status below 500 say that nothing happened.

use kh_core::{port::ManageError, rotation::ManagedId};
use serde_json::Value;

use crate::{
    classify::{refuses_the_address, shown},
    http::{AnswerHead, HttpError},
};

/// What a request would do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// It only looks, or leaves behind nothing that matters (the execution of a query).
    Read,
    /// It changes a client, a secret or a key.
    Change,
}

/// Phrases of refusals by rate limit in other statuses than 429: the OAuth side of Genesys Cloud answers 400 "rate
/// limit exceeded".
const LIMIT_PHRASES: [&str; 3] = ["rate limit exceeded", "too many requests", "rate limited"];

/// Codes by which a platform says that it takes no more clients (Genesys Cloud), secrets (a secrets API) or keys.
const FULL_CODES: [&str; 3] = ["auth.too.many.clients", "too.many.secrets", "too_many_access_keys"];

/// The meaning of a request that got no answer.
pub fn unanswered(effect: Effect, error: &HttpError) -> ManageError {
    let reason = error.to_string();
    match effect {
        Effect::Change if error.was_sent() => ManageError::Unknown { reason },
        Effect::Change | Effect::Read => ManageError::NotDone { reason },
    }
}

/// The meaning of an answer whose status is not 2xx. `about` is the one that the path names.
pub fn refused(effect: Effect, about: Option<&ManagedId>, head: &AnswerHead, body: &[u8]) -> ManageError {
    let words = Words::parse(head, body);
    let reason = words.reason(head);
    let limited = LIMIT_PHRASES.iter().any(|phrase| words.text.contains(phrase));
    match head.status {
        429 => ManageError::Throttled { retry_after: head.retry_after },
        400 | 403 if limited => ManageError::Throttled { retry_after: head.retry_after },
        401 | 403 if words.code == "ip.not.authorized" || refuses_the_address(&words.text) => words.denied(
            "the platform refuses the address that keyholder calls from: allow it for the rotator, a new token will not help",
        ),
        // the token is at fault, and the next one will be another
        401 => ManageError::NotDone { reason: format!("the rotator's token was refused: {reason}") },
        403 => words.denied("give the rotator the permission that the platform asks for"),
        404 if words.spoken => match about {
            Some(id) => ManageError::NotFound(id.clone()),
            None => ManageError::NotDone { reason },
        },
        400 | 409 | 422 if FULL_CODES.contains(&words.code.as_str()) => {
            ManageError::LimitReached { platform_code: shown(&words.code).to_owned() }
        }
        400 => match hint_of(&words.code) {
            Some(hint) => words.denied(hint),
            None => ManageError::NotDone { reason },
        },
        // 408: the platform gave up waiting, and does not say whether before or after it had the whole request
        ..200 | 408 | 500.. if effect == Effect::Change => ManageError::Unknown { reason },
        _ => ManageError::NotDone { reason },
    }
}

/// An answer 2xx that does not say what it has to.
pub fn unreadable(effect: Effect, head: &AnswerHead, what: &str) -> ManageError {
    let correlation = head.correlation_id.as_deref().map(|id| format!(" (correlation id {id})")).unwrap_or_default();
    let reason = format!("the platform answered {} without {what}{correlation}", head.status);
    match effect {
        Effect::Read => ManageError::NotDone { reason },
        Effect::Change => ManageError::Unknown { reason },
    }
}

/// What helps against a refusal that no repetition will change.
fn hint_of(code: &str) -> Option<&'static str> {
    match code {
        "bad.client.role" => {
            Some("the rotator must hold every role of the client that it manages: grant it those roles")
        }
        "bad.client.state" => Some("the client is disabled, which only the platform's support does: ask there"),
        "cannot.delete.client" => Some("the client must be inactive before it can be deleted"),
        "last.secret" => Some("the last secret of a client cannot be deleted: make another one first"),
        _ => None,
    }
}

/// The words of a refusal: Genesys Cloud `{code, message}`, CXone `{error, errorDescription}` or its status header.
struct Words {
    code: String,
    text: String,
    spoken: bool,
}

impl Words {
    fn parse(head: &AnswerHead, body: &[u8]) -> Self {
        let value: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        let member = |name| value.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let code = member("code").or_else(|| member("error")).unwrap_or_default().to_owned();
        let mut text = String::new();
        let described = ["code", "error", "message", "description", "error_description", "errorDescription"];
        for part in described.into_iter().filter_map(member).chain(head.status_text.as_deref()) {
            text.extend(part.chars().take(1024).map(|letter| letter.to_ascii_lowercase()));
            text.push('\n');
        }
        let spoken = !code.is_empty() || head.status_text.is_some();
        Self { code, text, spoken }
    }

    /// Status, code and correlation id: what the platform's support asks for, and nothing that could be a secret.
    fn reason(&self, head: &AnswerHead) -> String {
        let code = if self.code.is_empty() { "no code" } else { shown(&self.code) };
        let correlation = head.correlation_id.as_deref().map(|id| format!(", correlation id {id}")).unwrap_or_default();
        format!("the platform answered {} ({code}{correlation})", head.status)
    }

    fn denied(&self, hint: &str) -> ManageError {
        let platform_code = if self.code.is_empty() { "no code" } else { shown(&self.code) };
        ManageError::Denied { platform_code: platform_code.to_owned(), hint: hint.to_owned() }
    }
}

#[cfg(test)]
mod tests;
