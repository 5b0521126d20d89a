//! Everything that left a process, to be searched at the end.
//!
//! Invariant: what may be told (a secret in the one answer that exists to tell it) is cut out of that one answer and of
//! nothing else.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::forms::{FORMS, Found, Marked, Searcher};

/// Named bytes that must hold no secret, and the secrets.
#[derive(Default)]
pub struct Evidence {
    items: Vec<(String, Vec<u8>)>,
    secrets: Vec<Marked>,
}

impl Evidence {
    /// From now on nothing may tell `secret`.
    pub fn secret(&mut self, name: &str, secret: impl AsRef<[u8]>) {
        let bytes = secret.as_ref().to_vec();
        if bytes.len() >= super::forms::PIECE && !self.secrets.iter().any(|known| known.bytes == bytes) {
            self.secrets.push(Marked { name: name.to_owned(), bytes });
        }
    }

    pub fn secrets(&self) -> &[Marked] {
        &self.secrets
    }

    /// Something that a process said.
    pub fn add(&mut self, name: &str, bytes: impl AsRef<[u8]>) {
        self.items.push((name.to_owned(), bytes.as_ref().to_vec()));
    }

    /// An answer that exists to tell `told` and may tell nothing else.
    pub fn add_telling(&mut self, name: &str, bytes: impl AsRef<[u8]>, told: &[&str]) {
        let text = String::from_utf8_lossy(bytes.as_ref()).into_owned();
        let cut = told.iter().filter(|told| !told.is_empty()).fold(text, |text, told| text.replace(told, "(told)"));
        self.items.push((name.to_owned(), cut.into_bytes()));
    }

    /// Every file below `folder`; `told` names files that exist to hold one secret.
    pub fn add_files(&mut self, folder: &Path, told: &[(PathBuf, String)]) -> usize {
        let mut count = 0;
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                count += self.add_files(&path, told);
                continue;
            }
            // A WAL or a draft may go while the process works.
            let Ok(bytes) = fs::read(&path) else { continue };
            let name = format!("the file {}", path.display());
            match told.iter().find(|(known, _)| *known == path) {
                Some((_, secret)) => self.add_telling(&name, bytes, &[secret]),
                None => self.add(&name, bytes),
            }
            // A name can tell as much as a content.
            self.add("a file name", path.file_name().unwrap().as_encoded_bytes());
            count += 1;
        }
        count
    }

    /// What `/proc` shows of a process to whoever may look.
    pub fn add_process(&mut self, name: &str, pid: u32) {
        for file in ["environ", "cmdline"] {
            // Without root, the kernel refuses even its owner to read the environment of a process like this.
            if let Ok(bytes) = fs::read(format!("/proc/{pid}/{file}")) {
                self.add(&format!("/proc/PID/{file} of {name}"), bytes);
            }
        }
    }

    pub fn bytes(&self) -> usize {
        self.items.iter().map(|(_, bytes)| bytes.len()).sum()
    }

    /// Every secret would be found in every form, wherever it begins in a group of base64; answers how many such leaks
    /// were tried.
    pub fn control(&self) -> usize {
        let searcher = Searcher::new(&self.secrets);
        let mut planted = 0;
        for secret in &self.secrets {
            for form in FORMS {
                for before in [b"".as_slice(), b"x", b"xy"] {
                    let told = form.write(&[before, &secret.bytes, before].concat());
                    let found = searcher.search(&[b"INFO a line tells ", told.as_slice(), b" of it"].concat());
                    assert!(!found.is_empty(), "{} as {form:?} would not be found", secret.name);
                    planted += 1;
                }
            }
        }
        planted
    }

    /// Every leak, as a line to read.
    pub fn leaks(&self) -> Vec<String> {
        let searcher = Searcher::new(&self.secrets);
        let mut all = Vec::new();
        for (name, bytes) in &self.items {
            for Found { secret, form, at } in searcher.search(bytes) {
                all.push(format!("{name} tells {secret} as {form:?} near {:?}", around(bytes, at)));
            }
        }
        all.sort();
        all.dedup();
        all
    }
}

/// What stands before a finding, so that the line of code can be found and the secret not read.
fn around(bytes: &[u8], at: usize) -> String {
    let start = at.saturating_sub(160);
    String::from_utf8_lossy(&bytes[start..at]).into_owned()
}
