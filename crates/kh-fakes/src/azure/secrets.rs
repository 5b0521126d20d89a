//! Versions of secrets: set, get, list, update.
//!
//! Invariant: the newest version is the one made last, whatever its name; lists never have a value.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{PAGE_MAX, Secret, State, Version, bad_parameter, not_found, refused};
use crate::fake::{Reply, Request};

/// Longest value (nitrictech/nitric issue 119 and configu/configu issue 421 tell the number; the documentation says 25 KB).
pub(super) const VALUE_MAX: usize = 25_600;
/// Most tags and their longest texts (learn.microsoft.com/azure/key-vault/secrets/about-secrets, Secret tags).
const TAGS_MAX: usize = 15;
const TAG_TEXT_MAX: usize = 256;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    value: Option<String>,
    #[serde(rename = "contentType")]
    content_type: Option<String>,
    attributes: Option<Attributes>,
    tags: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize, Default)]
struct Attributes {
    enabled: Option<bool>,
    nbf: Option<u64>,
    exp: Option<u64>,
}

fn wanted(request: &Request) -> Result<Wanted, Reply> {
    let wanted: Wanted = serde_json::from_slice(&request.body)
        .map_err(|_| bad_parameter("The request body is missing or is not the expected JSON."))?;
    let tags = wanted.tags.iter().flatten();
    if wanted.tags.as_ref().is_some_and(|tags| tags.len() > TAGS_MAX)
        || tags.into_iter().any(|(name, value)| name.len() > TAG_TEXT_MAX || value.len() > TAG_TEXT_MAX)
    {
        return Err(bad_parameter("The tags are too many or too long."));
    }
    Ok(wanted)
}

impl State {
    pub(super) fn set(&mut self, name: &str, request: &Request, now: u64) -> Result<Reply, Reply> {
        self.may("set")?;
        let mut wanted = wanted(request)?;
        let Some(value) = wanted.value.take() else { return Err(bad_parameter("Property value is required.")) };
        if value.len() > VALUE_MAX {
            return Err(bad_parameter(&format!("Property value exceeds the maximum length of {VALUE_MAX}.")));
        }
        // external-secrets/external-secrets issue 3519.
        if self.deleted.contains_key(name) {
            let message = format!(
                "Secret {name} is currently in a deleted but recoverable state, and its name cannot be reused; in this \
                 state, the secret can only be recovered or purged."
            );
            return Err(refused(409, "Conflict", &message, Some("ObjectIsDeletedButRecoverable")));
        }
        self.not_recovering(name)?;
        if let Some((_, value)) = self.intruder.take_if(|(at, _)| at == name) {
            let version =
                self.version(Wanted { value: None, content_type: None, attributes: None, tags: None }, value, now);
            self.secrets.entry(name.to_owned()).or_default().versions.push(version);
        }
        let version = self.version(wanted, value, now);
        let stale_reads = std::mem::take(&mut self.stale_reads);
        let secret = self.secrets.entry(name.to_owned()).or_default();
        secret.stale_reads = stale_reads;
        secret.versions.push(version.clone());
        Ok(Reply::json(200, &bundle(&request.origin, name, &version, true)).changed())
    }

    fn version(&mut self, wanted: Wanted, value: String, now: u64) -> Version {
        let attributes = wanted.attributes.unwrap_or_default();
        Version {
            id: self.next_version(),
            value,
            content_type: wanted.content_type,
            enabled: attributes.enabled.unwrap_or(true),
            not_before: attributes.nbf,
            expires: attributes.exp,
            created: now,
            updated: now,
            tags: wanted.tags,
        }
    }

    /// hashicorp/terraform-provider-azurerm issue 12285 and Azure/azure-sdk-for-net issue 31581: for a while after a
    /// recovery, writes are refused.
    pub(super) fn not_recovering(&mut self, name: &str) -> Result<(), Reply> {
        let Some(left) = self.recovering.get_mut(name) else { return Ok(()) };
        if *left == 0 {
            self.recovering.remove(name);
            return Ok(());
        }
        *left -= 1;
        let message = format!("Secret {name} is currently being recovered and cannot be re-created; retry later.");
        Err(refused(409, "Conflict", &message, Some("ObjectIsBeingRecovered")))
    }

    pub(super) fn get(&mut self, name: &str, version: Option<&str>, request: &Request) -> Result<Reply, Reply> {
        self.may("get")?;
        let secret = self.secrets.get_mut(name).ok_or_else(|| not_found(name))?;
        let found = match version {
            Some(version) => secret.versions.iter().find(|known| known.id == version),
            None => secret.seen_newest(),
        };
        let found = found.ok_or_else(|| not_found(name))?;
        // Azure/azure-sdk-for-js issue 24756 has the whole answer.
        if !found.enabled {
            let message = "Operation get is not allowed on a disabled secret.";
            return Err(refused(403, "Forbidden", message, Some("SecretDisabled")));
        }
        Ok(Reply::json(200, &bundle(&request.origin, name, found, true)))
    }

