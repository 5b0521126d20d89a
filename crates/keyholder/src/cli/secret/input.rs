//! Reads a secret from a prompt, standard input or a file.
//!
//! Invariant: every buffer that held it is wiped; nothing of it is shown.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use kh_core::{Code, SecretBytes, SecretString, credential::DOCUMENT_MAX};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::SetArgs;
use crate::{cli::Context, output::Failure};

/// The value of `secret set`: a document, built around the ids that stand on the command line if any do.
pub(super) fn read(arguments: &SetArgs, context: &Context) -> Result<SecretBytes, Failure> {
    let ids = (arguments.client_id.as_deref(), arguments.access_key_id.as_deref());
    let prompting = arguments.file.is_none() && context.environment.stdin_is_terminal;
    match ids {
        (None, None) if prompting => Ok(bytes_of(&prompt("Document or secret (hidden): ")?)),
        (None, None) => raw(arguments.file.as_deref()),
        (Some(_), Some(_)) if !prompting => Err(Failure::usage("two ids need two secrets, and there is one input")
            .hint("give the whole JSON document instead of --client-id and --access-key-id")),
        (client, key) => {
            let mut secrets = Vec::new();
            for (id, id_field, field, question) in [
                (client, "client_id", "client_secret", "Client secret (hidden): "),
                (key, "access_key_id", "access_key_secret", "Access key secret (hidden): "),
            ] {
                let Some(id) = id else { continue };
                let secret = if prompting { prompt(question)? } else { line(raw(arguments.file.as_deref())?)? };
                secrets.push((id_field, id, field, secret));
            }
            Ok(build(&secrets))
        }
    }
}

/// `{"client_id":"...","client_secret":"..."}`, written into one buffer that is large enough from the start.
pub(in crate::cli) fn build(fields: &[(&str, &str, &str, SecretString)]) -> SecretBytes {
    let size: usize = fields.iter().map(|(_, id, _, secret)| 128 + 6 * (id.len() + secret.len())).sum();
    let mut text = Zeroizing::new(String::with_capacity(size + 2));
    for (id_field, id, field, secret) in fields {
        let first = text.is_empty();
        text.push(if first { '{' } else { ',' });
        for (last, name, value) in [(false, id_field, *id), (true, field, secret.expose())] {
            text.push('"');
            text.push_str(name);
            text.push_str("\":\"");
            push_escaped(&mut text, value);
            text.push_str(if last { "\"" } else { "\"," });
        }
    }
    text.push('}');
    SecretBytes::new(text.as_bytes().to_vec())
}

/// JSON string escapes (RFC 8259 section 7), without any buffer in between.
fn push_escaped(text: &mut String, value: &str) {
    for letter in value.chars() {
        match letter {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            control if u32::from(control) < 0x20 => {
                let code = u32::from(control);
                text.push_str("\\u00");
                for digit in [code >> 4, code & 15] {
                    text.push(char::from_digit(digit, 16).unwrap_or('0'));
                }
            }
            other => text.push(other),
        }
    }
}

fn bytes_of(text: &SecretString) -> SecretBytes {
    SecretBytes::new(text.expose().as_bytes().to_vec())
}

/// Asks without showing what is typed, not even what is typed or pasted at the moment the question shows up.
pub(in crate::cli) fn prompt(question: &str) -> Result<SecretString, Failure> {
    let unable = |error: io::Error| Failure::usage("cannot ask for the secret here").caused_by(&error);
    // `prompt_password` shows the question first and turns the echo off after it.
    let echo = EchoOff::new().map_err(unable)?;
    let typed = rpassword::prompt_password(question).map_err(unable)?;
    drop(echo);
    Ok(SecretString::new(typed))
}

/// The terminal's echo is off for as long as this lives.
struct EchoOff {
    terminal: File,
    before: Termios,
}

impl EchoOff {
    fn new() -> io::Result<Self> {
        let terminal = File::options().read(true).write(true).open("/dev/tty")?;
        let before = tcgetattr(&terminal)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&terminal, OptionalActions::Now, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for EchoOff {
    fn drop(&mut self) {
        // A terminal that is gone has no echo to turn on.
        tcsetattr(&self.terminal, OptionalActions::Now, &self.before).ok();
    }
}

/// One line: a secret that was piped in, without its line end.
pub(in crate::cli) fn line(value: SecretBytes) -> Result<SecretString, Failure> {
    let text = value.into_text().ok_or_else(|| Failure::usage("the secret is not UTF-8 text"))?;
    let trimmed = text.expose().trim_end_matches(['\r', '\n']);
    if trimmed.is_empty() || trimmed.contains(['\r', '\n']) {
        return Err(Failure::usage("the secret is not exactly one line"));
    }
    Ok(SecretString::copied(trimmed))
}

/// Everything of the file or standard input, up to the largest document.
pub(in crate::cli) fn raw(file: Option<&Path>) -> Result<SecretBytes, Failure> {
    let limit = u64::try_from(DOCUMENT_MAX).unwrap_or(u64::MAX);
    // Reserved up front: a buffer that grows leaves unwiped copies behind.
    let mut value = Zeroizing::new(Vec::with_capacity(DOCUMENT_MAX + 1));
    let read = match file {
        Some(path) => File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut value)),
        None => io::stdin().lock().take(limit + 1).read_to_end(&mut value),
    };
    read.map_err(|error| {
        let place = file.map_or("standard input".to_owned(), |path| path.display().to_string());
        Failure::usage(format!("cannot read the secret from {place}")).caused_by(&error)
    })?;
    if value.len() > DOCUMENT_MAX {
        return Err(Failure::new(Code::REQUEST_TOO_LARGE, format!("the value is larger than {DOCUMENT_MAX} bytes")));
    }
    if value.is_empty() {
        return Err(Failure::usage("the value is empty"));
    }
    Ok(SecretBytes::new(value.to_vec()))
}

/// Asks a person; without a terminal there is nobody to ask.
pub(in crate::cli) fn confirm(question: &str, context: &Context) -> Result<bool, Failure> {
    if !context.environment.stdin_is_terminal {
        return Err(Failure::usage("nobody is there to confirm").hint("use --yes"));
    }
    context.terminal.note(&format!("{question} [y/N]"));
    let mut answer = String::new();
    io::stdin()
        .read_line(&mut answer)
        .map_err(|error| Failure::usage("cannot read the confirmation").caused_by(&error))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kh_core::credential::CredentialDocument;

    #[test]
    fn built_documents_parse_back_whatever_the_secret_is() {
        for secret in ["s3cret", "quo\"te\\", "tab\tnull\u{0}", "ünïcode====", "\u{1f}"] {
            let document = build(&[
                ("client_id", "an \"id\"", "client_secret", SecretString::copied("one")),
                ("access_key_id", "key", "access_key_secret", SecretString::copied(secret)),
            ]);
            let parsed = CredentialDocument::parse(&document).unwrap();
            assert_eq!(parsed.client_id.as_deref(), Some("an \"id\""));
            assert_eq!(parsed.access_key_secret.unwrap().expose(), secret);
        }
    }

    #[test]
    fn one_line_is_one_line() {
        let of = |text: &str| line(SecretBytes::new(text.as_bytes().to_vec())).map(|line| line.expose().to_owned());
        assert_eq!(of("secret\r\n").unwrap(), "secret");
        for bad in ["", "\n", "a\nb"] {
            assert!(of(bad).is_err(), "{bad:?}");
        }
    }
}
