//! Versions: add, read, list, and their states.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::{PROJECT_NUMBER, Secret, State, Version, VersionState, invalid, not_found, refused};
use crate::{
    fake::{Reply, Request},
    google::secrets::{body, check_etag, page, time},
};

/// Largest payload (cloud.google.com/secret-manager/quotas, 64 KiB).
const PAYLOAD_MAX: usize = 65_536;

impl State {
    pub(super) fn add_version(&mut self, id: &str, request: &Request, now: u64) -> Result<Reply, Reply> {
        let wanted = body(request)?;
        let etag = self.next_etag();
        let secret = self.secret(id)?;
        let data = wanted["payload"]["data"].as_str().unwrap_or_default();
        let payload = BASE64_STANDARD.decode(data).map_err(|_| invalid("Invalid value for bytes."))?;
        if payload.is_empty() {
            return Err(invalid("Secret Payload cannot be empty."));
        }
        if payload.len() > PAYLOAD_MAX {
            return Err(invalid("The Secret Payload is larger than the limit of 65536 bytes."));
        }
        let given = &wanted["payload"]["dataCrc32c"];
        let given = given.as_i64().or_else(|| given.as_str().and_then(|text| text.parse().ok()));
        if given.is_some_and(|given| given != i64::from(crc32c(&payload))) {
            return Err(invalid("The payload's checksum does not match the data."));
        }
        secret.versions.push(Version {
            payload,
            state: VersionState::Enabled,
            etag,
            created: now,
            destroyed: None,
            checked: given.is_some(),
            stale: 0,
        });
        let number = secret.versions.len() as u64;
        Ok(Reply::json(200, &told(id, number, secret, request)).changed())
    }

    /// Newest first, destroyed ones too.
    pub(super) fn list_versions(&mut self, id: &str, request: &Request) -> Result<Reply, Reply> {
        let page_size = self.page_size;
        let secret = self.secret(id)?;
        let numbers = (1..=secret.versions.len() as u64).rev();
        let items = numbers.map(|number| told(id, number, secret, request)).collect();
        page("versions", items, request, page_size)
    }

    pub(super) fn get_version(&mut self, id: &str, version: &str, request: &Request) -> Result<Reply, Reply> {
        let secret = self.secret(id)?;
        let number = seen(id, version, secret)?;
        Ok(Reply::json(200, &told(id, number, secret, request)))
    }

    pub(super) fn access(&mut self, id: &str, version: &str) -> Result<Reply, Reply> {
        let broken = std::mem::take(&mut self.broken_checksum);
        let secret = self.secret(id)?;
        let number = seen(id, version, secret)?;
        let index = index_of(number).ok_or_else(|| missing(id, version))?;
        let found = secret.versions.get_mut(index).ok_or_else(|| missing(id, version))?;
        let seen = found.seen();
        found.stale = found.stale.saturating_sub(1);
        // google-github-actions/get-secretmanager-secrets issue 268 has the whole answer.
        let state = match seen {
            VersionState::Enabled => None,
            VersionState::Disabled => Some("DISABLED"),
            VersionState::Destroyed => Some("DESTROYED"),
        };
        if let Some(state) = state {
            let message = format!("Secret Version [{}] is in {state} state.", name(id, number));
            return Err(refused(400, "FAILED_PRECONDITION", &message));
        }
        let checksum = crc32c(&found.payload).wrapping_add(u32::from(broken));
        let payload = json!({"data": BASE64_STANDARD.encode(&found.payload), "dataCrc32c": checksum.to_string()});
        Ok(Reply::json(200, &json!({"name": name(id, number), "payload": payload})))
    }

    /// Aliases are no names for a change (reference of `versionAliases`). Destroyed is for ever.
    pub(super) fn turn(
        &mut self,
        id: &str,
        version: &str,
        state: VersionState,
        request: &Request,
        now: u64,
    ) -> Result<Reply, Reply> {
        let wanted = body(request)?;
        let etag = self.next_etag();
        let stale_versions = self.stale_versions;
        let secret = self.secret(id)?;
        let number: u64 = version.parse().map_err(|_| invalid("A version is changed by its number."))?;
        let index = index_of(number).ok_or_else(|| missing(id, version))?;
        let found = secret.versions.get_mut(index).ok_or_else(|| missing(id, version))?;
        check_etag(wanted["etag"].as_str(), &found.etag)?;
        if found.state == VersionState::Destroyed {
            let message = format!("Secret Version [{}] is in DESTROYED state.", name(id, number));
            return Err(refused(400, "FAILED_PRECONDITION", &message));
        }
        if state != VersionState::Disabled {
            found.stale = 0;
        } else if found.state == VersionState::Enabled {
            found.stale = stale_versions;
        }
        found.state = state;
        found.etag = etag;
        if state == VersionState::Destroyed {
            found.payload.clear();
            found.destroyed = Some(now);
        }
        Ok(Reply::json(200, &told(id, number, secret, request)).changed())
    }
}

impl Version {
    /// Its state as a read finds it.
    fn seen(&self) -> VersionState {
        if self.stale > 0 { VersionState::Enabled } else { self.state }
    }
}

/// The number behind a number, `latest` or an alias. Reads by alias may see what was (docs/reference/consistency).
fn seen(id: &str, version: &str, secret: &mut Secret) -> Result<u64, Reply> {
    if let Ok(number) = version.parse::<u64>() {
        return at(secret, number).map(|_| number).ok_or_else(|| missing(id, version));
    }
    if version == "latest" {
        let newest = secret.versions.len() as u64;
        return if newest == 0 { Err(missing(id, version)) } else { Ok(newest) };
    }
    let number = match &mut secret.stale {
        Some((aliases, left)) if *left > 0 => {
            *left -= 1;
            aliases.get(version)
        }
        _ => secret.aliases.get(version),
    };
    number.copied().ok_or_else(|| missing(id, version))
}

fn at(secret: &Secret, number: u64) -> Option<&Version> {
    secret.versions.get(index_of(number)?)
}

fn index_of(number: u64) -> Option<usize> {
    usize::try_from(number.checked_sub(1)?).ok()
}

fn missing(id: &str, version: &str) -> Reply {
    not_found(&format!("Secret Version [projects/{PROJECT_NUMBER}/secrets/{id}/versions/{version}]"))
}

fn name(id: &str, number: u64) -> String {
    format!("projects/{PROJECT_NUMBER}/secrets/{id}/versions/{number}")
}

fn told(id: &str, number: u64, secret: &Secret, request: &Request) -> Value {
    let Some(version) = at(secret, number) else { return Value::Null };
    let numbers = request.parameter("$alt").is_some_and(|alt| alt.contains("enum-encoding=int"));
    let (text, value) = match version.seen() {
        VersionState::Enabled => ("ENABLED", 1),
        VersionState::Disabled => ("DISABLED", 2),
        VersionState::Destroyed => ("DESTROYED", 3),
    };
    let mut told = json!({
        "name": name(id, number),
        "createTime": time(version.created),
        "state": if numbers { json!(value) } else { json!(text) },
        "replicationStatus": {"automatic": {}},
        "etag": version.etag,
        "clientSpecifiedPayloadChecksum": version.checked,
    });
    if let Some(at) = version.destroyed {
        told["destroyTime"] = json!(time(at));
    }
    told
}

/// CRC-32C (Castagnoli), bit by bit: independent of the table that the client has (RFC 3720 appendix B.4 has vectors).
pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0_u32, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_of_rfc_3720() {
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(&(0..32).collect::<Vec<u8>>()), 0x46dd_794e);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}
