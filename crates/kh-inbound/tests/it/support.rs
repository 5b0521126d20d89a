//! Issuers that sign, authorities that answer as they are told, a clock on tokio's pausable time, a verifier on a real
//! database.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use kh_core::{
    Clock, Now, SecretString, UnixMillis,
    audit::AuditEvent,
    identity::Identity,
    port::{
        AuditError, AuditLog, BoxFuture, KeyDocument, KeySource, RemoteError, RevocationStore, StateError, TokenAnswer,
        TokenAuthority,
    },
    revocation::RevocationTarget,
};
use kh_inbound::{
    AnswerRules, Bounds, Denied, DenyReason, IssuerSpec, LIFE_MAX, RevocationOrder, Trust, Verifier, VerifierConfig,
};
use kh_state::SqliteState;
use kh_verify::{Accepted, Policy, Reason};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{runtime::Handle, sync::Semaphore, time::Instant};

/// Where tests start: 2026-01-01.
pub(crate) const START: UnixMillis = UnixMillis(1_767_225_600_000);

/// The issuer of [`Signer`]'s tokens.
pub(crate) const ISS: &str = "https://issuer.example";

/// The issuer that [`Authority`] speaks for.
pub(crate) const OPAQUE: &str = "https://opaque.example";

/// More permits than anybody takes.
const OPEN: usize = 1 << 20;

/// Wall and monotonic time that go with tokio's clock, which tests pause and advance.
#[derive(Clone, Copy)]
pub(crate) struct TokioClock(Instant);

impl TokioClock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Now {
        let mono = self.0.elapsed();
        Now { wall: START.plus(mono), mono }
    }
}

/// One ES256 key of an issuer.
pub(crate) struct Signer {
    pair: EcdsaKeyPair,
    kid: Option<String>,
}

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    /// A new key; an empty `kid` is none.
    pub(crate) fn new(kid: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self { pair, kid: (!kid.is_empty()).then(|| kid.to_owned()) }
    }

    fn jwk(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        let mut key = json!({
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig",
            "x": encoded(&point[1..33]), "y": encoded(&point[33..65]),
        });
        if let Some(kid) = &self.kid {
            key["kid"] = json!(kid);
        }
        key
    }

    /// A token with these claims.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        let mut header = json!({"alg": "ES256", "typ": "at+jwt"});
        if let Some(kid) = &self.kid {
            header["kid"] = json!(kid);
        }
        let input = format!("{}.{}", encoded(header.to_string()), encoded(claims.to_string()));
        let signature = self.pair.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
        format!("{input}.{}", encoded(signature))
    }

    /// A token of `client` that lives for `seconds` from the start of the test.
    pub(crate) fn token(&self, client: &str, id: &str, seconds: u64) -> String {
        let start = START.as_secs();
        self.sign(&json!({
            "iss": ISS, "aud": "api", "sub": format!("user-of-{client}"), "client_id": client, "jti": id,
            "iat": start, "exp": start + seconds, "scope": "read write",
        }))
    }
}

/// The key set of these keys.
pub(crate) fn key_set(signers: &[&Signer]) -> Vec<u8> {
    let keys: Vec<Value> = signers.iter().map(|signer| signer.jwk()).collect();
    json!({ "keys": keys }).to_string().into_bytes()
}

