//! The delivery hooks and the ways to people that a configuration names, made into what carries them out.
//!
//! Invariant: files with secrets are looked at when this is made, so that a start tells what is wrong with them, and
//! read again when they are used; nothing is sent here.

#[cfg(feature = "aws")]
mod lambda;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use kh_core::{
    Clock, Code,
    port::{DeliveryHook, Urgency},
};
use kh_deliver::{
    Access, Channel, Command, Field, GRACE_DEFAULT, GithubSecret, Mail, MailTls, Owner, PagerDuty, PagerDutyRegion,
    Place, Rollout, SecretFile, SecretValue, SigningKeys, Slack, TIMEOUT_DEFAULT, Trust, Webhook, WebhookChannel,
    Workload, WorkloadKind,
};
use kh_net::{
    Egress, SystemRoots,
    http::{HttpClient, Timeouts},
};

use super::egress::{read_named, sender_egress};
use crate::{
    cli::Loaded,
    config::{HookConfig, HookDetail, NotifyConfig, NotifyDetail, SmtpTls, hook_timeout_max},
    environment::Environment,
    output::Failure,
};

/// The public API of GitHub.
const GITHUB: &str = "https://api.github.com";

/// Where a pod finds its service account.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The search path of a command: the system's own folders.
const COMMAND_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Pause between two looks at a rollout.
const ROLLOUT_POLL: Duration = Duration::from_secs(2);

/// What one of them is made from.
struct Parts<'a> {
    section: String,
    loaded: &'a Loaded,
    egress: Arc<Egress>,
    clock: &'a Arc<dyn Clock>,
}

impl Parts<'_> {
    fn client(&self, total: Option<Duration>) -> HttpClient {
        let usual = Timeouts::default();
        let timeouts = Timeouts { total: total.unwrap_or(usual.total), ..usual };
        HttpClient::new(Arc::clone(&self.egress), timeouts, Arc::clone(self.clock))
    }

    /// How long a hook may take: what its section says or else `usual`, but not longer than a rotation waits for it.
    fn within(&self, config: &HookConfig, usual: Duration) -> Duration {
        config.timeout.unwrap_or(usual).min(hook_timeout_max(&self.loaded.config.rotation))
    }

    fn wrong(&self, error: &dyn std::error::Error) -> Failure {
        Failure::new(Code::CONFIG_INVALID, error.to_string()).hint(format!("see {} in keyholder.toml", self.section))
    }

    /// A file that only its owner may read.
    fn secret(&self, path: &Path) -> Result<SecretFile, Failure> {
        let path = self.loaded.paths.resolve(path);
        read_named(&path).map_err(|failure| failure.hint(format!("see {} in keyholder.toml", self.section)))?;
        Ok(SecretFile::new(path))
    }

    /// The same with keys for signatures.
    fn keys(&self, path: &Path) -> Result<SecretFile, Failure> {
        let file = self.secret(path)?;
        let text = read_named(&self.loaded.paths.resolve(path))?;
        SigningKeys::parse(&text)
            .map_err(|error| self.wrong(&error).hint("a key is whsec_ and what `openssl rand -base64 32` prints"))?;
        Ok(file)
    }
}

/// Hooks by their names.
pub(crate) type Hooks = BTreeMap<String, Arc<dyn DeliveryHook>>;

/// Everything that follows a promotion.
pub(crate) struct Deliveries {
    pub(crate) hooks: Hooks,
    pub(crate) channels: Vec<Arc<dyn Channel>>,
}

/// What hooks and ways to people are made from.
pub(crate) struct Senders<'a> {
    loaded: &'a Loaded,
    environment: &'a Environment,
    system: SystemRoots,
    clock: Arc<dyn Clock>,
}

impl<'a> Senders<'a> {
    /// Those of `loaded`. Reads the system's authorities.
    pub(crate) fn of(loaded: &'a Loaded, environment: &'a Environment, clock: Arc<dyn Clock>) -> Self {
        Self { loaded, environment, system: SystemRoots::load(), clock }
    }

