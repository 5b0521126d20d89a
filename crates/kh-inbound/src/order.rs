//! What somebody orders to be revoked, and the records that carry it out.
//!
//! Invariants: a JWT is revoked by what it says and by what its signature covers, never by its bytes alone; an order
//! cannot reach tokens that are yet to be issued; nothing of a token stands in what the audit log is told; what has the
//! prefix of keyholder's own secrets is taken only if it is a whole token.

use std::time::Duration;

use kh_core::{
    Fingerprint, SecretString, Sha256, UnixMillis,
    audit::AuditEvent,
    issued::{IssuedKind, is_well_formed},
    revocation::{BadTarget, Digest, RevocationRecord, RevocationTarget},
};
use kh_verify::{Compact, TokenNames, policy::LEEWAY_MAX};

use crate::{
    remote::TOKEN_MAX,
    revocations::{class_record, token_record},
    verifier::signing_input,
};

/// How long a revocation is remembered where nobody can tell how long its tokens live: longer than keyholder's own
/// tokens may (365 days), and than [`crate::LIFE_MAX`].
pub const REMEMBERED: Duration = Duration::from_hours(400 * 24);

/// How long it is remembered that an issuer is to be asked anew: longer than any answer is believed.
const ANSWERS_REMEMBERED: Duration = Duration::from_hours(7 * 24);

/// Longest reason that is noted, in bytes.
pub const REASON_MAX: usize = 500;

/// What is to be revoked.
#[derive(Debug)]
pub enum RevocationOrder {
    /// One token.
    Token(SecretString),
    /// The tokens that this names; with the moment up to which, for a client, a subject and everything.
    Of(RevocationTarget, UnixMillis),
}

/// Why an order is not carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OrderError {
    /// A part of it is empty or too long.
    #[error(transparent)]
    Target(#[from] BadTarget),
    /// It is no token.
    #[error("this is no token: it is empty, longer than {TOKEN_MAX} bytes, or has characters that no token has")]
    NoToken,
    /// It has the prefix of keyholder's own tokens and not their checksum.
    #[error("this begins as a token of keyholder's own and is none: its checksum is wrong; was it cut or changed?")]
    Damaged,
    /// It has the prefix of keyholder's other secrets.
    #[error("this is no token: it begins as a client secret or a guard token of keyholder")]
    OtherSecret,
    /// It would hit what is yet to be issued.
    #[error("the time is in the future: only tokens that were issued already can be revoked")]
    Future,
    /// The reason cannot be noted.
    #[error("a reason has at most {REASON_MAX} bytes and no control characters")]
    Reason,
}

/// A reason that may stand in the audit log.
pub fn checked_reason(reason: &str) -> Result<&str, OrderError> {
    let fits = reason.len() <= REASON_MAX && !reason.chars().any(char::is_control);
    if fits { Ok(reason) } else { Err(OrderError::Reason) }
}

impl RevocationOrder {
    /// What carries it out. `life_max` is the longest that any token lives which it can hit; `None`: nobody can tell,
    /// and it is remembered for ever.
    pub fn records(&self, now: UnixMillis, life_max: Option<Duration>) -> Result<Vec<RevocationRecord>, OrderError> {
        match self {
            Self::Token(token) => token_records(token, now, life_max),
            Self::Of(target, before) => {
                let target = target.clone().checked()?;
                // a token is taken that its issuer's clock dates ahead
                let ahead = matches!(&target, RevocationTarget::Issued { at, .. } if *at > now.plus(LEEWAY_MAX));
                if ahead || (!target.is_token() && *before > now) {
                    return Err(OrderError::Future);
                }
                if target.is_token() {
                    let end = life_max.map(|life| now.plus(life));
                    let mut record = token_record(target, now, end);
                    record.issuer = record.target.issuer().map(str::to_owned);
                    return Ok(vec![record]);
                }
                Ok(vec![class_record(target, *before, now, life_max)])
            }
        }
    }

    /// Whether it is a token that is neither a JWT nor keyholder's own: an opaque one of another issuer, or a slip.
    pub fn is_foreign_opaque(&self) -> bool {
        match self {
            Self::Token(token) => {
                let text = token.expose();
                !text.starts_with(IssuedKind::Token.prefix()) && signing_input(text.as_bytes()).is_none()
            }
            Self::Of(..) => false,
        }
    }

