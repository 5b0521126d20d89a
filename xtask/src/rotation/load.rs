//! Who calls while a secret is replaced. Invariant: every program has been answered before a load counts as started,
//! and every call that any of them made is in what it tells.

use std::{
    fmt,
    io::{BufRead, BufReader},
    process::{Child, ChildStdout, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Case, Form, script, world::World};
use crate::{process::Environment, tools::Tools};

/// Calls per second by each SDK: 200 together.
const RATE: u32 = 100;

/// Programs that read the store themselves.
pub const DIRECT: [&str; 3] = ["billing", "crm-sync", "reports"];

/// What one kind of program told at its end.
pub struct Told {
    who: &'static str,
    calls: u64,
    /// Calls that did not work, and logins that were refused.
    pub failures: u64,
    /// The first failures.
    pub examples: Vec<String>,
    logins: Option<u64>,
    seconds: f64,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[expect(clippy::cast_precision_loss, reason = "a rate for the eye")]
        let rate = self.calls as f64 / self.seconds;
        write!(f, "{} {} calls ({rate:.0}/s)", self.who, self.calls)?;
        if let Some(logins) = self.logins {
            write!(f, " {logins} logins")?;
        }
        write!(f, ", {} failed", self.failures)
    }
}

/// Programs that call until they are told to end.
pub struct Load {
    callers: Vec<Caller>,
}

struct Caller {
    who: &'static str,
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Load {
    /// Starts every program of `case`; returns when each was answered.
    pub fn start(tools: &Tools, world: &World, case: &Case, form: Form) -> Result<Self> {
        let mut callers = Vec::new();
        for (who, program) in [("Python SDK", "sdk_load.py"), ("Node SDK", "sdk_load.cjs")] {
            let mut environment = world.environment_of_application(case)?;
            environment.push(("KH_RATE".into(), RATE.to_string()));
            callers.push(Caller::start(tools, who, program, environment)?);
        }
        for (name, turn) in DIRECT.iter().zip(0_u32..).filter(|_| case.direct) {
            let mut environment = world.environment_of_program(case)?;
            let share = f64::from(turn) / f64::from(u32::try_from(DIRECT.len())?);
            #[expect(clippy::cast_precision_loss, reason = "some seconds")]
            let age = form.cache as f64 * share;
            environment.extend([
                ("KH_NAME".into(), (*name).into()),
                ("KH_CACHE".into(), form.cache.to_string()),
                ("KH_AGE".into(), age.to_string()),
            ]);
            callers.push(Caller::start(tools, name, "consumer.py", environment)?);
        }
        for caller in &mut callers {
            let said = caller.line()?;
            ensure!(said == "started", "{} said {said:?} instead of starting", caller.who);
        }
        Ok(Self { callers })
    }

    /// Ends every program.
    pub fn end(self) -> Result<Vec<Told>> {
        self.callers.into_iter().map(Caller::end).collect()
    }
}

impl Caller {
    fn start(tools: &Tools, who: &'static str, program: &str, environment: Environment) -> Result<Self> {
        let mut command = script(tools, program);
        let command = command.envs(environment).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {program}"))?;
        let said = BufReader::new(child.stdout.take().context("its output is a pipe")?);
        Ok(Self { who, child, said })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let read = self.said.read_line(&mut line)?;
        ensure!(read > 0, "{} ended early; its complaint is above", self.who);
        Ok(line.trim().to_owned())
    }

    fn end(mut self) -> Result<Told> {
        drop(self.child.stdin.take());
        let told: Value = serde_json::from_str(&self.line()?)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "{} ended with {status}", self.who);
        let number = |name: &str| told.get(name).and_then(Value::as_u64);
        let examples = told.get("examples").and_then(Value::as_array);
        let calls =
            number("calls").filter(|calls| *calls > 0).with_context(|| format!("{} called nobody", self.who))?;
        Ok(Told {
            who: self.who,
            calls,
            failures: number("failures").context("a number of failures")?,
            examples: examples.into_iter().flatten().map(|text| format!("{}: {text}", self.who)).collect(),
            logins: number("logins"),
            seconds: told.get("seconds").and_then(Value::as_f64).context("how long it called")?,
        })
    }
}

impl Drop for Caller {
    /// A scenario that failed leaves nobody behind.
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}
