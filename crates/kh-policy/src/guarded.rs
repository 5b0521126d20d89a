//! The operations that return or change a platform's secrets, as data with the reason for each.
//!
//! Invariant: matching errs on the side of the guard. Letter case, a trailing slash and path parameters do not count,
//! because a lenient server may ignore them. Source: the published Genesys Cloud API v2 document of 2026-07 (3,180
//! operations, searched for request and response properties that hold secrets) and the public CXone specifications.
//!
//! Not guarded, on purpose: reading OAuth clients (since 2025 `GET` and `PUT` no longer return the secret), creating
//! users (the caller brings the optional password), and end-user tokens such as web messaging's (no platform secret).

use kh_core::PlatformKind;

use crate::{path::CanonicalPath, segment};

/// One guarded operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guarded {
    /// The method, or `*` for every one.
    pub method: &'static str,
    /// The path in lower case; `{}` is any one segment, a leading `**` any number of them.
    pub path: &'static str,
    /// Why it is guarded.
    pub reason: &'static str,
    /// Number of segments, counted once: on the hot path it rules out most rows.
    depth: usize,
    /// Length of the last segment, 0 where it is `{}`: it rules out nearly all others.
    last: usize,
    /// Whether the path starts with `**`.
    open: bool,
}

const fn row(method: &'static str, path: &'static str, reason: &'static str) -> Guarded {
    let open = matches!(path.as_bytes(), [b'*', b'*', ..]);
    Guarded { method, path, reason, depth: slashes(path), last: last_word(path), open }
}

const fn slashes(path: &str) -> usize {
    let (mut count, mut rest) = (0, path.as_bytes());
    while let Some((byte, after)) = rest.split_first() {
        if *byte == b'/' {
            count += 1;
        }
        rest = after;
    }
    count
}

const fn last_word(path: &str) -> usize {
    let (mut length, mut rest) = (0, path.as_bytes());
    while let Some((byte, before)) = rest.split_last() {
        match *byte {
            b'/' => return length,
            b'}' => return 0,
            _ => length += 1,
        }
        rest = before;
    }
    length
}

/// Guarded operations of Genesys Cloud.
pub const GENESYS: &[Guarded] = &[
    row("POST", "/api/v2/oauth/clients", "returns the secret of a new OAuth client"),
    row("POST", "/api/v2/oauth/clients/{}/secret", "regenerates and returns an OAuth client's secret"),
    row("DELETE", "/api/v2/tokens/me", "revokes the platform's token that all clients of a credential share"),
    row("POST", "/api/v2/integrations/credentials", "stores secrets of an integration"),
    row("PUT", "/api/v2/integrations/credentials/{}", "replaces secrets of an integration"),
    row("POST", "/api/v2/users/me/password", "changes a password"),
    row("POST", "/api/v2/users/{}/password", "changes a password"),
    row("GET", "/api/v2/recording/recordingkeys", "returns the Hawk key of recording encryption"),
    row("POST", "/api/v2/recording/recordingkeys", "replaces the recording encryption key"),
    row("POST", "/api/v2/recording/localkeys", "replaces the recording encryption key"),
    row("GET", "/api/v2/recording/keyconfigurations", "returns the Hawk key of recording encryption"),
    row("POST", "/api/v2/recording/keyconfigurations", "sets the Hawk key of recording encryption"),
    row("POST", "/api/v2/recording/keyconfigurations/validate", "carries the Hawk key of recording encryption"),
    row("GET", "/api/v2/recording/keyconfigurations/{}", "returns the Hawk key of recording encryption"),
    row("PUT", "/api/v2/recording/keyconfigurations/{}", "sets the Hawk key of recording encryption"),
    row("GET", "/api/v2/conversations/messaging/integrations/open", "returns webhook signature secrets"),
    row("POST", "/api/v2/conversations/messaging/integrations/open", "sets a webhook signature secret"),
    row("GET", "/api/v2/conversations/messaging/integrations/open/{}", "returns a webhook signature secret"),
    row("PATCH", "/api/v2/conversations/messaging/integrations/open/{}", "sets a webhook signature secret"),
    row("GET", "/api/v2/conversations/messaging/integrations/apple", "returns OAuth client secrets"),
    row("POST", "/api/v2/conversations/messaging/integrations/apple", "sets an OAuth client secret"),
    row("GET", "/api/v2/conversations/messaging/integrations/apple/{}", "returns an OAuth client secret"),
    row("PATCH", "/api/v2/conversations/messaging/integrations/apple/{}", "sets an OAuth client secret"),
    row("POST", "/api/v2/conversations/messaging/integrations/facebook", "sets an app secret and page token"),
    row("PATCH", "/api/v2/conversations/messaging/integrations/facebook/{}", "sets a page token"),
    row("POST", "/api/v2/conversations/messaging/integrations/instagram", "sets an app secret and page token"),
    row("PATCH", "/api/v2/conversations/messaging/integrations/instagram/{}", "sets a page token"),
    row("POST", "/api/v2/conversations/messaging/integrations/whatsapp/embeddedsignup", "sets an access token"),
    row("GET", "/api/v2/integrations/speech/nuance/{}/bots", "returns client secrets of bots"),
    row("GET", "/api/v2/integrations/speech/nuance/{}/bots/{}", "returns the client secret of a bot"),
    row("GET", "/api/v2/integrations/speech/nuance/{}/bots/jobs/{}/results", "returns client secrets of bots"),
    row("GET", "/api/v2/integrations/speech/nuance/{}/bots/{}/jobs/{}/results", "returns the client secret of a bot"),
    row("PUT", "/api/v2/integrations/speech/nuance/{}/bots/launch/settings", "sets the client secret of a bot"),
    row("POST", "/api/v2/integrations/speech/nuance/{}/bots/launch/validate", "carries the client secret of a bot"),
    row("GET", "/api/v2/telephony/providers/edges/{}/setuppackage", "returns an edge's pairing and auth tokens"),
];

