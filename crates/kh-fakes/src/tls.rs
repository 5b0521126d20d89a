//! A CA of a fake's own, made anew at each start, and its server certificate for loopback.

use std::sync::Arc;

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio_rustls::TlsAcceptor;

/// What a TLS listener needs, and what its clients must trust.
pub(crate) struct Made {
    pub(crate) acceptor: TlsAcceptor,
    pub(crate) ca_pem: String,
}

/// Makes CA and certificate for `localhost`, `127.0.0.1`, `::1` and `names`.
pub(crate) fn make(names: &[String]) -> Result<Made> {
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    ca.distinguished_name.push(rcgen::DnType::CommonName, "CA of a fake secret store");
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;
    let mut covered = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    covered.extend_from_slice(names);
    let key = KeyPair::generate()?;
    let mut leaf = CertificateParams::new(covered)?;
    leaf.use_authority_key_identifier_extension = true;
    let leaf = leaf.signed_by(&key, &ca)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .context("the certificate just made fits its key")?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Made { acceptor: TlsAcceptor::from(Arc::new(config)), ca_pem: ca.pem() })
}
