//! How the words of an identity lie in its buffer: each is two ASCII characters of seven bits that tell its length,
//! then the word itself. No separator exists, so no word can look like two.

use std::ops::Range;

use super::{ClaimValue, WORD_MAX};

/// The parts of the buffer, in their order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Section {
    Subject,
    Client,
    TokenId,
    Audience,
    Scopes,
    Permissions,
    /// Name and value in turn.
    Claims,
}

impl Section {
    pub(super) const COUNT: usize = 7;
}

/// Sections of one word at the most come first.
const SINGLE: usize = 3;

const _: () = assert!(SINGLE * (2 + WORD_MAX) <= u16::MAX as usize, "the end of the last single word fits");

/// Where the sections end, each where the next one begins; the last one ends with the text.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Ends {
    single: [u16; SINGLE],
    lists: [u32; Section::COUNT - SINGLE - 1],
}

impl Ends {
    /// Notes where the section with this place ends; false when that is too far.
    pub(super) fn set(&mut self, place: usize, end: usize) -> bool {
        if let Some(single) = self.single.get_mut(place) {
            return u16::try_from(end).map(|end| *single = end).is_ok();
        }
        match place.checked_sub(SINGLE).and_then(|place| self.lists.get_mut(place)) {
            Some(list) => u32::try_from(end).map(|end| *list = end).is_ok(),
            None => true,
        }
    }

    /// Where `section` lies in a text of this length.
    pub(super) fn around(&self, section: Section, length: usize) -> Range<usize> {
        let place = section as usize;
        let start = place.checked_sub(1).map_or(0, |before| self.end(before).unwrap_or(length));
        start..self.end(place).unwrap_or(length)
    }

    fn end(&self, place: usize) -> Option<usize> {
        let single = self.single.get(place).map(|end| usize::from(*end));
        single.or_else(|| self.lists.get(place.checked_sub(SINGLE)?).map(|end| *end as usize))
    }
}

/// Words in the token's order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Words<'a>(&'a str);

impl<'a> Words<'a> {
    pub(super) fn of(packed: &'a str) -> Self {
        Self(packed)
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let [high, low, ..] = self.0.as_bytes() else { return None };
        let end = 2 + (usize::from(*high) << 7 | usize::from(*low));
        let word = self.0.get(2..end)?;
        self.0 = self.0.get(end..)?;
        Some(word)
    }
}

/// Granted words: each is compared whole, never by its beginning.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Scopes<'a>(Words<'a>);

impl<'a> Scopes<'a> {
    pub(super) fn new(words: Words<'a>) -> Self {
        Self(words)
    }

    /// Whether exactly this word was granted; upper and lower case differ (RFC 6749 section 3.3).
    pub fn contains(&self, word: &str) -> bool {
        self.iter().any(|granted| granted == word)
    }

    /// The granted words in the token's order.
    pub fn iter(&self) -> Words<'a> {
        self.0.clone()
    }

    /// Whether nothing was granted.
    pub fn is_empty(&self) -> bool {
        self.0.0.is_empty()
    }
}

impl<'a> IntoIterator for Scopes<'a> {
    type Item = &'a str;
    type IntoIter = Words<'a>;

    fn into_iter(self) -> Words<'a> {
        self.0
    }
}

impl<'a> IntoIterator for &Scopes<'a> {
    type Item = &'a str;
    type IntoIter = Words<'a>;

    fn into_iter(self) -> Words<'a> {
        self.iter()
    }
}

/// Appends one word; false when it is too long.
pub(super) fn push(word: &str, to: &mut String) -> bool {
    if word.len() > WORD_MAX {
        return false;
    }
    let seven_bits = |of: usize| char::from(u8::try_from(of & 0x7f).unwrap_or_default());
    to.reserve(2 + word.len());
    to.push(seven_bits(word.len() >> 7));
    to.push(seven_bits(word.len()));
    to.push_str(word);
    true
}

/// The kinds of a claim's value, its first character.
pub(super) const TEXT: char = 't';
pub(super) const LIST: char = 'l';
pub(super) const NUMBER: char = 'n';
pub(super) const BOOL: char = 'b';

/// Reads a claim's value.
pub(super) fn claim(value: &str) -> Option<ClaimValue<'_>> {
    let mut characters = value.chars();
    let kind = characters.next()?;
    let rest = characters.as_str();
    match kind {
        TEXT => Some(ClaimValue::Text(rest)),
        LIST => Some(ClaimValue::List(Words::of(rest))),
        NUMBER => rest.parse().ok().map(ClaimValue::Number),
        BOOL => rest.parse().ok().map(ClaimValue::Bool),
        _ => None,
    }
}
