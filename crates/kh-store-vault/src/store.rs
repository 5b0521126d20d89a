//! The store: a cluster, a login, a mount; requests with a token that is good.

use std::{fmt, sync::atomic::AtomicBool, time::Duration};

use kh_core::{SecretBytes, port::TargetError, rotation::SecretPath};
use kh_net::http::HttpClient;

use crate::{
    client::{Ask, Effect, Reply, Servers},
    config::VaultConfig,
    session::Sessions,
    wire,
};

/// End of a staged document's path.
pub(crate) const STAGED: &str = ".kh-next";

/// How often the login is looked at where nothing is due.
const LOOK_MAX: Duration = Duration::from_mins(1);

/// How soon a login that failed is tried again.
const LOOK_MIN: Duration = Duration::from_secs(5);

/// Vault's key/value engine, version 2.
pub struct VaultStore {
    servers: Servers,
    sessions: Sessions,
    mount: String,
    /// Whether reading `metadata/` was denied, so that documents are read instead.
    pub(crate) metadata_denied: AtomicBool,
}

impl fmt::Debug for VaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VaultStore").field("mount", &self.mount).finish_non_exhaustive()
    }
}

/// The paths behind a place.
pub(crate) struct Places {
    pub(crate) live: String,
    pub(crate) staged: String,
}

impl VaultStore {
    /// The store; nothing is sent before it is used.
    pub fn new(config: VaultConfig, http: HttpClient) -> Self {
        let VaultConfig { addresses, namespace, mount, auth } = config;
        Self {
            servers: Servers::new(http, addresses, namespace.as_deref()),
            sessions: Sessions::new(auth),
            mount,
            metadata_denied: AtomicBool::new(false),
        }
    }

    /// Logs in, or renews the login where that is due.
    pub async fn refresh(&self) -> Result<(), TargetError> {
        self.sessions.current(&self.servers).await.map(drop)
    }

    /// Keeps the login alive for as long as it is polled: an idle keyholder must not lose a login that it cannot repeat,
    /// as with a secret id of a single use. `name` stands for the store in messages.
    pub async fn keep_session(&self, name: &str) -> std::convert::Infallible {
        let mut failures = 0_u32;
        loop {
            let wait = match self.refresh().await {
                Ok(()) => {
                    failures = 0;
                    self.sessions.next_look(&self.servers).await.unwrap_or(LOOK_MAX).clamp(LOOK_MIN, LOOK_MAX)
                }
                Err(error) => {
                    if failures == 0 {
                        tracing::warn!(store.name = name, %error, "the login at a secret store failed; it is tried again");
                    }
                    failures += 1;
                    (LOOK_MIN * 2_u32.saturating_pow(failures - 1)).min(LOOK_MAX)
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    pub(crate) fn places(path: &SecretPath) -> Result<Places, TargetError> {
        let text = path.as_str();
        // an address would lose such a part, and mean another place
        if text.split('/').any(|part| part == ".") || text.ends_with(STAGED) {
            return Err(TargetError::Unusable(format!("{path} is no place for a document in Vault")));
        }
        Ok(Places { live: text.to_owned(), staged: format!("{text}{STAGED}") })
    }

    /// A path below the mount.
    pub(crate) fn below(&self, part: &str, key: &str) -> String {
        format!("{}/{part}/{key}", self.mount)
    }

    /// The mount's settings.
    pub(crate) fn settings_path(&self) -> String {
        format!("{}/config", self.mount)
    }

    /// Sends with a good token. 403 becomes `Denied` where the token is good, and a new login where it is not.
    pub(crate) async fn send(&self, ask: &Ask<'_>) -> Result<Reply, TargetError> {
        let mut session = self.sessions.current(&self.servers).await?;
        let mut reply = self.servers.send(ask, Some(&session.token)).await?;
        if reply.status == 403 && !self.is_good(&session.token).await? {
            self.sessions.lost(&session).await;
            session = self.sessions.current(&self.servers).await?;
            // 403 means that nothing was done, so that a write can be sent again
            reply = self.servers.send(ask, Some(&session.token)).await?;
        }
        if reply.status == 403 {
            return Err(TargetError::Denied(format!("{} {}", ask.method, ask.path)));
        }
        Ok(reply)
    }

    /// Every token may look itself up (the default policy); one that may not is no token any more.
    async fn is_good(&self, token: &kh_core::SecretString) -> Result<bool, TargetError> {
        Ok(self.servers.send(&Ask::get("auth/token/lookup-self"), Some(token)).await?.status == 200)
    }

    /// A key's current version and document.
    pub(crate) async fn read(&self, key: &str) -> Result<wire::Found, TargetError> {
        let path = self.below("data", key);
        let reply = self.send(&Ask::get(&path)).await?;
        wire::found(reply.status, &reply.body).ok_or_else(|| odd("reading", &path, reply.status))
    }

    /// Writes a version if `cas` is the current one.
    pub(crate) async fn write(&self, key: &str, document: &SecretBytes, cas: u64) -> Result<Written, TargetError> {
        let path = self.below("data", key);
        let head = format!("{{\"options\":{{\"cas\":{cas}}},\"data\":");
        let mut body = Vec::with_capacity(head.len() + document.expose().len() + 1);
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(document.expose());
        body.push(b'}');
        let reply = self.send(&Ask::post(Effect::Write, &path, SecretBytes::new(body))).await?;
        match (reply.status, wire::refusal(&reply.body)) {
            (200, _) => match wire::written(&reply.body) {
                Some(version) => Ok(Written::Version(version)),
                None => Err(TargetError::Unknown(format!("the answer to writing {path} tells no version"))),
            },
            (400, wire::Refusal::CheckAndSet) => Ok(Written::Refused),
            (status, _) => Err(odd("writing", &path, status)),
        }
    }

    /// Destroys one version for good; one that is gone is fine.
    pub(crate) async fn destroy(&self, key: &str, version: u64) -> Result<(), TargetError> {
        let path = self.below("destroy", key);
        let body = SecretBytes::new(format!("{{\"versions\":[{version}]}}").into_bytes());
        let reply = self.send(&Ask::post(Effect::Write, &path, body)).await?;
        match reply.status {
            200 | 204 => Ok(()),
            status => Err(odd("destroying a version of", &path, status)),
        }
    }
}

/// What came of a write with `cas`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Written {
    /// This version was made.
    Version(u64),
    /// Another version is the current one.
    Refused,
}

/// An answer that the API documentation does not have.
pub(crate) fn odd(what: &str, path: &str, status: u16) -> TargetError {
    TargetError::Unusable(format!("{what} {path} was answered with status {status}"))
}
