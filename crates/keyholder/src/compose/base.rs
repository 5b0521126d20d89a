//! What every command that changes something opens: the secret store, the audit log and the state.

use std::{path::Path, sync::Arc};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use kh_audit::{FileAuditLog, Filter};
use kh_core::{
    Clock, Code, Entropy, SecretBytes, SystemClock, SystemEntropy,
    port::{AuditError, AuditLog, RevocationStore, SecretSource, SecretStore, StateStore, StoreError},
};
use kh_inbound::{Caps, Revocations};
use kh_issuer::{Authority, Issuer, IssuerOptions, SigningKeys};
use kh_state::SqliteState;
use kh_store::{FileStore, KeyError, StoreKey, Unlocked};
use kh_telemetry::metered::{Meter, MeteredAudit, MeteredSecrets, MeteredState};

use crate::{
    care::{rekeyed, switch},
    cli::Loaded,
    config::{KeySource, TokenEndpointConfig},
    environment::Environment,
    output::{Exit, Failure},
    sources::Reads,
};

use super::{InstallationLock, Paths};

/// Label of the audit log's signing key below the store's data key.
const AUDIT_LABEL: &str = "audit signing";

/// Label of the rotation escrow's key below the store's data key.
const ESCROW_LABEL: &str = "rotation escrow";

/// Label of the fingerprint key below the store's data key.
const FINGERPRINT_LABEL: &str = "fingerprint";

/// Label of the key of users' sessions below the store's data key.
const SESSION_LABEL: &str = "user sessions";

/// Where a service manager mounts credentials (systemd.exec(5)).
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// An opened installation.
#[derive(Clone)]
pub(crate) struct Base {
    /// Time.
    pub(crate) clock: Arc<dyn Clock>,
    /// Randomness.
    pub(crate) entropy: Arc<dyn Entropy>,
    /// What people changed.
    pub(crate) audit: Arc<FileAuditLog>,
    /// Secrets.
    pub(crate) store: Arc<FileStore>,
    /// Clients and tokens.
    pub(crate) state: Arc<SqliteState>,
    /// Seals what a rotation keeps between the platform's answer and the stores.
    pub(crate) escrow_key: Arc<SecretBytes>,
    /// Seals the tokens of users' sessions.
    pub(crate) session_key: Arc<SecretBytes>,
    /// Names secrets in logs.
    pub(crate) fingerprinter: Arc<kh_core::Fingerprinter>,
    /// Counts what the stores do.
    pub(crate) meter: Meter,
    /// Counts reads of the stores outside.
    pub(crate) reads: Reads,
    /// Last, so that it is given back when everything else is closed. None for files that nobody else knows.
    _lock: Option<Arc<InstallationLock>>,
}

impl Base {
    /// Opens the installation of `loaded`, making what is missing. Blocks.
    pub(crate) fn open(loaded: &Loaded, environment: &Environment) -> Result<Self, Failure> {
        loaded.paths.prepare()?;
        let lock = InstallationLock::shared(&loaded.paths.state)?;
        refuse_unfinished(&loaded.paths)?;
        refuse_remains(&loaded.paths)?;
        Self::locked(loaded, environment, lock)
    }

    /// Opens the installation of `loaded` for a command that looks or takes away: where there is none it makes nothing,
    /// not even the folder. Blocks.
    pub(crate) fn open_existing(loaded: &Loaded, environment: &Environment) -> Result<Self, Failure> {
        let paths = &loaded.paths;
        if paths.state.exists() {
            paths.prepare()?;
        }
        let lock = InstallationLock::shared_if_there(&paths.state)?;
        refuse_unfinished(paths)?;
        refuse_missing(paths)?;
        refuse_remains(paths)?;
        let Some(lock) = lock else {
            // copied without its lock file: what was asked before the lock is asked again under it
            drop(InstallationLock::shared(&paths.state)?);
            return Self::open_existing(loaded, environment);
        };
        Self::locked(loaded, environment, lock)
    }

    fn locked(loaded: &Loaded, environment: &Environment, lock: InstallationLock) -> Result<Self, Failure> {
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
        let unlocked = unlock(loaded, environment, &entropy)?;
        Self::over(&loaded.paths, unlocked, Some(lock))
    }

