//! Where everything is kept.
//!
//! Invariant: every path here is absolute or counts from the place that named it; the state folder is private.

use std::{
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use kh_core::Code;
use serde::Serialize;

use crate::{
    config::{Config, KeySource, NetworkConfig, PlatformConfig},
    environment::Environment,
    output::Failure,
};

/// The files of one installation.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Paths {
    /// The state folder, 0700.
    pub(crate) state: PathBuf,
    /// The secret store.
    pub(crate) store: PathBuf,
    /// The generated key of the secret store.
    pub(crate) store_key: PathBuf,
    /// Clients, tokens and settings.
    pub(crate) database: PathBuf,
    /// The audit log.
    pub(crate) audit_log: PathBuf,
    /// Its signed checkpoints.
    pub(crate) checkpoints: PathBuf,
    /// The admin listener's guard token.
    pub(crate) admin_token: PathBuf,
    /// The broker's guard token.
    pub(crate) broker_token: PathBuf,
    /// What relative paths of the configuration count from.
    #[serde(skip)]
    base: PathBuf,
}

impl Paths {
    /// The paths of `config`, whose relative ones count from `base`. `state` overrides the file's state folder.
    pub(crate) fn of(
        config: &Config,
        base: &Path,
        state: Option<PathBuf>,
        environment: &Environment,
    ) -> Result<Self, Failure> {
        let configured = config.state.dir.as_ref().map(|dir| base.join(dir));
        let state = state.or(configured).or_else(|| Self::default_state(environment)).ok_or_else(|| {
            Failure::new(Code::CONFIG_INVALID, "there is no state folder, because there is no home folder")
                .hint("name one with --state DIR, KEYHOLDER_STATE or [state] dir")
        })?;
        let or = |given: &Option<PathBuf>, name: &str| match given {
            Some(path) => base.join(path),
            None => state.join(name),
        };
        Ok(Self {
            store: state.join("secrets.db"),
            store_key: state.join("store.key"),
            database: state.join("state.db"),
            audit_log: or(&config.audit.path, "audit.log"),
            checkpoints: or(&config.audit.checkpoints, "audit.checkpoints"),
            admin_token: or(&config.admin.token_file, "admin.token"),
            broker_token: or(&config.broker.token_file, "broker.token"),
            base: base.to_owned(),
            state,
        })
    }

    /// The state folder when nothing names one.
    pub(crate) fn default_state(environment: &Environment) -> Option<PathBuf> {
        environment.xdg("XDG_STATE_HOME", ".local/state").map(|folder| folder.join("keyholder"))
    }

    /// The same installation with all its files in one folder, as a backup unpacks them.
    pub(crate) fn staged(&self, folder: &Path) -> Self {
        let mut staged = self.clone();
        for (path, name) in [
            (&mut staged.store, "secrets.db"),
            (&mut staged.store_key, "store.key"),
            (&mut staged.database, "state.db"),
            (&mut staged.audit_log, "audit.log"),
            (&mut staged.checkpoints, "audit.checkpoints"),
        ] {
            *path = folder.join(name);
        }
        folder.clone_into(&mut staged.state);
        staged
    }

    /// A path of the configuration.
    pub(crate) fn resolve(&self, path: &Path) -> PathBuf {
        self.base.join(path)
    }

    /// The file with the store's key, if its key is in a file that the operator named.
    pub(crate) fn key_file(&self, source: &KeySource) -> Option<PathBuf> {
        match source {
            KeySource::Generated => Some(self.store_key.clone()),
            KeySource::KeyFile(path) | KeySource::PassphraseFile(path) => Some(self.resolve(path)),
            KeySource::KeyCredential(_) | KeySource::KeyEnv(_) | KeySource::PassphraseEnv(_) => None,
        }
    }

    /// The private CA of a platform.
    pub(crate) fn extra_ca(&self, platform: &PlatformConfig) -> Option<PathBuf> {
        platform.extra_ca.as_ref().map(|path| self.resolve(path))
    }

