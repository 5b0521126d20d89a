//! The stage of the rotation scenario: a platform of each kind behind a relay, four stores, hooks and notices of every
//! kind that a plain address can stand for.
//!
//! Invariant: every secret that anybody configures is made or read here and marked in the evidence before it is used.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, process::Command, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use kh_fakes::{Options, Running, aws::Aws, azure::KeyVault, vault::Vault};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    super::{
        evidence::Evidence,
        forms::{key_base64, key_text, secret_text},
        recorder::{Recorder, values_after},
        world::{Apart, limits, sandbox_with},
    },
    outside::{Heard, Receiver, Tunnel},
};
use crate::harness::{Said, keyholder, request, run, text};

/// Who is rotated: name, platform, its document, lines of its section.
pub const ROTATED: [(&str, &str, &str, &str); 5] = [
    (
        "pair",
        "clients",
        "store:pair",
        "strategy = \"pair\"\ntargets = [\"vault:acme/pair\", \"aws:acme/pair\", \"azure:acme-pair\"]\n\
         hooks = [\"tattler\", \"crm\", \"ci\"]\n",
    ),
    ("back", "clients", "vault:acme/back", "strategy = \"pair\"\nhooks = [\"stuck\"]\n"),
    ("swap", "clients", "aws:acme/swap", "strategy = \"swap\"\n"),
    ("leaked", "secrets", "azure:acme-leaked", "strategy = \"overlap\"\ntargets = [\"store:leaked-copy\"]\n"),
    ("keys", "keys", "vault:acme/keys", "strategy = \"overlap\"\n"),
];

/// Clients of Genesys Cloud, the rotators last.
const CLIENTS: [&str; 6] = ["pair", "back", "swap", "leaked", "rotator", "rotator-of-secrets"];

/// An id of a client, the same in every run.
fn id_of(name: &str) -> String {
    let hex = kh_core::Sha256::of(name.as_bytes()).to_hex();
    format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[12..15], &hex[15..18], &hex[18..30])
}

/// A store of a vendor, which ends with the value.
pub struct Store {
    pub heard: Arc<Heard>,
    running: Running,
}

/// Everything that runs.
pub struct Stage {
    pub folder: TempDir,
    pub receiver: Receiver,
    pub tunnel: Tunnel,
    pub sandbox: Apart,
    control: String,
    platforms: [Recorder; 2],
    pub stores: Vec<Store>,
    _runtime: tokio::runtime::Runtime,
}

