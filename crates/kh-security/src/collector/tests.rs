//! The queue in front of the loop: what it counts is what is in it, however many offer at once.

use super::*;

const MIB: usize = 1024 * 1024;

/// Takes all that is in the queue; answers how many lines that was.
fn emptied(intake: &mut Intake) -> u64 {
    let mut taken = 0;
    while intake.try_next().is_some() {
        taken += 1;
    }
    taken
}

#[test]
fn a_queue_that_was_emptied_counts_no_bytes_whoever_offered_meanwhile() {
    const OFFERING: u64 = 4;
    const LINES: u64 = 100_000;
    let counters = Counters::default();
    let (offer, mut intake) = Offer::new(&counters.collector);
    let offer = &offer;
    let meanwhile = thread::scope(|scope| {
        let offer_all = move || (0..LINES).for_each(|_| offer.offer(Bytes::from_static(b"a line of some length\n")));
        let offering: Vec<_> = (0..OFFERING).map(|_| scope.spawn(offer_all)).collect();
        let mut taken = 0;
        while !offering.iter().all(thread::ScopedJoinHandle::is_finished) {
            taken += emptied(&mut intake);
        }
        taken
    });
    let taken = meanwhile + emptied(&mut intake);
    assert_eq!(taken + counters.collector.queue_full.get(), OFFERING * LINES, "taken, or counted as lost");
    assert!(taken >= QUEUE as u64, "{taken}");
    assert_eq!(offer.waiting.load(Ordering::Relaxed), 0);
}

#[test]
fn a_queue_that_was_full_takes_lines_again() {
    let counters = Counters::default();
    let (offer, mut intake) = Offer::new(&counters.collector);
    let long = Bytes::from(vec![b'x'; MIB]);
    let fits = (QUEUE_BYTES / MIB) as u64;
    for round in 1..=3 {
        (0..20 * fits).for_each(|_| offer.offer(long.clone()));
        assert_eq!(counters.collector.queue_full.get(), round * 19 * fits, "by bytes, in round {round}");
        assert_eq!(emptied(&mut intake), fits);
        assert_eq!(offer.waiting.load(Ordering::Relaxed), 0);
    }
    let (lines, lost) = (QUEUE as u64, counters.collector.queue_full.get());
    for round in 1..=3 {
        (0..2 * lines).for_each(|_| offer.offer(Bytes::from_static(b"\n")));
        assert_eq!(counters.collector.queue_full.get() - lost, round * lines, "by lines, in round {round}");
        assert_eq!(emptied(&mut intake), lines);
        assert_eq!(offer.waiting.load(Ordering::Relaxed), 0);
    }
}
