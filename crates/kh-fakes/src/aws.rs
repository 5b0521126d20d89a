//! AWS Secrets Manager, and the two Lambda operations that a refresh of consumers needs.
//!
//! Invariants: no request is looked at before its signature (Version 4) and its identity's rights were checked; what
//! this fake does not know is refused, never taken silently; each rule names its source where it is written.
//!
//! Stricter than the emulators that people use (moto 5.2.5, LocalStack 4.14): a version cannot be overwritten by its
//! own token, the current label cannot be dropped, sizes and counts are limited, versions without a label are hidden.

mod lambda;
mod model;
mod operations;
mod sigv4;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use serde_json::{Value as Json, json};

pub use self::{
    lambda::Function,
    model::{
        CURRENT, Copying, LABELS_MAX, PREVIOUS, PUT_DISTANCE_MS, Secret, VALUE_MAX, VERSIONS_KEPT, Value, Version,
    },
    sigv4::SKEW_MAX_MS,
};
use self::{
    model::World,
    operations::Call,
    wire::{Refusal, random_hex},
};
use crate::{
    clock::FakeClock,
    fake::{Fake, Reply, Request},
};

/// The region that [`Fake::credentials`] names.
const REGION: &str = "eu-central-1";

/// One identity: an access key.
struct Key {
    secret: String,
    session: Option<String>,
    denied: BTreeSet<String>,
}

#[derive(Default)]
struct Shared {
    world: World,
    functions: BTreeMap<String, Function>,
    keys: BTreeMap<String, Key>,
}

/// The service, in every region at one address: a request's region is the one that it was signed for.
pub struct Aws {
    first: (String, String),
    shared: Mutex<Shared>,
}

impl Default for Aws {
    fn default() -> Self {
        Self::new()
    }
}

impl Aws {
    /// The service with one access key that has every right.
    pub fn new() -> Self {
        let first = (format!("AKIA{}", random_hex(16).to_uppercase()), random_hex(40));
        let made = Self { shared: Mutex::default(), first };
        made.add_key(&made.first.0, &made.first.1, None);
        made
    }

    /// The first access key: id and secret.
    pub fn key(&self) -> (&str, &str) {
        (&self.first.0, &self.first.1)
    }

    /// Lets an access key in, with every right.
    pub fn add_key(&self, id: &str, secret: &str, session: Option<&str>) {
        let key = Key { secret: secret.to_owned(), session: session.map(str::to_owned), denied: BTreeSet::new() };
        self.shared.lock().keys.insert(id.to_owned(), key);
    }

    /// Takes the right to an operation from a key.
    pub fn deny(&self, id: &str, operation: &str) {
        if let Some(key) = self.shared.lock().keys.get_mut(id) {
            key.denied.insert(operation.to_owned());
        }
    }

    /// Requests to a secret until its copies have a change.
    pub fn set_copy_lag(&self, requests: u32) {
        self.shared.lock().world.copy_lag = requests;
    }

    /// Reads of a secret after a change that still see what was before.
    pub fn set_read_lag(&self, reads: u32) {
        self.shared.lock().world.read_lag = reads;
    }

    /// A secret as the service has it, past every lag.
    pub fn secret(&self, region: &str, name: &str) -> Option<Secret> {
        self.shared.lock().world.find(region, name).cloned()
    }

    /// The names of a region's secrets.
    pub fn names(&self, region: &str) -> Vec<String> {
        self.shared.lock().world.regions.get(region).into_iter().flat_map(|all| all.keys().cloned()).collect()
    }

    /// Adds a Lambda function.
    pub fn add_function(&self, function: Function) {
        self.shared.lock().functions.insert(function.name.clone(), function);
    }

    /// A Lambda function as the service has it.
    pub fn function(&self, name: &str) -> Option<Function> {
        self.shared.lock().functions.get(name).cloned()
    }
}

impl Fake for Aws {
    fn operation(&self, request: &Request) -> String {
        match request.header("x-amz-target") {
            Some(_) => wire::operation(request).unwrap_or_default().to_owned(),
            None => {
                lambda::operation(&request.method, &request.path).map_or_else(String::new, |(name, _)| name.to_owned())
            }
        }
    }

