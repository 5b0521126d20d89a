//! A request path with exactly one reading.
//!
//! Invariant: what is allowed here and what the platform acts upon are the same resource. Everything that some server,
//! proxy or framework is known to rewrite (dot segments, empty segments, encoded slashes, path parameters that hide
//! dots, overlong UTF-8, double encoding) is refused instead of normalised, because two parties that normalise
//! differently are how allow-lists are bypassed.

use crate::segment;

/// Longest accepted path, in bytes: Genesys Cloud's own longest paths are under 300, and 8 KiB is what common
/// servers take for a whole request line (RFC 9112 section 3 recommends at least 8,000).
pub const PATH_MAX: usize = 8_000;

/// Why a path was refused. Carries positions (bytes, from 0), never the path: a path may hold personal data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Longer than [`PATH_MAX`].
    #[error("the path is longer than {PATH_MAX} bytes")]
    TooLong,
    /// It does not start with a slash.
    #[error("the path does not start with '/'")]
    NotAbsolute,
    /// Two slashes in a row, or a segment that is nothing but path parameters.
    #[error("the path has an empty segment at byte {0}")]
    EmptySegment(usize),
    /// A segment of nothing but dots and spaces, plain, encoded or followed by `;`.
    #[error("the path has a dot segment at byte {0}")]
    DotSegment(usize),
    /// A character that RFC 3986 section 3.3 does not allow in a path.
    #[error("the path has a character at byte {0} that must be percent-encoded or does not belong into a path")]
    Character(usize),
    /// `%` without two hex digits.
    #[error("the path has a broken percent escape at byte {0}")]
    BadEscape(usize),
    /// An escaped slash, backslash, NUL or other control character.
    #[error("the path has an escaped slash, backslash or control character at byte {0}")]
    EscapedDelimiter(usize),
    /// An escape of a character that needs none (RFC 3986 section 6.2.2.2), a way to hide words from rules.
    #[error("the path escapes an unreserved character at byte {0}")]
    NeedlessEscape(usize),
    /// An escaped percent sign that makes another escape.
    #[error("the path is encoded twice at byte {0}")]
    DoubleEncoding(usize),
    /// The escapes do not decode to UTF-8; overlong forms are among these.
    #[error("the path's escapes are not UTF-8 in the segment at byte {0}")]
    NotUtf8(usize),
}

/// A path with one reading, borrowed from the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CanonicalPath<'a>(&'a str);

impl<'a> CanonicalPath<'a> {
    /// Checks `path`, which starts with `/` and has neither query nor fragment.
    pub fn parse(path: &'a str) -> Result<Self, PathError> {
        if path.len() > PATH_MAX {
            return Err(PathError::TooLong);
        }
        if is_ordinary(path.as_bytes()) {
            return Ok(Self(path));
        }
        Self::parse_by_segment(path)
    }

    fn parse_by_segment(path: &'a str) -> Result<Self, PathError> {
        let Some(rest) = path.strip_prefix('/') else { return Err(PathError::NotAbsolute) };
        let mut start = 1;
        let mut segments = rest.split('/').peekable();
        while let Some(text) = segments.next() {
            let last = segments.peek().is_none();
            check_segment(text, start, last)?;
            start += text.len() + 1;
        }
        Ok(Self(path))
    }

    /// The path as it was written.
    pub fn as_str(&self) -> &'a str {
        self.0
    }

    /// The path from its byte `at` on, which must be a slash: a tail of a path with one reading has one reading.
    pub fn tail(&self, at: usize) -> Option<Self> {
        self.0.get(at..).filter(|rest| rest.starts_with('/')).map(Self)
    }

    /// Its segments; a trailing slash gives a last, empty one.
    pub fn segments(&self) -> impl Iterator<Item = &'a str> + Clone + use<'a> {
        segment::split(self.0.strip_prefix('/'))
    }
}

/// Letters, digits and `-._~`: RFC 3986 section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// What may stand unescaped in a segment: RFC 3986 section 3.3 `pchar`.
fn is_plain(byte: u8) -> bool {
    is_unreserved(byte) || b"!$&'()*+,;=:@".contains(&byte)
}

