//! The receivers' own tools on the other side: the verifier of Standard Webhooks, libsodium (PyNaCl) and aiosmtpd.
//!
//! They run in the interpreter that `cargo xtask test` installs.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use crypto_box::SecretKey;
use kh_core::{Clock, SystemClock, port::Urgency};
use kh_deliver::{Channel, Field, GithubSecret, Mail, MailTls, Owner, SecretValue, Webhook};
use kh_net::{
    Egress,
    http::{HttpClient, Timeouts},
};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::{
    rig::{CANARY, Files, client, deliver, notice, place},
    server::{Reply, Server, certificate},
};

fn python() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let python = root.join(".test-tools/python/bin/python");
    assert!(python.exists(), "{} is missing: `cargo xtask test` installs it", python.display());
    python
}

/// Runs a script with `input` as JSON on its standard input; its output.
fn run(script: &str, input: &Value) -> String {
    let mut command = Command::new(python());
    let child = command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

const VERIFY: &str = r#"
import json, sys
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
given = json.load(sys.stdin)
told = Webhook(given["key"]).verify(given["body"], given["headers"])
print(told["data"]["credential"])
try:
    Webhook(given["key"]).verify(given["body"].replace("acme", "evil"), given["headers"])
    print("taken")
except WebhookVerificationError:
    print("refused")
"#;

#[tokio::test]
async fn the_standards_own_verifier_takes_the_signature() {
    const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let files = Files::new();
    let server = Server::start(|_| Reply::new(204, "")).await;
    // the verifier looks at the machine's clock
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let client = HttpClient::new(Arc::new(Egress::trusting(&[]).unwrap()), Timeouts::default(), clock);
    deliver(&Webhook::new("w", place(&server.url("/")), files.write("keys", KEY), client)).await.unwrap();
    let request = server.received().remove(0);
    let header = |name: &str| request.header(name).to_owned();
    let headers = json!({"webhook-id": header("webhook-id"), "webhook-timestamp": header("webhook-timestamp"),
                         "webhook-signature": header("webhook-signature")});
    let body = String::from_utf8(request.body.clone()).unwrap();
    let said = run(VERIFY, &json!({"key": KEY, "headers": headers, "body": body}));
    assert_eq!(said, "acme/prod\nrefused\n");
}

const OPEN: &str = r#"
import base64, json, sys
from nacl.public import PrivateKey, SealedBox
given = json.load(sys.stdin)
sys.stdout.write(SealedBox(PrivateKey(bytes([5] * 32))).decrypt(base64.b64decode(given["encrypted_value"])).decode())
"#;

#[tokio::test]
async fn libsodium_opens_the_sealed_box() {
    let files = Files::new();
    let key = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        SecretKey::from([5; 32]).public_key().as_bytes(),
    );
    let server = Server::start(move |request| match request.method.as_str() {
        "GET" => Reply::json(200, &json!({"key_id": "1", "key": key})),
        _ => Reply::new(201, "{}"),
    })
    .await;
    let values = vec![SecretValue::new("A", Field::ClientSecret).unwrap()];
    let (owner, token) = (Owner::repository("acme/crm").unwrap(), files.write("token", "t"));
    deliver(&GithubSecret::new("gh", &server.url(""), owner, values, token, client()).unwrap()).await.unwrap();
    assert_eq!(run(OPEN, &server.received().pop().unwrap().json()), CANARY);
}

const MAIL: &str = r#"
import asyncio, ssl, sys
from aiosmtpd.smtp import AuthResult, SMTP
folder, implicit = sys.argv[1], sys.argv[2] == "tls"
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(folder + "/cert.pem", folder + "/key.pem")
class Handler:
    async def handle_DATA(self, server, session, envelope):
        print("FROM", envelope.mail_from, "TO", ",".join(envelope.rcpt_tos), "AS", session.auth_data.login.decode(), flush=True)
        print(envelope.content.decode(), flush=True)
        print("END", flush=True)
        return "250 taken"
def known(server, session, envelope, mechanism, data):
    return AuthResult(success=data.password == b"mail-password", auth_data=data)
def session():
    return SMTP(Handler(), authenticator=known, auth_required=True, auth_require_tls=not implicit,
                tls_context=None if implicit else context, require_starttls=not implicit, loop=asyncio.get_running_loop())
async def serve():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(session, "127.0.0.1", 0, ssl=context if implicit else None)
    print("PORT", server.sockets[0].getsockname()[1], flush=True)
    await asyncio.sleep(600)
asyncio.run(serve())
"#;

async fn by_aiosmtpd(tls: MailTls, word: &str) -> String {
    let files = Files::new();
    let (cert, key) = certificate();
    std::fs::write(files.path("cert.pem"), &cert).unwrap();
    std::fs::write(files.path("key.pem"), key).unwrap();
    let mut command = tokio::process::Command::new(python());
    command.args(["-c", MAIL, &files.folder().display().to_string(), word]).stdout(Stdio::piped()).kill_on_drop(true);
    let mut server = command.spawn().unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let port = loop {
        let line = lines.next_line().await.unwrap().expect("the server tells its port");
        if let Some(port) = line.strip_prefix("PORT ") {
            break port.parse().unwrap();
        }
    };
    let to = ["ops@acme.example".to_owned()];
    let mail = Mail::new("m", Urgency::Info, ("localhost", port, tls), "kh@acme.example", &to).unwrap();
    let mail = mail.with_login("mailer", files.write("password", "mail-password")).trusting(files.path("cert.pem"));
    mail.send(&notice(3, Urgency::Warning)).await.unwrap();
    let mut said = String::new();
    while let Some(line) = lines.next_line().await.unwrap().filter(|line| line != "END") {
        said.push_str(&line);
        said.push('\n');
    }
    said
}

#[tokio::test]
async fn aiosmtpd_takes_the_mail_over_either_kind_of_tls() {
    for (tls, word) in [(MailTls::StartTls, "starttls"), (MailTls::Implicit, "tls")] {
        let said = by_aiosmtpd(tls, word).await;
        assert!(said.starts_with("FROM kh@acme.example TO ops@acme.example AS mailer\n"), "{said}");
        assert!(said.contains("The rotation of acme/prod <waits> for a decision & stands still"), "{said}");
    }
}
