//! What a token endpoint's success means (RFC 6749 section 5.1), decided from bytes alone.
//!
//! Invariant: a [`TokenAnswer`] holds a non-empty bearer token that can stand in a header, and a life of at least one
//! second. An empty or malformed 200 is no token and no refusal of the credential: it is worth another try.

use std::time::Duration;

use kh_core::{
    SecretString,
    port::{FetchError, GrantError, IssuedToken},
};
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use crate::{
    classify::{Dialect, classify_failure},
    http::{Answer, AnswerHead, HttpError, Media, fetch_error, printable},
};

/// Longest accepted token, in bytes: CXone's JWTs have about 1.5 KiB, and most servers refuse headers above 16 KiB.
pub const TOKEN_MAX: usize = 16 * 1024;

/// Longest told list of scopes, in characters: an issuer's answer may name a hundred.
const SCOPE_MAX: usize = 4000;

/// Longest believed life: 450 days, the largest that Genesys Cloud grants (SCIM clients). Longer ones are cut to it.
pub const LIFETIME_MAX: Duration = Duration::from_hours(10800);

/// A checked success.
#[derive(Debug)]
pub struct TokenAnswer {
    /// The access token.
    pub access_token: SecretString,
    /// Its life from now on.
    pub expires_in: Duration,
    /// A refresh token, where one came.
    pub refresh_token: Option<SecretString>,
    /// The scopes that the answer names, printable and bounded.
    pub scope: Option<String>,
    /// An OIDC id_token, where one came. Not verified: never authenticate anybody by it.
    pub id_token: Option<SecretString>,
}

kh_core::assert_closed!(TokenAnswer);

impl From<TokenAnswer> for IssuedToken {
    fn from(answer: TokenAnswer) -> Self {
        Self {
            access_token: answer.access_token,
            expires_in: answer.expires_in,
            refresh_token: answer.refresh_token,
            scope: answer.scope,
            api_base: None,
            auth_base: None,
        }
    }
}

/// Why a 200 is not a token answer. Tells no content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// No body at all.
    #[error("the answer is empty")]
    Empty,
    /// Not one JSON object of the expected shape.
    #[error("the answer is not a JSON object of the expected shape (line {line}, column {column})")]
    NotJson {
        /// 1-based line.
        line: usize,
        /// 1-based column.
        column: usize,
    },
    /// No access token in it.
    #[error("the answer holds no access token")]
    NoToken,
    /// A token with characters that cannot stand in a header, or too long.
    #[error("the answer's {0} is longer than {TOKEN_MAX} bytes or has characters that a header cannot carry")]
    BadToken(&'static str),
    /// Not `bearer`.
    #[error("the answer's token_type is not bearer")]
    NotBearer,
    /// No life, although the platform always tells one.
    #[error("the answer has no valid expires_in")]
    NoLifetime,
    /// A life of zero: the token is dead already.
    #[error("the answer's token has no life left")]
    NoLife,
}

/// A number of seconds, as JSON number or, as some issuers write it, as text.
#[derive(Clone, Copy)]
pub(crate) struct Seconds(u64);

impl Seconds {
    pub(crate) fn get(self) -> u64 {
        self.0
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Wire {
            Whole(u64),
            Real(f64),
            Text(String),
        }
        let whole = match Wire::deserialize(from)? {
            Wire::Whole(seconds) => Some(seconds),
            Wire::Real(seconds) if seconds.is_finite() && seconds >= 0.0 => {
                // Saturates above u64::MAX, which the bound on lifetimes cuts anyway.
                #[allow(clippy::cast_sign_loss, reason = "checked to be zero or more just above")]
                Some(seconds as u64)
            }
            Wire::Text(text) if text.len() <= 20 => text.parse().ok(),
            Wire::Real(_) | Wire::Text(_) => None,
        };
        whole.map(Self).ok_or_else(|| serde::de::Error::custom("not a number of seconds"))
    }
}

#[derive(Deserialize)]
struct Wire {
    access_token: Option<Zeroizing<String>>,
    token_type: Option<String>,
    expires_in: Option<Seconds>,
    refresh_token: Option<Zeroizing<String>>,
    id_token: Option<Zeroizing<String>>,
    scope: Option<String>,
}

