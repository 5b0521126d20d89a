//! The outside of a rotation, small enough to be a model's state: a platform and stores.
//!
//! Invariant: secrets are numbers. Number `n` has the fingerprint [`fp`]`(n)` and, on the platform, the id [`id`]`(n)`.

use kh_core::{
    Fingerprint, UnixMillis,
    rotation::{ManagedId, RunId, VersionId, WriteToken},
};
use kh_rotation::{Effect, Outcome};

/// The fingerprint of secret `n`.
pub(crate) fn fp(n: u32) -> Fingerprint {
    Fingerprint::try_from(format!("{n:016x}")).unwrap()
}

/// The platform's id of secret `n`.
pub(crate) fn id(n: u32) -> ManagedId {
    ManagedId(format!("s{n}"))
}

/// The number of a platform's id.
pub(crate) fn number(id: &ManagedId) -> u32 {
    id.0.trim_start_matches('s').parse().unwrap()
}

pub(crate) fn version(n: u32) -> VersionId {
    VersionId(n.to_string())
}

/// One secret on the platform.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Secret {
    pub(crate) id: u32,
    /// What logs in. The same as the id, except where it was regenerated in place.
    pub(crate) value: u32,
    pub(crate) active: bool,
    pub(crate) label: Option<String>,
}

/// The platform.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Platform {
    pub(crate) secrets: Vec<Secret>,
    pub(crate) next: u32,
    pub(crate) active_max: usize,
    /// Most that there may be, active or not.
    pub(crate) held_max: usize,
    /// Whether the last secret is deleted by nobody.
    pub(crate) keeps_last: bool,
    pub(crate) deleted: Vec<u32>,
}

impl Platform {
    pub(crate) fn new() -> Self {
        let old = Secret { id: 1, value: 1, active: true, label: None };
        Self {
            secrets: vec![old],
            next: 2,
            active_max: 4,
            held_max: usize::MAX,
            keeps_last: false,
            deleted: Vec::new(),
        }
    }

    /// Whether secret `value` logs in.
    pub(crate) fn accepts(&self, value: u32) -> bool {
        self.secrets.iter().any(|secret| secret.value == value && secret.active)
    }

    fn set_active(&mut self, which: &ManagedId, active: bool) -> Outcome {
        match self.secrets.iter_mut().find(|secret| id(secret.id) == *which) {
            Some(secret) => {
                secret.active = active;
                Outcome::Done
            }
            None => Outcome::Refused { reason: "not found".into(), full: false },
        }
    }

    fn delete(&mut self, which: &ManagedId) -> Outcome {
        if self.keeps_last && matches!(&self.secrets[..], [only] if id(only.id) == *which) {
            return Outcome::Refused { reason: "last.secret: make another one first".into(), full: false };
        }
        self.secrets.retain(|secret| id(secret.id) != *which);
        self.deleted.push(number(which));
        self.deleted.sort_unstable();
        self.deleted.dedup();
        Outcome::Done
    }
}

/// A store with one document.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Store {
    /// 0: nothing is live.
    pub(crate) version: u32,
    pub(crate) value: u32,
    pub(crate) token: Option<WriteToken>,
    pub(crate) run: Option<RunId>,
    pub(crate) staged: Vec<(WriteToken, u32)>,
}

impl Store {
    pub(crate) fn new() -> Self {
        Self { version: 10, value: 1, token: None, run: None, staged: Vec::new() }
    }

    /// The live version.
    pub(crate) fn live(&self) -> Option<VersionId> {
        (self.version > 0).then(|| version(self.version))
    }
}

/// How a store treats the expected version of a promotion.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) enum Cas {
    /// Compared with the live one.
    #[default]
    Honest,
    /// Ignored.
    Off,
    /// Read again right before the write.
    Reread,
}

