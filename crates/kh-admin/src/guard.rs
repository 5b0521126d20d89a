//! The guard token: who may ask this listener. It lives in a 0600 file, so that being able to read the file is the
//! permission.
//!
//! Invariants: only the token's digest stays in memory, and digests are compared in constant time; the file appears
//! complete or not at all, and one that others can read is refused.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use kh_core::{
    Entropy, SecretString, Sha256,
    issued::{ISSUED_LEN, IssuedKind, is_well_formed, issue},
};
use zeroize::Zeroizing;

/// The guard's own header.
pub const GUARD_HEADER: HeaderName = HeaderName::from_static("x-keyholder-token");

/// The same under the name that callers of AWS's parameters and secrets extension already send.
pub const GUARD_ALIAS: HeaderName = HeaderName::from_static("x-aws-parameters-secrets-token");

/// Why a guard token file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// It cannot be read or written.
    #[error("the guard token file {path:?} cannot be {action}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried: "read", "written".
        action: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Others than its owner can read or write it.
    #[error("the guard token file {path:?} has mode {mode:03o}; it must be readable by its owner only (600)")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It does not hold one guard token.
    #[error("the file {path:?} does not hold a guard token (khg_...)")]
    NotAToken {
        /// The file.
        path: PathBuf,
    },
}

/// What a request shows in the guard's own headers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shown {
    /// Neither header.
    Nothing,
    /// The token, once.
    Token,
    /// Something else, or the token more than once.
    Wrong,
}

/// Knows one guard token by its digest.
#[derive(Clone, Debug)]
pub struct Guard(Sha256);

impl Guard {
    /// The guard of `token`.
    pub fn new(token: &SecretString) -> Self {
        Self(token.sha256())
    }

    /// Uses the token in `path`, or creates the file with a new one. Two processes that start at once end up with the
    /// same token.
    pub fn load_or_create(path: &Path, entropy: &dyn Entropy) -> Result<Self, GuardError> {
        if path.exists() {
            return Self::load(path);
        }
        let written = |source| GuardError::Io { path: path.to_owned(), action: "written", source };
        let token = issue(IssuedKind::Guard, entropy);
        let staged = stage(path, &token, entropy).map_err(written)?;
        // Unlike a rename, a link never replaces what another process put there meanwhile.
        let linked = fs::hard_link(&staged, path);
        fs::remove_file(&staged).map_err(written)?;
        match linked {
            Ok(()) => sync_folder(path).map_err(written)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Self::load(path),
            Err(error) => return Err(written(error)),
        }
        Ok(Self::new(&token))
    }

    /// Puts a new token into `path`, replacing an old one.
    pub fn replace(path: &Path, entropy: &dyn Entropy) -> Result<Self, GuardError> {
        let written = |source| GuardError::Io { path: path.to_owned(), action: "written", source };
        let token = issue(IssuedKind::Guard, entropy);
        let staged = stage(path, &token, entropy).map_err(written)?;
        fs::rename(&staged, path).map_err(written)?;
        sync_folder(path).map_err(written)?;
        Ok(Self::new(&token))
    }

    /// The guard of the token in `path`.
    pub fn load(path: &Path) -> Result<Self, GuardError> {
        read_token(path).map(|token| Self::new(&token))
    }

    /// What the request shows as [`GUARD_HEADER`] or [`GUARD_ALIAS`].
    pub fn shown(&self, headers: &HeaderMap) -> Shown {
        let mut values = headers.get_all(GUARD_HEADER).into_iter().chain(headers.get_all(GUARD_ALIAS));
        match (values.next(), values.next()) {
            (None, _) => Shown::Nothing,
            (Some(only), None) if self.knows(only.as_bytes()) => Shown::Token,
            (Some(_), _) => Shown::Wrong,
        }
    }

    /// Whether the request holds the token exactly once, as [`GUARD_HEADER`] or [`GUARD_ALIAS`].
    pub fn accepts(&self, headers: &HeaderMap) -> bool {
        self.shown(headers) == Shown::Token
    }

    /// As [`Guard::accepts`], or as one `Authorization: Bearer` instead of the guard headers.
    pub fn accepts_bearer(&self, headers: &HeaderMap) -> bool {
        matches!(presented(headers), Presented::Token(digest) if self.0.ct_eq(&digest))
    }

    /// The token's digest.
    pub fn digest(&self) -> Sha256 {
        self.0
    }

    fn knows(&self, presented: &[u8]) -> bool {
        self.0.ct_eq(&Sha256::of(presented))
    }
}

/// The token that a request shows, as `Authorization: Bearer` or in one of the guard's own headers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Presented {
    /// None.
    Nothing,
    /// Exactly one, told by its digest.
    Token(Sha256),
    /// More than one, or something that is no token.
    Ambiguous,
}

/// What `headers` show.
pub(crate) fn presented(headers: &HeaderMap) -> Presented {
    let mut all = headers.get_all(header::AUTHORIZATION).into_iter().map(bearer);
    let mut own = headers.get_all(GUARD_HEADER).into_iter().chain(headers.get_all(GUARD_ALIAS));
    match (all.next(), all.next(), own.next(), own.next()) {
        (None, _, None, _) => Presented::Nothing,
        (Some(Some(token)), None, None, _) => Presented::Token(Sha256::of(token)),
        (None, _, Some(token), None) => Presented::Token(Sha256::of(token.as_bytes())),
        _ => Presented::Ambiguous,
    }
}

/// The token of a bearer header; the scheme's case does not matter (RFC 9110 section 11.1).
fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = value.as_bytes().split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
}

/// Reads a guard token file, as a caller of the broker does. One trailing newline is allowed.
pub fn read_token(path: &Path) -> Result<SecretString, GuardError> {
    let read = |source| GuardError::Io { path: path.to_owned(), action: "read", source };
    let file = File::open(path).map_err(read)?;
    let metadata = file.metadata().map_err(read)?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(GuardError::Exposed { path: path.to_owned(), mode });
    }
    let mut text = Zeroizing::new(String::with_capacity(2 * ISSUED_LEN));
    let limit = ISSUED_LEN as u64 + 2;
    let not_a_token = || GuardError::NotAToken { path: path.to_owned() };
    file.take(limit).read_to_string(&mut text).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => not_a_token(),
        _ => read(error),
    })?;
    let token = text.strip_suffix('\n').unwrap_or(&text);
    if !is_well_formed(IssuedKind::Guard, token) {
        return Err(not_a_token());
    }
    Ok(SecretString::copied(token))
}

/// Writes `token` to a new 0600 file beside `path` and makes it durable.
fn stage(path: &Path, token: &SecretString, entropy: &dyn Entropy) -> io::Result<PathBuf> {
    let mut tag = [0; 8];
    entropy.fill(&mut tag);
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(format!(".{:016x}.new", u64::from_le_bytes(tag)));
    let staged = path.with_file_name(name);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&staged)?;
    let written = file.write_all(token.expose().as_bytes()).and_then(|()| file.sync_all());
    if let Err(error) = written {
        // The first error is the one to tell; a left-over file holds no token in use.
        drop(fs::remove_file(&staged));
        return Err(error);
    }
    Ok(staged)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests;
