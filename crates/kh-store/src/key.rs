//! The user's key: a passphrase, or 32 raw bytes from a key file or the environment.
//!
//! Invariant: key material lives in zeroized buffers only, never in an error, and a key file that others may read is
//! refused.

use std::{
    io::{Read, Write},
    path::{Path, PathBuf},
};

use base64::{Engine, alphabet, engine};
use kh_core::{Entropy, SecretBytes, SecretString};
use zeroize::{Zeroize, Zeroizing};

use crate::files;

/// Bytes of a raw key: AES-256.
const KEY_BYTES: usize = 32;

/// Largest key or passphrase file read. A passphrase of a kilobyte is already absurd.
const KEY_FILE_BYTES_MAX: u64 = 4096;

/// Reads both base64 alphabets' padding habits; the alphabet itself is chosen by the text.
const LENIENT: engine::GeneralPurposeConfig =
    engine::GeneralPurposeConfig::new().with_decode_padding_mode(engine::DecodePaddingMode::Indifferent);

/// What opens a store.
#[derive(Debug)]
pub enum StoreKey {
    /// Stretched with Argon2id (RFC 9106) under the parameters that stand in the store.
    Passphrase(SecretString),
    /// 32 random bytes; used through HKDF, not stretched.
    Raw(SecretBytes),
}

kh_core::assert_closed!(StoreKey);

/// Why a key could not be had. Never tells anything of the key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("the key file {} cannot be used", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Its cause.
        #[source]
        source: std::io::Error,
    },
    /// Others than the owner may read or write the file.
    #[error("the key file {} is open to others (mode {mode:04o}); run: chmod 600 {}", path.display(), path.display())]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A mounted credential that more than its owner and one group may read, or that others than its owner may write.
    #[error("the credential {} is open to others (mode {mode:04o}); hand it over with mode 0400 or 0440", path.display())]
    CredentialPermissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// There is a file already; a key is never overwritten, because what it sealed would be lost.
    #[error("the key file {} exists already and is not overwritten", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Not 32 bytes in raw, base64 or hex form.
    #[error("the key is not 32 bytes in raw, base64 or hex form")]
    Malformed,
    /// A passphrase of no characters protects nothing.
    #[error("the passphrase is empty")]
    Empty,
}

impl StoreKey {
    /// A passphrase as a person or an environment variable gives it. Trailing line ends are not part of it.
    pub fn from_passphrase(text: &SecretString) -> Result<Self, KeyError> {
        let trimmed = text.expose().trim_end_matches(['\r', '\n']);
        if trimmed.is_empty() {
            return Err(KeyError::Empty);
        }
        Ok(Self::Passphrase(SecretString::copied(trimmed)))
    }

    /// 32 bytes as base64 (standard or URL alphabet, padded or not) or 64 hex digits: the form of an environment
    /// variable.
    pub fn from_encoded(text: &SecretString) -> Result<Self, KeyError> {
        decode(text.expose().trim()).map(Self::Raw).ok_or(KeyError::Malformed)
    }

    /// 32 raw bytes.
    pub fn from_raw(bytes: SecretBytes) -> Result<Self, KeyError> {
        if bytes.expose().len() != KEY_BYTES {
            return Err(KeyError::Malformed);
        }
        Ok(Self::Raw(bytes))
    }

    /// Reads a key file: exactly 32 raw bytes, or base64 or hex text. Refused when others may read it.
    pub fn from_key_file(path: &Path) -> Result<Self, KeyError> {
        Self::from_content(&read_private(path)?)
    }

    /// Reads a key that a service manager mounted: the same forms. systemd gives a unit's user the right to read by an
    /// access list, whose mask shows as the group's bit (systemd.exec(5), `LoadCredential=`), and Kubernetes by the
    /// pod's `fsGroup`: so, unlike a key file, a credential may be readable to its group.
    pub fn from_credential(path: &Path) -> Result<Self, KeyError> {
        Self::from_content(&read_credential(path)?)
    }

    fn from_content(content: &[u8]) -> Result<Self, KeyError> {
        if content.len() == KEY_BYTES {
            return Ok(Self::Raw(SecretBytes::new(content.to_vec())));
        }
        let text = std::str::from_utf8(content).map_err(|_| KeyError::Malformed)?;
        decode(text.trim()).map(Self::Raw).ok_or(KeyError::Malformed)
    }

