//! The keys of `[security]`.

use super::{Key, Section, Shape, words};

/// `[security]`
pub(super) const SECURITY: Section = Section::new(
    "Who tried to authenticate, and who has to wait. Without this section there is no security log and no guard.",
    &[
        Key::new("log", Shape::Text, "Where its lines go: the path of a file, \"stdout\", or \"off\".")
            .default(r#""security.log""#),
        Key::new(
            "successes",
            Shape::Choice(&["none", "first_per_country", "all"]),
            "Which successes are written beside the failures.",
        )
        .default(r#""none""#),
        Key::new("geoip", Shape::Table(&GEOIP), "Where addresses are."),
        Key::new("collector", Shape::Table(&COLLECTOR), "Sends the lines to an HTTPS collector."),
        Key::new("guard", Shape::Table(&GUARD), "Makes callers wait whose credentials keep failing."),
        Key::new("alerts", Shape::Table(&ALERTS), "What is told to people."),
    ],
);

const GEOIP: Section = Section::new(
    "Databases in MaxMind's format; a changed file is taken over within a minute.",
    &[
        Key::new("country", Shape::Path, "A country database, such as GeoLite2-Country.mmdb."),
        Key::new("city", Shape::Path, "A city database, such as GeoLite2-City.mmdb; it knows the country too."),
        Key::new("asn", Shape::Path, "A database of autonomous systems, such as GeoLite2-ASN.mmdb."),
    ],
)
.any_of(&[&["country"], &["city"], &["asn"]]);

const COLLECTOR: Section = Section::new(
    "Sends each line to a collector, with tries and a spool on disk, and makes no request wait.",
    &[
        Key::new("url", Shape::Url, "Where newline-delimited JSON is posted to.").required(),
        Key::new("token_secret", Shape::StoreReference, "The secret store's document with the bearer token."),
        Key::new("token_file", Shape::Path, "A file of mode 0600 with the bearer token."),
        Key::new("gzip", Shape::Flag, "Whether bodies are compressed.").default("true"),
        Key::new("spool", Shape::Path, "The folder in which lines wait for a collector that is away.")
            .default(r#""security-spool""#),
        Key::new("spool_mib", Shape::Number(8, 65_536), "The most that waits there, in MiB; then the oldest go.")
            .default("256"),
        Key::new("delay", Shape::Duration, "Longest wait until a line is sent.").default(r#""1s""#),
        Key::new("retry_max", Shape::Duration, "Longest pause between two tries.").default(r#""5m""#),
        Key::new("extra_ca", Shape::Path, "PEM file of a private CA of the collector."),
    ],
)
.at_most_one(&["token_secret", "token_file"]);

const GUARD: Section = Section::new(
    "The brute-force guard: whose credentials keep failing gets 429 with Retry-After.",
    &[
        Key::new("enabled", Shape::Flag, "Whether anybody has to wait.").default("true"),
        Key::new(
            "address_failures",
            Shape::Number(1, 1_000_000),
            "Failures of an address (IPv6: a /64) in the window.",
        )
        .default("100"),
        Key::new(
            "client_failures",
            Shape::Number(1, 1_000_000),
            "Failures of a client, and of a client at one address, in the window.",
        )
        .default("20"),
        Key::new("window", Shape::Duration, "After this long without a failure nothing is left of a count.")
            .default(r#""10m""#),
        Key::new("wait", Shape::Duration, "The first wait; each further one is twice as long.").default(r#""5s""#),
        Key::new("wait_max", Shape::Duration, "The longest wait.").default(r#""15m""#),
        Key::new("exempt", Shape::Words(&words::NETWORK), "Addresses and networks that are never counted.")
            .default("[]"),
    ],
);

const ALERTS: Section = Section::new(
    "Findings about successes, which stand in the log and go to every [notify.NAME].",
    &[
        Key::new(
            "impossible_travel",
            Shape::Flag,
            "Whether it is told that a subject was in two places too far apart.",
        )
        .default("true"),
        Key::new(
            "new_country",
            Shape::Flag,
            "Whether it is told that a subject came from a country for the first time.",
        )
        .default("true"),
        Key::new("speed", Shape::Number(100, 100_000), "Faster than this is impossible, in km/h.").default("1000"),
        Key::new("distance", Shape::Number(1, 20_000), "Nearer than this is never looked at, in km.").default("500"),
        Key::new("country_memory", Shape::Duration, "A country is new again after this long.").default(r#""90d""#),
        Key::new("subjects", Shape::Number(100, 1_000_000), "Subjects that are remembered, some 300 bytes each.")
            .default("20000"),
        Key::new(
            "exempt_asns",
            Shape::Words(&words::ASN),
            "Autonomous systems whose addresses say nothing about a place: VPNs, mobile gateways, clouds.",
        )
        .default("[]"),
        Key::new(
            "exempt_networks",
            Shape::Words(&words::NETWORK),
            "Addresses and networks that say nothing about a place.",
        )
        .default("[]"),
        Key::new("exempt_subjects", Shape::Texts, "Subjects that are everywhere at once.").default("[]"),
    ],
);
