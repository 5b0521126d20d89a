//! `keyholder credential-helper`: the local broker's tokens in the forms that other programs ask a helper for.
//!
//! Invariants: a token is told for a host only if the credential's platform has it, or the person who set the helper
//! up named it; nothing secret goes to standard error; the login is the broker's, one for all callers.

use std::{io::Read, time::Duration};

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use kh_core::{Code, CredentialName, EnvironmentName};
use serde_json::json;
use zeroize::Zeroizing;

use super::{
    Context,
    local_broker::{LocalBroker, Token, Wish},
    token_form::{self, TokenForm, joined, one_line},
};
use crate::{
    compose::harden,
    config::{Config, PlatformDetail, duration},
    helper_protocol::{self, GitRequest, HelperError, INPUT_MAX, Target},
    output::{Exit, Failure},
};

/// What the calling program speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub(crate) enum HelperForm {
    /// EngFlow's credential helper specification: Bazel and others
    #[default]
    Engflow,
    /// git's credential protocol
    Git,
    /// AWS's `credential_process`, the token in `SessionToken`
    Aws,
    /// The token alone
    Raw,
    /// `Authorization: Bearer ...`
    Header,
    /// `export NAME='...'` lines for a POSIX shell
    Env,
}

/// Answer other programs that ask a helper for credentials
#[derive(Debug, Args)]
#[command(
    after_help = "Asks the local broker, as `keyholder token get` does. Without --profile it is KEYHOLDER_PROFILE, else the one
credential whose platform has the host that is asked about. For another host than the platform's, name it with --host.

Examples:
  echo '{\"uri\":\"https://api.mypurecloud.de/\"}' | keyholder credential-helper --profile acme-test get
  git config credential.https://git.example.com.helper '!keyholder credential-helper --format git --profile acme-test --host git.example.com'
  credential_process = keyholder credential-helper --format aws --profile acme-test      # in ~/.aws/config
  eval \"$(keyholder credential-helper --format env --profile acme-test)\""
)]
pub(crate) struct HelperArgs {
    /// What the calling program speaks
    #[arg(long, value_enum, value_name = "FORM", default_value_t)]
    format: HelperForm,
    /// The credential's name
    #[arg(long, value_name = "CREDENTIAL")]
    profile: Option<CredentialName>,
    /// The credential's environment; production is refused without it
    #[arg(long, value_name = "NAME")]
    environment: Option<EnvironmentName>,
    /// The token must be valid for at least this long
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    min_ttl: Option<Duration>,
    /// A host beside the platform's own that may get the token, such as git.example.com:3000; can be given again
    #[arg(long = "host", value_name = "HOST[:PORT]", value_parser = Target::of_host)]
    hosts: Vec<Target>,
    /// What the calling program wants: get, store or erase
    #[arg(default_value = "get")]
    action: String,
}

pub(super) fn run(arguments: &HelperArgs, context: &Context) -> Result<Exit, Failure> {
    harden();
    let answer = match (arguments.format, arguments.action.as_str()) {
        (HelperForm::Git, _) => git(arguments, context)?,
        (HelperForm::Engflow, "get") => Some(engflow(arguments, context)?),
        (HelperForm::Aws, "get") => Some(aws(&token_of(arguments, context, None)?)?),
        (HelperForm::Raw, "get") => Some(token_form::text(TokenForm::Raw, &token_of(arguments, context, None)?)?),
        (HelperForm::Header, "get") => Some(token_form::text(TokenForm::Header, &token_of(arguments, context, None)?)?),
        (HelperForm::Env, "get") => Some(token_form::text(TokenForm::Env, &token_of(arguments, context, None)?)?),
        (_, action) => {
            return Err(Failure::usage(format!("this form has no action {action:?}")).hint("the only action is get"));
        }
    };
    if let Some(answer) = answer {
        context.terminal.out(&answer);
    }
    Ok(Exit::Done)
}

/// Reads what the calling program writes, at most one byte more than is allowed.
fn input() -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(INPUT_MAX + 1));
    let limit = u64::try_from(INPUT_MAX).unwrap_or(u64::MAX) + 1;
    std::io::stdin()
        .lock()
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::usage("the request cannot be read from standard input").caused_by(&error))?;
    Ok(bytes)
}

fn unreadable(error: HelperError) -> Failure {
    Failure::of(Code::USAGE, &error)
}

fn engflow(arguments: &HelperArgs, context: &Context) -> Result<Zeroizing<String>, Failure> {
    let target = helper_protocol::parse_engflow(&input()?).map_err(unreadable)?;
    let token = token_of(arguments, context, Some(&target))?;
    let value = joined(&["Bearer ", one_line(&token.secret)?]);
    token_form::json(&json!({ "headers": { "Authorization": [value.as_str()] }, "expires": token.expires_at }))
}

/// The shape of AWS's `credential_process`. A bearer token has no key pair: the token is in `SessionToken`, and the
/// two keys say where it is from. A request that an AWS SDK signs with them is worth nothing.
fn aws(token: &Token) -> Result<Zeroizing<String>, Failure> {
    token_form::json(&json!({
        "Version": 1,
        "AccessKeyId": "keyholder",
        "SecretAccessKey": "not-a-key",
        "SessionToken": one_line(&token.secret)?,
        "Expiration": token.expires_at,
    }))
}

