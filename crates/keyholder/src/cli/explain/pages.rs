//! The pages of `docs/errors`, kept in the program, and what is read out of them.
//!
//! A page is Markdown of a fixed form: the code as its heading, a sentence, a table of facts, sections, and a last line
//! with the tests that provoke the code. `cargo xtask tidy` checks that these tests exist and are about the code.

use kh_core::Code;

use crate::output::Style;

macro_rules! pages {
    ($($short:literal),* $(,)?) => {
        /// Every page by the part of its code after `keyholder.`.
        const PAGES: &[(&str, &str)] =
            &[$(($short, include_str!(concat!("../../../../../docs/errors/keyholder.", $short, ".md")))),*];
    };
}

pages![
    "caller.unauthenticated",
    "caller.proof_invalid",
    "client.disabled",
    "grant.refused",
    "session.ended",
    "login.throttled",
    "signing.unavailable",
    "call.not_allowed",
    "call.guarded",
    "environment.refused",
    "inbound.token_missing",
    "inbound.authorization_malformed",
    "inbound.token_invalid",
    "inbound.throttled",
    "inbound.proof_invalid",
    "inbound.not_allowed",
    "inbound.issuer_unavailable",
    "inbound.upstream_failed",
    "request.ambiguous",
    "request.malformed",
    "request.too_large",
    "not_found",
    "method.not_allowed",
    "upgrade.refused",
    "credential.rejected",
    "credential.unusable",
    "token.rate_limited",
    "token.unavailable",
    "token.ttl_unsatisfiable",
    "upstream.unreachable",
    "upstream.timeout",
    "upstream.tls",
    "upstream.proxy",
    "upstream.protocol",
    "guard.refused",
    "overloaded",
    "store.unavailable",
    "store.tampered",
    "store.truncated",
    "store.wrong_key",
    "store.too_new",
    "store.conflict",
    "store.denied",
    "rotation.platform",
    "rotation.unknown_outcome",
    "rotation.denied",
    "rotation.unsupported",
    "rotation.fenced",
    "rotation.held",
    "rotation.unfinished",
    "rotation.needs_operator",
    "state.unavailable",
    "state.damaged",
    "state.in_use",
    "restore.unfinished",
    "backup.invalid",
    "audit.broken",
    "config.invalid",
    "usage",
    "demo.step_failed",
    "internal",
];

/// How the last line of a page begins.
const TESTED: &str = "Tested by ";

/// The page of one code.
#[derive(Clone, Copy)]
pub(super) struct Page {
    /// The whole page.
    pub(super) text: &'static str,
}

impl Page {
    /// The page of `code`, if it has one.
    pub(super) fn of(code: Code) -> Option<Self> {
        PAGES.iter().find(|(short, _)| *short == code.short()).map(|(_, text)| Self { text })
    }

    /// The sentence below the heading.
    pub(super) fn summary(self) -> &'static str {
        self.text.lines().skip(1).find(|line| !line.is_empty()).unwrap_or_default()
    }

    /// A value of the table of facts; empty if there is none of this name.
    pub(super) fn fact(self, name: &str) -> &'static str {
        self.text.lines().find_map(|line| fact(line).filter(|(key, _)| *key == name)).map_or("", |(_, value)| value)
    }

    /// The tests of the last line.
    pub(super) fn tests(self) -> Vec<&'static str> {
        let line = self.text.lines().rev().find_map(|line| line.strip_prefix(TESTED)).unwrap_or_default();
        line.split('`').skip(1).step_by(2).collect()
    }

    /// The page for a terminal: facts as lines, links as the files they lead to, without the tests.
    pub(super) fn for_people(self, style: Style) -> String {
        let mut lines = Vec::new();
        for line in self.text.lines().take_while(|line| !line.starts_with(TESTED)) {
            if let Some((name, value)) = fact(line) {
                lines.push(format!("{:<14}{value}", format!("{name}:")));
            } else if let Some(heading) = line.strip_prefix("# ").or_else(|| line.strip_prefix("## ")) {
                lines.push(style.bold(heading));
            } else if !line.starts_with('|') && !line.trim_start().starts_with("```") {
                lines.push(without_links(line));
            }
        }
        // the frames that were left out leave two empty lines behind
        lines.dedup_by(|line, before| line.is_empty() && before.is_empty());
        lines.join("\n").trim_end().to_owned() + "\n"
    }
}

/// `| name | value |`, but not the table's own frame.
fn fact(line: &'static str) -> Option<(&'static str, &'static str)> {
    let (name, value) = line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | ")?;
    (!name.trim().is_empty()).then_some((name, value))
}

/// `[words](../guide/page.md)` as `words (docs/guide/page.md)`.
fn without_links(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("](") {
        let Some((before, words)) = before.rsplit_once('[') else { break };
        let Some((target, after)) = after.split_once(')') else { break };
        let target = target.replacen("../", "docs/", 1);
        text.extend([before, words, " (", &target, ")"]);
        rest = after;
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A new code needs its page in the same change: the form is in `docs/errors/README.md`.
    #[test]
    fn every_code_has_its_page_and_no_page_is_left_over() {
        let codes: BTreeSet<&str> = Code::ALL.iter().map(|(code, ..)| code.short()).collect();
        let pages: BTreeSet<&str> = PAGES.iter().map(|(short, _)| *short).collect();
        assert_eq!(codes, pages);
        assert_eq!(PAGES.len(), pages.len());
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors");
        let files: BTreeSet<String> =
            std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        let expected =
            pages.iter().map(|short| format!("keyholder.{short}.md")).chain(["README.md".to_owned()]).collect();
        assert_eq!(files, expected);
    }

    #[test]
    fn every_page_has_the_form_and_the_codes_own_facts() {
        for (code, status, title) in Code::ALL {
            let page = Page::of(*code).unwrap();
            assert!(page.text.starts_with(&format!("# {code}\n\n")), "{code}");
            assert_eq!(
                (page.fact("title"), page.fact("usual status")),
                (*title, status.to_string().as_str()),
                "{code}"
            );
            assert!(!page.fact("who acts").is_empty() && !page.fact("retry").is_empty(), "{code}");
            assert!(page.summary().ends_with('.'), "{code}");
            for section in ["What it means", "What callers see", "What to do", "Does a retry help?"] {
                assert!(page.text.contains(&format!("\n## {section}\n")), "{code}: {section}");
            }
            assert!(!page.tests().is_empty(), "{code}");
        }
    }

    #[test]
    fn for_people_no_markup_is_left() {
        let page = Page {
            text: "# c\n\nS.\n\n| | |\n|---|---|\n| title | t |\n\n## H\n\n```sh\nx\n```\n\n- [a](../b.md) c\n\nTested by `x`.\n",
        };
        assert_eq!(page.for_people(Style::new(false)), "c\n\nS.\n\ntitle:        t\n\nH\n\nx\n\n- a (docs/b.md) c\n");
        assert_eq!(page.tests(), ["x"]);
        assert_eq!(without_links("[a](b) and [c] d [e](../f#g)."), "a (b) and [c] d e (docs/f#g).");
    }
}
