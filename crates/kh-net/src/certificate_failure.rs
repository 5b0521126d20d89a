//! Why a client's certificate did not let it in, where a listener asks for one.
//!
//! Invariant: only a certificate that was asked for, and did not come or was not taken, is a failed try to authenticate. A
//! client that speaks no TLS, agrees on nothing or does not trust the listener tried nothing of the kind.

use std::io;

use kh_core::{
    UnixMillis,
    port::security::{AuthenticationEvent, Outcome, Presented, Site},
};
use rustls::{Error, PeerMisbehaved};

/// What was at fault with the certificate of a client whose handshake failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CertificateFailure {
    /// There was none, and the listener requires one.
    Missing,
    /// It was not taken: of another authority, with another name, expired, or not that of the client's key.
    Refused,
}

impl CertificateFailure {
    /// That of a handshake that failed on the server's side; none if the certificate was not at fault.
    pub fn of(error: &io::Error) -> Option<Self> {
        match error.get_ref()?.downcast_ref::<Error>()? {
            Error::NoCertificatesPresented => Some(Self::Missing),
            // a server verifies no other certificate, and no other signature, than the client's
            Error::InvalidCertificate(_)
            | Error::PeerMisbehaved(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme) => Some(Self::Refused),
            _ => None,
        }
    }

    /// Its reason code in the security log.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Missing => "certificate_missing",
            Self::Refused => "certificate_refused",
        }
    }

    /// What the security log is told of it, but for the addresses. There was no request, so there is no status; and what
    /// the handshake had settled went with it.
    pub fn event(self, at: UnixMillis, site: Site) -> AuthenticationEvent {
        let presented = match self {
            Self::Missing => Presented::Nothing,
            Self::Refused => Presented::Certificate,
        };
        AuthenticationEvent {
            presented,
            ..AuthenticationEvent::new(at, site, Outcome::Failure { reason: self.reason() })
        }
    }
}

#[cfg(test)]
mod tests {
    use rustls::{AlertDescription, CertificateError, InvalidMessage, PeerIncompatible};

    use super::*;

    fn of(error: Error) -> Option<CertificateFailure> {
        CertificateFailure::of(&io::Error::new(io::ErrorKind::InvalidData, error))
    }

    #[test]
    fn what_is_a_failed_try_to_authenticate() {
        let unadvertised = PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme;
        for (error, expected) in [
            (Error::NoCertificatesPresented, Some(CertificateFailure::Missing)),
            (CertificateError::UnknownIssuer.into(), Some(CertificateFailure::Refused)),
            (CertificateError::Expired.into(), Some(CertificateFailure::Refused)),
            (CertificateError::BadEncoding.into(), Some(CertificateFailure::Refused)),
            (CertificateError::BadSignature.into(), Some(CertificateFailure::Refused)),
            (CertificateError::ApplicationVerificationFailure.into(), Some(CertificateFailure::Refused)),
            (unadvertised.into(), Some(CertificateFailure::Refused)),
            // plain HTTP, a scanner, no suite in common, a client that does not trust the listener
            (InvalidMessage::InvalidContentType.into(), None),
            (PeerMisbehaved::MissingKeyShare.into(), None),
            (PeerIncompatible::NoCipherSuitesInCommon.into(), None),
            (Error::AlertReceived(AlertDescription::UnknownCA), None),
            (Error::DecryptError, None),
        ] {
            assert_eq!(of(error.clone()), expected, "{error:?}");
        }
        assert_eq!(CertificateFailure::of(&io::ErrorKind::UnexpectedEof.into()), None, "who went away");
        assert_eq!(CertificateFailure::of(&io::Error::other("certificate")), None);
    }

    #[test]
    fn what_the_security_log_is_told() {
        for (failure, reason, presented) in [
            (CertificateFailure::Missing, "certificate_missing", Presented::Nothing),
            (CertificateFailure::Refused, "certificate_refused", Presented::Certificate),
        ] {
            let event = failure.event(UnixMillis(7), Site::Admin);
            let expected = AuthenticationEvent {
                presented,
                ..AuthenticationEvent::new(UnixMillis(7), Site::Admin, Outcome::Failure { reason })
            };
            assert_eq!(event, expected);
        }
    }
}
