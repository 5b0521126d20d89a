//! The tokens of a session, and how they stand in the state: sealed.
//!
//! Invariant: what is sealed opens only as what it was sealed for: the same session, client and credential. Whoever has
//! the state's file alone, or moves a sealed value to another session, learns nothing and gets nothing in.

use std::{sync::Arc, time::Duration};

use kh_core::{
    ClientId, CredentialName, Entropy, SealingKey, SecretBytes, SecretString, Sha256, UnixMillis, port::IssuedToken,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::lease::Bases;

/// Names this use of the key in the associated data.
const LABEL: &[u8] = b"keyholder user session v1";

/// What a session's tokens belong to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SealedFor<'a> {
    pub(crate) session: Sha256,
    pub(crate) client: &'a ClientId,
    pub(crate) credential: &'a CredentialName,
}

impl SealedFor<'_> {
    fn place(&self) -> [&[u8]; 4] {
        [LABEL, &self.session.0, self.client.as_str().as_bytes(), self.credential.as_str().as_bytes()]
    }
}

/// The tokens of a session as the platform gave them.
#[derive(Debug)]
pub(crate) struct Tokens {
    pub(crate) access: SecretString,
    pub(crate) refresh: Option<Arc<SecretString>>,
    /// When the access token was asked for.
    pub(crate) asked_at: UnixMillis,
    /// Its life from then.
    pub(crate) life: Duration,
    pub(crate) api_base: String,
    pub(crate) auth_base: Option<String>,
}

kh_core::assert_closed!(Tokens);

impl Tokens {
    /// What a grant brought that was asked for at `asked_at`; where it says nothing, things stay as `before`.
    pub(crate) fn issued(
        issued: IssuedToken,
        asked_at: UnixMillis,
        before: (&Option<Arc<SecretString>>, Bases),
    ) -> Self {
        let (refresh, bases) = before;
        Self {
            access: issued.access_token,
            refresh: issued.refresh_token.map(Arc::new).or_else(|| refresh.clone()),
            asked_at,
            life: issued.expires_in,
            api_base: issued.api_base.unwrap_or(bases.api),
            auth_base: issued.auth_base.or(bases.auth),
        }
    }

    pub(crate) fn bases(&self) -> Bases {
        Bases { api: self.api_base.clone(), auth: self.auth_base.clone() }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    access_token: Zeroizing<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<Zeroizing<String>>,
    asked_at: UnixMillis,
    life_ms: u64,
    api_base: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_base: Option<String>,
}

/// The key of the sessions' tokens.
pub(crate) struct SessionKey(SealingKey);

kh_core::assert_closed!(SessionKey);

impl SessionKey {
    /// The key from 32 bytes that the secret store derives for this use; none if they are not 32.
    pub(crate) fn new(key: &SecretBytes) -> Option<Self> {
        SealingKey::new(key).map(Self)
    }

    /// Seals a session's tokens.
    pub(crate) fn seal(&self, of: SealedFor<'_>, tokens: &Tokens, entropy: &dyn Entropy) -> Vec<u8> {
        let wire = Wire {
            access_token: Zeroizing::new(tokens.access.expose().to_owned()),
            refresh_token: tokens.refresh.as_ref().map(|token| Zeroizing::new(token.expose().to_owned())),
            asked_at: tokens.asked_at,
            life_ms: u64::try_from(tokens.life.as_millis()).unwrap_or(u64::MAX),
            api_base: tokens.api_base.clone(),
            auth_base: tokens.auth_base.clone(),
        };
        let secrets = tokens.access.len() + tokens.refresh.as_ref().map_or(0, |token| token.len());
        // tokens have no character that JSON escapes; large enough, so that growing leaves no copy behind
        let room = 512 + secrets + 2 * (tokens.api_base.len() + tokens.auth_base.as_ref().map_or(0, String::len));
        let mut plain = Zeroizing::new(Vec::with_capacity(room));
        serde_json::to_writer(&mut *plain, &wire).expect("text and numbers always have a JSON form");
        self.0.seal(&of.place(), &plain, entropy)
    }

    /// Opens what was sealed for exactly this session; none if it was not.
    pub(crate) fn open(&self, of: SealedFor<'_>, sealed: &[u8]) -> Option<Tokens> {
        let plain = self.0.open(&of.place(), sealed)?;
        let wire: Wire = serde_json::from_slice(plain.expose()).ok()?;
        Some(Tokens {
            access: SecretString::copied(&wire.access_token),
            refresh: wire.refresh_token.map(|token| Arc::new(SecretString::copied(&token))),
            asked_at: wire.asked_at,
            life: Duration::from_millis(wire.life_ms),
            api_base: wire.api_base,
            auth_base: wire.auth_base,
        })
    }
}

#[cfg(test)]
mod tests {
    use kh_core::SeededEntropy;

    use super::*;

    fn key(byte: u8) -> SessionKey {
        SessionKey::new(&SecretBytes::new(vec![byte; 32])).unwrap()
    }

    #[test]
    fn it_opens_for_its_own_session_with_its_own_key_alone() {
        let (client, other): (ClientId, ClientId) = ("one".parse().unwrap(), "two".parse().unwrap());
        let (acme, acm): (CredentialName, CredentialName) = ("acme".parse().unwrap(), "acm".parse().unwrap());
        let here = SealedFor { session: Sha256::of(b"s"), client: &client, credential: &acme };
        let entropy = SeededEntropy::new(1);
        let tokens = Tokens {
            access: SecretString::copied("marked-access"),
            refresh: Some(Arc::new(SecretString::copied("marked-refresh"))),
            asked_at: UnixMillis(5),
            life: Duration::from_secs(7),
            api_base: "https://api.example".to_owned(),
            auth_base: None,
        };
        let sealed = key(1).seal(here, &tokens, &entropy);
        assert!(!sealed.windows(6).any(|part| part == b"marked"));
        assert_ne!(sealed, key(1).seal(here, &tokens, &entropy), "never the same bytes twice");
        let opened = key(1).open(here, &sealed).unwrap();
        assert_eq!((opened.access.expose(), opened.refresh.unwrap().expose()), ("marked-access", "marked-refresh"));
        assert_eq!((opened.asked_at, opened.life, opened.auth_base), (UnixMillis(5), Duration::from_secs(7), None));
        for elsewhere in [
            SealedFor { session: Sha256::of(b"t"), ..here },
            SealedFor { client: &other, ..here },
            SealedFor { credential: &acm, ..here },
        ] {
            assert!(key(1).open(elsewhere, &sealed).is_none(), "{elsewhere:?}");
        }
        assert!(key(2).open(here, &sealed).is_none());
        assert!(SessionKey::new(&SecretBytes::new(vec![1; 31])).is_none());
    }
}
