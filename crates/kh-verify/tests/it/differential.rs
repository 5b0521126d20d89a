//! Another library's opinion (`jsonwebtoken`) of the same tokens, good, wrong and broken. What it refuses is not taken
//! here, and what it takes is refused here only for a reason in the list below; `docs/reference/token-attacks.md` has
//! both lists for readers.

use std::collections::BTreeMap;

use jsonwebtoken::{DecodingKey, Validation};
use kh_core::{Clock, Entropy, SeededEntropy, SystemClock, UnixMillis};
use kh_verify::{Algorithm, Algorithms, Compact, KeySet, Policy, Reason, Symmetric, verify};
use serde_json::{Value, json};

use crate::support::*;

/// Tokens of the seeded test; ten times as many in the long form.
const TOKENS: u32 = 100_000;

/// Reasons for which a token is refused that the other library takes.
const STRICTER: [Reason; 15] = [
    // members twice, deep nesting, text where an object belongs, more than 32 members, a key's name that is too long
    Reason::HeaderInvalid,
    Reason::ClaimsInvalid,
    // extensions of the header, and tokens in tokens
    Reason::CriticalHeader,
    Reason::UnencodedPayload,
    Reason::Compressed,
    Reason::NestedToken,
    // it does not look at `typ`
    Reason::TypeRefused,
    // nor at the key's name, which here chooses the key
    Reason::KeyUnknown,
    Reason::KeyUnfit,
    Reason::KeyMissing,
    // nor at `iat`, scopes, bindings and the size
    Reason::IssuedInFuture,
    Reason::ScopeInvalid,
    Reason::ConfirmationUnsupported,
    Reason::ClaimsTooLarge,
    Reason::TooLarge,
];

struct Sides {
    keys: KeySet,
    policy: Policy,
    now: UnixMillis,
    theirs: DecodingKey,
    validation: Validation,
}

fn theirs(algorithm: Algorithm) -> jsonwebtoken::Algorithm {
    algorithm.as_str().parse().expect("ES512 is the only one that it has not")
}

impl Sides {
    fn of(algorithm: Algorithm) -> Self {
        let signer = signer(algorithm);
        let jwk = serde_json::from_value(signer.jwk()).unwrap();
        let mut validation = Validation::new(theirs(algorithm));
        validation.leeway = 30;
        validation.validate_nbf = true;
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        Self {
            keys: keys(algorithm),
            policy: policy().with_algorithms(Algorithms::of(&[algorithm])),
            now: SystemClock::new().now().wall,
            theirs: DecodingKey::from_jwk(&jwk).unwrap(),
            validation,
        }
    }

    /// Which of the two take the token: ours and theirs.
    fn compare(&self, token: &str) -> (Result<(), Reason>, bool) {
        let ours = verify(token.as_bytes(), &self.keys, &self.policy, self.now).map(drop);
        let theirs = jsonwebtoken::decode::<Value>(token, &self.theirs, &self.validation);
        match (&ours, &theirs) {
            (Ok(()), Err(error)) => assert!(looser(token), "taken here, and there {error}: {}", shown(token)),
            (Err(reason), Ok(_)) => {
                assert!(STRICTER.contains(reason), "{reason}, and taken there: {}", shown(token));
            }
            (Ok(()), Ok(_)) | (Err(_), Err(_)) => {}
        }
        (ours, theirs.is_ok())
    }
}

/// What is taken here although the other library refuses it: a header member that is not looked at here (a key that the
/// token brings along, and its kin) and is of a wrong form.
fn looser(token: &str) -> bool {
    let Some(header) = token.split('.').next() else { return false };
    let header = base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, header).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    ["jwk", "jku", "x5u", "x5c", "x5t", "x5t#S256", "nonce", "enc", "url"].iter().any(|name| header.get(name).is_some())
}

fn shown(token: &str) -> String {
    let part = |part: &str| {
        String::from_utf8_lossy(
            &base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, part).unwrap_or_default(),
        )
        .into_owned()
    };
    format!("{token}\n{}", token.split('.').take(2).map(part).collect::<Vec<_>>().join("\n"))
}

