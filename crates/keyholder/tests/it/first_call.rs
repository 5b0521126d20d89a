//! `docs/guide/first-call.md`, typed again: the page's commands on terminals of their own, in an empty folder, with an
//! environment of nothing but `PATH` and a dumb terminal; every line that the page shows is compared.
//!
//! What differs from run to run is paired up where the page's line and the real one otherwise agree: ids and secrets by
//! their form, and ports because the test takes free ones. The pairs are put into the commands that follow.

use std::{
    collections::BTreeMap,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use regex::Regex;

use crate::terminal::Terminal;

/// The shell's prompt: nothing that a program says.
const PROMPT: &str = "@prompt@ ";

/// The folder that the page speaks of.
const FOLDER: &str = "/srv/first-call";

/// Ids, secrets and tokens: what is paired up. Times and counts of seconds: what is dropped.
static VALUES: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"kh[st]_[A-Za-z0-9_-]{20,}|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b[A-Za-z0-9_-]{43}\b")
        .unwrap()
});
static TIMES: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\d{4}-\d\d-\d\dT[0-9:.]+Z?|\b\d+ s beside|over in \d+ s|\b\d+ used").unwrap());

/// A command with what the page shows behind it.
struct Step {
    command: String,
    shown: Vec<String>,
}

struct Page(BTreeMap<String, Vec<Step>>);

impl Page {
    fn read(text: &str) -> Self {
        let mut terminals: BTreeMap<String, Vec<Step>> = BTreeMap::new();
        for block in text.split("```console ").skip(1) {
            let (name, rest) = block.split_once('\n').unwrap();
            let steps = terminals.entry(name.to_owned()).or_default();
            for line in rest.split("\n```").next().unwrap().lines() {
                match line.strip_prefix("$ ") {
                    Some(command) => steps.push(Step { command: command.to_owned(), shown: Vec::new() }),
                    None => steps.last_mut().unwrap().shown.push(line.to_owned()),
                }
            }
        }
        Self(terminals)
    }
}

/// What the page calls by one name and this run by another.
struct Pairs {
    known: Vec<(String, String)>,
    differences: Vec<String>,
}

impl Pairs {
    fn real(&self, text: &str) -> String {
        self.known.iter().fold(text.to_owned(), |text, (page, real)| text.replace(page, real))
    }

    /// A line without what differs from run to run, and the values taken out of it.
    fn plain(line: &str) -> (String, Vec<String>) {
        let values = VALUES.find_iter(line).map(|found| found.as_str().to_owned()).collect();
        let line = TIMES.replace_all(&VALUES.replace_all(line, "<value>"), "<time>").trim_end().to_owned();
        (line, values)
    }

    /// Compares a line of the page with a real one.
    fn compare(&mut self, page: &str, real: &str) -> bool {
        let ((expected, page_values), (found, real_values)) = (Self::plain(&self.real(page)), Self::plain(real));
        if expected != found {
            return false;
        }
        self.known.extend(page_values.into_iter().zip(real_values).filter(|(page, real)| page != real));
        true
    }

    /// Compares everything that a command said, line by line.
    fn compare_all(&mut self, command: &str, page: &[String], real: &str) {
        let real: Vec<&str> = real.lines().collect();
        let agree = page.len() == real.len() && page.iter().zip(&real).all(|(page, real)| self.compare(page, real));
        if !agree {
            self.differences.push(format!("$ {command}\n{}", real.join("\n")));
        }
    }
}

/// Three free ports in a row.
fn free_ports() -> u16 {
    for _ in 0..100 {
        let Ok(first) = TcpListener::bind("127.0.0.1:0") else { continue };
        let port = first.local_addr().unwrap().port();
        let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if port < u16::MAX - 2 && free(port + 1) && free(port + 2) {
            return port;
        }
    }
    panic!("no three free ports in a row");
}

