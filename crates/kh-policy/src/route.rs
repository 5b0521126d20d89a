//! The routes of a protected API: host, method and path template, and what a token must say for each.
//!
//! Which route a request is: of those that fit its host, method and path, the most specific one, whatever their order
//! in the file. A named host comes before every host; then templates are compared segment by segment from the left, a
//! word before `{id}` before `**`; then a named method before `*`. A `HEAD` request is a route's `GET` when it has no
//! `HEAD` of its own, because that is how servers answer it (RFC 9110 section 9.3.2).
//!
//! Invariant: default deny, and no way around a stricter route by another spelling. Where a lenient server could take
//! the request for a more specific route than the one whose words it has (letter case, `;parameters`, an extension, a
//! trailing slash, a method in small letters), the request is no route at all.

mod line;
mod rule;
mod trie;

use std::{collections::HashSet, net::Ipv6Addr};

pub use line::REQUIRE_LINE_MAX;
pub use rule::{NAME_MAX, RouteRule};

use crate::path::CanonicalPath;
use trie::{Step, Tree, Verb, Walk};

/// Most routes of one site: the built-in table of 3,180 and four times as many, at some 300 bytes each.
pub const ROUTES_MAX: usize = 16_384;
/// Most different methods of one site: RFC 9110 has 8, the IANA registry 40; they are the bits of one number.
pub const METHODS_MAX: usize = 64;

/// Why routes cannot stand beside each other. Routes are told by their names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteTableError {
    /// More than [`ROUTES_MAX`].
    #[error("there are {0} routes; at most {ROUTES_MAX} are possible")]
    TooMany(usize),
    /// More than [`METHODS_MAX`].
    #[error("the routes have more than {METHODS_MAX} different methods")]
    TooManyMethods,
    /// Names must differ: metrics and the log tell routes by them.
    #[error("two routes have the name `{0}`")]
    SameName(Box<str>),
    /// Equal in host, method and shape, so that the one or the other would never be used.
    #[error("the routes `{first}` and `{second}` take the same requests")]
    SameRequests {
        /// The name of the route that comes first.
        first: Box<str>,
        /// The name of the other.
        second: Box<str>,
    },
}

/// What a request is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Found<'a> {
    /// This route, and its index in the list that the table was made of.
    Route(usize, &'a RouteRule),
    /// The path has routes, but none for this method; the answer names those (RFC 9110 section 15.5.6).
    MethodNotAllowed(Methods<'a>),
    /// No route: refused.
    None,
}

/// A set of methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Methods<'a> {
    names: &'a [Box<str>],
    bits: u64,
}

impl<'a> Methods<'a> {
    /// Their names, in alphabetical order.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let bits = self.bits;
        self.names.iter().enumerate().filter(move |(at, _)| bits >> at & 1 == 1).map(|(_, name)| &**name)
    }
}

/// All routes of a site.
#[derive(Debug)]
pub struct RouteTable {
    rules: Box<[RouteRule]>,
    /// In alphabetical order; a method's number is its place.
    methods: Box<[Box<str>]>,
    /// In alphabetical order.
    hosts: Box<[(Box<str>, Tree)]>,
    every_host: Tree,
}

impl RouteTable {
    /// The table of these routes.
    pub fn new(rules: Vec<RouteRule>) -> Result<Self, RouteTableError> {
        Self::beside(rules, Vec::new())
    }

    /// The table of the `own` routes and of those `built_in` ones that have no own one for the same requests. Indexes
    /// are those of the own routes, then of the built-in ones that are left.
    pub fn beside(own: Vec<RouteRule>, built_in: Vec<RouteRule>) -> Result<Self, RouteTableError> {
        let count = own.len() + built_in.len();
        if count > ROUTES_MAX {
            return Err(RouteTableError::TooMany(count));
        }
        let mut table = Self {
            methods: methods_of(own.iter().chain(&built_in))?,
            hosts: hosts_of(own.iter().chain(&built_in)),
            every_host: Tree::default(),
            rules: Box::default(),
        };
        let mut rules: Vec<RouteRule> = Vec::with_capacity(count);
        let own_count = own.len();
        for (at, rule) in own.into_iter().chain(built_in).enumerate() {
            match table.insert(&rule, rules.len()).map_err(Step::index) {
                Ok(()) => rules.push(rule),
                Err(taken) if at >= own_count && taken < own_count => {}
                Err(taken) => {
                    let first = rules.get(taken).map_or_else(Box::default, |rule| rule.name().into());
                    return Err(RouteTableError::SameRequests { first, second: rule.name().into() });
                }
            }
        }
        let mut names = HashSet::with_capacity(rules.len());
        if let Some(rule) = rules.iter().find(|rule| !names.insert(rule.name())) {
            return Err(RouteTableError::SameName(rule.name().into()));
        }
        table.rules = rules.into();
        table.every_host.finish();
        table.hosts.iter_mut().for_each(|(_, tree)| tree.finish());
        Ok(table)
    }