fn pick<'l, T>(random: &SeededEntropy, list: &'l [T]) -> &'l T {
    &list[usize::try_from(random.below(list.len() as u64)).unwrap()]
}

/// A good object with up to three members changed, taken away or added.
fn varied(random: &SeededEntropy, mut object: Value, others: &[(&str, Vec<Value>)]) -> String {
    let mut twice = None;
    for _ in 0..random.below(4) {
        let (name, values) = pick(random, others);
        let members = object.as_object_mut().unwrap();
        match random.below(8) {
            0 => drop(members.remove(*name)),
            1 => twice = Some(format!("{{\"{name}\":{},", pick(random, values))),
            _ => drop(members.insert((*name).to_owned(), pick(random, values).clone())),
        }
    }
    let text = object.to_string();
    twice.map_or(text.clone(), |start| text.replacen('{', &start, 1))
}

fn headers(algorithm: Algorithm) -> Vec<(&'static str, Vec<Value>)> {
    let odd = || vec![json!(null), json!(1), json!([]), json!({}), json!(true)];
    let with = |more: &[Value]| [odd(), more.to_vec()].concat();
    vec![
        (
            "alg",
            with(&[
                json!("none"),
                json!("None"),
                json!("RS256"),
                json!("HS256"),
                json!("ES256"),
                json!(algorithm.as_str()),
            ]),
        ),
        ("typ", with(&[json!("JWT"), json!("at+jwt"), json!("application/at+jwt"), json!("dpop+jwt"), json!("")])),
        ("kid", with(&[json!("k1"), json!("k2"), json!(""), json!("k".repeat(300))])),
        ("cty", with(&[json!("JWT"), json!("json")])),
        ("crit", with(&[json!(["b64"]), json!(["exp"])])),
        ("b64", with(&[json!(false)])),
        ("zip", with(&[json!("DEF")])),
        ("jwk", with(&[signer(algorithm).jwk()])),
        ("jku", with(&[json!("https://a")])),
        ("x5c", with(&[json!(["AA"])])),
        ("x", with(&[json!("y")])),
    ]
}

fn payloads() -> Vec<(&'static str, Vec<Value>)> {
    let odd = || vec![json!(null), json!(1), json!("x"), json!([]), json!({}), json!(true), json!(-1), json!(0.5)];
    let with = |more: &[Value]| [odd(), more.to_vec()].concat();
    // so far from now that it does not matter when the test runs
    let times = [
        json!(1_000_000_000),
        json!(4_000_000_000_u64),
        json!(4_000_000_000.5),
        json!(1.5e9),
        json!("4000000000"),
        json!(1e18),
        json!(u64::MAX),
    ];
    vec![
        ("exp", with(&times)),
        ("nbf", with(&times)),
        ("iat", with(&times)),
        ("iss", with(&[json!(ISSUER), json!([ISSUER]), json!("https://login.example.com")])),
        (
            "aud",
            with(&[json!(AUDIENCE), json!([AUDIENCE]), json!([AUDIENCE, "x"]), json!([AUDIENCE, 1]), json!(["x"])]),
        ),
        ("sub", with(&[json!("s")])),
        ("scope", with(&[json!("a b"), json!("ä"), json!(["a"])])),
        ("cnf", with(&[json!({ "jkt": "AA" }), json!({ "jkt": base64url([0; 32]) })])),
        ("jti", with(&[json!("j")])),
        ("x", with(&[json!({ "a": [1, { "b": null }] })])),
    ]
}

/// A token that was changed after it was signed.
fn broken(random: &SeededEntropy, token: &str) -> String {
    let mut bytes = token.as_bytes().to_vec();
    for _ in 0..=random.below(2) {
        let at = usize::try_from(random.below(bytes.len() as u64)).unwrap();
        match random.below(5) {
            0 => bytes[at] = *pick(random, b"ABCxyz019-_.=+/ \n"),
            1 => drop(bytes.remove(at)),
            2 => bytes.insert(at, *pick(random, b"A.=-_\n")),
            3 => bytes.truncate(at.max(1)),
            _ => bytes.swap(at, 0),
        }
    }
    String::from_utf8(bytes).expect("only ASCII was put in")
}

