//! Which management of secrets stands behind which platform.
//!
//! Invariant: a platform without a way to make secrets is refused with the section that asks for one.

use std::sync::Arc;

use kh_core::{Code, CredentialName, port::SecretManagement};
use kh_issuer::{Issuer, IssuerManagement};
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

/// Who acts in the audit log on keyholder's own clients.
const ACTOR: &str = "rotation";

/// Makes the management of a platform's secrets, with whatever tokens it is given. `issuer` has keyholder's own clients.
pub(super) fn of(
    name: &CredentialName,
    platform: &PlatformConfig,
    http: HttpClient,
    shared: &Arc<Shared>,
    issuer: Option<&Arc<Issuer>>,
) -> Result<ActWith, Failure> {
    made(platform, http, shared, issuer).ok_or_else(|| {
        Failure::new(
            Code::ROTATION_UNSUPPORTED,
            format!("[credential.{name}.rotation]: a platform of the kind oauth2 has no way to make secrets"),
        )
        .hint("take that section out; its secret is replaced by hand with `keyholder secret set`")
        .hint("for a client of this keyholder itself, write own_clients = true in the platform's section")
    })
}

/// The same; none for a platform that has no way to make secrets.
pub(super) fn made(
    platform: &PlatformConfig,
    http: HttpClient,
    shared: &Arc<Shared>,
    issuer: Option<&Arc<Issuer>>,
) -> Option<ActWith> {
    let shared = Arc::clone(shared);
    match &platform.detail {
        PlatformDetail::Genesys { api_url, secrets_api, .. } => {
            let (api, secrets_api) = (api_url.clone(), *secrets_api);
            Some(Arc::new(move |tokens| -> Arc<dyn SecretManagement> {
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
            Some(Arc::new(move |tokens| -> Arc<dyn SecretManagement> {
                match region.clone() {
                    Some(region) => Arc::new(CxoneManagement::new(http.clone(), region, tokens).sharing(&shared)),
                    None => Arc::new(CxoneManagement::discovered(http.clone(), tokens).sharing(&shared)),
                }
            }))
        }
        PlatformDetail::Oauth2 { own_clients: true, .. } => {
            let issuer = Arc::clone(issuer?);
            Some(Arc::new(move |_tokens| -> Arc<dyn SecretManagement> {
                Arc::new(IssuerManagement::new(Arc::clone(&issuer), ACTOR))
            }))
        }
        PlatformDetail::Oauth2 { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::config;

    #[test]
    fn own_clients_need_no_rotator_and_take_none() {
        let text = |lines: &str| {
            format!(
                "[platform.own]\nkind = \"oauth2\"\ntoken_url = \"https://k.example/oauth/token\"\n\
                 api_url = \"https://k.example\"\n{lines}[credential.c]\nplatform = \"own\"\nsecret = \"store:c\"\n\
                 [credential.c.rotation]\n"
            )
        };
        let told = |lines: &str| match config::parse(text(lines).as_bytes()) {
            Ok(parsed) => format!("{:?}", parsed.warnings),
            Err(mistakes) => format!("{mistakes:?}"),
        };
        assert!(!told("own_clients = true\n").contains("rotator"), "{}", told("own_clients = true\n"));
        assert!(told("").contains("nobody can rotate this credential"), "{}", told(""));
        let both = told("own_clients = true\nrotator = \"c\"\n");
        assert!(both.contains("rotator has no meaning beside own_clients"), "{both}");
    }
}
