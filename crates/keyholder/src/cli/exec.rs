//! `keyholder exec`: runs a command beside a private broker, and ends with it.
//!
//! Invariants: the command gets an address and the name of a token file, never a platform's secret and never the
//! store's key; it hears the signals that keyholder gets, also that keyholder was killed; its exit code is ours.

mod child;
mod signals;

use std::{
    ffi::OsString,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::PathBuf,
    time::Duration,
};

use clap::Args;
use kh_core::{Code, CredentialName, EnvironmentName, environment};

use super::{Context, Loaded, control_runtime};
use crate::{
    compose::{Base, PrivateBroker, Reach, forget_variable, hide_memory},
    environment::Environment,
    output::{Exit, Failure},
};
pub(super) use child::{ChildArgs, become_child};

/// How long the runtime's own threads may take to end when everything is done.
const LAST_MOMENT: Duration = Duration::from_secs(1);

/// Run a command that gets tokens from a broker of its own
#[derive(Debug, Args)]
#[command(
    after_help = "The command gets KEYHOLDER_URL (unix:/PATH, or http://127.0.0.1:PORT with --tcp), KEYHOLDER_TOKEN_FILE and
KEYHOLDER_PROFILE, the first profile. It gets no platform secret. Signals are passed on to it; keyholder ends when it
ends, with its exit code, or 128 and the number of the signal that ended it.

Examples:
  keyholder exec --profile acme-test -- python3 report.py
  keyholder exec --profile acme-prod --environment production -- ./nightly.sh
  keyholder exec --profile acme-test -- sh -c 'keyholder token get acme-test --format header | curl -H @- https://api.mypurecloud.de/api/v2/users'
  keyholder exec --profile acme-test --tcp -- java -jar app.jar"
)]
pub(crate) struct ExecArgs {
    /// A credential that the command may use; can be given again
    #[arg(long = "profile", required = true, value_name = "CREDENTIAL")]
    profiles: Vec<CredentialName>,
    /// The credentials' environment; production is refused without it
    #[arg(long, value_name = "NAME")]
    environment: Option<EnvironmentName>,
    /// A loopback port in place of a unix socket, for a command that cannot use one
    #[arg(long)]
    tcp: bool,
    /// Put a token into this variable of the command's environment, where it goes stale and every child reads it
    #[arg(long = "inject-token", value_name = "VARIABLE", value_parser = variable)]
    inject_as: Option<String>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// A name that a shell takes for a variable, and that says nothing to the loader.
fn variable(text: &str) -> Result<String, &'static str> {
    let mut bytes = text.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    let is_name = first && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !is_name || text.starts_with("LD_") || text.starts_with("KEYHOLDER_") || ["PATH", "IFS", "HOME"].contains(&text)
    {
        return Err("not the name of a variable for a token");
    }
    Ok(text.to_owned())
}

pub(super) fn run(arguments: &ExecArgs, context: &Context) -> Result<Exit, Failure> {
    context.start_logging_at(super::QUIET)?;
    let loaded = context.load_file()?;
    check(arguments, &loaded)?;
    let key_variable = loaded.config.store.key.variable();
    if let Some(variable) = key_variable {
        // It is read already, when this program started.
        forget_variable(variable);
    }
    hide_memory();
    let signals = signals::Known::at_start();
    let runtime = control_runtime()?;
    let base = Base::open(&loaded, &context.environment)?;
    let exit = runtime.block_on(async {
        let reach = if arguments.tcp { Reach::Tcp } else { Reach::Socket };
        let place = place(&context.environment);
        let broker = PrivateBroker::start(&loaded, &base, &arguments.profiles, reach, &place).await?;
        let ended = beside(arguments, context, &base, &broker, signals, key_variable).await;
        broker.stop().await;
        ended
    });
    runtime.shutdown_timeout(LAST_MOMENT);
    exit.map(Exit::Child)
}

/// Refuses what the configuration does not have, and production that nobody asked for.
fn check(arguments: &ExecArgs, loaded: &Loaded) -> Result<(), Failure> {
    for profile in &arguments.profiles {
        let Some(credential) = loaded.config.credentials.get(profile) else {
            return Err(Failure::new(Code::NOT_FOUND, format!("there is no credential {profile}"))
                .hint(format!("a profile is the name of a [credential.NAME] in {}", loaded.file_name())));
        };
        environment::permit(credential.environment.as_ref(), arguments.environment.as_ref()).map_err(|refused| {
            let failure = Failure::new(refused.code(), format!("{profile}: {refused}"));
            match &credential.environment {
                Some(own) => failure.hint(format!("if that is what you mean, say --environment {own}")),
                None => failure.hint("leave --environment out, or give the credential an environment"),
            }
        })?;
    }
    if arguments.inject_as.is_some() && arguments.profiles.len() != 1 {
        return Err(Failure::usage("--inject-token can put in one token, and there is more than one --profile"));
    }
    Ok(())
}

/// Where the private folder goes: the user's own runtime folder, which a reboot empties, else the temporary one.
fn place(environment: &Environment) -> PathBuf {
    let own = rustix::process::geteuid().as_raw();
    let is_ours = |folder: &PathBuf| {
        folder.is_absolute()
            && std::fs::metadata(folder)
                .is_ok_and(|about| about.is_dir() && about.uid() == own && about.permissions().mode() & 0o022 == 0)
    };
    let runtime = environment.path("XDG_RUNTIME_DIR").filter(is_ours);
    runtime.or_else(|| environment.path("TMPDIR")).unwrap_or_else(|| PathBuf::from("/tmp"))
}

/// Runs the command to its end; answers its exit code.
async fn beside(
    arguments: &ExecArgs,
    context: &Context,
    base: &Base,
    broker: &PrivateBroker,
    signals: signals::Known,
    key_variable: Option<&str>,
) -> Result<u8, Failure> {
    let mut heard = signals.listen()?;
    let mut command = child::command(&arguments.command)?;
    for variable in ["KEYHOLDER_URL", "KEYHOLDER_TOKEN_FILE", "KEYHOLDER_PROFILE"].into_iter().chain(key_variable) {
        command.env_remove(variable);
    }
    command.env("KEYHOLDER_URL", &broker.url).env("KEYHOLDER_TOKEN_FILE", &broker.token_file);
    if let Some(first) = arguments.profiles.first() {
        command.env("KEYHOLDER_PROFILE", first.as_str());
    }
    if let (Some(variable), Some(profile)) = (&arguments.inject_as, arguments.profiles.first()) {
        let credential =
            broker.broker.credential(profile).ok_or_else(|| Failure::bug("the private broker lost a profile"))?;
        // there is no child yet that could hear a signal
        let lease = match heard.unless_ended(credential.lease(Duration::ZERO)).await {
            Ok(lease) => lease.map_err(|error| Failure::of(error.code(), &error))?,
            Err(signal) => return Ok(child::code_of_signal(signal)),
        };
        let minutes = lease.remaining(base.clock.now()).as_secs() / 60;
        context.terminal.warn(&format!(
            "{variable} holds a token that ends in {minutes} min and is not renewed; every child of the command can read it"
        ));
        command.env(variable, lease.token().expose());
    }
    child::run(command, heard).await
}

#[cfg(test)]
mod tests {
    use super::variable;

    #[test]
    fn variables_for_a_token() {
        for good in ["TOKEN", "_T", "a1"] {
            assert!(variable(good).is_ok(), "{good}");
        }
        for bad in ["", "1A", "A-B", "A=B", "LD_PRELOAD", "PATH", "KEYHOLDER_URL", "\u{c4}"] {
            assert!(variable(bad).is_err(), "{bad}");
        }
    }
}
