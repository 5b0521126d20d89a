//! Reads the built-in table.
//!
//! Invariant: every line is read whole, or the table is not read at all; tests read all of it.

/// The table. Its head tells how it is written.
pub(super) static TEXT: &str = include_str!("../../data/genesys-operations.txt");

/// The permissions that an operation requires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Permissions {
    /// One of these; none when there are none.
    Any(Vec<&'static str>),
    /// All of these, at least two.
    All(Vec<&'static str>),
}

/// How the platform itself authenticates a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// By an OAuth token.
    Token,
    /// By the token of a guest of a chat.
    Guest,
    /// Not at all.
    Anyone,
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Operation {
    pub(super) method: &'static str,
    /// With `{name}` for what is variable.
    pub(super) path: String,
    /// Told for completeness: no decision depends on it.
    pub(super) caller: Caller,
    /// Any of these.
    pub(super) scopes: Vec<&'static str>,
    pub(super) permissions: Permissions,
}

const WELL_FORMED: &str = "the built-in table is well formed: a test reads all of it";

/// All operations, in the order of their paths.
pub(super) fn operations() -> impl Iterator<Item = Operation> {
    let mut sections = TEXT.split("\n\n").skip(1);
    let mut words = || sections.next().expect(WELL_FORMED).lines().collect::<Vec<&str>>();
    let (scopes, permissions, lines) = (words(), words(), words());
    let mut path = String::new();
    lines.into_iter().flat_map(move |line| {
        let mut fields = line.split(' ');
        follow(&mut path, &mut fields).expect(WELL_FORMED);
        let mut operations = Vec::new();
        while let Some(method) = fields.next() {
            operations.push(operation(method, &path, &mut fields, &scopes, &permissions).expect(WELL_FORMED));
        }
        operations
    })
}

/// The next path: so many segments of the one before, then what follows.
fn follow<'a>(path: &mut String, fields: &mut impl Iterator<Item = &'a str>) -> Option<()> {
    let shared: usize = fields.next()?.parse().ok()?;
    // where the first segment begins that is not shared
    let begin = path.bytes().enumerate().filter(|(_, byte)| *byte == b'/').map(|(at, _)| at).nth(shared);
    path.truncate(begin.unwrap_or(path.len()));
    path.push('/');
    path.push_str(fields.next()?);
    Some(())
}

fn operation(
    method: &'static str,
    path: &str,
    fields: &mut impl Iterator<Item = &'static str>,
    scopes: &[&'static str],
    permissions: &[&'static str],
) -> Option<Operation> {
    let (method, caller) = match method.split_at_checked(method.len().checked_sub(1)?)? {
        (method, "!") => (method, Caller::Anyone),
        (method, "?") => (method, Caller::Guest),
        _ => (method, Caller::Token),
    };
    let scopes = pick(fields.next()?, '|', scopes)?;
    let required = fields.next()?;
    let permissions = if required.contains('&') {
        Permissions::All(pick(required, '&', permissions)?)
    } else {
        Permissions::Any(pick(required, '|', permissions)?)
    };
    Some(Operation { method, path: path.to_owned(), caller, scopes, permissions })
}

/// The words with these numbers; `-` is none.
fn pick(numbers: &str, divider: char, words: &[&'static str]) -> Option<Vec<&'static str>> {
    if numbers == "-" {
        return Some(Vec::new());
    }
    numbers.split(divider).map(|number| words.get(number.parse::<usize>().ok()?).copied()).collect()
}
