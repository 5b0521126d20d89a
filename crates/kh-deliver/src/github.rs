//! GitHub Actions secrets as a write-only target: parts of the new document are sealed to the public key of a
//! repository, environment or organization and written (docs.github.com, "REST API endpoints for GitHub Actions
//! Secrets", API version 2022-11-28).
//!
//! Writing the same again is harmless, so a delivery may be repeated. Nothing can be read back: that a workflow uses the
//! new secret must be seen at the platform.
//!
//! Invariant: what leaves is the sealed box of libsodium (`crypto_box_seal`), which only GitHub opens.

mod placement;

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use crypto_box::{PublicKey, aead::OsRng};
use http::{HeaderName, HeaderValue, Method, header};
use kh_core::{
    SecretBytes, SecretString,
    credential::CredentialDocument,
    port::{BoxFuture, DeliveryHook, HookError, Promotion},
};
use kh_net::http::{Answer, HttpClient, OutBody, Request};
use serde::{Deserialize, Serialize};
use url::Url;

pub use self::placement::{Owner, PlacementError, SecretValue, Visibility};
use crate::{
    PlaceError, SecretFile, SendError,
    http::{exchange, judge},
    place,
};

/// Largest secret, in bytes (docs.github.com, "Using secrets in GitHub Actions", limits: 48 KB).
const VALUE_MAX: usize = 48 * 1024;

/// Largest accepted answer: a public key has 44 characters.
const ANSWER_MAX: usize = 64 * 1024;

/// How long to wait at least after a limit without a header that tells it (docs.github.com, "Rate limits for the REST
/// API").
const LIMIT_PAUSE: Duration = Duration::from_mins(1);

const API_VERSION: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-github-api-version"), HeaderValue::from_static("2022-11-28"));

const ACCEPT: (HeaderName, HeaderValue) = (header::ACCEPT, HeaderValue::from_static("application/vnd.github+json"));

/// A part of a credential's document.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Field {
    /// The whole document as JSON: id and secret in one value, so that no workflow sees the one without the other.
    Document,
    /// `client_id`
    ClientId,
    /// `client_secret`
    ClientSecret,
    /// `access_key_id`
    AccessKeyId,
    /// `access_key_secret`
    AccessKeySecret,
    /// `refresh_token`
    RefreshToken,
}

impl Field {
    /// The field of this name, `document` for the whole.
    pub fn of_name(name: &str) -> Option<Self> {
        let all = [
            Self::Document,
            Self::ClientId,
            Self::ClientSecret,
            Self::AccessKeyId,
            Self::AccessKeySecret,
            Self::RefreshToken,
        ];
        all.into_iter().find(|field| field.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Document => "document",
            Self::ClientId => "client_id",
            Self::ClientSecret => "client_secret",
            Self::AccessKeyId => "access_key_id",
            Self::AccessKeySecret => "access_key_secret",
            Self::RefreshToken => "refresh_token",
        }
    }

    /// Its value; none if the document has no such field.
    fn of(self, document: &CredentialDocument) -> Option<SecretBytes> {
        let bytes = |text: &str| SecretBytes::new(text.as_bytes().to_vec());
        let secret = |of: &Option<SecretString>| of.as_ref().map(|secret| bytes(secret.expose()));
        match self {
            Self::Document => Some(document.to_json()),
            Self::ClientId => document.client_id.as_deref().map(bytes),
            Self::ClientSecret => secret(&document.client_secret),
            Self::AccessKeyId => document.access_key_id.as_deref().map(bytes),
            Self::AccessKeySecret => secret(&document.access_key_secret),
            Self::RefreshToken => secret(&document.refresh_token),
        }
    }
}

/// GitHub Actions secrets as a hook.
#[derive(Debug)]
pub struct GithubSecret {
    name: String,
    api: Url,
    owner: Owner,
    values: Vec<SecretValue>,
    token: SecretFile,
    client: HttpClient,
}

