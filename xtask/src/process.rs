//! Child processes that end with their owner, and the little HTTP that scenarios need.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Variables for a child process.
pub type Environment = Vec<(String, String)>;

/// A server that is stopped when the value is dropped.
pub struct Server {
    child: Child,
    name: String,
    log: PathBuf,
}

/// How long a server may take to be there: the first start of a Node program on a busy machine takes half a minute.
const START: Duration = Duration::from_secs(90);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);
/// How much of a server's log a failure shows, in bytes.
const SHOWN: usize = 4000;

impl Server {
    /// Starts `command`; its output goes to `log`.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let out = fs::File::create(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self { child, name: name.to_owned(), log: log.to_owned() })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `ready` holds; fails at once if the process ends.
    pub fn wait_until(&mut self, what: &str, ready: impl Fn() -> bool) -> Result<()> {
        for _ in 0..START.as_millis() / PAUSE.as_millis() {
            if ready() {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status} before {what}; it said:\n{}", self.name, self.said());
            }
            std::thread::sleep(PAUSE);
        }
        bail!("{} did not reach {what} within {} s; it said:\n{}", self.name, START.as_secs(), self.said())
    }

    /// The end of its log.
    fn said(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(log.get(log.len().saturating_sub(SHOWN)..).unwrap_or_default()).into_owned()
    }

    /// Waits for a file of JSON that appears atomically.
    pub fn wait_for_json(&mut self, file: &Path) -> Result<Value> {
        self.wait_until(&format!("{}", file.display()), || file.exists())?;
        Ok(serde_json::from_slice(&fs::read(file)?)?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &pid]).stderr(Stdio::null()).status();
        for _ in 0..100 {
            if asked.is_err() || !matches!(self.child.try_wait(), Ok(None)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        if matches!(self.child.try_wait(), Ok(None)) && self.child.kill().is_err() {
            eprintln!("xtask: {} could not be stopped", self.name);
        }
        drop(self.child.wait());
    }
}

/// Runs a command to its end and fails if it fails.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    let status = command.status().with_context(|| format!("cannot run {shown}"))?;
    ensure!(status.success(), "{shown} ended with {status}");
    Ok(())
}

/// Runs a command and returns what it printed.
pub fn output(command: &mut Command) -> Result<String> {
    let shown = shown(command);
    let out = command.output().with_context(|| format!("cannot run {shown}"))?;
    ensure!(out.status.success(), "{shown} ended with {}: {}", out.status, String::from_utf8_lossy(&out.stderr));
    Ok(String::from_utf8(out.stdout)?)
}

/// Program and arguments, without the environment, which may hold a secret.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// GET of a JSON document over loopback.
pub fn get_json(url: &str) -> Result<Value> {
    let text = ureq::get(url).call().with_context(|| format!("GET {url}"))?.body_mut().read_to_string()?;
    Ok(serde_json::from_str(&text)?)
}

/// A text field of a JSON document.
pub fn text<'a>(document: &'a Value, field: &str) -> Result<&'a str> {
    document.get(field).and_then(Value::as_str).with_context(|| format!("no field {field} in {document}"))
}
