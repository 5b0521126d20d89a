//! What a revocation names, and its durable record.
//!
//! Invariant: equal targets have equal keys in every process and every version, and different targets have different
//! ones: the key is a SHA-256 over the kind and each part with its length.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Sha256, UnixMillis};

/// Longest part of a target, in bytes: longer names are refused by the parser of tokens as well.
pub const PART_MAX: usize = 4096;

/// What is revoked. Issuers are named by their `iss`; `None` means every issuer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum RevocationTarget {
    /// One token by the digest of all its bytes. Right for opaque tokens; a JWT has a second spelling where its
    /// signature is ECDSA's (`s` and `n - s`), so one is always revoked by a further target too.
    Token {
        /// SHA-256 of the token.
        digest: Digest,
    },
    /// One JWT by the digest of what its signature covers: header, dot, payload.
    Signed {
        /// SHA-256 of the signing input (RFC 7515 section 5.1).
        digest: Digest,
    },
    /// One token by its `jti`.
    TokenId {
        /// `iss`.
        issuer: String,
        /// `jti`.
        id: String,
    },
    /// The tokens of one subject issued at one moment, for tokens without `jti`.
    Issued {
        /// `iss`.
        issuer: String,
        /// `sub`.
        subject: String,
        /// `iat`.
        at: UnixMillis,
    },
    /// Everything of one client.
    Client {
        /// `iss`.
        issuer: Option<String>,
        /// `client_id`, else `azp`.
        client: String,
    },
    /// Everything of one subject.
    Subject {
        /// `iss`.
        issuer: Option<String>,
        /// `sub`.
        subject: String,
    },
    /// Everything.
    Everything {
        /// `iss`.
        issuer: Option<String>,
    },
    /// No token, but what its issuer said about tokens until then: it is asked anew. For issuers that revoke by
    /// themselves and tell of it.
    Answers {
        /// `iss`.
        issuer: String,
        /// Of one client; `None`: of all.
        client: Option<String>,
    },
}

/// A digest in its stored form, 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(pub Sha256);

impl TryFrom<String> for Digest {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Sha256::from_hex(&text).map(Self).ok_or("not 64 hex digits")
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0.to_hex()
    }
}

/// Why a target cannot be revoked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a part of what is to be revoked is empty or longer than {PART_MAX} bytes")]
pub struct BadTarget;

impl RevocationTarget {
    /// Checks that every part can be one of a token.
    pub fn checked(self) -> Result<Self, BadTarget> {
        let parts = match &self {
            Self::Token { .. } | Self::Signed { .. } => [None, None],
            Self::TokenId { issuer, id } => [Some(issuer), Some(id)],
            Self::Issued { issuer, subject, .. } => [Some(issuer), Some(subject)],
            Self::Client { issuer, client: name } | Self::Subject { issuer, subject: name } => {
                [issuer.as_ref(), Some(name)]
            }
            Self::Everything { issuer } => [issuer.as_ref(), None],
            Self::Answers { issuer, client } => [Some(issuer), client.as_ref()],
        };
        let fits = |part: &String| !part.is_empty() && part.len() <= PART_MAX;
        if parts.into_iter().flatten().all(fits) { Ok(self) } else { Err(BadTarget) }
    }

    /// Whether it names single tokens, and not everything that somebody has.
    pub fn is_token(&self) -> bool {
        match self {
            Self::Token { .. } | Self::Signed { .. } | Self::TokenId { .. } | Self::Issued { .. } => true,
            Self::Client { .. } | Self::Subject { .. } | Self::Everything { .. } | Self::Answers { .. } => false,
        }
    }

    /// The `iss` that it names.
    pub fn issuer(&self) -> Option<&str> {
        match self {
            Self::Token { .. } | Self::Signed { .. } => None,
            Self::TokenId { issuer, .. } | Self::Issued { issuer, .. } | Self::Answers { issuer, .. } => Some(issuer),
            Self::Client { issuer, .. } | Self::Subject { issuer, .. } | Self::Everything { issuer } => {
                issuer.as_deref()
            }
        }
    }

    /// Its kind, as a word for logs and answers.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Token { .. } => "token",
            Self::Signed { .. } => "signed",
            Self::TokenId { .. } => "token_id",
            Self::Issued { .. } => "issued",
            Self::Client { .. } => "client",
            Self::Subject { .. } => "subject",
            Self::Everything { .. } => "everything",
            Self::Answers { .. } => "answers",
        }
    }

    /// The digest under which it is kept and found.
    pub fn key(&self) -> Sha256 {
        match self {
            Self::Token { digest } => keyed(1, &[Some(&digest.0.0)]),
            Self::Signed { digest } => keyed(2, &[Some(&digest.0.0)]),
            Self::TokenId { issuer, id } => keys::token_id(issuer, id),
            Self::Issued { issuer, subject, at } => keys::issued(issuer, subject, *at),
            Self::Client { issuer, client } => keys::client(issuer.as_deref(), client),
            Self::Subject { issuer, subject } => keys::subject(issuer.as_deref(), subject),
            Self::Everything { issuer } => keys::everything(issuer.as_deref()),
            Self::Answers { issuer, client } => keys::answers(issuer, client.as_deref()),
        }
    }
}

