//! Whether files that are being changed have come to rest.
//!
//! Pure. Invariant: a change is reported once, and not before nothing moved for [`QUIET`]: an editor, a copy or a pair
//! of certificate and key that is written one after the other is read when it is whole.

use std::time::Duration;

/// How long nothing may move before a change counts as finished. Two files that belong together are written within
/// this time by every tool that writes both.
pub(super) const QUIET: Duration = Duration::from_secs(1);

/// A change that goes on for longer than this is taken as it is: a file that something writes without pause must not
/// keep the others from being read.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// What was seen, and since when. `T` names the content of all watched files.
#[derive(Debug)]
pub(super) struct Settling<T> {
    handled: T,
    last: T,
    moved_at: Duration,
    /// When the change that is not handled yet was first seen.
    pending_since: Option<Duration>,
}

impl<T: PartialEq + Clone> Settling<T> {
    /// Nothing is pending: `handled` is what was read.
    pub(super) fn new(handled: T) -> Self {
        Self { last: handled.clone(), handled, moved_at: Duration::ZERO, pending_since: None }
    }

    /// The files look like `seen` at the monotonic time `now`. Answers whether they should be read.
    pub(super) fn observe(&mut self, now: Duration, seen: T) -> bool {
        if seen != self.last {
            self.last = seen;
            self.moved_at = now;
        }
        if self.last == self.handled {
            self.pending_since = None;
            return false;
        }
        let since = *self.pending_since.get_or_insert(now);
        now.saturating_sub(self.moved_at) >= QUIET || now.saturating_sub(since) >= PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays observations `MILLIS:CONTENT`, four a second as in life or otherwise; answers when a read was asked for.
    /// What is read counts as handled.
    fn reads(script: &str) -> Vec<u64> {
        let mut settling = Settling::new("a".to_owned());
        let mut reads = Vec::new();
        for step in script.split_whitespace() {
            let (at, seen) = step.split_once(':').expect("MILLIS:CONTENT");
            let at: u64 = at.parse().expect("a number");
            if settling.observe(Duration::from_millis(at), seen.to_owned()) {
                reads.push(at);
                settling = Settling::new(seen.to_owned());
            }
        }
        reads
    }

    #[test]
    fn a_change_is_read_once_when_it_has_come_to_rest() {
        for (script, expected) in [
            ("0:a 250:a 9000:a", vec![]),
            ("0:a 250:b 500:b 1000:b 1250:b 1500:b 9000:b", vec![1250]),
            // a burst is one read
            ("0:a 250:b 500:c 750:d 1000:e 1250:e 1750:e 2000:e 2250:e", vec![2000]),
            // certificate and key, one after the other
            ("0:a 250:b 1000:c 1250:c 1750:c 2000:c", vec![2000]),
            // taken back
            ("0:a 250:b 500:a 1500:a 9000:a", vec![]),
            // two changes with rest in between are two reads
            ("0:b 1000:b 1250:c 2250:c", vec![1000, 2250]),
        ] {
            assert_eq!(reads(script), expected, "{script}");
        }
    }

    #[test]
    fn a_file_that_never_rests_is_read_all_the_same() {
        let script: Vec<String> = (1..=100).map(|step| format!("{}:v{step}", step * 250)).collect();
        let reads = reads(&script.join(" "));
        assert_eq!(reads.first(), Some(&10_250));
        assert_eq!(reads.len(), 2, "{reads:?}");
    }
}
