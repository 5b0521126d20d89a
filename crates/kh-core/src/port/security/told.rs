//! Text of a caller's that may stand in a log.
//!
//! Invariant: at most [`TOLD_MAX`] characters and [`TOLD_BYTES_MAX`] bytes; no control character, no line or paragraph separator, no character that
//! is invisible or changes the direction of what follows.

use std::fmt;

/// Longest text that is told, in characters: the user agents of browsers and SDKs, URLs of issuers and ids of subjects
/// fit.
pub const TOLD_MAX: usize = 256;

/// Longest text that is told, in bytes of UTF-8: events wait in memory, and callers choose what stands in them.
pub const TOLD_BYTES_MAX: usize = 512;

/// Stands for a character that is not told.
const REPLACED: char = '\u{fffd}';

/// Stands at the end of a text that was cut.
const CUT: char = '…';

/// A cleaned and bounded text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Told(Box<str>);

impl Told {
    /// Cleans and cuts `text`; a cut text ends with an ellipsis.
    pub fn new(text: &str) -> Self {
        // the usual text needs no second look
        if text.len() <= TOLD_MAX && text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
            return Self(text.into());
        }
        let mut told = String::new();
        let letters = text.chars().map(|letter| if is_told(letter) { letter } else { REPLACED });
        for (count, letter) in letters.enumerate() {
            if count == TOLD_MAX || told.len() + letter.len_utf8() > TOLD_BYTES_MAX {
                // room for the sign that something is missing
                while told.len() + CUT.len_utf8() > TOLD_BYTES_MAX || told.chars().count() == TOLD_MAX {
                    told.pop();
                }
                told.push(CUT);
                break;
            }
            told.push(letter);
        }
        Self(told.into_boxed_str())
    }

    /// Of bytes, for example a header's value; what is not UTF-8 is replaced.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        // a character has at most four bytes, so that nothing is read that would not be told
        let read = bytes.get(..4 * (TOLD_MAX + 1)).unwrap_or(bytes);
        Self::new(&String::from_utf8_lossy(read))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Control characters (Unicode's Cc), format characters (Cf) and line and paragraph separators (Zl, Zp) are not told:
/// they make a line look like two, or like another one ("Trojan Source", CVE-2021-42574). So are private-use and
/// unassigned noncharacters, which every viewer shows in its own way.
fn is_told(letter: char) -> bool {
    !letter.is_control()
        && !matches!(letter,
            '\u{ad}'
            | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{e000}'..='\u{f8ff}'
            | '\u{fdd0}'..='\u{fdef}'
            | '\u{feff}'
            | '\u{fff0}'..='\u{fffb}' | '\u{fffe}'..='\u{ffff}'
            | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{10ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Entropy, SeededEntropy};

    #[test]
    fn what_is_told() {
        for (text, told) in [
            ("curl/8.5 (x; y)", "curl/8.5 (x; y)"),
            ("Zoë 渡辺", "Zoë 渡辺"),
            ("a\r\nb\u{1b}[2Jc\0", "a\u{fffd}\u{fffd}b\u{fffd}[2Jc\u{fffd}"),
            ("a\u{202e}b\u{2028}c\u{200b}d\u{feff}", "a\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}"),
            ("\u{e0041}\u{7f}\u{85}", "\u{fffd}\u{fffd}\u{fffd}"),
            ("", ""),
        ] {
            assert_eq!(Told::new(text).as_str(), told);
            assert_eq!(Told::of_bytes(text.as_bytes()), Told::new(text));
        }
        assert_eq!(Told::of_bytes(b"a\xffb").as_str(), "a\u{fffd}b");
    }

    #[test]
    fn long_text_is_cut_and_says_so() {
        assert_eq!(Told::new(&"x".repeat(TOLD_MAX)).as_str(), "x".repeat(TOLD_MAX));
        let cut = Told::new(&"x".repeat(TOLD_MAX + 1));
        assert_eq!((cut.as_str().chars().count(), cut.as_str().ends_with('…')), (TOLD_MAX, true));
        for letter in ["ü", "渡", "𝄞"] {
            let cut = Told::new(&letter.repeat(TOLD_MAX + 1));
            assert!((TOLD_BYTES_MAX - 5..=TOLD_BYTES_MAX).contains(&cut.as_str().len()), "{}", cut.as_str().len());
            assert!(cut.as_str().ends_with('…') && cut.as_str().chars().count() <= TOLD_MAX);
        }
        assert_eq!(Told::new(&"渡".repeat(170)).as_str(), "渡".repeat(170));
        let cut = Told::of_bytes(&vec![b'x'; 1 << 20]);
        assert_eq!((cut.as_str().chars().count(), cut.as_str().ends_with('…')), (TOLD_MAX, true));
    }

    #[test]
    fn no_bytes_make_a_text_that_forges_a_line() {
        let entropy = SeededEntropy::new(3002);
        let mut bytes = [0; 96];
        for _ in 0..100_000 {
            entropy.fill(&mut bytes);
            let told = Told::of_bytes(bytes.get(..usize::from(bytes[0]) % 96).unwrap());
            assert!(told.as_str().chars().count() <= TOLD_MAX && told.as_str().len() <= TOLD_BYTES_MAX);
            assert!(told.as_str().chars().all(is_told), "{told:?}");
            assert_eq!(Told::new(told.as_str()), told, "cleaning twice changes nothing");
        }
    }
}
