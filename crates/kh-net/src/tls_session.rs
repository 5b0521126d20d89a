//! What the handshake of a connection to a listener settled, as logs tell it.
//!
//! Invariant: names are those of IANA's registry, whatever the library calls them.

use kh_core::port::security::TlsSession;
use rustls::{CipherSuite, ProtocolVersion, ServerConnection};

/// What a finished handshake settled.
pub fn tls_session(connection: &ServerConnection) -> TlsSession {
    let version = match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "1.3",
        Some(ProtocolVersion::TLSv1_2) => "1.2",
        _ => "unknown",
    };
    let cipher = connection.negotiated_cipher_suite().map_or("unknown", |suite| name(suite.suite()));
    TlsSession { version, cipher }
}

/// The registered name: the library writes those of TLS 1.3 with a word of its own.
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
