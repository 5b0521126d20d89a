//! TLS towards platforms: one client configuration for token requests and for the gateway's data plane.
//!
//! Invariant: the provider is named here and never taken from the process, and certificates are always verified.

use std::{error::Error, fmt, io, sync::Arc};

use kh_core::{SecretBytes, Sha256};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, client::WantsClientCert, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::proxy::digest_of;

/// Most certificates read from one extra CA bundle: public bundles hold about 150.
pub const CA_BUNDLE_MAX: usize = 1000;

/// Most certificates of a client's chain: chains have two to four.
const CHAIN_MAX: usize = 16;

/// Why no TLS configuration came out. Bundles are counted from 1, in the order given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// The bundle is not PEM, or its base64 is broken.
    #[error("CA bundle {bundle} is not valid PEM")]
    NotPem {
        /// Which bundle.
        bundle: usize,
    },
    /// The bundle is PEM without any certificate, for example a private key.
    #[error("CA bundle {bundle} holds no certificate")]
    NoCertificate {
        /// Which bundle.
        bundle: usize,
    },
    /// The bundle holds more than [`CA_BUNDLE_MAX`] certificates.
    #[error("CA bundle {bundle} holds more than {CA_BUNDLE_MAX} certificates")]
    TooMany {
        /// Which bundle.
        bundle: usize,
    },
    /// A certificate of the bundle cannot be a trust anchor.
    #[error("certificate {certificate} of CA bundle {bundle} is not a valid X.509 certificate")]
    BadCertificate {
        /// Which bundle.
        bundle: usize,
        /// Which certificate of it, from 1.
        certificate: usize,
    },
    /// The client certificate's file is not PEM or holds no certificate.
    #[error("the client certificate is not a PEM file with a certificate")]
    ClientCertificate,
    /// The client key's file holds no usable private key.
    #[error("the client key is not a PEM file with a usable private key")]
    ClientKey,
    /// Certificate and key are of different pairs.
    #[error("the client certificate and the client key do not belong together")]
    ClientPair,
    /// Neither the system nor the configuration gives any CA: nothing could ever be verified.
    #[error("the system has no CA certificates and the configuration names none")]
    NoRoots,
    /// The cryptographic library refuses TLS 1.2 and 1.3.
    #[error("the cryptographic library offers neither TLS 1.2 nor TLS 1.3")]
    Provider,
}

/// A client certificate with its private key.
pub struct Identity {
    /// PEM: the certificate first, then what lies between it and its authority.
    pub chain_pem: Vec<u8>,
    /// PEM: PKCS#8, PKCS#1 or SEC1.
    pub key_pem: SecretBytes,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

/// The certificate authorities of this machine.
#[derive(Clone)]
pub struct SystemRoots {
    store: Arc<RootCertStore>,
    digest: Sha256,
}

impl SystemRoots {
    /// Reads them: blocks for some milliseconds. One that cannot be read or parsed is skipped.
    pub fn load() -> Self {
        let native = rustls_native_certs::load_native_certs();
        if let Some(error) = native.errors.first() {
            tracing::warn!(error.count = native.errors.len(), error.first = %error, "some of the system's CA certificates cannot be read");
        }
        let digests: Vec<Sha256> = native.certs.iter().map(|certificate| Sha256::of(certificate)).collect();
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(native.certs);
        Self { store: Arc::new(store), digest: digest_of(&digests) }
    }
}

impl fmt::Debug for SystemRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SystemRoots").field("count", &self.store.len()).finish_non_exhaustive()
    }
}

/// A client configuration with the system's CAs and those of `extra_ca_pem` (PEM bundles), TLS 1.2 and 1.3, and ALPN
/// `http/1.1`, with a digest of all that it was made from. A broken certificate that the operator named is an error.
pub(crate) fn client_config(
    system: &SystemRoots,
    extra_ca_pem: &[Vec<u8>],
    identity: Option<&Identity>,
) -> Result<(Arc<ClientConfig>, Sha256), TlsError> {
    let (mut roots, mut digests) = (Arc::clone(&system.store), vec![system.digest]);
    for (index, pem) in extra_ca_pem.iter().enumerate() {
        add_bundle(Arc::make_mut(&mut roots), index + 1, pem)?;
        digests.push(Sha256::of(pem));
    }
    if let Some(identity) = identity {
        digests.extend([Sha256::of(&identity.chain_pem), Sha256::of(identity.key_pem.expose())]);
    }
    Ok((config(roots, identity)?, digest_of(&digests)))
}

/// A client configuration that trusts exactly `roots`, likewise.
pub(crate) fn trusting(anchors: &[CertificateDer<'static>]) -> Result<(Arc<ClientConfig>, Sha256), TlsError> {
    let mut roots = RootCertStore::empty();
    for (index, anchor) in anchors.iter().enumerate() {
        let bad = |_| TlsError::BadCertificate { bundle: 1, certificate: index + 1 };
        roots.add(anchor.clone()).map_err(bad)?;
    }
    let digests: Vec<Sha256> = anchors.iter().map(|anchor| Sha256::of(anchor)).collect();
    let mut config = builder(roots)?.with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((Arc::new(config), digest_of(&digests)))
}

fn builder(roots: impl Into<Arc<RootCertStore>>) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, TlsError> {
    Ok(ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|_| TlsError::Provider)?
        .with_root_certificates(roots))
}

