//! `kind = "google"`. Its client makes its own connections, so what it cannot be told of the way out is refused here
//! instead of being passed over.

use std::sync::Arc;

use kh_core::{
    Code, SecretString,
    port::{SecretTarget, TargetError, secret_target::TargetTraits},
};
use kh_store_google::{Auth, SecretManagerTarget, Settings, SetupError, VALUE_BYTES_MAX};
use url::Url;

use super::{Parts, lazy::Lazy, secret_file};
use crate::{
    config::{ProxyChoice, SecretStoreDetail},
    output::Failure,
};

pub(super) fn target(detail: &SecretStoreDetail, parts: &Parts<'_>) -> Result<Arc<dyn SecretTarget>, Failure> {
    let SecretStoreDetail::Google { project, alias, credentials_file, endpoint } = detail else {
        return Err(Failure::bug("a store of another kind"));
    };
    way_out(parts)?;
    let document = credentials_file.as_ref().map(|file| secret_file(parts, file)).transpose()?;
    let login = Login::of(document, parts)?;
    let (project, endpoint) = (project.clone(), endpoint.as_ref().map(|endpoint| endpoint.url().clone()));
    let alias = alias.clone().unwrap_or_else(|| Settings::ALIAS.to_owned());
    let settings = move || settings(&project, &alias, endpoint.clone(), &login);
    settings().check().map_err(|error| refused(parts, &error))?;
    let traits =
        TargetTraits { kind: "google", compare_and_set: true, value_bytes_max: VALUE_BYTES_MAX, replicas: false };
    Ok(Arc::new(Lazy::new(traits, move || {
        let settings = settings();
        Box::pin(async move {
            let made = SecretManagerTarget::new(settings).await;
            let made = made.map_err(|error| TargetError::Unauthenticated(error.to_string()))?;
            Ok(Arc::new(made) as Arc<dyn SecretTarget>)
        })
    })))
}

fn settings(project: &str, alias: &str, endpoint: Option<Url>, login: &Login) -> Settings {
    Settings { project: project.to_owned(), alias: alias.to_owned(), endpoint, auth: login.auth() }
}

/// What `credentials_file` holds.
enum Login {
    /// There is none.
    Found,
    /// A service account's key.
    Key(SecretString),
    /// A workload identity federation.
    Federation(SecretString),
}

impl Login {
    /// The documents tell by `type` what they are (cloud.google.com/docs/authentication/application-default-credentials).
    fn of(document: Option<SecretString>, parts: &Parts<'_>) -> Result<Self, Failure> {
        #[derive(serde::Deserialize)]
        struct Head {
            #[serde(rename = "type")]
            kind: String,
        }
        let Some(document) = document else { return Ok(Self::Found) };
        let head = serde_json::from_str(document.expose()).map_or_else(|_| String::new(), |head: Head| head.kind);
        match head.as_str() {
            "service_account" => Ok(Self::Key(document)),
            "external_account" => Ok(Self::Federation(document)),
            _ => Err(refused(parts, &SetupError::Document)
                .hint("credentials_file is a JSON document of the type service_account or external_account")),
        }
    }

    fn auth(&self) -> Auth {
        match self {
            Self::Found => Auth::Default,
            Self::Key(key) => Auth::ServiceAccountKey { key: key.duplicate() },
            Self::Federation(text) => Auth::ExternalAccount { configuration: text.duplicate() },
        }
    }
}

/// The client takes a proxy from `HTTPS_PROXY`, whatever `[network]` says, and no source address from anywhere.
fn way_out(parts: &Parts<'_>) -> Result<(), Failure> {
    let network = &parts.loaded.config.network;
    let refused = |problem: &str| {
        let told = format!("[secret_store.{}]: Google's client {problem}", parts.name);
        Err(Failure::new(Code::CONFIG_INVALID, told))
    };
    match network.proxy.as_ref().map(|proxy| &proxy.proxy) {
        Some(ProxyChoice::Url(_)) => {
            return refused("would not take the proxy of [network]").map_err(|failure| {
                failure.hint("set HTTPS_PROXY for keyholder and write proxy = \"environment\" in [network]")
            });
        }
        None | Some(ProxyChoice::None) if parts.loaded.proxies.is_set() => {
            return refused("would take the proxy of HTTPS_PROXY, which [network] does not name").map_err(|failure| {
                failure.hint("unset HTTPS_PROXY for keyholder, or write proxy = \"environment\" in [network]")
            });
        }
        None | Some(ProxyChoice::None | ProxyChoice::Environment) => {}
    }
    if network.source_address.is_some() {
        return refused("would not take the source_address of [network]")
            .map_err(|failure| failure.hint("take one of both out"));
    }
    Ok(())
}

fn refused(parts: &Parts<'_>, error: &SetupError) -> Failure {
    Failure::of(Code::CONFIG_INVALID, error).hint(format!("see [secret_store.{}] in keyholder.toml", parts.name))
}
