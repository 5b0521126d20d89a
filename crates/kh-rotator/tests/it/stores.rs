//! A strict secret store in memory, with versions, staged documents and compare-and-set; and the other small ports.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use kh_core::{
    SecretBytes,
    credential::CredentialDocument,
    port::{
        BoxFuture, DeliveryHook, HookError, Notice, Notifier, Promotion, SecretTarget, TargetError,
        secret_target::{LiveSecret, Replica, Right, TargetCheck, TargetTraits, check_document},
    },
    rotation::{Marker, SecretPath, VersionId, WriteToken},
};

use crate::gate::{Fault, Gate};

/// Largest document.
const VALUE_MAX: usize = 8 * 1024;

#[derive(Default)]
struct State {
    versions: u64,
    live: Option<(VersionId, Vec<u8>)>,
    staged: BTreeMap<WriteToken, Vec<u8>>,
    reads: u64,
}

pub(crate) struct MemoryStore {
    name: String,
    state: Mutex<State>,
    gate: Arc<Gate>,
}

impl MemoryStore {
    pub(crate) fn new(name: &str, first: &CredentialDocument, gate: Arc<Gate>) -> Self {
        let store = Self { name: name.to_owned(), state: Mutex::default(), gate };
        store.write_by_hand(first);
        store
    }

    /// A write past keyholder.
    pub(crate) fn write_by_hand(&self, document: &CredentialDocument) {
        let mut state = self.state.lock().unwrap();
        state.versions += 1;
        state.live = Some((VersionId(format!("v{}", state.versions)), document.to_json().expose().to_vec()));
    }

    /// What waits is made live past keyholder.
    pub(crate) fn promote_by_hand(&self) {
        let mut state = self.state.lock().unwrap();
        let (_, staged) = state.staged.pop_first().unwrap();
        state.versions += 1;
        state.live = Some((VersionId(format!("v{}", state.versions)), staged));
    }

    pub(crate) fn document(&self) -> CredentialDocument {
        let live = self.state.lock().unwrap().live.clone().unwrap().1;
        CredentialDocument::parse(&SecretBytes::new(live)).unwrap()
    }

    pub(crate) fn version(&self) -> VersionId {
        self.state.lock().unwrap().live.clone().unwrap().0
    }

    /// How often the live document was read through the port.
    pub(crate) fn reads(&self) -> u64 {
        self.state.lock().unwrap().reads
    }

    pub(crate) fn staged_count(&self) -> usize {
        self.state.lock().unwrap().staged.len()
    }

    async fn change<T>(
        &self,
        what: &str,
        work: impl FnOnce(&mut State) -> Result<T, TargetError> + Send,
    ) -> Result<T, TargetError> {
        self.gate.pass(&format!("{what} {}, before", self.name)).await;
        let unknown = || TargetError::Unknown("the connection broke".to_owned());
        let done = match self.gate.fault(what) {
            Fault::NotDone => return Err(TargetError::Unavailable("sealed".to_owned())),
            Fault::RequestLost => Err(unknown()),
            Fault::None => work(&mut self.state.lock().unwrap()),
            Fault::AnswerLost => work(&mut self.state.lock().unwrap()).and_then(|_| Err(unknown())),
        };
        self.gate.pass(&format!("{what} {}, after", self.name)).await;
        done
    }
}

fn marked(bytes: &[u8]) -> Option<WriteToken> {
    Marker::read(&SecretBytes::new(bytes.to_vec())).map(|marker| marker.write)
}

impl SecretTarget for MemoryStore {
    fn traits(&self) -> TargetTraits {
        TargetTraits { kind: "memory", compare_and_set: true, value_bytes_max: VALUE_MAX, replicas: false }
    }

    fn live<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Result<LiveSecret, TargetError>> {
        Box::pin(async move {
            let live = {
                let mut state = self.state.lock().unwrap();
                state.reads += 1;
                state.live.clone()
            };
            let (version, bytes) = live.ok_or_else(|| TargetError::NotFound(path.clone()))?;
            Ok(LiveSecret { value: SecretBytes::new(bytes), version })
        })
    }

    fn live_version<'a>(&'a self, path: &'a SecretPath) -> BoxFuture<'a, Result<VersionId, TargetError>> {
        Box::pin(async move { Ok(self.live(path).await?.version) })
    }

    fn check<'a>(&'a self, _path: &'a SecretPath) -> BoxFuture<'a, Result<TargetCheck, TargetError>> {
        Box::pin(async {
            let live = self.state.lock().unwrap().live.as_ref().map(|(version, _)| version.clone());
            Ok(TargetCheck { live, read: Right::Granted, write: Right::Unknown, warnings: Vec::new() })
        })
    }

