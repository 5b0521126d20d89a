//! What is inside a backup: a tar file whose first member says what the others are.
//!
//! Invariants: members come in the manifest's order, with its sizes and digests, and there are no others; nothing is
//! written outside of the given folder; memory use does not grow with the size.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest;
use kh_core::{Code, Sha256};
use serde::{Deserialize, Serialize};

use crate::output::Failure;

/// The form of the archive that this binary writes, and the newest that it reads.
pub(crate) const FORMAT: u32 = 1;

/// The first member.
const MANIFEST: &str = "manifest.json";

/// A manifest names five parts; this is a hundred times what it needs.
const MANIFEST_MAX: u64 = 64 * 1024;

/// What is read or written at once.
const CHUNK: usize = 64 * 1024;

/// Lower hex digits of an id.
const ID_DIGITS: usize = 32;

/// The secret store.
pub(crate) const STORE: &str = "secrets.db";
/// The state.
pub(crate) const STATE: &str = "state.db";
/// The audit log.
pub(crate) const AUDIT_LOG: &str = "audit.log";
/// Its checkpoints.
pub(crate) const CHECKPOINTS: &str = "audit.checkpoints";
/// The generated key of the secret store.
pub(crate) const STORE_KEY: &str = "store.key";

/// Members that a backup must have; the key is there only if keyholder generated it.
const REQUIRED: [&str; 4] = [STORE, STATE, AUDIT_LOG, CHECKPOINTS];

/// One file of the installation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Part {
    /// The member's name.
    pub(crate) name: String,
    /// In bytes.
    pub(crate) size: u64,
    /// Lower hex.
    pub(crate) sha256: String,
}

/// Schemas of the databases at the time of the backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Schemas {
    /// Of the secret store.
    pub(crate) store: u32,
    /// Of the state.
    pub(crate) state: u32,
}

/// The first member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    /// [`FORMAT`].
    pub(crate) format: u32,
    /// Version of the keyholder that made it.
    pub(crate) keyholder: String,
    /// Random; the audit log names the backup by it.
    pub(crate) id: String,
    /// RFC 3339, UTC.
    pub(crate) made_at: String,
    /// Of the databases.
    pub(crate) schemas: Schemas,
    /// Ed25519 key that signed the audit log, in hex.
    pub(crate) audit_public_key: String,
    /// The other members, in their order.
    pub(crate) parts: Vec<Part>,
}

impl Manifest {
    /// Whether the store's key is inside.
    pub(crate) fn has_store_key(&self) -> bool {
        self.parts.iter().any(|part| part.name == STORE_KEY)
    }

    fn check(&self) -> Result<(), Failure> {
        let known = |name: &str| REQUIRED.contains(&name) || name == STORE_KEY;
        let mut names: Vec<&str> = self.parts.iter().map(|part| part.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        if self.format == 0 || names.len() != self.parts.len() || !names.iter().all(|name| known(name)) {
            return Err(invalid("its manifest names files that no backup has"));
        }
        match REQUIRED.iter().find(|name| !names.contains(name)) {
            Some(missing) => Err(invalid(format!("it has no {missing}"))),
            None => Ok(()),
        }
    }
}

fn invalid(why: impl std::fmt::Display) -> Failure {
    Failure::new(Code::BACKUP_INVALID, format!("the backup cannot be used: {why}"))
        .hint("nothing was changed; take another backup")
}

fn too_new(what: &str, found: u32, known: u32) -> Failure {
    let told = format!("the backup's {what} is {found}; this keyholder knows up to {known}");
    Failure::new(Code::STORE_TOO_NEW, told).hint("use the keyholder that made the backup, or a newer one")
}

/// Measures a file that is ready to be packed.
pub(crate) fn measure(folder: &Path, name: &str) -> io::Result<Part> {
    let mut file = File::open(folder.join(name))?;
    let mut digest = digest::Context::new(&digest::SHA256);
    let size = pump(&mut file, &mut |chunk| {
        digest.update(chunk);
        Ok(())
    })?;
    Ok(Part { name: name.to_owned(), size, sha256: hex(digest) })
}

/// Copies the first `length` bytes of `from` into a new private file.
pub(crate) fn copy_start(from: &Path, length: u64, to: &Path) -> io::Result<()> {
    let mut source = File::open(from)?.take(length);
    let mut target = create_private(to)?;
    let copied = pump(&mut source, &mut |chunk| target.write_all(chunk))?;
    if copied != length {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter"));
    }
    target.sync_all()
}

/// Writes manifest and parts, which lie in `folder`, to `output`.
pub(crate) fn pack<W: Write>(manifest: &Manifest, folder: &Path, mtime: u64, output: W) -> io::Result<W> {
    let mut tar = tar::Builder::new(output);
    tar.mode(tar::HeaderMode::Deterministic);
    let mut text = serde_json::to_vec_pretty(manifest).map_err(io::Error::other)?;
    text.push(b'\n');
    tar.append_data(&mut header(text.len() as u64, mtime), MANIFEST, text.as_slice())?;
    for part in &manifest.parts {
        let file = File::open(folder.join(&part.name))?;
        tar.append_data(&mut header(part.size, mtime), &part.name, file.take(part.size))?;
    }
    tar.into_inner()
}

fn header(size: u64, mtime: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o600);
    header.set_size(size);
    header.set_mtime(mtime);
    header
}

/// Reads a whole archive into `folder`, which is empty and private. Everything in it has the digests of the manifest,
/// and `input` was read to its end.
pub(crate) fn unpack(mut input: impl Read, folder: &Path) -> Result<Manifest, Failure> {
    let manifest = unpack_members(&mut input, folder)?;
    // to the authenticated end: a file that was cut short is told here
    pump(&mut input, &mut |_| Ok(())).map_err(unreadable)?;
    Ok(manifest)
}

