//! The watch of several secret stores, one of which does not answer.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kh_broker::{Broker, CredentialSpec};
use kh_core::{
    SecretReference, SeededEntropy,
    port::{BoxFuture, SecretSource, SourceError, StoredSecret},
};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep},
};

use crate::fakes::{FakeEndpoint, spec, tokio_clock};

/// Stores that all have one version of everything. The one named `slow` answers nothing.
struct Stores {
    version: AtomicU64,
    /// Questions to the slow one that are open, and the most of them at once.
    open: Mutex<(u64, u64)>,
}

struct Open<'a>(&'a Stores);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.lock().unwrap().0 -= 1;
    }
}

impl SecretSource for Stores {
    fn read<'a>(&'a self, _: &'a SecretReference) -> BoxFuture<'a, Result<StoredSecret, SourceError>> {
        unreachable!("nobody wants a token")
    }

    fn version<'a>(&'a self, reference: &'a SecretReference) -> BoxFuture<'a, Result<u64, SourceError>> {
        Box::pin(async move {
            if reference.store_name() != "slow" {
                return Ok(self.version.load(Ordering::SeqCst));
            }
            let _open = {
                let mut open = self.open.lock().unwrap();
                open.0 += 1;
                open.1 = open.1.max(open.0);
                Open(self)
            };
            std::future::pending().await
        })
    }
}

fn at(name: &str, secret: &str) -> CredentialSpec {
    CredentialSpec { secret: secret.parse().unwrap(), ..spec(name, &FakeEndpoint::playing(&[]), "1") }
}

fn version(broker: &Broker, name: &str) -> u64 {
    broker.credential(&name.parse().unwrap()).unwrap().status().secret_version
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_delays_no_news_of_another() {
    let stores = Arc::new(Stores { version: AtomicU64::new(1), open: Mutex::default() });
    let mut specs: Vec<_> = (1..=9).map(|number| at(&format!("far-{number}"), &format!("slow:{number}"))).collect();
    specs.push(at("near", "store:near"));
    let source = Arc::clone(&stores) as Arc<dyn SecretSource>;
    let entropy = Arc::new(SeededEntropy::new(1));
    let broker = Broker::new(specs.clone(), source, tokio_clock(), entropy, Handle::current());
    sleep(Duration::from_secs(1)).await;
    assert_eq!((version(&broker, "near"), version(&broker, "far-1")), (1, 0));
    for news in 2..=4 {
        stores.version.store(news, Ordering::SeqCst);
        sleep(Duration::from_secs(6)).await;
        assert_eq!(version(&broker, "near"), news);
    }
    assert_eq!(*stores.open.lock().unwrap(), (1, 1), "the slow one has one question at a time");
    specs.push(at("new", "other:new"));
    broker.apply(specs);
    sleep(Duration::from_millis(10)).await;
    assert_eq!(version(&broker, "new"), 4, "it is asked for at once");
    let from = Instant::now();
    broker.shutdown().await;
    assert_eq!((from.elapsed(), stores.open.lock().unwrap().0), (Duration::ZERO, 0));
}
