//! `keyholder init`: with a person at a terminal, and with flags alone.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::{
    harness::{Said, Sandbox, keyholder, run, text},
    terminal::Terminal,
};

const ID: &str = "0e8400e2-29b4-41d4-a716-446655440000";
/// 43 characters, as the platform's secrets have.
const SECRET: &str = "aB3dE5fG7hI9jK1lM3nO5pQ7rS9tU1vW3xY5zA7bC9d";

/// An empty folder, as a container has.
struct Empty(tempfile::TempDir);

impl Empty {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = keyholder();
        command.current_dir(self.0.path()).env("HOME", self.path("home")).env("TERM", "dumb").args(words);
        command
    }

    fn run(&self, words: &[&str], input: &str) -> Said {
        run(&mut self.command(words), input.as_bytes())
    }

    fn terminal(&self, words: &[&str]) -> Terminal {
        Terminal::run(&self.command(words))
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.0.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Whether any file below holds `needle`.
    fn holds(&self, needle: &str) -> bool {
        fn look(folder: &Path, needle: &[u8]) -> bool {
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).any(|path| {
                if path.is_dir() {
                    look(&path, needle)
                } else {
                    fs::read(path).unwrap().windows(needle.len()).any(|window| window == needle)
                }
            })
        }
        look(self.0.path(), needle.as_bytes())
    }

    /// The written file is good for `check`, for the schema it names, and holds no secret.
    fn assert_good(&self) {
        let written = fs::read_to_string(self.path("keyholder.toml")).unwrap();
        let schema = written.lines().next().and_then(|line| line.strip_prefix("#:schema ./")).unwrap();
        let schema: Value = serde_json::from_str(&fs::read_to_string(self.path(schema)).unwrap()).unwrap();
        let value: Value = toml::from_str(&written).unwrap();
        let errors: Vec<_> =
            jsonschema::draft202012::new(&schema).unwrap().iter_errors(&value).map(|e| e.to_string()).collect();
        assert_eq!(errors, Vec::<String>::new(), "{written}");
        let checked = self.run(&["check", "--syntax", "--output", "json"], "").json();
        assert_eq!(checked["warnings"], serde_json::json!([]), "{written}");
    }
}

