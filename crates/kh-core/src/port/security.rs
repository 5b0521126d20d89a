//! Port to the security log: who tried to authenticate, from where, and what came of it.
//!
//! Invariants: recording never waits and never fails a request; an event holds no token and no secret, only the first
//! bytes of a token's digest; every text that a caller had a hand in is a [`Told`]: bounded and without a character that
//! could forge, hide or turn around what a reader of the log sees.

mod told;

use std::{net::IpAddr, sync::Arc, time::Duration};

pub use self::told::{TOLD_BYTES_MAX, TOLD_MAX, Told};
use crate::{Now, Sha256, UnixMillis, trace::TraceContext};

/// Where somebody tried to authenticate.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Site {
    /// In front of the operator's own API, or of a platform.
    Gateway,
    /// keyholder's token endpoint, with revocation and introspection.
    TokenEndpoint,
    /// The admin API.
    Admin,
    /// The broker's listener for local programs.
    Broker,
    /// An endpoint for what platforms tell of their tokens.
    Events,
}

impl Site {
    /// Its name in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::TokenEndpoint => "token_endpoint",
            Self::Admin => "admin",
            Self::Broker => "broker",
            Self::Events => "events",
        }
    }
}

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Authenticated, and allowed to do what it asked for.
    Success,
    /// Refused, for the published reason code that is told: not authenticated, or not allowed.
    Failure {
        /// The code, for example `expired` or `insufficient_scope`.
        reason: &'static str,
    },
}

/// What the caller showed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Presented {
    /// No credential at all.
    Nothing,
    /// A bearer token (RFC 6750).
    Bearer,
    /// A token bound to a key, with its proof (RFC 9449).
    DPoP,
    /// `Authorization: Basic` (RFC 7617).
    Basic,
    /// A client's id and secret in the body (RFC 6749 section 2.3.1).
    ClientSecretPost,
    /// A TLS client certificate.
    Certificate,
    /// A signature over the message, by a key that both sides hold.
    Signature,
    /// Something that is none of these, or several at once.
    Other,
}

impl Presented {
    /// Its name in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Bearer => "bearer",
            Self::DPoP => "dpop",
            Self::Basic => "basic",
            Self::ClientSecretPost => "client_secret_post",
            Self::Certificate => "certificate",
            Self::Signature => "signature",
            Self::Other => "other",
        }
    }
}

/// How the client's address was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddressSource {
    /// It is the other end of the connection.
    Peer,
    /// A trusted peer told it by the PROXY protocol.
    ProxyProtocol,
    /// A trusted proxy told it in `Forwarded` (RFC 7239).
    Forwarded,
    /// A trusted proxy told it in `X-Forwarded-For`, read from the right.
    XForwardedFor,
    /// A trusted proxy told it in `X-Real-IP`.
    XRealIp,
}

impl AddressSource {
    /// Its name in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::ProxyProtocol => "proxy_protocol",
            Self::Forwarded => "forwarded",
            Self::XForwardedFor => "x_forwarded_for",
            Self::XRealIp => "x_real_ip",
        }
    }
}

/// Names a token in logs: the first eight bytes of its SHA-256. Enough to find a token among those that one has, and
/// nothing that opens a door.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenDigest([u8; 8]);

impl TokenDigest {
    /// Of the whole digest of a token.
    pub fn of(digest: Sha256) -> Self {
        let mut first = [0; 8];
        for (to, from) in first.iter_mut().zip(digest.0) {
            *to = from;
        }
        Self(first)
    }

    /// The eight bytes.
    pub fn bytes(self) -> [u8; 8] {
        self.0
    }
}

impl std::fmt::Display for TokenDigest {
    /// Sixteen lower-case hexadecimal digits.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl std::fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokenDigest({self})")
    }
}

/// The caller's TLS connection, as the handshake settled it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TlsSession {
    /// `1.2` or `1.3`.
    pub version: &'static str,
    /// The suite's name in the registry of IANA, for example `TLS_AES_256_GCM_SHA384`.
    pub cipher: &'static str,
}

/// The client's address with how it was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientAddress {
    /// The address.
    pub ip: IpAddr,
    /// How it was found.
    pub source: AddressSource,
}

/// One try to authenticate. What is not known is `None`; start from [`AuthenticationEvent::new`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuthenticationEvent {
    /// When it was decided.
    pub at: UnixMillis,
    /// Where.
    pub site: Site,
    /// What came of it.
    pub outcome: Outcome,
    /// What the caller showed.
    pub presented: Presented,
    /// Whether issuer, client and subject were verified. When not, they are what the caller says: good for a search,
    /// worth nothing as proof.
    pub verified: bool,
    /// The route: its name in the configuration, else its path's template.
    pub route: Option<Told>,
    /// The token's `iss`, or the name of who was asked about it.
    pub issuer: Option<Told>,
    /// The client.
    pub client: Option<Told>,
    /// The subject.
    pub subject: Option<Told>,
    /// Names the token.
    pub token: Option<TokenDigest>,
    /// The request's method.
    pub method: Option<Told>,
    /// The path's template, `/users/{id}`; never the path itself, which may hold names or secrets.
    pub path_template: Option<Told>,
    /// The caller's user agent.
    pub user_agent: Option<Told>,
    /// The caller's TLS connection; none without TLS.
    pub tls: Option<TlsSession>,
    /// The client's address; none over a unix socket.
    pub client_address: Option<ClientAddress>,
    /// The other end of the connection: a proxy, or the client itself.
    pub peer: Option<IpAddr>,
    /// The answer's status.
    pub status: Option<u16>,
    /// The gateway's own place in the request's trace.
    pub trace: Option<TraceContext>,
}

