//! The version 2 key/value engine (kv: path_data.go, path_metadata.go, path_delete.go, path_destroy.go,
//! path_config.go).
//!
//! Invariant: version numbers grow by one with each write and are never used again while the key has metadata.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{
    Call, Operation,
    reply::{data, error, none, time, warning},
    token::seconds,
};
use crate::fake::Reply;

mod metadata;

/// Versions kept where neither mount nor key says (kv: defaultMaxVersions).
const MAX_VERSIONS_DEFAULT: u64 = 10;

/// One mounted engine.
#[derive(Debug, Default)]
pub(super) struct Mount {
    pub(super) keys: BTreeMap<String, Key>,
    /// Reads by key that still tell the version before the newest.
    pub(super) lagging_reads: BTreeMap<String, u64>,
    pub(super) upgrading: bool,
    settings: Settings,
}

/// What a mount and each key can set.
#[derive(Debug, Default, Clone)]
struct Settings {
    max_versions: u64,
    cas_required: bool,
    delete_version_after_s: u64,
}

/// One key with its versions.
#[derive(Debug, Default)]
pub(super) struct Key {
    current: u64,
    oldest: u64,
    created_at: u64,
    updated_at: u64,
    versions: BTreeMap<u64, Version>,
    settings: Settings,
    custom_metadata: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone)]
struct Version {
    created_at: u64,
    deletion_at: Option<u64>,
    destroyed: bool,
    data: Value,
}

impl Version {
    fn deleted(&self, now: u64) -> bool {
        self.deletion_at.is_some_and(|at| at <= now)
    }

    fn metadata(&self, number: u64, custom: Option<&BTreeMap<String, String>>) -> Value {
        json!({
            "version": number, "created_time": time(self.created_at),
            "deletion_time": self.deletion_at.map_or(String::new(), time), "destroyed": self.destroyed,
            "custom_metadata": custom,
        })
    }
}

/// One request below the mount.
pub(super) fn answer(mount: &mut Mount, call: &Call<'_>, rest: &str) -> Result<Reply, Reply> {
    if mount.upgrading {
        // kv: upgrade.go, upgradeCheck
        return Err(error(
            400,
            "Upgrading from non-versioned to versioned data. This backend will be unavailable for a brief period and \
             will resume service shortly.",
        ));
    }
    let (part, key) = rest.split_once('/').unwrap_or((rest, ""));
    // kv: path_data.go takes no slash at the end
    let data_key = !key.is_empty() && !key.ends_with('/');
    match (part, call.operation) {
        ("config", Operation::Read) if key.is_empty() => Ok(Reply::json(200, &data(&mount.settings.told()))),
        ("config", Operation::Write) if key.is_empty() => {
            mount.settings.set(&call.data);
            Ok(Reply::empty(204).changed())
        }
        ("data", Operation::Read) if data_key => read(mount, call, key),
        ("data", Operation::Write) if data_key => write(mount, call, key),
        ("data", Operation::Patch) if data_key => patch(mount, call, key),
        ("data", Operation::Delete) if data_key => Ok(delete_latest(mount, call, key)),
        ("delete" | "undelete" | "destroy", Operation::Write) if data_key => on_versions(mount, call, part, key),
        ("metadata", Operation::List) => list(mount, call, key),
        ("metadata", Operation::Read) if data_key => metadata::read(mount, key),
        ("metadata", Operation::Write) if data_key => metadata::write(mount, call, key),
        ("metadata", Operation::Delete) if data_key => {
            // kv: pathMetadataDelete: the key and all its versions are gone; one that is not there is fine
            let gone = mount.keys.remove(key).is_some();
            Ok(if gone { Reply::empty(204).changed() } else { Reply::empty(204) })
        }
        ("data" | "delete" | "undelete" | "destroy" | "metadata", _) if key.is_empty() => {
            // kv: backend.go, pathInvalid
            Ok(warning(404, "Non-listing operations on the root of a K/V v2 mount are not supported."))
        }
        _ => Ok(warning(
            404,
            "Invalid path for a versioned K/V secrets engine. See the API docs for the appropriate API endpoints to \
             use.",
        )),
    }
}

impl Settings {
    fn set(&mut self, asked: &Value) {
        if let Some(max) = asked["max_versions"].as_u64() {
            self.max_versions = max;
        }
        if let Some(required) = asked["cas_required"].as_bool() {
            self.cas_required = required;
        }
        let after = &asked["delete_version_after"];
        if let Some(after) = after.as_u64().or_else(|| after.as_str().and_then(seconds)) {
            self.delete_version_after_s = after;
        }
    }

