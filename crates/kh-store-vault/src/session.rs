//! The login: one token, renewed after two thirds of its lease, replaced when it is lost.
//!
//! Invariant: one login is under way at most; a token that was refused is not used again. A wrapped secret id is
//! unwrapped once and only if it was made as a secret id.

use std::{path::Path, sync::Arc, time::Duration};

use kh_core::{SecretBytes, SecretString, Sha256, port::TargetError};
use kh_net::http::OutBody;
use tokio::{io::AsyncReadExt, sync::Mutex};
use zeroize::Zeroizing;

use crate::{
    client::{Ask, Effect, Reply, Servers},
    config::Auth,
    wire,
};

/// Longest file with a token or secret id: a workload token has under 4 KiB.
const FILE_MAX: u64 = 16 * 1024;

/// A token with its life.
pub(crate) struct Session {
    pub(crate) token: SecretString,
    since: Duration,
    /// None: it has no end.
    lease: Option<Duration>,
    /// How long it was when it was issued; a renewal near the longest life gives less.
    lease_at_first: Option<Duration>,
    renewable: bool,
}

impl Session {
    fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(self.since)
    }

    fn has_ended(&self, now: Duration) -> bool {
        self.lease.is_some_and(|lease| self.age(now) >= lease)
    }

    /// After two thirds of the lease there is still time to try again.
    fn is_due(&self, now: Duration) -> bool {
        self.lease.is_some_and(|lease| self.age(now) >= lease * 2 / 3)
    }

    /// Little is left even after a renewal: its longest life is near.
    fn runs_out(&self) -> bool {
        self.lease.zip(self.lease_at_first).is_some_and(|(lease, first)| lease < first / 3)
    }
}

/// Body of a workload's login.
#[derive(serde::Serialize)]
struct WorkloadLogin<'a> {
    role: &'a str,
    jwt: &'a str,
}

/// Body of an AppRole login.
#[derive(serde::Serialize)]
struct RoleLogin<'a> {
    role_id: &'a str,
    secret_id: &'a str,
}

/// Body of a look at a wrapping token.
#[derive(serde::Serialize)]
struct WrappingToken<'a> {
    token: &'a str,
}

/// A secret id that was unwrapped, with the digest of the wrapping token it came from.
struct Unwrapped {
    from: Sha256,
    secret_id: SecretString,
}

#[derive(Default)]
struct State {
    session: Option<Arc<Session>>,
    unwrapped: Option<Unwrapped>,
    /// Digest of a wrapping token that may have been unwrapped for us without our getting what is behind it.
    asked: Option<Sha256>,
    /// Digest of a token of a file that was refused.
    refused: Option<Sha256>,
}

/// Keeps the login.
pub(crate) struct Sessions {
    auth: Auth,
    state: Mutex<State>,
}

impl Sessions {
    pub(crate) fn new(auth: Auth) -> Self {
        Self { auth, state: Mutex::default() }
    }

    /// A token to use now: the one that is there, renewed if that is due, or a new login's.
    pub(crate) async fn current(&self, servers: &Servers) -> Result<Arc<Session>, TargetError> {
        let mut state = self.state.lock().await;
        let now = servers.mono();
        if let Some(session) = state.session.clone().filter(|session| !session.has_ended(now)) {
            if !session.is_due(now) {
                return Ok(session);
            }
            match renewed(servers, &session).await {
                Ok(Some(fresh)) if !fresh.runs_out() => return Ok(state.session.insert(Arc::new(fresh)).clone()),
                Ok(_) => match self.log_in(servers, &mut state).await {
                    Ok(fresh) => return Ok(fresh),
                    Err(error) => {
                        tracing::info!(error = %error, "a login at Vault failed; the one that is there is used to its end");
                        return Ok(session);
                    }
                },
                // it still lives; the next use tries again
                Err(_) => return Ok(session),
            }
        }
        self.log_in(servers, &mut state).await
    }

    /// Forgets a token that was refused.
    pub(crate) async fn lost(&self, session: &Arc<Session>) {
        let mut state = self.state.lock().await;
        if state.session.as_ref().is_some_and(|current| Arc::ptr_eq(current, session)) {
            state.session = None;
            state.refused = Some(session.token.sha256());
        }
    }

    /// How long until the login should be looked at again.
    pub(crate) async fn next_look(&self, servers: &Servers) -> Option<Duration> {
        let state = self.state.lock().await;
        let session = state.session.as_ref()?;
        Some((session.lease? * 2 / 3).saturating_sub(session.age(servers.mono())))
    }

    async fn log_in(&self, servers: &Servers, state: &mut State) -> Result<Arc<Session>, TargetError> {
        let session = match &self.auth {
            Auth::TokenFile(file) => token_of_file(servers, file, state).await?,
            Auth::Workload { mount, role, token_file } => {
                let jwt = read(token_file).await?;
                issue(servers, mount, &OutBody::json(&WorkloadLogin { role, jwt: jwt.expose() })).await?
            }
            Auth::AppRole { mount, role_id, secret_id_file, wrapped } => {
                let text = read(secret_id_file).await?;
                let secret_id = if *wrapped { unwrapped(servers, mount, &text, state).await? } else { text };
                issue(servers, mount, &OutBody::json(&RoleLogin { role_id, secret_id: secret_id.expose() })).await?
            }
        };
        tracing::info!("logged in at Vault");
        Ok(state.session.insert(Arc::new(session)).clone())
    }
}

