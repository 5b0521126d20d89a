//! The key set of an issuer, by its address or by the issuer's metadata.
//!
//! Invariant: metadata is read with every fetch, so that a key set that moves is followed; nothing is kept here.

use ::http::{HeaderValue, Method, header};
use kh_core::port::{BoxFuture, KeyDocument, KeySource, RemoteError};
use kh_net::http::Request;
use url::Url;

use super::{cache_control::fresh_for, document_url, metadata, named_url, unreached};
use crate::{Address, AddressError, HttpClient, Media, PlainHttp};

/// Largest key set, in bytes: a hundred RSA keys with certificates.
const KEY_SET_MAX: usize = 256 * 1024;

/// Where a key set is.
#[derive(Clone, Debug)]
pub enum KeysAt {
    /// Here.
    Url(Url),
    /// Where the issuer's metadata says (RFC 8414, or OpenID Connect Discovery where that is missing).
    Issuer(Address),
}

impl KeysAt {
    /// The address that an operator wrote.
    pub fn url(text: &str, plain: PlainHttp) -> Result<Self, AddressError> {
        document_url(text, plain).map(Self::Url)
    }
}

/// An issuer's key set by HTTP.
pub struct RemoteKeys {
    http: HttpClient,
    at: KeysAt,
}

impl RemoteKeys {
    /// Fetches by `http`, whose egress decides which addresses it reaches: [`kh_net::Reach::Public`] keeps an issuer's
    /// documents from pointing into the operator's own network.
    pub fn new(http: HttpClient, at: KeysAt) -> Self {
        Self { http, at }
    }

    async fn document(&self) -> Result<KeyDocument, RemoteError> {
        let what = "the key set";
        let url = match &self.at {
            KeysAt::Url(url) => url.clone(),
            KeysAt::Issuer(issuer) => {
                let metadata = metadata(&self.http, issuer).await?;
                named_url("jwks_uri", metadata.jwks_uri.as_deref(), issuer)?
            }
        };
        let accept = HeaderValue::from_static("application/jwk-set+json, application/json");
        let request = Request::new(Method::GET, url).header(header::ACCEPT, accept).answer_max(KEY_SET_MAX);
        let answer = self.http.send(request).await.map_err(|error| unreached(what, &error))?;
        let head = &answer.head;
        if head.status != 200 || head.media() == Media::Other {
            let reason = format!("{what}: answered {} without a key set", head.status);
            return Err(RemoteError::answered(reason, head.status, head.retry_after()));
        }
        let text = |value: &'_ HeaderValue| value.to_str().unwrap_or_default().to_owned();
        let cache_control: Vec<String> = head.headers.get_all(header::CACHE_CONTROL).iter().map(text).collect();
        let cache_control: Vec<&str> = cache_control.iter().map(String::as_str).collect();
        let age = head.headers.get(header::AGE).map(text);
        Ok(KeyDocument { bytes: answer.body.to_vec(), fresh_for: fresh_for(&cache_control, age.as_deref()) })
    }
}

impl std::fmt::Debug for RemoteKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteKeys").field("at", &self.at).finish_non_exhaustive()
    }
}

impl KeySource for RemoteKeys {
    fn fetch(&self) -> BoxFuture<'_, Result<KeyDocument, RemoteError>> {
        Box::pin(self.document())
    }
}
