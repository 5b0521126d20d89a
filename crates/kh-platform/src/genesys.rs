//! Genesys Cloud CX: `POST https://login.<domain>/oauth/token`.
//!
//! Client credentials with a Basic header (id and secret as they are, as every official SDK sends them), or the
//! refresh token of an authorization-code login. Tokens are opaque; there is no metadata to discover and no
//! revocation endpoint.

use kh_core::{
    SecretString,
    credential::CredentialDocument,
    port::{BoxFuture, FetchError, IssuedToken, TokenEndpoint},
};

use crate::{
    Address, HttpClient,
    answer::{conclude, parse_token_answer},
    body::{BasicForm, Form, basic},
    classify::GENESYS,
    http::{fetch_error, post},
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
        let missing = |field| FetchError::Unusable(format!("the credential's document lacks {field}"));
        let id = document.client_id.as_deref().ok_or_else(|| missing("client_id"))?;
        let secret = document.client_secret.as_ref().ok_or_else(|| missing("client_secret"))?;
        let authorization = basic(id, secret, BasicForm::Raw)?;
        let form = match refresh.or(document.refresh_token.as_ref()) {
            Some(token) => Form::grant("refresh_token", token.len()).field("refresh_token", token.expose()),
            None => Form::grant("client_credentials", 0),
        };
        let answer = post(&self.http, self.login.join("/oauth/token"), Some(authorization), form.finish())
            .await
            .map_err(|error| fetch_error(&error, "the token request"))?;
        conclude(&GENESYS, &answer, |body| parse_token_answer(body, None)).map(IssuedToken::from)
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
}