fn shell(folder: &Path) -> Terminal {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_keyholder"));
    let path = format!("{}:/usr/bin:/bin", program.parent().unwrap().display());
    let mut command = Command::new("sh");
    command
        .arg("-i")
        .env_clear()
        .env("PATH", path)
        .env("PS1", PROMPT)
        .env("PS2", "")
        .env("TERM", "dumb")
        .current_dir(folder);
    let mut terminal = Terminal::run(&command);
    terminal.expect(PROMPT);
    terminal
}

/// Types a command and answers its questions as the page does; what it said up to the next prompt.
fn type_in(terminal: &mut Terminal, step: &Step, pairs: &Pairs, hidden: &str) -> String {
    let start = terminal.seen();
    terminal.line(&pairs.real(&step.command));
    for line in &step.shown {
        let Some((question, answer)) = line.rsplit_once(": ").or_else(|| line.strip_suffix(':').map(|text| (text, "")))
        else {
            continue;
        };
        let is_question = question.ends_with([']', ')']) && !line.starts_with(' ');
        if step.command.contains(" init") && is_question {
            terminal.expect(&format!("{}: ", pairs.real(question)));
            terminal.line(if question.contains("hidden") { hidden } else { answer });
        }
    }
    terminal.expect(PROMPT);
    let said = terminal.screen_from(start);
    // the echo of the command and the prompt behind it
    let said = said.split_once('\n').map(|(_, rest)| rest.to_owned()).unwrap_or_default();
    said.strip_suffix(PROMPT).unwrap_or(&said).to_owned()
}

#[test]
fn the_page_is_what_happens() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let page = Page::read(&std::fs::read_to_string(root.join("docs/guide/first-call.md")).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let (sandbox, gateway) = (free_ports(), free_ports());
    let mut pairs =
        Pairs { known: vec![(FOLDER.to_owned(), folder.path().display().to_string())], differences: Vec::new() };
    for (page, real) in [(9000, sandbox), (8080, gateway)] {
        pairs
            .known
            .extend((0..3).map(|step| (format!("127.0.0.1:{}", page + step), format!("127.0.0.1:{}", real + step))));
    }

    let [first] = page.0["terminal-1"].as_slice() else { panic!("one command in the first terminal") };
    let mut platform = shell(folder.path());
    let platform_said = stay(&mut platform, first, &mut pairs);
    let secret = platform_said.lines().find_map(|line| line.strip_prefix("client_secret  ")).unwrap().trim().to_owned();

    let mut operator = shell(folder.path());
    let (serve, before) = page.0["terminal-2"].split_last().unwrap();
    for step in before {
        let said = type_in(&mut operator, step, &pairs, &secret);
        pairs.compare_all(&step.command, &step.shown, &said);
    }
    stay(&mut operator, serve, &mut pairs);

    let mut application = shell(folder.path());
    for step in &page.0["terminal-3"] {
        let said = type_in(&mut application, step, &pairs, "");
        pairs.compare_all(&step.command, &step.shown, &said);
    }
    let all = page.0.values().flatten().count();
    assert!(all >= 6, "only {all} commands on the page");
    let differences = pairs.differences.join("\n---\n").replace(&folder.path().display().to_string(), FOLDER);
    assert!(differences.is_empty(), "docs/guide/first-call.md shows something else than\n{differences}");
    for mut terminal in [platform, operator] {
        terminal.interrupt();
        terminal.expect(PROMPT);
    }
}

/// Types a command that stays, and waits for the last line that the page shows.
fn stay(terminal: &mut Terminal, step: &Step, pairs: &mut Pairs) -> String {
    let start = terminal.seen();
    terminal.line(&pairs.real(&step.command));
    let last = step.shown.iter().rev().find(|line| !line.is_empty()).cloned().unwrap_or_default();
    let (needle, _) = Pairs::plain(&pairs.real(&last));
    let needle = needle.rsplit("<time>").next().unwrap_or_default().trim().to_owned();
    terminal.expect(&needle);
    let said = terminal.screen_from(start);
    let said = said.split_once('\n').map(|(_, rest)| rest.to_owned()).unwrap_or_default();
    pairs.compare_all(&step.command, &step.shown, said.trim_end());
    said
}