    /// All of them; the first that cannot be made is told. `source` names this keyholder.
    pub(crate) fn all(&self, source: &str) -> Result<Deliveries, Failure> {
        let hooks = self.hooks().map(|(name, made)| Ok((name.to_owned(), made?)));
        let channels = self.channels(source).map(|(_, made)| made);
        Ok(Deliveries { hooks: hooks.collect::<Result<_, Failure>>()?, channels: channels.collect::<Result<_, _>>()? })
    }

    /// Every hook by its name.
    pub(crate) fn hooks(&self) -> impl Iterator<Item = (&'a str, Result<Arc<dyn DeliveryHook>, Failure>)> {
        self.loaded.config.hooks.iter().map(move |(name, config)| {
            let parts = self.parts(format!("[hook.{name}]"), config.extra_ca.as_deref());
            (name.as_str(), parts.and_then(|parts| hook(name, config, self.environment, &parts)))
        })
    }

    /// Every way to people by its name. `source` names this keyholder.
    pub(crate) fn channels(&self, source: &str) -> impl Iterator<Item = (&'a str, Result<Arc<dyn Channel>, Failure>)> {
        self.loaded.config.notifiers.iter().map(move |(name, config)| {
            let parts = self.parts(format!("[notify.{name}]"), config.extra_ca.as_deref());
            (name.as_str(), parts.and_then(|parts| channel(name, config, source, &parts)))
        })
    }

    /// What is wrong with them, by section.
    pub(crate) fn broken(&self) -> Vec<(String, Failure)> {
        let hooks = self.hooks().filter_map(|(name, made)| Some((format!("[hook.{name}]"), made.err()?)));
        let channels = self.channels("").filter_map(|(name, made)| Some((format!("[notify.{name}]"), made.err()?)));
        hooks.chain(channels).collect()
    }

    fn parts(&self, section: String, extra_ca: Option<&Path>) -> Result<Parts<'_>, Failure> {
        let egress = Arc::new(sender_egress(&section, extra_ca, self.loaded, &self.system)?);
        Ok(Parts { section, loaded: self.loaded, egress, clock: &self.clock })
    }
}

fn hook(
    name: &str,
    config: &HookConfig,
    environment: &Environment,
    parts: &Parts<'_>,
) -> Result<Arc<dyn DeliveryHook>, Failure> {
    let wrong = |error: &dyn std::error::Error| parts.wrong(error);
    let client = || parts.client(Some(parts.within(config, Timeouts::default().total)));
    Ok(match &config.detail {
        HookDetail::Webhook { url, key_file } => {
            let place = Place::named(&url.to_string()).map_err(|error| wrong(&error))?;
            Arc::new(Webhook::new(name, place, parts.keys(key_file)?, client()))
        }
        HookDetail::Command { command } => {
            let (program, arguments) = command.split_first().ok_or_else(|| Failure::bug("a command has no program"))?;
            let variables = vec![("PATH".into(), COMMAND_PATH.into())];
            let made = Command::new(name, program, arguments.to_vec(), variables).map_err(|error| wrong(&error))?;
            Arc::new(made.within(parts.within(config, TIMEOUT_DEFAULT), GRACE_DEFAULT))
        }
        HookDetail::Kubernetes { namespace, deployment, api_url, token_file } => {
            let workload = Workload::new(WorkloadKind::Deployment, namespace, deployment);
            let workload = workload.map_err(|error| wrong(&error))?;
            let access = access(api_url.as_ref(), token_file.as_deref(), config, environment, parts)?;
            let patience = parts.within(config, TIMEOUT_DEFAULT);
            Arc::new(Rollout::new(name, workload, access).waiting(patience, ROLLOUT_POLL))
        }
        HookDetail::Github { repository, name: secret, member, token_file, api_url } => {
            let member = member.as_deref().unwrap_or("document");
            let field = Field::of_name(member).ok_or_else(|| Failure::bug("a member of the document is not known"))?;
            let owner = Owner::repository(repository).map_err(|error| wrong(&error))?;
            let value = SecretValue::new(secret, field).map_err(|error| wrong(&error))?;
            let api = api_url.as_ref().map_or_else(|| GITHUB.to_owned(), ToString::to_string);
            let token = parts.secret(token_file)?;
            let made = GithubSecret::new(name, &api, owner, vec![value], token, client());
            Arc::new(made.map_err(|error| wrong(&error))?)
        }
        #[cfg(feature = "aws")]
        HookDetail::Lambda { .. } => lambda::hook(name, config, environment, parts)?,
        #[cfg(not(feature = "aws"))]
        HookDetail::Lambda { .. } => {
            let told = format!("{} is of the kind lambda, which this keyholder was built without", parts.section);
            return Err(Failure::new(Code::CONFIG_INVALID, told)
                .hint("build it with `cargo build --release --features aws`, or take the section out"));
        }
    })
}