impl fmt::Display for RevocationTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token { .. } | Self::Signed { .. } => "a token",
            Self::TokenId { .. } => "a token by its jti",
            Self::Issued { .. } => "a subject's tokens of one moment",
            Self::Client { .. } => "a client's tokens",
            Self::Subject { .. } => "a subject's tokens",
            Self::Everything { .. } => "every token",
            Self::Answers { .. } => "what an issuer said about its tokens",
        })
    }
}

/// The keys of targets, without making a target: for look-ups.
pub mod keys {
    use super::keyed;
    use crate::{Sha256, UnixMillis};

    /// Of [`super::RevocationTarget::Token`].
    pub fn token(digest: &Sha256) -> Sha256 {
        keyed(1, &[Some(&digest.0)])
    }

    /// Of [`super::RevocationTarget::Signed`].
    pub fn signed(digest: &Sha256) -> Sha256 {
        keyed(2, &[Some(&digest.0)])
    }

    /// Of [`super::RevocationTarget::TokenId`].
    pub fn token_id(issuer: &str, id: &str) -> Sha256 {
        keyed(3, &[Some(issuer.as_bytes()), Some(id.as_bytes())])
    }

    /// Of [`super::RevocationTarget::Issued`].
    pub fn issued(issuer: &str, subject: &str, at: UnixMillis) -> Sha256 {
        keyed(4, &[Some(issuer.as_bytes()), Some(subject.as_bytes()), Some(&at.0.to_be_bytes())])
    }

    /// Of [`super::RevocationTarget::Client`].
    pub fn client(issuer: Option<&str>, client: &str) -> Sha256 {
        keyed(5, &[issuer.map(str::as_bytes), Some(client.as_bytes())])
    }

    /// Of [`super::RevocationTarget::Subject`].
    pub fn subject(issuer: Option<&str>, subject: &str) -> Sha256 {
        keyed(6, &[issuer.map(str::as_bytes), Some(subject.as_bytes())])
    }

    /// Of [`super::RevocationTarget::Everything`].
    pub fn everything(issuer: Option<&str>) -> Sha256 {
        keyed(7, &[issuer.map(str::as_bytes)])
    }

    /// Of [`super::RevocationTarget::Answers`].
    pub fn answers(issuer: &str, client: Option<&str>) -> Sha256 {
        keyed(8, &[Some(issuer.as_bytes()), client.map(str::as_bytes)])
    }
}

/// The kind's number, then each part with its length; an absent part has a length that no text has.
fn keyed(kind: u8, parts: &[Option<&[u8]>]) -> Sha256 {
    let mut text = Vec::with_capacity(128);
    text.push(kind);
    for part in parts {
        let length = part.map_or(u64::MAX, |part| part.len() as u64);
        text.extend_from_slice(&length.to_be_bytes());
        text.extend_from_slice(part.unwrap_or_default());
    }
    Sha256::of(&text)
}

/// A revocation as it is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RevocationRecord {
    /// What is revoked.
    pub target: RevocationTarget,
    /// Tokens issued at this moment or earlier are revoked, and tokens that do not tell when they were issued and can be as
    /// old. Without meaning for a target that names single tokens.
    pub before: UnixMillis,
    /// When it was decided.
    pub revoked_at: UnixMillis,
    /// From then on no token that it could hit is alive; [`RevocationRecord::FOR_EVER`] where nobody can tell.
    pub expires_at: UnixMillis,
    /// Whose single token it names, so that it can be widened where there is no room for it.
    pub issuer: Option<String>,
    /// The same.
    pub client: Option<String>,
    /// The same.
    pub subject: Option<String>,
}

impl RevocationRecord {
    /// The end of a revocation that never ends: the year 9999.
    pub const FOR_EVER: UnixMillis = UnixMillis(253_402_300_799_000);

    /// The same revocation for everything of the token's client, else of its subject, else of its issuer: what is done
    /// with a single token where there is no room to remember it alone.
    #[must_use]
    pub fn widened(&self) -> Self {
        let issuer = self.issuer.clone();
        let target = match (&self.client, &self.subject) {
            (Some(client), _) => RevocationTarget::Client { issuer, client: client.clone() },
            (None, Some(subject)) => RevocationTarget::Subject { issuer, subject: subject.clone() },
            (None, None) => RevocationTarget::Everything { issuer },
        };
        Self { target, before: self.revoked_at, ..self.clone() }
    }

