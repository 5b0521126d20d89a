//! The step that replaces the platform's secret while applications call, with a timeline that grows as it happens.
//!
//! Invariant: every call of every application is counted, and one that failed fails the step; the old secret is tried
//! at the platform itself.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use kh_core::credential::CredentialDocument;
use kh_rotation::{End, Level};
use kh_rotator::{Outlook, Patience, Standing, Timeline, Wanted, drive, open};
use parking_lot::Mutex;
use serde_json::json;
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{Held, Scene, USERS, ensure, expect_status};
use crate::demo::application::Application;

/// Callers at once, each with a pause between two calls: about a hundred calls a second.
const CALLERS: usize = 5;
const PAUSE: Duration = Duration::from_millis(50);

/// Calls before the rotation begins, and after it ended.
const CALLS_AROUND: usize = 25;

/// How often the line with the counts is drawn.
const FRAME: Duration = Duration::from_millis(100);

/// Requests that the platform lets through for one token in this step.
const RAISED: u32 = 100_000;

/// A rotation of the story takes some seconds; one that takes longer does not end.
const LIMIT: Duration = Duration::from_secs(25);

/// What the callers saw.
#[derive(Default)]
struct Tally {
    answered: AtomicUsize,
    failed: Mutex<Vec<String>>,
}

