//! RFC 7662: asking an issuer what a token is.
//!
//! Invariants: the request is authenticated by keyholder's own credential and goes to one address; `active` decides and
//! nothing else makes a token active; an answer that cannot be understood is an error and never a yes.

use std::{sync::Arc, time::Duration};

use ::http::{HeaderValue, Method, header};
use kh_core::{
    Retry, SecretReference, SecretString,
    credential::CredentialDocument,
    port::{BoxFuture, RemoteError, SecretSource, SourceError, TokenAnswer, TokenAuthority},
};
use kh_net::http::Request;
use kh_verify::{Accepted, Policy, Reason};
use tokio::sync::Mutex;
use url::Url;

use super::{is_document, metadata, named_url, unreached, unusable};
use crate::{
    Address, ClientAuth, HttpClient,
    body::{BasicForm, Form, basic},
    fresh::Fresh,
    http::Answer,
};

/// How long keyholder's own credential is used before it is read again, so that a store outside is not asked for each
/// token. After a refusal it is read at once.
const CREDENTIAL_FRESH: Duration = Duration::from_mins(1);

/// Where introspection requests go.
#[derive(Clone, Debug)]
pub enum IntrospectionAt {
    /// Here.
    Url(Url),
    /// Where the issuer's metadata says (RFC 8414 section 2, `introspection_endpoint`).
    Issuer(Address),
}

/// How to ask.
#[derive(Debug)]
pub struct IntrospectionSettings {
    /// Where.
    pub at: IntrospectionAt,
    /// How keyholder authenticates.
    pub client_auth: ClientAuth,
    /// Its credential there: a document with `client_id` and `client_secret`.
    pub credential: SecretReference,
    /// The values of `iss` that an answer may have; one without has the first.
    pub issuers: Vec<Arc<str>>,
    /// Members of the answer that routes ask for.
    pub claims: Vec<String>,
}

/// One issuer's introspection endpoint.
pub struct Introspection {
    http: HttpClient,
    settings: IntrospectionSettings,
    policy: Policy,
    source: Arc<dyn SecretSource>,
    credential: Mutex<Option<(Duration, Arc<CredentialDocument>)>>,
    /// The address that the metadata names.
    endpoint: Fresh<(), Url>,
}

impl Introspection {
    /// Asks by `http`, with the credential out of `source`.
    pub fn new(http: HttpClient, settings: IntrospectionSettings, source: Arc<dyn SecretSource>) -> Self {
        // times and audience are the verifier's to check, by the clock and the list that it has
        let policy = Policy::new(Accepted::OneOf(settings.issuers.clone()), Accepted::Any)
            .without_expiry()
            .with_leeway(kh_verify::policy::LEEWAY_MAX)
            .with_claims(settings.claims.iter().map(String::as_str));
        Self { http, settings, policy, source, credential: Mutex::new(None), endpoint: Fresh::empty() }
    }

    async fn introspect(&self, token: &SecretString) -> Result<TokenAnswer, RemoteError> {
        let url = match &self.settings.at {
            IntrospectionAt::Url(url) => url.clone(),
            IntrospectionAt::Issuer(issuer) => {
                let mono = self.http.clock().now().mono;
                let discover = || -> BoxFuture<'_, Result<Url, RemoteError>> {
                    Box::pin(async move {
                        let metadata = metadata(&self.http, issuer).await?;
                        named_url("introspection_endpoint", metadata.introspection_endpoint.as_deref(), issuer)
                    })
                };
                let endpoint = self.endpoint.or_renewed(&(), mono, discover).await?;
                Url::clone(&endpoint)
            }
        };
        let answer = self.exchange(url, token).await?;
        if answer.head.status == 401 || answer.head.status == 403 {
            *self.credential.lock().await = None;
            return Err(RemoteError::new("the introspection endpoint refuses keyholder's own credential"));
        }
        if !is_document(&answer) {
            return Err(unusable("the introspection", &answer));
        }
        match kh_verify::introspected(&answer.body, &self.policy, self.http.clock().now().wall) {
            Ok(Some(identity)) => Ok(TokenAnswer::Active { identity: Box::new(identity), age: Duration::ZERO }),
            Err(Reason::ClaimsInvalid) => Err(RemoteError::new("the introspection: no answer of RFC 7662")),
            // of another issuer, over, or bound to what cannot be checked: a good answer about a bad token
            Ok(None) | Err(_) => Ok(TokenAnswer::Inactive),
        }
    }

    async fn exchange(&self, url: Url, token: &SecretString) -> Result<Answer, RemoteError> {
        let document = self.credential().await?;
        let missing = |field| RemoteError::new(format!("the credential for introspection lacks {field}"));
        let id = document.client_id.as_deref().ok_or_else(|| missing("client_id"))?;
        let secret = document.client_secret.as_ref().ok_or_else(|| missing("client_secret"))?;
        let form = Form::new(token.len() + secret.len()).field("token", token.expose());
        let form = form.field("token_type_hint", "access_token");
        let request =
            Request::new(Method::POST, url).header(header::ACCEPT, HeaderValue::from_static("application/json"));
        let request = match self.settings.client_auth {
            ClientAuth::Basic => {
                let value = basic(id, secret, BasicForm::FormEncoded)
                    .map_err(|error| RemoteError::new(format!("the credential for introspection: {error}")))?;
                request.header(header::AUTHORIZATION, value).body(form.finish())
            }
            ClientAuth::Post => {
                request.body(form.field("client_id", id).field("client_secret", secret.expose()).finish())
            }
        };
        let answer = self.http.send(request).await.map_err(|error| unreached("the introspection", &error))?;
        Ok(answer.into())
    }

    /// Held while it is read: who comes meanwhile waits for it.
    async fn credential(&self) -> Result<Arc<CredentialDocument>, RemoteError> {
        let mut kept = self.credential.lock().await;
        let now = self.http.clock().now().mono;
        if let Some((at, document)) = &*kept
            && now.saturating_sub(*at) < CREDENTIAL_FRESH
        {
            return Ok(Arc::clone(document));
        }
        let cannot = |why: &dyn std::fmt::Display| RemoteError::new(format!("the credential for introspection: {why}"));
        let stored = self.source.read(&self.settings.credential).await.map_err(|error| RemoteError {
            passing: matches!(error, SourceError::Stored { .. }) && error.retry() != Retry::Never,
            ..cannot(&error)
        })?;
        let document = Arc::new(CredentialDocument::parse(&stored.value).map_err(|error| cannot(&error))?);
        *kept = Some((now, Arc::clone(&document)));
        Ok(document)
    }
}

impl std::fmt::Debug for Introspection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Introspection").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl TokenAuthority for Introspection {
    fn ask<'a>(&'a self, token: &'a SecretString) -> BoxFuture<'a, Result<TokenAnswer, RemoteError>> {
        Box::pin(self.introspect(token))
    }
}
