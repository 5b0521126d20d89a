//! A credential's document: everything one login needs, id and secret together, as one versioned value of a secret
//! store (a rotation may change both).

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{Fingerprint, Fingerprinter, SecretBytes, SecretString, Sha256, rotation::Marker};

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
    /// What a rotation wrote beside it, the member `_kh`. No part of a login, and not of [`CredentialDocument::sha256`].
    pub marker: Option<Marker>,
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
    #[serde(rename = "_kh")]
    marker: Option<Marker>,
}

#[derive(Serialize)]
struct Written<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_key_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_key_secret: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<&'a str>,
    #[serde(rename = "_kh", skip_serializing_if = "Option::is_none")]
    marker: Option<&'a Marker>,
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
            marker: wire.marker,
        })
    }

    /// The document as JSON, with its marker; what [`CredentialDocument::parse`] reads. Leaves no copy in memory.
    pub fn to_json(&self) -> SecretBytes {
        let text = |secret: &'_ Option<SecretString>| secret.as_ref().map_or(0, SecretString::len);
        let id = |id: &'_ Option<String>| id.as_ref().map_or(0, String::len);
        let secrets = text(&self.client_secret) + text(&self.access_key_secret) + text(&self.refresh_token);
        // Each byte may become an escape of six; the names and the marker take under 1 KiB.
        let bytes_max = 1024 + 6 * (secrets + id(&self.client_id) + id(&self.access_key_id));
        let mut json = Zeroizing::new(Vec::with_capacity(bytes_max));
        let written = Written {
            client_id: self.client_id.as_deref(),
            client_secret: self.client_secret.as_ref().map(SecretString::expose),
            access_key_id: self.access_key_id.as_deref(),
            access_key_secret: self.access_key_secret.as_ref().map(SecretString::expose),
            refresh_token: self.refresh_token.as_ref().map(SecretString::expose),
            marker: self.marker.as_ref(),
        };
        serde_json::to_writer(&mut *json, &written).expect("text members always have a JSON form");
        SecretBytes::new(json.to_vec())
    }

    /// The same document once more, for a caller that has to change a part of it.
    pub fn copied(&self) -> Self {
        let copy = |secret: &'_ Option<SecretString>| secret.as_ref().map(|text| SecretString::copied(text.expose()));
        Self {
            client_id: self.client_id.clone(),
            client_secret: copy(&self.client_secret),
            access_key_id: self.access_key_id.clone(),
            access_key_secret: copy(&self.access_key_secret),
            refresh_token: copy(&self.refresh_token),
            marker: self.marker.clone(),
        }
    }

    /// A digest over all fields: equal documents have equal digests, so that a rejected document is not tried twice.
    pub fn sha256(&self) -> Sha256 {
        let fields = [
            self.client_id.as_deref(),
            self.client_secret.as_ref().map(SecretString::expose),
            self.access_key_id.as_deref(),
            self.access_key_secret.as_ref().map(SecretString::expose),
            self.refresh_token.as_ref().map(SecretString::expose),
        ]
        .map(Option::unwrap_or_default);
        // A buffer that grows leaves copies behind that nobody wipes.
        let bytes: usize = fields.iter().map(|text| size_of::<usize>() + text.len()).sum();
        let mut all = Zeroizing::new(Vec::with_capacity(bytes));
        for text in fields {
            all.extend_from_slice(&text.len().to_le_bytes());
            all.extend_from_slice(text.as_bytes());
        }
        Sha256::of(&all)
    }

    /// Names what logs in, without telling it: what markers, sightings and rotation compare. Equal for equal documents
    /// whatever their form and their marker; a rotation always changes it.
    pub fn fingerprint(&self, fingerprinter: &Fingerprinter) -> Fingerprint {
        fingerprinter.fingerprint(&self.sha256().0)
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

    /// Rejected documents and fingerprints are remembered by it, also by the next version.
    #[test]
    fn the_digest_of_a_document_stays_the_same() {
        let document = parse(r#"{"client_id":"id","client_secret":"s3cr3t","refresh_token":"refresh"}"#).unwrap();
        assert_eq!(
            document.sha256().to_hex(),
            "615aa6225a570868e0b133b057e16d909a532efd3a4b2f5b392a738be78a9193",
            "SHA-256 over each field's length in eight bytes, the least first, and its text"
        );
    }

    #[test]
    fn a_document_written_is_the_one_that_is_read() {
        let marker = r#"{"run":"00000000-0000-0000-0000-000000000007","write":"00000000-0000-0000-0000-000000000008","generation":2,"fingerprint":"0123456789abcdef","created_at":5}"#;
        let text = format!(r#"{{"client_id":"a","client_secret":"quote\" and \u0001","_kh":{marker}}}"#);
        let document = parse(&text).unwrap();
        assert_eq!(document.marker.as_ref().unwrap().generation, 2);
        let again = CredentialDocument::parse(&document.to_json()).unwrap();
        assert_eq!(again.sha256(), document.sha256());
        let fingerprinter = Fingerprinter::new(b"k");
        let unmarked = CredentialDocument { marker: None, ..document.copied() };
        assert_eq!(unmarked.fingerprint(&fingerprinter), document.fingerprint(&fingerprinter));
        assert_eq!(again.marker, document.marker);
        assert_eq!(document.copied().to_json().expose(), document.to_json().expose());
    }

    #[test]
    fn the_digest_tells_fields_apart() {
        let one = parse(r#"{"client_id":"ab","client_secret":"c"}"#).unwrap().sha256();
        let two = parse(r#"{"client_id":"a","client_secret":"bc"}"#).unwrap().sha256();
        assert_ne!(one, two);
    }
}
