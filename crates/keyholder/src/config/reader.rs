//! Reads one table of the configuration key by key, and remembers which keys there are to be read.
//!
//! Invariant: every key of the file is either read by somebody or reported as unknown with the nearest known key;
//! reading never stops at a mistake.

use std::{cell::RefCell, net::SocketAddr, ops::Range, path::PathBuf, time::Duration};

use toml::de::{DeTable, DeValue};

use super::{
    duration,
    keys::{Section as Table, Word},
    mistake::Sink,
    model::{ListenAddress, ScalarConfig},
};

/// Keys that hold a secret wherever they stand: a frequent mistake with its own answer.
const SECRET_KEYS: [&str; 8] = [
    "client_secret",
    "password",
    "passphrase",
    "access_key_secret",
    "access_token",
    "refresh_token",
    "api_key",
    "token",
];

/// One table with its place in the file.
pub(super) struct Section<'a> {
    table: &'a DeTable<'a>,
    /// The bytes of its name in the file.
    pub(super) span: Range<usize>,
    /// `platform.acme`; empty for the root.
    pub(super) path: String,
    sink: &'a Sink,
    known: RefCell<Vec<&'static str>>,
}

/// A value with its place in the file.
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
}

impl<'a> Section<'a> {
    pub(super) fn root(table: &'a DeTable<'a>, sink: &'a Sink) -> Self {
        Self { table, span: 0..0, path: String::new(), sink, known: RefCell::default() }
    }

    pub(super) fn error(&self, span: Range<usize>, message: impl Into<String>, hint: impl Into<String>) {
        self.sink.error(span, message, Some(hint.into()));
    }

    pub(super) fn warning(&self, span: Range<usize>, message: impl Into<String>, hint: &str) {
        self.sink.warning(span, message, hint);
    }

