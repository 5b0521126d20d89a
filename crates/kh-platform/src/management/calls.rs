//! One management call: the rotator's token, one request, and what its answer means.
//!
//! Invariant: one call here is at most one request, sent when the platform's limit has a place for it; a token that the platform
//! refused is reported before the call returns, unless it was the address that was refused.

use std::{sync::Arc, time::Duration};

use ::http::Method;
use kh_core::{
    SecretString,
    port::{ManageError, RotatorTokens, secret_management::Rotator},
    rotation::ManagedId,
};
use kh_net::http::{ANSWER_MAX, OutBody, Request};
use url::Url;

use super::{
    refusal::{Effect, refused, unanswered},
    shared::Shared,
};
use crate::{
    Address, HttpClient, PlainHttp,
    http::{Answer, Media},
};

/// A token must outlive the call it is used for: twice the longest exchange, with room for two clocks that differ.
const TOKEN_TTL_MIN: Duration = Duration::from_mins(1);

/// Longest id that goes into a path: a UUID has 36 characters, an access key about 56.
const ID_MAX: usize = 128;

/// Where a platform's management is.
#[derive(Clone)]
pub(super) enum Base {
    /// The configuration says it.
    Fixed(Address),
    /// The rotator's login tells it, and the login's adapter has checked it.
    OfLogin,
}

/// Who calls a platform's management, and where.
#[derive(Clone)]
pub(super) struct Calls {
    pub(super) http: HttpClient,
    base: Base,
    pub(super) tokens: Arc<dyn RotatorTokens>,
    pub(super) shared: Arc<Shared>,
}

/// One request. `about` is the one that its path names.
pub(super) struct Ask<'a> {
    pub(super) effect: Effect,
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) about: Option<&'a ManagedId>,
    pub(super) body: Option<OutBody>,
    pub(super) answer_max: usize,
}

impl Ask<'_> {
    pub(super) fn read(url: Url) -> Self {
        Self { effect: Effect::Read, method: Method::GET, url, about: None, body: None, answer_max: ANSWER_MAX }
    }

    pub(super) fn change(method: Method, url: Url) -> Self {
        Self { effect: Effect::Change, method, ..Self::read(url) }
    }
}

impl<'a> Ask<'a> {
    pub(super) fn about(self, id: &'a ManagedId) -> Self {
        Self { about: Some(id), ..self }
    }
}

impl Calls {
    pub(super) fn new(http: HttpClient, base: Base, tokens: Arc<dyn RotatorTokens>) -> Self {
        Self { http, base, tokens, shared: Arc::default() }
    }

    /// Monotonic time.
    pub(super) fn mono(&self) -> Duration {
        self.http.clock().now().mono
    }

    /// The address of `path` with ids as further segments: `/a/b` and `["x", "c"]` make `/a/b/x/c`.
    pub(super) async fn url(&self, by: Rotator, path: &str, segments: &[&str]) -> Result<Url, ManageError> {
        let mut url = self.base(by).await?.join(path);
        for segment in segments {
            if !is_id(segment) {
                return Err(ManageError::NotDone { reason: "this is no id that the platform could have".to_owned() });
            }
            let mut path = url
                .path_segments_mut()
                .map_err(|()| ManageError::NotDone { reason: "the platform's address takes no path".to_owned() })?;
            path.push(segment);
        }
        Ok(url)
    }

    async fn base(&self, by: Rotator) -> Result<Address, ManageError> {
        match &self.base {
            Base::Fixed(address) => Ok(address.clone()),
            Base::OfLogin => {
                // only a login tells it
                drop(self.tokens.token(by, TOKEN_TTL_MIN).await?);
                let told =
                    self.tokens.auth_base(by).and_then(|text| Address::parse(&text, PlainHttp::LoopbackOnly).ok());
                told.ok_or_else(|| ManageError::NotDone {
                    reason: "the rotator's login told no regional host".to_owned(),
                })
            }
        }
    }

    /// Sends `ask` as `by` and gives an answer 2xx; everything else is an error.
    pub(super) async fn send(&self, by: Rotator, ask: Ask<'_>) -> Result<Answer, ManageError> {
        let token = self.tokens.token(by, TOKEN_TTL_MIN).await?;
        self.shared.pace.turn(by, || self.mono()).await?;
        let (effect, about) = (ask.effect, ask.about);
        let answer = self.exchange(&token, ask).await?;
        self.shared.pace.heard(by, self.mono(), &answer.head);
        if !(200..300).contains(&answer.head.status) {
            let refusal = refused(effect, about, &answer.head, &answer.body);
            // a 401 that refuses keyholder's address says nothing about the token
            if answer.head.status == 401 && matches!(refusal, ManageError::NotDone { .. }) {
                self.tokens.refused(by, &token);
            }
            return Err(match refusal {
                ManageError::Throttled { retry_after } => {
                    ManageError::Throttled { retry_after: self.shared.pace.refused(by, self.mono(), retry_after) }
                }
                other => other,
            });
        }
        if answer.head.media == Media::Other {
            return Err(super::refusal::unreadable(effect, &answer.head, "JSON"));
        }
        Ok(answer)
    }

    /// The same with a token that the caller brings, whatever the status.
    pub(super) async fn exchange(&self, token: &SecretString, ask: Ask<'_>) -> Result<Answer, ManageError> {
        let not_sent = |error| unanswered(ask.effect, &error);
        let mut request = Request::new(ask.method, ask.url).bearer(token).map_err(not_sent)?.answer_max(ask.answer_max);
        if let Some(body) = ask.body {
            request = request.body(body);
        }
        Ok(self.http.send(request).await.map_err(not_sent)?.into())
    }
}

/// Ids are UUIDs or base32; anything that could change a path is none.
fn is_id(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=".contains(&byte);
    !text.is_empty() && text.len() <= ID_MAX && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_cannot_change_a_path() {
        for good in ["5e1f0a3c-0000-4000-8000-000000000001", "ABCDEFGH234567===="] {
            assert!(is_id(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a%2fb", "a?b", "a#b", "a b", "ä", &"x".repeat(ID_MAX + 1)] {
            assert!(!is_id(bad), "{bad:?}");
        }
    }
}
