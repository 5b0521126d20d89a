//! A terminal with a person at it: a pseudo-terminal, what the program shows on it, and what is typed.
//!
//! Invariant: the program has it as its controlling terminal, so that hidden prompts and Ctrl-C work as they do for a
//! person. `setsid` (util-linux) gives it to the program, because a test may not run code between fork and exec.

use std::{
    fs::File,
    io::{Read, Write},
    process::{Child, Command},
    sync::{Arc, Mutex},
    time::Duration,
};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// How long something may take to show up: polling ends as soon as it does.
const POLLS: u32 = 3_000;
const POLL: Duration = Duration::from_millis(10);

pub struct Terminal {
    keyboard: File,
    screen: Arc<Mutex<Vec<u8>>>,
    /// What was expected already.
    seen: usize,
    child: Child,
}

impl Terminal {
    /// Runs `command` on a terminal of its own.
    pub fn run(command: &Command) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let slave = || File::options().read(true).write(true).open(&name).unwrap();
        let mut on_terminal = Command::new("setsid");
        on_terminal.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args()).env_clear();
        on_terminal.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        on_terminal.current_dir(command.get_current_dir().unwrap());
        let child = on_terminal.stdin(slave()).stdout(slave()).stderr(slave()).spawn().unwrap();
        let keyboard = File::from(master);
        let (mut output, screen) = (keyboard.try_clone().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let shared = Arc::clone(&screen);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // a terminal whose last program is gone answers with an error
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                shared.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        Self { keyboard, screen, seen: 0, child }
    }

    /// Everything that was shown so far.
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap()).replace('\r', "")
    }

    /// How much of the screen was expected already.
    pub fn seen(&self) -> usize {
        self.seen
    }

    /// What was shown from there up to what was expected last.
    pub fn screen_from(&self, start: usize) -> String {
        self.screen()[start..self.seen].to_owned()
    }

    /// Waits until `text` shows up behind what was expected before.
    pub fn expect(&mut self, text: &str) {
        for _ in 0..POLLS {
            let screen = self.screen();
            if let Some(at) = screen.get(self.seen..).and_then(|rest| rest.find(text)) {
                self.seen += at + text.len();
                return;
            }
            std::thread::sleep(POLL);
        }
        panic!("{text:?} does not show up in\n{}", self.screen());
    }

    /// Types a line.
    pub fn line(&mut self, text: &str) {
        self.keyboard.write_all(format!("{text}\n").as_bytes()).unwrap();
    }

    /// Waits for `question` and types the answer.
    pub fn answer(&mut self, question: &str, text: &str) {
        self.expect(question);
        self.line(text);
    }

    /// Presses Ctrl-C.
    pub fn interrupt(&mut self) {
        self.keyboard.write_all(b"\x03").unwrap();
    }

    /// Waits for the end; the exit code, 128 and the signal's number if a signal ended it.
    pub fn end(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().unwrap().code();
        (code, self.screen())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
