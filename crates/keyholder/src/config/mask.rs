//! Hides whatever may be a secret in configuration text before any of it is shown.
//!
//! Invariant: the masked text has the same bytes per line and the same line ends as the original, so that positions
//! stay right; values of secret-sounding keys, user parts of URLs, multi-line strings and long random-looking words
//! are gone from it.

/// Words in a key that make its value a secret, unless the value is a reference.
const SECRET_WORDS: [&str; 6] = ["secret", "password", "passphrase", "passwd", "token", "apikey"];

/// Endings of keys whose values name a place or a time and not a secret.
const HARMLESS_ENDINGS: [&str; 8] = ["_env", "_file", "_url", "_path", "_timeout", "_refresh", "_auth", "_ttl"];

/// Shortest word that is masked for its looks alone: 28 mixed characters hold more than 128 bits if random.
const RANDOM_WORD_MIN: usize = 28;

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

/// Masks user parts of URLs and long words that look random.
pub fn mask_words(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(is_word_char) {
        let (before, from_word) = rest.split_at(start);
        let end = from_word.find(|letter| !is_word_char(letter)).unwrap_or(from_word.len());
        let (word, after) = from_word.split_at(end);
        out.push_str(before);
        if looks_random(word) {
            out.push_str(&stars(word));
        } else {
            out.push_str(word);
        }
        rest = after;
    }
    out.push_str(rest);
    mask_user_part(&out)
}

fn is_word_char(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "_-+".contains(letter)
}

fn looks_random(word: &str) -> bool {
    let has = |test: fn(&u8) -> bool| word.as_bytes().iter().any(test);
    let mixed = has(u8::is_ascii_digit) && has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase);
    // A UUID is an id everywhere here, and long lower-case words are names.
    let hex = word.len() >= 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit()) && has(u8::is_ascii_digit);
    word.len() >= RANDOM_WORD_MIN && mixed || hex || (word.starts_with("kh") && word.len() > 40)
}

/// `https://user:password@host` with the user part as stars.
fn mask_user_part(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (head, tail) = rest.split_at(at + 3);
        out.push_str(head);
        let end = tail.find(|letter: char| letter.is_whitespace() || "/\"'?#".contains(letter)).unwrap_or(tail.len());
        let (authority, after) = tail.split_at(end);
        match authority.rfind('@') {
            Some(sign) => {
                let (user, host) = authority.split_at(sign);
                out.push_str(&stars(user));
                out.push_str(host);
            }
            None => out.push_str(authority),
        }
        rest = after;
    }
    out.push_str(rest);
    out
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
        ] {
            assert_eq!(mask(text), shown, "{text}");
            assert_eq!(mask(text).len(), text.len(), "{text}");
        }
    }
}
