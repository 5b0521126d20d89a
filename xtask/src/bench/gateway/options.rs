//! What `cargo xtask bench gateway` is asked to measure.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::{super::load::Plan, WARM_UP, peers::Peer};

/// A part of the comparison.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// CPU per request.
    Cpu,
    /// Instructions per request.
    Instructions,
    /// Resident memory with many cached tokens.
    Memory,
    /// Start to first answer.
    Start,
}

impl Part {
    const ALL: [Self; 4] = [Self::Cpu, Self::Instructions, Self::Memory, Self::Start];

    fn parse(word: &str) -> Result<Self> {
        Ok(match word {
            "cpu" => Self::Cpu,
            "instructions" => Self::Instructions,
            "memory" => Self::Memory,
            "start" => Self::Start,
            other => bail!("there is no part {other}: cpu, instructions, memory, start"),
        })
    }
}

/// Whom keyholder is measured beside.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Company {
    /// nginx, haproxy and Envoy.
    All,
    /// nginx and haproxy.
    WithoutEnvoy,
    /// Nobody.
    None,
}

/// All of it.
pub struct Options {
    /// How long.
    pub plan: Plan,
    pub(super) parts: Vec<Part>,
    /// Tokens in turn in the rows "from cache": all fit into every cache that is there.
    pub(super) cached: usize,
    /// Tokens of the memory part.
    pub(super) memory: usize,
    /// How many new tokens a second of load may take: none of these proxies can check as many on one core.
    fastest: usize,
    company: Company,
    /// Another binary than the one that is shipped.
    pub binary: Option<PathBuf>,
}

impl Options {
    /// From `[cpu|instructions|memory|start]... [--pairs N] [--seconds S] [--without-envoy] [--binary FILE] [--short]`.
    pub fn parse(words: &[&str]) -> Result<Self> {
        let plan = Plan { pairs: 9, seconds: 3 };
        let (cached, memory, fastest) = (10_000, 100_000, 50_000);
        let mut options =
            Self { plan, parts: Vec::new(), cached, memory, fastest, company: Company::All, binary: None };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match *word {
                "--pairs" => options.plan.pairs = value()?.parse()?,
                "--seconds" => options.plan.seconds = value()?.parse()?,
                "--binary" => options.binary = Some(value()?.into()),
                "--without-envoy" => options.company = Company::WithoutEnvoy,
                "--short" => options = Self { binary: options.binary, ..Self::short() },
                part => options.parts.push(Part::parse(part)?),
            }
        }
        if options.parts.is_empty() {
            options.parts = Part::ALL.to_vec();
        }
        Ok(options)
    }

    /// For CI: it proves that the rig works. Without Envoy, whose package is large, and without what takes minutes.
    pub fn short() -> Self {
        let plan = Plan { pairs: 1, seconds: 1 };
        let parts = vec![Part::Cpu, Part::Memory, Part::Start];
        let company = Company::WithoutEnvoy;
        Self { plan, parts, cached: 200, memory: 1_000, fastest: 10_000, company, binary: None }
    }

    /// For a profile: each part once, keyholder alone, as many tokens as where it is measured.
    pub fn alone() -> Self {
        let plan = Plan { pairs: 1, seconds: 5 };
        let parts = vec![Part::Cpu, Part::Memory, Part::Start];
        let (cached, memory, fastest, company) = (10_000, 100_000, 20_000, Company::None);
        Self { plan, parts, cached, memory, fastest, company, binary: None }
    }

    /// How many tokens of each algorithm have to be signed.
    pub(super) fn tokens(&self) -> usize {
        let seconds = usize::try_from(self.plan.seconds).unwrap_or(usize::MAX);
        let fresh = self.fastest.saturating_mul(seconds).saturating_add(WARM_UP);
        let of_part = |part: &Part| match part {
            Part::Cpu => self.cached.max(fresh),
            // callgrind makes everything some fifty times slower
            Part::Instructions => self.cached,
            Part::Memory => self.memory,
            Part::Start => 1,
        };
        self.parts.iter().map(of_part).max().unwrap_or(1)
    }

    /// Who takes part; what the others are compared with first.
    pub(super) fn peers(&self) -> &'static [Peer] {
        match self.company {
            Company::All => &[Peer::Nginx, Peer::Keyholder, Peer::Haproxy, Peer::Envoy],
            Company::WithoutEnvoy => &[Peer::Nginx, Peer::Keyholder, Peer::Haproxy],
            Company::None => &[Peer::Keyholder],
        }
    }
}
