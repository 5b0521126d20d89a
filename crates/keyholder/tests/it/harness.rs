//! Starts and ends the program for tests: a sandbox, a configured keyholder, commands, HTTP.
//!
//! Invariant: every process belongs to a value that kills it when dropped, and is waited for within limits; every file
//! is in the test's own folder; no variable of the developer's environment reaches a tested process.

#![allow(unreachable_pub, reason = "a toolbox within one test binary")]
#![allow(dead_code, reason = "a toolbox for all test modules; not every one uses every tool")]

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{
        Arc, Mutex,
        mpsc::{self, RecvTimeoutError},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

/// How long a process may take to get ready. Waiting ends as soon as it is; a busy machine needs the rest.
const READY_POLLS: u32 = 3_000;
const POLL: Duration = Duration::from_millis(10);

/// How long a process may take to end: many times what the slowest ones take on a busy machine, a compiler and the
/// whole demo. Only one that hangs gets there.
pub const PATIENCE: Duration = Duration::from_mins(5);
/// Many commands are run in a row: their ends are seen soon.
const END_POLL: Duration = Duration::from_millis(1);

/// A configuration without a platform, on free ports.
pub const BARE_CONFIG: &str = "\
[gateway]
listen = [\"127.0.0.1:0\"]
[admin]
listen = \"127.0.0.1:0\"
[broker]
listen = \"127.0.0.1:0\"
";

/// The program under test, with an environment of its own.
pub fn keyholder() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyholder"));
    command.env_clear().env("USER", "tester").env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// What a finished command said.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Said {
    pub fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("the program speaks UTF-8");
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// The answer; the command must have ended well.
    pub fn done(self) -> String {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.err);
        self.out
    }

    /// The answer of `--output json`.
    pub fn json(self) -> Value {
        serde_json::from_str(&self.done()).expect("with --output json the answer is one JSON document")
    }
}

/// Runs a command to its end, with `input` on its standard input. One that does not end within [`PATIENCE`] is killed,
/// and the test fails with what it said.
pub fn run(command: &mut Command, input: &[u8]) -> Said {
    run_within(command, input, PATIENCE)
}

fn run_within(command: &mut Command, input: &[u8], patience: Duration) -> Said {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (hold, held) = mpsc::channel();
    let out = hear(child.stdout.take().unwrap(), hold.clone());
    let err = hear(child.stderr.take().unwrap(), hold);
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
    // A command that does not read its input closes it; that is no failure of the test.
    std::thread::spawn(move || stdin.write_all(&input).ok());
    let whole = held.recv_timeout(patience) == Err(RecvTimeoutError::Disconnected);
    let status = if whole { ended_within(&mut child, patience) } else { None };
    let heard = |bytes: &Mutex<Vec<u8>>| bytes.lock().unwrap().clone();
    let (stdout, stderr) = (heard(&out), heard(&err));
    let Some(status) = status else {
        // It may have ended just now, or have left its streams to another process.
        child.kill().ok();
        child.wait().ok();
        let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        panic!("not at its end after {patience:?}: {command:?}\n{out}{err}");
    };
    Said::of(&Output { status, stdout, stderr })
}

/// Reads a stream in a thread of its own, which lets go of `hold` at the end of it.
fn hear(mut stream: impl Read + Send + 'static, hold: mpsc::Sender<()>) -> Arc<Mutex<Vec<u8>>> {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&bytes);
    std::thread::spawn(move || {
        let mut chunk = [0; 8 * 1024];
        while let Ok(length @ 1..) = stream.read(&mut chunk) {
            kept.lock().unwrap().extend_from_slice(&chunk[..length]);
        }
        drop(hold);
    });
    bytes
}

fn ended_within(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    for _ in 0..=patience.as_millis() / END_POLL.as_millis() {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        std::thread::sleep(END_POLL);
    }
    None
}

/// Asks again and again until the answer is the expected one, for what another process picks up by polling.
pub fn eventually<T: PartialEq + std::fmt::Debug>(expected: &T, ask: impl Fn() -> T) {
    let mut last = ask();
    for _ in 0..READY_POLLS {
        if last == *expected {
            return;
        }
        std::thread::sleep(POLL);
        last = ask();
    }
    assert_eq!(last, *expected);
}

