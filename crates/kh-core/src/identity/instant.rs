//! A time in six bytes.

use crate::UnixMillis;

/// The latest time that is told from later ones, in the year 10889.
const LATEST: u64 = (1 << 48) - 2;

/// A time or none: one more than its milliseconds, so that its absence takes no room.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Instant([u8; 6]);

impl Instant {
    pub(super) fn of(time: UnixMillis) -> Self {
        let [first, second, third, fourth, fifth, sixth, ..] = (time.0.min(LATEST) + 1).to_le_bytes();
        Self([first, second, third, fourth, fifth, sixth])
    }

    pub(super) fn time(self) -> Option<UnixMillis> {
        let [first, second, third, fourth, fifth, sixth] = self.0;
        let plus_one = u64::from_le_bytes([first, second, third, fourth, fifth, sixth, 0, 0]);
        plus_one.checked_sub(1).map(UnixMillis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_kept_to_the_millisecond_and_none_is_none() {
        assert_eq!(Instant::default().time(), None);
        for time in [0, 1, 255, 256, 1_800_000_000_123, LATEST] {
            assert_eq!(Instant::of(UnixMillis(time)).time(), Some(UnixMillis(time)));
        }
        for later in [LATEST + 1, u64::MAX] {
            assert_eq!(Instant::of(UnixMillis(later)).time(), Some(UnixMillis(LATEST)));
        }
    }
}
