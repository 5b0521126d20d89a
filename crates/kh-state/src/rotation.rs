//! The rotation journal in the state's database: each change as it runs inside a transaction.
//!
//! Invariant: whatever a change depends on (the fence, the position, a hold, the one unfinished run) is read in the
//! transaction that writes it. Records are only ever added; the database itself refuses anything else.

pub(crate) mod journal;
mod limits;
pub(crate) mod reads;

use std::time::Duration;

use kh_core::{
    CredentialName, UnixMillis,
    audit::AuditEvent,
    port::{
        JournalError,
        rotation_journal::{Append, Approval, EscrowChange, HeldLease, Hold, LEASE_MAX, NewRun, Sighting},
    },
    rotation::RunId,
};
use rusqlite::{Connection, OptionalExtension, params};

use crate::sql::{Applied, Refused, integer, json, millis, time};

/// One change of the journal, as it waits in the queue.
#[derive(Debug)]
pub(crate) enum JournalChange {
    Lease { name: String, owner: String, now: UnixMillis, life: Duration },
    Release(HeldLease),
    Begin { run: NewRun, lease: HeldLease, event: AuditEvent },
    Append(Append),
    SetHold { credential: CredentialName, hold: Option<Hold>, event: AuditEvent },
    Approve { run: RunId, approval: Approval, event: AuditEvent },
    Sight(Sighting),
}

impl JournalChange {
    /// The audit event that is written with the change, if there is a change.
    pub(crate) fn event(&self) -> Option<&AuditEvent> {
        match self {
            Self::Begin { event, .. } | Self::SetHold { event, .. } | Self::Approve { event, .. } => Some(event),
            Self::Append(append) => Some(&append.event),
            Self::Lease { .. } | Self::Release(_) | Self::Sight(_) => None,
        }
    }

    /// Whether it is written even while the audit log takes no entries: what has no event, and a secret that the
    /// platform told once, which is kept at any price while its event waits in the outbox.
    pub(crate) fn cannot_wait(&self) -> bool {
        match self {
            Self::Append(append) => append.escrow.iter().any(|change| matches!(change, EscrowChange::Keep { .. })),
            other => other.event().is_none(),
        }
    }
}

/// Runs one change in the open transaction.
pub(crate) fn apply(connection: &Connection, change: &JournalChange) -> Result<Applied, Refused> {
    match change {
        JournalChange::Lease { name, owner, now, life } => {
            Ok(Applied::Lease(take_lease(connection, name, owner, *now, *life)?))
        }
        JournalChange::Release(lease) => {
            connection
                .prepare_cached(
                    "UPDATE rotation_leases SET owner = NULL, expires_at = 0 \
                     WHERE name = ?1 AND owner = ?2 AND fence = ?3",
                )?
                .execute(params![lease.name, lease.owner, integer(lease.fence)])?;
            Ok(Applied::Changed)
        }
        JournalChange::Begin { run, lease, .. } => begin(connection, run, lease),
        JournalChange::Append(append) => self::append(connection, append),
        JournalChange::SetHold { credential, hold, .. } => set_hold(connection, credential, hold.as_ref()),
        JournalChange::Approve { run, approval, .. } => approve(connection, *run, approval),
        JournalChange::Sight(sighting) => sight(connection, sighting),
    }
}

fn refused<T>(error: JournalError) -> Result<T, Refused> {
    Err(Refused::Journal(error))
}

