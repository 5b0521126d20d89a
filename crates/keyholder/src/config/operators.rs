//! Reads `[admin]` and the `[operator.NAME]` sections: where the admin API is, and who may use it.
//!
//! Invariant: what proves an operator stands here as a digest or a name, never as a secret.

use std::collections::BTreeMap;

use kh_admin::{Operator, Role};
use kh_core::Sha256;

use super::{
    keys::words,
    model::{AdminConfig, AdminTlsConfig, OperatorConfig},
    reader::Section,
    sections::{ADMIN_PORT, local_listener, loopback},
};

const ROLES: [(&str, Role); 3] = [("read", Role::Read), ("operate", Role::Operate), ("admin", Role::Admin)];

/// `[admin]`.
pub(super) fn admin(root: &Section<'_>) -> AdminConfig {
    let Some(section) = root.section("admin") else {
        return AdminConfig { listen: Some(loopback(ADMIN_PORT)), token_file: None, tls: None };
    };
    let config = AdminConfig {
        listen: local_listener(&section, ADMIN_PORT),
        token_file: section.path("token_file").map(|found| found.value),
        tls: tls(&section),
    };
    section.finish();
    config
}

fn tls(admin: &Section<'_>) -> Option<AdminTlsConfig> {
    let section = admin.section("tls")?;
    section.lacking(&[
        ("listen", "listen = \"0.0.0.0:9443\""),
        ("cert", "give the path of a PEM file"),
        ("key", "give the path of a PEM file"),
    ]);
    let listen = section.address("listen");
    let cert = section.path("cert").map(|found| found.value);
    let key = section.path("key").map(|found| found.value);
    let client_ca = section.path("client_ca").map(|found| found.value);
    section.finish();
    Some(AdminTlsConfig { listen: listen?, cert: cert?, key: key?, client_ca })
}

/// Every operator; a name that is keyholder's own is a mistake, and one that nothing can prove is worth a warning.
pub(super) fn operators(root: &Section<'_>, admin: &AdminConfig) -> BTreeMap<String, OperatorConfig> {
    let certificates = admin.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
    let mut all = BTreeMap::new();
    for (name, section) in root.named_sections("operator") {
        if name.value == LOCAL || name.value.parse::<kh_core::StoreName>().is_err() {
            let hint = "use up to 64 lower-case letters, digits, '-' and '_'; \"local\" is keyholder's own";
            root.error(name.span.clone(), "this is no name for an operator", hint);
        }
        section.lacking(&[("role", "role is one of \"read\", \"operate\", \"admin\"")]);
        let role = section.choice("role", &ROLES).map(|found| found.value);
        let digests = |key| {
            let read = section.words(key, &words::SHA256).unwrap_or_default();
            read.into_iter().map(|found| found.value).collect::<Vec<_>>()
        };
        let (token_sha256, certificate_sha256) = (digests("token_sha256"), digests("certificate_sha256"));
        let names = section.texts("certificate_names").unwrap_or_default();
        let certificate_names: Vec<_> = names.into_iter().map(|found| found.value.to_owned()).collect();
        // one that has a mistake proves something as soon as that is mended
        let placed = ["token_sha256", "certificate_sha256", "certificate_names"]
            .iter()
            .any(|key| section.place(key).is_some() && !matches!(section.texts(key).as_deref(), Some([])));
        let by_certificate = !certificate_sha256.is_empty() || !certificate_names.is_empty();
        if by_certificate && !certificates {
            let hint = "add client_ca to [admin.tls]: the authorities of operators' certificates";
            section.warning(section.span.clone(), "no client certificate is ever asked for", hint);
        } else if token_sha256.is_empty() && !by_certificate && !placed {
            let hint = "make a token with `keyholder operator token`, and write its token_sha256 here";
            section.warning(section.span.clone(), "nothing proves this operator", hint);
        }
        let name = name.value.to_owned();
        section.finish();
        all.extend(
            role.map(|role| (name, OperatorConfig { role, token_sha256, certificate_sha256, certificate_names })),
        );
    }
    all
}

/// Who comes with the guard token of the listener's file.
const LOCAL: &str = "local";

impl OperatorConfig {
    /// As the admin listener knows it.
    pub(crate) fn operator(&self, name: &str) -> Operator {
        let digests = |texts: &[String]| texts.iter().filter_map(|text| Sha256::from_hex(text)).collect();
        Operator {
            name: name.to_owned(),
            role: self.role,
            tokens: digests(&self.token_sha256),
            certificates: digests(&self.certificate_sha256),
            certificate_names: self.certificate_names.clone(),
        }
    }
}
