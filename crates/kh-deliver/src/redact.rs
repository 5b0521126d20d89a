//! Text from outside (a command's output, an API's message) before it is told: bounded, printable, and withheld when
//! it holds one of the document's secrets in any common form.
//!
//! Invariant: a text in which a secret was found is not told in part, because what is around it may be the rest of it.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use kh_core::{SecretString, credential::CredentialDocument};
use zeroize::Zeroizing;

/// Longest text that is told, in characters: one line of a terminal or two.
pub(crate) const TOLD_MAX: usize = 200;

/// Shorter secrets would be found in any text; no platform issues one.
const SECRET_MIN: usize = 6;

/// At most [`TOLD_MAX`] characters of `text`, blanks for controls and `?` for what is not ASCII.
pub(crate) fn printable(text: &str) -> String {
    let clean = |letter: char| match letter {
        letter if letter.is_ascii_graphic() => letter,
        letter if letter.is_whitespace() => ' ',
        _ => '?',
    };
    text.chars().take(TOLD_MAX).map(clean).collect()
}

/// The forms of a document's secrets that are looked for, also where the secret is a part of what was encoded.
pub(crate) struct Secrets(Vec<Zeroizing<Vec<u8>>>);

impl Secrets {
    pub(crate) fn of(document: &CredentialDocument) -> Self {
        let mut forms = Vec::new();
        let secrets = [&document.client_secret, &document.access_key_secret, &document.refresh_token];
        for secret in secrets.into_iter().flatten().filter(|secret| secret.len() >= SECRET_MIN) {
            add_forms(secret, &mut forms);
        }
        Self(forms)
    }

    /// Whether one of them is in `text`, whatever the case of hex digits.
    pub(crate) fn are_in(&self, text: &[u8]) -> bool {
        let text = Zeroizing::new(text.to_ascii_lowercase());
        self.0.iter().any(|form| text.windows(form.len().max(1)).any(|window| window == form.as_slice()))
    }
}

/// Everything is compared in lower case: that finds a little more than there is, and misses nothing.
fn add_forms(secret: &SecretString, forms: &mut Vec<Zeroizing<Vec<u8>>>) {
    let bytes = secret.expose().as_bytes();
    let mut add = |form: Vec<u8>| {
        let mut form = Zeroizing::new(form);
        form.make_ascii_lowercase();
        forms.push(form);
    };
    add(bytes.to_vec());
    for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
        (0..3).for_each(|before| add(inside_base64(engine, bytes, before)));
    }
    // between the quotes of a JSON text
    let quoted = Zeroizing::new(serde_json::to_string(secret.expose()).unwrap_or_default());
    add(quoted.trim_matches('"').as_bytes().to_vec());
    add(bytes.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect());
    add(bytes.iter().flat_map(|byte| percent(*byte)).collect());
    add(bytes.iter().flat_map(|byte| format!("%{byte:02x}").into_bytes()).collect());
}

/// The letters that `bytes` alone decide in the base64 of a longer text in which `before` bytes modulo 3 precede it, as
/// in Basic credentials: each letter has six bits, and those at the ends share some with their neighbours.
fn inside_base64(engine: &impl Engine, bytes: &[u8], before: usize) -> Vec<u8> {
    let mut padded = Zeroizing::new(vec![0; before]);
    padded.extend_from_slice(bytes);
    let text = Zeroizing::new(engine.encode(&*padded).into_bytes());
    let first = (before * 8).div_ceil(6);
    let end = padded.len() * 8 / 6;
    text.get(first..end).unwrap_or_default().to_vec()
}

/// RFC 3986 section 2.3: what is not unreserved is escaped.
fn percent(byte: u8) -> Vec<u8> {
    if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
        return vec![byte];
    }
    format!("%{byte:02x}").into_bytes()
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};

    use super::*;

    const CANARY: &str = "kH/Canary+5ecret=~ä?";

    fn secrets() -> Secrets {
        let client_secret = Some(SecretString::copied(CANARY));
        Secrets::of(&CredentialDocument { client_secret, ..CredentialDocument::default() })
    }

    #[test]
    fn every_form_is_found() {
        let hex = CANARY.bytes().fold(String::new(), |hex, byte| hex + &format!("{byte:02X}"));
        let escaped: String = CANARY.bytes().flat_map(percent).map(char::from).collect();
        for form in [
            CANARY.to_owned(),
            STANDARD.encode(CANARY),
            URL_SAFE.encode(CANARY),
            URL_SAFE_NO_PAD.encode(CANARY),
            hex.clone(),
            hex.to_lowercase(),
            escaped.to_uppercase(),
            escaped,
        ] {
            assert!(secrets().are_in(format!("before {form} after").as_bytes()), "{form}");
        }
        for harmless in ["", "before after", &CANARY[..12]] {
            assert!(!secrets().are_in(harmless.as_bytes()), "{harmless}");
        }
        assert!(!Secrets::of(&CredentialDocument::default()).are_in(b"anything"));
    }

    #[test]
    fn a_secret_is_found_inside_of_what_was_encoded() {
        for (before, after) in [("", ""), ("a", "b"), ("id:", ""), ("ab", "cd"), ("client-id:", "\n"), ("abcde", "x")] {
            let whole = format!("{before}{CANARY}{after}");
            for text in [STANDARD.encode(&whole), URL_SAFE.encode(&whole), STANDARD_NO_PAD.encode(&whole)] {
                assert!(secrets().are_in(format!("Authorization: Basic {text}").as_bytes()), "{whole:?} as {text}");
            }
        }
        let quoted = "a\"b\\c\nd-secret";
        let client_secret = Some(SecretString::copied(quoted));
        let secrets = Secrets::of(&CredentialDocument { client_secret, ..CredentialDocument::default() });
        assert!(secrets.are_in(serde_json::json!({ "s": quoted }).to_string().as_bytes()));
        assert!(!secrets.are_in(b"{\"s\":\"another\"}"));
    }

    #[test]
    fn told_text_is_short_and_printable() {
        assert_eq!(printable("a\nb\u{1b}[31mc\u{e4}"), "a b?[31mc?");
        assert_eq!(printable(&"x".repeat(1000)).len(), TOLD_MAX);
    }
}
