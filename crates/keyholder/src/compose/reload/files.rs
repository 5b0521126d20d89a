//! The files that a configuration is made of: itself and everything that it names.
//!
//! Invariant: a file counts as changed when anything about it changed that its owner cannot avoid by writing it
//! again: the name's target (editors rename, Kubernetes swaps a symbolic link), size, or one of its times.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use kh_core::Sha256;

use crate::{cli::Loaded, compose::tls::PEM_BYTES_MAX};

/// What tells one state of a file from the next, without reading it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Identities by path; none where there is no file.
pub(super) type Identities = BTreeMap<PathBuf, Option<Identity>>;

/// Digests of what the files hold, by path; none where a file cannot be read.
pub(super) type Contents = BTreeMap<PathBuf, Option<Sha256>>;

/// The configuration's own file and the files that it names, other than the store's key: certificates, keys, bundles.
pub(super) fn of(loaded: &Loaded) -> BTreeSet<PathBuf> {
    let own = loaded.file.iter().cloned();
    let gateway = loaded.config.gateway.tls.iter();
    let tls = gateway.flat_map(|tls| [&tls.cert, &tls.key].into_iter().chain(&tls.clients.client_ca));
    let admin = loaded.config.admin.tls.iter().flat_map(|tls| [&tls.cert, &tls.key]);
    let inbound = loaded.config.inbound.values().flat_map(|api| {
        let clients = api.tls.iter().filter_map(|tls| tls.clients.client_ca.as_ref());
        let tls = api.tls.iter().flat_map(|tls| [&tls.cert, &tls.key]).chain(clients);
        let client = api.client.iter().flat_map(|client| [&client.client_cert, &client.client_key]);
        tls.chain(client).chain(&api.extra_ca)
    });
    let issuers = loaded.config.issuers.values().filter_map(|issuer| issuer.way.extra_ca.as_ref());
    let tls = tls.chain(admin).chain(inbound).chain(issuers).map(|path| loaded.paths.resolve(path));
    own.chain(tls).chain(loaded.paths.network_files(&loaded.config)).collect()
}

/// How `paths` look now. Blocks on the file system.
pub(super) fn look(paths: &BTreeSet<PathBuf>) -> Identities {
    paths.iter().map(|path| (path.clone(), identity(path))).collect()
}

/// What `paths` hold now: only files, because a pipe can be read once. Blocks on the file system.
pub(super) fn contents(paths: &BTreeSet<PathBuf>) -> Contents {
    paths.iter().map(|path| (path.clone(), content(path))).collect()
}

/// A longer file is refused where it is read.
fn content(path: &Path) -> Option<Sha256> {
    if !std::fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut held = zeroize::Zeroizing::new(Vec::new());
    File::open(path).and_then(|file| file.take(PEM_BYTES_MAX).read_to_end(&mut held)).ok()?;
    Some(Sha256::of(&held))
}

fn identity(path: &Path) -> Option<Identity> {
    let about = std::fs::metadata(path).ok()?;
    Some(Identity {
        device: about.dev(),
        inode: about.ino(),
        size: about.len(),
        modified: (about.mtime(), about.mtime_nsec()),
        changed: (about.ctime(), about.ctime_nsec()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_of_replacing_a_file_is_seen() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let watched = BTreeSet::from([at("link"), at("plain")]);
        std::fs::write(at("one"), "same size").expect("written");
        std::os::unix::fs::symlink(at("one"), at("link")).expect("linked");
        let mut seen = vec![look(&watched)];
        let mut next = |what: &str| {
            let now = look(&watched);
            assert_ne!(Some(&now), seen.last(), "{what}");
            seen.push(now);
        };
        std::fs::write(at("plain"), "came").expect("written");
        next("a file that came");
        std::fs::write(at("draft"), "gone").expect("written");
        std::fs::rename(at("draft"), at("plain")).expect("renamed");
        next("an editor's rename, same length");
        std::fs::write(at("two"), "same size").expect("written");
        std::os::unix::fs::symlink(at("two"), at("next")).expect("linked");
        std::fs::rename(at("next"), at("link")).expect("renamed");
        next("a symbolic link swapped for another, as Kubernetes does");
        std::fs::remove_file(at("plain")).expect("removed");
        next("a file that went");
        assert_eq!(look(&watched), look(&watched));
    }
}
