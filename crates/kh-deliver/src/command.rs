//! A program of the operator's as a hook: `systemctl reload`, a deployment tool, a script.
//!
//! It gets the promotion as JSON on its standard input and nothing of the secret. Its environment is empty but for what
//! the configuration passes on; it runs in a process group of its own, which ends with it: whoever of the group is
//! still there at its end is killed.
//!
//! What its end means (sysexits(3) where that says something): 0 done; 64, 77, 78, 126 and 127 refused; everything
//! else, the timeout included, may be tried again.
//!
//! Invariants: no secret in its arguments, environment or input; its output is read to its end, kept in part, and told
//! only where none of the document's secrets is in it.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use kh_core::{
    credential::CredentialDocument,
    port::{BoxFuture, DeliveryHook, HookError, Promotion},
};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::Child,
    time::{sleep, timeout},
};
use zeroize::Zeroizing;

use crate::redact::{Secrets, printable};

/// Time for the whole program where nothing else is configured: with the grace less than the minute that a rotation
/// waits for a call.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(54);

/// Time between TERM and KILL: as long as container runtimes and service managers leave at least.
pub const GRACE_DEFAULT: Duration = Duration::from_secs(5);

/// How much of each output stream is kept, in bytes, for one line of it.
const OUTPUT_KEPT: usize = 4 * 1024;

/// How long the output may stay open after the program's end, before what it left running is killed, and how long the
/// program may take to be gone after that.
const LEFT_OPEN: Duration = Duration::from_millis(500);

/// Pause between two looks at whether a program has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Exit codes of a program that will not do better the next time: usage, permission and configuration errors
/// (sysexits(3)), and a shell's "not executable" and "not found".
const FINAL_CODES: [i32; 5] = [64, 77, 78, 126, 127];

/// A command as a hook.
#[derive(Debug)]
pub struct Command {
    name: String,
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(OsString, OsString)>,
    timeout: Duration,
    grace: Duration,
}

/// Why a command cannot be a hook.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Which program runs must not depend on a folder or a search path.
    #[error("the program {0:?} is not named by its absolute path")]
    NotAbsolute(PathBuf),
}

impl Command {
    /// The hook `name` that runs `program` with `arguments` and nothing but `environment`.
    pub fn new(
        name: impl Into<String>,
        program: impl Into<PathBuf>,
        arguments: Vec<String>,
        environment: Vec<(OsString, OsString)>,
    ) -> Result<Self, CommandError> {
        let program = program.into();
        if !program.is_absolute() {
            return Err(CommandError::NotAbsolute(program));
        }
        let (timeout, grace) = (TIMEOUT_DEFAULT, GRACE_DEFAULT);
        Ok(Self { name: name.into(), program, arguments, environment, timeout, grace })
    }

    /// The same with other limits in time: for the whole program, and between TERM and KILL.
    #[must_use]
    pub fn within(self, timeout: Duration, grace: Duration) -> Self {
        Self { timeout, grace, ..self }
    }

    fn start(&self) -> Result<Child, HookError> {
        let mut command = tokio::process::Command::new(&self.program);
        command
            .args(&self.arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        command.spawn().map_err(|error| {
            HookError::Refused(format!("{} cannot be started: {}", told_path(&self.program), error.kind()))
        })
    }

    async fn run(&self, promotion: &Promotion, secrets: &Secrets) -> Result<String, HookError> {
        let input = serde_json::to_vec(promotion)
            .map_err(|_| HookError::Refused("the promotion cannot be written as JSON".to_owned()))?;
        let mut child = self.start()?;
        let group = Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
        let stdin = child.stdin.take();
        let feed = async move {
            if let Some(mut stdin) = stdin {
                // a program that does not read its input is no mistake
                drop(stdin.write_all(&input).await);
                drop(stdin.shutdown().await);
            }
        };
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let output = tokio::spawn(async move { tokio::join!(keep(stdout), keep(stderr)) });
        let abort = output.abort_handle();
        let in_time = timeout(self.timeout, async { tokio::join!(feed, group.leader_ended()) }).await.is_ok();
        if !in_time {
            self.stop(&group).await;
        }
        let kept = match timeout(LEFT_OPEN, output).await {
            Ok(kept) => kept.unwrap_or_default(),
            Err(_elapsed) => {
                abort.abort();
                Default::default()
            }
        };
        // what the program left running ends with it; as long as it is unreaped, the group is its own
        group.signal(Signal::KILL);
        group.let_go();
        // KILL cannot be refused; a process that hangs in the kernel is left to kill_on_drop
        let ended = timeout(LEFT_OPEN, child.wait()).await;
        if !in_time {
            let seconds = self.timeout.as_secs();
            return Err(HookError::Transient(format!("the program did not end within {seconds} s and was stopped")));
        }
        let Ok(Ok(status)) = ended else { return Err(HookError::Transient("the program was lost".to_owned())) };
        judge(status, &last_line(&kept.0, &kept.1, secrets))
    }

    /// TERM to all of the group, and KILL to what is left of it at the program's end or after the grace.
    async fn stop(&self, group: &Group) {
        group.signal(Signal::TERM);
        drop(timeout(self.grace, group.leader_ended()).await);
        group.signal(Signal::KILL);
    }
}

impl DeliveryHook for Command {
    fn name(&self) -> &str {
        &self.name
    }

