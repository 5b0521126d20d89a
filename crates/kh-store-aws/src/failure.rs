//! What a failed call means, by the service's error codes and by what the transport knows.
//!
//! Invariants: a call that may have been carried out is never told as one that was not; an answer that is not the
//! service's JSON (a proxy's page, the XML of a front door) is still understood by its status and its code; of the
//! service's own words only its code is told, and who may not do what: a refused value or signature is told by AWS with
//! what was sent, which holds secrets and session tokens.
//! Source of the codes: Secrets Manager API reference, "Common Errors" and the errors of each operation.

use std::{error::Error as StdError, time::Duration};

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use kh_core::{port::TargetError, rotation::SecretPath};
use kh_net::http::printable;

use crate::{
    outage::Outage,
    transport::{chain, http_error},
};

/// Longest text of the service that is passed on.
const TEXT_MAX: usize = 300;

/// Longest code of the service that is passed on.
const CODE_MAX: usize = 64;

/// Longest wait that the service may ask for; a longer one is cut.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(10);

/// Security Token Service could not reach the provider that signed a web identity; a new try is recommended (API
/// reference, `AssumeRoleWithWebIdentity`). Its status is 400.
const PROVIDER_SILENT: &str = "IDPCommunicationError";

/// How messages begin that name an identity, an action and a resource, and nothing that was sent ("Troubleshoot access
/// denied error messages" in the IAM user guide).
const SAFE_BEGINNINGS: [&str; 2] = ["User: ", "Access to KMS is not allowed"];

/// Whether a call changes something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Intent {
    Read,
    Change,
}

/// Why a call failed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No such secret or version.
    NotFound,
    /// The name or the version exists.
    Exists,
    /// A member does not fit, as with a label that is elsewhere.
    Parameter(String),
    /// Not in the secret's present state, as with one marked for deletion.
    State(String),
    /// The signature was refused: the clock may be wrong. Nothing was done.
    Signature(String),
    /// The key is not known or not valid any more.
    Identity(String),
    /// The right is missing.
    Denied(String),
    /// Too many requests; nothing was done.
    Throttled(Option<Duration>),
    /// Nothing was done.
    Unavailable(String),
    /// It may have been done.
    Unknown(String),
    /// Anything else that was refused.
    Refused(String),
}

impl Failure {
    /// In the port's words.
    pub(crate) fn at(self, path: &SecretPath) -> TargetError {
        match self {
            Self::NotFound => TargetError::NotFound(path.clone()),
            Self::Exists => TargetError::Unusable("the secret or version exists already".to_owned()),
            Self::Parameter(text) | Self::State(text) | Self::Refused(text) => TargetError::Unusable(text),
            Self::Signature(text) | Self::Identity(text) => TargetError::Unauthenticated(text),
            Self::Denied(text) => TargetError::Denied(text),
            Self::Throttled(after) => TargetError::Throttled(after),
            Self::Unavailable(text) => TargetError::Unavailable(text),
            Self::Unknown(text) => TargetError::Unknown(text),
        }
    }
}

/// Reads an error of the SDK.
pub(crate) fn classify<E>(error: &SdkError<E, HttpResponse>, intent: Intent) -> Failure
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    match error {
        SdkError::ConstructionFailure(_) | SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) => {
            undelivered(error, intent)
        }
        SdkError::ServiceError(service) => {
            let raw = service.raw();
            answered(raw, service.err().code(), service.err().message(), intent)
        }
        SdkError::ResponseError(response) => answered(response.raw(), None, None, intent),
        _ => lost(intent, "the call failed in a way that is not known".to_owned()),
    }
}

fn lost(intent: Intent, text: String) -> Failure {
    match intent {
        Intent::Read => Failure::Unavailable(text),
        Intent::Change => Failure::Unknown(text),
    }
}

