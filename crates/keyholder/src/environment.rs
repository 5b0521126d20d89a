//! What the process's environment tells, read once.
//!
//! Invariant: a variable that holds a secret leaves as a secret type and is never stored here twice.

use std::{collections::HashMap, ffi::OsString, io::IsTerminal, path::PathBuf};

use kh_core::SecretString;

/// Variables, terminals and the working folder, as they were at the start.
#[derive(Clone)]
pub struct Environment {
    variables: HashMap<String, OsString>,
    /// Whether standard output is a terminal.
    pub stdout_is_terminal: bool,
    /// Whether standard error is a terminal.
    pub stderr_is_terminal: bool,
    /// Whether standard input is a terminal.
    pub stdin_is_terminal: bool,
    /// The working folder.
    pub folder: PathBuf,
}

impl Environment {
    /// The environment of this process.
    pub fn of_process() -> Self {
        let variables =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))).collect();
        Self {
            variables,
            stdout_is_terminal: std::io::stdout().is_terminal(),
            stderr_is_terminal: std::io::stderr().is_terminal(),
            stdin_is_terminal: std::io::stdin().is_terminal(),
            folder: std::env::current_dir().unwrap_or_else(|_| PathBuf::from(".")),
        }
    }

    /// An environment of these variables, without terminals.
    #[cfg(test)]
    pub(crate) fn of_pairs(pairs: &[(&str, &str)]) -> Self {
        let variables = pairs.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))).collect();
        Self {
            variables,
            stdout_is_terminal: false,
            stderr_is_terminal: false,
            stdin_is_terminal: false,
            folder: PathBuf::from("."),
        }
    }

    /// A variable as text; empty ones count as absent.
    pub fn text(&self, name: &str) -> Option<String> {
        let value = self.variables.get(name)?.clone().into_string().ok()?;
        (!value.is_empty()).then_some(value)
    }

    /// A variable as a path; empty ones count as absent.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        let value = self.variables.get(name)?;
        (!value.is_empty()).then(|| PathBuf::from(value))
    }

    /// A variable that holds a secret.
    pub fn secret(&self, name: &str) -> Option<SecretString> {
        self.text(name).map(SecretString::new)
    }

    /// Whether colours are wanted on a stream (<https://no-color.org>).
    pub fn colors(&self, is_terminal: bool) -> bool {
        is_terminal && self.text("NO_COLOR").is_none() && self.text("TERM").as_deref() != Some("dumb")
    }

    /// An XDG base folder: the variable, else the default below the home folder.
    pub fn xdg(&self, variable: &str, below_home: &str) -> Option<PathBuf> {
        let set = self.path(variable).filter(|path| path.is_absolute());
        set.or_else(|| self.path("HOME").map(|home| home.join(below_home)))
    }

    /// Who runs keyholder, for the audit log.
    pub fn actor(&self) -> String {
        let named = self.text("SUDO_USER").or_else(|| self.text("USER")).or_else(|| self.text("LOGNAME"));
        let who = named.unwrap_or_else(|| format!("uid-{}", rustix::process::getuid().as_raw()));
        let printable: String = who.chars().filter(|letter| !letter.is_control()).take(64).collect();
        format!("cli:{printable}")
    }
}

impl std::fmt::Debug for Environment {
    /// Names only: values may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment").field("variables", &self.variables.len()).finish_non_exhaustive()
    }
}
