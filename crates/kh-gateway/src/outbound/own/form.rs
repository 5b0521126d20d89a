//! Reading what a client sends: `application/x-www-form-urlencoded` bodies and `Basic` headers.
//!
//! Invariant: strict. A parameter twice, an escape that is none, bytes that are not UTF-8: refused, never guessed
//! (RFC 6749 section 3.2). Every value is wiped when it is dropped; no error says what was sent.

use base64::{Engine, prelude::BASE64_STANDARD};
use kh_core::SecretString;
use zeroize::Zeroizing;

/// The parameters that logins, revocation and introspection use; others are ignored, as RFC 6749 section 3.2 asks.
#[derive(Debug, Default)]
pub(crate) struct Form {
    pub(crate) grant_type: Option<SecretString>,
    pub(crate) client_id: Option<SecretString>,
    pub(crate) client_secret: Option<SecretString>,
    pub(crate) username: Option<SecretString>,
    pub(crate) password: Option<SecretString>,
    pub(crate) scope: Option<SecretString>,
    pub(crate) token: Option<SecretString>,
    pub(crate) code: Option<SecretString>,
    pub(crate) redirect_uri: Option<SecretString>,
    pub(crate) code_verifier: Option<SecretString>,
}

impl Form {
    /// Parses a body.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, &'static str> {
        let text = std::str::from_utf8(body).map_err(|_| "the body is not UTF-8")?;
        let mut form = Self::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name).ok_or("the body has a broken percent escape")?;
            let slot = match name.expose() {
                "grant_type" => &mut form.grant_type,
                "client_id" => &mut form.client_id,
                "client_secret" => &mut form.client_secret,
                "username" => &mut form.username,
                "password" => &mut form.password,
                "scope" => &mut form.scope,
                "token" => &mut form.token,
                "code" => &mut form.code,
                "redirect_uri" => &mut form.redirect_uri,
                "code_verifier" => &mut form.code_verifier,
                _ => continue,
            };
            if slot.is_some() {
                return Err("a parameter is there more than once");
            }
            *slot = Some(decode(value).ok_or("the body has a broken percent escape")?);
        }
        form.leave_out_empty();
        Ok(form)
    }

    /// RFC 6749 section 3.1: a parameter without a value counts as left out; it counts as there for one that is twice.
    fn leave_out_empty(&mut self) {
        let Self {
            grant_type,
            client_id,
            client_secret,
            username,
            password,
            scope,
            token,
            code,
            redirect_uri,
            code_verifier,
        } = self;
        let user = [code, redirect_uri, code_verifier];
        for slot in [grant_type, client_id, client_secret, username, password, scope, token].into_iter().chain(user) {
            slot.take_if(|value| value.is_empty());
        }
    }
}

/// An id and a secret.
pub(crate) struct Basic {
    pub(crate) id: SecretString,
    pub(crate) secret: SecretString,
}

impl Basic {
    /// Parses the value of an `Authorization` header (RFC 7617). Genesys Cloud's SDKs send id and secret as they are,
    /// RFC 6749 section 2.3.1 wants them form-encoded first; what keyholder issues has no character in which the two
    /// differ, so an escape is decoded and a plus sign is left alone.
    pub(crate) fn parse(value: &[u8]) -> Result<Self, &'static str> {
        const MALFORMED: &str = "the Authorization header is not a well-formed Basic header";
        let (scheme, encoded) = value.split_at_checked(6).ok_or(MALFORMED)?;
        if !scheme.eq_ignore_ascii_case(b"Basic ") {
            return Err("the Authorization header of a login must be Basic");
        }
        let decoded = Zeroizing::new(BASE64_STANDARD.decode(encoded.trim_ascii()).map_err(|_| MALFORMED)?);
        let text = std::str::from_utf8(&decoded).map_err(|_| MALFORMED)?;
        let (id, secret) = text.split_once(':').ok_or(MALFORMED)?;
        if id.is_empty() || secret.is_empty() || text.chars().any(char::is_control) {
            return Err(MALFORMED);
        }
        let unescaped = |text: &str| if text.contains('%') { unescape(text, false) } else { Some(text.into()) };
        let (id, secret) = (unescaped(id).ok_or(MALFORMED)?, unescaped(secret).ok_or(MALFORMED)?);
        Ok(Self { id: SecretString::new(id), secret: SecretString::new(secret) })
    }
}

fn decode(text: &str) -> Option<SecretString> {
    unescape(text, true).map(SecretString::new)
}

fn unescape(text: &str, plus_is_space: bool) -> Option<String> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        match first {
            b'%' => {
                let value = digit(after.first())? * 16 + digit(after.get(1))?;
                bytes.push(u8::try_from(value).ok()?);
                rest = after.get(2..)?;
            }
            b'+' if plus_is_space => {
                bytes.push(b' ');
                rest = after;
            }
            byte => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    std::str::from_utf8(&bytes).ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: Option<&SecretString>) -> Option<&str> {
        value.map(SecretString::expose)
    }

    #[test]
    fn forms() {
        let form = Form::parse(b"grant_type=client_credentials&client_id=a%2Bb+c&client_secret=&x=%C3%A4").unwrap();
        assert_eq!(shown(form.grant_type.as_ref()), Some("client_credentials"));
        assert_eq!(shown(form.client_id.as_ref()), Some("a+b c"));
        assert!(form.client_secret.is_none());
        assert!(Form::parse(b"").unwrap().grant_type.is_none());
        for bad in [
            &b"grant_type=a&grant_type=b"[..],
            b"token=&token=t",
            b"client_id=%zz",
            b"client_id=%2",
            b"client_id=%FF",
            b"\xff",
            b"%=a",
        ] {
            assert!(Form::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn basic_headers() {
        let header = |text: &str| format!("Basic {}", BASE64_STANDARD.encode(text));
        for (text, id, secret) in
            [("id:se:cret", "id", "se:cret"), ("i%20d:s%2Bx", "i d", "s+x"), ("id:a+b", "id", "a+b")]
        {
            let basic = Basic::parse(header(text).as_bytes()).unwrap();
            assert_eq!((basic.id.expose(), basic.secret.expose()), (id, secret), "{text}");
        }
        assert!(Basic::parse(header("id:x").replace("Basic", "bAsIc").as_bytes()).is_ok());
        for bad in ["", "Basic", "Basic ", "Basic !!!", "Bearer abc", "Basic aWQ=", "Basic \u{e9}"] {
            assert!(Basic::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        for bad in ["id", ":secret", "id:", "id:a\nb", "id:%zz"] {
            assert!(Basic::parse(header(bad).as_bytes()).is_err(), "{bad:?}");
        }
        let bad = format!("Basic {}", BASE64_STANDARD.encode(b"id:\xff"));
        assert!(Basic::parse(bad.as_bytes()).is_err());
    }
}
