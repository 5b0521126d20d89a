//! A frozen container: everything stops for two hours, and the network forgets its connections meanwhile.
//!
//! The real program runs under libfaketime, is stopped by SIGSTOP with a warm token and warm connections, and finds
//! itself two hours later after SIGCONT. The sandbox's clock goes with it, so that the old token is dead there too.
//!
//! Invariant: each test proves that the interesting case was reached (the program stood still, connections were lost,
//! the old token is refused by the platform) before it says that nobody noticed.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    harness::{Answer, Installation, Login, Process, Server, eventually, parse_answer, request, text},
    relay::{Loss, Relay},
};

/// The library of Debian's package faketime that is made for programs with threads.
const LIBFAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

/// Tokens of the platform live half as long as the freeze.
const SANDBOX: &str = "
[[genesys.clients]]
name = \"admin\"
roles = [\"admin\"]
token_seconds = 3600
";

const FROZEN_SECONDS: u64 = 7_200;

const USERS: &str = "/api/v2/users";

/// What the monotonic clock does meanwhile: it goes on where only the program was stopped, and stands still where the
/// machine was (Linux does not count suspended time in `CLOCK_MONOTONIC`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Monotonic {
    GoesOn,
    StandsStill,
}

/// Moves the clocks of a process that runs under libfaketime.
fn move_clocks(file: &Path, seconds: u64) {
    let new = file.with_extension("new");
    fs::write(&new, format!("+{seconds}\n")).unwrap();
    fs::rename(new, file).unwrap();
}

/// The clocks of processes, all of them, ahead of the machine's.
pub struct Clocks(PathBuf);

impl Clocks {
    /// As the machine's are.
    pub fn in_folder(folder: &Path) -> Self {
        assert!(Path::new(LIBFAKETIME).exists(), "install Debian's package faketime");
        let file = folder.join("clocks");
        move_clocks(&file, 0);
        Self(file)
    }

    /// A process that is about to start lives by these.
    pub fn kept_by<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("LD_PRELOAD", LIBFAKETIME).env("FAKETIME_TIMESTAMP_FILE", &self.0).env("FAKETIME_NO_CACHE", "1");
        command.env("NO_FAKE_STAT", "1")
    }

    /// So far ahead of the machine's, from now on.
    pub fn advance(&self, seconds: u64) {
        move_clocks(&self.0, seconds);
    }
}

/// A keyholder under libfaketime behind a relay to its platform.
struct Stage {
    relay: Relay,
    installation: Installation,
    server: Server,
    login: Login,
}

impl Stage {
    fn new(monotonic: Monotonic) -> Self {
        let relay = Relay::start();
        let url = format!("http://{}", relay.address);
        let lines = format!(
            "[platform.far]\nkind = \"genesys\"\nlogin_url = \"{url}\"\napi_url = \"{url}\"\n\
             [credential.far]\nplatform = \"far\"\nsecret = \"store:genesys\"\n"
        );
        let installation = Installation::with(SANDBOX, &lines);
        relay.lead_to(installation.sandbox.url().strip_prefix("http://").unwrap().parse().unwrap());
        let login = installation.add_client("app", &["--credential", "far", "--allow-all"]);
        let ready = installation.path("ready.json");
        let mut command = installation.command(&["serve", "--ready-file", ready.to_str().unwrap()]);
        Clocks::in_folder(installation.folder.path()).kept_by(&mut command);
        if monotonic == Monotonic::StandsStill {
            command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("DONT_FAKE_MONOTONIC", "1");
        }
        let mut process = Process::start(&mut command, &installation.path("serve.log"));
        let ready = process.ready(&ready);
        Self { relay, installation, server: Server { process, ready }, login }
    }

    fn stop(&self) {
        self.server.process.signal("STOP");
        let stat = format!("/proc/{}/stat", self.server.process.pid());
        let state = || fs::read_to_string(&stat).unwrap().rsplit_once(") ").unwrap().1.chars().next();
        eventually(&Some('T'), state);
    }

    fn host(&self) -> &str {
        self.server.gateway().strip_prefix("http://").unwrap()
    }

    /// Counts of an endpoint by status.
    fn seen(&self, endpoint: &str) -> Value {
        self.installation.sandbox.control("GET", "requests?limit=1", &Value::Null)["counts"][endpoint].clone()
    }

    /// What the broker gives: the token and its remaining seconds.
    fn broker_token(&self) -> (String, u64) {
        let url = format!("{}/v1/token/far", self.server.broker());
        let answer = request("GET", &url, &[("X-Keyholder-Token", &self.server.guard())], b"");
        assert_eq!(answer.status, 200, "{answer:?}");
        let answer = answer.json();
        (text(&answer, "access_token").to_owned(), answer["expires_in"].as_u64().unwrap())
    }
}

