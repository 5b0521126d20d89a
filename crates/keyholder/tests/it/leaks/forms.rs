//! Looks for secrets in bytes, in every form that programs usually write them in.
//!
//! Invariant: any 12 bytes of a secret are found, wherever they begin, in each of [`Form`]; `planted_secrets_are_found`
//! proves it with the same searcher that the scenario uses.

use std::collections::HashSet;

use aho_corasick::{AhoCorasick, MatchKind};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};

/// Shortest piece of a secret that counts as told: 12 bytes of a random secret cannot occur by chance.
pub const PIECE: usize = 12;

/// Characters of base64 that hold nothing but [`PIECE`] bytes, wherever these begin within a group of three: 16 if they
/// fill whole groups, else 15.
const PIECE_BASE64: usize = PIECE / 3 * 4 - 1;

/// How a secret may be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Form {
    Raw,
    Base64,
    Base64Url,
    HexLower,
    HexUpper,
    /// Reserved characters only, as in a form body or a query.
    PercentLower,
    PercentUpper,
    /// Every byte.
    PercentAllLower,
    PercentAllUpper,
    /// JSON with every escape that RFC 8259 knows for ASCII.
    JsonSlash,
    JsonUnicode,
    /// What `{:?}` of a byte array shows.
    Decimal,
}

pub const FORMS: [Form; 12] = [
    Form::Raw,
    Form::Base64,
    Form::Base64Url,
    Form::HexLower,
    Form::HexUpper,
    Form::PercentLower,
    Form::PercentUpper,
    Form::PercentAllLower,
    Form::PercentAllUpper,
    Form::JsonSlash,
    Form::JsonUnicode,
    Form::Decimal,
];

impl Form {
    /// `bytes` in this form.
    pub fn write(self, bytes: &[u8]) -> Vec<u8> {
        let each = |write: &dyn Fn(u8) -> String| bytes.iter().map(|byte| write(*byte)).collect::<String>();
        let reserved = |byte: u8| !byte.is_ascii_alphanumeric() && !b"-._~".contains(&byte);
        let plain = |byte: u8| char::from(byte).to_string();
        let text = match self {
            Self::Raw => return bytes.to_vec(),
            Self::Base64 => STANDARD_NO_PAD.encode(bytes),
            Self::Base64Url => STANDARD_NO_PAD.encode(bytes).replace('+', "-").replace('/', "_"),
            Self::HexLower => each(&|byte| format!("{byte:02x}")),
            Self::HexUpper => each(&|byte| format!("{byte:02X}")),
            Self::PercentLower => each(&|byte| if reserved(byte) { format!("%{byte:02x}") } else { plain(byte) }),
            Self::PercentUpper => each(&|byte| if reserved(byte) { format!("%{byte:02X}") } else { plain(byte) }),
            Self::PercentAllLower => each(&|byte| format!("%{byte:02x}")),
            Self::PercentAllUpper => each(&|byte| format!("%{byte:02X}")),
            Self::JsonSlash => each(&|byte| match byte {
                b'"' | b'\\' | b'/' => format!("\\{}", char::from(byte)),
                _ => plain(byte),
            }),
            Self::JsonUnicode => each(&|byte| format!("\\u{byte:04x}")),
            Self::Decimal => bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(", "),
        };
        text.into_bytes()
    }

    /// Every piece of `secret` in this form.
    fn pieces(self, secret: &[u8]) -> Vec<Vec<u8>> {
        if !matches!(self, Self::Base64 | Self::Base64Url) {
            return secret.windows(PIECE).map(|window| self.write(window)).collect();
        }
        // What stands before the secret moves it within the groups of three bytes: 0, 1 or 2 of them, and the
        // characters that hold bits of its neighbours are left out.
        let mut all = Vec::new();
        for before in 0..3 {
            let shifted = [&b"\0\0"[..before], secret].concat();
            let text = self.write(&shifted);
            let first = (before * 8).div_ceil(6);
            let whole = shifted.len() * 8 / 6;
            all.extend(text[first..whole].windows(PIECE_BASE64).map(<[u8]>::to_vec));
        }
        all
    }
}

/// A secret with a name to tell it by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Marked {
    pub name: String,
    pub bytes: Vec<u8>,
}

/// What was found: never the secret itself, so that a failing test's output is no leak either.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    pub secret: String,
    pub form: Form,
    pub at: usize,
}

