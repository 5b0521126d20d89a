//! `keyholder explain`: what an error code means and what to do, from the pages in `docs/errors`.
//!
//! Invariant: every code of `kh_core::Code` has a page, and the page's title and status are the code's own.

mod pages;

use clap::Args;
use kh_core::Code;
use serde::Serialize;

use super::Context;
use crate::{
    config::nearest,
    output::{Exit, Failure, Table},
};
use pages::Page;

/// Say what an error code means and what to do
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  keyholder explain keyholder.credential.rejected\n  keyholder explain token.rate_limited --output json\n  keyholder explain --list"
)]
pub(crate) struct ExplainArgs {
    /// The code; its part after `keyholder.` is enough, and so is its last word where only one code ends in it
    #[arg(required_unless_present = "list", conflicts_with = "list")]
    code: Option<String>,
    /// Show all codes
    #[arg(long)]
    list: bool,
}

#[derive(Serialize)]
struct Listed {
    code: Code,
    #[serde(rename = "type")]
    kind: kh_core::ProblemType,
    status: u16,
    title: &'static str,
}

#[derive(Serialize)]
struct Explained {
    #[serde(flatten)]
    listed: Listed,
    summary: &'static str,
    acts: &'static str,
    retry: &'static str,
    page: &'static str,
    tests: Vec<&'static str>,
}

pub(super) fn run(arguments: &ExplainArgs, context: &Context) -> Result<Exit, Failure> {
    let Some(wanted) = &arguments.code else {
        let all: Vec<Listed> = Code::ALL.iter().map(|(code, ..)| listed(*code)).collect();
        context.terminal.answer(&all, || {
            let mut table = Table::new(&["code", "status", "title"]);
            for one in &all {
                table.row(vec![one.code.to_string(), one.status.to_string(), one.title.to_owned()]);
            }
            table.text()
        });
        return Ok(Exit::Done);
    };
    let code = find(wanted)?;
    let page = Page::of(code).ok_or_else(|| Failure::bug(format!("the error code {code} has no page")))?;
    let explained = Explained {
        listed: listed(code),
        summary: page.summary(),
        acts: page.fact("who acts"),
        retry: page.fact("retry"),
        page: page.text,
        tests: page.tests(),
    };
    let style = context.terminal.out_style;
    context.terminal.answer(&explained, || page.for_people(style));
    Ok(Exit::Done)
}

fn listed(code: Code) -> Listed {
    Listed { code, kind: code.problem_type(), status: code.status(), title: code.title() }
}

/// The code that somebody means: whole, without `keyholder.`, as a problem's `type`, or its last word alone.
fn find(wanted: &str) -> Result<Code, Failure> {
    let typed = wanted.trim().to_ascii_lowercase();
    let short = typed.strip_prefix(kh_core::PROBLEM_TYPE_PREFIX).or_else(|| typed.strip_prefix("keyholder."));
    let short = short.unwrap_or(&typed);
    let codes = || Code::ALL.iter().map(|(code, ..)| *code);
    if let Some(code) = codes().find(|code| code.short() == short) {
        return Ok(code);
    }
    let mut ending = codes().filter(|code| code.short().rsplit('.').next() == Some(short));
    if let (Some(code), None) = (ending.next(), ending.next()) {
        return Ok(code);
    }
    let failure = Failure::new(Code::NOT_FOUND, format!("there is no error code {wanted:?}")).exiting(Exit::Usage);
    let similar: Vec<&str> = codes()
        .map(Code::short)
        .filter(|known| !short.is_empty() && known.split('.').any(|word| word == short))
        .chain(nearest(short, codes().map(Code::short)))
        .collect();
    let failure = match similar.as_slice() {
        [] => failure,
        found => failure.hint(format!("did you mean {}?", found.join(", "))),
    };
    Err(failure.hint("`keyholder explain --list` shows all of them"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Style;

    #[test]
    fn codes_are_found_as_people_write_them() {
        for (wanted, code) in [
            ("keyholder.credential.rejected", Some("credential.rejected")),
            ("credential.rejected", Some("credential.rejected")),
            (" Credential.Rejected ", Some("credential.rejected")),
            ("urn:keyholder:error:credential.rejected", Some("credential.rejected")),
            ("rejected", Some("credential.rejected")),
            ("usage", Some("usage")),
            // two codes end in it
            ("unavailable", None),
            ("credential.rejcted", None),
            ("", None),
        ] {
            assert_eq!(find(wanted).ok().map(Code::short), code, "{wanted}");
        }
    }

    #[test]
    fn a_near_miss_is_named() {
        for (wanted, hint) in [
            ("credential.rejcted", "did you mean credential.rejected?"),
            ("tls.upstream", ""),
            ("store", "store.unavailable, store.tampered"),
        ] {
            let text = find(wanted).unwrap_err().to_text(Style::new(false));
            assert!(text.contains(hint) && text.contains("--list"), "{wanted}: {text}");
        }
    }
}
