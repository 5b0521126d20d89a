//! `keyholder check --snippet`: well-known mistakes in any text.
//!
//! Invariant: of the text only what a pattern of the table matched is shown, masked.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use serde_json::json;

use crate::{
    cli::Context,
    config::wrong::{self, Finding},
    output::{Exit, Failure},
};

/// Largest text looked into, in bytes: settings and sources are smaller, and a log is not what this is for.
const TEXT_MAX: u64 = 1024 * 1024;

pub(super) fn run(files: &[PathBuf], context: &Context) -> Result<Exit, Failure> {
    context.start_logging_at(crate::cli::QUIET)?;
    let mut all: Vec<(String, Finding)> = Vec::new();
    for file in files {
        let name = if is_stdin(file) { "standard input".to_owned() } else { file.display().to_string() };
        let found = wrong::find(&read(file, &name)?);
        all.extend(found.into_iter().map(|finding| (name.clone(), finding)));
    }
    let listed: Vec<_> = all
        .iter()
        .map(|(file, finding)| {
            let mut value = serde_json::to_value(finding).unwrap_or_default();
            if let Some(object) = value.as_object_mut() {
                object.insert("file".to_owned(), file.as_str().into());
            }
            value
        })
        .collect();
    let answer = json!({ "files": files.len(), "findings": listed });
    context.terminal.answer(&answer, || {
        if all.is_empty() {
            return "no well-known mistake was found\n".to_owned();
        }
        let style = context.terminal.out_style;
        let told = |(file, finding): &(String, Finding)| {
            let Finding { line, column, found, problem, right, source, name, .. } = finding;
            let (red, green) = (style.red(found), style.green(right));
            format!("{file}:{line}:{column}: {red}\n  {problem}\n  right: {green}\n  ({name}, after: {source})\n")
        };
        all.iter().map(told).collect::<Vec<_>>().join("\n")
    });
    Ok(if all.is_empty() { Exit::Done } else { Exit::No })
}

fn is_stdin(file: &Path) -> bool {
    file == Path::new("-")
}

fn read(file: &Path, name: &str) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let read = if is_stdin(file) {
        std::io::stdin().lock().take(TEXT_MAX + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(TEXT_MAX + 1).read_to_end(&mut bytes))
    };
    read.map_err(|error| Failure::usage(format!("cannot read {name}")).caused_by(&error))?;
    if bytes.len() as u64 > TEXT_MAX {
        return Err(Failure::usage(format!("{name} is larger than {TEXT_MAX} bytes")));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
