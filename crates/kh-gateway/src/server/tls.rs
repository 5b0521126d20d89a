//! What is known of a caller's TLS connection.

use std::sync::Arc;

use arc_swap::ArcSwap;
use kh_core::port::security::TlsSession;
use kh_net::PeerCertificate;
use rustls::{CipherSuite, ProtocolVersion, ServerConfig, ServerConnection};
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
        Self { session: session(connection), certificate: PeerCertificate::of(connection) }
    }
}

/// What the handshake settled.
fn session(connection: &ServerConnection) -> TlsSession {
    let version = match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "1.3",
        Some(ProtocolVersion::TLSv1_2) => "1.2",
        _ => "unknown",
    };
    let cipher = connection.negotiated_cipher_suite().map_or("unknown", |suite| name(suite.suite()));
    TlsSession { version, cipher }
}

/// The name in IANA's registry: the library writes those of TLS 1.3 with a word of its own.
fn name(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        other => other.as_str().unwrap_or("unknown"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The program's own provider: each of its suites has a name that others know.
    #[test]
    fn every_suite_has_its_registered_name() {
        for suite in rustls::crypto::aws_lc_rs::default_provider().cipher_suites {
            let name = name(suite.suite());
            assert!(name.starts_with("TLS_") && !name.contains("13_"), "{name}");
        }
    }
}
