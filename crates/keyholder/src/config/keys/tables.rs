//! The tables of keys. One line for a key that is added to the reader: its name, its form, its meaning.

use super::{Key, Section, Shape, Top, deliver, events, inbound, rotation, security, sessions, stores, words};

/// Everything at the top of the file, in the order in which people read it.
pub(in crate::config) const SECTIONS: &[(&str, Top)] = &[
    ("gateway", Top::One(&GATEWAY)),
    ("admin", Top::One(&ADMIN)),
    ("operator", Top::Named("Somebody who may use the admin API.", &[("operator", &OPERATOR)])),
    ("broker", Top::One(&BROKER)),
    ("token_endpoint", Top::One(&TOKEN_ENDPOINT)),
    (
        "issuer",
        Top::Named(
            "An issuer whose tokens protected APIs take.",
            &[
                ("jwks", &inbound::JWKS),
                ("introspection", &inbound::INTROSPECTION),
                ("genesys", &inbound::GENESYS),
                ("keyholder", &inbound::KEYHOLDER),
            ],
        ),
    ),
    ("inbound", Top::Named("An API of your own that keyholder stands in front of.", &[("inbound", &inbound::INBOUND)])),
    ("events", Top::Named("Where a platform tells of tokens that it revoked.", &[("events", &events::EVENTS)])),
    ("state", Top::One(&STATE)),
    ("store", Top::One(&STORE)),
    ("audit", Top::One(&AUDIT)),
    ("log", Top::One(&LOG)),
    ("security", Top::One(&security::SECURITY)),
    ("network", Top::One(&NETWORK)),
    ("telemetry", Top::One(&TELEMETRY)),
    (
        "platform",
        Top::Named("One organisation in one region.", &[("genesys", &GENESYS), ("cxone", &CXONE), ("oauth2", &OAUTH2)]),
    ),
    ("credential", Top::Named("What keyholder logs in with at a platform.", &[("credential", &CREDENTIAL)])),
    (
        "secret_store",
        Top::Named(
            "A secret store outside keyholder: the embedded one is always there.",
            &[("vault", &stores::VAULT), ("aws", &stores::AWS), ("azure", &stores::AZURE), ("google", &stores::GOOGLE)],
        ),
    ),
    ("rotation", Top::One(&rotation::DEFAULTS)),
    ("hook", Top::Named("Makes consumers take a new secret.", deliver::HOOKS)),
    ("notify", Top::Named("Tells people about rotations.", deliver::NOTIFIERS)),
];

