//! What a scope is made of.
//!
//! Invariant: whoever grants, requires or reads scopes takes the same ones.

/// Whether a scope may have this byte: visible ASCII without quotation mark and backslash. `scope-token` of RFC 6749
/// section 3.3, which is also what a quoted `scope` of a challenge may hold (RFC 6750 section 3).
#[inline]
pub const fn is_scope_byte(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visible_ascii_without_two() {
        for byte in 0..=u8::MAX {
            let expected = byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
            assert_eq!(is_scope_byte(byte), expected, "{byte:#x}");
        }
    }
}
