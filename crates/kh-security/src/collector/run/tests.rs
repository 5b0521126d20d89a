//! The loop against a collector that is away, slow, strict or broken, on a clock that is moved by hand.

use std::path::Path;

use kh_core::SeededEntropy;
use kh_resilience::Backoff;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::*;
use crate::{
    collector::{Offer, SPOOL_MIN},
    counters::Counters,
};

/// What the collector does with a request.
type Answer = Box<dyn FnMut(&[String]) -> Verdict + Send>;

/// A collector in memory.
#[derive(Clone)]
struct Receiver {
    taken: Arc<Mutex<Vec<String>>>,
    requests: Arc<Mutex<u64>>,
    answer: Arc<Mutex<Answer>>,
}

impl Receiver {
    fn new(answer: impl FnMut(&[String]) -> Verdict + Send + 'static) -> Self {
        let answer: Answer = Box::new(answer);
        Self { taken: Arc::default(), requests: Arc::default(), answer: Arc::new(Mutex::new(answer)) }
    }

    fn taken(&self) -> Vec<String> {
        self.taken.lock().clone()
    }

    fn set(&self, answer: impl FnMut(&[String]) -> Verdict + Send + 'static) {
        *self.answer.lock() = Box::new(answer);
    }
}

impl Post for Receiver {
    async fn post(&self, batch: &Batch) -> Verdict {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let lines: Vec<String> = std::str::from_utf8(&batch.body).unwrap().lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), batch.lines as usize);
        *self.requests.lock() += 1;
        let verdict = (self.answer.lock())(&lines);
        if verdict == Verdict::Taken {
            self.taken.lock().extend(lines);
        }
        verdict
    }
}

fn later() -> Verdict {
    Verdict::Later { wait: None, why: "it answered 503".to_owned() }
}

fn refused() -> Verdict {
    Verdict::Refused { why: "it answered 400".to_owned() }
}

/// A collector that takes a connection and says nothing.
struct Hangs;

impl Post for Hangs {
    async fn post(&self, _: &Batch) -> Verdict {
        std::future::pending().await
    }
}

struct Rig {
    offer: Offer,
    counters: Counters,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

const TIMING: Timing = Timing {
    delay: Duration::from_secs(1),
    backoff: Backoff { base: Duration::from_secs(1), max: Duration::from_mins(5) },
    retry_after_max: Duration::from_mins(15),
};

impl Rig {
    fn start(receiver: &Receiver, spool: Option<&Path>, prepare: impl FnOnce(&mut Backlog)) -> Self {
        let counters = Counters::default();
        let spool = spool.map(|folder| (folder.to_owned(), SPOOL_MIN));
        let mut backlog = Backlog::open(spool.as_ref(), counters.collector.clone()).unwrap();
        prepare(&mut backlog);
        let (offer, intake) = Offer::new(&counters.collector);
        let entropy = Arc::new(SeededEntropy::new(3));
        let run = Run::new(backlog, receiver.clone(), TIMING, entropy, counters.collector.clone());
        let stop = CancellationToken::new();
        let task = tokio::spawn(run.go(intake, stop.clone()));
        Self { offer, counters, stop, task }
    }

    fn offer(&self, numbers: std::ops::Range<u32>) {
        for number in numbers {
            self.offer.offer(Bytes::from(format!("{{\"n\":{number}}}\n")));
        }
    }

