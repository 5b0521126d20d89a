//! Every key of the configuration as data: its form, its default and its meaning.
//!
//! The JSON schema and the reference of keys are made from these tables. Invariant: what stands here is what the reader
//! reads, no more and no less; the tests in [`super::schema`] compare both and name the line to add.

mod deliver;
mod events;
pub(super) mod inbound;
mod rotation;
mod security;
mod sessions;
mod stores;
mod tables;
pub(super) mod words;

pub(super) use tables::{SECTIONS, TLS};

/// The form of a value.
#[derive(Clone, Copy, Debug)]
#[allow(dead_code, reason = "the vocabulary of forms is whole, whether or not a key uses each")]
pub(super) enum Shape {
    /// Any text.
    Text,
    /// The path of a file or folder.
    Path,
    /// `15m`; see [`super::duration`].
    Duration,
    /// A whole number from the first to the second.
    Number(u64, u64),
    /// A number from 0 to 1.
    Share,
    /// `true` or `false`.
    Flag,
    /// An IP address with a port.
    Listen,
    /// The same, or `off`.
    ListenOrOff,
    /// A list of addresses with ports, and of unix sockets.
    Listens,
    /// Permissions of a file in octal digits, at least read and write for its owner.
    Mode,
    /// A list of texts.
    Texts,
    /// A list of whole numbers from the first to the second.
    Numbers(u64, u64),
    /// `https://` (or `http://` on loopback) with a host and perhaps a path.
    Url,
    /// The same, or plain `http://` anywhere.
    HttpUrl,
    /// A list of the former.
    Urls,
    /// One of the former, or a list of 1 to 16.
    Servers,
    /// `http://host:port`, `environment` or `none`.
    Proxy,
    /// A list of at most one IP address of each family.
    Sources,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// The name of an environment, such as `production`.
    Environment,
    /// A region of Genesys Cloud.
    Region,
    /// An area of CXone, such as `na1`.
    Area,
    /// `store:NAME`, or `STORE:PATH`.
    StoreReference,
    /// A list of the former.
    StoreReferences,
    /// A list of names of sections.
    Names,
    /// The name of a credential.
    Credential,
    /// Text of a form that a pattern tells.
    Word(&'static Word),
    /// A list of the former.
    Words(&'static Word),
    /// A text, a whole number, `true` or `false`.
    Scalar,
    /// A list of the former, not empty.
    Scalars,
    /// A list of tables of its own.
    Tables(&'static Section),
    /// The name of an environment variable.
    Variable,
    /// The name of a file without a folder.
    FileName,
    /// The name of a section, such as a platform's.
    Name,
    /// A table of its own.
    Table(&'static Section),
}

/// A form of text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word {
    /// The whole text matches it.
    pub(super) pattern: &'static str,
    /// How to write it.
    pub(super) hint: &'static str,
    /// One that is fine, as TOML and as people read it.
    #[cfg(test)]
    pub(super) good: &'static str,
    /// Some that are not.
    #[cfg(test)]
    pub(super) bad: &'static [&'static str],
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    /// Its name.
    pub(super) name: &'static str,
    /// What its value looks like.
    pub(super) shape: Shape,
    /// What it means, as sentences for the person who hovers over it.
    pub(super) about: &'static str,
    /// What holds without it, as JSON; none when it has no value of its own then.
    pub(super) default: Option<&'static str>,
    /// Whether its section is refused without it.
    pub(super) required: bool,
}

impl Key {
    const fn new(name: &'static str, shape: Shape, about: &'static str) -> Self {
        Self { name, shape, about, default: None, required: false }
    }

    /// With what holds without it, as JSON.
    const fn default(self, json: &'static str) -> Self {
        Self { default: Some(json), ..self }
    }

    /// Its section is refused without it.
    const fn required(self) -> Self {
        Self { required: true, ..self }
    }
}

/// One table of the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Section {
    /// What it is for.
    pub(super) about: &'static str,
    /// Its keys, in the order in which people read them.
    pub(super) keys: &'static [Key],
    /// Keys of which at most one may stand.
    pub(super) at_most_one: &'static [&'static str],
    /// Sets of keys of which at least one must stand whole.
    pub(super) any_of: &'static [&'static [&'static str]],
    /// Keys that stand only beside another one.
    pub(super) beside: &'static [(&'static str, &'static str)],
    /// Pairs of keys that do not stand together.
    pub(super) apart: &'static [(&'static str, &'static str)],
}

impl Section {
    const fn new(about: &'static str, keys: &'static [Key]) -> Self {
        Self { about, keys, at_most_one: &[], any_of: &[], beside: &[], apart: &[] }
    }

    const fn at_most_one(self, keys: &'static [&'static str]) -> Self {
        Self { at_most_one: keys, ..self }
    }

    const fn beside(self, pairs: &'static [(&'static str, &'static str)]) -> Self {
        Self { beside: pairs, ..self }
    }

    const fn apart(self, pairs: &'static [(&'static str, &'static str)]) -> Self {
        Self { apart: pairs, ..self }
    }

    const fn any_of(self, sets: &'static [&'static [&'static str]]) -> Self {
        Self { any_of: sets, ..self }
    }
}

/// What stands under a word at the top of the file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Top {
    /// `[gateway]`
    One(&'static Section),
    /// `[platform.NAME]`, in one of these forms; more than one are told apart by their key `kind`.
    Named(&'static str, &'static [(&'static str, &'static Section)]),
}

/// Whether some table of the file has a key of this name.
pub(super) fn is_key(name: &str) -> bool {
    fn has(section: &Section, name: &str) -> bool {
        section.keys.iter().any(|key| {
            key.name == name
                || match key.shape {
                    Shape::Table(below) | Shape::Tables(below) => has(below, name),
                    _ => false,
                }
        })
    }
    SECTIONS.iter().any(|(_, top)| match top {
        Top::One(section) => has(section, name),
        Top::Named(_, forms) => forms.iter().any(|(_, section)| has(section, name)),
    })
}
