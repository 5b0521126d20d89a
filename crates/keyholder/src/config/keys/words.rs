//! Forms of text that a pattern tells. The reader matches with the same pattern as the schema.

use super::Word;
use crate::config::calendar;

macro_rules! word {
    ($(#[$doc:meta])* $name:ident, $pattern:expr, $hint:literal, $good:literal, $bad:expr) => {
        $(#[$doc])*
        pub(in crate::config) const $name: Word = Word {
            pattern: $pattern,
            hint: $hint,
            #[cfg(test)]
            good: $good,
            #[cfg(test)]
            bad: &$bad,
        };
    };
}

word!(
    /// A host with a port.
    HOST_AND_PORT,
    "^[A-Za-z0-9.-]{1,255}:[0-9]{1,5}$",
    "write it like \"mail.example.com:587\"",
    "mail.example.com:587",
    ["", "mail.example.com", "smtp://a:1", "a b:1"]
);
word!(
    /// An issuer identifier (RFC 8414 section 2).
    ISSUER,
    r"^(https://([a-z0-9._-]+|\[[0-9a-f:.]+\])|http://(localhost|127\.[0-9.]+|\[::1\]))(:[0-9]{1,5})?(/[A-Za-z0-9._~-]+)*$",
    "write it like \"https://keys.example.com\", without a slash at the end",
    "https://keys.example.com/acme",
    ["", "keys.example.com", "http://keys.example.com", "https://keys.example.com/", "https://Keys.example.com", "https://a?b"]
);
word!(
    /// A mailbox.
    MAILBOX,
    r"^[^@\s<>,]{1,64}@[A-Za-z0-9.-]{1,255}$",
    "write it like \"keyholder@example.com\"",
    "keyholder@example.com",
    ["", "a", "a@", "A <a@example.com>", "a@b, c@d"]
);
word!(
    /// A repository.
    REPOSITORY,
    r"^[A-Za-z0-9_.-]{1,100}/[A-Za-z0-9_.-]{1,100}$",
    "write it like \"acme/integration\"",
    "acme/integration",
    ["", "a", "a/b/c", "https://github.com/a/b"]
);
word!(
    /// A secret of GitHub Actions: letters, digits and underscores, and no digit first.
    ACTIONS_SECRET,
    "^[A-Za-z_][A-Za-z0-9_]{0,254}$",
    "write it like \"GENESYS_CLIENT_SECRET\"",
    "GENESYS_CLIENT_SECRET",
    ["", "1A", "A-B", "a b"]
);
word!(
    /// A member of a credential's document.
    MEMBER,
    "^(client_id|client_secret|access_key_id|access_key_secret|refresh_token)$",
    "write it like \"client_secret\"",
    "client_secret",
    ["", "secret", "Client_Secret"]
);
word!(
    /// A name of Kubernetes (RFC 1123).
    KUBERNETES,
    "^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$",
    "write it as `kubectl get` shows it",
    "acme-integration",
    ["", "A", "-a", "a_b", "a/b"]
);
word!(
    /// A region or a profile of AWS, a project or an alias of Google: one word.
    ONE_WORD,
    "^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$",
    "write one word of letters, digits, '-', '_', '.' and ':'",
    "eu-central-1",
    ["", "a b", "-a", "a/b"]
);
word!(
    /// A path of Vault: a mount, a namespace.
    VAULT_PATH,
    "^[A-Za-z0-9_.-]{1,128}(/[A-Za-z0-9_.-]{1,128}){0,15}/?$",
    "write it like \"kv\" or \"team/kv\"",
    "team/kv",
    ["", "/", "/kv", "a//b", "a b"]
);
word!(
    /// A part of the week.
    WINDOW,
    calendar::WINDOW,
    "write it like \"Mon-Fri 22:00-04:00\" or \"22:00-04:00\"",
    "Mon-Fri 22:00-04:00",
    ["", "22:00", "Mon-Fri", "24:00-01:00", "mon 22:00-23:00"]
);
word!(
    /// A day, or several.
    BLACKOUT,
    calendar::BLACKOUT,
    "write it like \"2026-12-24\" or \"2026-12-24..2027-01-06\"",
    "2026-12-24..2027-01-06",
    ["", "24.12.2026", "2026-12", "2026-12-24..", "2026-12-24T10:00"]
);
word!(
    /// A time zone of IANA's database.
    ZONE,
    "^[A-Za-z][A-Za-z0-9_+-]{0,31}(/[A-Za-z0-9_+-]{1,31}){0,2}$",
    "write it like \"Europe/Berlin\" or \"UTC\"",
    "Europe/Berlin",
    ["", "+01:00", "Europe/", "a b"]
);
word!(
    /// A role of AWS.
    ARN,
    "^arn:aws[a-z-]{0,16}:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]{1,512}$",
    "write it like \"arn:aws:iam::123456789012:role/keyholder\"",
    "arn:aws:iam::123456789012:role/keyholder",
    ["", "keyholder", "arn:aws:iam::1:role/a", "arn:aws:iam::123456789012:user/a"]
);
word!(
    /// A SHA-256 digest.
    SHA256,
    "^[0-9a-f]{64}$",
    "write 64 hex digits in small letters",
    "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    ["", "9f86", "9F86D081884C7D659A2FEAA0C55AD015A3BF4F1B2B0B822CD15D6C15B0F00A08"]
);
word!(
    /// An address of a document, which may have a query.
    DOCUMENT_URL,
    r"^(https://[^/?#@\s]+|http://(localhost|127\.[0-9.]+|\[::1\])(:[0-9]+)?)(/[^?#\s]*)?(\?[^#\s]*)?$",
    "write it like \"https://issuer.example/keys\"; http is for this machine alone",
    "https://issuer.example/keys?p=b2c",
    ["", "issuer.example/keys", "http://issuer.example/keys", "https://u:p@a", "https://a/k#f", "ftp://a"]
);
word!(
    /// A signature algorithm whose key may be public (RFC 7518 section 3.1, RFC 8037).
    ALGORITHM,
    "^((RS|PS|ES)(256|384|512)|EdDSA)$",
    "write one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512 and EdDSA",
    "ES256",
    ["", "none", "HS256", "rs256", "RS257"]
);
word!(
    /// How opaque tokens begin.
    TOKEN_PREFIX,
    "^[A-Za-z0-9_-]{2,32}$",
    "write the first letters of its tokens, such as \"ory_at_\"",
    "ory_at_",
    ["", "a", "a.b", "a b"]
);
word!(
    /// An id of Genesys Cloud.
    UUID,
    "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
    "write the id as `GET /api/v2/organizations/me` tells it",
    "8e29a1ef-9d9e-4d2a-9a70-0a3c2a8f1d11",
    ["", "acme", "8E29A1EF-9D9E-4D2A-9A70-0A3C2A8F1D11", "8e29a1ef9d9e4d2a9a700a3c2a8f1d11"]
);
word!(
    /// An address, or a network.
    NETWORK,
    r"^[0-9A-Fa-f.:]{2,45}(/[0-9]{1,3})?$",
    "write an address or a network, such as \"10.0.0.0/8\"",
    "10.0.0.0/8",
    ["", "host", "10.0.0.0/", "10.0.0.1:80/8/8", "10.0.0.0 /8"]
);
word!(
    /// A header's name.
    HEADER,
    "^[A-Za-z][A-Za-z0-9-]{0,63}$",
    "write it like \"X-Subject\"",
    "X-Subject",
    ["", "X Subject", "X_Subject", "X-Subject:", "1X"]
);
word!(
    /// A claim, or a JSON pointer to one (RFC 6901).
    CLAIM,
    r"^[!-~]{1,256}$",
    "write its name, such as \"tenantId\", or a pointer such as \"/realm_access/roles\"",
    "tenantId",
    ["", "a b"]
);
word!(
    /// A kind of request.
    REQUEST,
    r"^(\*|[A-Z][A-Z0-9-]{0,31}) /[!-~]{0,500}$",
    "write it like \"GET /reports/{id}\"",
    "GET /reports/{id}",
    ["", "GET", "get /reports", "/reports", "GET reports", "GET  /reports"]
);
word!(
    /// A route's name.
    ROUTE_NAME,
    "^[!-~]([ -~]{0,126}[!-~])?$",
    "write a short word",
    "reports",
    ["", " reports", "reports "]
);
word!(
    /// A host in small letters, without a port.
    HOST,
    r"^([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?){0,20}|\[[0-9a-f:.]+\])$",
    "write the name as \"api.example.com\", without port or wildcard",
    "api.example.com",
    ["", "API.example.com", "api.example.com:80", "*.example.com", "-a", "a..b"]
);
word!(
    /// A scope or a permission (RFC 6749 section 3.3).
    GRANT,
    r"^[!#-\[\]-~]{1,256}$",
    "write one word, such as \"reports:read\"",
    "reports:read",
    ["", "a b", "a\\\\b"]
);
word!(
    /// An autonomous system.
    ASN,
    "^AS[0-9]{1,9}$",
    "write it like \"AS64496\"",
    "AS64496",
    ["", "64496", "AS", "as64496", "AS 1"]
);
word!(
    /// Scheme, host and perhaps a port, and nothing else.
    ORIGIN,
    r"^https?://([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:.]+\])(:[0-9]{1,5})?$",
    "write scheme and host, such as \"https://api.example.com\"",
    "https://api.example.com",
    ["", "a", "api.example.com", "https://", "https://api.example.com/v1", "ftp://a"]
);