    /// The files that the ways out to platforms and secret stores are made of.
    pub(crate) fn network_files(&self, config: &Config) -> Vec<PathBuf> {
        let of_network =
            |network: &NetworkConfig| network.proxy.as_ref().and_then(|proxy| proxy.proxy_auth_file.clone());
        let of_platform = |platform: &PlatformConfig| {
            let client = platform.client.as_ref().map(|client| [client.client_cert.clone(), client.client_key.clone()]);
            let own = platform.extra_ca.iter().cloned().chain(client.into_iter().flatten());
            own.chain(of_network(&platform.network)).collect::<Vec<_>>()
        };
        let platforms = config.platforms.values().flat_map(of_platform);
        let stores = config.secret_stores.values();
        let stores = stores.flat_map(|store| store.detail.files().into_iter().chain(&store.extra_ca).cloned());
        platforms.chain(of_network(&config.network)).chain(stores).map(|path| self.resolve(&path)).collect()
    }

    /// Makes the state folder with mode 0700; one that others may write is refused.
    pub(crate) fn prepare(&self) -> Result<(), Failure> {
        let unavailable = |error: io::Error| {
            Failure::new(Code::STATE_UNAVAILABLE, format!("the state folder {} cannot be used", self.state.display()))
                .caused_by(&error)
                .hint("choose another with --state DIR, KEYHOLDER_STATE or [state] dir")
        };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.state).map_err(unavailable)?;
        let mode = std::fs::metadata(&self.state).map_err(unavailable)?.permissions().mode();
        if mode & 0o022 != 0 {
            let state = self.state.display();
            return Err(Failure::new(
                Code::CONFIG_INVALID,
                format!("others may write into the state folder {state} (mode {:03o})", mode & 0o777),
            )
            .hint(format!("chmod 700 {state}")));
        }
        Ok(())
    }
}

/// Removes the ready file that a killed process left behind: nobody is ready yet.
pub(crate) fn remove_ready_file(path: Option<&Path>) -> Result<(), Failure> {
    let Some(path) = path else { return Ok(()) };
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Failure::usage(format!("the ready file {} cannot be replaced", path.display())).caused_by(&error))
        }
        _ => Ok(()),
    }
}

/// Writes a file of mode 0600 that appears whole or not at all, replacing an older one. Safe in a folder that others
/// may write, such as `/tmp`: what stands at the draft's place is never opened, so neither a link nor a file that
/// somebody put there sees the content. Answers the file itself, which tells it from one that another writes later.
pub(crate) fn write_private_file(path: &Path, content: &[u8]) -> io::Result<std::fs::File> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy().into_owned();
    let staged = folder.join(format!(".{name}.{}", std::process::id()));
    let create = || std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&staged);
    let mut file = match create() {
        // A killed process of the same number left it, or somebody guessed the name.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            std::fs::remove_file(&staged)?;
            create()?
        }
        result => result?,
    };
    let written = file.write_all(content).and_then(|()| file.sync_all()).and_then(|()| std::fs::rename(&staged, path));
    if written.is_err() {
        // The first error is the one to tell.
        std::fs::remove_file(&staged).ok();
    }
    written.map(|()| file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ready_file_of_an_earlier_start_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let ready = folder.path().join("ready.json");
        write_private_file(&ready, b"{}").unwrap();
        for _ in 0..2 {
            remove_ready_file(Some(&ready)).unwrap();
            assert!(!ready.exists());
        }
        remove_ready_file(None).unwrap();
        assert!(remove_ready_file(Some(folder.path())).is_err(), "a folder is no ready file");
    }

    #[test]
    fn what_somebody_put_at_the_drafts_place_is_not_written_through() {
        let folder = tempfile::tempdir().unwrap();
        let (ready, victim) = (folder.path().join("ready.json"), folder.path().join("victim"));
        std::fs::write(&victim, "precious").unwrap();
        let draft = folder.path().join(format!(".ready.json.{}", std::process::id()));
        std::os::unix::fs::symlink(&victim, &draft).unwrap();
        write_private_file(&ready, b"secret").unwrap();
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
        let about = std::fs::symlink_metadata(&ready).unwrap();
        assert!(about.is_file() && about.permissions().mode() & 0o7777 == 0o600);

        std::fs::write(&draft, "").unwrap();
        let mut theirs = std::fs::File::open(&draft).unwrap();
        write_private_file(&ready, b"secret").unwrap();
        let mut seen = String::new();
        io::Read::read_to_string(&mut theirs, &mut seen).unwrap();
        assert_eq!((seen.as_str(), std::fs::read(&ready).unwrap().as_slice()), ("", &b"secret"[..]));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "no draft stays");
    }
}
