//! What every store of users' sessions must do, as one suite that each adapter's tests run.
//!
//! Invariant: uses the ports alone; each rule has names of its own and looks only at what it wrote, so that a store that
//! is not empty passes too.

use std::{sync::Arc, time::Duration};

use kh_core::{
    ClientId, Entropy, Sha256, SystemEntropy, UnixMillis,
    audit::AuditEvent,
    port::{
        BeginError, ClientRecord, SessionLimits, SessionRecord, SessionStore, StateStore, TokenBinding, TokenFormat,
        TokenRecord,
    },
    session::{InstanceId, RefreshJournal, RefreshPhase, SessionEnd, SessionName},
};

/// Where the suite's time starts.
const START: UnixMillis = UnixMillis(1_790_000_000_000);

const WIDE: SessionLimits = SessionLimits { per_client: 100, total: u32::MAX };

/// A store under test: its sessions, and the clients and tokens that they hang on.
pub struct SessionSubject<'a> {
    /// Opens it once more, as another process or the same one after a restart would.
    pub open: &'a dyn Fn() -> (Arc<dyn SessionStore>, Arc<dyn StateStore>),
    /// The audit events that were delivered so far.
    pub audited: &'a dyn Fn() -> Vec<AuditEvent>,
}

/// Runs every rule.
///
/// # Panics
/// On the first rule that does not hold, naming it.
pub async fn run_sessions(subject: &SessionSubject<'_>) {
    records_come_back_as_they_were_given(subject).await;
    of_two_writers_one_succeeds(subject).await;
    what_has_ended_is_not_renewed_and_ends_once(subject).await;
    it_ends_with_its_token_and_with_its_client(subject).await;
    limits_count_what_has_not_ended(subject).await;
    time_over_and_idle_are_found(subject).await;
    only_what_is_closed_is_forgotten(subject).await;
    pages_go_through_all_of_a_client_and_a_name_finds_its_session(subject).await;
}

async fn pages_go_through_all_of_a_client_and_a_name_finds_its_session(subject: &SessionSubject<'_>) {
    let ports = (subject.open)();
    let (owner, other) = (client(&*ports.1).await.id, client(&*ports.1).await.id);
    let mut tokens = Vec::new();
    for _ in 0..4 {
        tokens.push(begun(&ports, &owner, 100).await.token);
        begun(&ports, &other, 100).await;
    }
    tokens.sort_by_key(|token| token.0);
    let ended = begun(&ports, &owner, 100).await.token;
    assert!(ports.0.end_session(ended, SessionEnd::Operator, event(ended)).await.expect("written"));
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = ports.0.sessions_after(after, Some(owner.clone()), 3).await.expect("read");
        assert!(page.len() <= 3, "a page has no more than was asked for");
        let Some(last) = page.last() else { break };
        after = Some(last.token);
        seen.extend(page.iter().map(|session| session.token));
    }
    assert_eq!(seen, tokens, "each of the client's once, in order, and no other's and none that has ended");
    for token in tokens.into_iter().chain([ended]) {
        let found = ports.0.sessions_named(SessionName::of(token)).await.expect("read");
        assert_eq!(found.iter().map(|session| session.token).collect::<Vec<_>>(), [token], "ended ones too");
    }
    let nobody = SessionName::of(Sha256::of(b"nobody's"));
    assert_eq!(ports.0.sessions_named(nobody).await.expect("read"), []);
}

fn at(seconds: u64) -> UnixMillis {
    START.plus(Duration::from_secs(seconds))
}

fn event(token: Sha256) -> AuditEvent {
    AuditEvent::new(&SystemEntropy, START, "keyholder", "session.end", &token.to_hex())
}

async fn client(state: &dyn StateStore) -> ClientRecord {
    let name = format!("session-{:016x}", SystemEntropy.below(u64::MAX));
    let record = ClientRecord {
        id: name.parse().expect("the suite's names are valid"),
        name: name.parse().expect("the suite's names are valid"),
        credential: Some("acme".parse().expect("a name")),
        environment: None,
        secret_digests: Vec::new(),
        old_secrets_until: None,
        scopes: Vec::new(),
        token_format: TokenFormat::Opaque,
        audience: Vec::new(),
        may_introspect: false,
        token_binding: TokenBinding::None,
        allow: Vec::new(),
        allow_all: true,
        allow_secret_operations: false,
        token_ttl_s: 60,
        enabled: true,
        created_at: START,
        updated_at: START,
    };
    let event = AuditEvent::new(&SystemEntropy, START, "test", "client.add", &name);
    state.add_client(record.clone(), event).await.expect("a client is added");
    record
}

/// A token of `client` with its session; `seconds` to its end.
async fn begun(ports: &(Arc<dyn SessionStore>, Arc<dyn StateStore>), client: &ClientId, seconds: u64) -> SessionRecord {
    let record = record(client, seconds);
    let token = TokenRecord {
        digest: record.token,
        client: client.clone(),
        issued_at: START,
        expires_at: record.expires_at,
        scopes: None,
        confirmation: None,
    };
    ports.1.add_token(token).await.expect("a token is added");
    ports.0.begin_session(record.clone(), WIDE).await.expect("a session begins");
    record
}

