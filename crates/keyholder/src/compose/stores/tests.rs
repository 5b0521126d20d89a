//! What the sections of secret stores are made into, and which logins are kept.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use clap::Parser;
use kh_core::{ManualClock, UnixMillis};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::*;
use crate::{
    cli::{Context, Globals},
    environment::Environment,
    output::Terminal,
};

#[derive(Parser)]
struct Words {
    #[command(flatten)]
    globals: Globals,
}

fn loaded_with(folder: &Path, config: &str, variables: &[(&str, &str)]) -> Loaded {
    let home = [("HOME", "/nonexistent")];
    let environment = Environment::of_pairs(&[home.as_slice(), variables].concat());
    let globals = Words::parse_from(["keyholder"]).globals;
    let context = Context::new(globals, Terminal::new(crate::output::OutputFormat::Text, &environment), environment);
    let file = folder.join("keyholder.toml");
    context.load_text(&file, config.as_bytes()).unwrap_or_else(|failure| panic!("{}", failure.in_one_line()))
}

fn loaded(folder: &Path, config: &str) -> Loaded {
    loaded_with(folder, config, &[])
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::at(UnixMillis(1_790_000_000_000)))
}

fn write(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join(name), text).unwrap();
    fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o600)).unwrap();
}

fn name(text: &str) -> StoreName {
    text.parse().unwrap()
}

/// What is wrong with the one store, with its hint.
fn wrong(loaded: &Loaded) -> String {
    let all = broken_stores(loaded, &clock());
    let [(_, failure)] = all.as_slice() else { panic!("{} stores are broken", all.len()) };
    failure.to_value().to_string()
}

const GOOGLE: &str = "[secret_store.g]\nkind = \"google\"\nproject = \"acme\"\n";

#[cfg(not(feature = "google"))]
#[test]
fn a_kind_that_was_not_built_is_told_with_its_feature() {
    let folder = tempfile::tempdir().unwrap();
    let told = wrong(&loaded(folder.path(), GOOGLE));
    assert!(told.contains("[secret_store.g] is of the kind google, which this keyholder was built without"), "{told}");
    assert!(told.contains("--features google"), "{told}");
}

#[cfg(feature = "google")]
#[test]
fn google_is_refused_where_its_client_would_take_another_way() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let with = |lines: &str| loaded(at, &format!("{GOOGLE}{lines}"));
    assert!(broken_stores(&with(""), &clock()).is_empty());
    let variable = [("HTTPS_PROXY", "http://127.0.0.1:3128")];
    let told = wrong(&loaded_with(at, GOOGLE, &variable));
    assert!(told.contains("HTTPS_PROXY, which [network] does not name"), "{told}");
    let environment = format!("{GOOGLE}[network]\nproxy = \"environment\"\n");
    assert!(broken_stores(&loaded_with(at, &environment, &variable), &clock()).is_empty());
    let told = wrong(&with("[network]\nproxy = \"http://127.0.0.1:3128\"\n"));
    assert!(told.contains("would not take the proxy of [network]"), "{told}");
    let told = wrong(&with("[network]\nsource_address = [\"192.0.2.10\"]\n"));
    assert!(told.contains("source_address"), "{told}");
    let told = wrong(&with("alias = \"latest\"\n"));
    assert!(told.contains("is not latest"), "{told}");
}

#[cfg(feature = "google")]
#[test]
fn googles_credentials_file_tells_what_it_is_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let config = format!("{GOOGLE}credentials_file = \"google.json\"\n");
    assert!(wrong(&loaded(at, &config)).contains("google.json cannot be read"));
    for document in ["{\"type\":\"authorized_user\",\"refresh_token\":\"MARKED\"}", "MARKED", "{\"type\":1}"] {
        write(at, "google.json", document);
        let told = wrong(&loaded(at, &config));
        assert!(told.contains("service_account or external_account") && !told.contains("MARKED"), "{told}");
    }
    for document in ["{\n  \"type\": \"service_account\"\n}\n", "{\"type\":\"external_account\"}"] {
        write(at, "google.json", document);
        assert!(broken_stores(&loaded(at, &config), &clock()).is_empty());
    }
}

#[cfg(feature = "vault")]
mod vault {
    use kh_core::rotation::SecretPath;
    use kh_fakes::{
        Options, Running, start,
        vault::{Leader, Node, Vault},
    };

