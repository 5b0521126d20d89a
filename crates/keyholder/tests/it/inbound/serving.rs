//! What a served API keeps while the configuration changes, whose tokens each route takes, and what is passed on.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use serde_json::json;

use super::{bearer, call, head, installed, of_api, of_file};
use crate::{
    harness::{eventually, request, text},
    protected_api::{Api, ISSUER, claims, tokens::Key},
};

const ROUTE: &str = "[[inbound.reports.route]]\nmatch = [\"GET /a\"]\nany_token = true\n";

/// Whoever starts it or asks how it is doing sees where the API is.
#[test]
fn the_banner_and_the_status_name_the_api() {
    let (api, key) = (Api::start(), Key::new("k1"));
    let installation = installed(&(of_file() + &of_api(&api, "\"corp\"", ROUTE)), &[&key]);
    let server = installation.serve();
    let line = format!("inbound reports {}", text(&server.ready["inbound_urls"], "reports"));
    eventually(&true, || server.process.said().contains(&line));
    let said = installation.run(&["status"]);
    assert!(said.out.contains(&line), "{}{}", said.out, said.err);
}

/// Callers go on while routes, headers and issuers change under them.
#[test]
fn no_request_is_dropped_by_a_reload() {
    let (api, key) = (Api::start(), Key::new("k1"));
    let installation = installed(&(of_file() + &of_api(&api, "\"corp\"", ROUTE)), &[&key]);
    let server = installation.serve();
    let url = format!("{}/a", text(&server.ready["inbound_urls"], "reports"));
    let token = format!("Bearer {}", key.sign(&claims(&json!({}))));
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let callers: Vec<_> = (0..3)
        .map(|_| {
            let (url, token, stop, answered) = (url.clone(), token.clone(), Arc::clone(&stop), Arc::clone(&answered));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let answer = request("GET", &url, &[("Authorization", &token)], b"");
                    assert_eq!(answer.status, 200, "{answer:?}");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let file = installation.path("keyholder.toml");
    let before = fs::read_to_string(&file).unwrap();
    for change in [
        "[[inbound.reports.identity_header]]\nname = \"X-Subject\"\nfield = \"subject\"\n",
        "[[inbound.reports.route]]\nmatch = [\"GET /b\"]\nany_token = true\n",
        // another issuer: another verifier
        "[issuer.other]\nkind = \"jwks\"\niss = [\"https://other.example\"]\njwks_file = \"keys.json\"\n",
    ] {
        let reloads = server.process.said().matches("the configuration was reloaded").count();
        fs::write(&file, before.clone() + change).unwrap();
        server.process.signal("HUP");
        eventually(&true, || server.process.said().matches("the configuration was reloaded").count() > reloads);
        let now = answered.load(Ordering::Relaxed);
        eventually(&true, || answered.load(Ordering::Relaxed) > now + 10);
    }
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.join().expect("every request was answered with 200");
    }
    assert_eq!(server.process.stop().0, Some(0));
}

/// keyholder's own JWTs are verified with its own keys, without a network; a route takes tokens of its issuers alone.
#[test]
fn routes_take_their_issuers_tokens() {
    let (api, key) = (Api::start(), Key::new("k1"));
    let lines = "[[inbound.reports.route]]\nmatch = [\"GET /own\"]\nissuers = [\"own\"]\nscopes = [\"reports:read\"]\n\
                 [[inbound.reports.route]]\nmatch = [\"GET /corp\"]\nissuers = [\"corp\"]\nany_token = true\n\
                 [[inbound.reports.route]]\nmatch = [\"GET /\"]\nhosts = [\"api.example.com\"]\nany_token = true\n";
    let sections = format!(
        "[token_endpoint]\nissuer = \"https://keys.example.com\"\n[issuer.own]\nkind = \"keyholder\"\naudiences = [\"reports-api\"]\n{}{}",
        of_file(),
        of_api(&api, r#""corp", "own""#, lines)
    );
    let installation = installed(&sections, &[&key]);
    let words = ["--token-format", "jwt", "--scope", "reports:read", "--audience", "reports-api"];
    let client = installation.add_client("job", &words);
    let server = installation.serve();
    let own = server.login(&client);
    assert_eq!(own.split('.').count(), 3, "a JWT");
    let corp = key.sign(&claims(&json!({})));
    assert_eq!((bearer(&server, "/own", &own), bearer(&server, "/own", &corp)), (200, 401));
    assert_eq!((bearer(&server, "/corp", &own), bearer(&server, "/corp", &corp)), (401, 200));
    assert_eq!(bearer(&server, "/", &corp), 404, "a route for another host");
    // who claims to be keyholder has not its key
    let forged = key.sign(&claims(&json!({ "iss": "https://keys.example.com", "jti": "1" })));
    assert_eq!(bearer(&server, "/own", &forged), 401);
}

#[test]
fn proxies_are_believed_and_what_is_passed_on_is_configured() {
    let (api, key) = (Api::start(), Key::new("k1"));
    let lines = "trusted_proxies = [\"127.0.0.0/8\"]\nclient_address = \"x-forwarded-for\"\n\
                 pass_authorization = true\npreserve_host = true\n";
    let sections = of_file() + &of_api(&api, "\"corp\"", &format!("{lines}{ROUTE}"));
    let installation = installed(&sections, &[&key]);
    let server = installation.serve();
    let token = key.sign(&claims(&json!({ "iss": ISSUER })));
    let sent = [("Authorization", &*format!("Bearer {token}")), ("X-Forwarded-For", "198.51.100.7, 203.0.113.9")];
    let told = head(&call(&server, "GET", "/a", &sent));
    assert!(told.contains("x-forwarded-for: 203.0.113.9\r\n"), "{told}");
    assert!(told.contains(&format!("authorization: Bearer {token}\r\n")), "{told}");
    let host = text(&server.ready["inbound_urls"], "reports").trim_start_matches("http://").to_owned();
    assert!(told.contains(&format!("host: {host}\r\n")), "{told}");
}
