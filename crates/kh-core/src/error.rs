//! What every error of keyholder can say: who is to blame, whether to try again, and a stable code.

use std::{borrow::Cow, time::Duration};

use serde::Serialize;

/// Who has to act on an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blame {
    /// The application, script or person that called us.
    Caller,
    /// The contact-centre platform or issuer.
    Platform,
    /// A secret store or the state database.
    Store,
    /// Us: a bug.
    Keyholder,
}

/// Whether the same call may succeed later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Retry {
    /// Not without a change.
    Never,
    /// Not before this much time has passed.
    After(Duration),
    /// At once, on a fresh connection.
    Now,
}

/// A stable, documented error code such as `keyholder.credential.rejected`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(transparent)]
pub struct Code(pub &'static str);

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:literal, $title:literal;)*) => {
        impl Code {
            $($(#[$doc])* pub const $name: Self = Self($text);)*
            /// Every code, with its usual HTTP status and its title; the reference is generated from this table.
            pub const ALL: &'static [(Self, u16, &'static str)] = &[$((Self::$name, $status, $title)),*];
        }
    };
}

codes! {
    /// The application's own login or token is missing, unknown or expired.
    CALLER_UNAUTHENTICATED = "keyholder.caller.unauthenticated", 401, "the caller's own credential is not valid";
    /// The caller's token is bound, or has to be, and the request does not prove that the caller holds what it is bound to.
    CALLER_PROOF_INVALID = "keyholder.caller.proof_invalid", 401, "the caller does not prove what its token is bound to";
    /// The client is known and disabled.
    CLIENT_DISABLED = "keyholder.client.disabled", 401, "the client is disabled";
    /// The platform refused a user's authorization code.
    GRANT_REFUSED = "keyholder.grant.refused", 400, "the platform refused the authorization code";
    /// The user's session at the platform is over, and with it the access token that spoke for it.
    SESSION_ENDED = "keyholder.session.ended", 401, "the session has ended";
    /// Too many wrong logins came before; the secret was not looked at.
    LOGIN_THROTTLED = "keyholder.login.throttled", 429, "too many wrong logins";
    /// A client's tokens are to be signed, and there is no issuer identifier or no key for it.
    SIGNING_UNAVAILABLE = "keyholder.signing.unavailable", 503, "no access token can be signed";
    /// The client's allow-list does not name this call.
    CALL_NOT_ALLOWED = "keyholder.call.not_allowed", 403, "the client may not make this call";
    /// The operation returns or changes platform secrets and the client has no right to it.
    CALL_GUARDED = "keyholder.call.guarded", 403, "the operation handles platform secrets";
    /// The credential's environment is not the client's, or not the one that was asked for.
    ENVIRONMENT_REFUSED = "keyholder.environment.refused", 403, "the credential is one of another environment";
    /// A protected API: the request has no bearer token.
    INBOUND_TOKEN_MISSING = "keyholder.inbound.token_missing", 401, "the request has no access token";
    /// A protected API: what follows `Bearer` is no token.
    INBOUND_AUTHORIZATION_MALFORMED = "keyholder.inbound.authorization_malformed", 400, "the Authorization header is malformed";
    /// A protected API: the token is unknown, expired, revoked, forged, or not one for this API.
    INBOUND_TOKEN_INVALID = "keyholder.inbound.token_invalid", 401, "the access token is not valid";
    /// A protected API: too many failures came before from this address, or of this client.
    INBOUND_THROTTLED = "keyholder.inbound.throttled", 429, "too many failed requests";
    /// A protected API: the token is bound to a key, and the request's proof of that key is not valid.
    INBOUND_PROOF_INVALID = "keyholder.inbound.proof_invalid", 401, "the DPoP proof is not valid";
    /// A protected API: the token is valid and does not say what the route requires.
    INBOUND_NOT_ALLOWED = "keyholder.inbound.not_allowed", 403, "the access token does not allow this request";
    /// A protected API: nobody can say now whether the token is valid.
    INBOUND_ISSUER_UNAVAILABLE = "keyholder.inbound.issuer_unavailable", 503, "the access token cannot be verified now";
    /// A protected API did not answer.
    INBOUND_UPSTREAM_FAILED = "keyholder.inbound.upstream_failed", 502, "the API behind the gateway did not answer";
    /// The request could be read in two ways; it was not forwarded.
    REQUEST_AMBIGUOUS = "keyholder.request.ambiguous", 400, "the request is ambiguous";
    /// The request is malformed.
    REQUEST_MALFORMED = "keyholder.request.malformed", 400, "the request is malformed";
    /// The request is larger than a limit.
    REQUEST_TOO_LARGE = "keyholder.request.too_large", 413, "the request is too large";
    /// No client, route or profile has this name.
    NOT_FOUND = "keyholder.not_found", 404, "not found";
    /// The method is not one that this resource answers.
    METHOD_NOT_ALLOWED = "keyholder.method.not_allowed", 405, "method not allowed";
    /// A protocol upgrade that cannot be proxied.
    UPGRADE_REFUSED = "keyholder.upgrade.refused", 501, "the protocol upgrade is not supported";
    /// The platform refused keyholder's own credential, and a fresh token did not heal it.
    CREDENTIAL_REJECTED = "keyholder.credential.rejected", 502, "the platform refused the credential";
    /// The credential's document is missing in the secret store or has the wrong fields.
    CREDENTIAL_UNUSABLE = "keyholder.credential.unusable", 502, "the credential cannot be used";
    /// The platform limits token requests; keyholder waits before the next one.
    TOKEN_RATE_LIMITED = "keyholder.token.rate_limited", 503, "the platform limits token requests";
    /// No token could be had.
    TOKEN_UNAVAILABLE = "keyholder.token.unavailable", 503, "no token is available";
    /// `min_ttl` asks for more life than a fresh token has.
    TOKEN_TTL_UNSATISFIABLE = "keyholder.token.ttl_unsatisfiable", 422, "min_ttl exceeds a fresh token's life";
    /// The platform could not be reached.
    UPSTREAM_UNREACHABLE = "keyholder.upstream.unreachable", 502, "the platform could not be reached";
    /// The platform did not answer in time.
    UPSTREAM_TIMEOUT = "keyholder.upstream.timeout", 504, "the platform did not answer in time";
    /// The TLS connection to the platform failed.
    UPSTREAM_TLS = "keyholder.upstream.tls", 502, "the TLS connection to the platform failed";
    /// The proxy on the way to the platform could not be reached, or refused.
    UPSTREAM_PROXY = "keyholder.upstream.proxy", 502, "the proxy on the way to the platform failed";
    /// The platform's answer broke off or was not HTTP.
    UPSTREAM_PROTOCOL = "keyholder.upstream.protocol", 502, "the platform's answer is not valid";
    /// A guard token is missing or wrong.
    GUARD_REFUSED = "keyholder.guard.refused", 403, "the guard token is missing or wrong";
    /// Too many requests or connections at once.
    OVERLOADED = "keyholder.overloaded", 503, "too many requests at once";
    /// The secret store cannot be read or written.
    STORE_UNAVAILABLE = "keyholder.store.unavailable", 503, "the secret store is not available";
    /// A value in the store was changed by someone else, or does not decrypt.
    STORE_TAMPERED = "keyholder.store.tampered", 500, "the secret store was tampered with";
    /// The store file is cut short or not a database.
    STORE_TRUNCATED = "keyholder.store.truncated", 500, "the secret store is damaged";
    /// The key does not open this store.
    STORE_WRONG_KEY = "keyholder.store.wrong_key", 500, "the key does not open the secret store";
    /// The file was written by a newer keyholder.
    STORE_TOO_NEW = "keyholder.store.too_new", 500, "the file was written by a newer keyholder";
    /// Compare-and-set found another version than expected.
    STORE_CONFLICT = "keyholder.store.conflict", 409, "the secret has another version than expected";
    /// The secret store does not accept keyholder's identity, or does not allow the call.
    STORE_DENIED = "keyholder.store.denied", 502, "the secret store refused keyholder";
    /// The platform did not carry out a rotation's call; nothing happened.
    ROTATION_PLATFORM = "keyholder.rotation.platform", 502, "the platform did not do what a rotation needs";
    /// A changing call of a rotation was sent and its answer never came.
    ROTATION_UNKNOWN_OUTCOME = "keyholder.rotation.unknown_outcome", 502, "what became of a rotation's call is unknown";
    /// The rotator's identity lacks a right.
    ROTATION_DENIED = "keyholder.rotation.denied", 403, "the rotator lacks a right";
    /// The platform or the configuration does not allow this way of rotating.
    ROTATION_UNSUPPORTED = "keyholder.rotation.unsupported", 400, "the credential cannot be rotated this way";
    /// Another rotator works on the credential.
    ROTATION_FENCED = "keyholder.rotation.fenced", 409, "another rotator has taken over";
    /// A hold stands on the credential.
    ROTATION_HELD = "keyholder.rotation.held", 409, "the rotation is on hold";
    /// The credential has a run that has not ended.
    ROTATION_UNFINISHED = "keyholder.rotation.unfinished", 409, "a rotation of this credential has not ended";
    /// A run stopped at a point that only a person can decide.
    ROTATION_NEEDS_OPERATOR = "keyholder.rotation.needs_operator", 409, "a person must decide how a rotation goes on";
    /// The state database cannot be read or written.
    STATE_UNAVAILABLE = "keyholder.state.unavailable", 503, "the state is not available";
    /// The state database is cut short, foreign, garbled or gone.
    STATE_DAMAGED = "keyholder.state.damaged", 500, "the state is damaged";
    /// Another process uses the installation, and the two cannot go together.
    STATE_IN_USE = "keyholder.state.in_use", 409, "another keyholder process uses the state";
    /// A restore was interrupted after it began to replace files.
    RESTORE_UNFINISHED = "keyholder.restore.unfinished", 409, "a restore was interrupted";
    /// The file is not a backup, or one that was changed, cut short or made by a newer keyholder.
    BACKUP_INVALID = "keyholder.backup.invalid", 400, "the backup cannot be used";
    /// The audit log does not verify.
    AUDIT_BROKEN = "keyholder.audit.broken", 500, "the audit log does not verify";
    /// The configuration has mistakes.
    CONFIG_INVALID = "keyholder.config.invalid", 400, "the configuration is not valid";
    /// The command line is wrong.
    USAGE = "keyholder.usage", 400, "the command line is not valid";
    /// A step of the demo's story did not hold.
    STORY_FAILED = "keyholder.demo.step_failed", 500, "a step of the story failed";
    /// A bug of ours.
    INTERNAL = "keyholder.internal", 500, "keyholder has a bug";
}

