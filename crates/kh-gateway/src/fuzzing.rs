//! Private parsers, shown to the fuzz targets alone: this module exists under `--cfg fuzzing` only.

use crate::outbound::own::form::{Basic, Form};

/// A login's form body; whether it was accepted.
pub fn form(body: &[u8]) -> bool {
    Form::parse(body).is_ok()
}

/// A login's `Authorization` header: id and secret as they were understood.
pub fn basic(value: &[u8]) -> Option<(String, String)> {
    let basic = Basic::parse(value).ok()?;
    Some((basic.id.expose().to_owned(), basic.secret.expose().to_owned()))
}