fn record(client: &ClientId, seconds: u64) -> SessionRecord {
    let mut name = [0; 32];
    SystemEntropy.fill(&mut name);
    SessionRecord {
        token: Sha256(name),
        client: client.clone(),
        credential: "acme".parse().expect("a name"),
        began_at: START,
        used_at: START,
        expires_at: at(seconds),
        idle_life: Duration::from_secs(500),
        version: 1,
        journal: RefreshJournal::begin(true),
        sealed: Some(b"sealed".to_vec()),
        end: None,
    }
}

fn sent(journal: RefreshJournal) -> RefreshJournal {
    RefreshJournal { phase: RefreshPhase::Sent { by: InstanceId::draw(&SystemEntropy) }, ..journal }
}

async fn records_come_back_as_they_were_given(subject: &SessionSubject<'_>) {
    let ports = (subject.open)();
    let owner = client(&*ports.1).await;
    let record = begun(&ports, &owner.id, 100).await;
    let journal = sent(record.journal);
    let version = ports.0.renew_session(record.token, 1, journal, b"other".to_vec()).await.expect("written");
    assert_eq!(version, Some(2));
    ports.0.touch_sessions(vec![(record.token, at(9)), (record.token, at(3))]).await.expect("written");
    drop(ports);
    let (sessions, _) = (subject.open)();
    let expected =
        SessionRecord { version: 2, journal, sealed: Some(b"other".to_vec()), used_at: at(9), ..record.clone() };
    assert_eq!(sessions.session(record.token).await.expect("read"), Some(expected.clone()));
    assert_eq!(sessions.session(Sha256::of(b"nobody")).await.expect("read"), None);
    let before = Sha256({
        let mut bytes = record.token.0;
        let last = bytes.last_mut().expect("a digest has 32 bytes");
        *last = last.wrapping_sub(1);
        bytes
    });
    let page = sessions.sessions_after(Some(before), None, 1).await.expect("read");
    assert!(record.token.0.ends_with(&[0]) || page == [expected], "a list goes on after a name");
}

async fn of_two_writers_one_succeeds(subject: &SessionSubject<'_>) {
    let (one, two) = ((subject.open)(), (subject.open)());
    let owner = client(&*one.1).await;
    let record = begun(&one, &owner.id, 100).await;
    let (first, second) = (sent(record.journal), sent(record.journal));
    let first = one.0.renew_session(record.token, 1, first, Vec::new());
    let second = two.0.renew_session(record.token, 1, second, Vec::new());
    let won = [first.await.expect("written"), second.await.expect("written")];
    assert_eq!(won, [Some(2), None], "a session is renewed by one of two who saw the same version");
    let late = two.0.renew_session(record.token, 1, record.journal, Vec::new()).await.expect("written");
    assert_eq!(late, None, "nobody goes back to an older version");
}

async fn what_has_ended_is_not_renewed_and_ends_once(subject: &SessionSubject<'_>) {
    let ports = (subject.open)();
    let owner = client(&*ports.1).await;
    let record = begun(&ports, &owner.id, 100).await;
    let token = record.token;
    assert!(ports.0.end_session(token, SessionEnd::RefreshLost, event(token)).await.expect("written"));
    assert!(!ports.0.end_session(token, SessionEnd::Operator, event(token)).await.expect("written"));
    for seen in 1..4 {
        let renewed = ports.0.renew_session(token, seen, record.journal, Vec::new()).await.expect("written");
        assert_eq!(renewed, None, "an ended session is not renewed");
    }
    let stored = ports.0.session(token).await.expect("read").expect("it is kept for its caller's error");
    assert_eq!((stored.end, stored.sealed), (Some(SessionEnd::RefreshLost), Some(b"sealed".to_vec())));
    assert!(ports.1.token(token).await.expect("read").is_some(), "its token stays, for its caller's error");
    let by_hand = begun(&ports, &owner.id, 100).await.token;
    let before = ports.1.change_counter().await.expect("read");
    assert!(ports.0.end_session(by_hand, SessionEnd::Operator, event(by_hand)).await.expect("written"));
    let stored = ports.0.session(by_hand).await.expect("read").expect("it is kept");
    assert_eq!(stored.end, Some(SessionEnd::Operator));
    assert!(ports.1.token(by_hand).await.expect("read").is_none(), "its token goes with what a person ends");
    assert!(ports.1.change_counter().await.expect("read") > before, "and other processes look again");
    let events = (subject.audited)();
    let of_it = events.iter().filter(|event| event.subject == token.to_hex()).count();
    assert_eq!(of_it, 1, "its end is audited, once");
    let listed = ports.0.sessions_after(None, None, u32::MAX).await.expect("read");
    assert!(listed.iter().all(|session| session.token != token), "a list has what has not ended");
}

