//! `keyholder token verify`: whether a token is what it says, by keys in files.
//!
//! Invariants: the answer about a token is on standard output and in the exit code, whatever its form; a token is on
//! standard input and nowhere else; a batch answers every line, in order.

mod batch;

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use clap::{Args, ValueEnum};
use kh_core::{Clock, SystemClock, UnixMillis};
use kh_verify::{
    Accepted, Algorithm, Algorithms, Compact, KeySet, KeySetError, Policy, Reason, Symmetric, jws::TOKEN_BYTES_MAX,
    key_set::JWKS_BYTES_MAX, policy::LEEWAY_MAX,
};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::{
    cli::Context,
    config::duration,
    output::{Exit, Failure},
};

/// Say whether a token is what it says: its form, its signature, its claims
#[derive(Debug, Args)]
#[command(after_help = "Reads one token from standard input and prints its claims, or
{\"valid\":false,\"reason\":\"...\"} with exit code 1. The reasons are listed in docs/reference/token-reasons.md.
A key's alg, use and key_ops bind, and the token's alg is taken only if key and --alg allow it.
Issuer and audience are checked only if they are given.

Examples:
  keyholder token verify --jwks keys.json --issuer https://login.example.com/ --audience my-api < token
  keyholder token verify --jwk key.json --no-claims --output json < token
  keyholder token verify --batch --jwks keys.json < tokens.ndjson")]
pub(crate) struct VerifyArgs {
    /// The issuer's keys: a JWK set
    #[arg(long, value_name = "FILE", required_unless_present_any = ["jwk", "batch"])]
    jwks: Option<PathBuf>,
    /// One key: a JWK; whatever name the token gives its key, it is this one
    #[arg(long, value_name = "FILE")]
    jwk: Option<PathBuf>,
    /// The token's iss must be this; may be given more than once
    #[arg(long = "issuer", value_name = "ISSUER", conflicts_with = "no_claims")]
    issuers: Vec<String>,
    /// The token's aud must have this; one of several suffices
    #[arg(long = "audience", value_name = "AUDIENCE", conflicts_with = "no_claims")]
    audiences: Vec<String>,
    /// Take this algorithm; may be given more than once [default: what the keys are for]
    #[arg(long = "alg", value_name = "ALG", value_parser = algorithm)]
    algorithms: Vec<Algorithm>,
    /// Which kind of token it must be
    #[arg(long = "type", value_enum, value_name = "TYPE", default_value_t, conflicts_with = "no_claims")]
    kind: Kind,
    /// The time to verify at, in seconds since 1970 [default: now]
    #[arg(long, value_name = "UNIX_SECONDS")]
    at: Option<u64>,
    /// How far the issuer's clock may differ, at most 5m [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = leeway)]
    leeway: Option<Duration>,
    /// Check the signature alone, over whatever payload
    #[arg(long)]
    no_claims: bool,
    /// Take symmetric keys and HMAC too
    #[arg(long)]
    allow_hmac: bool,
    /// Read lines of {"id", "token", "jwk" or "jwks"}; answer each with {"id", "valid", "reason"} and exit with 0
    #[arg(long)]
    batch: bool,
}

/// Which kind of token it must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
enum Kind {
    /// A JWT whose typ is missing, JWT or at+jwt
    #[default]
    Jwt,
    /// An access token of RFC 9068: typ at+jwt, and all its claims
    AccessToken,
}

fn algorithm(name: &str) -> Result<Algorithm, String> {
    Algorithm::parse(name).ok_or_else(|| {
        let known: Vec<&str> = Algorithm::ALL.iter().map(|algorithm| algorithm.as_str()).collect();
        format!("known are {}", known.join(", "))
    })
}

fn leeway(text: &str) -> Result<Duration, String> {
    let leeway = duration::parse(text).map_err(|error| error.to_string())?;
    if leeway > LEEWAY_MAX {
        return Err(format!("give at most {}", duration::format(LEEWAY_MAX)));
    }
    Ok(leeway)
}

pub(super) fn run(arguments: &VerifyArgs, context: &Context) -> Result<Exit, Failure> {
    let judge = Judge::of(arguments)?;
    if arguments.batch {
        return batch::run(&judge, context);
    }
    let token = one_token()?;
    match judge.claims(&token, &judge.keys()) {
        Ok(claims) => {
            context.terminal.answer(&claims, || format!("{}\n", pretty(&claims)));
            Ok(Exit::Done)
        }
        Err(reason) => {
            context.terminal.out(&format!("{}\n", json!({ "valid": false, "reason": reason.as_str() })));
            if !context.terminal.is_json() {
                context.terminal.note(&format!("the token is refused: {reason}"));
                judge.told_about_keys(context);
            }
            Ok(Exit::No)
        }
    }
}

/// What was asked for, ready to judge tokens.
struct Judge {
    sets: Vec<Result<KeySet, KeySetError>>,
    symmetric: Symmetric,
    algorithms: Algorithms,
    /// None: the signature alone.
    policy: Option<Policy>,
    at: Option<UnixMillis>,
    clock: SystemClock,
}

impl Judge {
    fn of(arguments: &VerifyArgs) -> Result<Self, Failure> {
        let possible = if arguments.allow_hmac { Algorithms::ALL } else { Algorithms::ASYMMETRIC };
        if let Some(symmetric) = arguments.algorithms.iter().find(|algorithm| !possible.contains(**algorithm)) {
            return Err(Failure::usage(format!("{symmetric} has a symmetric key"))
                .hint("with --allow-hmac it is taken; whoever can verify such a token can also make one"));
        }
        let algorithms = match arguments.algorithms.as_slice() {
            [] => possible,
            chosen => chosen.iter().copied().collect(),
        };
        let accepted = |values: &[String]| match values {
            [] => Accepted::Any,
            some => Accepted::OneOf(some.iter().map(|value| value.as_str().into()).collect()),
        };
        let mut policy = Policy::new(accepted(&arguments.issuers), accepted(&arguments.audiences))
            .with_algorithms(algorithms)
            .with_profile(match arguments.kind {
                Kind::Jwt => kh_verify::Profile::Jwt,
                Kind::AccessToken => kh_verify::Profile::AccessToken,
            });
        if let Some(leeway) = arguments.leeway {
            policy = policy.with_leeway(leeway);
        }
        let symmetric = if arguments.allow_hmac { Symmetric::Accepted } else { Symmetric::Refused };
        let mut sets = Vec::new();
        if let Some(file) = &arguments.jwk {
            sets.push(read_keys(file, |json| KeySet::pinned(json, symmetric))?);
        }
        if let Some(file) = &arguments.jwks {
            sets.push(read_keys(file, |json| KeySet::parse(json, symmetric))?);
        }
        Ok(Self {
            sets,
            symmetric,
            algorithms,
            policy: Some(policy).filter(|_| !arguments.no_claims),
            at: arguments.at.map(|seconds| UnixMillis(seconds.saturating_mul(1000))),
            clock: SystemClock::new(),
        })
    }

    /// The keys of the command line.
    fn keys(&self) -> Vec<&KeySet> {
        self.sets.iter().filter_map(|set| set.as_ref().ok()).collect()
    }

    /// The token's claims, if it is good by one of these sets.
    fn claims(&self, token: &[u8], sets: &[&KeySet]) -> Result<Value, Reason> {
        let compact = Compact::decode(token)?;
        let mut outcome = Err(Reason::KeyUnusable);
        for keys in sets {
            let judged = self.judge(&compact, keys);
            // told is why the first set does not do, unless the second does
            if judged.is_ok() || outcome == Err(Reason::KeyUnusable) {
                outcome = judged;
            }
        }
        outcome?;
        let payload = compact.payload();
        Ok(serde_json::from_slice(payload)
            .ok()
            .filter(Value::is_object)
            .unwrap_or_else(|| json!({ "valid": true, "payload": BASE64_URL_SAFE_NO_PAD.encode(payload) })))
    }

    fn judge(&self, compact: &Compact<'_>, keys: &KeySet) -> Result<(), Reason> {
        match &self.policy {
            None => compact.verify_signature(keys, self.algorithms),
            Some(policy) => {
                let now = self.at.unwrap_or_else(|| self.clock.now().wall);
                compact.verify(keys, policy, now).map(drop)
            }
        }
    }

    /// Tells which keys of the files could not be used: the reason may be there.
    fn told_about_keys(&self, context: &Context) {
        for set in &self.sets {
            match set {
                Ok(set) => {
                    for skipped in set.skipped() {
                        context.terminal.note(&format!("key {} is left out: {}", skipped.at, skipped.why));
                    }
                }
                Err(error) => context.terminal.note(&error.to_string()),
            }
        }
    }
}

/// A file of keys. One that cannot be read is a mistake of who called; one without a usable key refuses the token.
fn read_keys(
    file: &Path,
    parse: impl FnOnce(&[u8]) -> Result<KeySet, KeySetError>,
) -> Result<Result<KeySet, KeySetError>, Failure> {
    let unreadable =
        |error: std::io::Error| Failure::usage(format!("{} cannot be read", file.display())).caused_by(&error);
    let mut json = Zeroizing::new(Vec::new());
    let limit = JWKS_BYTES_MAX as u64 + 1;
    File::open(file).map_err(unreadable)?.take(limit).read_to_end(&mut json).map_err(unreadable)?;
    match parse(&json) {
        Err(error @ (KeySetError::Malformed | KeySetError::TooLarge | KeySetError::TooManyKeys)) => {
            Err(Failure::usage(format!("{} is not what it should be: {error}", file.display()))
                .hint("--jwks takes a JWK set, {\"keys\":[...]}; --jwk takes one JWK"))
        }
        outcome => Ok(outcome),
    }
}

/// Standard input without the line end behind the token; of more than a token can have, only that there is more.
fn one_token() -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut token = Zeroizing::new(Vec::with_capacity(TOKEN_BYTES_MAX + 3));
    let limit = TOKEN_BYTES_MAX as u64 + 3;
    std::io::stdin()
        .lock()
        .take(limit)
        .read_to_end(&mut token)
        .map_err(|error| Failure::usage("standard input cannot be read").caused_by(&error))?;
    let text = token.strip_suffix(b"\n").unwrap_or(&token);
    let len = text.strip_suffix(b"\r").unwrap_or(text).len();
    token.truncate(len);
    Ok(token)
}

/// JSON for people; what could steer a terminal is escaped.
fn pretty(value: &Value) -> String {
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    let steers = |letter: char| letter.is_control() && letter != '\n';
    let shown = |letter| if steers(letter) { format!("\\u{:04x}", u32::from(letter)) } else { letter.to_string() };
    if text.contains(steers) { text.chars().map(shown).collect() } else { text }
}