/// [`is_plain`] of every byte, without `;`: one load per byte on the hot path.
const ORDINARY: [bool; 256] = {
    let mut table = [false; 256];
    let mut plain = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,=:@".as_slice();
    while let Some((byte, rest)) = plain.split_first() {
        table[*byte as usize] = true;
        plain = rest;
    }
    table
};

/// Whether one pass is enough to say that the path is canonical: plain characters, no escape, no path parameter, and
/// no segment that is empty or starts with a dot. Nearly every path is; the others are looked at segment by segment.
fn is_ordinary(path: &[u8]) -> bool {
    let Some((b'/', rest)) = path.split_first() else { return false };
    let mut after_slash = true;
    for byte in rest {
        if *byte == b'/' {
            if after_slash {
                return false;
            }
            after_slash = true;
            continue;
        }
        let fits = ORDINARY.get(usize::from(*byte)).copied().unwrap_or(false);
        if !fits || (after_slash && *byte == b'.') {
            return false;
        }
        after_slash = false;
    }
    true
}

/// [`is_ordinary`] for one segment.
pub(crate) fn is_ordinary_segment(text: &str) -> bool {
    let fits = |byte: u8| ORDINARY.get(usize::from(byte)).copied().unwrap_or(false);
    !text.is_empty() && !text.starts_with('.') && text.bytes().all(fits)
}

fn check_segment(text: &str, start: usize, last: bool) -> Result<(), PathError> {
    // One trailing slash is one reading; an empty segment elsewhere may be merged away.
    if text.is_empty() {
        return if last { Ok(()) } else { Err(PathError::EmptySegment(start)) };
    }
    let bytes = text.as_bytes();
    let mut at = 0;
    let mut escaped = false;
    while let Some(byte) = bytes.get(at).copied() {
        if byte == b'%' {
            check_escape(bytes.get(at + 1..).unwrap_or_default(), start + at)?;
            escaped = true;
            at += 3;
        } else if is_plain(byte) {
            at += 1;
        } else {
            return Err(PathError::Character(start + at));
        }
    }
    let name = text.split(';').next().unwrap_or(text);
    if name.is_empty() {
        return Err(PathError::EmptySegment(start));
    }
    if is_dots(name) {
        return Err(PathError::DotSegment(start));
    }
    if escaped {
        check_decoded(text, start)?;
    }
    Ok(())
}

/// Whether a name is made of dots, and of the spaces that Windows and some servers take off its end: `..%20` is `..`
/// there, and three dots have been two steps up.
fn is_dots(name: &str) -> bool {
    name.contains('.') && name.chars().all(|letter| letter == '.' || letter.is_whitespace())
}

/// `after` is what follows the percent sign.
fn check_escape(after: &[u8], at: usize) -> Result<(), PathError> {
    let (Some(high), Some(low)) =
        (after.first().copied().and_then(segment::hex), after.get(1).copied().and_then(segment::hex))
    else {
        return Err(PathError::BadEscape(at));
    };
    match high * 16 + low {
        b'.' => Err(PathError::DotSegment(at)),
        b'/' | b'\\' | 0..=0x1f | 0x7f => Err(PathError::EscapedDelimiter(at)),
        // `%253B` and the like: whoever decodes twice reads something else than we do
        b'%' if after.iter().skip(2).take(2).filter_map(|digit| segment::hex(*digit)).count() == 2 => {
            Err(PathError::DoubleEncoding(at))
        }
        byte if is_unreserved(byte) => Err(PathError::NeedlessEscape(at)),
        _ => Ok(()),
    }
}

/// Only for segments with escapes, which are rare: here an allocation is worth its simplicity.
fn check_decoded(text: &str, start: usize) -> Result<(), PathError> {
    let bytes: Vec<u8> = segment::decoded(text).collect();
    let Ok(decoded) = std::str::from_utf8(&bytes) else { return Err(PathError::NotUtf8(start)) };
    if decoded.chars().any(char::is_control) {
        return Err(PathError::EscapedDelimiter(start));
    }
    if decoded.starts_with(';') {
        return Err(PathError::EmptySegment(start));
    }
    if decoded.split(';').next().is_some_and(is_dots) {
        return Err(PathError::DotSegment(start));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
