//! `keyholder check`: what it says of a real login, of other people's settings, and that it changes nothing.

#[cfg(feature = "vault")]
use std::sync::Arc;
use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, path::Path, time::SystemTime};

use serde_json::{Value, json};

#[cfg(feature = "vault")]
use crate::harness::{BARE_CONFIG, request};
use crate::harness::{Installation, keyholder, run, text};

/// A second client whose role may read users and nothing about itself, in one division.
const NARROW: &str = r#"
[[genesys.roles]]
name = "reader"
permissions = ["directory:user:view"]
[[genesys.clients]]
name = "narrow"
roles = ["reader"]
[[genesys.clients]]
name = "admin"
roles = ["admin"]
"#;

fn credential<'a>(answer: &'a Value, name: &str) -> &'a Value {
    let all = answer["credentials"].as_array().unwrap();
    all.iter().find(|seen| seen["name"] == name).unwrap_or_else(|| panic!("no {name} in {answer}"))
}

#[test]
fn online_shows_what_each_credential_really_has() {
    let installation = Installation::with(NARROW, "");
    let url = installation.sandbox.url();
    let clients = installation.sandbox.ready["clients"].as_array().unwrap().clone();
    let document = |name: &str| {
        let client = clients.iter().find(|client| client["name"] == name).unwrap();
        json!({ "client_id": client["client_id"], "client_secret": client["client_secret"] })
    };
    let config = installation.path("keyholder.toml");
    let more = format!(
        "[credential.narrow]\nplatform = \"genesys\"\nsecret = \"store:narrow\"\n\
         [platform.plain]\nkind = \"oauth2\"\ntoken_url = \"{url}/oauth/token\"\napi_url = \"{url}\"\n\
         [credential.plain]\nplatform = \"plain\"\nsecret = \"store:narrow\"\n"
    );
    fs::write(&config, fs::read_to_string(&config).unwrap() + &more).unwrap();
    installation.store_secret("genesys", &document("admin"));
    installation.store_secret("narrow", &document("narrow"));

    let answer = installation.run(&["check", "--online", "--output", "json"]).json();
    let admin = credential(&answer, "genesys");
    assert_eq!((&admin["works"], &admin["token"]["expires_in"]), (&json!(true), &json!(86_400)), "{admin}");
    let account = &admin["account"];
    assert_eq!(account["organization"]["name"], "Sandbox Organisation");
    assert_eq!(account["client"]["name"], "admin");
    assert_eq!(account["client"]["grant_type"], "CLIENT-CREDENTIALS");
    assert_eq!(account["grants"][0]["role"]["name"], "admin");
    assert_eq!(account["rate_limit"]["allowed"], 300);
    let limits = account["limits"].as_array().unwrap();
    assert!(limits.contains(&json!({ "key": "token.rate.per.minute", "value": 300 })), "{account}");
    assert_eq!((&account["scopes"], &account["unreadable"]), (&json!([]), &json!([])));
    assert!(admin["clock_skew_seconds"].as_i64().unwrap().abs() <= 1, "{admin}");

    // what the token may not read is said, and the id stands in for the name
    let narrow = &credential(&answer, "narrow")["account"];
    assert_eq!(narrow["client"]["name"], "narrow");
    assert_eq!(narrow["grants"][0]["role"]["name"], Value::Null);
    assert_eq!(narrow["unreadable"][0]["what"], "names of roles");
    assert!(text(&narrow["unreadable"][0], "why").contains("missing"), "{narrow}");

    let cxone = credential(&answer, "cxone");
    let tenant = &installation.sandbox.ready["cxone"]["tenant_id"];
    assert_eq!((&cxone["works"], &cxone["unverified_claims"]["tenant_id"]), (&json!(true), tenant), "{cxone}");
    let plain = credential(&answer, "plain");
    assert_eq!((&plain["works"], &plain["token"]["scope"]), (&json!(true), &Value::Null), "{plain}");

    let shown = installation.run(&["check", "--online", "--credential", "narrow"]).done();
    for line in ["narrow: works", "  client         narrow (", "  not readable   names of roles: the API answered 403"]
    {
        assert!(shown.contains(line), "{line}\n{shown}");
    }
    assert!(!shown.contains("cxone"), "{shown}");
    let tokens = ["narrow", "admin"].map(|name| document(name)["client_secret"].as_str().unwrap().to_owned());
    assert!(tokens.iter().all(|secret| !shown.contains(secret) && !answer.to_string().contains(secret)));
}