    /// `event` with what is revoked. A token is told by its fingerprint.
    #[must_use]
    pub fn told(&self, event: AuditEvent, fingerprint: impl FnOnce(&[u8]) -> Fingerprint) -> AuditEvent {
        let (target, before) = match self {
            Self::Token(token) => {
                let event = event.with("kind", &"token");
                return event.with("token_fingerprint", &fingerprint(token.expose().as_bytes()));
            }
            Self::Of(target, before) => (target, before),
        };
        let mut event = event.with("kind", &target.kind());
        if let Some(issuer) = target.issuer() {
            event = event.with("issuer", &issuer);
        }
        match target {
            RevocationTarget::TokenId { id, .. } => event.with("jti", id),
            RevocationTarget::Issued { subject, at, .. } => event.with("subject", subject).with("issued_at", &at.0),
            RevocationTarget::Client { client, .. } => event.with("client", client).with("before", &before.0),
            RevocationTarget::Subject { subject, .. } => event.with("subject", subject).with("before", &before.0),
            RevocationTarget::Answers { client, .. } => match client {
                Some(client) => event.with("client", client),
                None => event,
            },
            RevocationTarget::Everything { .. } => event.with("before", &before.0),
            RevocationTarget::Token { .. } | RevocationTarget::Signed { .. } => event,
        }
    }

    /// What it is about, in a word for the audit log's column.
    pub fn subject(&self) -> &'static str {
        match self {
            Self::Token(_) => "token",
            Self::Of(target, _) => target.kind(),
        }
    }
}

/// A record by which the answers of `issuer` up to `now` are not believed any more, those about `client` or all.
pub fn answers_record(issuer: String, client: Option<String>, now: UnixMillis) -> Result<RevocationRecord, BadTarget> {
    let target = RevocationTarget::Answers { issuer, client }.checked()?;
    Ok(class_record(target, now, now, Some(ANSWERS_REMEMBERED)))
}

/// By its bytes, and a JWT by what its signature covers and by how it names itself. Its signature is not looked at:
/// whoever orders this may revoke what they like, and a forged token names nothing that a record of its own could not.
fn token_records(
    token: &SecretString,
    now: UnixMillis,
    life_max: Option<Duration>,
) -> Result<Vec<RevocationRecord>, OrderError> {
    let text = token.expose();
    let token = text.as_bytes();
    if token.is_empty() || token.len() > TOKEN_MAX || !token.iter().all(u8::is_ascii_graphic) {
        return Err(OrderError::NoToken);
    }
    let begins_as = |kind: IssuedKind| text.starts_with(kind.prefix());
    if begins_as(IssuedKind::Token) && !is_well_formed(IssuedKind::Token, text) {
        return Err(OrderError::Damaged);
    }
    if begins_as(IssuedKind::ClientSecret) || begins_as(IssuedKind::Guard) {
        return Err(OrderError::OtherSecret);
    }
    let names = Compact::decode(token).ok().and_then(|compact| Some(compact.read().ok()?.names()));
    let names = names.unwrap_or_default();
    let signed = signing_input(token).map(|input| Digest(Sha256::of(input)));
    let mut targets = vec![RevocationTarget::Token { digest: Digest(Sha256::of(token)) }];
    targets.extend(signed.map(|digest| RevocationTarget::Signed { digest }));
    targets.extend(by_name(&names));
    // no sooner than any token of that life could end: what it says of its own end need not be true
    let by_life = life_max.map(|life| now.plus(life));
    let end = by_life.map(|end| names.expires_at.map_or(end, |says| end.max(says.min(RevocationRecord::FOR_EVER))));
    let part = |text: &Option<String>| text.clone().filter(|text| !text.is_empty() && text.len() <= PART_MAX);
    let record = |target| {
        let mut record = token_record(target, now, end);
        record.issuer = part(&names.issuer);
        record.client = part(&names.client);
        record.subject = part(&names.subject);
        record
    };
    Ok(targets.into_iter().map(record).collect())
}

const PART_MAX: usize = kh_core::revocation::PART_MAX;

/// By its `jti`, else by whose it is and when it was issued.
fn by_name(names: &TokenNames) -> Option<RevocationTarget> {
    let issuer = names.issuer.clone()?;
    let target = match (&names.token_id, &names.subject, names.issued_at) {
        (Some(id), ..) => RevocationTarget::TokenId { issuer, id: id.clone() },
        (None, Some(subject), Some(at)) => RevocationTarget::Issued { issuer, subject: subject.clone(), at },
        _ => return None,
    };
    target.checked().ok()
}

#[cfg(test)]
mod tests;
