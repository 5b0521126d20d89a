//! The keys of endpoints at which platforms tell of their tokens.

use super::{Key, Section, Shape, words};

pub(in crate::config) const EVENTS: Section = Section::new(
    "An endpoint at which a platform tells of tokens that it revoked: POST /keyholder/events/NAME at the gateway.",
    &[
        Key::new("issuer", Shape::Name, "The NAME of the [issuer.NAME] that the events are about.").required(),
        Key::new(
            "scope",
            Shape::Word(&words::GRANT),
            "Senders with a token of keyholder's own need this scope. Without it no token is taken.",
        ),
        Key::new(
            "secret",
            Shape::StoreReference,
            "Senders that sign have one of the keys in client_secret of this document. Without it no signature is taken.",
        ),
    ],
)
.any_of(&[&["scope"], &["secret"]]);
