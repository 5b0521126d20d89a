//! Fallback, staleness and numbers, on a clock that the tests move.

use std::sync::atomic::{AtomicUsize, Ordering};

use kh_core::{
    Clock, Code, ManualClock, UnixMillis,
    port::secret_target::{Replica, TargetCheck, TargetTraits},
    rotation::WriteToken,
};

use super::*;
use crate::sources::{Outside, Sources};

/// What a region does when it is asked.
#[derive(Clone)]
enum Mood {
    Serves(&'static str, u64, &'static str),
    Down,
    Gone,
    Refuses,
    KnowsNobody,
    Hangs,
}

struct Fake {
    mood: Mutex<Mood>,
    slow: Mutex<Duration>,
    clock: ManualClock,
    asked: AtomicUsize,
}

impl Fake {
    fn answer(&self, path: &SecretPath) -> Result<LiveSecret, TargetError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.clock.advance(*self.slow.lock());
        match &*self.mood.lock() {
            Mood::Serves(secret, generation, version) => {
                Ok(LiveSecret { value: document(secret, *generation), version: VersionId((*version).to_owned()) })
            }
            Mood::Down | Mood::Hangs => Err(TargetError::Unavailable("down".to_owned())),
            Mood::Gone => Err(TargetError::NotFound(path.clone())),
            Mood::KnowsNobody => Err(TargetError::Unauthenticated("the secret id has ended".to_owned())),
            Mood::Refuses => Err(TargetError::Denied("no".to_owned())),
        }
    }
}

fn document(secret: &str, generation: u64) -> SecretBytes {
    let id = "00000000-0000-0000-0000-000000000007";
    let marker = format!(
        r#"{{"run":"{id}","write":"{id}","generation":{generation},"fingerprint":"0123456789abcdef","created_at":5}}"#
    );
    SecretBytes::new(format!(r#"{{"client_id":"a","client_secret":"{secret}","_kh":{marker}}}"#).into_bytes())
}

impl SecretTarget for Fake {
    fn traits(&self) -> TargetTraits {
        unreachable!("reading asks for no traits")
    }
    fn live<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Result<LiveSecret, TargetError>> {
        Box::pin(async move {
            if matches!(&*self.mood.lock(), Mood::Hangs) {
                self.asked.fetch_add(1, Ordering::SeqCst);
            } else {
                return self.answer(path);
            }
            std::future::pending().await
        })
    }
    fn live_version<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Result<VersionId, TargetError>> {
        Box::pin(async move { self.answer(path).map(|live| live.version) })
    }
    fn check<'a>(&'a self, _: &'a SecretPath) -> BoxFuture<'a, Result<TargetCheck, TargetError>> {
        unreachable!("reading checks nothing")
    }
    fn stage<'a>(
        &'a self,
        _: &'a SecretPath,
        _: WriteToken,
        _: &'a SecretBytes,
    ) -> BoxFuture<'a, Result<(), TargetError>> {
        unreachable!("reading writes nothing")
    }
    fn staged<'a>(
        &'a self,
        _: &'a SecretPath,
        _: WriteToken,
    ) -> BoxFuture<'a, Result<Option<SecretBytes>, TargetError>> {
        unreachable!("reading stages nothing")
    }
    fn promote<'a>(
        &'a self,
        _: &'a SecretPath,
        _: WriteToken,
        _: Option<&'a VersionId>,
    ) -> BoxFuture<'a, Result<VersionId, TargetError>> {
        unreachable!("reading promotes nothing")
    }
    fn unstage<'a>(&'a self, _: &'a SecretPath, _: WriteToken) -> BoxFuture<'a, Result<(), TargetError>> {
        unreachable!("reading unstages nothing")
    }
    fn replicas<'a>(&'a self, _: &'a SecretPath) -> BoxFuture<'a, Result<Vec<Replica>, TargetError>> {
        unreachable!("reading asks for no copies")
    }
    fn list<'a>(&'a self, _: &'a str, _: usize) -> BoxFuture<'a, Result<Vec<SecretPath>, TargetError>> {
        unreachable!("reading lists nothing")
    }
}

struct Bench {
    clock: ManualClock,
    east: Arc<Fake>,
    west: Arc<Fake>,
    store: Arc<Regional>,
    reference: SecretReference,
}

