//! `keyholder demo`: a sandbox and a keyholder on loopback, and a story told with real traffic between them.
//!
//! Invariants: no network beyond loopback and no file outside its own temporary folder (and the ready file); every
//! step asserts on what the sandbox itself saw; the temporary folder is removed at the end.

mod application;
mod control;
mod howto;
mod narrator;
mod steps;
mod story;
mod world;

use std::{cell::Cell, path::PathBuf, time::Duration};

use clap::Args;
use kh_core::Code;

use crate::{
    cli::{Context, StopSignal, control_runtime},
    compose::{harden, remove_ready_file, write_private_file},
    output::{Exit, Failure},
};
use narrator::Narrator;
use story::StepName;
use world::World;

/// What is logged during the story unless somebody asks for more: the story tells what happens.
const LOG_FILTER: &str = "error";

/// The whole story ends within this time, or the step that hangs is named.
const STORY_LIMIT: Duration = Duration::from_secs(40);

/// See keyholder work: a sandbox platform, a gateway and a story, on this machine alone
#[derive(Debug, Args)]
#[command(
    after_help = "Nothing is installed, no account is needed, and nothing leaves this machine. Afterwards everything
stays up for your own SDK until Ctrl-C.

Examples:
  keyholder demo
  keyholder demo --once                              exit 0 only if every step held
  keyholder demo --once --sabotage token-killed      break a step on purpose and see the story notice
  keyholder demo --ready-file demo.json --listen-base 9000"
)]
pub(crate) struct DemoArgs {
    /// End after the story; exit 1 names the step that did not hold
    #[arg(long)]
    once: bool,
    /// Write the addresses and the issued client as JSON into this file, before the story
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// Use this port for the gateway and the next five for the rest [default: free ports]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..=65_529))]
    listen_base: Option<u16>,
    /// Break this step on purpose
    #[arg(long, value_enum, value_name = "STEP")]
    sabotage: Option<StepName>,
}

/// Runs the demo.
pub(crate) fn run(arguments: &DemoArgs, context: &Context) -> Result<Exit, Failure> {
    context.start_logging_at(LOG_FILTER)?;
    harden();
    let runtime = control_runtime()?;
    let exit = runtime.block_on(demo(arguments, context));
    runtime.shutdown_timeout(Duration::from_secs(1));
    exit
}

async fn demo(arguments: &DemoArgs, context: &Context) -> Result<Exit, Failure> {
    let mut stop = StopSignal::new()?;
    let narrator = Narrator::new(context.terminal.clone(), context.environment.stdout_is_terminal);
    narrator.title();
    remove_ready_file(arguments.ready_file.as_deref())?;
    let world = World::start(arguments.listen_base, context).await?;
    let current = Cell::new(StepName::Login);
    let outcome = tokio::select! {
        outcome = tell(arguments, &world, &narrator, &current) => outcome,
        () = stop.wait() => {
            // a story that was not told to its end has not held
            if arguments.once { Err(broken_off(current.get(), "was stopped by a signal")) } else { Ok(()) }
        }
    };
    let outcome = match outcome {
        Ok(()) if !arguments.once && !stop.came() => {
            howto::print(&world, &narrator);
            stop.wait().await;
            narrator.line("\nStopping.");
            Ok(Exit::Done)
        }
        Ok(()) => Ok(Exit::Done),
        Err(failure) if arguments.once => Err(failure),
        Err(failure) => {
            // The user may look around in the broken world.
            context.terminal.failure(&failure);
            howto::print(&world, &narrator);
            stop.wait().await;
            Ok(Exit::Done)
        }
    };
    world.stop().await;
    outcome
}

/// The ready file, then the story.
async fn tell(
    arguments: &DemoArgs,
    world: &World,
    narrator: &Narrator,
    current: &Cell<StepName>,
) -> Result<(), Failure> {
    if let Some(file) = &arguments.ready_file {
        write_private_file(file, world.ready().to_string().as_bytes()).map_err(|error| {
            Failure::usage(format!("the ready file {} cannot be written", file.display())).caused_by(&error)
        })?;
    }
    narrator.cast(world);
    let story = story::tell(world, narrator, arguments.sabotage, current);
    tokio::time::timeout(STORY_LIMIT, story)
        .await
        .unwrap_or_else(|_| Err(broken_off(current.get(), &format!("did not end within {} s", STORY_LIMIT.as_secs()))))
}

fn broken_off(step: StepName, how: &str) -> Failure {
    Failure::new(Code::STORY_FAILED, format!("the step {step} {how}")).with("step", step.to_string().into())
}
