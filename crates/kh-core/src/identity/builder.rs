//! Makes an identity from what a token says.
//!
//! Invariant: nothing is cut short. A word or a whole that does not fit is refused when the identity is built.

use std::sync::Arc;

use super::{
    Confirmation, Identity,
    instant::Instant,
    packed::{self, Ends, Section},
};
use crate::UnixMillis;

/// Longest single word (a subject, a scope, a claim's value), in bytes: what two characters of seven bits can tell,
/// and as much as a whole token may have.
pub const WORD_MAX: usize = (1 << 14) - 1;

/// Most text of one identity, in bytes. An administrator of a large Genesys organisation has about 2,000 permissions
/// of 30 characters.
pub const IDENTITY_TEXT_MAX: usize = 256 * 1024;

/// What a token says is more than an identity may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an identity may hold {IDENTITY_TEXT_MAX} bytes of text, and {WORD_MAX} in one word")]
pub struct TooLarge;

/// An identity in the making. Single values replace each other, lists grow.
#[derive(Debug)]
pub struct IdentityBuilder {
    issuer: Arc<str>,
    sections: [String; Section::COUNT],
    client: Option<String>,
    confirmation: Option<Confirmation>,
    issued_at: Instant,
    expires_at: Instant,
    not_before: Instant,
    fits: bool,
}

impl IdentityBuilder {
    pub(super) fn new(issuer: Arc<str>) -> Self {
        Self {
            issuer,
            sections: Default::default(),
            client: None,
            confirmation: None,
            issued_at: Instant::default(),
            expires_at: Instant::default(),
            not_before: Instant::default(),
            fits: true,
        }
    }

    /// The claim `sub`.
    pub fn subject(mut self, subject: &str) -> Self {
        self.replace(Section::Subject, subject);
        self
    }

    /// The client that the token was issued to.
    pub fn client(mut self, client: &str) -> Self {
        self.client = Some(client.to_owned());
        self
    }

    /// The claim `jti`.
    pub fn token_id(mut self, id: &str) -> Self {
        self.replace(Section::TokenId, id);
        self
    }

    /// One more word of the claim `aud`.
    pub fn audience(mut self, audience: &str) -> Self {
        self.add(Section::Audience, audience);
        self
    }

    /// One more granted scope.
    pub fn scope(mut self, scope: &str) -> Self {
        self.add(Section::Scopes, scope);
        self
    }

    /// One more permission of the platform.
    pub fn permission(mut self, permission: &str) -> Self {
        self.add(Section::Permissions, permission);
        self
    }

    /// The claim `iat`.
    pub fn issued_at(mut self, time: UnixMillis) -> Self {
        self.issued_at = Instant::of(time);
        self
    }

    /// The claim `exp`.
    pub fn expires_at(mut self, time: UnixMillis) -> Self {
        self.expires_at = Instant::of(time);
        self
    }

    /// The claim `nbf`.
    pub fn not_before(mut self, time: UnixMillis) -> Self {
        self.not_before = Instant::of(time);
        self
    }

    /// The claim `cnf`.
    pub fn confirmation(mut self, confirmation: Confirmation) -> Self {
        self.confirmation = Some(confirmation);
        self
    }

    /// A claim that was asked for, as text.
    pub fn claim_text(self, name: &str, value: &str) -> Self {
        self.claim(name, packed::TEXT, value)
    }

    /// A claim that was asked for, as a number.
    pub fn claim_number(self, name: &str, value: i64) -> Self {
        self.claim(name, packed::NUMBER, &value.to_string())
    }

    /// A claim that was asked for, as a truth value.
    pub fn claim_bool(self, name: &str, value: bool) -> Self {
        self.claim(name, packed::BOOL, if value { "true" } else { "false" })
    }

    /// A claim that was asked for, as a list of texts.
    pub fn claim_list<'a>(mut self, name: &str, values: impl IntoIterator<Item = &'a str>) -> Self {
        let mut list = String::new();
        for value in values {
            self.fits &= list.len() <= WORD_MAX && packed::push(value, &mut list);
        }
        self.claim(name, packed::LIST, &list)
    }

    /// The identity, if everything fits.
    pub fn build(mut self) -> Result<Identity, TooLarge> {
        let client = self.client.take();
        let client_is_subject = client.as_deref().is_some_and(|client| self.is_subject(client));
        if let Some(client) = client.filter(|_| !client_is_subject) {
            self.replace(Section::Client, &client);
        }
        let length: usize = self.sections.iter().map(String::len).sum();
        if !self.fits || length > IDENTITY_TEXT_MAX {
            return Err(TooLarge);
        }
        let mut text = String::with_capacity(length);
        let mut ends = Ends::default();
        for (place, section) in self.sections.iter().enumerate() {
            text.push_str(section);
            if !ends.set(place, text.len()) {
                return Err(TooLarge);
            }
        }
        Ok(Identity {
            issuer: self.issuer,
            text: text.into_boxed_str(),
            confirmation: self.confirmation.map(Box::new),
            issued_at: self.issued_at,
            expires_at: self.expires_at,
            not_before: self.not_before,
            ends,
            client_is_subject,
        })
    }

    /// A client that acts for itself has its own id as the subject (RFC 9068 section 2.2): kept once.
    fn is_subject(&self, client: &str) -> bool {
        let subject = self.sections.get(Section::Subject as usize).map(String::as_str).unwrap_or_default();
        packed::Words::of(subject).next() == Some(client)
    }

    fn claim(mut self, name: &str, kind: char, value: &str) -> Self {
        let mut marked = String::with_capacity(1 + value.len());
        marked.push(kind);
        marked.push_str(value);
        self.add(Section::Claims, name);
        self.add(Section::Claims, &marked);
        self
    }

    fn replace(&mut self, section: Section, word: &str) {
        if let Some(text) = self.sections.get_mut(section as usize) {
            text.clear();
        }
        self.add(section, word);
    }

    fn add(&mut self, section: Section, word: &str) {
        if let Some(text) = self.sections.get_mut(section as usize) {
            // a section that is too large already grows no further, however long the list is
            self.fits &= text.len() <= IDENTITY_TEXT_MAX && packed::push(word, text);
        }
    }
}
