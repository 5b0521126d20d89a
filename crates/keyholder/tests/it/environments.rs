//! Environments on the real program: a client stays in its own, production has to be named, and sharing is warned of.

use std::fs;

use serde_json::Value;

use crate::harness::{Installation, text};

/// Gives the credential `genesys` this environment, or none.
fn configure(installation: &Installation, environment: Option<&str>) {
    let file = installation.path("keyholder.toml");
    let old = fs::read_to_string(&file).unwrap();
    let kept: Vec<&str> = old.lines().filter(|line| !line.starts_with("environment = ")).collect();
    let setting = environment.map(|name| format!("environment = \"{name}\"\n")).unwrap_or_default();
    let new = kept.join("\n") + "\n";
    let section = "[credential.genesys]\n";
    fs::write(&file, new.replacen(section, &format!("{section}{setting}"), 1)).unwrap();
}

#[test]
fn a_client_stays_in_its_environment_whatever_the_configuration_says() {
    let installation = Installation::new();
    let early = installation.add_client("early", &["--credential", "genesys", "--allow-all"]);
    configure(&installation, Some("staging"));
    let app = installation.add_client("app", &["--credential", "genesys", "--allow-all"]);
    assert_eq!(installation.run(&["client", "show", "early", "--output", "json"]).json()["environment"], Value::Null);

    let server = installation.serve();
    let tokens = [server.login(&early), server.login(&app)];
    for token in &tokens {
        assert_eq!(server.call(token, "GET", "/api/v2/users").status, 200);
    }
    let shown = installation.run(&["client", "show", "early", "--output", "json"]).json();
    assert_eq!(shown["environment"], "staging", "the start bound it");
    let events = installation.run(&["audit", "list", "--output", "json"]).out;
    assert!(events.contains("client.bind_environment"), "{events}");
    assert_eq!(server.process.stop().0, Some(0));

    // the credential is one of production now, by an edit of the file
    configure(&installation, Some("production"));
    let server = installation.serve();
    for (login, token) in [(&early, &tokens[0]), (&app, &tokens[1])] {
        let called = server.call(token, "GET", "/api/v2/users");
        assert_eq!((called.status, text(&called.json(), "code")), (403, "keyholder.environment.refused"));
        let refused = server.try_login(login);
        assert_eq!((refused.status, text(&refused.json(), "error")), (403, "unauthorized_client"));
    }
    let listed = installation.run(&["client", "list", "--output", "json"]).json();
    assert_eq!(listed["clients"][0]["refused"]["code"], "keyholder.environment.refused", "{listed}");
    assert!(installation.run(&["client", "list"]).out.contains("refused"));
    let checked = installation.run(&["check"]);
    assert_eq!(checked.code, Some(1));
    assert!(checked.err.contains("keyholder client bind app --environment production"), "{}", checked.err);
    assert!(server.process.said().contains("a client is refused until this is set right"), "{}", server.process.said());

    // a person confirms one of them; the other stays out
    let wrong = installation.run(&["client", "bind", "app", "--environment", "staging"]);
    assert_eq!(wrong.code, Some(2), "{}", wrong.err);
    installation.run(&["client", "bind", "app", "--environment", "production"]).done();
    crate::harness::eventually(&200, || server.try_login(&app).status);
    assert_eq!(server.call(&tokens[1], "GET", "/api/v2/users").status, 200, "its old token is good again");
    assert_eq!(server.try_login(&early).status, 403);
}

#[test]
fn production_has_to_be_named_when_a_client_is_added() {
    let installation = Installation::new();
    configure(&installation, Some("production"));
    for (words, code) in [
        (&["--credential", "genesys"][..], Some(2)),
        (&["--credential", "genesys", "--environment", "staging"], Some(2)),
        (&["--credential", "cxone", "--environment", "production"], Some(2)),
        (&["--environment", "production"], Some(2)),
        (&["--credential", "genesys", "--environment", "Production"], Some(2)),
        (&["--credential", "genesys", "--environment", "production"], Some(0)),
    ] {
        let said = installation.run(&[&["client", "add", "app"], words].concat());
        assert_eq!(said.code, code, "{words:?}: {}", said.err);
    }
    let shown = installation.run(&["client", "show", "app", "--output", "json"]).json();
    assert_eq!(shown["environment"], "production");
    let refused = installation.run(&["--output", "json", "client", "add", "b", "--credential", "genesys"]);
    let problem: Value = serde_json::from_str(&refused.err).unwrap();
    assert_eq!(text(&problem, "code"), "keyholder.environment.refused");
    assert!(problem["hints"][0].as_str().unwrap().contains("--environment production"), "{problem}");
}

#[test]
fn check_warns_of_what_environments_share() {
    let more = "[credential.twin]\nplatform = \"genesys\"\nsecret = \"store:genesys\"\nenvironment = \"test\"\n\
                [credential.copy]\nplatform = \"genesys\"\nsecret = \"store:copy\"\nenvironment = \"test\"\n";
    let installation = Installation::with("", more);
    installation.store_secret("copy", &installation.sandbox.genesys_document());
    let said = installation.run(&["check"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.err.contains("share the secret genesys"), "{}", said.err);
    assert!(said.err.contains("log in as the platform's client"), "{}", said.err);
    let answer = installation.run(&["check", "--output", "json"]).json();
    assert_eq!(answer["shared_between_environments"].as_array().unwrap().len(), 2, "{answer}");
    assert!(!answer.to_string().contains(text(&installation.sandbox.genesys_document(), "client_secret")));
}