impl Stage {
    pub fn start(evidence: &mut Evidence) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("inputs")).unwrap();
        let (sandbox, ready) = sandbox_with(folder.path(), "sandbox", &platforms(evidence));
        let recorders = [Recorder::before(text(&ready, "genesys_url")), Recorder::before(text(&ready, "cxone_url"))];
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (aws, vault, azure) = (Arc::new(Aws::new()), Arc::new(Vault::new()), Arc::new(KeyVault::default()));
        let stores = runtime.block_on(async {
            let made = [
                (Heard::new(vault), Options::default()),
                (Heard::new(aws), Options::default()),
                (Heard::new(azure), Options::tls()),
            ];
            let mut stores = Vec::new();
            for (heard, options) in made {
                stores.push(Store { running: kh_fakes::start(heard.clone(), options).await.unwrap(), heard });
            }
            stores
        });
        let made = Self {
            tunnel: Tunnel::to(stores[2].running.address),
            receiver: Receiver::start(),
            control: text(&ready, "sandbox_control_url").to_owned(),
            platforms: recorders,
            folder,
            sandbox,
            stores,
            _runtime: runtime,
        };
        made.inputs(evidence);
        fs::write(made.path("keyholder.toml"), made.configuration()).unwrap();
        made.documents(evidence);
        made
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn private(&self, name: &str, content: &str) {
        let path = self.path("inputs").join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// A command at the most talkative level.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = keyholder();
        command.current_dir(self.folder.path()).args(["--config", "keyholder.toml", "--log", "trace"]).args(words);
        command.env("AWS_SHARED_CREDENTIALS_FILE", self.path("inputs/aws.credentials"));
        command.env("AWS_CONFIG_FILE", self.path("inputs/aws.config"));
        command
    }

    pub fn run(&self, words: &[&str], input: &[u8]) -> Said {
        run(&mut self.command(words), input)
    }

    /// Steers the sandbox.
    pub fn control(&self, method: &str, path: &str, body: &Value) -> Value {
        let url = format!("{}/_sandbox/{path}", self.control);
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = request(method, &url, &[("Content-Type", "application/json")], body.as_bytes());
        assert!(answer.status < 300, "{path}: {answer:?}");
        serde_json::from_slice(&answer.body).unwrap_or_default()
    }

    /// What Vault's administrator asks.
    fn vault(&self, method: &str, path: &str, header: (&str, &str), body: &Value) -> Value {
        let ready = self.stores[0].running.ready();
        let url = format!("{}/v1/{path}", self.stores[0].running.url);
        let headers = [("X-Vault-Token", text(&ready, "root_token")), header, ("Content-Type", "application/json")];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = request(method, &url, &headers, body.as_bytes());
        assert!(answer.status < 300, "{path}: {answer:?}");
        serde_json::from_slice(&answer.body).unwrap_or_default()
    }

    /// The files that a person keeps, each with its secret.
    fn inputs(&self, evidence: &mut Evidence) {
        let key = key_base64("rotation store key");
        evidence.secret("the store's key", &key);
        evidence.secret("the store's key in binary", STANDARD.decode(&key).unwrap());
        self.private("store.key", &key);
        let rules = json!({
            "secret/data/*": { "capabilities": ["create", "read", "update"] },
            "secret/metadata/*": { "capabilities": ["read", "list"] },
            "secret/destroy/*": { "capabilities": ["update"] },
            "secret/config": { "capabilities": ["read"] },
        });
        let none = ("Accept", "*/*");
        let policy = json!({ "policy": json!({ "path": rules }).to_string() });
        self.vault("PUT", "sys/policies/acl/keyholder", none, &policy);
        let role = json!({ "token_policies": ["keyholder"], "token_ttl": 900, "token_max_ttl": 3600 });
        self.vault("POST", "auth/approle/role/kh", none, &role);
        let answer = self.vault("GET", "auth/approle/role/kh/role-id", none, &Value::Null);
        self.private("vault.role-id", text(&answer["data"], "role_id"));
        let answer = self.vault("POST", "auth/approle/role/kh/secret-id", none, &json!({}));
        evidence.secret("Vault's secret id", text(&answer["data"], "secret_id"));
        self.private("vault.secret-id", text(&answer["data"], "secret_id"));
        let wrap = ("X-Vault-Wrap-TTL", "600");
        let answer = self.vault("POST", "auth/approle/role/kh/secret-id", wrap, &json!({}));
        evidence.secret("Vault's wrapping token", text(&answer["wrap_info"], "token"));
        self.private("vault.wrapped", text(&answer["wrap_info"], "token"));

        let aws = self.stores[1].running.ready();
        evidence.secret("the secret key of AWS", text(&aws, "secret_access_key"));
        let (id, secret) = (text(&aws, "access_key_id"), text(&aws, "secret_access_key"));
        self.private(
            "aws.credentials",
            &format!("[keyholder]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n"),
        );
        self.private("aws.config", "");
        let azure = self.stores[2].running.ready();
        evidence.secret("the client secret of Azure", text(&azure, "client_secret"));
        self.private("azure.secret", text(&azure, "client_secret"));
        self.private("azure.pem", text(&azure, "ca_pem"));

        for name in ["hook", "notice"] {
            let key = key_base64(name);
            evidence.secret("a key of signatures", &key);
            evidence.secret("a key of signatures in binary", STANDARD.decode(&key).unwrap());
            self.private(&format!("{name}.key"), &format!("whsec_{key}\n"));
        }
        for (name, label, before) in [
            ("on-call.key", "PagerDuty", String::new()),
            ("github.token", "GitHub", String::new()),
            ("slack.url", "Slack", format!("{}/slack/", self.receiver.url)),
        ] {
            evidence.secret(&format!("the secret of {label}"), secret_text(label));
            self.private(name, &format!("{before}{}\n", secret_text(label)));
        }
        self.tattler();
    }

    /// A program that shows what it was given, and tells its own errors with the new secret in them: keyholder passes
    /// on what programs say.
    fn tattler(&self) {
        let (vault, folder) = (&self.stores[0].running.url, self.folder.path().display());
        self.private("vault.root", text(&self.stores[0].running.ready(), "root_token"));
        let script = format!(
            "#!/bin/sh\n\
             cat /proc/$$/environ /proc/$$/cmdline /proc/$PPID/cmdline - > {folder}/given.$$\n\
             curl -s -H \"X-Vault-Token: $(cat {folder}/inputs/vault.root)\" {vault}/v1/secret/data/acme/pair >&2\n\
             test -e {folder}/told || {{ touch {folder}/told; exit 1; }}\n"
        );
        self.private("tattler", &script);
        fs::set_permissions(self.path("inputs/tattler"), fs::Permissions::from_mode(0o700)).unwrap();
    }

    fn configuration(&self) -> String {
        let [genesys, cxone] = &self.platforms;
        let (genesys, cxone, receiver, proxy) = (&genesys.url, &cxone.url, &self.receiver.url, &self.tunnel.url);
        let [vault, aws, azure] = [0, 1, 2].map(|at| self.stores[at].running.ready());
        let platform = format!("kind = \"genesys\"\nlogin_url = \"{genesys}\"\napi_url = \"{genesys}\"\n");
        let inputs = self.path("inputs").display().to_string();
        let approle = format!(
            "kind = \"vault\"\naddress = \"{}\"\nrole_id_file = \"{inputs}/vault.role-id\"\n",
            text(&vault, "url")
        );
        let mut config = format!(
            r#"[gateway]
listen = ["127.0.0.1:0"]
[admin]
listen = "127.0.0.1:0"
[broker]
listen = "127.0.0.1:0"
[log]
format = "json"
file = "keyholder.log"
access = "access.log"
[state]
dir = "state"
[store]
key_file = "{inputs}/store.key"
[network]
proxy = "{proxy}"
[rotation]
scheduler = false
call_max = "20s"
overlap_min = "1s"
quiet = "1s"
watch = "1s"
notify = ["team", "on-call", "chat"]
[rotation.verify]
successes = 2
[secret_store.vault]
{approle}secret_id_file = "{inputs}/vault.secret-id"
[secret_store.wrapped]
{approle}secret_id_file = "{inputs}/vault.wrapped"
secret_id_wrapped = true
[secret_store.aws]
kind = "aws"
region = "{}"
profile = "keyholder"
endpoint = "{}"
[secret_store.azure]
kind = "azure"
vault_url = "https://{}"
tenant_id = "{}"
client_id = "{}"
client_secret_file = "{inputs}/azure.secret"
extra_ca = "{inputs}/azure.pem"
[hook.tattler]
kind = "command"
command = ["{inputs}/tattler"]
[hook.crm]
kind = "webhook"
url = "{receiver}/crm"
key_file = "{inputs}/hook.key"
[hook.stuck]
kind = "webhook"
url = "{receiver}/stuck"
key_file = "{inputs}/hook.key"
[hook.ci]
kind = "github"
repository = "acme/integration"
name = "GENESYS"
token_file = "{inputs}/github.token"
api_url = "{receiver}"
[notify.team]
kind = "webhook"
url = "{receiver}/team"
key_file = "{inputs}/notice.key"
[notify.on-call]
kind = "pagerduty"
key_file = "{inputs}/on-call.key"
url = "{receiver}/on-call"
[notify.chat]
kind = "slack"
url_file = "{inputs}/slack.url"
[platform.clients]
{platform}rotator = "rotator"
[platform.secrets]
{platform}rotator = "rotator-of-secrets"
secrets_api = true
[platform.keys]
kind = "cxone"
issuer = "{cxone}"
allowed_origins = ["{cxone}"]
rotator = "rotator-of-keys"
"#,
            text(&aws, "region"),
            text(&aws, "url"),
            kh_fakes::azure::VAULT_HOST,
            text(&azure, "tenant"),
            text(&azure, "client_id"),
        );
        for (rotator, platform) in
            [("rotator", "clients"), ("rotator-of-secrets", "secrets"), ("rotator-of-keys", "keys")]
        {
            config
                .extend([format!("[credential.{rotator}]\nplatform = \"{platform}\"\nsecret = \"store:{rotator}\"\n")]);
        }
        for (name, platform, secret, rotation) in ROTATED {
            config.extend([format!(
                "[credential.{name}]\nplatform = \"{platform}\"\nsecret = \"{secret}\"\n[credential.{name}.rotation]\n{rotation}"
            )]);
        }
        config
    }

    /// Puts the first documents where the configuration says, by the commands that people use.
    fn documents(&self, evidence: &mut Evidence) {
        let keys = [("keys", "app"), ("rotator-of-keys", "robot")].map(|(name, user)| (name, key_document(user)));
        let clients =
            CLIENTS.map(|name| (name, json!({ "client_id": id_of(name), "client_secret": secret_text(name) })));
        for (name, document) in clients.into_iter().chain(keys) {
            let said = self.run(&["secret", "set", name], document.to_string().as_bytes());
            assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
            evidence.add("secret set", said.out + &said.err);
        }
        for (name, _, secret, rotation) in ROTATED {
            let targets = rotation.split('"').filter(|part| part.contains(':'));
            for place in targets.chain([secret]).filter(|place| !place.ends_with(&format!("store:{name}"))) {
                let said = self.run(&["secret", "copy", &format!("store:{name}"), place], b"");
                assert_eq!(said.code, Some(0), "{place}: {}{}", said.out, said.err);
                evidence.add("secret copy", said.out + &said.err);
            }
        }
    }

    /// Marks every secret and token that went over a wire; answers how many, and how many secrets a platform made.
    pub fn learn(&self, evidence: &mut Evidence) -> (usize, usize) {
        let before = evidence.secrets().len();
        let mut made = 0;
        for heard in self.platforms.iter().flat_map(Recorder::heard) {
            for member in ["secret", "accessKeySecret"] {
                for value in values_after(&heard, &format!("\"{member}\":\""), &['"']) {
                    made += 1;
                    evidence.secret("a secret that a platform made", value);
                }
            }
            learn(evidence, &heard);
        }
        for store in &self.stores {
            learn(evidence, &store.heard.tape());
        }
        (evidence.secrets().len() - before, made)
    }
}

