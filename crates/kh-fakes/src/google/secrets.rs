//! Secrets: the containers of versions, with labels, aliases and etags.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{PERMISSIONS, PROJECT_NUMBER, Secret, State, Version, VersionState, invalid, not_found, refused};
use crate::fake::{Reply, Request};

/// Most aliases of a secret (reference of `Secret.versionAliases`).
const ALIASES_MAX: usize = 50;

pub(super) fn body(request: &Request) -> Result<Value, Reply> {
    if request.body.is_empty() {
        return Ok(json!({}));
    }
    serde_json::from_slice(&request.body).map_err(|_| invalid("Invalid JSON payload received."))
}

/// 1 to 255 letters, digits, hyphens and underscores (reference of `secrets.create`).
fn check_id(id: &str) -> Result<(), Reply> {
    let letters = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if letters && (1..=255).contains(&id.len()) { Ok(()) } else { Err(invalid("Invalid secret id.")) }
}

/// At most 63 characters, begins with a letter, not `latest` or `NEW` (reference of `Secret.versionAliases`).
fn check_alias(alias: &str) -> Result<(), Reply> {
    let letters = alias.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    let first = alias.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
    if letters && first && alias.len() <= 63 && !["latest", "NEW"].contains(&alias) {
        return Ok(());
    }
    Err(invalid(&format!("Invalid version alias: {alias}")))
}

fn texts(value: &Value) -> Result<BTreeMap<String, String>, Reply> {
    if value.is_null() {
        return Ok(BTreeMap::new());
    }
    serde_json::from_value(value.clone()).map_err(|_| invalid("labels must be texts."))
}

impl State {
    pub(super) fn secret(&mut self, id: &str) -> Result<&mut Secret, Reply> {
        self.secrets.get_mut(id).ok_or_else(|| not_found(&format!("Secret [projects/{PROJECT_NUMBER}/secrets/{id}]")))
    }

    pub(super) fn create(&mut self, request: &Request, now: u64) -> Result<Reply, Reply> {
        let id = request.parameter("secretId").unwrap_or_default();
        check_id(&id)?;
        let wanted = body(request)?;
        if self.secrets.contains_key(&id) {
            let message = format!("Secret [projects/{PROJECT_NUMBER}/secrets/{id}] already exists.");
            return Err(refused(409, "ALREADY_EXISTS", &message));
        }
        let replication = wanted["replication"].clone();
        if !(replication["automatic"].is_object() || replication["userManaged"]["replicas"].is_array()) {
            return Err(invalid("The replication policy of a secret must be set."));
        }
        let aliases = wanted["versionAliases"].as_object().is_some_and(|aliases| !aliases.is_empty());
        if aliases {
            return Err(invalid("An alias must name a version that exists."));
        }
        let secret = Secret {
            etag: self.next_etag(),
            labels: texts(&wanted["labels"])?,
            replication,
            created: now,
            aliases: BTreeMap::new(),
            versions: Vec::new(),
            stale: None,
        };
        let told = told(&id, &secret);
        self.secrets.insert(id, secret);
        Ok(Reply::json(200, &told).changed())
    }

    pub(super) fn get(&mut self, id: &str) -> Result<Reply, Reply> {
        let secret = self.secret(id)?;
        Ok(Reply::json(200, &told(id, secret)))
    }

    pub(super) fn list(&mut self, request: &Request) -> Result<Reply, Reply> {
        let items = self.secrets.iter().map(|(id, secret)| told(id, secret)).collect();
        page("secrets", items, request, self.page_size)
    }

    /// Only what the mask names changes; the etag is checked when it is given, and changes in any case (docs/etags).
    pub(super) fn patch(&mut self, id: &str, request: &Request) -> Result<Reply, Reply> {
        let wanted = body(request)?;
        let mask = request.parameter("updateMask").unwrap_or_default();
        if mask.is_empty() {
            return Err(invalid("The update mask must be set."));
        }
        self.intrude(id)?;
        let etag = self.next_etag();
        let stale_reads = self.stale_reads;
        let secret = self.secret(id)?;
        check_etag(wanted["etag"].as_str(), &secret.etag)?;
        let (mut labels, mut aliases) = (secret.labels.clone(), secret.aliases.clone());
        for path in mask.split(',') {
            match path {
                "labels" => labels = texts(&wanted["labels"])?,
                "versionAliases" | "version_aliases" => aliases = wanted_aliases(&wanted["versionAliases"], secret)?,
                _ => return Err(invalid(&format!("The field {path} cannot be updated."))),
            }
        }
        if aliases != secret.aliases && stale_reads > 0 {
            secret.stale = Some((secret.aliases.clone(), stale_reads));
        }
        (secret.labels, secret.aliases, secret.etag) = (labels, aliases, etag);
        let told = told(id, secret);
        self.stale_reads = 0;
        Ok(Reply::json(200, &told).changed())
    }

