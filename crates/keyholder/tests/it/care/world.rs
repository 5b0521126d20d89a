//! An installation without a platform, its backups, and the keys that open them.

#![allow(unreachable_pub, reason = "a toolbox within one test binary")]

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use kh_core::Sha256;
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{BARE_CONFIG, Said, keyholder, run, text};

/// A document for `secret set`.
pub const DOCUMENT: &[u8] = br#"{"client_id":"id","client_secret":"an-old-secret"}"#;

/// Everything in a folder of its own.
pub struct World {
    folder: TempDir,
    /// Whom backups are sealed for.
    pub recipient: String,
}

impl World {
    /// A configuration, a key for backups, and nothing else.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("keyholder.toml"), BARE_CONFIG).unwrap();
        let identity = age::x25519::Identity::generate();
        let world = Self { folder, recipient: identity.to_public().to_string() };
        let secret = age::secrecy::ExposeSecret::expose_secret(&identity.to_string()).to_owned();
        write_private(&world.identity(), format!("# a test\n{secret}\n").as_bytes());
        world
    }

    /// The same with an installation in `state` that has some of everything.
    pub fn furnished() -> Self {
        let world = Self::new();
        for name in ["one", "two", "three"] {
            world.said("state", &["secret", "set", name], DOCUMENT).done();
            world.said("state", &["client", "add", &format!("client-{name}"), "--allow-all"], b"").done();
        }
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn identity(&self) -> PathBuf {
        self.path("identity.txt")
    }

    /// A command on the state folder `state`.
    pub fn command(&self, state: &str, words: &[&str]) -> Command {
        let mut command = keyholder();
        command.arg("--config").arg(self.path("keyholder.toml")).arg("--state").arg(self.path(state));
        command.args(["--output", "json"]).args(words);
        command
    }

    pub fn said(&self, state: &str, words: &[&str], input: &[u8]) -> Said {
        run(&mut self.command(state, words), input)
    }

    /// Takes a backup of `state` for the recipient; answers its file.
    pub fn backup(&self, state: &str, name: &str) -> PathBuf {
        let file = self.path(name);
        self.said(state, &["store", "backup", file.to_str().unwrap(), "--recipient", &self.recipient], b"").done();
        file
    }

    /// The words of a restore of `file`.
    pub fn restore<'a>(file: &'a Path, more: &[&'a str], identity: &'a Path) -> Vec<&'a str> {
        let words = ["store", "restore", file.to_str().unwrap(), "--identity", identity.to_str().unwrap()];
        [&words[..], more].concat()
    }

    pub fn client_names(&self, state: &str) -> Vec<String> {
        let answer = self.said(state, &["client", "list"], b"").json();
        answer["clients"].as_array().unwrap().iter().map(|client| text(client, "name").to_owned()).collect()
    }

    /// Asserts that everything in `state` is sound, by both commands.
    pub fn is_sound(&self, state: &str) -> Value {
        let seen = self.said(state, &["store", "check"], b"").json();
        assert_eq!(seen["sound"], true, "{seen}");
        self.said(state, &["audit", "verify"], b"").done();
        seen
    }
}

pub fn write_private(path: &Path, content: &[u8]) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// The problem that a command told on its last line.
pub fn problem(said: &Said) -> Value {
    let line = said.err.lines().last().unwrap_or_default();
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {said:?}"))
}

#[track_caller]
pub fn refused(said: &Said, exit: i32, code: &str) -> Value {
    assert_eq!(said.code, Some(exit), "{said:?}");
    let problem = problem(said);
    assert_eq!(text(&problem, "code"), code, "{problem}");
    assert!(problem["hints"].as_array().is_some_and(|hints| !hints.is_empty()), "no hint: {problem}");
    problem
}

/// Digests of the files of a folder that last, by name.
pub fn digests(folder: &Path) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        let passing = ["-shm", ".lock"].iter().any(|end| name.ends_with(end));
        let empty = entry.metadata().unwrap().len() == 0;
        if entry.file_type().unwrap().is_file() && !passing && !empty {
            all.insert(name, Sha256::of(&fs::read(entry.path()).unwrap()).to_hex());
        }
    }
    all
}

/// Copies the files of a folder into a new private one.
pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// The members of a sealed archive, by another reader than the program's.
pub fn opened(world: &World, file: &Path) -> Vec<(String, Vec<u8>)> {
    let listed = fs::read_to_string(world.identity()).unwrap();
    let identity: age::x25519::Identity = listed.lines().find(|line| !line.starts_with('#')).unwrap().parse().unwrap();
    let plain = age::decrypt(&identity, &fs::read(file).unwrap()).unwrap();
    let mut archive = tar::Archive::new(plain.as_slice());
    let members = archive.entries().unwrap().map(|member| {
        let mut member = member.unwrap();
        let mut content = Vec::new();
        member.read_to_end(&mut content).unwrap();
        (member.path().unwrap().display().to_string(), content)
    });
    members.collect()
}

/// Seals members as the program would, right or wrong.
pub fn sealed(world: &World, file: &Path, members: &[(String, Vec<u8>)]) {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        // names that a well-meant library refuses are written as an attacker would
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        tar.append(&header, content.as_slice()).unwrap();
    }
    let plain = tar.into_inner().unwrap();
    let recipient: age::x25519::Recipient = world.recipient.parse().unwrap();
    fs::write(file, age::encrypt(&recipient, &plain).unwrap()).unwrap();
}