    /// Opens what stands at `paths` over a store that is open already. Blocks.
    pub(crate) fn over(paths: &Paths, unlocked: Unlocked, lock: Option<InstallationLock>) -> Result<Self, Failure> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
        let seed = unlocked.subkey(AUDIT_LABEL);
        let log =
            FileAuditLog::open(&paths.audit_log, &paths.checkpoints, &seed, Arc::clone(&clock)).map_err(unopened)?;
        let audit = Arc::new(log);
        let meter = Meter::new(Arc::clone(&clock));
        let metered = MeteredAudit::new(Arc::clone(&audit) as Arc<dyn AuditLog>, meter.clone());
        let port = || Arc::clone(&metered) as Arc<dyn AuditLog>;
        let fingerprinter = kh_core::Fingerprinter::new(unlocked.subkey(FINGERPRINT_LABEL).expose());
        let escrow_key = Arc::new(unlocked.subkey(ESCROW_LABEL));
        let session_key = Arc::new(unlocked.subkey(SESSION_LABEL));
        let store = FileStore::open(unlocked, port(), Arc::clone(&clock))?;
        let state = SqliteState::open(&paths.database, port(), Arc::clone(&clock))?;
        Ok(Self {
            clock,
            entropy,
            audit,
            store: Arc::new(store),
            state: Arc::new(state),
            escrow_key,
            session_key,
            fingerprinter: Arc::new(fingerprinter),
            meter,
            reads: Reads::default(),
            _lock: lock.map(Arc::new),
        })
    }

    /// The secret store as a source of documents, metered.
    pub(crate) fn secrets(&self) -> Arc<dyn SecretSource> {
        MeteredSecrets::new(Arc::clone(&self.store) as Arc<dyn SecretStore>, self.meter.clone())
    }

    /// The issuer over this state, for commands: it signs nothing.
    pub(crate) async fn issuer(&self) -> Result<Arc<Issuer>, Failure> {
        self.issuer_as(None, Arc::clone(&self.state) as Arc<dyn RevocationStore>).await
    }

    /// The issuer over this state, with its name as an authorization server and where it writes revocations.
    pub(crate) async fn issuer_as(
        &self,
        authority: Option<Authority>,
        revocations: Arc<dyn RevocationStore>,
    ) -> Result<Arc<Issuer>, Failure> {
        let state = MeteredState::new(Arc::clone(&self.state) as Arc<dyn StateStore>, self.meter.clone());
        let options = IssuerOptions { authority, revocations: Some(revocations) };
        Ok(Issuer::open_as(state, Arc::clone(&self.clock), Arc::clone(&self.entropy), options).await?)
    }

    /// What is revoked, read: one list for all who verify in this process.
    pub(crate) async fn revocations(&self) -> Result<Arc<Revocations>, Failure> {
        let store = Arc::clone(&self.state) as Arc<dyn RevocationStore>;
        let revocations = Arc::new(Revocations::new(store, Caps::default()));
        revocations.refresh(self.clock.now()).await?;
        Ok(revocations)
    }

    /// The keys that sign access tokens.
    pub(crate) async fn signing_keys(&self, config: &TokenEndpointConfig) -> Result<Arc<SigningKeys>, Failure> {
        let store = Arc::clone(&self.store) as Arc<dyn SecretStore>;
        let (clock, entropy) = (Arc::clone(&self.clock), Arc::clone(&self.entropy));
        Ok(SigningKeys::open(store, clock, entropy, config.policy()).await?)
    }

    /// What the configuration makes keyholder as an authorization server.
    pub(crate) async fn authority(&self, config: &TokenEndpointConfig) -> Result<Option<Authority>, Failure> {
        let Some(issuer) = config.issuer.clone() else { return Ok(None) };
        Ok(Some(Authority { issuer, keys: self.signing_keys(config).await? }))
    }
}

/// Refuses an installation whose files a restore has half replaced.
pub(crate) fn refuse_unfinished(paths: &Paths) -> Result<(), Failure> {
    let journal = switch::journal_file(&paths.state);
    if !journal.exists() {
        return Ok(());
    }
    let told = format!("a restore into {} was interrupted while it replaced the files", paths.state.display());
    Err(Failure::new(Code::RESTORE_UNFINISHED, told)
        .hint("keyholder store restore --resume")
        .hint("everything it needs is there, and the earlier files are kept aside"))
}

/// Refuses a folder that holds no installation: one that was made there would hide that another folder was meant.
pub(crate) fn refuse_missing(paths: &Paths) -> Result<(), Failure> {
    // what may not be looked at is there: whoever opens it says why it cannot be
    let there = |path: &Path| path.try_exists().unwrap_or(true);
    if there(&paths.store) || there(&paths.database) || there(&paths.audit_log) {
        return Ok(());
    }
    let told = format!("there is no installation in {}", paths.state.display());
    Err(Failure::new(Code::NOT_FOUND, told)
        .hint("see --state and [state] dir")
        .hint("`keyholder init`, `serve`, `client add` and `secret set` make one"))
}

/// Refuses an installation of which a part is gone. What is missing is made at the first start alone: made anew beside
/// the rest, an empty store or registry would hide the loss.
fn refuse_remains(paths: &Paths) -> Result<(), Failure> {
    let gone = |code, path: &Path| {
        Err(Failure::new(code, format!("{} is gone while other files of its installation are there", path.display()))
            .hint("restore it from a backup; to start anew, move the whole state folder and the audit log away"))
    };
    // the store is the first file of an installation
    if !paths.store.exists() && (paths.audit_log.exists() || paths.database.exists()) {
        return gone(Code::STORE_TRUNCATED, &paths.store);
    }
    if !paths.database.exists() && paths.audit_log.exists() {
        let clients = Filter { action: Some("client.".to_owned()), limit: Some(1), ..Filter::default() };
        if kh_audit::read(&paths.audit_log, clients)?.next().is_some() {
            return gone(Code::STATE_DAMAGED, &paths.database);
        }
    }
    Ok(())
}