    /// The routes; a route's index is its place.
    pub fn rules(&self) -> &[RouteRule] {
        &self.rules
    }

    /// Which route a request is. `host` is the request's host in any letter case, with or without a port; empty when
    /// it has none. Where routes have hosts, a host that can be read in two ways is none. Does not allocate.
    pub fn find(&self, host: &str, method: &str, path: &CanonicalPath<'_>) -> Found<'_> {
        let Ok(named) = self.tree_of(host) else { return Found::None };
        let verb = Verb::of(method, &self.methods);
        for tree in named.into_iter().chain([&self.every_host]) {
            match tree.walk(path, verb) {
                Walk::Found(at) => {
                    return self.rules.get(at).map_or(Found::None, |rule| Found::Route(at, rule));
                }
                Walk::Ambiguous => return Found::None,
                Walk::Nothing => {}
            }
        }
        let bits = named.into_iter().chain([&self.every_host]).fold(0, |bits, tree| bits | tree.methods_at(path));
        if bits == 0 { Found::None } else { Found::MethodNotAllowed(Methods { names: &self.methods, bits }) }
    }

    /// The routes of this host alone; an error where somebody could read it as another host.
    fn tree_of(&self, host: &str) -> Result<Option<&Tree>, Unreadable> {
        if self.hosts.is_empty() {
            return Ok(None);
        }
        let host = bare_host(host)?;
        let found = if let Some(address) = v6(host) {
            self.hosts.iter().position(|(name, _)| v6(name) == Some(address))
        } else {
            let compare = |name: &str| name.bytes().cmp(host.bytes().map(|byte| byte.to_ascii_lowercase()));
            self.hosts.binary_search_by(|(name, _)| compare(name)).ok()
        };
        Ok(found.and_then(|at| self.hosts.get(at)).map(|(_, tree)| tree))
    }

    /// Enters one rule; the index of the rule that has its place, if one has. A rule with several hosts is entered in
    /// all of them or in none.
    fn insert(&mut self, rule: &RouteRule, index: usize) -> Result<(), Step> {
        let template = rule.template();
        let method = template.method().map(|name| {
            self.methods.iter().position(|known| **known == *name).expect("every rule's method was collected before")
        });
        let step = Step::new(method, index);
        if rule.hosts().next().is_none() {
            return self.every_host.insert(template, step);
        }
        let mine = |name: &str| rule.hosts().any(|host| host == name);
        let mut trees = self.hosts.iter_mut().filter(|(name, _)| mine(name)).map(|(_, tree)| tree).collect::<Vec<_>>();
        if let Some(taken) = trees.iter().find_map(|tree| tree.taken(template, step)) {
            return Err(taken);
        }
        trees.iter_mut().try_for_each(|tree| tree.insert(template, step))
    }
}

/// Whether every server reads a `Host` (with a port or without, RFC 9110 section 7.2) in the same way, as a host and as
/// nothing else. An empty one says that there is none.
pub fn is_host(host: &str) -> bool {
    bare_host(host).is_ok()
}

/// A host that is not one of RFC 3986 section 3.2.2 as clients write it.
struct Unreadable;

/// A host without its port and without the dot that ends an absolute name. An IPv6 address keeps its brackets. Escapes,
/// user names, empty labels and whatever else servers read in different ways are errors.
fn bare_host(host: &str) -> Result<&str, Unreadable> {
    if host.is_empty() {
        return Ok(host);
    }
    let end = if host.starts_with('[') { host.find(']').map(|at| at + 1) } else { host.find(':') };
    let (name, port) = host.split_at_checked(end.unwrap_or(host.len())).ok_or(Unreadable)?;
    let is_port = port.strip_prefix(':').is_none_or(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    if !is_port || (!port.is_empty() && !port.starts_with(':')) {
        return Err(Unreadable);
    }
    if name.starts_with('[') {
        return if v6(name).is_some() { Ok(name) } else { Err(Unreadable) };
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let is_label = |label: &str| !label.is_empty() && label.bytes().all(plain);
    if name.split('.').all(is_label) { Ok(name) } else { Err(Unreadable) }
}

/// The address in brackets.
fn v6(host: &str) -> Option<Ipv6Addr> {
    host.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

fn methods_of<'a>(rules: impl Iterator<Item = &'a RouteRule>) -> Result<Box<[Box<str>]>, RouteTableError> {
    let mut names: Vec<Box<str>> = Vec::new();
    for name in rules.filter_map(RouteRule::method) {
        if let Err(at) = names.binary_search_by(|known| (**known).cmp(name)) {
            names.insert(at, name.into());
        }
        if names.len() > METHODS_MAX {
            return Err(RouteTableError::TooManyMethods);
        }
    }
    Ok(names.into())
}

fn hosts_of<'a>(rules: impl Iterator<Item = &'a RouteRule>) -> Box<[(Box<str>, Tree)]> {
    let mut names: Vec<&str> = rules.flat_map(RouteRule::hosts).collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().map(|name| (name.into(), Tree::default())).collect()
}

#[cfg(test)]
mod tests;