#[derive(Deserialize)]
struct SealingKey {
    key_id: String,
    key: String,
}

/// What a refusal says.
#[derive(Deserialize)]
struct Told {
    message: String,
}

#[derive(Serialize)]
struct Put<'a> {
    encrypted_value: &'a str,
    key_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    visibility: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    selected_repository_ids: Option<&'a [u64]>,
}

impl GithubSecret {
    /// The hook `name` that writes `values` for `owner` at `api` (`https://api.github.com`, or
    /// `https://HOST/api/v3` of an own server) with the token in a file.
    pub fn new(
        name: impl Into<String>,
        api: &str,
        owner: Owner,
        values: Vec<SecretValue>,
        token: SecretFile,
        client: HttpClient,
    ) -> Result<Self, PlacementError> {
        let api = place::checked(api).map_err(|error: PlaceError| PlacementError::Api(error))?;
        if values.is_empty() {
            return Err(PlacementError::NoValue);
        }
        Ok(Self { name: name.into(), api, owner, values, token, client })
    }

    async fn write(&self, document: &CredentialDocument) -> Result<String, SendError> {
        // everything that can be wrong here is found before the first value is written
        let mut values = Vec::with_capacity(self.values.len());
        for value in &self.values {
            let field = value.field();
            let missing = || SendError::Refused(format!("the document has no {}", field.name()));
            let bytes = field.of(document).ok_or_else(missing)?;
            if bytes.expose().len() > VALUE_MAX {
                return Err(SendError::Refused(format!("{} is longer than GitHub takes", field.name())));
            }
            values.push((value.name(), bytes));
        }
        let answer = self.call(Method::GET, "public-key", None).await?;
        self.judge("the public key", &answer)?;
        let (key_id, key) = sealing_key(&answer.body)?;
        for (name, value) in &values {
            let sealed = key
                .seal(&mut OsRng, value.expose())
                .map_err(|_| SendError::refused("the value cannot be sealed to GitHub's public key"))?;
            let put = Put {
                encrypted_value: &STANDARD.encode(sealed),
                key_id: &key_id,
                visibility: self.owner.visibility(),
                selected_repository_ids: self.owner.selected(),
            };
            let answer = self.call(Method::PUT, name, Some(OutBody::json(&put))).await?;
            self.judge(&format!("the secret {name}"), &answer)?;
        }
        let names: Vec<&str> = values.iter().map(|(name, _)| *name).collect();
        Ok(format!("wrote {} for {}", names.join(", "), self.owner))
    }

    async fn call(&self, method: Method, last: &str, body: Option<OutBody>) -> Result<Answer, SendError> {
        let mut url = self.api.clone();
        url.path_segments_mut()
            .map_err(|()| SendError::refused("GitHub's address takes no path"))?
            .pop_if_empty()
            .extend(self.owner.segments())
            .push(last);
        let token = self.token.read().await?;
        let mut request = Request::new(method, url)
            .header(ACCEPT.0, ACCEPT.1)
            .header(API_VERSION.0, API_VERSION.1)
            .answer_max(ANSWER_MAX)
            .bearer(&token)
            .map_err(|error| SendError::Refused(error.to_string()))?;
        if let Some(body) = body {
            request = request.body(body);
        }
        exchange(&self.client, request).await
    }

    /// 201 created, 204 updated, 200 the key. A 403 that is no limit is a permission that is missing; a private thing
    /// that the token may not see is 404.
    fn judge(&self, what: &str, answer: &Answer) -> Result<(), SendError> {
        if let Some(limit) = limit(answer) {
            return Err(limit);
        }
        let owner = &self.owner;
        match answer.head.status {
            200 | 201 | 204 => Ok(()),
            401 => Err(SendError::refused("GitHub does not accept the token (401)")),
            403 => Err(SendError::Refused(format!(
                "the token may not write {what} of {owner} (403): it needs the permission Secrets, read and write"
            ))),
            404 => Err(SendError::Refused(format!(
                "GitHub shows no {owner} to this token (404): it is not there, or the token may not see it"
            ))),
            422 => Err(SendError::Refused(format!("GitHub finds {what} invalid (422)"))),
            _ => judge("GitHub", answer).and_then(|()| Err(SendError::refused("GitHub's answer was not expected"))),
        }
    }
}

