//! Requests to the cluster: its addresses in their order, and what an answer means for going on.
//!
//! Invariant: a request that may have changed something is sent to a second address only if the first surely did
//! nothing. An address that hangs is not the one that every request begins with.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use ::http::{HeaderName, HeaderValue, Method};
use kh_core::{SecretBytes, SecretString, port::TargetError};
use kh_net::http::{Answer, HttpClient, HttpError, OutBody, Request};
use zeroize::Zeroizing;

use crate::{
    config::ServerAddress,
    wire::{self, Refusal},
};

/// Largest accepted answer: a document of 64 KiB may be written with six bytes for each of its own; a list of names is
/// asked folder by folder.
const ANSWER_MAX: usize = 2 * 1024 * 1024;

/// A wait that is given up before this says nothing of the address: its caller went away, or had waited for another one.
const TELLING_WAIT: Duration = Duration::from_secs(1);

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
/// Agents that are set to refuse forged requests demand it (docs/agent-and-proxy/agent, `require_request_header`).
const REQUEST: HeaderName = HeaderName::from_static("x-vault-request");

/// Whether a request may be repeated without harm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Effect {
    /// It changes nothing.
    None,
    /// It may change something.
    Write,
}

/// One request, sent to one address after the other.
pub(crate) struct Ask<'a> {
    pub(crate) effect: Effect,
    pub(crate) method: Method,
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    pub(crate) body: Option<SecretBytes>,
}

impl<'a> Ask<'a> {
    pub(crate) fn get(path: &'a str) -> Self {
        Self { effect: Effect::None, method: Method::GET, path, query: "", body: None }
    }

    pub(crate) fn post(effect: Effect, path: &'a str, body: SecretBytes) -> Self {
        Self { effect, method: Method::POST, path, query: "", body: Some(body) }
    }
}

/// An answer that is Vault's own word on the request.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Zeroizing<Vec<u8>>,
}

/// The cluster.
pub(crate) struct Servers {
    http: HttpClient,
    addresses: Vec<ServerAddress>,
    namespace: Option<HeaderValue>,
    /// The address that is asked first: the one that answered last, unless it was waited for in vain since.
    current: AtomicUsize,
}

/// The wait for one address's answer. Its end without one, because the caller stopped waiting, has the next request begin
/// elsewhere.
struct Wait<'a> {
    servers: &'a Servers,
    /// The address that this request began with.
    first: usize,
    index: usize,
    since: Duration,
    is_over: bool,
}

impl Wait<'_> {
    fn end(mut self) {
        self.is_over = true;
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let servers = self.servers;
        let told = servers.mono().saturating_sub(self.since) >= TELLING_WAIT;
        let next = if told { (self.index + 1) % servers.addresses.len() } else { self.index };
        // another request may have found a better one meanwhile
        servers.current.compare_exchange(self.first, next, Ordering::Relaxed, Ordering::Relaxed).ok();
    }
}

/// How one address took a request.
enum Outcome {
    /// It answered.
    Answered(Reply),
    /// It surely did nothing, or nothing could be changed: another may be asked.
    Next(TargetError),
    /// A standby names the address to ask instead.
    Elsewhere(String),
    /// No other may be asked.
    Final(TargetError),
}

impl Servers {
    pub(crate) fn new(http: HttpClient, addresses: Vec<ServerAddress>, namespace: Option<&str>) -> Self {
        // a configured namespace has letters, digits and few marks
        let namespace = namespace.and_then(|name| HeaderValue::from_str(name).ok());
        Self { http, addresses, namespace, current: AtomicUsize::new(0) }
    }

    /// Time since an arbitrary start.
    pub(crate) fn mono(&self) -> Duration {
        self.http.clock().now().mono
    }

