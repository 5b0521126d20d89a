//! Genesys Cloud CX: `POST https://login.<domain>/oauth/token`.
//!
//! Client credentials with a Basic header (id and secret as they are, as every official SDK sends them), or the
//! refresh token of an authorization-code login; for sessions of users the authorization code and its refresh tokens.
//! Tokens are opaque; there is no metadata to discover and no revocation endpoint.

use ::http::Method;
use kh_core::{
    SecretString,
    credential::CredentialDocument,
    port::{BoxFuture, FetchError, Grant, GrantError, IssuedToken, TokenEndpoint},
};
use kh_net::http::Request;
use url::Url;

use crate::{
    Address, HttpClient,
    answer::{conclude_grant, parse_token_answer},
    body::{BasicForm, Form, basic, client_of, grant_form, login_form},
    classify::{GENESYS, classify_failure},
    http::{Answer, fetch_error, post},
};

pub mod account;
mod regions;
pub use regions::{Region, UnknownRegion, find_region, regions};

/// The token endpoint of one Genesys Cloud region (or of a gateway before it).
#[derive(Debug)]
pub struct GenesysEndpoint {
    http: HttpClient,
    login: Address,
}

impl GenesysEndpoint {
    /// `login` is the login host, such as `https://login.mypurecloud.com`, with any path prefix of a gateway.
    pub fn new(http: HttpClient, login: Address) -> Self {
        Self { http, login }
    }

    async fn login(
        &self,
        document: &CredentialDocument,
        refresh: Option<&SecretString>,
    ) -> Result<IssuedToken, FetchError> {
        self.send(document, login_form(document, refresh)).await.map_err(|error| error.cause)
    }

    /// One token request as the client of `document`.
    async fn send(&self, document: &CredentialDocument, form: Form) -> Result<IssuedToken, GrantError> {
        let (id, secret) = client_of(document).map_err(GrantError::not_done)?;
        let authorization = basic(id, secret, BasicForm::Raw).map_err(GrantError::not_done)?;
        let answer = post(&self.http, self.login.join("/oauth/token"), Some(authorization), form.finish()).await;
        conclude_grant(&GENESYS, answer, |body| parse_token_answer(body, None)).map(IssuedToken::from)
    }

    /// `DELETE /api/v2/tokens/me` revokes the token that it is called with; there is no other way (the platform has no
    /// RFC 7009 endpoint).
    async fn revoke(&self, api_base: &str, token: &SecretString) -> Result<bool, FetchError> {
        let url = format!("{}/api/v2/tokens/me", api_base.trim_end_matches('/'));
        let url = Url::parse(&url).map_err(|_| FetchError::Unusable("the address of the API is not one".to_owned()))?;
        let request = Request::new(Method::DELETE, url).bearer(token);
        let answer = match request {
            Ok(request) => self.http.send(request).await,
            Err(error) => Err(error),
        };
        let answer = Answer::from(answer.map_err(|error| fetch_error(&error, "giving a token back"))?);
        match answer.head.status {
            // 401: it is dead already
            200..=299 | 401 => Ok(true),
            _ => Err(classify_failure(&GENESYS, &answer.head, &answer.body)),
        }
    }
}

impl TokenEndpoint for GenesysEndpoint {
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

    fn give_back<'a>(
        &'a self,
        api_base: &'a str,
        access_token: &'a SecretString,
    ) -> BoxFuture<'a, Result<bool, FetchError>> {
        Box::pin(self.revoke(api_base, access_token))
    }
}
