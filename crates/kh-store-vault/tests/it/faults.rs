//! What goes wrong on the way, and what is said of it.

use std::time::Duration;

use kh_core::{
    SecretBytes,
    port::{SecretTarget, TargetError},
    rotation::VersionId,
};
use kh_fakes::{
    Fault, Options, start,
    vault::{Leader, Node},
};
use kh_store::conformance::target::Bench;
use kh_store_vault::{Auth, PlainHttp, ServerAddress, VaultConfig, VaultStore};
use tokio::{net::TcpListener, time::timeout};

use crate::world::{World, place, world, write};

/// A store with version 1 live at `acme` and write 2 staged.
async fn prepared(world: &World) -> (VaultStore, VersionId) {
    let store = world.store();
    let at = place("acme");
    let (token, document) = write(1);
    store.stage(&at, token, &document).await.unwrap();
    let version = store.promote(&at, token, None).await.unwrap();
    let (token, document) = write(2);
    store.stage(&at, token, &document).await.unwrap();
    (store, version)
}

async fn promote(store: &VaultStore, expect: &VersionId) -> Result<VersionId, TargetError> {
    store.promote(&place("acme"), write(2).0, Some(expect)).await
}

async fn live(store: &VaultStore) -> (SecretBytes, VersionId) {
    let live = store.live(&place("acme")).await.unwrap();
    (live.value, live.version)
}

#[tokio::test]
async fn what_became_of_a_write_without_an_answer_is_unknown_and_a_repeat_finds_out() {
    for (fault, done) in [
        (Fault::DropAfter, true),
        (Fault::DropBefore, false),
        (Fault::FailAfter, true),
        (Fault::FailBefore, false),
        (Fault::Answer { status: 502, body: "<html>bad gateway</html>".to_owned() }, false),
        (Fault::Answer { status: 503, body: String::new() }, false),
        (Fault::Answer { status: 200, body: "{}".to_owned() }, false),
    ] {
        let world = world().await;
        let (store, expect) = prepared(&world).await;
        world.running.control.fault(fault.clone().once().on("kv.write"));
        let ended = promote(&store, &expect).await;
        assert!(matches!(ended, Err(TargetError::Unknown(_))), "{fault:?}: {ended:?}");
        assert_eq!(live(&store).await.1.0, if done { "2" } else { "1" }, "{fault:?}");
        assert_eq!(promote(&store, &expect).await.unwrap().0, "2", "{fault:?}: the repeat");
        assert_eq!(live(&store).await.1.0, "2", "{fault:?}: written once");
    }
}

#[tokio::test]
async fn a_read_that_fails_changes_nothing_and_may_be_repeated() {
    for fault in [Fault::DropBefore, Fault::FailBefore, Fault::Answer { status: 412, body: String::new() }] {
        let world = world().await;
        let (store, expect) = prepared(&world).await;
        world.running.control.fault(fault.clone().once().on("kv.read"));
        let ended = promote(&store, &expect).await;
        assert!(matches!(ended, Err(TargetError::Unavailable(_))), "{fault:?}: {ended:?}");
        assert_eq!(live(&store).await.1, expect);
        promote(&store, &expect).await.unwrap();
    }
}

#[tokio::test]
async fn a_write_that_cannot_be_read_back_is_unknown() {
    let world = world().await;
    let (store, expect) = prepared(&world).await;
    world.running.control.fault(Fault::FailBefore.once().on("kv.read").after(2));
    let ended = promote(&store, &expect).await;
    assert!(matches!(&ended, Err(TargetError::Unknown(text)) if text.contains("read back")), "{ended:?}");
    assert_eq!(promote(&store, &expect).await.unwrap().0, "2");
}

