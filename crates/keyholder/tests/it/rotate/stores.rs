//! Copies between places, the report, and stores that this keyholder cannot make.

use std::fs;

use serde_json::Value;

use super::world::World;
use crate::harness::text;

#[test]
fn a_copy_is_the_same_login_and_replaces_nothing_unasked() {
    let world = World::new("", "");
    let (code, copied) = world.told(&["secret", "copy", "store:app", "store:app-copy"]);
    assert_eq!((code, &copied["copied"]), (Some(0), &true.into()), "{copied}");
    let (code, again) = world.told(&["secret", "copy", "store:app", "store:app-copy"]);
    assert_eq!((code, &again["copied"]), (Some(0), &false.into()), "{again}");
    let (code, refused) = world.told(&["secret", "copy", "store:genesys", "store:app-copy"]);
    assert_eq!((code, text(&refused, "code")), (Some(1), "keyholder.store.conflict"));
    let (code, forced) = world.told(&["secret", "copy", "store:genesys", "store:app-copy", "--force"]);
    assert_eq!((code, &forced["copied"]), (Some(0), &true.into()), "{forced}");
    let log = world.run(&["--output", "json", "audit", "list"]).done();
    assert!(log.contains("secret.copy") && log.contains("forced"), "{log}");
    let (code, missing) = world.told(&["secret", "copy", "store:nothing", "store:b"]);
    assert_eq!((code, text(&missing, "code")), (Some(1), "keyholder.not_found"));
    let (code, unknown) = world.told(&["secret", "copy", "store:app", "vault:a/b"]);
    assert_eq!((code, text(&unknown, "code")), (Some(2), "keyholder.usage"));
    let everything = format!("{log}{copied}{forced}");
    assert!(!everything.contains(text(&world.first, "client_secret")));
}

#[test]
fn the_report_tells_whom_nobody_looks_after() {
    let world = World::new("strategy = \"pair\"", "");
    super::world::client(&world.installation, "=stray");
    let (code, report) = world.told(&["secret", "report"]);
    assert_eq!(code, Some(1), "{report}");
    let rows = report["clients"].as_array().unwrap();
    let row = |name: &str| rows.iter().find(|row| text(row, "name") == name).unwrap_or_else(|| panic!("{report}"));
    let findings = |row: &Value| row["findings"].to_string();
    assert_eq!((text(row("app"), "credential"), text(row("app"), "strategy")), ("app", "pair"));
    assert_eq!(findings(row("app")), "[]");
    assert!(findings(row("=stray")).contains("unmanaged"), "{report}");
    let csv = world.run(&["secret", "report", "--format", "csv"]);
    assert!(csv.out.starts_with("\"platform\",") && csv.out.contains("\"'=stray\""), "{}", csv.out);
    let html = world.run(&["secret", "report", "--format", "html"]);
    assert!(html.out.starts_with("<!doctype html>") && html.out.contains("=stray"), "{}", html.out);
}

#[test]
fn a_kind_that_was_not_built_is_told_with_its_section() {
    let world = World::new("", "[secret_store.g]\nkind = \"google\"\nproject = \"acme\"\n");
    let (code, problem) = world.told(&["rotate", "plan"]);
    assert_eq!((code, text(&problem, "code")), (Some(2), "keyholder.config.invalid"), "{problem}");
    assert!(text(&problem, "detail").contains("[secret_store.g] is of the kind google"), "{problem}");
}

/// A credential whose document is in a Vault that does not answer cannot log in, and says which store it is.
#[test]
fn a_store_that_does_not_answer_is_named() {
    let world =
        World::new("", "[secret_store.v]\nkind = \"vault\"\naddress = \"http://127.0.0.1:9\"\ntoken_file = \"t\"\n");
    fs::write(world.installation.path("t"), "token").unwrap();
    let (code, problem) = world.told(&["secret", "copy", "v:genesys/app", "store:b"]);
    assert_eq!((code, text(&problem, "code")), (Some(3), "keyholder.store.unavailable"), "{problem}");
    assert!(problem.to_string().contains("v:genesys/app"), "{problem}");
}
