//! The one place that writes to standard output and standard error.
//!
//! Invariant: an answer goes to standard output and nothing else does; with `--output json` it is one JSON document.
//! A reader that went away (`| head`) is no error; any other answer that does not get out is told at the end.

mod failure;
mod style;
mod table;

pub use failure::{Exit, Failure};
pub use style::Style;
pub use table::Table;

use std::{
    io::{self, Write},
    sync::{Arc, OnceLock},
};

use serde::Serialize;

use crate::environment::Environment;

/// The form of answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum OutputFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON document on standard output.
    Json,
}

/// Where answers and messages go, and in which form.
#[derive(Clone, Debug)]
pub struct Terminal {
    format: OutputFormat,
    /// Colours for standard output.
    pub out_style: Style,
    /// Colours for standard error.
    pub error_style: Style,
    color_errors: bool,
    /// Why an answer did not get out, the first time.
    lost: Arc<OnceLock<io::Error>>,
}

impl Terminal {
    /// Answers in `format`; colours only where a person looks at a terminal.
    pub fn new(format: OutputFormat, environment: &Environment) -> Self {
        let color_out = environment.colors(environment.stdout_is_terminal);
        let color_errors = environment.colors(environment.stderr_is_terminal);
        let (out_style, error_style) = (Style::new(color_out), Style::new(color_errors));
        Self { format, out_style, error_style, color_errors, lost: Arc::default() }
    }

    /// Whether the answer is one JSON document.
    pub fn is_json(&self) -> bool {
        self.format == OutputFormat::Json
    }

    /// Whether standard error may be coloured.
    pub fn colors_errors(&self) -> bool {
        self.color_errors
    }

    /// The command's answer: `value` as JSON, or `text`, which ends its own lines.
    pub fn answer<T: Serialize>(&self, value: &T, text: impl FnOnce() -> String) {
        match self.format {
            OutputFormat::Text => self.out(&text()),
            OutputFormat::Json => match serde_json::to_string(value) {
                Ok(json) => self.out(&format!("{json}\n")),
                Err(error) => self.note(&format!("the answer cannot be written as JSON: {error}")),
            },
        }
    }

    /// Text that is the answer in every format: a script, a man page, a file.
    pub fn out(&self, text: &str) {
        if let Err(error) = write_all(&mut io::stdout().lock(), text) {
            // the first reason is the one to tell
            self.lost.set(error).ok();
        }
    }

    /// Why an answer did not get out, if one did not.
    pub fn lost(&self) -> Option<&io::Error> {
        self.lost.get()
    }

    /// A message for the person at the terminal.
    #[allow(clippy::unused_self, reason = "only who was given a terminal may write to it")]
    pub fn note(&self, text: &str) {
        tell(&format!("{text}\n"));
    }

    /// A question for the person at the terminal; the answer is typed behind it.
    #[allow(clippy::unused_self, reason = "only who was given a terminal may write to it")]
    pub fn ask(&self, text: &str) {
        tell(text);
    }

    /// A warning for the person at the terminal.
    pub fn warn(&self, text: &str) {
        self.note(&format!("{} {text}", self.error_style.yellow("warning:")));
    }

    /// Tells a failure once, in the form that was asked for.
    pub fn failure(&self, failure: &Failure) {
        let text = match self.format {
            OutputFormat::Text => failure.to_text(self.error_style),
            OutputFormat::Json => format!("{}\n", failure.to_json()),
        };
        tell(&text);
    }
}

/// Text that others chose, as it may be shown: no letter of it acts on a terminal or ends its line.
pub fn printable(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

/// To standard error. Nobody is left to be told when that fails, so the result is dropped on purpose.
fn tell(text: &str) {
    write_all(&mut io::stderr().lock(), text).ok();
}

fn write_all(stream: &mut impl Write, text: &str) -> io::Result<()> {
    stream.write_all(text.as_bytes()).and_then(|()| stream.flush())
}
