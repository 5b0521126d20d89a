//! SIGKILL during a restore and during a rekey.
//!
//! Invariant: after each kill the installation opens, or says which command finishes the work; what opens is whole, the
//! old one or the new one, and no file of either is lost.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use kh_core::{Entropy, SeededEntropy};

use super::world::{DOCUMENT, World, copy_folder, digests, refused};

/// Polls of about 20 microseconds and a look at a folder, for something to appear.
const WATCHES_MAX: u32 = 100_000;

fn rounds(usual: usize) -> usize {
    if std::env::var_os("KEYHOLDER_LONG").is_some() { usual * 10 } else { usual }
}

/// Rounds that may be made, in multiples of the usual, until kills have landed where they should.
const ROUNDS_MAX: usize = 6;

/// Waits until something has begun, or the program has ended.
fn watch(child: &mut Child, begun: impl Fn() -> bool) {
    for _ in 0..WATCHES_MAX {
        if begun() || child.try_wait().unwrap().is_some() {
            break;
        }
        std::thread::sleep(Duration::from_micros(20));
    }
}

/// How long a command takes here from what `begun` sees to its end: what kills are aimed with, on any machine.
#[expect(clippy::disallowed_methods, reason = "the machine's own pace is what is measured")]
fn pace(mut child: Child, begun: impl Fn() -> bool) -> u64 {
    watch(&mut child, begun);
    let from = Instant::now();
    assert!(child.wait().unwrap().success());
    u64::try_from(from.elapsed().as_micros()).unwrap().max(1)
}

/// Kills within a random time after `begun`; answers whether it was still alive.
fn kill(mut child: Child, begun: impl Fn() -> bool, delay: Duration) -> bool {
    watch(&mut child, begun);
    std::thread::sleep(delay);
    // One that has ended already cannot be killed; it is not counted.
    child.kill().ok();
    child.wait().unwrap().signal() == Some(9)
}

fn started(world: &World, words: &[&str]) -> Child {
    let mut command = world.command("state", words);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn folder_with(state: &Path, prefix: &str) -> bool {
    let entries = fs::read_dir(state).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
}

/// Where a restore was when it was killed.
#[derive(Default, Debug)]
struct Restores {
    killed: usize,
    before: usize,
    staging: usize,
    replacing: usize,
    done: usize,
}

#[test]
fn a_restore_that_is_killed_loses_nothing() {
    let world = World::furnished();
    let file = world.backup("state", "backup.age");
    let new = world.client_names("state");
    world.said("state", &["client", "add", "only-in-the-old-one"], b"").done();
    world.said("state", &["secret", "set", "only-in-the-old-one"], DOCUMENT).done();
    let old = world.client_names("state");
    fs::rename(world.path("state"), world.path("template")).unwrap();
    let old_files = digests(&world.path("template"));
    let identity = world.identity();
    let words = World::restore(&file, &["--replace"], &identity);
    let entropy = SeededEntropy::new(71);
    let mut tally = Restores::default();
    let state = world.path("state");
    let journal = state.join("restore.journal");
    // a third of the kills anywhere, a third once staging began, a third once replacing began
    let begun: [&dyn Fn() -> bool; 3] = [&|| true, &|| folder_with(&state, "restore-"), &|| journal.exists()];
    let paces = begun.map(|begun| {
        copy_folder(&world.path("template"), &state);
        let pace = pace(started(&world, &words), begun);
        fs::remove_dir_all(&state).unwrap();
        pace
    });
    let all = rounds(24);
    let enough = |tally: &Restores| tally.killed >= all / 2 && tally.staging >= 2 && tally.replacing >= 2;
    for round in 0..all * ROUNDS_MAX {
        if round >= all && enough(&tally) {
            break;
        }
        copy_folder(&world.path("template"), &state);
        let aimed = round % 3;
        let delay = Duration::from_micros(entropy.below(paces[aimed]));
        let killed = kill(started(&world, &words), begun[aimed], delay);
        let replacing = journal.exists();
        let staging = folder_with(&state, "restore-") && !replacing;
        let kept = folder_with(&state, "replaced-");
        tally.killed += usize::from(killed);
        tally.replacing += usize::from(killed && replacing);
        tally.staging += usize::from(killed && staging);
        tally.before += usize::from(killed && !replacing && !staging && !kept);
        if replacing {
            for words in [&["client", "list"][..], &["serve"], &["store", "check"], &["store", "rekey"]] {
                let told = refused(&world.said("state", words, b""), 4, "keyholder.restore.unfinished");
                assert_eq!(told["hints"][0], "keyholder store restore --resume");
            }
            world.said("state", &["store", "restore", "--resume"], b"").done();
        }
        let names = world.client_names("state");
        world.is_sound("state");
        if names == old {
            assert!(!replacing && !kept, "round {round}: the old one is whole only if nothing was replaced");
        } else {
            assert_eq!(names, new, "round {round}");
            tally.done += 1;
            let replaced = fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().path());
            let replaced: Vec<_> =
                replaced.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("replaced-")).collect();
            assert_eq!(replaced.len(), 1, "round {round}");
            assert_eq!(digests(&replaced[0]), old_files, "round {round}: the old one is kept, byte for byte");
        }
        fs::remove_dir_all(&state).unwrap();
    }
    println!("restores: {tally:?}, {all} wanted");
    assert!(enough(&tally), "the kills missed: {tally:?}");
}

