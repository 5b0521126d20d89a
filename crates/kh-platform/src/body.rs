//! What a token request carries: form or JSON bodies and the Basic header.
//!
//! Invariant: every buffer that ever holds a secret is wiped, and is made large enough at once so that growing leaves
//! no copy behind.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::HeaderValue;
use kh_core::{
    SecretString,
    credential::CredentialDocument,
    port::{FetchError, Grant},
};
pub(crate) use kh_net::http::{Form, OutBody};
use url::form_urlencoded::byte_serialize;
use zeroize::Zeroizing;

/// How a client authenticates at a token endpoint (RFC 6749 section 2.3.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ClientAuth {
    /// `client_secret_basic`: the Authorization header.
    #[default]
    Basic,
    /// `client_secret_post`: in the form.
    Post,
}

/// How id and secret stand in the Basic header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BasicForm {
    /// As they are: what Genesys Cloud and CXone take.
    Raw,
    /// Form-encoded first, as RFC 6749 section 2.3.1 says.
    FormEncoded,
}

/// The client of a credential: its id and secret.
pub(crate) fn client_of(document: &CredentialDocument) -> Result<(&str, &SecretString), FetchError> {
    let id = document.client_id.as_deref().ok_or_else(|| missing("client_id"))?;
    Ok((id, document.client_secret.as_ref().ok_or_else(|| missing("client_secret"))?))
}

/// The credential's document lacks a field that its platform needs.
pub(crate) fn missing(field: &str) -> FetchError {
    FetchError::Unusable(format!("the credential's document lacks {field}"))
}

/// The form of the credential's own login, without the client: the refresh token of an authorization-code login where
/// there is one, else client credentials (RFC 6749 sections 6 and 4.4.2).
pub(crate) fn login_form(document: &CredentialDocument, refresh: Option<&SecretString>) -> Form {
    match refresh.or(document.refresh_token.as_ref()) {
        Some(token) => grant_form(&Grant::Refresh(token)),
        None => Form::grant("client_credentials", document.client_secret.as_ref().map_or(0, SecretString::len)),
    }
}

/// The form of a user's grant (RFC 6749 sections 4.1.3 and 6, RFC 7636 section 4.5), without the client.
pub(crate) fn grant_form(grant: &Grant<'_>) -> Form {
    match grant {
        Grant::Code { code, redirect_uri, verifier } => {
            let secrets = code.len() + verifier.map_or(0, SecretString::len);
            let mut form = Form::grant("authorization_code", secrets).field("code", code.expose());
            if let Some(uri) = redirect_uri {
                form = form.field("redirect_uri", uri);
            }
            if let Some(verifier) = verifier {
                form = form.field("code_verifier", verifier.expose());
            }
            form
        }
        Grant::Refresh(token) => Form::grant("refresh_token", token.len()).field("refresh_token", token.expose()),
    }
}

/// A JSON object of text fields.
pub(crate) fn json_body(fields: &[(&'static str, &str)]) -> OutBody {
    let room = fields.iter().map(|(name, value)| 8 + name.len() + 6 * value.len()).sum::<usize>();
    let mut text = Zeroizing::new(Vec::with_capacity(room + 2));
    text.push(b'{');
    for (index, (name, value)) in fields.iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        for (part, after) in [(*name, Some(b':')), (*value, None)] {
            serde_json::to_writer(&mut *text, part).expect("text always serialises into a buffer in memory");
            text.extend(after);
        }
    }
    text.push(b'}');
    OutBody::new("application/json", text)
}

/// `Basic base64(id:secret)` (RFC 7617), sensitive and wiped when dropped.
pub(crate) fn basic(id: &str, secret: &SecretString, form: BasicForm) -> Result<HeaderValue, FetchError> {
    let mut pair = Zeroizing::new(String::with_capacity(1 + 3 * (id.len() + secret.len())));
    match form {
        BasicForm::Raw => {
            if id.contains(':') {
                return Err(FetchError::Unusable(
                    "client_id holds a colon, which client_secret_basic cannot carry".to_owned(),
                ));
            }
            pair.push_str(id);
            pair.push(':');
            pair.push_str(secret.expose());
        }
        BasicForm::FormEncoded => {
            pair.extend(byte_serialize(id.as_bytes()));
            pair.push(':');
            pair.extend(byte_serialize(secret.expose().as_bytes()));
        }
    }
    let unusable = || FetchError::Unusable("the id and secret are too long for a header".to_owned());
    let room = base64::encoded_len(pair.len(), true).ok_or_else(unusable)?;
    let mut header = Zeroizing::new(vec![0; "Basic ".len() + room]);
    let (scheme, encoded) = header.split_at_mut("Basic ".len());
    scheme.copy_from_slice(b"Basic ");
    STANDARD.encode_slice(pair.as_bytes(), encoded).map_err(|_| unusable())?;
    let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(header)).map_err(|_| unusable())?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_bodies_are_escaped() {
        let body = json_body(&[("accessKeyId", "a\"b"), ("accessKeySecret", "c\\\n==")]);
        assert_eq!(body.bytes(), br#"{"accessKeyId":"a\"b","accessKeySecret":"c\\\n=="}"#);
        let value: serde_json::Value = serde_json::from_slice(body.bytes()).unwrap();
        assert_eq!(value["accessKeyId"], "a\"b");
    }

    #[test]
    fn basic_headers() {
        let check = |id: &str, secret: &str, form, clear: &str| {
            let value = basic(id, &SecretString::copied(secret), form).unwrap();
            assert!(value.is_sensitive());
            assert_eq!(value.to_str().unwrap(), format!("Basic {}", STANDARD.encode(clear)));
        };
        check("cid", "s3c", BasicForm::Raw, "cid:s3c");
        check("cid", "a:b=", BasicForm::Raw, "cid:a:b=");
        check("c:d", "a b%", BasicForm::FormEncoded, "c%3Ad:a+b%25");
        assert!(matches!(
            basic("a:b", &SecretString::copied("c"), BasicForm::Raw),
            Err(FetchError::Unusable(reason)) if !reason.contains("a:b")
        ));
    }
}