impl Code {
    /// The usual HTTP status.
    pub fn status(self) -> u16 {
        Self::ALL.iter().find(|(code, ..)| *code == self).map_or(500, |(_, status, _)| *status)
    }

    /// The code without its common start, such as `credential.rejected`.
    pub fn short(self) -> &'static str {
        self.0.strip_prefix("keyholder.").unwrap_or(self.0)
    }

    /// The URI of RFC 9457 section 3.1.1 that names this kind of problem.
    pub fn problem_type(self) -> ProblemType {
        ProblemType(self)
    }

    /// The title: RFC 9457 section 3.1.3, the same for every occurrence of the code.
    pub fn title(self) -> &'static str {
        Self::ALL.iter().find(|(code, ..)| *code == self).map_or("error", |(_, _, title)| *title)
    }
}

/// How every problem type begins. A URN and no address: the page of a code is in the program and in the docs beside it,
/// so nothing has to be looked up, and the name stays the same wherever the docs are published.
pub const PROBLEM_TYPE_PREFIX: &str = "urn:keyholder:error:";

/// A problem type (RFC 9457 section 3.1.1), such as `urn:keyholder:error:credential.rejected`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProblemType(Code);

impl std::fmt::Display for ProblemType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{PROBLEM_TYPE_PREFIX}{}", self.0.short())
    }
}

impl Serialize for ProblemType {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A problem document (RFC 9457) with `code` and `hints`.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    /// The kind of problem, one per code.
    #[serde(rename = "type")]
    pub kind: ProblemType,
    /// The code's title.
    pub title: &'static str,
    /// HTTP status.
    pub status: u16,
    /// What happened this time; never holds a secret.
    pub detail: Cow<'static, str>,
    /// The stable code.
    pub code: Code,
    /// What to try, one sentence each.
    pub hints: Vec<Cow<'static, str>>,
    /// The platform's correlation id, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
}

impl Problem {
    /// A problem of `code` with the code's own status and title.
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind: code.problem_type(),
            title: code.title(),
            status: code.status(),
            detail: detail.into(),
            code,
            hints: Vec::new(),
            correlation_id: None,
        }
    }

    /// The same with one more hint.
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hints.push(hint.into());
        self
    }
}
