//! Which management of secrets stands behind which platform.
//!
//! Invariant: a platform without a way to make secrets is refused with the section that asks for one.

use std::sync::Arc;

use kh_core::{Code, CredentialName, port::SecretManagement};
use kh_platform::{
    HttpClient,
    management::{CxoneManagement, GenesysManagement, GenesysRotation, SecretsApiManagement, Shared},
};
use kh_rotator::ActWith;

use crate::{
    config::{CxoneLoginConfig, PlatformConfig, PlatformDetail},
    output::Failure,
};

/// How many secrets a client of a platform with a secrets API may hold where it is not known: the usual limit of such
/// APIs.
const SECRETS_MAX: u32 = 2;

/// Makes the management of a platform's secrets, with whatever tokens it is given.
pub(super) fn of(
    name: &CredentialName,
    platform: &PlatformConfig,
    http: HttpClient,
    shared: &Arc<Shared>,
) -> Result<ActWith, Failure> {
    let shared = Arc::clone(shared);
    match &platform.detail {
        PlatformDetail::Genesys { api_url, secrets_api, .. } => {
            let (api, secrets_api) = (api_url.clone(), *secrets_api);
            Ok(Arc::new(move |tokens| -> Arc<dyn SecretManagement> {
                let (http, api, settings) = (http.clone(), api.clone(), GenesysRotation::default());
                if secrets_api {
                    Arc::new(SecretsApiManagement::new(http, api, tokens, settings, Some(SECRETS_MAX)).sharing(&shared))
                } else {
                    Arc::new(GenesysManagement::new(http, api, tokens, settings).sharing(&shared))
                }
            }))
        }
        PlatformDetail::Cxone { login, .. } => {
            // access keys are managed where logins go; the global issuer tells the tenant's host with the login
            let region = match login {
                CxoneLoginConfig::Regional { auth_base, .. } => Some(auth_base.clone()),
                CxoneLoginConfig::Global { .. } => None,
            };
            Ok(Arc::new(move |tokens| -> Arc<dyn SecretManagement> {
                match region.clone() {
                    Some(region) => Arc::new(CxoneManagement::new(http.clone(), region, tokens).sharing(&shared)),
                    None => Arc::new(CxoneManagement::discovered(http.clone(), tokens).sharing(&shared)),
                }
            }))
        }
        PlatformDetail::Oauth2 { .. } => Err(Failure::new(
            Code::ROTATION_UNSUPPORTED,
            format!("[credential.{name}.rotation]: a platform of the kind oauth2 has no way to make secrets"),
        )
        .hint("take that section out; its secret is replaced by hand with `keyholder secret set`")),
    }
}