/// A login that is not for a check is no failure; a document that is not there is one all the same.
#[test]
fn a_credential_that_is_not_for_a_check_is_told_and_no_failure() {
    let lines = "[credential.users]\nplatform = \"genesys\"\nsecret = \"store:users\"\n\
                 [credential.users.sessions]\nlife = \"30d\"\n\
                 [credential.refreshed]\nplatform = \"genesys\"\nsecret = \"store:refreshed\"\n";
    let installation = Installation::with("", lines);
    let mut document = installation.sandbox.genesys_document();
    installation.store_secret("users", &document);
    document["refresh_token"] = json!("good-for-one-use-0123456789");
    installation.store_secret("refreshed", &document);

    let answer = installation.run(&["check", "--online", "--output", "json"]).json();
    for (name, words) in [("users", "users log in with it"), ("refreshed", "good for one use")] {
        let seen = credential(&answer, name);
        assert_eq!((&seen["works"], &seen["problem"]), (&Value::Null, &Value::Null), "{seen}");
        assert!(text(&seen["not_tried"], "detail").contains(words), "{seen}");
        assert!(!text(&seen["not_tried"], "hint").is_empty(), "{seen}");
    }
    let tried = credential(&answer, "genesys");
    assert_eq!((&tried["works"], &tried["not_tried"]), (&json!(true), &Value::Null), "{tried}");
    assert_eq!(installation.sandbox.count("POST /oauth/token"), 1, "the one that is for it");
    let shown = installation.run(&["check", "--online", "--credential", "refreshed"]).done();
    assert!(shown.contains("refreshed: was not tried") && shown.contains("`keyholder token get`"), "{shown}");

    // beside one that fails, the failure is told alone
    let mut wrong = installation.sandbox.genesys_document();
    wrong["client_secret"] = json!("x".repeat(43));
    installation.store_secret("genesys", &wrong);
    let said = installation.run(&["check", "--online", "--output", "json"]);
    assert_eq!(said.code, Some(1), "{}", said.err);
    let problem: Value = serde_json::from_str(&said.err).unwrap();
    let detail = text(&problem, "detail");
    assert!(detail.contains("genesys does not work") && !detail.contains("users"), "{problem}");
    assert_eq!(credential(&problem, "users")["works"], Value::Null, "{problem}");
    installation.run(&["secret", "rm", "users", "--yes"]).done();
    let said = installation.run(&["check", "--online", "--credential", "users"]);
    assert_eq!(said.code, Some(1), "{}{}", said.out, said.err);
    assert!(said.out.contains("users: does not work"), "{}", said.out);
}

