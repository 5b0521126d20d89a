//! The keys of `[credential.NAME.sessions]`.

use super::{Key, Section, Shape};

pub(super) const OF_A_CREDENTIAL: Section = Section::new(
    "Users log in with this credential, each with a session of their own: it has no token that all share.",
    &[
        Key::new("life", Shape::Duration, "How long a session lives at most; it ends with its access token as well.")
            .default(r#""30d""#),
        Key::new("idle_life", Shape::Duration, "How long a session may go unused.").default(r#""7d""#),
        Key::new("per_client", Shape::Number(1, 10_000), "How many sessions a client may have at once.")
            .default("10000"),
        Key::new(
            "retry_lost_answer",
            Shape::Flag,
            "Whether a refresh token is sent once more when the platform's answer to it was lost. A platform that takes each one once may end the session then; without the second try it ends with its access token.",
        )
        .default("true"),
    ],
);
