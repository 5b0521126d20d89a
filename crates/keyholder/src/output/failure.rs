//! What a command ends with when it does not end well: an exit code, a problem and hints.
//!
//! Invariant: the exit code follows from the problem's code, so that scripts can rely on either.

use std::{error::Error, process::ExitCode};

use kh_core::{
    Code, Problem,
    port::{AuditError, StateError, StoreError},
};
use kh_issuer::{IssuerError, SigningError};
use kh_store::KeyError;
use serde_json::Value;

use super::Style;
use crate::config::{self, Mistakes, mask::mask_words};

/// Longest chain of causes that is told.
const CAUSES_MAX: usize = 8;

/// The exit codes of every command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// Done.
    Done,
    /// The answer is no.
    No,
    /// Usage or configuration.
    Usage,
    /// Not finished: something is not reachable or not there yet.
    Unfinished,
    /// A person has to decide.
    Operator,
    /// A bug of ours.
    Bug,
    /// What the child of `exec` ended with.
    Child(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::No => 1,
            Exit::Usage => 2,
            Exit::Unfinished => 3,
            Exit::Operator => 4,
            Exit::Bug => 70,
            Exit::Child(code) => code,
        })
    }
}

/// A command that did not end well.
#[derive(Debug)]
pub struct Failure {
    problem: Box<Problem>,
    causes: Vec<String>,
    /// A report that stands before the error line: the mistakes of a configuration.
    report: Option<String>,
    /// The same for a program, and other facts by their names.
    extra: Vec<(&'static str, Value)>,
    exit: Option<Exit>,
    /// Whether words that look like secrets are masked; see [`Failure::of_public_facts`].
    masked: bool,
}

impl Failure {
    /// A failure of `code`; `detail` is a lower-case fragment.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let problem = Box::new(Problem::new(code, detail.into()));
        Self { problem, causes: Vec::new(), report: None, extra: Vec::new(), exit: None, masked: true }
    }

    /// The command line is wrong.
    pub fn usage(detail: impl Into<String>) -> Self {
        Self::new(Code::USAGE, detail)
    }

    /// A bug of ours.
    pub fn bug(detail: impl Into<String>) -> Self {
        Self::new(Code::INTERNAL, detail).hint("please report this with the command and its output")
    }

    /// The answer did not get out.
    pub fn unwritten(error: &std::io::Error) -> Self {
        Self::new(Code::STATE_UNAVAILABLE, "the answer could not be written")
            .caused_by(error)
            .hint("what the command does is done; standard output takes nothing: a full disk?")
    }

