//! Taking a path apart, and reading one segment the way the most lenient server would: percent-decoded, and cut at the
//! first `;`.

/// The first segment of `rest`, and what follows its slash.
#[inline]
pub(crate) fn cut(rest: &str) -> (&str, Option<&str>) {
    // byte by byte: on segments this short it takes a third of what searching with `split` takes
    match rest.bytes().position(|byte| byte == b'/') {
        Some(at) => (rest.get(..at).unwrap_or_default(), rest.get(at + 1..)),
        None => (rest, None),
    }
}

/// What stands between the slashes of `rest`; nothing of none.
pub(crate) fn split(mut rest: Option<&str>) -> impl Iterator<Item = &str> + Clone {
    std::iter::from_fn(move || {
        let (segment, after) = cut(rest?);
        rest = after;
        Some(segment)
    })
}

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

/// Whether a lenient server could take `segment` for `word`, which is decoded and may itself have dots and semicolons:
/// as [`could_be`], and the extension may be the last one only.
pub(crate) fn reads_as(segment: &str, word: &[u8]) -> bool {
    let readings = || decoded(segment).map(|byte| byte.to_ascii_lowercase());
    let is = |reading: &mut dyn Iterator<Item = u8>| {
        let mut reading = reading.skip_while(u8::is_ascii_whitespace);
        let mut wanted = word.iter().map(u8::to_ascii_lowercase);
        loop {
            match (reading.next(), wanted.next()) {
                (Some(one), Some(other)) if one == other => {}
                (None, None) => return true,
                (Some(byte), None) => {
                    return byte.is_ascii_whitespace() && reading.all(|byte| byte.is_ascii_whitespace());
                }
                _ => return false,
            }
        }
    };
    if is(&mut readings()) || is(&mut readings().take_while(|byte| *byte != b';')) {
        return true;
    }
    let without_parameters = || readings().take_while(|byte| *byte != b';');
    let last_dot = without_parameters().enumerate().filter(|(_, byte)| *byte == b'.').map(|(at, _)| at).last();
    is(&mut without_parameters().take_while(|byte| *byte != b'.'))
        || last_dot.is_some_and(|end| is(&mut without_parameters().take(end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_those_between_slashes() {
        for path in ["", "/", "//", "/a", "/a/", "a", "/a//b", "/{id}/b", "/\u{e4}/\u{2f00}/b"] {
            assert!(split(Some(path)).eq(path.split('/')), "{path}");
        }
        assert_eq!(split(None).next(), None);
    }
}