#[tokio::test]
async fn limits_seal_and_upgrades_are_typed_and_nothing_is_done() {
    let world = world().await;
    let (store, expect) = prepared(&world).await;
    let control = &world.running.control;
    let changes = control.changes();
    control.fault(Fault::Throttle { retry_after_seconds: Some(7) }.once().on("kv.write"));
    let ended = promote(&store, &expect).await;
    assert!(matches!(ended, Err(TargetError::Throttled(Some(wait))) if wait.as_secs() == 7), "{ended:?}");
    control.fault(Fault::Throttle { retry_after_seconds: None }.once());
    assert!(matches!(promote(&store, &expect).await, Err(TargetError::Throttled(None))));
    world.fake.set_sealed(true);
    let ended = promote(&store, &expect).await;
    assert!(matches!(&ended, Err(TargetError::Unavailable(text)) if text.contains("sealed")), "{ended:?}");
    world.fake.set_sealed(false);
    world.fake.set_upgrading(true);
    let ended = promote(&store, &expect).await;
    assert!(matches!(&ended, Err(TargetError::Unavailable(text)) if text.contains("upgrades")), "{ended:?}");
    world.fake.set_upgrading(false);
    world.fake.set_node(Node::Standby(Leader::None));
    let ended = promote(&store, &expect).await;
    assert!(matches!(&ended, Err(TargetError::Unavailable(text)) if text.contains("no active")), "{ended:?}");
    world.fake.set_node(Node::Standby(Leader::Forwards));
    assert_eq!(control.changes(), changes, "nothing was done meanwhile");
    promote(&store, &expect).await.unwrap();
}

#[tokio::test]
async fn a_403_in_the_middle_is_denied_where_the_token_is_good() {
    let world = world().await;
    let (store, expect) = prepared(&world).await;
    world.running.control.fault(Fault::Forbid.once().on("kv.write").times(2));
    let ended = promote(&store, &expect).await;
    assert!(matches!(&ended, Err(TargetError::Denied(text)) if text == "POST secret/data/acme"), "{ended:?}");
    assert_eq!(live(&store).await.1, expect);
}

#[tokio::test]
async fn a_replica_that_lags_is_no_conflict_and_the_engine_has_the_last_word() {
    let world = world().await;
    let (store, expect) = prepared(&world).await;
    let at = place("acme");
    let second = promote(&store, &expect).await.unwrap();
    let (token, document) = write(3);
    store.stage(&at, token, &document).await.unwrap();
    world.fake.lag("acme", 1);
    let third = store.promote(&at, token, Some(&second)).await.unwrap();
    assert_eq!(third.0, "3", "version 1 was read, before the planned 2; the engine's check-and-set decided");

    // live as 3, and a lagging read tells 2: a repeat neither writes again nor calls it a conflict
    let changes = world.running.control.changes();
    world.fake.lag("acme", 9);
    let ended = store.promote(&at, token, Some(&second)).await;
    assert!(matches!(ended, Err(TargetError::Unavailable(_) | TargetError::NotFound(_))), "{ended:?}");
    world.fake.lag("acme", 0);
    assert_eq!(store.promote(&at, token, Some(&second)).await.unwrap(), third);
    assert_eq!(world.running.control.changes(), changes);

    // somebody else writes 4, and the lagging read still tells the planned 3
    let (token, document) = write(4);
    store.stage(&at, token, &document).await.unwrap();
    world.foreign_write(&at, &SecretBytes::new(br#"{"client_secret":"by hand"}"#.to_vec())).await;
    world.fake.lag("acme", 9);
    let ended = store.promote(&at, token, Some(&third)).await;
    assert!(matches!(&ended, Err(TargetError::Unavailable(text)) if text.contains("lags")), "{ended:?}");
    world.fake.lag("acme", 0);
    let ended = store.promote(&at, token, Some(&third)).await;
    assert!(matches!(ended, Err(TargetError::Conflict { found: Some(_), .. })), "{ended:?}");
}

#[tokio::test]
async fn a_standby_that_points_elsewhere_gets_the_token_sent_to_known_addresses_alone() {
    let world = world().await;
    let (_, expect) = prepared(&world).await;
    let Auth::TokenFile(file) = world.token_file(&["keyholder"]) else { panic!("it is a file") };
    let standby = std::sync::Arc::new(kh_fakes::vault::Vault::new());
    let stranger = start(std::sync::Arc::new(kh_fakes::vault::Vault::new()), Options::default()).await.unwrap();
    let first = start(standby.clone(), Options::default()).await.unwrap();
    let address = |url: &str| ServerAddress::parse(url, PlainHttp::LoopbackOnly).unwrap();
    let addresses = vec![address(&first.url), world.address()];
    let config = VaultConfig::new(addresses, "secret", Auth::TokenFile(file)).unwrap();
    let store = VaultStore::new(config, world.http());
    standby.set_node(Node::Standby(Leader::Redirects(world.running.url.clone())));
    promote(&store, &expect).await.unwrap();
    assert_eq!(first.control.changes(), 0);

    let Auth::TokenFile(file) = world.token_file(&["keyholder"]) else { panic!("it is a file") };
    standby.set_node(Node::Standby(Leader::Redirects(stranger.url.clone())));
    let config = VaultConfig::new(vec![address(&first.url)], "secret", Auth::TokenFile(file)).unwrap();
    let alone = VaultStore::new(config, world.http());
    let ended = promote(&alone, &expect).await;
    assert!(matches!(&ended, Err(TargetError::Unavailable(text)) if text.contains("standby")), "{ended:?}");
    assert_eq!(stranger.control.journal(), []);
}

#[tokio::test]
async fn a_write_is_not_sent_to_a_second_server_when_the_first_may_have_done_it() {
    let world = world().await;
    let (_, expect) = prepared(&world).await;
    let second = start(world.fake.clone(), Options::default()).await.unwrap();
    let Auth::TokenFile(file) = world.token_file(&["keyholder"]) else { panic!("it is a file") };
    let addresses = vec![world.address(), ServerAddress::parse(&second.url, PlainHttp::LoopbackOnly).unwrap()];
    let store = VaultStore::new(VaultConfig::new(addresses, "secret", Auth::TokenFile(file)).unwrap(), world.http());
    world.running.control.fault(Fault::DropAfter.once().on("kv.write"));
    let ended = promote(&store, &expect).await;
    assert!(matches!(ended, Err(TargetError::Unknown(_))), "{ended:?}");
    assert_eq!(second.control.journal(), []);
    world.running.control.fault(Fault::DropAfter.once().on("kv.read"));
    assert_eq!(promote(&store, &expect).await.unwrap().0, "2", "a read goes to the second");
    assert!(!second.control.journal().is_empty());
}

/// A node that takes connections and says nothing, and its address.
async fn silent() -> (TcpListener, ServerAddress) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, ServerAddress::parse(&url, PlainHttp::LoopbackOnly).unwrap())
}

