//! A token together with the key to check it with, as one JSON object: a line of a batch.
//!
//! Invariant: the line is as strict as everything else; a member twice at any depth, also within a key, makes it none.

use std::borrow::Cow;

use crate::{
    KeySet, KeySetError, Reason, Symmetric,
    json::{Json, Object},
};

/// Longest line, in bytes: a key set of the largest size, a token, and names.
pub const CASE_BYTES_MAX: usize = 512 * 1024;

/// One line of a batch.
#[derive(Debug)]
pub struct Case<'a> {
    token: Cow<'a, str>,
    keys: Option<KeySet>,
}

impl<'a> Case<'a> {
    /// Reads `{"token":"...","jwk":{...}}`, with `jwks` in place of `jwk`, or neither; other members are left alone.
    pub fn parse(line: &'a [u8], symmetric: Symmetric) -> Result<Self, Reason> {
        if line.len() > CASE_BYTES_MAX {
            return Err(Reason::BadInput);
        }
        let mut line = Object::parse(line).ok_or(Reason::BadInput)?;
        let Some(Json::Text(token)) = line.take("token") else { return Err(Reason::BadInput) };
        let keys = match (line.take("jwk"), line.take("jwks")) {
            (None, None) => None,
            (Some(jwk @ Json::Object(_)), None) => Some(KeySet::pinned_of(jwk, symmetric)),
            (None, Some(Json::Object(mut jwks))) => match jwks.take("keys") {
                Some(Json::List(list)) => Some(KeySet::of(&list, symmetric)),
                _ => return Err(Reason::BadInput),
            },
            _ => return Err(Reason::BadInput),
        };
        let keys = keys.transpose().map_err(|error| match error {
            KeySetError::NoUsableKey(_) => Reason::KeyUnusable,
            KeySetError::TooLarge | KeySetError::TooManyKeys | KeySetError::Malformed => Reason::BadInput,
        })?;
        Ok(Self { token, keys })
    }

    /// The token.
    pub fn token(&self) -> &[u8] {
        self.token.as_bytes()
    }

    /// The line's own keys.
    pub fn keys(&self) -> Option<&KeySet> {
        self.keys.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JWK: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

    fn outcome(line: &str) -> Result<(String, bool), Reason> {
        let case = Case::parse(line.as_bytes(), Symmetric::Refused)?;
        Ok((String::from_utf8_lossy(case.token()).into_owned(), case.keys().is_some()))
    }

    #[test]
    fn lines() {
        let token = |keys| Ok(("t".to_owned(), keys));
        for (line, wanted) in [
            (r#"{"token":"t"}"#.to_owned(), token(false)),
            (format!(r#"{{"id":1,"token":"\u0074","jwk":{JWK}}}"#), token(true)),
            (format!(r#"{{"token":"t","jwks":{{"keys":[{JWK}]}},"more":[]}}"#), token(true)),
            (r#"{"token":"t","jwk":{"kty":"oct","k":"AA"}}"#.to_owned(), Err(Reason::KeyUnusable)),
            (r#"{"token":"t","jwks":{"keys":[]}}"#.to_owned(), Err(Reason::KeyUnusable)),
            (r#"{"token":"t","jwk":"x"}"#.to_owned(), Err(Reason::BadInput)),
            (r#"{"token":"t","jwks":{}}"#.to_owned(), Err(Reason::BadInput)),
            (r#"{"token":"t","jwks":{"keys":[1]}}"#.to_owned(), Err(Reason::BadInput)),
            (format!(r#"{{"token":"t","jwk":{JWK},"jwks":{{"keys":[]}}}}"#), Err(Reason::BadInput)),
            (r#"{"token":1}"#.to_owned(), Err(Reason::BadInput)),
            (r#"{"id":1}"#.to_owned(), Err(Reason::BadInput)),
            (r#"{"token":"t","token":"t"}"#.to_owned(), Err(Reason::BadInput)),
            (format!(r#"{{"token":"t","jwk":{}}}"#, JWK.replacen('{', r#"{"kty":"OKP","#, 1)), Err(Reason::BadInput)),
            (String::new(), Err(Reason::BadInput)),
            ("[]".to_owned(), Err(Reason::BadInput)),
            (format!(r#"{{"token":"t"}}{}"#, " ".repeat(CASE_BYTES_MAX)), Err(Reason::BadInput)),
        ] {
            assert_eq!(outcome(&line), wanted, "{line:.80}");
        }
    }
}
