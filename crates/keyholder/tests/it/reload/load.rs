//! A hundred reloads below calls that go on: half of the files are bad, each in one of five ways.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use kh_core::Sha256;

use super::{Stage, USERS, certificates};
use crate::harness::{Installation, request, text};

/// Reloads; a multiple of ten, so that both halves meet files and signals.
fn rounds() -> u32 {
    if std::env::var_os("KEYHOLDER_LONG").is_some() { 1_000 } else { 100 }
}

/// The platform would refuse the crowd.
const LIMITS: &str = "
[limits]
requests_per_token = 1000000
requests_per_client_minute = 1000000
logins_per_minute = 100000
";

/// Callers that never stop, and what they saw.
struct Load {
    over: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    callers: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(callers: Vec<Box<dyn Fn() -> Result<(), String> + Send>>) -> Self {
        let (over, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let spawned = callers.into_iter().map(|call| {
            let (over, done) = (Arc::clone(&over), Arc::clone(&done));
            std::thread::spawn(move || {
                let mut failures = Vec::new();
                while !over.load(Ordering::SeqCst) {
                    failures.extend(call().err());
                    done.fetch_add(1, Ordering::SeqCst);
                }
                failures
            })
        });
        let callers = spawned.collect();
        Self { over, done, callers }
    }

    fn done(&self) -> u64 {
        self.done.load(Ordering::SeqCst)
    }

    /// Ends it; answers how many calls were made and everything that failed.
    fn end(self) -> (u64, Vec<String>) {
        self.over.store(true, Ordering::SeqCst);
        let failures = self.callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect();
        (self.done.load(Ordering::SeqCst), failures)
    }
}

fn expect(status: u16, url: &str, headers: &[(&str, &str)]) -> Result<(), String> {
    let answer = request("GET", url, headers, b"");
    if answer.status == status { Ok(()) } else { Err(format!("{url}: {answer:?}")) }
}

/// The good configuration of a round: a credential that comes and goes, and one that changes every time.
fn good(base: &str, round: u32) -> String {
    let mut text = base.to_owned();
    if round.is_multiple_of(4) {
        text += "[credential.guest]\nplatform = \"genesys\"\nsecret = \"store:genesys\"\n";
    }
    let ahead = 60 + round;
    text += "[credential.restless]\nplatform = \"genesys\"\nsecret = \"store:genesys\"\n";
    text + &format!("early_refresh = \"{ahead}s\"\n")
}

/// The same with a mistake of one of five kinds, and with a credential that must not appear.
fn bad(good: &str, round: u32) -> (String, &'static str) {
    let never = "[credential.never]\nplatform = \"genesys\"\nsecret = \"store:genesys\"\n";
    let with = |text: String| text + never;
    match round / 2 % 5 {
        0 => (with(good.to_owned()) + "[platform.x\n", "mistake"),
        1 => (with(good.replacen("[state]", "[state]\ndri = \"x\"", 1)), "mistake"),
        2 => (with(good.replacen("kind = \"genesys\"", "kind = \"genesys\"\nextra_ca = \"gone.pem\"", 1)), "gone.pem"),
        3 => (with(good.replacen("own.key", "other.key", 1)), "belong together"),
        _ => (with(good.replacen("[admin]", "[admin]\ntoken_file = \"elsewhere\"", 1)), "only a restart can change"),
    }
}

#[test]
fn a_hundred_reloads_half_of_them_bad_fail_no_call() {
    let installation = Installation::with(LIMITS, "");
    certificates::write(&installation, "own");
    certificates::write(&installation, "other");
    let file = installation.path("keyholder.toml");
    let tls = "[gateway.tls]\nlisten = [\"127.0.0.1:0\"]\ncert = \"own.pem\"\nkey = \"own.key\"\n[admin]";
    let base = fs::read_to_string(&file).unwrap().replacen("[admin]", tls, 1);
    fs::write(&file, good(&base, 1)).unwrap();
    let login = installation.add_client("app", &["--credential", "genesys", "--allow-all"]);
    let server = installation.serve();
    let stage = Stage { installation, server };
    let bearer = format!("Bearer {}", stage.server.login(&login));
    let (users, guard) = (format!("{}{USERS}", stage.server.gateway()), stage.server.guard());
    let token = |name: &str| format!("{}/v1/token/{name}", stage.server.broker());
    let mut callers: Vec<Box<dyn Fn() -> Result<(), String> + Send>> = Vec::new();
    for _ in 0..2 {
        let (users, bearer) = (users.clone(), bearer.clone());
        callers.push(Box::new(move || expect(200, &users, &[("Authorization", &bearer)])));
    }
    for url in [token("genesys"), token("restless")] {
        let guard = guard.clone();
        callers.push(Box::new(move || expect(200, &url, &[("X-Keyholder-Token", &guard)])));
    }
    let load = Load::start(callers);
    let mut in_force = text(&stage.status()["config"], "sha256").to_owned();
    let mut names = stage.credentials();
    for round in 0..rounds() {
        let calls = load.done();
        let is_bad = !round.is_multiple_of(2);
        let wanted = good(&base, round);
        let (content, expected) = if is_bad { bad(&wanted, round) } else { (wanted, "") };
        // Some by waiting for the file to be noticed, most by a signal.
        let last = if round % 10 < 2 {
            stage.write(&content);
            stage.wait_for(u64::from(round) + 1)
        } else {
            stage.write_and_hang_up(&content)
        };
        if is_bad {
            assert_eq!(text(&last, "result"), "refused", "round {round}: {last}");
            assert!(last["problem"].to_string().contains(expected), "round {round}: {last}");
        } else {
            assert_eq!(text(&last, "result"), "applied", "round {round}: {last}");
            in_force = Sha256::of(content.as_bytes()).to_hex();
            names = if round.is_multiple_of(4) {
                vec!["cxone".to_owned(), "genesys".into(), "guest".into(), "restless".into()]
            } else {
                vec!["cxone".to_owned(), "genesys".into(), "restless".into()]
            };
        }
        let status = stage.status();
        assert_eq!(text(&status["config"], "sha256"), in_force, "round {round}");
        assert_eq!(stage.credentials(), names, "round {round}");
        crate::harness::eventually(&true, || load.done() >= calls + 4);
    }
    let (calls, failures) = load.end();
    println!("{calls} calls during {} reloads, {} failed", rounds(), failures.len());
    assert!(failures.is_empty(), "{} of {calls} calls failed, the first: {:?}", failures.len(), failures.first());
    let half = u64::from(rounds()) / 2;
    assert_eq!((stage.reloads("applied"), stage.reloads("refused"), stage.reloads("unchanged")), (half, half, 0));
    let logins = stage.installation.sandbox.count("POST /oauth/token");
    assert!(logins <= 2 + half, "the credential that never changed logged in once: {logins} logins");
    let genesys = &stage.status()["credentials"][1];
    assert_eq!((text(genesys, "name"), &genesys["fetches"]["ok"]), ("genesys", &1.into()));
    let (code, log) = stage.server.process.stop();
    assert_eq!(code, Some(0));
    assert_eq!(log.matches("the changed configuration was refused").count() as u64, half);
}
