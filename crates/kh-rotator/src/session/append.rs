//! Records into the journal: with their escrow, their audit event, and then the words about them.
//!
//! Invariant: nobody is told of what is not durable.

use std::time::Duration;

use kh_core::{
    SecretBytes,
    port::{
        JournalError,
        rotation_journal::{Append, EscrowChange},
    },
};
use kh_rotation::{Entry, Escrow, Outcome, Run, Step, View};

use super::{Halt, Session};
use crate::{escrow::SealedFor, timeline::Outlook, told};

/// Pause between two tries to keep a secret that the platform told once.
const KEEP_PAUSE: Duration = Duration::from_secs(1);

/// How often that is tried: as long as it takes an operator to make room on a disk. Then the secret is lost, and the
/// next look finds an orphan, or a regenerated secret that nobody has.
const KEEP_TRIES: u32 = 3600;

impl Session {
    fn sealed_for(&self, name: &'static str) -> SealedFor<'_> {
        let began = self.run.began();
        SealedFor { credential: &began.credential, generation: began.generation, run: began.run, name }
    }

    fn escrow_changes(&self, entry: &Entry, kept: Option<&SecretBytes>) -> Result<Vec<EscrowChange>, Halt> {
        let mut changes = Vec::new();
        if let Some(keep) = entry.escrow.keep {
            let name = keep.as_str();
            let plain = kept.ok_or(Halt::NoEscrow { run: self.run.began().run, name })?;
            let sealed = self.services.escrow.seal(self.sealed_for(name), plain, &*self.services.entropy);
            changes.push(EscrowChange::Keep { name, sealed });
        }
        changes.extend(entry.escrow.forget.iter().map(|gone| EscrowChange::Forget { name: gone.as_str() }));
        Ok(changes)
    }

    /// Appends an entry, and takes it into the run. While a hold stands, an entry that it stops is dropped and the core
    /// asked again.
    pub(super) async fn append(&mut self, entry: Entry, kept: Option<SecretBytes>) -> Result<(), Halt> {
        let began = self.run.began();
        let event = told::event(&self.services, began, self.run.seq() + 1, &entry.record.step);
        let append = Append {
            run: began.run,
            seq: self.run.seq() + 1,
            lease: self.lease.clone(),
            at: entry.record.at,
            record: entry.record.to_json(),
            escrow: self.escrow_changes(&entry, kept.as_ref())?,
            unless_held: entry.unless_held,
            ends: entry.ends,
            event,
        };
        match self.write(append, kept.is_some()).await {
            Ok(()) => {}
            Err(JournalError::Held { .. }) => {
                self.view = self.view.after_wait();
                self.view.armed = false;
                return Ok(());
            }
            Err(JournalError::Fenced(_) | JournalError::MovedOn(_)) => {
                return Err(Halt::TakenOver(self.subject.credential.clone()));
            }
            Err(error) => return Err(error.into()),
        }
        drop(kept);
        let id = self.run.began().run;
        let unreadable = |error: kh_rotation::Impossible| Halt::Unreadable { run: id, why: error.to_string() };
        let mut run = self.run.clone();
        run.apply(&entry.record).map_err(unreadable)?;
        let before = std::mem::replace(&mut self.run, run);
        self.view = View::after_append(entry.intends());
        self.tell(&before, &entry);
        let promoted = matches!(&entry.record.step, Step::Settled { outcome: Outcome::Promoted { .. } });
        if let Some(supply) = self.subject.supply.as_ref().filter(|_| promoted) {
            supply.promoted(&self.subject.credential);
        }
        Ok(())
    }

    async fn write(&self, append: Append, secret: bool) -> Result<(), JournalError> {
        let mut tries = 0;
        loop {
            match self.services.journal.append(append.clone()).await {
                Err(JournalError::Unavailable(reason)) if secret && tries < KEEP_TRIES => {
                    if tries == 0 {
                        tracing::error!(
                            credential = %self.subject.credential,
                            rotation.run = %append.run,
                            "a new secret cannot be kept, and is tried again every second: {reason}"
                        );
                    }
                    tries += 1;
                    self.services.timer.sleep(KEEP_PAUSE).await;
                }
                verdict => return verdict,
            }
        }
    }

    /// Words about a record that is durable: a log line, the timeline, a notice where people should know.
    fn tell(&self, before: &Run, entry: &Entry) {
        let began = self.run.began();
        let line = told::line(&entry.record.step);
        tracing::info!(
            credential = %began.credential,
            rotation.run = %began.run,
            rotation.seq = self.run.seq(),
            "rotation: {line}"
        );
        self.timeline.send_modify(|timeline| {
            timeline.add(entry.record.at, self.run.seq(), line);
            timeline.outlook = Outlook::Working;
        });
        let step = &entry.record.step;
        let settled = told::settled(before, self.run.seq(), entry.record.at, step);
        for notice in settled.into_iter().chain(told::notice(&self.run, self.run.seq(), entry.record.at, step)) {
            self.services.notifier.notify(notice);
        }
    }

    pub(super) fn outlook(&self, outlook: Outlook) {
        self.timeline.send_if_modified(|timeline| {
            let changed = timeline.outlook != outlook;
            timeline.outlook = outlook;
            changed
        });
    }

    /// After a restart: people may not have been told what the journal says. The notice is the same one.
    pub(super) fn remind(&self) {
        let Some(need) = self.run.need() else { return };
        let step = if self.run.stands_still() {
            Step::Stuck { why: need.why.clone(), next: need.next.clone() }
        } else {
            Step::Alarmed { why: need.why.clone(), next: need.next.clone() }
        };
        if let Some(notice) = told::notice(&self.run, self.run.seq(), self.services.now(), &step) {
            self.services.notifier.notify(notice);
        }
    }

    /// What a record of the core's own keeps in escrow: the document that the stores served.
    pub(super) fn to_keep(&self, entry: &Entry) -> Result<Option<SecretBytes>, Halt> {
        let (Some(Escrow::Old), Step::Preflighted(base)) = (entry.escrow.keep, &entry.record.step) else {
            return Ok(None);
        };
        let served = self.live.values().find(|document| document.fingerprint(&self.services.fingerprinter) == base.old);
        let missing = Halt::NoEscrow { run: self.run.began().run, name: Escrow::Old.as_str() };
        Ok(Some(served.ok_or(missing)?.to_json()))
    }

    /// Opens a value of the escrow. One that another process forgot meanwhile is no damage: the run has moved on.
    pub(super) async fn opened(&self, which: Escrow) -> Result<SecretBytes, Halt> {
        let (run, name) = (self.run.began().run, which.as_str());
        let Some(sealed) = self.services.journal.escrow(run, name).await? else {
            let written = self.services.journal.run(run).await?.records.len() as u64;
            let moved = written != self.run.seq();
            return Err(if moved {
                Halt::TakenOver(self.subject.credential.clone())
            } else {
                Halt::NoEscrow { run, name }
            });
        };
        Ok(self.services.escrow.open(self.sealed_for(name), &sealed)?)
    }
}
