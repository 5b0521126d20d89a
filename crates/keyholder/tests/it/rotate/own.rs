//! Clients of keyholder itself as a platform: their secrets overlap, and in an emergency their tokens go as well.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Installation, Login, eventually, request, text};

/// The answer of a command with `--output json`.
fn told(installation: &Installation, words: &[&str]) -> Value {
    let said = installation.run(&[&["--output", "json"], words].concat());
    serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {}{}", said.out, said.err))
}

#[test]
fn a_client_of_keyholder_itself_is_rotated_with_overlap_and_its_tokens_are_revoked_in_an_emergency() {
    let installation = Installation::with("", "[rotation]\ncall_max = \"20s\"\n");
    let server = installation.serve();
    let first = installation.add_client("reports", &["--credential", "genesys", "--allow-all"]);
    let token = server.login(&first);
    let works = |token: &str| server.call(token, "GET", "/api/v2/users").status;
    assert_eq!(works(&token), 200);

    // the serving keyholder takes the platform up, whose token endpoint is its own
    installation.store_secret("reports", &json!({ "client_id": first.id, "client_secret": first.secret }));
    let (file, gateway) = (installation.path("keyholder.toml"), server.gateway());
    let section = format!(
        "[platform.own]\nkind = \"oauth2\"\ntoken_url = \"{gateway}/oauth/token\"\napi_url = \"{gateway}\"\n\
         own_clients = true\n\
         [credential.reports]\nplatform = \"own\"\nsecret = \"store:reports\"\n\
         [credential.reports.rotation]\noverlap_min = \"1s\"\nquiet = \"1s\"\nwatch = \"1s\"\n\
         verify = {{ successes = 2 }}\n"
    );
    fs::write(&file, fs::read_to_string(&file).unwrap() + &section).unwrap();
    server.process.signal("HUP");

    // nobody knows how old the first secret is, so that it is due; its replacement is proved by the gateway's own login
    let state = || text(&told(&installation, &["rotate", "status", "reports"]), "state").to_owned();
    let newest = || {
        let status = told(&installation, &["rotate", "status", "reports"]);
        if status["run_id"].is_null() { "none".to_owned() } else { text(&status, "state").to_owned() }
    };
    eventually(&"completed".to_owned(), newest);
    let status = told(&installation, &["rotate", "status", "reports"]);
    assert_eq!(text(&status, "strategy"), "overlap", "{status}");
    assert_eq!(status["evidence"][0]["grade"], "used", "{status}");
    assert!(status.get("tokens").is_none(), "a rotation that is not urgent says nothing of tokens: {status}");
    assert_eq!(server.try_login(&first).status, 401, "the first secret is dead");
    assert_eq!(works(&token), 200, "whoever was logged in stays logged in");
    let plan = &told(&installation, &["rotate", "plan", "reports"])["plans"][0];
    assert_eq!(
        (&plan["strategy"], &plan["obstacles"], &plan["free_places"]),
        (&json!("overlap"), &json!([]), &json!(1))
    );

    // an attacker is logged in with the secret that leaked, and so is everybody else
    let urgent = told(&installation, &["rotate", "now", "reports", "--reason", "leaked", "--wait"]);
    assert_eq!((text(&urgent, "state"), text(&urgent, "tokens")), ("completed", "revoked"), "{urgent}");
    assert_eq!(state(), "completed");
    eventually(&401, || works(&token));
    let newest = Login { id: first.id.clone(), secret: "khs_guess".to_owned() };
    assert_eq!(server.try_login(&newest).status, 401);

    // what the store serves now logs in, and the token that it brings works
    let guard = [("X-Keyholder-Token", server.guard())];
    let guard: Vec<_> = guard.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let fresh = || request("GET", &format!("{}/v1/token/reports", server.broker()), &guard, b"").json();
    eventually(&200, || works(text(&fresh(), "access_token")));
    let log = installation.run(&["audit", "list"]).done();
    assert!(log.contains("rotation.settle") && log.contains("client."), "{log}");
    let (code, said) = server.process.stop();
    assert_eq!(code, Some(0), "{said}");
}
