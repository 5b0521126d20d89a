//! A full disk and a read-only state folder: a clear error, the last good state, and no restart to recover.

use std::{
    fs::{self, Permissions},
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

use super::{
    attempt::{call, log_in},
    evidence::contents,
};
use crate::harness::{Installation, Login, Process, Said, Server, run, text};

/// Nobody's user id on Linux.
const NOBODY: u32 = 65_534;

/// Logins until the disk must be full: far more than what was left of it holds.
const LOGINS_MAX: usize = 2_000;

/// The one problem that a command with `--output json` told.
fn problem(said: &Said) -> Value {
    let line = said.err.lines().last().unwrap_or_default();
    let problem: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {}", said.err));
    assert!(problem["hints"].as_array().is_some_and(|hints| !hints.is_empty()), "no hint: {problem}");
    problem
}

fn assert_unavailable(said: &Said) {
    assert_eq!(said.code, Some(3), "{said:?}");
    let problem = problem(said);
    let code = text(&problem, "code");
    assert!(matches!(code, "keyholder.state.unavailable" | "keyholder.store.unavailable"), "{problem}");
}

/// Logs in until it is refused; answers the tokens that were given, and checks the refusal.
fn log_in_until_full(gateway: &str, login: &Login) -> Vec<String> {
    let mut tokens = Vec::new();
    for _ in 0..LOGINS_MAX {
        let answer = log_in(gateway, login).expect("it serves");
        if answer.status == 200 {
            tokens.push(text(&answer.json(), "access_token").to_owned());
            continue;
        }
        assert_eq!(answer.status, 503, "{answer:?}");
        let body = answer.json();
        assert_eq!(text(&body, "error"), "temporarily_unavailable", "{body}");
        return tokens;
    }
    panic!("the disk never became full");
}

fn all_work(gateway: &str, tokens: &[String]) {
    for token in tokens {
        let answer = call(gateway, token).expect("it serves");
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

const SANDBOX: &str = "[limits]\nrequests_per_token = 100000\nlogins_per_minute = 100000\n";

#[test]
fn a_serving_keyholder_outlives_a_disk_without_room() {
    let installation = Installation::with(SANDBOX, "");
    println!("sandbox limits raised for this test:\n{SANDBOX}");
    let login = installation.add_client("app", &["--credential", "genesys", "--allow-all"]);
    let ready = installation.path("ready.json");
    // A file size limit stands in for the disk's end; ignoring the signal turns it into a failed write (512 B blocks).
    let script = "trap '' XFSZ; ulimit -S -f 400; exec \"$0\" \"$@\"";
    let mut shell = Command::new("/bin/sh");
    let config = installation.path("keyholder.toml");
    shell.env_clear().env("USER", "tester").env("PATH", "/usr/bin:/bin").args(["-c", script]);
    shell.arg(env!("CARGO_BIN_EXE_keyholder")).arg("--config").arg(&config).args(["serve", "--log", "error"]);
    shell.arg("--ready-file").arg(&ready).stdin(Stdio::null());
    let mut process = Process::start(&mut shell, &installation.path("serve.log"));
    let addresses = process.ready(&ready);
    let server = Server { process, ready: addresses };
    let tokens = log_in_until_full(server.gateway(), &login);
    assert!(tokens.len() > 10, "it was full before it began");
    all_work(server.gateway(), &tokens);
    let pid = server.process.pid().to_string();
    let room = Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited"]).status();
    assert!(room.is_ok_and(|status| status.success()), "prlimit (util-linux) is needed");
    let after = server.login(&login);
    all_work(server.gateway(), &[tokens.clone(), vec![after]].concat());
    server.process.kill();
    let server = installation.serve();
    all_work(server.gateway(), &tokens);
    installation.run(&["audit", "verify"]).done();
}

#[test]
fn a_command_on_a_full_disk_fails_clearly_and_changes_nothing() {
    let installation = Installation::new();
    let starved = |words: &[&str], input: &str| {
        let script = "trap '' XFSZ; ulimit -f 40; exec \"$0\" \"$@\"";
        let mut shell = Command::new("/bin/sh");
        shell.env_clear().env("USER", "tester").args(["-c", script]).arg(env!("CARGO_BIN_EXE_keyholder"));
        run(shell.arg("--config").arg(installation.path("keyholder.toml")).args(words), input.as_bytes())
    };
    let large = format!(r#"{{"client_id":"id","client_secret":"{}"}}"#, "x".repeat(30_000));
    assert_unavailable(&starved(&["secret", "set", "large", "--output", "json"], &large));
    assert_unavailable(&starved(&["client", "add", "late", "--output", "json"], ""));
    let secrets = installation.run(&["secret", "list", "--output", "json"]).json();
    assert_eq!(secrets["secrets"].as_array().map(Vec::len), Some(2), "{secrets}");
    let clients = installation.run(&["client", "list", "--output", "json"]).json();
    assert_eq!(clients["clients"].as_array().map(Vec::len), Some(0), "{clients}");
    installation.run(&["audit", "verify"]).done();
    installation.add_client("late", &["--allow-all"]);
}

#[test]
fn a_read_only_state_folder_is_said_clearly() {
    let installation = Installation::new();
    installation.add_client("app", &["--credential", "genesys", "--allow-all"]);
    let state = installation.path("state");
    let own = installation.path("program");
    fs::copy(env!("CARGO_BIN_EXE_keyholder"), &own).unwrap();
    let root = fs::metadata(&state).unwrap().uid() == 0;
    let set_mode = |folder: u32, file: u32| {
        for (path, _) in contents(&state) {
            fs::set_permissions(path, Permissions::from_mode(file)).unwrap();
        }
        fs::set_permissions(&state, Permissions::from_mode(folder)).unwrap();
    };
    if root {
        // root may write anywhere, so the command is run by nobody
        fs::set_permissions(installation.folder.path(), Permissions::from_mode(0o755)).unwrap();
        for path in contents(&state).into_iter().map(|(path, _)| path).chain([state.clone()]) {
            chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }
    let attempt = |words: &[&str]| {
        let mut command = Command::new(&own);
        command.env_clear().arg("--config").arg(installation.path("keyholder.toml")).args(words);
        if root {
            command.uid(NOBODY).gid(NOBODY);
        }
        run(command.args(["--output", "json"]), br#"{"client_id":"id","client_secret":"s"}"#)
    };
    attempt(&["client", "list"]).done();
    set_mode(0o500, 0o400);
    let before = contents(&state);
    for words in [&["client", "add", "late"][..], &["secret", "set", "late"], &["client", "disable", "app"], &["serve"]]
    {
        let said = attempt(words);
        assert_unavailable(&said);
        assert!(contents(&state) == before, "{words:?} changed a file");
    }
    set_mode(0o700, 0o600);
    attempt(&["client", "add", "late"]).done();
    attempt(&["audit", "verify"]).done();
}

/// A mount namespace of its own with a small file system over the state folder.
struct SmallDisk {
    holder: Process,
    folder: String,
}

impl SmallDisk {
    /// None when this user or kernel cannot make one.
    fn over(folder: &Path, log: &Path) -> Option<Self> {
        let mark = folder.with_extension("mounted");
        let script = "mount -t tmpfs -o size=768k,mode=700 none \"$1\" && echo '{}' > \"$2\" && exec sleep 600";
        let probe = Command::new("unshare").args(["-m", "sh", "-c", "mount -t tmpfs none \"$0\""]).arg(folder).output();
        if !probe.as_ref().is_ok_and(|output| output.status.success()) {
            println!("skipped: no file system can be mounted here: {probe:?}");
            return None;
        }
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", script, "sh"]).arg(folder).arg(&mark);
        let mut holder = Process::start(&mut command, log);
        holder.ready(&mark);
        let folder = format!("/proc/{}/root{}", holder.pid(), folder.display());
        Some(Self { holder, folder })
    }

    /// A command that sees the small disk.
    fn command(&self, installation: &Installation, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.env_clear().env("USER", "tester").env("PATH", "/usr/bin:/bin");
        command.args(["-t", &self.holder.pid().to_string(), "-m", "--", env!("CARGO_BIN_EXE_keyholder"), "--config"]);
        command.arg(installation.path("keyholder.toml")).args(words).stdin(Stdio::null());
        command
    }

    /// Leaves not a byte; answers how many there were.
    fn fill(&self) -> usize {
        let path = format!("{}/filler", self.folder);
        let mut file = fs::File::create(path).unwrap();
        let mut written = 0;
        while std::io::Write::write(&mut file, &[0; 512]).is_ok_and(|count| {
            written += count;
            count > 0
        }) {}
        written
    }

    fn free(&self) {
        fs::remove_file(format!("{}/filler", self.folder)).unwrap();
    }
}

#[test]
fn a_really_full_file_system_is_survived_and_recovered_from() {
    let installation = Installation::with(SANDBOX, "");
    let Some(disk) = SmallDisk::over(&installation.path("state"), &installation.path("holder.log")) else { return };
    let document = installation.sandbox.genesys_document().to_string();
    let said = |words: &[&str], input: &str| {
        run(disk.command(&installation, words).args(["--output", "json"]), input.as_bytes())
    };
    said(&["secret", "set", "genesys"], &document).done();
    let answer = said(&["client", "add", "app", "--credential", "genesys", "--allow-all"], "").json();
    let login = Login { id: text(&answer, "client_id").to_owned(), secret: text(&answer, "client_secret").to_owned() };
    let ready = installation.path("ready.json");
    let mut command = disk.command(&installation, &["serve", "--ready-file", ready.to_str().unwrap()]);
    let mut process = Process::start(&mut command, &installation.path("serve.log"));
    let addresses = process.ready(&ready);
    let server = Server { process, ready: addresses };
    let mut tokens = vec![server.login(&login)];

    println!("{} bytes filled", disk.fill());
    tokens.extend(log_in_until_full(server.gateway(), &login));
    all_work(server.gateway(), &tokens);
    assert_unavailable(&said(&["client", "add", "late"], ""));
    assert_unavailable(&said(&["secret", "set", "late"], &document));
    all_work(server.gateway(), &tokens);

    disk.free();
    tokens.push(server.login(&login));
    said(&["secret", "set", "late"], &document).done();
    said(&["client", "add", "late"], "").done();
    said(&["audit", "verify"], "").done();
    server.process.kill();
    fs::remove_file(&ready).ok();
    let mut process = Process::start(&mut command, &installation.path("serve.log"));
    let addresses = process.ready(&ready);
    let server = Server { process, ready: addresses };
    all_work(server.gateway(), &tokens);
    assert_eq!(server.try_login(&login).status, 200);
}