/// No answer: either nothing was sent, as without credentials, or the answer is lost.
fn undelivered(error: &(dyn StdError + 'static), intent: Intent) -> Failure {
    let credentials = chain(error).find_map(|error| error.downcast_ref::<CredentialsError>());
    if let Some(credentials) = credentials {
        // Credentials are fetched before anything is sent.
        return no_credentials(credentials);
    }
    match http_error(error) {
        Some(http) if http.was_sent() => lost(intent, http.to_string()),
        Some(http) => Failure::Unavailable(http.to_string()),
        None => lost(intent, explained(error)),
    }
}

fn no_credentials(error: &CredentialsError) -> Failure {
    let text = without_credentials(error);
    if passes(error) { Failure::Unavailable(text) } else { Failure::Identity(text) }
}

/// Whether credentials may come at another try: their source was not reached, or was slow, or does not serve now.
pub(crate) fn passes(error: &CredentialsError) -> bool {
    http_error(error).is_some()
        || matches!(error, CredentialsError::ProviderTimedOut(_))
        || chain(error).any(|error| error.downcast_ref::<Outage>().is_some())
}

/// What an answer of a source of credentials tells, if another try may go better: too many requests, or a failure
/// inside.
pub(crate) fn not_now(raw: &HttpResponse) -> Option<String> {
    let status = raw.status().as_u16();
    if status < 400 {
        return None;
    }
    let code = raw.body().bytes().and_then(|body| element(body, "Code")).unwrap_or_default();
    let meant = meaning(status, &code, "", None, Intent::Read);
    let passes = code == PROVIDER_SILENT || matches!(meant, Failure::Throttled(_) | Failure::Unavailable(_));
    passes.then(|| told(status, &code, ""))
}

/// Why there are no credentials, in words.
pub(crate) fn without_credentials(error: &CredentialsError) -> String {
    format!("no AWS credentials: {}", explained(error))
}

/// The whole chain in words. The SDK's texts name files, variables, roles and positions, not values.
fn explained(error: &(dyn StdError + 'static)) -> String {
    let words: Vec<String> = chain(error).map(ToString::to_string).collect();
    printable(&words.join(": "), TEXT_MAX)
}

/// An answer that tells a failure.
fn answered(raw: &HttpResponse, code: Option<&str>, message: Option<&str>, intent: Intent) -> Failure {
    let status = raw.status().as_u16();
    let body = raw.body().bytes().unwrap_or_default();
    let (own_code, own_message) = (element(body, "Code"), element(body, "Message"));
    let code = code.or(own_code.as_deref()).unwrap_or_default();
    let message = message.or(own_message.as_deref()).unwrap_or_default();
    let after = raw.headers().get("retry-after").and_then(wait);
    meaning(status, code, message, after, intent)
}

/// `Retry-After` in seconds, as AWS writes it.
fn wait(text: &str) -> Option<Duration> {
    let seconds = text.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// The text of an XML element, as a front door or moto's IAM check answers on the JSON protocol.
fn element(body: &[u8], name: &str) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (inner, _) = rest.split_once("</")?;
    Some(printable(inner, TEXT_MAX))
}

fn meaning(status: u16, code: &str, message: &str, after: Option<Duration>, intent: Intent) -> Failure {
    let text = told(status, code, message);
    match code {
        "ResourceNotFoundException" => Failure::NotFound,
        "ResourceExistsException" => Failure::Exists,
        "InvalidParameterException" | "InvalidParameterValueException" => Failure::Parameter(text),
        "InvalidRequestException" | "PreconditionNotMetException" => Failure::State(text),
        "InvalidSignatureException" | "SignatureDoesNotMatch" | "RequestExpired" | "RequestTimeTooSkewed" => {
            Failure::Signature(about_signature(code, message))
        }
        "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidAccessKeyId"
        | "AuthFailure"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "InvalidToken" => Failure::Identity(text),
        // The key of the KMS that seals the secret is missing, disabled or not ours to use: somebody has to act.
        "AccessDeniedException"
        | "AccessDenied"
        | "NotAuthorized"
        | "OptInRequired"
        | "EncryptionFailure"
        | "DecryptionFailure" => Failure::Denied(text),
        "ThrottlingException"
        | "Throttling"
        | "ThrottledException"
        | "TooManyRequestsException"
        | "RequestLimitExceeded"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "SlowDown" => Failure::Throttled(after),
        _ => by_status(status, text, after, intent),
    }
}

/// What may be told of a refusal.
fn told(status: u16, code: &str, message: &str) -> String {
    let safe = SAFE_BEGINNINGS.iter().any(|beginning| message.starts_with(beginning));
    match code {
        "" => format!("the service answered with status {status}"),
        code if safe => printable(&format!("{code}: {message}"), TEXT_MAX),
        code => printable(code, CODE_MAX),
    }
}

/// Whether the clock is to blame or the key. SDK and adapter have tried it again by the service's time before this is
/// told, so that a clock that can be corrected is not.
fn about_signature(code: &str, message: &str) -> String {
    let code = printable(code, CODE_MAX);
    let of_time = ["RequestExpired", "RequestTimeTooSkewed"].contains(&code.as_str())
        || message.starts_with("Signature expired")
        || message.starts_with("Signature not yet current");
    if of_time {
        return format!("{code}: the clock of this machine is more than five minutes off; set it right");
    }
    format!("{code}: the secret access key is not the right one, or something on the way changed the request")
}

fn by_status(status: u16, text: String, after: Option<Duration>, intent: Intent) -> Failure {
    match status {
        401 => Failure::Identity(text),
        403 => Failure::Denied(text),
        429 => Failure::Throttled(after),
        400..=499 => Failure::Refused(text),
        // A failure inside, and what is no answer of the service's at all.
        _ => lost(intent, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_statuses() {
        use Intent::{Change, Read};
        for (status, code, intent, expected) in [
            (400, "ResourceNotFoundException", Change, "NotFound"),
            (400, "ResourceExistsException", Change, "Exists"),
            (400, "InvalidParameterException", Change, "Parameter"),
            (400, "InvalidRequestException", Change, "State"),
            (403, "SignatureDoesNotMatch", Change, "Signature"),
            (403, "InvalidClientTokenId", Change, "Identity"),
            (400, "AccessDeniedException", Change, "Denied"),
            (403, "", Read, "Denied"),
            (401, "", Read, "Identity"),
            (400, "ThrottlingException", Change, "Throttled"),
            (429, "", Change, "Throttled"),
            (400, "LimitExceededException", Change, "Refused"),
            (400, "DecryptionFailure", Read, "Denied"),
            (500, "InternalServiceError", Change, "Unknown"),
            (500, "InternalServiceError", Read, "Unavailable"),
            (503, "", Change, "Unknown"),
            (302, "", Change, "Unknown"),
        ] {
            let told = format!("{:?}", meaning(status, code, "", None, intent));
            assert!(told.starts_with(expected), "{status} {code}: {told}");
        }
    }

    #[test]
    fn a_source_of_credentials_that_refuses_and_one_that_does_not_serve_are_told_apart() {
        let answer = |status: u16, body: &'static str| {
            let status = aws_smithy_runtime_api::http::StatusCode::try_from(status).unwrap();
            not_now(&HttpResponse::new(status, aws_smithy_types::body::SdkBody::from(body)))
        };
        for (status, body, expected) in [
            (503, "<html>busy</html>", Some("status 503")),
            (500, "", Some("status 500")),
            (429, "", Some("status 429")),
            (400, "<Error><Code>Throttling</Code></Error>", Some("Throttling")),
            (503, "<Error><Code>RequestLimitExceeded</Code></Error>", Some("RequestLimitExceeded")),
            (400, "<Error><Code>IDPCommunicationError</Code></Error>", Some("IDPCommunicationError")),
            (400, "<Error><Code>ExpiredTokenException</Code></Error>", None),
            (403, "<Error><Code>AccessDenied</Code></Error>", None),
            (401, "", None),
            (404, "", None),
            (302, "", None),
            (200, "<Code>Throttling</Code>", None),
        ] {
            let told = answer(status, body);
            let fits = expected.map_or(told.is_none(), |part| told.as_deref().is_some_and(|told| told.contains(part)));
            assert!(fits, "{status} {body}: {told:?}");
        }
    }

    #[test]
    fn a_wait_that_is_asked_for_is_bounded() {
        for (text, seconds) in [
            ("7", Some(7)),
            (" 7 ", Some(7)),
            ("601", Some(600)),
            ("18446744073709551615", Some(600)),
            ("18446744073709551616", None),
            ("-1", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(wait(text), seconds.map(Duration::from_secs), "{text:?}");
        }
    }

    #[test]
    fn of_the_services_words_only_the_code_and_a_denied_right_are_told() {
        let text = |code: &str, message: &str| format!("{:?}", meaning(400, code, message, None, Intent::Change));
        for code in [
            "ValidationException",
            "InvalidParameterException",
            "InvalidRequestException",
            "AccessDeniedException",
            "SignatureDoesNotMatch",
            "InvalidSignatureException",
            "ExpiredTokenException",
            "",
        ] {
            let told = text(code, "Value 'MARKED' at 'secretString' failed; the canonical string was MARKED");
            assert!(!told.contains("MARKED") && told.contains(code), "{told}");
        }
        let denied = "User: arn:aws:iam::1:user/kh is not authorized to perform: secretsmanager:PutSecretValue";
        assert!(text("AccessDeniedException", denied).contains(denied));
    }

    #[test]
    fn a_clock_and_a_key_are_told_apart() {
        for (code, message, clock) in [
            ("InvalidSignatureException", "Signature expired: 20260101T000000Z is now earlier than ...", true),
            ("InvalidSignatureException", "Signature not yet current: 20260101T000000Z is still later than ...", true),
            ("RequestTimeTooSkewed", "", true),
            ("RequestExpired", "Request has expired.", true),
            ("InvalidSignatureException", "The request signature we calculated does not match", false),
            ("SignatureDoesNotMatch", "", false),
        ] {
            let Failure::Signature(told) = meaning(403, code, message, None, Intent::Read) else {
                panic!("{code} is about the signature")
            };
            assert_eq!(told.contains("clock of this machine"), clock, "{told}");
        }
    }

    #[test]
    fn the_code_in_an_answer_of_xml_is_found() {
        let body =
            b"<Response><Errors><Error><Code>AccessDenied</Code><Message>no\x07</Message></Error></Errors></Response>";
        assert_eq!(element(body, "Code").as_deref(), Some("AccessDenied"));
        assert_eq!(element(body, "Message").as_deref(), Some("no?"));
        for none in [&b""[..], b"<Code>", b"{\"Code\":1}", b"\xff<Code>a</Code>"] {
            assert_eq!(element(none, "Code"), None);
        }
    }
}