impl Tally {
    fn calls(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    fn failures(&self) -> usize {
        self.failed.lock().len()
    }

    /// Waits until there were so many calls more.
    async fn more(&self, calls: usize) {
        let enough = self.calls().saturating_add(calls);
        while self.calls() < enough {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn call(application: Application, tally: Arc<Tally>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let failure = match application.get(&format!("{USERS}?pageSize=1")).await {
            Ok(answer) if answer.status == 200 => None,
            Ok(answer) => Some(format!("{} {}", answer.status, answer.field("code"))),
            Err(error) => Some(error),
        };
        tally.answered.fetch_add(1, Ordering::Relaxed);
        tally.failed.lock().extend(failure);
        tokio::time::sleep(PAUSE).await;
    }
}

impl Scene<'_> {
    pub(super) async fn rotation(&mut self) -> Held {
        let usual = self.control.limits().await?;
        let mut raised = usual.clone();
        if let Some(limits) = raised.as_object_mut() {
            limits.insert("requests_per_token".to_owned(), RAISED.into());
        }
        self.control.set_limits(raised).await?;
        self.narrator.tell(&format!("for this step the sandbox's limit is raised to {RAISED} calls per minute"));
        let old = self.world.shop_document().await.map_err(|failure| failure.in_one_line())?;
        let mark = self.control.mark().await?;
        let login = self.cast.shop.login().await?;
        expect_status("the login of the shop's application", &login, 200)?;
        let (tally, stop) = (Arc::new(Tally::default()), CancellationToken::new());
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            drop(callers.spawn(call(self.cast.shop.clone(), Arc::clone(&tally), stop.clone())));
        }
        let rotated = self.under_load(&tally).await;
        stop.cancel();
        while callers.join_next().await.is_some() {}
        rotated?;
        self.judge(&tally)?;
        let new = self.world.shop_document().await.map_err(|failure| failure.in_one_line())?;
        self.old_is_dead(&old, &new).await?;
        let journal = self.control.since(mark).await?;
        self.control.set_limits(usual).await?;
        self.control.faults(json!([])).await?;
        let (served, made) = (journal.answered("GET", USERS, 200), journal.count("POST", "/api/v2/oauth/clients"));
        let calls = tally.calls();
        ensure(served >= calls, || format!("the platform served {served} calls, not {calls}"))?;
        ensure(made == 1, || format!("the platform made {made} clients, not 1"))?;
        self.narrator.journal(&format!("{served} calls served, 1 new client made, the old one deleted"));
        self.cast.platform_secrets.extend([old.client_secret, new.client_secret].into_iter().flatten());
        Ok(())
    }

    /// Calls, then the rotation, then calls again.
    async fn under_load(&self, tally: &Tally) -> Held {
        let around = async {
            tally.more(CALLS_AROUND).await;
            self.rotate(tally).await?;
            tally.more(CALLS_AROUND).await;
            Ok(())
        };
        let late = || format!("the rotation did not end within {} s", LIMIT.as_secs());
        tokio::time::timeout(LIMIT, around).await.map_err(|_elapsed| late())?
    }

    /// `keyholder rotate run shop --wait`, with its timeline.
    async fn rotate(&self, tally: &Tally) -> Held {
        self.narrator.tell("keyholder rotate run shop --wait");
        let rotating = self.world.rotation().map_err(|failure| failure.in_one_line())?;
        let wanted =
            Wanted { level: Level::Regular, actor: "keyholder-demo".to_owned(), reason: "the story".to_owned() };
        let session = open(&rotating.services, &rotating.subject, Some(wanted)).await;
        let session = session.map_err(|error| format!("the rotation did not begin: {error}"))?;
        let mut session = session.ok_or_else(|| "the rotation did not begin".to_owned())?;
        let lines = session.watch();
        let stop = CancellationToken::new();
        let driving = drive(&mut session, &rotating.services, Patience::UntilEnd, &stop);
        tokio::pin!(driving);
        let (begin, mut shown) = (Instant::now(), 0);
        let mut frames = tokio::time::interval(FRAME);
        let ended = loop {
            tokio::select! {
                biased;
                ended = &mut driving => break ended,
                _ = frames.tick() => {
                    let timeline = lines.borrow().clone();
                    self.show(&timeline, &mut shown, begin, tally);
                    self.break_once(&timeline, tally).await?;
                    if let Outlook::NeedsOperator { why, .. } = &timeline.outlook {
                        return Err(format!("the rotation needs a person: {why}"));
                    }
                }
            }
        };
        self.show(&lines.borrow().clone(), &mut shown, begin, tally);
        rotating.broker.shutdown().await;
        match ended.map_err(|error| format!("the rotation stopped: {error}"))? {
            Some(Standing::Ended(End::Completed { .. })) => Ok(()),
            _ => Err("the rotation did not complete".to_owned()),
        }
    }

    /// What happened since the last look, and below it the counts as they are.
    fn show(&self, timeline: &Timeline, shown: &mut u64, begin: Instant, tally: &Tally) {
        let before = *shown;
        for line in timeline.lines.iter().filter(|line| line.seq > before) {
            *shown = line.seq;
            self.narrator.event(begin.elapsed(), tally.calls(), &line.text);
        }
        let waits = match &timeline.outlook {
            Outlook::Waiting { why, .. } => why.as_str(),
            Outlook::NeedsOperator { .. } | Outlook::Working | Outlook::Ended => "working",
        };
        let (calls, failed, seconds) = (tally.calls(), tally.failures(), begin.elapsed().as_secs_f64());
        self.narrator.live(&format!("{seconds:>5.1} s {calls:>5} calls, {failed} failed: {waits}"));
    }

    /// The sabotage: one call is refused as soon as the new secret is live.
    async fn break_once(&self, timeline: &Timeline, tally: &Tally) -> Held {
        let is_live = timeline.lines.iter().any(|line| line.text.starts_with("promoted"));
        if !is_live || tally.failures() > 0 {
            return Ok(());
        }
        let refused = json!({ "kind": "status", "status": 403 });
        self.sabotage(json!({ "platform": "genesys", "path": USERS, "first": 1 }), refused).await
    }

    fn judge(&self, tally: &Tally) -> Held {
        let (calls, failed) = (tally.calls(), tally.failed.lock());
        let first = failed.first().cloned().unwrap_or_default();
        ensure(failed.is_empty(), || format!("{} of {calls} calls failed ({first})", failed.len()))?;
        self.narrator.tell(&format!("{calls} calls while the secret was replaced, 0 failed"));
        Ok(())
    }

    /// Tries both secrets at the platform itself.
    async fn old_is_dead(&self, old: &CredentialDocument, new: &CredentialDocument) -> Held {
        let (dead, alive) = (self.login_at_platform(old).await?, self.login_at_platform(new).await?);
        ensure((400..=401).contains(&dead), || format!("a login with the old secret was answered {dead}"))?;
        ensure(alive == 200, || format!("a login with the new secret was answered {alive}"))?;
        self.narrator.tell(&format!("at the platform itself: the old secret {dead}, the new one {alive}"));
        Ok(())
    }

    async fn login_at_platform(&self, document: &CredentialDocument) -> Result<u16, String> {
        let secret = document.client_secret.as_ref().map(kh_core::SecretString::expose);
        let request = self
            .world
            .http()
            .post(format!("{}/oauth/token", self.world.sandbox().genesys_url))
            .basic_auth(document.client_id.as_deref().unwrap_or_default(), secret)
            .form(&[("grant_type", "client_credentials")]);
        let response = request.send().await.map_err(|error| format!("the platform does not answer: {error}"))?;
        Ok(response.status().as_u16())
    }
}
