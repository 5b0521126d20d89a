//! By which right a tunnel stands. No request comes after the one that opened it, so that nobody would notice that its
//! token has run out or was revoked: here somebody looks.
//!
//! Invariants: a tunnel ends when its right does, however busy it is, and also while nobody answers whether it does; a
//! right that cannot be confirmed is none.

use std::time::Duration;

use kh_core::{Clock, Now, UnixMillis, port::BoxFuture};

/// The right of whoever opened a tunnel.
pub(crate) trait Right: Send + Sync {
    /// When it ends by itself.
    fn ends_at(&self) -> Option<UnixMillis>;

    /// Whether it stands at this moment.
    fn stands(&self, now: Now) -> BoxFuture<'_, bool>;
}

/// Comes back when `right` has ended: at its end, else within `every` and the time that a look takes.
pub(crate) async fn over(right: &dyn Right, clock: &dyn Clock, every: Duration) {
    let ended = async {
        let Some(end) = right.ends_at() else { return std::future::pending().await };
        loop {
            let left = end.since(clock.now().wall);
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    };
    let taken_away = async {
        loop {
            tokio::time::sleep(every).await;
            if !right.stands(clock.now()).await {
                return;
            }
        }
    };
    tokio::select! {
        () = ended => {}
        () = taken_away => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::time::Instant;

    use super::*;

    /// Both clocks on tokio's time, which is paused.
    struct Paused(Instant);

    impl Clock for Paused {
        fn now(&self) -> Now {
            Now::default().plus(self.0.elapsed())
        }
    }

    /// What a look hears.
    #[derive(Clone, Copy, Debug)]
    enum Looks {
        /// That it stands, until the look of this number.
        FailAt(u32),
        /// That it stands.
        Pass,
        /// Nothing, ever.
        Hang,
    }

    struct Fake {
        ends_at_s: Option<u64>,
        looks: Looks,
        looked: AtomicU32,
    }

    impl Right for Fake {
        fn ends_at(&self) -> Option<UnixMillis> {
            self.ends_at_s.map(|seconds| UnixMillis(seconds * 1_000))
        }

        fn stands(&self, _now: Now) -> BoxFuture<'_, bool> {
            let number = self.looked.fetch_add(1, Ordering::SeqCst) + 1;
            match self.looks {
                Looks::FailAt(fails) => Box::pin(std::future::ready(number < fails)),
                Looks::Pass => Box::pin(std::future::ready(true)),
                Looks::Hang => Box::pin(std::future::pending()),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_right_ends_at_its_end_or_with_the_first_look_that_does_not_confirm_it() {
        for (ends_at_s, looks, expected_s, looked) in [
            (Some(0), Looks::Pass, 0, 0),
            (Some(12), Looks::Pass, 12, 2),
            (Some(3), Looks::FailAt(1), 3, 0),
            (Some(3_600), Looks::FailAt(1), 5, 1),
            (None, Looks::FailAt(1), 5, 1),
            (None, Looks::FailAt(100), 500, 100),
            (Some(12), Looks::Hang, 12, 1),
        ] {
            let start = Instant::now();
            let right = Fake { ends_at_s, looks, looked: AtomicU32::new(0) };
            over(&right, &Paused(start), Duration::from_secs(5)).await;
            assert_eq!(start.elapsed().as_secs(), expected_s, "{ends_at_s:?}, {looks:?}");
            assert_eq!(right.looked.load(Ordering::SeqCst), looked, "{ends_at_s:?}, {looks:?}");
        }
    }
}
