//! `POST {prefix}/keyholder/events/NAME`: what a platform tells of its tokens, handed on to whoever carries it out.
//!
//! Invariants: a bearer is looked at before anything is read of a body; bodies of senders that are known only by what
//! they sent are read a few at a time, fewer of one address, and for a few seconds; the refusals of a wrong, an old and
//! a repeated signature are one answer; each sender that is refused is told to the security log, and whoever is refused
//! too often has to wait; whoever carries deliveries out hears of each one, also of those that were refused before, and
//! counts them.

mod seats;

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, Method, StatusCode, header, request::Parts};
use hyper::body::Incoming;
use kh_core::{
    Code, Confirmation, UnixMillis,
    port::{BoxFuture, security::Presented},
};
use kh_verify::Reason;

use self::seats::Seats;
use super::{Visit, method_refused, read_up_to};
use crate::{
    answer::{self, Answer, Refusal},
    bearer,
    outbound::binding::{self, Unproven},
};

/// How long the body of a sender that signs may take as a whole: it is not known yet who holds the seat. 288 KiB come
/// within it over a line of half a megabit per second.
const SIGNED_BODY: Duration = Duration::from_secs(5);

/// How far a signed delivery's time and ours may differ: what Standard Webhooks recommends. A delivery out of it is not
/// read; whoever looks at the signature has a window of its own.
const WINDOW: Duration = Duration::from_mins(5);

/// When to come back, for a sender that was one too many.
const BUSY: Duration = Duration::from_secs(1);

/// A signed delivery's headers (Standard Webhooks 1.0.0).
const SIGNED: [&str; 3] = ["webhook-id", "webhook-timestamp", SIGNATURE];
const SIGNATURE: &str = "webhook-signature";

/// RFC 6750 section 3.
const CHALLENGE: &str = r#"Bearer realm="keyholder""#;
const CHALLENGE_INVALID: &str = r#"Bearer realm="keyholder", error="invalid_token""#;

/// How a delivery shows where it comes from.
#[derive(Clone, Copy)]
pub enum Proof<'a> {
    /// It came with a bearer that was admitted for this client.
    Admitted(&'a str),
    /// It is signed: `webhook-id`, `webhook-timestamp`, `webhook-signature`.
    Signed([&'a str; 3]),
}

/// Whose bearer a delivery came with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bearer {
    /// The client.
    pub client: String,
    /// What its token is bound to, which is checked before a body is read.
    pub bound: Option<Confirmation>,
}

/// Why a delivery is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotTaken {
    /// Its sender is not known.
    Unauthenticated,
    /// Its sender may not send here.
    Forbidden,
    /// It is no event.
    Malformed,
    /// There are too many; when to come back.
    TooMany(Duration),
    /// It could not be carried out now.
    Unavailable,
}

/// Whoever carries events out.
pub trait EventSink: Send + Sync {
    /// Largest body of an event of the endpoint `name`; none where there is no such endpoint.
    fn body_max(&self, name: &str) -> Option<usize>;

    /// The client that `token` speaks for, if it may send to `name`.
    fn admit<'a>(&'a self, name: &'a str, token: &'a [u8]) -> BoxFuture<'a, Result<Bearer, NotTaken>>;

    /// A delivery to `name` was refused before it came here, or between being admitted and being taken. For the counters.
    fn refused(&self, name: &str, why: NotTaken);

    /// Takes a delivery, if its proof holds. Whatever was carried out is durable when this returns.
    fn take<'a>(&'a self, name: &'a str, proof: Proof<'a>, body: &'a [u8]) -> BoxFuture<'a, Result<(), NotTaken>>;
}

/// The endpoints for events of one gateway.
#[derive(Clone)]
pub struct Events {
    sink: Arc<dyn EventSink>,
    seats: Arc<Seats>,
}

