//! What a token looks like, before anybody looks into it.

use kh_core::issued::{ISSUED_LEN, IssuedKind};

/// What the signature of a JWT covers; `None` for what has not three parts.
pub(crate) fn signing_input(token: &[u8]) -> Option<&[u8]> {
    let last = token.iter().rposition(|byte| *byte == b'.')?;
    let (input, _) = token.split_at_checked(last)?;
    (parts(input) == 2).then_some(input)
}

/// A secret of keyholder's own that is no token, whole or a little damaged: it was shown by mistake. Longer tokens of
/// others may begin alike.
pub(super) fn is_other_secret(token: &[u8]) -> bool {
    const DAMAGE_MAX: usize = 8;
    token.len() <= ISSUED_LEN + DAMAGE_MAX
        && [IssuedKind::ClientSecret, IssuedKind::Guard].iter().any(|kind| token.starts_with(kind.prefix().as_bytes()))
}

/// Three parts or five.
pub(super) fn is_like_a_jwt(token: &[u8]) -> bool {
    matches!(parts(token), 3 | 5)
}

fn parts(token: &[u8]) -> usize {
    token.split(|byte| *byte == b'.').count()
}
