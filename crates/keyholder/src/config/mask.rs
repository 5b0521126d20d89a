//! Hides whatever may be a secret in configuration text before any of it is shown.
//!
//! Invariant: the masked text has the same bytes per line and the same line ends as the original, so that positions
//! stay right; values of secret-sounding keys, user parts of URLs, multi-line strings and long random-looking words
//! are gone from it.

use super::keys;

/// Words in a key that make its value a secret, unless the value is a reference.
const SECRET_WORDS: [&str; 6] = ["secret", "password", "passphrase", "passwd", "token", "apikey"];

/// Endings of keys whose values name a place or a time and not a secret.
const HARMLESS_ENDINGS: [&str; 8] = ["_env", "_file", "_url", "_path", "_timeout", "_refresh", "_auth", "_ttl"];

/// Shortest word of one case with digits that is masked for its looks alone.
const RANDOM_WORD_MIN: usize = 28;

/// Shortest word with capitals and digits that is masked: secrets of platforms have 43 and more, ids have no capitals.
const MIXED_WORD_MIN: usize = 16;

/// Shortest word with marks such as `+`, `=` and `%` that is masked.
const ODD_WORD_MIN: usize = 12;

/// Words of the program's own hints that look like secrets and are public; a longer word that holds one is judged.
const OWN_WORDS: [&str; 8] = [
    "=reports:read",
    "FileDescriptorName=",
    "GeoLite2-City.mmdb",
    "LoadCredential=",
    "STORE=VERSION",
    "grant_type=password",
    "kh_broker=debug",
    "store:acme-prod=7",
];

/// How a time of RFC 3339 begins; a 0 stands for any digit.
const TIME: &str = "0000-00-00T00:00:00";

/// Longest time of RFC 3339, with nanoseconds and an offset.
const TIME_MAX: usize = 35;

/// The text with everything that may be a secret replaced by `*`, byte for byte.
pub fn mask(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut block: Option<&str> = None;
    for line in text.split_inclusive('\n') {
        let (kept, after) = mask_line(line, block);
        masked.push_str(&kept);
        block = after;
    }
    masked
}

/// One line: what may be shown of it, and the delimiter of the multi-line string it leaves open.
fn mask_line(line: &str, block: Option<&'static str>) -> (String, Option<&'static str>) {
    if let Some(delimiter) = block {
        let Some(end) = line.find(delimiter) else { return (stars(line), block) };
        let (inside, rest) = line.split_at(end);
        return (stars(inside) + &mask_words(rest), None);
    }
    let opened = ["\"\"\"", "'''"].into_iter().find(|delimiter| line.matches(delimiter).count() == 1);
    if let Some(delimiter) = opened {
        let start = line.find(delimiter).map_or(line.len(), |at| at + delimiter.len());
        let (before, inside) = line.split_at(start);
        return (mask_words(before) + &stars(inside), Some(delimiter));
    }
    match secret_value_start(line) {
        Some(start) => {
            let (key, value) = line.split_at(start);
            (key.to_owned() + &stars(value), None)
        }
        None => (mask_words(line), None),
    }
}

/// Where the value of a secret-sounding key begins, if the line has one.
fn secret_value_start(line: &str) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = line.get(from..)?.find('=') {
        let equals = from + at;
        let before = line.get(..equals)?;
        let key = before.trim_end().rsplit(['.', ',', '{', ' ', '\t', '[']).next()?.trim_matches(['"', '\'']);
        let key = key.to_ascii_lowercase();
        let value = line.get(equals + 1..)?;
        let quoted = value.trim_start().trim_start_matches(['"', '\'']);
        let secret = SECRET_WORDS.iter().any(|word| key.replace(['-', '_'], "").contains(word))
            && !HARMLESS_ENDINGS.iter().any(|ending| key.ends_with(ending))
            && !quoted.starts_with("store:");
        if secret {
            return Some(equals + 1);
        }
        from = equals + 1;
    }
    None
}

/// Every byte that is not white space as a star; multi-byte characters keep their length.
fn stars(text: &str) -> String {
    text.chars()
        .flat_map(|letter| {
            let shown = if letter.is_ascii_whitespace() { letter } else { '*' };
            std::iter::repeat_n(shown, letter.len_utf8())
        })
        .collect()
}

