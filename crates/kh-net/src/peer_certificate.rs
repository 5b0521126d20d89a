//! The certificate that the other end of a TLS connection proved to hold the key of.
//!
//! Invariant: there is one only after a handshake in which an authority that the listener trusts vouched for it. It
//! names a key, never a permission: whoever asks decides what it is good for.

use std::{fmt::Write as _, sync::Arc};

use kh_core::Sha256;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Longest text that is made of a subject, in bytes: a name of ordinary length many times over.
const SUBJECT_BYTES_MAX: usize = 512;
/// Most names that are kept of one certificate.
const NAMES_MAX: usize = 64;

/// A peer's certificate. Cheap to clone: once per request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerCertificate {
    /// SHA-256 of its DER (`x5t#S256`, RFC 8705 section 3.1).
    pub sha256: Sha256,
    /// The DNS names and URIs of its subject alternative name.
    pub names: Arc<[String]>,
    /// The common name of its subject, if there is one and it is text. Where there is a subject alternative name, that
    /// counts alone (RFC 6125 section 6.4.4).
    pub common_name: Option<Arc<str>>,
    /// Its subject, in the order of the certificate, such as `C=US, O=Example, CN=caller`; printable ASCII, bounded.
    pub subject: Arc<str>,
}

impl PeerCertificate {
    /// The one that the peer of a finished handshake showed.
    pub fn of(connection: &rustls::ServerConnection) -> Option<Self> {
        Self::parse(connection.peer_certificates()?.first()?)
    }

    /// From its DER, if that is a certificate.
    pub fn parse(der: &[u8]) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        let names = parsed.subject_alternative_name().ok().flatten();
        let names = names.into_iter().flat_map(|extension| &extension.value.general_names);
        let names = names.filter_map(|name| match name {
            GeneralName::DNSName(text) | GeneralName::URI(text) => Some((*text).to_owned()),
            _ => None,
        });
        let names: Vec<String> = names.take(NAMES_MAX).collect();
        let common_name = parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        let common_name = common_name.map(Arc::from);
        let subject = printable(&parsed.subject().to_string());
        Some(Self { sha256: Sha256::of(der), names: names.into(), common_name, subject: subject.into() })
    }

    /// Whether the subject alternative name, or else the common name, is one of `wanted`. DNS names are compared without regard to letter case;
    /// a wildcard stands for nothing: a client is not a set of hosts.
    pub fn has_name(&self, wanted: &[String]) -> bool {
        let same = |own: &str, one: &str| {
            if own.contains("://") { own == one } else { own.eq_ignore_ascii_case(one) }
        };
        let common = self.common_name.as_deref().filter(|_| self.names.is_empty());
        wanted.iter().any(|one| self.names.iter().map(String::as_str).chain(common).any(|own| same(own, one)))
    }
}

/// What a log may show: visible ASCII and spaces, and the rest escaped.
fn printable(text: &str) -> String {
    let mut shown = String::new();
    for letter in text.chars() {
        let before = shown.len();
        if matches!(letter, ' '..='~') {
            shown.push(letter);
        } else if write!(shown, "\\u{{{:x}}}", u32::from(letter)).is_err() {
            break;
        }
        if shown.len() > SUBJECT_BYTES_MAX {
            shown.truncate(before);
            break;
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(common_name: &str, names: &[&str]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.subject_alt_names = names
            .iter()
            .map(|&name| {
                if name.contains("://") {
                    SanType::URI(name.try_into().unwrap())
                } else {
                    SanType::DnsName(name.try_into().unwrap())
                }
            })
            .collect();
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn what_is_told_of_a_certificate() {
        let der = certificate("dataactions.prod.us-east-1.mypurecloud.com", &["caller.example", "spiffe://corp/ann"]);
        let told = PeerCertificate::parse(&der).unwrap();
        assert_eq!(told.sha256, Sha256::of(&der));
        assert_eq!(&*told.subject, "CN=dataactions.prod.us-east-1.mypurecloud.com");
        let has = |name: &str| told.has_name(&["other.example".to_owned(), name.to_owned()]);
        assert!(has("caller.example") && has("CALLER.example") && has("spiffe://corp/ann"));
        assert!(!has("SPIFFE://corp/ann") && !has("aller.example") && !has("*.example") && !has(""));
        assert!(!told.has_name(&[]) && !has("dataactions.prod.us-east-1.mypurecloud.com"));
        let bare = PeerCertificate::parse(&certificate("caller.example", &[])).unwrap();
        assert!(bare.has_name(&["caller.example".to_owned()]) && !bare.has_name(&["example".to_owned()]));
    }

    #[test]
    fn a_subject_is_printable_and_bounded_and_a_wildcard_is_nobody() {
        let told = PeerCertificate::parse(&certificate("j\u{f6}rg\nadmin", &["*.example"])).unwrap();
        assert_eq!(&*told.subject, "CN=j\\u{f6}rg\\u{a}admin");
        assert!(!told.has_name(&["a.example".to_owned()]));
        let long = PeerCertificate::parse(&certificate(&"\u{f6}".repeat(400), &[])).unwrap();
        assert!(long.subject.len() <= SUBJECT_BYTES_MAX && long.subject.ends_with('}'));
        assert_eq!(PeerCertificate::parse(b"no certificate"), None);
    }

    #[test]
    fn any_bytes_are_a_certificate_or_none() {
        let good = certificate("caller", &["caller.example"]);
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        for _ in 0..100_000 {
            let mut bytes = good.clone();
            for _ in 0..4 {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                let at = usize::try_from(seed >> 8).unwrap() % bytes.len();
                bytes[at] = u8::try_from(seed & 0xff).unwrap();
            }
            crate::fuzzing::peer_certificate(&bytes);
        }
    }
}
