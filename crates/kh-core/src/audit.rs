//! The audit event: what a person (or keyholder on a person's orders) changed. Never holds a secret.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Entropy, UnixMillis};

/// One change, as it will stand in the audit log. Equal `id` means the same event: appending twice writes it once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditEvent {
    /// Random (version 4) id, the idempotency key.
    pub id: Uuid,
    /// When it was decided, wall time.
    pub at: UnixMillis,
    /// Who: `cli:<login name>`, `client:<client id>`, `keyholder`.
    pub actor: String,
    /// What: `client.add`, `secret.set`, ... in the form `noun.verb`.
    pub action: String,
    /// To what: the client's, secret's or setting's name.
    pub subject: String,
    /// Further facts in a fixed order; values must not be secrets.
    pub detail: Vec<(String, String)>,
}

impl AuditEvent {
    /// A new event with a fresh id and no details.
    pub fn new(entropy: &dyn Entropy, at: UnixMillis, actor: &str, action: &str, subject: &str) -> Self {
        let mut bytes = [0; 16];
        entropy.fill(&mut bytes);
        Self {
            id: uuid::Builder::from_random_bytes(bytes).into_uuid(),
            at,
            actor: actor.to_owned(),
            action: action.to_owned(),
            subject: subject.to_owned(),
            detail: Vec::new(),
        }
    }

    /// The same event with one more detail.
    pub fn with(mut self, key: &str, value: &impl ToString) -> Self {
        self.detail.push((key.to_owned(), value.to_string()));
        self
    }
}
