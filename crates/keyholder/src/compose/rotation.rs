//! What is rotated and with what: every credential with a `[credential.NAME.rotation]` and the ports of its rotation.
//!
//! Invariant: nothing is sent here; a credential that cannot be rotated as configured is told with its section.

mod management;
mod policy;
mod revoker;
mod supply;

pub(crate) use policy::rules;

use std::{collections::BTreeMap, sync::Arc};

use kh_broker::{Broker, RotatorCredentials};
use kh_core::{
    CredentialName, PlatformName, SecretReference,
    port::{
        Notifier, RotationJournal, RotatorTokens, SecretManagement, SecretSource, SecretStore, SecretTarget,
        rotation_journal::Grade, secret_management::Rotator,
    },
};
use kh_issuer::Issuer;
use kh_platform::management::Shared;
use kh_rotator::{EscrowKey, Services, Store, Subject, TokioTimer};
use kh_store::EmbeddedTarget;

use self::supply::Supply;
use super::{
    Base,
    deliver::Hooks,
    egresses,
    endpoints::{specs, token_endpoint},
    outside,
    stores::Targets,
    targets,
};
use crate::{
    cli::Loaded,
    config::{CredentialConfig, PlatformConfig},
    output::Failure,
    sources::Sources,
};

/// Who acts in the audit log when nobody ordered it.
const ACTOR: &str = "keyholder";

/// The credentials that are rotated.
pub(crate) type Subjects = BTreeMap<CredentialName, Arc<Subject>>;

/// Everything that rotation needs.
pub(crate) struct Rotation {
    /// What every run shares.
    pub(crate) services: Arc<Services>,
    /// The credentials that are rotated.
    pub(crate) subjects: Subjects,
}

/// The embedded store as a place that rotation writes.
pub(crate) fn embedded_target(base: &Base) -> Arc<dyn SecretTarget> {
    let store = Arc::clone(&base.store) as Arc<dyn SecretStore>;
    Arc::new(EmbeddedTarget::new(store, Arc::clone(&base.clock), Arc::clone(&base.entropy), ACTOR))
}

/// The target behind a reference, if there is its store.
pub(crate) fn target_of(
    reference: &SecretReference,
    targets: &Targets,
    embedded: &Arc<dyn SecretTarget>,
) -> Option<Arc<dyn SecretTarget>> {
    match reference {
        SecretReference::Embedded(_) => Some(Arc::clone(embedded)),
        SecretReference::Stored { store, .. } => targets.get(store).cloned(),
    }
}

/// The issuer for commands that may rotate secrets of keyholder's own clients; none where no platform is its own.
pub(crate) async fn own_issuer(loaded: &Loaded, base: &Base) -> Result<Option<Arc<Issuer>>, Failure> {
    let is_own = loaded.config.platforms.values().any(|platform| platform.detail.has_own_clients());
    Ok(if is_own { Some(base.issuer().await?) } else { None })
}

/// What is rotated by `loaded` over an open installation. `broker` mints the rotators' tokens.
pub(crate) fn subjects(
    loaded: &Loaded,
    base: &Base,
    (broker, issuer): (&Arc<Broker>, Option<&Arc<Issuer>>),
    targets: &Targets,
    hooks: &Hooks,
) -> Result<Subjects, Failure> {
    let mut subjects = BTreeMap::new();
    if loaded.config.credentials.values().all(|credential| credential.rotation.is_none()) {
        // the ways read the system's authorities, which a reload does not need twice
        return Ok(subjects);
    }
    let embedded = embedded_target(base);
    let ways = egresses(loaded)?;
    let shared: BTreeMap<_, _> = ways.keys().map(|platform| (platform, Shared::of_platform())).collect();
    for (name, credential) in &loaded.config.credentials {
        let Some(platform) = loaded.config.platforms.get(&credential.platform) else { continue };
        let Some(way) = ways.get(&credential.platform) else { continue };
        let Some(shared) = shared.get(&credential.platform) else { continue };
        if credential.rotation.is_none() {
            continue;
        }
        let http = super::endpoints::http(way, &base.clock);
        let of = Of { name, credential, platform, loaded, broker, shared, issuer };
        let subject = subject(&of, http, targets, &embedded, hooks)?;
        subjects.insert(name.clone(), Arc::new(subject));
    }
    Ok(subjects)
}

/// What every run shares.
pub(crate) fn services(base: &Base, notifier: Arc<dyn Notifier>) -> Result<Arc<Services>, Failure> {
    let escrow = EscrowKey::new(&base.escrow_key).ok_or_else(|| Failure::bug("the escrow's key has no 32 bytes"))?;
    let mut boot = [0; 8];
    base.entropy.fill(&mut boot);
    Ok(Arc::new(Services {
        journal: Arc::clone(&base.state) as Arc<dyn RotationJournal>,
        notifier,
        clock: Arc::clone(&base.clock),
        timer: Arc::new(TokioTimer),
        entropy: Arc::clone(&base.entropy),
        escrow,
        fingerprinter: Arc::clone(&base.fingerprinter),
        owner: format!("{}/{:016x}", std::process::id(), u64::from_be_bytes(boot)),
    }))
}