impl AuthenticationEvent {
    /// An event with nothing but what every event has.
    pub fn new(at: UnixMillis, site: Site, outcome: Outcome) -> Self {
        Self {
            at,
            site,
            outcome,
            presented: Presented::Nothing,
            verified: false,
            route: None,
            issuer: None,
            client: None,
            subject: None,
            token: None,
            method: None,
            path_template: None,
            user_agent: None,
            tls: None,
            client_address: None,
            peer: None,
            status: None,
            trace: None,
        }
    }
}

/// Takes events. Called on data-plane threads: neither call waits, blocks or fails; what cannot be kept is counted.
pub trait SecurityLog: Send + Sync {
    /// Takes one event.
    fn record(&self, event: AuthenticationEvent);

    /// Whether a success of this subject from this address is news. Failures are always recorded; successes are asked
    /// about first, because they are most of the traffic and an event costs more than this question, which reads one
    /// word of memory. It may say yes again for what it has seen, and says so at least once an hour.
    fn wants_success(&self, issuer: &str, subject: &str, address: Option<IpAddr>, now: Now) -> bool;
}

/// Where there is no security log.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSecurityLog;

impl SecurityLog for NoSecurityLog {
    fn record(&self, _event: AuthenticationEvent) {}

    fn wants_success(&self, _issuer: &str, _subject: &str, _address: Option<IpAddr>, _now: Now) -> bool {
        false
    }
}

/// Whose try to authenticate is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Attempt<'a> {
    /// The client's address; none over a unix socket, whose callers are this machine's own and are never counted.
    pub address: Option<IpAddr>,
    /// Where `client` is known by this id: the name of a protected API, which has verified it; none for keyholder's own
    /// clients, whose ids are claimed only.
    pub realm: Option<&'a str>,
    /// The client.
    pub client: Option<&'a str>,
}

/// Makes whoever failed too often wait. Asked on data-plane threads: no call waits, blocks or fails, and memory is bounded
/// whatever callers send.
pub trait AttemptGuard: Send + Sync {
    /// Whether it may be tried now, before anything is looked at; else how long to wait (never zero).
    fn check(&self, attempt: Attempt<'_>, now: Now) -> Result<(), Duration>;

    /// It was tried, and what was shown is not valid.
    fn failed(&self, attempt: Attempt<'_>, now: Now);

    /// It was tried, and what was shown is valid.
    fn succeeded(&self, attempt: Attempt<'_>, now: Now);
}

/// What watches over those who authenticate at a listener. Nothing by default, and then it costs nothing.
#[derive(Clone, Default)]
pub struct Security {
    /// Is told of every failure, and of the successes that it wants.
    pub log: Option<Arc<dyn SecurityLog>>,
    /// Makes offenders wait.
    pub guard: Option<Arc<dyn AttemptGuard>>,
}

impl From<Option<Arc<dyn SecurityLog>>> for Security {
    /// A log, if there is one, and no guard.
    fn from(log: Option<Arc<dyn SecurityLog>>) -> Self {
        Self { log, guard: None }
    }
}

impl Security {
    /// Tells the log, if there is one. The event is made only then.
    pub fn record(&self, event: impl FnOnce() -> AuthenticationEvent) {
        if let Some(log) = &self.log {
            log.record(event());
        }
    }

    /// How long this one has to wait.
    pub fn wait(&self, attempt: Attempt<'_>, now: Now) -> Option<Duration> {
        self.guard.as_ref()?.check(attempt, now).err()
    }

    /// What was shown is not valid.
    pub fn failed(&self, attempt: Attempt<'_>, now: Now) {
        if let Some(guard) = &self.guard {
            guard.failed(attempt, now);
        }
    }

    /// What was shown is valid.
    pub fn succeeded(&self, attempt: Attempt<'_>, now: Now) {
        if let Some(guard) = &self.guard {
            guard.succeeded(attempt, now);
        }
    }
}

impl std::fmt::Debug for Security {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Security").field("log", &self.log.is_some()).field("guard", &self.guard.is_some()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_named_by_the_begin_of_its_digest() {
        let digest = Sha256::of(b"token");
        let told = TokenDigest::of(digest).to_string();
        assert_eq!(told.len(), 16);
        assert!(digest.to_hex().starts_with(&told));
        assert_eq!(TokenDigest::of(Sha256([0; 32])).to_string(), "0".repeat(16));
    }

    #[test]
    fn without_a_log_nothing_is_asked_for() {
        let log: &dyn SecurityLog = &NoSecurityLog;
        assert!(!log.wants_success("i", "s", None, Now::default()));
        log.record(AuthenticationEvent::new(UnixMillis(0), Site::Admin, Outcome::Failure { reason: "expired" }));
    }
}
