//! Reads the `[hook.NAME]` and `[notify.NAME]` sections.
//!
//! Invariant: whatever is secret about one stands in a file that the section names.

use std::{collections::BTreeMap, time::Duration};

use kh_core::port::{Urgency, rotation_journal::LEASE_MAX};
use kh_deliver::GRACE_DEFAULT;
use kh_rotation::Policy;
use kh_rotator::session::call_timeout;

use super::{
    duration,
    keys::words,
    model::{Config, HookConfig, HookDetail, NotifyConfig, NotifyDetail, RotationConfig, SmtpTls},
    reader::{Located, Section},
    rotation::CALL_MIN,
    stores::address,
};

const HOOKS: [&str; 5] = ["webhook", "command", "kubernetes", "github", "lambda"];
const NOTIFIERS: [&str; 4] = ["webhook", "slack", "pagerduty", "smtp"];

/// What a hook needs beside its timeout before the rotation gives its call up: to end a program, and to tell what came.
const TIMEOUT_ROOM: Duration = GRACE_DEFAULT.saturating_add(Duration::from_secs(1));

/// Every hook and notifier, with the names of those that have mistakes.
#[derive(Default)]
pub(super) struct Delivery {
    pub(super) hooks: BTreeMap<String, HookConfig>,
    pub(super) hook_names: Vec<String>,
    pub(super) notifiers: BTreeMap<String, NotifyConfig>,
    pub(super) notifier_names: Vec<String>,
}

/// Reads them all.
pub(super) fn read(root: &Section<'_>) -> Delivery {
    let mut all = Delivery::default();
    for (name, section) in root.named_sections("hook") {
        all.hook_names.push(name.value.to_owned());
        check_name(root, &name);
        all.hooks.extend(hook(section).map(|hook| (name.value.to_owned(), hook)));
    }
    for (name, section) in root.named_sections("notify") {
        all.notifier_names.push(name.value.to_owned());
        check_name(root, &name);
        all.notifiers.extend(notifier(section).map(|notifier| (name.value.to_owned(), notifier)));
    }
    all
}

/// Longest timeout of a hook: with a longer one the rotation would give the call up first, and nobody would tell a
/// program to end.
pub(crate) fn hook_timeout_max(rotation: &RotationConfig) -> Duration {
    let usual = Policy::default();
    let call_bound = rotation.call_max.unwrap_or(usual.call_bound).clamp(CALL_MIN, LEASE_MAX);
    call_timeout(&Policy { call_bound, ..usual }).saturating_sub(TIMEOUT_ROOM)
}

/// Tells which timeouts are longer than a rotation leaves for a hook.
pub(super) fn check_timeouts(root: &Section<'_>, config: &Config) {
    let longest = hook_timeout_max(&config.rotation);
    for (name, section) in root.named_sections("hook") {
        let timeout = config.hooks.get(name.value).and_then(|hook| hook.timeout);
        let Some(place) = section.place("timeout").filter(|_| timeout.is_some_and(|timeout| timeout > longest)) else {
            continue;
        };
        let told = format!("timeout is longer than call_max leaves for a hook: {} holds", duration::format(longest));
        section.warning(place, told, "a hook may take half of call_max in [rotation] less 6s; make call_max longer");
    }
}

/// The names follow the same rule as those of stores and credentials.
fn check_name(root: &Section<'_>, name: &Located<&str>) {
    if let Err(error) = name.value.parse::<kh_core::StoreName>() {
        let told = error.to_string().replacen("store name", "name", 1);
        root.error(name.span.clone(), told, "rename the section");
    }
}

fn hook(section: Section<'_>) -> Option<HookConfig> {
    let kind = section.kind(&HOOKS)?;
    let detail = match kind {
        "webhook" => webhook(&section).map(|(url, key_file)| HookDetail::Webhook { url, key_file }),
        "command" => command(&section),
        "kubernetes" => kubernetes(&section),
        "github" => github(&section),
        _ => lambda(&section),
    };
    let timeout = section.duration("timeout").map(|found| found.value);
    let extra_ca = if kind == "command" { None } else { section.path("extra_ca").map(|found| found.value) };
    section.finish();
    Some(HookConfig { detail: detail?, timeout, extra_ca })
}

fn webhook(section: &Section<'_>) -> Option<(kh_platform::Address, std::path::PathBuf)> {
    section.lacking(&[
        ("url", "url = \"https://example.com/rotated\""),
        ("key_file", "key_file = \"a file with the key of the signature\""),
    ]);
    let (url, key_file) = (address(section, "url"), section.path("key_file"));
    Some((url?, key_file?.value))
}

fn command(section: &Section<'_>) -> Option<HookDetail> {
    let hint = "command = [\"/usr/bin/systemctl\", \"reload\", \"integration\"]";
    section.lacking(&[("command", hint)]);
    let command: Vec<_> = section.texts("command")?.into_iter().map(|item| item.value.to_owned()).collect();
    if command.first().is_none_or(String::is_empty) {
        let place = section.place("command").unwrap_or_else(|| section.span.clone());
        section.error(place, "command names no program", hint);
        return None;
    }
    Some(HookDetail::Command { command })
}

