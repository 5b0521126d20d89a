//! Users who log in with an authorization code, through `serve` and the sandbox's Genesys Cloud.

use std::{fs, path::Path, thread};

use serde_json::{Value, json};

use crate::harness::{Answer, Installation, Login, Process, Server, eventually, request, text};

/// RFC 7636 appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const BACK: &str = "http%3A%2F%2Flocalhost%3A1%2Fback";
const ME: &str = "/api/v2/users/me";

const SANDBOX: &str = r#"
[behaviours]
refresh_tokens_rotate = true
[[genesys.clients]]
name = "code"
grant_type = "CODE"
redirect_uris = ["http://localhost:1/back"]
"#;

const USERS: &str = r#"
[credential.users]
platform = "genesys"
secret = "store:users"
[credential.users.sessions]
life = "30d"
"#;

fn installation() -> Installation {
    let made = Installation::with(SANDBOX, USERS);
    made.store_secret("users", &made.sandbox.genesys_document());
    made
}

/// What the user's browser brings back from the platform's login page.
fn code(installation: &Installation) -> String {
    let document = installation.sandbox.genesys_document();
    let id = text(&document, "client_id");
    let url = format!(
        "{}/oauth/authorize?response_type=code&client_id={id}&redirect_uri={BACK}&code_challenge={CHALLENGE}\
         &code_challenge_method=S256",
        installation.sandbox.url()
    );
    let back = request("GET", &url, &[], b"");
    back.header("location")
        .and_then(|to| to.split_once("code="))
        .expect("the platform sends the browser back")
        .1
        .to_owned()
}

fn exchange(server: &Server, login: &Login, code: &str) -> Answer {
    let Login { id, secret } = login;
    let form = format!(
        "grant_type=authorization_code&code={code}&redirect_uri={BACK}&code_verifier={VERIFIER}&client_id={id}\
         &client_secret={secret}"
    );
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    request("POST", &format!("{}/oauth/token", server.gateway()), &headers, form.as_bytes())
}

/// Whether any file of the folder holds `needle`.
fn holds(folder: &Path, needle: &[u8]) -> bool {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).any(|path| {
        if path.is_dir() {
            holds(&path, needle)
        } else {
            fs::read(path).unwrap().windows(needle.len()).any(|part| part == needle)
        }
    })
}

#[test]
fn a_session_survives_a_kill_and_ends_with_its_client() {
    let installation = installation();
    let login = installation.add_client("portal", &["--credential", "users", "--allow", "GET /api/v2/users/me"]);
    let server = installation.serve();
    let answer = exchange(&server, &login, &code(&installation));
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = answer.json();
    assert!(answer.get("refresh_token").is_none(), "the platform's refresh token stays here");
    let token = text(&answer, "access_token").to_owned();
    assert!(token.starts_with("kht_"));
    assert_eq!(server.call(&token, "GET", ME).status, 200);
    assert_eq!(
        server.call(&token, "GET", "/api/v2/routing/queues").status,
        403,
        "the client's list holds for its users"
    );

    let asked = installation.sandbox.count("POST /oauth/token");
    assert_eq!(asked, 1);
    server.process.kill();
    let server = installation.serve();
    assert_eq!(server.call(&token, "GET", ME).status, 200, "the session is still there");
    assert_eq!(installation.sandbox.count("POST /oauth/token"), asked, "and the platform was not asked for it");
    assert!(!holds(&installation.path("state"), b"refresh_token"), "its tokens are sealed");

    let alone = server.try_login(&login);
    assert_eq!(alone.status, 400, "such a client speaks for users alone: {alone:?}");

    installation.run(&["client", "disable", "portal"]).done();
    eventually(&401, || server.call(&token, "GET", ME).status);
}

#[test]
fn a_code_that_the_platform_refuses_is_told_to_the_caller_and_the_log() {
    let installation = installation();
    let login = installation.add_client("portal", &["--credential", "users", "--allow", "GET /api/v2/users/me"]);
    let server = installation.serve();
    let refused = exchange(&server, &login, "a-code-that-never-was");
    assert_eq!((refused.status, refused.json()["error"].as_str()), (400, Some("invalid_grant")));
    let (_, said) = server.process.stop();
    assert!(said.contains("keyholder.grant.refused") && !said.contains("a-code-that-never-was"), "{said}");
}

/// A user's keyholder token.
fn user(installation: &Installation, server: &Server, login: &Login) -> String {
    let answer = exchange(server, login, &code(installation));
    assert_eq!(answer.status, 200, "{answer:?}");
    text(&answer.json(), "access_token").to_owned()
}

/// A call of the admin API by the operator with the guard token.
fn admin(server: &Server, method: &str, path: &str, body: &Value) -> Answer {
    let guard = fs::read_to_string(text(&server.ready, "admin_token_file")).unwrap();
    let headers = [("X-Keyholder-Token", guard.trim()), ("Content-Type", "application/json")];
    let body = if body.is_null() { String::new() } else { body.to_string() };
    request(method, &format!("{}{path}", server.admin()), &headers, body.as_bytes())
}

fn status(server: &Server, token: &str) -> u16 {
    server.call(token, "GET", ME).status
}

