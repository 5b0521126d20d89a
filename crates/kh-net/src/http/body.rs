//! What a request carries: form, JSON or bytes.
//!
//! Invariant: every buffer that ever holds a secret is wiped, and growing leaves no copy behind.

use std::{fmt, io};

use ::http::HeaderValue;
use bytes::Bytes;
use serde::Serialize;
use url::form_urlencoded::byte_serialize;
use zeroize::Zeroizing;

use super::answer::append_wiped;

/// A body with its media type; wiped when dropped.
pub struct OutBody {
    content_type: HeaderValue,
    bytes: Bytes,
}

impl fmt::Debug for OutBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutBody").field("content_type", &self.content_type).field("len", &self.bytes.len()).finish()
    }
}

impl OutBody {
    /// These bytes; they are wiped when the connection lets go of them.
    pub fn new(content_type: &'static str, bytes: Zeroizing<Vec<u8>>) -> Self {
        Self { content_type: HeaderValue::from_static(content_type), bytes: Bytes::from_owner(bytes) }
    }

    /// `value` as `application/json`. `value` itself is its owner's to wipe.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Self {
        let mut text = Wiped(Zeroizing::new(Vec::with_capacity(1024)));
        serde_json::to_writer(&mut text, value)
            .expect("values with text keys always serialise into a buffer in memory");
        Self::new("application/json", text.0)
    }

    /// The same bytes under another media type, such as `application/x-amz-json-1.1`.
    #[must_use]
    pub fn with_content_type(self, content_type: &'static str) -> Self {
        Self { content_type: HeaderValue::from_static(content_type), ..self }
    }

    /// The bytes, for a signature over them.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn content_type(&self) -> HeaderValue {
        self.content_type.clone()
    }

    pub(super) fn into_bytes(self) -> Bytes {
        self.bytes
    }
}

/// A buffer that grows without leaving an unwiped copy behind.
struct Wiped(Zeroizing<Vec<u8>>);

impl io::Write for Wiped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        append_wiped(&mut self.0, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An `application/x-www-form-urlencoded` body under construction.
pub struct Form(Zeroizing<String>);

impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Form")
    }
}

impl Form {
    /// An empty body. Room for `secret_bytes` bytes of values is set aside, three times as encoding needs it.
    pub fn new(secret_bytes: usize) -> Self {
        Self(Zeroizing::new(String::with_capacity(512 + 3 * secret_bytes)))
    }

    /// A body of one grant (RFC 6749).
    pub fn grant(grant_type: &str, secret_bytes: usize) -> Self {
        Self::new(secret_bytes).field("grant_type", grant_type)
    }

    /// Adds one field; everything but letters, digits and `*-._` is percent-encoded, so also the `=` of access keys.
    #[must_use]
    pub fn field(mut self, name: &'static str, value: &str) -> Self {
        let needed = self.0.len() + name.len() + 3 * value.len() + 2;
        if needed > self.0.capacity() {
            let mut larger = Zeroizing::new(String::with_capacity(2 * needed));
            larger.push_str(&self.0);
            self.0 = larger;
        }
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.push_str(name);
        self.0.push('=');
        self.0.extend(byte_serialize(value.as_bytes()));
        self
    }

    /// The body.
    pub fn finish(mut self) -> OutBody {
        let bytes = Zeroizing::new(std::mem::take(&mut *self.0).into_bytes());
        OutBody::new("application/x-www-form-urlencoded", bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let body = Form::grant("password", 0).field("username", "K====").field("password", "a b&c=é").finish();
        assert_eq!(body.bytes(), b"grant_type=password&username=K%3D%3D%3D%3D&password=a+b%26c%3D%C3%A9");
        let long = "x".repeat(5000);
        let body = Form::grant("refresh_token", 0).field("refresh_token", &long).finish();
        assert_eq!(body.bytes().len(), "grant_type=refresh_token&refresh_token=".len() + 5000);
    }

    #[test]
    fn json_grows_and_stays_out_of_debug() {
        let long = "MARKED".repeat(1000);
        let body = OutBody::json(&serde_json::json!({ "a": long }));
        let back: serde_json::Value = serde_json::from_slice(body.bytes()).unwrap();
        assert_eq!(back["a"], long);
        assert!(!format!("{body:?}").contains("MARKED"));
    }
}
