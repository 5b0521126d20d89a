//! Granted scopes: `scope` (RFC 8693 section 4.2: words between spaces) and `scp`, which some issuers have instead (words
//! between spaces, or a list).
//!
//! Invariant: a scope is a word of RFC 6749 section 3.3. A claim that has anything else is refused whole, because what
//! was meant cannot be known.

use kh_core::scope::is_scope_byte;

use crate::{Reason, json::Json};

/// Most scopes of one token.
pub const SCOPES_MAX: usize = 1024;

/// The scopes of these claims; `scope` counts before `scp`.
pub(crate) fn scopes<'j>(scope: Option<&'j Json<'_>>, scp: Option<&'j Json<'_>>) -> Result<Vec<&'j str>, Reason> {
    let Some(claim) = scope.or(scp) else { return Ok(Vec::new()) };
    let words = match claim {
        Json::Text(text) => split(text)?,
        list => list.texts().ok_or(Reason::ScopeInvalid)?,
    };
    if words.len() <= SCOPES_MAX && words.iter().all(|word| is_scope(word)) {
        return Ok(words);
    }
    Err(Reason::ScopeInvalid)
}

/// Words between single or repeated spaces; an empty text grants nothing.
fn split(text: &str) -> Result<Vec<&str>, Reason> {
    let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).take(SCOPES_MAX + 1).collect();
    if words.len() > SCOPES_MAX { Err(Reason::ScopeInvalid) } else { Ok(words) }
}

fn is_scope(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(is_scope_byte)
}