#[test]
fn a_session_is_listed_and_ended_at_once_by_the_command_and_by_the_admin_api() {
    let installation = installation();
    let portal = installation.add_client("portal", &["--credential", "users", "--allow", "GET /api/v2/users/me"]);
    let other = installation.add_client("other", &["--credential", "users", "--allow", "GET /api/v2/users/me"]);
    let server = installation.serve();
    assert_eq!(installation.run(&["session", "list"]).done(), "there are no sessions\n");
    let [one, two, kept] = [&portal, &portal, &other].map(|login| user(&installation, &server, login));
    for token in [&one, &two, &kept] {
        assert_eq!(server.call(token, "GET", ME).status, 200);
    }
    let id = |token: &str| kh_core::session::SessionName::of(kh_core::Sha256::of(token.as_bytes())).to_string();
    let listed = |words: &[&str]| -> Vec<String> {
        let said = installation.run(&[&["--output", "json", "session", "list"], words].concat()).json();
        let of = |session: &Value| format!("{} {}", text(session, "id"), text(session, "client"));
        said["sessions"].as_array().unwrap().iter().map(of).collect()
    };
    let mut all =
        [(&one, "portal"), (&two, "portal"), (&kept, "other")].map(|(token, name)| format!("{} {name}", id(token)));
    all.sort();
    assert_eq!(listed(&[]), all);
    assert_eq!(listed(&["--client", "other"]), [format!("{} other", id(&kept))]);
    assert_eq!(listed(&["--limit", "1"]), all[..1]);
    assert_eq!(listed(&["--after", all[0].split_once(' ').unwrap().0]), all[1..]);

    let ready = installation.path("second.json");
    let mut command = installation.command(&["serve", "--ready-file", ready.to_str().unwrap()]);
    let mut process = Process::start(&mut command, &installation.path("second.log"));
    let second = Server { ready: process.ready(&ready), process };
    assert_eq!((status(&second, &one), status(&second, &two)), (200, 200), "both keep it in memory");

    let given_back = installation.sandbox.count("DELETE /api/v2/tokens/me");
    let said = installation.run(&["session", "end", &id(&one), "--reason", "laptop lost"]).done();
    assert!(said.contains("has ended") && !said.contains(&one), "{said}");
    assert_eq!(status(&server, &one), 401, "when the command has ended");
    assert_eq!(status(&second, &one), 401, "in a second process too");
    eventually(&(given_back + 1), || installation.sandbox.count("DELETE /api/v2/tokens/me"));
    let again = installation.run(&["session", "end", &id(&one)]);
    assert!(again.code == Some(1) && again.out.contains("had ended before: it was ended by an operator"), "{again:?}");
    let nobody = installation.run(&["session", "end", "0011223344556677"]);
    assert!(nobody.code != Some(0) && nobody.err.contains("there is no session"), "{nobody:?}");

    let page = admin(&server, "GET", "/v1/sessions?limit=1&client=portal", &Value::Null);
    assert_eq!((page.status, text(&page.json()["sessions"][0], "id")), (200, id(&two).as_str()), "{page:?}");
    let path = format!("/v1/sessions/{}/end", id(&two));
    let answer = admin(&server, "POST", &path, &json!({ "reason": "left the company" }));
    assert_eq!((answer.status, answer.json()["ended"].as_str()), (200, Some("operator")), "{answer:?}");
    assert_eq!(status(&server, &two), 401, "when it is answered");
    eventually(&401, || status(&second, &two));
    assert_eq!(status(&second, &kept), 200);
    second.process.kill();
    assert_eq!(admin(&server, "POST", &path, &Value::Null).status, 200, "to repeat it changes nothing");
    assert_eq!(status(&server, &kept), 200, "another's session goes on");
    server.process.kill();

    let server = installation.serve();
    assert_eq!((status(&server, &one), status(&server, &two)), (401, 401), "for good");
    assert_eq!(status(&server, &kept), 200);
    assert_eq!(listed(&[]), [format!("{} other", id(&kept))]);
    let log = installation.run(&["--output", "json", "audit", "list", "--action", "session.end"]).json();
    let told: Vec<String> = log["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| format!("{} {} {}", text(entry, "actor"), text(entry, "subject"), entry["detail"]))
        .collect();
    assert_eq!(told.len(), 2, "{told:#?}");
    assert!(told[0].starts_with(&format!("cli:tester {}", id(&one))) && told[0].contains("laptop lost"), "{told:#?}");
    assert!(
        told[1].starts_with(&format!("admin:local {}", id(&two))) && told[1].contains("left the company"),
        "{told:#?}"
    );
}

#[test]
fn sixty_four_calls_inside_the_threshold_cause_one_refresh() {
    let sandbox = SANDBOX.to_owned() + "token_seconds = 3600\n";
    let installation = Installation::with(&sandbox, USERS);
    installation.store_secret("users", &installation.sandbox.genesys_document());
    let login = installation.add_client("portal", &["--credential", "users", "--allow", "GET /api/v2/users/me"]);
    let clocks = crate::frozen::Clocks::in_folder(installation.folder.path());
    let ready = installation.path("ready.json");
    let mut command = installation.command(&["serve", "--ready-file", ready.to_str().unwrap()]);
    let mut process = Process::start(clocks.kept_by(&mut command), &installation.path("serve.log"));
    let server = Server { ready: process.ready(&ready), process };
    let token = user(&installation, &server, &login);
    assert_eq!(server.call(&token, "GET", ME).status, 200);
    let asked = || installation.sandbox.count("POST /oauth/token");
    assert_eq!(asked(), 1);
    // some three minutes before the end of the platform's token, and inside the five in which it is renewed
    clocks.advance(3_400);
    let crowd = || {
        thread::scope(|scope| {
            let callers: Vec<_> = (0..64).map(|_| scope.spawn(|| server.call(&token, "GET", ME).status)).collect();
            callers.into_iter().map(|caller| caller.join().unwrap()).collect::<Vec<u16>>()
        })
    };
    assert_eq!(crowd(), [200; 64]);
    eventually(&2, asked);
    assert_eq!(crowd(), [200; 64]);
    assert_eq!(asked(), 2, "the login and one refresh");
}
