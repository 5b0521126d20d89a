//! The rotation journal as it lies in the file: runs that can be read, records without gaps, fences that only grew.

use kh_core::{CredentialName, rotation::RunId};
use rusqlite::Connection;

use super::{StateFinding, StateReport};
use crate::failure::Failure;

/// Records that are no run's next one, or that were written under an earlier fence than the one before.
const OUT_OF_ORDER: &str = "SELECT DISTINCT id FROM rotation_runs JOIN (SELECT run, seq, fence, \
     row_number() OVER (PARTITION BY run ORDER BY seq) AS place, \
     lag(fence, 1, 0) OVER (PARTITION BY run ORDER BY seq) AS before FROM rotation_records) ON run = number \
     WHERE seq <> place OR fence < before ORDER BY number";

/// Runs without a first record.
const EMPTY: &str = "SELECT id FROM rotation_runs WHERE NOT EXISTS \
     (SELECT 1 FROM rotation_records WHERE run = number) ORDER BY number";

/// Unfinished runs with a record of a fence that was never given out: a lease went back in time.
const AHEAD: &str = "SELECT DISTINCT id FROM rotation_runs JOIN rotation_records ON run = number \
     LEFT JOIN rotation_leases ON name = lease \
     WHERE ended_at IS NULL AND rotation_records.fence > coalesce(rotation_leases.fence, 0)";

/// Looks at every run.
pub(super) fn look(connection: &Connection, report: &mut StateReport) -> Result<(), Failure> {
    let mut statement = connection.prepare("SELECT id, credential FROM rotation_runs ORDER BY number")?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    for row in rows {
        let (id, credential) = row?;
        report.runs += 1;
        if id.parse::<RunId>().is_err() || credential.parse::<CredentialName>().is_err() {
            found(report, &id, "its id or its credential is no valid name");
        }
    }
    let mut records = connection
        .prepare("SELECT id, record FROM rotation_runs JOIN rotation_records ON run = number ORDER BY number, seq")?;
    let rows = records.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    for row in rows {
        let (id, record) = row?;
        if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&record) {
            found(report, &id, &format!("a record of it is no JSON ({error})"));
        }
    }
    for (question, problem) in [
        (OUT_OF_ORDER, "its records have a gap, or were written under fences that went back"),
        (EMPTY, "it has no records"),
        (AHEAD, "it was written under a fence that its lease never had"),
    ] {
        let mut statement = connection.prepare(question)?;
        let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
        for id in rows {
            found(report, &id?, problem);
        }
    }
    Ok(())
}

fn found(report: &mut StateReport, run: &str, problem: &str) {
    report.findings.push(StateFinding { subject: format!("the rotation run {run}"), problem: problem.to_owned() });
}