    pub(super) fn list(&mut self, request: &Request) -> Result<Reply, Reply> {
        self.may("list")?;
        let items = self.secrets.iter().filter_map(|(name, secret)| {
            let newest = secret.versions.last()?;
            let mut item = bundle(&request.origin, name, newest, false);
            item["id"] = json!(format!("{}/secrets/{name}", request.origin));
            Some((name.clone(), item))
        });
        page(items.collect(), request, self.page_size)
    }

    /// In the order of the versions' names (nagyesta/lowkey-vault issue 467), which tells nothing of their age.
    pub(super) fn list_versions(&mut self, name: &str, request: &Request) -> Result<Reply, Reply> {
        self.may("list")?;
        let secret = self.secrets.get(name);
        // What the service answers for an unknown name is not documented; a client must take an empty list and a 404.
        let versions = secret.map(|secret| secret.versions.as_slice()).unwrap_or_default();
        let items = versions.iter().map(|version| (version.id.clone(), bundle(&request.origin, name, version, false)));
        let mut items: Vec<_> = items.collect();
        items.sort_by(|one, other| one.0.cmp(&other.0));
        page(items, request, self.page_size)
    }

    /// What is not named stays; tags are replaced as a whole (REST reference, Update Secret).
    pub(super) fn update(
        &mut self,
        name: &str,
        version: Option<&str>,
        request: &Request,
        now: u64,
    ) -> Result<Reply, Reply> {
        self.may("set")?;
        let wanted = wanted(request)?;
        if wanted.value.is_some() {
            return Err(bad_parameter("The value of a secret cannot be updated."));
        }
        self.not_recovering(name)?;
        let secret = self.secrets.get_mut(name).ok_or_else(|| not_found(name))?;
        let found = match version {
            Some(version) => secret.versions.iter_mut().find(|known| known.id == version),
            None => secret.versions.last_mut(),
        };
        let found = found.ok_or_else(|| not_found(name))?;
        let attributes = wanted.attributes.unwrap_or_default();
        found.enabled = attributes.enabled.unwrap_or(found.enabled);
        found.not_before = attributes.nbf.or(found.not_before);
        found.expires = attributes.exp.or(found.expires);
        found.content_type = wanted.content_type.or(found.content_type.take());
        found.tags = wanted.tags.or(found.tags.take());
        found.updated = now;
        Ok(Reply::json(200, &bundle(&request.origin, name, found, false)).changed())
    }
}

impl Secret {
    /// The newest version, or the one before it while reads are stale. No page promises that the newest version is seen
    /// at once, so a client must not need it.
    fn seen_newest(&mut self) -> Option<&Version> {
        let behind = usize::from(self.stale_reads > 0);
        self.stale_reads = self.stale_reads.saturating_sub(1);
        self.versions.iter().rev().nth(behind)
    }
}

/// A `SecretBundle`, or a `SecretItem` without its value.
pub(super) fn bundle(origin: &str, name: &str, version: &Version, with_value: bool) -> Value {
    let mut attributes = json!({
        "enabled": version.enabled,
        "created": version.created,
        "updated": version.updated,
        "recoveryLevel": "Recoverable+Purgeable",
        "recoverableDays": 90,
    });
    for (name, value) in [("nbf", version.not_before), ("exp", version.expires)] {
        if let Some(value) = value {
            attributes[name] = json!(value);
        }
    }
    let mut bundle = json!({
        "id": format!("{origin}/secrets/{name}/{}", version.id),
        "attributes": attributes,
        "tags": version.tags.clone().unwrap_or_default(),
    });
    if let Some(content_type) = &version.content_type {
        bundle["contentType"] = json!(content_type);
    }
    if with_value {
        bundle["value"] = json!(version.value);
    }
    bundle
}

/// One page, and where the next one is. `nextLink` is a whole URL with its own token, to be used as it is.
pub(super) fn page(items: Vec<(String, Value)>, request: &Request, page_size: usize) -> Result<Reply, Reply> {
    let wanted = match request.parameter("maxresults").map(|text| text.parse::<usize>()) {
        None => page_size,
        Some(Ok(wanted)) if (1..=PAGE_MAX).contains(&wanted) => wanted.min(page_size),
        Some(_) => return Err(bad_parameter("Invalid maxresults: it must be between 1 and 25.")),
    };
    let after = request.parameter("$skiptoken").unwrap_or_default();
    let mut rest = items.into_iter().filter(|(key, _)| key.as_str() > after.as_str());
    let page: Vec<(String, Value)> = rest.by_ref().take(wanted).collect();
    let next = match (page.last(), rest.next()) {
        (Some((last, _)), Some(_)) => json!(format!(
            "{}{}?api-version={}&$skiptoken={last}&maxresults={wanted}",
            request.origin,
            request.path,
            request.parameter("api-version").unwrap_or_default(),
        )),
        _ => Value::Null,
    };
    let items: Vec<Value> = page.into_iter().map(|(_, item)| item).collect();
    Ok(Reply::json(200, &json!({"value": items, "nextLink": next})))
}