/// Guarded operations of NICE CXone.
pub const CXONE: &[Guarded] = &[
    row("POST", "/access-key-management/v1/access-keys", "returns the secret of a new access key"),
    row("PATCH", "/access-key-management/v1/access-keys", "switches an access key on or off"),
    row("DELETE", "/access-key-management/v1/access-keys/{}", "deletes an access key"),
    // the base path of the App Registration API is not published
    row("POST", "**/applications", "returns the secret of a new application"),
    row("POST", "/auth/token", "returns platform tokens"),
    row("POST", "/authentication/v1/token/access-key", "returns platform tokens"),
    row("POST", "/public/authentication/v1/token", "returns platform tokens"),
    row("POST", "/public/authentication/v1/refresh", "returns platform tokens"),
    row("POST", "/public/user/refresh", "returns platform tokens"),
    row("POST", "**/incontactauthorizationserver/token", "returns platform tokens"),
    row("POST", "**/incontactauthorizationserver/token/{}", "tells what a token is good for"),
];

/// The guarded operations of a kind of platform. A generic issuer has none: what its API does is not known.
pub fn table(kind: PlatformKind) -> &'static [Guarded] {
    match kind {
        PlatformKind::Genesys => GENESYS,
        PlatformKind::Cxone => CXONE,
        PlatformKind::Oauth2 => &[],
    }
}

/// The guarded operation that this call is, if it is one.
pub fn guarded(kind: PlatformKind, method: &str, path: &CanonicalPath<'_>) -> Option<&'static Guarded> {
    let text = path.as_str();
    let text = text.strip_suffix('/').unwrap_or(text);
    let Outline { depth, last } = outline(text);
    table(kind).iter().find(|row| {
        // two numbers say no to nearly every row, on every call; what is left is compared word by word
        (depth == row.depth || (row.open && depth > row.depth))
            && (row.last == 0 || last.is_none_or(|last| last == row.last))
            && (row.method == "*" || row.method.eq_ignore_ascii_case(method))
            && fits(row, text)
    })
}

/// What one pass over a path tells.
struct Outline {
    /// Number of segments.
    depth: usize,
    /// Length of the last one; `None` when escapes, path parameters or an extension make it mean something shorter.
    last: Option<usize>,
}

fn outline(path: &str) -> Outline {
    let (mut depth, mut last, mut plain) = (0, 0, true);
    for byte in path.bytes() {
        last += 1;
        match byte {
            b'/' => (depth, last) = (depth + 1, 0),
            b'%' | b';' | b'.' => plain = false,
            _ => {}
        }
    }
    Outline { depth, last: plain.then_some(last) }
}

/// Whether the words fit, the number of segments being right. Compared from the right: that is where the rows differ.
fn fits(row: &Guarded, path: &str) -> bool {
    let pattern = row.path.trim_start_matches("**");
    pattern
        .rsplit('/')
        .zip(path.rsplit('/'))
        .take(row.depth)
        .all(|(word, text)| word == "{}" || segment::could_be(text, word))
}

#[cfg(test)]
mod tests;