    /// Reads a file that holds a passphrase. Refused when others may read it.
    pub fn from_passphrase_file(path: &Path) -> Result<Self, KeyError> {
        let content = read_private(path)?;
        let text = std::str::from_utf8(&content).map_err(|_| KeyError::Malformed)?;
        Self::from_passphrase(&SecretString::copied(text))
    }
}

/// Writes a new random key as one line of base64 into a file of mode 0600 that must not exist, and makes it durable.
/// The file appears whole: another process never reads half a key, and a kill leaves none that would have to be
/// removed by hand.
pub fn generate_key_file(path: &Path, entropy: &dyn Entropy) -> Result<(), KeyError> {
    let io = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::AlreadyExists => KeyError::Exists { path: path.to_owned() },
        _ => KeyError::Io { path: path.to_owned(), source },
    };
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    entropy.fill(key.as_mut_slice());
    let mut line =
        Zeroizing::new(engine::GeneralPurpose::new(&alphabet::STANDARD, engine::general_purpose::PAD).encode(*key));
    line.push('\n');
    let directory = files::parent(path);
    files::create_private_dir(directory).map_err(io)?;
    let mut suffix = [0; 8];
    entropy.fill(&mut suffix);
    let mut name = path.file_name().ok_or_else(|| io(std::io::ErrorKind::InvalidInput.into()))?.to_owned();
    name.push(format!(".new-{:016x}", u64::from_be_bytes(suffix)));
    let draft = directory.join(name);
    let mut file = files::create_private_file(&draft).map_err(io)?;
    // Unlike a rename, a link never replaces a key that is there already.
    let written =
        file.write_all(line.as_bytes()).and_then(|()| file.sync_all()).and_then(|()| std::fs::hard_link(&draft, path));
    if let Err(error) = std::fs::remove_file(&draft) {
        tracing::warn!(file = %draft.display(), %error, "the draft of a key file could not be removed");
    }
    written.map_err(io)?;
    files::sync_dir(directory).map_err(io)
}

fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let (file, mode) = open(path)?;
    if mode & files::OPEN_TO_OTHERS != 0 {
        return Err(KeyError::Permissions { path: path.to_owned(), mode });
    }
    read(path, file)
}

/// Bits that a mounted credential must not have: the group may read it, and nothing more.
const OPEN_CREDENTIAL: u32 = 0o037;

fn read_credential(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let (file, mode) = open(path)?;
    if mode & OPEN_CREDENTIAL != 0 {
        return Err(KeyError::CredentialPermissions { path: path.to_owned(), mode });
    }
    read(path, file)
}

/// The file and its permission bits.
fn open(path: &Path) -> Result<(std::fs::File, u32), KeyError> {
    let io = |source| KeyError::Io { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(io)?;
    let mode = files::mode(&file.metadata().map_err(io)?);
    Ok((file, mode))
}

fn read(path: &Path, file: std::fs::File) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let io = |source| KeyError::Io { path: path.to_owned(), source };
    // Reserved up front: a buffer that grows leaves unwiped copies behind.
    let capacity = usize::try_from(KEY_FILE_BYTES_MAX).unwrap_or(0) + 1;
    let mut content = Zeroizing::new(Vec::with_capacity(capacity));
    file.take(KEY_FILE_BYTES_MAX + 1).read_to_end(&mut content).map_err(io)?;
    if content.len() as u64 > KEY_FILE_BYTES_MAX {
        return Err(KeyError::Malformed);
    }
    Ok(content)
}

fn decode(text: &str) -> Option<SecretBytes> {
    let mut bytes = if text.len() == KEY_BYTES * 2 {
        decode_hex(text)?
    } else {
        let alphabet = if text.contains(['-', '_']) { &alphabet::URL_SAFE } else { &alphabet::STANDARD };
        engine::GeneralPurpose::new(alphabet, LENIENT).decode(text).ok()?
    };
    if bytes.len() != KEY_BYTES {
        bytes.zeroize();
        return None;
    }
    Some(SecretBytes::new(bytes))
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    // The digest type has the one hex parser of the house; a key is as long as a digest.
    let mut parsed = kh_core::Sha256::from_hex(text)?;
    let bytes = parsed.0.to_vec();
    parsed.0.zeroize();
    Some(bytes)
}

#[cfg(test)]
mod tests;
