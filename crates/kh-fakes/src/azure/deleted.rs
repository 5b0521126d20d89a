//! Soft delete, which no vault can be without since 2025: a deleted name stays taken until it is recovered or purged.
//!
//! Source: learn.microsoft.com/azure/key-vault/general/soft-delete-overview.

use serde_json::{Value, json};

use super::{Secret, State, not_found, refused, secrets};
use crate::fake::{Reply, Request};

/// How long a deleted secret can be recovered, in seconds: the default of 90 days.
const RETENTION_SECONDS: u64 = 90 * 86_400;

/// A deleted secret with all of its versions.
#[derive(Debug)]
pub(super) struct Deleted {
    secret: Secret,
    at: u64,
}

impl State {
    pub(super) fn delete(&mut self, name: &str, request: &Request, now: u64) -> Result<Reply, Reply> {
        self.may("delete")?;
        self.not_recovering(name)?;
        let secret = self.secrets.remove(name).ok_or_else(|| not_found(name))?;
        let deleted = Deleted { secret, at: now };
        let told = told(&request.origin, name, &deleted);
        self.deleted.insert(name.to_owned(), deleted);
        Ok(Reply::json(200, &told).changed())
    }

    pub(super) fn list_deleted(&mut self, request: &Request) -> Result<Reply, Reply> {
        self.may("list")?;
        let items = self.deleted.iter().map(|(name, found)| (name.clone(), told(&request.origin, name, found)));
        secrets::page(items.collect(), request, self.page_size)
    }

    pub(super) fn get_deleted(&mut self, name: &str, request: &Request) -> Result<Reply, Reply> {
        self.may("get")?;
        let found = self.deleted.get(name).ok_or_else(|| deleted_not_found(name))?;
        Ok(Reply::json(200, &told(&request.origin, name, found)))
    }

    pub(super) fn recover(&mut self, name: &str, request: &Request) -> Result<Reply, Reply> {
        self.may("recover")?;
        let found = self.deleted.remove(name).ok_or_else(|| deleted_not_found(name))?;
        let newest = found.secret.versions.last().ok_or_else(|| deleted_not_found(name))?;
        let told = secrets::bundle(&request.origin, name, newest, false);
        self.secrets.insert(name.to_owned(), found.secret);
        if self.recovery_requests > 0 {
            self.recovering.insert(name.to_owned(), self.recovery_requests);
        }
        Ok(Reply::json(200, &told).changed())
    }

    pub(super) fn purge(&mut self, name: &str) -> Result<Reply, Reply> {
        self.may("purge")?;
        self.deleted.remove(name).ok_or_else(|| deleted_not_found(name))?;
        Ok(Reply::empty(204).changed())
    }
}

fn deleted_not_found(name: &str) -> Reply {
    refused(404, "SecretNotFound", &format!("Deleted Secret not found: {name}"), None)
}

/// A `DeletedSecretBundle`: no value, and where it can be recovered.
fn told(origin: &str, name: &str, deleted: &Deleted) -> Value {
    let mut told = match deleted.secret.versions.last() {
        Some(newest) => secrets::bundle(origin, name, newest, false),
        None => json!({}),
    };
    told["recoveryId"] = json!(format!("{origin}/deletedsecrets/{name}"));
    told["deletedDate"] = json!(deleted.at);
    told["scheduledPurgeDate"] = json!(deleted.at + RETENTION_SECONDS);
    told
}