/// The way to the cluster: named, or the one of the pod that keyholder runs in. A token and an authority of the
/// section's own take the place of the pod's.
fn access(
    api_url: Option<&kh_platform::Address>,
    token_file: Option<&Path>,
    config: &HookConfig,
    environment: &Environment,
    parts: &Parts<'_>,
) -> Result<Access, Failure> {
    let (paths, clock) = (&parts.loaded.paths, Arc::clone(parts.clock));
    let account = Path::new(SERVICE_ACCOUNT);
    let access = match api_url {
        None => {
            let variable = |name: &str| environment.text(name).unwrap_or_default();
            let (host, port) = (variable("KUBERNETES_SERVICE_HOST"), variable("KUBERNETES_SERVICE_PORT"));
            Access::in_cluster(&host, &port, account, clock)
        }
        Some(url) => {
            let token = SecretFile::new(account.join("token"));
            Access::new(&url.to_string(), token, Trust::Way(Arc::clone(&parts.egress)), clock)
        }
    };
    let mut access = access.map_err(|error| parts.wrong(&error))?;
    if let Some(path) = token_file {
        // a mounted token is a link that everybody in the pod may read, so its mode is not looked at
        access = access.with_token(SecretFile::new(paths.resolve(path)));
    }
    if let Some(path) = &config.extra_ca {
        access = access.with_authority(paths.resolve(path));
    }
    Ok(access)
}

fn channel(name: &str, config: &NotifyConfig, source: &str, parts: &Parts<'_>) -> Result<Arc<dyn Channel>, Failure> {
    let threshold = config.urgency.unwrap_or(Urgency::Info);
    Ok(match &config.detail {
        NotifyDetail::Webhook { url, key_file } => {
            let place = Place::named(&url.to_string()).map_err(|error| parts.wrong(&error))?;
            Arc::new(WebhookChannel::new(name, threshold, place, parts.keys(key_file)?, parts.client(None)))
        }
        NotifyDetail::Slack { url_file } => {
            Arc::new(Slack::new(name, threshold, parts.secret(url_file)?, parts.client(None)))
        }
        NotifyDetail::Pagerduty { key_file, url } => {
            let region = url.as_ref().map_or(PagerDutyRegion::Us, |url| PagerDutyRegion::At(url.to_string()));
            let (key, client) = (parts.secret(key_file)?, parts.client(None));
            let made = PagerDuty::new(name, threshold, &region, source, key, client);
            Arc::new(made.map_err(|error| parts.wrong(&error))?)
        }
        NotifyDetail::Smtp { server, from, to, tls, user, password_file } => {
            let bad = || Failure::bug("a mail server without a port was let through");
            let (host, port) = server.rsplit_once(':').ok_or_else(bad)?;
            let port = port
                .parse()
                .map_err(|_| Failure::new(Code::CONFIG_INVALID, format!("{}: {port} is no port", parts.section)))?;
            let tls = match tls {
                None | Some(SmtpTls::Starttls) => MailTls::StartTls,
                Some(SmtpTls::Tls) => MailTls::Implicit,
                Some(SmtpTls::None) => MailTls::Plain,
            };
            let mut mail =
                Mail::new(name, threshold, (host, port, tls), from, to).map_err(|error| parts.wrong(&error))?;
            if let (Some(user), Some(password)) = (user, password_file) {
                mail = mail.with_login(user.clone(), parts.secret(password)?);
            }
            if let Some(path) = &config.extra_ca {
                mail = mail.trusting(parts.loaded.paths.resolve(path));
            }
            Arc::new(mail)
        }
    })
}

#[cfg(test)]
mod tests;