    fn answer(&self, request: &Request, clock: &FakeClock) -> Reply {
        let now_ms = clock.now_ms();
        let mut shared = self.shared.lock();
        let reply = match shared.perform(request, &self.operation(request), now_ms) {
            Ok(reply) => reply,
            Err(refusal) => refusal.reply(),
        };
        // Clients learn their clock's error from it.
        reply.with("date", &sigv4::http_date(now_ms))
    }

    fn forbidden(&self) -> Reply {
        denied("this").reply()
    }

    /// "Common Errors": `ThrottlingException` has status 400.
    fn throttled(&self, retry_after_seconds: Option<u64>) -> Reply {
        let reply = Refusal::new("ThrottlingException", "Rate exceeded").reply();
        match retry_after_seconds {
            Some(seconds) => reply.with("retry-after", &seconds.to_string()),
            None => reply,
        }
    }

    fn failed(&self) -> Reply {
        Refusal { status: 500, ..Refusal::new("InternalServiceError", "An error occurred on the server side.") }.reply()
    }

    fn credentials(&self) -> Json {
        json!({"access_key_id": self.first.0, "secret_access_key": self.first.1, "region": REGION})
    }

    fn command(&self, name: &str, argument: &Json) -> Result<Json, String> {
        let text = |member: &str| argument[member].as_str().ok_or_else(|| format!("{member} is missing"));
        let count = |member: &str| {
            argument[member]
                .as_u64()
                .and_then(|count| u32::try_from(count).ok())
                .ok_or_else(|| format!("{member} is missing"))
        };
        match name {
            "deny" => self.deny(&self.first.0, text("operation")?),
            "key" => self.add_key(text("id")?, text("secret")?, argument["session"].as_str()),
            "copy-lag" => self.set_copy_lag(count("requests")?),
            "read-lag" => self.set_read_lag(count("reads")?),
            "function" => self.add_function(Function { name: text("name")?.to_owned(), ..Function::default() }),
            "puts-too-often" => {
                let often = self.secret(REGION, text("name")?).is_some_and(|secret| secret.puts_too_often(3));
                return Ok(json!(often));
            }
            _ => return Err("there is no such command".to_owned()),
        }
        Ok(Json::Null)
    }
}

fn denied(operation: &str) -> Refusal {
    Refusal::new(
        "AccessDeniedException",
        &format!("User: arn:aws:iam::000000000000:user/keyholder is not authorized to perform: {operation}"),
    )
}

impl Shared {
    fn perform(&mut self, request: &Request, operation: &str, now_ms: u64) -> Result<Reply, Refusal> {
        let scope = self.authenticate(request, now_ms)?;
        let key = self.keys.get(&scope.key).ok_or_else(unknown_key)?;
        if key.denied.contains(operation) {
            return Err(denied(operation));
        }
        match scope.service.as_str() {
            "secretsmanager" => {
                let call = Call { operation, region: &scope.region, body: &request.body, now_ms };
                let before = self.world.revision;
                let answer = operations::perform(&mut self.world, &call)?;
                Ok(Reply { changed: self.world.revision != before, ..wire::answer(200, &answer) })
            }
            "lambda" => {
                let answer = lambda::perform(&mut self.functions, &request.method, &request.path, &request.body)?;
                Ok(Reply { changed: operation == lambda::UPDATE, ..answer })
            }
            other => Err(Refusal::new(
                "InvalidSignatureException",
                &format!("Credential should be scoped to correct service, not {other}."),
            )),
        }
    }

    /// Checks who asks, before anything else.
    fn authenticate(&self, request: &Request, now_ms: u64) -> Result<sigv4::Scope, Refusal> {
        let scope = sigv4::claimed(&request.headers)?;
        let key = self.keys.get(&scope.key).ok_or_else(unknown_key)?;
        if request.header("x-amz-security-token") != key.session.as_deref() {
            return Err(unknown_key());
        }
        sigv4::verify(request, &key.secret, now_ms)?;
        Ok(scope)
    }
}

fn unknown_key() -> Refusal {
    Refusal::new("UnrecognizedClientException", "The security token included in the request is invalid.")
}
