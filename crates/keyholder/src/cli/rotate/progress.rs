//! The live timeline of a run on the terminal.
//!
//! Invariant: lines that happened are printed once, in order; the line below them, which changes, is drawn only where a
//! person looks.

use std::time::Duration;

use kh_core::UnixMillis;
use kh_rotator::{Outlook, Timeline};

use crate::{cli::Context, cli::secret::time};

/// Steps that a plain run has, for the bar; a run that takes more shows a full one until it ends.
const STEPS: usize = 24;

/// Width of the bar, in characters.
const BAR: usize = 24;

/// Shows a timeline as it grows.
pub(super) struct Progress<'a> {
    context: &'a Context,
    shown: u64,
    drawn: bool,
    is_live: bool,
}

impl<'a> Progress<'a> {
    /// Shows everything that happens after the record `shown`; a line that changes only on a terminal.
    pub(super) fn new(context: &'a Context, shown: u64) -> Self {
        let is_live = context.environment.stderr_is_terminal && !context.terminal.is_json();
        Self { context, shown, drawn: false, is_live }
    }

    /// Prints what is new.
    pub(super) fn show(&mut self, timeline: &Timeline, now: UnixMillis) {
        let terminal = &self.context.terminal;
        let style = terminal.error_style;
        let before = self.shown;
        for line in timeline.lines.iter().filter(|line| line.seq > before) {
            self.shown = line.seq;
            if terminal.is_json() {
                continue;
            }
            let erase = if std::mem::take(&mut self.drawn) { "\r\u{1b}[2K" } else { "" };
            terminal.note(&format!("{erase}{} {}", style.dim(&time(line.at)), line.text));
        }
        if self.is_live {
            let text = bar(timeline, now);
            terminal.ask(&format!("\r\u{1b}[2K{text}"));
            self.drawn = true;
        }
    }

    /// Leaves the terminal as it should be.
    pub(super) fn finish(&mut self) {
        if std::mem::take(&mut self.drawn) {
            self.context.terminal.ask("\r\u{1b}[2K");
        }
    }
}

/// The bar, and what is waited for.
fn bar(timeline: &Timeline, now: UnixMillis) -> String {
    let ended = timeline.outlook == Outlook::Ended;
    let done = if ended { BAR } else { (timeline.lines.len().min(STEPS - 1) * BAR) / STEPS };
    let what = match &timeline.outlook {
        Outlook::Working => "working".to_owned(),
        Outlook::Waiting { until, why } => format!("{} more: {why}", rest(until.since(now))),
        Outlook::NeedsOperator { why, .. } => format!("a person must decide: {why}"),
        Outlook::Ended => "ended".to_owned(),
    };
    let what: String = what.chars().filter(|letter| !letter.is_control()).take(120).collect();
    format!("[{}{}] {what}", "#".repeat(done), "-".repeat(BAR - done))
}

/// A span in its two largest units.
pub(super) fn rest(span: Duration) -> String {
    let seconds = span.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        for (seconds, text) in [(0, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3_660, "1 h 1 min"), (90_000, "1 d 1 h")]
        {
            assert_eq!(rest(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn the_bar_is_full_only_at_the_end_and_draws_no_control_characters() {
        let outlook = Outlook::Waiting { until: UnixMillis(61_000), why: "a\u{1b}[2Jb".to_owned() };
        let mut timeline = Timeline { outlook, ..Timeline::default() };
        let waiting = bar(&timeline, UnixMillis(0));
        assert!(waiting.ends_with("1 min 1 s more: a[2Jb") && waiting.contains('-'), "{waiting}");
        timeline.outlook = Outlook::Ended;
        assert_eq!(bar(&timeline, UnixMillis(0)), format!("[{}] ended", "#".repeat(BAR)));
    }
}
