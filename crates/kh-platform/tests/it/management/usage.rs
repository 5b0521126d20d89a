//! Usage of a client over time, with figures that come late.

use kh_core::{
    UnixMillis,
    port::{SecretManagement, secret_management::Rotator::First},
};
use kh_sandbox::SandboxConfig;

use super::rig::{Rig, TARGET, word};

const DAY: u64 = 86_400;

/// The sandbox just after midnight of a day.
async fn at_midnight(rig: &Rig) -> UnixMillis {
    rig.freeze().await;
    let now = kh_core::Clock::now(&rig.clock).wall.0 / 1000;
    rig.pass(DAY - now % DAY + 1).await;
    kh_core::Clock::now(&rig.clock).wall
}

#[tokio::test]
async fn not_used_is_said_only_when_a_whole_day_is_known() {
    let mut config = SandboxConfig::default();
    config.behaviours.usage_lag_seconds = DAY;
    config.behaviours.usage_running_looks = 2;
    config.behaviours.token_life_bounds = (300, 30 * DAY);
    let mut config = super::rig::organisation(config);
    for client in &mut config.genesys.clients {
        client.token_seconds = 30 * DAY;
    }
    let rig = Rig::with_rotators(config, Some(0), None).await;
    let (genesys, current) = (rig.genesys(), rig.document(TARGET));
    let id = genesys.id_of(&current).unwrap();
    let since = at_midnight(&rig).await;
    let token = rig.login(&current).await.unwrap();
    genesys.probe(&token).await.unwrap();
    let used = async || genesys.used_since(&id, since, First).await.unwrap();
    assert_eq!(used().await, None, "the day is not over");
    rig.pass(DAY).await;
    assert_eq!(used().await, None, "the first whole day after it has only begun");
    rig.pass(DAY).await;
    assert_eq!(used().await, None, "and is over now, but not known");
    rig.pass(DAY).await;
    assert_eq!(used().await, Some(0), "a whole day without a use is known; the use before it does not count");
    genesys.probe(&token).await.unwrap();
    assert_eq!(used().await, Some(0), "the platform knows of it a day later");
    rig.pass(DAY).await;
    assert_eq!(used().await, Some(1));
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn a_query_that_does_not_end_is_given_up() {
    let mut config = SandboxConfig::default();
    config.behaviours.usage_running_looks = 1000;
    let rig = Rig::start(config).await;
    let id = rig.genesys().id_of(&rig.document(TARGET)).unwrap();
    let since = UnixMillis(kh_core::Clock::now(&rig.clock).wall.0 - 5 * DAY * 1000);
    assert_eq!(word(&rig.genesys().used_since(&id, since, First).await), "not done");
    rig.sandbox.shutdown().await;
}
