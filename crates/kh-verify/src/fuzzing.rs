//! What must hold for any bytes: bodies for the coverage-guided targets and for the seeded tests below, which run them
//! over 100,000 inputs each. Exists under test and `--cfg fuzzing` only.

use std::{cell::RefCell, sync::LazyLock};

use aws_lc_rs::hmac;
use kh_core::{Identity, UnixMillis};

use crate::{
    Accepted, Algorithms, Compact, KeySet, Policy, Reason, Symmetric, base64url, claims,
    dpop::{ProofFor, ProofId, ProofPolicy, Remembered, ReplayMemory, check_proof},
    json::{Json, Object},
    thumbprint, uri,
};

/// The moment at which everything is verified.
const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

/// A symmetric key: with it the body can sign what the fuzzer made up, and so gets behind the signature.
const KEY: &[u8; 32] = b"a key of 32 bytes for fuzz tests";

/// A token: no panic; one spelling; what is verified is what was signed, by either way, and in time.
pub fn token(token: &[u8]) {
    let Ok(decoded) = Compact::decode(token) else { return };
    let (signed, signature) = decoded.signed();
    let again = format!(
        "{}.{}.{}",
        base64url::encode(decoded.header_json()),
        base64url::encode(decoded.payload()),
        base64url::encode(signature)
    );
    assert_eq!(again.as_bytes(), token, "a token has one spelling");
    assert!(token.starts_with(signed));
    let (keys, policy) = (&*KEYS, &*POLICY);
    if decoded.verify_signature(keys, Algorithms::ALL).is_ok() {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, KEY), signed);
        assert_eq!(tag.as_ref(), signature, "somebody has signed what is taken");
    }
    // the same header and payload, well signed
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, KEY), signed);
    let text = format!("{}.{}", String::from_utf8_lossy(signed), base64url::encode(tag.as_ref()));
    let verified = crate::verify(text.as_bytes(), keys, policy, NOW);
    let read = Compact::decode(text.as_bytes()).and_then(|token| token.read()?.verify(keys, policy, NOW));
    assert_eq!(verified.is_ok(), read.is_ok(), "both ways say the same");
    if let Ok(identity) = verified {
        assert_eq!(read.as_ref(), Ok(&identity));
        holds(&identity, policy);
    }
}

/// Claims: as the payload of a well signed token, and as an introspection's answer.
pub fn claims(payload: &[u8]) {
    if let Ok(Some(identity)) = crate::introspected(payload, &POLICY, NOW) {
        let text = String::from_utf8_lossy(payload);
        assert!(text.contains("active") && text.contains("true"), "only `active` makes a token active");
        holds(&identity, &POLICY);
    }
    let signed = format!("{}.{}", base64url::encode(br#"{"alg":"HS256"}"#), base64url::encode(payload));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, KEY), signed.as_bytes());
    token(format!("{signed}.{}", base64url::encode(tag.as_ref())).as_bytes());
}

/// A JWK set, and each of its keys alone: no panic, bounds kept, every key of it is told as good or left out.
pub fn jwks(json: &[u8]) {
    let _thumbprint = thumbprint::of_jwk(json);
    let _case = crate::Case::parse(json, Symmetric::Accepted);
    let _alone = KeySet::pinned(json, Symmetric::Accepted);
    let Ok(set) = KeySet::parse(json, Symmetric::Accepted) else { return };
    let document = Object::parse(json).expect("what is a key set is an object");
    let told = set.keys().len() + set.skipped().len();
    assert!(matches!(document.get("keys"), Some(Json::List(list)) if list.len() == told));
    assert!(!set.keys().is_empty() && told <= crate::key_set::KEYS_MAX);
    assert!(set.keys().iter().all(|key| !key.algorithms().is_empty()));
    if let Ok(public) = KeySet::parse(json, Symmetric::Refused) {
        assert!(public.algorithms().and(Algorithms::HMAC).is_empty());
        assert!(public.keys().len() <= set.keys().len());
    }
}

/// Scopes as a text and as a list: no panic; each is a whole word, and the words written again are the same.
pub fn scope(text: &str) {
    let one = Json::Text(text.into());
    let Ok(words) = claims::scopes(Some(&one), None) else { return };
    let list = Json::List(words.iter().map(|word| Json::Text((*word).into())).collect());
    assert_eq!(claims::scopes(None, Some(&list)).as_ref(), Ok(&words));
    let joined = Json::Text(words.join(" ").into());
    assert_eq!(claims::scopes(Some(&joined), Some(&Json::Null)).as_ref(), Ok(&words));
    assert!(words.iter().all(|word| text.split(' ').any(|own| own == *word)));
    let identity = words.iter().fold(Identity::builder("i".into()), |builder, word| builder.scope(word));
    let identity = identity.build().expect("words of one text fit");
    assert!(identity.scopes().iter().eq(words.iter().copied()));
    assert!(
        words.iter().all(|word| identity.scopes().contains(word) && !identity.scopes().contains(&format!("{word} ")))
    );
}

/// A `DPoP` proof and its address: no panic; an address' one spelling is its own; nobody's proof is taken twice.
pub fn proof(proof: &[u8]) {
    if let Some(normal) = std::str::from_utf8(proof).ok().and_then(uri::normal) {
        assert_eq!(uri::normal(&normal).as_ref(), Some(&normal), "the one spelling of an address is its own");
    }
    let memory = Seen::default();
    let wanted = ProofFor { method: "GET", uri: "https://api.example.com/a", token: None, nonces: None };
    if check_proof(proof, &wanted, &ProofPolicy::default(), &memory, NOW).is_ok() {
        let again = check_proof(proof, &wanted, &ProofPolicy::default(), &memory, NOW);
        assert_eq!(again, Err(Reason::ProofReplayed));
    } else {
        assert!(memory.0.borrow().is_empty(), "what is refused is not remembered");
    }
}

#[derive(Default)]
struct Seen(RefCell<Vec<ProofId>>);

impl ReplayMemory for Seen {
    fn remember(&self, proof: ProofId, until: UnixMillis) -> Remembered {
        assert!(until > NOW);
        let mut seen = self.0.borrow_mut();
        if seen.contains(&proof) {
            return Remembered::Again;
        }
        seen.push(proof);
        Remembered::New
    }
}

static KEYS: LazyLock<KeySet> = LazyLock::new(|| {
    let jwk = format!(r#"{{"kty":"oct","k":"{}"}}"#, base64url::encode(KEY));
    KeySet::pinned(jwk.as_bytes(), Symmetric::Accepted).expect("it is a key")
});

static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    Policy::new(Accepted::Any, Accepted::Any).with_algorithms(Algorithms::HMAC).with_claims([
        "tenant",
        "roles",
        "/realm_access/roles",
        "level",
        "/",
        "//",
    ])
});

fn holds(identity: &Identity, policy: &Policy) {
    let expiry = identity.expires_at().expect("an expiry is needed");
    assert!(NOW < expiry.plus(policy.leeway()));
    assert!(expiry.as_secs() <= claims::NUMERIC_DATE_MAX);
    assert!(identity.not_before().is_none_or(|start| start <= NOW.plus(policy.leeway())));
    assert!(identity.issued_at().is_none_or(|issued| issued <= NOW.plus(policy.leeway())));
    assert!(
        identity.scopes().iter().all(|scope| !scope.is_empty() && scope.bytes().all(|byte| byte.is_ascii_graphic()))
    );
}

#[cfg(test)]
mod tests;