/// Tokens of the rotators that a platform names, from the broker.
fn rotator_tokens(broker: &Arc<Broker>, platform: &PlatformConfig) -> Arc<dyn RotatorTokens> {
    let (first, second) = (platform.rotator.clone(), platform.rotator_second.clone());
    Arc::new(RotatorCredentials::new(Arc::clone(broker), first, second))
}

/// A broker that knows the rotators alone: it mints their tokens for one command. Must run on a runtime.
pub(crate) fn private_tokens(loaded: &Loaded, base: &Base) -> Result<Arc<Broker>, Failure> {
    let rotators = |platform: &PlatformConfig| [platform.rotator.clone(), platform.rotator_second.clone()];
    let rotators: Vec<_> = loaded.config.platforms.values().flat_map(rotators).flatten().collect();
    let mut config = loaded.config.clone();
    config.credentials.retain(|name, _| rotators.contains(name));
    let outside = outside(loaded, &targets(loaded, &base.clock)?, &base.clock, &base.reads);
    let sources: Arc<dyn SecretSource> = Sources::new(base.secrets(), outside);
    Ok(Broker::new(
        specs(&config, &egresses(loaded)?, &base.clock),
        sources,
        Arc::clone(&base.clock),
        Arc::clone(&base.entropy),
        tokio::runtime::Handle::current(),
    ))
}

/// The management of each platform that names a rotator, or needs none, and has a way to make secrets.
pub(crate) fn managements(
    loaded: &Loaded,
    base: &Base,
    (broker, issuer): (&Arc<Broker>, Option<&Arc<Issuer>>),
) -> Result<BTreeMap<PlatformName, Arc<dyn SecretManagement>>, Failure> {
    let ways = egresses(loaded)?;
    let mut all = BTreeMap::new();
    for (name, platform) in &loaded.config.platforms {
        let Some(way) = ways.get(name) else { continue };
        if platform.rotator.is_none() && !platform.detail.has_own_clients() {
            continue;
        }
        let http = super::endpoints::http(way, &base.clock);
        let Some(make) = management::made(platform, http, &Shared::of_platform(), issuer) else { continue };
        all.insert(name.clone(), make(rotator_tokens(broker, platform)));
    }
    Ok(all)
}

/// One credential with its surroundings.
struct Of<'a> {
    name: &'a CredentialName,
    credential: &'a CredentialConfig,
    platform: &'a PlatformConfig,
    loaded: &'a Loaded,
    broker: &'a Arc<Broker>,
    /// What the rotations of this platform share.
    shared: &'a Arc<Shared>,
    issuer: Option<&'a Arc<Issuer>>,
}

fn subject(
    of: &Of<'_>,
    http: kh_platform::HttpClient,
    targets: &Targets,
    embedded: &Arc<dyn SecretTarget>,
    hooks: &Hooks,
) -> Result<Subject, Failure> {
    let Of { name, credential, platform, loaded, broker, shared, issuer } = of;
    let rotation = credential.rotation.as_ref().ok_or_else(|| Failure::bug("a credential that is not rotated"))?;
    let tokens = rotator_tokens(broker, platform);
    let second_rotator = platform.rotator_second.is_some();
    let own = [&platform.rotator, &platform.rotator_second].into_iter().flatten().any(|rotator| rotator == *name);
    // a rotator is rotated by the other one
    let by = if platform.rotator.as_ref() == Some(*name) && second_rotator { Rotator::Second } else { Rotator::First };
    let make = management::of(name, platform, http.clone(), shared, *issuer)?;
    let mut stores = Vec::new();
    for reference in std::iter::once(&credential.secret).chain(&rotation.targets) {
        let target = target_of(reference, targets, embedded)
            .ok_or_else(|| Failure::bug(format!("no store was made for {reference}")))?;
        stores.push(Store { name: reference.to_string(), path: reference.path(), target });
    }
    let made = |hook: &String| hooks.get(hook).cloned().ok_or_else(|| Failure::bug(format!("no hook {hook} was made")));
    let named = rotation.hooks.iter().map(made).collect::<Result<_, _>>()?;
    Ok(Subject {
        credential: (*name).clone(),
        platform: credential.platform.clone(),
        own,
        strategy: rotation.strategy,
        policy: policy::policy(name, rotation, &loaded.config.rotation)?,
        times: policy::times(rotation, &loaded.config.rotation.usual),
        stores,
        management: make(tokens),
        act_with: own.then(|| Arc::clone(&make)),
        by,
        second_rotator,
        endpoint: token_endpoint(platform, http),
        hooks: named,
        supply: Some(Arc::new(Supply(Arc::clone(broker)))),
        revoker: revoker::of(platform, *issuer),
    })
}

/// The grade that a consumer needs unless it says otherwise.
const GRADE: Grade = Grade::Used;
