//! Reading one path segment the way the most lenient server would: percent-decoded, and cut at the first `;`.

/// The decoded bytes of `text`. Escapes are known to be well formed where this is called.
pub(crate) fn decoded(text: &str) -> impl Iterator<Item = u8> + '_ {
    let mut bytes = text.bytes();
    std::iter::from_fn(move || {
        let byte = bytes.next()?;
        if byte != b'%' {
            return Some(byte);
        }
        let high = bytes.next().and_then(hex)?;
        let low = bytes.next().and_then(hex)?;
        Some(high * 16 + low)
    })
}

/// The value of one hex digit.
pub(crate) fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// Whether two segments name the same thing: equal after decoding, in the same letter case.
pub(crate) fn same(one: &str, other: &str) -> bool {
    one == other || ((one.contains('%') || other.contains('%')) && decoded(one).eq(decoded(other)))
}

/// Whether a lenient server could take `segment` for `word` (plain lower-case ASCII): letter case, path parameters
/// (`;a=b`), an extension (`.json`: Spring MVC before 5.3 matched suffix patterns by default) and spaces around it
/// (Spring before 4.3 trimmed segments, Windows trims their ends) do not count.
pub(crate) fn could_be(segment: &str, word: &str) -> bool {
    if !segment.contains(['%', ';', '.']) {
        return segment.eq_ignore_ascii_case(word);
    }
    let name: Vec<u8> = decoded(segment).take_while(|byte| !matches!(byte, b';' | b'.')).collect();
    name.trim_ascii().eq_ignore_ascii_case(word.as_bytes())
}
