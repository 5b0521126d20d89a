//! What `keyholder check` says of protected APIs and their issuers, and that it does not serve them to find out.

use std::fs;

use serde_json::{Value, json};

use super::{installed, of_api, of_file, remote::Documents};
use crate::{
    harness::text,
    protected_api::{Api, key_set, tokens::Key},
};

#[test]
fn what_is_risky_is_told() {
    let (api, key) = (Api::start(), Key::new("k1"));
    let lines = "[[inbound.reports.route]]\nmatch = [\"GET /**\"]\npublic = true\n\
                 [[inbound.reports.route]]\nmatch = [\"POST /x\"]\nany_token = true\nallow_basic = true\n";
    let sections = of_file().replace("audiences = [\"reports-api\"]\n", "") + &of_api(&api, "\"corp\"", lines);
    let sections = sections
        .replace(&api.address.to_string(), "api.internal:3000")
        .replace("127.0.0.1:0\"]\nupstream", "0.0.0.0:0\"]\nupstream");
    let installation = installed(&sections, &[&key]);
    let answer = installation.run(&["check", "--syntax", "--output", "json"]).json();
    let warnings: Vec<&str> =
        answer["warnings"].as_array().unwrap().iter().map(|warning| text(warning, "message")).collect();
    for expected in [
        "tokens that corp made for other APIs are taken here as well",
        "every request under this path is taken without a token",
        "a password comes with each request",
        "requests and what they tell of callers go to the API in the clear",
        "callers' tokens come over plain http from other machines",
    ] {
        assert!(warnings.iter().any(|warning| warning.contains(expected)), "{expected}: {warnings:?}");
    }
}

#[test]
fn what_is_named_and_not_there_is_found() {
    let (api, key) = (Api::start(), Key::new("k1"));
    let lines = "[[inbound.reports.route]]\nmatch = [\"GET /a\"]\nany_token = true\n";
    let installation = installed(&(of_file() + &of_api(&api, "\"corp\"", lines)), &[&key]);
    installation.run(&["check"]).done();
    fs::write(installation.path("keys.json"), "{\"keys\":[]}").unwrap();
    let said = installation.run(&["check"]);
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert!(said.err.contains("has no key that can be used"), "{}", said.err);
    fs::remove_file(installation.path("keys.json")).unwrap();
    assert!(installation.run(&["check"]).err.contains("cannot be read"));
    // and serve says it before it listens
    let said = installation.run(&["serve"]);
    assert_eq!(said.code, Some(2), "{}", said.err);
    assert!(said.err.contains("keys.json cannot be read"), "{}", said.err);
}

