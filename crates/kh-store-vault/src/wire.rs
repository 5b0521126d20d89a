//! What Vault answers, read: pure functions over bytes from outside.
//!
//! Invariant: any bytes are taken or refused; no text of an answer is passed on, since Vault repeats what it was sent in
//! some of them (AppRole's `invalid secret_id "..."`).

use std::collections::BTreeMap;

use kh_core::{SecretBytes, SecretString};
use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

/// What a refusal means, told by its text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The version is not the expected one (vault-plugin-secrets-kv, validateCheckAndSetOption).
    CheckAndSet,
    /// Each write must name the version that it replaces.
    CheckAndSetRequired,
    /// The engine is being upgraded.
    Upgrading,
    /// The server is sealed.
    Sealed,
    /// It is a standby without a leader, or not active.
    NotActive,
    /// Something else.
    Other,
}

#[derive(Deserialize)]
struct Errors {
    #[serde(default)]
    errors: Vec<Zeroizing<String>>,
}

/// What the body of a failure means.
pub fn refusal(body: &[u8]) -> Refusal {
    let Ok(Errors { errors }) = serde_json::from_slice(body) else { return Refusal::Other };
    let says = |text: &str| errors.iter().any(|error| error.contains(text));
    match () {
        () if says("did not match the current version") => Refusal::CheckAndSet,
        () if says("check-and-set parameter required") => Refusal::CheckAndSetRequired,
        () if says("from non-versioned to versioned data") => Refusal::Upgrading,
        () if says("Vault is sealed") => Refusal::Sealed,
        () if says("no active Vault instance") || says("node is not active") => Refusal::NotActive,
        () => Refusal::Other,
    }
}

/// A key as it was read: its current version, and the document unless that version is deleted or destroyed.
#[derive(Debug)]
pub struct Found {
    /// The current version; 0 where the key has none.
    pub version: u64,
    /// What it holds.
    pub document: Option<SecretBytes>,
}

kh_core::assert_closed!(Found);

#[derive(Deserialize)]
struct ReadBody<'a> {
    #[serde(borrow)]
    data: Option<ReadData<'a>>,
}

#[derive(Deserialize)]
struct ReadData<'a> {
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    metadata: VersionMetadata,
}

#[derive(Deserialize)]
struct VersionMetadata {
    version: u64,
}

/// The answer to a read of `data/<path>`: 200 with a document, 404 with metadata for a dead version, 404 without.
pub fn found(status: u16, body: &[u8]) -> Option<Found> {
    let read = serde_json::from_slice::<ReadBody<'_>>(body).ok().and_then(|read| read.data);
    match (status, read) {
        (200, Some(ReadData { data: Some(document), metadata })) => {
            let object = document.get().starts_with('{');
            object.then(|| Found {
                version: metadata.version,
                document: Some(SecretBytes::new(document.get().as_bytes().to_vec())),
            })
        }
        (404, Some(ReadData { metadata, .. })) => Some(Found { version: metadata.version, document: None }),
        (404, None) => Some(Found { version: 0, document: None }),
        _ => None,
    }
}

#[derive(Deserialize)]
struct WrittenBody {
    data: VersionMetadata,
}

/// The version that a write made.
pub fn written(body: &[u8]) -> Option<u64> {
    serde_json::from_slice::<WrittenBody>(body).ok().map(|written| written.data.version)
}

/// A key's settings and versions.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct KeyMetadata {
    /// The current version; 0 where there is none.
    pub current_version: u64,
    /// Versions kept; 0 where the mount decides.
    #[serde(default)]
    pub max_versions: u64,
    /// Whether each write must name the version that it replaces.
    #[serde(default)]
    pub cas_required: bool,
    /// After what time a version is deleted, in Go's words; `0s` for never.
    #[serde(default)]
    pub delete_version_after: String,
    #[serde(default)]
    versions: BTreeMap<String, VersionState>,
}

#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
struct VersionState {
    #[serde(default)]
    deletion_time: String,
    #[serde(default)]
    destroyed: bool,
}

impl KeyMetadata {
    /// Whether the current version has no deletion time and is not destroyed. With a deletion time it may still be
    /// there; only a read tells.
    pub fn is_surely_live(&self) -> bool {
        self.versions
            .get(&self.current_version.to_string())
            .is_some_and(|version| !version.destroyed && version.deletion_time.is_empty())
    }
}

