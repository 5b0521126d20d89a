//! What is known of a user's session at a platform, without its tokens: whom it belongs to, what its refresh token has
//! been through, and how it ended.
//!
//! Invariant: no secret is among these; a session is named by the digest of the keyholder token that speaks for it.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{ClientId, CredentialName, Entropy, Sha256, UnixMillis, audit::AuditEvent, port::security::TokenDigest};

/// What people call a session, in logs, commands and the admin API: the first eight bytes of the SHA-256 of the keyholder
/// token that speaks for it. It opens nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionName(TokenDigest);

impl SessionName {
    /// Of the session that the token of this digest speaks for.
    pub fn of(token: Sha256) -> Self {
        Self(TokenDigest::of(token))
    }

    /// The digests of all tokens whose sessions are called so lie between these two, both included.
    pub fn bounds(self) -> (Sha256, Sha256) {
        let filled = |rest: u8| {
            let mut digest = [rest; 32];
            for (to, from) in digest.iter_mut().zip(self.0.bytes()) {
                *to = from;
            }
            Sha256(digest)
        };
        (filled(0), filled(u8::MAX))
    }
}

impl fmt::Display for SessionName {
    /// Sixteen lower-case hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for SessionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionName({self})")
    }
}

impl std::str::FromStr for SessionName {
    type Err = NoSessionName;
    fn from_str(text: &str) -> Result<Self, NoSessionName> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != 16 || !text.bytes().all(is_digit) {
            return Err(NoSessionName);
        }
        let name = u64::from_str_radix(text, 16).map_err(|_| NoSessionName)?;
        let mut digest = [0; 32];
        for (to, from) in digest.iter_mut().zip(name.to_be_bytes()) {
            *to = from;
        }
        Ok(Self::of(Sha256(digest)))
    }
}

/// A text that is no [`SessionName`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the id of a session has 16 lower-case hexadecimal digits")]
pub struct NoSessionName;

/// One start of keyholder. A process that is started anew has another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstanceId(pub Uuid);

impl InstanceId {
    /// A new one.
    pub fn draw(entropy: &dyn Entropy) -> Self {
        let mut bytes = [0; 16];
        entropy.fill(&mut bytes);
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How often a refresh token may be used, as far as the platform has shown it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefreshUse {
    /// There is no refresh token: Genesys Cloud gives none while the organisation's inactivity timeout is on.
    Absent,
    /// It counts as one that works once, and whose second use ends the session (RFC 9700 section 4.14.2), because the
    /// platform has not shown otherwise.
    Once,
    /// A refresh was answered without another one: it works again (RFC 6749 section 6).
    Again,
}

/// Whether a request with the refresh token is under way.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefreshPhase {
    /// None is.
    Idle,
    /// One may have been sent, by this instance. Written before it is sent.
    Sent {
        /// Who sends it.
        by: InstanceId,
    },
}

/// What the present refresh token has been through.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefreshJournal {
    /// Whether a request is under way.
    pub phase: RefreshPhase,
    /// Requests with this refresh token that were sent and whose answer nobody has.
    pub lost: u32,
    /// How often it may be used.
    pub refresh: RefreshUse,
}

impl RefreshJournal {
    /// After a login.
    pub fn begin(has_refresh_token: bool) -> Self {
        let refresh = if has_refresh_token { RefreshUse::Once } else { RefreshUse::Absent };
        Self { phase: RefreshPhase::Idle, lost: 0, refresh }
    }
}

/// How a session ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionEnd {
    /// The keyholder token that speaks for it was revoked or is gone.
    TokenRevoked,
    /// Its client was disabled or removed.
    ClientDisabled,
    /// Its time was over.
    Expired,
    /// Nobody used it for too long.
    Idle,
    /// A person ended it.
    Operator,
    /// The platform refused the refresh token: the user's login was revoked there, or has run out.
    RefreshRefused,
    /// The platform refused a refresh token that had been used once without an answer, or it may not be used again.
    RefreshLost,
    /// The access token ran out, and there is no refresh token.
    NotRenewable,
}

