//! The handle by which a test steers a fake, and the same as requests below `/_fake/` for tests in other languages.
//!
//! Invariant: what comes by `/_fake/` is neither journalled nor hit by a fault.

use std::sync::Arc;

use http::Method;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{
    clock::FakeClock,
    fake::{Fake, Reply, Request},
    faults::{Fault, Faults, Rule},
    journal::{Entry, Journal},
};

/// Below it are the requests that steer the fake.
pub(crate) const CONTROL_PATH: &str = "/_fake/";

/// Steers a running fake. Clones steer the same one.
#[derive(Clone)]
pub struct Control(Arc<Inner>);

struct Inner {
    fake: Arc<dyn Fake>,
    clock: FakeClock,
    faults: Mutex<Faults>,
    journal: Mutex<Journal>,
    arrived: watch::Sender<u64>,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

impl Control {
    pub(crate) fn new(fake: Arc<dyn Fake>) -> Self {
        Self(Arc::new(Inner {
            fake,
            clock: FakeClock::default(),
            faults: Mutex::default(),
            journal: Mutex::default(),
            arrived: watch::Sender::new(0),
        }))
    }

    /// Adds a rule of what goes wrong; rules are tried in the order of their adding.
    pub fn fault(&self, rule: Rule) {
        self.0.faults.lock().add(rule);
    }

    /// Nothing goes wrong any more.
    pub fn heal(&self) {
        self.0.faults.lock().clear();
    }

    /// The fake's clock.
    pub fn clock(&self) -> &FakeClock {
        &self.0.clock
    }

    /// What was asked so far, in the order in which it was done; the entries' numbers tell the order of arrival.
    pub fn journal(&self) -> Vec<Entry> {
        self.0.journal.lock().entries()
    }

    /// How many requests changed the store so far.
    pub fn changes(&self) -> u64 {
        self.0.journal.lock().changes()
    }

    /// Forgets what was asked; counts go on.
    pub fn forget(&self) {
        self.0.journal.lock().clear();
    }

    /// Takes one request to its end. None: the connection ends without an answer.
    pub(crate) async fn handle(&self, request: &Request) -> Option<Reply> {
        if let Some(command) = request.path.strip_prefix(CONTROL_PATH) {
            return Some(self.steer(command, request));
        }
        let operation = self.0.fake.operation(request);
        let number = self.0.journal.lock().arrive();
        self.0.arrived.send_replace(number);
        let fault = self.0.faults.lock().take(&operation);
        if let Some(Fault::HoldFor { requests }) = fault {
            let mut arrived = self.0.arrived.subscribe();
            // the sender lives as long as this handle
            drop(arrived.wait_for(|count| *count >= number + requests).await);
        }
        let (reply, reached, answered) = self.apply(request, fault);
        self.0.journal.lock().add(Entry {
            number,
            method: request.method.to_string(),
            path: request.path.clone(),
            operation,
            status: reply.status,
            reached,
            changed: reply.changed,
            answered,
        });
        answered.then_some(reply)
    }

    /// The reply, whether the service was reached, and whether its answer is sent.
    fn apply(&self, request: &Request, fault: Option<Fault>) -> (Reply, bool, bool) {
        let fake = &self.0.fake;
        let done = || fake.answer(request, &self.0.clock);
        match fault {
            None | Some(Fault::HoldFor { .. }) => (done(), true, true),
            Some(Fault::DropBefore) => (Reply::empty(0), false, false),
            Some(Fault::DropAfter) => (done(), true, false),
            Some(Fault::Forbid) => (fake.forbidden(), false, true),
            Some(Fault::Throttle { retry_after_seconds }) => (fake.throttled(retry_after_seconds), false, true),
            Some(Fault::FailBefore) => (fake.failed(), false, true),
            Some(Fault::FailAfter) => {
                let changed = done().changed;
                (Reply { changed, ..fake.failed() }, true, true)
            }
            Some(Fault::Answer { status, body }) => (Reply { body: body.into(), ..Reply::empty(status) }, false, true),
        }
    }

    fn steer(&self, command: &str, request: &Request) -> Reply {
        let argument = if request.body.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&request.body) };
        let Ok(argument) = argument else { return Reply::json(400, &json!({"error": "the body is not JSON"})) };
        let done = match (command, &request.method) {
            ("faults", &Method::POST) => serde_json::from_value(argument)
                .map(|rule| {
                    self.fault(rule);
                    Value::Null
                })
                .map_err(|error| error.to_string()),
            ("faults", &Method::DELETE) => {
                self.heal();
                Ok(Value::Null)
            }
            ("journal", &Method::GET) => Ok(json!(self.journal())),
            ("journal", &Method::DELETE) => {
                self.forget();
                Ok(Value::Null)
            }
            ("clock", &Method::POST) => match argument["shift_seconds"].as_i64() {
                Some(seconds) => {
                    self.0.clock.shift(seconds);
                    Ok(json!({"now_ms": self.0.clock.now_ms()}))
                }
                None => Err("shift_seconds is missing".to_owned()),
            },
            (name, &Method::POST) => self.0.fake.command(name, &argument),
            _ => Err("there is no such command".to_owned()),
        };
        match done {
            Ok(value) => Reply::json(200, &value),
            Err(error) => Reply::json(400, &json!({"error": error})),
        }
    }
}