#[derive(Deserialize)]
struct MetadataBody {
    data: KeyMetadata,
}

/// The answer to a read of `metadata/<path>`.
pub fn metadata(body: &[u8]) -> Option<KeyMetadata> {
    serde_json::from_slice::<MetadataBody>(body).ok().map(|body| body.data)
}

/// The settings of a mount.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
pub struct MountSettings {
    /// Versions kept; 0 for the default of 10.
    #[serde(default)]
    pub max_versions: u64,
    /// Whether each write must name the version that it replaces.
    #[serde(default)]
    pub cas_required: bool,
}

#[derive(Deserialize)]
struct SettingsBody {
    data: MountSettings,
}

/// The answer to a read of `config`.
pub fn settings(body: &[u8]) -> Option<MountSettings> {
    serde_json::from_slice::<SettingsBody>(body).ok().map(|body| body.data)
}

#[derive(Deserialize)]
struct ListBody {
    data: Keys,
}

#[derive(Deserialize)]
struct Keys {
    keys: Vec<String>,
}

/// The names one level below a folder; folders end with a slash.
pub fn keys(body: &[u8]) -> Option<Vec<String>> {
    serde_json::from_slice::<ListBody>(body).ok().map(|body| body.data.keys)
}

#[derive(Deserialize)]
struct CapabilitiesBody {
    data: BTreeMap<String, Vec<String>>,
}

/// What the caller may do at each path that was asked for.
pub fn capabilities(body: &[u8]) -> Option<BTreeMap<String, Vec<String>>> {
    serde_json::from_slice::<CapabilitiesBody>(body).ok().map(|body| body.data)
}

/// A login's answer, or a renewal's.
#[derive(Debug)]
pub struct Issued {
    /// The token.
    pub token: SecretString,
    /// How long it lives from now, in seconds; 0: it has no end.
    pub lease_seconds: u64,
    /// Whether it can be renewed.
    pub renewable: bool,
}

kh_core::assert_closed!(Issued);

#[derive(Deserialize)]
struct AuthBody {
    auth: AuthData,
}

#[derive(Deserialize)]
struct AuthData {
    client_token: Zeroizing<String>,
    lease_duration: u64,
    #[serde(default)]
    renewable: bool,
}

/// What a login or a renewal gave.
pub fn issued(body: &[u8]) -> Option<Issued> {
    let auth = serde_json::from_slice::<AuthBody>(body).ok()?.auth;
    let token = token(&auth.client_token)?;
    Some(Issued { token, lease_seconds: auth.lease_duration, renewable: auth.renewable })
}

/// A text that can be sent as a token: printable, without spaces.
pub fn token(text: &str) -> Option<SecretString> {
    let good = !text.is_empty() && text.len() <= 8192 && text.bytes().all(|byte| byte.is_ascii_graphic());
    good.then(|| SecretString::copied(text))
}

#[derive(Deserialize)]
struct LookupBody {
    data: LookupData,
}

#[derive(Deserialize)]
struct LookupData {
    #[serde(default)]
    ttl: u64,
    #[serde(default)]
    renewable: bool,
}

/// How long the own token lives, in seconds (0: no end), and whether it can be renewed.
pub fn lookup(body: &[u8]) -> Option<(u64, bool)> {
    serde_json::from_slice::<LookupBody>(body).ok().map(|body| (body.data.ttl, body.data.renewable))
}

#[derive(Deserialize)]
struct WrapLookupBody {
    data: WrapLookup,
}

#[derive(Deserialize)]
struct WrapLookup {
    creation_path: String,
}

/// Which request's answer a wrapping token stands for.
pub fn creation_path(body: &[u8]) -> Option<String> {
    serde_json::from_slice::<WrapLookupBody>(body).ok().map(|body| body.data.creation_path)
}

#[derive(Deserialize)]
struct SecretIdBody {
    data: SecretIdData,
}

#[derive(Deserialize)]
struct SecretIdData {
    secret_id: Zeroizing<String>,
}

