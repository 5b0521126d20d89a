//! Secrets of one client that live side by side until each is removed by its id: what an overlap rotation needs.
//!
//! Unlike the overlap of [`Issuer::rotate_secret`], no time ends it: only evidence that nobody uses the old secret does,
//! and that is the rotation's to judge. Invariant: a client never has more than two live secrets and never none.

use std::{fmt, str::FromStr};

use kh_core::{
    SecretString, Sha256, UnixMillis,
    issued::{self, IssuedKind},
    port::{ClientRecord, state_store::Sha256Hex},
};

use crate::{
    Client, Issuer, IssuerError,
    client::{SECRETS_MAX, live_secrets},
};

/// Until when a secret beside the newest is accepted if only its removal shall end that: 9999-12-31, the last day that
/// every format of time can write.
pub const LASTING: UnixMillis = UnixMillis(253_402_214_400_000);

/// Hex digits of an id: 64 bits tell a client's secrets apart, and say nothing about a secret of 238 bits.
const ID_DIGITS: usize = 16;

/// Names one secret of a client: the first digits of its SHA-256. Not secret.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SecretId(String);

impl SecretId {
    /// The id of a secret with this digest.
    pub fn of(digest: Sha256) -> Self {
        let mut hex = digest.to_hex();
        hex.truncate(ID_DIGITS);
        Self(hex)
    }
}

impl fmt::Display for SecretId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SecretId {
    type Err = SecretError;
    fn from_str(text: &str) -> Result<Self, SecretError> {
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == ID_DIGITS && text.bytes().all(hex) {
            Ok(Self(text.to_owned()))
        } else {
            Err(SecretError::NoSuch)
        }
    }
}

/// Why a secret was not added or removed.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The client has as many live secrets as it may.
    #[error("the client already has {SECRETS_MAX} live secrets")]
    TooMany,
    /// It is the client's only live secret.
    #[error("the last live secret of a client cannot be removed")]
    Last,
    /// The client has no live secret of this id.
    #[error("the client has no such secret")]
    NoSuch,
    /// The change of the client failed.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
}

impl Client {
    /// The ids of its live secrets, the newest first.
    pub fn secret_ids(&self, now: UnixMillis) -> Vec<SecretId> {
        self.live_secrets(now).into_iter().flatten().map(SecretId::of).collect()
    }
}

impl Issuer {
    /// Makes a secret beside the one there is. Both work until one of them is removed; the secret is told only here.
    pub async fn add_secret(&self, name_or_id: &str, actor: &str) -> Result<(ClientRecord, SecretString), SecretError> {
        let secret = issued::issue(IssuedKind::ClientSecret, &*self.entropy);
        let id = SecretId::of(secret.sha256());
        let added = self.try_change(name_or_id, |before| {
            let now = self.now().wall;
            let live = live_secrets(before, now);
            let digests: Vec<_> = std::iter::once(Sha256Hex(secret.sha256())).chain(live.cloned()).collect();
            if digests.len() > SECRETS_MAX {
                return Err(SecretError::TooMany);
            }
            let after = with_secrets(before, digests, now);
            Ok((after, self.event(actor, "client.add_secret", before).with("secret_id", &id.to_string())))
        });
        Ok((added.await?, secret))
    }

    /// Removes the live secret `id`; what is left works until it is removed itself. Tokens that were issued stay valid.
    pub async fn remove_secret(
        &self,
        name_or_id: &str,
        id: &SecretId,
        actor: &str,
    ) -> Result<ClientRecord, SecretError> {
        let removed = self.try_change(name_or_id, |before| {
            let now = self.now().wall;
            let mut live: Vec<_> = live_secrets(before, now).cloned().collect();
            let place = live.iter().position(|digest| SecretId::of(digest.0) == *id).ok_or(SecretError::NoSuch)?;
            if live.len() == 1 {
                return Err(SecretError::Last);
            }
            live.remove(place);
            let after = with_secrets(before, live, now);
            Ok((after, self.event(actor, "client.remove_secret", before).with("secret_id", &id.to_string())))
        });
        removed.await
    }
}

fn with_secrets(before: &ClientRecord, digests: Vec<Sha256Hex>, now: UnixMillis) -> ClientRecord {
    let old_secrets_until = (digests.len() > 1).then_some(LASTING);
    ClientRecord { secret_digests: digests, old_secrets_until, updated_at: now, ..before.clone() }
}
