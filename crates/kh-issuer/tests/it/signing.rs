//! The signing keys over the real store: rotation with overlap, two processes, and a process that is killed.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use kh_core::{
    Clock, Entropy, ManualClock, SecretBytes, SecretString, SeededEntropy, SystemEntropy,
    port::{AuditLog, ClientRecord, Expected, SecretStore},
};
use kh_issuer::{Algorithm, Issuer, KeyState, Login, Order, SigningError, SigningKeys, SigningPolicy};
use kh_store::{FileStore, StoreKey};
use serde_json::Value;

use crate::support::{MemoryAudit, START, World, bytes, jwt_client, login};

const DAY: Duration = Duration::from_hours(24);

fn kids(keys: &SigningKeys) -> Vec<String> {
    let set: Value = serde_json::from_str(&keys.key_set()).unwrap();
    set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

fn signing(keys: &SigningKeys) -> String {
    keys.describe().into_iter().find(|key| key.state == KeyState::Signing).unwrap().kid
}

fn states(keys: &SigningKeys) -> Vec<KeyState> {
    keys.describe().iter().map(|key| key.state).collect()
}

/// A client with tokens that these keys sign.
struct Caller {
    issuer: Arc<Issuer>,
    keys: Arc<SigningKeys>,
    client: ClientRecord,
    secret: SecretString,
    /// Who may ask about them.
    asking: ClientRecord,
}

impl Caller {
    async fn of(world: &World) -> Self {
        let issuer = world.authority().await;
        let keys = Arc::clone(&issuer.authority().unwrap().keys);
        let (client, secret) = issuer.add_client(jwt_client("c", &[]), "cli:test").await.unwrap();
        let asking = ClientRecord { may_introspect: true, audience: Vec::new(), ..client.clone() };
        Self { issuer, keys, client, secret, asking }
    }

    async fn login(&self) -> Login {
        login(&self.issuer, &self.client, &self.secret).await
    }

    /// Whether `login` is still one.
    async fn has(&self, login: &Login) -> bool {
        self.issuer.introspect(&self.asking, bytes(login)).await.unwrap().is_some()
    }
}

#[tokio::test]
async fn a_key_is_published_before_it_signs_and_after_it_stopped() {
    let world = World::new();
    let keys = world.keys(SigningPolicy::default()).await;
    assert_eq!((kids(&keys).len(), keys.describe().len()), (0, 0), "opening makes none");
    assert!(keys.tend().await.unwrap());
    assert!(!keys.tend().await.unwrap(), "one is enough");
    let first = kids(&keys);
    assert_eq!(states(&keys), [KeyState::Signing]);

    world.clock.advance(29 * DAY);
    assert!(keys.tend().await.unwrap());
    assert_eq!(states(&keys), [KeyState::Signing, KeyState::Waiting]);
    assert_eq!((kids(&keys).len(), &kids(&keys)[0]), (2, &first[0]));
    world.clock.advance(DAY);
    assert_eq!(states(&keys), [KeyState::Retiring, KeyState::Signing], "by time alone");
    assert_eq!(kids(&keys).len(), 2);
    world.clock.advance(DAY + Duration::from_mins(5));
    assert_eq!(states(&keys), [KeyState::Ended, KeyState::Signing]);
    assert_eq!((kids(&keys).len(), kids(&keys).contains(&first[0])), (1, false));
    world.clock.advance(28 * DAY);
    assert!(keys.tend().await.unwrap());
    assert_eq!(keys.describe().len(), 2, "the ended one is gone from the document");
    let actions: Vec<_> =
        world.audit.0.lock().iter().map(|event| (event.action.clone(), event.actor.clone())).collect();
    assert_eq!(actions, vec![("signing_key.add".to_owned(), "keyholder".to_owned()); 3]);
}

#[tokio::test]
async fn a_token_can_be_verified_through_every_change_of_keys_but_a_compromise() {
    let world = World::new();
    let caller = Caller::of(&world).await;
    let keys = &caller.keys;
    let before = caller.login().await;
    let waiting = keys.order(Order::Ahead, "cli:test").await.unwrap();
    assert!(matches!(keys.order(Order::Ahead, "cli:test").await, Err(SigningError::Refused)), "one waits already");
    let hastened = keys.order(Order::Now, "cli:test").await.unwrap();
    assert_eq!(waiting, hastened, "the one that is published already");
    let after = caller.login().await;
    assert!(caller.has(&before).await && caller.has(&after).await);
    let header = |token: &[u8]| token.split(|byte| *byte == b'.').next().unwrap().to_vec();
    assert_ne!(header(bytes(&before)), header(bytes(&after)));
    keys.order(Order::Compromised, "cli:test").await.unwrap();
    assert!(!caller.has(&before).await && !caller.has(&after).await);
    assert_eq!(kids(keys).len(), 1);
    assert!(caller.has(&caller.login().await).await);
}

#[tokio::test]
async fn a_changed_algorithm_takes_over_with_overlap() {
    let world = World::new();
    let keys = world.keys(SigningPolicy::default()).await;
    keys.tend().await.unwrap();
    drop(keys);
    for (algorithm, name) in [(Algorithm::Rs256, "RS256"), (Algorithm::EdDsa, "EdDSA")] {
        let keys = world.keys(SigningPolicy { algorithm, ..SigningPolicy::default() }).await;
        assert!(keys.tend().await.unwrap());
        assert!(!keys.tend().await.unwrap());
        world.clock.advance(DAY);
        let signing = keys.describe().into_iter().find(|key| key.state == KeyState::Signing).unwrap();
        assert_eq!((signing.algorithm, signing.algorithm.as_str()), (algorithm, name));
    }
}

#[tokio::test]
async fn a_wall_clock_that_jumps_ahead_withdraws_no_key_and_stops_no_schedule() {
    let world = World::new();
    let caller = Caller::of(&world).await;
    let keys = &caller.keys;
    world.clock.advance(29 * DAY);
    assert!(keys.tend().await.unwrap());
    world.clock.advance(DAY.saturating_sub(Duration::from_secs(1)));
    let before = caller.login().await;
    world.clock.advance(Duration::from_secs(1));
    let after = caller.login().await;
    assert_eq!(states(keys), [KeyState::Retiring, KeyState::Signing]);

    let (now, version, second) = (world.clock.now().wall, keys.version(), signing(keys));
    world.clock.jump_wall(now.plus(365 * DAY));
    assert!(!keys.tend().await.unwrap());
    world.clock.advance(Duration::from_secs(5));
    assert!(!keys.tend().await.unwrap());
    world.clock.jump_wall(now.plus(Duration::from_secs(5)));
    assert!(!keys.tend().await.unwrap());
    assert_eq!((keys.version(), states(keys)), (version, vec![KeyState::Retiring, KeyState::Signing]));
    assert!(caller.has(&before).await && caller.has(&after).await);

    world.clock.advance(31 * DAY);
    assert!(keys.tend().await.unwrap());
    world.clock.advance(DAY);
    assert_ne!(signing(keys), second);
    assert!(caller.has(&caller.login().await).await);
}

#[tokio::test]
async fn a_clock_that_jumps_before_the_first_key_is_made_holds_up_no_login() {
    let world = World::new();
    let keys = world.keys(SigningPolicy::default()).await;
    world.clock.jump_wall(START.plus(365 * DAY));
    assert!(keys.tend().await.unwrap());
    world.clock.jump_wall(START);
    assert!(!keys.tend().await.unwrap());
    let first = signing(&keys);
    world.clock.advance(Duration::from_mins(10));
    assert!(keys.tend().await.unwrap(), "its time begins now");
    assert_eq!((states(&keys), signing(&keys)), (vec![KeyState::Signing], first));
    world.clock.advance(29 * DAY);
    assert!(keys.tend().await.unwrap());
    assert_eq!(states(&keys), [KeyState::Signing, KeyState::Waiting]);
}

/// Nothing tells a process that starts then that the clock runs ahead.
#[tokio::test]
async fn a_key_that_a_process_placed_far_ahead_does_not_stop_the_schedule() {
    let world = World::new();
    let keys = world.keys(SigningPolicy::default()).await;
    keys.tend().await.unwrap();
    let first = signing(&keys);
    world.clock.jump_wall(START.plus(365 * DAY));
    let ahead = world.keys(SigningPolicy::default()).await;
    assert!(ahead.tend().await.unwrap());
    world.clock.jump_wall(START);
    assert!(!keys.tend().await.unwrap());
    assert_eq!((states(&keys), signing(&keys)), (vec![KeyState::Signing, KeyState::Waiting], first.clone()));
    let far = kids(&keys).pop().unwrap();

    world.clock.advance(31 * DAY);
    assert!(keys.tend().await.unwrap());
    assert!(!keys.tend().await.unwrap(), "one waits for its turn");
    assert_eq!(signing(&keys), first);
    world.clock.advance(DAY);
    assert_eq!(states(&keys), [KeyState::Retiring, KeyState::Signing, KeyState::Waiting]);
    assert!(signing(&keys) != first && signing(&keys) != far);
    assert_eq!((kids(&keys).first(), kids(&keys).last()), (Some(&first), Some(&far)));
    keys.order(Order::Ahead, "cli:test").await.unwrap();
}

#[tokio::test]
async fn two_processes_agree() {
    let world = World::new();
    let (here, there) = (world.keys(SigningPolicy::default()).await, world.keys(SigningPolicy::default()).await);
    let (one, two) = tokio::join!(here.tend(), there.tend());
    assert!(one.unwrap() ^ two.unwrap(), "one of them makes the first key");
    here.refresh().await.unwrap();
    assert_eq!(kids(&here), kids(&there));
    let ordered = there.order(Order::Ahead, "cli:there").await.unwrap();
    assert!(here.refresh().await.unwrap());
    assert!(!here.refresh().await.unwrap(), "nothing more to read");
    assert!(kids(&here).contains(&ordered));
    for _ in 0..4 {
        let (one, two) = tokio::join!(here.order(Order::Compromised, "a"), there.order(Order::Compromised, "b"));
        let (one, two) = (one.unwrap(), two.unwrap());
        here.refresh().await.unwrap();
        there.refresh().await.unwrap();
        assert_eq!(kids(&here), kids(&there));
        assert!(one != two && kids(&here).len() == 1 && [one, two].contains(&kids(&here)[0]));
    }
}

#[tokio::test]
async fn damaged_keys_are_told_and_left_alone() {
    let world = World::new();
    let secrets = world.secrets();
    let name = kh_core::SecretName::own_document("issuer/signing-keys");
    let event = kh_store::conformance::event("secret.set", &name);
    let garbage = SecretBytes::new(b"{\"form\":1,\"keys\":[\"MARK\"]}".to_vec());
    secrets.put(&name, garbage, Expected::Absent, event).await.unwrap();
    let opened = SigningKeys::open(
        Arc::clone(&secrets),
        Arc::new(world.clock.clone()),
        Arc::new(SystemEntropy),
        SigningPolicy::default(),
    );
    let refused = opened.await.unwrap_err();
    assert!(matches!(refused, SigningError::Damaged(_)) && !format!("{refused:?}").contains("MARK"));
    assert_eq!(secrets.newest_version(&name).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_background_task_makes_the_first_key_and_follows_the_schedule() {
    let world = World::new();
    let keys = world.keys(SigningPolicy::default()).await;
    let cancel = tokio_util::sync::CancellationToken::new();
    let task = tokio::spawn(Arc::clone(&keys).run(cancel.clone()));
    for (wait, wanted) in [(Duration::ZERO, 1), (29 * DAY, 2)] {
        world.clock.advance(wait);
        while kids(&keys).len() != wanted {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    cancel.cancel();
    task.await.unwrap();
}

const KILLS: u64 = 12;

fn keys_at(path: &std::path::Path) -> Arc<SigningKeys> {
    let key = StoreKey::from_raw(SecretBytes::new(vec![1; 32])).unwrap();
    let unlocked = kh_store::unlock(path, &key, Arc::new(SystemEntropy)).unwrap();
    let audit: Arc<dyn AuditLog> = Arc::new(MemoryAudit::default());
    let clock = ManualClock::at(START);
    let store: Arc<dyn SecretStore> = Arc::new(FileStore::open(unlocked, audit, Arc::new(clock.clone())).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime
        .block_on(SigningKeys::open(store, Arc::new(clock), Arc::new(SystemEntropy), SigningPolicy::default()))
        .unwrap()
}

/// SIGKILL at any moment of a change: what was acknowledged is there, and the set signs.
#[test]
fn a_kill_leaves_a_set_that_signs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secrets.db");
    let entropy = SeededEntropy::new(9_068);
    for round in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "signing::child_changes_keys_for_ever", "--nocapture", "--test-threads=1"])
            .env("KH_SIGNING_CRASH_CHILD", &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let (mut line, mut last) = (String::new(), None);
        while last.is_none() {
            line.clear();
            assert_ne!(output.read_line(&mut line).unwrap(), 0, "the child ended by itself");
            last = acknowledged(&line);
        }
        for _ in 0..entropy.below(800_000) {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        line.clear();
        while output.read_line(&mut line).is_ok_and(|read| read > 0) {
            last = acknowledged(&line).or(last);
            line.clear();
        }
        let keys = keys_at(&path);
        let (version, kid) = last.unwrap();
        assert!(keys.version() >= version, "round {round}");
        if keys.version() == version {
            assert_eq!(keys.describe().last().unwrap().kid, kid, "round {round}");
        }
        assert_eq!(states(&keys).iter().filter(|state| **state == KeyState::Signing).count(), 1, "round {round}");
        assert!(!kids(&keys).is_empty());
    }
}

fn acknowledged(line: &str) -> Option<(u64, String)> {
    let rest = line.strip_suffix('\n')?.split_once("acknowledged ")?.1;
    let (version, kid) = rest.split_once(' ')?;
    Some((version.parse().unwrap(), kid.to_owned()))
}

/// Not a test of its own: the process that is killed.
#[test]
fn child_changes_keys_for_ever() {
    let Some(path) = std::env::var_os("KH_SIGNING_CRASH_CHILD") else { return };
    let keys = keys_at(path.as_ref());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    for number in 0_u64.. {
        let order = [Order::Ahead, Order::Now, Order::Now, Order::Compromised][usize::try_from(number % 4).unwrap()];
        // one may wait already, left by the process before
        let Ok(kid) = runtime.block_on(keys.order(order, "cli:test")) else { continue };
        let mut output = std::io::stdout().lock();
        writeln!(output, "acknowledged {} {kid}", keys.version()).unwrap();
        output.flush().unwrap();
    }
}
