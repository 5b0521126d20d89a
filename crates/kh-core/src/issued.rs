//! The form of secrets that keyholder itself issues: a prefix, 40 random base62 characters (238 bits), and 6 base62
//! characters of CRC-32 over what stands before them, so that a scanner can know one without asking anybody.

use crate::{Entropy, SecretString};

/// What kind of secret this is; each has its own prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IssuedKind {
    /// `khs_...`: the secret of a keyholder client.
    ClientSecret,
    /// `kht_...`: an opaque access token of keyholder.
    Token,
    /// `khg_...`: the guard token of the broker or the admin listener.
    Guard,
}

impl IssuedKind {
    /// The prefix, with its underscore.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::ClientSecret => "khs_",
            Self::Token => "kht_",
            Self::Guard => "khg_",
        }
    }
}

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const RANDOM_CHARS: usize = 40;
const CHECK_CHARS: usize = 6;

/// Length of every issued secret, in bytes.
pub const ISSUED_LEN: usize = 4 + RANDOM_CHARS + CHECK_CHARS;

/// Makes a new secret of `kind`.
pub fn issue(kind: IssuedKind, entropy: &dyn Entropy) -> SecretString {
    let mut text = String::with_capacity(ISSUED_LEN);
    text.push_str(kind.prefix());
    let mut byte = [0];
    while text.len() < 4 + RANDOM_CHARS {
        entropy.fill(&mut byte);
        // 248 = 4 * 62: bytes above it would favour the first letters
        if byte[0] < 248
            && let Some(letter) = ALPHABET.get(usize::from(byte[0] % 62))
        {
            text.push(char::from(*letter));
        }
    }
    push_check(&mut text);
    SecretString::new(text)
}

/// Whether `text` has the prefix, alphabet, length and checksum of `kind`. Says nothing about who issued it.
pub fn is_well_formed(kind: IssuedKind, text: &str) -> bool {
    let Some(body) = text.get(..ISSUED_LEN - CHECK_CHARS) else { return false };
    if text.len() != ISSUED_LEN || !body.starts_with(kind.prefix()) {
        return false;
    }
    let mut expected = String::with_capacity(ISSUED_LEN);
    expected.push_str(body);
    push_check(&mut expected);
    expected == text && body.bytes().skip(4).all(|byte| byte.is_ascii_alphanumeric())
}

fn push_check(text: &mut String) {
    let mut rest = u64::from(crc32fast::hash(text.as_bytes()));
    for _ in 0..CHECK_CHARS {
        let digit = usize::try_from(rest % 62).unwrap_or(0);
        text.push(char::from(*ALPHABET.get(digit).unwrap_or(&b'0')));
        rest /= 62;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SeededEntropy;

    #[test]
    fn issued_secrets_know_themselves_and_nothing_else() {
        let entropy = SeededEntropy::new(7);
        let secret = issue(IssuedKind::Token, &entropy);
        let text = secret.expose();
        assert!(is_well_formed(IssuedKind::Token, text));
        assert!(!is_well_formed(IssuedKind::ClientSecret, text));
        for at in 0..ISSUED_LEN {
            let mut changed = text.as_bytes().to_vec();
            changed[at] = if changed[at] == b'x' { b'y' } else { b'x' };
            assert!(!is_well_formed(IssuedKind::Token, std::str::from_utf8(&changed).unwrap()), "byte {at}");
        }
        for bad in ["", "kht_", &text[1..], &format!("{text}0"), "kht_é"] {
            assert!(!is_well_formed(IssuedKind::Token, bad));
        }
    }
}