fn git(arguments: &HelperArgs, context: &Context) -> Result<Option<Zeroizing<String>>, Failure> {
    match arguments.action.as_str() {
        "get" => {
            let request = helper_protocol::parse_git(&input()?).map_err(unreadable)?;
            let token = token_of(arguments, context, Some(&request.target))?;
            git_answer(&request, &token).map(Some)
        }
        "erase" => {
            let request = helper_protocol::parse_git(&input()?).map_err(unreadable)?;
            erase(arguments, context, &request).map(|()| None)
        }
        // The token is the broker's, so there is nothing to store; the protocol wants other actions ignored.
        _ => input().map(|_| None),
    }
}

/// A git that can send any scheme gets `Bearer`; an older one can only send Basic, with the token as the password.
fn git_answer(request: &GitRequest, token: &Token) -> Result<Zeroizing<String>, Failure> {
    let secret = one_line(&token.secret)?;
    let expiry: Timestamp = token
        .expires_at
        .parse()
        .map_err(|_| Failure::new(Code::UPSTREAM_PROTOCOL, "the broker tells no time of expiry"))?;
    let expiry = expiry.as_second().to_string();
    Ok(if request.knows_authtype {
        // `ephemeral`: other helpers must not store it.
        let head = "capability[]=authtype\nauthtype=Bearer\nephemeral=1\ncredential=";
        joined(&[head, secret, "\npassword_expiry_utc=", &expiry, "\n"])
    } else {
        let name = request.username.as_deref().unwrap_or("keyholder");
        joined(&["username=", name, "\npassword=", secret, "\npassword_expiry_utc=", &expiry, "\n"])
    })
}

/// git tells that a server refused the token. That is worth a report if the server is the platform: what another one
/// refuses may be good, and its word must not cost all callers their token.
fn erase(arguments: &HelperArgs, context: &Context, request: &GitRequest) -> Result<(), Failure> {
    let Some(used) = request.used else { return Ok(()) };
    let profile = profile_of(arguments, context, Some(&request.target))?;
    let broker = LocalBroker::of(context)?;
    Context::runtime()?.block_on(async {
        let wish = Wish { profile: &profile, min_ttl: None, environment: arguments.environment.as_ref() };
        let token = broker.token(&wish).await?;
        if token.sha256 == used.to_hex() && is_the_platforms(&token, &request.target) {
            broker.invalidate(&profile, &token.sha256).await?;
        }
        Ok(())
    })
}

/// A token for `target`; without one the caller sends it where it likes.
fn token_of(arguments: &HelperArgs, context: &Context, target: Option<&Target>) -> Result<Token, Failure> {
    let profile = profile_of(arguments, context, target)?;
    let broker = LocalBroker::of(context)?;
    let wish = Wish { profile: &profile, min_ttl: arguments.min_ttl, environment: arguments.environment.as_ref() };
    let token = Context::runtime()?.block_on(broker.token(&wish))?;
    match target {
        Some(target) if !is_the_platforms(&token, target) && !arguments.hosts.contains(target) => {
            let detail = format!("{target} is not a host of the platform of {profile}");
            Err(Failure::new(Code::CALL_NOT_ALLOWED, detail)
                .hint(format!("if that host may have the token, say --host {target}")))
        }
        _ => Ok(token),
    }
}

fn is_the_platforms(token: &Token, target: &Target) -> bool {
    let bases = [Some(token.api_base.as_str()), token.auth_base.as_deref()];
    bases.into_iter().flatten().any(|base| Target::of_uri(base).as_ref() == Ok(target))
}

fn profile_of(arguments: &HelperArgs, context: &Context, target: Option<&Target>) -> Result<CredentialName, Failure> {
    if let Some(profile) = &arguments.profile {
        return Ok(profile.clone());
    }
    if let Some(name) = context.environment.text("KEYHOLDER_PROFILE") {
        return name.parse().map_err(|error| Failure::of(Code::USAGE, &error).hint("see KEYHOLDER_PROFILE"));
    }
    let Some(target) = target else {
        return Err(Failure::usage("no profile is named").hint("name one with --profile or KEYHOLDER_PROFILE"));
    };
    let config = context.load()?.config;
    let mut found = candidates(&config, target);
    match (found.pop(), found.is_empty()) {
        (Some(only), true) => Ok(only),
        (Some(_), false) => Err(Failure::usage(format!("more than one credential is good for {target}"))
            .hint("name one with --profile or KEYHOLDER_PROFILE")),
        (None, _) => Err(Failure::new(Code::NOT_FOUND, format!("no credential is known to be good for {target}"))
            .hint("name one with --profile, and the host with --host if it is not the platform's own")),
    }
}

/// The credentials whose platform is configured with this host. Where a platform tells its API's place with the token
/// (CXone), only that answer knows it: name the profile.
fn candidates(config: &Config, target: &Target) -> Vec<CredentialName> {
    let has = |detail: &PlatformDetail| {
        detail.addresses().into_iter().any(|address| Target::of_uri(address.text()).as_ref() == Ok(target))
    };
    let is_good = |name: &_| config.platforms.get(name).is_some_and(|platform| has(&platform.detail));
    let found = config.credentials.iter().filter(|(_, credential)| is_good(&credential.platform));
    found.map(|(name, _)| name.clone()).collect()
}
