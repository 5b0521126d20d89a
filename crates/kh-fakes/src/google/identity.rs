//! Tokens: those that the metadata server hands out, and a lasting one for clients in other languages.
//!
//! Source: cloud.google.com/compute/docs/metadata/querying-metadata and
//! cloud.google.com/compute/docs/access/authenticate-workloads (the header `Metadata-Flavor: Google` both ways).

use std::collections::BTreeMap;

use serde_json::json;

use super::refused;
use crate::fake::{Reply, Request};

/// A token's life in seconds.
const TOKEN_SECONDS: u64 = 3_600;

/// The tokens made.
#[derive(Debug)]
pub(super) struct Identity {
    lasting: String,
    /// Token and when it ends, in seconds since 1970.
    tokens: BTreeMap<String, u64>,
    counter: u64,
}

impl Default for Identity {
    fn default() -> Self {
        Self { lasting: "ya29.MARKED-lasting".to_owned(), tokens: BTreeMap::new(), counter: 0 }
    }
}

impl Identity {
    pub(super) fn lasting(&self) -> &str {
        &self.lasting
    }

    pub(super) fn revoke(&mut self) {
        self.tokens.clear();
    }

    /// cloud.google.com/apis/design/errors: `UNAUTHENTICATED` with status 401.
    pub(super) fn admit(&self, request: &Request, now: u64) -> Result<(), Reply> {
        let token = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        match token {
            Some(token) if token == self.lasting || self.tokens.get(token).is_some_and(|end| *end > now) => Ok(()),
            _ => {
                let message = "Request had invalid authentication credentials.";
                Err(refused(401, "UNAUTHENTICATED", message)
                    .with("www-authenticate", "Bearer realm=\"https://accounts.google.com/\""))
            }
        }
    }

    pub(super) fn metadata(&mut self, request: &Request, now: u64) -> Reply {
        if request.header("metadata-flavor") != Some("Google") {
            return Reply::empty(403);
        }
        let text = |text: &str| Reply { body: text.to_owned().into(), ..Reply::empty(200) };
        let reply = match request.path.strip_prefix("/computeMetadata/v1/").unwrap_or_default() {
            "instance/service-accounts/default/token" => {
                self.counter += 1;
                let token = format!("ya29.MARKED-{}", self.counter);
                self.tokens.insert(token.clone(), now + TOKEN_SECONDS);
                Reply::json(
                    200,
                    &json!({"access_token": token, "expires_in": TOKEN_SECONDS - 1, "token_type": "Bearer"}),
                )
            }
            "instance/service-accounts/default/email" => text("keyholder@acme.iam.gserviceaccount.com"),
            "universe/universe-domain" => text("googleapis.com"),
            _ => Reply::empty(404),
        };
        reply.with("metadata-flavor", "Google")
    }
}
