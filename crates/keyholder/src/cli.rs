//! The command line: what there is to be said, and who answers it.
//!
//! Invariants: flag beats environment beats file beats default; no argument is a secret; a failure is told once, here.

mod admin_api;
mod audit;
mod check;
mod client;
mod config;
mod context;
mod credential;
mod credential_helper;
mod docs;
mod exec;
mod explain;
mod healthcheck;
mod init;
mod local_broker;
mod logging;
mod operator;
mod revoke;
mod rotate;
mod sandbox;
mod secret;
mod serve;
mod session;
mod shell;
mod signing_key;
mod status;
mod store;
mod token;
mod token_form;

use std::{
    ffi::OsString,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    process::ExitCode,
};

use clap::{
    Args, CommandFactory, FromArgMatches, Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::{
    config::LogFormat,
    demo,
    environment::Environment,
    output::{Exit, Failure, OutputFormat, Terminal},
};
pub(crate) use context::{Context, Loaded};
pub(crate) use sandbox::failure_of as sandbox_failure;
pub(crate) use serve::{StopSignal, audit_config, control_runtime};

/// What a command that ends by itself logs: its answer says the rest.
const QUIET: &str = "warn";

const AFTER_HELP: &str = "\
Examples:
  keyholder demo                                     see it work, on this machine alone
  keyholder init                                     write a configuration and store its secret
  keyholder client add billing --credential acme-test --allow 'GET /api/v2/users/**'
  keyholder check && keyholder serve

Exit codes: 0 done, 1 the answer is no, 2 usage or configuration, 3 not finished or not reachable,
4 an operator must decide, 70 a bug of keyholder.";

/// Holds the credentials of contact-centre integrations so that the applications don't have to.
#[derive(Debug, Parser)]
#[command(name = "keyholder", version, propagate_version = true, after_help = AFTER_HELP, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Globals {
    /// The configuration; else KEYHOLDER_CONFIG, ./keyholder.toml, or the XDG config folder's
    #[arg(long, global = true, value_name = "FILE", help_heading = "Everywhere")]
    pub(crate) config: Option<PathBuf>,
    /// The state folder; else KEYHOLDER_STATE, [state] of the file, or the XDG state folder
    #[arg(long, global = true, value_name = "DIR", help_heading = "Everywhere")]
    pub(crate) state: Option<PathBuf>,
    /// The form of answers [default: text]
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "FORM",
        hide_default_value = true,
        help_heading = "Everywhere"
    )]
    pub(crate) output: Option<OutputFormat>,
    /// What to log, such as debug or info,kh_broker=debug; else KEYHOLDER_LOG [default: info]
    #[arg(long, global = true, value_name = "FILTER", help_heading = "Everywhere")]
    pub(crate) log: Option<String>,
    /// The form of log lines; else KEYHOLDER_LOG_FORMAT [default: human]
    #[arg(long, global = true, value_enum, value_name = "FORM", help_heading = "Everywhere")]
    pub(crate) log_format: Option<LogFormat>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::DemoArgs),
    Init(Box<init::InitArgs>),
    Serve(serve::ServeArgs),
    Status(status::StatusArgs),
    Check(check::CheckArgs),
    #[command(subcommand)]
    Credential(credential::CredentialCommand),
    #[command(subcommand)]
    Config(config::ConfigCommand),
    #[command(subcommand)]
    Rotate(rotate::RotateCommand),
    Sandbox(sandbox::SandboxArgs),
    #[command(subcommand)]
    Secret(secret::SecretCommand),
    #[command(subcommand)]
    Store(store::StoreCommand),
    #[command(subcommand)]
    Client(client::ClientCommand),
    #[command(subcommand)]
    Session(session::SessionCommand),
    #[command(subcommand)]
    Revoke(revoke::RevokeCommand),
    #[command(subcommand)]
    SigningKey(signing_key::SigningKeyCommand),
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    #[command(subcommand)]
    Operator(operator::OperatorCommand),
    #[command(subcommand)]
    Token(token::TokenCommand),
    Healthcheck(healthcheck::HealthcheckArgs),
    Exec(exec::ExecArgs),
    #[command(name = "exec-child", hide = true)]
    ExecChild(exec::ChildArgs),
    CredentialHelper(credential_helper::HelperArgs),
    Explain(explain::ExplainArgs),
    Completions(shell::CompletionsArgs),
    Man(shell::ManArgs),
    Version(shell::VersionArgs),
    #[command(subcommand, hide = true)]
    Docs(docs::DocsCommand),
}