/// Parses the body of a success. `assumed_lifetime` stands in where the issuer may leave `expires_in` out.
pub fn parse_token_answer(body: &[u8], assumed_lifetime: Option<Duration>) -> Result<TokenAnswer, AnswerError> {
    let wire: Wire = parse_object(body)?;
    let access_token = token("access_token", wire.access_token)?.ok_or(AnswerError::NoToken)?;
    if !wire.token_type.is_some_and(|kind| kind.eq_ignore_ascii_case("bearer")) {
        return Err(AnswerError::NotBearer);
    }
    let told = wire.expires_in.map(|seconds| Duration::from_secs(seconds.get()));
    Ok(TokenAnswer {
        access_token,
        expires_in: bounded_lifetime(told.or(assumed_lifetime))?,
        refresh_token: token("refresh_token", wire.refresh_token)?,
        scope: wire.scope.filter(|scope| !scope.is_empty()).map(|scope| printable(&scope, SCOPE_MAX)),
        id_token: token("id_token", wire.id_token)?,
    })
}

/// Deserialises one JSON object. Its size is bounded by the HTTP client; depth is bounded by `serde_json` (128), which
/// skips unknown members without recursion.
pub(crate) fn parse_object<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, AnswerError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(AnswerError::Empty);
    }
    // A struct would also be read from an array; an answer is always an object.
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(AnswerError::NotJson { line: 1, column: 1 });
    }
    serde_json::from_slice(body).map_err(|error| AnswerError::NotJson { line: error.line(), column: error.column() })
}

/// A token that can stand in a header; an absent or empty one is none.
pub(crate) fn token(name: &'static str, text: Option<Zeroizing<String>>) -> Result<Option<SecretString>, AnswerError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let fits = |byte: u8| byte.is_ascii_graphic() && !b"\",\\;".contains(&byte);
    if text.len() > TOKEN_MAX || !text.bytes().all(fits) {
        return Err(AnswerError::BadToken(name));
    }
    Ok(Some(SecretString::copied(&text)))
}

/// A life between one second and [`LIFETIME_MAX`].
pub(crate) fn bounded_lifetime(told: Option<Duration>) -> Result<Duration, AnswerError> {
    let life = told.ok_or(AnswerError::NoLifetime)?;
    if life < Duration::from_secs(1) {
        return Err(AnswerError::NoLife);
    }
    Ok(life.min(LIFETIME_MAX))
}

/// Turns a complete answer into a token or an error. `parse` reads the success body.
pub fn conclude<T>(
    dialect: &Dialect,
    answer: &Answer,
    parse: impl FnOnce(&[u8]) -> Result<T, AnswerError>,
) -> Result<T, FetchError> {
    let head = &answer.head;
    if head.status != 200 {
        return Err(classify_failure(dialect, head, &answer.body));
    }
    if head.media == Media::Other {
        return Err(transient(head, "the token endpoint answered 200 with something that is not JSON".to_owned()));
    }
    match parse(&answer.body) {
        Ok(token) => Ok(token),
        // Some issuers answer errors with 200; then the error's own words count.
        Err(AnswerError::NoToken) if crate::classify::names_an_error(&answer.body) => {
            Err(classify_failure(dialect, &AnswerHead { status: 400, ..head.clone() }, &answer.body))
        }
        Err(error) => Err(transient(head, format!("the token endpoint answered 200, but {error}"))),
    }
}

/// The same for a grant that may work once: says whether the platform may have carried it out although no token came.
pub(crate) fn conclude_grant<T>(
    dialect: &Dialect,
    answer: Result<Answer, HttpError>,
    parse: impl FnOnce(&[u8]) -> Result<T, AnswerError>,
) -> Result<T, GrantError> {
    let answer = answer.map_err(|error| GrantError {
        cause: fetch_error(&error, "the token request"),
        may_be_done: error.was_sent(),
    })?;
    conclude(dialect, &answer, parse).map_err(|cause| {
        let may_be_done = matches!(cause, FetchError::Transient { .. }) && may_be_done(answer.head.status);
        GrantError { cause, may_be_done }
    })
}

/// Whether a complete answer without a token leaves open what became of the request. A server that refuses (4xx), sends
/// elsewhere (3xx) or says that it cannot serve now (503, RFC 9110 section 15.6.4) did not carry it out; after any other
/// 5xx, and after a success that cannot be read, nobody knows.
fn may_be_done(status: u16) -> bool {
    !matches!(status, 300..=499 | 503)
}

fn transient(head: &AnswerHead, reason: String) -> FetchError {
    FetchError::Transient {
        reason,
        retry_after: head.retry_after,
        unreachable: None,
        correlation_id: head.correlation_id.clone(),
    }
}

#[cfg(test)]
mod tests;