    fn stage<'a>(
        &'a self,
        path: &'a SecretPath,
        token: WriteToken,
        value: &'a SecretBytes,
    ) -> BoxFuture<'a, Result<(), TargetError>> {
        Box::pin(async move {
            check_document(token, value, VALUE_MAX)?;
            self.change("stage", |state| {
                let live =
                    state.live.as_ref().filter(|(_, bytes)| marked(bytes) == Some(token)).map(|(_, bytes)| bytes);
                match state.staged.get(&token).or(live) {
                    Some(known) if known == value.expose() => Ok(()),
                    Some(_) => Err(TargetError::TokenReused { path: path.clone(), token }),
                    None => {
                        state.staged.insert(token, value.expose().to_vec());
                        Ok(())
                    }
                }
            })
            .await
        })
    }

    fn staged<'a>(
        &'a self,
        _path: &'a SecretPath,
        token: WriteToken,
    ) -> BoxFuture<'a, Result<Option<SecretBytes>, TargetError>> {
        Box::pin(async move {
            Ok(self.state.lock().unwrap().staged.get(&token).map(|bytes| SecretBytes::new(bytes.clone())))
        })
    }

    fn promote<'a>(
        &'a self,
        path: &'a SecretPath,
        token: WriteToken,
        expect: Option<&'a VersionId>,
    ) -> BoxFuture<'a, Result<VersionId, TargetError>> {
        Box::pin(async move {
            self.change("promote", |state| {
                if let Some((version, bytes)) = &state.live
                    && marked(bytes) == Some(token)
                {
                    return Ok(version.clone());
                }
                let Some(staged) = state.staged.get(&token).cloned() else {
                    return Err(TargetError::NotFound(path.clone()));
                };
                let found = state.live.as_ref().map(|(version, _)| version.clone());
                if found.as_ref() != expect {
                    return Err(TargetError::Conflict { path: path.clone(), found });
                }
                state.versions += 1;
                let version = VersionId(format!("v{}", state.versions));
                state.live = Some((version.clone(), staged));
                state.staged.remove(&token);
                Ok(version)
            })
            .await
        })
    }

    fn unstage<'a>(&'a self, _path: &'a SecretPath, token: WriteToken) -> BoxFuture<'a, Result<(), TargetError>> {
        Box::pin(async move {
            self.change("unstage", |state| {
                state.staged.remove(&token);
                Ok(())
            })
            .await
        })
    }

    fn replicas<'a>(&'a self, _path: &'a SecretPath) -> BoxFuture<'a, Result<Vec<Replica>, TargetError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn list<'a>(&'a self, _prefix: &'a str, _limit: usize) -> BoxFuture<'a, Result<Vec<SecretPath>, TargetError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

/// A hook that remembers what it was told.
pub(crate) struct MemoryHook {
    pub(crate) told: Mutex<Vec<(Promotion, String)>>,
    pub(crate) refuses: Mutex<Option<HookError>>,
    pub(crate) gate: Arc<Gate>,
}

impl DeliveryHook for MemoryHook {
    fn name(&self) -> &'static str {
        "hook"
    }

    fn describe(&self) -> String {
        "remembers".to_owned()
    }

    fn deliver<'a>(
        &'a self,
        promotion: &'a Promotion,
        document: &'a CredentialDocument,
    ) -> BoxFuture<'a, Result<String, HookError>> {
        Box::pin(async move {
            self.gate.pass("hook, before").await;
            if let Some(error) = self.refuses.lock().unwrap().clone() {
                return Err(error);
            }
            let fault = self.gate.fault("hook");
            if fault == Fault::NotDone || fault == Fault::RequestLost {
                return Err(HookError::Transient("not reached".to_owned()));
            }
            let secret = document.client_secret.as_ref().or(document.access_key_secret.as_ref());
            self.told.lock().unwrap().push((promotion.clone(), secret.unwrap().expose().to_owned()));
            self.gate.pass("hook, after").await;
            if fault == Fault::AnswerLost {
                Err(HookError::Transient("no answer".to_owned()))
            } else {
                Ok("ok".to_owned())
            }
        })
    }
}

/// Notices in memory, each once.
#[derive(Default)]
pub(crate) struct MemoryNotifier(pub(crate) Mutex<Vec<Notice>>);

impl Notifier for MemoryNotifier {
    fn notify(&self, notice: Notice) {
        let mut known = self.0.lock().unwrap();
        if known.iter().all(|other| other.id != notice.id) {
            known.push(notice);
        }
    }
}
