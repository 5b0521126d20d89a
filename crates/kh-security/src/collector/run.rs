//! The collector's loop: gathers lines into batches while the oldest batch is on its way or waits for its next try.
//!
//! A batch that the collector refuses (4xx about its content) is tried [`REFUSED_TRIES`] times, then cut in halves, and
//! those again, until the lines that it does not take stand alone: only they are given up.
//!
//! Invariants: one request at a time; no wait is longer than its limit; the loop ends soon after it is told to, with one
//! last try.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use kh_core::Entropy;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::{Batch, Intake, Post, Timing, Verdict, backlog::Backlog};
use crate::counters::CollectorCounters;

/// Lines in a batch.
pub(super) const BATCH_LINES: u32 = 500;

/// Bytes in a batch, before the line that fills it.
pub(super) const BATCH_BYTES: usize = 512 * 1024;

/// Tries of a batch that is refused, before it is cut in halves.
const REFUSED_TRIES: u32 = 3;

/// How often a spool's folder that another process uses is looked at: soon enough for what that one leaves, and one system
/// call a second.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Longest time for sending what is left at the end. Whoever stops the collector has to wait longer: what was not sent is
/// kept, or counted, after it.
pub const LAST_TRY: Duration = Duration::from_secs(2);

/// Lines that are being gathered.
#[derive(Default)]
struct Gathered {
    body: BytesMut,
    lines: u32,
    due: Option<Instant>,
}

impl Gathered {
    fn add(&mut self, line: &Bytes, delay: Duration) {
        self.due.get_or_insert_with(|| Instant::now() + delay);
        self.body.extend_from_slice(line);
        self.lines += 1;
    }

    fn is_full(&self) -> bool {
        self.lines >= BATCH_LINES || self.body.len() >= BATCH_BYTES
    }

    fn take(&mut self) -> Option<Batch> {
        self.due = None;
        let lines = std::mem::take(&mut self.lines);
        (lines > 0).then(|| Batch { lines, body: self.body.split().freeze() })
    }
}

/// The oldest batch and what of it is still to be sent.
struct Sending {
    /// Pieces, the next one last; the whole batch at first.
    pieces: Vec<Batch>,
    refusals: u32,
}

/// All that the loop works with.
pub(super) struct Run<P> {
    backlog: Backlog,
    post: Arc<P>,
    timing: Timing,
    entropy: Arc<dyn Entropy>,
    counters: CollectorCounters,
    sending: Option<Sending>,
    /// Tries in a row that failed.
    failures: u32,
    retry_at: Option<Instant>,
    /// When to look next whether the spool's folder can be taken over; none: at the next turn without a request.
    look_at: Option<Instant>,
    /// Told that it holds, and not yet that it goes on.
    told_held: bool,
    told_away: bool,
    told_refused: bool,
    failing: Arc<AtomicBool>,
}

type OnItsWay = Pin<Box<dyn Future<Output = Verdict> + Send>>;

