//! The same suite against an independent implementation: moto, with its signature (Version 4) and rights checks on.
//!
//! Where moto 5.2.5 is not AWS, in what this binary meets (each is right in the strict fake):
//! - a read without a label returns a stale version after the current label moved (`default_version_id`), so the
//!   consumer here names the label `AWSCURRENT`, as every careful one does;
//! - a put without labels after such a move leaves the current label on two versions, for the same reason: the foreign
//!   writer here puts under a label of its own and moves the current one;
//! - a version that is put again with another value is silently overwritten: the adapter looks before it writes, so the
//!   suite's rule holds all the same;
//! - its refusals of identities are XML on the JSON protocol, with the status as their code: the adapter reads both.
//!
//! Needs the Python packages of `cargo xtask tools`.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Stdio},
    sync::atomic::{AtomicU64, Ordering},
};

use kh_core::{
    SecretBytes,
    port::{BoxFuture, SecretTarget, TargetError, secret_target::Right},
    rotation::SecretPath,
};
use kh_store::conformance::target::{Bench, run};
use kh_store_aws::AwsStore;
use serde_json::Value;

use crate::{
    bench::{account_at, foreign_write, path, plain_client, write},
    python::script,
};

/// A running moto; it ends with its standard input, so also with this process.
struct Moto {
    child: Child,
    url: String,
    ready: Value,
    counter: AtomicU64,
}

impl Drop for Moto {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ended = self.child.wait();
    }
}

impl Moto {
    fn start() -> Self {
        let mut moto = script("aws_moto.py");
        let mut child = moto.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line).expect("moto tells its address");
        let ready: Value = serde_json::from_str(&line).expect("moto's first line is JSON");
        let url = ready["url"].as_str().expect("it has an address").to_owned();
        Self { child, url, ready, counter: AtomicU64::new(0) }
    }

    fn key(&self, name: &str) -> (&str, &str) {
        let part = |index: usize| self.ready[name][index].as_str().expect("a key has two parts");
        (part(0), part(1))
    }

    /// One request of the test's own.
    fn exchange(&self, request: &str) -> String {
        let address: SocketAddr = self.url.trim_start_matches("http://").parse().expect("it is an address");
        let mut stream = TcpStream::connect(address).expect("moto listens");
        stream.write_all(request.as_bytes()).expect("moto reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("moto answers");
        answer
    }

    async fn store(&self, name: &str) -> AwsStore {
        let (id, secret) = self.key(name);
        AwsStore::new(account_at(&self.url, id, secret).await)
    }
}

impl Bench for Moto {
    fn fresh_path(&self) -> SecretPath {
        path(&format!("conformance/{}", self.counter.fetch_add(1, Ordering::Relaxed)))
    }

    fn foreign_write<'a>(&'a self, path: &'a SecretPath, document: &'a SecretBytes) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let (client, name) = (plain_client(&self.url, self.key("full")).await, path.as_str());
            let Ok(current) = client.get_secret_value().secret_id(name).version_stage("AWSCURRENT").send().await else {
                return foreign_write(&client, path, document).await;
            };
            let text = std::str::from_utf8(document.expose()).expect("documents are text");
            let put = client.put_secret_value().secret_id(name).secret_string(text).version_stages("FOREIGN");
            let put = put.send().await.expect("a version is put");
            let moved = client.update_secret_version_stage().secret_id(name).version_stage("AWSCURRENT");
            let moved = moved.set_remove_from_version_id(current.version_id).set_move_to_version_id(put.version_id);
            moved.send().await.expect("the label is moved");
        })
    }

    fn consumer_read<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Option<SecretBytes>> {
        Box::pin(async move {
            let client = plain_client(&self.url, self.key("reader")).await;
            match client.get_secret_value().secret_id(path.as_str()).version_stage("AWSCURRENT").send().await {
                Ok(output) => Some(SecretBytes::new(output.secret_string?.into_bytes())),
                Err(error) => {
                    let service = error.into_service_error();
                    assert!(service.is_resource_not_found_exception(), "{service:?}");
                    None
                }
            }
        })
    }

    fn changes(&self) -> u64 {
        let answer = self.exchange("GET /_changes HTTP/1.0\r\n\r\n");
        answer.rsplit_once("\r\n\r\n").and_then(|(_, body)| body.parse().ok()).expect("the body is a number")
    }
}

#[tokio::test]
async fn the_suite_holds_on_moto_with_signatures_checked_and_the_rights_of_the_guide() {
    let moto = Moto::start();
    // as who has the rights that the guide names and no more
    run(&moto.store("guide").await, &moto).await;
    assert!(moto.changes() > 100, "the suite wrote");

    // Rights, on the same instance: it takes seconds to start.
    let (at, (token, document)) = (path("rights"), write(1));
    let full = moto.store("full").await;
    full.stage(&at, token, &document).await.unwrap();
    full.promote(&at, token, None).await.unwrap();
    let reader = moto.store("reader").await;
    assert_eq!(reader.live(&at).await.unwrap().value, document);
    let check = reader.check(&at).await.unwrap();
    assert_eq!((check.read, check.write), (Right::Granted, Right::Denied));
    let (next, document) = write(2);
    let refused = reader.stage(&at, next, &document).await;
    assert!(matches!(refused, Err(TargetError::Denied(_))), "{refused:?}");
    let (id, _) = moto.key("full");
    for (id, secret) in [(id, "wrong"), ("AKIAUNKNOWN", "x")] {
        let refused = AwsStore::new(account_at(&moto.url, id, secret).await).live(&at).await;
        assert!(matches!(refused, Err(TargetError::Unauthenticated(_))), "{refused:?}");
    }
    let (id, secret) = moto.key("guide");
    let restored = plain_client(&moto.url, (id, secret)).await.restore_secret().secret_id("rights").send().await;
    assert!(restored.is_err(), "the guide's rights are not all rights");
    a_function_is_refreshed(&moto).await;
}

/// moto refuses the signature of every request without a body, also of the official boto3: so its checks are switched
/// off here, and the signatures of these calls are checked by the strict fake alone.
async fn a_function_is_refreshed(moto: &Moto) {
    let off = "POST /moto-api/reset-auth HTTP/1.0\r\ncontent-length: 3\r\n\r\ninf";
    assert!(moto.exchange(off).contains("PREVIOUS_INITIAL_NO_AUTH_ACTION_COUNT"));
    let (id, secret) = moto.key("full");
    for expected in ["orders starts anew with generation 7", "orders had this delivery before"] {
        let told = crate::lambda::deliver(account_at(&moto.url, id, secret).await, 7).await.unwrap();
        assert_eq!(told, expected);
    }
}