/// An owner whose lease is over gets the next fence like anybody else: what it still has under way is stale. So is a lease
/// that was taken while the wall clock was far ahead: the fence keeps its owner from writing.
fn take_lease(
    connection: &Connection,
    name: &str,
    owner: &str,
    now: UnixMillis,
    life: Duration,
) -> Result<Option<HeldLease>, Refused> {
    limits::text("a lease", &[name, owner])?;
    let found: Option<(Option<String>, i64, i64)> = connection
        .prepare_cached("SELECT owner, fence, expires_at FROM rotation_leases WHERE name = ?1")?
        .query_row([name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let until = now.plus(life);
    let lasts = |end: UnixMillis| end > now && end <= until.plus(LEASE_MAX);
    let (fence, expires_at) = match found {
        None => {
            limits::leases(connection)?;
            (1, until)
        }
        Some((Some(holder), fence, expires_at)) if lasts(millis(expires_at)) => {
            if holder != owner {
                return Ok(None);
            }
            (fence, until.max(millis(expires_at)))
        }
        Some((_, fence, _)) => (fence.saturating_add(1), until),
    };
    connection
        .prepare_cached(
            "INSERT INTO rotation_leases (name, owner, fence, expires_at) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, fence = excluded.fence, \
             expires_at = excluded.expires_at",
        )?
        .execute(params![name, owner, fence, time(expires_at)])?;
    let fence = u64::try_from(fence).unwrap_or(0);
    Ok(Some(HeldLease { name: name.to_owned(), owner: owner.to_owned(), fence, expires_at }))
}

/// The newest fence alone may write. Whether the lease is over by the clock does not matter as long as nobody took it.
fn fenced(connection: &Connection, lease: &HeldLease) -> Result<(), Refused> {
    let newest = connection
        .prepare_cached("SELECT 1 FROM rotation_leases WHERE name = ?1 AND owner = ?2 AND fence = ?3")?
        .exists(params![lease.name, lease.owner, integer(lease.fence)])?;
    if newest { Ok(()) } else { refused(JournalError::Fenced(lease.name.clone())) }
}

fn begin(connection: &Connection, run: &NewRun, lease: &HeldLease) -> Result<Applied, Refused> {
    fenced(connection, lease)?;
    limits::record(&run.record)?;
    let unfinished: Option<String> = connection
        .prepare_cached("SELECT id FROM rotation_runs WHERE (credential = ?1 AND ended_at IS NULL) OR id = ?2")?
        .query_row(params![run.credential.as_str(), run.id.to_string()], |row| row.get(0))
        .optional()?;
    if let Some(id) = unfinished {
        let id = id.parse().map_err(|_| reads::no_run_id(&id))?;
        return refused(JournalError::Unfinished(run.credential.clone(), id));
    }
    connection
        .prepare_cached("INSERT INTO rotation_runs (id, credential, lease, began_at) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![run.id.to_string(), run.credential.as_str(), lease.name, time(run.at)])?;
    let number = connection.last_insert_rowid();
    add_record(connection, number, 1, lease.fence, run.at, &run.record)?;
    limits::prune_runs(connection, &run.credential, run.at)?;
    Ok(Applied::Changed)
}

fn add_record(
    connection: &Connection,
    run: i64,
    seq: u64,
    fence: u64,
    at: UnixMillis,
    record: &str,
) -> Result<(), Refused> {
    connection
        .prepare_cached("INSERT INTO rotation_records (run, seq, fence, at, record) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![run, integer(seq), integer(fence), time(at), record])?;
    Ok(())
}

/// What a change needs to know of its run.
struct Standing {
    number: i64,
    credential: CredentialName,
    lease: String,
    ended: bool,
}

fn standing(connection: &Connection, id: RunId) -> Result<Standing, Refused> {
    let found: Option<(i64, String, String, bool)> = connection
        .prepare_cached("SELECT number, credential, lease, ended_at IS NOT NULL FROM rotation_runs WHERE id = ?1")?
        .query_row([id.to_string()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .optional()?;
    let Some((number, credential, lease, ended)) = found else { return refused(JournalError::NotFound(id)) };
    let credential = credential.parse().map_err(|_| reads::no_credential(&credential))?;
    Ok(Standing { number, credential, lease, ended })
}

fn append(connection: &Connection, append: &Append) -> Result<Applied, Refused> {
    let run = standing(connection, append.run)?;
    if run.lease != append.lease.name {
        return refused(JournalError::Fenced(append.lease.name.clone()));
    }
    fenced(connection, &append.lease)?;
    let written: i64 = connection
        .prepare_cached("SELECT coalesce(max(seq), 0) FROM rotation_records WHERE run = ?1")?
        .query_row([run.number], |row| row.get(0))?;
    if run.ended || integer(append.seq) != written.saturating_add(1) {
        return refused(JournalError::MovedOn(append.run));
    }
    if append.unless_held
        && let Some(hold) = reads::hold(connection, &run.credential)?
    {
        return refused(JournalError::Held { credential: run.credential, hold });
    }
    limits::record(&append.record)?;
    limits::position(append.seq, append.ends)?;
    add_record(connection, run.number, append.seq, append.lease.fence, append.at, &append.record)?;
    for change in &append.escrow {
        change_escrow(connection, run.number, change)?;
    }
    if append.ends {
        connection
            .prepare_cached("UPDATE rotation_runs SET ended_at = ?2 WHERE number = ?1")?
            .execute(params![run.number, time(append.at)])?;
    }
    Ok(Applied::Changed)
}

fn change_escrow(connection: &Connection, run: i64, change: &EscrowChange) -> Result<(), Refused> {
    match change {
        EscrowChange::Keep { name, sealed } => {
            limits::sealed(sealed)?;
            connection
                .prepare_cached(
                    "INSERT INTO rotation_escrow (run, name, sealed) VALUES (?1, ?2, ?3) \
                     ON CONFLICT (run, name) DO UPDATE SET sealed = excluded.sealed",
                )?
                .execute(params![run, name, sealed])?;
        }
        EscrowChange::Forget { name } => {
            connection
                .prepare_cached("DELETE FROM rotation_escrow WHERE run = ?1 AND name = ?2")?
                .execute(params![run, name])?;
        }
    }
    Ok(())
}

fn set_hold(connection: &Connection, credential: &CredentialName, hold: Option<&Hold>) -> Result<Applied, Refused> {
    let standing = reads::hold(connection, credential)?;
    if standing.as_ref() == hold {
        return Ok(Applied::Unchanged);
    }
    let Some(hold) = hold else {
        connection
            .prepare_cached("DELETE FROM rotation_holds WHERE credential = ?1")?
            .execute([credential.as_str()])?;
        return Ok(Applied::Changed);
    };
    limits::text("a hold", &[&hold.actor, &hold.reason])?;
    connection
        .prepare_cached(
            "INSERT INTO rotation_holds (credential, since, actor, reason) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT (credential) DO UPDATE SET since = excluded.since, actor = excluded.actor, \
             reason = excluded.reason",
        )?
        .execute(params![credential.as_str(), time(hold.since), hold.actor, hold.reason])?;
    Ok(Applied::Changed)
}

/// A person's later yes to the same thing takes the place of the earlier one: what it counts for may depend on when it
/// was given.
fn approve(connection: &Connection, id: RunId, approval: &Approval) -> Result<Applied, Refused> {
    let run = standing(connection, id)?;
    if run.ended {
        return refused(JournalError::MovedOn(id));
    }
    limits::text("an approval", &[&approval.actor, &approval.reason])?;
    let allows = json(&approval.of)?;
    limits::approvals(connection, run.number, &allows, &approval.actor)?;
    let written = connection
        .prepare_cached(
            "INSERT INTO rotation_approvals (run, allows, actor, at, reason) VALUES (?1, ?2, ?3, ?4, ?5) \
             ON CONFLICT (run, allows, actor) DO UPDATE SET at = excluded.at, reason = excluded.reason \
             WHERE excluded.at > rotation_approvals.at",
        )?
        .execute(params![run.number, allows, approval.actor, time(approval.at), approval.reason])?;
    Ok(if written == 0 { Applied::Unchanged } else { Applied::Changed })
}

/// A sighting that comes late does not hide a newer one.
fn sight(connection: &Connection, sighting: &Sighting) -> Result<Applied, Refused> {
    limits::text("a sighting", &[&sighting.consumer, sighting.version.as_ref().map_or("", |version| &version.0)])?;
    limits::make_room_for(connection, sighting)?;
    connection
        .prepare_cached(
            "INSERT INTO rotation_sightings (credential, consumer, fingerprint, grade, version, at, alive_until) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
             ON CONFLICT (credential, consumer, fingerprint, grade) DO UPDATE SET version = excluded.version, \
             at = excluded.at, alive_until = excluded.alive_until WHERE excluded.at >= rotation_sightings.at",
        )?
        .execute(params![
            sighting.credential.as_str(),
            sighting.consumer,
            sighting.fingerprint.as_str(),
            json(&sighting.grade)?,
            sighting.version.as_ref().map(|version| &version.0),
            time(sighting.at),
            time(sighting.alive_until),
        ])?;
    Ok(Applied::Changed)
}
