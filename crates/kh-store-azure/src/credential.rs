//! The SDK's credentials, made anew for every token.
//!
//! Invariant: a token that the vault refuses is never used again. The SDK's credentials keep a token until its end by
//! this machine's clock and cannot be told to forget it; the SDK's authorization keeps one too, and does forget it when
//! the vault answers 401. So the second is left to keep it, and the first lives for one login.

use std::{fmt, pin::Pin, sync::Arc};

use azure_core::{
    cloud::{CloudConfiguration, CustomConfiguration},
    credentials::{AccessToken, Secret, TokenCredential, TokenRequestOptions},
    error::{Error, ErrorKind},
    http::{ClientOptions, RetryOptions, Transport},
};
use azure_identity::{
    ClientAssertionCredentialOptions, ClientSecretCredential, ClientSecretCredentialOptions, ManagedIdentityCredential,
    ManagedIdentityCredentialOptions, UserAssignedId, WorkloadIdentityCredential, WorkloadIdentityCredentialOptions,
};
use kh_net::http::HttpClient;
use url::Url;

use crate::{
    settings::{Auth, Settings, SetupError},
    transport::Wire,
};

/// Logs in each time that it is asked.
pub(crate) struct Login {
    auth: Auth,
    authority: Url,
    http: HttpClient,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("auth", &self.auth).finish_non_exhaustive()
    }
}

impl Login {
    /// Checks what can be checked without a login; a token file may come later.
    pub(crate) fn new(settings: Settings, http: HttpClient) -> Result<Self, SetupError> {
        let login = Self { authority: settings.authority()?, auth: settings.auth, http };
        if !matches!(login.auth, Auth::WorkloadIdentity { .. }) {
            login.credential().map_err(|error| SetupError::Identity(error.to_string()))?;
        }
        Ok(login)
    }

    fn options(&self, wire: Wire) -> ClientOptions {
        // Told in full, so that the SDK does not ask the environment.
        let mut cloud = CustomConfiguration::default();
        self.authority.as_str().clone_into(&mut cloud.authority_host);
        ClientOptions {
            retry: RetryOptions::none(),
            transport: Some(Transport::new(Arc::new(wire))),
            cloud: Some(Arc::new(CloudConfiguration::from(cloud))),
            ..ClientOptions::default()
        }
    }

    fn credential(&self) -> azure_core::Result<Arc<dyn TokenCredential>> {
        let to_authority = || self.options(Wire::only(self.http.clone(), &self.authority));
        Ok(match &self.auth {
            Auth::ManagedIdentity { client_id, metadata } => {
                let client_options = self.options(Wire::metadata(self.http.clone(), metadata.clone()));
                let user_assigned_id = client_id.clone().map(UserAssignedId::ClientId);
                ManagedIdentityCredential::new(Some(ManagedIdentityCredentialOptions {
                    user_assigned_id,
                    client_options,
                }))?
            }
            Auth::WorkloadIdentity { tenant, client_id, token_file } => {
                WorkloadIdentityCredential::new(Some(WorkloadIdentityCredentialOptions {
                    credential_options: ClientAssertionCredentialOptions { client_options: to_authority() },
                    client_id: Some(client_id.clone()),
                    tenant_id: Some(tenant.clone()),
                    token_file_path: Some(token_file.clone()),
                }))?
            }
            Auth::ClientSecret { tenant, client_id, secret } => {
                let options = ClientSecretCredentialOptions { client_options: to_authority() };
                let secret = Secret::new(secret.expose().to_owned());
                ClientSecretCredential::new(tenant, client_id.clone(), secret, Some(options))?
            }
        })
    }

    async fn token(
        &self,
        scopes: &[&str],
        options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        let as_credential = |error: Error| match error.kind() {
            ErrorKind::Credential => error,
            _ => Error::with_error(ErrorKind::Credential, error, "no token"),
        };
        self.credential().map_err(as_credential)?.get_token(scopes, options).await.map_err(as_credential)
    }
}

impl TokenCredential for Login {
    fn get_token<'login, 'scopes, 'scope, 'options, 'future>(
        &'login self,
        scopes: &'scopes [&'scope str],
        options: Option<TokenRequestOptions<'options>>,
    ) -> Pin<Box<dyn Future<Output = azure_core::Result<AccessToken>> + Send + 'future>>
    where
        'login: 'future,
        'scopes: 'future,
        'scope: 'future,
        'options: 'future,
        Self: 'future,
    {
        Box::pin(self.token(scopes, options))
    }
}