/// A process that is killed when the value is dropped.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; both its streams go to `log`.
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let out = fs::File::create(log).unwrap();
        let err = out.try_clone().unwrap();
        Self { child: command.stdout(out).stderr(err).spawn().unwrap(), log: log.to_owned() }
    }

    /// Starts `command`; its standard output goes to `log`, its standard error to `err`.
    pub fn start_telling(command: &mut Command, log: &Path, err: impl Into<Stdio>) -> Self {
        let out = fs::File::create(log).unwrap();
        Self { child: command.stdout(out).stderr(err).spawn().unwrap(), log: log.to_owned() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it said so far.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits for a file of JSON that appears whole.
    pub fn ready(&mut self, file: &Path) -> Value {
        for _ in 0..READY_POLLS {
            if let Ok(text) = fs::read_to_string(file) {
                return serde_json::from_str(&text).expect("the ready file is JSON and appears whole");
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("ended with {status} before it was ready:\n{}", self.said());
            }
            std::thread::sleep(POLL);
        }
        panic!("not ready in time:\n{}", self.said());
    }

    /// Sends a signal, such as `TERM`, `INT` or `KILL`.
    pub fn signal(&self, name: &str) {
        let done = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status().unwrap();
        assert!(done.success());
    }

    /// Ends it as a power cut would; answers whether it was still alive.
    pub fn cut(&mut self) -> bool {
        // One that has ended already cannot be killed.
        self.child.kill().ok();
        self.child.wait().unwrap().signal() == Some(9)
    }

    /// Whether it has ended.
    pub fn ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end and answers the exit code; none after a fatal signal. One that does not end within
    /// [`PATIENCE`] is killed, and the test fails with what it said.
    pub fn end(&mut self) -> Option<i32> {
        if let Some(status) = ended_within(&mut self.child, PATIENCE) {
            return status.code();
        }
        // It may have ended just now.
        self.child.kill().ok();
        panic!("not at its end after {PATIENCE:?}:\n{}", self.said());
    }

    /// Ends it orderly.
    pub fn stop(mut self) -> (Option<i32>, String) {
        self.signal("TERM");
        (self.end(), self.said())
    }

    /// Ends it as a power cut would.
    pub fn kill(mut self) {
        self.signal("KILL");
        self.end();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A sandbox process with what its ready file says.
pub struct Sandbox {
    pub process: Process,
    pub ready: Value,
}

impl Sandbox {
    /// Starts one; `config` is its TOML, empty for the platforms' own limits.
    pub fn start(folder: &Path, config: &str) -> Self {
        let (file, ready) = (folder.join("sandbox.toml"), folder.join("sandbox.json"));
        fs::write(&file, config).unwrap();
        let mut command = keyholder();
        command.arg("sandbox").arg("--config").arg(&file).arg("--ready-file").arg(&ready);
        let mut process = Process::start(&mut command, &folder.join("sandbox.log"));
        let ready = process.ready(&ready);
        Self { process, ready }
    }

    pub fn url(&self) -> &str {
        text(&self.ready, "sandbox_url")
    }

    pub fn cxone_url(&self) -> &str {
        text(&self.ready, "cxone_url")
    }

    /// The Genesys Cloud login as the document of a credential.
    pub fn genesys_document(&self) -> Value {
        json!({ "client_id": self.ready["client_id"], "client_secret": self.ready["client_secret"] })
    }

    /// The CXone login as the document of a credential.
    pub fn cxone_document(&self) -> Value {
        let mut document = self.ready["cxone"].clone();
        document.as_object_mut().unwrap().remove("tenant_id");
        document
    }

    /// The control API.
    pub fn control(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let url = format!("{}/_sandbox/{path}", text(&self.ready, "sandbox_control_url"));
        let answer = request(method, &url, &[("Content-Type", "application/json")], &body);
        assert!(answer.status < 300, "{path}: {answer:?}");
        serde_json::from_slice(&answer.body).unwrap_or_default()
    }

    /// How often `METHOD /endpoint` was answered, whatever the status.
    pub fn count(&self, endpoint: &str) -> u64 {
        let journal = self.control("GET", "requests?limit=1", &Value::Null);
        let counts = journal["counts"].get(endpoint).and_then(Value::as_object).cloned().unwrap_or_default();
        counts.values().filter_map(Value::as_u64).sum()
    }
}

/// A keyholder installation in a folder of its own, over one sandbox.
pub struct Installation {
    pub folder: TempDir,
    pub sandbox: Sandbox,
}

/// An application's login at keyholder.
#[derive(Clone, Debug)]
pub struct Login {
    pub id: String,
    pub secret: String,
}

impl Installation {
    /// A sandbox, a configuration with the credentials `genesys` and `cxone`, and their secrets stored.
    pub fn new() -> Self {
        Self::with("", "")
    }

    /// The same with a sandbox configuration and further lines for `keyholder.toml`.
    pub fn with(sandbox: &str, lines: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sandbox = Sandbox::start(folder.path(), sandbox);
        let made = Self { folder, sandbox };
        fs::write(made.path("keyholder.toml"), made.configuration() + lines).unwrap();
        made.store_secret("genesys", &made.sandbox.genesys_document());
        made.store_secret("cxone", &made.sandbox.cxone_document());
        made
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn configuration(&self) -> String {
        let (genesys, cxone) = (self.sandbox.url(), self.sandbox.cxone_url());
        format!(
            r#"[gateway]
listen = ["127.0.0.1:0"]
[admin]
listen = "127.0.0.1:0"
[broker]
listen = "127.0.0.1:0"
[state]
dir = "state"
[platform.genesys]
kind = "genesys"
login_url = "{genesys}"
api_url = "{genesys}"
[platform.cxone]
kind = "cxone"
issuer = "{cxone}"
allowed_origins = ["{cxone}"]
[credential.genesys]
platform = "genesys"
secret = "store:genesys"
[credential.cxone]
platform = "cxone"
secret = "store:cxone"
"#
        )
    }

    /// A command with this installation's configuration.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = keyholder();
        command.arg("--config").arg(self.path("keyholder.toml")).args(words);
        command
    }

    pub fn run(&self, words: &[&str]) -> Said {
        run(&mut self.command(words), b"")
    }

    pub fn store_secret(&self, name: &str, document: &Value) {
        run(&mut self.command(&["secret", "set", name]), document.to_string().as_bytes()).done();
    }

    /// `client add NAME` with further words, such as `--allow-all`.
    pub fn add_client(&self, name: &str, words: &[&str]) -> Login {
        let answer = self.run(&[&["--output", "json", "client", "add", name], words].concat()).json();
        Login { id: text(&answer, "client_id").to_owned(), secret: text(&answer, "client_secret").to_owned() }
    }

    /// Starts `serve` and waits until it is ready.
    pub fn serve(&self) -> Server {
        self.serve_with(&[])
    }

    pub fn serve_with(&self, words: &[&str]) -> Server {
        let file = self.path("ready.json");
        // A killed process leaves its ready file behind.
        fs::remove_file(&file).ok();
        let mut command =
            self.command(&[&["serve", "--ready-file"], [file.to_str().unwrap()].as_slice(), words].concat());
        let mut process = Process::start(&mut command, &self.path("serve.log"));
        let ready = process.ready(&file);
        Server { process, ready }
    }
}

/// A running `keyholder serve`.
pub struct Server {
    pub process: Process,
    pub ready: Value,
}

impl Server {
    pub fn gateway(&self) -> &str {
        text(&self.ready, "gateway_url")
    }

    pub fn broker(&self) -> &str {
        text(&self.ready, "broker_url")
    }

    pub fn admin(&self) -> &str {
        text(&self.ready, "admin_url")
    }

    /// The broker's guard token.
    pub fn guard(&self) -> String {
        fs::read_to_string(text(&self.ready, "broker_token_file")).unwrap().trim().to_owned()
    }

    /// Logs in as an official Genesys Cloud SDK does; answers the token.
    pub fn login(&self, login: &Login) -> String {
        let answer = self.try_login(login);
        assert_eq!(answer.status, 200, "{answer:?}");
        text(&answer.json(), "access_token").to_owned()
    }

    pub fn try_login(&self, login: &Login) -> Answer {
        let form = format!("grant_type=client_credentials&client_id={}&client_secret={}", login.id, login.secret);
        let url = format!("{}/oauth/token", self.gateway());
        request("POST", &url, &[("Content-Type", "application/x-www-form-urlencoded")], form.as_bytes())
    }

    /// One call through the gateway.
    pub fn call(&self, token: &str, method: &str, path: &str) -> Answer {
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", bearer.as_str()), ("Accept", "application/json")];
        request(method, &format!("{}{path}", self.gateway()), &headers, b"")
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// One request on a connection of its own, over plain http on loopback.
pub fn request(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let rest = url.strip_prefix("http://").expect("plain http");
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let fields: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let (fields, length) = (fields.concat(), body.len());
    let head = format!(
        "{method} /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{fields}Content-Length: {length}\r\n\r\n"
    );
    let raw = exchange(host, &[head.as_bytes(), body].concat());
    parse_answer(&raw)
}

/// Sends bytes as they are and reads until the other side closes: for requests that no client library would send.
pub fn exchange(host: &str, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    // The other side may refuse before it has read everything.
    stream.write_all(bytes).ok();
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw).ok();
    raw
}

/// Parses one whole answer.
pub fn parse_answer(raw: &[u8]) -> Answer {
    let end = raw.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or_else(|| {
        panic!("no answer head in {:?}", String::from_utf8_lossy(raw));
    });
    let head = String::from_utf8_lossy(&raw[..end]).into_owned();
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok()).unwrap();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned())))
        .collect();
    let chunked =
        headers.iter().any(|(name, value)| name.eq_ignore_ascii_case("transfer-encoding") && value == "chunked");
    let body = &raw[end + 4..];
    let body = if chunked { unchunk(body) } else { body.to_vec() };
    Answer { status, headers, body }
}

fn unchunk(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(at) = body.windows(2).position(|window| window == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&body[..at]).unwrap().trim(), 16).unwrap();
        if size == 0 {
            break;
        }
        whole.extend_from_slice(&body[at + 2..at + 2 + size]);
        body = &body[at + 4 + size..];
    }
    whole
}

/// A text member of a JSON object.
pub fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_else(|| panic!("no text member {name} in {value}"))
}

#[test]
fn a_command_that_does_not_end_fails_its_test() {
    let mut command = Command::new("/bin/sh");
    command.env_clear().args(["-c", "exec sleep 3600"]);
    let run = std::panic::AssertUnwindSafe(|| run_within(&mut command, b"", Duration::from_millis(100)));
    let panic = std::panic::catch_unwind(run).expect_err("it sleeps for an hour");
    let told = panic.downcast_ref::<String>().expect("a message");
    assert!(told.contains("not at its end after 100ms") && told.contains("sleep 3600"), "{told}");
}
