//! Users who log in with an authorization code, through `serve` and the sandbox's Genesys Cloud.

use std::{fs, path::Path};

use crate::harness::{Answer, Installation, Login, Server, request, text};

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

    let asked = installation.sandbox.count("/oauth/token");
    server.process.kill();
    let server = installation.serve();
    assert_eq!(server.call(&token, "GET", ME).status, 200, "the session is still there");
    assert_eq!(installation.sandbox.count("/oauth/token"), asked, "and the platform was not asked for it");
    assert!(!holds(&installation.path("state"), b"refresh_token"), "its tokens are sealed");

    let alone = server.try_login(&login);
    assert_eq!(alone.status, 400, "such a client speaks for users alone: {alone:?}");

    installation.run(&["client", "disable", "portal"]).done();
    crate::harness::eventually(&401, || server.call(&token, "GET", ME).status);
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
