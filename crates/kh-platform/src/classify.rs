//! What a token endpoint's refusal means, decided from status, headers and body alone.
//!
//! The question that matters: is the *secret* wrong (asking again may lock the account), is it *too often* (asking
//! again makes it worse), or is it anything else (asking again later may help)? Invariant: only the platform's own
//! word about this id and secret makes [`FetchError::Rejected`]; a refusal of the caller's address never does.

use kh_core::port::FetchError;
use serde_json::Value;

use crate::http::{AnswerHead, printable};

/// How one platform words its refusals.
#[derive(Debug)]
pub struct Dialect {
    /// Lower-case phrases that mean "too often" in a 4xx answer.
    pub rate_limit_phrases: &'static [&'static str],
    /// Codes that refuse the id and secret.
    pub rejecting_codes: &'static [&'static str],
    /// Codes that refuse the address the request came from.
    pub address_codes: &'static [&'static str],
}

/// Refusals that every RFC 6749 issuer shares (section 5.2). `unsupported_grant_type` and `invalid_scope` are here
/// because the same login will be refused until a person changes it.
const REJECTING: &[&str] =
    &["invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type", "invalid_scope"];

/// Genesys Cloud: the token endpoint's rate limit is `400 invalid_request` with the words below (official Terraform
/// provider, `CONCURRENT_PAGINATION.md`); `bad.credentials` and `ip.not.authorized` are codes of the platform API.
pub const GENESYS: Dialect = Dialect {
    rate_limit_phrases: &["rate limit exceeded", "too many requests"],
    rejecting_codes: &["bad.credentials", "authentication.required", "client.disabled"],
    address_codes: &["ip.not.authorized"],
};

/// CXone: `{error, errorDescription}`, or the message in the header `icStatusDescription`.
pub const CXONE: Dialect = Dialect {
    rate_limit_phrases: &["rate limit exceeded", "too many requests"],
    rejecting_codes: &[],
    address_codes: &[],
};

/// Any other issuer; `slow_down` is RFC 8628 section 3.5.
pub const OAUTH2: Dialect = Dialect {
    rate_limit_phrases: &["rate limit exceeded", "too many requests", "slow_down"],
    rejecting_codes: &[],
    address_codes: &[],
};

/// What a refusal's body says, whatever its spelling.
struct Words {
    /// `error` or `code`.
    code: Option<String>,
    /// All descriptions and codes, lower case, separated by newlines.
    text: String,
    /// Whether the body was a JSON object or CXone's header spoke: the platform itself answered.
    spoken: bool,
}

/// Longest part of a description that is looked at, in characters.
const WORDS_MAX: usize = 2000;

/// Decides what a refusal (any status but 200) means.
pub fn classify_failure(dialect: &Dialect, head: &AnswerHead, body: &[u8]) -> FetchError {
    let words = parse_words(head, body);
    let correlation_id = head.correlation_id.clone();
    let refused = matches!(head.status, 400 | 401 | 403);
    let too_often = refused && dialect.rate_limit_phrases.iter().any(|phrase| words.text.contains(phrase));
    if head.status == 429 || too_often {
        return FetchError::RateLimited { retry_after: head.retry_after, correlation_id };
    }
    let transient = |reason| FetchError::Transient {
        reason,
        retry_after: head.retry_after,
        unreachable: None,
        correlation_id: correlation_id.clone(),
    };
    let code = words.code.as_deref().unwrap_or("");
    if refused && (dialect.address_codes.contains(&code) || refuses_the_address(&words.text)) {
        return transient(format!(
            "the platform refuses the address that keyholder calls from ({}, {}); the credential may be right",
            head.status,
            shown(code)
        ));
    }
    let rejects = REJECTING.contains(&code) || dialect.rejecting_codes.contains(&code);
    // RFC 6749 section 5.2: 401 at a token endpoint is failed client authentication, if the platform itself says so.
    let unnamed = head.status == 401 && words.spoken;
    if refused && (rejects || unnamed) {
        let platform_code = if code.is_empty() { "http_401".to_owned() } else { shown(code).to_owned() };
        return FetchError::Rejected { platform_code, correlation_id };
    }
    transient(match head.status {
        300..=399 => format!("the token endpoint answered with a redirect ({}), which is never followed", head.status),
        404 | 405 => format!("the token endpoint answered {}: is its address right?", head.status),
        status if code.is_empty() => format!("the token endpoint answered {status}"),
        status => format!("the token endpoint answered {status} ({})", shown(code)),
    })
}

/// Whether a body is a JSON object with an `error` text.
pub(crate) fn names_an_error(body: &[u8]) -> bool {
    serde_json::from_slice::<Value>(body)
        .is_ok_and(|value| value.get("error").and_then(Value::as_str).is_some_and(|error| !error.is_empty()))
}

fn parse_words(head: &AnswerHead, body: &[u8]) -> Words {
    let value: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let member = |name| value.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let code = member("error").or_else(|| member("code")).map(str::to_owned);
    let mut text = String::new();
    let described = ["error", "code", "error_description", "description", "errorDescription", "message"];
    for part in described.into_iter().filter_map(member).chain(head.status_text.as_deref()) {
        text.extend(part.chars().take(WORDS_MAX).map(|letter| letter.to_ascii_lowercase()));
        text.push('\n');
    }
    Words { code, text, spoken: value.is_object() || head.status_text.is_some() }
}

/// Whether this answer of a platform's API refuses the address that keyholder calls from: it then says nothing about the
/// token that was sent.
pub(crate) fn is_refused_address(dialect: &Dialect, head: &AnswerHead, body: &[u8]) -> bool {
    if !matches!(head.status, 401 | 403) {
        return false;
    }
    let words = parse_words(head, body);
    let code = words.code.as_deref().unwrap_or("");
    dialect.address_codes.contains(&code) || refuses_the_address(&words.text)
}

/// Whether the words say that an IP address is not allowed, as an allow-list of addresses would. Both an address word
/// and a refusal word are needed: a description may mention an address for other reasons.
pub(crate) fn refuses_the_address(text: &str) -> bool {
    let words = || text.split(|letter: char| !letter.is_ascii_alphanumeric());
    let names_ip = words().any(|word| word == "ip" || word == "cidr");
    let refuses = ["authorized", "allowed", "permitted", "allowlist", "allowlisted", "whitelist", "whitelisted"];
    names_ip && words().any(|word| refuses.contains(&word) || ["restricted", "denied", "blocked"].contains(&word))
}

/// A platform's code as it may be shown: lower-case words only, so that a reflected secret cannot pass.
pub(crate) fn shown(code: &str) -> &str {
    let plain = |byte: u8| byte.is_ascii_lowercase() || b"._-".contains(&byte);
    let is_code = !code.is_empty() && code.len() <= 64 && code.bytes().all(plain);
    if is_code { code } else { "unnamed" }
}

/// A status text as it may be shown in a reason.
pub(crate) fn shown_status(head: &AnswerHead) -> String {
    match &head.status_text {
        Some(text) => format!("{} ({})", head.status, printable(text, 80)),
        None => head.status.to_string(),
    }
}

#[cfg(test)]
mod tests;