    /// With one more hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.problem.hints.push(hint.into().into());
        self
    }

    /// With an exit code that its problem's code does not imply.
    pub fn exiting(mut self, exit: Exit) -> Self {
        self.exit = Some(exit);
        self
    }

    /// A failure whose words are public by nature, such as the public keys of an audit finding: nothing is masked.
    pub fn of_public_facts(code: Code, detail: impl Into<String>) -> Self {
        Self { masked: false, ..Self::new(code, detail) }
    }

    /// With `error` and its sources as causes.
    pub fn caused_by(mut self, error: &dyn Error) -> Self {
        let mut next = Some(error);
        while let Some(cause) = next.filter(|_| self.causes.len() < CAUSES_MAX) {
            let text = cause.to_string();
            if self.causes.last() != Some(&text) && self.problem.detail != text {
                self.causes.push(text);
            }
            next = cause.source();
        }
        self
    }

    /// A failure that says what `error` says, with its sources as causes.
    pub fn of(code: Code, error: &dyn Error) -> Self {
        let failure = Self::new(code, error.to_string());
        match error.source() {
            Some(source) => failure.caused_by(source),
            None => failure,
        }
    }

    /// The mistakes of the configuration `file`.
    pub fn mistakes(file: &str, mistakes: &Mistakes, color: bool) -> Self {
        let mut failure = Self::new(Code::CONFIG_INVALID, mistakes.to_string());
        failure.report = Some(config::render(file, mistakes, color));
        let listed = mistakes.all.iter().map(|mistake| {
            let mut value = serde_json::to_value(mistake).unwrap_or_default();
            if let Some(object) = value.as_object_mut() {
                object.insert("file".to_owned(), file.into());
            }
            value
        });
        let listed = Value::Array(listed.collect());
        failure.extra.push(("mistakes", listed));
        failure.problem.detail = format!("{file}: {mistakes}").into();
        failure
    }

    /// With further facts for a program, beside those that it has.
    pub fn with(mut self, name: &'static str, value: Value) -> Self {
        self.extra.push((name, value));
        self
    }

    /// Its stable code.
    pub fn code(&self) -> Code {
        self.problem.code
    }

    /// What happened.
    pub fn detail(&self) -> &str {
        &self.problem.detail
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        self.exit.unwrap_or_else(|| exit_of(self.problem.code))
    }

    /// For a person: `error:`, `caused by:` and `hint:` lines. A secret that stood where a name belongs is masked in
    /// all of them.
    pub fn to_text(&self, style: Style) -> String {
        let told = |prefix: String, text: &str| {
            let text = if self.masked { mask_words(text) } else { text.to_owned() };
            format!("{prefix} {text}\n")
        };
        let mut lines = vec![told(style.red("error:"), &self.problem.detail)];
        lines.extend(self.causes.iter().map(|cause| told(style.bold("caused by:"), cause)));
        lines.extend(self.problem.hints.iter().map(|hint| told(style.cyan("hint:"), hint)));
        if is_worth_a_page(self.problem.code) {
            lines.push(told(style.cyan("hint:"), &format!("keyholder explain {}", self.problem.code.short())));
        }
        self.report.clone().unwrap_or_default() + &lines.concat()
    }

    /// For a log: what happened, why, and what to try, in one line.
    pub fn in_one_line(&self) -> String {
        let parts = [self.problem.detail.as_ref()].into_iter().chain(self.causes.iter().map(String::as_str));
        let text = parts.chain(self.problem.hints.iter().map(AsRef::as_ref)).collect::<Vec<_>>().join("; ");
        let text = text.replace(char::is_control, " ");
        if self.masked { mask_words(&text) } else { text }
    }

    /// For a log: the mistakes of a configuration, if that is what it is about, in one line.
    pub fn mistakes_in_one_line(&self) -> Option<String> {
        let (_, mistakes) = self.extra.iter().find(|(name, _)| *name == "mistakes")?;
        let mistakes = mistakes.as_array()?;
        let one = |mistake: &Value| {
            let text = mistake.get("message").and_then(Value::as_str).unwrap_or_default();
            let line = mistake.get("line").and_then(Value::as_u64).unwrap_or_default();
            format!("line {line}: {text}").replace(char::is_control, " ")
        };
        Some(mistakes.iter().map(one).collect::<Vec<_>>().join("; "))
    }

    /// For a program: one problem object.
    pub fn to_json(&self) -> String {
        self.to_value().to_string()
    }

    /// The same as a value.
    pub fn to_value(&self) -> Value {
        let mut value = serde_json::to_value(&*self.problem).unwrap_or_default();
        if let Some(object) = value.as_object_mut() {
            if !self.causes.is_empty() {
                object.insert("causes".to_owned(), self.causes.clone().into());
            }
            for name in ["detail", "hints", "causes"].into_iter().filter(|_| self.masked) {
                object.entry(name).and_modify(mask_texts);
            }
            let extra = self.extra.iter().map(|(name, extra)| ((*name).to_owned(), extra.clone()));
            object.extend(extra);
        }
        value
    }
}

/// Whether the code's page says more than the error itself: not where the message and its hints are all there is to do.
fn is_worth_a_page(code: Code) -> bool {
    !matches!(
        code,
        Code::USAGE
            | Code::CONFIG_INVALID
            | Code::NOT_FOUND
            | Code::STORE_CONFLICT
            | Code::STORY_FAILED
            | Code::INTERNAL
    )
}

/// Masks a text, or every text of a list.
fn mask_texts(value: &mut Value) {
    match value {
        Value::String(text) => *text = mask_words(text),
        Value::Array(items) => items.iter_mut().for_each(mask_texts),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {}
    }
}

