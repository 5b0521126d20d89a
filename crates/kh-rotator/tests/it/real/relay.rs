//! The way from one process to the platform: a relay that loses requests and answers, holds them, and lets them arrive
//! after everybody gave them up.
//!
//! Invariant: each request is a place where the process may die, before it is sent and after it was applied; a held
//! request arrives within the bound on calls that the policy promises, unless the network is told to break it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use kh_core::{Entropy, SeededEntropy};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::{stage::Stage, world::RealWorld};
use crate::gate::Gate;

/// How long a slow request or answer takes at most. An effect is up to three requests (a token, a look, the change), and
/// the product grants it 60 s: the rest of the bound on calls is left for the one that arrives late.
const SLOW_MAX: Duration = Duration::from_secs(18);

/// How long after its sending a request may arrive where the network keeps the bound of 2 min on calls.
pub(crate) const LATE_MAX: Duration = Duration::from_mins(1);

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Through,
    Lost,
    AnswerLost,
    Late(Duration),
    SlowRequest(Duration),
    SlowAnswer(Duration),
    Refused(u16),
    AnsweredWrongly,
    Garbled,
}

/// How bad the network is.
pub(crate) struct Weather {
    random: SeededEntropy,
    /// One changing request in so many goes wrong.
    one_in: u64,
    left: u32,
    /// A held request arrives within this time.
    late_max: Duration,
}

impl Weather {
    pub(crate) fn new(seed: u64, one_in: u64, most: u32, late_max: Duration) -> Self {
        Self { random: SeededEntropy::new(seed ^ 0x5eed), one_in, left: most, late_max }
    }

    fn fate(&mut self, changes: bool) -> Fate {
        // looks fail too, but they matter less
        let one_in = if changes { self.one_in } else { self.one_in.saturating_mul(6) };
        if self.left == 0 || self.random.below(one_in) != 0 {
            return Fate::Through;
        }
        self.left -= 1;
        let some = |most: Duration| Duration::from_secs(1 + self.random.below(most.as_secs().max(1)));
        if self.late_max > LATE_MAX && changes {
            return Fate::Late(some(self.late_max));
        }
        match self.random.below(10) {
            0 => Fate::Lost,
            1 | 2 => Fate::AnswerLost,
            3 | 4 if changes => Fate::Late(some(self.late_max)),
            5 => Fate::SlowRequest(some(SLOW_MAX)),
            6 => Fate::SlowAnswer(some(SLOW_MAX)),
            7 => Fate::Refused(429),
            8 => Fate::AnsweredWrongly,
            9 => Fate::Garbled,
            _ => Fate::Refused(503),
        }
    }
}

/// One request, held as bytes.
struct Held {
    parts: http::request::Parts,
    body: Bytes,
}

/// One process's way to the platform.
pub(crate) struct Relay {
    pub(crate) url: String,
    task: JoinHandle<()>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Line {
    upstream: String,
    gate: Arc<Gate>,
    stage: Arc<Stage>,
    world: Weak<RealWorld>,
}

#[derive(Debug, thiserror::Error)]
#[error("the relay closes the connection")]
struct Gone;

impl Relay {
    pub(crate) async fn start(upstream: &str, gate: &Arc<Gate>, world: &Arc<RealWorld>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let line = Arc::new(Line {
            upstream: upstream.trim_start_matches("http://").to_owned(),
            gate: Arc::clone(gate),
            stage: Arc::clone(&world.stage),
            world: Arc::downgrade(world),
        });
        let task = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                let line = Arc::clone(&line);
                tokio::spawn(async move {
                    let service = service_fn(move |request| Arc::clone(&line).answer(request));
                    // an error is what a broken connection looks like from here
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
                });
            }
        });
        Self { url, task }
    }
}

/// Whether a request changes something that outlives it.
fn changes(method: &http::Method, path: &str) -> bool {
    method != http::Method::GET
        && method != http::Method::HEAD
        && !path.contains("/oauth/token")
        && !path.contains("/usage/")
        && !path.contains("/token/access-key")
}