/// The secret id that was wrapped.
pub fn secret_id(body: &[u8]) -> Option<SecretString> {
    let id = serde_json::from_slice::<SecretIdBody>(body).ok()?.data.secret_id;
    token(&id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads() {
        let body = br#"{"data":{"data":{"a":"\u0000","_kh":{}},"metadata":{"version":3}}}"#;
        let read = found(200, body).unwrap();
        assert_eq!((read.version, read.document.unwrap().expose()), (3, br#"{"a":"\u0000","_kh":{}}"#.as_slice()));
        let dead = found(404, br#"{"data":{"data":null,"metadata":{"version":4}}}"#).unwrap();
        assert!(dead.version == 4 && dead.document.is_none());
        let none = found(404, br#"{"errors":[]}"#).unwrap();
        assert!(none.version == 0 && none.document.is_none());
        for (status, body) in
            [(200, "{}"), (200, ""), (200, r#"{"data":{"data":null,"metadata":{"version":1}}}"#), (500, "{}")]
        {
            assert!(found(status, body.as_bytes()).is_none(), "{status} {body}");
        }
        let text = found(200, br#"{"data":{"data":"text","metadata":{"version":1}}}"#);
        assert!(text.is_none(), "only objects are documents");
    }

    #[test]
    fn refusals() {
        let check = |text: &str, expected| {
            assert_eq!(refusal(serde_json::json!({"errors": [text]}).to_string().as_bytes()), expected, "{text}");
        };
        check("check-and-set parameter did not match the current version", Refusal::CheckAndSet);
        check("check-and-set parameter required for this call", Refusal::CheckAndSetRequired);
        check("Upgrading from non-versioned to versioned data. This ...", Refusal::Upgrading);
        check("Waiting for the primary to upgrade from non-versioned to versioned data.", Refusal::Upgrading);
        check("Vault is sealed", Refusal::Sealed);
        check("no active Vault instance found", Refusal::NotActive);
        check("internal error", Refusal::Other);
        assert_eq!(refusal(b"<html>"), Refusal::Other);
    }

    #[test]
    fn tokens() {
        let auth = br#"{"auth":{"client_token":"hvs.abc","lease_duration":60,"renewable":true}}"#;
        let issued = issued(auth).unwrap();
        assert_eq!((issued.token.expose(), issued.lease_seconds, issued.renewable), ("hvs.abc", 60, true));
        assert!(!format!("{issued:?}").contains("hvs.abc"));
        for bad in ["", "a b", "a\nb", "ä"] {
            assert!(token(bad).is_none(), "{bad:?}");
        }
    }

    /// The short form of the fuzz target `vault_answer`.
    #[test]
    fn damaged_answers_are_taken_or_refused_and_never_half_read() {
        use kh_core::{Entropy, SeededEntropy};
        let good = [
            r#"{"data":{"data":{"a":"1","_kh":{}},"metadata":{"version":3,"deletion_time":""}}}"#,
            r#"{"auth":{"client_token":"hvs.abc","lease_duration":60,"renewable":true}}"#,
            r#"{"data":{"keys":["a","b/"],"secret_id":"s","creation_path":"p","ttl":1,"version":2}}"#,
            r#"{"errors":["Vault is sealed"]}"#,
        ];
        let entropy = SeededEntropy::new(7);
        let (mut taken, mut refused) = (0, 0);
        for round in 0..20_000 {
            let mut input = good[round % good.len()].as_bytes().to_vec();
            for _ in 0..entropy.below(4) {
                let at = usize::try_from(entropy.below(input.len() as u64)).unwrap();
                input[at] = u8::try_from(entropy.below(256)).unwrap();
            }
            if entropy.below(4) == 0 {
                input.truncate(usize::try_from(entropy.below(input.len() as u64)).unwrap());
            }
            match found(200, &input).and_then(|found| found.document) {
                Some(document) => {
                    taken += 1;
                    let object =
                        serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(document.expose());
                    assert!(object.is_ok());
                }
                None => refused += 1,
            }
            if let Some(issued) = issued(&input) {
                assert!(http::HeaderValue::from_str(issued.token.expose()).is_ok());
            }
            drop((refusal(&input), written(&input), metadata(&input), settings(&input), keys(&input)));
            drop((capabilities(&input), lookup(&input), creation_path(&input), secret_id(&input)));
        }
        assert!(taken > 1_000 && refused > 1_000, "both happen: {taken} and {refused}");
    }
}
