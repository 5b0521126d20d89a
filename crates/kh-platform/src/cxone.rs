//! NICE CXone: password grant at the discovered global issuer (flow A), or an access key at a regional host (flow B).
//!
//! A CXone login needs a second look: where a token may be *used* is told per tenant by discovery. Because a token
//! goes there, every discovered address must pass [`AllowedHosts`]. There is no client_credentials grant on CXone.

use std::{sync::Arc, time::Duration};

use kh_core::{
    SecretString,
    credential::CredentialDocument,
    port::{BoxFuture, FetchError, IssuedToken, TokenEndpoint},
};

use crate::{
    Address, ClientAuth, HttpClient,
    answer::{TokenAnswer, conclude, parse_token_answer},
    body::{BasicForm, Form, basic, client_of, json_body, missing},
    classify::CXONE,
    document::read_document,
    fresh::Fresh,
    http::{fetch_error, get, post},
};

mod discovery;
mod hosts;
mod tenant;

pub use discovery::{Endpoints, Provider, parse_endpoints, parse_provider, parse_refresh_answer};
pub use hosts::AllowedHosts;
pub use tenant::{TenantId, parse_tenant_id};

/// Which of the two flows a credential uses.
#[derive(Debug)]
pub enum CxoneLogin {
    /// Flow A: needs `client_id`, `client_secret`, `access_key_id` and `access_key_secret`.
    Global {
        /// The issuer: `https://cxone.niceincontact.com`, or `https://cxone-gov.niceincontact.com` for FedRAMP.
        issuer: Address,
        /// Where discovered endpoints may lie.
        hosts: AllowedHosts,
        /// How the application was registered.
        client_auth: ClientAuth,
    },
    /// Flow B: needs `access_key_id` and `access_key_secret`. Tells no API base: the configuration has to.
    Regional {
        /// The regional host, such as `https://na1.nice-incontact.com`.
        auth_base: Address,
    },
}

/// The token endpoint of one CXone tenant.
pub struct CxoneEndpoint {
    http: HttpClient,
    login: CxoneLogin,
    provider: Fresh<(), Provider>,
    endpoints: Fresh<TenantId, Endpoints>,
}

impl CxoneEndpoint {
    /// An endpoint with empty discovery caches.
    pub fn new(http: HttpClient, login: CxoneLogin) -> Self {
        Self { http, login, provider: Fresh::empty(), endpoints: Fresh::empty() }
    }

    async fn fetch_global(
        &self,
        (issuer, hosts, client_auth): (&Address, &AllowedHosts, ClientAuth),
        document: &CredentialDocument,
        refresh: Option<&SecretString>,
    ) -> Result<IssuedToken, FetchError> {
        let (client_id, client_secret) = client_of(document)?;
        let form = if let Some(token) = refresh {
            Form::grant("refresh_token", token.len()).field("refresh_token", token.expose())
        } else {
            let (id, secret) = access_key(document)?;
            Form::grant("password", id.len() + secret.len()).field("username", id).field("password", secret.expose())
        };
        let (authorization, form) = match client_auth {
            ClientAuth::Basic => (Some(basic(client_id, client_secret, BasicForm::Raw)?), form),
            ClientAuth::Post => {
                let form = form.field("client_id", client_id);
                (None, form.field("client_secret", client_secret.expose()))
            }
        };
        let provider = self.provider(issuer, hosts).await?;
        let url = provider.token_endpoint.url().clone();
        let answer = post(&self.http, url, authorization, form.finish())
            .await
            .map_err(|error| fetch_error(&error, "the token request"))?;
        let token = conclude(&CXONE, &answer, |body| parse_token_answer(body, None))?;
        let tenant = tenant_of(&token)?;
        let endpoints = self.endpoints(issuer, hosts, &tenant).await?;
        Ok(IssuedToken {
            api_base: Some(endpoints.api.text().to_owned()),
            auth_base: Some(endpoints.auth.text().to_owned()),
            ..token.into()
        })
    }

