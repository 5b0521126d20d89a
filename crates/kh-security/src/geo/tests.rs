//! Look-ups in MaxMind's own test databases, and files that change, break and come back.

use std::{fs, path::Path};

use kh_core::{Entropy, SeededEntropy};

use super::*;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/maxmind/");

fn test_file(name: &str) -> PathBuf {
    PathBuf::from(format!("{FOLDER}GeoLite2-{name}-Test.mmdb"))
}

fn all() -> Files {
    Files { country: Some(test_file("Country")), city: Some(test_file("City")), asn: Some(test_file("ASN")) }
}

fn geo(files: Files) -> (Geo, Counters) {
    let counters = Counters::default();
    let geo = Geo::new(files, &counters);
    geo.refresh();
    (geo, counters)
}

fn country_of(geo: &Geo, ip: &str) -> Option<String> {
    geo.look_up(ip.parse().unwrap()).country.map(|country| country.as_str().to_owned())
}

#[test]
fn places_of_addresses() {
    let (geo, _) = geo(all());
    let london = geo.look_up("81.2.69.160".parse().unwrap());
    assert_eq!(london.country, Country::new("GB"));
    assert_eq!(
        (london.city.as_ref().map(Told::as_str), london.region.as_ref().map(Told::as_str)),
        (Some("London"), Some("ENG"))
    );
    let at = london.position.unwrap();
    assert!(
        (at.latitude - 51.5142).abs() < 1e-6 && (at.longitude + 0.0931).abs() < 1e-6 && at.radius_km > 0.0,
        "{at:?}"
    );
    assert_eq!(geo.look_up("::ffff:81.2.69.160".parse().unwrap()), london);
    let telstra = geo.look_up("1.128.0.1".parse().unwrap());
    assert_eq!((telstra.asn, telstra.operator.as_ref().map(Told::as_str)), (Some(1221), Some("Telstra Pty Ltd")));
    assert_eq!(country_of(&geo, "2001:218::1").as_deref(), Some("JP"));
    assert_eq!(geo.look_up("9.9.9.9".parse().unwrap()), Place::default());
}

#[test]
fn a_country_database_alone_tells_countries() {
    let (geo, _) = geo(Files { country: Some(test_file("Country")), ..Files::default() });
    let place = geo.look_up("81.2.69.160".parse().unwrap());
    assert_eq!(place, Place { country: Country::new("GB"), ..Place::default() });
}

#[test]
fn private_addresses_are_not_looked_up_whatever_the_database_says() {
    // the test database has a record for all of ::ffff:0:0/96's copies, and for 2002::/16
    let (geo, _) = geo(all());
    for ip in ["10.0.0.1", "127.0.0.1", "192.168.1.1", "fd00::1", "::1", "2002:5102:45a0::1"] {
        assert_eq!(geo.look_up(ip.parse().unwrap()), Place::default(), "{ip}");
    }
}

#[test]
fn without_a_database_nothing_is_known() {
    let (geo, _) = geo(Files::default());
    assert_eq!(geo.look_up("81.2.69.160".parse().unwrap()), Place::default());
}

/// As MaxMind's updater does it: a new file under another name, renamed into place.
fn renamed_into_place(path: &Path, content: &[u8]) {
    let new = path.with_extension("new");
    fs::write(&new, content).unwrap();
    fs::rename(&new, path).unwrap();
}