    fn told(&self) -> Value {
        json!({
            "max_versions": self.max_versions, "cas_required": self.cas_required,
            "delete_version_after": format!("{}s", self.delete_version_after_s),
        })
    }
}

fn read(mount: &mut Mount, call: &Call<'_>, key: &str) -> Result<Reply, Reply> {
    let left = mount.lagging_reads.get_mut(key).filter(|left| **left > 0);
    let lagging = left.map(|left| *left -= 1).is_some();
    // kv: an unknown key or version is 404 without a body
    let key = mount.keys.get(key).ok_or_else(|| none(404))?;
    let newest = key.current.saturating_sub(u64::from(lagging));
    let asked = call.request.parameter("version").and_then(|text| text.parse().ok()).filter(|number| *number > 0);
    let number = asked.unwrap_or(newest);
    let version = key.versions.get(&number).ok_or_else(|| none(404))?;
    let metadata = version.metadata(number, key.custom_metadata.as_ref());
    if version.deleted(call.now) || version.destroyed {
        // kv: a deleted or destroyed version is 404 with its metadata
        return Ok(Reply::json(404, &data(&json!({"data": null, "metadata": metadata}))));
    }
    Ok(Reply::json(200, &data(&json!({"data": version.data, "metadata": metadata}))))
}

/// kv: validateCheckAndSetOption. A deleted or destroyed version counts as the current one.
fn check_and_set(mount: &Mount, call: &Call<'_>, key: &str) -> Result<(), Reply> {
    let known = mount.keys.get(key);
    let current = known.map_or(0, |key| key.current);
    let cas = call.data.get("options").and_then(|options| options.get("cas"));
    match cas {
        Some(cas) => {
            // mapstructure.WeakDecode into an int: numbers, their text, booleans; null and "" are 0
            let number = match cas {
                Value::Number(number) => number.as_i64().or_else(|| number.as_f64().map(|float| float as i64)),
                Value::String(text) if text.is_empty() => Some(0),
                Value::String(text) => text.parse().ok(),
                Value::Bool(flag) => Some(i64::from(*flag)),
                Value::Null => Some(0),
                Value::Array(_) | Value::Object(_) => None,
            };
            let number = number.ok_or_else(|| error(400, "error parsing check-and-set parameter"))?;
            if u64::try_from(number) == Ok(current) {
                return Ok(());
            }
            Err(error(400, "check-and-set parameter did not match the current version"))
        }
        None if mount.settings.cas_required || known.is_some_and(|key| key.settings.cas_required) => {
            Err(error(400, "check-and-set parameter required for this call"))
        }
        None => Ok(()),
    }
}

fn write(mount: &mut Mount, call: &Call<'_>, key: &str) -> Result<Reply, Reply> {
    let Some(document) = call.data.get("data").filter(|document| document.is_object()) else {
        return Err(error(400, "no data provided"));
    };
    check_and_set(mount, call, key)?;
    Ok(add_version(mount, call, key, document.clone()))
}

/// kv: KeyMetadata.AddVersion
fn add_version(mount: &mut Mount, call: &Call<'_>, name: &str, document: Value) -> Reply {
    let settings = mount.settings.clone();
    let key = mount.keys.entry(name.to_owned()).or_insert_with(|| Key { created_at: call.now, ..Key::default() });
    let after = [settings.delete_version_after_s, key.settings.delete_version_after_s];
    let after = after.into_iter().filter(|seconds| *seconds > 0).min();
    let deletion_at = after.map(|seconds| call.now + seconds * 1000);
    key.current += 1;
    key.updated_at = call.now;
    let version = Version { created_at: call.now, deletion_at, destroyed: false, data: document };
    let told = version.metadata(key.current, key.custom_metadata.as_ref());
    key.versions.insert(key.current, version);
    let max = match settings.max_versions.max(key.settings.max_versions) {
        0 => MAX_VERSIONS_DEFAULT,
        set => set,
    };
    if key.current - key.oldest >= max {
        let last_gone = key.current - max;
        key.versions.retain(|number, _| *number > last_gone);
        key.oldest = last_gone + 1;
    }
    Reply::json(200, &data(&told)).changed()
}

