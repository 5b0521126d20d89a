//! The queue of notices, on a paused clock.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use kh_core::{
    Entropy, SeededEntropy,
    port::{BoxFuture, Notice, Notifier, Urgency},
};
use kh_deliver::{Channel, ChannelCounts, Limits, NoticeQueue, SendError};
use tokio::runtime::Handle;

use crate::rig::notice;

/// Answers from a list, then `Ok`; keeps what arrived.
#[derive(Default)]
struct Fake {
    name: &'static str,
    threshold: Option<Urgency>,
    answers: Mutex<Vec<Result<(), SendError>>>,
    is_down: bool,
    arrived: Mutex<Vec<u128>>,
    tries: Mutex<u32>,
}

impl Channel for Fake {
    fn name(&self) -> &str {
        self.name
    }

    fn threshold(&self) -> Urgency {
        self.threshold.unwrap_or(Urgency::Info)
    }

    fn send<'a>(&'a self, notice: &'a Notice) -> BoxFuture<'a, Result<(), SendError>> {
        Box::pin(async move {
            *self.tries.lock().unwrap() += 1;
            if self.is_down {
                return Err(SendError::transient("down"));
            }
            let mut answers = self.answers.lock().unwrap();
            if !answers.is_empty() {
                answers.remove(0)?;
            }
            drop(answers);
            self.arrived.lock().unwrap().push(notice.id.as_u128());
            Ok(())
        })
    }
}

fn start(channels: &[&Arc<Fake>], limits: Limits) -> Arc<NoticeQueue> {
    let entropy: Arc<dyn Entropy> = Arc::new(SeededEntropy::new(1));
    let channels = channels.iter().map(|fake| Arc::clone(fake) as Arc<dyn Channel>).collect();
    NoticeQueue::start(channels, limits, &entropy, &Handle::current())
}

fn counts(queue: &NoticeQueue) -> ChannelCounts {
    queue.counts()[0].1
}

#[tokio::test(start_paused = true)]
async fn in_order_above_the_threshold_and_each_once() {
    let all = Arc::new(Fake { name: "all", ..Fake::default() });
    let loud = Arc::new(Fake { name: "loud", threshold: Some(Urgency::Critical), ..Fake::default() });
    let queue = start(&[&all, &loud], Limits::default());
    for (number, urgency) in [(1, Urgency::Info), (2, Urgency::Critical), (1, Urgency::Info), (3, Urgency::Warning)] {
        queue.notify(notice(number, urgency));
    }
    queue.close(Duration::from_secs(10)).await;
    queue.notify(notice(2, Urgency::Critical));
    assert_eq!(*all.arrived.lock().unwrap(), [1, 2, 3]);
    assert_eq!(*loud.arrived.lock().unwrap(), [2]);
    assert_eq!(counts(&queue), ChannelCounts { sent: 3, ..ChannelCounts::default() });
}

#[tokio::test(start_paused = true)]
async fn failures_are_tried_again_and_refusals_are_not() {
    let again = || Err(SendError::transient("down"));
    let later = Err(SendError::Transient { reason: "limit".to_owned(), retry_after: Some(Duration::from_secs(90)) });
    let answers = vec![again(), again(), later, Ok(()), Err(SendError::refused("no"))];
    let fake = Arc::new(Fake { answers: Mutex::new(answers), ..Fake::default() });
    let queue = start(&[&fake], Limits::default());
    let began = tokio::time::Instant::now();
    for number in 1..=3 {
        queue.notify(notice(number, Urgency::Info));
    }
    queue.close(Duration::from_hours(1)).await;
    assert_eq!(*fake.arrived.lock().unwrap(), [1, 3], "2 was refused and held nobody up");
    assert!(began.elapsed() >= Duration::from_secs(90), "the wish for later was heeded");
    assert_eq!(counts(&queue), ChannelCounts { sent: 2, failed: 1, retries: 3, ..ChannelCounts::default() });
}

#[tokio::test(start_paused = true)]
async fn a_way_that_is_down_holds_up_no_other_and_is_given_up_in_the_end() {
    let down = Arc::new(Fake { name: "down", is_down: true, ..Fake::default() });
    let up = Arc::new(Fake { name: "up", ..Fake::default() });
    let queue = start(&[&down, &up], Limits::default());
    queue.notify(notice(1, Urgency::Critical));
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(*up.arrived.lock().unwrap(), [1]);
    tokio::time::sleep(Limits::default().patience).await;
    let lost = counts(&queue);
    assert_eq!((lost.failed, lost.waiting), (1, 0));
    let tries = *down.tries.lock().unwrap();
    assert!((60..400).contains(&tries), "{tries} tries in two hours");
    // whoever tells it again has it tried again
    queue.notify(notice(1, Urgency::Critical));
    assert_eq!(counts(&queue).waiting, 1);
    queue.close(Duration::from_secs(1)).await;
    assert_eq!(counts(&queue).dropped, 1, "what waits at the end is counted");
}

#[tokio::test(start_paused = true)]
async fn a_full_lane_keeps_what_is_urgent_and_never_waits() {
    let down = Arc::new(Fake { is_down: true, ..Fake::default() });
    let queue = start(&[&down], Limits { waiting: 3, ..Limits::default() });
    queue.notify(notice(1, Urgency::Info));
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(*down.tries.lock().unwrap() > 0, "the first is being tried and stays");
    for (number, urgency) in [(2, Urgency::Warning), (3, Urgency::Info), (4, Urgency::Critical), (5, Urgency::Info)] {
        queue.notify(notice(number, urgency));
    }
    // 3 gave way to 4; 5 found nothing below it
    assert_eq!(
        counts(&queue),
        ChannelCounts { dropped: 2, waiting: 3, retries: counts(&queue).retries, ..ChannelCounts::default() }
    );
    for number in 10..1000 {
        queue.notify(notice(number, Urgency::Critical));
    }
    assert_eq!(counts(&queue).waiting, 3);
    assert_eq!(counts(&queue).dropped, 2 + 990);
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_is_dropped_ends_its_lanes() {
    let down = Arc::new(Fake { is_down: true, ..Fake::default() });
    let queue = start(&[&down], Limits::default());
    queue.notify(notice(1, Urgency::Info));
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    drop(queue);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let tries = *down.tries.lock().unwrap();
    tokio::time::sleep(Duration::from_hours(3)).await;
    assert_eq!(*down.tries.lock().unwrap(), tries);
    assert_eq!(Arc::strong_count(&down), 1);
}
