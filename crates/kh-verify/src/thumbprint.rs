//! The thumbprint of a public key (RFC 7638): SHA-256 over its required members, in one spelling.

use kh_core::Sha256;

use crate::json::Object;

/// Required members in their order, by `kty` (RFC 7638 section 3.2, RFC 8037 section 2).
const REQUIRED: [(&str, &[&str]); 3] =
    [("RSA", &["e", "kty", "n"]), ("EC", &["crv", "kty", "x", "y"]), ("OKP", &["crv", "kty", "x"])];

/// The thumbprint of a JWK that was found to be a good key. Its members are base64url and known names, so that nothing
/// has to be escaped.
pub(crate) fn thumbprint(jwk: &Object<'_>) -> Option<Sha256> {
    let kty = jwk.text("kty").ok()??;
    let (_, members) = REQUIRED.iter().find(|(own, _)| *own == kty)?;
    let mut text = String::from("{");
    for (at, name) in members.iter().enumerate() {
        let value = jwk.text(name).ok()??;
        if value.bytes().any(|byte| byte == b'"' || byte == b'\\' || byte < b' ') {
            return None;
        }
        let comma = if at == 0 { "" } else { "," };
        text.extend([comma, "\"", name, "\":\"", value, "\""]);
    }
    text.push('}');
    Some(Sha256::of(text.as_bytes()))
}

/// The thumbprint of a public JWK (RFC 7638), if it is a key of a known type.
pub fn of_jwk(json: &[u8]) -> Option<Sha256> {
    thumbprint(&Object::parse(json)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base64url;

    #[test]
    fn the_examples_of_the_standards() {
        // RFC 7638 section 3.1
        let rsa = br#"{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}"#;
        assert_eq!(base64url::encode(&of_jwk(rsa).unwrap().0), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
        // RFC 8037 appendix A.3
        let ed25519 = br#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
        assert_eq!(base64url::encode(&of_jwk(ed25519).unwrap().0), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn what_is_no_public_key_has_none() {
        for not in [
            r#"{"kty":"oct","k":"AA"}"#,
            r#"{"kty":"RSA","e":"AQAB"}"#,
            r#"{"kty":"EC","crv":"P-256","x":"a\"b","y":"c"}"#,
            "[]",
        ] {
            assert_eq!(of_jwk(not.as_bytes()), None, "{not}");
        }
    }
}