/// Where a rekey was when it was killed.
#[derive(Default, Debug)]
struct Rekeys {
    killed: usize,
    before_it_counted: usize,
    between_store_and_file: usize,
    done: usize,
}

#[test]
fn a_rekey_that_is_killed_leaves_exactly_one_key_that_opens() {
    let world = World::furnished();
    fs::rename(world.path("state"), world.path("template")).unwrap();
    let old_key = fs::read(world.path("template/store.key")).unwrap();
    let entropy = SeededEntropy::new(72);
    let mut tally = Rekeys::default();
    let state = world.path("state");
    let (place, next) = (state.join("store.key"), state.join("store.key.next"));
    // a quarter of the kills anywhere, the others once the new key is on the disk
    let begun: [&dyn Fn() -> bool; 2] = [&|| true, &|| next.exists()];
    let paces = begun.map(|begun| {
        copy_folder(&world.path("template"), &state);
        let pace = pace(started(&world, &["store", "rekey"]), begun);
        fs::remove_dir_all(&state).unwrap();
        pace
    });
    let all = rounds(40);
    let enough =
        |tally: &Rekeys| tally.killed >= all / 3 && tally.before_it_counted + tally.between_store_and_file >= 2;
    for round in 0..all * ROUNDS_MAX {
        if round >= all && enough(&tally) {
            break;
        }
        copy_folder(&world.path("template"), &state);
        let aimed = usize::from(round % 4 > 0);
        let delay = Duration::from_micros(entropy.below(paces[aimed]));
        let killed = kill(started(&world, &["store", "rekey"]), begun[aimed], delay);
        tally.killed += usize::from(killed);
        let pending = next.exists();
        // what is on the disk, before any other command looks at it
        let opens = |key: &[u8]| {
            let probe = world.path("probe");
            copy_folder(&state, &probe);
            fs::remove_file(probe.join("store.key.next")).ok();
            super::world::write_private(&probe.join("store.key"), key);
            let said = world.said("probe", &["store", "check"], b"");
            fs::remove_dir_all(&probe).unwrap();
            said.code == Some(0)
        };
        let with_old = opens(&old_key);
        let new_key = if pending { fs::read(&next).unwrap() } else { fs::read(&place).unwrap() };
        let with_new = new_key != old_key && opens(&new_key);
        assert!(with_old != with_new, "round {round}: old {with_old}, new {with_new}, pending {pending}");
        tally.before_it_counted += usize::from(killed && pending && with_old);
        tally.between_store_and_file += usize::from(killed && pending && with_new);
        tally.done += usize::from(with_new);
        world.is_sound("state");
        if with_new {
            assert_eq!(fs::read(&place).unwrap(), new_key, "round {round}: the key that opens is in its place");
            assert!(!next.exists());
            let probe = world.path("probe");
            copy_folder(&state, &probe);
            super::world::write_private(&probe.join("store.key"), &old_key);
            refused(&world.said("probe", &["secret", "list"], b""), 2, "keyholder.store.wrong_key");
            fs::remove_dir_all(&probe).unwrap();
            // the change is in the log, delivered by whichever command came next
            world.said("state", &["secret", "list"], b"").done();
            let events = world.said("state", &["audit", "list"], b"").out;
            assert_eq!(events.matches("store.rekey").count(), 1, "round {round}");
        }
        // whatever happened, the next rekey works
        world.said("state", &["store", "rekey"], b"").done();
        world.is_sound("state");
        fs::remove_dir_all(&state).unwrap();
    }
    println!("rekeys: {tally:?}, {all} wanted");
    assert!(enough(&tally), "the kills missed: {tally:?}");
}
