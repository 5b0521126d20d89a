//! The protocol AWS JSON 1.1: what a request asks for, and how a refusal looks.

use http::Method;
use serde_json::{Map, Value as Json, json};

use crate::fake::{Reply, Request};

/// The media type of the protocol.
const MEDIA_TYPE: &str = "application/x-amz-json-1.1";

/// The operation that a request names; none for a request that is not of the protocol. Model, `metadata` and `http`:
/// JSON 1.1, target prefix `secretsmanager`, every operation is a POST to `/`.
pub(super) fn operation(request: &Request) -> Option<&str> {
    let media_type = request.header("content-type")?.split(';').next().unwrap_or_default().trim();
    let spoken = request.method == Method::POST && request.path == "/" && media_type.eq_ignore_ascii_case(MEDIA_TYPE);
    request.header("x-amz-target")?.strip_prefix("secretsmanager.").filter(|_| spoken)
}

/// A refusal in the service's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// `__type`.
    pub kind: &'static str,
    /// `Message`.
    pub message: String,
}

impl Refusal {
    /// Any refusal of the caller's fault.
    pub fn new(kind: &'static str, message: &str) -> Self {
        Self { status: 400, kind, message: message.to_owned() }
    }

    /// `ResourceNotFoundException`.
    pub fn not_found(message: &str) -> Self {
        Self::new("ResourceNotFoundException", message)
    }

    /// `ResourceExistsException`.
    pub fn exists(message: &str) -> Self {
        Self::new("ResourceExistsException", message)
    }

    /// `InvalidParameterException`.
    pub fn parameter(message: &str) -> Self {
        Self::new("InvalidParameterException", message)
    }

    /// `InvalidRequestException`: not valid for the present state.
    pub fn request(message: &str) -> Self {
        Self::new("InvalidRequestException", message)
    }

    /// `LimitExceededException`.
    pub fn limit(message: &str) -> Self {
        Self::new("LimitExceededException", message)
    }

    /// A member breaks the service model (required, length, pattern).
    pub fn validation(message: &str) -> Self {
        Self::new("ValidationException", message)
    }

    /// Its HTTP form.
    pub fn reply(&self) -> Reply {
        // Errors of the front door spell it "message", those of the service "Message"; clients must take both.
        let service = self.kind.starts_with("Resource") || self.kind.starts_with("InvalidParameter");
        let member = if service { "Message" } else { "message" };
        answer(self.status, &json!({"__type": self.kind, member: self.message})).with("x-amzn-errortype", self.kind)
    }
}

/// An answer in AWS JSON 1.1.
pub(super) fn answer(status: u16, body: &Json) -> Reply {
    let mut reply = Reply::empty(status).with("content-type", MEDIA_TYPE).with("x-amzn-requestid", &random_hex(32));
    reply.body = body.to_string().into();
    reply
}

/// `digits` random hexadecimal digits.
pub(super) fn random_hex(digits: usize) -> String {
    let mut bytes = [0; 32];
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        return "0".repeat(digits);
    }
    super::sigv4::hex(&bytes).chars().take(digits).collect()
}

/// A request's members, read strictly: each operation names the members that it knows, and any other is refused, so
/// that a client that relies on something that this fake leaves out is found.
pub(super) struct Members(Map<String, Json>);

impl Members {
    /// Parses a body.
    pub(super) fn parse(body: &[u8], known: &[&str]) -> Result<Self, Refusal> {
        let parsed: Json = serde_json::from_slice(body)
            .map_err(|_| Refusal::new("SerializationException", "The request is not a JSON document."))?;
        let Json::Object(members) = parsed else {
            return Err(Refusal::new("SerializationException", "The request is not a JSON object."));
        };
        if let Some(other) = members.keys().find(|member| !known.contains(&member.as_str())) {
            return Err(Refusal::validation(&format!("This fake does not know the member {other}.")));
        }
        Ok(Self(members))
    }

    /// A text member within its lengths.
    pub(super) fn text(&self, name: &str, min: usize, max: usize) -> Result<Option<&str>, Refusal> {
        match self.0.get(name) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::String(text)) if (min..=max).contains(&text.len()) => Ok(Some(text)),
            Some(Json::String(_)) => Err(Refusal::validation(&format!(
                "1 validation error detected: Value at '{name}' failed to satisfy constraint: Member must have length \
                 between {min} and {max}"
            ))),
            Some(_) => Err(Refusal::new("SerializationException", &format!("{name} is not text."))),
        }
    }

    /// A text member that must be there.
    pub(super) fn required(&self, name: &str, min: usize, max: usize) -> Result<&str, Refusal> {
        self.text(name, min, max)?.ok_or_else(|| {
            Refusal::validation(&format!(
                "1 validation error detected: Value null at '{name}' failed to satisfy constraint: Member must not be \
                 null"
            ))
        })
    }

    /// A list of texts.
    pub(super) fn texts(&self, name: &str, max: usize) -> Result<Vec<String>, Refusal> {
        let Some(list) = self.0.get(name) else { return Ok(Vec::new()) };
        let list = list.as_array().ok_or_else(|| Refusal::validation(&format!("{name} is not a list.")))?;
        if list.is_empty() || list.len() > max {
            return Err(Refusal::validation(&format!(
                "1 validation error detected: Value at '{name}' failed to satisfy constraint: Member must have length \
                 between 1 and {max}"
            )));
        }
        list.iter()
            .map(|item| item.as_str().filter(|text| (1..=256).contains(&text.len())).map(str::to_owned))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| Refusal::validation(&format!("{name} has a member that is not valid.")))
    }

    /// A flag.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.0.get(name).and_then(Json::as_bool).unwrap_or(false)
    }

    /// A whole number.
    pub(super) fn number(&self, name: &str, min: u64, max: u64) -> Result<Option<u64>, Refusal> {
        match self.0.get(name) {
            None | Some(Json::Null) => Ok(None),
            Some(number) => match number.as_u64().filter(|number| (min..=max).contains(number)) {
                Some(number) => Ok(Some(number)),
                None => Err(Refusal::validation(&format!("{name} must be between {min} and {max}."))),
            },
        }
    }

    /// Any member as it came.
    pub(super) fn raw(&self, name: &str) -> Option<&Json> {
        self.0.get(name)
    }
}