/// A document in a Vault is read there, beside an embedded store and without any.
#[cfg(feature = "vault")]
#[test]
fn online_reads_a_document_where_the_configuration_keeps_it() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let vault = Arc::new(kh_fakes::vault::Vault::new()) as Arc<dyn kh_fakes::Fake>;
    let fake = runtime.block_on(kh_fakes::start(vault, kh_fakes::Options::default())).unwrap();
    let installation = Installation::new();
    let ready = fake.ready();
    let token = text(&ready, "root_token");
    let document = json!({ "data": installation.sandbox.genesys_document() }).to_string();
    let url = format!("{}/v1/secret/data/team/app", fake.url);
    let written = request("POST", &url, &[("X-Vault-Token", token)], document.as_bytes());
    assert!(written.status < 300, "{written:?}");

    let section = format!(
        "[secret_store.v]\nkind = \"vault\"\naddress = \"{}\"\ntoken_file = \"token\"\n\
         [credential.far]\nplatform = \"genesys\"\nsecret = \"v:team/app\"\n",
        fake.url
    );
    let beside = installation.path("keyholder.toml");
    let config = fs::read_to_string(&beside).unwrap();
    fs::write(&beside, config + &section).unwrap();
    let alone = tempfile::tempdir().unwrap();
    let platform = installation.sandbox.url();
    let config = format!(
        "{BARE_CONFIG}[state]\ndir = \"state\"\n[platform.genesys]\nkind = \"genesys\"\n\
         login_url = \"{platform}\"\napi_url = \"{platform}\"\n"
    );
    fs::write(alone.path().join("keyholder.toml"), config.clone() + &section).unwrap();
    for folder in [installation.folder.path(), alone.path()] {
        fs::write(folder.join("token"), token).unwrap();
        fs::set_permissions(folder.join("token"), fs::Permissions::from_mode(0o600)).unwrap();
        let mut command = keyholder();
        command.current_dir(folder).args(["check", "--online", "--output", "json"]);
        let answer = run(&mut command, b"").json();
        assert_eq!(credential(&answer, "far")["works"], true, "{answer}");
    }

    let elsewhere = section.replace("team/app", "team/nothing");
    fs::write(alone.path().join("keyholder.toml"), config + &elsewhere).unwrap();
    let said = run(keyholder().current_dir(alone.path()).args(["check", "--online"]), b"");
    assert_eq!(said.code, Some(1), "{}{}", said.out, said.err);
    assert!(said.out.contains("v:team/nothing") && said.err.contains("put the document there"), "{said:?}");
    assert!(!alone.path().join("state").exists(), "a check makes nothing");
}

#[test]
fn a_credential_that_does_not_work_is_tried_once_and_told() {
    let installation = Installation::new();
    let mut wrong = installation.sandbox.genesys_document();
    wrong["client_secret"] = json!("x".repeat(43));
    installation.store_secret("genesys", &wrong);
    let said = installation.run(&["check", "--online", "--output", "json"]);
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert_eq!(said.out, "");
    let problem: Value = serde_json::from_str(&said.err).unwrap();
    assert_eq!(text(&problem, "code"), "keyholder.credential.rejected");
    let (bad, good) = (credential(&problem, "genesys"), credential(&problem, "cxone"));
    assert_eq!((&bad["works"], &good["works"]), (&json!(false), &json!(true)), "{problem}");
    assert_eq!(installation.sandbox.count("POST /oauth/token"), 1, "a wrong secret is sent once");
    let said = installation.run(&["check", "--online", "--credential", "genesys"]);
    assert_eq!(said.code, Some(1));
    assert!(said.out.contains("genesys: does not work") && said.err.contains("sent once"), "{}{}", said.out, said.err);
    assert!(!said.err.contains(&"x".repeat(43)));
    let unknown = installation.run(&["check", "--online", "--credential", "genesis"]);
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.err.contains("did you mean genesys?"), "{}", unknown.err);
}

#[test]
fn refused_addresses_wrong_clocks_and_absent_platforms_are_named() {
    let installation = Installation::new();
    let faults = |path: &str| {
        let rule =
            json!({ "match": { "path": path }, "effect": { "kind": "unauthorized", "code": "ip.not.authorized" } });
        installation.sandbox.control("PUT", "faults", &json!({ "rules": [rule] }));
    };
    for path in ["/oauth/token", "/api/v2/tokens/me"] {
        faults(path);
        let said = installation.run(&["check", "--online", "--credential", "genesys"]);
        assert_eq!(said.code, Some(1), "{path}: {}{}", said.out, said.err);
        assert!(said.out.contains("ip.not.authorized"), "{path}: {}", said.out);
        assert!(said.err.contains("allow this machine's address"), "{path}: {}", said.err);
    }
    installation.sandbox.control("PUT", "faults", &json!({ "rules": [] }));
    installation.sandbox.control("POST", "clock", &json!({ "shift_seconds": 600 }));
    let answer = installation.run(&["check", "--online", "--credential", "genesys", "--output", "json"]).json();
    let skew = credential(&answer, "genesys")["clock_skew_seconds"].as_i64().unwrap();
    assert!((599..=601).contains(&skew), "{skew}");
    let shown = installation.run(&["check", "--online", "--credential", "genesys"]).done();
    assert!(shown.contains("s behind the platform: set its clock"), "{shown}");

    let Installation { folder, sandbox } = installation;
    sandbox.process.kill();
    let mut command = keyholder();
    command.arg("--config").arg(folder.path().join("keyholder.toml")).args(["check", "--online"]);
    let said = run(&mut command, b"");
    assert_eq!(said.code, Some(3), "{}{}", said.out, said.err);
    assert!(said.out.contains("genesys: could not be tried"), "{}", said.out);
}

