//! Tells the story in the terminal: numbered steps, what was done, what the platform saw, how long it took.

use std::{cell::Cell, time::Duration};

use serde_json::json;

use super::{story::StepName, world::World};
use crate::output::Terminal;

/// Width of the column in front of a step's findings.
const INDENT: &str = "     ";

/// Back to the beginning of the line, and everything on it gone.
const ERASE: &str = "\r\u{1b}[2K";

/// The teller.
#[derive(Clone, Debug)]
pub(super) struct Narrator {
    terminal: Terminal,
    /// Whether a line that changes may be drawn.
    is_live: bool,
    /// Whether such a line stands at the end of what was written.
    drawn: Cell<bool>,
}

impl Narrator {
    /// A line that changes is drawn only where a person looks at it: not in a pipe, and not with JSON.
    pub(super) fn new(terminal: Terminal, is_terminal: bool) -> Self {
        let is_live = is_terminal && !terminal.is_json();
        Self { terminal, is_live, drawn: Cell::new(false) }
    }

    /// With `--output json` the answer comes at the end, and there is nothing to tell.
    pub(super) fn line(&self, text: &str) {
        if !self.terminal.is_json() {
            let erase = if self.drawn.take() { ERASE } else { "" };
            self.terminal.out(&format!("{erase}{text}\n"));
        }
    }

    /// The line that changes, below everything that was told; the next thing told takes its place.
    pub(super) fn live(&self, text: &str) {
        if self.is_live {
            self.terminal.out(&format!("{ERASE}{INDENT}{text}"));
            self.drawn.set(true);
        }
    }

    /// One line of a timeline: when, after how many calls, what.
    pub(super) fn event(&self, after: Duration, calls: usize, text: &str) {
        let at = format!("{:>5.1} s {calls:>5} calls", after.as_secs_f64());
        self.tell(&format!("{}  {text}", self.terminal.out_style.dim(&at)));
    }

    pub(super) fn title(&self) {
        let style = self.terminal.out_style;
        self.line(&format!("{}  a story with real traffic, on this machine alone", style.bold("keyholder demo")));
    }

    /// Who plays.
    pub(super) fn cast(&self, world: &World) {
        let style = self.terminal.out_style;
        let addresses = world.addresses();
        let gateway = addresses.gateway_url.clone().unwrap_or_default();
        let row = |who: &str, what: &str, note: &str| {
            self.line(&format!("  {who:<12} {:<37} {}", style.cyan(what), style.dim(note)));
        };
        self.line("");
        row(
            "platform",
            &world.sandbox().genesys_url,
            "a sandbox of Genesys Cloud; it keeps a journal of every request",
        );
        row("", &world.sandbox().cxone_url, "a sandbox of NICE CXone");
        row("keyholder", &gateway, "holds the platform's secret, encrypted");
        row("application", world.client_id(), "has an id and a secret of keyholder, and nothing of the platform");
        self.line("");
    }

    /// A step begins.
    pub(super) fn step(&self, number: usize, of: usize, title: &str) {
        let style = self.terminal.out_style;
        self.line(&format!("{} {}", style.dim(&format!("{number}/{of}")), style.bold(title)));
    }

    /// Something about the step.
    pub(super) fn tell(&self, text: &str) {
        self.line(&format!("{INDENT}{text}"));
    }

    /// What the sandbox's own journal says.
    pub(super) fn journal(&self, text: &str) {
        self.line(&format!("{INDENT}{} {text}", self.terminal.out_style.cyan("journal:")));
    }

    /// The step held.
    pub(super) fn held(&self, took: Duration) {
        let style = self.terminal.out_style;
        self.line(&format!("{INDENT}{} {}\n", style.green("held"), style.dim(&format!("{:.2} s", took.as_secs_f64()))));
    }

    /// The step did not hold.
    pub(super) fn broke(&self, why: &str) {
        self.line(&format!("{INDENT}{} {why}\n", self.terminal.out_style.red("did not hold:")));
    }

    /// The end: every step with how long it took.
    pub(super) fn end(&self, steps: &[(StepName, Duration)]) {
        let took: Duration = steps.iter().map(|(_, took)| *took).sum();
        let told: Vec<_> = steps
            .iter()
            .map(|(step, took)| json!({ "step": step.to_string(), "seconds": took.as_secs_f64() }))
            .collect();
        self.terminal.answer(&json!({ "held": true, "steps": told }), || {
            let all = self.terminal.out_style.green(&format!("All {} steps held", steps.len()));
            format!("{all} in {:.1} s\n", took.as_secs_f64())
        });
    }

    /// A heading of the closing words.
    pub(super) fn heading(&self, text: &str) {
        self.line(&format!("\n{}", self.terminal.out_style.bold(text)));
    }

    /// Lines to copy.
    pub(super) fn code(&self, text: &str) {
        for line in text.lines() {
            self.line(&format!("  {line}"));
        }
    }
}