async fn token_of_file(servers: &Servers, file: &Path, state: &State) -> Result<Session, TargetError> {
    let token = read(file).await?;
    if state.refused == Some(token.sha256()) {
        let text = format!("the token in {} was not accepted and is still the same", file.display());
        return Err(TargetError::Unauthenticated(text));
    }
    let since = servers.mono();
    let reply = servers.send(&Ask::get("auth/token/lookup-self"), Some(&token)).await?;
    let Some((ttl, renewable)) = (reply.status == 200).then(|| wire::lookup(&reply.body)).flatten() else {
        return Err(TargetError::Unauthenticated(format!("the token in {} was not accepted", file.display())));
    };
    Ok(session(token, since, ttl, renewable))
}

fn session(token: SecretString, since: Duration, seconds: u64, renewable: bool) -> Session {
    let lease = (seconds > 0).then(|| Duration::from_secs(seconds));
    Session { token, since, lease, lease_at_first: lease, renewable }
}

/// A session with more time; none when the server does not renew it.
async fn renewed(servers: &Servers, old: &Session) -> Result<Option<Session>, TargetError> {
    if !old.renewable {
        return Ok(None);
    }
    let since = servers.mono();
    let ask = Ask::post(Effect::None, "auth/token/renew-self", SecretBytes::new(b"{}".to_vec()));
    let reply = servers.send(&ask, Some(&old.token)).await?;
    let issued = (reply.status == 200).then(|| wire::issued(&reply.body)).flatten();
    Ok(issued.map(|issued| Session {
        lease_at_first: old.lease_at_first,
        ..session(issued.token, since, issued.lease_seconds, issued.renewable)
    }))
}

async fn issue(servers: &Servers, mount: &str, body: &OutBody) -> Result<Session, TargetError> {
    let path = format!("auth/{mount}/login");
    let since = servers.mono();
    // A login that is repeated makes a second token, which ends by itself: it can be sent to the next address. With a
    // secret id of a single use the second is refused, and said to be.
    let ask = Ask::post(Effect::None, &path, SecretBytes::new(body.bytes().to_vec()));
    let reply = servers.send(&ask, None).await?;
    match (reply.status, wire::issued(&reply.body)) {
        (200, Some(issued)) => Ok(session(issued.token, since, issued.lease_seconds, issued.renewable)),
        (200, None) => Err(TargetError::Unusable("the login's answer holds no token".to_owned())),
        (status, _) => Err(TargetError::Unauthenticated(format!("{path} answered status {status}"))),
    }
}

/// The secret id behind a wrapping token (docs/concepts/response-wrapping: first see what it wraps, then unwrap).
async fn unwrapped(
    servers: &Servers,
    mount: &str,
    wrapping: &SecretString,
    state: &mut State,
) -> Result<SecretString, TargetError> {
    let digest = wrapping.sha256();
    if let Some(known) = state.unwrapped.as_ref().filter(|known| known.from == digest) {
        return Ok(known.secret_id.duplicate());
    }
    let refused = |what: &str| TargetError::Unauthenticated(format!("the wrapped secret id {what}"));
    // in the body, where a look costs no use of the token (the path takes no login)
    let body = SecretBytes::new(OutBody::json(&WrappingToken { token: wrapping.expose() }).bytes().to_vec());
    let looked = servers.send(&Ask::post(Effect::None, "sys/wrapping/lookup", body), None).await?;
    let Some(made_by) = (looked.status == 200).then(|| wire::creation_path(&looked.body)).flatten() else {
        return Err(refused(if state.asked == Some(digest) {
            "is used up: keyholder asked for it and the answer was lost; place a new wrapped secret id"
        } else {
            "was used or has ended; keyholder itself uses it once per start; if neither an earlier start nor anybody of \
             yours used it, somebody else has it"
        }));
    };
    if !made_by.starts_with(&format!("auth/{mount}/role/")) || !made_by.ends_with("/secret-id") {
        return Err(refused("was not made by the role's secret-id endpoint"));
    }
    let ask = Ask::post(Effect::Write, "sys/wrapping/unwrap", SecretBytes::new(b"{}".to_vec()));
    // before it is sent: whoever stops waiting for the answer does not learn what came of it
    state.asked = Some(digest);
    let sent = servers.send(&ask, Some(wrapping)).await;
    if !matches!(sent, Ok(Reply { status: 200, .. }) | Err(TargetError::Unknown(_))) {
        // it was not unwrapped for us: if it is used up later, it was by another
        state.asked = None;
    }
    let Reply { status, body } = sent?;
    let secret_id = (status == 200).then(|| wire::secret_id(&body)).flatten();
    let secret_id = secret_id.ok_or_else(|| refused("could not be unwrapped"))?;
    state.unwrapped = Some(Unwrapped { from: digest, secret_id: secret_id.duplicate() });
    Ok(secret_id)
}

/// A file with one secret, without the line's end.
async fn read(file: &Path) -> Result<SecretString, TargetError> {
    let failed = |what: &str| TargetError::Unauthenticated(format!("{}: {what}", file.display()));
    let opened = tokio::fs::File::open(file).await.map_err(|error| failed(&error.to_string()))?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(FILE_MAX + 1).unwrap_or_default()));
    opened.take(FILE_MAX + 1).read_to_end(&mut bytes).await.map_err(|error| failed(&error.to_string()))?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(failed("longer than any token"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| failed("not text"))?;
    wire::token(text.trim()).ok_or_else(|| failed("not one token"))
}