#[test]
fn what_the_collector_of_telemetry_needs_is_looked_at() {
    let lines = "[telemetry]\notlp_endpoint = \"http://127.0.0.1:9\"\nheaders_file = \"otlp.headers\"\n";
    let installation = Installation::with("", lines);
    let file = installation.path("otlp.headers");
    let write = |content: &str, mode: u32| {
        fs::write(&file, content).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    };
    let good = "x-api-key=collector-key-0123456789\n";
    let refused = |told: &str| {
        let said = installation.run(&["check", "--output", "json"]);
        assert_eq!(said.code, Some(1), "{told}: {}", said.err);
        assert!(!said.err.contains("collector-key"), "{}", said.err);
        let problem: Value = serde_json::from_str(&said.err).unwrap();
        let findings = problem["findings"].as_array().unwrap();
        assert_eq!((findings.len(), &findings[0]["subject"]), (1, &json!("[telemetry]")), "{problem}");
        assert!(text(&findings[0], "problem").contains(told), "{told}: {problem}");
    };
    refused("otlp.headers cannot be read");
    write(good, 0o644);
    refused("otlp.headers may be read by others");
    let said = installation.run(&["check"]);
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert!(said.err.contains("hint: [telemetry]: ") && said.err.contains("may be read by others"), "{}", said.err);
    // as it ends a start; the file alone is fine
    let said = installation.run(&["serve"]);
    assert_eq!(said.code, Some(2), "{}", said.err);
    assert!(said.err.contains("otlp.headers may be read by others"), "{}", said.err);
    installation.run(&["check", "--syntax"]).done();
    write("collector-key-0123456789\n", 0o640);
    refused("are not name=value pairs");
    write(good, 0o640);
    installation.run(&["check"]).done();

    let config = installation.path("keyholder.toml");
    fs::write(&config, fs::read_to_string(&config).unwrap() + "extra_ca = \"ca.pem\"\n").unwrap();
    refused("ca.pem cannot be read");
    fs::write(installation.path("ca.pem"), "no certificate").unwrap();
    refused("");
}

#[test]
fn the_log_files_are_looked_at_and_not_made() {
    let lines = "[log]\nfile = \"nowhere/keyholder.log\"\naccess = \"access\"\n";
    let installation = Installation::with("", lines);
    fs::create_dir(installation.path("access")).unwrap();
    let said = installation.run(&["check"]);
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert!(said.err.contains("[log] file: ") && said.err.contains("[log] access: "), "{}", said.err);
    assert_eq!(installation.run(&["serve"]).code, Some(2), "the one");
    fs::create_dir(installation.path("nowhere")).unwrap();
    assert_eq!(installation.run(&["serve"]).code, Some(2), "and the other");
    let said = installation.run(&["check"]);
    assert!(!said.err.contains("[log] file: ") && said.err.contains("[log] access: "), "{}", said.err);
    fs::remove_dir(installation.path("access")).unwrap();
    fs::remove_file(installation.path("nowhere/keyholder.log")).unwrap();
    installation.run(&["check"]).done();
    assert!(!installation.path("access").exists() && !installation.path("nowhere/keyholder.log").exists());
}

/// Names, sizes, times and contents of everything below a folder.
fn picture(folder: &Path) -> BTreeMap<String, (SystemTime, Vec<u8>)> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(picture(&path));
        } else {
            let modified = fs::metadata(&path).unwrap().modified().unwrap();
            all.insert(path.display().to_string(), (modified, fs::read(&path).unwrap()));
        }
    }
    all
}

