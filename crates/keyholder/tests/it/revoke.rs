//! Revocation as its users do it: the commands beside a serving keyholder and without one, the admin API, a second
//! process, kill and restart; and what the commands refuse.

use std::path::Path;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::harness::{Answer, Installation, Login, Said, Server, eventually, request, run, text};

/// About keyholder's own token, so that no platform is asked.
const ME: &str = "/api/v2/tokens/me";

fn status(server: &Server, token: &str) -> u16 {
    server.call(token, "GET", ME).status
}

/// A command with `input` on its standard input.
fn told(installation: &Installation, words: &[&str], input: &str) -> Said {
    run(&mut installation.command(words), input.as_bytes())
}

/// An order to the admin API by the operator with the guard token.
fn order(server: &Server, body: &Value) -> Answer {
    let guard = std::fs::read_to_string(text(&server.ready, "admin_token_file")).unwrap();
    let headers = [("X-Keyholder-Token", guard.trim()), ("Content-Type", "application/json")];
    request("POST", &format!("{}/v1/revocations", server.admin()), &headers, body.to_string().as_bytes())
}

/// Entries of the audit log about revocations: actor, subject, details.
fn audited(installation: &Installation) -> Vec<String> {
    let log = installation.run(&["--output", "json", "audit", "list"]).json();
    let entries = log["entries"].as_array().unwrap().iter().filter(|entry| entry["action"] == "revocation.add");
    entries.map(|entry| format!("{} {} {}", text(entry, "actor"), text(entry, "subject"), entry["detail"])).collect()
}

#[test]
fn a_revoked_token_is_refused_with_the_next_request_and_after_a_kill() {
    let installation = Installation::new();
    let login = installation.add_client("app", &["--credential", "genesys", "--allow-all"]);
    let server = installation.serve();
    let (by_command, by_api, kept) = (server.login(&login), server.login(&login), server.login(&login));
    for token in [&by_command, &by_api, &kept] {
        assert_eq!(status(&server, token), 200);
    }
    let said = told(&installation, &["revoke", "token", "--reason", "seen in a log"], &format!("{by_command}\n"));
    assert!(!said.out.contains(&by_command) && said.out.contains("in the keyholder that serves"), "{said:?}");
    said.done();
    assert_eq!(status(&server, &by_command), 401, "when the command has ended");
    let answer = order(&server, &json!({ "token": by_api }));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(status(&server, &by_api), 401, "when it is answered");
    assert_eq!(status(&server, &kept), 200);
    server.process.kill();

    let server = installation.serve();
    assert_eq!((status(&server, &by_command), status(&server, &by_api), status(&server, &kept)), (401, 401, 200));
    let entries = audited(&installation);
    assert!(entries[0].starts_with("cli:tester token") && entries[0].contains("seen in a log"), "{entries:?}");
    assert!(entries[1].starts_with("admin:local token"), "{entries:?}");
    assert!(entries.iter().all(|entry| entry.contains("token_fingerprint") && !entry.contains("kht_")), "{entries:?}");
    installation.run(&["audit", "verify"]).done();
}

#[test]
fn everything_of_a_client_and_of_everybody_ends_at_once_for_good_and_in_a_second_process() {
    let installation = Installation::new();
    let app = installation.add_client("app", &["--credential", "genesys", "--allow-all"]);
    let other = installation.add_client("other", &["--credential", "genesys", "--allow-all"]);
    let server = installation.serve();
    let (ours, theirs) = (server.login(&app), server.login(&other));
    let ready = installation.path("second.json");
    let mut command = installation.command(&["serve", "--ready-file", ready.to_str().unwrap()]);
    let mut process = crate::harness::Process::start(&mut command, &installation.path("second.log"));
    let second = Server { ready: process.ready(&ready), process };
    assert_eq!((status(&second, &ours), status(&second, &theirs)), (200, 200));

    // by name, which only keyholder's own clients have
    let said = told(&installation, &["--output", "json", "revoke", "client", "app"], "").json();
    assert_eq!((&said["revocations"][0]["client"], &said["serving"]), (&json!(app.id), &json!(2)));
    assert_eq!((status(&server, &ours), status(&second, &ours)), (401, 401));
    let again = server.login(&app);
    assert_eq!((status(&server, &again), status(&server, &theirs)), (200, 200), "what is issued later is good");

    assert_eq!(order(&second, &json!({ "before": now_ms() })).status, 200);
    assert_eq!((status(&second, &again), status(&second, &theirs)), (401, 401));
    eventually(&(401, 401), || (status(&server, &again), status(&server, &theirs)));
    drop((server, second));
    let server = installation.serve();
    for token in [&ours, &theirs, &again] {
        assert_eq!(status(&server, token), 401);
    }
    assert_eq!(status(&server, &server.login(&other)), 200);
}

