//! The keys of protected APIs and of the issuers whose tokens they take.

use kh_policy::genesys::Basis;

use super::{Key, Section, Shape, words};

const IN_NO_CASE: &str = "The values of `iss` that its tokens have, compared letter by letter.";

const AUDIENCES: Key = Key::new(
    "audiences",
    Shape::Texts,
    "A token must name one of these in `aud`. Without any, tokens that were made for other APIs are taken as well.",
)
.default("[]");
const LEEWAY: Key = Key::new("leeway", Shape::Duration, "How far its clock and keyholder's may differ, at most 5m.")
    .default(r#""30s""#);
const PRIVATE_NETWORK: Key = Key::new(
    "private_network",
    Shape::Flag,
    "Whether it may have an address that is not of the public internet: your own network, this machine.",
)
.default("false");
const EXTRA_CA: Key =
    Key::new("extra_ca", Shape::Path, "PEM file of a private CA to trust for this issuer beside the system's.");
const UNTOLD_LIFE: Key = Key::new(
    "max_life",
    Shape::Duration,
    "The longest that its tokens live, if you know it: for so long and a day a client's new tokens are refused after the \
     client was revoked, where they tell no times. Without it, for as long as that is remembered. One with longer to live \
     is refused.",
);
const MAX_AGE: Key = Key::new(
    "max_age",
    Shape::Duration,
    "How long its answer is believed at most, which is how long a revocation there may take to work.",
)
.default(r#""1m""#);
const DISCOVER: Key = Key::new(
    "discover",
    Shape::Url,
    "The issuer whose metadata (RFC 8414, OpenID Connect Discovery) names the address. It must name this very issuer.",
);

pub(in crate::config) const JWKS: Section = Section::new(
    "An issuer of JWTs, known by its public keys.",
    &[
        Key::new("kind", Shape::Choice(&["jwks"]), "How its tokens are verified.").required(),
        Key::new("iss", Shape::Texts, IN_NO_CASE).required(),
        Key::new("jwks_file", Shape::Path, "File with its keys, a JWK Set; looked at every 2s."),
        Key::new("jwks_url", Shape::Word(&words::DOCUMENT_URL), "Address of its keys."),
        DISCOVER,
        AUDIENCES,
        Key::new(
            "algorithms",
            Shape::Words(&words::ALGORITHM),
            "Algorithms that are taken. The key decides as well; without any, all whose key is public.",
        ),
        Key::new(
            "typ",
            Shape::Choice(&["jwt", "at+jwt"]),
            "at+jwt takes access tokens of RFC 9068 alone, with every claim that it wants.",
        )
        .default(r#""jwt""#),
        Key::new("max_token_age", Shape::Duration, "How long ago a token may have been issued; it then needs `iat`."),
        Key::new(
            "max_life",
            Shape::Duration,
            "A token with longer to live is refused: it could outlive its revocation.",
        )
        .default(r#""31d""#),
        LEEWAY,
        PRIVATE_NETWORK,
        EXTRA_CA,
    ],
)
.at_most_one(&["jwks_file", "jwks_url", "discover"])
.any_of(&[&["jwks_file"], &["jwks_url"], &["discover"]]);

pub(in crate::config) const INTROSPECTION: Section = Section::new(
    "An issuer that is asked for each token (RFC 7662).",
    &[
        Key::new("kind", Shape::Choice(&["introspection"]), "How its tokens are verified.").required(),
        Key::new(
            "iss",
            Shape::Texts,
            "The values of `iss` that its answers may have; an answer without one counts as the first.",
        )
        .required(),
        Key::new("introspection_url", Shape::Word(&words::DOCUMENT_URL), "Address of the endpoint."),
        DISCOVER,
        Key::new(
            "secret",
            Shape::StoreReference,
            "keyholder's own credential there, a document with client_id and client_secret. Never the secret itself.",
        )
        .required(),
        Key::new(
            "auth_method",
            Shape::Choice(&["basic", "post", "client_secret_basic", "client_secret_post"]),
            "How keyholder authenticates.",
        )
        .default(r#""basic""#),
        Key::new(
            "token_prefix",
            Shape::Word(&words::TOKEN_PREFIX),
            "How its opaque tokens begin; without it, every opaque token that is no other issuer's.",
        ),
        AUDIENCES,
        MAX_AGE,
        UNTOLD_LIFE,
        LEEWAY,
        PRIVATE_NETWORK,
        EXTRA_CA,
    ],
)
.at_most_one(&["introspection_url", "discover"])
.any_of(&[&["introspection_url"], &["discover"]]);

pub(in crate::config) const GENESYS: Section = Section::new(
    "An organisation of Genesys Cloud, whose opaque tokens are asked for at the platform.",
    &[
        Key::new("kind", Shape::Choice(&["genesys"]), "How its tokens are verified.").required(),
        Key::new("platform", Shape::Name, "The NAME of a [platform.NAME] of kind genesys.").required(),
        Key::new(
            "organization",
            Shape::Word(&words::UUID),
            "The id of the organisation: tokens of every other one are refused.",
        )
        .required(),
        Key::new(
            "credential",
            Shape::Credential,
            "The NAME of the [credential.NAME] that reads roles: its client needs authorization:role:view.",
        )
        .required(),
        MAX_AGE,
        UNTOLD_LIFE,
    ],
);

pub(in crate::config) const KEYHOLDER: Section = Section::new(
    "This keyholder itself: its opaque tokens, and its JWTs where [token_endpoint] has an issuer.",
    &[Key::new("kind", Shape::Choice(&["keyholder"]), "How its tokens are verified.").required(), AUDIENCES],
);

pub(in crate::config) const INBOUND: Section = Section::new(
    "An API of your own that keyholder stands in front of.",
    &[
        Key::new("listen", Shape::Listens, "Where callers connect: addresses with a port, and unix:PATH.").required(),
        Key::new("upstream", Shape::HttpUrl, "The API's base address.").required(),
        Key::new("issuers", Shape::Names, "The NAMEs of the [issuer.NAME] whose tokens are taken.").required(),
        Key::new(
            "audiences",
            Shape::Texts,
            "A token must name one of these in `aud` here, beside what its issuer's section wants.",
        )
        .default("[]"),
        Key::new(
            "operations",
            Shape::Choice(&[Basis::Permissions.as_str(), Basis::Scopes.as_str(), Basis::Both.as_str()]),
            "The built-in operations of Genesys Cloud are routes, each with what it needs by permissions, scopes or both.",
        ),
        Key::new("pass_authorization", Shape::Flag, "Whether the API gets the caller's token.").default("false"),
        Key::new("preserve_host", Shape::Flag, "Whether the API gets the caller's Host instead of its own.")
            .default("false"),
        TRUSTED_PROXIES,
        CLIENT_ADDRESS,
        PROXY_PROTOCOL,
        Key::new("extra_ca", Shape::Path, "PEM file of a private CA to trust for the API beside the system's."),
        Key::new("client_cert", Shape::Path, "PEM file of the certificate chain that keyholder shows to the API."),
        Key::new("client_key", Shape::Path, "PEM file of the private key of client_cert, mode 0600."),
        BINDING,
        Key::new(
            "dpop_nonce",
            Shape::Flag,
            "Whether a DPoP proof has to repeat a nonce that was given out here in the last two minutes.",
        )
        .default("false"),
        Key::new(
            "addresses",
            Shape::Words(&words::ORIGIN),
            "The addresses by which callers reach the API: a DPoP proof for any other is refused. Without any, the one of each request.",
        )
        .default("[]"),
        Key::new("tls", Shape::Table(&TLS), "https for callers."),
        Key::new("identity_header", Shape::Tables(&IDENTITY_HEADER), "What the API is told of the caller."),
        Key::new("route", Shape::Tables(&ROUTE), "Which requests are taken, and what they need."),
    ],
)
.beside(&[
    ("trusted_proxies", "client_address"),
    ("client_address", "trusted_proxies"),
    ("client_cert", "client_key"),
    ("client_key", "client_cert"),
]);

pub(in crate::config) const TLS: Section = Section::new(
    "https for callers of a protected API.",
    &[
        Key::new("cert", Shape::Path, "Certificate chain in PEM, leaf first.").required(),
        Key::new("key", Shape::Path, "Private key in PEM.").required(),
        CLIENT_CA,
        CLIENT_AUTH,
        CLIENT_NAMES,
    ],
)
.beside(&CLIENTS_BESIDE);

pub(super) const CLIENT_CA: Key = Key::new(
    "client_ca",
    Shape::Path,
    "The only authorities of callers' certificates, in PEM; without it none is asked for. A token is needed all the same.",
);

pub(super) const CLIENT_AUTH: Key = Key::new(
    "client_auth",
    Shape::Choice(&["optional", "required"]),
    "Whether there is a connection without a client certificate.",
)
.default(r#""optional""#);

pub(super) const CLIENT_NAMES: Key = Key::new(
    "client_names",
    Shape::Texts,
    "A client certificate must have one of these names. Needed where the authority issues to others as well.",
)
.default("[]");

/// What says how client certificates are taken needs somebody whose certificates are.
pub(super) const CLIENTS_BESIDE: [(&str, &str); 2] = [("client_auth", "client_ca"), ("client_names", "client_ca")];

const BINDING: Key = Key::new(
    "binding",
    Shape::Choice(&["optional", "required"]),
    "required takes only tokens that are bound to their sender, by certificate (RFC 8705) or DPoP key (RFC 9449).",
)
.default(r#""optional""#);

pub(in crate::config) const IDENTITY_HEADER: Section = Section::new(
    "A header that tells the API who calls. What callers write into it is removed.",
    &[
        Key::new("name", Shape::Word(&words::HEADER), "Its name.").required(),
        Key::new(
            "field",
            Shape::Choice(&["subject", "client", "issuer", "token_id", "scopes", "permissions"]),
            "What it tells.",
        ),
        Key::new("claim", Shape::Word(&words::CLAIM), "The claim that it tells: its name, or a JSON pointer."),
    ],
)
.at_most_one(&["field", "claim"])
.any_of(&[&["field"], &["claim"]]);

pub(in crate::config) const ROUTE: Section = Section::new(
    "Requests that are taken, and what they need.",
    &[
        Key::new(
            "match",
            Shape::Words(&words::REQUEST),
            "METHOD /path, one or several; {id} is one segment, ** at the end any further ones.",
        )
        .required(),
        Key::new("name", Shape::Word(&words::ROUTE_NAME), "Its name in metrics and in the log."),
        Key::new("hosts", Shape::Words(&words::HOST), "Hosts that it is for; without any, every one.").default("[]"),
        Key::new("issuers", Shape::Names, "Issuers whose tokens it takes; without any, all of the API's.")
            .default("[]"),
        Key::new("public", Shape::Flag, "true takes requests without a token."),
        Key::new("any_token", Shape::Flag, "true takes every verified token."),
        Key::new("scopes", Shape::Words(&words::GRANT), "Scopes that a token needs, all of them."),
        Key::new("any_scope", Shape::Words(&words::GRANT), "Scopes of which a token needs one."),
        Key::new("permissions", Shape::Words(&words::GRANT), "Permissions that a token needs, all of them."),
        Key::new("any_permission", Shape::Words(&words::GRANT), "Permissions of which a token needs one."),
        Key::new(
            "allow_basic",
            Shape::Flag,
            "Whether Basic credentials pass to the API unverified, which then has to look at them itself.",
        )
        .default("false"),
        BINDING,
        Key::new("condition", Shape::Tables(&CONDITION), "What claims must be, all of it."),
    ],
)
.any_of(&[&["any_token"], &["public"], &["scopes"], &["any_scope"], &["permissions"], &["any_permission"]])
.apart(&[
    ("public", "any_token"),
    ("public", "scopes"),
    ("public", "any_scope"),
    ("public", "permissions"),
    ("public", "any_permission"),
    ("public", "allow_basic"),
    ("public", "binding"),
    ("binding", "allow_basic"),
    ("public", "condition"),
    ("any_token", "scopes"),
    ("any_token", "any_scope"),
    ("any_token", "permissions"),
    ("any_token", "any_permission"),
]);

pub(in crate::config) const CONDITION: Section = Section::new(
    "A condition on one claim. Types are not converted: \"1\" is not 1.",
    &[
        Key::new("claim", Shape::Word(&words::CLAIM), "The claim: its name, or a JSON pointer.").required(),
        Key::new("equals", Shape::Scalar, "It is this."),
        Key::new("one_of", Shape::Scalars, "It is one of these."),
        Key::new("contains", Shape::Scalar, "It is a list with this in it, or this alone."),
    ],
)
.at_most_one(&["equals", "one_of", "contains"])
.any_of(&[&["equals"], &["one_of"], &["contains"]]);

pub(super) const TRUSTED_PROXIES: Key = Key::new(
    "trusted_proxies",
    Shape::Words(&words::NETWORK),
    "Addresses and networks of the proxies in front, whose header tells the address of a client.",
)
.default("[]");
pub(super) const CLIENT_ADDRESS: Key = Key::new(
    "client_address",
    Shape::Choice(&["forwarded", "x-forwarded-for", "x-real-ip"]),
    "The one header that those proxies write.",
);
pub(super) const PROXY_PROTOCOL: Key = Key::new(
    "proxy_protocol",
    Shape::Words(&words::NETWORK),
    "Addresses and networks whose connections begin with a PROXY protocol header, each of them.",
)
.default("[]");
