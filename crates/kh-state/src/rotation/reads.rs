//! What the journal answers. Each read sees one moment of the database.

use kh_core::{
    CredentialName, Fingerprint,
    port::rotation_journal::{Approval, Hold, Sighting, StoredRecord, StoredRun},
    rotation::{RunId, VersionId},
};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::{
    failure::Failure,
    sql::{integer, millis, parsed, text},
};

pub(super) fn no_run_id(id: &str) -> Failure {
    Failure::Damaged(format!("{id:?} is no id of a rotation run"))
}

pub(super) fn no_credential(name: &str) -> Failure {
    Failure::Damaged(format!("{name:?} is no name of a credential"))
}

/// A run without its records.
fn head(row: &Row<'_>) -> rusqlite::Result<(i64, StoredRun)> {
    let run = StoredRun {
        id: RunId(text(row, "id")?),
        credential: text(row, "credential")?,
        began_at: millis(row.get("began_at")?),
        ended_at: row.get::<_, Option<i64>>("ended_at")?.map(millis),
        records: Vec::new(),
    };
    Ok((row.get("number")?, run))
}

fn records(connection: &Connection, run: i64) -> Result<Vec<StoredRecord>, Failure> {
    let mut statement =
        connection.prepare_cached("SELECT seq, fence, at, record FROM rotation_records WHERE run = ?1 ORDER BY seq")?;
    let rows = statement.query_map([run], |row| {
        Ok(StoredRecord {
            seq: unsigned(row.get("seq")?),
            fence: unsigned(row.get("fence")?),
            at: millis(row.get("at")?),
            record: row.get("record")?,
        })
    })?;
    rows.map(|row| row.map_err(Failure::from_row)).collect()
}

fn unsigned(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or(0)
}

/// The runs that `statement` finds, with their records, all of one moment.
fn whole(connection: &Connection, statement: &str, of: impl rusqlite::Params) -> Result<Vec<StoredRun>, Failure> {
    let moment = connection.unchecked_transaction()?;
    let mut runs = Vec::new();
    {
        let mut statement = moment.prepare_cached(statement)?;
        let rows = statement.query_map(of, head)?;
        for row in rows {
            let (number, mut run) = row.map_err(Failure::from_row)?;
            run.records = records(&moment, number)?;
            runs.push(run);
        }
    }
    moment.finish()?;
    Ok(runs)
}

pub(super) fn run(connection: &Connection, id: RunId) -> Result<Option<StoredRun>, Failure> {
    Ok(whole(connection, "SELECT * FROM rotation_runs WHERE id = ?1", [id.to_string()])?.pop())
}

pub(super) fn runs(
    connection: &Connection,
    credential: Option<&CredentialName>,
    limit: usize,
) -> Result<Vec<StoredRun>, Failure> {
    let limit = integer(u64::try_from(limit).unwrap_or(u64::MAX));
    match credential {
        Some(credential) => whole(
            connection,
            "SELECT * FROM rotation_runs WHERE credential = ?1 ORDER BY number DESC LIMIT ?2",
            params![credential.as_str(), limit],
        ),
        None => whole(connection, "SELECT * FROM rotation_runs ORDER BY number DESC LIMIT ?1", [limit]),
    }
}

pub(super) fn unfinished(connection: &Connection) -> Result<Vec<StoredRun>, Failure> {
    whole(connection, "SELECT * FROM rotation_runs WHERE ended_at IS NULL ORDER BY number", [])
}

pub(super) fn escrow(connection: &Connection, id: RunId, name: &str) -> Result<Option<Vec<u8>>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT sealed FROM rotation_escrow JOIN rotation_runs ON run = number WHERE id = ?1 AND name = ?2",
    )?;
    Ok(statement.query_row([id.to_string().as_str(), name], |row| row.get(0)).optional()?)
}

pub(super) fn hold(connection: &Connection, credential: &CredentialName) -> Result<Option<Hold>, Failure> {
    let mut statement =
        connection.prepare_cached("SELECT since, actor, reason FROM rotation_holds WHERE credential = ?1")?;
    let found = statement.query_row([credential.as_str()], |row| {
        Ok(Hold { since: millis(row.get("since")?), actor: row.get("actor")?, reason: row.get("reason")? })
    });
    Ok(found.optional()?)
}

/// None when there is no such run.
pub(super) fn approvals(connection: &Connection, id: RunId) -> Result<Option<Vec<Approval>>, Failure> {
    let number: Option<i64> = connection
        .prepare_cached("SELECT number FROM rotation_runs WHERE id = ?1")?
        .query_row([id.to_string()], |row| row.get(0))
        .optional()?;
    let Some(number) = number else { return Ok(None) };
    let mut statement =
        connection.prepare_cached("SELECT * FROM rotation_approvals WHERE run = ?1 ORDER BY at, actor")?;
    let rows = statement.query_map([number], |row| {
        Ok(Approval {
            of: parsed(row, "allows")?,
            actor: row.get("actor")?,
            at: millis(row.get("at")?),
            reason: row.get("reason")?,
        })
    })?;
    rows.map(|row| row.map_err(Failure::from_row)).collect::<Result<_, _>>().map(Some)
}

pub(super) fn sightings(connection: &Connection, credential: &CredentialName) -> Result<Vec<Sighting>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT * FROM rotation_sightings WHERE credential = ?1 ORDER BY consumer, at, fingerprint, grade",
    )?;
    let rows = statement.query_map([credential.as_str()], |row| {
        let fingerprint: String = row.get("fingerprint")?;
        Ok(Sighting {
            credential: text(row, "credential")?,
            consumer: row.get("consumer")?,
            fingerprint: Fingerprint::try_from(fingerprint).map_err(|error| {
                rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, error.into())
            })?,
            version: row.get::<_, Option<String>>("version")?.map(VersionId),
            grade: parsed(row, "grade")?,
            at: millis(row.get("at")?),
            alive_until: millis(row.get("alive_until")?),
        })
    })?;
    rows.map(|row| row.map_err(Failure::from_row)).collect()
}