/// The other valid spelling of an ES256 token: `s` becomes `n - s`.
pub(crate) fn respelled(token: &str) -> String {
    const N: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6,
        0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let (input, signature) = token.rsplit_once('.').unwrap();
    let mut signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let mut borrow = 0;
    for (digit, of_n) in signature[32..].iter_mut().zip(N).rev() {
        let difference = i16::from(of_n) - i16::from(*digit) - borrow;
        borrow = i16::from(difference < 0);
        *digit = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    format!("{input}.{}", encoded(signature))
}

/// A gate that starts open.
pub(crate) struct Gate(Semaphore);

impl Gate {
    fn open() -> Self {
        Self(Semaphore::new(OPEN))
    }

    pub(crate) fn close(&self) {
        self.0.forget_permits(OPEN);
    }

    pub(crate) fn reopen(&self) {
        self.0.add_permits(OPEN);
    }

    /// Lets one through a closed gate.
    pub(crate) fn let_one_through(&self) {
        self.0.add_permits(1);
    }

    async fn pass(&self) {
        self.0.acquire().await.unwrap().forget();
    }
}

/// A source of keys that can be changed and broken.
pub(crate) struct Keys {
    document: Mutex<Result<Vec<u8>, RemoteError>>,
    fetches: AtomicU32,
    pub(crate) gate: Gate,
}

impl Keys {
    pub(crate) fn holding(signers: &[&Signer]) -> Arc<Self> {
        let document = Mutex::new(Ok(key_set(signers)));
        Arc::new(Self { document, fetches: AtomicU32::new(0), gate: Gate::open() })
    }

    pub(crate) fn put(&self, signers: &[&Signer]) {
        *self.document.lock() = Ok(key_set(signers));
    }

    pub(crate) fn put_text(&self, text: &str) {
        *self.document.lock() = Ok(text.as_bytes().to_vec());
    }

    pub(crate) fn break_down(&self) {
        *self.document.lock() = Err(RemoteError::new("the issuer is down"));
    }

    pub(crate) fn count(&self) -> u32 {
        self.fetches.load(Ordering::SeqCst)
    }
}

impl KeySource for Keys {
    fn fetch(&self) -> BoxFuture<'_, Result<KeyDocument, RemoteError>> {
        Box::pin(async move {
            self.fetches.fetch_add(1, Ordering::SeqCst);
            self.gate.pass().await;
            self.document.lock().clone().map(|bytes| KeyDocument { bytes, fresh_for: None })
        })
    }
}

/// What an authority says of a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Says {
    /// Active, with the seconds of life from the start of the test if it tells them.
    Active(Option<u64>),
    /// Active by facts that are so many seconds old.
    Aged(u64),
    Inactive,
    Down,
    Panic,
}

/// An authority that says the same of every token until told otherwise.
pub(crate) struct Authority {
    says: Mutex<Says>,
    asked: AtomicU32,
    pub(crate) gate: Gate,
}

impl Authority {
    pub(crate) fn saying(says: Says) -> Arc<Self> {
        Arc::new(Self { says: Mutex::new(says), asked: AtomicU32::new(0), gate: Gate::open() })
    }

    pub(crate) fn say(&self, says: Says) {
        *self.says.lock() = says;
    }

    pub(crate) fn count(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }
}

impl TokenAuthority for Authority {
    fn ask<'a>(&'a self, token: &'a SecretString) -> BoxFuture<'a, Result<TokenAnswer, RemoteError>> {
        Box::pin(async move {
            self.asked.fetch_add(1, Ordering::SeqCst);
            // decided when it is asked; the gate is the way back
            let says = *self.says.lock();
            self.gate.pass().await;
            let age = if let Says::Aged(seconds) = says { Duration::from_secs(seconds) } else { Duration::ZERO };
            match says {
                Says::Active(_) | Says::Aged(_) => {
                    let builder = Identity::builder(OPAQUE.into()).client(token.expose()).scope("read");
                    let builder = match says {
                        Says::Active(Some(seconds)) => builder.expires_at(START.plus(Duration::from_secs(seconds))),
                        _ => builder,
                    };
                    Ok(TokenAnswer::Active { identity: Box::new(builder.build().unwrap()), age })
                }
                Says::Inactive => Ok(TokenAnswer::Inactive),
                Says::Down => {
                    let retry_after = Some(Duration::from_secs(7));
                    Err(RemoteError::answered("the issuer is down", 503, retry_after))
                }
                Says::Panic => panic!("a bug in an adapter"),
            }
        })
    }
}

/// An audit log that takes everything.
struct Audit;

impl AuditLog for Audit {
    fn append(&self, _events: &[AuditEvent]) -> Result<(), AuditError> {
        Ok(())
    }
}