fn exit_of(code: Code) -> Exit {
    match code {
        Code::USAGE
        | Code::CONFIG_INVALID
        | Code::ROTATION_UNSUPPORTED
        | Code::STORE_WRONG_KEY
        | Code::REQUEST_TOO_LARGE => Exit::Usage,
        Code::STORE_TAMPERED
        | Code::STORE_TRUNCATED
        | Code::STORE_TOO_NEW
        | Code::STATE_DAMAGED
        | Code::RESTORE_UNFINISHED
        | Code::ROTATION_NEEDS_OPERATOR
        | Code::ROTATION_UNKNOWN_OUTCOME => Exit::Operator,
        Code::STATE_IN_USE
        | Code::STORE_UNAVAILABLE
        | Code::STATE_UNAVAILABLE
        | Code::UPSTREAM_UNREACHABLE
        | Code::UPSTREAM_TIMEOUT
        | Code::TOKEN_UNAVAILABLE
        | Code::TOKEN_RATE_LIMITED
        | Code::OVERLOADED
        | Code::ROTATION_PLATFORM
        | Code::ROTATION_FENCED
        | Code::ROTATION_HELD
        | Code::ROTATION_UNFINISHED => Exit::Unfinished,
        Code::INTERNAL => Exit::Bug,
        _ => Exit::No,
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let failure = Self::of(error.code(), &error);
        match error {
            StoreError::NotFound(_) => failure.hint("`keyholder secret list` shows the names"),
            StoreError::Conflict { found: 0, .. } => failure.hint("it does not exist yet: use --expect-version absent"),
            StoreError::Conflict { found, .. } => {
                failure.hint(format!("look at it, then use --expect-version {found}"))
            }
            StoreError::WrongKey => {
                failure.hint("see [store] in keyholder.toml: key_file, key_env, passphrase_file or passphrase_env")
            }
            StoreError::Tampered(_) | StoreError::Truncated(_) => {
                failure.hint("nothing was written; restore the store from a backup, or find out who changed it")
            }
            StoreError::TooNew { .. } => failure.hint("use the keyholder that wrote it, or a newer one"),
            StoreError::Unavailable { .. } => {
                failure.hint("check the state folder: disk full, read-only, or not yours?")
            }
            StoreError::TooLarge { .. } => failure,
        }
    }
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        let failure = Self::of(error.code(), &error);
        match error {
            StateError::NoSuchClient(_) => failure.hint("`keyholder client list` shows the names"),
            StateError::NameTaken(_) => failure.hint("choose another name, or remove that client first"),
            StateError::TooNew { .. } => failure.hint("use the keyholder that wrote it, or a newer one"),
            StateError::Unavailable { .. } => {
                failure.hint("check the state folder: disk full, read-only, or not yours?")
            }
            StateError::Damaged(_) => {
                failure.hint("nothing was written; restore the file from a backup, or find out who changed it")
            }
            StateError::Changed(_) => {
                failure.hint("somebody else changed it at the same time; look at it and try again")
            }
        }
    }
}

impl From<IssuerError> for Failure {
    fn from(error: IssuerError) -> Self {
        match error {
            IssuerError::State(error) => error.into(),
            IssuerError::NoSuchClient(_) => {
                Self::of(Code::NOT_FOUND, &error).hint("`keyholder client list` shows the names")
            }
            IssuerError::Environment(_) => Self::of(Code::ENVIRONMENT_REFUSED, &error)
                .exiting(Exit::Usage)
                .hint("the environment of a credential stands in its section of keyholder.toml"),
            IssuerError::Allow(_) => Self::of(Code::USAGE, &error).hint("write rules like 'GET /api/v2/users/**'"),
            IssuerError::Invalid(_) => Self::of(Code::USAGE, &error),
        }
    }
}

impl From<SigningError> for Failure {
    fn from(error: SigningError) -> Self {
        match error {
            SigningError::Store(error) => error.into(),
            SigningError::Refused => Self::of(error.code(), &error)
                .hint("`keyholder signing-key list` shows them; `--now` lets the waiting key sign at once"),
            SigningError::Damaged(_) | SigningError::NoKey | SigningError::Key => Self::of(error.code(), &error),
        }
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        Self::of(Code::STORE_WRONG_KEY, &error)
            .hint("see [store] in keyholder.toml, and your copy of the key; without it the store stays shut")
    }
}

impl From<AuditError> for Failure {
    fn from(error: AuditError) -> Self {
        match &error {
            AuditError::Unavailable(_) => Self::of(Code::STATE_UNAVAILABLE, &error)
                .hint("check the folder of the audit log: disk full, read-only, or not yours?"),
            AuditError::Broken(_) => Self::of(Code::AUDIT_BROKEN, &error)
                .hint("`keyholder audit verify` says more; nothing is appended to a log that does not verify"),
        }
    }
}
