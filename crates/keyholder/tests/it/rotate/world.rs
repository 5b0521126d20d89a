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

use crate::harness::{Answer, Installation, Login, Said, Server, request, text};

/// Between two calls of the load: 200 in 20 s stay below the platform's 300 a minute for one token.
const PACE: Duration = Duration::from_millis(100);

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

    fn made(installation: Installation, platform: &str, rotation: &str, lines: &str) -> Self {
        let file = installation.path("keyholder.toml");
        let before = fs::read_to_string(&file).unwrap();
        let section = "[platform.genesys]\nkind = \"genesys\"\n";
        assert!(before.contains(section));
        let config = before.replace(section, &format!("{section}rotator = \"genesys\"\n{platform}"));
        let app = format!(
            "[credential.app]\nplatform = \"genesys\"\nsecret = \"store:app\"\n\
             [credential.app.rotation]\noverlap_min = \"1s\"\nquiet = \"1s\"\nwatch = \"1s\"\n{rotation}\n\
             [rotation]\ncall_max = \"20s\"\n{lines}"
        );
        fs::write(&file, config + &app).unwrap();
        let first = client(&installation, "app");
        installation.store_secret("app", &first);
        Self { installation, first }
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
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let token = server.login(login);
        let (gateway, ended, statuses) = (server.gateway().to_owned(), Arc::clone(&stop), Arc::clone(&seen));
        let thread = std::thread::spawn(move || {
            let bearer = format!("Bearer {token}");
            while !ended.load(Ordering::SeqCst) {
                let answer = request("GET", &format!("{gateway}/api/v2/users"), &[("Authorization", &bearer)], b"");
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