#[test]
fn online_asks_each_issuer_for_its_keys() {
    let (api, issuer, key) = (Api::start(), Documents::start(), Key::new("k1"));
    let base = format!("http://{}", issuer.address);
    issuer.put("/jwks", key_set(&[&key]));
    issuer.put("/introspect", json!({ "active": false }).to_string());
    let metadata = |issuer: &str| json!({ "issuer": issuer, "jwks_uri": format!("{base}/jwks") }).to_string();
    let well_known = "/.well-known/oauth-authorization-server";
    issuer.put(well_known, metadata(&base));
    let lines = "[[inbound.reports.route]]\nmatch = [\"GET /a\"]\nany_token = true\n";
    let sections = format!(
        "[issuer.found]\nkind = \"jwks\"\niss = [\"{base}\"]\ndiscover = \"{base}\"\nprivate_network = true\n\
         [issuer.asked]\nkind = \"introspection\"\niss = [\"https://asked.example\"]\n\
         introspection_url = \"{base}/introspect\"\nsecret = \"store:asked\"\nprivate_network = true\n{}",
        of_api(&api, r#""found", "asked""#, lines)
    );
    let installation = installed(&sections, &[]);
    let said = installation.run(&["check"]);
    assert!(said.code == Some(1) && said.err.contains("secret asked"), "{}", said.err);
    installation.store_secret("asked", &json!({ "client_id": "keyholder", "client_secret": "s3cret" }));
    let answer = installation.run(&["check", "--online", "--output", "json"]).json();
    let seen = |answer: &Value, name: &str| {
        let all = answer["issuers"].as_array().unwrap();
        all.iter().find(|seen| seen["name"] == name).unwrap().clone()
    };
    assert_eq!(seen(&answer, "found"), json!({ "name": "found", "kind": "jwks", "works": true, "keys": 1 }));
    assert_eq!(seen(&answer, "asked"), json!({ "name": "asked", "kind": "introspection", "works": true }));
    // RFC 8414 section 3.3
    issuer.put(well_known, metadata("https://another.example"));
    let said = installation.run(&["check", "--online"]);
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert!(said.err.contains("[issuer.found]: the issuer's metadata: it is another issuer's"), "{}", said.err);
    assert!(!said.err.contains("s3cret") && !said.out.contains("s3cret"), "{}{}", said.out, said.err);
}

/// Who takes an exit of 3 for "try again later" hears of what no waiting heals.
#[test]
fn an_issuer_that_does_not_work_is_told_beside_a_platform_that_is_away() {
    const NOBODY: &str = "http://127.0.0.1:9";
    let (api, issuer) = (Api::start(), Documents::start());
    let base = format!("http://{}", issuer.address);
    let metadata = json!({ "issuer": "https://another.example", "jwks_uri": format!("{base}/jwks") });
    issuer.put("/.well-known/oauth-authorization-server", metadata.to_string());
    let lines = "[[inbound.reports.route]]\nmatch = [\"GET /a\"]\nany_token = true\n";
    let sections = format!(
        "[issuer.found]\nkind = \"jwks\"\niss = [\"{base}\"]\ndiscover = \"{base}\"\nprivate_network = true\n{}",
        of_api(&api, "\"found\"", lines)
    );
    let installation = installed(&sections, &[]);
    let file = installation.path("keyholder.toml");
    let well = fs::read_to_string(&file).unwrap();
    let platform_away = well.replace(&format!("\"{}\"", installation.sandbox.url()), &format!("\"{NOBODY}\""));
    let told = |config: &str| {
        fs::write(&file, config).unwrap();
        let said = installation.run(&["check", "--online", "--output", "json"]);
        let problem: Value = serde_json::from_str(said.err.lines().last().unwrap()).unwrap();
        assert_eq!((&problem["issuers"][0]["name"], &problem["issuers"][0]["works"]), (&json!("found"), &json!(false)));
        assert!(problem["hints"].to_string().contains("[issuer.found]: "), "{problem}");
        (said.code, problem)
    };
    let works = |problem: &Value| {
        let all = problem["credentials"].as_array().unwrap();
        all.iter().find(|seen| seen["name"] == "genesys").unwrap()["works"] == true
    };

    let (code, both) = told(&platform_away);
    assert_eq!((code, text(&both, "code")), (Some(1), "keyholder.inbound.issuer_unavailable"), "{both}");
    assert!(!works(&both) && text(&both, "detail").contains("genesys could not be tried; found: tokens"), "{both}");

    let (code, both) = told(&platform_away.replace(&base, NOBODY));
    assert_eq!((code, text(&both, "code")), (Some(3), "keyholder.upstream.unreachable"), "{both}");

    let (code, alone) = told(&well.replace(&base, NOBODY));
    assert_eq!((code, text(&alone, "code")), (Some(3), "keyholder.inbound.issuer_unavailable"), "{alone}");
    assert!(works(&alone), "{alone}");
    let said = installation.run(&["check", "--online"]);
    assert!(said.out.contains("issuer found (jwks): could not be tried"), "{}", said.out);
}

#[test]
fn a_certificate_that_nobody_takes_is_found() {
    let (api, key) = (Api::start(), Key::new("k1"));
    let lines = "[inbound.reports.tls]\ncert = \"api.pem\"\nkey = \"api.key\"\n\
                 [[inbound.reports.route]]\nmatch = [\"GET /a\"]\nany_token = true\n";
    let installation = installed(&(of_file() + &of_api(&api, "\"corp\"", lines)), &[&key]);
    let write = |until: i32| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        fs::write(installation.path("api.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(installation.path("api.key"), key.serialize_pem()).unwrap();
    };
    write(2200);
    installation.run(&["check"]).done();
    let server = installation.serve();
    assert!(text(&server.ready["inbound_urls"], "reports").starts_with("https://127.0.0.1:"), "{}", server.ready);
    drop(server);
    write(2021);
    let said = installation.run(&["check"]);
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert!(said.err.contains("[inbound.reports.tls]: the certificate api.pem"), "{}", said.err);
    fs::write(installation.path("api.key"), "no key").unwrap();
    let said = installation.run(&["check"]);
    assert!(said.code == Some(1) && said.err.contains("holds no private key"), "{}", said.err);
}
