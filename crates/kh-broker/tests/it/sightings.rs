//! What is written down of logins: who uses which secret, signs of life, and the end.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use kh_broker::{ALIVE, Broker, Credential, LoginObserver, Sightings};
use kh_core::{
    Clock, Entropy, Fingerprint, Fingerprinter, SeededEntropy,
    credential::CredentialDocument,
    port::{BoxFuture, Grade, JournalError, SecretSource, Sighting, SightingLog},
};
use tokio::{runtime::Handle, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::fakes::{Answer, FakeEndpoint, FakeStore, spec, tokio_clock};

/// Takes sightings, or not.
#[derive(Default)]
struct FakeJournal {
    written: Mutex<Vec<Sighting>>,
    is_down: Mutex<bool>,
}

impl SightingLog for FakeJournal {
    fn sight(&self, sighting: Sighting) -> BoxFuture<'_, Result<(), JournalError>> {
        Box::pin(async move {
            if *self.is_down.lock().unwrap() {
                return Err(JournalError::Unavailable("down, as the test says".into()));
            }
            self.written.lock().unwrap().push(sighting);
            Ok(())
        })
    }
}

struct Rig {
    journal: Arc<FakeJournal>,
    endpoint: Arc<FakeEndpoint>,
    store: Arc<FakeStore>,
    broker: Arc<Broker>,
    credential: Arc<Credential>,
    clock: Arc<dyn Clock>,
    sightings: Arc<Sightings>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

fn start(script: &[Answer]) -> Rig {
    let (journal, endpoint, store) =
        (Arc::new(FakeJournal::default()), FakeEndpoint::playing(script), FakeStore::with_secret("right"));
    let (clock, entropy): (_, Arc<dyn Entropy>) = (tokio_clock(), Arc::new(SeededEntropy::new(1)));
    let port = Arc::clone(&journal) as Arc<dyn SightingLog>;
    let fingerprinter = Arc::new(Fingerprinter::new(b"installation"));
    let sightings = Sightings::new("gateway/host/1-ab".to_owned(), port, fingerprinter, Arc::clone(&clock));
    sightings.write_of(["acme".parse().unwrap()].into());
    let broker = Broker::observed(
        vec![spec("acme", &endpoint, "1")],
        Arc::clone(&store) as Arc<dyn SecretSource>,
        (Arc::clone(&clock), entropy),
        Handle::current(),
        Arc::clone(&sightings) as Arc<dyn LoginObserver>,
    );
    let credential = broker.credential(&"acme".parse().unwrap()).unwrap();
    let cancel = CancellationToken::new();
    let task = tokio::spawn(Arc::clone(&sightings).run(cancel.clone()));
    Rig { journal, endpoint, store, broker, credential, clock, sightings, cancel, task }
}

/// The fingerprint that markers and runs have for this secret.
fn fingerprint(secret: &str) -> Fingerprint {
    let text = format!(r#"{{"client_id":"id","client_secret":"{secret}"}}"#);
    let document = CredentialDocument::parse(&kh_core::SecretBytes::new(text.into_bytes())).unwrap();
    document.fingerprint(&Fingerprinter::new(b"installation"))
}

impl Rig {
    fn written(&self) -> Vec<Sighting> {
        self.journal.written.lock().unwrap().clone()
    }

    /// Lets everything happen that needs no time.
    async fn settle(&self) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_login_is_written_with_the_fingerprint_that_rotation_compares() {
    let rig = start(&[Answer::Token { life: 86_400 }]);
    let now = rig.clock.now().wall;
    rig.credential.lease(Duration::ZERO).await.unwrap();
    rig.settle().await;
    let [seen] = <[Sighting; 1]>::try_from(rig.written()).unwrap();
    assert_eq!((seen.credential.as_str(), seen.consumer.as_str()), ("acme", "gateway/host/1-ab"));
    assert_eq!((seen.fingerprint, seen.grade), (fingerprint("right"), Grade::Used));
    assert_eq!(seen.version.unwrap().0, "1");
    assert!(seen.at.since(now) < Duration::from_secs(1));
    let alive = seen.alive_until.since(seen.at);
    assert!(alive <= ALIVE + Duration::from_secs(1) && alive + Duration::from_secs(1) >= ALIVE, "{alive:?}");
}

#[tokio::test(start_paused = true)]
async fn of_a_credential_that_is_not_rotated_nothing_is_written_until_it_is() {
    let rig = start(&[Answer::Token { life: 86_400 }]);
    rig.sightings.write_of([].into());
    rig.credential.lease(Duration::ZERO).await.unwrap();
    let login = rig.clock.now().wall;
    tokio::time::sleep(Duration::from_mins(30)).await;
    assert!(rig.written().is_empty(), "using it changes no state");
    rig.sightings.write_of(["acme".parse().unwrap()].into());
    rig.settle().await;
    let [seen] = <[Sighting; 1]>::try_from(rig.written()).unwrap();
    assert_eq!((seen.fingerprint, seen.grade), (fingerprint("right"), Grade::Used));
    assert!(seen.at.since(login) < Duration::from_secs(1), "when it logged in, not when that became of interest");
    assert!(seen.alive_until > rig.clock.now().wall);
    assert_eq!(rig.endpoint.calls(), 1);
    rig.sightings.write_of([].into());
    tokio::time::sleep(Duration::from_mins(30)).await;
    assert_eq!(rig.written().len(), 1, "and no more signs of life when it is not rotated any more");
}

#[tokio::test(start_paused = true)]
async fn signs_of_life_keep_the_time_of_the_login_and_end_with_the_token() {
    let rig = start(&[Answer::Token { life: 3600 }, Answer::Down]);
    rig.credential.lease(Duration::ZERO).await.unwrap();
    rig.settle().await;
    let first = rig.written().remove(0);
    tokio::time::sleep(Duration::from_mins(30)).await;
    let half = rig.written();
    assert!((5..=7).contains(&half.len()), "one in five minutes: {}", half.len());
    assert!(half.iter().all(|seen| seen.at == first.at), "a sign of life is no use of the secret");
    assert!(half.windows(2).all(|pair| pair[0].alive_until < pair[1].alive_until));
    tokio::time::sleep(Duration::from_hours(2)).await;
    let all = rig.written();
    let end = first.at.plus(Duration::from_hours(1));
    assert!(all.iter().all(|seen| seen.alive_until <= end), "nobody is alive with a token that is over");
    assert!(all.len() < 16, "{}", all.len());
}

#[tokio::test(start_paused = true)]
async fn a_new_secret_is_seen_and_the_old_one_keeps_its_last_use() {
    let rig = start(&[]);
    rig.credential.lease(Duration::ZERO).await.unwrap();
    rig.settle().await;
    tokio::time::sleep(Duration::from_mins(6)).await;
    *rig.endpoint.good_secret.lock().unwrap() = "next".into();
    rig.store.write("next");
    tokio::time::sleep(Duration::from_mins(11)).await;
    let written = rig.written();
    let of = |secret: &str| -> Vec<Sighting> {
        written.iter().filter(|seen| seen.fingerprint == fingerprint(secret)).cloned().collect()
    };
    let (old, new) = (of("right"), of("next"));
    assert!(!new.is_empty() && new.iter().all(|seen| seen.grade == Grade::Used));
    let change = new.first().unwrap().at;
    assert!(old.iter().all(|seen| seen.at < change));
    let order: Vec<bool> = written.iter().map(|seen| seen.fingerprint == fingerprint("next")).collect();
    assert!(order.is_sorted(), "no sign of life with the old one once the new one is used: {order:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_secret_is_a_sign_of_who_holds_it_and_no_proof_of_use() {
    let rig = start(&[Answer::Rejected]);
    rig.credential.lease(Duration::ZERO).await.unwrap_err();
    rig.settle().await;
    let [seen] = <[Sighting; 1]>::try_from(rig.written()).unwrap();
    assert_eq!((seen.fingerprint, seen.grade), (fingerprint("right"), Grade::Fetched));
    assert_eq!(seen.alive_until, seen.at);
}

#[tokio::test(start_paused = true)]
async fn a_refused_secret_does_not_end_the_signs_of_the_token_that_is_in_use() {
    let rig = start(&[Answer::Token { life: 86_400 }, Answer::Rejected]);
    rig.credential.lease(Duration::ZERO).await.unwrap();
    rig.settle().await;
    rig.store.write("next");
    tokio::time::sleep(Duration::from_mins(30)).await;
    assert_eq!(rig.credential.lease(Duration::ZERO).await.unwrap().generation(), 1);
    let (written, now) = (rig.written(), rig.clock.now().wall);
    let last = |secret: &str| written.iter().rfind(|seen| seen.fingerprint == fingerprint(secret)).unwrap();
    assert!(last("right").alive_until > now && last("right").grade == Grade::Used);
    assert_eq!(last("right").at, written.first().unwrap().at, "a sign of life is no use of the secret");
    let refused = last("next");
    assert_eq!((refused.grade, refused.alive_until), (Grade::Fetched, refused.at));
    // the token's end is the end of it all the same
    tokio::time::sleep(Duration::from_hours(24)).await;
    let end = written.first().unwrap().at.plus(Duration::from_hours(24));
    assert!(rig.written().iter().all(|seen| seen.alive_until <= end || seen.fingerprint == fingerprint("next")));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_did_not_come_says_nothing() {
    let rig = start(&[Answer::Down, Answer::Hang, Answer::RateLimited { retry_after: 300 }]);
    drop(tokio::time::timeout(Duration::from_mins(5), rig.credential.lease(Duration::ZERO)).await);
    assert!(rig.endpoint.calls() >= 2);
    assert!(rig.written().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_the_journal_does_not_take_is_written_later() {
    let rig = start(&[]);
    *rig.journal.is_down.lock().unwrap() = true;
    let at = rig.clock.now().wall;
    rig.credential.lease(Duration::ZERO).await.unwrap();
    *rig.endpoint.good_secret.lock().unwrap() = "next".into();
    rig.store.write("next");
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert!(rig.written().is_empty());
    *rig.journal.is_down.lock().unwrap() = false;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let written = rig.written();
    let old = written.iter().find(|seen| seen.fingerprint == fingerprint("right")).unwrap();
    assert!(old.at.since(at) < Duration::from_secs(2), "the last use of the old one is not lost and not moved");
    assert!(written.iter().any(|seen| seen.fingerprint == fingerprint("next")));
}

#[tokio::test(start_paused = true)]
async fn at_its_end_it_says_that_it_is_gone() {
    let rig = start(&[Answer::Token { life: 86_400 }]);
    rig.credential.lease(Duration::ZERO).await.unwrap();
    tokio::time::sleep(Duration::from_mins(1)).await;
    rig.broker.shutdown().await;
    rig.cancel.cancel();
    let Rig { journal, clock, task, .. } = rig;
    task.await.unwrap();
    let last = journal.written.lock().unwrap().pop().unwrap();
    assert!(last.alive_until <= clock.now().wall, "nobody waits for it");
}
