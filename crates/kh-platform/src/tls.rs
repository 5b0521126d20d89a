//! TLS towards platforms: one client configuration for token requests and for the gateway's data plane.
//!
//! Invariant: the provider is named here and never taken from the process, and certificates are always verified.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, pem::PemObject};

/// Most certificates read from one extra CA bundle: public bundles hold about 150.
pub const CA_BUNDLE_MAX: usize = 1000;

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
    /// Neither the system nor the configuration gives any CA: nothing could ever be verified.
    #[error("the system has no CA certificates and the configuration names none")]
    NoRoots,
    /// The cryptographic library refuses TLS 1.2 and 1.3.
    #[error("the cryptographic library offers neither TLS 1.2 nor TLS 1.3")]
    Provider,
}

/// A client configuration with the system's CAs and those of `extra_ca_pem` (PEM bundles), TLS 1.2 and 1.3, and ALPN
/// `http/1.1`. A broken certificate in the system's store is skipped; one that the operator named is an error.
pub fn client_config(extra_ca_pem: &[Vec<u8>]) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    if let Some(error) = native.errors.first() {
        tracing::warn!(error.count = native.errors.len(), error.first = %error, "some of the system's CA certificates cannot be read");
    }
    roots.add_parsable_certificates(native.certs);
    for (index, pem) in extra_ca_pem.iter().enumerate() {
        add_bundle(&mut roots, index + 1, pem)?;
    }
    if roots.is_empty() {
        return Err(TlsError::NoRoots);
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|_| TlsError::Provider)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
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
        let check = |bundles: &[Vec<u8>]| client_config(bundles).err();
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
        let config = client_config(&[ca()]).unwrap();
        assert_eq!(config.alpn_protocols, [b"http/1.1".to_vec()]);
    }
}