    fn entry(&self, key: &'static str) -> Option<(&'a DeValue<'a>, Range<usize>)> {
        self.known.borrow_mut().push(key);
        #[cfg(test)]
        self.sink.asked.borrow_mut().push((self.path.clone(), key));
        self.table.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| (value.get_ref(), value.span()))
    }

    /// Where `key` stands, if it is there. Does not make it known.
    pub(super) fn place(&self, key: &str) -> Option<Range<usize>> {
        self.table.iter().find(|(name, _)| name.get_ref() == key).map(|(name, _)| name.span())
    }

    /// Marks keys as known that are reported by their own rule.
    pub(super) fn knows(&self, keys: &[&'static str]) {
        self.known.borrow_mut().extend_from_slice(keys);
    }

    fn wrong_type(&self, key: &str, span: Range<usize>, found: &DeValue<'_>, wanted: &str) {
        let hint = format!("write {key} as {wanted}; `keyholder config example` shows it");
        self.sink.error(span, format!("{key} is {}, not {wanted}", article(found.type_str())), Some(hint));
    }

    pub(super) fn text(&self, key: &'static str) -> Option<Located<&'a str>> {
        let (value, span) = self.entry(key)?;
        match value {
            DeValue::String(text) => Some(Located { value: text.as_ref(), span }),
            other => {
                self.wrong_type(key, span, other, "text in quotes");
                None
            }
        }
    }

    /// Text that something else parses; its error is the message.
    pub(super) fn parsed<T, E: std::fmt::Display>(
        &self,
        key: &'static str,
        hint: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<Located<T>> {
        let Located { value, span } = self.text(key)?;
        match parse(value) {
            Ok(value) => Some(Located { value, span }),
            Err(error) => {
                self.error(span, format!("{key}: {error}"), hint);
                None
            }
        }
    }

    pub(super) fn path(&self, key: &'static str) -> Option<Located<PathBuf>> {
        self.parsed(key, "give the path of a file or folder", |text| {
            if text.is_empty() { Err("the path is empty") } else { Ok(PathBuf::from(text)) }
        })
    }

    pub(super) fn duration(&self, key: &'static str) -> Option<Located<Duration>> {
        let (value, span) = self.entry(key)?;
        match value {
            DeValue::String(text) => match duration::parse(text) {
                Ok(value) => Some(Located { value, span }),
                Err(error) => {
                    self.error(span, format!("{key}: {error}"), "write it like \"15m\"");
                    None
                }
            },
            DeValue::Integer(_) => {
                self.error(span, format!("{key} has no unit"), "write it like \"15m\"");
                None
            }
            other => {
                self.wrong_type(key, span, other, "a duration such as \"15m\"");
                None
            }
        }
    }

    /// A whole number within `range`.
    pub(super) fn number(&self, key: &'static str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let (value, span) = self.entry(key)?;
        let DeValue::Integer(integer) = value else {
            self.wrong_type(key, span, value, "a whole number");
            return None;
        };
        let parsed =
            u64::from_str_radix(integer.as_str(), integer.radix()).ok().filter(|number| range.contains(number));
        if parsed.is_none() {
            let (least, most) = (range.start(), range.end());
            self.error(span, format!("{key} is out of range"), format!("give a number from {least} to {most}"));
        }
        parsed
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, key: &'static str) -> Option<bool> {
        let (value, span) = self.entry(key)?;
        let DeValue::Boolean(flag) = value else {
            self.wrong_type(key, span, value, "true or false");
            return None;
        };
        Some(*flag)
    }

    /// A number from 0 to 1.
    pub(super) fn share(&self, key: &'static str) -> Option<f64> {
        let (value, span) = self.entry(key)?;
        let text = match value {
            DeValue::Float(number) => number.as_str(),
            DeValue::Integer(number) => number.as_str(),
            other => {
                self.wrong_type(key, span, other, "a number such as 0.25");
                return None;
            }
        };
        let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
        if share.is_none() {
            self.error(span, format!("{key} is out of range"), "give a number from 0 to 1, such as 0.25");
        }
        share
    }

    /// The items of a list; an item that is no text is reported and reads as none.
    fn items(&self, key: &'static str) -> Option<Vec<Option<Located<&'a str>>>> {
        let (value, span) = self.entry(key)?;
        let DeValue::Array(items) = value else {
            self.wrong_type(key, span, value, "a list such as [\"a\", \"b\"]");
            return None;
        };
        let items = items.iter().map(|item| match item.get_ref() {
            DeValue::String(text) => Some(Located { value: text.as_ref(), span: item.span() }),
            other => {
                self.wrong_type(key, item.span(), other, "text in quotes");
                None
            }
        });
        Some(items.collect())
    }

    /// One text or a list of them; an item that is no text is reported and reads as none.
    pub(super) fn one_or_more(&self, key: &'static str) -> Option<Vec<Option<Located<&'a str>>>> {
        match self.entry(key)? {
            (DeValue::Array(_), _) => self.items(key),
            _ => Some(vec![Some(self.text(key)?)]),
        }
    }

    /// A list of text, without the items that are something else.
    pub(super) fn texts(&self, key: &'static str) -> Option<Vec<Located<&'a str>>> {
        Some(self.items(key)?.into_iter().flatten().collect())
    }

    /// Text of a form that a pattern tells.
    pub(super) fn word(&self, key: &'static str, word: &Word) -> Option<String> {
        let found = self.text(key)?;
        self.matching(key, word, &found)
    }

    /// A list of texts of one form; none when one of them has a mistake.
    pub(super) fn words(&self, key: &'static str, word: &Word) -> Option<Vec<Located<String>>> {
        // Read one by one before they are put together, so that every mistake is reported.
        let read = |item: Option<Located<&str>>| {
            let found = item?;
            Some(Located { value: self.matching(key, word, &found)?, span: found.span })
        };
        let read: Vec<_> = self.items(key)?.into_iter().map(read).collect();
        read.into_iter().collect()
    }

    fn matching(&self, key: &str, word: &Word, found: &Located<&str>) -> Option<String> {
        let pattern = regex::Regex::new(word.pattern).expect("the patterns of the tables of keys are valid");
        if pattern.is_match(found.value) {
            return Some(found.value.to_owned());
        }
        self.error(found.span.clone(), format!("{key} is not written as it should be"), word.hint);
        None
    }

    /// Names of other sections, under `known`; one that is not among them is reported and left out.
    pub(super) fn names(&self, key: &'static str, what: &str, known: &[String]) -> Option<Vec<String>> {
        let found = self.texts(key)?.into_iter().filter_map(|item| {
            if known.iter().any(|name| name == item.value) {
                return Some(item.value.to_owned());
            }
            let hint = match nearest(item.value, known.iter().map(String::as_str)) {
                Some(similar) => format!("did you mean \"{similar}\"?"),
                None => format!("add the section [{what}.NAME] for it"),
            };
            self.error(item.span, format!("{key}: there is no [{what}] of this name"), hint);
            None
        });
        Some(found.collect())
    }

    /// Reports which of `keys` are not there.
    pub(super) fn lacking(&self, keys: &[(&str, &str)]) {
        for (key, hint) in keys {
            if self.place(key).is_none() {
                self.error(self.span.clone(), format!("[{}] lacks {key}", self.path), *hint);
            }
        }
    }

    /// Reports what of the relations between the keys of `table` is not kept: the same that the schema says.
    pub(super) fn keeps(&self, table: &Table) {
        let there = |key: &&str| self.place(key).is_some();
        for key in table.keys.iter().filter(|key| key.required && !there(&key.name)) {
            let (path, name) = (&self.path, key.name);
            self.error(self.span.clone(), format!("[{path}] lacks {name}"), format!("{name}: {}", key.about));
        }
        let given: Vec<&str> = table.at_most_one.iter().copied().filter(there).collect();
        if let [first, second, ..] = given.as_slice() {
            let place = self.place(second).unwrap_or_else(|| self.span.clone());
            self.error(place, format!("{second} beside {first}"), format!("keep one of {}", given.join(", ")));
        }
        for (one, other) in table.apart.iter().filter(|(one, other)| there(one) && there(other)) {
            let place = self.place(other).unwrap_or_else(|| self.span.clone());
            self.error(place, format!("{other} beside {one}"), format!("keep one of {one} and {other}"));
        }
        if !table.any_of.is_empty() && !table.any_of.iter().any(|set| set.iter().all(there)) {
            let sets: Vec<String> = table.any_of.iter().map(|set| set.join(" with ")).collect();
            let choices = sets.join(", or ");
            self.error(self.span.clone(), format!("[{}] lacks {choices}", self.path), format!("write {choices}"));
        }
        for (key, other) in table.beside.iter().filter(|(key, other)| there(key) && !there(other)) {
            let place = self.place(key).unwrap_or_else(|| self.span.clone());
            self.error(place, format!("{key} without {other}"), format!("write {other} beside it"));
        }
    }

    /// The word under `kind`, one of `kinds`.
    pub(super) fn kind(&self, kinds: &[&'static str]) -> Option<&'static str> {
        let all = kinds.iter().map(|kind| format!("\"{kind}\"")).collect::<Vec<_>>().join(", ");
        self.lacking(&[("kind", &format!("kind is one of {all}"))]);
        let found = self.text("kind")?;
        if let Some(kind) = kinds.iter().find(|kind| **kind == found.value) {
            return Some(kind);
        }
        let hint = match nearest(found.value, kinds.iter().copied()) {
            Some(similar) => format!("did you mean \"{similar}\"?"),
            None => format!("write one of {all}"),
        };
        self.error(found.span, "there is no such kind", hint);
        None
    }

    /// One of these words.
    pub(super) fn choice<T: Copy>(&self, key: &'static str, choices: &[(&'static str, T)]) -> Option<Located<T>> {
        let words = choices.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        self.parsed(key, &format!("write one of {words}"), |text| {
            let found = choices.iter().find(|(word, _)| *word == text);
            found.map(|(_, value)| *value).ok_or("there is no such word")
        })
    }

    /// A text that is not empty, a whole number, or a truth value.
    pub(super) fn scalar(&self, key: &'static str) -> Option<ScalarConfig> {
        let (value, span) = self.entry(key)?;
        self.as_scalar(key, value, span)
    }

    /// A list of the former, not empty; none when one of them is something else.
    pub(super) fn scalars(&self, key: &'static str) -> Option<Vec<ScalarConfig>> {
        let (value, span) = self.entry(key)?;
        let DeValue::Array(items) = value else {
            self.wrong_type(key, span, value, "a list such as [\"a\", \"b\"]");
            return None;
        };
        if items.is_empty() {
            self.error(span, format!("{key} lists nothing"), "name at least one value");
            return None;
        }
        let read: Vec<_> = items.iter().map(|item| self.as_scalar(key, item.get_ref(), item.span())).collect();
        read.into_iter().collect()
    }

    fn as_scalar(&self, key: &str, value: &DeValue<'_>, span: Range<usize>) -> Option<ScalarConfig> {
        match value {
            DeValue::String(text) if !text.is_empty() => Some(ScalarConfig::Text(text.to_string())),
            DeValue::Boolean(flag) => Some(ScalarConfig::Flag(*flag)),
            DeValue::Integer(number) if number.radix() == 10 && number.as_str().parse::<i64>().is_ok() => {
                number.as_str().parse().ok().map(ScalarConfig::Number)
            }
            other => {
                self.wrong_type(key, span, other, "a text that is not empty, a whole number, true or false");
                None
            }
        }
    }

    /// A list of tables under this one: `[[path.key]]`.
    pub(super) fn tables(&self, key: &'static str) -> Vec<Self> {
        let Some((value, span)) = self.entry(key) else { return Vec::new() };
        let DeValue::Array(items) = value else {
            self.wrong_type(key, span, value, "a list of tables such as [{ name = \"a\" }]");
            return Vec::new();
        };
        items.iter().filter_map(|item| self.as_section(key, item.get_ref(), item.span())).collect()
    }

    /// A list of users by number; none when one of them is no number that a user can have.
    pub(super) fn uids(&self, key: &'static str) -> Option<Vec<u32>> {
        let (value, span) = self.entry(key)?;
        let DeValue::Array(items) = value else {
            self.wrong_type(key, span, value, "a list of numbers such as [1000, 1001]");
            return None;
        };
        // 4294967295 means "no user" to the kernel (chown(2)).
        let parse = |item: &toml::Spanned<DeValue<'_>>| match item.get_ref() {
            DeValue::Integer(number) => {
                let plain = number.radix() == 10;
                let uid = number.as_str().parse().ok().filter(|uid| plain && *uid != u32::MAX);
                if uid.is_none() {
                    let hint = "write the numbers that `id -u NAME` prints";
                    self.error(item.span(), format!("{key} holds a number that no user has"), hint);
                }
                uid
            }
            other => {
                self.wrong_type(key, item.span(), other, "a number");
                None
            }
        };
        let parsed: Vec<_> = items.iter().map(parse).collect();
        parsed.into_iter().collect()
    }

    pub(super) fn address(&self, key: &'static str) -> Option<SocketAddr> {
        let Located { value, span } = self.text(key)?;
        self.parse_address(key, value, span)
    }

    /// Several things to listen on; none when one of them has a mistake.
    pub(super) fn listeners(&self, key: &'static str) -> Option<Vec<ListenAddress>> {
        // Parsed one by one before they are put together, so that every mistake is reported.
        let parse = |item: Option<Located<&str>>| item.and_then(|item| self.parse_listener(key, &item));
        let parsed: Vec<_> = self.items(key)?.into_iter().map(parse).collect();
        parsed.into_iter().collect()
    }

    /// `127.0.0.1:8080`, or `unix:` and a path.
    fn parse_listener(&self, key: &str, item: &Located<&str>) -> Option<ListenAddress> {
        if !item.value.starts_with("unix:") {
            return self.parse_address(key, item.value, item.span.clone()).map(ListenAddress::Tcp);
        }
        if let Ok(kh_gateway::Listen::Unix(path)) = item.value.parse() {
            return Some(ListenAddress::Unix(path));
        }
        let problem = format!("{key} names no unix socket");
        self.error(item.span.clone(), problem, "write \"unix:/run/keyholder/gateway.sock\"");
        None
    }

    fn parse_address(&self, key: &str, text: &str, span: Range<usize>) -> Option<SocketAddr> {
        let parsed = text.parse().ok();
        if parsed.is_none() {
            let hint = match text.rsplit_once(':') {
                Some(("localhost", port)) => format!("write \"127.0.0.1:{port}\""),
                Some(("" | "*", port)) => format!("write \"0.0.0.0:{port}\""),
                _ => "write an IP address and a port, such as \"127.0.0.1:8080\"".to_owned(),
            };
            self.error(span, format!("{key} is not an address to listen on"), hint);
        }
        parsed
    }

    /// A table under this one; an absent one reads as none.
    pub(super) fn section(&self, key: &'static str) -> Option<Self> {
        let (value, span) = self.entry(key)?;
        let place = self.place(key).unwrap_or_else(|| span.clone());
        self.as_section(key, value, place)
    }

    /// The tables under `key` by name: `[platform.NAME]`.
    pub(super) fn named_sections(&self, key: &'static str) -> Vec<(Located<&'a str>, Self)> {
        let Some(parent) = self.section(key) else { return Vec::new() };
        let entries = parent.table.iter().filter_map(|(name, value)| {
            let place = name.span();
            let section = parent.as_section(name.get_ref(), value.get_ref(), place.clone())?;
            Some((Located { value: name.get_ref().as_ref(), span: place }, section))
        });
        entries.collect()
    }

    fn as_section(&self, key: &str, value: &'a DeValue<'a>, place: Range<usize>) -> Option<Self> {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        let DeValue::Table(table) = value else {
            self.sink.error(place, format!("{path} is not a table"), Some(format!("write it as [{path}]")));
            return None;
        };
        Some(Self { table, span: place, path, sink: self.sink, known: RefCell::default() })
    }

    /// Reports every key that nobody read.
    pub(super) fn finish(self) {
        let known = self.known.borrow();
        let inside = if self.path.is_empty() { "at the top".to_owned() } else { format!("in [{}]", self.path) };
        for (name, _) in self.table {
            let key: &str = name.get_ref();
            if known.contains(&key) {
                continue;
            }
            if SECRET_KEYS.contains(&key.to_ascii_lowercase().as_str()) {
                self.error(
                    name.span(),
                    format!("{key} {inside}: secrets do not belong into this file"),
                    "put it into the store with `keyholder secret set NAME` and write secret = \"store:NAME\"",
                );
                continue;
            }
            let shown: String = key.chars().take(64).collect();
            let hint = match nearest(key, known.iter().copied()) {
                Some(similar) => format!("did you mean {similar}?"),
                None => format!("known here: {}", known.join(", ")),
            };
            self.error(name.span(), format!("unknown key {shown} {inside}"), hint);
        }
    }
}

fn article(kind: &str) -> String {
    let vowel = kind.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {kind}", if vowel { "an" } else { "a" })
}

/// The most similar of `words`, if at most a third of its letters differ.
pub(crate) fn nearest<'w>(text: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    if text.len() > 64 {
        return None;
    }
    let text = text.to_ascii_lowercase();
    words
        .map(|word| (strsim::damerau_levenshtein(&text, word), word))
        .min()
        .filter(|(distance, word)| distance * 3 <= word.len().max(3))
        .map(|(_, word)| word)
}
