//! Delivery hooks and notifications, as the configuration names them. Whatever is secret about one stands in a file.

use std::{path::PathBuf, time::Duration};

use kh_core::port::Urgency;
use kh_platform::Address;
use serde::Serialize;

use super::{address, optional_address, optional_duration};

/// `[hook.NAME]`: makes consumers take a new secret.
#[derive(Clone, Debug, Serialize)]
pub struct HookConfig {
    /// What it does.
    #[serde(flatten)]
    pub detail: HookDetail,
    /// How long one attempt may take.
    #[serde(serialize_with = "optional_duration")]
    pub timeout: Option<Duration>,
    /// PEM file of a private CA to trust: beside the system's, or in their place where its key says so.
    pub extra_ca: Option<PathBuf>,
}

/// What a hook does, by kind.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum HookDetail {
    /// Posts a signed message.
    Webhook {
        /// Where.
        #[serde(serialize_with = "address")]
        url: Address,
        /// File with the key of the signature.
        key_file: PathBuf,
    },
    /// Starts a program.
    Command {
        /// The program and its arguments.
        command: Vec<String>,
    },
    /// Rolls a Kubernetes deployment out anew.
    Kubernetes {
        /// Its namespace.
        namespace: String,
        /// Its name.
        deployment: String,
        /// The API server; none is the pod's own.
        #[serde(serialize_with = "optional_address")]
        api_url: Option<Address>,
        /// File with a service account's token; none is the pod's own.
        token_file: Option<PathBuf>,
    },
    /// Writes a secret of GitHub Actions.
    Github {
        /// `owner/name`.
        repository: String,
        /// The secret's name.
        name: String,
        /// The member of the document that is written; none is the whole document.
        member: Option<String>,
        /// File with a token that may write it.
        token_file: PathBuf,
        /// Another address of the API.
        #[serde(serialize_with = "optional_address")]
        api_url: Option<Address>,
    },
    /// Makes an AWS Lambda function start with a fresh environment.
    Lambda {
        /// The function.
        function: String,
        /// Its region.
        region: Option<String>,
        /// A profile of the shared configuration files.
        profile: Option<String>,
        /// Another address of the service.
        #[serde(serialize_with = "optional_address")]
        endpoint: Option<Address>,
    },
}

/// `[notify.NAME]`: tells people.
#[derive(Clone, Debug, Serialize)]
pub struct NotifyConfig {
    /// How.
    #[serde(flatten)]
    pub detail: NotifyDetail,
    /// The least urgent notice that is sent; none is `info`.
    pub urgency: Option<Urgency>,
    /// PEM file of a private CA to trust: beside the system's, or in their place where its key says so.
    pub extra_ca: Option<PathBuf>,
}

/// How people are told, by kind.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum NotifyDetail {
    /// Posts a signed message.
    Webhook {
        /// Where.
        #[serde(serialize_with = "address")]
        url: Address,
        /// File with the key of the signature.
        key_file: PathBuf,
    },
    /// An incoming webhook of Slack.
    Slack {
        /// File with the webhook's address, which is a secret.
        url_file: PathBuf,
    },
    /// The Events API of `PagerDuty`.
    Pagerduty {
        /// File with the integration's routing key.
        key_file: PathBuf,
        /// Another address of the API, such as the EU's.
        #[serde(serialize_with = "optional_address")]
        url: Option<Address>,
    },
    /// E-mail.
    Smtp {
        /// `host:port`.
        server: String,
        /// The sender.
        from: String,
        /// The recipients.
        to: Vec<String>,
        /// How the connection is encrypted; none is STARTTLS.
        tls: Option<SmtpTls>,
        /// The account.
        user: Option<String>,
        /// File with its password.
        password_file: Option<PathBuf>,
    },
}

/// How a connection to a mail server is encrypted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SmtpTls {
    /// By STARTTLS, and not without.
    Starttls,
    /// From the start.
    Tls,
    /// Not at all; for a server on this machine alone.
    None,
}

impl HookDetail {
    /// The files that it names.
    pub fn files(&self) -> Vec<&PathBuf> {
        match self {
            Self::Webhook { key_file, .. } => vec![key_file],
            Self::Github { token_file, .. } => vec![token_file],
            Self::Kubernetes { token_file, .. } => token_file.iter().collect(),
            Self::Command { .. } | Self::Lambda { .. } => Vec::new(),
        }
    }
}

impl NotifyDetail {
    /// The files that it names.
    pub fn files(&self) -> Vec<&PathBuf> {
        match self {
            Self::Webhook { key_file, .. } | Self::Pagerduty { key_file, .. } => vec![key_file],
            Self::Slack { url_file } => vec![url_file],
            Self::Smtp { password_file, .. } => password_file.iter().collect(),
        }
    }
}
