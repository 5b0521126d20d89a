//! `keyholder healthcheck`: asks the running keyholder whether it is alive or ready, for images without curl.
//!
//! Container runtimes and Kubernetes run it inside the container, because the admin listener answers on loopback only.
//!
//! Invariant: a change of the file that the running keyholder refused does not end it: where nobody answers at the
//! address that the file has by now, it is asked where it says that it listens.

use std::time::Duration;

use clap::Args;
use kh_core::Code;
use serde_json::{Value, json};

use super::{Context, admin_api};
use crate::output::{Exit, Failure};

/// Longer than a readiness answer takes by its own limit, shorter than the usual probe's five seconds.
const PATIENCE: Duration = Duration::from_secs(4);

/// Ask the running keyholder whether it is ready, or alive
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 yes, 1 no, 3 it does not answer.

Examples:
  keyholder healthcheck
  keyholder healthcheck --live
  keyholder healthcheck --url http://127.0.0.1:9081")]
pub(crate) struct HealthcheckArgs {
    /// Ask /livez in place of /readyz: does the process answer at all?
    #[arg(long)]
    live: bool,
    /// The admin listener [default: that of the configuration, else that of the keyholder which serves by it]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

pub(super) fn run(arguments: &HealthcheckArgs, context: &Context) -> Result<Exit, Failure> {
    let path = if arguments.live { "livez" } else { "readyz" };
    let (status, body) = match &arguments.url {
        Some(url) => answer(url.trim_end_matches('/'), path)?,
        None => match configured(context).and_then(|url| answer(&url, path)) {
            Ok(answered) => answered,
            Err(failure) => match admin_api::listener(context)? {
                Some(url) => answer(&url, path)?,
                None => return Err(failure),
            },
        },
    };
    let healthy = status == 200;
    let detail: Value = serde_json::from_str(&body).unwrap_or_default();
    context.terminal.answer(&json!({ "healthy": healthy, "status": status, "detail": detail }), || {
        if healthy { "ok\n".to_owned() } else { format!("not ready: {}\n", body.trim()) }
    });
    Ok(if healthy { Exit::Done } else { Exit::No })
}

/// What the file says.
fn configured(context: &Context) -> Result<String, Failure> {
    let address = context.load()?.config.admin.listen.ok_or_else(|| {
        Failure::new(Code::CONFIG_INVALID, "the configuration turns the admin listener off")
            .hint("name another with --url")
    })?;
    if address.port() == 0 {
        return Err(Failure::new(Code::CONFIG_INVALID, "the admin listener has a free port, which is not known here")
            .hint("name it with --url, or give it a port in [admin] listen"));
    }
    Ok(format!("http://{address}"))
}

fn answer(url: &str, path: &str) -> Result<(u16, String), Failure> {
    Context::runtime()?.block_on(ask(url, path))
}

async fn ask(url: &str, path: &str) -> Result<(u16, String), Failure> {
    let unreachable = |error: reqwest::Error| {
        Failure::new(Code::UPSTREAM_UNREACHABLE, format!("keyholder at {url} does not answer"))
            .caused_by(&error.without_url())
            .hint("is `keyholder serve` running? --url names another address")
    };
    let (client, base) = admin_api::client_of(url, PATIENCE)?;
    let response = client.get(format!("{base}/{path}")).send().await.map_err(unreachable)?;
    Ok((response.status().as_u16(), response.text().await.map_err(unreachable)?))
}
