//! Copies between places, the report, and stores that this keyholder cannot make.

use std::{fs, os::unix::fs::PermissionsExt, sync::Arc};

use serde_json::{Value, json};

use super::world::World;
use crate::harness::{eventually, request, text};

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
    // each column: the sandbox's clients were made by the admin client, which a person of the organisation made
    let owner = |row: &Value| (row["owner"]["kind"].to_string(), row["owner"]["name"].to_string());
    assert_eq!(owner(row("app")), ("\"client\"".to_owned(), "\"admin\"".to_owned()), "{report}");
    assert_eq!(row("admin")["owner"]["kind"], "user", "{report}");
    assert!(!text(&row("admin")["owner"], "basis").is_empty(), "{report}");
    assert!(findings(row("admin")).contains("not rotated"), "{report}");
    for (name, age) in [("app", 0), ("admin", 90)] {
        assert!(!text(row(name), "created_at").is_empty() && row(name)["age_days"] == age, "{report}");
    }
    let key = rows.iter().find(|row| row["platform"] == "cxone");
    assert!(key.is_none(), "a platform without a rotator is not asked: {report}");
    let csv = world.run(&["secret", "report", "--format", "csv"]);
    assert!(csv.out.starts_with("\"platform\",") && csv.out.contains("\"'=stray\""), "{}", csv.out);
    let html = world.run(&["secret", "report", "--format", "html"]);
    assert!(html.out.starts_with("<!DOCTYPE html>") && html.out.contains("=stray"), "{}", html.out);
}

#[test]
fn the_report_tells_keys_and_stores_and_what_is_being_replaced() {
    let world = World::new("strategy = \"pair\"\ntargets = [\"store:app-too\"]", "");
    let file = world.installation.path("keyholder.toml");
    let config = fs::read_to_string(&file).unwrap();
    let keyed = config.replace("kind = \"cxone\"\n", "kind = \"cxone\"\nrotator = \"cxone\"\n");
    fs::write(&file, keyed).unwrap();
    world.installation.store_secret("app-too", &world.installation.sandbox.genesys_document());
    let (_, report) = world.told(&["secret", "report", "--uses"]);
    let rows = report["clients"].as_array().unwrap();
    let app = rows.iter().find(|row| row["name"] == "app").unwrap();
    assert!(app["findings"].to_string().contains("stores disagree: store:app-too"), "{report}");
    let key = rows.iter().find(|row| row["platform"] == "cxone").unwrap_or_else(|| panic!("{report}"));
    assert_eq!((text(key, "credential"), &key["owner"]["kind"]), ("cxone", &"user".into()), "{report}");
    assert!(!text(key, "last_used_at").is_empty() && key["uses"].is_u64(), "{report}");

    world.installation.store_secret("app-too", &world.first);
    assert_eq!(world.told(&["rotate", "run", "app"]).0, Some(3));
    let (_, report) = world.told(&["secret", "report"]);
    let ours = report["clients"].as_array().unwrap().iter().filter(|row| row["credential"] == "app");
    let findings: Vec<_> = ours.map(|row| row["findings"].to_string()).collect();
    assert_eq!(findings.len(), 2, "{report}");
    assert!(findings.iter().any(|told| told.contains("being replaced")), "{report}");
    assert!(!findings.iter().any(|told| told.contains("unmanaged")), "{report}");
}

#[test]
fn secrets_that_no_rotation_made_are_told() {
    let world = World::on("[behaviours]\nsecrets_api = true\n", "secrets_api = true\n", "strategy = \"overlap\"", "");
    let told = || {
        let (_, report) = world.told(&["secret", "report"]);
        let rows = report["clients"].as_array().unwrap().clone();
        rows.iter().find(|row| row["credential"] == "app").unwrap()["findings"].to_string()
    };
    assert_eq!(told(), "[]");
    let url = world.installation.sandbox.url();
    let token = super::world::log_in(url, &world.installation.sandbox.genesys_document()).unwrap();
    let bearer = format!("Bearer {token}");
    let path = format!("{url}/api/v2/oauth/clients/{}/secrets", text(&world.first, "client_id"));
    assert_eq!(request("POST", &path, &[("Authorization", &bearer)], b"").status, 200);
    assert!(told().contains("unknown secrets: the client has 2"), "{}", told());
}

#[cfg(not(feature = "google"))]
#[test]
fn a_kind_that_was_not_built_is_told_with_its_section() {
    let world = World::new("", "[secret_store.g]\nkind = \"google\"\nproject = \"acme\"\n");
    let (code, problem) = world.told(&["rotate", "plan"]);
    assert_eq!((code, text(&problem, "code")), (Some(2), "keyholder.config.invalid"), "{problem}");
    assert!(text(&problem, "detail").contains("[secret_store.g] is of the kind google"), "{problem}");
}