    fn describe(&self) -> String {
        let count = self.arguments.len();
        let arguments = if count == 1 { "argument" } else { "arguments" };
        format!("runs {} with {count} {arguments}, at most {} s", told_path(&self.program), self.timeout.as_secs())
    }

    fn deliver<'a>(
        &'a self,
        promotion: &'a Promotion,
        document: &'a CredentialDocument,
    ) -> BoxFuture<'a, Result<String, HookError>> {
        Box::pin(async move { self.run(promotion, &Secrets::of(document)).await })
    }
}

/// The process group of a program; killed when its hook is dropped before its end.
struct Group(Option<Pid>);

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // one that is gone needs no signal
            kill_process_group(group, signal).unwrap_or_default();
        }
    }

    /// Waits until the program has ended, and leaves it unreaped: so long its number is not given to others, and a
    /// signal to the group reaches nobody else.
    async fn leader_ended(&self) {
        let Some(leader) = self.0 else { return };
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        while let Ok(None) = waitid(WaitId::Pid(leader), look) {
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Its number may be given to others from now on.
    fn let_go(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

fn told_path(path: &Path) -> String {
    printable(&path.to_string_lossy())
}

/// Reads a stream to its end and keeps its last [`OUTPUT_KEPT`] bytes or a little more, from the beginning of a line on:
/// half of a line could hold half of a secret, which nobody would recognize.
async fn keep(stream: Option<impl AsyncRead + Unpin>) -> Zeroizing<Vec<u8>> {
    let mut kept = Zeroizing::new(Vec::with_capacity(2 * OUTPUT_KEPT));
    let mut chunk = Zeroizing::new([0; OUTPUT_KEPT]);
    let Some(mut stream) = stream else { return kept };
    let mut is_cut = false;
    while let Ok(length @ 1..) = stream.read(&mut *chunk).await {
        if kept.len() + length > 2 * OUTPUT_KEPT {
            let surplus = kept.len().saturating_sub(OUTPUT_KEPT);
            kept.drain(..surplus);
            is_cut = true;
        }
        kept.extend(chunk.iter().take(length));
    }
    if is_cut {
        let line = kept.iter().position(|byte| *byte == b'\n').map_or(kept.len(), |end| end + 1);
        kept.drain(..line);
    }
    kept
}

/// The last line of the error output, or of the output, if it may be told.
fn last_line(stdout: &[u8], stderr: &[u8], secrets: &Secrets) -> String {
    if secrets.are_in(stdout) || secrets.are_in(stderr) {
        return ": its output holds the secret and is not told".to_owned();
    }
    let line = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        text.lines().map(str::trim).rfind(|line| !line.is_empty()).map(printable)
    };
    line(stderr).or_else(|| line(stdout)).map_or_else(String::new, |line| format!(": {line}"))
}

fn judge(status: ExitStatus, said: &str) -> Result<String, HookError> {
    match status.code() {
        Some(0) => Ok(format!("the program ended with 0{said}")),
        Some(code) if FINAL_CODES.contains(&code) => {
            Err(HookError::Refused(format!("the program ended with {code}{said}")))
        }
        Some(code) => Err(HookError::Transient(format!("the program ended with {code}{said}"))),
        None => Err(HookError::Transient(format!("the program was killed by a signal{said}"))),
    }
}
