//! Every hook and way, succeeding and failing, with everything logged at TRACE: no secret is told in any form.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD},
};
use kh_core::port::{DeliveryHook, Urgency};
use kh_deliver::{
    Access, Channel, Command, Field, GithubSecret, Mail, MailTls, Owner, PagerDuty, PagerDutyRegion, Rollout,
    SecretFile, SecretValue, Slack, Trust, Webhook, WebhookChannel, Workload, WorkloadKind,
};
use tracing_subscriber::fmt::MakeWriter;

use crate::{
    cluster::{Cluster, TOKEN, deployment},
    rig::{CANARY, Files, client, clock, deliver, hex, notice, place},
    server::{Reply, Server},
    smtp::{Manner, Smtp},
};

const GITHUB_TOKEN: &str = "ghp_c4n4ry/t0ken+with~letters?";
const SIGNING_KEY: &str = "whsec_c4n4ryMfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw==";
const ROUTING_KEY: &str = "c4n4ry0ROUTING0KEY0123456789abcd";
const SLACK_PATH: &str = "/services/T0/B0/c4n4rySLACKpath";
const PASSWORD: &str = "c4n4ry+mail/pass~word?";

/// What was logged and told.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<u8>>>);

impl Told {
    fn add(&self, text: &dyn std::fmt::Debug) {
        writeln!(self.0.lock().unwrap(), "{text:?}").unwrap();
    }
}

impl Write for Told {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Told {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn forms(secret: &str) -> Vec<String> {
    let percent: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let mut forms = vec![secret.to_owned(), percent.clone(), percent.to_lowercase()];
    forms.extend([hex(secret, ""), hex(secret, "").to_uppercase(), hex(secret, "%"), hex(secret, "%").to_uppercase()]);
    forms.extend([&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD].map(|engine| engine.encode(secret)));
    forms
}

fn hooks(files: &Files, cluster: &Cluster, base: &str) -> Vec<Box<dyn DeliveryHook>> {
    std::fs::write(files.path("ca.crt"), &cluster.server.ca).unwrap();
    let (keys, github) = (files.write("keys", SIGNING_KEY), files.write("github", GITHUB_TOKEN));
    let access =
        Access::new(&cluster.server.url("/"), files.write("sa", TOKEN), Trust::File(files.path("ca.crt")), clock());
    let workload = Workload::new(WorkloadKind::Deployment, "prod", "crm").unwrap();
    let rollout = Rollout::new("k8s", workload, access.unwrap());
    let values =
        vec![SecretValue::new("A", Field::ClientSecret).unwrap(), SecretValue::new("B", Field::Document).unwrap()];
    let owner = Owner::repository("acme/crm").unwrap();
    let shell = |script: String| Command::new("sh", "/bin/sh", vec!["-c".to_owned(), script], Vec::new()).unwrap();
    let secret = files.path("secret").display().to_string();
    std::fs::write(&secret, forms(CANARY).join("\n")).unwrap();
    vec![
        Box::new(Webhook::new("webhook", place(base), keys, client())),
        Box::new(rollout.waiting(Duration::from_secs(20), Duration::from_millis(1))),
        Box::new(GithubSecret::new("gh", base, owner, values, github, client()).unwrap()),
        Box::new(shell(format!("cat {secret}; cat {secret} >&2"))),
        Box::new(shell(format!("cat {secret}; exit 1"))),
    ]
}

fn channels(files: &Files, smtp: &Smtp, base: &str) -> Vec<Box<dyn Channel>> {
    std::fs::write(files.path("ca.pem"), &smtp.ca).unwrap();
    let keys = SecretFile::new(files.path("keys"));
    let slack = files.write("slack", &format!("{}{SLACK_PATH}", base.trim_end_matches('/')));
    let (key, region) = (files.write("pd", ROUTING_KEY), PagerDutyRegion::At(base.to_owned()));
    let server = ("localhost", smtp.address.port(), MailTls::StartTls);
    let mail = Mail::new("mail", Urgency::Info, server, "a@b.example", &["c@d.example".to_owned()]).unwrap();
    vec![
        Box::new(WebhookChannel::new("own", Urgency::Info, place(base), keys, client())),
        Box::new(Slack::new("slack", Urgency::Info, slack, client())),
        Box::new(PagerDuty::new("pd", Urgency::Info, &region, "here", key, client()).unwrap()),
        Box::new(mail.with_login("mailer", files.write("mail", PASSWORD)).trusting(files.path("ca.pem"))),
    ]
}

#[tokio::test]
async fn no_secret_is_told_in_any_form() {
    let told = Told::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(told.clone()).finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let (mut successes, mut failures) = (0, 0);
    for status in [200_u16, 201, 400, 401, 403, 429, 503] {
        // a receiver that repeats everything it is sent
        let server = Server::start(move |request| {
            let echo = String::from_utf8_lossy(&request.body).into_owned();
            Reply::new(status, echo).with("x-echo", request.header("authorization"))
        })
        .await;
        let (files, cluster) = (Files::new(), Cluster::with("prod/deployments/crm", deployment(1)).await);
        let smtp = Smtp::start(Manner::StartTls, if status < 300 { PASSWORD } else { "another" }).await;
        if status >= 300 {
            cluster.world().next = vec![status];
        }
        for hook in hooks(&files, &cluster, &server.url("/")) {
            told.add(&hook.describe());
            let result = deliver(&*hook).await;
            if result.is_ok() {
                successes += 1;
            } else {
                failures += 1;
            }
            told.add(&result);
        }
        for channel in channels(&files, &smtp, &server.url("/")) {
            let result = channel.send(&notice(1, Urgency::Critical)).await;
            if result.is_ok() {
                successes += 1;
            } else {
                failures += 1;
            }
            told.add(&result);
        }
    }
    assert!(successes >= 15 && failures >= 25, "{successes} {failures}");
    let told = String::from_utf8_lossy(&told.0.lock().unwrap()).into_owned();
    assert!(told.contains("the program ended") && told.contains("answered 503"), "the stories are there");
    for secret in [CANARY, TOKEN, GITHUB_TOKEN, SIGNING_KEY, ROUTING_KEY, SLACK_PATH, PASSWORD] {
        for form in forms(secret) {
            assert!(!told.contains(&form), "a form of {secret} was told: {form}");
        }
    }
}
