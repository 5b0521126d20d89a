//! The story's steps in their order, and what happens when one does not hold.

use std::{cell::Cell, fmt};

use kh_core::Code;
use tokio::time::Instant;

use super::{narrator::Narrator, steps, world::World};
use crate::output::Failure;

/// The steps; also what `--sabotage` takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(super) enum StepName {
    /// The platform's token endpoint answers 500.
    Login,
    /// The platform refuses the cached token once, so that there is a second login.
    CachedToken,
    /// The platform gives no new token after the old one was killed.
    TokenKilled,
    /// The platform asks to wait for two hours instead of seconds.
    RateLimit,
    /// The platform refuses one call while the secret is replaced.
    Rotation,
    /// The forbidden call is made past keyholder, straight at the platform.
    ForbiddenCall,
    /// The platform puts its token into an answer.
    SecretStays,
    /// CXone's login answers 500.
    Cxone,
    /// One letter of the audit log is changed.
    Audit,
}

impl StepName {
    /// Every step, in the story's order.
    pub(super) const ALL: [Self; 9] = [
        Self::Login,
        Self::CachedToken,
        Self::TokenKilled,
        Self::RateLimit,
        Self::Rotation,
        Self::ForbiddenCall,
        Self::SecretStays,
        Self::Cxone,
        Self::Audit,
    ];

    fn title(self) -> &'static str {
        match self {
            Self::Login => "An application logs in at keyholder and makes its first call",
            Self::CachedToken => "More calls share one platform token",
            Self::TokenKilled => "The platform kills the token in the middle of the traffic",
            Self::RateLimit => "The platform's rate limit is met and waited out",
            Self::Rotation => "The platform's secret is replaced under load, and no call notices",
            Self::ForbiddenCall => "A call that the application may not make is refused",
            Self::SecretStays => "Nothing of the platform is anywhere in the application",
            Self::Cxone => "The same for NICE CXone, with its own login",
            Self::Audit => "Every change stands in a log that cannot be edited unseen",
        }
    }
}

impl fmt::Display for StepName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = clap::ValueEnum::to_possible_value(self);
        f.write_str(value.as_ref().map_or("step", clap::builder::PossibleValue::get_name))
    }
}

/// Tells all steps; ends at the first that does not hold. `current` always names the one being told.
pub(super) async fn tell(
    world: &World,
    narrator: &Narrator,
    sabotage: Option<StepName>,
    current: &Cell<StepName>,
) -> Result<(), Failure> {
    let mut told = Vec::new();
    let mut cast = steps::Cast::new(world);
    for (index, step) in StepName::ALL.into_iter().enumerate() {
        current.set(step);
        narrator.step(index + 1, StepName::ALL.len(), step.title());
        let sabotaged = sabotage == Some(step);
        if sabotaged {
            narrator.tell("(sabotaged on purpose: this step must not hold)");
        }
        let begin = Instant::now();
        let mut scene = steps::Scene { world, narrator, control: world.control(), cast: &mut cast, sabotaged };
        if let Err(why) = scene.play(step).await {
            narrator.broke(&why);
            return Err(Failure::new(Code::STORY_FAILED, format!("the step {step} did not hold: {why}"))
                .with("step", step.to_string().into()));
        }
        narrator.held(begin.elapsed());
        told.push((step, begin.elapsed()));
    }
    narrator.end(&told);
    Ok(())
}