/// Finds pieces of many secrets at once.
pub struct Searcher {
    automaton: AhoCorasick,
    meanings: Vec<(usize, Form)>,
    names: Vec<String>,
}

impl Searcher {
    pub fn new(secrets: &[Marked]) -> Self {
        let mut meanings = Vec::new();
        let mut patterns: Vec<Vec<u8>> = Vec::new();
        let mut known = HashSet::new();
        for (index, secret) in secrets.iter().enumerate() {
            assert!(secret.bytes.len() >= PIECE, "{} is too short to look for", secret.name);
            for form in FORMS {
                for piece in form.pieces(&secret.bytes) {
                    if known.insert(piece.clone()) {
                        patterns.push(piece);
                        meanings.push((index, form));
                    }
                }
            }
        }
        let automaton = AhoCorasick::builder().match_kind(MatchKind::Standard).build(&patterns).expect("few patterns");
        Self { automaton, meanings, names: secrets.iter().map(|secret| secret.name.clone()).collect() }
    }

    /// The first finding of each secret in each form.
    pub fn search(&self, haystack: &[u8]) -> Vec<Found> {
        let mut all: Vec<Found> = Vec::new();
        for hit in self.automaton.find_iter(haystack) {
            let (index, form) = self.meanings[hit.pattern().as_usize()];
            let secret = &self.names[index];
            if !all.iter().any(|found| found.secret == *secret && found.form == form) {
                all.push(Found { secret: secret.clone(), form, at: hit.start() });
            }
        }
        all
    }
}

/// Bytes that look random, the same in every run and different for each label.
fn noise(label: &str, length: usize) -> Vec<u8> {
    let block = |number: usize| kh_core::Sha256::of(format!("leaks/{label}/{number}").as_bytes()).0;
    (0..length.div_ceil(32)).flat_map(block).take(length).collect()
}

/// A Genesys Cloud client secret: 43 characters of base64url.
pub fn secret_text(label: &str) -> String {
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(noise(label, 32))
}

/// A CXone access key's text: 52 characters of base32 and `====`.
pub fn key_text(label: &str) -> String {
    let letters = noise(label, 52)
        .into_iter()
        .map(|byte| char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[usize::from(byte & 31)]));
    letters.chain("====".chars()).collect()
}

/// A secret as people make them: with everything that encodings treat specially.
pub fn awkward_text(label: &str) -> String {
    let letters: Vec<char> = "aB3/xY9+Qz\"7\\k=Lm&n%Op:r@S~t-U_v.W".chars().collect();
    noise(label, 48).into_iter().map(|byte| letters[usize::from(byte) % letters.len()]).collect()
}

/// 32 bytes in standard base64.
pub fn key_base64(label: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(noise(label, 32))
}

#[test]
fn planted_secrets_are_found() {
    let planted = [secret_text("planted"), key_text("planted"), awkward_text("planted"), key_base64("planted")];
    let mut checked = 0;
    for text in &planted {
        let secret = Marked { name: "planted".to_owned(), bytes: text.clone().into_bytes() };
        let searcher = Searcher::new(std::slice::from_ref(&secret));
        for form in FORMS {
            // Any 12 bytes; in base64 beginning at any place within a group of three, so 12 there hide 15 to 16 letters.
            for start in 0..=secret.bytes.len() - PIECE {
                for before in ["", "x", "xy"] {
                    let base64 = matches!(form, Form::Base64 | Form::Base64Url);
                    let (inside, outside) = if base64 { (before, "") } else { ("", before) };
                    let piece = [inside.as_bytes(), &secret.bytes[start..start + PIECE], inside.as_bytes()].concat();
                    let line =
                        [b"INFO ", outside.as_bytes(), &form.write(&piece), outside.as_bytes(), b" end"].concat();
                    let found = searcher.search(&line).len();
                    assert_eq!(found, 1, "{form:?} from {start} in {}", String::from_utf8_lossy(&line));
                    checked += 1;
                }
            }
        }
        // Eleven bytes are not told from chance, and other secrets are not this one.
        for harmless in [&text[..PIECE - 1], &secret_text("another"), &key_text("another"), &key_base64("another")] {
            assert!(searcher.search(harmless.as_bytes()).is_empty(), "{harmless}");
        }
    }
    assert!(checked > 4 * 12 * 30 * 3, "only {checked} pieces were planted");
}