impl SessionEnd {
    /// The audit entry of this end of a session of a client at a credential; `note` is the reason that a person gave.
    pub fn event(
        self,
        (token, client, credential): (Sha256, &ClientId, &CredentialName),
        (actor, note): (&str, Option<&str>),
        (entropy, now): (&dyn Entropy, UnixMillis),
    ) -> AuditEvent {
        let event = AuditEvent::new(entropy, now, actor, "session.end", &SessionName::of(token).to_string());
        let event = event.with("client_id", client).with("credential", credential).with("reason", &self.as_str());
        match note.filter(|note| !note.is_empty()) {
            None => event,
            Some(note) => event.with("note", &note),
        }
    }

    /// All, for metrics that start at zero.
    pub const ALL: [Self; 8] = [
        Self::TokenRevoked,
        Self::ClientDisabled,
        Self::Expired,
        Self::Idle,
        Self::Operator,
        Self::RefreshRefused,
        Self::RefreshLost,
        Self::NotRenewable,
    ];

    /// Its name in the state, in logs and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TokenRevoked => "token_revoked",
            Self::ClientDisabled => "client_disabled",
            Self::Expired => "expired",
            Self::Idle => "idle",
            Self::Operator => "operator",
            Self::RefreshRefused => "refresh_refused",
            Self::RefreshLost => "refresh_lost",
            Self::NotRenewable => "not_renewable",
        }
    }

    /// What a caller is told.
    pub fn told(self) -> &'static str {
        match self {
            Self::TokenRevoked => "its access token was revoked",
            Self::ClientDisabled => "its client was disabled",
            Self::Expired => "its time is over",
            Self::Idle => "it was not used for too long",
            Self::Operator => "it was ended by an operator",
            Self::RefreshRefused => "the platform does not renew it any more",
            Self::RefreshLost => "the answer to a renewal was lost, and the platform does not repeat it",
            Self::NotRenewable => "its token ran out, and the platform gave none to renew it with",
        }
    }
}

impl std::str::FromStr for SessionEnd {
    type Err = UnknownEnd;
    fn from_str(text: &str) -> Result<Self, UnknownEnd> {
        Self::ALL.into_iter().find(|end| end.as_str() == text).ok_or(UnknownEnd)
    }
}

/// A word that is no [`SessionEnd`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("this is no way in which a session ends")]
pub struct UnknownEnd;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_called_by_the_beginning_of_its_tokens_digest() {
        let token = Sha256(std::array::from_fn(|at| u8::try_from(at).unwrap() + 0x10));
        let name = SessionName::of(token);
        assert_eq!(name.to_string(), "1011121314151617");
        assert_eq!(name.to_string().parse(), Ok(name));
        assert_eq!(name.to_string(), TokenDigest::of(token).to_string(), "as the security log");
        let (first, last) = name.bounds();
        assert!(first.0 <= token.0 && token.0 <= last.0 && first.0 < last.0);
        assert_eq!((SessionName::of(first), SessionName::of(last)), (name, name));
        for wrong in
            ["", "101112131415161", "10111213141516171", "101112131415161A", "+011121314151617", "1011121314 51617"]
        {
            assert_eq!(wrong.parse::<SessionName>(), Err(NoSessionName), "{wrong}");
        }
    }

    #[test]
    fn words_come_back_as_they_were_written() {
        for end in SessionEnd::ALL {
            assert_eq!(end.as_str().parse(), Ok(end));
            assert_eq!(serde_json::to_string(&end).unwrap(), format!("{:?}", end.as_str()));
        }
        assert_eq!("".parse::<SessionEnd>(), Err(UnknownEnd));
        let by = InstanceId(Uuid::from_u128(7));
        let journal = RefreshJournal { phase: RefreshPhase::Sent { by }, lost: 1, refresh: RefreshUse::Once };
        let text = serde_json::to_string(&journal).unwrap();
        assert_eq!(
            text,
            r#"{"phase":{"sent":{"by":"00000000-0000-0000-0000-000000000007"}},"lost":1,"refresh":"once"}"#
        );
        assert_eq!(serde_json::from_str::<RefreshJournal>(&text).unwrap(), journal);
        let idle = serde_json::to_string(&RefreshJournal::begin(false)).unwrap();
        assert_eq!(idle, r#"{"phase":"idle","lost":0,"refresh":"absent"}"#);
    }
}