#[test]
fn a_new_file_is_taken_up_and_a_bad_one_leaves_the_last_good_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("city.mmdb");
    let counters = Counters::default();
    let geo = Geo::new(Files { city: Some(path.clone()), ..Files::default() }, &counters);
    let database = || counters.database(Kind::City);
    let counts = || (database().loaded.get(), database().refused.get());
    let good = fs::read(test_file("City")).unwrap();

    geo.refresh();
    assert_eq!((counts(), country_of(&geo, "81.2.69.160")), ((0, 1), None), "there is no file yet");
    geo.refresh();
    assert_eq!(counts(), (0, 1), "and that is told once");

    renamed_into_place(&path, &good);
    geo.refresh();
    assert_eq!((counts(), country_of(&geo, "81.2.69.160").as_deref()), ((1, 1), Some("GB")));
    assert!(database().built.get() > 1_000_000_000);
    geo.refresh();
    assert_eq!(counts(), (1, 1), "the same file is not read again");

    let mut flipped = good.clone();
    // within the search tree: only the whole check finds it
    flipped.iter_mut().skip(1_000).take(400).for_each(|byte| *byte ^= 0x5a);
    let country = fs::read(test_file("ASN")).unwrap();
    let cut = good.get(..good.len() - 100).unwrap();
    for (refused, bad) in [cut, &flipped, &country, b"", b"no database"].into_iter().enumerate() {
        renamed_into_place(&path, bad);
        geo.refresh();
        geo.refresh();
        assert_eq!(counts(), (1, 2 + refused as u64));
        assert_eq!(country_of(&geo, "81.2.69.160").as_deref(), Some("GB"), "the last good one stays");
    }
    fs::remove_file(&path).unwrap();
    geo.refresh();
    assert_eq!(country_of(&geo, "81.2.69.160").as_deref(), Some("GB"), "also when the file is gone");

    renamed_into_place(&path, &good);
    geo.refresh();
    assert_eq!((counts(), country_of(&geo, "81.2.69.160").as_deref()), ((2, 7), Some("GB")));
}

#[test]
fn what_is_no_file_is_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    for path in [fifo, folder.path().to_owned()] {
        // opening the pipe would never come back
        let (_, counters) = geo(Files { asn: Some(path), ..Files::default() });
        assert_eq!(counters.database(Kind::Asn).refused.get(), 1);
    }
}

#[test]
fn nobody_sees_half_a_change() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("city.mmdb");
    let good = fs::read(test_file("City")).unwrap();
    fs::write(&path, &good).unwrap();
    let (geo, counters) = geo(Files { city: Some(path.clone()), ..Files::default() });
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut looked = 0_u64;
                    while !done.load(std::sync::atomic::Ordering::Relaxed) {
                        assert_eq!(country_of(&geo, "81.2.69.160").as_deref(), Some("GB"));
                        looked += 1;
                    }
                    looked
                })
            })
            .collect();
        for round in 0..40 {
            renamed_into_place(&path, if round % 2 == 0 { &good } else { b"broken" });
            geo.refresh();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        for reader in readers {
            assert!(reader.join().unwrap() > 0);
        }
    });
    assert_eq!((counters.database(Kind::City).loaded.get(), counters.database(Kind::City).refused.get()), (21, 20));
}

#[test]
fn a_damaged_database_is_never_more_than_refused() {
    let entropy = SeededEntropy::new(7);
    let good = fs::read(test_file("City")).unwrap();
    let rounds = if std::env::var_os("KEYHOLDER_LONG").is_some() { 100_000 } else { 400 };
    for round in 0..rounds {
        let mut bytes = good.clone();
        for _ in 0..=entropy.below(20) {
            let at = usize::try_from(entropy.below(bytes.len() as u64)).unwrap();
            let mut new = [0];
            entropy.fill(&mut new);
            bytes[at] = new[0];
        }
        if round % 4 == 0 {
            bytes.truncate(usize::try_from(entropy.below(bytes.len() as u64)).unwrap());
        }
        crate::fuzzing::location_database(&bytes);
    }
}

#[tokio::test(start_paused = true)]
async fn the_watch_loads_at_once_and_ends_when_told() {
    let counters = Counters::default();
    let geo = Arc::new(Geo::new(all(), &counters));
    let stop = CancellationToken::new();
    let watch = tokio::spawn(Arc::clone(&geo).watch(LOOK_EVERY, stop.clone()));
    for _ in 0..1_000 {
        if counters.database(Kind::Asn).loaded.get() == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(country_of(&geo, "81.2.69.160").as_deref(), Some("GB"));
    stop.cancel();
    watch.await.unwrap();
}
