//! A key's metadata (kv: path_metadata.go).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Key, Mount};
use crate::{
    fake::Reply,
    vault::{
        Call,
        reply::{data, error, none, time},
    },
};

/// Limits of `custom_metadata` (kv: maxCustomMetadataKeys, ..KeyLength, ..ValueLength).
const CUSTOM_KEYS_MAX: usize = 64;
const CUSTOM_KEY_MAX: usize = 128;
const CUSTOM_VALUE_MAX: usize = 512;

pub(super) fn read(mount: &Mount, key: &str) -> Result<Reply, Reply> {
    let key = mount.keys.get(key).ok_or_else(|| none(404))?;
    let versions: Map<String, Value> = key
        .versions
        .iter()
        .map(|(number, version)| {
            let told = json!({
                "created_time": time(version.created_at),
                "deletion_time": version.deletion_at.map_or(String::new(), time), "destroyed": version.destroyed,
                "created_by": null, "deleted_by": null,
            });
            (number.to_string(), told)
        })
        .collect();
    let mut told = key.settings.told();
    if let Some(told) = told.as_object_mut() {
        told.extend([
            ("versions".to_owned(), Value::Object(versions)),
            ("current_version".to_owned(), json!(key.current)),
            ("oldest_version".to_owned(), json!(key.oldest)),
            ("created_time".to_owned(), json!(time(key.created_at))),
            ("updated_time".to_owned(), json!(time(key.updated_at))),
            ("custom_metadata".to_owned(), json!(key.custom_metadata)),
            ("last_updated_by".to_owned(), Value::Null),
        ]);
    }
    Ok(Reply::json(200, &data(&told)))
}

pub(super) fn write(mount: &mut Mount, call: &Call<'_>, key: &str) -> Result<Reply, Reply> {
    let known = ["max_versions", "cas_required", "delete_version_after", "custom_metadata"];
    if !known.iter().any(|name| call.data.get(name).is_some()) {
        return Ok(Reply::empty(204));
    }
    let custom = call.data.get("custom_metadata").map(parse).transpose()?;
    let key = mount.keys.entry(key.to_owned()).or_insert_with(|| Key {
        created_at: call.now,
        updated_at: call.now,
        ..Key::default()
    });
    key.settings.set(&call.data);
    if let Some(custom) = custom {
        key.custom_metadata = Some(custom);
    }
    Ok(Reply::empty(204).changed())
}

/// kv: parseCustomMetadata and validateCustomMetadata
fn parse(value: &Value) -> Result<BTreeMap<String, String>, Reply> {
    let refused = |why: String| error(400, &format!("custom_metadata validation failed: {why}"));
    let members = value.as_object().ok_or_else(|| refused("not a map".to_owned()))?;
    if members.len() > CUSTOM_KEYS_MAX {
        let why = format!("payload must contain at most {CUSTOM_KEYS_MAX} keys, provided {}", members.len());
        return Err(refused(why));
    }
    let mut custom = BTreeMap::new();
    for (key, value) in members {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            Value::Bool(flag) => u8::from(*flag).to_string(),
            Value::Number(number) => number.to_string(),
            Value::Array(_) | Value::Object(_) => return Err(refused(format!("{key:?} is no text"))),
        };
        for (what, found, max) in [("key", key, CUSTOM_KEY_MAX), ("value for key", &text, CUSTOM_VALUE_MAX)] {
            if found.is_empty() || found.len() > max {
                let why = format!("length of {what} {key:?} is {} but must be 0 < len <= {max}", found.len());
                return Err(refused(why));
            }
            if found.chars().any(char::is_control) {
                return Err(refused(format!("{what} {key:?} contains unprintable characters")));
            }
        }
        custom.insert(key.clone(), text);
    }
    Ok(custom)
}
