//! Many rotations of one credential, one after the other, through the real adapters: what they leave on disk and in
//! memory.
//!
//! Invariant: measured in a process of its own, which also holds the sandbox and the consumers; the figures are bounds
//! from above.

use std::{
    fs,
    process::Command,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use kh_rotation::End;
use kh_rotator::{Patience, Standing, Wanted, drive, open};
use tokio_util::sync::CancellationToken;

use super::{
    organisation::{Organisation, Temper, Way},
    processes::Slot,
    relay::Weather,
    world::{RealWorld, Setting, Without},
};

/// Rotations without and with `KEYHOLDER_LONG=1`.
const ROTATIONS: u64 = 60;
const ROTATIONS_LONG: u64 = 1000;

/// What journal and store may take together, with their logs.
const STATE_MAX: u64 = 20 * 1024 * 1024;

/// What the process may take at its peak, sandbox included.
const MEMORY_MAX_KIB: u64 = 100 * 1024;

/// Set in the process that measures itself.
const INSIDE: &str = "KEYHOLDER_VOLUME_INSIDE";

/// Longest history, in virtual time.
const PATIENCE: Duration = Duration::from_hours(365 * 24);

fn on_disk(world: &RealWorld) -> u64 {
    fs::read_dir(world.folder.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

/// The peak of this process's memory (proc(5), `VmHWM`).
fn peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// One process rotates so many times.
async fn rotate(slot: Slot, rotations: u64, sizes: Arc<std::sync::Mutex<Vec<u64>>>) {
    let world = Arc::clone(&slot.world);
    let (services, mut subject) = (slot.services(0), (*slot.subject()).clone());
    subject.policy.budget.per_day = 100_000;
    let (subject, stop) = (Arc::new(subject), CancellationToken::new());
    for number in 0..rotations {
        loop {
            let mut session = open(&services, &subject, Some(Wanted::scheduled())).await.unwrap().unwrap();
            match drive(&mut session, &services, Patience::UntilWaiting, &stop).await.unwrap() {
                Some(Standing::Ended(End::Completed { unknown })) if unknown.is_empty() => break,
                Some(Standing::Waiting { until, .. }) => world.stage.rest(until.since(services.now())).await,
                other => panic!("rotation {number}: {other:?}"),
            }
        }
        sizes.lock().unwrap().push(on_disk(&world));
        world.stage.rest(Duration::from_mins(1)).await;
    }
    world.over.store(true, Ordering::SeqCst);
}

async fn inside(rotations: u64) {
    let organisation = Arc::new(Organisation::start(Temper::Prompt).await);
    let weather = Weather::new(1, 1, 0, Duration::from_secs(1));
    let setting = Setting { seed: 1, way: Way::Pair, without: Without::Nothing, processes: 1, weather };
    let world = RealWorld::new(&organisation, setting).await;
    let slot = Slot::new(&world, 0).await;
    let sizes = Arc::default();
    world.stage.enter(Duration::ZERO, rotate(slot, rotations, Arc::clone(&sizes)));
    world.stage.enter(Duration::ZERO, Arc::clone(&world).consume());
    let over = Arc::clone(&world);
    assert!(world.stage.play(PATIENCE, move || over.over.load(Ordering::SeqCst)).await);
    world.stage.clear();
    assert_eq!(*world.broken.lock().unwrap(), <[String; 0]>::default());
    let sizes = sizes.lock().unwrap();
    assert_eq!(sizes.len() as u64, rotations);
    let (half, last) = (sizes[sizes.len() / 2], sizes[sizes.len() - 1]);
    let peak = peak_kib();
    println!(
        "{rotations} rotations: {} KiB on disk, {} KiB halfway; {} MiB of memory at the peak, with the sandbox",
        last / 1024,
        half / 1024,
        peak / 1024
    );
    assert!(last < STATE_MAX, "{last} bytes on disk");
    assert!(last <= half + half / 4, "it does not grow: {half} and then {last} bytes");
    assert!(peak < MEMORY_MAX_KIB, "{peak} KiB of memory");
}

#[test]
fn many_rotations_leave_a_small_state_and_take_little_memory() {
    let rotations = if std::env::var("KEYHOLDER_LONG").is_ok() { ROTATIONS_LONG } else { ROTATIONS };
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(inside(rotations));
    }
    let name = "real::volume::many_rotations_leave_a_small_state_and_take_little_memory";
    let own = std::env::current_exe().unwrap();
    let ran = Command::new(own).args([name, "--exact", "--nocapture"]).env(INSIDE, "1").output().unwrap();
    let (said, wrong) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success() && said.contains("rotations:"), "{said}{wrong}");
    said.lines().filter(|line| line.contains("rotations:")).for_each(|line| println!("{line}"));
}
