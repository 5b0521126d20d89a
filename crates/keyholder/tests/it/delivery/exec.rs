//! `keyholder exec`: what the child gets and what not, signals, exit codes, and the end.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc,
    time::Duration,
};

use super::world::{self, PATH, evidence, installation, path_with_keyholder};
use crate::harness::{Installation, Process, Said, eventually, run};

/// `keyholder exec WORDS`, with a runtime folder of the test's own.
fn exec(installation: &Installation, words: &[&str]) -> Command {
    let runtime = installation.path("runtime");
    fs::create_dir_all(&runtime).unwrap();
    fs::set_permissions(&runtime, fs::Permissions::from_mode(0o700)).unwrap();
    let mut command = installation.command(&[&["exec"], words].concat());
    command.env("PATH", path_with_keyholder()).env("XDG_RUNTIME_DIR", runtime);
    command
}

fn run_exec(installation: &Installation, words: &[&str]) -> Said {
    run(&mut exec(installation, words), b"")
}

/// What is left in the runtime folder.
fn left(installation: &Installation) -> usize {
    fs::read_dir(installation.path("runtime")).unwrap().count()
}

/// Everything that a curious child can see: its environment, its ancestors, its files.
const CURIOUS: &str = r#"
env
tr '\0' '\n' < /proc/$$/environ
for pid in $$ $PPID; do tr '\0' ' ' < /proc/$pid/cmdline; tr '\0' '\n' < /proc/$pid/environ; done 2>/dev/null
folder=$(dirname "$KEYHOLDER_TOKEN_FILE"); stat -c '%a %n' "$folder" "$folder"/*; cat "$folder/token"; echo
token=$(keyholder token get "$KEYHOLDER_PROFILE") && echo "TOKEN $token"
"#;

#[test]
fn the_child_gets_tokens_and_nothing_else() {
    let installation = installation();
    let mut evidence = evidence(&installation);
    for (reach, words) in [("unix:/", &[] as &[&str]), ("http://127.0.0.1:", &["--tcp"])] {
        let words = [&["--profile", "genesys", "--profile", "cxone"], words, &["--", "sh", "-c", CURIOUS]].concat();
        let mut command = exec(&installation, &words);
        command.env("KEYHOLDER_URL", "http://127.0.0.1:1").env("APPS_OWN", "kept");
        let said = world::said(&mut command, &mut evidence);
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{}", said.out);
        let variables: Vec<&str> = said.out.lines().filter(|line| line.starts_with("KEYHOLDER_")).collect();
        assert!(variables.iter().any(|line| line.starts_with(&format!("KEYHOLDER_URL={reach}"))), "{variables:?}");
        assert!(variables.contains(&"KEYHOLDER_PROFILE=genesys"), "{variables:?}");
        let names = ["KEYHOLDER_URL=", "KEYHOLDER_TOKEN_FILE=", "KEYHOLDER_PROFILE="];
        let known = |line: &&str| names.iter().any(|name| line.starts_with(name));
        // what the child's parent was started with is its own
        assert!(variables.iter().filter(|line| !known(line)).count() == 0, "{variables:?}");
        assert!(said.out.contains("APPS_OWN=kept"));
        assert!(said.out.contains("700 ") && said.out.contains("600 ") && !said.out.contains("644 "), "{}", said.out);
        let token = said.out.lines().find_map(|line| line.strip_prefix("TOKEN ")).unwrap();
        world::assert_good(&installation, token);
        assert_eq!(left(&installation), 0, "socket, token and folder are gone");
    }
    assert!(evidence.bytes() > 1000);
    assert_eq!(evidence.leaks(), Vec::<String>::new());
}

#[test]
fn a_key_in_the_environment_does_not_reach_the_child() {
    let installation = installation();
    let key = fs::read_to_string(installation.path("state/store.key")).unwrap();
    let config = fs::read_to_string(installation.path("keyholder.toml")).unwrap();
    fs::write(installation.path("keyholder.toml"), config + "[store]\nkey_env = \"THE_KEY\"\n").unwrap();
    let mut evidence = evidence(&installation);
    let mut command = exec(&installation, &["--profile", "genesys", "--", "sh", "-c", CURIOUS]);
    let said = world::said(command.env("THE_KEY", key.trim()), &mut evidence);
    assert_eq!(said.code, Some(0), "{}", said.err);
    // the name may be seen in the parent's wiped environment, with nothing after it
    assert!(!said.out.lines().any(|line| line.starts_with("THE_KEY=") && line.len() > 8), "{}", said.out);
    assert_eq!(evidence.leaks(), Vec::<String>::new());
}

#[test]
fn only_named_profiles_are_served_and_production_is_asked_for() {
    let installation = installation();
    let ask = |words: &[&str], profile: &str| {
        let script = format!("keyholder token get {profile}");
        run_exec(&installation, &[words, &["--", "sh", "-c", &script]].concat())
    };
    assert_eq!(ask(&["--profile", "genesys"], "genesys").code, Some(0));
    let other = ask(&["--profile", "genesys"], "cxone");
    assert_eq!(other.code, Some(1), "{}", other.err);
    assert!(other.err.contains("no profile of this name"), "{}", other.err);

    let refused = ask(&["--profile", "prod"], "prod");
    assert_eq!((refused.code, refused.out.as_str()), (Some(1), ""));
    assert!(refused.err.contains("--environment production"), "{}", refused.err);
    let wrong = ask(&["--profile", "genesys", "--environment", "production"], "genesys");
    assert_eq!(wrong.code, Some(1), "{}", wrong.err);
    let agreed = ask(&["--profile", "prod", "--environment", "production"], "prod");
    assert_eq!(agreed.code, Some(0), "{}", agreed.err);
    let unknown = ask(&["--profile", "unknown"], "unknown");
    assert_eq!(unknown.code, Some(1), "{}", unknown.err);
    assert_eq!(left(&installation), 0);
}

#[test]
fn an_injected_token_is_warned_about() {
    let installation = installation();
    let words = ["--profile", "genesys", "--inject-token", "THE_TOKEN", "--", "sh", "-c", "echo $THE_TOKEN"];
    let said = run_exec(&installation, &words);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.err.starts_with("warning: THE_TOKEN holds a token that ends in 1439 min"), "{}", said.err);
    assert!(!said.err.contains(said.out.trim()), "the token is not on standard error");
    world::assert_good(&installation, said.out.trim());
    let two = ["--profile", "genesys", "--profile", "cxone", "--inject-token", "T", "--", "true"];
    assert_eq!(run_exec(&installation, &two).code, Some(2));
}

/// While its token is on the way there is no command yet that could hear a signal: it is not started any more.
#[test]
fn a_signal_before_the_command_ends_exec() {
    let installation = installation();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let file = installation.path("keyholder.toml");
    let slow = format!(
        "[platform.slow]\nkind = \"genesys\"\nlogin_url = \"{url}\"\napi_url = \"{url}\"\n\
         [credential.slow]\nplatform = \"slow\"\nsecret = \"store:genesys\"\n"
    );
    fs::write(&file, fs::read_to_string(&file).unwrap() + &slow).unwrap();
    let (asked, login) = mpsc::channel();
    // ends with the test's process
    std::thread::spawn(move || asked.send(silent.accept().unwrap()));
    let started = installation.path("started");
    let words = ["--profile", "slow", "--inject-token", "T", "--", "touch", started.to_str().unwrap()];
    let mut process = Process::start(&mut exec(&installation, &words), &installation.path("exec.log"));
    let held = login.recv_timeout(Duration::from_secs(30)).expect("it logs in");
    // a window of another size ends nobody
    process.signal("WINCH");
    process.signal("INT");
    assert_eq!(process.end(), Some(130), "{}", process.said());
    drop(held);
    assert!(!started.exists());
    assert_eq!(left(&installation), 0);
}

#[test]
fn exit_codes_are_the_childs() {
    let installation = installation();
    let not_executable = installation.path("data");
    fs::write(&not_executable, "data").unwrap();
    for (script, code) in
        [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -TERM $$", 143), ("kill -KILL $$", 137)]
    {
        assert_eq!(run_exec(&installation, &["--profile", "genesys", "--", "sh", "-c", script]).code, Some(code));
    }
    for (program, code) in [("no-such-program", 127), (not_executable.to_str().unwrap(), 126)] {
        let said = run_exec(&installation, &["--profile", "genesys", "--", program]);
        assert_eq!(said.code, Some(code), "{}", said.err);
        assert!(said.err.contains("cannot be started"), "{}", said.err);
    }
    assert_eq!(left(&installation), 0);
}

/// A child that says what it hears, and ends on TERM with 3.
const LISTENER: &str = r#"
for name in HUP INT QUIT USR1 USR2 ALRM WINCH CONT; do trap "echo heard-$name" $name; done
trap 'echo heard-TERM; exit 3' TERM
echo ready
while :; do sleep 0.02; done
"#;

fn listening(installation: &Installation, log: &Path) -> Process {
    let mut command = exec(installation, &["--profile", "genesys", "--", "sh", "-c", LISTENER]);
    let process = Process::start(&mut command, log);
    eventually(&true, || process.said().contains("ready"));
    process
}

#[test]
fn signals_are_passed_on_once() {
    let installation = installation();
    let mut process = listening(&installation, &installation.path("exec.log"));
    for name in ["HUP", "INT", "QUIT", "USR1", "USR2", "ALRM", "WINCH", "CONT"] {
        process.signal(name);
        let heard = format!("heard-{name}");
        eventually(&1, || process.said().matches(&heard).count());
    }
    process.signal("TERM");
    assert_eq!(process.end(), Some(3));
    let said = process.said();
    assert_eq!(said.matches("heard-").count(), 9, "{said}");
    assert_eq!(left(&installation), 0);
}

#[test]
fn a_child_is_told_when_keyholder_is_killed() {
    let installation = installation();
    let log = installation.path("exec.log");
    let mut process = listening(&installation, &log);
    process.signal("KILL");
    assert_eq!(process.end(), None);
    // nobody but the kernel can have told it
    eventually(&true, || fs::read_to_string(&log).unwrap().contains("heard-TERM"));
}

/// What was ignored stays ignored, as nohup(1) needs it.
#[test]
fn an_ignored_signal_stays_ignored() {
    let installation = installation();
    let log = installation.path("exec.log");
    let script = "echo ready; while :; do sleep 0.02; done";
    let inner = exec(&installation, &["--profile", "genesys", "--", "sh", "-c", script]);
    let mut outer = Command::new("sh");
    outer.env_clear().args(["-c", "trap '' HUP; exec \"$@\"", "sh"]).arg(inner.get_program()).args(inner.get_args());
    outer.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut process = Process::start(&mut outer, &log);
    eventually(&true, || process.said().contains("ready"));
    let child = fs::read_to_string(format!("/proc/{0}/task/{0}/children", process.pid())).unwrap();
    for pid in [process.pid().to_string(), child.trim().to_owned()] {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
        assert_eq!(u64::from_str_radix(mask.trim(), 16).unwrap() & 1, 1, "HUP is ignored by {pid}");
    }
    process.signal("HUP");
    process.signal("TERM");
    assert_eq!(process.end(), Some(143));
}

/// Every child of a crowd shares the broker's one login.
#[test]
fn a_crowd_of_grandchildren_causes_one_login() {
    let installation = installation();
    let before = world::logins(&installation);
    let script = "for i in 1 2 3 4 5 6 7 8; do keyholder token get genesys & done; wait";
    let said = run_exec(&installation, &["--profile", "genesys", "--", "sh", "-c", script]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let tokens: Vec<&str> = said.out.lines().collect();
    assert_eq!(tokens.len(), 8, "{}", said.err);
    assert!(tokens.iter().all(|token| *token == tokens[0]));
    assert_eq!(world::logins(&installation) - before, 1);
}

#[test]
fn it_works_without_a_path_variable_and_without_a_runtime_folder() {
    let installation = installation();
    let mut command =
        installation.command(&["exec", "--profile", "genesys", "--", "/bin/sh", "-c", "echo $KEYHOLDER_URL"]);
    let said = run(command.env("TMPDIR", installation.folder.path()).env("PATH", PATH), b"");
    assert_eq!(said.code, Some(0), "{}", said.err);
    let socket = PathBuf::from(said.out.trim().strip_prefix("unix:").unwrap());
    assert!(socket.starts_with(installation.folder.path()) && !socket.parent().unwrap().exists());
    // a temporary folder in which others can replace things is refused
    let open = installation.path("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let said = run(command.env("TMPDIR", &open), b"");
    assert_eq!(said.code, Some(3), "{}", said.err);
    assert!(said.err.contains("not safe for a socket"), "{}", said.err);
    assert_eq!(fs::read_dir(&open).unwrap().count(), 0);
}