fn bench(east: Mood, west: Mood) -> Bench {
    let clock = ManualClock::at(UnixMillis(1_800_000_000_000));
    let fake = |mood| {
        let (slow, asked) = (Mutex::new(Duration::from_millis(5)), AtomicUsize::new(0));
        Arc::new(Fake { mood: Mutex::new(mood), slow, clock: clock.clone(), asked })
    };
    let (east, west) = (fake(east), fake(west));
    let region = |name: &str, target: &Arc<Fake>| Region {
        name: name.parse().unwrap(),
        target: Arc::clone(target) as Arc<dyn SecretTarget>,
    };
    let regions = vec![region("east", &east), region("west", &west)];
    let shared: Arc<dyn Clock> = Arc::new(clock.clone());
    let store = Regional::new(regions, Duration::from_mins(15), shared, Reads::default(), Sha256::of(b"1"));
    Bench { clock, east, west, store, reference: "east:acme".parse().unwrap() }
}

impl Bench {
    /// The secret and its number, or the word for a failure.
    async fn read(&self) -> String {
        match self.store.read(&self.reference).await {
            Ok(stored) => {
                let document = CredentialDocument::parse(&stored.value).unwrap();
                format!("{}:{}", document.client_secret.unwrap().expose(), stored.version)
            }
            Err(error) if error.is_missing() => "missing".to_owned(),
            Err(error) => error.code().short().to_owned(),
        }
    }

    async fn version(&self) -> Option<u64> {
        self.store.version(&self.reference).await.ok()
    }

    fn reads(&self, store: &str, result: &'static str) -> u64 {
        self.store.reads.counts.get_or_create(&Labels { store: store.to_owned(), result }).get()
    }

