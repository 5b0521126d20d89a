//! The HTTP client for keyholder's own listeners on loopback.
//!
//! Invariant: it trusts no certificate authority and follows no proxy of the environment, because it never leaves the
//! machine.

use std::{path::Path, sync::Arc, time::Duration};

use rustls::crypto::aws_lc_rs;

use crate::output::Failure;

/// A client for plain http on loopback.
pub(crate) fn local_http(timeout: Duration) -> Result<reqwest::Client, Failure> {
    build(builder(timeout)?)
}

/// A client for plain http over the unix socket at `path`, whatever host a URL names.
pub(crate) fn local_http_over(path: &Path, timeout: Duration) -> Result<reqwest::Client, Failure> {
    build(builder(timeout)?.unix_socket(path))
}

fn build(builder: reqwest::ClientBuilder) -> Result<reqwest::Client, Failure> {
    builder.build().map_err(|error| Failure::bug("cannot make an HTTP client").caused_by(&error))
}

fn builder(timeout: Duration) -> Result<reqwest::ClientBuilder, Failure> {
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::bug("the cryptographic library offers no TLS").caused_by(&error))?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    // A redirect would carry the guard token to whatever place it names.
    let redirects = reqwest::redirect::Policy::none();
    Ok(reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().redirect(redirects).timeout(timeout))
}
