//! Everything that can be known to be wrong with a state without changing it.
//!
//! Invariant: reads alone; what one row has is told with its name and does not hide the others.

mod rotation;

use std::{collections::BTreeMap, path::Path};

use kh_core::{audit::AuditEvent, port::StateError};
use rusqlite::Connection;

use crate::{
    failure::Failure,
    file::{self, Found},
    schema::{self, Access, connect},
    sql,
};

/// SQLite's own findings that are told; a database with more is gone anyway.
const INTEGRITY_MAX: u32 = 20;

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StateFinding {
    /// What it concerns: a client's name, a table, or the file.
    pub subject: String,
    /// What is wrong, for a person.
    pub problem: String,
}

/// What a check saw.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StateReport {
    /// The schema of the file.
    pub schema: u32,
    /// Clients that can be read.
    pub clients: u32,
    /// Tokens, expired ones included.
    pub tokens: u32,
    /// Rotation runs that are kept, ended ones included.
    pub runs: u32,
    /// Audit events that wait for the log; more than zero for a moment during each change.
    pub waiting: u32,
    /// What is wrong.
    pub findings: Vec<StateFinding>,
}

/// Checks the state at `path`. An error means that it is not a state that this binary reads, or cannot be read now.
pub fn check(path: &Path) -> Result<StateReport, StateError> {
    if file::inspect(path)? == Found::Missing {
        return Err(StateError::Damaged(format!("{} does not exist", path.display())));
    }
    let connection = connect(path, Access::Read)?;
    let schema = schema::version(&connection)?;
    if schema > schema::VERSION {
        return Err(StateError::TooNew { found: schema, known: schema::VERSION });
    }
    connection.execute_batch("BEGIN DEFERRED").map_err(Failure::from)?;
    let mut report = StateReport { schema, ..StateReport::default() };
    structure(&connection, &mut report)?;
    if !report.findings.is_empty() {
        return Ok(report);
    }
    references(&connection, &mut report)?;
    if schema == schema::VERSION {
        clients(&connection, &mut report)?;
        rotation::look(&connection, &mut report)?;
    }
    outbox(&connection, &mut report)?;
    let count =
        |table: &str| connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, u32>(0));
    report.clients = count("clients").map_err(Failure::from_row)?;
    report.tokens = count("tokens").map_err(Failure::from_row)?;
    Ok(report)
}

fn structure(connection: &Connection, report: &mut StateReport) -> Result<(), Failure> {
    let mut statement = connection.prepare(&format!("PRAGMA integrity_check({INTEGRITY_MAX})"))?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
    for row in rows {
        let told = row?;
        if told != "ok" {
            report.findings.push(StateFinding { subject: "the file".to_owned(), problem: told });
        }
    }
    Ok(())
}

fn references(connection: &Connection, report: &mut StateReport) -> Result<(), Failure> {
    let mut statement = connection.prepare("PRAGMA foreign_key_check")?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(2)?)))?;
    let mut lost = BTreeMap::<_, u64>::new();
    for row in rows {
        *lost.entry(row?).or_default() += 1;
    }
    for ((table, parent), count) in lost {
        let owner = if parent == "clients" { "client" } else { "rotation run" };
        let problem = format!("{count} of them belong to no {owner}");
        report.findings.push(StateFinding { subject: format!("the {}", table.replace('_', " ")), problem });
    }
    Ok(())
}

fn clients(connection: &Connection, report: &mut StateReport) -> Result<(), Failure> {
    let mut statement = connection.prepare("SELECT * FROM clients ORDER BY name")?;
    let rows = statement.query_map([], |row| {
        let name: String = row.get("name")?;
        Ok((name, sql::client_of(row).map_err(|error| error.to_string())))
    })?;
    for row in rows {
        let (name, parsed) = row?;
        if let Err(problem) = parsed {
            let subject = format!("the client {name}");
            report.findings.push(StateFinding { subject, problem: format!("it cannot be read ({problem})") });
        }
    }
    Ok(())
}

fn outbox(connection: &Connection, report: &mut StateReport) -> Result<(), Failure> {
    let mut statement = connection.prepare("SELECT event_id, event FROM audit_outbox ORDER BY seq")?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    for row in rows {
        let (id, event) = row?;
        report.waiting += 1;
        if let Err(error) = serde_json::from_str::<AuditEvent>(&event) {
            let subject = format!("the waiting audit event {id}");
            report.findings.push(StateFinding { subject, problem: format!("it is not one ({error})") });
        }
    }
    Ok(())
}
