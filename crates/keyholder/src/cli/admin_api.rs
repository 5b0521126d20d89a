//! Asking a running keyholder of this machine how it is doing.
//!
//! Invariants: it is found also when its configuration has become unreadable, because that is when people ask; the
//! guard token goes to loopback or to a unix socket and nowhere else.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use kh_core::Code;
use serde_json::Value;

use super::Context;
use crate::{
    compose::{Serving, local_http, local_http_over, running_on},
    config,
    output::{Exit, Failure},
};

/// Longer than an answer takes by its own limits while a disk stands still.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which running keyholder is asked.
#[derive(Debug, Clone, Args)]
pub(crate) struct Which {
    /// Its admin listener [default: that of the keyholder which serves the configured state]
    #[arg(long, value_name = "URL", requires = "token_file")]
    url: Option<String>,
    /// The file with the admin listener's guard token, for --url
    #[arg(long, value_name = "FILE", requires = "url")]
    token_file: Option<PathBuf>,
    /// Its process id, if several serve the same state [default: the newest]
    #[arg(long, value_name = "PID", conflicts_with = "url")]
    pid: Option<u32>,
}

/// A running keyholder.
pub(super) struct Found {
    url: String,
    token_file: PathBuf,
    /// Process ids of others that serve the same state.
    pub(super) others: Vec<u32>,
}

/// Finds it, or says that none runs.
pub(super) fn find(which: &Which, context: &Context) -> Result<Found, Failure> {
    if let (Some(url), Some(token_file)) = (&which.url, &which.token_file) {
        let url = url.trim_end_matches('/').to_owned();
        let token_file = token_file.clone();
        return Ok(Found { url, token_file, others: Vec::new() });
    }
    let state = state_folder(context)?;
    let mut running = running_on(&state);
    let at = match which.pid {
        None => 0,
        Some(pid) => running.iter().position(|serving| serving.pid == pid).unwrap_or(usize::MAX),
    };
    if at >= running.len() {
        let problem = format!("no keyholder serves the state in {}", state.display());
        return Err(Failure::new(Code::UPSTREAM_UNREACHABLE, problem)
            .hint("start it with `keyholder serve`, or name another state with --config, --state or KEYHOLDER_STATE")
            .exiting(Exit::Unfinished));
    }
    let serving = running.remove(at);
    let others = running.iter().map(|other| other.pid).collect();
    let url = listener_of(&serving)?;
    Ok(Found { url, token_file: serving.addresses.admin_token_file, others })
}

/// The admin listener of the newest keyholder that serves the configured state by the same file; none if nobody does.
pub(super) fn listener(context: &Context) -> Result<Option<String>, Failure> {
    let whole = |file: Option<PathBuf>| file.and_then(|file| std::path::absolute(file).ok());
    let own = whole(context.config_file());
    let running = running_on(&state_folder(context)?);
    running.iter().find(|serving| whole(serving.config.clone()) == own).map(listener_of).transpose()
}

fn listener_of(serving: &Serving) -> Result<String, Failure> {
    serving.addresses.admin_url.clone().ok_or_else(|| {
        let problem = format!("the keyholder with process id {} has no admin listener", serving.pid);
        Failure::new(Code::UPSTREAM_UNREACHABLE, problem).hint("set [admin] listen in its configuration and restart it")
    })
}

/// A client for a listener of this machine, and what stands before the path in its requests.
pub(super) fn client_of(url: &str, patience: Duration) -> Result<(reqwest::Client, &str), Failure> {
    match url.strip_prefix("unix:") {
        Some(path) => Ok((local_http_over(Path::new(path), patience)?, "http://localhost")),
        None => Ok((local_http(patience)?, url)),
    }
}

/// The state folder, also of a configuration with mistakes: what can be read of it is enough.
fn state_folder(context: &Context) -> Result<PathBuf, Failure> {
    let mistakes = match context.load() {
        Ok(loaded) => return Ok(loaded.paths.state),
        Err(mistakes) => mistakes,
    };
    let Some(file) = context.config_file() else { return Err(mistakes) };
    let Ok(bytes) = std::fs::read(&file) else { return Err(mistakes) };
    context.state_folder(&file, config::state_dir(&bytes)).ok_or(mistakes)
}

impl Found {
    /// What `/v1/status` tells.
    pub(super) fn status(&self) -> Result<Value, Failure> {
        let guard = kh_admin::guard::read_token(&self.token_file).map_err(|error| {
            Failure::of(Code::GUARD_REFUSED, &error)
                .hint("run this as the user that keyholder runs as")
                .exiting(Exit::Unfinished)
        })?;
        Context::runtime()?.block_on(ask(&self.url, guard.expose()))
    }
}

async fn ask(url: &str, guard: &str) -> Result<Value, Failure> {
    let unreachable = |error: reqwest::Error| {
        Failure::new(Code::UPSTREAM_UNREACHABLE, format!("keyholder at {url} does not answer"))
            .caused_by(&error.without_url())
            .hint("is it just starting or stopping? ask again in a moment")
    };
    if !url.starts_with("unix:") {
        refuse_abroad(url)?;
    }
    let (client, base) = client_of(url, PATIENCE)?;
    let request = client.get(format!("{base}/v1/status")).header("X-Keyholder-Token", guard);
    let response = request.send().await.map_err(unreachable)?;
    let status = response.status().as_u16();
    let body: Value = response.json().await.map_err(unreachable)?;
    if status == 200 {
        return Ok(body);
    }
    let detail = body.get("detail").and_then(Value::as_str).unwrap_or("it gave no reason");
    Err(Failure::new(Code::GUARD_REFUSED, format!("keyholder at {url} refused to answer: {detail}"))
        .hint("the token file belongs to another keyholder")
        .exiting(Exit::Unfinished))
}

/// The guard token is shown in clear: only this machine may see it.
fn refuse_abroad(url: &str) -> Result<(), Failure> {
    let host = reqwest::Url::parse(url).ok().filter(|url| url.scheme() == "http").and_then(|url| {
        let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
        Some(host)
    });
    let here = host.is_some_and(|host| host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()));
    if here {
        return Ok(());
    }
    Err(Failure::usage(format!("{url} is not http on a loopback address")).hint("write --url http://127.0.0.1:8081"))
}