/// A read that reaches the silent node, and is given up after it waited so long.
async fn gives_up(world: &World, store: &VaultStore, silent: &TcpListener, after: Duration) {
    let at = place("acme");
    let mut asked = store.live(&at);
    let reached = tokio::select! {
        ended = &mut asked => panic!("another one was asked: {ended:?}"),
        reached = timeout(Duration::from_secs(10), silent.accept()) => reached,
    };
    let _connection = reached.expect("it is asked").unwrap();
    world.clock.advance(after);
    drop(asked);
}

#[tokio::test]
async fn a_node_that_hangs_is_not_asked_first_again_by_those_who_cannot_wait_for_it() {
    let world = world().await;
    let (_, expect) = prepared(&world).await;
    let (hangs, hanging) = silent().await;
    let (hangs_too, hanging_too) = silent().await;
    let (gone, nobody) = silent().await;
    drop(gone);
    let addresses = vec![hanging, hanging_too, nobody, world.address()];
    let config = VaultConfig::new(addresses, "secret", world.token_file(&["keyholder"])).unwrap();
    let store = VaultStore::new(config, world.http());
    gives_up(&world, &store, &hangs, Duration::from_millis(10)).await;
    gives_up(&world, &store, &hangs, Duration::from_secs(3)).await;
    gives_up(&world, &store, &hangs_too, Duration::from_secs(3)).await;
    let found = timeout(Duration::from_secs(10), live(&store)).await.expect("the one that answers is reached");
    assert_eq!(found.1, expect);
}

