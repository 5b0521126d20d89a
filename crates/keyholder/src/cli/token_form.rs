//! The forms in which a token is printed.
//!
//! Invariants: a text that holds the token is made in one wiped buffer; a value that the form cannot carry is refused,
//! not mangled.

use kh_core::Code;
use zeroize::Zeroizing;

use super::local_broker::Token;
use crate::{helper_protocol::shell_quoted, output::Failure};

/// What is printed of a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub(crate) enum TokenForm {
    /// The token alone
    #[default]
    Raw,
    /// `Authorization: Bearer ...`, as `curl -H @-` reads it
    Header,
    /// `export NAME='...'` lines for a POSIX shell
    Env,
    /// The broker's whole answer
    Json,
}

/// The token as text that ends its own lines.
pub(super) fn text(form: TokenForm, token: &Token) -> Result<Zeroizing<String>, Failure> {
    let secret = one_line(&token.secret)?;
    Ok(match form {
        TokenForm::Raw => joined(&[secret, "\n"]),
        TokenForm::Header => joined(&["Authorization: Bearer ", secret, "\n"]),
        TokenForm::Env => joined(&[
            "export KEYHOLDER_ACCESS_TOKEN=",
            &shell_quoted(secret),
            "\nexport KEYHOLDER_EXPIRES_AT=",
            &shell_quoted(&token.expires_at),
            "\nexport KEYHOLDER_API_BASE=",
            &shell_quoted(&token.api_base),
            "\n",
        ]),
        TokenForm::Json => json(token)?,
    })
}

/// The broker's answer as one line of JSON.
pub(super) fn json(value: &impl serde::Serialize) -> Result<Zeroizing<String>, Failure> {
    // Large enough for any token, so that no copy is left behind by growing.
    let mut buffer = Zeroizing::new(Vec::with_capacity(64 * 1024));
    serde_json::to_writer(&mut *buffer, value)
        .map_err(|error| Failure::bug("the answer cannot be written as JSON").caused_by(&error))?;
    buffer.push(b'\n');
    let text = std::str::from_utf8(&buffer).map_err(|_| Failure::bug("JSON is UTF-8"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Texts put together without a copy left behind by growing.
pub(super) fn joined(parts: &[&str]) -> Zeroizing<String> {
    let mut whole = Zeroizing::new(String::with_capacity(parts.iter().map(|part| part.len()).sum()));
    for part in parts {
        whole.push_str(part);
    }
    whole
}

/// The token, which must fit on a line: it came in JSON and may hold anything.
pub(super) fn one_line(token: &str) -> Result<&str, Failure> {
    if token.is_empty() || token.chars().any(char::is_control) {
        return Err(Failure::new(Code::UPSTREAM_PROTOCOL, "the token has characters that no header can carry"));
    }
    Ok(token)
}
