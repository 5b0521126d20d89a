//! Reading a platform's 401: its code decides whether a fresh token can help.

use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use tokio::time::timeout;

use crate::{
    answer,
    exchange::{Outgoing, Received},
};

/// Error bodies of the platforms have a few hundred bytes.
const BODY_MAX: usize = 16 * 1024;
/// Longest platform code that is repeated.
const CODE_MAX: usize = 64;

/// What a 401 said.
#[derive(Debug)]
pub(super) struct RefusedToken {
    /// The platform's error code, if the body is an error body and the code is a plain word.
    pub(super) code: Option<Box<str>>,
    /// The platform's correlation id.
    pub(super) correlation_id: Option<Box<str>>,
}

impl RefusedToken {
    /// Whether the platform refuses keyholder's address, which no fresh token changes.
    pub(super) fn is_address(&self) -> bool {
        self.code.as_deref() == Some("ip.not.authorized")
    }
}

#[derive(Deserialize)]
struct Wire {
    /// Genesys Cloud.
    code: Option<String>,
    /// OAuth and CXone.
    error: Option<String>,
}

/// Reads the answer and gives its connection back.
pub(super) async fn read(received: Received, outgoing: &Outgoing<'_>, within: Duration) -> RefusedToken {
    let Received { response, conn } = received;
    let correlation_id = answer::correlation_id(response.headers()).map(Box::from);
    let body = Limited::new(response.into_body(), BODY_MAX);
    let collected = timeout(within, body.collect()).await;
    let Ok(Ok(collected)) = collected else { return RefusedToken { code: None, correlation_id } };
    if outgoing.body.as_ref().is_none_or(|body| body.has_ended()) {
        conn.finish();
    }
    RefusedToken { code: code(&collected.to_bytes()), correlation_id }
}

fn code(body: &[u8]) -> Option<Box<str>> {
    let wire: Wire = serde_json::from_slice(body).ok()?;
    let code = wire.code.or(wire.error)?;
    // Lower-case words only, as the platforms' codes are: a token that an error repeats cannot pass for one.
    let plain = |byte: u8| byte.is_ascii_lowercase() || b"._-".contains(&byte);
    (!code.is_empty() && code.len() <= CODE_MAX && code.bytes().all(plain)).then(|| code.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes() {
        for (body, expected) in [
            (r#"{"code":"bad.credentials","message":"x"}"#, Some("bad.credentials")),
            (r#"{"error":"invalid_token"}"#, Some("invalid_token")),
            (r#"{"code":"a\nb"}"#, None),
            (r#"{"code":7}"#, None),
            (r#"{"code":"Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4"}"#, None),
            ("{bad json", None),
            ("", None),
            ("[]", None),
        ] {
            assert_eq!(code(body.as_bytes()).as_deref(), expected, "{body}");
        }
    }
}
