//! What tells people of rotations: the log, and those ways of the configuration that a credential names.
//!
//! Invariants: whoever tells something never waits; a notice about a credential goes only to the ways that its own
//! section names, or `[rotation]` where it names none; what did not arrive is counted and logged.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use kh_core::{
    CredentialName, Entropy,
    port::{BoxFuture, Notice, Notifier, Urgency},
};
use kh_deliver::{Channel, ChannelCounts, Limits, NoticeQueue, SendError};

use crate::config::Config;

/// Who is told of which credential, by the names of `[notify.NAME]`.
type Routes = BTreeMap<CredentialName, Vec<String>>;

/// The ways to people of one process.
pub(crate) struct Notices {
    queue: Arc<NoticeQueue>,
    routes: Arc<ArcSwap<Routes>>,
}

/// A way to people that hears only of the credentials which name it.
struct Routed {
    channel: Arc<dyn Channel>,
    routes: Arc<ArcSwap<Routes>>,
}

impl Channel for Routed {
    fn name(&self) -> &str {
        self.channel.name()
    }

    fn threshold(&self) -> Urgency {
        self.channel.threshold()
    }

    fn wants(&self, notice: &Notice) -> bool {
        let routes = self.routes.load();
        // what is about no credential concerns everybody
        let is_named = notice.credential.as_ref().is_none_or(|credential| {
            routes.get(credential).is_some_and(|ways| ways.iter().any(|way| way == self.name()))
        });
        is_named && self.channel.wants(notice)
    }

    fn send<'a>(&'a self, notice: &'a Notice) -> BoxFuture<'a, Result<(), SendError>> {
        self.channel.send(notice)
    }
}

impl Notices {
    /// Starts the ways. Must run on a runtime.
    pub(crate) fn start(channels: Vec<Arc<dyn Channel>>, config: &Config, entropy: &Arc<dyn Entropy>) -> Arc<Self> {
        let routes = Arc::new(ArcSwap::from_pointee(routes(config)));
        let routed = |channel| Arc::new(Routed { channel, routes: Arc::clone(&routes) }) as Arc<dyn Channel>;
        let channels = channels.into_iter().map(routed).collect();
        let runtime = tokio::runtime::Handle::current();
        let queue = NoticeQueue::start(channels, Limits::default(), entropy, &runtime);
        Arc::new(Self { queue, routes })
    }

    /// A changed configuration says who is told of what.
    pub(crate) fn take_over(&self, config: &Config) {
        self.routes.store(Arc::new(routes(config)));
    }

    /// What became of the notices, by way.
    pub(crate) fn counts(&self) -> Vec<(String, ChannelCounts)> {
        self.queue.counts()
    }

    /// Ends: what waits may be sent for as long as `within`; the rest is counted and logged as lost.
    pub(crate) async fn close(&self, within: Duration) {
        self.queue.close(within).await;
    }
}

impl Notifier for Notices {
    fn notify(&self, notice: Notice) {
        let credential = notice.credential.as_ref().map(ToString::to_string).unwrap_or_default();
        let run = notice.run.map(|run| run.to_string()).unwrap_or_default();
        tracing::info!(notice.kind = notice.kind, credential, rotation.run = run, "notice: {}", notice.summary);
        self.queue.notify(notice);
    }
}

fn routes(config: &Config) -> Routes {
    let usual = config.rotation.usual.notify.as_ref();
    let of = |(name, credential): (&CredentialName, &crate::config::CredentialConfig)| {
        let own = credential.rotation.as_ref()?.times.notify.as_ref();
        Some((name.clone(), own.or(usual).cloned().unwrap_or_default()))
    };
    config.credentials.iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn a_credential_names_who_is_told_of_it() {
        let way = |name: &str| {
            format!("[notify.{name}]\nkind = \"webhook\"\nurl = \"https://x.example\"\nkey_file = \"k\"\n")
        };
        let credential = |name: &str, lines: &str| {
            format!("[credential.{name}]\nplatform = \"p\"\nsecret = \"store:{name}\"\n{lines}")
        };
        let text = [
            "[platform.p]\nkind = \"genesys\"\nregion = \"us-east-1\"\n[rotation]\nnotify = [\"duty\"]\n".to_owned(),
            way("duty"),
            way("team"),
            credential("own", "[credential.own.rotation]\nnotify = [\"team\"]\n"),
            credential("usual", "[credential.usual.rotation]\n"),
            credential("silent", "[credential.silent.rotation]\nnotify = []\n"),
            credential("fixed", ""),
        ];
        let config = config::parse(text.concat().as_bytes()).expect("a configuration").config;
        let told: Vec<_> = routes(&config).into_iter().map(|(name, ways)| (name.to_string(), ways)).collect();
        let row = |name: &str, ways: &[&str]| (name.to_owned(), ways.iter().map(|way| (*way).to_owned()).collect());
        assert_eq!(told, [row("own", &["team"]), row("silent", &[]), row("usual", &["duty"])]);
    }
}
