//! TLS of the platform listeners. Invariant: a certificate that cannot be used stops the start; there is no fallback
//! to plain http.

use crate::config::{SandboxConfig, TlsFiles};
use crate::handle::SandboxError;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// The acceptor that the configuration asks for, if any.
pub(crate) fn acceptor(config: &SandboxConfig) -> Result<Option<TlsAcceptor>, SandboxError> {
    if let Some(given) = &config.tls_server {
        return Ok(Some(TlsAcceptor::from(Arc::clone(given))));
    }
    config.tls.as_ref().map(|files| from_files(files).map(|server| TlsAcceptor::from(Arc::new(server)))).transpose()
}

fn from_files(files: &TlsFiles) -> Result<rustls::ServerConfig, SandboxError> {
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| problem(&files.certificate, &error))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| problem(&files.key, &error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| problem(&files.certificate, &error))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| problem(&files.certificate, &error))
}

fn problem(path: &Path, error: &dyn std::fmt::Display) -> SandboxError {
    SandboxError::Tls { path: path.to_owned(), problem: error.to_string() }
}
