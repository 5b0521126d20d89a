//! What a caller shows: one token in the `Authorization` header and nowhere else.
//!
//! Invariant: what is handed to a verifier has only the characters of a token (RFC 6750 section 2.1).

use http::{HeaderMap, header};
use kh_core::port::security::Presented;

use crate::{bearer, sender::Scheme};

/// The credential of a request. The guards have refused a second `Authorization` header and a token in the query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown<'a> {
    /// No `Authorization` header.
    Nothing,
    /// What may be a token, letter by letter not looked at.
    Bearer(&'a [u8]),
    /// `Basic` (RFC 7617).
    Basic,
    /// What may be a token, shown by the scheme `DPoP` (RFC 9449).
    DPoP(&'a [u8]),
    /// Any other scheme, or no scheme.
    Other,
}

impl<'a> Shown<'a> {
    /// Of a request with at most one `Authorization` header.
    pub(super) fn of(headers: &'a HeaderMap) -> Self {
        let Some(value) = headers.get(header::AUTHORIZATION) else { return Self::Nothing };
        let value = value.as_bytes();
        if let Some(token) = bearer::token(value) {
            return Self::Bearer(token);
        }
        if let Some(token) = bearer::dpop_token(value) {
            return Self::DPoP(token);
        }
        let scheme = value.split(|byte| *byte == b' ').next().unwrap_or_default();
        match scheme {
            _ if scheme.eq_ignore_ascii_case(b"basic") => Self::Basic,
            _ => Self::Other,
        }
    }

    /// By which scheme a caller is answered.
    pub(super) fn scheme(self) -> Scheme {
        match self {
            Self::DPoP(_) => Scheme::DPoP,
            Self::Nothing | Self::Bearer(_) | Self::Basic | Self::Other => Scheme::Bearer,
        }
    }

    /// What may be a token.
    pub(super) fn token(self) -> Option<&'a [u8]> {
        match self {
            Self::Bearer(token) | Self::DPoP(token) => Some(token),
            Self::Nothing | Self::Basic | Self::Other => None,
        }
    }

    /// How the security log calls it.
    pub(super) fn presented(self) -> Presented {
        match self {
            Self::Nothing => Presented::Nothing,
            Self::Bearer(_) => Presented::Bearer,
            Self::Basic => Presented::Basic,
            Self::DPoP(_) => Presented::DPoP,
            Self::Other => Presented::Other,
        }
    }
}

/// RFC 6750 section 2.1 `b64token`.
pub(super) fn is_token(token: &[u8]) -> bool {
    let body = token.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
    let (body, _padding) = token.split_at(body);
    // to the end in every case and without a branch, so that it is done for sixteen letters at once
    !body.is_empty() && body.iter().fold(true, |so_far, letter| so_far & is_letter(*letter))
}

#[allow(
    clippy::needless_bitwise_bool,
    clippy::manual_range_contains,
    reason = "without branches sixteen letters are looked at at once"
)]
fn is_letter(letter: u8) -> bool {
    let small = letter | 0x20;
    ((small >= b'a') & (small <= b'z'))
        // "." and "/" are those before "0"
        | ((letter >= b'.') & (letter <= b'9'))
        | (letter == b'-')
        | (letter == b'_')
        | (letter == b'~')
        | (letter == b'+')
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn what_a_header_shows() {
        for (value, expected) in [
            ("Bearer a.b.c", Shown::Bearer(b"a.b.c")),
            ("bEaReR x", Shown::Bearer(b"x")),
            ("Bearer  x", Shown::Bearer(b" x")),
            ("Basic eA==", Shown::Basic),
            ("basic", Shown::Basic),
            ("DPoP x", Shown::DPoP(b"x")),
            ("dpop x", Shown::DPoP(b"x")),
            ("DPoP", Shown::Other),
            ("DPoP ", Shown::Other),
            ("Bearer ", Shown::Other),
            ("Bearer", Shown::Other),
            ("x", Shown::Other),
            ("", Shown::Other),
        ] {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap())]);
            assert_eq!(Shown::of(&headers), expected, "{value}");
        }
        assert_eq!(Shown::of(&HeaderMap::new()), Shown::Nothing);
    }

    #[test]
    fn characters_of_tokens() {
        for (token, expected) in [
            ("a.b-c_d~e+f/g", true),
            ("a==", true),
            ("a=b", false),
            ("==", false),
            ("", false),
            (" a", false),
            ("a b", false),
            ("a,b", false),
            ("a\"b", false),
        ] {
            assert_eq!(is_token(token.as_bytes()), expected, "{token}");
        }
        assert!(!is_token(b"a\xff"));
        for letter in 0..=u8::MAX {
            let expected = letter.is_ascii_alphanumeric() || b"-._~+/".contains(&letter);
            assert_eq!(is_letter(letter), expected, "{letter}");
        }
    }
}
