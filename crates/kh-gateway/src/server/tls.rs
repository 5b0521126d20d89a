//! What is known of a caller's TLS connection.

use std::sync::Arc;

use arc_swap::ArcSwap;
use kh_core::port::security::TlsSession;
use kh_net::{PeerCertificate, tls_session};
use rustls::{ServerConfig, ServerConnection};
use tokio_rustls::TlsAcceptor;

use super::http2;

/// How the listeners speak TLS, which may be replaced while handshakes run.
#[derive(Clone, Debug)]
pub struct TlsSlot(Arc<ArcSwap<ServerConfig>>);

impl TlsSlot {
    pub(super) fn new(first: &ServerConfig) -> Self {
        Self(Arc::new(ArcSwap::new(with_protocols(first))))
    }

    /// Handshakes that begin from now on see `next`, with another authority for client certificates, for instance. Open
    /// connections go on with what they agreed on, and no session of before is resumed.
    pub fn replace(&self, next: &ServerConfig) {
        self.0.store(with_protocols(next));
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.load_full())
    }
}

fn with_protocols(config: &ServerConfig) -> Arc<ServerConfig> {
    let mut config = config.clone();
    config.alpn_protocols = vec![http2::ALPN.to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

/// A caller's TLS connection.
#[derive(Clone, Debug)]
pub(crate) struct Secured {
    /// What the handshake settled.
    pub(crate) session: TlsSession,
    /// The certificate that the caller proved to have the key of.
    pub(crate) certificate: Option<PeerCertificate>,
}

impl Secured {
    /// After the handshake.
    pub(super) fn of(connection: &ServerConnection) -> Self {
        Self { session: tls_session(connection), certificate: PeerCertificate::of(connection) }
    }
}
