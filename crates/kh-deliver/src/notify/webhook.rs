//! Notices to a receiver of the operator's own: the same signed form as the delivery webhook, with the notice's id.
//!
//! Invariant: a notice that is sent again has the id that it had before.

use kh_core::port::{BoxFuture, Notice, Urgency};
use kh_net::http::HttpClient;

use super::Channel;
use crate::{Place, SecretFile, SendError, webhook::Sender};

/// A webhook for notices.
#[derive(Debug)]
pub struct WebhookChannel {
    name: String,
    threshold: Urgency,
    sender: Sender,
}

impl WebhookChannel {
    /// Posts to `place`, signed by the keys in the file `keys`.
    pub fn new(
        name: impl Into<String>,
        threshold: Urgency,
        place: Place,
        keys: SecretFile,
        client: HttpClient,
    ) -> Self {
        Self { name: name.into(), threshold, sender: Sender { place, keys, client } }
    }
}

impl Channel for WebhookChannel {
    fn name(&self) -> &str {
        &self.name
    }

    fn threshold(&self) -> Urgency {
        self.threshold
    }

    fn send<'a>(&'a self, notice: &'a Notice) -> BoxFuture<'a, Result<(), SendError>> {
        Box::pin(async move { self.sender.send(notice.id, &notice.kind, notice.at, notice).await.map(drop) })
    }
}
