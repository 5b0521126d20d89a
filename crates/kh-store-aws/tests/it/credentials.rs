//! Where credentials come from, each source by the official SDK over keyholder's own way out, and what is not taken from
//! the environment.
//!
//! A source that reads the environment runs in a process of its own: this binary once more, with one test and the
//! environment of the case.

use std::{collections::BTreeMap, path::Path, process::Command, sync::Arc};

use kh_core::{
    SystemClock,
    port::{SecretTarget, TargetError, delivery::HookError},
};
use kh_fakes::{FakeClock, Fault, Options, Reply, Request, Running, start};
use kh_store_aws::{
    Account, AssumedRole, AwsStore, CredentialSource, Credentials, Settings, SharedCredentialsProvider,
};
use serde_json::{Value, json};

use crate::bench::{Fake, path, settings, transport};

/// The temporary key that every endpoint of [`Endpoints`] hands out.
const ISSUED: (&str, &str, &str) = ("ASIAISSUED", "issued-secret", "issued-session");

#[tokio::test]
async fn a_session_token_is_sent_and_checked() {
    let fake = Fake::start().await;
    fake.aws.add_key("ASIASESSION", "secret", Some("session-token"));
    for (token, good) in [(Some("session-token"), true), (Some("other"), false), (None, false)] {
        let key = Credentials::new("ASIASESSION", "secret", token.map(str::to_owned), None, "test");
        let transport = transport(Arc::new(SystemClock::new()));
        let provider = SharedCredentialsProvider::new(key);
        let account = Account::with_provider(settings(&fake.running.url), transport, provider).await;
        let found = AwsStore::new(Arc::new(account)).live(&path("x")).await;
        match found {
            Err(TargetError::NotFound(_)) => assert!(good, "{token:?}"),
            Err(TargetError::Unauthenticated(_)) => assert!(!good, "{token:?}"),
            other => panic!("{other:?}"),
        }
    }
}

/// The endpoints that hand out temporary credentials: the container's, the machine's (IMDSv2), and the token service's.
struct Endpoints;

impl Endpoints {
    fn issued() -> Value {
        json!({
            "Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": ISSUED.0, "SecretAccessKey": ISSUED.1,
            "Token": ISSUED.2, "Expiration": "2099-01-01T00:00:00Z", "LastUpdated": "2026-01-01T00:00:00Z",
        })
    }

    /// Security Token Service, AWS query protocol.
    fn issued_by_sts(action: &str) -> Reply {
        let (id, secret, session) = ISSUED;
        let body = format!(
            "<{action}Response><{action}Result><Credentials><AccessKeyId>{id}</AccessKeyId>\
             <SecretAccessKey>{secret}</SecretAccessKey><SessionToken>{session}</SessionToken>\
             <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials><AssumedRoleUser>\
             <Arn>arn:aws:sts::000000000000:assumed-role/r/s</Arn><AssumedRoleId>A:s</AssumedRoleId>\
             </AssumedRoleUser></{action}Result></{action}Response>"
        );
        Reply { body: body.into(), ..Reply::empty(200).with("content-type", "text/xml") }
    }
}

impl kh_fakes::Fake for Endpoints {
    fn operation(&self, request: &Request) -> String {
        request.path.clone()
    }

    fn answer(&self, request: &Request, _: &FakeClock) -> Reply {
        let machine = "/latest/meta-data/iam/security-credentials";
        let with_token = request.header("x-aws-ec2-metadata-token") == Some("machine-token");
        match request.path.as_str() {
            "/container" if request.header("authorization") == Some("container-token") => {
                Reply::json(200, &Self::issued())
            }
            "/latest/api/token" if request.method == http::Method::PUT => {
                let reply = Reply::empty(200).with("x-aws-ec2-metadata-token-ttl-seconds", "21600");
                Reply { body: "machine-token".into(), ..reply }
            }
            // IMDSv2: nothing without the token.
            found if found.starts_with("/latest/") && !with_token => self.forbidden(),
            found if found.trim_end_matches('/') == machine => Reply { body: "role".into(), ..Reply::empty(200) },
            found if found.strip_prefix(machine) == Some("/role") => Reply::json(200, &Self::issued()),
            "/" => {
                let form = std::str::from_utf8(&request.body).unwrap_or_default();
                let has = |field: &str| form.split('&').any(|known| known == field);
                let web = has("Action=AssumeRoleWithWebIdentity") && has("WebIdentityToken=web-token");
                let role = has("Action=AssumeRole") && has("ExternalId=tenant");
                match (web, role && request.header("authorization").is_some()) {
                    (true, _) => Self::issued_by_sts("AssumeRoleWithWebIdentity"),
                    (_, true) => Self::issued_by_sts("AssumeRole"),
                    _ => self.forbidden(),
                }
            }
            _ => Reply::empty(404),
        }
    }

    fn forbidden(&self) -> Reply {
        Reply::empty(401)
    }

