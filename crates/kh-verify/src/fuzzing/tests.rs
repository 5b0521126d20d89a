//! The bodies over 100,000 seeded inputs each: good ones, changed a little and a lot.

use kh_core::{Entropy, SeededEntropy};

use super::*;

/// Inputs of each test; ten times as many in the long form.
const INPUTS: u32 = 100_000;

/// Pieces that parsers stumble over.
const PIECES: [&str; 30] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "\\u0061",
    "\\",
    ".",
    "..",
    "=",
    "-",
    "_",
    "null",
    "true",
    "1e309",
    "-0",
    "253402300800",
    "0.1",
    "\u{0}",
    "\u{feff}",
    " ",
    "\n",
    "\"exp\":",
    "\"alg\":\"none\"",
    "\"crit\":[]",
    "%2e",
    "é",
    "\"kty\"",
];

fn below(random: &SeededEntropy, bound: usize) -> usize {
    usize::try_from(random.below(bound as u64)).expect("it is below a usize")
}

/// One of the seeds, changed in up to four places.
fn mutated(seeds: &[Vec<u8>], random: &SeededEntropy) -> Vec<u8> {
    let mut input = seeds[below(random, seeds.len())].clone();
    for _ in 0..below(random, 5) {
        let at = below(random, input.len() + 1);
        match below(random, 6) {
            0 if at < input.len() => input[at] ^= 1 << below(random, 8),
            1 if at < input.len() => drop(input.remove(at)),
            2 => drop(input.splice(at..at, PIECES[below(random, PIECES.len())].bytes())),
            3 => input.truncate(at),
            4 => {
                let other = &seeds[below(random, seeds.len())];
                let (from, to) = (below(random, other.len() + 1), below(random, other.len() + 1));
                let piece = other[from.min(to)..from.max(to)].to_vec();
                drop(input.splice(at..at, piece));
            }
            _ => {
                let end = (at + below(random, 24)).min(input.len());
                drop(input.splice(at..end, PIECES[below(random, PIECES.len())].bytes()));
            }
        }
    }
    input
}

/// Runs `body` over mutations of the seeds; how many there were of which it said that they were good.
fn run(seed: u64, seeds: &[&str], mut body: impl FnMut(&[u8])) {
    let seeds: Vec<Vec<u8>> = seeds.iter().map(|text| text.as_bytes().to_vec()).collect();
    for good in &seeds {
        body(good);
    }
    let random = SeededEntropy::new(seed);
    let inputs = if std::env::var_os("KEYHOLDER_LONG").is_some() { INPUTS * 10 } else { INPUTS };
    for _ in 0..inputs {
        body(&mutated(&seeds, &random));
    }
}

const CLAIMS: [&str; 4] = [
    r#"{"iss":"https://i","sub":"s","aud":["a","b"],"exp":1800000300,"nbf":1800000000.5,"iat":1799999999,"jti":"j","scope":"a b:c"}"#,
    r#"{"exp":1.8000003e9,"scp":["a","b"],"azp":"c","cnf":{"jkt":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"},"tenant":"t"}"#,
    r#"{"exp":1800000300,"realm_access":{"roles":["x","y"]},"level":-3,"roles":[],"client_id":"s","sub":"s"}"#,
    r#"{"exp":99999999999,"aud":"a","scope":"","cnf":{"x5t#S256":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"},"x":[[[[{}]]]]}"#,
];

#[test]
fn claims_for_any_bytes() {
    let mut good = 0;
    run(1, &CLAIMS, |payload| {
        claims(payload);
        good += u32::from(Object::parse(payload).is_some());
    });
    assert!(good > INPUTS / 10, "only {good} were JSON at all");
}

#[test]
fn tokens_for_any_bytes() {
    let sign = |header: &str, payload: &str| {
        let signed = format!("{}.{}", base64url::encode(header.as_bytes()), base64url::encode(payload.as_bytes()));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, KEY), signed.as_bytes());
        format!("{signed}.{}", base64url::encode(tag.as_ref()))
    };
    let seeds = [
        sign(r#"{"alg":"HS256","typ":"JWT","kid":"k"}"#, CLAIMS[0]),
        sign(r#"{"alg":"HS256","typ":"application/at+jwt"}"#, CLAIMS[1]),
        sign(r#"{"alg":"RS256","kid":"\u006b"}"#, CLAIMS[2]),
        sign(r#"{"alg":"none"}"#, CLAIMS[3]),
    ];
    let seeds: Vec<&str> = seeds.iter().map(String::as_str).collect();
    let mut decoded = 0;
    run(2, &seeds, |bytes| {
        token(bytes);
        decoded += u32::from(Compact::decode(bytes).is_ok());
    });
    assert!(decoded > INPUTS / 20, "only {decoded} were tokens");
}

#[test]
fn headers_for_any_bytes() {
    let seeds = [
        r#"{"alg":"HS256","typ":"at+jwt","kid":"k","x5t":"a"}"#,
        r#"{"alg":"HS256","jwk":{"kty":"oct","k":"a"},"jku":"https://x","cty":"JWT"}"#,
        r#"{"alg":"ES256","crit":["b64"],"b64":false,"zip":"DEF"}"#,
    ];
    run(3, &seeds, |header| {
        token(format!("{}.{}.", base64url::encode(header), base64url::encode(CLAIMS[0].as_bytes())).as_bytes());
    });
}

#[test]
fn key_sets_for_any_bytes() {
    let seeds = [
        r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"a","use":"sig"}]}"#,
        r#"{"keys":[{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","alg":"ES256"},{"kty":"oct","k":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]}"#,
        r#"{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","key_ops":["verify"]}"#,
        r#"{"keys":[{"kty":"OKP","crv":"X25519","x":"AA","use":"enc"},{"kty":"EC","crv":"P-521","d":"x"},{"kty":"?"}]}"#,
    ];
    let mut good = 0;
    run(4, &seeds, |json| {
        jwks(json);
        good += u32::from(KeySet::parse(json, Symmetric::Accepted).is_ok());
    });
    assert!(good > INPUTS / 20, "only {good} were key sets");
}

#[test]
fn scopes_for_any_text() {
    let seeds = ["user:read analytics:reports:read", "a", "", "a  b ", "openid profile email https://x/y?z=1#f"];
    run(5, &seeds, |bytes| scope(&String::from_utf8_lossy(bytes)));
}

#[test]
fn proofs_for_any_bytes() {
    let seeds = [
        // RFC 9449 section 4.1, figure 2
        "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg",
        "https://api.example.com/a?b=c#d",
        "HTTP://API.example.com:80/%7Ea/%2f/..",
    ];
    run(6, &seeds, proof);
}
