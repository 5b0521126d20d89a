//! On a paused clock: deadlines ring when they come, whatever came before.

use std::future::{pending, poll_fn};

use super::*;

const MINUTE: Duration = Duration::from_mins(1);

/// Waits for `at` and answers how long that took.
async fn wait(deadline: &Deadline, at: Instant) -> Duration {
    let start = Instant::now();
    poll_fn(|cx| deadline.poll(at, cx)).await;
    start.elapsed()
}

fn about(span: Duration, expected: Duration) {
    // the wheel turns in milliseconds
    assert!(span >= expected && span <= expected + Duration::from_millis(2), "{span:?}, not {expected:?}");
}

#[tokio::test(start_paused = true)]
async fn it_rings_in_time_after_deadlines_that_were_met() {
    let deadline = Deadline::default();
    for _ in 0..1_000 {
        let answer = async {
            tokio::task::yield_now().await;
            7
        };
        assert_eq!(deadline.before(Instant::now() + MINUTE, answer).await, Some(7));
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    about(wait(&deadline, Instant::now() + MINUTE).await, MINUTE);
    about(wait(&deadline, Instant::now() + MINUTE).await, MINUTE);
}

#[tokio::test(start_paused = true)]
async fn an_earlier_deadline_than_the_last_one_rings_earlier() {
    let deadline = Deadline::default();
    assert_eq!(deadline.before(Instant::now() + MINUTE, tokio::task::yield_now()).await, Some(()));
    about(wait(&deadline, Instant::now() + Duration::from_secs(1)).await, Duration::from_secs(1));
    assert_eq!(deadline.before(Instant::now() + MINUTE, pending::<()>()).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_in_the_past_rings_at_once() {
    let deadline = Deadline::default();
    let past = Instant::now();
    tokio::time::advance(MINUTE).await;
    assert_eq!(wait(&deadline, past).await, Duration::ZERO);
    // and so does the same one again
    assert_eq!(wait(&deadline, past).await, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn another_task_is_woken_instead() {
    let deadline = Arc::new(Deadline::default());
    let at = Instant::now() + MINUTE;
    assert_eq!(deadline.before(at, tokio::task::yield_now()).await, Some(()));
    let shared = Arc::clone(&deadline);
    let other = tokio::spawn(async move { wait(&shared, at).await });
    about(other.await.unwrap(), MINUTE);
}

#[tokio::test(start_paused = true)]
async fn a_task_out_of_budget_is_woken_as_well() {
    let deadline = Deadline::default();
    let at = Instant::now() + MINUTE;
    let exhausted = poll_fn(|cx| {
        while tokio::task::coop::has_budget_remaining() {
            let consumed = std::pin::pin!(tokio::task::coop::consume_budget()).poll(cx);
            if consumed.is_pending() {
                break;
            }
        }
        deadline.poll(at, cx)
    });
    exhausted.await;
    assert!(Instant::now() >= at);
}

/// As after a stop: the timer is long over, and what was waited for is there as soon as anybody looks.
#[tokio::test]
async fn what_has_arrived_meanwhile_is_seen_before_the_deadline_rings() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut near = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut far, _) = listener.accept().await.unwrap();
    let deadline = Deadline::default();
    let mut buffer = [0; 1];
    // the reader registers and finds nothing
    let early = deadline.before(Instant::now() + Duration::from_millis(1), near.read(&mut buffer)).await;
    assert!(early.is_none());
    // the byte arrives and the clock jumps without the runtime having a look at its sockets
    assert_eq!(far.try_write(b"x").unwrap(), 1);
    let read = deadline.before(Instant::now(), near.read(&mut buffer)).await;
    assert_eq!(read.expect("the byte was there").unwrap(), 1);
    drop(far.shutdown().await);
}

#[tokio::test(start_paused = true)]
async fn hypers_timer_rings_when_it_is_asked_to() {
    let timer = HeadTimer::default();
    let start = Instant::now();
    drop(timer.sleep(MINUTE));
    timer.sleep(Duration::from_secs(75)).await;
    about(start.elapsed(), Duration::from_secs(75));
}