impl DeliveryHook for GithubSecret {
    fn name(&self) -> &str {
        &self.name
    }

    fn describe(&self) -> String {
        let values: Vec<String> =
            self.values.iter().map(|value| format!("{} ({})", value.name(), value.field().name())).collect();
        format!("writes the GitHub Actions secrets {} for {}", values.join(", "), self.owner)
    }

    fn deliver<'a>(
        &'a self,
        _promotion: &'a Promotion,
        document: &'a CredentialDocument,
    ) -> BoxFuture<'a, Result<String, HookError>> {
        Box::pin(async move { Ok(self.write(document).await?) })
    }
}

/// A 403 that is a limit: the answer says so by `retry-after` or `x-ratelimit-remaining: 0`, or in words alone
/// (docs.github.com, "Rate limits for the REST API", secondary limits; they were called abuse detection before).
fn limit(answer: &Answer) -> Option<SendError> {
    let head = &answer.head;
    if head.status != 403 {
        return None;
    }
    let reason = "GitHub's rate limit is used up (403)".to_owned();
    if head.retry_after().is_some() || head.text("x-ratelimit-remaining").as_deref() == Some("0") {
        return Some(SendError::Transient { reason, retry_after: head.retry_after() });
    }
    let message = serde_json::from_slice::<Told>(&answer.body).ok()?.message.to_ascii_lowercase();
    let is_limit = message.contains("secondary rate limit") || message.contains("abuse detection");
    is_limit.then_some(SendError::Transient { reason, retry_after: Some(LIMIT_PAUSE) })
}

/// The key to seal to, with the id by which GitHub knows it.
pub(crate) fn sealing_key(answer: &[u8]) -> Result<(String, PublicKey), SendError> {
    let sealing: SealingKey =
        serde_json::from_slice(answer).map_err(|_| SendError::transient("GitHub's answer holds no public key"))?;
    Ok((sealing.key_id, public_key(&sealing.key)?))
}

/// 32 bytes of base64.
fn public_key(text: &str) -> Result<PublicKey, SendError> {
    let bytes = STANDARD.decode(text).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    bytes.map(PublicKey::from).ok_or_else(|| SendError::transient("GitHub's public key has not 32 bytes"))
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use kh_core::UnixMillis;
    use kh_net::http::AnswerHead;
    use serde_json::json;
    use zeroize::Zeroizing;

    use super::*;

    fn said(status: u16, headers: &[(&'static str, &'static str)], message: &str) -> Option<SendError> {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        let body = Zeroizing::new(json!({ "message": message }).to_string().into_bytes());
        limit(&Answer { head: AnswerHead { status, headers, received: UnixMillis(0) }, body })
    }

    #[test]
    fn limits_are_told_by_headers_or_in_words() {
        let secondary = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.";
        let waits = |seconds: Option<u64>| {
            let reason = "GitHub's rate limit is used up (403)".to_owned();
            Some(SendError::Transient { reason, retry_after: seconds.map(Duration::from_secs) })
        };
        assert_eq!(said(403, &[], secondary), waits(Some(60)));
        assert_eq!(said(403, &[], "You have triggered an abuse detection mechanism."), waits(Some(60)));
        assert_eq!(said(403, &[("retry-after", "7")], secondary), waits(Some(7)));
        assert_eq!(said(403, &[("x-ratelimit-remaining", "0")], "API rate limit exceeded"), waits(None));
        assert_eq!(said(403, &[("x-ratelimit-remaining", "9")], "Resource not accessible by integration"), None);
        assert_eq!(said(404, &[], secondary), None);
    }
}
