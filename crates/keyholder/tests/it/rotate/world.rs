//! A sandbox with a client of its own to rotate, and a configuration that says how.

use std::{
    fs,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    harness::{Answer, Installation, Login, Said, Server, request, text},
    leaks::forms::key_text,
};

/// Between two calls of the load: 200 in 20 s stay below the platform's 300 a minute for one token.
const PACE: Duration = Duration::from_millis(100);

/// Where CXone has access keys, also as an endpoint of the journal.
pub(crate) const KEYS: &str = "/access-key-management/v1/access-keys";

/// A list of CXone's that every tenant has.
const AGENTS: &str = "/inContactAPI/services/v30.0/agents";

/// An installation whose credential `app` is a client that the rotator made for it.
pub(crate) struct World {
    pub(crate) installation: Installation,
    /// The login that `app` had at first.
    pub(crate) first: Value,
}

/// A token of the sandbox's for a login, or the answer that refused it.
pub(crate) fn log_in(url: &str, document: &Value) -> Result<String, Answer> {
    let (id, secret) = (text(document, "client_id"), text(document, "client_secret"));
    let form = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    let answer = request("POST", &format!("{url}/oauth/token"), &headers, form.as_bytes());
    if answer.status == 200 { Ok(text(&answer.json(), "access_token").to_owned()) } else { Err(answer) }
}

/// Login with an access key, at keyholder or at the platform (regional host).
pub(crate) fn key_login(url: &str, key: &Value) -> Answer {
    let url = format!("{url}/authentication/v1/token/access-key");
    request("POST", &url, &[("Content-Type", "application/json")], key.to_string().as_bytes())
}

/// Adds the credential `app` of this platform to the configuration, and its rotator, who has the platform's name.
fn configure(installation: &Installation, platform: &str, lines_of_platform: &str, rotation: &str, lines: &str) {
    let file = installation.path("keyholder.toml");
    let before = fs::read_to_string(&file).unwrap();
    let section = format!("[platform.{platform}]\nkind = \"{platform}\"\n");
    assert!(before.contains(&section));
    let config = before.replace(&section, &format!("{section}rotator = \"{platform}\"\n{lines_of_platform}"));
    let app = format!(
        "[credential.app]\nplatform = \"{platform}\"\nsecret = \"store:app\"\n\
         [credential.app.rotation]\noverlap_min = \"1s\"\nquiet = \"1s\"\nwatch = \"1s\"\n{rotation}\n\
         [rotation]\ncall_max = \"20s\"\n{lines}"
    );
    fs::write(&file, config + &app).unwrap();
}

impl World {
    /// `rotation` stands in `[credential.app.rotation]`, `lines` at the end of the file.
    pub(crate) fn new(rotation: &str, lines: &str) -> Self {
        Self::made(Installation::new(), "", rotation, lines)
    }

    /// The same with a key for signatures, written by `key`.
    pub(crate) fn keyed(rotation: &str, lines: &str, key: impl FnOnce(&Path)) -> Self {
        let installation = Installation::new();
        key(&installation.path("signing.key"));
        Self::made(installation, "", rotation, lines)
    }

    /// The same over a sandbox with a configuration; `platform` stands in `[platform.genesys]`.
    pub(crate) fn on(sandbox: &str, platform: &str, rotation: &str, lines: &str) -> Self {
        Self::made(Installation::with(sandbox, ""), platform, rotation, lines)
    }

    /// A sandbox of NICE CXone with two users: the rotator's, and the one whose access key is the credential.
    pub(crate) fn keys(rotation: &str) -> Self {
        let user = |name: &str| {
            let (id, secret) = (key_text(&format!("id of {name}")), key_text(name));
            format!(
                "[[cxone.tenants.users]]\nname = \"{name}\"\n\
                 [[cxone.tenants.users.access_keys]]\nid = \"{id}\"\nsecret = \"{secret}\"\n"
            )
        };
        let tenant = format!("[[cxone.tenants]]\nname = \"acme\"\n{}{}", user("robot"), user("app"));
        let installation = Installation::with(&tenant, "");
        let mut first = installation.sandbox.cxone_document();
        first["access_key_id"] = key_text("id of app").into();
        first["access_key_secret"] = key_text("app").into();
        // the platform tells how old its first keys are, so that the schedule may find them due
        configure(&installation, "cxone", "", rotation, "scheduler = false\n");
        installation.store_secret("app", &first);
        Self { installation, first }
    }

    fn made(installation: Installation, platform: &str, rotation: &str, lines: &str) -> Self {
        configure(&installation, "genesys", platform, rotation, lines);
        let first = client(&installation, "app");
        installation.store_secret("app", &first);
        Self { installation, first }
    }

    /// Whether the platform lets this document in.
    pub(crate) fn lets_in(&self, document: &Value) -> bool {
        let sandbox = &self.installation.sandbox;
        if document.get("access_key_id").is_none() {
            return log_in(sandbox.url(), document).is_ok();
        }
        let key = json!({ "accessKeyId": document["access_key_id"], "accessKeySecret": document["access_key_secret"] });
        key_login(sandbox.cxone_url(), &key).status == 200
    }