    fn throttled(&self, _: Option<u64>) -> Reply {
        Reply::empty(429)
    }

    fn failed(&self) -> Reply {
        Reply::empty(500)
    }

    fn credentials(&self) -> Value {
        json!({})
    }

    fn command(&self, _: &str, _: &Value) -> Result<Value, String> {
        Err("there is none".to_owned())
    }
}

const SOURCE: &str = "KEYHOLDER_TEST_SOURCE";
const STORE: &str = "KEYHOLDER_TEST_STORE";

fn source(name: &str) -> CredentialSource {
    match name {
        "environment" => CredentialSource::Environment,
        "profile" => CredentialSource::Profile("acme".to_owned()),
        "web identity" => CredentialSource::WebIdentity,
        "container" => CredentialSource::Container,
        "machine" => CredentialSource::Machine,
        _ => CredentialSource::Chain,
    }
}

/// What a case's process does; without its environment it is no case.
#[tokio::test]
async fn in_a_process_of_its_own() {
    let (Ok(name), Ok(url)) = (std::env::var(SOURCE), std::env::var(STORE)) else { return };
    let settings = Settings { credentials: source(&name), ..settings(&url) };
    let account = Account::new(settings, transport(Arc::new(SystemClock::new()))).await;
    let found = AwsStore::new(Arc::new(account)).live(&path("x")).await;
    println!("told: {found:?}");
}

/// Runs a case: what the adapter told.
async fn told(fake: &Fake, name: &str, environment: &BTreeMap<&str, String>) -> String {
    let mut command = Command::new(std::env::current_exe().expect("this is a program"));
    command
        .args(["--exact", "credentials::in_a_process_of_its_own", "--nocapture"])
        .env_clear()
        .env(SOURCE, name)
        .env(STORE, &fake.running.url)
        // Never the machine's own metadata.
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .envs(environment);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{name}: {text}{}", String::from_utf8_lossy(&output.stderr));
    let line = text.lines().find_map(|line| line.split_once("told: ")).expect("the case tells");
    line.1.to_owned()
}

fn file(folder: &Path, name: &str, content: &str) -> String {
    let at = folder.join(name);
    std::fs::write(&at, content).expect("the folder is writable");
    at.display().to_string()
}