#[test]
fn seeded_tokens_are_judged_alike() {
    let algorithm = Algorithm::Hs256;
    let (sides, random) = (Sides::of(algorithm), SeededEntropy::new(9));
    let (headers, payloads) = (headers(algorithm), payloads());
    let tokens = if std::env::var_os("KEYHOLDER_LONG").is_some() { TOKENS * 10 } else { TOKENS };
    let (mut both, mut neither) = (0, 0);
    let mut stricter = BTreeMap::new();
    for _ in 0..tokens {
        let good = claims_with(json!({ "exp": 4_000_000_000_u64, "nbf": 1_000_000_000, "iat": 1_000_000_000 }));
        let header = varied(&random, header(algorithm), &headers);
        let mut token = SHARED.raw(algorithm, &header, &varied(&random, good, &payloads));
        if random.below(4) == 0 {
            token = broken(&random, &token);
        }
        match sides.compare(&token) {
            (Ok(()), true) => both += 1,
            (Err(_), false) => neither += 1,
            (Err(reason), true) => *stricter.entry(reason).or_insert(0) += 1,
            (Ok(()), false) => {}
        }
    }
    assert!(both > tokens / 20 && neither > tokens / 20, "{both} taken by both, {neither} by none");
    let never: Vec<Reason> = STRICTER
        .into_iter()
        .filter(|reason| !stricter.contains_key(reason))
        .filter(|reason| {
            !matches!(reason, Reason::ClaimsTooLarge | Reason::TooLarge | Reason::KeyMissing | Reason::KeyUnfit)
        })
        .collect();
    assert!(never.is_empty(), "a stricter rule that no token met: {never:?}");
}

#[test]
fn tokens_of_every_algorithm_are_judged_alike() {
    let random = SeededEntropy::new(10);
    // the other library has no P-521
    for algorithm in Algorithm::ALL.into_iter().filter(|algorithm| *algorithm != Algorithm::Es512) {
        let sides = Sides::of(algorithm);
        let good = claims_with(json!({ "exp": 4_000_000_000_u64, "nbf": 1_000_000_000, "iat": 1_000_000_000 }));
        let token = signer(algorithm).token(algorithm, &good);
        assert_eq!(sides.compare(&token), (Ok(()), true), "{algorithm}");
        let mut changed = 0;
        for _ in 0..200 {
            let broken = broken(&random, &token);
            if broken != token {
                changed += 1;
                assert!(sides.compare(&broken).0.is_err(), "{algorithm}: {broken}");
            }
        }
        assert!(changed > 150);
    }
}

#[test]
fn a_key_set_is_read_alike() {
    for algorithm in Algorithm::ALL.into_iter().filter(|algorithm| *algorithm != Algorithm::Es512) {
        let jwk = signer(algorithm).jwk_with(json!({ "alg": algorithm.as_str(), "use": "sig", "kid": "k1" }));
        let document = json!({ "keys": [jwk] }).to_string();
        let ours = KeySet::parse(document.as_bytes(), Symmetric::Accepted).unwrap();
        let set: jsonwebtoken::jwk::JwkSet = serde_json::from_str(&document).unwrap();
        assert!(set.find("k1").is_some_and(jsonwebtoken::jwk::Jwk::is_supported));
        assert_eq!(ours.algorithms(), Algorithms::of(&[algorithm]));
        // and the thumbprints are one
        if !Algorithms::HMAC.contains(algorithm) {
            let other = set.keys[0].thumbprint(jsonwebtoken::jwk::ThumbprintHash::SHA256).unwrap();
            let own = kh_verify::thumbprint::of_jwk(jwk.to_string().as_bytes()).unwrap();
            assert_eq!(base64url(own.0), other, "{algorithm}");
        }
        assert!(Compact::decode(signer(algorithm).token(algorithm, &claims()).as_bytes()).is_ok());
    }
}