/// A connection of an application that it keeps open.
struct Kept(TcpStream);

impl Kept {
    fn open(stage: &Stage) -> Self {
        let stream = TcpStream::connect(stage.host()).unwrap();
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        Self(stream)
    }

    fn ask(&mut self, method: &str, token: &str, body: &str) {
        let head = format!(
            "{method} {USERS} HTTP/1.1\r\nHost: keyholder\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.0.write_all(&[head.as_bytes(), body.as_bytes()].concat()).unwrap();
    }

    /// One answer with `Content-Length`.
    fn answer(&mut self) -> Answer {
        let mut raw = Vec::new();
        loop {
            let mut buffer = [0; 16 * 1024];
            let count = self.0.read(&mut buffer).unwrap();
            raw.extend_from_slice(&buffer[..count]);
            let whole = raw.windows(4).any(|window| window == b"\r\n\r\n") && {
                let answer = parse_answer(&raw);
                let length = answer.header("content-length").expect("a length").parse::<usize>().unwrap();
                answer.body.len() >= length
            };
            if whole {
                return parse_answer(&raw);
            }
            assert_ne!(count, 0, "closed after {:?}", String::from_utf8_lossy(&raw));
        }
    }
}

fn user(number: usize) -> String {
    json!({ "name": format!("User {number}"), "email": format!("user{number}@example.com") }).to_string()
}

fn frozen_for_two_hours(monotonic: Monotonic, loss: Loss) {
    let stage = Stage::new(monotonic);
    let token = stage.server.login(&stage.login);
    // several at once, so that there are several warm connections to the platform
    let mut kept: Vec<Kept> = (0..4).map(|_| Kept::open(&stage)).collect();
    for _ in 0..3 {
        for one in &mut kept {
            one.ask("GET", &token, "");
        }
        for one in &mut kept {
            assert_eq!(one.answer().status, 200);
        }
    }
    let (old, left) = stage.broker_token();
    assert!(left <= 3_600);
    assert_eq!(stage.installation.sandbox.count("POST /oauth/token"), 1);

    stage.stop();
    stage.installation.sandbox.control("POST", "clock", &json!({ "shift_seconds": FROZEN_SECONDS }));
    let lost = stage.relay.lose_all(loss);
    assert!(lost >= 1, "there was a warm connection to lose");
    let before = stage.relay.accepted();
    move_clocks(&stage.installation.path("clocks"), FROZEN_SECONDS);
    // applications do not know; their requests wait in the kernel
    for (number, one) in kept.iter_mut().enumerate() {
        if number % 2 == 0 { one.ask("GET", &token, "") } else { one.ask("POST", &token, &user(number)) }
    }
    stage.installation.sandbox.control("DELETE", "requests", &Value::Null);
    stage.server.process.signal("CONT");

    for (number, one) in kept.iter_mut().enumerate() {
        let answer = one.answer();
        assert_eq!(answer.status, 200, "{monotonic:?} {loss:?} {number}: {answer:?}\n{}", stage.server.process.said());
    }
    let (new, left) = stage.broker_token();
    assert_ne!(new, old);
    assert!((3_500..=3_600).contains(&left), "a token with its full life: {left}");
    // nothing was refused, nothing was sent twice
    assert_eq!(stage.seen("POST /oauth/token"), json!({ "200": 1 }));
    assert_eq!(stage.seen(&format!("GET {USERS}")), json!({ "200": 2 }));
    assert_eq!(stage.seen(&format!("POST {USERS}")), json!({ "200": 2 }));
    let fresh = stage.relay.accepted() - before;
    println!("{monotonic:?} {loss:?}: {lost} connections lost, {fresh} fresh, {} resets", stage.relay.resets());
    assert!((2..=5).contains(&fresh), "one for the token and one for each call at most: {fresh}");
    // the old token really was dead
    let bearer = format!("Bearer {old}");
    let url = format!("{}{USERS}", stage.installation.sandbox.url());
    assert_eq!(request("GET", &url, &[("Authorization", &bearer)], b"").status, 401);
    assert_eq!(stage.server.process.stop().0, Some(0));
}

#[test]
fn a_program_that_was_stopped_for_two_hours() {
    for loss in [Loss::Told, Loss::Silent] {
        frozen_for_two_hours(Monotonic::GoesOn, loss);
    }
}

#[test]
fn a_machine_that_was_suspended_for_two_hours() {
    for loss in [Loss::Told, Loss::Silent] {
        frozen_for_two_hours(Monotonic::StandsStill, loss);
    }
}