    fn intrude(&mut self, id: &str) -> Result<(), Reply> {
        let Some((_, payload)) = self.intruder.take_if(|(at, _)| at == id) else { return Ok(()) };
        let (secret_etag, etag) = (self.next_etag(), self.next_etag());
        let secret = self.secret(id)?;
        secret.etag = secret_etag;
        match payload {
            None => drop(secret.labels.insert("changed".to_owned(), "yes".to_owned())),
            Some(payload) => {
                let (state, created) = (VersionState::Enabled, secret.created);
                let (destroyed, checked, stale) = (None, false, 0);
                secret.versions.push(Version { payload, state, etag, created, destroyed, checked, stale });
                let newest = secret.versions.len() as u64;
                secret.aliases.insert("current".to_owned(), newest);
            }
        }
        Ok(())
    }

    pub(super) fn delete(&mut self, id: &str, request: &Request) -> Result<Reply, Reply> {
        let etag = request.parameter("etag");
        check_etag(etag.as_deref(), &self.secret(id)?.etag)?;
        self.secrets.remove(id);
        Ok(Reply::json(200, &json!({})).changed())
    }

    /// Tells those of the asked permissions that one has; for a secret that does not exist, none
    /// (reference of `testIamPermissions`).
    pub(super) fn test(&mut self, id: &str, request: &Request) -> Result<Reply, Reply> {
        let wanted = body(request)?;
        let asked = wanted["permissions"].as_array().cloned().unwrap_or_default();
        let known = |name: &Value| name.as_str().is_some_and(|name| PERMISSIONS.contains(&name));
        if !asked.iter().all(known) {
            return Err(invalid("A permission is not known."));
        }
        let exists = self.secrets.contains_key(id);
        let granted: Vec<Value> = asked
            .into_iter()
            .filter(|name| exists && name.as_str().is_some_and(|name| self.permissions.contains(name)))
            .collect();
        Ok(Reply::json(200, &json!({"permissions": granted})))
    }
}

/// docs/etags: an etag that is given and does not match is `FAILED_PRECONDITION`, status 400.
pub(super) fn check_etag(given: Option<&str>, current: &str) -> Result<(), Reply> {
    match given {
        Some(given) if !given.is_empty() && given != current => {
            let message = "The etag provided does not match the current etag of the resource.";
            Err(refused(400, "FAILED_PRECONDITION", message))
        }
        _ => Ok(()),
    }
}

fn wanted_aliases(value: &Value, secret: &Secret) -> Result<BTreeMap<String, u64>, Reply> {
    let mut aliases = BTreeMap::new();
    for (alias, number) in value.as_object().into_iter().flatten() {
        check_alias(alias)?;
        // int64 is text in JSON; numbers are taken too
        let number = number.as_u64().or_else(|| number.as_str().and_then(|text| text.parse().ok()));
        match number {
            Some(number) if number >= 1 && number <= secret.versions.len() as u64 => {
                aliases.insert(alias.clone(), number);
            }
            _ => return Err(invalid("An alias must name a version that exists.")),
        }
    }
    if aliases.len() > ALIASES_MAX {
        return Err(invalid("Too many version aliases."));
    }
    Ok(aliases)
}

/// RFC 3339 of whole seconds, by the civil calendar.
pub(super) fn time(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // days from civil, turned round: howardhinnant.github.io/date_algorithms.html
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_shifted + 2) / 5 + 1;
    let month = if month_shifted < 10 { month_shifted + 3 } else { month_shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

fn told(id: &str, secret: &Secret) -> Value {
    let aliases: BTreeMap<&str, String> =
        secret.aliases.iter().map(|(alias, number)| (alias.as_str(), number.to_string())).collect();
    let mut told = json!({
        "name": format!("projects/{PROJECT_NUMBER}/secrets/{id}"),
        "replication": secret.replication,
        "createTime": time(secret.created),
        "etag": secret.etag,
    });
    if !secret.labels.is_empty() {
        told["labels"] = json!(secret.labels);
    }
    if !aliases.is_empty() {
        told["versionAliases"] = json!(aliases);
    }
    told
}

/// One page; the token of the next one is only the fake's to read.
pub(super) fn page(name: &str, items: Vec<Value>, request: &Request, page_size: usize) -> Result<Reply, Reply> {
    let total = items.len();
    let wanted: usize = request.parameter("pageSize").and_then(|text| text.parse().ok()).unwrap_or(0);
    let size = if wanted == 0 { page_size } else { wanted.min(page_size) };
    let start = match request.parameter("pageToken").filter(|token| !token.is_empty()) {
        None => 0,
        Some(token) => token
            .strip_prefix("next-")
            .and_then(|text| text.parse::<usize>().ok())
            .ok_or_else(|| invalid("The page token is not valid."))?,
    };
    let page: Vec<Value> = items.into_iter().skip(start).take(size).collect();
    let end = start + page.len();
    let mut told = json!({"totalSize": total});
    told[name] = json!(page);
    if end < total {
        told["nextPageToken"] = json!(format!("next-{end}"));
    }
    Ok(Reply::json(200, &told))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(time(0), "1970-01-01T00:00:00Z");
        assert_eq!(time(951_868_799), "2000-02-29T23:59:59Z");
        assert_eq!(time(1_790_000_000), "2026-09-21T14:13:20Z");
    }
}
