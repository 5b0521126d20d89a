//! Which client certificates a listener takes, and the TLS configuration that says so.
//!
//! Invariants: the only roots are those of the bundle that was given, never the system's; a certificate without one of
//! the names that are asked for is as good as none from a stranger; TLS 1.2 is the oldest version that is spoken.

use std::sync::Arc;

use kh_net::PeerCertificate;
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::aws_lc_rs,
    server::{
        ResolvesServerCert, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject};

/// Whether a caller needs a certificate to connect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// Who has one shows it; who has none has to prove itself otherwise alone.
    #[default]
    Optional,
    /// Without one there is no connection.
    Required,
}

/// Why a bundle of authorities cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TrustError {
    /// Not PEM.
    #[error("it is not a PEM file of certificates")]
    Pem,
    /// Nothing in it.
    #[error("it holds no certificate")]
    Empty,
    /// Something in it that is no authority's certificate.
    #[error("it holds no authority's certificate")]
    NoAuthority(#[source] Error),
    /// The library refuses the whole.
    #[error("it holds no authority that can be used: {0}")]
    Unusable(String),
    /// The library has no TLS, which is a mistake in how it was built.
    #[error("the cryptographic library offers no TLS")]
    NoTls,
}

/// The client certificates that a listener takes.
#[derive(Clone, Debug)]
pub struct ClientTrust {
    verifier: Arc<dyn ClientCertVerifier>,
}

impl ClientTrust {
    /// Certificates that an authority of `bundle` (PEM) issued. Of those, with `names`, only the ones whose subject
    /// alternative name holds one of them: needed wherever the authority issues certificates to others as well.
    pub fn parse(bundle: &[u8], auth: ClientAuth, names: Vec<String>) -> Result<Self, TrustError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(bundle) {
            roots.add(certificate.map_err(|_| TrustError::Pem)?).map_err(TrustError::NoAuthority)?;
        }
        if roots.is_empty() {
            return Err(TrustError::Empty);
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let verifier = match auth {
            ClientAuth::Optional => verifier.allow_unauthenticated(),
            ClientAuth::Required => verifier,
        };
        let inner = verifier.build().map_err(|error| TrustError::Unusable(error.to_string()))?;
        let verifier = if names.is_empty() { inner } else { Arc::new(Named { inner, names }) };
        Ok(Self { verifier })
    }
}

/// How a listener speaks TLS, with the certificate that `resolver` has at each handshake, and with whom. Sessions are
/// resumed within one configuration only: with another one each client is verified anew.
pub fn server_tls(
    resolver: Arc<dyn ResolvesServerCert>,
    clients: Option<&ClientTrust>,
) -> Result<Arc<ServerConfig>, TrustError> {
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        // 1.3, and 1.2 for who has no better
        .with_safe_default_protocol_versions()
        .map_err(|_| TrustError::NoTls)?;
    let config = match clients {
        None => config.with_no_client_auth(),
        Some(trust) => config.with_client_cert_verifier(Arc::clone(&trust.verifier)),
    };
    Ok(Arc::new(config.with_cert_resolver(resolver)))
}

/// As the library verifies, and by name.
#[derive(Debug)]
struct Named {
    inner: Arc<dyn ClientCertVerifier>,
    names: Vec<String>,
}

impl ClientCertVerifier for Named {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now)?;
        let named = PeerCertificate::parse(end_entity).is_some_and(|one| one.has_name(&self.names));
        if named { Ok(verified) } else { Err(rustls::CertificateError::ApplicationVerificationFailure.into()) }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_bundle_of_authorities() {
        let trust = |bundle: &[u8]| ClientTrust::parse(bundle, ClientAuth::Required, Vec::new()).map(drop);
        assert_eq!(trust(b""), Err(TrustError::Empty));
        assert_eq!(trust(b"no certificate"), Err(TrustError::Empty));
        let broken = b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
        assert_eq!(trust(broken), Err(TrustError::Pem));
        let empty = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(trust(empty), Err(TrustError::NoAuthority(_))));
    }
}
