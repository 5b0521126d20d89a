//! No secret reaches a log at any level. The official SDK tells each request at TRACE, with its body if the variable
//! `LOG_SIGNABLE_BODY` is set: so none of its events may come through at all.

use std::{
    fmt::{Debug, Write},
    sync::Arc,
};

use kh_core::port::SecretTarget;
use parking_lot::Mutex;
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use crate::bench::{Fake, path, plain_client, write};

/// Keeps every field of every event and span.
#[derive(Clone, Default)]
struct Everything(Arc<Mutex<String>>);

struct Fields<'a>(&'a mut String);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _infallible = writeln!(self.0, "{field}={value:?}");
    }
}

impl Subscriber for Everything {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        attributes.record(&mut Fields(&mut self.0.lock()));
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, values: &span::Record<'_>) {
        values.record(&mut Fields(&mut self.0.lock()));
    }
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        event.record(&mut Fields(&mut self.0.lock()));
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// The secret as text, and as the numbers of a printed byte slice.
fn leaks(text: &str) -> bool {
    let numbers = "MARKED-SECRET".bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(", ");
    text.contains("MARKED-SECRET") || text.contains(&numbers)
}

#[tokio::test]
async fn no_secret_is_logged_at_any_level() {
    let seen = Everything::default();
    let _guard = tracing::subscriber::set_default(seen.clone());
    let fake = Fake::start().await;
    let (store, at) = (fake.store(), path("silent"));
    let (token, document) = write(1);
    store.stage(&at, token, &document).await.unwrap();
    let one = store.promote(&at, token, None).await.unwrap();
    let (token, document) = write(2);
    store.stage(&at, token, &document).await.unwrap();
    store.staged(&at, token).await.unwrap().unwrap();
    store.promote(&at, token, Some(&one)).await.unwrap();
    store.live(&at).await.unwrap();
    assert!(!leaks(&seen.0.lock()), "no secret");
    assert!(!seen.0.lock().contains("SignableRequest"), "no request of the SDK's, whatever it holds");

    // The recorder does see the SDK, and a secret.
    let client = plain_client(&fake.running.url, fake.aws.key()).await;
    client.put_secret_value().secret_id("silent").secret_string("MARKED-SECRET").send().await.unwrap();
    assert!(seen.0.lock().contains("SignableRequest"));
    tracing::trace!(bytes = ?b"MARKED-SECRET".as_slice(), "a mistake");
    assert!(leaks(&seen.0.lock()));
}
