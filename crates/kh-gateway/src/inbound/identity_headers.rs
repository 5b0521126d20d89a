//! Telling the API who calls, in headers that nobody else can write.
//!
//! Invariants: of a header that is ours to set, nothing that a caller sent reaches the API, in whatever spelling: many
//! servers hand headers to programs as `HTTP_X_USER`, where `X-User`, `x_user` and `X.User` are one. A value that could
//! be read in two ways is not told, and its request is refused.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use kh_core::{ClaimValue, Identity};

use super::api::{ApiError, IDENTITY_HEADERS_MAX};
use crate::{
    exchange::headers::{CERTIFICATES, OF_CALLER, OF_PROXY},
    guards::OVERRIDES,
};

/// What is told of an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityField {
    /// `sub`.
    Subject,
    /// `client_id`, else `azp`.
    Client,
    /// `iss`.
    Issuer,
    /// `jti`.
    TokenId,
    /// The scopes, with one space between them.
    Scopes,
    /// The platform's permissions, likewise.
    Permissions,
    /// A claim by its name. The items of a list are separated by commas.
    Claim(Box<str>),
}

/// A header and what it tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityHeader {
    /// The header.
    pub name: HeaderName,
    /// What it tells. It is absent when the token does not say it.
    pub tells: IdentityField,
}

/// Headers that mean something to a gateway or to HTTP itself: in another spelling they are a trick. Those of
/// [`OF_CALLER`] and the identity headers are added.
static OWN: [HeaderName; 9] = [
    header::AUTHORIZATION,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::HOST,
    header::PROXY_AUTHORIZATION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::VIA,
];

/// Whether a header of this name can tell who calls: HTTP and keyholder need some for something else, in any spelling.
pub fn may_tell(name: &HeaderName) -> bool {
    let mut reserved = OWN.iter().chain(&OF_CALLER);
    !reserved.any(|own| *one_spelling(own.as_str()) == *one_spelling(name.as_str()))
}

/// A token says something that cannot stand in a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unfit;

/// The identity headers of a site.
#[derive(Debug, Default)]
pub(super) struct IdentityHeaders {
    told: Box<[IdentityHeader]>,
    /// Names that are kept for us, for HTTP and for proxies, as are all that begin with [`OF_PROXY`]. Those of
    /// [`OVERRIDES`] are refused in their own spelling.
    kept: Box<[Box<str>]>,
}

impl IdentityHeaders {
    pub(super) fn new(told: Vec<IdentityHeader>) -> Result<Self, ApiError> {
        if told.len() > IDENTITY_HEADERS_MAX {
            return Err(ApiError::TooManyHeaders);
        }
        if let Some(header) = told.iter().find(|header| !may_tell(&header.name)) {
            return Err(ApiError::Header(header.name.clone()));
        }
        let names = told.iter().map(|header| &header.name).chain(&OWN).chain(&OF_CALLER).chain(&CERTIFICATES);
        let names = names.map(HeaderName::as_str);
        let mut kept: Vec<Box<str>> = names.chain(OVERRIDES).map(one_spelling).collect();
        kept.sort_unstable();
        kept.dedup();
        Ok(Self { told: told.into(), kept: kept.into() })
    }

    /// Removes the caller's copies: those of identity headers, and other spellings of every name that is kept.
    pub(super) fn strip(&self, headers: &mut HeaderMap) {
        for header in &self.told {
            headers.remove(&header.name);
        }
        if !headers.keys().any(is_odd) {
            return;
        }
        let tricks: Vec<HeaderName> =
            headers.keys().filter(|name| is_odd(name) && self.is_kept(name)).cloned().collect();
        for name in tricks {
            headers.remove(name);
        }
    }

    fn is_kept(&self, name: &HeaderName) -> bool {
        let name = one_spelling(name.as_str());
        name.starts_with(OF_PROXY) || self.kept.binary_search(&name).is_ok()
    }

