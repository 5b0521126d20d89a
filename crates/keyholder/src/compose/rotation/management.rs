//! Which management of secrets stands behind which platform, and where the rotators' tokens come from.

use std::{sync::Arc, time::Duration};

use kh_broker::{Broker, TokenError};
use kh_core::{
    Code, CredentialName, SecretString,
    port::{BoxFuture, ManageError, RotatorTokens, SecretManagement, secret_management::Rotator},
};
use kh_platform::{
    HttpClient,
    management::{CxoneManagement, GenesysManagement, GenesysRotation, SecretsApiManagement},
};
use kh_rotator::ActWith;

use crate::{
    config::{CxoneLoginConfig, PlatformConfig, PlatformDetail},
    output::Failure,
};

/// How many secrets a client of a platform with a secrets API may hold where it is not known: the usual limit of such
/// APIs.
const SECRETS_MAX: u32 = 2;

/// Tokens of a platform's rotators, from the broker.
pub(crate) struct BrokerTokens {
    broker: Arc<Broker>,
    first: Option<CredentialName>,
    second: Option<CredentialName>,
}

impl BrokerTokens {
    /// Of the rotators that `platform` names.
    pub(crate) fn new(broker: &Arc<Broker>, platform: &PlatformConfig) -> Self {
        Self { broker: Arc::clone(broker), first: platform.rotator.clone(), second: platform.rotator_second.clone() }
    }

    fn name(&self, which: Rotator) -> Option<&CredentialName> {
        match which {
            Rotator::First => self.first.as_ref(),
            Rotator::Second => self.second.as_ref(),
        }
    }
}

impl RotatorTokens for BrokerTokens {
    fn token(&self, which: Rotator, min_ttl: Duration) -> BoxFuture<'_, Result<SecretString, ManageError>> {
        Box::pin(async move {
            let not_done = |reason: String| ManageError::NotDone { reason };
            let name = self.name(which).ok_or_else(|| not_done("no such rotator is configured".to_owned()))?;
            let found = self.broker.credential(name);
            let credential = found.ok_or_else(|| not_done(format!("there is no credential {name}")))?;
            let lease = credential
                .lease(min_ttl)
                .await
                .map_err(|error: TokenError| not_done(format!("the rotator {name} has no token: {error}")))?;
            Ok(SecretString::copied(lease.token().expose()))
        })
    }

    fn has(&self, which: Rotator) -> bool {
        self.name(which).is_some()
    }
}

/// Makes the management of a platform's secrets, with whatever tokens it is given.
pub(super) fn of(name: &CredentialName, platform: &PlatformConfig, http: HttpClient) -> Result<ActWith, Failure> {
    match &platform.detail {
        PlatformDetail::Genesys { api_url, secrets_api, .. } => {
            let (api, secrets_api) = (api_url.clone(), *secrets_api);
            Ok(Arc::new(move |tokens| -> Arc<dyn SecretManagement> {
                let (http, api, settings) = (http.clone(), api.clone(), GenesysRotation::default());
                if secrets_api {
                    Arc::new(SecretsApiManagement::new(http, api, tokens, settings, Some(SECRETS_MAX)))
                } else {
                    Arc::new(GenesysManagement::new(http, api, tokens, settings))
                }
            }))
        }
        PlatformDetail::Cxone { login, .. } => {
            let api = match login {
                CxoneLoginConfig::Regional { api_url, .. } => api_url.clone(),
                CxoneLoginConfig::Global { issuer } => issuer.clone(),
            };
            Ok(Arc::new(move |tokens| -> Arc<dyn SecretManagement> {
                Arc::new(CxoneManagement::new(http.clone(), api.clone(), tokens))
            }))
        }
        PlatformDetail::Oauth2 { .. } => Err(Failure::new(
            Code::ROTATION_UNSUPPORTED,
            format!("[credential.{name}.rotation]: a platform of the kind oauth2 has no way to make secrets"),
        )
        .hint("take that section out; its secret is replaced by hand with `keyholder secret set`")),
    }
}