#[tokio::test]
async fn a_key_that_was_deleted_is_gone_and_comes_back_above_its_versions() {
    let world = world().await;
    let (store, expect) = prepared(&world).await;
    world.root("DELETE", "secret/data/acme", &[], &serde_json::Value::Null).await;
    let at = place("acme");
    assert!(matches!(store.live(&at).await, Err(TargetError::NotFound(_))));
    assert!(matches!(store.live_version(&at).await, Err(TargetError::NotFound(_))));
    let ended = promote(&store, &expect).await;
    assert!(matches!(ended, Err(TargetError::Conflict { found: None, .. })), "{ended:?}");
    assert_eq!(
        store.promote(&at, write(2).0, None).await.unwrap().0,
        "2",
        "planned as nothing, over a deleted version"
    );
}

#[tokio::test]
async fn no_failure_tells_a_secret() {
    let world = world().await;
    let (store, expect) = prepared(&world).await;
    let repeats = r#"{"errors":["invalid secret_id \"MARKER-secret-2\""]}"#.to_owned();
    let mut told = Vec::new();
    for status in [400, 403, 404, 405, 413, 500, 503] {
        for operation in ["kv.write", "kv.read", "auth", "sys"] {
            let fault = Fault::Answer { status, body: repeats.clone() };
            world.running.control.fault(fault.once().on(operation).times(2));
            let (token, document) = write(9);
            told.push(format!("{:?}", promote(&store, &expect).await.map_err(|error| format!("{error} {error:?}"))));
            told.push(format!("{:?}", store.stage(&place("other"), token, &document).await));
            told.push(format!("{:?}", store.check(&place("acme")).await));
            world.running.control.heal();
        }
    }
    let told = told.join("\n");
    assert!(told.contains("status 413") && !told.contains("MARKER") && !told.contains("hvs."), "{told}");
    assert!(!format!("{store:?}").contains("hvs."));
}

/// A server may take less than the adapter (`max_request_size`, or the storage's largest entry): that is no guess about
/// what became of the write, and no reason to try again.
#[tokio::test]
async fn a_server_that_takes_less_refuses_the_write_and_nothing_is_done() {
    let world = world().await;
    let (store, expect) = prepared(&world).await;
    let changes = world.running.control.changes();
    let body = r#"{"errors":["http: request body too large"]}"#.to_owned();
    world.running.control.fault(Fault::Answer { status: 413, body }.always().on("kv.write"));
    let ended = promote(&store, &expect).await;
    assert!(matches!(&ended, Err(TargetError::Unusable(text)) if text.contains("413")), "{ended:?}");
    let (token, document) = write(3);
    let ended = store.stage(&place("other"), token, &document).await;
    assert!(matches!(&ended, Err(TargetError::Unusable(text)) if text.contains("413")), "{ended:?}");
    assert_eq!((live(&store).await.1, world.running.control.changes()), (expect.clone(), changes));
    world.running.control.heal();
    promote(&store, &expect).await.unwrap();
}

/// A balancer that lets the health codes of secondaries through (472, 473) has asked a node that does nothing.
#[tokio::test]
async fn a_secondary_by_its_health_code_did_nothing_and_the_next_address_is_asked() {
    let world = world().await;
    let (store, expect) = prepared(&world).await;
    let second = start(world.fake.clone(), Options::default()).await.unwrap();
    let Auth::TokenFile(file) = world.token_file(&["keyholder"]) else { panic!("it is a file") };
    let addresses = vec![world.address(), ServerAddress::parse(&second.url, PlainHttp::LoopbackOnly).unwrap()];
    let two = VaultStore::new(VaultConfig::new(addresses, "secret", Auth::TokenFile(file)).unwrap(), world.http());
    for status in [472, 473] {
        let changes = world.running.control.changes();
        let fault = Fault::Answer { status, body: String::new() };
        world.running.control.fault(fault.clone().always());
        let ended = promote(&store, &expect).await;
        assert!(matches!(&ended, Err(TargetError::Unavailable(text)) if text.contains("standby")), "{ended:?}");
        assert_eq!(live(&two).await.1, expect, "{status}: read from the second");
        world.running.control.heal();
        assert_eq!(world.running.control.changes(), changes);
    }
    world.running.control.fault(Fault::Answer { status: 473, body: String::new() }.once().on("kv.write"));
    assert_eq!(promote(&two, &expect).await.unwrap().0, "2", "the write went to the second");
    assert!(second.control.changes() > 0);
}
