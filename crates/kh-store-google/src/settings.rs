//! Which project, and who keyholder is there.
//!
//! Invariant: no settings hold a secret in the clear; `Debug` tells none.

use std::fmt;

use google_cloud_auth::credentials::{Builder, Credentials, anonymous, external_account, mds, service_account};
use kh_core::SecretString;
use url::{Host, Url};

/// A project and the identity there.
#[derive(Debug)]
pub struct Settings {
    /// The project's id or number.
    pub project: String,
    /// The alias that consumers read; `current` by default.
    pub alias: String,
    /// Where the service answers, if not at `https://secretmanager.googleapis.com`: a private endpoint.
    pub endpoint: Option<Url>,
    /// The identity.
    pub auth: Auth,
}

impl Settings {
    /// The usual alias.
    pub const ALIAS: &str = "current";
}

/// Who keyholder is, in the order of preference: the first three keep no secret of their own.
pub enum Auth {
    /// Application Default Credentials: the SDK looks at `GOOGLE_APPLICATION_CREDENTIALS`, gcloud's file, and the
    /// metadata server.
    Default,
    /// The service account of this machine or pod, from the metadata server.
    Metadata {
        /// Where it answers, if not at `http://metadata.google.internal`.
        endpoint: Option<Url>,
    },
    /// Workload identity federation: the configuration as JSON, which names a file or URL of a subject token.
    ExternalAccount {
        /// The JSON document.
        configuration: SecretString,
    },
    /// A service account's key. The SDK keeps it in memory that is not wiped.
    ServiceAccountKey {
        /// The JSON document.
        key: SecretString,
    },
    /// Nobody: for an emulator.
    Anonymous,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "Default",
            Self::Metadata { .. } => "Metadata",
            Self::ExternalAccount { .. } => "ExternalAccount",
            Self::ServiceAccountKey { .. } => "ServiceAccountKey",
            Self::Anonymous => "Anonymous",
        })
    }
}

/// Why no client came out of the settings.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The project cannot be one.
    #[error("a project's id has 6 to 30 lower-case letters, digits and hyphens, or is its number")]
    Project,
    /// The alias cannot be one.
    #[error("an alias has 1 to 63 letters, digits, hyphens and underscores, begins with a letter, and is not latest")]
    Alias,
    /// The endpoint cannot be one.
    #[error("the endpoint is an https address without a path, or http on this machine")]
    Endpoint,
    /// The key or configuration is not what it should be; nothing of it is told.
    #[error("the identity's JSON document is not usable")]
    Document,
    /// The SDK found no identity.
    #[error("no identity was found")]
    Identity,
    /// The SDK could not make its client.
    #[error("the client of Secret Manager cannot be made")]
    Client,
}

impl Settings {
    /// Whether a client could be made of them, as far as that can be told without one.
    pub fn check(&self) -> Result<(), SetupError> {
        let project = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if self.project.is_empty() || self.project.len() > 63 || !self.project.bytes().all(project) {
            return Err(SetupError::Project);
        }
        let letters = self.alias.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        let first = self.alias.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
        if !letters || !first || self.alias.len() > 63 || ["latest", "NEW"].contains(&self.alias.as_str()) {
            return Err(SetupError::Alias);
        }
        if self.endpoint.as_ref().is_some_and(|url| !is_bare_and_safe(url)) {
            return Err(SetupError::Endpoint);
        }
        Ok(())
    }

    pub(crate) fn credentials(&self) -> Result<Credentials, SetupError> {
        let document =
            |text: &SecretString| serde_json::from_str(text.expose()).map_err(|_never_told| SetupError::Document);
        match &self.auth {
            Auth::Default => Builder::default().build().map_err(|_| SetupError::Identity),
            Auth::Metadata { endpoint } => {
                let builder = mds::Builder::default();
                let builder = match endpoint {
                    // the SDK appends paths that begin with a slash
                    Some(url) => builder.with_endpoint(url.as_str().trim_end_matches('/')),
                    None => builder,
                };
                builder.build().map_err(|_| SetupError::Identity)
            }
            Auth::ExternalAccount { configuration } => {
                external_account::Builder::new(document(configuration)?).build().map_err(|_| SetupError::Document)
            }
            Auth::ServiceAccountKey { key } => {
                service_account::Builder::new(document(key)?).build().map_err(|_| SetupError::Document)
            }
            Auth::Anonymous => Ok(anonymous::Builder::new().build()),
        }
    }
}

/// https, or http on this machine: documents and tokens cross no network in clear.
fn is_bare_and_safe(url: &Url) -> bool {
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    let user = !url.username().is_empty() || url.password().is_some();
    let bare = !user && url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    bare && (url.scheme() == "https" || url.scheme() == "http" && loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(project: &str, alias: &str, endpoint: Option<&str>) -> Settings {
        Settings {
            project: project.to_owned(),
            alias: alias.to_owned(),
            endpoint: endpoint.map(|text| text.parse().unwrap()),
            auth: Auth::Anonymous,
        }
    }

    #[test]
    fn what_fits_and_what_does_not() {
        assert!(
            settings("acme-prod-1", "current", Some("https://secretmanager.europe-west3.rep.googleapis.com"))
                .check()
                .is_ok()
        );
        assert!(settings("424242", "Live_2", None).check().is_ok());
        for bad in ["", "Acme", "a/b", "a b"] {
            assert!(matches!(settings(bad, "current", None).check(), Err(SetupError::Project)), "{bad}");
        }
        for bad in ["", "latest", "NEW", "1st", "a.b", &"x".repeat(64)] {
            assert!(matches!(settings("acme", bad, None).check(), Err(SetupError::Alias)), "{bad}");
        }
        for bad in ["ftp://x", "https://x/v1", "https://me@x", "https://x/?a", "http://x", "http://10.0.0.1:8080"] {
            assert!(matches!(settings("acme", "a", Some(bad)).check(), Err(SetupError::Endpoint)), "{bad}");
        }
        for good in ["http://127.0.0.1:8080", "http://localhost:1", "http://[::1]:1"] {
            assert!(settings("acme", "a", Some(good)).check().is_ok(), "{good}");
        }
    }

    #[test]
    fn a_broken_key_is_not_told() {
        let key = SecretString::copied(r#"{"private_key":"MARKED""#);
        let broken = Settings { auth: Auth::ServiceAccountKey { key }, ..settings("acme", "current", None) };
        let error = broken.credentials().unwrap_err();
        assert!(matches!(error, SetupError::Document));
        assert!(!format!("{error} {error:?} {broken:?}").contains("MARKED"));
    }
}
