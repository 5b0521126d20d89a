//! What a configuration's hooks and ways to people are made into, and what a check tells of them.

use std::{fs, os::unix::fs::PermissionsExt};

use clap::Parser;
use kh_core::{
    Fingerprint, ManualClock,
    credential::CredentialDocument,
    port::{HookError, Promotion},
    rotation::RunId,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::{
    cli::{Context, Globals},
    output::Terminal,
};

#[derive(Parser)]
struct Words {
    #[command(flatten)]
    globals: Globals,
}

const CONFIG: &str = r#"
[hook.web]
kind = "webhook"
url = "https://hooks.example/kh"
key_file = "keys"
[hook.reload]
kind = "command"
command = ["/bin/true", "now"]
timeout = "7s"
[hook.slow]
kind = "command"
command = ["/bin/true"]
timeout = "10m"
[hook.pods]
kind = "kubernetes"
namespace = "prod"
deployment = "crm"
[hook.ci]
kind = "github"
repository = "acme/crm"
name = "GENESYS"
member = "client_secret"
token_file = "secret"
[hook.fn]
kind = "lambda"
function = "f"
region = "eu-central-1"
[notify.own]
kind = "webhook"
url = "https://hooks.example/n"
key_file = "keys"
[notify.chat]
kind = "slack"
url_file = "secret"
urgency = "warning"
[notify.duty]
kind = "pagerduty"
key_file = "secret"
[notify.mail]
kind = "smtp"
server = "mail.example:587"
from = "kh@acme.example"
to = ["ops@acme.example"]
user = "kh"
password_file = "secret"
"#;

fn loaded(folder: &Path, config: &str) -> Loaded {
    let environment = Environment::of_pairs(&[("HOME", "/nonexistent")]);
    let globals = Words::parse_from(["keyholder"]).globals;
    let context = Context::new(globals, Terminal::new(crate::output::OutputFormat::Text, &environment), environment);
    context
        .load_text(&folder.join("keyholder.toml"), config.as_bytes())
        .unwrap_or_else(|failure| panic!("{}", failure.detail()))
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn everything_is_made_and_says_what_it_does() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("keys"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n", 0o600);
    write(&folder.path().join("secret"), "https://hooks.example/MARKED\n", 0o600);
    let loaded = loaded(folder.path(), CONFIG);
    let pod = [("KUBERNETES_SERVICE_HOST", "10.0.0.1"), ("KUBERNETES_SERVICE_PORT", "443")];
    let environment = Environment::of_pairs(&pod);
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(kh_core::UnixMillis(0)));
    let senders = Senders::of(&loaded, &environment, clock);
    let told: Vec<String> = senders
        .hooks()
        .map(|(name, hook)| {
            format!("{name}: {}", hook.map_or_else(|failure| failure.detail().to_owned(), |hook| hook.describe()))
        })
        .collect();
    assert_eq!(
        told,
        [
            "ci: writes the GitHub Actions secrets GENESYS (client_secret) for repository acme/crm",
            "fn: changes the description of the AWS Lambda function f, so that it starts anew",
            "pods: rolls out the deployment crm in prod at https://10.0.0.1 and waits until its pods are replaced",
            "reload: runs /bin/true with 1 argument, at most 7 s",
            "slow: runs /bin/true with 0 arguments, at most 54 s",
            "web: posts a signed message, without the secret, to https://hooks.example",
        ]
    );
    let channels: Vec<_> =
        senders.channels("here").map(|(name, channel)| (name, channel.ok().map(|c| c.threshold()))).collect();
    let info = Some(Urgency::Info);
    assert_eq!(channels, [("chat", Some(Urgency::Warning)), ("duty", info), ("mail", info), ("own", info)]);
    assert!(senders.broken().is_empty());
}

#[test]
fn a_check_tells_what_is_wrong_with_each() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("keys"), "MARKED-no-key", 0o600);
    write(&folder.path().join("secret"), "MARKED", 0o644);
    let (loaded, environment) = (loaded(folder.path(), CONFIG), Environment::of_pairs(&[]));
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(kh_core::UnixMillis(0)));
    let broken = Senders::of(&loaded, &environment, clock).broken();
    let sections: Vec<&str> = broken.iter().map(|(section, _)| section.as_str()).collect();
    assert_eq!(
        sections,
        ["[hook.ci]", "[hook.pods]", "[hook.web]", "[notify.chat]", "[notify.duty]", "[notify.mail]", "[notify.own]"]
    );
    assert!(broken.iter().all(|(_, failure)| !failure.detail().contains("MARKED")));
}

