//! A credential's document: everything one login needs, id and secret together, as one versioned value of a secret
//! store (a rotation may change both).

use serde::Deserialize;
use zeroize::Zeroizing;

use crate::{SecretBytes, SecretString, Sha256};

/// Longest accepted document, in bytes: two ids, two secrets and a refresh token need under 8 KiB.
pub const DOCUMENT_MAX: usize = 64 * 1024;

/// What a credential logs in with. Which fields are needed depends on the grant; an adapter says which are missing.
#[derive(Debug, Default)]
pub struct CredentialDocument {
    /// `client_id` of RFC 6749 section 2.2, not secret.
    pub client_id: Option<String>,
    /// `client_secret` of RFC 6749 section 2.3.1.
    pub client_secret: Option<SecretString>,
    /// CXone access key id, `username` of the password grant, not secret.
    pub access_key_id: Option<String>,
    /// CXone access key secret, `password` of the password grant.
    pub access_key_secret: Option<SecretString>,
    /// Refresh token of an authorization-code login.
    pub refresh_token: Option<SecretString>,
}

crate::assert_closed!(CredentialDocument);

/// Why a document was refused. Tells field names and positions, never values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// Longer than [`DOCUMENT_MAX`].
    #[error("the document is longer than {DOCUMENT_MAX} bytes")]
    TooLong,
    /// Not one JSON object with the known fields as text.
    #[error("the document is not a JSON object of known text fields (line {line}, column {column})")]
    NotAnObject {
        /// 1-based line of the mistake.
        line: usize,
        /// 1-based column of the mistake.
        column: usize,
    },
    /// A field is present and empty.
    #[error("the field {0} is empty")]
    Empty(&'static str),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    client_id: Option<String>,
    client_secret: Option<Zeroizing<String>>,
    access_key_id: Option<String>,
    access_key_secret: Option<Zeroizing<String>>,
    refresh_token: Option<Zeroizing<String>>,
}

impl CredentialDocument {
    /// Parses `{"client_id":"...","client_secret":"...", ...}`. Unknown fields are errors, so that a typo cannot
    /// leave a login without its secret.
    pub fn parse(document: &SecretBytes) -> Result<Self, DocumentError> {
        let bytes = document.expose();
        if bytes.len() > DOCUMENT_MAX {
            return Err(DocumentError::TooLong);
        }
        let wire: Wire = serde_json::from_slice(bytes)
            .map_err(|error| DocumentError::NotAnObject { line: error.line(), column: error.column() })?;
        let plain = |name, value: Option<String>| match value {
            Some(text) if text.is_empty() => Err(DocumentError::Empty(name)),
            other => Ok(other),
        };
        let secret = |name, value: Option<Zeroizing<String>>| match value {
            Some(text) if text.is_empty() => Err(DocumentError::Empty(name)),
            Some(text) => Ok(Some(SecretString::copied(&text))),
            None => Ok(None),
        };
        Ok(Self {
            client_id: plain("client_id", wire.client_id)?,
            client_secret: secret("client_secret", wire.client_secret)?,
            access_key_id: plain("access_key_id", wire.access_key_id)?,
            access_key_secret: secret("access_key_secret", wire.access_key_secret)?,
            refresh_token: secret("refresh_token", wire.refresh_token)?,
        })
    }

    /// A digest over all fields: equal documents have equal digests, so that a rejected document is not tried twice.
    pub fn sha256(&self) -> Sha256 {
        let mut all = Zeroizing::new(Vec::new());
        let mut add = |field: Option<&str>| {
            let text = field.unwrap_or("");
            all.extend_from_slice(&text.len().to_le_bytes());
            all.extend_from_slice(text.as_bytes());
        };
        add(self.client_id.as_deref());
        add(self.client_secret.as_ref().map(SecretString::expose));
        add(self.access_key_id.as_deref());
        add(self.access_key_secret.as_ref().map(SecretString::expose));
        add(self.refresh_token.as_ref().map(SecretString::expose));
        Sha256::of(&all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<CredentialDocument, DocumentError> {
        CredentialDocument::parse(&SecretBytes::new(text.as_bytes().to_vec()))
    }

    #[test]
    fn documents() {
        let document = parse(r#"{"client_id":"a","client_secret":"s3cr3t-value"}"#).unwrap();
        assert_eq!(document.client_id.as_deref(), Some("a"));
        assert!(!format!("{document:?}").contains("s3cr3t"));
        assert!(matches!(parse(r#"{"client_id":"a","client_sceret":"b"}"#), Err(DocumentError::NotAnObject { .. })));
        assert_eq!(parse(r#"{"client_secret":""}"#).unwrap_err(), DocumentError::Empty("client_secret"));
        assert_eq!(parse(&" ".repeat(DOCUMENT_MAX + 1)).unwrap_err(), DocumentError::TooLong);
        let error = parse("{\"client_secret\":\"s3cr3t\",,}").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("s3cr3t"));
    }

    #[test]
    fn the_digest_tells_fields_apart() {
        let one = parse(r#"{"client_id":"ab","client_secret":"c"}"#).unwrap().sha256();
        let two = parse(r#"{"client_id":"a","client_secret":"bc"}"#).unwrap().sha256();
        assert_ne!(one, two);
    }
}