    /// The access keys of the tenant besides the rotator's, with whether each is active.
    pub(crate) fn access_keys(&self) -> Vec<(String, bool)> {
        let sandbox = &self.installation.sandbox;
        let robot = json!({ "accessKeyId": key_text("id of robot"), "accessKeySecret": key_text("robot") });
        let bearer = format!("Bearer {}", text(&key_login(sandbox.cxone_url(), &robot).json(), "access_token"));
        let url = format!("{}{KEYS}", sandbox.cxone_url());
        let answer = request("GET", &url, &[("Authorization", &bearer), ("Accept", "application/json")], b"");
        let all = answer.json()["accessKeys"].as_array().cloned().unwrap_or_default();
        let ours = all.iter().filter(|key| key["accessKeyId"] != robot["accessKeyId"]);
        ours.map(|key| (text(key, "accessKeyId").to_owned(), key["isActive"] == true)).collect()
    }

    pub(crate) fn run(&self, words: &[&str]) -> Said {
        self.installation.run(words)
    }

    /// The answer of a command with `--output json`, whatever its exit code.
    pub(crate) fn told(&self, words: &[&str]) -> (Option<i32>, Value) {
        let said = self.installation.run(&[&["--output", "json"], words].concat());
        let answer = if said.out.is_empty() { said.err.lines().last().unwrap_or_default() } else { &said.out };
        (said.code, serde_json::from_str(answer).unwrap_or_else(|error| panic!("{error}: {}{}", said.out, said.err)))
    }

    pub(crate) fn state(&self) -> String {
        let (_, status) = self.told(&["rotate", "status", "app"]);
        status["state"].as_str().unwrap_or("none").to_owned()
    }

    /// The clients of the organisation whose name begins with `app`, with whether each is active.
    pub(crate) fn clients(&self) -> Vec<(String, bool)> {
        let url = self.installation.sandbox.url();
        let token = log_in(url, &self.installation.sandbox.genesys_document()).unwrap();
        let bearer = format!("Bearer {token}");
        let answer = request("GET", &format!("{url}/api/v2/oauth/clients"), &[("Authorization", &bearer)], b"");
        let all = answer.json()["entities"].as_array().cloned().unwrap_or_default();
        let ours = all.iter().filter(|client| text(client, "name").starts_with("app"));
        ours.map(|client| (text(client, "id").to_owned(), client["state"].as_str() != Some("inactive"))).collect()
    }
}

/// A new client of the organisation, as the document of a credential.
pub(crate) fn client(installation: &Installation, name: &str) -> Value {
    let url = installation.sandbox.url();
    let token = log_in(url, &installation.sandbox.genesys_document()).unwrap();
    let bearer = format!("Bearer {token}");
    let call = |method: &str, path: &str, body: &Value| {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
        let answer = request(method, &format!("{url}{path}"), &headers, &body);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    };
    let admin = text(&installation.sandbox.ready, "client_id");
    let own = call("GET", &format!("/api/v2/oauth/clients/{admin}"), &Value::Null);
    let wanted = json!({
        "name": name, "authorizedGrantType": "CLIENT-CREDENTIALS", "roleDivisions": own["roleDivisions"],
        "accessTokenValiditySeconds": 3600,
    });
    let made = call("POST", "/api/v2/oauth/clients", &wanted);
    json!({ "client_id": made["id"], "client_secret": made["secret"] })
}

/// An application that calls through the gateway until it is told to stop.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<u16>>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Load {
    pub(crate) fn start(server: &Server, login: &Login) -> Self {
        Self::calling(server, server.login(login), "/api/v2/users")
    }

    /// The same at CXone, with a login by access key.
    pub(crate) fn with_key(server: &Server, login: &Login) -> Self {
        let key = json!({ "accessKeyId": login.id, "accessKeySecret": login.secret });
        let token = text(&key_login(server.gateway(), &key).json(), "access_token").to_owned();
        Self::calling(server, token, AGENTS)
    }

    fn calling(server: &Server, token: String, path: &'static str) -> Self {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (gateway, ended, statuses) = (server.gateway().to_owned(), Arc::clone(&stop), Arc::clone(&seen));
        let thread = std::thread::spawn(move || {
            let bearer = format!("Bearer {token}");
            while !ended.load(Ordering::SeqCst) {
                let headers = [("Authorization", bearer.as_str()), ("Accept", "application/json")];
                let answer = request("GET", &format!("{gateway}{path}"), &headers, b"");
                statuses.lock().unwrap().push(answer.status);
                std::thread::sleep(PACE);
            }
        });
        Self { stop, seen, thread: Some(thread) }
    }

    /// How many calls were answered so far.
    pub(crate) fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// Ends it; answers every status that was seen.
    pub(crate) fn end(mut self) -> Vec<u16> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap();
        self.seen.lock().unwrap().clone()
    }
}
