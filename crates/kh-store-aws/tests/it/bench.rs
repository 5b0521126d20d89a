//! A running fake with clients of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kh_core::{
    Clock, Fingerprint, SecretBytes, SystemClock, UnixMillis,
    port::BoxFuture,
    rotation::{Marker, RunId, SecretPath, WriteToken},
};
use kh_fakes::{Options, Running, aws::Aws, start};
use kh_net::{Egress, http::Timeouts};
use kh_store::conformance::target::Bench;
use kh_store_aws::{Account, AwsStore, Credentials, Settings, Settle, SharedCredentialsProvider, Transport};

pub(crate) const REGION: &str = "eu-central-1";

/// A pause that only lets others run; how often, or how long, is bounded.
pub(crate) const SETTLE: Settle =
    Settle { pause: Duration::from_millis(1), reads: 6, copies: Duration::from_secs(1), updates: 40 };

pub(crate) fn transport(clock: Arc<dyn Clock>) -> Transport {
    let egress = Egress::trusting(&[]).expect("no authority is a set too");
    Transport::new(Arc::new(egress), Timeouts::default(), clock)
}

pub(crate) fn settings(url: &str) -> Settings {
    Settings { endpoint: Some(url.to_owned()), settle: SETTLE, ..Settings::new(REGION) }
}

pub(crate) fn static_key(id: &str, secret: &str) -> SharedCredentialsProvider {
    SharedCredentialsProvider::new(Credentials::new(id, secret, None, None, "test"))
}

pub(crate) async fn account_at(url: &str, id: &str, secret: &str) -> Arc<Account> {
    let clock = Arc::new(SystemClock::new());
    Arc::new(Account::with_provider(settings(url), transport(clock), static_key(id, secret)).await)
}

/// The fake as a bench of the conformance suite.
pub(crate) struct Fake {
    pub(crate) aws: Arc<Aws>,
    pub(crate) running: Running,
    pub(crate) account: Arc<Account>,
    counter: AtomicU64,
}

impl Fake {
    pub(crate) async fn start() -> Self {
        let aws = Arc::new(Aws::new());
        let running = start(aws.clone(), Options::default()).await.expect("a free port");
        let account = account_at(&running.url, aws.key().0, aws.key().1).await;
        Self { aws, running, account, counter: AtomicU64::new(0) }
    }

    pub(crate) fn store(&self) -> AwsStore {
        AwsStore::new(Arc::clone(&self.account))
    }

    /// A store with a client of its own, as another process has it.
    pub(crate) async fn other_store(&self) -> AwsStore {
        AwsStore::new(account_at(&self.running.url, self.aws.key().0, self.aws.key().1).await)
    }

    /// The operations that arrived since the journal was last forgotten.
    pub(crate) fn operations(&self) -> Vec<String> {
        self.running.control.journal().into_iter().map(|entry| entry.operation).collect()
    }

    pub(crate) fn labels(&self, path: &SecretPath) -> Vec<String> {
        let secret = self.aws.secret(REGION, path.as_str());
        let mut labels = Vec::new();
        for (id, version) in secret.iter().flat_map(|secret| &secret.versions) {
            labels.extend(version.stages.iter().map(|stage| format!("{stage}={id}")));
        }
        labels.sort();
        labels
    }
}

impl Bench for Fake {
    fn fresh_path(&self) -> SecretPath {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        format!("conformance/{number}").parse().expect("it is a place")
    }

    fn foreign_write<'a>(&'a self, path: &'a SecretPath, document: &'a SecretBytes) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let client = plain_client(&self.running.url, self.aws.key()).await;
            foreign_write(&client, path, document).await;
        })
    }

    fn consumer_read<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Option<SecretBytes>> {
        Box::pin(async move { consumer_read(&plain_client(&self.running.url, self.aws.key()).await, path).await })
    }

    fn changes(&self) -> u64 {
        self.running.control.changes()
    }
}

/// The official SDK as an application uses it, over the same way out.
pub(crate) async fn plain_client(url: &str, (id, secret): (&str, &str)) -> aws_sdk_secretsmanager::Client {
    use aws_config::{BehaviorVersion, Region};
    let config = aws_sdk_secretsmanager::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .endpoint_url(url)
        .credentials_provider(Credentials::new(id, secret, None, None, "test"))
        .http_client(transport(Arc::new(SystemClock::new())))
        .build();
    aws_sdk_secretsmanager::Client::from_conf(config)
}

pub(crate) async fn foreign_write(client: &aws_sdk_secretsmanager::Client, path: &SecretPath, document: &SecretBytes) {
    let text = std::str::from_utf8(document.expose()).expect("documents are text");
    let put = client.put_secret_value().secret_id(path.as_str()).secret_string(text).send().await;
    if put.is_err() {
        client.create_secret().name(path.as_str()).secret_string(text).send().await.expect("a secret is made");
    }
}

/// Without a version or a label, as the documentation's first example reads.
pub(crate) async fn consumer_read(client: &aws_sdk_secretsmanager::Client, path: &SecretPath) -> Option<SecretBytes> {
    match client.get_secret_value().secret_id(path.as_str()).send().await {
        Ok(output) => Some(SecretBytes::new(output.secret_string?.into_bytes())),
        Err(error) => {
            let service = error.into_service_error();
            assert!(service.is_resource_not_found_exception(), "{service:?}");
            None
        }
    }
}

/// A write and its document; `number` tells runs apart.
pub(crate) fn write(number: u64) -> (WriteToken, SecretBytes) {
    let run: RunId = format!("01900000-0000-7000-8000-{number:012x}").parse().expect("it has the form of a UUID");
    let token = WriteToken::of(run, "aws", "promote");
    let fingerprint = Fingerprint::try_from("0123456789abcdef".to_owned()).expect("it has 16 digits");
    let marker =
        Marker { run, write: token, generation: number, fingerprint, created_at: UnixMillis(1_790_000_000_000) };
    let json = serde_json::to_string(&marker).expect("a marker has a JSON form");
    let text = format!(r#"{{"client_id":"c-{number}","client_secret":"MARKED-SECRET-{number}","_kh":{json}}}"#);
    (token, SecretBytes::new(text.into_bytes()))
}

pub(crate) fn path(text: &str) -> SecretPath {
    text.parse().expect("it is a place")
}
