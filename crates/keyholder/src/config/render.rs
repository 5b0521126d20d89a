//! Shows mistakes to a person: each with file, line, column, the source line and a hint.
//!
//! Invariant: only masked source is ever shown.

use super::{Mistake, Mistakes, Severity};
use crate::output::Style;

/// Longest part of a source line that is shown, in characters: the mark must stay on the screen.
const LINE_MAX: usize = 160;

/// The report on all mistakes of `file`. Without `color` it is plain text.
pub fn render(file: &str, mistakes: &Mistakes, color: bool) -> String {
    let style = Style::new(color);
    let lines: Vec<&str> = mistakes.source.lines().collect();
    let mut report = String::new();
    for mistake in &mistakes.all {
        let source = mistake.line.checked_sub(1).and_then(|index| lines.get(index)).copied().unwrap_or_default();
        report.push_str(&one(file, mistake, source, style));
        report.push('\n');
    }
    report
}

fn one(file: &str, mistake: &Mistake, source: &str, style: Style) -> String {
    let Mistake { line, column, message, hint, span, severity } = mistake;
    let word = match severity {
        Severity::Error => style.red("error:"),
        Severity::Warning => style.yellow("warning:"),
    };
    // From the mistake to the end of its span or of its line, whatever comes first, and at least one mark.
    let rest: String = source.chars().skip(column - 1).collect();
    let marked = rest.char_indices().take_while(|(at, _)| *at < span.len()).count().max(1);
    let shown: String =
        source.chars().take(LINE_MAX).map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    let gutter = " ".repeat(line.to_string().len());
    let bar = style.dim("|");
    let mut lines = vec![
        format!("{word} {message}\n"),
        format!("{gutter}{} {file}:{line}:{column}\n", style.dim("-->")),
        format!("{gutter} {bar}\n"),
    ];
    if !source.is_empty() {
        lines.push(format!("{} {bar} {shown}\n", style.dim(&line.to_string())));
        if *column <= LINE_MAX {
            let (indent, marks) = (" ".repeat(column - 1), style.red(&"^".repeat(marked)));
            lines.push(format!("{gutter} {bar} {indent}{marks}\n"));
        }
    }
    lines.extend(hint.iter().map(|hint| format!("{} {hint}\n", style.cyan("hint:"))));
    lines.concat()
}
