//! What `check --online` sees of the issuers: their keys, and whether they know keyholder.
//!
//! Invariant: an issuer is asked once, and no caller's token is shown to it: an invented one tells enough.

use std::sync::Arc;

use kh_core::{
    Clock, SecretString,
    port::{RemoteError, SecretSource, TokenAnswer, TokenAuthority},
};
use kh_net::SystemRoots;
use kh_verify::{KeySet, key::Symmetric};
use serde::Serialize;

use super::{
    apis,
    issuers::{self, PreparedIssuer},
};
use crate::{cli::Loaded, output::Failure};

/// Looks like nobody's token, and is none.
const INVENTED: &str = "keyholder-check-of-the-endpoint";

/// What was seen of one issuer.
#[derive(Debug, Serialize)]
pub(crate) struct SeenIssuer {
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    pub(crate) works: bool,
    /// How many keys can verify its tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) keys: Option<usize>,
    /// Why it does not work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) problem: Option<String>,
    /// Whether that is because it cannot be reached, or has a fault or a limit of its own, and so may be well later.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) unreachable: bool,
}

/// Asks every issuer that is asked over a network or has a key file. Those of a platform are tried by their credential.
pub(crate) async fn issuers(
    loaded: &Loaded,
    clock: &Arc<dyn Clock>,
    secrets: Option<Arc<dyn SecretSource>>,
) -> Result<Vec<SeenIssuer>, Failure> {
    if loaded.config.issuers.is_empty() {
        return Ok(Vec::new());
    }
    let (_, wanted) = apis::routes(loaded)?;
    let mut all = Vec::new();
    for issuer in issuers::prepare(loaded, &SystemRoots::load(), &wanted)? {
        if let Some(outcome) = look(&issuer, clock, secrets.as_ref()).await {
            let (keys, error) = match outcome {
                Ok(keys) => (keys, None),
                Err(error) => (None, Some(error)),
            };
            let unreachable = error.as_ref().is_some_and(|error| error.passing);
            let (works, problem) = (error.is_none(), error.map(|error| error.reason));
            all.push(SeenIssuer { name: issuer.name.clone(), kind: issuer.kind(), works, keys, problem, unreachable });
        }
    }
    Ok(all)
}

async fn look(
    issuer: &PreparedIssuer,
    clock: &Arc<dyn Clock>,
    secrets: Option<&Arc<dyn SecretSource>>,
) -> Option<Result<Option<usize>, RemoteError>> {
    match issuer.key_source(clock) {
        Err(failure) => return Some(Err(RemoteError::new(failure.in_one_line()))),
        Ok(Some(source)) => {
            let document = match source.fetch().await {
                Ok(document) => document,
                Err(error) => return Some(Err(error)),
            };
            let keys = KeySet::parse(&document.bytes, Symmetric::Refused);
            let counted = keys.map(|set| Some(set.keys().len()));
            return Some(counted.map_err(|error| RemoteError::new(format!("no key set: {error}"))));
        }
        Ok(None) => {}
    }
    let secrets = secrets?;
    let authority = match issuer.introspection(clock, secrets) {
        Err(failure) => return Some(Err(RemoteError::new(failure.in_one_line()))),
        Ok(authority) => authority?,
    };
    Some(match authority.ask(&SecretString::copied(INVENTED)).await {
        Ok(TokenAnswer::Inactive) => Ok(None),
        Ok(TokenAnswer::Active { .. }) => Err(RemoteError::new("it says that an invented token is active")),
        Err(error) => Err(error),
    })
}
