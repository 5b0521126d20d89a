//! What a scan found, and whose secret it is.
//!
//! A findings file is one JSON object; the scanner that writes it has this installation's fingerprint key, so that a
//! finding names a secret without holding it. Invariant: the leaked value itself is never read, stored or shown.

mod owner;

use std::{fs::File, io::Read, path::Path};

use kh_core::{Code, Fingerprint, Fingerprinter};
use serde::Deserialize;

pub(super) use self::owner::{Verdict, judge};
use crate::output::Failure;

/// The form that is read.
const FORMAT: &str = "keyholder-findings/1";

/// What is fingerprinted so that a file tells whose key made it.
const KEY_LABEL: &[u8] = b"keyholder fingerprint key";

/// Where a scan writes unless it is told otherwise.
pub(super) const FILE: &str = "keyholder-findings.json";

/// Largest file: a finding takes about 300 bytes, and a repository with 50,000 of them is a scanner gone wrong.
const FILE_MAX: u64 = 16 * 1024 * 1024;

/// Names the key of `fingerprinter`, so that fingerprints of two installations are not compared.
pub(in crate::cli) fn key_name(fingerprinter: &Fingerprinter) -> Fingerprint {
    fingerprinter.fingerprint(KEY_LABEL)
}

/// A findings file with one finding.
pub(in crate::cli) fn file(key: &Fingerprint, id: &str, fingerprint: &Fingerprint) -> serde_json::Value {
    serde_json::json!({
        "format": FORMAT, "fingerprint_key": key, "findings": [{ "id": id, "fingerprint": fingerprint }],
    })
}

#[derive(Deserialize)]
struct Scan {
    format: String,
    fingerprint_key: Fingerprint,
    findings: Vec<Finding>,
}

/// One place where a scan saw a secret.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub(super) struct Finding {
    /// Its id within the file.
    pub(super) id: String,
    /// Of the secret's text.
    fingerprint: Fingerprint,
    /// Of id and secret together, where both were found beside each other.
    login_fingerprint: Option<Fingerprint>,
    /// The rule that found it.
    rule: Option<String>,
    /// The file in which it was found.
    path: Option<String>,
    /// The line in it, from 1 upward.
    line: Option<u64>,
}

impl Finding {
    /// For the audit log: `finding 7f3a (deploy/values.yaml:12)`.
    pub(super) fn in_words(&self) -> String {
        let line = self.line.map(|line| format!(":{line}")).unwrap_or_default();
        let place = self.path.as_ref().or(self.rule.as_ref()).map(|place| format!(" ({place}{line})"));
        let all = format!("finding {}{}", self.id, place.unwrap_or_default());
        all.chars().filter(|letter| !letter.is_control()).take(300).collect()
    }
}

/// Splits `FILE#ID`; an id alone is looked up in `file`, or in [`FILE`].
pub(super) fn place<'a>(wanted: &'a str, file: Option<&'a Path>) -> Result<(&'a Path, &'a str), Failure> {
    match (wanted.rsplit_once('#'), file) {
        (Some((path, id)), None) if !path.is_empty() && !id.is_empty() => Ok((Path::new(path), id)),
        (None, file) if !wanted.is_empty() => Ok((file.unwrap_or(Path::new(FILE)), wanted)),
        _ => Err(Failure::usage("the finding is not named").hint("--from-finding ID --findings FILE, or FILE#ID")),
    }
}

/// Reads the finding `id` of `file`.
pub(super) fn read(file: &Path, id: &str, fingerprinter: &Fingerprinter) -> Result<Finding, Failure> {
    let shown = file.display();
    let mut text = String::new();
    let whole = File::open(file).and_then(|file| file.take(FILE_MAX + 1).read_to_string(&mut text));
    whole.map_err(|error| {
        Failure::usage(format!("cannot read the findings in {shown}"))
            .caused_by(&error)
            .hint("--findings FILE says which file a scan wrote")
    })?;
    if text.len() as u64 > FILE_MAX {
        return Err(Failure::usage(format!("{shown} is larger than {FILE_MAX} bytes")));
    }
    let all: Scan = serde_json::from_str(&text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        Failure::usage(format!("{shown} is no findings file (line {line}, column {column})"))
            .hint(format!("it is one JSON object with \"format\":\"{FORMAT}\"; see docs/guide/rotation.md"))
    })?;
    if all.format != FORMAT {
        return Err(Failure::usage(format!("{shown} has a form that this keyholder does not read"))
            .hint(format!("it reads {FORMAT}")));
    }
    let own = key_name(fingerprinter);
    if all.fingerprint_key != own {
        return Err(Failure::usage(format!("{shown} was made with another installation's fingerprint key"))
            .hint(format!("this installation's is {own}; fingerprints of two installations cannot be compared"))
            .hint("scan with this installation's --config, or put the value into `keyholder secret fingerprint`"));
    }
    let ids = all.findings.iter().map(|finding| finding.id.clone()).collect::<Vec<_>>();
    let mut found = all.findings.into_iter().filter(|finding| finding.id == id);
    match (found.next(), found.next()) {
        (Some(finding), None) => Ok(finding),
        (Some(_), Some(_)) => Err(Failure::usage(format!("{shown} has several findings {id}"))),
        (None, _) => {
            let failure = Failure::new(Code::NOT_FOUND, format!("{shown} has no finding {id}"));
            let similar = crate::config::nearest(id, ids.iter().map(String::as_str));
            Err(similar.into_iter().fold(failure, |failure, near| failure.hint(format!("did you mean {near}?"))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprinter() -> Fingerprinter {
        Fingerprinter::new(b"key")
    }

    fn finding(fingerprint: Fingerprint) -> Finding {
        Finding { id: "1".to_owned(), fingerprint, login_fingerprint: None, rule: None, path: None, line: None }
    }

    #[test]
    fn a_finding_is_named_by_its_file_or_beside_it() {
        let check = |wanted: &str, file: Option<&str>, expected: Option<(&str, &str)>| {
            let found = place(wanted, file.map(Path::new)).ok();
            assert_eq!(found, expected.map(|(file, id)| (Path::new(file), id)), "{wanted}");
        };
        check("7f3a", None, Some((FILE, "7f3a")));
        check("7f3a", Some("f.json"), Some(("f.json", "7f3a")));
        check("a#b.json#7f3a", None, Some(("a#b.json", "7f3a")));
        for wrong in ["", "#7f3a", "f.json#"] {
            check(wrong, None, None);
        }
        check("f.json#7f3a", Some("g.json"), None);
    }

    #[test]
    fn words_for_the_audit_log_have_no_control_characters() {
        let found = Finding {
            path: Some("a\u{1b}[2J\nb".to_owned()),
            line: Some(3),
            ..finding(fingerprinter().fingerprint(b""))
        };
        assert_eq!(found.in_words(), "finding 1 (a[2Jb:3)");
    }
}
