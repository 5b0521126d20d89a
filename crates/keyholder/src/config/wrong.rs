//! Well-known wrong endpoints, headers, scopes and names of Genesys Cloud and CXone, and the right ones.
//!
//! Invariant: a finding rests on the table alone, shows no more of the text than what the table's pattern matched, and
//! never a part of it that could be a secret.

mod table;

use std::{ops::Range, sync::LazyLock};

use kh_platform::genesys;
use regex::{Regex, RegexBuilder};
use serde::Serialize;

use super::{mask::mask_words, mistake::position};

/// Where an entry holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Platform {
    /// Whatever the text is about.
    Any,
    /// In a text about Genesys Cloud.
    Genesys,
    /// In a text about CXone and not about Genesys Cloud.
    Cxone,
}

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Wrong {
    /// A name that stays, for scripts.
    name: &'static str,
    platform: Platform,
    pattern: &'static str,
    problem: &'static str,
    right: &'static str,
    source: &'static str,
}

const fn wrong(
    name: &'static str,
    platform: Platform,
    pattern: &'static str,
    problem: &'static str,
    right: &'static str,
    source: &'static str,
) -> Wrong {
    Wrong { name, platform, pattern, problem, right, source }
}

/// Something wrong in a text.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Finding {
    /// The name of the entry.
    pub(crate) name: &'static str,
    /// Line, from 1.
    pub(crate) line: usize,
    /// Column in characters, from 1.
    pub(crate) column: usize,
    /// What stands there, as far as the pattern goes.
    pub(crate) found: String,
    /// What is wrong with it.
    pub(crate) problem: &'static str,
    /// What to write instead.
    pub(crate) right: String,
    /// What the entry rests on.
    pub(crate) source: &'static str,
    #[serde(skip)]
    span: Range<usize>,
}

impl Finding {
    /// What the configuration has in its place.
    pub(super) fn setting(&self) -> String {
        if self.name.starts_with("cxone") {
            return "kind = \"cxone\" and issuer = \"https://cxone.niceincontact.com\"".to_owned();
        }
        match regions_of(&self.right).next() {
            Some(region) => format!("kind = \"genesys\" and region = \"{region}\""),
            None => "kind = \"genesys\" and region = \"eu-central-1\" (or another)".to_owned(),
        }
    }
}

/// The regions whose domain a text names.
fn regions_of(text: &str) -> impl Iterator<Item = &'static str> {
    let named = |region: &&genesys::Region| text.contains(&format!(".{}/", region.domain));
    genesys::regions().iter().filter(named).map(|region| region.aws_region.as_str())
}

/// Longest piece of the text that is shown, in characters.
const FOUND_MAX: usize = 120;

/// Most findings of one text; a file with more was not written for a platform.
pub(crate) const FINDINGS_MAX: usize = 1000;

/// A compiled pattern takes a few KiB; the largest alternation is the 18 domains.
const PATTERN_BYTES_MAX: usize = 4 * 1024 * 1024;

static PATTERNS: LazyLock<Vec<(&'static Wrong, Regex)>> =
    LazyLock::new(|| table::TABLE.iter().map(|entry| (entry, compile(entry.pattern))).collect());

/// Words that tell what a text is about.
static ABOUT_GENESYS: LazyLock<Regex> =
    LazyLock::new(|| compile(r"genesys|purecloud|pure\.cloud|\binin-|\binin\b|/api/v2/"));
static ABOUT_CXONE: LazyLock<Regex> = LazyLock::new(|| compile(r"cxone|nice-?incontact|\bincontact\b"));

fn compile(pattern: &str) -> Regex {
    let mut domains: Vec<_> = genesys::regions().iter().map(|region| region.domain.replace('.', r"\.")).collect();
    // mypurecloud.com is a prefix of mypurecloud.com.au
    domains.sort_by_key(|domain| std::cmp::Reverse(domain.len()));
    let genesys = format!(r"(?P<domain>{})", domains.join("|"));
    let nice = r"\b(?:nice-?incontact|nicecxone|nicecxone-gov|incontact)\.com";
    let pattern = pattern.replace("{G}", &genesys).replace("{N}", nice);
    RegexBuilder::new(&pattern)
        .case_insensitive(true)
        .size_limit(PATTERN_BYTES_MAX)
        .build()
        .expect("the patterns are part of the program and a test compiles them")
}

/// Everything wrong in `text`, in its order.
pub(crate) fn find(text: &str) -> Vec<Finding> {
    let about_genesys = ABOUT_GENESYS.is_match(text);
    let about_cxone = ABOUT_CXONE.is_match(text) && !about_genesys;
    let holds = |entry: &Wrong| match entry.platform {
        Platform::Any => true,
        Platform::Genesys => about_genesys,
        Platform::Cxone => about_cxone,
    };
    let mut all: Vec<Finding> = Vec::new();
    for (entry, pattern) in PATTERNS.iter().filter(|(entry, _)| holds(entry)) {
        for found in pattern.captures_iter(text) {
            let Some(whole) = found.get(0) else { continue };
            // an earlier line of the table says more about the same place
            let told = all.iter().any(|other| other.span.start < whole.end() && whole.start() < other.span.end);
            if told || all.len() >= FINDINGS_MAX {
                continue;
            }
            let start = whole.start() + (whole.as_str().len() - whole.as_str().trim_start().len());
            let (line, column) = position(text, start);
            let domain = found.name("domain").map_or("<domain>", |domain| domain.as_str());
            let shown: String = whole.as_str().trim().chars().take(FOUND_MAX).collect();
            all.push(Finding {
                name: entry.name,
                line,
                column,
                found: mask_words(&shown),
                problem: entry.problem,
                right: entry.right.replace("{domain}", &domain.to_ascii_lowercase()),
                source: entry.source,
                span: start..whole.end(),
            });
        }
    }
    all.sort_by_key(|finding| finding.span.start);
    all
}

/// What is wrong with an address, if the table knows it.
pub(super) fn of_address(address: &str) -> Option<Finding> {
    // every address in the table has one of these words, and most addresses have none
    let may_be = ABOUT_GENESYS.is_match(address) || ABOUT_CXONE.is_match(address);
    if may_be { find(address).into_iter().next() } else { None }
}

/// What is wrong with a scope that is asked for at Genesys Cloud.
pub(super) fn of_scope(scope: &str) -> Option<Finding> {
    find(&format!("genesys {scope}")).into_iter().next()
}

#[cfg(test)]
mod tests;