#[test]
fn checking_makes_and_changes_nothing() {
    let installation = Installation::new();
    installation.add_client("app", &["--credential", "genesys", "--allow-all"]);
    let state = installation.path("state");
    let names = |of: &BTreeMap<String, (SystemTime, Vec<u8>)>| of.keys().cloned().collect::<Vec<_>>();
    for words in [&["check"][..], &["check", "--online"]] {
        let before = picture(&state);
        installation.run(words).done();
        let after = picture(&state);
        assert_eq!(names(&before), names(&after), "{words:?}");
        for (name, (_, content)) in &before {
            assert!(after[name].1 == *content, "{words:?} changed {name}");
        }
    }
    // without the log and the registry it makes neither
    for gone in ["audit.log", "audit.checkpoints", "state.db"] {
        fs::remove_file(state.join(gone)).unwrap();
    }
    let before = picture(&state);
    installation.run(&["check", "--online"]).done();
    assert_eq!(names(&before), names(&picture(&state)));
    // and without a state folder it makes none
    let folder = tempfile::tempdir().unwrap();
    fs::copy(installation.path("keyholder.toml"), folder.path().join("keyholder.toml")).unwrap();
    for words in [&["check"][..], &["check", "--online", "--credential", "genesys"]] {
        let said = run(keyholder().current_dir(folder.path()).args(words), b"");
        assert_eq!(said.code, Some(1), "{}", said.err);
        assert!(said.err.contains("the secret store does not exist yet"), "{}", said.err);
    }
    assert_eq!(names(&picture(folder.path())).len(), 1);
}

#[test]
fn well_known_mistakes_are_found_in_any_text() {
    let folder = tempfile::tempdir().unwrap();
    let secret = "aB3dE5fG7hI9jK1lM3nO5pQ7rS9tU1vW3xY5zA7bC9d";
    let settings = format!(
        "# Genesys Cloud\nCLIENT_SECRET = \"{secret}\"\nTOKEN_URL = \"https://api.mypurecloud.de/oauth/token\"\n\
         left = response.headers[\"X-Rate-Limit-Remaining\"]\nscope = \"offline_access user:read\"\n"
    );
    fs::write(folder.path().join("settings.py"), settings).unwrap();
    fs::write(folder.path().join("good.py"), "# Genesys Cloud\nURL = \"https://login.mypurecloud.de/oauth/token\"\n")
        .unwrap();
    let check = |words: &[&str], input: &str| {
        run(keyholder().current_dir(folder.path()).arg("check").args(words), input.as_bytes())
    };
    let said = check(&["--snippet", "settings.py", "--snippet", "good.py", "--output", "json"], "");
    assert_eq!(said.code, Some(1), "{}", said.err);
    let answer: Value = serde_json::from_str(&said.out).unwrap();
    let found: Vec<_> =
        answer["findings"].as_array().unwrap().iter().map(|f| (text(f, "name"), f["line"].as_u64())).collect();
    assert_eq!(
        found,
        [
            ("token-at-api-host", Some(3)),
            ("rate-limit-headers", Some(4)),
            ("scope-offline-access", Some(5)),
            ("scope-users", Some(5))
        ]
    );
    assert!(!said.out.contains(secret));
    let shown = check(&["--snippet", "settings.py"], "");
    assert!(shown.out.contains("settings.py:3:14: https://api.mypurecloud.de/oauth/token"), "{}", shown.out);
    assert!(shown.out.contains("right: https://login.mypurecloud.de/oauth/token"), "{}", shown.out);
    assert_eq!(check(&["--snippet", "good.py"], "").code, Some(0));
    assert_eq!(check(&["--snippet", "-"], "https://acme.mygenesys.com").code, Some(1));
    assert_eq!(check(&["--snippet", "nowhere"], "").code, Some(2));
    assert_eq!(check(&["--snippet", "-"], &"x".repeat(1024 * 1024 + 1)).code, Some(2));
}