const PODS: &str = r#"
[hook.pods]
kind = "kubernetes"
namespace = "prod"
deployment = "crm"
token_file = "token"
extra_ca = "ca.pem"
"#;

/// What the only hook of this configuration in a pod says to a promotion; between its making and the promotion the
/// folder may change.
async fn delivered(folder: &Path, config: &str, change: impl FnOnce()) -> Result<String, HookError> {
    let pod = [("KUBERNETES_SERVICE_HOST", "127.0.0.1"), ("KUBERNETES_SERVICE_PORT", "1")];
    let (loaded, environment) = (loaded(folder, config), Environment::of_pairs(&pod));
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(kh_core::UnixMillis(0)));
    let senders = Senders::of(&loaded, &environment, clock);
    let (_, made) = senders.hooks().next().unwrap();
    let hook = made.unwrap_or_else(|failure| panic!("{}", failure.detail()));
    change();
    let promotion = Promotion {
        run: RunId(uuid::Uuid::from_u128(1)),
        delivery: uuid::Uuid::from_u128(2),
        credential: "acme".parse().unwrap(),
        generation: 1,
        fingerprint: Fingerprint::try_from("0123456789abcdef".to_owned()).unwrap(),
        stores: Vec::new(),
        promoted_at: kh_core::UnixMillis(0),
    };
    hook.deliver(&promotion, &CredentialDocument::default()).await
}

/// A token, and the authority of a cluster that nobody answers for.
fn cluster_files(folder: &Path) {
    write(&folder.join("token"), "a-token", 0o600);
    let names = vec!["cluster.example".to_owned()];
    write(&folder.join("ca.pem"), &rcgen::generate_simple_self_signed(names).unwrap().cert.pem(), 0o644);
}

#[tokio::test]
async fn in_a_pod_a_token_and_an_authority_of_ones_own_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    cluster_files(folder.path());
    for file in ["ca.pem", "token"] {
        let path = folder.path().join(file);
        let result = delivered(folder.path(), PODS, || fs::remove_file(&path).unwrap()).await;
        let Err(HookError::Refused(reason)) = result else { panic!("{file}: {result:?}") };
        assert!(reason.contains(path.to_str().unwrap()), "{reason}");
        cluster_files(folder.path());
    }
}

#[tokio::test]
async fn a_named_cluster_is_reached_by_the_proxy_whoever_vouches_for_it() {
    let folder = tempfile::tempdir().unwrap();
    cluster_files(folder.path());
    let proxy = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = proxy.local_addr().unwrap();
    let in_a_pod = format!("[network]\nproxy = \"http://{address}\"\nsource_address = [\"127.0.0.2\"]\n{PODS}");
    let named = format!("{in_a_pod}api_url = \"https://127.0.0.1:1\"\n");
    let system = named.replace("extra_ca", "# extra_ca");
    let seen = tokio::spawn(async move {
        let mut seen = Vec::new();
        for _ in 0..2 {
            let (mut stream, from) = proxy.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.unwrap() > 0 {}
            stream.write_all(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            let line = String::from_utf8(head).unwrap().lines().next().unwrap_or_default().to_owned();
            seen.push((from.ip().to_string(), line));
        }
        seen
    });
    for config in [&system, &named] {
        let result = delivered(folder.path(), config, || {}).await;
        let Err(HookError::Transient(reason)) = result else { panic!("{config}: {result:?}") };
        assert!(reason.contains(&format!("the proxy {address} refused the connection")), "{config}: {reason}");
    }
    let tunnel = ("127.0.0.2".to_owned(), "CONNECT 127.0.0.1:1 HTTP/1.1".to_owned());
    assert_eq!(seen.await.unwrap(), [tunnel.clone(), tunnel]);
    // the pod's own API server is in the same cluster
    let result = delivered(folder.path(), &in_a_pod, || {}).await;
    let Err(HookError::Transient(reason)) = result else { panic!("{result:?}") };
    assert!(!reason.contains("proxy"), "{reason}");
}
