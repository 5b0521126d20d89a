//! The suite of all stores, by our own client and by another one.

use std::sync::Arc;

use kh_core::port::{SecretTarget, TargetError};
use kh_fakes::{Options, start};
use kh_net::{
    Egress,
    http::{HttpClient, Timeouts},
};
use kh_store::conformance::target::{self, Bench};
use kh_store_vault::{Auth, PlainHttp, ServerAddress, VaultConfig, VaultStore};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde_json::json;

use crate::{
    other_client::{Hvac, OtherClient},
    world::{RIGHTS, world},
};

#[tokio::test]
async fn the_vault_store_keeps_the_port_of_rotation() {
    let world = world().await;
    target::run(&world.store(), &world).await;
}

/// The suite without our client: what it asks for is the port's and the server's doing, not this adapter's.
#[tokio::test]
async fn vaultrs_keeps_the_port_of_rotation_too() {
    let world = world().await;
    target::run(&OtherClient(world.vaultrs()), &world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hvac_keeps_the_port_of_rotation_too() {
    let world = world().await;
    let hvac = Hvac::start(&world.running.url, &world.fake.root_token());
    target::run(&OtherClient(hvac), &world).await;
}

#[tokio::test]
async fn the_port_is_kept_where_the_engine_demands_check_and_set() {
    let world = world().await;
    world.root("POST", "secret/config", &[], &json!({"cas_required": true, "max_versions": 30})).await;
    // foreign writers of this suite write without it, so only what needs none of them
    let (store, path) = (world.store(), world.fresh_path());
    let (token, document) = crate::world::write(1);
    store.stage(&path, token, &document).await.unwrap();
    let version = store.promote(&path, token, None).await.unwrap();
    let (token, document) = crate::world::write(2);
    store.stage(&path, token, &document).await.unwrap();
    store.promote(&path, token, Some(&version)).await.unwrap();
    assert_eq!(store.check(&path).await.unwrap().warnings, Vec::<String>::new());
}

#[tokio::test]
async fn the_port_is_kept_in_a_namespace_and_behind_a_dead_first_address() {
    let world = world().await;
    world.root("POST", "sys/namespaces/team", &[], &json!({})).await;
    let inside: Vec<(String, &[&str])> = RIGHTS.iter().map(|(path, can)| ((*path).to_owned(), *can)).collect();
    let paths: serde_json::Map<_, _> =
        inside.iter().map(|(path, can)| (format!("team/{path}"), json!({"capabilities": can}))).collect();
    let policy = json!({"path": paths}).to_string();
    world.root("PUT", "sys/policies/acl/keyholder", &[], &json!({"policy": policy})).await;
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dead_url = format!("http://{}", dead.local_addr().unwrap());
    drop(dead);
    let addresses = vec![ServerAddress::parse(&dead_url, PlainHttp::LoopbackOnly).unwrap(), world.address()];
    let Auth::TokenFile(file) = world.token_file(&["keyholder"]) else { panic!("it is a file") };
    let config = VaultConfig::new(addresses, "secret", Auth::TokenFile(file)).unwrap().namespace("team/").unwrap();
    let store = Arc::new(VaultStore::new(config, world.http()));
    let path = world.fresh_path();
    let (token, document) = crate::world::write(1);
    store.stage(&path, token, &document).await.unwrap();
    store.promote(&path, token, None).await.unwrap();
    assert_eq!(world.consumer_read(&path).await.map(|_| ()), None, "the root namespace has nothing there");
    let outside = world.store().live(&path).await;
    assert!(matches!(outside, Err(TargetError::Denied(_) | TargetError::NotFound(_))), "{outside:?}");
    assert_eq!(store.list("", 10).await.unwrap(), [path]);
}

#[tokio::test]
async fn tls_is_verified_and_a_stranger_sees_no_request() {
    let world = world().await;
    let secure = start(world.fake.clone(), Options::tls()).await.unwrap();
    let pem = secure.ca_pem.as_ref().unwrap();
    let root = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let Auth::TokenFile(file) = world.token_file(&["keyholder"]) else { panic!("it is a file") };
    let store_trusting = |roots: &[CertificateDer<'static>]| {
        let egress = Arc::new(Egress::trusting(roots).unwrap());
        let address = ServerAddress::parse(&secure.url, PlainHttp::LoopbackOnly).unwrap();
        let config = VaultConfig::new(vec![address], "secret", Auth::TokenFile(file.clone())).unwrap();
        VaultStore::new(config, HttpClient::new(egress, Timeouts::default(), world.clock.clone()))
    };
    let (path, (token, document)) = (world.fresh_path(), crate::world::write(1));
    let refused = store_trusting(&[]).stage(&path, token, &document).await;
    assert!(matches!(refused, Err(TargetError::Unavailable(_))), "{refused:?}");
    assert_eq!(secure.control.journal(), []);
    let store = store_trusting(&[root]);
    store.stage(&path, token, &document).await.unwrap();
    store.promote(&path, token, None).await.unwrap();
    assert!(!secure.control.journal().is_empty());
}