const GATEWAY: Section = Section::new(
    "Where applications point their official SDK.",
    &[
        Key::new(
            "listen",
            Shape::Listens,
            "Where http is spoken: addresses with a port, and unix:PATH; with `tls` and no `tls.listen`, https.",
        )
        .default(r#"["127.0.0.1:8080"]"#),
        Key::new("socket_mode", Shape::Mode, "Permissions of the unix sockets: who may write to one may connect.")
            .default(r#""0660""#),
        Key::new(
            "public_url",
            Shape::Url,
            "Scheme and host under which applications reach the gateway, where something before it ends their TLS.",
        ),
        inbound::TRUSTED_PROXIES,
        inbound::CLIENT_ADDRESS,
        inbound::PROXY_PROTOCOL,
        Key::new("workers", Shape::Number(1, 512), "Threads of the data plane; without it one per core."),
        Key::new("tls", Shape::Table(&TLS), "https for the gateway."),
        Key::new("limits", Shape::Table(&LIMITS), "What one connection or request may use."),
    ],
)
.beside(&[("trusted_proxies", "client_address"), ("client_address", "trusted_proxies")]);

const TOKEN_ENDPOINT: Section = Section::new(
    "keyholder as an authorization server for callers of your own API.",
    &[
        Key::new(
            "issuer",
            Shape::Word(&words::ISSUER),
            "Its name: `iss` of the JWTs that it signs, and where their verifiers find its metadata and keys. Without it all tokens are opaque.",
        ),
        Key::new(
            "signing_algorithm",
            Shape::Choice(&["ES256", "RS256", "EdDSA"]),
            "The algorithm of the next signing key.",
        )
        .default(r#""ES256""#),
        Key::new("key_interval", Shape::Duration, "For how long one key signs.").default(r#""30d""#),
        Key::new(
            "dpop_nonce",
            Shape::Flag,
            "Whether a DPoP proof must repeat a nonce of keyholder's: at a login, and on a call to a platform.",
        )
        .default("false"),
    ],
);

pub(in crate::config) const TLS: Section = Section::new(
    "https for the gateway.",
    &[
        Key::new(
            "listen",
            Shape::Listens,
            "Where https is spoken beside the http ones; without it the addresses of [gateway] speak https.",
        ),
        Key::new("cert", Shape::Path, "Certificate chain in PEM, leaf first.").required(),
        Key::new("key", Shape::Path, "Private key in PEM.").required(),
        inbound::CLIENT_CA,
        inbound::CLIENT_AUTH,
        inbound::CLIENT_NAMES,
    ],
)
.beside(&inbound::CLIENTS_BESIDE);

const LIMITS: Section = Section::new(
    "What one connection or request may use.",
    &[
        Key::new("connections_per_worker", Shape::Number(1, 1_000_000), "Open connections at once, per worker.")
            .default("10000"),
        Key::new(
            "header_timeout",
            Shape::Duration,
            "How long a request's headers may take, also the next one's on an open connection.",
        )
        .default(r#""75s""#),
        Key::new(
            "body_timeout",
            Shape::Duration,
            "How long a body may stand still, and a caller may take nothing of its answer.",
        )
        .default(r#""60s""#),
        Key::new("upstream_timeout", Shape::Duration, "How long the platform may take to begin its answer.")
            .default(r#""2m""#),
        Key::new(
            "drain_delay",
            Shape::Duration,
            "How long new calls are still taken after a stop signal, while /readyz is 503 already; none unless given.",
        ),
        Key::new("drain", Shape::Duration, "How long requests in flight may take after a stop signal.")
            .default(r#""20s""#),
    ],
);

const ADMIN: Section = Section::new(
    "Liveness, readiness, metrics, status and the admin API: on loopback, and over https anywhere.",
    &[
        Key::new("listen", Shape::ListenOrOff, "Its loopback address, or \"off\".").default(r#""127.0.0.1:8081""#),
        Key::new("token_file", Shape::Path, "File with its guard token, made at the first start.")
            .default(r#""admin.token""#),
        Key::new("tls", Shape::Table(&ADMIN_TLS), "The same over https, for operators elsewhere."),
    ],
);

const ADMIN_TLS: Section = Section::new(
    "The admin listener over https, for operators elsewhere.",
    &[
        Key::new("listen", Shape::Listen, "Its address.").required(),
        Key::new("cert", Shape::Path, "Certificate chain in PEM, leaf first.").required(),
        Key::new("key", Shape::Path, "Private key in PEM.").required(),
        Key::new(
            "client_ca",
            Shape::Path,
            "Authorities of operators' client certificates, in PEM; without it no certificate is asked for.",
        ),
    ],
);

const OPERATOR: Section = Section::new(
    "Somebody who may use the admin API, known by a token or by a client certificate.",
    &[
        Key::new(
            "role",
            Shape::Choice(&["read", "operate", "admin"]),
            "What it may do; each role may do all that the ones before it may.",
        )
        .required(),
        Key::new(
            "token_sha256",
            Shape::Words(&words::SHA256),
            "SHA-256 of its tokens, in hex; `keyholder operator token` makes one.",
        )
        .default("[]"),
        Key::new(
            "certificate_sha256",
            Shape::Words(&words::SHA256),
            "SHA-256 of its client certificates (DER), in hex.",
        )
        .default("[]"),
        Key::new(
            "certificate_names",
            Shape::Texts,
            "DNS names and URIs of which its client certificate has one as subject alternative name.",
        )
        .default("[]"),
    ],
);

const BROKER: Section = Section::new(
    "Tokens for local callers, on loopback and on a unix socket.",
    &[
        Key::new("listen", Shape::ListenOrOff, "Its loopback address, or \"off\".").default(r#""127.0.0.1:8082""#),
        Key::new(
            "socket",
            Shape::Path,
            "A unix socket beside the address: whose user is admitted needs no guard token.",
        ),
        Key::new(
            "allow_uids",
            Shape::Numbers(0, 4_294_967_294),
            "Users, by number, whom the socket admits beside keyholder's own.",
        )
        .default("[]"),
        Key::new("token_file", Shape::Path, "File with its guard token, made at the first start.")
            .default(r#""broker.token""#),
    ],
);

const STATE: Section = Section::new(
    "Where clients, issued tokens and the secret store are kept.",
    &[Key::new("dir", Shape::Path, "The state folder; without it the user's XDG state folder.")],
);

const STORE: Section = Section::new(
    "What opens the secret store; without any, store.key in the state folder, made at the first start.",
    &[
        Key::new("key_file", Shape::Path, "A file with the store's key: 32 bytes."),
        Key::new(
            "key_credential",
            Shape::FileName,
            "A file with the key in the folder that CREDENTIALS_DIRECTORY names (systemd, a mounted Secret).",
        ),
        Key::new("key_env", Shape::Variable, "An environment variable with the store's key in base64 or hex."),
        Key::new("passphrase_file", Shape::Path, "A file with the store's passphrase."),
        Key::new("passphrase_env", Shape::Variable, "An environment variable with the store's passphrase."),
    ],
)
.at_most_one(&["key_file", "key_credential", "key_env", "passphrase_file", "passphrase_env"]);

const AUDIT: Section = Section::new(
    "The hash-chained log of every change by a person.",
    &[
        Key::new("path", Shape::Path, "The log.").default(r#""audit.log""#),
        Key::new("checkpoints", Shape::Path, "Its signed checkpoints: best where whoever writes the log cannot write.")
            .default(r#""audit.checkpoints""#),
    ],
);

const LOG: Section = Section::new(
    "What keyholder tells about itself while it runs.",
    &[
        Key::new("level", Shape::Text, "info, debug, or a filter such as info,kh_broker=debug.").default(r#""info""#),
        Key::new("format", Shape::Choice(&["human", "json"]), "The form of log lines.").default(r#""human""#),
        Key::new(
            "file",
            Shape::Path,
            "File for the log of serve instead of standard error; SIGHUP opens it again, for rotation.",
        ),
        Key::new(
            "access",
            Shape::Text,
            "One line per request to the gateway: \"off\", \"stdout\", or the path of a file.",
        )
        .default(r#""off""#),
        Key::new("access_format", Shape::Choice(&["json", "text"]), "The form of the access log's lines.")
            .default(r#""json""#),
    ],
);

const TELEMETRY: Section = Section::new(
    "Traces and metrics for an OpenTelemetry collector; /metrics is there without it.",
    &[
        Key::new(
            "otlp_endpoint",
            Shape::HttpUrl,
            "Base of the collector (OTLP over http with protobuf), such as http://127.0.0.1:4318.",
        ),
        Key::new("traces", Shape::Flag, "Whether spans are sent.").default("true"),
        Key::new("metrics", Shape::Flag, "Whether metrics are sent.").default("true"),
        Key::new(
            "sample_ratio",
            Shape::Share,
            "Share of the traces that begin at keyholder; a caller's own decision stands.",
        )
        .default("1.0"),
        Key::new("metrics_interval", Shape::Duration, "Time between two exports of the metrics.").default(r#""60s""#),
        Key::new(
            "headers_file",
            Shape::Path,
            "File with headers for the collector, name=value on each line; their values are secret.",
        ),
        Key::new("extra_ca", Shape::Path, "PEM file of a private CA of the collector."),
    ],
);

const NETWORK: Section = Section::new(
    "How connections to platforms leave this machine, unless a platform says otherwise.",
    &[PROXY.default(r#""none""#), PROXY_AUTH_FILE, NO_PROXY, SOURCE_ADDRESS],
)
.beside(WITH_A_PROXY);

const PROXY: Key = Key::new(
    "proxy",
    Shape::Proxy,
    "The HTTP proxy for https: its address, \"environment\" for HTTPS_PROXY and NO_PROXY, or \"none\".",
);
const PROXY_AUTH_FILE: Key =
    Key::new("proxy_auth_file", Shape::Path, "File of mode 0600 with user:password for the proxy of this section.");
const NO_PROXY: Key = Key::new(
    "no_proxy",
    Shape::Texts,
    "What is reached without the proxy of this section: names with their subdomains, addresses, networks, \"*\".",
);
const SOURCE_ADDRESS: Key = Key::new(
    "source_address",
    Shape::Sources,
    "The addresses of this machine that connections leave from, at most one of each family.",
);
const EXTRA_CA: Key =
    Key::new("extra_ca", Shape::Path, "PEM file of a private CA to trust for this platform beside the system's.");
const CLIENT_CERT: Key =
    Key::new("client_cert", Shape::Path, "PEM file of the certificate chain that keyholder shows to the platform.");
const CLIENT_KEY: Key = Key::new("client_key", Shape::Path, "PEM file of the private key of client_cert, mode 0600.");

const ROTATOR: Key = Key::new(
    "rotator",
    Shape::Credential,
    "The NAME of the [credential.NAME] of this platform that makes and deletes secrets in a rotation.",
);
const ROTATOR_SECOND: Key = Key::new(
    "rotator_second",
    Shape::Credential,
    "A second one: it rotates the first, and steps in when the answer to a regeneration was lost.",
);

/// Keys of a platform that go together.
const PAIRS: &[(&str, &str)] = &[
    ("rotator_second", "rotator"),
    ("client_cert", "client_key"),
    ("client_key", "client_cert"),
    ("proxy_auth_file", "proxy"),
    ("no_proxy", "proxy"),
];
const WITH_A_PROXY: &[(&str, &str)] = &[("proxy_auth_file", "proxy"), ("no_proxy", "proxy")];

const AUTH_METHODS: Shape = Shape::Choice(&["basic", "post", "client_secret_basic", "client_secret_post"]);

const GENESYS: Section = Section::new(
    "Genesys Cloud CX. Its tokens have the permissions of the client's roles: there are no scopes to ask for.",
    &[
        Key::new("kind", Shape::Choice(&["genesys"]), "What the platform is.").required(),
        Key::new("region", Shape::Region, "The region of the organisation."),
        Key::new(
            "login_url",
            Shape::Url,
            "Base of logins, instead of the region's: a gateway in between, or a sandbox.",
        ),
        Key::new("api_url", Shape::Url, "Base of API calls, instead of the region's."),
        Key::new(
            "secrets_api",
            Shape::Flag,
            "Whether clients have several secrets with ids. Genesys Cloud has no such API; a gateway or sandbox may.",
        )
        .default("false"),
        EXTRA_CA,
        CLIENT_CERT,
        CLIENT_KEY,
        PROXY,
        PROXY_AUTH_FILE,
        NO_PROXY,
        SOURCE_ADDRESS,
        ROTATOR,
        ROTATOR_SECOND,
    ],
)
.any_of(&[&["region"], &["login_url", "api_url"]])
.beside(PAIRS);

const CXONE: Section = Section::new(
    "NICE CXone. Its tokens have the permissions of the access key's user: there are no scopes to ask for.",
    &[
        Key::new("kind", Shape::Choice(&["cxone"]), "What the platform is.").required(),
        Key::new(
            "issuer",
            Shape::Url,
            "The global issuer, https://cxone.niceincontact.com: needs application and access key.",
        ),
        Key::new("area", Shape::Area, "The area, such as na1: the regional login, which needs the access key alone."),
        Key::new("auth_base", Shape::Url, "The regional login host, where it is not the area's; needs api_url."),
        Key::new("api_url", Shape::Url, "Base of API calls of a regional login."),
        Key::new("allowed_origins", Shape::Urls, "Origins that discovery may name beside NICE's own domains."),
        Key::new("auth_method", AUTH_METHODS, "How the application was registered.").default(r#""basic""#),
        EXTRA_CA,
        CLIENT_CERT,
        CLIENT_KEY,
        PROXY,
        PROXY_AUTH_FILE,
        NO_PROXY,
        SOURCE_ADDRESS,
        ROTATOR,
        ROTATOR_SECOND,
    ],
)
.at_most_one(&["issuer", "area", "auth_base"])
.any_of(&[&["issuer"], &["area"], &["auth_base", "api_url"]])
.beside(PAIRS);

const OAUTH2: Section = Section::new(
    "Any issuer of RFC 6749.",
    &[
        Key::new("kind", Shape::Choice(&["oauth2"]), "What the platform is.").required(),
        Key::new("issuer", Shape::Url, "The issuer, whose RFC 8414 metadata names the token endpoint."),
        Key::new("token_url", Shape::Url, "The token endpoint itself."),
        Key::new("api_url", Shape::Url, "Base of API calls.").required(),
        Key::new("scopes", Shape::Texts, "Scopes to ask for.").default("[]"),
        Key::new("audience", Shape::Text, "The audience to ask for."),
        Key::new("auth_method", AUTH_METHODS, "How the client authenticates; without it what the metadata offers."),
        Key::new("assumed_lifetime", Shape::Duration, "Life of a token whose answer does not tell it."),
        Key::new(
            "own_clients",
            Shape::Flag,
            "Whether the token endpoint is this keyholder's own: its credentials are clients of `keyholder client`.",
        )
        .default("false"),
        EXTRA_CA,
        CLIENT_CERT,
        CLIENT_KEY,
        PROXY,
        PROXY_AUTH_FILE,
        NO_PROXY,
        SOURCE_ADDRESS,
        ROTATOR,
        ROTATOR_SECOND,
    ],
)
.at_most_one(&["issuer", "token_url"])
.any_of(&[&["issuer"], &["token_url"]])
.beside(PAIRS);

const CREDENTIAL: Section = Section::new(
    "What keyholder logs in with at a platform.",
    &[
        Key::new("platform", Shape::Name, "The NAME of a [platform.NAME].").required(),
        Key::new(
            "secret",
            Shape::StoreReference,
            "Its document: store:NAME in the embedded store, or NAME:PATH in a [secret_store.NAME]. Never the secret itself.",
        )
        .required(),
        Key::new(
            "environment",
            Shape::Environment,
            "The environment, such as production, which then has to be asked for by that name.",
        ),
        Key::new(
            "early_refresh",
            Shape::Duration,
            "How long before its expiry a token is renewed, at most a fifth of its life.",
        )
        .default(r#""5m""#),
        Key::new(
            "idle_timeout",
            Shape::Duration,
            "The organisation's inactivity timeout for tokens, if it has one (HIPAA: at most 15m).",
        ),
        Key::new("rotation", Shape::Table(&rotation::OF_A_CREDENTIAL), "How its secret is rotated."),
        Key::new("sessions", Shape::Table(&sessions::OF_A_CREDENTIAL), "Users log in with it."),
    ],
);