/// A change that was sent: what is in the request, not what is true when it arrives.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Call {
    pub(crate) effect: Effect,
    /// The document that is staged, or the run that marks it.
    pub(crate) value: u32,
    pub(crate) run: RunId,
    /// Only for [`Cas::Reread`]: the version that the sender just read.
    pub(crate) reread: Option<u32>,
}

/// The platform and the stores.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct World {
    pub(crate) platform: Platform,
    pub(crate) stores: Vec<Store>,
    pub(crate) cas: Cas,
    /// Hooks that were called, by name.
    pub(crate) hooks: Vec<String>,
    /// 1 once a store refused a promotion because of the expected version.
    pub(crate) refused: u32,
}

impl World {
    pub(crate) fn new(stores: usize) -> Self {
        Self {
            platform: Platform::new(),
            stores: vec![Store::new(); stores],
            cas: Cas::default(),
            hooks: Vec::new(),
            refused: 0,
        }
    }

    /// The store named `a`, `b`, ...
    pub(crate) fn store(&mut self, name: &str) -> &mut Store {
        let index = usize::from(name.as_bytes()[0] - b'a');
        &mut self.stores[index]
    }

    /// Carries a call out.
    pub(crate) fn arrive(&mut self, call: &Call) -> Outcome {
        match &call.effect {
            Effect::Mint => Outcome::Minted { expires_at: UnixMillis(u64::MAX) },
            Effect::Create { label, .. } => self.create(label),
            Effect::Regenerate { .. } => {
                let value = self.platform.next;
                self.platform.next += 1;
                self.platform.secrets[0].value = value;
                Outcome::Created { id: None, fingerprint: fp(value) }
            }
            Effect::Stage { store, token, .. } => {
                let staged = &mut self.store(store).staged;
                staged.retain(|(other, _)| other != token);
                staged.push((*token, call.value));
                Outcome::Done
            }
            Effect::Promote { store, token, expect, .. } => self.promote(call, store, *token, expect.as_ref()),
            Effect::Unstage { store, token } => {
                self.store(store).staged.retain(|(other, _)| other != token);
                Outcome::Done
            }
            Effect::Hook { name, .. } => {
                self.hooks.push(name.clone());
                Outcome::Done
            }
            Effect::Stop { id, .. } => self.platform.set_active(id, false),
            Effect::Start { id, .. } => self.platform.set_active(id, true),
            Effect::Prune { id, .. } | Effect::Cleanup { id, .. } => self.platform.delete(id),
            Effect::RevokeTokens => Outcome::Refused { reason: "unsupported".into(), full: false },
        }
    }

    fn create(&mut self, label: &str) -> Outcome {
        let platform = &mut self.platform;
        let active = platform.secrets.iter().filter(|secret| secret.active).count();
        if active >= platform.active_max || platform.secrets.len() >= platform.held_max {
            return Outcome::Refused { reason: "limit".into(), full: true };
        }
        let new = platform.next;
        platform.next += 1;
        platform.secrets.push(Secret { id: new, value: new, active: true, label: Some(label.to_owned()) });
        Outcome::Created { id: Some(id(new)), fingerprint: fp(new) }
    }

    fn promote(&mut self, call: &Call, name: &str, token: WriteToken, expect: Option<&VersionId>) -> Outcome {
        let cas = self.cas;
        let store = self.store(name);
        if store.token == Some(token) && cas == Cas::Honest {
            return Outcome::Promoted { version: version(store.version) };
        }
        let Some((_, value)) = store.staged.iter().find(|(other, _)| *other == token).copied() else {
            return Outcome::Refused { reason: "nothing is staged".into(), full: false };
        };
        let fits = match cas {
            Cas::Honest => expect == store.live().as_ref(),
            Cas::Off => true,
            Cas::Reread => call.reread == Some(store.version),
        };
        if !fits {
            let found = store.live();
            self.refused = 1;
            return Outcome::Conflict { found };
        }
        store.version += 1;
        store.value = value;
        store.token = Some(token);
        store.run = Some(call.run);
        Outcome::Promoted { version: version(store.version) }
    }
}
