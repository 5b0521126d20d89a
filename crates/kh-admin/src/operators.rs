//! Who may use the admin API: operators, each with a role, known by a token or by the certificate of their connection.
//!
//! Invariants: tokens are kept as digests and compared in constant time, all of them on every request; a request that
//! shows a wrong token is refused even if its certificate is an operator's; nobody is an operator by default.

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::http::HeaderMap;
use kh_core::Sha256;
use kh_net::PeerCertificate;
use serde::Serialize;
use utoipa::ToSchema;

use crate::guard::{self, Guard};

/// What an operator may do; each role may do all that the ones before it may.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Looks: status, clients, the audit log.
    Read,
    /// Acts on what is there, in ways that can be undone or that make something safer: disable, revoke, hold.
    Operate,
    /// Everything, also what hands out a secret.
    Admin,
}

impl Role {
    /// Every role, from the least to the most.
    pub const ALL: [Self; 3] = [Self::Read, Self::Operate, Self::Admin];

    /// Its name in configuration, answers and the audit log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }
}

/// One operator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operator {
    /// Its name in the audit log, as `admin:<name>`.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Digests of its tokens; two while one replaces the other.
    pub tokens: Vec<Sha256>,
    /// Digests (of the DER) of its client certificates.
    pub certificates: Vec<Sha256>,
    /// Names (DNS names and URIs of the subject alternative name) of which its client certificate has one. The letter
    /// case of a DNS name does not count.
    pub certificate_names: Vec<String>,
}

impl Operator {
    /// Whoever can read the file of the listener's guard token: everything.
    pub fn local(guard: &Guard) -> Self {
        Self {
            name: "local".to_owned(),
            role: Role::Admin,
            tokens: vec![guard.digest()],
            certificates: Vec::new(),
            certificate_names: Vec::new(),
        }
    }

    fn has_token(&self, digest: &Sha256) -> bool {
        self.tokens.iter().fold(false, |found, token| found | token.ct_eq(digest))
    }

    fn has_certificate(&self, certificate: &PeerCertificate) -> bool {
        self.certificates.iter().any(|digest| digest.ct_eq(&certificate.sha256))
            || certificate.names.iter().any(|name| self.certificate_names.iter().any(|own| is_same_name(own, name)))
    }
}

/// DNS names are compared without regard to letter case (RFC 6125 section 6.4.1), URIs, which have a colon, with.
fn is_same_name(one: &str, other: &str) -> bool {
    if one.contains(':') { one == other } else { one.eq_ignore_ascii_case(other) }
}

/// All operators; may be replaced while requests run.
#[derive(Clone, Debug, Default)]
pub struct Operators(Arc<ArcSwap<Vec<Arc<Operator>>>>);

impl Operators {
    /// Requests that come from now on are judged by these and nobody else.
    pub fn replace(&self, operators: impl IntoIterator<Item = Operator>) {
        self.0.store(Arc::new(operators.into_iter().map(Arc::new).collect()));
    }

    /// Whose request it is.
    pub(crate) fn identify(&self, headers: &HeaderMap, certificate: Option<&PeerCertificate>) -> Option<Arc<Operator>> {
        let all = self.0.load();
        match guard::presented(headers) {
            guard::Presented::Token(digest) => {
                // no early end: which operator it is shall not show in the time
                all.iter().fold(None, |found, one| if one.has_token(&digest) { Some(Arc::clone(one)) } else { found })
            }
            guard::Presented::Nothing => {
                let certificate = certificate?;
                all.iter().find(|one| one.has_certificate(certificate)).cloned()
            }
            guard::Presented::Ambiguous => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn operators() -> Operators {
        let operator = |name: &str, role, token: &str, names: &[&str]| Operator {
            name: name.to_owned(),
            role,
            tokens: vec![Sha256::of(token.as_bytes())],
            certificates: vec![Sha256::of(name.as_bytes())],
            certificate_names: names.iter().map(|&name| name.to_owned()).collect(),
        };
        let all = Operators::default();
        all.replace([
            operator("ann", Role::Admin, "token-a", &["spiffe://corp/ann"]),
            operator("bob", Role::Read, "token-b", &["bob.Example"]),
        ]);
        all
    }

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn certificate(of: &str, names: &[&str]) -> PeerCertificate {
        PeerCertificate {
            sha256: Sha256::of(of.as_bytes()),
            names: names.iter().map(|&name| name.to_owned()).collect(),
            common_name: None,
            subject: "CN=test".into(),
        }
    }

    #[test]
    fn who_it_is() {
        let named = certificate("other", &["spiffe://corp/ann"]);
        let bobs = certificate("bob", &[]);
        let foreign = certificate("eve", &["spiffe://corp/ann/x"]);
        let (same_host, other_case) =
            (certificate("new", &["BOB.example"]), certificate("eve", &["spiffe://corp/Ann"]));
        let longer = certificate("eve", &["a.bob.example", "bob.example.org"]);
        for (lines, certificate, expected) in [
            (vec![("authorization", "Bearer token-a")], None, Some("ann")),
            (vec![("x-keyholder-token", "token-b")], None, Some("bob")),
            (vec![("authorization", "Bearer token-c")], None, None),
            (vec![("authorization", "Basic token-a")], None, None),
            (vec![], Some(&named), Some("ann")),
            (vec![], Some(&bobs), Some("bob")),
            (vec![], Some(&foreign), None),
            (vec![], Some(&same_host), Some("bob")),
            (vec![], Some(&other_case), None),
            (vec![], Some(&longer), None),
            (vec![], None, None),
            // a wrong token is not healed by a right certificate
            (vec![("authorization", "Bearer token-c")], Some(&bobs), None),
            (vec![("authorization", "Bearer token-a"), ("authorization", "Bearer token-a")], None, None),
            (vec![("authorization", "Bearer token-a"), ("x-keyholder-token", "token-a")], None, None),
        ] {
            let found = operators().identify(&headers(&lines), certificate);
            assert_eq!(found.map(|one| one.name.clone()).as_deref(), expected, "{lines:?}");
        }
    }

    #[test]
    fn a_removed_operator_is_nobody_at_once() {
        let (operators, lines) = (operators(), headers(&[("authorization", "Bearer token-a")]));
        assert!(operators.identify(&lines, None).is_some());
        operators.replace([]);
        assert!(operators.identify(&lines, None).is_none());
    }

    #[test]
    fn roles_contain_one_another() {
        assert!(Role::Read < Role::Operate && Role::Operate < Role::Admin);
    }
}
