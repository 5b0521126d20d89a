//! TLS of keyholder's own listeners, and the reading of PEM files.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use kh_core::{Clock, Code, Sha256};
use kh_gateway::{CertificateSlot, ClientAuth, ClientTrust, GatewayHandle, Metrics, TlsSlot};
use parking_lot::Mutex;
use rustls::{crypto::aws_lc_rs, server::ResolvesServerCert, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::{
    Paths,
    validity::{Standing, Validity},
};
use crate::{
    config::{ClientsConfig, Need},
    output::Failure,
};

/// Largest PEM file read, in bytes: the public CA bundles have a quarter of a megabyte.
pub(super) const PEM_BYTES_MAX: u64 = 4 * 1024 * 1024;

fn unusable(path: &Path, problem: &str) -> Failure {
    Failure::new(Code::CONFIG_INVALID, format!("{} {problem}", path.display()))
}

pub(super) fn read_pem(path: &Path) -> Result<Vec<u8>, Failure> {
    let cannot = |error: std::io::Error| unusable(path, "cannot be read").caused_by(&error);
    if std::fs::metadata(path).map_err(cannot)?.len() > PEM_BYTES_MAX {
        return Err(unusable(path, "is too large for a PEM file"));
    }
    std::fs::read(path).map_err(cannot)
}

/// A listener's certificate.
pub(crate) struct Certificate {
    /// The chain with its key.
    pub(crate) key: CertifiedKey,
    /// When the leaf is valid.
    pub(crate) validity: Validity,
}

/// A certificate with its key, which must belong together.
pub(crate) fn certificate(cert: &Path, key: &Path, paths: &Paths) -> Result<Certificate, Failure> {
    let (cert, key) = (paths.resolve(cert), paths.resolve(key));
    let chain = CertificateDer::pem_slice_iter(&read_pem(&cert)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| unusable(&cert, "is not a PEM file of certificates"))?;
    let leaf = chain.first().ok_or_else(|| unusable(&cert, "holds no certificate"))?;
    let validity = Validity::of(leaf).ok_or_else(|| unusable(&cert, "begins with something that is no certificate"))?;
    let key_pem = zeroize::Zeroizing::new(read_pem(&key)?);
    let key_der =
        PrivateKeyDer::from_pem_slice(&key_pem).map_err(|_| unusable(&key, "holds no private key in PEM form"))?;
    let key = CertifiedKey::from_der(chain, key_der, &aws_lc_rs::default_provider())
        .map_err(|error| unusable(&cert, &format!("and {} do not belong together", key.display())).caused_by(&error))?;
    Ok(Certificate { key, validity })
}

/// A certificate that is served, and what is told of it.
pub(super) struct Served {
    /// Which listeners show it.
    name: String,
    slot: Arc<CertificateSlot>,
    telling: Telling,
}

/// Where it is told how long certificates are valid.
#[derive(Clone)]
pub(super) struct Telling {
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Served {
    /// With a first certificate.
    pub(super) fn new(name: String, first: Certificate, telling: &Telling) -> Self {
        telling.tell(&name, first.validity);
        Self { name, slot: CertificateSlot::new(first.key), telling: telling.clone() }
    }

    /// Where handshakes find it.
    pub(super) fn slot(&self) -> &Arc<CertificateSlot> {
        &self.slot
    }

    /// With another certificate.
    pub(super) fn replace(&self, next: Certificate) {
        self.telling.tell(&self.name, next.validity);
        self.slot.replace(next.key);
    }
}

impl Telling {
    fn tell(&self, certificate: &str, validity: Validity) {
        self.metrics.certificate(certificate, validity.not_after);
        let not_after = validity.end();
        match validity.standing(self.clock.now().wall) {
            Standing::Valid => {}
            Standing::ExpiresSoon => tracing::warn!(certificate, not_after, "a listener's certificate expires soon"),
            Standing::Expired => {
                tracing::error!(certificate, not_after, "a listener's certificate has expired: callers refuse it");
            }
            Standing::NotYetValid => {
                let not_before = validity.begin();
                tracing::error!(
                    certificate,
                    not_before,
                    "a listener's certificate is not valid yet: callers refuse it"
                );
            }
        }
    }
}

/// How a listener speaks TLS, with the certificate that is in `slot` at each handshake, and whose client certificates it
/// takes.
pub(super) fn server_tls(
    slot: &Arc<CertificateSlot>,
    clients: Option<&ClientTrust>,
) -> Result<Arc<rustls::ServerConfig>, Failure> {
    let resolver = Arc::clone(slot) as Arc<dyn ResolvesServerCert>;
    kh_gateway::server_tls(resolver, clients).map_err(|error| Failure::of(Code::INTERNAL, &error))
}

/// The client certificates that a listener takes.
pub(super) struct Clients {
    pub(super) trust: ClientTrust,
    /// Of all that it was made from: another one ends the sessions of before.
    pub(super) digest: Sha256,
}

impl Clients {
    /// Those that a section names; none if it takes none.
    pub(super) fn of(config: &ClientsConfig, paths: &Paths) -> Result<Option<Self>, Failure> {
        let Some(path) = config.client_ca.as_deref().map(|path| paths.resolve(path)) else { return Ok(None) };
        let bundle = read_pem(&path)?;
        let auth = match config.client_auth {
            Need::Optional => ClientAuth::Optional,
            Need::Required => ClientAuth::Required,
        };
        let names = &config.client_names;
        let digest = Sha256::of(format!("{auth:?} {names:?} {}", Sha256::of(&bundle).to_hex()).as_bytes());
        Ok(Some(Self { trust: client_trust(&path, &bundle, auth, names.clone())?, digest }))
    }
}

/// How listeners speak TLS while they serve: the certificate that they show, and whose certificates they take.
pub(super) struct ListenerTls {
    served: Served,
    /// How the listeners speak TLS, once there are any.
    listening: Mutex<Vec<TlsSlot>>,
    /// The digest of whose certificates they take.
    clients: Mutex<Option<Sha256>>,
    asked: Arc<AtomicBool>,
}

/// How listeners will speak TLS if other client certificates are taken from now on.
pub(super) struct OtherClients {
    tls: Arc<rustls::ServerConfig>,
    digest: Option<Sha256>,
}

impl ListenerTls {
    /// Listeners that show `served` take these.
    pub(super) fn new(served: Served, clients: Option<&Clients>) -> Self {
        let asked = Arc::new(AtomicBool::new(clients.is_some()));
        let clients = Mutex::new(clients.map(|clients| clients.digest));
        Self { served, listening: Mutex::default(), clients, asked }
    }

    /// Where handshakes find the certificate.
    pub(super) fn slot(&self) -> &Arc<CertificateSlot> {
        self.served.slot()
    }

    /// Whether client certificates are asked for, now and later.
    pub(super) fn asked(&self) -> &Arc<AtomicBool> {
        &self.asked
    }

    /// These gateways listen.
    pub(super) fn listens<'a>(&self, gateways: impl IntoIterator<Item = &'a GatewayHandle>) {
        *self.listening.lock() = gateways.into_iter().filter_map(|gateway| gateway.tls().cloned()).collect();
    }

    /// What becomes of the listeners when these client certificates are taken; none if they are the same as before.
    pub(super) fn other(&self, clients: Option<&Clients>) -> Result<Option<OtherClients>, Failure> {
        let digest = clients.map(|clients| clients.digest);
        if *self.clients.lock() == digest {
            return Ok(None);
        }
        let tls = server_tls(self.slot(), clients.map(|clients| &clients.trust))?;
        Ok(Some(OtherClients { tls, digest }))
    }

    /// Shows another certificate, and takes other client certificates, where there are any. Sessions that were verified
    /// by the ones before are not resumed.
    pub(super) fn replace(&self, certificate: Option<Certificate>, clients: Option<OtherClients>) {
        if let Some(certificate) = certificate {
            self.served.replace(certificate);
        }
        let Some(OtherClients { tls, digest }) = clients else { return };
        for slot in &*self.listening.lock() {
            slot.replace(&tls);
        }
        self.asked.store(digest.is_some(), Ordering::Relaxed);
        *self.clients.lock() = digest;
    }
}

/// The client certificates that a listener takes, by the authorities of a PEM file.
pub(super) fn client_trust(
    path: &Path,
    bundle: &[u8],
    auth: ClientAuth,
    names: Vec<String>,
) -> Result<ClientTrust, Failure> {
    ClientTrust::parse(bundle, auth, names)
        .map_err(|error| unusable(path, "cannot be used for client certificates").caused_by(&error))
}
