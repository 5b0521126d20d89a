//! The store's bounds and order.

use serde_json::json;

use super::*;

fn store(per_collection: usize, total: usize, bytes: usize) -> EntityStore {
    EntityStore::new(1, StoreLimits { per_collection, total, bytes })
}

#[test]
fn every_bound_is_met_with_full_and_deletion_makes_room() {
    let by_collection = store(1, 100, 1000);
    assert_eq!(by_collection.insert("/a", "1", json!({})), Ok(()));
    assert_eq!(by_collection.insert("/a", "1", json!({})), Err(StoreError::Exists));
    assert_eq!(by_collection.insert("/a", "2", json!({})), Err(StoreError::Full));
    assert_eq!(by_collection.insert("/b", "2", json!({})), Ok(()));
    let by_total = store(100, 2, 1000);
    assert_eq!(by_total.insert("/a", "1", json!({})), Ok(()));
    assert_eq!(by_total.bury("/a", "9"), Ok(()));
    assert_eq!(by_total.insert("/b", "1", json!({})), Err(StoreError::Full));
    assert_eq!(by_total.bury("/a", "8"), Err(StoreError::Full), "remembered deletions count");
    let by_bytes = store(100, 100, 20);
    assert_eq!(by_bytes.insert("/a", "1", json!({"name": "12345"})), Ok(()));
    assert_eq!(by_bytes.insert("/a", "2", json!({"name": "12345"})), Err(StoreError::Full));
    assert!(by_bytes.upsert("/a", "2", |_| json!({"name": "12345"})).is_err());
    assert!(by_bytes.remove("/a", "1"));
    assert_eq!(by_bytes.insert("/a", "2", json!({"name": "12345"})), Ok(()));
}

#[test]
fn a_change_keeps_the_rank_and_the_account_of_bytes() {
    let store = store(100, 100, 60);
    for id in ["x", "y", "z"] {
        store.insert("/a", id, json!({ "id": id })).unwrap();
    }
    for _ in 0..50 {
        store.upsert("/a", "x", |old| json!({"id": old.unwrap()["id"], "n": 1})).unwrap();
    }
    let ids: Vec<_> = store.list("/a").iter().map(|state| state["id"].clone()).collect();
    assert_eq!(ids, ["x", "y", "z"]);
}

#[test]
fn what_is_below_goes_with_its_parent_and_only_that() {
    let store = store(100, 100, 1000);
    store.insert("/users", "1", json!({})).unwrap();
    store.insert("/users/1/skills", "s", json!({})).unwrap();
    store.insert("/users/11/skills", "s", json!({})).unwrap();
    assert!(store.remove("/users", "1"));
    assert!(!store.remove("/users", "1"));
    assert_eq!(store.find("/users/1/skills", "s"), Known::Never);
    assert!(matches!(store.find("/users/11/skills", "s"), Known::Here(_)));
    assert_eq!(store.len(), 1);
}

#[test]
fn number_ids_count_up_past_chosen_ones() {
    let store = store(100, 100, 1000);
    assert_eq!(store.draw_id("/v", true), "1");
    store.insert("/v", "2", json!({})).unwrap();
    assert_eq!(store.draw_id("/v", true), "3");
    store.insert("/v", "3", json!({})).unwrap();
    assert_eq!(store.draw_id("/v", true), "4");
    assert_ne!(store.draw_id("/u", false), store.draw_id("/u", false));
}
