//! Tables of paths with one reading and of paths with two, and properties that try to find a third kind.

use proptest::prelude::*;

use super::*;

#[test]
fn paths_with_one_reading() {
    for path in [
        "/",
        "/api/v2/users",
        "/api/v2/users/",
        "/api/v2/users/me:x@y",
        "/api/v2/flows/a%20b",
        "/api/v2/users/search/%C3%A9t%C3%A9",
        "/api/v2/users/100%25",
        "/api/v2/users/100%25%20x",
        "/a;v=1/b",
        "/a/.b",
        "/inContactAPI/services/v34.0/agents",
        "/a/b%2Cc",
        "/a/b%2cc",
    ] {
        assert_eq!(CanonicalPath::parse(path).map(|path| path.as_str()), Ok(path));
    }
}

#[test]
fn paths_with_two_readings() {
    use PathError::*;
    for (path, why) in [
        ("", NotAbsolute),
        ("api", NotAbsolute),
        ("*", NotAbsolute),
        ("//", EmptySegment(1)),
        ("/a//b", EmptySegment(3)),
        ("//evil.example/x", EmptySegment(1)),
        ("/a/;x/b", EmptySegment(3)),
        ("/a/;", EmptySegment(3)),
        ("/a/%3Bx", EmptySegment(3)),
        ("/a/./b", DotSegment(3)),
        ("/a/../b", DotSegment(3)),
        ("/a/..", DotSegment(3)),
        ("/a/..;/b", DotSegment(3)),
        ("/a/..;x=1/b", DotSegment(3)),
        ("/a/..%3Bx/b", DotSegment(3)),
        ("/a/.;/b", DotSegment(3)),
        ("/a/%2e%2e/b", DotSegment(3)),
        ("/a/.../b", DotSegment(3)),
        ("/a/..%20/b", DotSegment(3)),
        ("/a/%20../b", DotSegment(3)),
        ("/a/.%20.;x/b", DotSegment(3)),
        ("/a/..%C2%A0/b", DotSegment(3)),
        ("/a/.%2E/b", DotSegment(4)),
        ("/a/b%2ec", DotSegment(4)),
        ("/a\\b", Character(2)),
        ("/a%5Cb", EscapedDelimiter(2)),
        ("/a%2Fb", EscapedDelimiter(2)),
        ("/a%2fb", EscapedDelimiter(2)),
        ("/a%00", EscapedDelimiter(2)),
        ("/a%0d%0aX: y", EscapedDelimiter(2)),
        ("/a%7F", EscapedDelimiter(2)),
        ("/a%C2%85", EscapedDelimiter(1)),
        ("/a%", BadEscape(2)),
        ("/a%2", BadEscape(2)),
        ("/a%zz", BadEscape(2)),
        ("/a%u0063", BadEscape(2)),
        ("/a%+3", BadEscape(2)),
        ("/a%63", NeedlessEscape(2)),
        ("/a%7E", NeedlessEscape(2)),
        ("/a%252F", DoubleEncoding(2)),
        ("/a%25zz%252e", DoubleEncoding(7)),
        ("/a%C0%AF", NotUtf8(1)),
        ("/a%C0%AE", NotUtf8(1)),
        ("/a%E0%80%AF", NotUtf8(1)),
        ("/a%ED%A0%80", NotUtf8(1)),
        ("/a%FF", NotUtf8(1)),
        ("/a%C3", NotUtf8(1)),
        ("/a\u{e9}", Character(2)),
        ("/a b", Character(2)),
        ("/a\u{1}", Character(2)),
        ("/a#b", Character(2)),
        ("/a?b", Character(2)),
        ("/a<b", Character(2)),
        ("/{id}", Character(1)),
        ("/a|b", Character(2)),
    ] {
        assert_eq!(CanonicalPath::parse(path), Err(why), "{path:?}");
    }
    assert_eq!(CanonicalPath::parse(&format!("/{}", "a".repeat(PATH_MAX))), Err(TooLong));
}

#[test]
fn tails() {
    let path = CanonicalPath::parse("/gw/api/v2/x").unwrap();
    assert_eq!(path.tail(3).map(|path| path.as_str()), Some("/api/v2/x"));
    assert_eq!(path.tail(0), Some(path));
    for at in [1, 4, 12, 13, 99] {
        assert_eq!(path.tail(at), None, "{at}");
    }
}

/// What the most eager normaliser would do: decode until nothing changes, split at every kind of slash, drop
/// parameters.
fn eager_reading(path: &str) -> Vec<String> {
    let mut text = path.as_bytes().to_vec();
    loop {
        let next: Vec<u8> = percent_encoding::percent_decode(&text).collect();
        if next == text {
            break;
        }
        text = next;
    }
    text.split(|byte| matches!(byte, b'/' | b'\\'))
        .map(|segment| String::from_utf8_lossy(segment.split(|byte| *byte == b';').next().unwrap_or(&[])).into_owned())
        .collect()
}

fn nasty_path() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "/", "//", ".", "..", ";", "%", "%2", "%2e", "%2F", "%5c", "%25", "2e", "2F", "%00", "a", "clients", "%63",
        "%C3%A9", "%C0%AF", "\\", "é", "?", "#", " ", "~", "=",
    ]);
    prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
}

#[test]
fn ordinary_bytes_are_the_plain_ones_without_parameters() {
    for byte in 0..=u8::MAX {
        assert_eq!(ORDINARY[usize::from(byte)], is_plain(byte) && byte != b';', "{byte}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_096))]

    #[test]
    fn an_accepted_path_has_the_same_segments_for_an_eager_server(path in nasty_path()) {
        if let Ok(canonical) = CanonicalPath::parse(&path) {
            let plain: Vec<String> = canonical.segments().map(|segment| {
                let decoded: Vec<u8> = segment::decoded(segment).take_while(|byte| *byte != b';').collect();
                String::from_utf8(decoded).unwrap()
            }).collect();
            let eager = eager_reading(&path);
            prop_assert_eq!(&eager[1..], &plain[..]);
            let inner = plain.len().saturating_sub(1);
            prop_assert!(plain.iter().take(inner).all(|segment| !segment.is_empty()));
            prop_assert!(plain.iter().all(|segment| segment != "." && segment != ".."));
        }
    }

    #[test]
    fn the_short_way_accepts_nothing_that_the_long_way_refuses(path in "[a./;%~]{0,6}") {
        let path = format!("/{path}");
        if is_ordinary(path.as_bytes()) {
            prop_assert!(CanonicalPath::parse_by_segment(&path).is_ok(), "{}", path);
        }
    }

    #[test]
    fn any_text_is_answered(path in "\\PC{0,40}") {
        let answer = CanonicalPath::parse(&path);
        prop_assert!(answer.is_err() || path.is_ascii());
    }

    #[test]
    fn encoded_words_round_trip(words in prop::collection::vec("[a-zA-Z0-9 é,@]{1,8}", 1..5)) {
        const SET: &percent_encoding::AsciiSet =
            &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
        let encoded: Vec<String> =
            words.iter().map(|word| percent_encoding::utf8_percent_encode(word, SET).to_string()).collect();
        let path = format!("/{}", encoded.join("/"));
        prop_assert!(CanonicalPath::parse(&path).is_ok(), "{}", path);
    }
}
