//! Any RFC 6749 issuer: client_credentials or refresh_token at a token URL, or at the endpoint that RFC 8414 metadata
//! names.
//!
//! Invariant: metadata that do not come in `DISCOVERY_MAX` are an error of their own, so that nobody takes a token
//! request that was never sent for one whose answer is lost.

use std::{sync::Arc, time::Duration};

use kh_core::{
    SecretString,
    credential::CredentialDocument,
    port::{BoxFuture, FetchError, Grant, GrantError, IssuedToken, TokenEndpoint},
};

use crate::{
    Address, ClientAuth, HttpClient,
    answer::{conclude_grant, parse_token_answer},
    body::{BasicForm, Form, basic, client_of, grant_form, login_form},
    classify::OAUTH2,
    document::read_document,
    fresh::Fresh,
    http::{HttpError, post},
};

pub(crate) mod discovery;
mod metadata;

use discovery::well_known;
pub use metadata::{Metadata, MetadataError, parse_metadata};

/// Longest wait for the metadata, both addresses together. Whoever waits for a token gives up after 15 s and has to take a
/// refresh token for sent then: what is left is enough to learn that there is no connection to send it on (5 s).
const DISCOVERY_MAX: Duration = Duration::from_secs(8);

/// Where the token endpoint is.
#[derive(Debug)]
pub enum OAuth2Source {
    /// Told by the operator.
    TokenUrl(Address),
    /// Found in the issuer's metadata: RFC 8414, or OpenID discovery where that is missing.
    Issuer(Address),
}

/// How to log in.
#[derive(Debug)]
pub struct OAuth2Settings {
    /// Where.
    pub source: OAuth2Source,
    /// How the client authenticates; `None` takes what the metadata offers, Basic first.
    pub client_auth: Option<ClientAuth>,
    /// `scope` of the request (RFC 6749 section 3.3), space separated.
    pub scope: Option<String>,
    /// `audience` of the request, which several issuers want.
    pub audience: Option<String>,
    /// Life of a token whose answer has no `expires_in` (RFC 6749 section 5.1 leaves it open); `None` refuses those.
    pub assumed_lifetime: Option<Duration>,
}

/// The token endpoint of one issuer.
pub struct OAuth2Endpoint {
    http: HttpClient,
    settings: OAuth2Settings,
    metadata: Fresh<(), Metadata>,
}

impl OAuth2Endpoint {
    /// An endpoint with an empty metadata cache.
    pub fn new(http: HttpClient, settings: OAuth2Settings) -> Self {
        Self { http, settings, metadata: Fresh::empty() }
    }

    async fn login(
        &self,
        document: &CredentialDocument,
        refresh: Option<&SecretString>,
    ) -> Result<IssuedToken, FetchError> {
        let mut form = login_form(document, refresh);
        let settings = &self.settings;
        for (name, value) in [("scope", &settings.scope), ("audience", &settings.audience)] {
            if let Some(value) = value {
                form = form.field(name, value);
            }
        }
        self.send(document, form).await.map_err(|error| error.cause)
    }

    /// One token request as the client of `document`.
    async fn send(&self, document: &CredentialDocument, form: Form) -> Result<IssuedToken, GrantError> {
        let (id, secret) = client_of(document).map_err(GrantError::not_done)?;
        let settings = &self.settings;
        let (endpoint, offered) = match &settings.source {
            OAuth2Source::TokenUrl(address) => (address.clone(), ClientAuth::Basic),
            OAuth2Source::Issuer(issuer) => {
                let metadata = self.metadata(issuer).await.map_err(GrantError::not_done)?;
                (metadata.token_endpoint.clone(), metadata.client_auth)
            }
        };
        let (authorization, form) = match settings.client_auth.unwrap_or(offered) {
            ClientAuth::Basic => {
                let header = basic(id, secret, BasicForm::FormEncoded).map_err(GrantError::not_done)?;
                (Some(header), form)
            }
            ClientAuth::Post => (None, form.field("client_id", id).field("client_secret", secret.expose())),
        };
        let answer = post(&self.http, endpoint.url().clone(), authorization, form.finish()).await;
        let parse = |body: &[u8]| parse_token_answer(body, settings.assumed_lifetime);
        conclude_grant(&OAUTH2, answer, parse).map(IssuedToken::from)
    }

    async fn metadata(&self, issuer: &Address) -> Result<Arc<Metadata>, FetchError> {
        let mono = self.http.clock().now().mono;
        let discover = || -> BoxFuture<'_, Result<Metadata, FetchError>> { Box::pin(self.discover(issuer)) };
        self.metadata.or_renewed(&(), mono, discover).await
    }

    async fn discover(&self, issuer: &Address) -> Result<Metadata, FetchError> {
        let answer = tokio::time::timeout(DISCOVERY_MAX, well_known(&self.http, issuer)).await;
        let answer = answer.unwrap_or(Err(HttpError::Timeout { sent: true }));
        read_document("the issuer's metadata", answer, |body| parse_metadata(body, issuer))
    }
}

impl std::fmt::Debug for OAuth2Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OAuth2Endpoint").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl TokenEndpoint for OAuth2Endpoint {
    fn fetch<'a>(
        &'a self,
        document: &'a CredentialDocument,
        refresh: Option<&'a SecretString>,
    ) -> BoxFuture<'a, Result<IssuedToken, FetchError>> {
        Box::pin(self.login(document, refresh))
    }

    fn grant<'a>(
        &'a self,
        document: &'a CredentialDocument,
        grant: Grant<'a>,
    ) -> BoxFuture<'a, Result<IssuedToken, GrantError>> {
        Box::pin(self.send(document, grant_form(&grant)))
    }
}