    use super::*;

    struct Server {
        fake: Arc<Vault>,
        running: Running,
    }

    async fn node() -> Server {
        let fake = Arc::new(Vault::new());
        let running = start(fake.clone(), Options::default()).await.unwrap();
        Server { fake, running }
    }

    fn config(address: &str) -> String {
        format!("[secret_store.v]\nkind = \"vault\"\naddress = {address}\ntoken_file = \"token\"\n")
    }

    /// `read` by the store of the configuration, from a cluster of an address where nobody listens, a sealed node, a
    /// standby, and the active one.
    #[tokio::test]
    async fn the_next_node_is_asked_when_one_is_out_of_reach_sealed_or_a_standby() {
        let folder = tempfile::tempdir().unwrap();
        let (sealed, standby, active) = (node().await, node().await, node().await);
        sealed.fake.set_sealed(true);
        standby.fake.set_node(Node::Standby(Leader::Redirects("https://elsewhere.example".to_owned())));
        write(folder.path(), "token", &active.fake.root_token());
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let urls = [format!("http://{closed}"), sealed.running.url.clone(), standby.running.url.clone()];
        let listed = |urls: &[String]| config(&format!("{urls:?}"));
        let path: SecretPath = "nothing/there".parse().unwrap();
        let read = async |config: &str| {
            let made = targets(&loaded(folder.path(), config), &clock()).unwrap();
            made.get(&name("v")).unwrap().live(&path).await
        };
        let whole = [urls.as_slice(), std::slice::from_ref(&active.running.url)].concat();
        let found = read(&listed(&whole)).await;
        assert!(matches!(found, Err(kh_core::port::TargetError::NotFound(_))), "{found:?}");
        assert!(!sealed.running.control.journal().is_empty() && !standby.running.control.journal().is_empty());
        let without = read(&listed(&urls)).await;
        assert!(matches!(without, Err(kh_core::port::TargetError::Unavailable(_))), "{without:?}");
        let one = read(&config(&format!("{:?}", active.running.url))).await;
        assert!(matches!(one, Err(kh_core::port::TargetError::NotFound(_))), "one address as a text: {one:?}");
    }

    const APPROLE: &str = "[secret_store.v]\nkind = \"vault\"\naddress = \"https://vault.example.com\"\n\
                           role_id_file = \"role\"\nsecret_id_file = \"secret\"\n";

    #[test]
    fn a_store_stays_until_something_that_it_is_made_of_changes() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        write(at, "role", "first");
        let mut last = targets(&loaded(at, APPROLE), &clock()).unwrap();
        let mut next = |config: &str| {
            let made = targets_after(&last, &loaded(at, config), &clock()).unwrap();
            let stays = Arc::ptr_eq(made.get(&name("v")).unwrap(), last.get(&name("v")).unwrap());
            last = made;
            stays
        };
        assert!(next(APPROLE), "nothing changed");
        let beside = format!("{APPROLE}[secret_store.w]\nkind = \"aws\"\nregion = \"eu-central-1\"\n");
        assert!(next(&beside), "another store came");
        assert!(!next(&format!("{beside}[network]\nproxy = \"http://127.0.0.1:9\"\n")), "another way out");
        assert!(!next(APPROLE), "and back");
        write(at, "role", "second");
        assert!(!next(APPROLE), "another role id");
        assert!(!next(&APPROLE.replace("vault.", "vault-2.")), "another address");
    }

    #[tokio::test]
    async fn each_login_is_kept_by_one_task_until_its_store_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        write(at, "role", "first");
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let logins = Logins::new(&tasks, &stop);
        let first = targets(&loaded(at, APPROLE), &clock()).unwrap();
        logins.keep(&first);
        assert_eq!(tasks.len(), 1);
        let same = targets_after(&first, &loaded(at, APPROLE), &clock()).unwrap();
        logins.keep(&same);
        assert_eq!(tasks.len(), 1, "the same store is not kept twice");
        logins.keep(&Targets::default());
        let ended = async |what: &str| {
            for _ in 0..1000 {
                if tasks.is_empty() {
                    return;
                }
                tokio::task::yield_now().await;
            }
            panic!("{what}");
        };
        ended("a store that is gone is not kept").await;
        logins.keep(&same);
        assert_eq!(tasks.len(), 1);
        stop.cancel();
        ended("nothing is kept after the end").await;
    }
}
