//! Calls to platforms for callers that were authenticated elsewhere: the reverse-proxy mode of the broker's listener,
//! `/{profile}/api/v2/...`. The same engine as the gateway's: a refused token is healed once, a short `Retry-After` is
//! waited out, bodies stream both ways.
//!
//! Invariants: an operation that handles a platform's secrets is refused, for whoever asks; no header with which the
//! caller proved itself here reaches a platform; there are no tunnels and no endpoints of keyholder's own.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderName, Method, Request, Response, Uri, request::Parts};
use http_body::{Body, Frame, SizeHint};
use kh_broker::Credential;
use kh_core::{ClientId, Code, PlatformKind};
use tokio::task::AbortHandle;
use tokio_util::task::TaskTracker;

use crate::{
    answer::{Answer, CORRELATION_ID, Refusal, correlation_text},
    config::{Limits, Ports},
    exchange::{
        body::{InFlight, ReplayBudget, ReplyBody},
        in_body::{BoxError, InBody},
    },
    guards,
    observe::Trail,
    outbound::{
        call::{self, Call},
        route::{Route, is_cxone_account, route},
        tokens::Tokens,
    },
    request::{self, Began, Caller, Ends},
    server::Sniff,
    worker::Worker,
};

/// What local callers prove themselves with: meant for keyholder, never for a platform.
const GUARDS: [HeaderName; 2] =
    [HeaderName::from_static("x-keyholder-token"), HeaderName::from_static("x-aws-parameters-secrets-token")];

/// Whom the broker is told about when a platform refuses a token. All local callers are one: they are not told apart.
const WHO: &str = "local";

/// The engine for callers that were authenticated elsewhere. It has connections of its own; drop it to close them.
pub struct LocalProxy {
    worker: Arc<Worker>,
    who: ClientId,
    sweeping: AbortHandle,
}

impl LocalProxy {
    /// Must be made on the runtime on which it is used.
    pub fn new(ports: Ports, limits: Limits) -> Self {
        let budget = Arc::new(ReplayBudget::new(limits.replay_total_bytes, limits.replay_body_bytes));
        let worker = Arc::new(Worker::new(ports.split().0, limits, budget, TaskTracker::new()));
        let sweeping = tokio::spawn(Worker::sweep(Arc::downgrade(&worker))).abort_handle();
        let who = WHO.parse().expect("the name is a client id");
        Self { worker, who, sweeping }
    }

    /// Makes the call that `request` asks for with the token of `credential`. The platform's path begins at the byte
    /// `prefix_len` of the request's path, and with a slash. Every failure is an answer, in the platform's error shape.
    ///
    /// The caller has been authenticated, and its `Host` and connection checked.
    pub async fn handle<B>(
        &self,
        request: Request<B>,
        credential: Arc<Credential>,
        prefix_len: usize,
    ) -> Response<LocalBody>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let worker = &self.worker;
        let in_flight = InFlight::new(&worker.ports.metrics.in_flight);
        let began = worker.began();
        let (mut parts, body) = request.into_parts();
        let trail = worker.ports.observer.as_ref().map(|it| Trail::begin(it, &parts, began, None, false));
        let is_head = parts.method == Method::HEAD;
        let uri = parts.uri.clone();
        // a copy of the handle, not of the bytes
        let sent_id = parts.headers.get(CORRELATION_ID).cloned();
        let kind = credential.spec().kind;
        let call = Local { proxy: self, credential, prefix: prefix_len, kind, began, trail: trail.as_ref() };
        let answer = match call.make(&mut parts, &uri, InBody::other(body)).await {
            Ok(answer) => answer,
            Err(refusal) => {
                if let Some(trail) = &trail {
                    trail.refused(refusal.code);
                }
                // the path is a profile's: whatever it looks like, this is a call to a platform
                worker.ports.metrics.refused(Route::Other.template(), refusal.code.0);
                let sent_id = || sent_id.as_ref().and_then(correlation_text).map(Box::<str>::from);
                let id = refusal.correlation_id.clone().or_else(sent_id).unwrap_or_else(|| worker.context_id().into());
                refusal.into_answer(kind, &id)
            }
        };
        request::conclude(worker, answer, None, began, in_flight, trail, is_head).map(LocalBody)
    }
}

impl Drop for LocalProxy {
    fn drop(&mut self) {
        self.sweeping.abort();
    }
}

/// One call.
struct Local<'a> {
    proxy: &'a LocalProxy,
    credential: Arc<Credential>,
    prefix: usize,
    kind: PlatformKind,
    began: Began,
    trail: Option<&'a Arc<Trail>>,
}

impl Local<'_> {
    async fn make(self, parts: &mut Parts, uri: &Uri, body: InBody) -> Result<Answer, Refusal> {
        let Self { proxy, credential, prefix, kind, began, trail } = self;
        let head = guards::check(&parts.method, uri, parts.version, &parts.headers).map_err(Refusal::ambiguous)?;
        // what stands before was read by whoever called; the platform never sees it
        if !uri.path().get(prefix..).is_some_and(|path| path.starts_with('/')) {
            return Err(Refusal::new(Code::NOT_FOUND, NO_SUCH));
        }
        let platforms = request::target(&proxy.worker, uri, prefix)?;
        let (prefix, path) = match (route(platforms.as_str()), kind) {
            (Route::Genesys { prefix: more, .. }, PlatformKind::Genesys) => {
                (prefix + more, platforms.tail(more).unwrap_or(platforms))
            }
            (Route::Other | Route::Genesys { .. }, PlatformKind::Cxone | PlatformKind::Oauth2) => (prefix, platforms),
            // logging in is what the caller need not do here
            _ => return Err(Refusal::new(Code::NOT_FOUND, NO_SUCH)),
        };
        if let Some(trail) = trail {
            trail.path(path.as_str());
            trail.credential(credential.name());
        }
        if kh_policy::guarded(kind, parts.method.as_str(), &path).is_some() {
            let told = "this operation handles platform secrets, and no local caller has a right to such operations";
            return Err(Refusal::new(Code::CALL_GUARDED, told));
        }
        for name in GUARDS {
            parts.headers.remove(name);
        }
        // also what a tunnel would be made of
        parts.extensions.clear();
        let caller = Caller::new(Arc::clone(&proxy.worker), Arc::new(Sniff::default()), None, Ends::default());
        let account = kind == PlatformKind::Cxone && is_cxone_account(path.as_str());
        let tokens = Tokens::shared(credential);
        let call = Call {
            caller: &caller,
            who: &proxy.who,
            tokens,
            head,
            prefix,
            account,
            began,
            trail,
            trace: None,
            session: None,
        };
        call::forward(call, parts, body).await
    }
}

const NO_SUCH: &str = "there is no such resource: what follows the profile is a path of the platform's API";

/// The body of an answer. It streams: what is read of it is read from the platform.
pub struct LocalBody(ReplyBody);

impl Body for LocalBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Pin::new(&mut self.get_mut().0).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}