    async fn fetch_regional(
        &self,
        auth_base: &Address,
        document: &CredentialDocument,
        refresh: Option<&SecretString>,
    ) -> Result<IssuedToken, FetchError> {
        let (path, body) = if let Some(token) = refresh {
            ("/public/user/refresh", json_body(&[("token", token.expose())]))
        } else {
            let (id, secret) = access_key(document)?;
            let fields = [("accessKeyId", id), ("accessKeySecret", secret.expose())];
            ("/authentication/v1/token/access-key", json_body(&fields))
        };
        let answer = post(&self.http, auth_base.join(path), None, body)
            .await
            .map_err(|error| fetch_error(&error, "the token request"))?;
        let token = conclude(&CXONE, &answer, |body| match refresh {
            Some(_) => parse_refresh_answer(body),
            None => parse_token_answer(body, None),
        });
        let token = if refresh.is_some() { token.map_err(of_refresh_token)? } else { token? };
        Ok(IssuedToken { auth_base: Some(auth_base.text().to_owned()), ..token.into() })
    }

    async fn provider(&self, issuer: &Address, hosts: &AllowedHosts) -> Result<Arc<Provider>, FetchError> {
        let discover = || -> BoxFuture<'_, Result<Provider, FetchError>> {
            Box::pin(async move {
                let answer = get(&self.http, issuer.join("/.well-known/openid-configuration")).await;
                let parse = |body: &[u8]| parse_provider(body, issuer, hosts);
                read_document("the issuer's openid-configuration", answer, parse)
            })
        };
        self.provider.or_renewed(&(), self.mono(), discover).await
    }

    async fn endpoints(
        &self,
        issuer: &Address,
        hosts: &AllowedHosts,
        tenant: &TenantId,
    ) -> Result<Arc<Endpoints>, FetchError> {
        let discover = || -> BoxFuture<'_, Result<Endpoints, FetchError>> {
            Box::pin(async move {
                let mut url = issuer.join("/.well-known/cxone-configuration");
                url.query_pairs_mut().append_pair("tenantId", tenant.as_str());
                let answer = get(&self.http, url).await;
                let parse = |body: &[u8]| parse_endpoints(body, tenant, hosts);
                read_document("the tenant's cxone-configuration", answer, parse)
            })
        };
        self.endpoints.or_renewed(tenant, self.mono(), discover).await
    }

    fn mono(&self) -> Duration {
        self.http.clock().now().mono
    }
}

impl std::fmt::Debug for CxoneEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CxoneEndpoint").field("login", &self.login).finish_non_exhaustive()
    }
}

impl TokenEndpoint for CxoneEndpoint {
    fn fetch<'a>(
        &'a self,
        document: &'a CredentialDocument,
        refresh: Option<&'a SecretString>,
    ) -> BoxFuture<'a, Result<IssuedToken, FetchError>> {
        match &self.login {
            CxoneLogin::Global { issuer, hosts, client_auth } => {
                Box::pin(self.fetch_global((issuer, hosts, *client_auth), document, refresh))
            }
            CxoneLogin::Regional { auth_base } => Box::pin(self.fetch_regional(auth_base, document, refresh)),
        }
    }
}

/// The regional refresh request carries a refresh token and nothing else: whatever is refused there, that is.
fn of_refresh_token(error: FetchError) -> FetchError {
    match error {
        FetchError::Rejected { correlation_id, .. } => {
            FetchError::Rejected { platform_code: "invalid_grant".to_owned(), correlation_id }
        }
        FetchError::RateLimited { .. } | FetchError::Transient { .. } | FetchError::Unusable(_) => error,
    }
}

fn access_key(document: &CredentialDocument) -> Result<(&str, &SecretString), FetchError> {
    let id = document.access_key_id.as_deref().ok_or_else(|| missing("access_key_id"))?;
    Ok((id, document.access_key_secret.as_ref().ok_or_else(|| missing("access_key_secret"))?))
}

/// The tenant that the tokens name. They are not verified: the name only picks a document at the pinned issuer.
fn tenant_of(token: &TokenAnswer) -> Result<TenantId, FetchError> {
    let candidates = [token.id_token.as_ref(), Some(&token.access_token)];
    let found = candidates.into_iter().flatten().find_map(|jwt| parse_tenant_id(jwt.expose()));
    found.ok_or_else(|| FetchError::Transient {
        reason: "neither the id_token nor the access token names a tenant".to_owned(),
        retry_after: None,
        unreachable: None,
        correlation_id: None,
    })
}