fn config(roots: Arc<RootCertStore>, identity: Option<&Identity>) -> Result<Arc<ClientConfig>, TlsError> {
    if roots.is_empty() {
        return Err(TlsError::NoRoots);
    }
    let builder = builder(roots)?;
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = CertificateDer::pem_slice_iter(&identity.chain_pem)
                .take(CHAIN_MAX)
                .collect::<Result<Vec<_>, _>>()
                .map_err(|_| TlsError::ClientCertificate)?;
            if chain.is_empty() {
                return Err(TlsError::ClientCertificate);
            }
            let key = PrivateKeyDer::from_pem_slice(identity.key_pem.expose()).map_err(|_| TlsError::ClientKey)?;
            builder.with_client_auth_cert(chain, key).map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => TlsError::ClientPair,
                rustls::Error::InvalidCertificate(_) => TlsError::ClientCertificate,
                _ => TlsError::ClientKey,
            })?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The TLS library's own error inside `error`, however deep.
pub fn cause<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    let mut current = Some(error);
    while let Some(error) = current {
        if let Some(tls) = error.downcast_ref() {
            return Some(tls);
        }
        // an I/O error does not show what it wraps as its source, but that thing's source
        if let Some(found) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref).and_then(|e| cause(e)) {
            return Some(found);
        }
        current = error.source();
    }
    None
}

/// In words: what went wrong in a handshake, and what an operator can do where that is known.
pub fn explain(error: &io::Error) -> String {
    match cause(error) {
        Some(found) => explain_tls(found),
        None => error.to_string(),
    }
}

/// The same for an error that was already found.
pub fn explain_tls(error: &rustls::Error) -> String {
    use rustls::AlertDescription as Alert;
    match error {
        rustls::Error::AlertReceived(alert) if is_about_us(*alert) => {
            let hint = if *alert == Alert::CertificateRequired {
                "it demands a client certificate: set client_cert and client_key"
            } else {
                "it does not accept keyholder's client certificate, or demands one: see client_cert and client_key"
            };
            format!("{error}: {hint}")
        }
        other => other.to_string(),
    }
}

/// Alerts by which a server refuses the client's certificate or the lack of one (RFC 8446 section 6.2; with TLS 1.2 the
/// lack is a `handshake_failure`).
pub(crate) fn is_about_us(alert: rustls::AlertDescription) -> bool {
    use rustls::AlertDescription as Alert;
    matches!(
        alert,
        Alert::CertificateRequired
            | Alert::NoCertificate
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::HandshakeFailure
    )
}

fn add_bundle(roots: &mut RootCertStore, bundle: usize, pem: &[u8]) -> Result<(), TlsError> {
    let mut certificate = 0;
    for item in CertificateDer::pem_slice_iter(pem) {
        certificate += 1;
        if certificate > CA_BUNDLE_MAX {
            return Err(TlsError::TooMany { bundle });
        }
        let der = item.map_err(|_| TlsError::NotPem { bundle })?;
        roots.add(der).map_err(|_| TlsError::BadCertificate { bundle, certificate })?;
    }
    if certificate == 0 {
        return Err(TlsError::NoCertificate { bundle });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ca() -> Vec<u8> {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.self_signed(&key).unwrap().pem().into_bytes()
    }

    #[test]
    fn bundles() {
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem().into_bytes();
        let junk = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec();
        let broken = b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n".to_vec();
        let cut = ca().into_iter().take(80).collect::<Vec<_>>();
        let system = SystemRoots::load();
        let check = |bundles: &[Vec<u8>]| client_config(&system, bundles, None).err();
        assert_eq!(check(&[ca()]), None);
        assert_eq!(check(&[[ca(), ca()].concat(), ca()]), None);
        assert_eq!(check(&[ca(), key]), Some(TlsError::NoCertificate { bundle: 2 }));
        assert_eq!(check(&[Vec::new()]), Some(TlsError::NoCertificate { bundle: 1 }));
        assert_eq!(check(&[junk]), Some(TlsError::BadCertificate { bundle: 1, certificate: 1 }));
        assert_eq!(check(&[broken]), Some(TlsError::NotPem { bundle: 1 }));
        assert_eq!(check(&[cut]), Some(TlsError::NotPem { bundle: 1 }));
    }

    #[test]
    fn the_configuration_speaks_http_1_only() {
        let (config, _) = client_config(&SystemRoots::load(), &[ca()], None).unwrap();
        assert_eq!(config.alpn_protocols, [b"http/1.1".to_vec()]);
    }
}