/// A strict fake on a runtime of its own.
struct Fake {
    running: kh_fakes::Running,
    _runtime: tokio::runtime::Runtime,
}

impl Fake {
    fn start(fake: Arc<dyn kh_fakes::Fake>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let running = runtime.block_on(kh_fakes::start(fake, kh_fakes::Options::default())).unwrap();
        Self { running, _runtime: runtime }
    }

    /// How often this was asked and done.
    #[cfg(feature = "vault")]
    fn count(&self, operation: &str) -> usize {
        let journal = self.running.control.journal();
        journal.iter().filter(|entry| entry.operation == operation && entry.status == 200).count()
    }
}

#[cfg(feature = "google")]
#[test]
fn secret_manager_is_a_place_like_the_others() {
    let fake = Fake::start(Arc::new(kh_fakes::google::SecretManager::default()));
    let url = &fake.running.url;
    let store = format!("[secret_store.g]\nkind = \"google\"\nproject = \"acme\"\nendpoint = \"{url}\"\n");
    let world = World::new("strategy = \"pair\"\ntargets = [\"g:app\"]", &store);
    // the pod's service account, from the metadata server
    let metadata = fake.running.address.to_string();
    let run = |words: &[&str]| {
        let mut command = world.installation.command(words);
        crate::harness::run(command.env("GCE_METADATA_HOST", &metadata), b"")
    };
    run(&["secret", "copy", "store:app", "g:app"]).done();
    run(&["secret", "copy", "g:app", "store:again"]).done();
    // nobody was seen with the new secret yet, so the old one stays; it is written everywhere
    let ran = run(&["rotate", "run", "app"]);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert_eq!(run(&["secret", "copy", "store:again", "store:app"]).code, Some(1), "another document is there");
    let same = run(&["--output", "json", "secret", "copy", "store:app", "g:app"]).json();
    assert_eq!(same["copied"], false, "the rotation wrote the same into both: {same}");
    assert_eq!(world.state(), "overlap");
}

/// While it serves, a login lives on by renewals without any use, and one that was lost is made anew. A credential whose
/// first store is out of reach is read from the other region.
#[cfg(feature = "vault")]
#[test]
fn a_login_at_vault_is_kept_while_serving() {
    let vault = Arc::new(kh_fakes::vault::Vault::new());
    let fake = Fake::start(Arc::clone(&vault) as Arc<dyn kh_fakes::Fake>);
    let ready = fake.running.ready();
    let root = |method: &str, path: &str, body: &Value| {
        let url = format!("{}/v1/{path}", fake.running.url);
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let answer = request(method, &url, &[("X-Vault-Token", text(&ready, "root_token"))], &body);
        assert!(answer.status < 300, "{path}: {answer:?}");
        serde_json::from_slice(&answer.body).unwrap_or(Value::Null)
    };
    let policy = json!({ "path": { "secret/*": { "capabilities": ["read", "list"] } } }).to_string();
    root("PUT", "sys/policies/acl/keyholder", &json!({ "policy": policy }));
    let role = json!({ "token_policies": ["keyholder"], "token_ttl": 6, "token_max_ttl": 3600 });
    root("POST", "auth/approle/role/kh", &role);
    let role_id = root("GET", "auth/approle/role/kh/role-id", &Value::Null);
    let secret_id = root("POST", "auth/approle/role/kh/secret-id", &json!({}));

    let world = World::new(
        "",
        &format!(
            "[secret_store.west]\nkind = \"vault\"\naddress = [\"http://127.0.0.1:9\", \"{}\"]\nrole_id_file = \"role\"\n\
             secret_id_file = \"secret\"\n\
             [secret_store.east]\nkind = \"vault\"\naddress = \"http://127.0.0.1:9\"\ntoken_file = \"secret\"\n\
             fallback = [\"west\"]\n\
             [credential.far]\nplatform = \"genesys\"\nsecret = \"east:team/app\"\n",
            fake.running.url
        ),
    );
    root("POST", "secret/data/team/app", &json!({ "data": world.first }));
    for (name, value) in
        [("role", text(&role_id["data"], "role_id")), ("secret", text(&secret_id["data"], "secret_id"))]
    {
        fs::write(world.installation.path(name), value).unwrap();
        fs::set_permissions(world.installation.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let server = world.installation.serve();
    eventually(&true, || fake.count("auth.login") >= 1);
    eventually(&true, || fake.count("auth.renew-self") >= 1);
    let guard = server.guard();
    let token = || {
        let url = format!("{}/v1/token/far", server.broker());
        request("GET", &url, &[("X-Keyholder-Token", &guard)], b"").status
    };
    eventually(&200, token);
    let logins = fake.count("auth.login");
    vault.revoke_tokens();
    eventually(&true, || fake.count("auth.login") > logins);
    let (code, log) = server.process.stop();
    assert_eq!(code, Some(0), "{log}");
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
