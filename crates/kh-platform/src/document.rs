//! Reading a discovery document: from an answer, or its absence, to the parsed thing or the port's error.

use std::fmt::Display;

use kh_core::port::FetchError;

use crate::{
    classify::shown_status,
    http::{Answer, HttpError, Media, fetch_error},
};

/// Reads a document with `parse`; `what` names it in errors. Discovery is never a refusal of the credential.
pub(crate) fn read_document<T, E: Display>(
    what: &str,
    answer: Result<Answer, HttpError>,
    parse: impl FnOnce(&[u8]) -> Result<T, E>,
) -> Result<T, FetchError> {
    let answer = answer.map_err(|error| fetch_error(&error, what))?;
    let failed = |reason| FetchError::Transient {
        reason,
        retry_after: answer.head.retry_after,
        unreachable: None,
        correlation_id: answer.head.correlation_id.clone(),
    };
    if answer.head.status != 200 {
        return Err(failed(format!("{what}: answered {}", shown_status(&answer.head))));
    }
    if answer.head.media == Media::Other {
        return Err(failed(format!("{what}: is not JSON")));
    }
    parse(&answer.body).map_err(|error| failed(format!("{what}: {error}")))
}