fn kubernetes(section: &Section<'_>) -> Option<HookDetail> {
    section.lacking(&[("namespace", "namespace = \"default\""), ("deployment", "deployment = \"NAME\"")]);
    let api_url = address(section, "api_url");
    let token_file = section.path("token_file").map(|found| found.value);
    let namespace = section.word("namespace", &words::KUBERNETES);
    let deployment = section.word("deployment", &words::KUBERNETES);
    Some(HookDetail::Kubernetes { namespace: namespace?, deployment: deployment?, api_url, token_file })
}

fn github(section: &Section<'_>) -> Option<HookDetail> {
    section.lacking(&[
        ("repository", "repository = \"OWNER/NAME\""),
        ("name", "name = \"GENESYS_CLIENT_SECRET\""),
        ("token_file", "token_file = \"a file with a token that may write the secret\""),
    ]);
    let (member, api_url) = (section.word("member", &words::MEMBER), address(section, "api_url"));
    let repository = section.word("repository", &words::REPOSITORY);
    let name = section.word("name", &words::ACTIONS_SECRET);
    let token_file = section.path("token_file").map(|found| found.value);
    Some(HookDetail::Github { repository: repository?, name: name?, member, token_file: token_file?, api_url })
}

fn lambda(section: &Section<'_>) -> Option<HookDetail> {
    section.lacking(&[("function", "function = \"NAME\"")]);
    let (region, profile) = (section.word("region", &words::ONE_WORD), section.word("profile", &words::ONE_WORD));
    let endpoint = address(section, "endpoint");
    Some(HookDetail::Lambda { function: section.word("function", &words::ONE_WORD)?, region, profile, endpoint })
}

fn notifier(section: Section<'_>) -> Option<NotifyConfig> {
    let detail = match section.kind(&NOTIFIERS)? {
        "webhook" => webhook(&section).map(|(url, key_file)| NotifyDetail::Webhook { url, key_file }),
        "slack" => {
            section.lacking(&[("url_file", "url_file = \"a file with the webhook's address\"")]);
            section.path("url_file").map(|found| NotifyDetail::Slack { url_file: found.value })
        }
        "pagerduty" => {
            section.lacking(&[("key_file", "key_file = \"a file with the routing key\"")]);
            let url = address(&section, "url");
            section.path("key_file").map(|found| NotifyDetail::Pagerduty { key_file: found.value, url })
        }
        _ => smtp(&section),
    };
    let urgencies = [("info", Urgency::Info), ("warning", Urgency::Warning), ("critical", Urgency::Critical)];
    let urgency = section.choice("urgency", &urgencies).map(|found| found.value);
    let extra_ca = section.path("extra_ca").map(|found| found.value);
    section.finish();
    Some(NotifyConfig { detail: detail?, urgency, extra_ca })
}

fn smtp(section: &Section<'_>) -> Option<NotifyDetail> {
    section.lacking(&[
        ("server", "server = \"mail.example.com:587\""),
        ("from", "from = \"keyholder@example.com\""),
        ("to", "to = [\"team@example.com\"]"),
    ]);
    let server = section.word("server", &words::HOST_AND_PORT);
    let (from, to) = (section.word("from", &words::MAILBOX), section.words("to", &words::MAILBOX));
    let modes = [("starttls", SmtpTls::Starttls), ("tls", SmtpTls::Tls), ("none", SmtpTls::None)];
    let tls = section.choice("tls", &modes);
    let user = section.text("user").map(|found| found.value.to_owned());
    let password_file = section.path("password_file").map(|found| found.value);
    for (given, lacking) in [("user", "password_file"), ("password_file", "user")] {
        if let (Some(place), None) = (section.place(given), section.place(lacking)) {
            section.error(place, format!("{given} without {lacking}"), format!("{lacking} = \"...\" beside it"));
        }
    }
    let is_local = |server: &str| server.starts_with("localhost:") || server.starts_with("127.");
    if let (Some(found), Some(server)) = (&tls, &server)
        && found.value == SmtpTls::None
        && !is_local(server)
    {
        let hint = "write tls = \"starttls\", or name a server on this machine";
        section.error(found.span.clone(), "mail leaves this machine in the clear", hint);
    }
    let to = to?.into_iter().map(|item| item.value).collect::<Vec<_>>();
    if to.is_empty() {
        let place = section.place("to").unwrap_or_else(|| section.span.clone());
        section.error(place, "to names nobody", "to = [\"team@example.com\"]");
    }
    Some(NotifyDetail::Smtp {
        server: server?,
        from: from?,
        to,
        tls: tls.map(|found| found.value),
        user,
        password_file,
    })
}
