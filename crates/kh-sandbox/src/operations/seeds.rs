//! Entities that every new organisation has, so that a first call shows something. Invariant: seeds are data
//! (`data/seeds.json`), pass through the same completion as created entities, and have the same ids everywhere.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::collection::Role;
use super::complete::{HOME_DIVISION_ID, Stamp, new_state};
use super::document::Document;
use super::store::EntityStore;

/// Seed entities by collection path.
static SEEDS: &str = include_str!("../../data/seeds.json");

/// Fills a new store. A collection that the document does not let create, or a full store, leaves the rest out.
pub(super) fn plant(document: &Document, store: &EntityStore, now: Timestamp) {
    let seeds: BTreeMap<String, Vec<Map<String, Value>>> =
        serde_json::from_str(SEEDS).expect("the embedded seeds are well formed; a test parses them");
    for (collection, entities) in seeds {
        let creation = document.by_template("POST", &collection);
        let Some(Role::Create(rule)) = creation.map(|operation| &operation.role) else { continue };
        for entity in entities {
            let id = entity.get("id").and_then(Value::as_str).unwrap_or(HOME_DIVISION_ID).to_owned();
            let stamp = Stamp { now, caller_id: HOME_DIVISION_ID };
            let state =
                new_state(&document.definitions, rule, entity, &collection, &id, stamp, store.seed_of(&collection));
            if let Err(error) = store.insert(&collection, &id, state) {
                tracing::warn!(collection.path = %collection, error = %error, "a seed entity was left out");
            }
        }
    }
}