/// Masks user parts of URLs and whatever looks like a secret: random words, and text with marks that ordinary values
/// do not have.
pub fn mask_words(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut behind_secret = false;
    while let Some(start) = rest.find(|letter| !is_boundary(letter)) {
        let (before, from_run) = rest.split_at(start);
        // A secret that holds quotes goes on until the next space.
        behind_secret &= !before.contains(char::is_whitespace);
        let end = from_run.find(is_boundary).unwrap_or(from_run.len());
        let (run, after) = from_run.split_at(end);
        out.push_str(before);
        // `key="value"`: the sign belongs to neither, nor in `key=["value"]` to a key that there is.
        let signed = |key: &str| after.starts_with(['"', '\'']) || (after.starts_with(['[', '{']) && keys::is_key(key));
        let bare = run.strip_suffix('=').filter(|key| signed(key)).unwrap_or(run);
        let shown = match bare.split_once("://") {
            _ if behind_secret => stars(bare),
            _ if is_public(run) => bare.to_owned(),
            Some((scheme, address)) => format!("{scheme}://{}", mask_address(address)),
            None if bare.starts_with(['/', '.']) => mask_segments(bare),
            None if is_suspicious(bare) => stars(bare),
            None => bare.to_owned(),
        };
        behind_secret |= shown != bare;
        out.push_str(&shown);
        out.push_str(run.strip_prefix(bare).unwrap_or_default());
        rest = after;
    }
    out.push_str(rest);
    out
}

/// What stands around values, in the file and in messages.
fn is_boundary(letter: char) -> bool {
    letter.is_whitespace() || "\"'`()[]{}<>,;".contains(letter)
}

/// Whether `word` is no secret for all its looks: the program's own, a time, or a key of the file with a plain value.
fn is_public(word: &str) -> bool {
    OWN_WORDS.contains(&word) || is_time(word) || is_plain_setting(word)
}

fn is_time(word: &str) -> bool {
    let fits = |(form, found): (u8, u8)| if form == b'0' { found.is_ascii_digit() } else { form == found };
    word.len() > TIME.len()
        && word.len() <= TIME_MAX
        && TIME.bytes().zip(word.bytes()).all(fits)
        && word.bytes().skip(TIME.len()).all(|byte| byte.is_ascii_digit() || b".:+-Z".contains(&byte))
}

/// `key=64` and `key=true`, where the schema has the key and it does not sound like a secret.
fn is_plain_setting(word: &str) -> bool {
    let Some((key, value)) = word.split_once('=') else { return false };
    let number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    (number || value == "true" || value == "false")
        && !SECRET_WORDS.iter().any(|secret| key.contains(secret))
        && keys::is_key(key)
}

/// Behind `https://`: the user part, and from a query on everything, may be secret.
fn mask_address(address: &str) -> String {
    let end = address.find(['?', '#']).unwrap_or(address.len());
    let (place, query) = address.split_at(end);
    // A password may hold a slash that nobody encoded: everything up to the last `@` is the user part.
    let (user, rest) = place.split_at(place.rfind('@').unwrap_or(0));
    stars(user) + &mask_segments(rest) + &stars(query)
}

fn mask_segments(path: &str) -> String {
    let masked =
        path.split('/').map(|segment| if is_suspicious(segment) { stars(segment) } else { segment.to_owned() });
    let masked = masked.collect::<Vec<_>>().join("/");
    // A secret may begin with a slash and hold more of them.
    let random = path.len() >= RANDOM_WORD_MIN && has_odd_marks(path.trim_matches('/'));
    if random { stars(path) } else { masked }
}

/// Marks of passwords and of base64 that names, durations, codes and rules do not have.
fn has_odd_marks(word: &str) -> bool {
    word.len() >= ODD_WORD_MIN && !word.starts_with("--") && word.contains(|letter| "+=&%@~\\!#$^".contains(letter))
}

fn is_suspicious(word: &str) -> bool {
    has_odd_marks(word) || looks_random(word)
}

