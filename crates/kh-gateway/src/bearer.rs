//! The token in an `Authorization` header.

use crate::sender::Scheme;

/// What follows the scheme of `Bearer TOKEN` (RFC 6750 section 2.1; the scheme's letter case does not count, RFC 9110 section 11.1).
pub(crate) fn token(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    (scheme.eq_ignore_ascii_case(b"Bearer ") && !token.is_empty()).then_some(token)
}

/// What follows the scheme of `DPoP TOKEN` (RFC 9449 section 7.1).
pub(crate) fn dpop_token(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(5)?;
    (scheme.eq_ignore_ascii_case(b"DPoP ") && !token.is_empty()).then_some(token)
}

/// A token and the scheme by which it is shown.
pub(crate) fn shown(value: &[u8]) -> Option<(Scheme, &[u8])> {
    match token(value) {
        Some(token) => Some((Scheme::Bearer, token)),
        None => dpop_token(value).map(|token| (Scheme::DPoP, token)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        for (value, expected) in [
            ("Bearer kht_x", Some("kht_x")),
            ("bearer kht_x", Some("kht_x")),
            ("Bearer ", None),
            ("Basic kht_x", None),
            ("kht_x", None),
            ("", None),
        ] {
            assert_eq!(token(value.as_bytes()), expected.map(str::as_bytes), "{value}");
        }
    }
}