fn unpack_members(input: &mut impl Read, folder: &Path) -> Result<Manifest, Failure> {
    let mut archive = tar::Archive::new(input);
    let mut members = archive.entries().map_err(unreadable)?;
    let first = members.next().ok_or_else(|| invalid("it is empty"))?.map_err(unreadable)?;
    let manifest = read_manifest(first)?;
    for part in &manifest.parts {
        let member = members.next().ok_or_else(|| invalid(format!("it ends before {}", part.name)))?;
        extract(member.map_err(unreadable)?, part, folder)?;
    }
    if members.next().is_some() {
        return Err(invalid("it has more files than its manifest names"));
    }
    Ok(manifest)
}

/// Looked at alone first: a newer manifest may have more members.
#[derive(Deserialize)]
struct Head {
    format: u32,
}

fn read_manifest<R: Read>(mut member: tar::Entry<'_, R>) -> Result<Manifest, Failure> {
    if name_of(&member).as_deref() != Some(MANIFEST) || member.size() > MANIFEST_MAX {
        return Err(invalid(format!("it does not begin with {MANIFEST}")));
    }
    let mut text = Vec::new();
    member.by_ref().take(MANIFEST_MAX).read_to_end(&mut text).map_err(unreadable)?;
    let head: Head = serde_json::from_slice(&text).map_err(|_| invalid("its manifest is not one"))?;
    if head.format > FORMAT {
        return Err(too_new("format", head.format, FORMAT));
    }
    let manifest: Manifest = serde_json::from_slice(&text).map_err(|_| invalid("its manifest is not one"))?;
    manifest.check()?;
    if manifest.schemas.store > kh_store::SCHEMA {
        return Err(too_new("secret store's schema", manifest.schemas.store, kh_store::SCHEMA));
    }
    if manifest.schemas.state > kh_state::SCHEMA {
        return Err(too_new("state's schema", manifest.schemas.state, kh_state::SCHEMA));
    }
    Ok(manifest)
}

fn extract<R: Read>(mut member: tar::Entry<'_, R>, part: &Part, folder: &Path) -> Result<(), Failure> {
    let is_expected = name_of(&member).as_deref() == Some(part.name.as_str())
        && member.header().entry_type() == tar::EntryType::Regular
        && member.size() == part.size;
    if !is_expected {
        return Err(invalid(format!("{} is not where its manifest says", part.name)));
    }
    let path = folder.join(&part.name);
    let unwritable = |error: io::Error| {
        Failure::new(Code::STATE_UNAVAILABLE, format!("cannot write {}", path.display()))
            .caused_by(&error)
            .hint("nothing was changed; is the disk full?")
    };
    let mut file = create_private(&path).map_err(unwritable)?;
    let mut digest = digest::Context::new(&digest::SHA256);
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = member.read(&mut chunk).map_err(unreadable)?;
        let Some(bytes) = chunk.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        digest.update(bytes);
        file.write_all(bytes).map_err(unwritable)?;
    }
    file.sync_all().map_err(unwritable)?;
    if hex(digest) != part.sha256 {
        return Err(invalid(format!("{} is not what its manifest says", part.name)));
    }
    Ok(())
}

fn name_of<R: Read>(member: &tar::Entry<'_, R>) -> Option<String> {
    String::from_utf8(member.path_bytes().into_owned()).ok()
}

#[allow(clippy::needless_pass_by_value, reason = "map_err hands over the error")]
fn unreadable(error: io::Error) -> Failure {
    invalid("it is damaged or cut short").caused_by(&error)
}

fn pump(source: &mut impl Read, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<u64> {
    let mut chunk = vec![0; CHUNK];
    let mut total = 0;
    loop {
        let read = source.read(&mut chunk)?;
        let Some(bytes) = chunk.get(..read).filter(|bytes| !bytes.is_empty()) else { return Ok(total) };
        sink(bytes)?;
        total += bytes.len() as u64;
    }
}

fn hex(digest: digest::Context) -> String {
    <[u8; 32]>::try_from(digest.finish().as_ref()).map(|bytes| Sha256(bytes).to_hex()).unwrap_or_default()
}

fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Whether this is an id of a backup or a restore, in the form in which `store` makes them.
fn is_id(text: &str) -> bool {
    text.len() == ID_DIGITS && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Removes drafts, files with `prefix` and an id, that killed processes left. Other names are somebody else's.
pub(crate) fn remove_drafts(folder: &Path, prefix: &str) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_draft = name.to_str().and_then(|name| name.strip_prefix(prefix)).is_some_and(is_id);
        if is_draft && entry.file_type()?.is_file() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// A private folder that goes with everything in it when the value is dropped, unless it is kept.
pub(crate) struct Staging {
    path: PathBuf,
    keep: bool,
}

impl Staging {
    /// Makes it. Folders with `prefix` and another id are leftovers of killed processes, which are removed; the caller
    /// holds a lock that says that none of them is in use. Other names are somebody else's.
    pub(crate) fn new(parent: &Path, prefix: &str, id: &str) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        for entry in fs::read_dir(parent)? {
            let entry = entry?;
            let name = entry.file_name();
            let is_leftover = name.to_str().and_then(|name| name.strip_prefix(prefix)).is_some_and(is_id);
            if is_leftover && entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            }
        }
        let path = parent.join(format!("{prefix}{id}"));
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self { path, keep: false })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// From now on somebody else takes it away.
    pub(crate) fn keep(mut self) -> PathBuf {
        self.keep = true;
        self.path.clone()
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "a temporary folder could not be removed");
        }
    }
}
