//! Whether the sender of a token is the one that it is bound to by a certificate (RFC 8705 section 3).

use kh_core::{Confirmation, Identity, Sha256};

use crate::Reason;

/// Checks a token's certificate binding. `certificate` is what the client proved to hold when the connection was made,
/// in DER. A token bound to something else, or to nothing, is not this check's affair.
pub fn check_certificate(identity: &Identity, certificate: Option<&[u8]>) -> Result<(), Reason> {
    let Some(Confirmation::X5tS256(expected)) = identity.confirmation() else { return Ok(()) };
    let certificate = certificate.ok_or(Reason::CertificateMissing)?;
    if Sha256::of(certificate).ct_eq(&Sha256(*expected)) { Ok(()) } else { Err(Reason::CertificateMismatch) }
}