/// kv: pathDataPatch: JSON merge patch (RFC 7396) over the newest version, which must be there.
fn patch(mount: &mut Mount, call: &Call<'_>, key: &str) -> Result<Reply, Reply> {
    let Some(change) = call.data.get("data").and_then(Value::as_object) else {
        return Err(error(400, "no data provided"));
    };
    let known = mount.keys.get(key).ok_or_else(|| none(404))?;
    let newest = known.versions.get(&known.current).ok_or_else(|| none(404))?;
    if newest.deleted(call.now) || newest.destroyed {
        let metadata = newest.metadata(known.current, known.custom_metadata.as_ref());
        return Ok(Reply::json(404, &data(&json!({"data": null, "metadata": metadata}))));
    }
    let mut document = newest.data.clone();
    check_and_set(mount, call, key)?;
    merge(&mut document, change);
    Ok(add_version(mount, call, key, document))
}

fn merge(target: &mut Value, change: &Map<String, Value>) {
    if !target.is_object() {
        *target = json!({});
    }
    let Some(target) = target.as_object_mut() else { return };
    for (name, value) in change {
        match value {
            Value::Null => drop(target.remove(name)),
            Value::Object(inner) => merge(target.entry(name.clone()).or_insert_with(|| json!({})), inner),
            other => drop(target.insert(name.clone(), other.clone())),
        }
    }
}

/// kv: pathDataDelete: the newest is marked; nothing to mark is fine.
fn delete_latest(mount: &mut Mount, call: &Call<'_>, key: &str) -> Reply {
    let newest = mount.keys.get_mut(key).and_then(|key| key.versions.get_mut(&key.current));
    match newest.filter(|version| !version.destroyed && !version.deleted(call.now)) {
        Some(version) => {
            version.deletion_at = Some(call.now);
            Reply::empty(204).changed()
        }
        None => Reply::empty(204),
    }
}

/// kv: pathDeleteWrite, pathUndeleteWrite, pathDestroyWrite: versions that are not there are passed over.
fn on_versions(mount: &mut Mount, call: &Call<'_>, what: &str, key: &str) -> Result<Reply, Reply> {
    // TypeCommaIntSlice takes [1], ["1"] and "1,2"
    let asked = &call.data["versions"];
    let number = |value: &Value| value.as_u64().or_else(|| value.as_str()?.trim().parse().ok());
    let numbers: Option<Vec<u64>> = match asked {
        Value::String(text) => text.split(',').map(|part| part.trim().parse().ok()).collect(),
        Value::Array(all) => all.iter().map(number).collect(),
        other => number(other).map(|one| vec![one]),
    };
    let Some(numbers) = numbers.filter(|numbers| !numbers.is_empty()) else {
        let text = if what == "undelete" { "No version number provided" } else { "no version number provided" };
        return Err(error(400, text));
    };
    let Some(key) = mount.keys.get_mut(key) else { return Ok(Reply::empty(204)) };
    let mut changed = false;
    for number in numbers {
        let Some(version) = key.versions.get_mut(&number).filter(|version| !version.destroyed) else { continue };
        changed = true;
        match what {
            "delete" if version.deleted(call.now) => {}
            "delete" => version.deletion_at = Some(call.now),
            "undelete" => version.deletion_at = None,
            _ => {
                version.destroyed = true;
                version.data = Value::Null;
            }
        }
    }
    Ok(if changed { Reply::empty(204).changed() } else { Reply::empty(204) })
}

/// kv: pathMetadataList: names and folders one level below; deleted keys are listed unless the caller excludes those
/// whose newest version has a deletion time; nothing is 404.
fn list(mount: &Mount, call: &Call<'_>, folder: &str) -> Result<Reply, Reply> {
    let folder = if folder.is_empty() || folder.ends_with('/') { folder.to_owned() } else { format!("{folder}/") };
    let excludes = call.request.parameter("exclude_deleted").is_some_and(|text| text == "true");
    let deleted = |key: &Key| key.versions.get(&key.current).is_some_and(|newest| newest.deletion_at.is_some());
    let names: BTreeSet<String> = mount
        .keys
        .iter()
        .filter_map(|(name, key)| match name.strip_prefix(&folder)?.split_once('/') {
            Some((first, _)) => Some(format!("{first}/")),
            None if excludes && deleted(key) => None,
            None => name.strip_prefix(&folder).map(str::to_owned),
        })
        .collect();
    if names.is_empty() {
        return Err(none(404));
    }
    Ok(Reply::json(200, &data(&json!({"keys": names}))))
}