/// The whole program: arguments and environment in, exit code out.
pub fn main(arguments: impl IntoIterator<Item = OsString>, environment: Environment) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let cli = match parse(&arguments) {
        Ok(cli) => cli,
        Err(error) => return told_by_clap(&error, &arguments, &environment),
    };
    let terminal = Terminal::new(cli.globals.output.unwrap_or_default(), &environment);
    let context = Context::new(cli.globals, terminal.clone(), environment);
    // A panic's own message is on standard error already; the exit code says that it was a bug.
    let ended = catch_unwind(AssertUnwindSafe(|| run(cli.command, &context)));
    let ended = ended.unwrap_or_else(|_| Err(Failure::bug("keyholder stopped because of a bug")));
    match ended.and_then(|exit| got_out(exit, &terminal)) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            terminal.failure(&failure);
            failure.exit().into()
        }
    }
}

/// An answer that nobody could read is no success, unless the reader went away by itself (`| head`).
fn got_out(exit: Exit, terminal: &Terminal) -> Result<Exit, Failure> {
    match (exit, terminal.lost()) {
        (Exit::Done | Exit::No, Some(error)) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::unwritten(error))
        }
        _ => Ok(exit),
    }
}

fn parse(arguments: &[OsString]) -> Result<Cli, clap::Error> {
    let mut matches = keep_lines(Cli::command()).try_get_matches_from(arguments)?;
    Cli::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut Cli::command()))
}

/// Stands for a space in texts that are not to be wrapped: clap breaks lines at spaces alone.
const KEPT_SPACE: &str = "\u{e000}";

/// The command with every closing text kept as it was written: an example that is broken cannot be pasted. Its help is
/// shown with [`with_spaces`].
fn keep_lines(command: clap::Command) -> clap::Command {
    let kept = command.get_after_help().map(|text| text.to_string().replace(' ', KEPT_SPACE));
    let command = match kept {
        Some(kept) => command.after_help(kept),
        None => command,
    };
    command.mut_subcommands(keep_lines)
}

/// Rendered help of [`keep_lines`] as people read it.
fn with_spaces(help: &str) -> String {
    help.replace(KEPT_SPACE, " ")
}

/// The command with all its help, for man pages and completions.
pub(crate) fn command() -> clap::Command {
    Cli::command()
}

fn run(command: Command, context: &Context) -> Result<Exit, Failure> {
    match command {
        Command::Demo(arguments) => demo::run(&arguments, context),
        Command::Init(arguments) => init::run(&arguments, context),
        Command::Serve(arguments) => serve::run(&arguments, context),
        Command::Status(arguments) => status::run(&arguments, context),
        Command::Credential(command) => credential::run(&command, context),
        Command::Check(arguments) => check::run(&arguments, context),
        Command::Config(command) => config::run(&command, context),
        Command::Rotate(command) => rotate::run(command, context),
        Command::Sandbox(arguments) => sandbox::run(&arguments, context),
        Command::Secret(command) => secret::run(command, context),
        Command::Store(command) => store::run(command, context),
        Command::Client(command) => client::run(command, context),
        Command::Session(command) => session::run(command, context),
        Command::Revoke(command) => revoke::run(command, context),
        Command::SigningKey(command) => signing_key::run(&command, context),
        Command::Audit(command) => audit::run(command, context),
        Command::Operator(command) => Ok(operator::run(&command, context)),
        Command::Token(command) => token::run(command, context),
        Command::Healthcheck(arguments) => healthcheck::run(&arguments, context),
        Command::Exec(arguments) => exec::run(&arguments, context),
        Command::ExecChild(arguments) => exec::become_child(&arguments),
        Command::CredentialHelper(arguments) => credential_helper::run(&arguments, context),
        Command::Explain(arguments) => explain::run(&arguments, context),
        Command::Completions(arguments) => Ok(shell::completions(&arguments, context)),
        Command::Man(arguments) => shell::man(&arguments, context),
        Command::Version(arguments) => Ok(shell::version(&arguments, context)),
        Command::Docs(command) => Ok(docs::run(&command, context)),
    }
}

