//! Which token endpoint stands behind which platform, and what the broker is told about a credential.

use std::{collections::BTreeMap, sync::Arc};

use kh_broker::CredentialSpec;
use kh_core::{Clock, CredentialName, PlatformName, Sha256, port::TokenEndpoint};
use kh_net::Egress;
use kh_platform::{
    AllowedHosts, CxoneEndpoint, CxoneLogin, GenesysEndpoint, HttpClient, OAuth2Endpoint, OAuth2Settings, OAuth2Source,
    Timeouts,
};
use kh_token::TokenPolicy;

use crate::config::{
    Config, CredentialConfig, CxoneLoginConfig, OAuth2SourceConfig, PlatformConfig, PlatformDetail, SessionsConfig,
};

/// The token endpoint of a platform.
pub(super) fn token_endpoint(platform: &PlatformConfig, http: HttpClient) -> Arc<dyn TokenEndpoint> {
    match &platform.detail {
        PlatformDetail::Genesys { login_url, .. } => Arc::new(GenesysEndpoint::new(http, login_url.clone())),
        PlatformDetail::Cxone { login, allowed_origins, auth_method } => {
            let login = match login {
                CxoneLoginConfig::Global { issuer } => {
                    let hosts = AllowedHosts::platform().and_origin(issuer.clone());
                    let hosts = allowed_origins.iter().cloned().fold(hosts, AllowedHosts::and_origin);
                    CxoneLogin::Global { issuer: issuer.clone(), hosts, client_auth: *auth_method }
                }
                CxoneLoginConfig::Regional { auth_base, .. } => CxoneLogin::Regional { auth_base: auth_base.clone() },
            };
            Arc::new(CxoneEndpoint::new(http, login))
        }
        PlatformDetail::Oauth2 { source, scopes, audience, auth_method, assumed_lifetime, .. } => {
            let source = match source {
                OAuth2SourceConfig::Discovered { issuer } => OAuth2Source::Issuer(issuer.clone()),
                OAuth2SourceConfig::Known { token_url } => OAuth2Source::TokenUrl(token_url.clone()),
            };
            let scope = (!scopes.is_empty()).then(|| scopes.join(" "));
            let (client_auth, audience) = (*auth_method, audience.clone());
            let assumed_lifetime = *assumed_lifetime;
            Arc::new(OAuth2Endpoint::new(
                http,
                OAuth2Settings { source, client_auth, scope, audience, assumed_lifetime },
            ))
        }
    }
}

/// Base of API calls when the login does not tell another, and base of account operations where there is one.
fn bases(detail: &PlatformDetail) -> (String, Option<String>) {
    match detail {
        PlatformDetail::Genesys { api_url, login_url, .. } => {
            (api_url.text().to_owned(), Some(login_url.text().to_owned()))
        }
        PlatformDetail::Cxone { login: CxoneLoginConfig::Global { issuer }, .. } => {
            (issuer.text().to_owned(), Some(issuer.text().to_owned()))
        }
        PlatformDetail::Cxone { login: CxoneLoginConfig::Regional { auth_base, api_url }, .. } => {
            (api_url.text().to_owned(), Some(auth_base.text().to_owned()))
        }
        PlatformDetail::Oauth2 { api_url, .. } => (api_url.text().to_owned(), None),
    }
}

/// The client for single requests that leave by `egress`.
pub(super) fn http(egress: &Arc<Egress>, clock: &Arc<dyn Clock>) -> HttpClient {
    HttpClient::new(Arc::clone(egress), Timeouts::default(), Arc::clone(clock))
}

/// Everything the broker needs to know about the configured credentials.
pub(crate) fn specs(
    config: &Config,
    ways: &BTreeMap<PlatformName, Arc<Egress>>,
    clock: &Arc<dyn Clock>,
) -> Vec<CredentialSpec> {
    let spec = |(name, credential): (&CredentialName, &CredentialConfig)| {
        let platform = config.platforms.get(&credential.platform)?;
        let egress = ways.get(&credential.platform)?;
        let http = http(egress, clock);
        let (api_base, auth_base) = bases(&platform.detail);
        Some(CredentialSpec {
            name: name.clone(),
            platform: credential.platform.clone(),
            kind: platform.kind(),
            environment: credential.environment.clone(),
            secret: credential.secret.clone(),
            endpoint: token_endpoint(platform, http),
            egress: Arc::clone(egress),
            api_base,
            auth_base,
            policy: policy(credential),
            sessions: credential.sessions.as_ref().map(SessionsConfig::policy),
            digest: digest(platform, credential, egress),
        })
    };
    config.credentials.iter().filter_map(spec).collect()
}

/// Names everything that a credential's token depends on: the sections of the file that it is made from, and what
/// stands in the files that they name. How its secret is rotated is no part of that: a token stays good when that
/// changes, and what is known of its login is the evidence of the next rotation.
fn digest(platform: &PlatformConfig, credential: &CredentialConfig, egress: &Egress) -> Sha256 {
    let credential = CredentialConfig { rotation: None, ..credential.clone() };
    let platform = PlatformConfig { rotator: None, rotator_second: None, ..platform.clone() };
    let sections = serde_json::to_vec(&(platform, credential, egress.digest().0))
        .expect("a configuration has no map with odd keys");
    Sha256::of(&sections)
}

fn policy(credential: &CredentialConfig) -> TokenPolicy {
    let usual = TokenPolicy::default();
    TokenPolicy {
        refresh_ahead: credential.early_refresh.unwrap_or(usual.refresh_ahead),
        idle_ttl: credential.idle_timeout,
        ..usual
    }
}
