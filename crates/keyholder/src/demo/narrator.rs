//! Tells the story in the terminal: numbered steps, what was done, what the platform saw, how long it took.

use std::time::Duration;

use serde_json::json;

use super::{story::StepName, world::World};
use crate::output::Terminal;

/// Width of the column in front of a step's findings.
const INDENT: &str = "     ";

/// The teller.
#[derive(Clone, Debug)]
pub(super) struct Narrator {
    terminal: Terminal,
}

impl Narrator {
    pub(super) fn new(terminal: Terminal) -> Self {
        Self { terminal }
    }

    /// With `--output json` the answer comes at the end, and there is nothing to tell.
    pub(super) fn line(&self, text: &str) {
        if !self.terminal.is_json() {
            self.terminal.out(&format!("{text}\n"));
        }
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
