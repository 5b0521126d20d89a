//! Key sets in files: in force at once, replaced when they change, and kept while they are broken.

use std::{sync::Arc, time::Duration};

use kh_inbound::{Bounds, FileKeys};
use tokio_util::sync::CancellationToken;

use crate::support::{Signer, World, by_keys, key_set};

#[tokio::test(start_paused = true)]
async fn a_file_is_in_force_at_the_start_and_when_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    std::fs::write(&path, key_set(&[&old])).unwrap();
    let world = World::new(vec![by_keys(Arc::new(FileKeys::new(&path)), Bounds::FILE)]).await;
    let by_old = old.token("c", "1", 360_000);
    assert_eq!(world.code(&by_old).await, "ok");
    let cancel = CancellationToken::new();
    let running = tokio::spawn({
        let (verifier, cancel) = (Arc::clone(&world.verifier), cancel.clone());
        async move { verifier.run(cancel).await }
    });
    for broken in ["{", r#"{"keys":[]}"#, ""] {
        std::fs::write(&path, broken).unwrap();
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(world.code(&by_old).await, "ok", "{broken:?} replaced nothing");
    }
    std::fs::remove_file(&path).unwrap();
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(world.code(&by_old).await, "ok", "its absence replaced nothing");
    std::fs::write(&path, key_set(&[&new])).unwrap();
    let by_new = new.token("c", "2", 360_000);
    let mut tries = 0;
    while world.code(&by_new).await != "ok" {
        tries += 1;
        assert!(tries < 10_000, "the new file never came into force");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(world.known(&by_old).is_none());
    cancel.cancel();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_its_file_an_issuers_tokens_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let signer = Signer::new("k");
    let source = Arc::new(FileKeys::new(folder.path().join("none.json")));
    let world = World::new(vec![by_keys(source, Bounds::FILE)]).await;
    assert_eq!(world.code(&signer.token("c", "1", 60)).await, "keys_unavailable");
}
