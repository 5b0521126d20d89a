//! The one document that holds all signing keys in the secret store.
//!
//! Invariant: it is replaced as a whole by compare-and-set, so whoever reads it finds a complete set of keys, whatever
//! was killed in between. Keys that are not published any more are left out of the next one; the store's history forgets
//! them after its ten newest versions.

use base64::{Engine, prelude::BASE64_STANDARD};
use kh_core::{SecretBytes, UnixMillis};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::{
    SigningError,
    key::Key,
    schedule::{Algorithm, KEYS_MAX, Times},
};

/// The form that this program writes.
const FORM: u32 = 1;

/// Room for one key: an RSA key of 2048 bits has some 1,640 base64 characters. A buffer that is large enough from the
/// start leaves no copy behind.
const KEY_BYTES: usize = 2048;

/// `Debug` is not derived: a private key is in it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredKey {
    algorithm: Algorithm,
    made_at: UnixMillis,
    signs_from: UnixMillis,
    /// PKCS #8, base64.
    pkcs8: Zeroizing<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    form: u32,
    keys: Vec<StoredKey>,
}

/// The keys as they are stored, in the order in which they sign.
pub(super) fn encode(keys: &[Key]) -> Result<SecretBytes, SigningError> {
    let stored = keys.iter().map(|key| StoredKey {
        algorithm: key.times.algorithm,
        made_at: key.made_at,
        signs_from: key.times.signs_from,
        pkcs8: Zeroizing::new(BASE64_STANDARD.encode(key.pkcs8.expose())),
    });
    let stored = Stored { form: FORM, keys: stored.collect() };
    let mut text = Vec::with_capacity(KEY_BYTES * (keys.len() + 1));
    if serde_json::to_writer(&mut text, &stored).is_err() {
        text.zeroize();
        return Err(SigningError::Damaged("they have no stored form"));
    }
    Ok(SecretBytes::new(text))
}

/// The keys of a document.
pub(super) fn decode(document: &SecretBytes) -> Result<Vec<Key>, SigningError> {
    // the error of a parser may quote what it read
    let damaged = || SigningError::Damaged("their document does not parse");
    let stored: Stored = serde_json::from_slice(document.expose()).map_err(|_| damaged())?;
    if stored.form > FORM {
        return Err(SigningError::Damaged("their document was written by a newer keyholder"));
    }
    if stored.keys.len() > 2 * KEYS_MAX {
        return Err(SigningError::Damaged("their document has too many keys"));
    }
    let mut keys = Vec::with_capacity(stored.keys.len());
    for key in stored.keys {
        let pkcs8 = BASE64_STANDARD.decode(key.pkcs8.as_bytes()).map_err(|_| damaged())?;
        let times = Times { algorithm: key.algorithm, signs_from: key.signs_from };
        let key = Key::of(times, key.made_at, SecretBytes::new(pkcs8));
        keys.push(key.map_err(|_| SigningError::Damaged("one of them is not a private key"))?);
    }
    keys.sort_by_key(|key| key.times.signs_from);
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_in_the_order_in_which_they_sign() {
        let key =
            |algorithm, at| Key::generate(Times { algorithm, signs_from: UnixMillis(at) }, UnixMillis(1)).unwrap();
        let keys = [key(Algorithm::EdDsa, 9), key(Algorithm::Es256, 5)];
        let document = encode(&keys).unwrap();
        let again = decode(&document).unwrap();
        let kids: Vec<_> = again.iter().map(|key| (&key.kid, key.times, key.made_at)).collect();
        let expected = [&keys[1], &keys[0]].map(|key| (&key.kid, key.times, UnixMillis(1)));
        assert_eq!(kids, expected);
    }

    #[test]
    fn the_largest_set_fits_the_store() {
        // the store takes 64 KiB; keys of one kind are of one size
        let key =
            Key::generate(Times { algorithm: Algorithm::Rs256, signs_from: UnixMillis(1) }, UnixMillis(1)).unwrap();
        let one = encode(&[key]).unwrap().expose().len();
        assert!(one < KEY_BYTES && one * (KEYS_MAX + 1) < 64 * 1024, "{one}");
    }

    #[test]
    fn what_is_no_document_is_told_without_its_content() {
        for bad in [
            "",
            "{}",
            r#"{"form":2,"keys":[]}"#,
            r#"{"form":1,"keys":[{"algorithm":"ES256","made_at":1,"signs_from":1,"pkcs8":"TUFSSw=="}]}"#,
            r#"{"form":1,"keys":[{"algorithm":"none","made_at":1,"signs_from":1,"pkcs8":"TUFSSw=="}]}"#,
            r#"{"form":1,"keys":"MARK"}"#,
        ] {
            let refused = decode(&SecretBytes::new(bad.as_bytes().to_vec())).unwrap_err();
            assert!(matches!(refused, SigningError::Damaged(_)), "{bad}");
            assert!(!format!("{refused} {refused:?}").contains("MARK"));
        }
    }
}