    async fn end(self) -> Counters {
        self.stop.cancel();
        self.task.await.unwrap();
        self.counters
    }
}

fn lines(numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers.map(|number| format!("{{\"n\":{number}}}")).collect()
}

/// Time passes until `held`, at most a day of it.
async fn until(mut held: impl FnMut() -> bool) {
    for _ in 0..86_400 {
        if held() {
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    panic!("it never came true");
}

#[tokio::test(start_paused = true)]
async fn lines_are_batched_and_sent_in_order() {
    for spooled in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let receiver = Receiver::new(|_| Verdict::Taken);
        let rig = Rig::start(&receiver, spooled.then_some(folder.path()), |_| {});
        rig.offer(0..1_700);
        until(|| receiver.taken().len() == 1_700).await;
        assert_eq!(receiver.taken(), lines(0..1_700));
        assert_eq!(*receiver.requests.lock(), 4, "500 lines a request");
        let counters = rig.end().await;
        assert_eq!((counters.collector.sent.get(), counters.collector.unsent.get()), (1_700, 0));
        assert_eq!(counters.collector.backlog_lines.get(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_collector_that_is_away_for_hours_gets_everything_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::new(|_| later());
    let rig = Rig::start(&receiver, Some(folder.path()), |_| {});
    for minute in 0..300 {
        rig.offer(minute * 10..(minute + 1) * 10);
        tokio::time::sleep(Duration::from_mins(1)).await;
    }
    assert!(receiver.taken().is_empty());
    let requests = *receiver.requests.lock();
    assert!((60..400).contains(&requests), "five hours with pauses of five minutes at most: {requests}");
    assert_eq!(rig.counters.collector.backlog_lines.get(), 3_000);
    receiver.set(|_| Verdict::Taken);
    until(|| receiver.taken().len() == 3_000).await;
    assert_eq!(receiver.taken(), lines(0..3_000));
    let counters = rig.end().await;
    assert_eq!(counters.collector.sent.get(), 3_000);
    assert_eq!(counters.collector.queue_full.get() + counters.collector.spool_full.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_restart_sends_what_the_process_before_left() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::new(|_| later());
    let rig = Rig::start(&receiver, Some(folder.path()), |_| {});
    rig.offer(0..700);
    until(|| *receiver.requests.lock() > 2).await;
    rig.offer(700..800);
    let counters = rig.end().await;
    assert_eq!((counters.collector.sent.get(), counters.collector.unsent.get()), (0, 0));
    receiver.set(|_| Verdict::Taken);
    let rig = Rig::start(&receiver, Some(folder.path()), |_| {});
    until(|| receiver.taken().len() == 800).await;
    assert_eq!(receiver.taken(), lines(0..800));
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_second_process_goes_on_in_memory_and_takes_over_what_the_first_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let (of_first, of_second) = (Receiver::new(|_| later()), Receiver::new(|_| Verdict::Taken));
    let first = Rig::start(&of_first, Some(folder.path()), |_| {});
    first.offer(0..10);
    until(|| *of_first.requests.lock() > 0).await;
    let second = Rig::start(&of_second, Some(folder.path()), |_| {});
    second.offer(10..20);
    until(|| of_second.taken().len() == 10).await;
    of_second.set(|_| later());
    second.offer(20..30);
    tokio::time::sleep(Duration::from_secs(3)).await;
    second.offer(30..40);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(first.end().await.collector.unsent.get(), 0);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(second.counters.collector.backlog_lines.get(), 30, "those of the first one, and its own, all on disk");
    of_second.set(|_| Verdict::Taken);
    until(|| of_second.taken().len() == 40).await;
    let sent = [lines(10..20), lines(0..10), lines(20..40)].concat();
    assert_eq!(of_second.taken(), sent, "in order, and none twice");
    let counters = second.end().await;
    assert_eq!((counters.collector.sent.get(), counters.collector.unsent.get()), (40, 0));
}

#[tokio::test(start_paused = true)]
async fn what_the_first_process_leaves_is_sent_without_lines_of_the_second() {
    let folder = tempfile::tempdir().unwrap();
    let (away, receiver) = (Receiver::new(|_| later()), Receiver::new(|_| Verdict::Taken));
    let first = Rig::start(&away, Some(folder.path()), |_| {});
    let second = Rig::start(&receiver, Some(folder.path()), |_| {});
    first.offer(0..10);
    until(|| *away.requests.lock() > 0).await;
    assert!(receiver.taken().is_empty());
    first.end().await;
    until(|| receiver.taken() == lines(0..10)).await;
    second.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_process_that_ends_before_the_owner_of_the_folder_counts_what_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::new(|_| later());
    let first = Rig::start(&receiver, Some(folder.path()), |_| {});
    let second = Rig::start(&receiver, Some(folder.path()), |_| {});
    second.offer(0..10);
    assert_eq!(second.end().await.collector.unsent.get(), 10);
    // and where the owner ended a moment ago, it leaves it to the next start
    let third = Rig::start(&receiver, Some(folder.path()), |_| {});
    third.offer(10..20);
    first.end().await;
    assert_eq!(third.end().await.collector.unsent.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn poison_is_given_up_alone_and_kept_for_a_person() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::new(|lines| {
        if lines.iter().any(|line| line == "{\"n\":77}" || line == "{\"n\":300}") { refused() } else { Verdict::Taken }
    });
    let rig = Rig::start(&receiver, Some(folder.path()), |_| {});
    rig.offer(0..1_000);
    until(|| rig.counters.collector.dead_letter.get() == 2).await;
    until(|| receiver.taken().len() == 998).await;
    let requests = *receiver.requests.lock();
    assert!(requests < 60, "halving, not one by one: {requests}");
    let mut expected = lines(0..1_000);
    expected.retain(|line| line != "{\"n\":77}" && line != "{\"n\":300}");
    assert_eq!(receiver.taken(), expected, "in order, and none twice");
    assert_eq!(std::fs::read_to_string(folder.path().join("dead-letter.jsonl")).unwrap(), "{\"n\":77}\n{\"n\":300}\n");
    let counters = rig.end().await;
    assert_eq!((counters.collector.sent.get(), counters.collector.backlog_lines.get()), (998, 0));
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::new(|_| refused());
    let rig = Rig::start(&receiver, Some(folder.path()), |_| {});
    let line = Bytes::from(format!("{}\n", "x".repeat(100_000)));
    for _ in 0..60 {
        rig.offer.offer(line.clone());
    }
    until(|| rig.counters.collector.dead_letter.get() == 60).await;
    let kept = std::fs::metadata(folder.path().join("dead-letter.jsonl")).unwrap().len();
    assert!(kept <= 4 * 1024 * 1024 && kept > 3 * 1024 * 1024, "{kept}");
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_loses_nothing() {
    let receiver = Receiver::new(|_| Verdict::Held { why: "it answered 401".to_owned() });
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::start(&receiver, Some(folder.path()), |_| {});
    rig.offer(0..10);
    tokio::time::sleep(Duration::from_hours(1)).await;
    assert!((10..15).contains(&*receiver.requests.lock()), "every five minutes");
    receiver.set(|_| Verdict::Taken);
    until(|| receiver.taken() == lines(0..10)).await;
    let counters = rig.end().await;
    assert_eq!(counters.collector.dead_letter.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_kept_and_bounded() {
    let receiver = Receiver::new(|_| Verdict::Later { wait: Some(Duration::from_hours(24 * 365)), why: String::new() });
    let rig = Rig::start(&receiver, None, |_| {});
    rig.offer(0..1);
    tokio::time::sleep(Duration::from_mins(14)).await;
    assert_eq!(*receiver.requests.lock(), 1);
    receiver.set(|_| Verdict::Taken);
    tokio::time::sleep(Duration::from_mins(2)).await;
    assert_eq!(receiver.taken(), lines(0..1));
    rig.end().await;
}

/// `Retry-After: 0`, or a date that is past.
#[tokio::test(start_paused = true)]
async fn a_collector_that_asks_for_no_wait_is_waited_for_all_the_same() {
    let receiver = Receiver::new(|_| Verdict::Later { wait: Some(Duration::ZERO), why: String::new() });
    let rig = Rig::start(&receiver, None, |_| {});
    rig.offer(0..1);
    tokio::time::sleep(Duration::from_mins(10)).await;
    let requests = *receiver.requests.lock();
    assert!((4..40).contains(&requests), "ten minutes with pauses that grow: {requests}");
    receiver.set(|_| Verdict::Taken);
    until(|| receiver.taken() == lines(0..1)).await;
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn without_a_spool_memory_is_bounded_and_the_newest_stay() {
    let receiver = Receiver::new(|_| later());
    let rig = Rig::start(&receiver, None, |_| {});
    let fill = "x".repeat(10_000);
    for number in 0..2_000 {
        rig.offer.offer(Bytes::from(format!("{number} {fill}\n")));
        if number % 100 == 0 {
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let lost = rig.counters.collector.spool_full.get();
    assert!(lost > 1_000, "{lost}");
    receiver.set(|_| Verdict::Taken);
    until(|| receiver.taken().len() as u64 + lost >= 2_000).await;
    let last = receiver.taken().iter().filter_map(|line| line.split(' ').next()?.parse::<u32>().ok()).max();
    assert_eq!(last, Some(1_999));
    rig.end().await;
}

fn disk_full(_: &std::fs::File, _: &[u8]) -> std::io::Result<()> {
    Err(std::io::ErrorKind::StorageFull.into())
}

#[tokio::test(start_paused = true)]
async fn with_a_full_disk_lines_are_sent_from_memory() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::new(|_| Verdict::Taken);
    let rig = Rig::start(&receiver, Some(folder.path()), |backlog| backlog.write_by(disk_full));
    rig.offer(0..1_200);
    until(|| receiver.taken().len() == 1_200).await;
    assert_eq!(receiver.taken(), lines(0..1_200));
    // and what cannot be sent either is counted when the process ends
    receiver.set(|_| later());
    rig.offer(0..10);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let counters = rig.end().await;
    assert_eq!(counters.collector.unsent.get(), 10);
}

/// Whether [`full_for_a_while`] still is.
static FULL: AtomicBool = AtomicBool::new(true);

fn full_for_a_while(mut file: &std::fs::File, bytes: &[u8]) -> std::io::Result<()> {
    if FULL.load(Ordering::Relaxed) {
        return Err(std::io::ErrorKind::StorageFull.into());
    }
    std::io::Write::write_all(&mut file, bytes)
}

#[tokio::test(start_paused = true)]
async fn lines_of_a_short_disk_failure_are_on_disk_again_before_later_ones() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::new(|_| later());
    let rig = Rig::start(&receiver, Some(folder.path()), |backlog| backlog.write_by(full_for_a_while));
    // of the first batch it is tried to send, and the second one waits
    for numbers in [0..10, 10..20] {
        rig.offer(numbers);
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    assert_eq!((*receiver.requests.lock() > 0, rig.counters.collector.backlog_lines.get()), (true, 10));
    FULL.store(false, Ordering::Relaxed);
    rig.offer(20..30);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(rig.counters.collector.backlog_lines.get(), 30, "all on disk");
    let counters = rig.end().await;
    assert_eq!((counters.collector.sent.get(), counters.collector.unsent.get()), (0, 0));
    receiver.set(|_| Verdict::Taken);
    let rig = Rig::start(&receiver, Some(folder.path()), |_| {});
    until(|| receiver.taken().len() == 30).await;
    assert_eq!(receiver.taken(), lines(0..30));
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_drops_and_counts_and_never_waits() {
    let receiver = Receiver::new(|_| Verdict::Taken);
    let rig = Rig::start(&receiver, None, |_| {});
    // the loop has had no turn yet: all of this is one go
    rig.offer(0..50_000);
    let dropped = rig.counters.collector.queue_full.get();
    assert_eq!(dropped, 50_000 - 16_384);
    until(|| receiver.taken().len() as u64 == 50_000 - dropped).await;
    let long = Bytes::from(vec![b'x'; 1024 * 1024]);
    for _ in 0..100 {
        rig.offer.offer(long.clone());
    }
    assert_eq!(rig.counters.collector.queue_full.get() - dropped, 100 - 16, "also by bytes");
    rig.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn the_end_sends_what_waits_and_does_not_wait_for_a_collector_that_hangs() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::new(|_| Verdict::Taken);
    let rig = Rig::start(&receiver, Some(folder.path()), |_| {});
    rig.offer(0..1_234);
    rig.end().await;
    assert_eq!(receiver.taken(), lines(0..1_234));

    let counters = Counters::default();
    let backlog = Backlog::open(Some(&(folder.path().to_owned(), SPOOL_MIN)), counters.collector.clone()).unwrap();
    let (offer, intake) = Offer::new(&counters.collector);
    let run = Run::new(backlog, Hangs, TIMING, Arc::new(SeededEntropy::new(1)), counters.collector.clone());
    let stop = CancellationToken::new();
    let task = tokio::spawn(run.go(intake, stop.clone()));
    offer.offer(Bytes::from_static(b"{}\n"));
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = Instant::now();
    stop.cancel();
    task.await.unwrap();
    assert!(before.elapsed() <= LAST_TRY + Duration::from_secs(1), "{:?}", before.elapsed());
    assert_eq!(counters.collector.unsent.get(), 0, "it is on disk");
}

/// Three seconds is what a process that stops gives the collector.
#[tokio::test(start_paused = true)]
async fn what_is_on_its_way_from_memory_at_the_end_is_given_back_while_somebody_waits() {
    let counters = Counters::default();
    let backlog = Backlog::open(None, counters.collector.clone()).unwrap();
    let (offer, intake) = Offer::new(&counters.collector);
    let run = Run::new(backlog, Hangs, TIMING, Arc::new(SeededEntropy::new(1)), counters.collector.clone());
    let stop = CancellationToken::new();
    let task = tokio::spawn(run.go(intake, stop.clone()));
    offer.offer(Bytes::from_static(b"{}\n"));
    tokio::time::sleep(Duration::from_secs(3)).await;
    stop.cancel();
    timeout(Duration::from_secs(3), task).await.expect("it ends in time").unwrap();
    assert_eq!(counters.collector.unsent.get(), 1);
}

#[test]
fn halves_are_cut_between_lines() {
    let batch = |lines: u32| {
        let text: Vec<String> = (0..lines).map(|line| format!("{line}\n")).collect();
        Batch { lines, body: text.concat().into() }
    };
    assert_eq!(halves(&batch(1)), None);
    for lines in 2..20 {
        let [first, second] = halves(&batch(lines)).unwrap();
        assert_eq!([&first.body[..], &second.body[..]].concat(), batch(lines).body);
        for half in [&first, &second] {
            assert_eq!(std::str::from_utf8(&half.body).unwrap().lines().count(), half.lines as usize);
            assert!(half.body.ends_with(b"\n"));
            assert!(half.lines > 0);
        }
    }
}
