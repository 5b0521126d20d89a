//! Answers of a platform that are not passed on: a 401, whose code decides whether a fresh token can help, and one that is
//! waited out. Their connections are used again.

use std::{borrow::Cow, io::Read, time::Duration};

use flate2::read::{GzDecoder, ZlibDecoder};
use http::{HeaderValue, header};
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use tokio::time::timeout;

use crate::{
    answer,
    exchange::{Outgoing, Received},
};

/// Error bodies of the platforms have a few hundred bytes. It bounds them as they come and decompressed.
const BODY_MAX: usize = 16 * 1024;
/// How long the rest of an answer that nobody reads may take: it mostly comes with its head, and a new connection takes no
/// longer.
const REST_WAIT: Duration = Duration::from_millis(250);
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
    let coding = response.headers().get(header::CONTENT_ENCODING).cloned();
    let body = Limited::new(response.into_body(), BODY_MAX);
    let collected = timeout(within, body.collect()).await;
    let Ok(Ok(collected)) = collected else { return RefusedToken { code: None, correlation_id } };
    if is_sent(outgoing) {
        conn.finish();
    }
    RefusedToken { code: code(&decoded(coding.as_ref(), &collected.to_bytes())), correlation_id }
}

/// Gives the connection of an answer back that nobody reads, if there is little left of it. Where the request is still on its
/// way it ends at once: what is read of the body meanwhile might not be kept for the next send.
pub(super) async fn give_back(received: Received, outgoing: &Outgoing<'_>) {
    if !is_sent(outgoing) {
        return;
    }
    let Received { response, conn } = received;
    let rest = Limited::new(response.into_body(), BODY_MAX);
    if matches!(timeout(REST_WAIT, rest.collect()).await, Ok(Ok(_))) {
        conn.finish();
    }
}

/// Whether nothing of the request is still to come.
fn is_sent(outgoing: &Outgoing<'_>) -> bool {
    outgoing.body.as_ref().is_none_or(|body| body.has_ended())
}

/// The body without its coding (RFC 9110 section 8.4.1): the platform compresses also an error if the caller takes
/// that. A coding that is not known here leaves it as it is, which is no JSON then.
fn decoded<'a>(coding: Option<&HeaderValue>, body: &'a [u8]) -> Cow<'a, [u8]> {
    let is = |name: &str| coding.is_some_and(|coding| coding.as_bytes().eq_ignore_ascii_case(name.as_bytes()));
    let mut plain = Vec::new();
    let read = if is("gzip") || is("x-gzip") {
        GzDecoder::new(body).take(BODY_MAX as u64).read_to_end(&mut plain)
    } else if is("deflate") {
        ZlibDecoder::new(body).take(BODY_MAX as u64).read_to_end(&mut plain)
    } else {
        return Cow::Borrowed(body);
    };
    Cow::Owned(if read.is_ok() { plain } else { Vec::new() })
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
    use std::io::Write;

    use flate2::{
        Compression,
        write::{GzEncoder, ZlibEncoder},
    };

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn deflate(text: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn codings() {
        let text = br#"{"code":"ip.not.authorized"}"#;
        let long = [&b" ".repeat(BODY_MAX)[..], text].concat();
        let (packed, cut) = (gzip(text), gzip(text)[..20].to_vec());
        for (coding, body, known) in [
            (None, text.to_vec(), true),
            (Some("identity"), text.to_vec(), true),
            (Some("gzip"), packed.clone(), true),
            (Some("X-GZIP"), packed.clone(), true),
            (Some("deflate"), deflate(text), true),
            (None, packed.clone(), false),
            (Some("br"), packed, false),
            (Some("gzip"), text.to_vec(), false),
            (Some("gzip"), cut, false),
            (Some("gzip"), gzip(&long), false),
            (Some("deflate"), deflate(&long), false),
        ] {
            let value = coding.map(HeaderValue::from_static);
            let plain = decoded(value.as_ref(), &body);
            assert!(plain.len() <= BODY_MAX, "{coding:?}");
            assert_eq!(code(&plain).as_deref(), known.then_some("ip.not.authorized"), "{coding:?} {body:?}");
        }
    }

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
