//! Reads the `[events.NAME]` sections: endpoints at which platforms tell of their tokens.

use std::collections::BTreeMap;

use super::{
    inbound::check_name,
    issuers::Issuers,
    keys::words,
    model::{EventsConfig, TrustDetail},
    reader::{Section, nearest},
    stores::{self, Stores},
};

/// Reads them all.
pub(super) fn read(root: &Section<'_>, issuers: &Issuers, stores: &Stores) -> BTreeMap<String, EventsConfig> {
    let mut all = BTreeMap::new();
    for (name, section) in root.named_sections("events") {
        check_name(root, &name);
        let events = events(&section, issuers, stores);
        section.finish();
        all.extend(events.map(|events| (name.value.to_owned(), events)));
    }
    all
}

fn events(section: &Section<'_>, issuers: &Issuers, stores: &Stores) -> Option<EventsConfig> {
    section.lacking(&[("issuer", "issuer = \"NAME\" of the [issuer.NAME] whose platform sends")]);
    let issuer = section.text("issuer").and_then(|found| {
        match issuers.get(found.value) {
            Some(Some(issuer)) => match &issuer.detail {
                TrustDetail::Genesys { .. } | TrustDetail::Introspection { .. } => {}
                TrustDetail::Jwks { .. } | TrustDetail::Keyholder {} => section.error(
                    found.span.clone(),
                    format!("[issuer.{}] is not asked for tokens, so there is nothing to ask anew", found.value),
                    "name an issuer of kind \"genesys\" or \"introspection\"",
                ),
            },
            // its own mistakes were told
            Some(None) => {}
            None => {
                let hint = match nearest(found.value, issuers.keys().map(String::as_str)) {
                    Some(similar) => format!("did you mean {similar:?}?"),
                    None => format!("add [issuer.{}]", found.value),
                };
                section.error(found.span.clone(), format!("there is no [issuer.{}]", found.value), hint);
                return None;
            }
        }
        Some(found.value.to_owned())
    });
    let scope = section.word("scope", &words::GRANT);
    let secret = section.text("secret").and_then(|found| stores::reference(section, "secret", &found, stores));
    if section.place("scope").is_none() && section.place("secret").is_none() {
        let hint = "give scope, for senders with a token of keyholder's, or secret, for senders that sign";
        section.error(section.span.clone(), "nobody can send to this endpoint", hint);
    }
    Some(EventsConfig { issuer: issuer?, scope, secret })
}
