//! Private parsers, shown to the fuzz targets alone: this module exists under `--cfg fuzzing` only.

use crate::outbound::own::form::{Basic, Form};

/// A login's form body; whether it was accepted.
pub fn form(body: &[u8]) -> bool {
    Form::parse(body).is_ok()
}

/// Header names of a caller: those that would reach a protected API although they are kept for us; always none.
pub fn kept_names_that_pass(text: &[u8]) -> Vec<http::HeaderName> {
    let names: Vec<_> =
        text.split(|byte| *byte == b'\n').filter_map(|name| http::HeaderName::from_bytes(name).ok()).collect();
    crate::inbound::kept_names_that_pass(&names)
}

/// A login's `Authorization` header: id and secret as they were understood.
pub fn basic(value: &[u8]) -> Option<(String, String)> {
    let basic = Basic::parse(value).ok()?;
    Some((basic.id.expose().to_owned(), basic.secret.expose().to_owned()))
}