/// Help and versions are answers; everything else that clap says is a usage error.
fn told_by_clap(error: &clap::Error, arguments: &[OsString], environment: &Environment) -> ExitCode {
    let json = arguments.windows(2).any(|pair| matches!(pair, [flag, form] if flag == "--output" && form == "json"))
        || arguments.iter().any(|argument| argument == "--output=json");
    let terminal = Terminal::new(if json { OutputFormat::Json } else { OutputFormat::Text }, environment);
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let text = error.render();
            let text = if terminal.out_style.is_plain() { text.to_string() } else { text.ansi().to_string() };
            terminal.out(&with_spaces(&text));
            let ended = got_out(Exit::Done, &terminal);
            ended.inspect_err(|failure| terminal.failure(failure)).unwrap_or_else(|failure| failure.exit()).into()
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            terminal.note(with_spaces(&error.render().to_string()).trim_end());
            Exit::Usage.into()
        }
        _ => {
            terminal.failure(&secret_flag(error, arguments).unwrap_or_else(|| usage_failure(error)));
            Exit::Usage.into()
        }
    }
}

/// Flags that people expect to take a secret; no command has them.
const SECRET_FLAGS: [&str; 8] = [
    "--access-key-secret",
    "--access-token",
    "--api-key",
    "--client-secret",
    "--passphrase",
    "--password",
    "--secret",
    "--token",
];

/// The failure of a flag that would take a secret: which way it comes in instead, and nothing of what was typed.
fn secret_flag(error: &clap::Error, arguments: &[OsString]) -> Option<Failure> {
    let Some(ContextValue::String(typed)) = error.get(ContextKind::InvalidArg) else { return None };
    let flag = typed.split('=').next().unwrap_or(typed);
    if error.kind() != ErrorKind::UnknownArgument || !SECRET_FLAGS.contains(&flag) {
        return None;
    }
    let command = arguments.iter().skip(1).find(|word| *word == "init" || *word == "secret");
    Some(secret_argument(match command {
        Some(command) if command == "init" => "let keyholder prompt for it, or use --secret-stdin or --secret-file",
        Some(_) => secret::WAY_IN,
        None => "a command that needs a secret reads it from standard input or from a file: --help says how",
    }))
}

/// The failure of a secret among the arguments; `way` says how it comes in.
fn secret_argument(way: &str) -> Failure {
    Failure::usage("a secret must not stand on the command line, where others can see it")
        .hint(way)
        .hint("rotate the secret if it was a real one: it may be in your shell's history")
}

/// clap's message as one of ours: the first line is the error, its tips are hints.
fn usage_failure(error: &clap::Error) -> Failure {
    let text = without_secrets(error);
    let mut failure: Option<Failure> = None;
    let mut detail = String::new();
    for line in text.lines() {
        let line = line.trim();
        if let Some(tip) = line.strip_prefix("tip: ") {
            failure = Some(failure.unwrap_or_else(|| Failure::usage(detail.clone())).hint(tip));
        } else if line.starts_with("Usage:") || line.starts_with("For more information") {
            failure = Some(failure.unwrap_or_else(|| Failure::usage(detail.clone())));
        } else if failure.is_none() && !line.is_empty() {
            let separator = if detail.is_empty() { "" } else { " " };
            detail.push_str(separator);
            detail.push_str(line.strip_prefix("error: ").unwrap_or(line));
        }
    }
    failure.unwrap_or_else(|| Failure::usage(detail)).hint("--help shows what there is, with examples")
}

/// clap's message without what was typed where it may be a secret: shells keep enough of it.
fn without_secrets(error: &clap::Error) -> String {
    let mut text = error.render().to_string();
    for (_, value) in error.context() {
        let typed = match value {
            ContextValue::String(one) => std::slice::from_ref(one),
            ContextValue::Strings(many) => many,
            _ => continue,
        };
        for typed in typed.iter().filter(|typed| crate::config::mask::mask_words(typed) != **typed) {
            text = text.replace(typed.as_str(), "[not repeated]");
        }
    }
    text
}

#[cfg(test)]
mod tests;
