//! Who a verified token speaks for: what the token, or its issuer's answer, says. Never a verdict: whether this caller
//! may do something is decided anew for each request.
//!
//! Invariant: all text of one identity is one packed buffer, so that 100,000 cached ones fit beside everything else;
//! [`Identity::weight`] tells what one takes.

mod builder;
mod instant;
mod packed;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use crate::UnixMillis;
use instant::Instant;
use packed::{Ends, Section};

pub use builder::{IDENTITY_TEXT_MAX, IdentityBuilder, TooLarge, WORD_MAX};
pub use packed::{Scopes, Words};

/// What the sender of a token must prove to hold (RFC 7800 `cnf`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Confirmation {
    /// The SHA-256 of the client's TLS certificate in DER (`x5t#S256`, RFC 8705 section 3.1).
    X5tS256([u8; 32]),
    /// The SHA-256 thumbprint of the client's `DPoP` key (`jkt`, RFC 9449 section 6.1).
    Jkt([u8; 32]),
}

impl Confirmation {
    /// The member of `cnf` that holds it.
    pub fn member(&self) -> &'static str {
        match self {
            Self::X5tS256(_) => "x5t#S256",
            Self::Jkt(_) => "jkt",
        }
    }

    /// The digest itself.
    pub fn digest(&self) -> &[u8; 32] {
        match self {
            Self::X5tS256(digest) | Self::Jkt(digest) => digest,
        }
    }

    /// The confirmation of this member.
    pub fn of(member: &str, digest: [u8; 32]) -> Option<Self> {
        match member {
            "x5t#S256" => Some(Self::X5tS256(digest)),
            "jkt" => Some(Self::Jkt(digest)),
            _ => None,
        }
    }
}

/// The value of a claim that was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClaimValue<'a> {
    /// A JSON string.
    Text(&'a str),
    /// A JSON array of strings.
    List(Words<'a>),
    /// A JSON number without a fraction.
    Number(i64),
    /// A JSON boolean.
    Bool(bool),
}

/// Who a verified token speaks for.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    issuer: Arc<str>,
    text: Box<str>,
    confirmation: Option<Box<Confirmation>>,
    issued_at: Instant,
    expires_at: Instant,
    not_before: Instant,
    ends: Ends,
    client_is_subject: bool,
}

impl Identity {
    /// Starts an identity that `issuer` (the claim `iss`) vouches for. The name is shared by all its identities.
    pub fn builder(issuer: Arc<str>) -> IdentityBuilder {
        IdentityBuilder::new(issuer)
    }

    /// The claim `iss`, or the configured name of an issuer whose answer has none.
    pub fn issuer(&self) -> &Arc<str> {
        &self.issuer
    }

    /// The claim `sub`: whom the token is about.
    pub fn subject(&self) -> Option<&str> {
        self.section(Section::Subject).next()
    }

    /// The client that the token was issued to: `client_id` (RFC 8693 section 4.3), else `azp` (OpenID Connect).
    pub fn client(&self) -> Option<&str> {
        if self.client_is_subject { self.subject() } else { self.section(Section::Client).next() }
    }

    /// The claim `jti`, which names the token among its issuer's.
    pub fn token_id(&self) -> Option<&str> {
        self.section(Section::TokenId).next()
    }

    /// The claim `aud`: whom the token is meant for.
    pub fn audience(&self) -> Words<'_> {
        self.section(Section::Audience)
    }

    /// The scopes that were granted (RFC 6749 section 3.3).
    pub fn scopes(&self) -> Scopes<'_> {
        Scopes::new(self.section(Section::Scopes))
    }

    /// The platform's permissions of this caller, where its issuer tells them.
    pub fn permissions(&self) -> Scopes<'_> {
        Scopes::new(self.section(Section::Permissions))
    }

    /// The claim `iat`: when the token was issued.
    pub fn issued_at(&self) -> Option<UnixMillis> {
        self.issued_at.time()
    }

    /// The claim `exp`: from this moment on the token is not valid.
    pub fn expires_at(&self) -> Option<UnixMillis> {
        self.expires_at.time()
    }

    /// The claim `nbf`: before this moment the token is not valid.
    pub fn not_before(&self) -> Option<UnixMillis> {
        self.not_before.time()
    }

    /// What the sender must prove to hold; a token with a confirmation is no bearer token.
    pub fn confirmation(&self) -> Option<&Confirmation> {
        self.confirmation.as_deref()
    }

    /// The value of the claim `name`, if it was asked for when the identity was made and the token has it.
    pub fn claim(&self, name: &str) -> Option<ClaimValue<'_>> {
        let mut items = self.section(Section::Claims);
        while let (Some(item), Some(value)) = (items.next(), items.next()) {
            if item == name {
                return packed::claim(value);
            }
        }
        None
    }

    /// Bytes of heap that this identity takes behind an `Arc`, without the issuer's name, which is shared.
    pub fn weight(&self) -> usize {
        let counters = 2 * size_of::<usize>();
        let confirmation = self.confirmation.as_ref().map_or(0, |_| size_of::<Confirmation>());
        counters + size_of::<Self>() + self.text.len() + confirmation
    }

    fn section(&self, section: Section) -> Words<'_> {
        Words::of(self.text.get(self.ends.around(section, self.text.len())).unwrap_or_default())
    }
}

impl fmt::Debug for Identity {
    /// Who it is, and not the other claims, which may be personal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("issuer", &self.issuer)
            .field("subject", &self.subject())
            .field("client", &self.client())
            .field("expires_at", &self.expires_at())
            .finish_non_exhaustive()
    }
}