#[test]
fn a_slip_is_refused_or_told_and_other_issuers_names_are_taken() {
    let installation = Installation::new();
    let login = installation.add_client("billing", &["--credential", "genesys", "--allow-all"]);
    let server = installation.serve();
    let token = server.login(&login);
    let cut = &token[..token.len() - 2];
    for (input, words) in [(cut, "its checksum is wrong"), (login.secret.as_str(), "this is no token")] {
        let said = told(&installation, &["revoke", "token"], input);
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(said.err.contains(words) && !said.err.contains(input), "{said:?}");
        let answer = order(&server, &json!({ "token": input }));
        assert_eq!(answer.status, 400, "{answer:?}");
        assert!(text(&answer.json(), "detail").contains(words), "{answer:?}");
    }
    assert_eq!((audited(&installation).len(), status(&server, &token)), (0, 200));

    let typo = told(&installation, &["revoke", "client", "biling"], "");
    assert!(typo.err.contains("is called \"biling\"") && typo.err.contains("did you mean billing?"), "{typo:?}");
    typo.done();
    let opaque = told(&installation, &["--output", "json", "revoke", "token"], "foo");
    assert!(opaque.err.contains("neither a JWT nor a token of keyholder's own"), "{opaque:?}");
    let warnings = opaque.json()["warnings"].clone();
    assert_eq!(warnings.as_array().map(Vec::len), Some(1), "{warnings}");
    assert!(warnings[0].as_str().unwrap().contains("neither a JWT nor a token of keyholder's own"), "{warnings}");
    let typo = told(&installation, &["--output", "json", "revoke", "client", "biling"], "").json();
    let warnings = typo["warnings"].as_array().unwrap();
    assert!(warnings[0].as_str().unwrap().contains("is called \"biling\""), "{typo}");
    assert!(warnings[1].as_str().unwrap().contains("did you mean billing?"), "{typo}");
    let known = told(&installation, &["--output", "json", "revoke", "subject", "248289761001"], "").json();
    assert!(known.get("warnings").is_none(), "{known}");
    for words in [
        &["revoke", "client", "biling", "--issuer", "https://login.example.com/"][..],
        &["revoke", "client", "billing"],
    ] {
        let said = told(&installation, words, "");
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{words:?}");
    }
    assert_eq!(status(&server, &token), 401);
}

#[test]
fn what_is_said_of_a_client_holds_in_the_serving_keyholder_when_the_command_has_ended() {
    let installation = Installation::new();
    let login = installation.add_client("app", &["--credential", "genesys", "--allow-all"]);
    let server = installation.serve();
    for round in 0..3 {
        let token = server.login(&login);
        assert_eq!(status(&server, &token), 200, "round {round}");
        installation.run(&["client", "disable", "app"]).done();
        assert_eq!(status(&server, &token), 401, "round {round}");
        assert_ne!(server.try_login(&login).status, 200, "round {round}");
        installation.run(&["client", "enable", "app"]).done();
        assert_eq!(server.try_login(&login).status, 200, "round {round}");
    }
    let rotated = installation.run(&["--output", "json", "client", "rotate-secret", "app"]).json();
    assert_ne!(server.try_login(&login).status, 200, "its old secret");
    let login = Login { id: login.id, secret: text(&rotated, "client_secret").to_owned() };
    let token = server.login(&login);
    installation.run(&["client", "rm", "app", "--yes"]).done();
    assert_eq!(status(&server, &token), 401);
    assert_ne!(server.try_login(&login).status, 200);
}