impl Events {
    /// Hands events on to `sink`.
    pub fn new(sink: Arc<dyn EventSink>) -> Self {
        Self { sink, seats: Arc::default() }
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

/// A refused delivery; with the reason where its sender was refused.
struct Refused {
    reason: Option<&'static str>,
    refusal: Refusal,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { reason: None, refusal }
    }
}

impl From<Unproven> for Refused {
    fn from(Unproven { reason, refusal }: Unproven) -> Self {
        Self { reason: Some(reason.as_str()), refusal }
    }
}

/// Answers a delivery to the endpoint at the end of the path.
pub(super) async fn answer(visit: Visit<'_>, parts: &Parts, body: Incoming) -> Result<Answer, Refusal> {
    taken(visit, parts, body).await.map_err(|Refused { reason, refusal }| {
        if let Some(reason) = reason {
            let is_signed = parts.headers.contains_key(SIGNATURE);
            let shown = if is_signed { Presented::Signature } else { Presented::Nothing };
            // there is a reason only where an endpoint has this name: it is the configuration's word, not the caller's
            visit.telling.sender_refused(parts, endpoint(parts), (reason, shown), &refusal);
        }
        refusal
    })
}

/// The name of an endpoint, at the end of the path.
fn endpoint(parts: &Parts) -> &str {
    parts.uri.path().rsplit('/').next().unwrap_or_default()
}

async fn taken(visit: Visit<'_>, parts: &Parts, body: Incoming) -> Result<Answer, Refused> {
    let nothing = || Refusal::new(Code::NOT_FOUND, "there is no such resource");
    let events = visit.site.events.as_ref().ok_or_else(nothing)?;
    let name = endpoint(parts);
    let body_max = events.sink.body_max(name).ok_or_else(nothing)?;
    if parts.method != Method::POST {
        return Err(Refusal { told: Some("POST".into()), ..method_refused() }.into());
    }
    let with_token = parts.headers.contains_key(header::AUTHORIZATION);
    let sender = |(why, reason)| Refused { reason: Some(reason), refusal: refusal(why, with_token) };
    // before the sink was asked, which counts it all the same
    let early = |why, refused: Refused| {
        events.sink.refused(name, why);
        refused
    };
    let stranger = |shown| {
        let unknown = unknown(visit, shown);
        early(unknown.0, sender(unknown))
    };
    let body_idle = visit.caller.worker.limits.body_idle;
    let unread = |refusal: Refusal| early(NotTaken::Malformed, refusal.into());
    // by the sink
    let refused = |why, reason| match why {
        NotTaken::Unauthenticated => sender(unknown(visit, Shown::NotValid(reason))),
        NotTaken::Forbidden => Refused { reason: Some("sender_not_allowed"), refusal: refusal(why, with_token) },
        NotTaken::Malformed | NotTaken::TooMany(_) | NotTaken::Unavailable => refusal(why, with_token).into(),
    };
    if let Some(value) = parts.headers.get(header::AUTHORIZATION) {
        let shown = bearer::shown(value.as_bytes());
        let shown = shown.ok_or_else(|| stranger(Shown::Nothing("scheme_refused")))?;
        let admitted = events.sink.admit(name, shown.1).await;
        let Bearer { client, bound } = admitted.map_err(|why| refused(why, "token_unknown"))?;
        binding::verify(visit.telling, parts, shown, bound.as_ref())
            .map_err(|unproven| early(why_unproven(&unproven), unproven.into()))?;
        let body = read_up_to(body, body_max, body_idle).await.map_err(unread)?;
        let taken = events.sink.take(name, Proof::Admitted(&client), &body).await;
        taken.map_err(|why| refused(why, "token_unknown"))?;
    } else {
        let none = if parts.headers.contains_key(SIGNATURE) { "signature_invalid" } else { "token_missing" };
        let signed = signed(&parts.headers);
        let signed = signed.ok_or_else(|| stranger(Shown::Nothing(none)))?;
        let now = visit.telling.asked.began.now;
        if !is_current(signed, now.wall) {
            return Err(stranger(Shown::NotValid("signature_invalid")));
        }
        let (security, attempt) = (&visit.site.security, visit.telling.attempt(None));
        let busy = NotTaken::TooMany(BUSY);
        let seat = events.seats.take(attempt.address);
        let (_seat, awaited) = seat.ok_or_else(|| early(busy, refusal(busy, with_token).into()))?;
        let body = read_up_to(body, body_max, SIGNED_BODY.min(body_idle)).await.map_err(|refusal| {
            if refusal.code == Code::REQUEST_MALFORMED {
                // it did not come: whoever wants to keep others out does that
                security.failed(attempt, visit.caller.worker.began().now);
            }
            unread(refusal)
        })?;
        drop(awaited);
        let taken = events.sink.take(name, Proof::Signed(signed), &body).await;
        taken.map_err(|why| refused(why, "signature_invalid"))?;
    }
    let (mut response, outcome) = answer::empty();
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok((response, outcome))
}

/// What a sender showed that is not known, by its reason.
#[derive(Clone, Copy)]
enum Shown {
    /// Nothing that could be looked at.
    Nothing(&'static str),
    /// It was looked at, and is not valid.
    NotValid(&'static str),
}

/// How a sender is refused that is not known, and for which reason. Who is known is never made to wait for what others do
/// at its address, which may be that of a platform's proxy.
fn unknown(visit: Visit<'_>, shown: Shown) -> (NotTaken, &'static str) {
    let (security, now) = (&visit.site.security, visit.caller.worker.began().now);
    let attempt = visit.telling.attempt(None);
    if let Some(wait) = security.wait(attempt, now) {
        return (NotTaken::TooMany(wait), "throttled");
    }
    let reason = match shown {
        Shown::Nothing(reason) => reason,
        Shown::NotValid(reason) => {
            security.failed(attempt, now);
            reason
        }
    };
    (NotTaken::Unauthenticated, reason)
}

/// How a delivery ended whose token came without what it is bound to.
fn why_unproven(unproven: &Unproven) -> NotTaken {
    if unproven.reason == Reason::ProofUnremembered { NotTaken::Unavailable } else { NotTaken::Unauthenticated }
}

/// Whether a signed delivery is of these minutes, as it says.
fn is_current([_, timestamp, _]: [&str; 3], now: UnixMillis) -> bool {
    let at = timestamp.parse::<u64>().ok().and_then(|seconds| seconds.checked_mul(1_000)).map(UnixMillis);
    at.is_some_and(|at| at.since(now) <= WINDOW && now.since(at) <= WINDOW)
}

/// The three headers, each there once.
fn signed(headers: &HeaderMap) -> Option<[&str; 3]> {
    let mut values = SIGNED.into_iter().map(|name| {
        let mut all = headers.get_all(name).iter();
        let (Some(one), None) = (all.next(), all.next()) else { return None };
        one.to_str().ok()
    });
    Some([values.next()??, values.next()??, values.next()??])
}

fn refusal(why: NotTaken, with_token: bool) -> Refusal {
    match why {
        NotTaken::Unauthenticated => {
            let challenge = if with_token { CHALLENGE_INVALID } else { CHALLENGE };
            let detail = "the delivery's bearer or signature is missing or not valid";
            Refusal { told: Some(challenge.into()), ..Refusal::new(Code::CALLER_UNAUTHENTICATED, detail) }
        }
        NotTaken::Forbidden => Refusal::new(Code::CALL_NOT_ALLOWED, "the client may not deliver events here"),
        NotTaken::Malformed => Refusal::new(Code::REQUEST_MALFORMED, "the body is no event in EventBridge's form"),
        NotTaken::TooMany(wait) => {
            let refusal = Refusal::new(Code::OVERLOADED, "there are too many events at once");
            Refusal { status: StatusCode::TOO_MANY_REQUESTS, ..refusal }.after(wait)
        }
        NotTaken::Unavailable => {
            Refusal::new(Code::STATE_UNAVAILABLE, "the event could not be carried out now").after(BUSY)
        }
    }
}
