//! What fuzz targets and seeded tests check of what a caller sends: this module exists for them only.

use base64::{Engine, prelude::BASE64_STANDARD};
use http::HeaderName;
use kh_core::SecretString;

use crate::{
    inbound,
    outbound::own::form::{Basic, Form},
};

/// A login: the form `body` and the pair `pair` as a Basic header. A form that is taken says everything once; what
/// Basic accepts has an id and a secret, and the same pair written plainly is understood in the same way.
pub fn login(body: &[u8], pair: &str) {
    let _raw = Basic::parse(body);
    if let Ok(form) = Form::parse(body) {
        let text = std::str::from_utf8(body).expect("what is taken is text");
        let plain = |name: &str| text.split('&').filter_map(|part| part.strip_prefix(name)?.strip_prefix('=')).count();
        let once = [
            ("grant_type", &form.grant_type),
            ("client_secret", &form.client_secret),
            ("code", &form.code),
            ("redirect_uri", &form.redirect_uri),
            ("code_verifier", &form.code_verifier),
        ];
        for (name, value) in once {
            assert!(plain(name) <= 1, "{name} is there twice");
            assert!(value.as_ref().is_none_or(|value| !value.expose().is_empty()));
        }
    }
    let header = format!("Basic {}", BASE64_STANDARD.encode(pair));
    let Ok(Basic { id, secret }) = Basic::parse(header.as_bytes()) else { return };
    assert!(!id.is_empty() && !secret.is_empty());
    if !pair.contains('%') {
        let shown = |part: &SecretString| part.expose().to_owned();
        assert_eq!(format!("{}:{}", shown(&id), shown(&secret)), pair);
    }
}

/// Header names of a caller, a line each: none that is kept for what keyholder tells reaches a protected API.
pub fn header_names(text: &[u8]) {
    let names = text.split(|byte| *byte == b'\n').take(NAMES_MAX);
    let names: Vec<_> = names.filter_map(|name| HeaderName::from_bytes(name).ok()).collect();
    let passed = inbound::kept_names_that_pass(&names);
    assert!(passed.is_empty(), "{passed:?}");
}

/// As many as a request may have in round numbers.
const NAMES_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use kh_core::{Entropy, SeededEntropy};

    use super::*;

    fn below(entropy: &SeededEntropy, bound: usize) -> usize {
        usize::try_from(entropy.below(bound as u64)).unwrap()
    }

    /// One of `seeds` with some of its bytes replaced, left out or added.
    fn mutated(entropy: &SeededEntropy, seeds: &[&str], pieces: &[&str]) -> Vec<u8> {
        let mut bytes = seeds[below(entropy, seeds.len())].as_bytes().to_vec();
        for _ in 0..below(entropy, 4) {
            let at = below(entropy, bytes.len() + 1);
            let end = (at + below(entropy, 3)).min(bytes.len());
            bytes.splice(at..end, pieces[below(entropy, pieces.len())].bytes());
        }
        bytes
    }

    #[test]
    fn logins_of_any_bytes() {
        const FORMS: [&str; 5] = [
            "grant_type=authorization_code&code=c%2F1&redirect_uri=https%3A%2F%2Fa.example%2F&code_verifier=v~2",
            "grant_type=client_credentials&client_id=a%2Bb&client_secret=s&scope=x+y",
            "grant_type=password&username=u%40x&password=p%26q",
            "token=kht_abc&token_type_hint=access_token",
            "Basic aWQ6c2VjcmV0",
        ];
        const PAIRS: [&str; 4] = ["id:secret", "i%20d:s%2Bx", "kh_app:khs_abc", "a:b:c"];
        const PIECES: [&str; 18] = [
            "&",
            "=",
            "%",
            "%26",
            "%3D",
            "%00",
            "%C3",
            "+",
            ":",
            "grant_type=",
            "&client_secret=t",
            "%67rant_type=b",
            "\n",
            "\0",
            "\u{e4}",
            ";",
            " ",
            "",
        ];
        let entropy = SeededEntropy::new(6_749);
        let (mut forms, mut pairs) = (0, 0);
        for _ in 0..100_000 {
            let form = mutated(&entropy, &FORMS, &PIECES);
            let pair = String::from_utf8_lossy(&mutated(&entropy, &PAIRS, &PIECES)).into_owned();
            login(&form, &pair);
            forms += usize::from(Form::parse(&form).is_ok());
            let header = format!("Basic {}", BASE64_STANDARD.encode(&pair));
            pairs += usize::from(Basic::parse(header.as_bytes()).is_ok());
        }
        assert!((20_000..100_000).contains(&forms), "{forms} of the forms were taken");
        assert!((20_000..100_000).contains(&pairs), "{pairs} of the pairs were taken");
    }

    #[test]
    fn header_names_of_any_bytes() {
        const NAMES: [&str; 4] = [
            "x-user\nx_user\nX.User",
            "X-Forwarded-For\nforwarded\nx-real-ip",
            "accept\nuser-agent\nx-custom",
            "authorization\nproxy-authorization\ncontent-length",
        ];
        const PIECES: [&str; 14] =
            ["_", ".", "~", "!", "-", "X", "user", "\n", "x-user", "x__user", "forwarded-", "^", "|", " "];
        let entropy = SeededEntropy::new(7_239);
        for _ in 0..100_000 {
            header_names(&mutated(&entropy, &NAMES, &PIECES));
        }
    }
}
