//! The signals that a child of `exec` hears.
//!
//! Invariants: what a person types at the terminal reaches the child once; a signal that was ignored when keyholder
//! started (nohup(1)) stays ignored, here and in the child.

use std::{fs, task::Poll};

use rustix::process::Signal;
use tokio::signal::unix::{self, SignalKind};

use crate::output::Failure;

/// What is passed on: everything that asks a program to end, to read its files anew, or to look around.
const PASSED: [Signal; 9] = [
    Signal::HUP,
    Signal::INT,
    Signal::QUIT,
    Signal::USR1,
    Signal::USR2,
    Signal::ALARM,
    Signal::TERM,
    Signal::CONT,
    Signal::WINCH,
];

/// The signals to pass on, as they were when this program started.
pub(super) struct Known {
    passed: Vec<Signal>,
}

impl Known {
    /// Leaves out what is ignored now.
    pub(super) fn at_start() -> Self {
        let ignored = fs::read_to_string("/proc/self/status").ok().and_then(|status| ignored(&status)).unwrap_or(0);
        let is_heard = |signal: &Signal| ignored & (1 << (signal.as_raw() - 1)) == 0;
        Self { passed: PASSED.into_iter().filter(is_heard).collect() }
    }

    /// From here on the signals do not end this process.
    pub(super) fn listen(self) -> Result<Heard, Failure> {
        let listen = |signal: Signal| {
            let stream = unix::signal(SignalKind::from_raw(signal.as_raw()))
                .map_err(|error| Failure::bug("cannot listen for signals").caused_by(&error))?;
            Ok((signal, stream))
        };
        Ok(Heard { streams: self.passed.into_iter().map(listen).collect::<Result<_, Failure>>()? })
    }
}

/// The signals that this process gets.
pub(super) struct Heard {
    streams: Vec<(Signal, unix::Signal)>,
}

impl Heard {
    /// The next one. Dropping the future loses none.
    pub(super) async fn next(&mut self) -> Signal {
        std::future::poll_fn(|context| {
            for (signal, stream) in &mut self.streams {
                if stream.poll_recv(context).is_ready() {
                    return Poll::Ready(*signal);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// What `work` answers, or the signal that would have ended a program which does not listen.
    pub(super) async fn unless_ended<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Signal> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                signal = self.next() => {
                    if ends(signal) {
                        return Err(signal);
                    }
                }
                done = work.as_mut() => return Ok(done),
            }
        }
    }
}

/// Whether it ends a program that does not listen (signal(7)).
fn ends(signal: Signal) -> bool {
    signal != Signal::CONT && signal != Signal::WINCH
}

/// Whether the terminal sends this signal to the child itself, because parent and child are its foreground group.
pub(super) fn comes_from_the_terminal(signal: Signal) -> bool {
    let typed = signal == Signal::INT || signal == Signal::QUIT;
    typed && fs::read_to_string("/proc/self/stat").ok().and_then(|stat| is_in_foreground(&stat)).unwrap_or(false)
}

/// The mask of ignored signals, of `/proc/PID/status` (proc_pid_status(5)): bit 0 is signal 1.
fn ignored(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// Whether the process's group is the foreground group of its terminal, from `/proc/PID/stat` (proc_pid_stat(5): field
/// 5 is the group, field 8 the terminal's foreground group, -1 without a terminal).
fn is_in_foreground(stat: &str) -> Option<bool> {
    // The second field is the program's name in parentheses, which may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<i64> = rest.split_whitespace().skip(1).map_while(|field| field.parse().ok()).collect();
    let (group, foreground) = (*fields.get(1)?, *fields.get(4)?);
    Some(foreground == group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_tells() {
        assert_eq!(ignored("Name:\tx\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n"), Some(0x1001));
        assert_eq!(ignored("Name:\tx\n"), None);
        for (stat, foreground) in [
            ("7 (a) b) S 1 70 7 34816 70 4194560", Some(true)),
            ("7 (sh) S 1 70 7 34816 71 4194560", Some(false)),
            ("7 (sh) S 1 70 7 0 -1 4194560", Some(false)),
            ("7 (sh) S 1", None),
            ("", None),
        ] {
            assert_eq!(is_in_foreground(stat), foreground, "{stat}");
        }
    }
}
