//! A random share of a span, drawn once and then passed around as plain data, so that the cores stay pure.
//!
//! Invariant: a share of a span is never longer than the span.

use std::time::Duration;

use kh_core::Entropy;

/// A share in `0/65535 ..= 65535/65535`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Share(pub u16);

impl Share {
    /// Nothing of a span.
    pub const NONE: Self = Self(0);
    /// All of a span.
    pub const WHOLE: Self = Self(u16::MAX);

    /// Draws a share.
    pub fn draw(entropy: &dyn Entropy) -> Self {
        let mut bytes = [0; 2];
        entropy.fill(&mut bytes);
        Self(u16::from_le_bytes(bytes))
    }

    /// This share of `span`, to the nanosecond, rounded down.
    pub fn of(self, span: Duration) -> Duration {
        let nanos = span.as_nanos().saturating_mul(u128::from(self.0)) / u128::from(u16::MAX);
        u64::try_from(nanos).map_or(span, Duration::from_nanos).min(span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_share_is_within_its_span_and_grows_with_it(share: u16, more: u16, ms in 0_u64..=u64::MAX / 1_000) {
            let span = Duration::from_millis(ms);
            let (low, high) = (share.min(more), share.max(more));
            prop_assert!(Share(low).of(span) <= Share(high).of(span));
            prop_assert!(Share(high).of(span) <= span);
            prop_assert_eq!(Share::NONE.of(span), Duration::ZERO);
            prop_assert_eq!(Share::WHOLE.of(span), span);
        }
    }

    #[test]
    fn half_is_half() {
        let half = Share(u16::MAX / 2).of(Duration::from_secs(100));
        assert!(half > Duration::from_millis(49_990) && half < Duration::from_secs(50), "{half:?}");
    }
}
