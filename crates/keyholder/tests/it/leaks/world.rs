//! The stage of the leak scenario: two sandbox processes, a relay, a hostile issuer, one keyholder over all of them.
//!
//! Invariant: every secret that anybody configures is made here and marked in the evidence before anything runs.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    evidence::Evidence,
    forms::{awkward_text, key_base64, key_text, secret_text},
    hostile,
    recorder::{Recorder, values_after},
};
use crate::harness::{Said, keyholder, request, run, text};
use crate::telemetry::collector::{Collector, Mood};

const GENESYS_ID: &str = "5a0e7f7c-3c1e-4a36-9a5e-6d8a1f0b2c3d";
const POLL: Duration = Duration::from_millis(10);

/// Clients and credentials of the scenario; each has one client that may make every call.
pub const CREDENTIALS: [&str; 10] = [
    "genesys",
    "genesys-tls",
    "genesys-wrong",
    "cxone",
    "cxone-regional",
    "unreachable",
    "not-tls",
    "untrusted",
    "well",
    "refusing",
];

/// A process with a file for each of its streams, killed when dropped.
pub struct Apart {
    child: Child,
    pub out: PathBuf,
    pub err: PathBuf,
}

impl Apart {
    pub fn start(command: &mut Command, folder: &Path, name: &str) -> Self {
        let (out, err) = (folder.join(format!("{name}.out")), folder.join(format!("{name}.err")));
        let file = |path: &Path| fs::File::create(path).unwrap();
        let child = command.stdin(Stdio::null()).stdout(file(&out)).stderr(file(&err)).spawn().unwrap();
        Self { child, out, err }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a ready file.
    pub fn ready(&mut self, file: &Path) -> Value {
        for _ in 0..6_000 {
            if let Ok(text) = fs::read_to_string(file) {
                return serde_json::from_str(&text).unwrap();
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "ended: {}", fs::read_to_string(&self.err).unwrap());
            std::thread::sleep(POLL);
        }
        panic!("not ready: {}", fs::read_to_string(&self.err).unwrap());
    }

    /// Ends it with a signal and answers how it ended.
    pub fn end(&mut self, signal: &str) -> std::process::ExitStatus {
        assert!(Command::new("kill").args([format!("-{signal}"), self.pid().to_string()]).status().unwrap().success());
        self.child.wait().unwrap()
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// What the collector wants to be shown; it may stand in its own requests and nowhere else.
const COLLECTOR_KEY: &str = "collector-key-8f2b7c1d9e4a6035";

/// Everything that runs beside keyholder itself.
pub struct World {
    /// Where spans and metrics go.
    pub collector: Collector,
    pub folder: TempDir,
    pub recorders: [Recorder; 2],
    pub control: String,
    pub sandboxes: [Apart; 2],
    pub ca: PathBuf,
}

impl World {
    /// Starts the platforms, writes the configuration and the documents, stores the secrets.
    pub fn start(evidence: &mut Evidence) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let inputs = folder.path().join("inputs");
        fs::create_dir(&inputs).unwrap();
        let ca = certificate(&inputs, evidence);
        let (sandbox, ready) = sandbox(folder.path(), "sandbox", &plain_sandbox(evidence));
        let tls = format!(
            "{}[tls]\ncertificate = \"{}\"\nkey = \"{}\"\n",
            limits(),
            ca.display(),
            inputs.join("tls.key").display()
        );
        let (tls_sandbox, tls_ready) = sandbox_with(folder.path(), "tls-sandbox", &(tls + &client(evidence, "tls")));
        let recorders = [Recorder::before(text(&ready, "genesys_url")), Recorder::before(text(&ready, "cxone_url"))];
        let made = Self {
            collector: Collector::start(Mood::Friendly),
            folder,
            control: text(&ready, "sandbox_control_url").to_owned(),
            recorders,
            sandboxes: [sandbox, tls_sandbox],
            ca,
        };
        evidence.secret("the collector's key", COLLECTOR_KEY);
        made.private("inputs/otlp.headers", &format!("x-api-key={COLLECTOR_KEY}\n"));
        let key = key_base64("store key");
        evidence.secret("the store's key", &key);
        let raw = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, &key).unwrap();
        evidence.secret("the store's key in binary", raw);
        made.private("inputs/store.key", &key);
        let port = text(&tls_ready, "genesys_url").rsplit(':').next().unwrap().to_owned();
        fs::write(made.path("keyholder.toml"), made.configuration(&port, "key_file = \"inputs/store.key\"")).unwrap();
        fs::write(made.path("by-env.toml"), made.configuration(&port, "key_env = \"KEYHOLDER_STORE_KEY\"")).unwrap();
        made.store_secrets(evidence);
        made
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file with a secret that a person keeps.
    pub fn private(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn configuration(&self, tls_port: &str, key: &str) -> String {
        let [genesys, cxone] = &self.recorders;
        let (genesys, cxone, ca) = (&genesys.url, &cxone.url, self.ca.display());
        let (hostile, collector) = (hostile::start(), &self.collector.url);
        let mut config = format!(
            r#"[gateway]
listen = ["127.0.0.1:0"]
[gateway.tls]
listen = ["127.0.0.1:0"]
cert = "inputs/tls.pem"
key = "inputs/tls.key"
[admin]
listen = "127.0.0.1:0"
[broker]
listen = "127.0.0.1:0"
[log]
access = "access.log"
[security]
log = "security.log"
successes = "all"
[security.guard]
enabled = false
[telemetry]
otlp_endpoint = "{collector}"
headers_file = "inputs/otlp.headers"
[state]
dir = "state"
[store]
{key}
[platform.cxone]
kind = "cxone"
issuer = "{cxone}"
allowed_origins = ["{cxone}"]
[platform.cxone-regional]
kind = "cxone"
auth_base = "{cxone}"
api_url = "{cxone}"
"#
        );
        for (name, url) in [
            ("genesys", genesys.clone()),
            ("genesys-wrong", genesys.clone()),
            ("genesys-tls", format!("https://localhost:{tls_port}")),
            // The certificate is for another name.
            ("untrusted", format!("https://127.0.0.1:{tls_port}")),
            ("not-tls", genesys.replace("http://", "https://")),
            ("unreachable", "http://127.0.0.1:1".to_owned()),
        ] {
            config.extend([format!(
                "[platform.{name}]\nkind = \"genesys\"\nlogin_url = \"{url}\"\napi_url = \"{url}\"\nextra_ca = \"{ca}\"\n"
            )]);
        }
        for way in hostile::WAYS.iter().chain(&["well", "refusing"]) {
            let base = format!("{hostile}/{way}");
            config.extend([format!(
                "[platform.{way}]\nkind = \"oauth2\"\ntoken_url = \"{base}/token\"\napi_url = \"{base}\"\nauth_method = \"basic\"\n"
            )]);
        }
        for name in CREDENTIALS.iter().chain(&hostile::WAYS) {
            config.extend([format!("[credential.{name}]\nplatform = \"{name}\"\nsecret = \"store:{name}\"\n")]);
        }
        config
    }

    fn store_secrets(&self, evidence: &mut Evidence) {
        let document = |secret: &str| json!({ "client_id": GENESYS_ID, "client_secret": secret });
        let key = json!({ "access_key_id": key_text("access key id"), "access_key_secret": key_text("access key") });
        let mut application = key.clone();
        application["client_id"] = json!("app@x");
        application["client_secret"] = json!(secret_text("application"));
        for name in CREDENTIALS.iter().chain(&hostile::WAYS) {
            let label = match *name {
                "untrusted" | "not-tls" | "unreachable" | "genesys-wrong" | "well" | "refusing" => *name,
                "genesys" => "admin",
                "genesys-tls" => "tls",
                other => other,
            };
            let document = match *name {
                "cxone" => application.clone(),
                "cxone-regional" => key.clone(),
                "well" | "echo-code" => {
                    evidence.secret(&format!("the secret of {name}"), awkward_text(label));
                    document(&awkward_text(label))
                }
                _ => {
                    evidence.secret(&format!("the secret of {name}"), secret_text(label));
                    document(&secret_text(label))
                }
            };
            let said = self.run(&["secret", "set", name], document.to_string().as_bytes());
            assert_eq!(said.code, Some(0), "{said:?}");
            evidence.add("secret set", said.out + &said.err);
        }
        for way in hostile::WAYS.iter().chain(&["well", "refusing"]) {
            evidence.secret(&format!("the token of {way}"), hostile::token(way));
            evidence.secret(&format!("the refresh token of {way}"), hostile::refresh_token(way));
        }
    }

    /// A command with the configuration, at the most talkative level.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = keyholder();
        command.current_dir(self.folder.path()).arg("--config").arg(self.path("keyholder.toml"));
        command.args(["--log", "trace"]).args(words);
        command
    }

    pub fn run(&self, words: &[&str], input: &[u8]) -> Said {
        run(&mut self.command(words), input)
    }

    /// The sandbox's control API.
    pub fn control(&self, method: &str, path: &str, body: &Value) {
        let url = format!("{}/_sandbox/{path}", self.control);
        let answer = request(method, &url, &[("Content-Type", "application/json")], body.to_string().as_bytes());
        assert!(answer.status < 300, "{path}: {answer:?}");
    }

    /// The next request to `path` at Genesys Cloud or CXone goes wrong like this.
    pub fn fault(&self, path: &str, first: u32, effect: &Value) {
        let rule = json!({ "match": { "path": path, "first": first }, "effect": effect });
        self.control("PUT", "faults", &json!({ "rules": [rule] }));
    }

    pub fn no_faults(&self) {
        self.control("PUT", "faults", &json!({ "rules": [] }));
    }

    /// Marks every token and authorization value that went over the wire; answers how many tokens.
    pub fn learn(&self, evidence: &mut Evidence) -> usize {
        let before = evidence.secrets().len();
        for heard in self.recorders.iter().flat_map(Recorder::heard) {
            for member in ["access_token", "refresh_token", "id_token"] {
                for value in values_after(&heard, &format!("\"{member}\":\""), &['"']) {
                    evidence.secret(&format!("a platform's {member}"), value);
                }
            }
            for scheme in ["uthorization: Basic ", "uthorization: Bearer "] {
                for value in values_after(&heard, scheme, &['\r', '\n']) {
                    evidence.secret(&format!("a value of A{}", scheme.trim_end()), value);
                }
            }
        }
        evidence.secrets().len() - before
    }
}

pub fn limits() -> String {
    "[limits]\nlogins_per_minute = 100000\nrequests_per_client_minute = 100000\nrequests_per_token = 100000\n"
        .to_owned()
}

fn client(evidence: &mut Evidence, label: &str) -> String {
    let secret = secret_text(label);
    evidence.secret(&format!("the platform secret {label}"), &secret);
    format!(
        "[[genesys.clients]]\nid = \"{GENESYS_ID}\"\nsecret = \"{secret}\"\nname = \"admin\"\nroles = [\"admin\"]\n"
    )
}

fn plain_sandbox(evidence: &mut Evidence) -> String {
    let (application, key) = (secret_text("application"), key_text("access key"));
    evidence.secret("the CXone application's secret", &application);
    evidence.secret("the CXone access key's secret", &key);
    let key_id = key_text("access key id");
    limits()
        + &client(evidence, "admin")
        + &format!(
            r#"[[cxone.applications]]
id = "app@x"
secret = "{application}"
[[cxone.tenants]]
name = "acme"
[[cxone.tenants.users]]
name = "user"
[[cxone.tenants.users.access_keys]]
id = "{key_id}"
secret = "{key}"
"#
        )
}

fn sandbox(folder: &Path, name: &str, config: &str) -> (Apart, Value) {
    sandbox_with(folder, name, config)
}

pub fn sandbox_with(folder: &Path, name: &str, config: &str) -> (Apart, Value) {
    let inputs = folder.join("inputs");
    let (file, ready) = (inputs.join(format!("{name}.toml")), inputs.join(format!("{name}.json")));
    fs::write(&file, config).unwrap();
    let mut command = keyholder();
    command.arg("--config").arg(&file).args(["--log", "trace", "sandbox", "--ready-file"]).arg(&ready);
    let mut process = Apart::start(&mut command, folder, name);
    let ready = process.ready(&ready);
    (process, ready)
}

/// A self-signed certificate for `localhost`; its key is a secret as well.
fn certificate(folder: &Path, evidence: &mut Evidence) -> PathBuf {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (cert, key) = (folder.join("tls.pem"), folder.join("tls.key"));
    fs::write(&cert, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    // The private scalar of PKCS#8 begins behind 36 bytes of names (RFC 5208, RFC 5915).
    evidence.secret("the private key of TLS", &made.signing_key.serialize_der()[36..68]);
    cert
}