#[test]
fn a_person_is_led_to_a_configuration_that_works() {
    let folder = Empty::new();
    let mut terminal = folder.terminal(&["init"]);
    terminal.answer("Platform: genesys, cxone or oauth2 [genesys]: ", "talkdesk");
    terminal.expect("write genesys, cxone or oauth2");
    terminal.answer("[genesys]: ", "");
    terminal.answer("(? lists them): ", "?");
    terminal.expect("eusc-de-east-1");
    terminal.answer("(? lists them): ", "Frankfrut");
    terminal.expect("did you mean eu-central-1?");
    terminal.answer("(? lists them): ", "Frankfurt");
    terminal.answer("Name of the credential [genesys-prod]: ", "no good name");
    terminal.expect("credential name \"no good name\" is not valid");
    terminal.answer("[genesys-prod]: ", "acme-prod");
    terminal.answer("such as production [production]: ", "");
    terminal.answer("Client id (the platform's OAuth client): ", &SECRET[..40]);
    terminal.expect("this looks like a secret; an id is a UUID");
    terminal.answer("OAuth client): ", ID);
    terminal.answer("First application that may log in here (empty for none): ", "billing");
    terminal.answer("A call it may make [GET /api/v2/users/**]: ", "users");
    terminal.answer("[GET /api/v2/users/**]: ", "");
    terminal.answer("Another one (empty when done): ", "GET /api/v2/routing/queues");
    terminal.answer("Another one (empty when done): ", "");
    terminal.answer("Client secret (hidden; empty to store it later): ", SECRET);
    terminal.expect("Genesys Cloud in eu-central-1 (Frankfurt): https://login.mypurecloud.de");
    terminal.expect("billing may make GET /api/v2/users/**, GET /api/v2/routing/queues");
    assert_eq!(folder.names(), Vec::<String>::new(), "nothing is written before the agreement");
    terminal.answer("Write it? [Y/n]: ", "");
    terminal.expect("keyholder check --online");
    let (code, screen) = terminal.end();
    assert_eq!(code, Some(0), "{screen}");
    assert!(!screen.contains(SECRET), "the secret is not echoed: {screen}");
    let client_secret = screen.lines().find_map(|line| line.strip_prefix("client_secret  ")).unwrap().trim().to_owned();
    assert!(client_secret.starts_with("khs_") && screen.matches(&client_secret).count() == 1);

    assert_eq!(folder.names(), ["home", "keyholder.schema.json", "keyholder.toml"]);
    folder.assert_good();
    assert!(!folder.holds(SECRET) && !folder.holds(&client_secret), "both are in no file in clear");
    let shown = folder.run(&["config", "show", "--output", "json"], "").json();
    assert_eq!(shown["config"]["platform"]["genesys"]["region"], "eu-central-1");
    assert_eq!(shown["config"]["credential"]["acme-prod"]["environment"], "production");
    let state = folder.path("home/.local/state/keyholder");
    assert_eq!(fs::metadata(state).unwrap().permissions().mode() & 0o777, 0o700);
    folder.run(&["check"], "").done();
    let client = folder.run(&["client", "show", "billing", "--output", "json"], "").json();
    assert_eq!(client["allow"], serde_json::json!(["GET /api/v2/users/**", "GET /api/v2/routing/queues"]));
    let logged = folder.run(&["audit", "list", "--output", "json"], "").json();
    let actions: Vec<_> = logged["entries"].as_array().unwrap().iter().map(|entry| text(entry, "action")).collect();
    assert_eq!(actions, ["secret.set", "client.add"]);
}

#[test]
fn ctrl_c_and_no_leave_nothing_behind() {
    let to_the_end = [
        ("[genesys]: ", ""),
        ("(? lists them): ", "eu-west-1"),
        ("[genesys-prod]: ", ""),
        ("[production]: ", ""),
        ("OAuth client): ", ID),
        ("(empty for none): ", ""),
        ("(hidden; empty to store it later): ", SECRET),
        ("Write it? [Y/n]: ", "n"),
    ];
    for stop in 0..=to_the_end.len() {
        let folder = Empty::new();
        let mut terminal = folder.terminal(&["init"]);
        for (question, answer) in &to_the_end[..stop] {
            terminal.answer(question, answer);
        }
        if let Some((question, _)) = to_the_end.get(stop) {
            terminal.expect(question);
            terminal.interrupt();
        }
        let (code, screen) = terminal.end();
        assert_ne!(code, Some(0), "after {stop} answers: {screen}");
        assert!(!screen.contains(SECRET), "{screen}");
        assert_eq!(folder.names(), Vec::<String>::new(), "after {stop} answers: {screen}");
    }
}

#[test]
fn flags_alone_make_each_kind_of_configuration() {
    let whole = r#"{"client_id":"app","client_secret":"s1","access_key_id":"KEY","access_key_secret":"s2===="}"#;
    for (words, input, shown) in [
        (&["--region", "mypurecloud.de", "--client-id", ID][..], SECRET, "region = \"eu-central-1\""),
        (
            &["--region", "https://apps.usw2.pure.cloud/directory"],
            r#"{"client_id":"a","client_secret":"b"}"#,
            "region = \"us-west-2\"",
        ),
        (&["--login-url", "http://127.0.0.1:1/", "--client-id", ID], SECRET, "api_url = \"http://127.0.0.1:1\""),
        (&["--platform", "cxone"], whole, "issuer = \"https://cxone.niceincontact.com\""),
        (&["--area", "NA1", "--access-key-id", "KEY"], "s2====\n", "area = \"na1\""),
        (
            &[
                "--token-url",
                "https://id.example.com/token",
                "--api-url",
                "https://example.com",
                "--scope",
                "a b\"",
                "--client-id",
                "x",
            ],
            "s",
            r"scopes = [",
        ),
    ] {
        let folder = Empty::new();
        let fixed = ["--output", "json", "init", "--yes", "--secret-stdin", "--client", "app", "--allow-all"];
        let answer = folder.run(&[&fixed[..], words].concat(), input).json();
        assert_eq!(answer["secret"]["version"], 1, "{answer}");
        let client = &answer["client"];
        assert!(text(client, "client_secret").starts_with("khs_"));
        let written = fs::read_to_string(folder.path("keyholder.toml")).unwrap();
        assert!(written.contains(shown), "{words:?}\n{written}");
        folder.assert_good();
        folder.run(&["check"], "").done();
        assert_eq!(fs::metadata(folder.path("keyholder.toml")).unwrap().permissions().mode() & 0o022, 0);
    }
}

