//! Whether the sender of a token is the one that it is bound to by a certificate (RFC 8705 section 3).

use kh_core::{Confirmation, Identity, Sha256};

use crate::Reason;

/// Checks a token's certificate binding. `certificate` is what the client proved to hold when the connection was made,
/// in DER. A token bound to something else, or to nothing, is not this check's affair.
pub fn check_certificate(identity: &Identity, certificate: Option<&[u8]>) -> Result<(), Reason> {
    let digest = certificate.map(Sha256::of);
    check_certificate_digest(identity.confirmation(), digest.as_ref())
}

/// The same with the digest (`x5t#S256`, RFC 8705 section 3.1) of the connection's certificate, for whoever computes it
/// once per connection.
pub fn check_certificate_digest(bound: Option<&Confirmation>, certificate: Option<&Sha256>) -> Result<(), Reason> {
    let Some(Confirmation::X5tS256(expected)) = bound else { return Ok(()) };
    let certificate = certificate.ok_or(Reason::CertificateMissing)?;
    if certificate.ct_eq(&Sha256(*expected)) { Ok(()) } else { Err(Reason::CertificateMismatch) }
}
