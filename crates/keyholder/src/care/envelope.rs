//! The encryption of a backup: an age file (<https://age-encryption.org/v1>), so that it can be opened without
//! keyholder, by `age` or `rage`.
//!
//! Invariant: what has not been read to its authenticated end is not used; no key or passphrase stands in an error.

use std::{
    fs::File,
    io::{self, BufReader, Read, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use age::{
    DecryptError, Decryptor, Encryptor, scrypt,
    secrecy::SecretString as AgeSecret,
    stream::{StreamReader, StreamWriter},
    x25519,
};
use kh_core::{Code, SecretString};
use zeroize::Zeroizing;

use crate::output::Failure;

/// Shortest passphrase, in characters: a backup lies around for years, and whoever has it can try at leisure.
pub(crate) const PASSPHRASE_MIN: usize = 12;

/// The most work that a file may ask for before it opens, as the logarithm of scrypt's N: about ten seconds and 4 GiB.
const WORK_MAX: u8 = 22;

/// Largest file of identities or with a passphrase.
const KEY_FILE_MAX: u64 = 64 * 1024;

/// Whom a backup is sealed for.
pub(crate) enum Sealing {
    /// Each of these can open it.
    Recipients(Vec<x25519::Recipient>),
    /// Whoever knows it can open it.
    Passphrase(SecretString),
}

/// What opens a backup.
pub(crate) enum Opening {
    /// One of these is a recipient's.
    Identities(Vec<x25519::Identity>),
    /// It was sealed with it.
    Passphrase(SecretString),
}

impl Sealing {
    /// In a few words, for the audit log.
    pub(crate) fn described(&self) -> String {
        match self {
            Self::Recipients(all) => all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            Self::Passphrase(_) => "a passphrase".to_owned(),
        }
    }

    /// Seals what is written until `finish`.
    pub(crate) fn wrap<W: Write>(&self, output: W) -> Result<StreamWriter<W>, Failure> {
        let encryptor = match self {
            Self::Recipients(all) => Encryptor::with_recipients(all.iter().map(|one| one as &dyn age::Recipient)),
            Self::Passphrase(passphrase) => Ok(Encryptor::with_user_passphrase(as_age(passphrase))),
        };
        let encryptor =
            encryptor.map_err(|error| Failure::usage("nobody could open such a backup").caused_by(&error))?;
        encryptor.wrap_output(output).map_err(|error| unwritten(&error))
    }
}

impl Opening {
    /// Opens the file; what is read is authentic as far as it was read, and whole once it ended.
    pub(crate) fn open(&self, file: File) -> Result<StreamReader<BufReader<File>>, Failure> {
        let decryptor = Decryptor::new_buffered(BufReader::new(file)).map_err(|error| not_opened(&error))?;
        let by_passphrase = decryptor.is_scrypt();
        match self {
            Self::Identities(_) if by_passphrase => Err(wrong_key("the backup is sealed with a passphrase")
                .hint("leave --identity out, or use --passphrase-file")),
            Self::Passphrase(_) if !by_passphrase => Err(wrong_key("the backup is sealed for recipients")
                .hint("give the file with the secret key as --identity")),
            Self::Identities(all) => {
                let opened = decryptor.decrypt(all.iter().map(|one| one as &dyn age::Identity));
                opened.map_err(|error| not_opened(&error))
            }
            Self::Passphrase(passphrase) => {
                let mut identity = scrypt::Identity::new(as_age(passphrase));
                identity.set_max_work_factor(WORK_MAX);
                decryptor.decrypt(std::iter::once(&identity as &dyn age::Identity)).map_err(|error| not_opened(&error))
            }
        }
    }
}

fn as_age(passphrase: &SecretString) -> AgeSecret {
    AgeSecret::from(passphrase.expose().to_owned())
}

fn unwritten(error: &io::Error) -> Failure {
    Failure::new(Code::STATE_UNAVAILABLE, "the backup cannot be written").caused_by(error)
}

fn wrong_key(told: &str) -> Failure {
    Failure::new(Code::STORE_WRONG_KEY, told)
}

fn not_opened(error: &DecryptError) -> Failure {
    match error {
        DecryptError::NoMatchingKeys | DecryptError::KeyDecryptionFailed | DecryptError::DecryptionFailed => {
            wrong_key("the key does not open the backup").hint("it is the key of the backup, not the store's key")
        }
        other => Failure::new(Code::BACKUP_INVALID, "the file is not a backup, or was changed").caused_by(other),
    }
}

/// A recipient as a person writes it: `age1...`.
pub(crate) fn parse_recipient(text: &str) -> Result<x25519::Recipient, String> {
    text.parse().map_err(|why: &str| format!("{why}; a recipient is age1..., as `age-keygen` prints it"))
}

/// The secret keys of a file as `age-keygen` writes it. Refused when others may read it.
pub(crate) fn read_identities(path: &Path) -> Result<Vec<x25519::Identity>, Failure> {
    let text = read_private(path)?;
    let mut all = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let identity = line.parse::<x25519::Identity>().map_err(|_| {
            Failure::usage(format!("line {} of {} is not an age secret key", number + 1, path.display()))
                .hint("keys of hardware tokens and ssh keys: open the backup with age, see docs/guide/backup.md")
        })?;
        all.push(identity);
    }
    if all.is_empty() {
        return Err(Failure::usage(format!("{} has no age secret key", path.display())));
    }
    Ok(all)
}

/// The one line of a passphrase file, or of standard input for `-`.
pub(crate) fn read_passphrase(path: &Path) -> Result<SecretString, Failure> {
    let text =
        if path == Path::new("-") { read_limited(io::stdin().lock(), "standard input")? } else { read_private(path)? };
    let line = text.trim_end_matches(['\r', '\n']);
    if line.contains(['\r', '\n']) {
        return Err(Failure::usage("the passphrase is not exactly one line"));
    }
    Ok(SecretString::copied(line))
}

/// Refuses what is too easy to guess.
pub(crate) fn check_strength(passphrase: &SecretString) -> Result<(), Failure> {
    if passphrase.expose().chars().count() < PASSPHRASE_MIN {
        return Err(Failure::usage(format!("the passphrase has fewer than {PASSPHRASE_MIN} characters"))
            .hint("whoever has the backup can try passphrases at leisure; better: --recipient age1..."));
    }
    Ok(())
}

fn read_private(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let name = path.display().to_string();
    let cannot = |error: io::Error| Failure::usage(format!("cannot read {name}")).caused_by(&error);
    let file = File::open(path).map_err(cannot)?;
    let mode = file.metadata().map_err(cannot)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let told = format!("{name} is open to others (mode {mode:03o})");
        return Err(Failure::usage(told).hint(format!("chmod 600 {name}")));
    }
    read_limited(file, &name)
}

fn read_limited(source: impl Read, name: &str) -> Result<Zeroizing<String>, Failure> {
    // Reserved up front: a buffer that grows leaves unwiped copies behind.
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(KEY_FILE_MAX).unwrap_or(0) + 1));
    let read = source.take(KEY_FILE_MAX + 1).read_to_string(&mut text);
    read.map_err(|error| Failure::usage(format!("cannot read {name}")).caused_by(&error))?;
    if text.len() as u64 > KEY_FILE_MAX {
        return Err(Failure::usage(format!("{name} is larger than {KEY_FILE_MAX} bytes")));
    }
    Ok(text)
}