#[test]
fn what_is_missing_or_wrong_is_told_and_writes_nothing() {
    let folder = Empty::new();
    let ok = ["--region", "eu-west-1", "--client-id", ID];
    for (words, input, said) in [
        (&[][..], "", "--region, --secret-stdin, --secret-file or --secret-later missing"),
        (&["--region", "mars", "--secret-later"], "", "there is no Genesys Cloud region"),
        (&["--login-url", "http://example.com", "--secret-later"], "", "--login-url: plain http"),
        (&["--region", "eu-west-1", "--secret-stdin"], SECRET, "a secret without its id"),
        (&[&ok[..], &["--secret-stdin"]].concat(), "", "the value is empty"),
        (&[&ok[..], &["--secret-stdin"]].concat(), "two\nlines", "not exactly one line"),
        (&[&ok[..], &["--secret-file", "nowhere"]].concat(), "", "cannot read the secret from nowhere"),
        (&[&ok[..], &["--secret-later", "--client", "a", "--allow", "users"]].concat(), "", "--allow: "),
        (
            &["--platform", "cxone", "--client-id", "a", "--access-key-id", "b", "--secret-stdin"],
            "s",
            "two ids need two secrets",
        ),
        (&["--platform", "cxone", "--secret-stdin"], r#"{"client_id":"a","client_secret":"s"}"#, "lacks access_key_id"),
        (&["--platform", "oauth2", "--secret-later"], "", "--token-url, --api-url missing"),
        (&[SECRET], "", "a secret must not stand on the command line"),
        (&["--region", "eu-west-1", "--client-id", SECRET, "--secret-later"], "", "this looks like a secret"),
        (
            &["--region", "eu-west-1", "--secret-later", "--config", "keyholder.toml/x/keyholder.toml"],
            "",
            "cannot write",
        ),
    ] {
        if said == "cannot write" {
            fs::write(folder.path("keyholder.toml"), "").unwrap();
        }
        let told = folder.run(&[&["init", "--yes"], words].concat(), input);
        assert_eq!(told.code, Some(2), "{words:?}: {}{}", told.out, told.err);
        assert!(told.err.contains(said), "{words:?}: {}", told.err);
        assert!(!told.err.contains(SECRET), "{}", told.err);
        assert!(!folder.path("home").exists(), "{words:?}: no state is made");
    }
    assert_eq!(folder.names(), ["keyholder.toml"]);
}

#[test]
fn an_existing_configuration_stays_or_is_kept_as_a_backup() {
    let folder = Empty::new();
    let base = ["init", "--yes", "--region", "eu-west-1", "--client-id", ID, "--secret-stdin"];
    folder.run(&base, SECRET).done();
    let first = fs::read_to_string(folder.path("keyholder.toml")).unwrap();
    let refused = folder.run(&base, SECRET);
    assert_eq!(refused.code, Some(2));
    assert!(refused.err.contains("is there already") && refused.err.contains("--force"), "{}", refused.err);
    // the secret is there as well, and another file does not replace it
    let other = folder.run(&[&base[..], &["--config", "other.toml"]].concat(), SECRET);
    assert!(other.err.contains("the secret genesys-prod is in"), "{}", other.err);
    assert_eq!(folder.names(), ["home", "keyholder.schema.json", "keyholder.toml"]);
    let words =
        ["--output", "json", "init", "--yes", "--region", "eu-west-2", "--client-id", ID, "--secret-stdin", "--force"];
    let answer = folder.run(&words, SECRET).json();
    assert_eq!(answer["secret"]["version"], 2);
    assert_eq!(fs::read_to_string(text(&answer, "backup")).unwrap(), first);
    assert!(fs::read_to_string(folder.path("keyholder.toml")).unwrap().contains("eu-west-2"));
    assert_eq!(folder.names(), ["home", "keyholder.schema.json", "keyholder.toml", "keyholder.toml.bak"]);
}

/// The client's secret is shown at the end alone: a client whose secret nobody saw does not stay.
#[test]
fn a_configuration_that_cannot_be_put_into_place_leaves_no_client() {
    let folder = Empty::new();
    fs::create_dir(folder.path("keyholder.toml")).unwrap();
    let words = ["init", "--yes", "--force", "--region", "eu-west-1", "--client-id", ID, "--secret-stdin"];
    let words = [&words[..], &["--client", "billing", "--allow-all"]].concat();
    let said = folder.run(&words, SECRET);
    assert!(said.code != Some(0) && said.err.contains("run init again with --force"), "{said:?}");
    fs::remove_dir(folder.path("keyholder.toml")).unwrap();
    let said = folder.run(&words, SECRET).done();
    assert!(said.contains("billing"), "{said}");
}

/// Without a home folder, with a state folder of its own, and with one that a flag names.
#[test]
fn the_state_folder_is_one_that_later_commands_find() {
    for (home, words, state) in
        [(false, &[][..], "state"), (true, &["--state", "here"], "here"), (true, &[], "home/.local/state/keyholder")]
    {
        let folder = Empty::new();
        let command = |words: &[&str]| {
            let mut command = keyholder();
            command.current_dir(folder.0.path()).args(words);
            if home {
                command.env("HOME", folder.path("home"));
            }
            command
        };
        let fixed = ["init", "--yes", "--region", "eu-west-1", "--client-id", ID, "--secret-stdin"];
        run(&mut command(&[&fixed[..], words].concat()), SECRET.as_bytes()).done();
        assert!(folder.path(state).join("secrets.db").exists(), "{state}");
        run(&mut command(&["check"]), b"").done();
    }
}

/// The sandbox stands in for the platform: what init wrote serves a first call.
#[test]
fn what_it_writes_serves_the_first_call() {
    let folder = Empty::new();
    let sandbox = Sandbox::start(folder.0.path(), "");
    fs::write(folder.path("secret"), text(&sandbox.ready, "client_secret")).unwrap();
    let (url, id) = (sandbox.url(), text(&sandbox.ready, "client_id"));
    let words = ["--output", "json", "init", "--yes", "--login-url", url, "--client-id", id, "--secret-file", "secret"];
    let more = ["--listen", "127.0.0.1:0", "--client", "app", "--allow", "GET /api/v2/users/**"];
    let answer = folder.run(&[&words[..], &more].concat(), "").json();
    let login = crate::harness::Login {
        id: text(&answer["client"], "client_id").to_owned(),
        secret: text(&answer["client"], "client_secret").to_owned(),
    };
    let ready = folder.path("ready.json");
    let mut command = folder.command(&["serve", "--ready-file", "ready.json"]);
    let mut process = crate::harness::Process::start(&mut command, &folder.path("serve.log"));
    let server = crate::harness::Server { ready: process.ready(&ready), process };
    let token = server.login(&login);
    assert_eq!(server.call(&token, "GET", "/api/v2/users?pageSize=1").status, 200);
    assert_eq!(server.call(&token, "GET", "/api/v2/routing/queues").status, 403);
    assert_eq!(sandbox.count("POST /oauth/token"), 1);
}