/// Tokens in answers, and what stands in headers.
fn learn(evidence: &mut Evidence, heard: &str) {
    for member in ["access_token", "refresh_token", "id_token", "client_token", "secret_id"] {
        for value in values_after(heard, &format!("\"{member}\":\""), &['"']) {
            evidence.secret(&format!("a {member}"), value);
        }
    }
    for header in ["uthorization: Basic ", "uthorization: Bearer ", "x-vault-token: "] {
        for value in values_after(heard, header, &['\r', '\n']) {
            evidence.secret(&format!("a value of {}", header.trim_end()), value);
        }
    }
}

fn key_document(user: &str) -> Value {
    json!({
        "client_id": "app@x", "client_secret": secret_text("vendor"),
        "access_key_id": key_text(&format!("id of {user}")), "access_key_secret": key_text(user),
    })
}

/// The sandbox's configuration: every login of it is known.
fn platforms(evidence: &mut Evidence) -> String {
    let mut config = limits()
        + "[behaviours]\nsecrets_api = true\n[[genesys.roles]]\nname = \"application\"\npermissions = [\"directory:user:view\"]\n";
    for name in CLIENTS {
        evidence.secret(&format!("the first secret of {name}"), secret_text(name));
        let roles = if name.starts_with("rotator") { "[\"admin\", \"application\"]" } else { "[\"application\"]" };
        config.extend([format!(
            "[[genesys.clients]]\nid = \"{}\"\nsecret = \"{}\"\nname = \"{name}\"\nroles = {roles}\n",
            id_of(name),
            secret_text(name)
        )]);
    }
    evidence.secret("the vendor's secret of the application", secret_text("vendor"));
    config.extend([format!(
        "[[cxone.applications]]\nid = \"app@x\"\nsecret = \"{}\"\n[[cxone.tenants]]\nname = \"acme\"\n",
        secret_text("vendor")
    )]);
    for user in ["app", "robot"] {
        evidence.secret(&format!("the first key of {user}"), key_text(user));
        config.extend([format!(
            "[[cxone.tenants.users]]\nname = \"{user}\"\n[[cxone.tenants.users.access_keys]]\nid = \"{}\"\nsecret = \"{}\"\n",
            key_text(&format!("id of {user}")),
            key_text(user)
        )]);
    }
    config
}
