//! Revocations in the state's database.
//!
//! Invariant: of two records of one target the later `before` and the later `expires_at` stand, so that no write makes
//! a token valid again; the position of a record that was changed is new.

use kh_core::{
    UnixMillis,
    audit::AuditEvent,
    port::{BoxFuture, RevocationStore, StateError, inbound::PlacedRevocation},
    revocation::RevocationRecord,
};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::{
    SqliteState,
    failure::Failure,
    sql::{self, Applied, Change, Refused, integer, json, millis, time},
};

/// Records of one write: revoking one token takes three.
const RECORDS_MAX: usize = 64;

/// Longest name of whose token it is, in bytes; a longer one could not be read back as part of a target.
const NAME_MAX: usize = kh_core::revocation::PART_MAX;

impl RevocationStore for SqliteState {
    fn add_revocations(
        &self,
        records: Vec<RevocationRecord>,
        event: Option<AuditEvent>,
    ) -> BoxFuture<'_, Result<(), StateError>> {
        Box::pin(self.change(Change::Revoke { records, event }))
    }

    fn revocations_after(&self, position: u64, limit: u32) -> BoxFuture<'_, Result<Vec<PlacedRevocation>, StateError>> {
        Box::pin(self.read(move |connection| after(connection, position, limit)))
    }

    fn forget_revocations(&self, cutoff: UnixMillis, limit: u32) -> BoxFuture<'_, Result<usize, StateError>> {
        Box::pin(async move {
            match self.apply(Change::ForgetRevocations { cutoff, limit }).await? {
                Applied::Deleted(count) => Ok(count),
                Applied::Changed | Applied::Unchanged | Applied::Lease(_) | Applied::Session(_) => Ok(0),
            }
        })
    }
}

/// Adds the records in the open transaction.
pub(crate) fn add(connection: &Connection, records: &[RevocationRecord]) -> Result<Applied, Refused> {
    let refused = |reason: &str| Refused::Change(StateError::Unavailable { reason: reason.to_owned(), source: None });
    if records.len() > RECORDS_MAX {
        return Err(refused("too many revocations in one write"));
    }
    for record in records {
        let names = [&record.issuer, &record.client, &record.subject];
        let too_long = names.into_iter().flatten().any(|name| name.len() > NAME_MAX);
        if too_long || record.target.clone().checked().is_err() {
            return Err(refused("a name in a revocation is empty or too long"));
        }
        add_one(connection, record)?;
    }
    Ok(if records.is_empty() { Applied::Unchanged } else { Applied::Changed })
}

fn add_one(connection: &Connection, record: &RevocationRecord) -> Result<(), Refused> {
    let key = record.target.key();
    let stands: Option<(i64, i64)> = connection
        .prepare_cached("SELECT before, expires_at FROM revocations WHERE target_key = ?1")?
        .query_row([&key.0[..]], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (mut before, mut expires_at) = (time(record.before), time(record.expires_at));
    if let Some((standing_before, standing_end)) = stands {
        (before, expires_at) = (before.max(standing_before), expires_at.max(standing_end));
        connection.prepare_cached("DELETE FROM revocations WHERE target_key = ?1")?.execute([&key.0[..]])?;
    }
    connection
        .prepare_cached(
            "INSERT INTO revocations (target_key, target, before, revoked_at, expires_at, issuer, client, subject) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            &key.0[..],
            json(&record.target)?,
            before,
            time(record.revoked_at),
            expires_at,
            record.issuer,
            record.client,
            record.subject
        ])?;
    Ok(())
}

fn after(connection: &Connection, position: u64, limit: u32) -> Result<Vec<PlacedRevocation>, Failure> {
    let mut statement =
        connection.prepare_cached("SELECT * FROM revocations WHERE position > ?1 ORDER BY position LIMIT ?2")?;
    let rows = statement.query_map(params![integer(position), limit], placed)?;
    rows.map(|row| row.map_err(Failure::from_row)).collect()
}

/// Deletes what expired before `cutoff`, in the open transaction.
pub(crate) fn forget(connection: &Connection, cutoff: UnixMillis, limit: u32) -> Result<Applied, Refused> {
    let deleted = connection
        .prepare_cached(
            "DELETE FROM revocations WHERE position IN \
             (SELECT position FROM revocations WHERE expires_at < ?1 ORDER BY expires_at LIMIT ?2)",
        )?
        .execute(params![time(cutoff), limit])?;
    Ok(Applied::Deleted(deleted))
}

fn placed(row: &Row<'_>) -> rusqlite::Result<PlacedRevocation> {
    let record = RevocationRecord {
        target: sql::parsed(row, "target")?,
        before: millis(row.get("before")?),
        revoked_at: millis(row.get("revoked_at")?),
        expires_at: millis(row.get("expires_at")?),
        issuer: row.get("issuer")?,
        client: row.get("client")?,
        subject: row.get("subject")?,
    };
    Ok(PlacedRevocation { position: u64::try_from(row.get::<_, i64>("position")?).unwrap_or(0), record })
}
