//! What bounds the journal: sizes, counts, and which old rows go.
//!
//! Invariant: nothing that an unfinished run needs is ever pruned, and what does not fit is refused, not cut.

use std::time::Duration;

use kh_core::{CredentialName, UnixMillis, port::JournalError, port::rotation_journal::Sighting};
use rusqlite::{Connection, params};

use crate::sql::{Refused, json, time};

/// Longest record in bytes. One names ids and versions: a few hundred; a list of thousands of ids stays below this.
const RECORD_MAX: usize = 1024 * 1024;

/// Longest sealed document in bytes: the largest credential document with room for nonce and tag.
const SEALED_MAX: usize = kh_core::credential::DOCUMENT_MAX + 1024;

/// Longest name, actor or reason in bytes.
const TEXT_MAX: usize = 2048;

/// Records of one run. A run has some dozens, and one more for each retry that is worth one.
const RECORDS_MAX: u64 = 10_000;

/// Names that were ever leased: each credential and a few that are shared.
const LEASES_MAX: i64 = 20_000;

/// Approvals of one run; two persons are needed, more may say yes.
const APPROVALS_MAX: i64 = 64;

/// Ended runs kept of one credential; what happened earlier stands in the audit log.
const RUNS_KEPT: i64 = 10;

/// Younger ended runs are kept beyond that, so that what may be done per day can be counted ...
const RUNS_KEPT_FOR: Duration = Duration::from_hours(48);

/// ... but no more than these.
const RUNS_MAX: i64 = 200;

/// Consumers of one credential, by secret and grade. A fleet of a few hundred processes fits.
const SIGHTINGS_MAX: i64 = 4096;

/// How long a consumer that is gone is remembered.
const SIGHTINGS_KEPT: Duration = Duration::from_hours(30 * 24);

fn too_much<T>(what: &str) -> Result<T, Refused> {
    Err(Refused::Journal(JournalError::Unavailable(what.to_owned())))
}

pub(super) fn record(record: &str) -> Result<(), Refused> {
    if record.len() > RECORD_MAX {
        return too_much(&format!("a record may have {RECORD_MAX} bytes"));
    }
    Ok(())
}

pub(super) fn sealed(sealed: &[u8]) -> Result<(), Refused> {
    if sealed.len() > SEALED_MAX {
        return too_much(&format!("what is kept in escrow may have {SEALED_MAX} bytes"));
    }
    Ok(())
}

pub(super) fn text(what: &str, parts: &[&str]) -> Result<(), Refused> {
    if parts.iter().any(|part| part.len() > TEXT_MAX) {
        return too_much(&format!("{what} has a text longer than {TEXT_MAX} bytes"));
    }
    Ok(())
}

/// The last record of a run always finds room, so that a run that was told to stop can.
pub(super) fn position(seq: u64, ends: bool) -> Result<(), Refused> {
    if seq > RECORDS_MAX && !ends {
        return too_much(&format!("a run may have {RECORDS_MAX} records; abort it"));
    }
    Ok(())
}

fn count(connection: &Connection, statement: &str, of: impl rusqlite::Params) -> Result<i64, Refused> {
    Ok(connection.prepare_cached(statement)?.query_row(of, |row| row.get(0))?)
}

pub(super) fn leases(connection: &Connection) -> Result<(), Refused> {
    if count(connection, "SELECT count(*) FROM rotation_leases", [])? >= LEASES_MAX {
        return too_much(&format!("there are {LEASES_MAX} names of leases already"));
    }
    Ok(())
}

/// Who said yes already may always say it again.
pub(super) fn approvals(connection: &Connection, run: i64, allows: &str, actor: &str) -> Result<(), Refused> {
    let others = "SELECT count(*) FROM rotation_approvals WHERE run = ?1 AND NOT (allows = ?2 AND actor = ?3)";
    if count(connection, others, params![run, allows, actor])? >= APPROVALS_MAX {
        return too_much(&format!("the run has {APPROVALS_MAX} approvals already"));
    }
    Ok(())
}

/// Forgets the oldest ended runs of a credential.
pub(super) fn prune_runs(connection: &Connection, credential: &CredentialName, now: UnixMillis) -> Result<(), Refused> {
    connection
        .prepare_cached(
            "DELETE FROM rotation_runs WHERE number IN (SELECT number FROM \
             (SELECT number, ended_at, row_number() OVER (ORDER BY number DESC) AS age FROM rotation_runs \
              WHERE credential = ?1 AND ended_at IS NOT NULL) \
             WHERE (age > ?2 AND ended_at < ?3) OR age > ?4)",
        )?
        .execute(params![credential.as_str(), RUNS_KEPT, time(now.minus(RUNS_KEPT_FOR)), RUNS_MAX])?;
    Ok(())
}

/// A consumer that is known may always be seen again. A new one is refused when too many live ones are known: to
/// forget one that still uses the old secret would be worse than not to take another.
pub(super) fn make_room_for(connection: &Connection, sighting: &Sighting) -> Result<(), Refused> {
    let known = connection
        .prepare_cached(
            "SELECT 1 FROM rotation_sightings \
             WHERE credential = ?1 AND consumer = ?2 AND fingerprint = ?3 AND grade = ?4",
        )?
        .exists(params![
            sighting.credential.as_str(),
            sighting.consumer,
            sighting.fingerprint.as_str(),
            json(&sighting.grade)?
        ])?;
    if known {
        return Ok(());
    }
    let forget = |before: UnixMillis| {
        connection
            .prepare_cached("DELETE FROM rotation_sightings WHERE credential = ?1 AND alive_until < ?2")?
            .execute(params![sighting.credential.as_str(), time(before)])
    };
    forget(sighting.at.minus(SIGHTINGS_KEPT))?;
    let held = || {
        count(
            connection,
            "SELECT count(*) FROM rotation_sightings WHERE credential = ?1",
            [sighting.credential.as_str()],
        )
    };
    if held()? < SIGHTINGS_MAX {
        return Ok(());
    }
    forget(sighting.at)?;
    if held()? < SIGHTINGS_MAX {
        return Ok(());
    }
    too_much(&format!("{} has {SIGHTINGS_MAX} live consumers already", sighting.credential))
}