/// A real database in `folder`.
pub(crate) fn state_in(folder: &Path, clock: impl Clock + 'static) -> Arc<SqliteState> {
    Arc::new(SqliteState::open(&folder.join("state").join("state.db"), Arc::new(Audit), Arc::new(clock)).unwrap())
}

/// An issuer of JWTs.
pub(crate) fn by_keys(source: Arc<dyn KeySource>, bounds: Bounds) -> IssuerSpec {
    let policy = Policy::new(Accepted::only(ISS), Accepted::only("api"));
    IssuerSpec {
        name: "jwt".into(),
        issuers: vec![ISS.into()],
        life_max: Some(LIFE_MAX),
        trust: Trust::Keys { source, bounds, policy },
    }
}

/// An issuer of opaque tokens.
pub(crate) fn by_authority(authority: &Arc<Authority>, rules: AnswerRules) -> IssuerSpec {
    let authority: Arc<dyn TokenAuthority> = Arc::<Authority>::clone(authority);
    IssuerSpec {
        name: "opaque".into(),
        issuers: vec![OPAQUE.into()],
        life_max: Some(Duration::from_hours(48)),
        trust: Trust::Authority { authority, rules },
    }
}

/// How long the tests' tokens live that tell no longer life.
const LIFE: Duration = Duration::from_hours(1);

/// Carries an order out: on disk when it returns.
pub(crate) async fn carry_out(verifier: &Verifier, order: &RevocationOrder, now: UnixMillis) -> Result<(), StateError> {
    let records = order.records(now, Some(LIFE)).unwrap();
    verifier.revocations().revoke(records, None).await
}

/// An order against one token.
pub(crate) fn against(token: &str) -> RevocationOrder {
    RevocationOrder::Token(SecretString::copied(token))
}

/// A verifier on a database in a folder of its own.
pub(crate) struct World {
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) clock: TokioClock,
    pub(crate) folder: Arc<TempDir>,
}

impl World {
    pub(crate) async fn new(issuers: Vec<IssuerSpec>) -> Self {
        Self::in_folder(Arc::new(tempfile::tempdir().unwrap()), VerifierConfig::new(issuers)).await
    }

    pub(crate) async fn in_folder(folder: Arc<TempDir>, config: VerifierConfig) -> Self {
        let clock = TokioClock::start();
        let store: Arc<dyn RevocationStore> = state_in(folder.path(), clock);
        let verifier = Verifier::new(config, store, Arc::new(clock), Handle::current()).unwrap();
        verifier.load().await.unwrap();
        verifier.renew_keys().await;
        Self { verifier: Arc::new(verifier), clock, folder }
    }

    pub(crate) async fn verify(&self, token: &str) -> Result<Arc<Identity>, Denied> {
        self.verifier.verify(token.as_bytes(), self.clock.now()).await
    }

    pub(crate) fn known(&self, token: &str) -> Option<Arc<Identity>> {
        self.verifier.known(token.as_bytes(), self.clock.now())
    }

    pub(crate) async fn revoke_token(&self, token: &str) {
        carry_out(&self.verifier, &against(token), self.clock.now().wall).await.unwrap();
    }

    /// With everything that was issued up to now, where the target names no single token.
    pub(crate) async fn revoke(&self, target: RevocationTarget) {
        let now = self.clock.now().wall;
        carry_out(&self.verifier, &RevocationOrder::Of(target, now), now).await.unwrap();
    }

    /// `ok`, or the code of the refusal.
    pub(crate) async fn code(&self, token: &str) -> &'static str {
        match self.verify(token).await {
            Ok(_) => "ok",
            Err(denied) => denied.reason.as_str(),
        }
    }
}

/// A refusal for what is wrong with the token itself.
pub(crate) fn refused(reason: Reason) -> DenyReason {
    DenyReason::Token(reason)
}

/// Waits for a condition that other tasks bring about; on a paused clock time moves meanwhile.
pub(crate) async fn until(mut condition: impl FnMut() -> bool) {
    for _ in 0..20_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it never came true");
}