    /// The same revocation for everything of its issuer, or everything at all: what is done where there is no room to
    /// remember a client or a subject.
    #[must_use]
    pub fn widened_to_issuer(&self) -> Self {
        if let RevocationTarget::Answers { issuer, .. } = &self.target {
            let target = RevocationTarget::Answers { issuer: issuer.clone(), client: None };
            return Self { target, ..self.clone() };
        }
        let issuer = match &self.target {
            RevocationTarget::Client { issuer, .. }
            | RevocationTarget::Subject { issuer, .. }
            | RevocationTarget::Everything { issuer } => issuer.clone(),
            RevocationTarget::TokenId { issuer, .. }
            | RevocationTarget::Issued { issuer, .. }
            | RevocationTarget::Answers { issuer, .. } => Some(issuer.clone()),
            RevocationTarget::Token { .. } | RevocationTarget::Signed { .. } => self.issuer.clone(),
        };
        let before = if self.target.is_token() { self.revoked_at } else { self.before };
        Self { target: RevocationTarget::Everything { issuer }, before, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets() -> Vec<RevocationTarget> {
        let digest = Digest(Sha256::of(b"t"));
        let text = str::to_owned;
        vec![
            RevocationTarget::Token { digest },
            RevocationTarget::Signed { digest },
            RevocationTarget::TokenId { issuer: text("i"), id: text("xy") },
            RevocationTarget::TokenId { issuer: text("ix"), id: text("y") },
            RevocationTarget::Issued { issuer: text("i"), subject: text("xy"), at: UnixMillis(7) },
            RevocationTarget::Issued { issuer: text("i"), subject: text("xy"), at: UnixMillis(8) },
            RevocationTarget::Client { issuer: None, client: text("xy") },
            RevocationTarget::Client { issuer: Some(text("i")), client: text("xy") },
            RevocationTarget::Subject { issuer: Some(text("i")), subject: text("xy") },
            RevocationTarget::Everything { issuer: Some(text("i")) },
            RevocationTarget::Everything { issuer: None },
            RevocationTarget::Answers { issuer: text("i"), client: None },
            RevocationTarget::Answers { issuer: text("i"), client: Some(text("xy")) },
        ]
    }

    #[test]
    fn different_targets_have_different_keys_and_survive_storage() {
        let mut seen = std::collections::HashSet::new();
        for target in targets() {
            assert!(seen.insert(target.key()), "{target:?} has the key of another");
            let stored = serde_json::to_string(&target).unwrap();
            assert_eq!(serde_json::from_str::<RevocationTarget>(&stored).unwrap().key(), target.key(), "{stored}");
        }
    }

    #[test]
    fn the_look_up_keys_are_the_targets() {
        let digest = Sha256::of(b"t");
        let ways = [
            keys::token(&digest),
            keys::signed(&digest),
            keys::token_id("i", "xy"),
            keys::token_id("ix", "y"),
            keys::issued("i", "xy", UnixMillis(7)),
            keys::issued("i", "xy", UnixMillis(8)),
            keys::client(None, "xy"),
            keys::client(Some("i"), "xy"),
            keys::subject(Some("i"), "xy"),
            keys::everything(Some("i")),
            keys::everything(None),
            keys::answers("i", None),
            keys::answers("i", Some("xy")),
        ];
        assert_eq!(ways.to_vec(), targets().iter().map(RevocationTarget::key).collect::<Vec<_>>());
    }

    #[test]
    fn parts_are_bounded() {
        for bad in ["", &"x".repeat(PART_MAX + 1)] {
            let client = RevocationTarget::Client { issuer: None, client: bad.to_owned() };
            assert_eq!(client.checked(), Err(BadTarget));
            assert_eq!(RevocationTarget::Everything { issuer: Some(bad.to_owned()) }.checked(), Err(BadTarget));
        }
        assert!(targets().into_iter().all(|target| target.checked().is_ok()));
    }

    #[test]
    fn widening_takes_the_smallest_that_is_known() {
        let record = RevocationRecord {
            target: RevocationTarget::TokenId { issuer: "i".to_owned(), id: "j".to_owned() },
            before: UnixMillis(0),
            revoked_at: UnixMillis(5),
            expires_at: UnixMillis(9),
            issuer: Some("i".to_owned()),
            client: Some("c".to_owned()),
            subject: Some("s".to_owned()),
        };
        let issuer = Some("i".to_owned());
        let wide = record.widened();
        assert_eq!(wide.target, RevocationTarget::Client { issuer: issuer.clone(), client: "c".to_owned() });
        assert_eq!((wide.before, wide.expires_at), (UnixMillis(5), UnixMillis(9)));
        assert_eq!(wide.widened_to_issuer().target, RevocationTarget::Everything { issuer: issuer.clone() });
        let anonymous = RevocationRecord { client: None, ..record };
        assert_eq!(
            anonymous.widened().target,
            RevocationTarget::Subject { issuer: issuer.clone(), subject: "s".to_owned() }
        );
        let nobody = RevocationRecord { subject: None, ..anonymous };
        assert_eq!(nobody.widened().target, RevocationTarget::Everything { issuer });
    }
}
