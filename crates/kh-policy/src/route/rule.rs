//! One route: what requests it takes, and what it requires of them.
//!
//! Invariant: its name can stand in a metric and in a log line as it is.

use crate::{
    Requirement,
    template::{RuleError, Template, mistake},
};

/// Longest name of a route, in bytes: it is a label of metrics. A rule's text has at most 512.
pub const NAME_MAX: usize = 512;
/// Longest host name (RFC 1035 section 2.3.4, without the last dot).
const HOST_MAX: usize = 253;

/// One route.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteRule {
    /// Where it is not the template's text.
    name: Option<Box<str>>,
    hosts: Box<[Box<str>]>,
    issuers: Box<[Box<str>]>,
    template: Template,
    requirement: Requirement,
    allows_basic: bool,
}

impl RouteRule {
    /// The route that `text` describes, as [`crate::Rule::parse`] reads it: `METHOD /path`. Its name is that text. It
    /// takes requests for every host, and tokens of every issuer of its site.
    pub fn new(text: &str, requirement: Requirement) -> Result<Self, RuleError> {
        Ok(Self::known(Template::parse(text)?, requirement))
    }

    pub(crate) fn known(template: Template, requirement: Requirement) -> Self {
        let (hosts, issuers) = Default::default();
        Self { name: None, hosts, issuers, template, requirement, allows_basic: false }
    }

    /// The same with another name, which has 1 to [`NAME_MAX`] bytes of visible ASCII and single spaces.
    pub fn named(self, name: &str) -> Result<Self, RuleError> {
        let visible = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
        if let Some(at) = name.bytes().position(|byte| !visible(byte)) {
            return Err(mistake(at + 1, "the name has a character that is not visible ASCII", "write it in letters"));
        }
        if name.trim().is_empty() || name.trim() != name || name.len() > NAME_MAX {
            return Err(mistake(1, "the name is empty, too long, or has spaces around it", "write a short word"));
        }
        Ok(Self { name: Some(name.into()), ..self })
    }

    /// The same for these hosts alone, each without a port and in small letters; none is every host.
    pub fn on_hosts(self, hosts: &[&str]) -> Result<Self, RuleError> {
        if let Some(index) = hosts.iter().position(|host| !is_host(host)) {
            let hint = "write the name as `api.example.com`, without port or wildcard";
            return Err(RuleError { index, ..mistake(1, "this is not a host in small letters", hint) });
        }
        Ok(Self { hosts: sorted(hosts), ..self })
    }

    /// The same for tokens of these issuers alone, by their names in the configuration; none is every issuer of the
    /// site.
    pub fn from_issuers(self, issuers: &[&str]) -> Self {
        Self { issuers: sorted(issuers), ..self }
    }

    /// The same with this requirement.
    pub fn requiring(self, requirement: Requirement) -> Self {
        Self { requirement, ..self }
    }

    /// The same that lets `Basic` credentials (RFC 7617) through to the API, which then authenticates them by itself.
    pub fn allowing_basic(self) -> Self {
        Self { allows_basic: true, ..self }
    }

    /// Whether `Basic` credentials pass, unverified.
    pub fn allows_basic(&self) -> bool {
        self.allows_basic
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_else(|| self.template.text())
    }

    /// The hosts that it is for; none is every host.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.hosts.iter().map(|host| &**host)
    }

    /// The issuers whose tokens it takes; none is every issuer of its site.
    pub fn issuers(&self) -> impl Iterator<Item = &str> {
        self.issuers.iter().map(|issuer| &**issuer)
    }

    /// Whether it takes tokens of the issuer with this name in the configuration.
    pub fn takes_issuer(&self, name: &str) -> bool {
        self.issuers.is_empty() || self.issuers.iter().any(|issuer| **issuer == *name)
    }

    /// Its method; `None` is every method.
    pub fn method(&self) -> Option<&str> {
        self.template.method()
    }

    /// What it requires.
    pub fn requirement(&self) -> &Requirement {
        &self.requirement
    }

    pub(super) fn template(&self) -> &Template {
        &self.template
    }
}

fn sorted(names: &[&str]) -> Box<[Box<str>]> {
    let mut names: Vec<Box<str>> = names.iter().map(|name| (*name).into()).collect();
    names.sort_unstable();
    names.dedup();
    names.into()
}

/// A name, an IPv4 address, or an IPv6 address in brackets.
fn is_host(text: &str) -> bool {
    if let Some(address) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok_and(|parsed| parsed.to_string() == address);
    }
    let label = |label: &str| {
        let edge = |byte: Option<&u8>| byte.is_some_and(|byte| *byte != b'-');
        let bytes = label.as_bytes();
        let good = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(byte);
        bytes.iter().all(good) && edge(bytes.first()) && edge(bytes.last()) && bytes.len() <= 63
    };
    text.len() <= HOST_MAX && text.split('.').all(label)
}