    fn asked(&self) -> (usize, usize) {
        (self.east.asked.swap(0, Ordering::SeqCst), self.west.asked.swap(0, Ordering::SeqCst))
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_choice_answers_and_another_one_when_it_does_not() {
    let bench = bench(Mood::Serves("one", 1, "v1"), Mood::Serves("one", 1, "77"));
    assert_eq!(bench.read().await, "one:1");
    assert_eq!(bench.asked(), (1, 0));
    *bench.east.mood.lock() = Mood::Down;
    assert_eq!(bench.read().await, "one:1", "the same document has the same number in another store's words");
    assert_eq!(bench.asked(), (1, 1));
    assert_eq!(bench.read().await, "one:1");
    assert_eq!(bench.asked(), (0, 1), "what just failed is asked last");
    *bench.east.mood.lock() = Mood::Serves("two", 2, "v2");
    bench.clock.advance(REST);
    assert_eq!(bench.read().await, "two:2");
    *bench.east.mood.lock() = Mood::Hangs;
    bench.clock.advance(REST);
    assert_eq!(
        bench.read().await,
        "two:2",
        "a store that hangs costs its share of the time alone, and one that lags is not believed"
    );
}

#[tokio::test(start_paused = true)]
async fn memory_serves_for_its_time_and_never_longer() {
    let bench = bench(Mood::Serves("one", 1, "v1"), Mood::Down);
    assert_eq!(bench.read().await, "one:1");
    *bench.east.mood.lock() = Mood::Down;
    bench.clock.advance(Duration::from_mins(14));
    assert_eq!((bench.read().await.as_str(), bench.version().await), ("one:1", Some(1)));
    assert!(bench.reads("east", "stale") >= 1);
    bench.clock.advance(Duration::from_mins(1));
    assert_eq!((bench.read().await.as_str(), bench.version().await), ("store.unavailable", None));
    *bench.east.mood.lock() = Mood::Serves("one", 1, "v1");
    assert_eq!(bench.read().await, "one:1", "the same document again");
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_or_forbidden_is_not_served_from_memory() {
    let denied = Code::STORE_DENIED;
    for (mood, told) in [(Mood::Gone, "missing"), (Mood::Refuses, denied.short())] {
        let bench = bench(Mood::Serves("one", 1, "v1"), Mood::Serves("one", 1, "77"));
        assert_eq!(bench.read().await, "one:1");
        *bench.east.mood.lock() = mood;
        assert_eq!(bench.read().await, told);
        *bench.east.mood.lock() = Mood::Down;
        *bench.west.mood.lock() = Mood::Down;
        assert_eq!(bench.read().await, "store.unavailable", "and it was forgotten");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_take_the_login_lets_another_one_answer_and_no_memory() {
    let bench = bench(Mood::KnowsNobody, Mood::Serves("one", 1, "77"));
    assert_eq!(bench.read().await, "one:1");
    *bench.west.mood.lock() = Mood::Down;
    assert_eq!(bench.read().await, Code::STORE_DENIED.short());
    *bench.east.mood.lock() = Mood::Down;
    bench.clock.advance(REST);
    assert_eq!(bench.read().await, "store.unavailable", "and it was forgotten");
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_lags_does_not_take_a_document_back() {
    let bench = bench(Mood::Serves("two", 2, "v2"), Mood::Serves("one", 1, "77"));
    assert_eq!(bench.read().await, "two:1");
    *bench.east.mood.lock() = Mood::Down;
    assert_eq!(bench.read().await, "two:1", "from memory, not the older one of the copy");
    bench.clock.advance(Duration::from_mins(16));
    assert_eq!(bench.read().await, "one:2", "when memory is over, the older one is all there is");
    *bench.east.mood.lock() = Mood::Serves("one", 1, "v3");
    bench.clock.advance(REST);
    assert_eq!(bench.read().await, "one:2", "a rollback in the first choice is believed");
}

#[tokio::test(start_paused = true)]
async fn versions_are_asked_for_seldom_and_mean_the_document() {
    let bench = bench(Mood::Serves("one", 1, "v1"), Mood::Serves("one", 1, "77"));
    assert_eq!(bench.version().await, Some(1));
    bench.asked();
    for _ in 0..9 {
        bench.clock.advance(Duration::from_secs(1));
        assert_eq!(bench.version().await, Some(1));
    }
    assert_eq!(bench.asked(), (0, 0), "one question in ten seconds");
    *bench.east.mood.lock() = Mood::Serves("two", 2, "v2");
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(bench.version().await, Some(2));
    *bench.east.mood.lock() = Mood::Serves("one", 1, "v1");
    bench.clock.advance(VERSION_EVERY);
    assert_eq!(bench.version().await, Some(3), "the first document again is news, not the first number");
}

#[tokio::test(start_paused = true)]
async fn the_quicker_region_is_read_first() {
    let bench = bench(Mood::Serves("one", 1, "v1"), Mood::Serves("one", 1, "77"));
    *bench.east.slow.lock() = Duration::from_millis(120);
    // the polls measure both
    for _ in 0..3 {
        bench.version().await;
        bench.clock.advance(MEASURE_EVERY);
    }
    bench.asked();
    assert_eq!(bench.read().await, "one:1");
    assert_eq!(bench.asked(), (0, 1));
    // a difference below a factor of two changes nothing
    let even = self::bench(Mood::Serves("one", 1, "v1"), Mood::Serves("one", 1, "77"));
    *even.east.slow.lock() = Duration::from_millis(7);
    for _ in 0..3 {
        even.version().await;
        even.clock.advance(MEASURE_EVERY);
    }
    even.asked();
    assert_eq!(even.read().await, "one:1");
    assert_eq!(even.asked(), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_takes_the_place_of_another_goes_on_with_its_numbers() {
    let bench = bench(Mood::Serves("one", 1, "v1"), Mood::Down);
    let outside = |store: &Arc<Regional>| Outside::from([("east".parse().unwrap(), Arc::clone(store))]);
    let sources = Sources::new(Arc::clone(&bench.store) as Arc<dyn SecretSource>, outside(&bench.store));
    let number = async || sources.read(&bench.reference).await.unwrap().version;
    let replace = |edition: &[u8]| {
        let Regional { regions, stale_max, clock, reads, .. } = &*bench.store;
        let next = Regional::new(regions.clone(), *stale_max, Arc::clone(clock), reads.clone(), Sha256::of(edition));
        sources.replace(outside(&next));
    };
    assert_eq!(number().await, 1);
    *bench.east.mood.lock() = Mood::Serves("two", 2, "v2");
    assert_eq!(number().await, 2);
    replace(b"2");
    *bench.east.mood.lock() = Mood::Serves("three", 3, "v3");
    assert_eq!(number().await, 3, "a new document has a number of its own");
    replace(b"3");
    replace(b"4");
    assert_eq!(number().await, 3, "and one that did not change keeps its own");
    *bench.east.mood.lock() = Mood::Serves("two", 2, "v4");
    assert_eq!(number().await, 4);
    *bench.east.mood.lock() = Mood::Serves("three", 3, "v5");
    assert_eq!(number().await, 5, "an earlier number does not come back");
}