/// Whether `word` may be a secret by its looks: keys, tokens and passwords, but no names, ids and numbers.
fn looks_random(word: &str) -> bool {
    let has = |test: fn(&u8) -> bool| word.as_bytes().iter().any(test);
    let digits = has(u8::is_ascii_digit);
    let mixed = digits && has(u8::is_ascii_uppercase) && word.len() >= MIXED_WORD_MIN;
    // A UUID is an id everywhere here, and long lower-case words with marks between them are names.
    let unbroken = digits && word.len() >= RANDOM_WORD_MIN && word.bytes().all(|byte| byte.is_ascii_alphanumeric());
    mixed || unbroken || (word.starts_with("kh") && word.len() > 40)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_and_the_rest_stays() {
        for (text, shown) in [
            ("region = \"eu-central-1\"", "region = \"eu-central-1\""),
            ("secret = \"store:acme\"", "secret = \"store:acme\""),
            ("secret = \"hunter2\"", "secret = *********"),
            ("client_secret='x y'", "client_secret=** **"),
            ("a = { password = \"p\" }", "a = { password = *** *"),
            ("token_url = \"https://u:p@h/x\"", "token_url = \"https://***@h/x\""),
            ("passphrase_env = \"ACME\"", "passphrase_env = \"ACME\""),
            ("x = \"aB3aB3aB3aB3aB3aB3aB3aB3aB3aB3\"", "x = \"******************************\""),
            ("x = \"0e8400e2-29b4-41d4-a716-446655440000\"", "x = \"0e8400e2-29b4-41d4-a716-446655440000\""),
            ("x = \"\"\"a\nb c\n\"\"\" # d", "x = \"\"\"*\n* *\n\"\"\" # d"),
            ("secret = \"ü\"", "secret = ****"),
            ("x = \"KEY7KEY7KEY7KEY7KEY7====\"", "x = \"***********************=\""),
            (
                "client aB/3+xY9/Qz7\"plainplainplain\" of client_of_a_name",
                "client ************\"***************\" of client_of_a_name",
            ),
            ("x = \"aB/3+xY9/Qz7==\"", "x = \"*************=\""),
            ("x = \"http://h:9/p?k=v\"", "x = \"http://h:9/p****\""),
            ("x = \"https://u:a/b@h\"", "x = \"https://*****@h\""),
            (
                "assumed_lifetime_seconds=\"1h\" # eu-central-1.mypurecloud.de",
                "assumed_lifetime_seconds=\"1h\" # eu-central-1.mypurecloud.de",
            ),
            ("a = \"GET /api/v2/users/**\"", "a = \"GET /api/v2/users/**\""),
            ("exempt_asns=[\"foo\"]", "exempt_asns=[\"foo\"]"),
            ("exempt_asns=[\"aB/3+xY9/Qz7==\"]", "exempt_asns=[\"*************=\"]"),
            ("hunterhunter=[\"foo\"]", "*************[\"***\"]"),
            ("per_client=10000", "per_client=10000"),
            ("no_key_of_ours=64", "*****************"),
        ] {
            assert_eq!(mask(text), shown, "{text}");
            assert_eq!(mask(text).len(), text.len(), "{text}");
        }
    }

    #[test]
    fn what_the_program_says_itself_is_not_hidden() {
        for text in [
            "write a time like 2026-11-21T08:00:00Z, or seconds since 1970",
            "not before 2026-11-21T08:00:00.123456789+01:00",
            "write it like 'GET /reports/{id}=reports:read', with all required scopes behind the =",
            "write info, debug, or a filter such as info,kh_broker=debug",
            "invalid value 'x' for '--adopt <STORE=VERSION>': as in store:acme-prod=7",
            "write FileDescriptorName= with gateway",
        ] {
            assert_eq!(mask_words(text), text);
        }
    }

    #[test]
    fn what_only_resembles_the_programs_own_words_is_hidden() {
        for word in [
            "2026-11-21T08:00:00Zx7",
            "2026-11-21T08:00:0xZ",
            "2026-11-21T08:00:00.12345678901234567890",
            "kh_broker=debug1",
            "=reports:read=",
            "token_url=12345678",
            "store:acme-prod=hunter2",
        ] {
            assert_eq!(mask_words(word), stars(word), "{word}");
        }
    }

    /// A new hint with an example that looks like a secret needs a line in [`OWN_WORDS`].
    #[test]
    fn no_hint_of_the_program_is_hidden() {
        fn walk(folder: &std::path::Path, hints: &mut Vec<String>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, hints);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let source = std::fs::read_to_string(&path).unwrap();
                    let literals = source.split(".hint(\"").skip(1).filter_map(|rest| rest.split_once("\")"));
                    hints.extend(literals.map(|(literal, _)| literal.replace("\\\"", "\"")));
                }
            }
        }
        let mut hints = Vec::new();
        walk(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut hints);
        assert!(hints.len() > 50, "the hints were found: {}", hints.len());
        for hint in hints {
            assert_eq!(mask_words(&hint), hint);
        }
    }
}