    /// Sends it with `token` to the current address, then to those behind it, and then to those before it.
    pub(crate) async fn send(&self, ask: &Ask<'_>, token: Option<&SecretString>) -> Result<Reply, TargetError> {
        let first = self.current.load(Ordering::Relaxed) % self.addresses.len();
        let mut order: Vec<usize> = (first..self.addresses.len()).chain(0..first).collect();
        let mut last = TargetError::Unavailable("no address is configured".to_owned());
        while !order.is_empty() {
            let index = order.remove(0);
            let Some(address) = self.addresses.get(index) else { continue };
            let wait = Wait { servers: self, first, index, since: self.mono(), is_over: false };
            let outcome = self.try_at(address, ask, token).await;
            wait.end();
            match outcome {
                Outcome::Answered(reply) => {
                    self.current.store(index, Ordering::Relaxed);
                    return Ok(reply);
                }
                Outcome::Final(error) => return Err(error),
                Outcome::Next(error) => last = error,
                Outcome::Elsewhere(to) => {
                    last = TargetError::Unavailable(format!("{} is a standby", address.shown()));
                    let known = |index: &usize| self.addresses.get(*index).is_some_and(|known| known.is_origin_of(&to));
                    if let Some(position) = order.iter().position(known) {
                        let leader = order.remove(position);
                        order.insert(0, leader);
                    }
                }
            }
        }
        Err(last)
    }

    async fn try_at(&self, address: &ServerAddress, ask: &Ask<'_>, token: Option<&SecretString>) -> Outcome {
        let url = address.join(ask.path, ask.query);
        let mut request = Request::new(ask.method.clone(), url)
            .header(REQUEST, HeaderValue::from_static("true"))
            .answer_max(ANSWER_MAX);
        if let Some(namespace) = &self.namespace {
            request = request.header(NAMESPACE, namespace.clone());
        }
        if let Some(token) = token {
            request = match request.secret_header(TOKEN, "", token) {
                Ok(request) => request,
                Err(error) => return Outcome::Final(TargetError::Unauthenticated(error.to_string())),
            };
        }
        if let Some(body) = &ask.body {
            request = request.body(OutBody::new("application/json", Zeroizing::new(body.expose().to_vec())));
        }
        match self.http.send(request).await {
            Ok(answer) => judge(address, ask.effect, answer),
            Err(error) => not_answered(address, ask.effect, &error),
        }
    }
}

fn not_answered(address: &ServerAddress, effect: Effect, error: &HttpError) -> Outcome {
    let text = format!("{}: {error}", address.shown());
    if effect == Effect::Write && error.was_sent() {
        return Outcome::Final(TargetError::Unknown(text));
    }
    Outcome::Next(TargetError::Unavailable(text))
}

/// What the status says of the server; what it says of the request is the caller's to read.
fn judge(address: &ServerAddress, effect: Effect, answer: Answer) -> Outcome {
    let at = address.shown();
    let refusal = || wire::refusal(&answer.body);
    let not_now = |what: &str| Outcome::Next(TargetError::Unavailable(format!("{at} {what}")));
    match answer.head.status {
        // http/handler.go: a standby redirects and has done nothing
        307 => Outcome::Elsewhere(answer.head.text("location").unwrap_or_default()),
        // a rate limit quota is the whole cluster's (api-docs/system/rate-limit-quotas)
        429 => Outcome::Final(TargetError::Throttled(answer.head.retry_after())),
        // a performance standby has not seen yet what it was asked to have seen
        412 => not_now("lags behind"),
        // health codes of secondaries, where a balancer lets them through
        472 | 473 => not_now("is a standby"),
        503 if refusal() == Refusal::Sealed => not_now("is sealed"),
        503 if refusal() == Refusal::NotActive => not_now("knows no active node"),
        400 if refusal() == Refusal::Upgrading => not_now("upgrades its engine"),
        status @ 500.. if effect == Effect::Write => {
            Outcome::Final(TargetError::Unknown(format!("{at} answered status {status}")))
        }
        status @ 500.. => not_now(&format!("answered status {status}")),
        status => Outcome::Answered(Reply { status, body: answer.body }),
    }
}