async fn it_ends_with_its_token_and_with_its_client(subject: &SessionSubject<'_>) {
    let ports = (subject.open)();
    let end = async |token| ports.0.session(token).await.expect("read").expect("it is kept").end;
    let owner = client(&*ports.1).await;
    let (one, two, other) = (
        begun(&ports, &owner.id, 100).await.token,
        begun(&ports, &owner.id, 100).await.token,
        begun(&ports, &client(&*ports.1).await.id, 100).await.token,
    );
    ports.1.remove_token(one).await.expect("removed");
    assert_eq!([end(one).await, end(two).await], [Some(SessionEnd::TokenRevoked), None]);
    let disabled = ClientRecord { enabled: false, ..owner.clone() };
    let told = || AuditEvent::new(&SystemEntropy, START, "test", "client.disable", "x");
    ports.1.update_client(owner.clone(), disabled.clone(), told()).await.expect("disabled");
    ports.1.update_client(disabled, owner.clone(), told()).await.expect("enabled");
    assert_eq!(end(two).await, Some(SessionEnd::ClientDisabled), "and stays so when the client comes back");
    assert_eq!(ports.1.token(two).await.expect("read"), None, "and so does the token that spoke for it");
    assert_eq!(end(one).await, Some(SessionEnd::TokenRevoked), "it ends once");
    let third = begun(&ports, &owner.id, 100).await.token;
    ports.1.remove_client(owner.id, told()).await.expect("removed");
    assert_eq!([end(third).await, end(other).await], [Some(SessionEnd::TokenRevoked), None]);
    let orphan = record(&"nobody".parse().expect("a name"), 100);
    ports.0.begin_session(orphan.clone(), WIDE).await.expect("written");
    assert!(end(orphan.token).await.is_some(), "without a token it ends as it begins");
    let closing = ports.0.sessions_to_close(u32::MAX).await.expect("read");
    for token in [one, two, third, orphan.token] {
        assert!(closing.iter().any(|session| session.token == token), "its tokens are still to be given back");
    }
}

async fn limits_count_what_has_not_ended(subject: &SessionSubject<'_>) {
    let ports = (subject.open)();
    let owner = client(&*ports.1).await;
    let first = begun(&ports, &owner.id, 100).await;
    let narrow = SessionLimits { per_client: 1, ..WIDE };
    let refused = ports.0.begin_session(record(&owner.id, 100), narrow).await;
    assert!(matches!(refused, Err(BeginError::ClientFull(1))), "{refused:?}");
    let full = ports.0.begin_session(record(&owner.id, 100), SessionLimits { total: 1, ..WIDE }).await;
    assert!(matches!(full, Err(BeginError::Full(1))), "{full:?}");
    ports.0.end_session(first.token, SessionEnd::Operator, event(first.token)).await.expect("ended");
    ports.0.begin_session(record(&owner.id, 100), narrow).await.expect("an ended one makes room");
}

async fn time_over_and_idle_are_found(subject: &SessionSubject<'_>) {
    let ports = (subject.open)();
    let owner = client(&*ports.1).await;
    let (short, long) = (begun(&ports, &owner.id, 100).await.token, begun(&ports, &owner.id, 10_000).await.token);
    let overdue = async |seconds| {
        let found = ports.0.overdue_sessions(at(seconds), u32::MAX).await.expect("read");
        [short, long].map(|token| found.iter().any(|session| session.token == token))
    };
    assert_eq!(overdue(99).await, [false, false]);
    assert_eq!(overdue(100).await, [true, false]);
    assert_eq!(overdue(500).await, [true, true], "nobody used it for 500 s");
    ports.0.touch_sessions(vec![(long, at(400))]).await.expect("written");
    assert_eq!(overdue(500).await, [true, false]);
}

async fn only_what_is_closed_is_forgotten(subject: &SessionSubject<'_>) {
    let ports = (subject.open)();
    let owner = client(&*ports.1).await;
    let token = begun(&ports, &owner.id, 100).await.token;
    let there = async || ports.0.session(token).await.expect("read").is_some();
    ports.0.close_session(token).await.expect("written");
    let open = ports.0.session(token).await.expect("read").expect("it is there");
    assert!(open.sealed.is_some(), "what has not ended keeps its tokens");
    ports.0.end_session(token, SessionEnd::Operator, event(token)).await.expect("ended");
    ports.0.forget_sessions(at(101), u32::MAX).await.expect("written");
    assert!(there().await, "its tokens were not given back yet");
    ports.0.close_session(token).await.expect("written");
    ports.0.forget_sessions(at(100), u32::MAX).await.expect("written");
    assert!(there().await, "its caller may still ask");
    assert!(ports.0.forget_sessions(at(101), u32::MAX).await.expect("written") > 0);
    assert!(!there().await);
}
