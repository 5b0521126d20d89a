//! Questions and their answers: from a flag, else from the person at the terminal, else the default.
//!
//! Invariants: a flag is never asked for again; a bad answer is asked again with the reason, a bad flag is a failure;
//! without a terminal nothing is asked, and everything that is missing is told at once.

use std::io::{BufRead, Read};

use kh_core::SecretString;

use crate::{
    cli::{Context, secret::input},
    output::{Exit, Failure},
};

/// Bad answers to one question before the command gives up: whoever pipes nonsense in must not loop for ever.
const TRIES: usize = 8;

/// Longest answer read, in bytes; an address has at most 2,048.
const ANSWER_MAX: u64 = 4096;

/// One question.
pub(super) struct Question<'a> {
    /// The flag that answers it, such as `--region`.
    pub(super) flag: &'static str,
    /// What is asked.
    pub(super) text: &'a str,
    /// What Enter means.
    pub(super) default: Option<&'a str>,
}

/// Asks, or doesn't.
pub(super) struct Dialogue<'a> {
    context: &'a Context,
    asks: bool,
    missing: Vec<&'static str>,
}

impl<'a> Dialogue<'a> {
    /// Asks only where `wanted` and a person is there to answer.
    pub(super) fn new(context: &'a Context, wanted: bool) -> Self {
        Self { context, asks: wanted && context.environment.stdin_is_terminal, missing: Vec::new() }
    }

    /// Whether a person answers.
    pub(super) fn asks(&self) -> bool {
        self.asks
    }

    /// Says something between the questions.
    pub(super) fn say(&self, text: &str) {
        if self.asks {
            self.context.terminal.note(text);
        }
    }

    /// The answer. `None` only if it is missing, which [`Self::complete`] tells.
    pub(super) fn value<T>(
        &mut self,
        given: Option<&str>,
        question: &Question<'_>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Failure> {
        let flag = question.flag;
        if let Some(given) = given {
            return parse(given).map(Some).map_err(|error| Failure::usage(format!("{flag}: {error}")));
        }
        if !self.asks {
            let Some(default) = question.default else {
                self.missing.push(flag);
                return Ok(None);
            };
            return parse(default).map(Some).map_err(|error| Failure::usage(format!("{flag}: {error}")));
        }
        let mut last = String::new();
        for _ in 0..TRIES {
            let typed = self.line(question)?;
            let answer = if typed.is_empty() { question.default.unwrap_or_default() } else { &typed };
            match parse(answer) {
                Ok(value) => return Ok(Some(value)),
                Err(error) => {
                    self.context.terminal.note(&format!("  {error}"));
                    last = error;
                }
            }
        }
        Err(Failure::usage(format!("{flag}: {last}")).hint("nothing was written"))
    }

    /// The same where no answer is an answer: an empty line, or neither flag nor terminal.
    pub(super) fn optional<T>(
        &mut self,
        given: Option<&str>,
        question: &Question<'_>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Failure> {
        if given.is_none() && !self.asks && question.default.is_none() {
            return Ok(None);
        }
        let parse_some = |text: &str| if text.is_empty() { Ok(None) } else { parse(text).map(Some) };
        Ok(self.value(given, question, parse_some)?.flatten())
    }

    /// Yes or no; Enter is yes.
    pub(super) fn agrees(&self, text: &str) -> Result<bool, Failure> {
        let question = Question { flag: "--yes", text, default: Some("Y/n") };
        let typed = self.line(&question)?;
        Ok(matches!(typed.as_str(), "" | "y" | "Y" | "yes" | "Yes"))
    }

    /// Marks a flag as missing.
    pub(super) fn lacks(&mut self, flag: &'static str) {
        self.missing.push(flag);
    }

    /// Everything that is missing, as one failure.
    pub(super) fn complete(&self) -> Result<(), Failure> {
        if self.missing.is_empty() {
            return Ok(());
        }
        Err(Failure::usage(format!("nobody is there to ask: {} missing", self.missing.join(", ")))
            .hint("give them as flags, or run `keyholder init` at a terminal without --yes"))
    }

    /// One line from the terminal, without the blanks around it.
    fn line(&self, question: &Question<'_>) -> Result<String, Failure> {
        let style = self.context.terminal.error_style;
        let default = question.default.map_or_else(String::new, |default| format!(" [{default}]"));
        self.context.terminal.ask(&format!("{}{}: ", style.bold(question.text), style.dim(&default)));
        let mut typed = Vec::new();
        let read = std::io::stdin().lock().take(ANSWER_MAX).read_until(b'\n', &mut typed);
        read.map_err(|error| Failure::usage("cannot read the answer").caused_by(&error))?;
        if typed.is_empty() {
            return Err(Failure::usage("the input ended; nothing was written").exiting(Exit::No));
        }
        match String::from_utf8(typed) {
            Ok(text) => Ok(text.trim().to_owned()),
            Err(_) => Ok("\u{fffd}".to_owned()),
        }
    }
}

/// A secret, typed without echo; none if nothing was typed.
pub(super) fn secret(text: &str) -> Result<Option<SecretString>, Failure> {
    let typed = input::prompt(&format!("{text} (hidden; empty to store it later): "))
        .map_err(|failure| failure.hint("nothing was written"))?;
    Ok(Some(typed).filter(|typed| !typed.is_empty()))
}
