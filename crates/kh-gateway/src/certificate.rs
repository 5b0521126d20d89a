//! The gateway's certificate, which may be replaced while handshakes run.
//!
//! Invariant: a handshake gets one whole certificate with its own key, the old or the new one. What was agreed before
//! (open connections, sessions that are resumed) is not touched by a replacement.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

/// Where a `rustls::ServerConfig` finds its certificate: give it to `with_cert_resolver`.
pub struct CertificateSlot(ArcSwap<CertifiedKey>);

impl CertificateSlot {
    /// A slot with a first certificate.
    pub fn new(first: CertifiedKey) -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(first)))
    }

    /// Handshakes that begin from now on see `next`.
    pub fn replace(&self, next: CertifiedKey) {
        self.0.store(Arc::new(next));
    }
}

impl ResolvesServerCert for CertificateSlot {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl fmt::Debug for CertificateSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateSlot").finish_non_exhaustive()
    }
}
