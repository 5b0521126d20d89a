//! The way to a cluster's API server: its address, a service account's token, the authority of its certificate.
//!
//! Invariant: token and authority are read from their files at each use: the kubelet replaces a bound token before it
//! expires (kubernetes.io, "Managing Service Accounts", bound service account tokens), and an authority is replaced
//! while both are trusted.

use std::{
    net::Ipv6Addr,
    path::{Path, PathBuf},
    sync::Arc,
};

use kh_core::Clock;
use kh_net::{
    Egress,
    http::{HttpClient, Timeouts},
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use url::Url;

use crate::{PlaceError, SecretFile, SendError, place};

/// Largest bundle of authorities that is read: a cluster has one to three.
const CA_MAX: usize = 256 * 1024;

/// Whose certificates are believed.
#[derive(Clone)]
pub enum Trust {
    /// Exactly those in this PEM file, not the system's. The way is direct, as within a cluster.
    File(PathBuf),
    /// Those of a way out, such as the system's.
    Way(Arc<Egress>),
    /// Exactly those in this PEM file, by the proxy and from the source address of a way out.
    FileOnWay(PathBuf, Arc<Egress>),
}

/// The way to one API server.
#[derive(Clone)]
pub struct Access {
    pub(super) server: Url,
    pub(super) token: SecretFile,
    trust: Trust,
    clock: Arc<dyn Clock>,
}

/// Why there is no way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// The address.
    #[error("the API server's address is not usable: {0}")]
    Server(#[from] PlaceError),
    /// Not in a pod.
    #[error("this is no pod: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT do not name the API server")]
    NotInCluster,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("server", &self.told()).finish_non_exhaustive()
    }
}

impl Access {
    /// The API server at `server`.
    pub fn new(server: &str, token: SecretFile, trust: Trust, clock: Arc<dyn Clock>) -> Result<Self, AccessError> {
        Ok(Self { server: place::checked(server)?, token, trust, clock })
    }

    /// The API server of the cluster in which keyholder runs: `host` and `port` are the values of
    /// `KUBERNETES_SERVICE_HOST` and `KUBERNETES_SERVICE_PORT`, `account` the folder of the mounted service account
    /// (`/var/run/secrets/kubernetes.io/serviceaccount`; kubernetes.io, "Accessing the Kubernetes API from a Pod").
    pub fn in_cluster(host: &str, port: &str, account: &Path, clock: Arc<dyn Clock>) -> Result<Self, AccessError> {
        let port: u16 = port.parse().map_err(|_| AccessError::NotInCluster)?;
        let host = if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]") } else { host.to_owned() };
        let server = Url::parse(&format!("https://{host}:{port}/")).map_err(|_| AccessError::NotInCluster)?;
        let token = SecretFile::new(account.join("token"));
        Ok(Self { server, token, trust: Trust::File(account.join("ca.crt")), clock })
    }

    /// The same with another token.
    #[must_use]
    pub fn with_token(self, token: SecretFile) -> Self {
        Self { token, ..self }
    }

    /// The same way, trusting exactly the authorities of this PEM file.
    #[must_use]
    pub fn with_authority(self, ca_file: impl Into<PathBuf>) -> Self {
        let trust = match self.trust {
            Trust::File(_) => Trust::File(ca_file.into()),
            Trust::Way(way) | Trust::FileOnWay(_, way) => Trust::FileOnWay(ca_file.into(), way),
        };
        Self { trust, ..self }
    }

    /// What may be told of it.
    pub(super) fn told(&self) -> String {
        place::origin(&self.server)
    }

    /// A client for one request.
    pub(super) async fn client(&self) -> Result<HttpClient, SendError> {
        let egress = match &self.trust {
            Trust::Way(egress) => Arc::clone(egress),
            Trust::File(path) => Arc::new(trusting(path, None).await?),
            Trust::FileOnWay(path, way) => Arc::new(trusting(path, Some(way)).await?),
        };
        Ok(HttpClient::new(egress, Timeouts::default(), Arc::clone(&self.clock)))
    }
}

async fn trusting(path: &Path, way: Option<&Egress>) -> Result<Egress, SendError> {
    let unusable = |what: &str| SendError::Refused(format!("the CA file {} {what}", path.display()));
    let pem = tokio::fs::read(path).await.map_err(|error| unusable(&format!("cannot be read: {}", error.kind())))?;
    if pem.len() > CA_MAX {
        return Err(unusable("is too large"));
    }
    let roots = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let roots = roots.ok().filter(|roots| !roots.is_empty()).ok_or_else(|| unusable("holds no certificate"))?;
    let trusting = way.map_or_else(|| Egress::trusting(&roots), |way| way.trusting_only(&roots));
    trusting.map_err(|error| unusable(&error.to_string()))
}