/// A log that does not verify is nothing that another start mends: a person has to look at it.
fn unopened(error: AuditError) -> Failure {
    let failure = Failure::from(error);
    if failure.code() == Code::AUDIT_BROKEN { failure.exiting(Exit::Operator) } else { failure }
}

/// The key that signs this installation's audit log, if its secret store exists and opens.
pub(crate) fn audit_key(loaded: &Loaded, environment: &Environment) -> Result<Option<kh_audit::PublicKey>, Failure> {
    let _lock = InstallationLock::shared_if_there(&loaded.paths.state)?;
    refuse_unfinished(&loaded.paths)?;
    if !loaded.paths.store.exists() {
        return Ok(None);
    }
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let unlocked = unlock(loaded, environment, &entropy)?;
    Ok(Some(public_key_of(&unlocked)?))
}

/// The key that signs the audit log of a store's installation.
pub(crate) fn public_key_of(unlocked: &Unlocked) -> Result<kh_audit::PublicKey, Failure> {
    let pair = Ed25519KeyPair::from_seed_unchecked(unlocked.subkey(AUDIT_LABEL).expose())
        .map_err(|_| Failure::bug("the audit log's key cannot be made"))?;
    let digits = <[u8; 32]>::try_from(pair.public_key().as_ref())
        .map_err(|_| Failure::bug("an Ed25519 public key does not have 32 bytes"))?;
    kh_core::Sha256(digits).to_hex().parse().map_err(|_| Failure::bug("a public key does not parse"))
}

/// Opens the configured store with the configured key.
pub(crate) fn unlock(
    loaded: &Loaded,
    environment: &Environment,
    entropy: &Arc<dyn Entropy>,
) -> Result<Unlocked, Failure> {
    let (paths, source) = (&loaded.paths, &loaded.config.store.key);
    let key = store_key(source, paths, environment, &**entropy)?;
    match kh_store::unlock(&paths.store, &key, Arc::clone(entropy)) {
        Err(StoreError::WrongKey) => match rekeyed::finish(paths, source, entropy)? {
            Some(unlocked) => Ok(unlocked),
            None => Err(StoreError::WrongKey.into()),
        },
        opened => Ok(opened?),
    }
}

/// The key that the configuration names.
pub(crate) fn store_key(
    source: &KeySource,
    paths: &Paths,
    environment: &Environment,
    entropy: &dyn Entropy,
) -> Result<StoreKey, Failure> {
    let variable = |name: &str| {
        environment.secret(name).ok_or_else(|| {
            Failure::new(
                Code::STORE_WRONG_KEY,
                format!("the environment variable {name} with the store's key is not set"),
            )
            .hint("see [store] in keyholder.toml")
        })
    };
    match source {
        KeySource::Generated => generated_key(&paths.store_key, &paths.store, entropy),
        KeySource::KeyFile(path) => Ok(StoreKey::from_key_file(&paths.resolve(path))?),
        KeySource::PassphraseFile(path) => Ok(StoreKey::from_passphrase_file(&paths.resolve(path))?),
        KeySource::KeyCredential(name) => {
            let folder = environment.path(CREDENTIALS).ok_or_else(|| {
                Failure::new(Code::STORE_WRONG_KEY, format!("the environment variable {CREDENTIALS} is not set")).hint(
                    "systemd sets it for LoadCredential=; elsewhere name the folder of the mounted secret with it",
                )
            })?;
            Ok(StoreKey::from_credential(&folder.join(name))?)
        }
        KeySource::KeyEnv(name) => Ok(StoreKey::from_encoded(&variable(name)?)?),
        KeySource::PassphraseEnv(name) => Ok(StoreKey::from_passphrase(&variable(name)?)?),
    }
}

/// The key in the state folder, made if neither it nor the store is there.
fn generated_key(path: &Path, store: &Path, entropy: &dyn Entropy) -> Result<StoreKey, Failure> {
    if !path.exists() {
        if store.exists() {
            // A new key would not open the old store; the person must find the old one.
            return Err(Failure::new(Code::STORE_WRONG_KEY, format!("the key file {} is missing", path.display()))
                .hint("restore it from your copy, or name the key in [store] of keyholder.toml"));
        }
        match kh_store::generate_key_file(path, entropy) {
            // Another process was faster, and its key is as good.
            Ok(()) | Err(KeyError::Exists { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(StoreKey::from_key_file(path)?)
}