async fn endpoints() -> Running {
    start(Arc::new(Endpoints), Options::default()).await.expect("a free port")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_source_of_the_official_sdk_works() {
    let fake = Fake::start().await;
    fake.aws.add_key(ISSUED.0, ISSUED.1, Some(ISSUED.2));
    let (issuing, folder) = (endpoints().await, tempfile::tempdir().unwrap());
    let (id, secret) = fake.aws.key();
    let keys = format!("aws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
    let process = json!({"Version": 1, "AccessKeyId": id, "SecretAccessKey": secret});
    let process = file(folder.path(), "process.json", &process.to_string());
    let environment = [("AWS_ACCESS_KEY_ID", id.to_owned()), ("AWS_SECRET_ACCESS_KEY", secret.to_owned())];
    let profile = |name: &str, content: String| ("AWS_CONFIG_FILE", file(folder.path(), name, &content));
    let web = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", file(folder.path(), "token", "web-token")),
        ("AWS_ROLE_ARN", "arn:aws:iam::000000000000:role/r".to_owned()),
        ("AWS_ENDPOINT_URL_STS", issuing.url.clone()),
    ];
    let container = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/container", issuing.url)),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "container-token".to_owned()),
    ];
    let machine =
        [("AWS_EC2_METADATA_DISABLED", "false".to_owned()), ("AWS_EC2_METADATA_SERVICE_ENDPOINT", issuing.url.clone())];
    let cases: Vec<(&str, Vec<(&str, String)>)> = vec![
        ("environment", environment.to_vec()),
        ("profile", vec![profile("keys", format!("[profile acme]\n{keys}"))]),
        ("profile", vec![profile("process", format!("[profile acme]\ncredential_process = cat {process}\n"))]),
        ("web identity", web.to_vec()),
        ("container", container.to_vec()),
        ("machine", machine.to_vec()),
        ("chain", environment.to_vec()),
        ("chain", vec![profile("default", format!("[default]\n{keys}"))]),
        ("chain", web.to_vec()),
        ("chain", container.to_vec()),
        ("chain", machine.to_vec()),
    ];
    for (name, environment) in cases {
        let path = ("PATH", "/usr/bin:/bin".to_owned());
        let environment: BTreeMap<&str, String> = environment.into_iter().chain([path]).collect();
        let told = told(&fake, name, &environment).await;
        assert!(told.starts_with("Err(NotFound("), "{name} {environment:?}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_credentials_nothing_is_sent_and_no_variable_tells_where_to() {
    let fake = Fake::start().await;
    let elsewhere = Fake::start().await;
    let (id, secret) = fake.aws.key();
    for name in ["environment", "profile", "web identity", "container", "machine", "chain"] {
        let told = told(&fake, name, &BTreeMap::new()).await;
        assert!(told.starts_with("Err(Unauthenticated("), "{name}: {told}");
        assert!(told.contains("no AWS credentials"), "{name}: {told}");
    }
    assert_eq!(fake.operations(), Vec::<String>::new());

    let environment = BTreeMap::from([
        ("AWS_ACCESS_KEY_ID", id.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", secret.to_owned()),
        ("AWS_ENDPOINT_URL", elsewhere.running.url.clone()),
        ("AWS_ENDPOINT_URL_SECRETS_MANAGER", elsewhere.running.url.clone()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("HTTP_PROXY", elsewhere.running.url.clone()),
        ("AWS_MAX_ATTEMPTS", "5".to_owned()),
    ]);
    let told = told(&fake, "environment", &environment).await;
    assert!(told.starts_with("Err(NotFound("), "{told}");
    assert_eq!((fake.operations().len(), elsewhere.operations().len()), (1, 0));
}

/// An account by a role that is assumed with a static key.
async fn by_role(fake: &Fake, issuing: &Running, external_id: &str) -> Arc<Account> {
    let role = AssumedRole {
        arn: "arn:aws:iam::000000000000:role/r".to_owned(),
        external_id: Some(external_id.to_owned()),
        session_name: "keyholder".to_owned(),
    };
    let settings =
        Settings { role: Some(role), token_endpoint: Some(issuing.url.clone()), ..settings(&fake.running.url) };
    let base = crate::bench::static_key("AKIABASE", "base-secret");
    Arc::new(Account::with_provider(settings, transport(Arc::new(SystemClock::new())), base).await)
}

#[tokio::test]
async fn a_role_is_assumed_with_the_base_credentials_and_its_external_id() {
    let (fake, issuing) = (Fake::start().await, endpoints().await);
    fake.aws.add_key(ISSUED.0, ISSUED.1, Some(ISSUED.2));
    for (external_id, good) in [("tenant", true), ("other", false)] {
        match AwsStore::new(by_role(&fake, &issuing, external_id).await).live(&path("x")).await {
            Err(TargetError::NotFound(_)) => assert!(good, "{external_id}"),
            Err(TargetError::Unauthenticated(text)) => assert!(!good && text.contains("no AWS credentials"), "{text}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(fake.operations().len(), 1, "without the role nothing is asked of the store");
}

/// Answers of a source that does not serve now: a failure inside, and too many requests as Security Token Service tells
/// them.
fn not_now() -> [Fault; 2] {
    let throttling = "<ErrorResponse><Error><Type>Sender</Type><Code>Throttling</Code>\
                      <Message>Rate exceeded</Message></Error></ErrorResponse>";
    [(503, "<html>busy</html>"), (400, throttling)]
        .map(|(status, body)| Fault::Answer { status, body: body.to_owned() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_does_not_serve_now_is_no_refused_login() {
    let (fake, issuing) = (Fake::start().await, endpoints().await);
    let folder = tempfile::tempdir().unwrap();
    let web = BTreeMap::from([
        ("AWS_WEB_IDENTITY_TOKEN_FILE", file(folder.path(), "token", "web-token")),
        ("AWS_ROLE_ARN", "arn:aws:iam::000000000000:role/r".to_owned()),
        ("AWS_ENDPOINT_URL_STS", issuing.url.clone()),
    ]);
    let container = BTreeMap::from([("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/container", issuing.url))]);
    let [busy, throttling] = not_now();
    // one each: the SDK tries again in real time
    for (fault, name, environment) in
        [(&busy, "web identity", &web), (&throttling, "chain", &web), (&busy, "container", &container)]
    {
        issuing.control.fault(fault.clone().always());
        let told = told(&fake, name, environment).await;
        assert!(told.starts_with("Err(Unavailable("), "{name} {fault:?}: {told}");
        assert!(told.contains("no AWS credentials"), "{name} {fault:?}: {told}");
        issuing.control.heal();
    }
    // without its token the container's endpoint refuses
    let told = told(&fake, "container", &container).await;
    assert!(told.starts_with("Err(Unauthenticated("), "{told}");
    assert_eq!(fake.operations(), Vec::<String>::new());
}

#[tokio::test]
async fn a_role_that_cannot_be_assumed_now_is_no_refused_login() {
    let (fake, issuing) = (Fake::start().await, endpoints().await);
    for fault in not_now() {
        issuing.control.fault(fault.clone().always());
        let account = by_role(&fake, &issuing, "tenant").await;
        let found = AwsStore::new(Arc::clone(&account)).live(&path("x")).await;
        assert!(
            matches!(&found, Err(TargetError::Unavailable(text)) if text.contains("no AWS credentials")),
            "{fault:?}: {found:?}"
        );
        let delivered = crate::lambda::deliver(account, 7).await;
        assert!(matches!(delivered, Err(HookError::Transient(_))), "{fault:?}: {delivered:?}");
        issuing.control.heal();
    }
    assert_eq!(fake.operations(), Vec::<String>::new());
}
