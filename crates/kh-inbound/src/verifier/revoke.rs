//! Revoking.
//!
//! Invariant: a JWT is never revoked by the digest of its bytes alone: an ECDSA signature has a second valid spelling.

use std::sync::Arc;

use kh_core::{
    Now, Sha256, UnixMillis,
    audit::AuditEvent,
    identity::Identity,
    port::StateError,
    revocation::{BadTarget, Digest, RevocationRecord, RevocationTarget},
};

use kh_verify::Compact;

use super::{At, Issuer, Shared, Verifier, accepted_until, longest_life, signing_input};
use crate::{cache::TokenKey, revocations};

/// Why nothing was revoked, or not for good.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// It cannot be revoked.
    #[error(transparent)]
    Target(#[from] BadTarget),
    /// It holds in this process and is not on disk: a restart would forget it.
    #[error("the revocation could not be written, and holds only until keyholder stops")]
    NotDurable(#[source] StateError),
}

impl Verifier {
    /// Revokes one token, whether or not it can be verified now; on disk when it returns. Who may do so is the
    /// caller's to decide, and unknown tokens are the caller's to ignore: each revocation takes room.
    pub async fn revoke_token(&self, token: &[u8], event: Option<AuditEvent>) -> Result<(), RevokeError> {
        let records = self.shared.records_of(token, self.shared.clock.now());
        self.keep(records, event).await
    }

    /// Revokes single tokens by what names them, or everything of a client, a subject or an issuer that was issued at
    /// `before` or earlier.
    pub async fn revoke(
        &self,
        target: RevocationTarget,
        before: UnixMillis,
        event: Option<AuditEvent>,
    ) -> Result<(), RevokeError> {
        let now = self.shared.clock.now().wall;
        let target = target.checked()?;
        let life_max = match target.issuer().and_then(|iss| self.shared.directory.by_iss(iss)) {
            Some(place) => self.shared.issuer(place).and_then(|issuer| issuer.life_max),
            None => longest_life(self.shared.issuers.iter()),
        };
        let record = revocations::class_record(target, before, now, life_max);
        self.keep(vec![record], event).await
    }

    async fn keep(&self, records: Vec<RevocationRecord>, event: Option<AuditEvent>) -> Result<(), RevokeError> {
        self.shared.revocations.revoke(records, event).await.map_err(RevokeError::NotDurable)
    }
}

impl Shared {
    /// What revokes this token and nothing else, as far as it can be known.
    fn records_of(&self, token: &[u8], now: Now) -> Vec<RevocationRecord> {
        let digest = Sha256::of(token);
        let signed = signing_input(token).map(|input| Digest(Sha256::of(input)));
        let known = self.identity_of(token, now);
        let ends = match &known {
            Some((issuer, identity)) => accepted_until(issuer, identity, now.wall),
            None => longest_life(self.issuers.iter()).map(|life| now.wall.plus(life)),
        };
        let mut targets = vec![RevocationTarget::Token { digest: Digest(digest) }];
        targets.extend(signed.map(|digest| RevocationTarget::Signed { digest }));
        if let (Some((_, identity)), Some(_)) = (&known, signed) {
            targets.extend(by_name(identity));
        }
        let record = |target| {
            let mut record = revocations::token_record(target, now.wall, ends);
            if let Some((_, identity)) = &known {
                record.issuer = Some(identity.issuer().to_string());
                record.client = identity.client().map(str::to_owned);
                record.subject = identity.subject().map(str::to_owned);
            }
            record
        };
        targets.into_iter().map(record).collect()
    }

    /// Who the token speaks for, whether or not it is revoked: from memory, or by the keys that are in memory.
    fn identity_of(&self, token: &[u8], now: Now) -> Option<(&Issuer, Arc<Identity>)> {
        if let Some(found) = self.cache.get(&TokenKey::of(token)) {
            return Some((self.issuer(found.issuer)?, found.identity));
        }
        let compact = Compact::decode(token).ok()?;
        let unverified = compact.read().ok()?;
        let issuer = self.issuer(self.directory.by_iss(unverified.issuer()?)?)?;
        let At::Keys(ring, policy) = &issuer.trust else { return None };
        let held = ring.keys(now)?;
        let identity = unverified.verify(&held.as_ref()?.keys, policy, now.wall).ok()?;
        Some((issuer, Arc::new(identity)))
    }
}

/// By its `jti`, else by whose it is and when it was issued.
fn by_name(identity: &Identity) -> Option<RevocationTarget> {
    let issuer = identity.issuer().to_string();
    let target = match (identity.token_id(), identity.subject(), identity.issued_at()) {
        (Some(id), ..) => RevocationTarget::TokenId { issuer, id: id.to_owned() },
        (None, Some(subject), Some(at)) => RevocationTarget::Issued { issuer, subject: subject.to_owned(), at },
        _ => return None,
    };
    target.checked().ok()
}
