//! Starting and stopping a sandbox. Invariant: after `shutdown` no task and no socket of it is left.

use crate::config::SandboxConfig;
use crate::journal::JournalEntry;
use crate::secret::SandboxSecret;
use crate::shared::Shared;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Entry point: [`Sandbox::start`].
#[derive(Debug)]
pub struct Sandbox;

/// A running sandbox; dropping it stops it too, without waiting.
#[derive(Debug)]
pub struct SandboxHandle {
    /// Origin of Genesys Cloud (login and API), without a trailing slash.
    pub genesys_url: String,
    /// Origin of NICE CXone.
    pub cxone_url: String,
    /// Origin of the control API.
    pub control_url: String,
    /// The OAuth clients that exist from the start, in configured order (the default: one, "admin").
    pub clients: Vec<InitialClient>,
    /// The CXone access keys that exist from the start.
    pub access_keys: Vec<InitialAccessKey>,
    /// The CXone application clients that exist from the start.
    pub applications: Vec<InitialApplication>,
    shared: Arc<Shared>,
    tracker: TaskTracker,
    cancel: CancellationToken,
}

/// An OAuth client that exists from the start.
#[derive(Clone, Debug)]
pub struct InitialClient {
    /// Its name.
    pub name: String,
    /// Its client id, a UUID.
    pub id: String,
    /// Its client secret, 43 characters.
    pub secret: SandboxSecret,
}

/// A CXone access key that exists from the start.
#[derive(Clone, Debug)]
pub struct InitialAccessKey {
    /// Tenant it belongs to.
    pub tenant_id: String,
    /// User it belongs to.
    pub user_id: String,
    /// Key id.
    pub id: String,
    /// Key secret.
    pub secret: SandboxSecret,
}

/// A CXone application client that exists from the start.
#[derive(Clone, Debug)]
pub struct InitialApplication {
    /// Client id.
    pub id: String,
    /// Client secret.
    pub secret: SandboxSecret,
}

/// Why a sandbox did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// A listener could not bind.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The configuration contradicts itself.
    #[error("{field}: {problem}")]
    Config {
        /// The field, dotted.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A certificate or key file is not usable.
    #[error("cannot use the TLS file {path}: {problem}")]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The cryptographic library failed to make a key or random bytes.
    #[error("cannot make a signing key")]
    Crypto,
}

impl Sandbox {
    /// Starts the three listeners on the current tokio runtime.
    pub async fn start(config: SandboxConfig) -> Result<SandboxHandle, SandboxError> {
        crate::server::start(config).await
    }
}

impl SandboxHandle {
    /// The first OAuth client; the default configuration's holds every permission.
    ///
    /// # Panics
    /// Never: a sandbox without clients does not start.
    pub fn admin(&self) -> &InitialClient {
        self.clients.first().expect("a sandbox starts with at least one client")
    }

    pub(crate) fn new(
        shared: Arc<Shared>,
        control_url: String,
        tracker: TaskTracker,
        cancel: CancellationToken,
    ) -> Self {
        Self {
            genesys_url: shared.origins.genesys.clone(),
            cxone_url: shared.origins.cxone.clone(),
            control_url,
            clients: shared.genesys.initial_clients().to_vec(),
            access_keys: shared.cxone.initial_access_keys().to_vec(),
            applications: shared.cxone.initial_applications().to_vec(),
            shared,
            tracker,
            cancel,
        }
    }

    /// The journal's entries, oldest first, as `GET /_sandbox/requests` gives them.
    pub fn requests(&self) -> Vec<JournalEntry> {
        self.shared.journal.entries(|_| true, usize::MAX)
    }

    /// The sandbox's time in Unix milliseconds.
    pub fn now_ms(&self) -> i64 {
        self.shared.clock.now_ms()
    }

    /// Stops the sandbox's clock where it is: from now on time passes by [`SandboxHandle::pass`] alone.
    pub fn freeze(&self) {
        self.shared.clock.freeze(true);
    }

    /// Lets time pass for the platforms. Whether it could: a thousand years are the most.
    pub fn pass(&self, span: Duration) -> bool {
        i64::try_from(span.as_millis()).is_ok_and(|ms| self.shared.clock.shift(ms))
    }

    /// Stops accepting, closes every connection and waits for all tasks.
    pub async fn shutdown(self) {
        self.cancel.cancel();
        self.tracker.wait().await;
    }
}

impl Drop for SandboxHandle {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}
