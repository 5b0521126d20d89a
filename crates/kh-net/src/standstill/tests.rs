//! When it is noticed that nothing moves, on a paused clock.

use std::future::poll_fn;

use tokio::time::{advance, timeout};

use super::*;

const LIMIT: Duration = Duration::from_mins(1);
/// How exact the runtime's timers are.
const TICK: Duration = Duration::from_millis(2);

async fn stands(standstill: &mut Standstill) {
    poll_fn(|cx| standstill.poll(cx)).await;
}

/// Whether one look finds that it has stood still for too long.
async fn looks(standstill: &mut Standstill) -> bool {
    poll_fn(|cx| Poll::Ready(standstill.poll(cx).is_ready())).await
}

#[tokio::test(start_paused = true)]
async fn it_is_noticed_after_the_limit_and_before_half_as_much_again() {
    // seconds of waiting before each move
    let schedules: [&[u64]; 10] =
        [&[], &[1], &[10], &[29], &[31], &[59], &[59, 59, 59], &[45, 1], &[1; 200], &[59, 31, 29, 58]];
    for waits in schedules {
        let mut standstill = Standstill::new(LIMIT);
        for seconds in waits {
            let waited = timeout(Duration::from_secs(*seconds), stands(&mut standstill)).await;
            assert!(waited.is_err(), "{waits:?}: it moved every {seconds} s");
            standstill.moved();
        }
        let last_move = Instant::now();
        stands(&mut standstill).await;
        let stood = last_move.elapsed();
        assert!(stood + TICK >= LIMIT && stood <= LIMIT * 3 / 2 + TICK, "{waits:?}: {stood:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn time_without_a_wait_does_not_count() {
    let mut standstill = Standstill::new(LIMIT);
    assert!(!looks(&mut standstill).await);
    standstill.moved();
    advance(LIMIT * 10).await;
    let began = Instant::now();
    stands(&mut standstill).await;
    assert!(began.elapsed() + TICK >= LIMIT);
}

#[tokio::test(start_paused = true)]
async fn a_program_that_was_stopped_looks_again_first() {
    let mut standstill = Standstill::new(LIMIT);
    assert!(!looks(&mut standstill).await);
    advance(LIMIT * 10).await;
    assert!(!looks(&mut standstill).await, "what moved in the meantime has not been seen yet");
    standstill.moved();
    advance(LIMIT / 2 + TICK).await;
    assert!(!looks(&mut standstill).await);
    advance(LIMIT).await;
    assert!(!looks(&mut standstill).await);
    advance(LIMIT).await;
    assert!(looks(&mut standstill).await, "and nothing has moved since");
}
