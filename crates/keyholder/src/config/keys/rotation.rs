//! The keys of rotation: its defaults, and what one credential says of its own.

use super::{Key, Section, Shape, words};

const INTERVAL: Key =
    Key::new("interval", Shape::Duration, "The age at which a secret is replaced.").default(r#""90d""#);
const JITTER: Key = Key::new(
    "jitter",
    Shape::Duration,
    "Starts are spread over this time, the same for one secret after every restart.",
)
.default(r#""3d""#);
const WINDOWS: Key = Key::new(
    "windows",
    Shape::Words(&words::WINDOW),
    "When a new secret may go live and an old one may end; without it always.",
);
const BLACKOUT: Key =
    Key::new("blackout", Shape::Words(&words::BLACKOUT), "Days on which neither happens, both ends with them.");
const ZONE: Key = Key::new("zone", Shape::Word(&words::ZONE), "Time zone of windows and blackout.").default(r#""UTC""#);
const OVERLAP_MIN: Key =
    Key::new("overlap_min", Shape::Duration, "Shortest time in which both secrets work.").default(r#""24h""#);
const OVERLAP_MAX: Key = Key::new(
    "overlap_max",
    Shape::Duration,
    "After this time with both secrets people are told; an old secret never ends by time alone.",
)
.default(r#""7d""#);
const QUIET: Key = Key::new("quiet", Shape::Duration, "How long nobody may have used the old secret before it ends.")
    .default(r#""2h""#);
const WATCH: Key = Key::new(
    "watch",
    Shape::Duration,
    "How long failures are watched for after an old secret was stopped or deleted; without it a token's longest life.",
);
const NOTIFY: Key = Key::new("notify", Shape::Names, "Names of [notify.NAME]: who is told.").default("[]");
const VERIFY: Key = Key::new("verify", Shape::Table(&PROOF), "How a new secret is proved before it goes live.");
const APPROVALS: Key = Key::new("approvals", Shape::Table(&AGREEMENT), "How many people have to agree.");

const PROOF: Section = Section::new(
    "How a new secret is proved before it goes live: by logins with it and a harmless call.",
    &[
        Key::new("successes", Shape::Number(1, 100), "How many in a row.").default("3"),
        Key::new("deadline", Shape::Duration, "Within this time.").default(r#""10m""#),
    ],
);

const AGREEMENT: Section = Section::new(
    "How many people have to agree with `keyholder rotate approve`.",
    &[
        Key::new("start", Shape::Number(1, 16), "To a start; without it nobody."),
        Key::new("prune", Shape::Number(1, 16), "To the end of an old secret without the evidence of every consumer.")
            .default("1"),
        Key::new("revoke", Shape::Number(1, 16), "To a revocation at once; without it the order is enough."),
    ],
);

pub(super) const DEFAULTS: Section = Section::new(
    "What holds for every [credential.NAME.rotation] that does not say otherwise.",
    &[
        Key::new("scheduler", Shape::Flag, "Whether `keyholder serve` rotates by itself.").default("true"),
        Key::new("parallel", Shape::Number(1, 64), "Most runs at a time.").default("4"),
        Key::new(
            "call_max",
            Shape::Duration,
            "How long another keyholder waits after one that was killed; a single call may take half of it. At least 20s, \
             at most an hour.",
        )
        .default(r#""2m""#),
        INTERVAL,
        JITTER,
        WINDOWS,
        BLACKOUT,
        ZONE,
        OVERLAP_MIN,
        OVERLAP_MAX,
        QUIET,
        WATCH,
        NOTIFY,
        VERIFY,
        APPROVALS,
    ],
);

pub(super) const OF_A_CREDENTIAL: Section = Section::new(
    "How the secret of this credential is rotated. Without this section it is not.",
    &[
        Key::new(
            "strategy",
            Shape::Choice(&["auto", "overlap", "pair", "swap"]),
            "How: overlap, pair and swap by what the platform can do; auto takes the first of these that it can.",
        )
        .default(r#""auto""#),
        INTERVAL,
        JITTER,
        WINDOWS,
        BLACKOUT,
        ZONE,
        OVERLAP_MIN,
        OVERLAP_MAX,
        QUIET,
        WATCH,
        NOTIFY,
        VERIFY,
        APPROVALS,
        Key::new(
            "targets",
            Shape::StoreReferences,
            "Places that get the new document beside the credential's own, such as aws:acme/prod.",
        )
        .default("[]"),
        Key::new("hooks", Shape::Names, "Names of [hook.NAME] that are called after the promotion.").default("[]"),
        Key::new(
            "consumers",
            Shape::Tables(&CONSUMER),
            "Who uses the secret beside keyholder itself: each must be seen with the new one before the old one ends.",
        ),
    ],
);

const CONSUMER: Section = Section::new(
    "One that uses the secret.",
    &[
        Key::new("name", Shape::Name, "Its name.").required(),
        Key::new(
            "grade",
            Shape::Choice(&["used", "fetched", "ttl"]),
            "How well it must be known that it has the new secret: it logged in, it fetched it, or its cache ended.",
        )
        .default(r#""used""#),
        Key::new("direct", Shape::Flag, "Whether it reads the store itself instead of asking keyholder.")
            .default("false"),
        Key::new("cache", Shape::Duration, "How long it keeps what it read."),
    ],
);
