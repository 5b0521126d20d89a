//! Shows mistakes to a person: each with file, line, column, the source line and a hint.
//!
//! Invariant: only masked source is ever shown.

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};

use super::{Mistake, Mistakes, Severity};

/// Widest report line: what a terminal beside an editor shows.
const WIDTH: usize = 100;

/// One mistake as miette wants it.
#[derive(Debug)]
struct Shown<'a> {
    mistake: &'a Mistake,
    source: &'a NamedSource<String>,
}

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.mistake.message)
    }
}

impl std::error::Error for Shown<'_> {}

impl Diagnostic for Shown<'_> {
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.mistake.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let Mistake { span, .. } = self.mistake;
        let label = LabeledSpan::new(None, span.start, span.len().max(1));
        Some(Box::new(std::iter::once(label)))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        self.mistake.hint.as_ref().map(|hint| Box::new(hint) as Box<dyn std::fmt::Display>)
    }
}

/// The report on all mistakes of `file`. Without `color` it is plain ASCII.
pub fn render(file: &str, mistakes: &Mistakes, color: bool) -> String {
    let theme = if color { GraphicalTheme::unicode() } else { GraphicalTheme::none() };
    let handler = GraphicalReportHandler::new_themed(theme).with_width(WIDTH).with_links(false).with_context_lines(0);
    let source = NamedSource::new(file, mistakes.source.clone());
    let mut report = String::new();
    for mistake in &mistakes.all {
        let shown = Shown { mistake, source: &source };
        let mut text = String::new();
        if handler.render_report(&mut text, &shown).is_err() {
            // A span that the source does not have; the mistake is told without its line.
            text = format!("{}\n", mistake.message);
        }
        let word = match mistake.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        report.push_str(&format!("{word}: {file}:{}:{}\n{}\n", mistake.line, mistake.column, text.trim_end()));
    }
    report
}