/// The request with ids left out.
fn named(method: &http::Method, path: &str) -> String {
    let word = |part: &str| if part.len() > 20 && !part.contains("-keys") { "*".to_owned() } else { part.to_owned() };
    let path: Vec<_> = path.split('/').map(word).collect();
    format!("{method} {}", path.join("/"))
}

impl Line {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Gone> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(|_| Gone)?.to_bytes();
        let world = self.world.upgrade().ok_or(Gone)?;
        let changes = changes(&parts.method, parts.uri.path());
        let what = named(&parts.method, parts.uri.path());
        let held = Held { parts, body };
        if changes {
            world.arrives(&what).await;
            self.gate.pass(&format!("{what}, before")).await;
        }
        let fate = world.weather.lock().unwrap().fate(changes);
        if fate != Fate::Through {
            world.met(&format!("{fate:?}").split(['(', ' ']).next().unwrap_or_default().to_lowercase());
        }
        match fate {
            Fate::Lost => return Err(Gone),
            Fate::Refused(status) => return Ok(refusal(status)),
            Fate::Late(span) => {
                self.hold(what, held, span);
                return Err(Gone);
            }
            Fate::SlowRequest(span) => self.stage.rest(span).await,
            Fate::Through | Fate::AnswerLost | Fate::SlowAnswer(_) | Fate::AnsweredWrongly | Fate::Garbled => {}
        }
        let mut response = self.forward(&world, &what, held, false).await?;
        if changes {
            self.gate.pass(&format!("{what}, after")).await;
        }
        match fate {
            Fate::AnswerLost => return Err(Gone),
            Fate::SlowAnswer(span) => self.stage.rest(span).await,
            Fate::AnsweredWrongly => response = refusal(502),
            Fate::Garbled => *response.body_mut() = Full::new(Bytes::from_static(b"<html>proxy</html>")),
            _ => {}
        }
        Ok(response)
    }

    /// The request arrives when its sender has long given it up.
    fn hold(self: Arc<Self>, what: String, held: Held, span: Duration) {
        let stage = Arc::clone(&self.stage);
        if let Some(world) = self.world.upgrade() {
            world.on_their_way(1);
        }
        stage.enter(span, async move {
            let Some(world) = self.world.upgrade() else { return };
            world.on_their_way(-1);
            self.forward(&world, &what, held, true).await.ok();
        });
    }

    async fn forward(
        &self,
        world: &Arc<RealWorld>,
        what: &str,
        held: Held,
        late: bool,
    ) -> Result<Response<Full<Bytes>>, Gone> {
        let changes = changes(&held.parts.method, held.parts.uri.path());
        let stream = TcpStream::connect(&self.upstream).await.map_err(|_| Gone)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|_| Gone)?;
        let driven = tokio::spawn(async move { connection.await.ok() });
        let Held { parts, body } = held;
        let answer = sender.send_request(Request::from_parts(parts, Full::new(body))).await.map_err(|_| Gone)?;
        let (mut head, body) = answer.into_parts();
        let body = body.collect().await.map_err(|_| Gone)?.to_bytes();
        driven.abort();
        // the length is that of the body which is sent on
        head.headers.remove(header::CONTENT_LENGTH);
        head.headers.remove(header::TRANSFER_ENCODING);
        world.learn_secrets(&body);
        if changes {
            world.answered(what, head.status, late);
            world.observe(&format!("{what}{}", if late { ", late" } else { "" })).await;
        }
        Ok(Response::from_parts(head, Full::new(body)))
    }
}

fn refusal(status: u16) -> Response<Full<Bytes>> {
    let body = match status {
        429 => r#"{"message":"Rate limit exceeded","code":"too.many.requests","status":429}"#,
        _ => r#"{"message":"later","code":"service.unavailable","status":503}"#,
    };
    let mut response = Response::new(Full::new(Bytes::from_static(body.as_bytes())));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static("3"));
    response
}

/// How often each thing happened.
pub(crate) type Counts = BTreeMap<String, u64>;

/// Counts under a lock.
#[derive(Default)]
pub(crate) struct Tally(pub(crate) Mutex<Counts>);

impl Tally {
    pub(crate) fn add(&self, what: &str) {
        *self.0.lock().unwrap().entry(what.to_owned()).or_default() += 1;
    }
}