impl<P: Post + Send + Sync + 'static> Run<P> {
    pub(super) fn new(
        backlog: Backlog,
        post: P,
        timing: Timing,
        entropy: Arc<dyn Entropy>,
        counters: CollectorCounters,
    ) -> Self {
        Self {
            backlog,
            post: Arc::new(post),
            timing,
            entropy,
            counters,
            sending: None,
            failures: 0,
            retry_at: None,
            look_at: None,
            told_held: false,
            told_away: false,
            told_refused: false,
            failing: Arc::default(),
        }
    }

    /// The same that says in `failing` whether the last answer was a bad one.
    pub(super) fn telling(self, failing: Arc<AtomicBool>) -> Self {
        Self { failing, ..self }
    }

    /// Until `stop`, or until nobody can offer lines any more.
    pub(super) async fn go(mut self, mut intake: Intake, stop: CancellationToken) {
        let mut gathered = Gathered::default();
        let mut on_its_way: Option<OnItsWay> = None;
        loop {
            if on_its_way.is_none() {
                self.look();
                if self.retry_at.is_none() {
                    on_its_way = self.next_request();
                }
            }
            let (due, retry_at, look_at) = (gathered.due, self.retry_at, self.look_at);
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                verdict = ready(&mut on_its_way) => {
                    on_its_way = None;
                    self.judge(verdict);
                }
                () = at(due) => self.keep(&mut gathered),
                () = at(retry_at) => self.retry_at = None,
                () = at(look_at) => self.look_at = None,
                line = intake.next() => match line {
                    Some(line) => {
                        gathered.add(&line, self.timing.delay);
                        if gathered.is_full() {
                            self.keep(&mut gathered);
                        }
                    }
                    None => break,
                },
            }
        }
        while let Some(line) = intake.try_next() {
            gathered.add(&line, self.timing.delay);
            if gathered.is_full() {
                self.keep(&mut gathered);
            }
        }
        self.keep(&mut gathered);
        self.finish(on_its_way).await;
    }

    fn keep(&mut self, gathered: &mut Gathered) {
        if let Some(batch) = gathered.take() {
            self.backlog.push(batch);
        }
    }

    /// Takes the spool's folder over, if the process that used it has ended. Only while no request is under way.
    fn look(&mut self) {
        if self.look_at.is_some() || !self.backlog.is_taken() {
            return;
        }
        if self.backlog.take_over() {
            self.give_back();
        } else {
            self.look_at = Some(Instant::now() + LOOK_EVERY);
        }
    }

    /// The request for the oldest piece, if anything waits.
    fn next_request(&mut self) -> Option<OnItsWay> {
        if self.sending.is_none() {
            let whole = self.backlog.front()?;
            self.sending = Some(Sending { pieces: vec![whole], refusals: 0 });
        }
        let piece = self.sending.as_ref()?.pieces.last()?.clone();
        let post = Arc::clone(&self.post);
        Some(Box::pin(async move { post.post(&piece).await }))
    }

    fn judge(&mut self, verdict: Verdict) {
        self.failing.store(verdict != Verdict::Taken, Ordering::Relaxed);
        match verdict {
            Verdict::Taken => {
                self.counters.request_ok.inc();
                self.went_well();
                if let Some(piece) = self.next_piece() {
                    self.counters.sent.inc_by(u64::from(piece.lines));
                }
            }
            Verdict::Later { wait, why } => {
                self.counters.request_later.inc();
                if !std::mem::replace(&mut self.told_away, true) {
                    tracing::warn!(reason = why, "the security log's collector takes no lines now; they are kept");
                }
                self.pause(wait);
            }
            Verdict::Held { why } => {
                self.counters.request_held.inc();
                if !std::mem::replace(&mut self.told_held, true) {
                    tracing::error!(
                        reason = why,
                        "keyholder's token or address for the security log's collector is refused or cannot be used; lines are kept until that is set right"
                    );
                }
                self.pause(Some(self.timing.backoff.max));
            }
            Verdict::Refused { why } => {
                self.counters.request_refused.inc();
                self.refused(&why);
            }
        }
    }

    fn went_well(&mut self) {
        self.failures = 0;
        self.told_refused = false;
        if std::mem::take(&mut self.told_away) | std::mem::take(&mut self.told_held) {
            tracing::info!("the security log's collector takes lines again");
        }
    }

    /// Until the next try: what the collector asked for, and never less than without its asking.
    fn pause(&mut self, wait: Option<Duration>) {
        let own = self.timing.backoff.delay(self.failures, &*self.entropy);
        let pause = wait.unwrap_or_default().min(self.timing.retry_after_max).max(own);
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(Instant::now() + pause);
    }

    /// The last piece is done with; the whole batch, when it was the only one.
    fn next_piece(&mut self) -> Option<Batch> {
        let sending = self.sending.as_mut()?;
        let piece = sending.pieces.pop();
        if sending.pieces.is_empty() {
            self.sending = None;
            self.backlog.pop();
        }
        piece
    }

    fn refused(&mut self, why: &str) {
        let Some(sending) = &mut self.sending else { return };
        sending.refusals += 1;
        if sending.refusals < REFUSED_TRIES {
            self.pause(None);
            return;
        }
        let halves = sending.pieces.last().and_then(halves);
        if let Some([first, second]) = halves {
            sending.pieces.pop();
            sending.pieces.extend([second, first]);
            return;
        }
        if let Some(line) = self.next_piece() {
            self.backlog.bury(&line);
            // told once until it takes something: it may refuse every line
            if !std::mem::replace(&mut self.told_refused, true) {
                tracing::warn!(reason = why, "the security log's collector refused a line for good");
            }
        }
    }

    /// What was not sent of the batch that is being sent waits with the others again.
    fn give_back(&mut self) {
        let rest = self.sending.take().map_or_else(Vec::new, |sending| sending.pieces);
        self.backlog.give_back(rest);
    }

    /// One last try for what is on its way and what can be sent at once; the rest stays on disk, or is counted as unsent.
    async fn finish(mut self, mut on_its_way: Option<OnItsWay>) {
        let last = async {
            if self.retry_at.is_some() {
                return;
            }
            loop {
                let Some(request) = on_its_way.take().or_else(|| self.next_request()) else { return };
                let verdict = request.await;
                let taken = verdict == Verdict::Taken;
                self.judge(verdict);
                if !taken {
                    return;
                }
            }
        };
        // what was not answered in time is sent again by the next start
        timeout(LAST_TRY, last).await.ok();
        self.backlog.take_over();
        self.give_back();
        self.counters.unsent.inc_by(self.backlog.waits_in_memory());
    }
}

/// Two halves of a batch, between lines; none for a single line.
fn halves(batch: &Batch) -> Option<[Batch; 2]> {
    let wanted = batch.lines / 2;
    if wanted == 0 {
        return None;
    }
    let ends = batch.body.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    let (end, _) = ends.clone().nth(wanted as usize - 1)?;
    let (first, second) = (batch.body.slice(..=end), batch.body.slice(end + 1..));
    Some([Batch { lines: wanted, body: first }, Batch { lines: batch.lines - wanted, body: second }])
}

/// The verdict of a request; never, without one.
async fn ready(request: &mut Option<OnItsWay>) -> Verdict {
    match request {
        Some(request) => request.await,
        None => std::future::pending().await,
    }
}

/// At that time; never, without one.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
