//! Reads `[credential.NAME.sessions]`: users log in with the credential, each with a session of their own.
//!
//! Invariant: what comes out is of a platform whose token endpoint keyholder can send a user's code to, and of a
//! credential that is not rotated.

use std::time::Duration;

use kh_core::PlatformKind;

use super::{
    model::{CredentialRotationConfig, SessionsConfig},
    reader::Section,
};

/// Sessions of one client at most; as many as a client may have access tokens.
const PER_CLIENT_MAX: u64 = 10_000;

/// A session that ends sooner than this, used or not, sends its user to the login all day.
const IDLE_RISKY: Duration = Duration::from_mins(5);

/// `[credential.NAME.sessions]`
pub(super) fn of_a_credential(
    credential: &Section<'_>,
    kind: Option<PlatformKind>,
    rotation: Option<&CredentialRotationConfig>,
) -> Option<SessionsConfig> {
    let section = credential.section("sessions")?;
    if kind == Some(PlatformKind::Cxone) {
        let hint = "give it a platform of kind genesys or oauth2, or take the section out";
        section.error(section.span.clone(), "keyholder has no sessions of users at CXone", hint);
    }
    if rotation.is_some() {
        let hint = "take [credential.NAME.rotation] out, and replace this secret by hand";
        section.error(section.span.clone(), "a credential that users log in with is not rotated", hint);
    }
    let (life, idle_life) = (section.duration("life"), section.duration("idle_life"));
    if let (Some(life), Some(idle)) = (&life, &idle_life)
        && idle.value > life.value
    {
        let hint = "idle_life ends a session that nobody uses, life one that is used";
        section.error(idle.span.clone(), "idle_life is longer than life", hint);
    }
    if let Some(found) = idle_life.as_ref().filter(|found| found.value < IDLE_RISKY) {
        section.warning(found.span.clone(), "users have to log in after a few idle minutes", "idle_life = \"7d\"");
    }
    let config = SessionsConfig {
        life: life.map(|found| found.value),
        idle_life: idle_life.map(|found| found.value),
        per_client: section.number("per_client", 1..=PER_CLIENT_MAX),
        retry_lost_answer: section.flag("retry_lost_answer"),
    };
    section.finish();
    Some(config)
}