    /// What tells who calls.
    pub(super) fn values(&self, identity: &Identity) -> Result<IdentityValues, Unfit> {
        let mut values = Vec::with_capacity(self.told.len());
        for IdentityHeader { name, tells } in &self.told {
            if let Some(text) = tells.of(identity)? {
                values.push((name.clone(), value(&text)?));
            }
        }
        Ok(IdentityValues(values))
    }
}

/// What is told of one caller: each value can stand in its header.
#[derive(Debug)]
pub(super) struct IdentityValues(Vec<(HeaderName, HeaderValue)>);

impl IdentityValues {
    /// Tells who calls. What the caller sent is gone already.
    pub(super) fn tell(self, headers: &mut HeaderMap) {
        for (name, value) in self.0 {
            headers.insert(name, value);
        }
    }
}

/// Whether a name has a character that servers exchange for another one. Names are in small letters already.
fn is_odd(name: &HeaderName) -> bool {
    name.as_str().bytes().any(|byte| !byte.is_ascii_alphanumeric() && byte != b'-')
}

fn one_spelling(name: &str) -> Box<str> {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' };
    name.chars().map(plain).collect::<String>().into()
}

/// Visible ASCII, and spaces inside.
fn value(text: &str) -> Result<HeaderValue, Unfit> {
    let visible = text.bytes().all(|byte| matches!(byte, 0x20..=0x7e));
    if !visible || text.trim() != text {
        return Err(Unfit);
    }
    HeaderValue::from_str(text).map_err(|_| Unfit)
}

impl IdentityField {
    fn of<'a>(&self, identity: &'a Identity) -> Result<Option<Cow<'a, str>>, Unfit> {
        Ok(match self {
            Self::Subject => identity.subject().map(Cow::Borrowed),
            Self::Client => identity.client().map(Cow::Borrowed),
            Self::Issuer => Some(Cow::Borrowed(&**identity.issuer())),
            Self::TokenId => identity.token_id().map(Cow::Borrowed),
            Self::Scopes => joined(identity.scopes().iter(), ' ')?.map(Cow::Owned),
            Self::Permissions => joined(identity.permissions().iter(), ' ')?.map(Cow::Owned),
            Self::Claim(name) => match identity.claim(name) {
                None => None,
                Some(ClaimValue::Text(value)) => Some(Cow::Borrowed(value)),
                Some(ClaimValue::List(items)) => joined(items, ',')?.map(Cow::Owned),
                Some(ClaimValue::Number(number)) => Some(Cow::Owned(number.to_string())),
                Some(ClaimValue::Bool(value)) => Some(Cow::Borrowed(if value { "true" } else { "false" })),
            },
        })
    }
}

/// Items with one separator between them. An item that holds the separator would look like two.
fn joined<'a>(items: impl Iterator<Item = &'a str>, separator: char) -> Result<Option<String>, Unfit> {
    let mut text = String::new();
    for item in items {
        if item.is_empty() || item.contains(separator) {
            return Err(Unfit);
        }
        if !text.is_empty() {
            text.push(separator);
        }
        text.push_str(item);
    }
    Ok((!text.is_empty()).then_some(text))
}

/// For the fuzz body: every header that would reach the API although its name is kept, after a caller sent `names`.
#[cfg(any(test, fuzzing))]
pub(crate) fn kept_names_that_pass(names: &[HeaderName]) -> Vec<HeaderName> {
    let told = vec![IdentityHeader { name: HeaderName::from_static("x-user"), tells: IdentityField::Subject }];
    let site = IdentityHeaders::new(told).expect("one ordinary header is taken");
    let mut headers: HeaderMap =
        names.iter().map(|name| (name.clone(), HeaderValue::from_static("of-the-caller"))).collect();
    site.strip(&mut headers);
    let odd_or_told = |name: &&HeaderName| is_odd(name) || name.as_str() == "x-user";
    headers.keys().filter(odd_or_told).filter(|name| site.is_kept(name)).cloned().collect()
}

#[cfg(test)]
mod tests;
