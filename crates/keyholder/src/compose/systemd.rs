//! What systemd is told: ready, reloading, stopping, alive (`sd_notify(3)`, `Type=notify-reload`).
//!
//! Invariant: without `NOTIFY_SOCKET` nothing is sent, and a supervisor that does not listen stops nothing.

use std::{sync::Arc, time::Duration};

use kh_admin::Pulse;
use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

/// Everything listens; `status` is shown by `systemctl status`.
pub(crate) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// A reload begins. systemd pairs it with the next [`ready`] by the time that goes with it.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "systemd cannot be told of the reload"),
    }
}

/// The end begins.
pub(crate) fn stopping(status: &str) {
    tell(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd does not take a notification");
    }
}

/// Tells the watchdog that keyholder is alive, twice in the time that it allows, while every part moves. Runs on the
/// control runtime: if that stands still, nothing is told either.
pub(crate) async fn watchdog(pulses: Arc<[Arc<dyn Pulse>]>, cancel: CancellationToken) {
    let Some(allowed) = sd_notify::watchdog_enabled().filter(|allowed| *allowed > Duration::ZERO) else { return };
    loop {
        if pulses.iter().all(|pulse| pulse.beats()) {
            tell(&[NotifyState::Watchdog]);
        } else {
            tracing::error!("the watchdog is not told that keyholder is alive: a part of it stands still");
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(allowed / 2) => {}
        }
    }
}