fn now_ms() -> u64 {
    let output = std::process::Command::new("date").arg("+%s%3N").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

#[test]
fn without_a_serving_keyholder_the_state_itself_is_told() {
    let installation = Installation::new();
    let login = installation.add_client("app", &["--credential", "genesys", "--allow-all"]);
    let server = installation.serve();
    let token = server.login(&login);
    assert_eq!(server.process.stop().0, Some(0));
    let said = told(&installation, &["revoke", "token"], &token).done();
    assert!(said.contains("in force when keyholder starts"), "{said}");
    assert_eq!(status(&installation.serve(), &token), 401);
}

/// A token's `jti` was chosen by whoever made the token, and is shown to the operator who revokes it.
#[test]
fn what_a_token_says_does_nothing_to_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let say = |words: &[&str], input: &str| {
        let mut command = crate::harness::keyholder();
        command.current_dir::<&Path>(folder.path()).arg("--state").arg("state").args(words);
        run(&mut command, input.as_bytes())
    };
    let claims = json!({ "iss": "https://login.example.com/", "jti": "a\u{1b}[31m\u{9b}31mb" }).to_string();
    let token = format!("eyJhbGciOiJFUzI1NiJ9.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims));
    say(&["client", "add", "app"], "").done();
    let revoked = say(&["revoke", "token"], &token).done();
    let listed = say(&["revoke", "list"], "").done();
    for shown in [revoked, listed] {
        assert!(shown.contains("a\u{fffd}[31m\u{fffd}31mb"), "{shown:?}");
        assert!(!shown.contains(|letter: char| letter.is_control() && letter != '\n'), "{shown:?}");
    }
    let exact = say(&["--output", "json", "revoke", "list"], "").done();
    assert!(exact.contains(r"a\u001b[31m"), "{exact}");
}

#[test]
fn orders_are_listed_and_what_is_no_order_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let say = |words: &[&str], input: &str| {
        let mut command = crate::harness::keyholder();
        command.current_dir::<&Path>(folder.path()).arg("--state").arg("state").args(words);
        run(&mut command, input.as_bytes())
    };
    say(&["client", "add", "app"], "").done();
    assert_eq!(say(&["revoke", "list"], "").done(), "nothing is revoked\n");
    let issuer = "https://login.example.com/";
    for words in [
        &["revoke", "jti", "9f3c2b1e", "--issuer", issuer][..],
        &["revoke", "client", "0oa1b2c3d4", "--issuer", issuer, "--before", "2026-01-01T00:00:00Z"],
        &["revoke", "subject", "248289761001", "--issuer", issuer, "--issued-at", "1700000000"],
        &["revoke", "subject", "248289761001", "--reason", "left"],
        &["revoke", "before", "2026-01-01T00:00:00Z", "--yes"],
    ] {
        say(words, "").done();
    }
    let listed = say(&["--output", "json", "revoke", "list"], "").json();
    let kinds: Vec<_> = listed["revocations"].as_array().unwrap().iter().map(|one| text(one, "kind")).collect();
    assert_eq!(kinds, ["token_id", "client", "issued", "subject", "everything"]);
    assert_eq!(listed["revocations"][2]["issued_at"], "2023-11-14T22:13:20Z");
    let table = say(&["revoke", "list", "--limit", "2"], "").done();
    assert!(table.contains("jti 9f3c2b1e") && table.lines().count() == 3, "{table}");

    let token = "eyJhbGciOiJFUzI1NiJ9.eyJqdGkiOiJNQVJLRUQifQ.c2ln";
    let surplus = say(&["revoke", "token", token], "");
    assert_eq!(surplus.code, Some(2));
    assert!(!surplus.err.contains("eyJqdGki"), "{}", surplus.err);
    for (words, input) in [
        (&["revoke", "token"][..], ""),
        (&["revoke", "token"], "two words"),
        (&["revoke", "jti", "1"], ""),
        (&["revoke", "client", "c", "--before", "yesterday"], ""),
        (&["revoke", "client", "c", "--before", "2999-01-01T00:00:00Z"], ""),
        (&["revoke", "client", ""], ""),
        (&["revoke", "subject", "s", "--issued-at", "5"], ""),
        (&["revoke", "subject", "s", "--issuer", issuer, "--issued-at", "1700000000000"], ""),
        (&["revoke", "subject", "s", "--issuer", issuer, "--issued-at", "2999-01-01T00:00:00Z"], ""),
        (&["revoke", "subject", "s", "--reason", "two\nlines"], ""),
        (&["revoke", "before", "now"], ""),
        (&["revoke", "list", "--limit", "0"], ""),
    ] {
        assert_eq!(say(words, input).code, Some(2), "{words:?}");
    }
    assert_eq!(say(&["--output", "json", "revoke", "list"], "").json(), listed, "and nothing of it was done");
}
