//! Genesys Cloud's opaque tokens: `GET /api/v2/tokens/me?preserveIdleTTL=true` with the caller's own token.
//!
//! The platform has no introspection and tells no expiry; without `preserveIdleTTL` the question itself would keep an
//! idle token alive. A client-credentials caller may do what the roles in its `roleDivisions` grant (scopes do not
//! apply to that grant); roles are read with keyholder's own credential. Invariants: a token of another organisation is
//! not active, because any organisation of the region has working tokens, and neither is one that may not ask this
//! question; a role that cannot be read makes the whole answer an error; a grant under a condition is no grant here.

mod roles;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use ::http::Method;
use kh_core::{
    SecretString,
    identity::{Identity, IdentityBuilder},
    port::{BoxFuture, RemoteError, TokenAnswer, TokenAuthority},
};
use kh_net::http::Request;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::time::Instant;

pub use roles::GenesysRoles;
#[cfg(any(test, fuzzing))]
pub(crate) use roles::granted;

use super::{is_document, unreached, unusable};
use crate::{
    Address, HttpClient,
    answer::parse_object,
    classify::{GENESYS, is_refused_address},
    http::Answer,
};

/// Describes the token that asks.
const TOKENS_ME: &str = "/api/v2/tokens/me";

/// Most roles of one caller that are read: a client has a handful.
const ROLES_MAX: usize = 50;

/// Pause between two warnings of one kind, whoever calls how often.
const TELL_EVERY: Duration = Duration::from_mins(1);

/// The platform's code for a token without the scope of an operation (published swagger, at every operation). Tokens of
/// client-credentials grants have no scopes to lack.
const SCOPE_MISSING: &str = "app.not.authorized.for.scope";

/// The grant whose rights come from roles (published swagger, `OAuthClient.authorizedGrantType`).
const CLIENT_CREDENTIALS: &str = "CLIENT-CREDENTIALS";

/// `TokenInfo` of the published swagger, as far as it matters.
#[derive(Deserialize)]
struct TokenInfo {
    organization: Option<Named>,
    #[serde(rename = "authorizedScope", default)]
    scopes: Option<Vec<String>>,
    #[serde(rename = "OAuthClient")]
    client: Option<Client>,
}

#[derive(Deserialize)]
struct Named {
    id: Option<String>,
}

#[derive(Deserialize)]
struct Client {
    id: Option<String>,
    #[serde(rename = "authorizedGrantType")]
    grant: Option<String>,
    #[serde(rename = "roleDivisions", default)]
    roles: Option<Vec<RoleDivision>>,
}

#[derive(Deserialize)]
struct RoleDivision {
    #[serde(rename = "roleId")]
    role: Option<String>,
}

/// `ErrorBody` of the published swagger, as far as it matters.
#[derive(Deserialize)]
struct Refusal {
    code: Option<String>,
}

/// Whether the platform refuses the token for the scope that it lacks. Only its own code says so: any server on the way
/// can answer 403.
fn lacks_scope(answer: &Answer) -> bool {
    let refusal = || parse_object::<Refusal>(&answer.body);
    answer.head.status == 403 && refusal().is_ok_and(|refusal| refusal.code.as_deref() == Some(SCOPE_MISSING))
}

/// When a warning was given last.
#[derive(Default)]
struct Told(Mutex<Option<Instant>>);

impl Told {
    /// Whether it is given now: not within [`TELL_EVERY`] after the last one.
    fn again(&self) -> bool {
        let now = Instant::now();
        let mut told = self.0.lock();
        let due = told.is_none_or(|at| now.duration_since(at) >= TELL_EVERY);
        if due {
            *told = Some(now);
        }
        due
    }
}

/// The answer, if it is about a token of this organisation.
fn of_organization(body: &[u8], organization: &str) -> Result<Option<TokenInfo>, String> {
    let info: TokenInfo = parse_object(body).map_err(|error| error.to_string())?;
    let named = info.organization.as_ref().and_then(|organization| organization.id.as_deref());
    let ours = named.ok_or("names no organisation")? == organization;
    Ok(ours.then_some(info))
}

/// For the fuzz body: whether an answer with this body is about a token of the organisation.
#[cfg(any(test, fuzzing))]
pub(crate) fn is_of(body: &[u8], organization: &str) -> bool {
    matches!(of_organization(body, organization), Ok(Some(_)))
}

/// Answers for the tokens of one Genesys Cloud organisation.
pub struct GenesysTokens {
    http: HttpClient,
    api: Address,
    issuer: Arc<str>,
    organization: String,
    roles: GenesysRoles,
    /// That the platform refuses keyholder's address for a caller's token.
    told_address: Told,
    /// That a caller's token lacks the scope for the question.
    told_scope: Told,
}

impl GenesysTokens {
    /// Tokens of the organisation with this id, asked for at `api` (`https://api.<domain>`). `issuer` is the name that
    /// their identities carry as `iss`.
    pub fn new(http: HttpClient, api: Address, issuer: Arc<str>, organization: String, roles: GenesysRoles) -> Self {
        Self { http, api, issuer, organization, roles, told_address: Told::default(), told_scope: Told::default() }
    }

    /// A caller's client may allow addresses without keyholder's. Then nothing is known of the token, which is not taken
    /// like any other that does not work: each caller of the region can have such a client.
    fn tell_refused_address(&self) {
        if self.told_address.again() {
            tracing::warn!(
                issuer.name = %self.issuer,
                "the platform refuses a caller's token because of keyholder's address (ip.not.authorized): allow it for the caller's client"
            );
        }
    }

    /// The platform knows such a token and tells nothing of it, not even its organisation: each user of the region can
    /// have one.
    fn tell_missing_scope(&self) {
        if self.told_scope.again() {
            tracing::warn!(
                issuer.name = %self.issuer,
                "the platform tells nothing of a caller's token without the scope user-basic-info (app.not.authorized.for.scope): add it to the caller's client"
            );
        }
    }

    async fn me(&self, token: &SecretString) -> Result<TokenAnswer, RemoteError> {
        let what = "the platform's tokens/me";
        let mut url = self.api.join(TOKENS_ME);
        url.set_query(Some("preserveIdleTTL=true"));
        let request = Request::new(Method::GET, url).bearer(token).map_err(|error| unreached(what, &error))?;
        let answer: Answer = self.http.send(request).await.map_err(|error| unreached(what, &error))?.into();
        if answer.head.status == 401 {
            if is_refused_address(&GENESYS, &answer.head, &answer.body) {
                self.tell_refused_address();
            }
            return Ok(TokenAnswer::Inactive);
        }
        if lacks_scope(&answer) {
            self.tell_missing_scope();
            return Ok(TokenAnswer::Inactive);
        }
        if !is_document(&answer) {
            return Err(unusable(what, &answer));
        }
        let Some(info) = of_organization(&answer.body, &self.organization)
            .map_err(|error| RemoteError::new(format!("{what}: {error}")))?
        else {
            return Ok(TokenAnswer::Inactive);
        };
        let mut identity = Identity::builder(Arc::clone(&self.issuer)).audience(&self.organization);
        for scope in info.scopes.iter().flatten() {
            identity = identity.scope(scope);
        }
        let (identity, age) = match info.client {
            Some(client) => self.of_client(client, identity).await?,
            None => (identity, Duration::ZERO),
        };
        let identity = identity.build().map_err(|error| RemoteError::new(format!("{what}: {error}")))?;
        Ok(TokenAnswer::Active { identity: Box::new(identity), age })
    }

    async fn of_client(
        &self,
        client: Client,
        identity: IdentityBuilder,
    ) -> Result<(IdentityBuilder, Duration), RemoteError> {
        let id = client.id.ok_or_else(|| RemoteError::new("the platform's tokens/me: the client has no id"))?;
        let mut identity = identity.client(&id);
        if client.grant.as_deref() != Some(CLIENT_CREDENTIALS) {
            return Ok((identity, Duration::ZERO));
        }
        // RFC 9068 section 2.2: a client that acts for itself is its own subject
        identity = identity.subject(&id);
        let roles: BTreeSet<String> = client.roles.into_iter().flatten().filter_map(|pair| pair.role).collect();
        if roles.len() > ROLES_MAX {
            return Err(RemoteError::new(format!("a caller has more than {ROLES_MAX} roles")));
        }
        let (mut granted, mut age) = (BTreeSet::new(), Duration::ZERO);
        for role in &roles {
            let (permissions, of_role) = self.roles.permissions(role).await?;
            age = age.max(of_role);
            granted.extend(permissions.iter().cloned());
        }
        for permission in &granted {
            identity = identity.permission(permission);
        }
        Ok((identity, age))
    }
}

impl std::fmt::Debug for GenesysTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GenesysTokens").field("api", &self.api.text()).finish_non_exhaustive()
    }
}

impl TokenAuthority for GenesysTokens {
    fn ask<'a>(&'a self, token: &'a SecretString) -> BoxFuture<'a, Result<TokenAnswer, RemoteError>> {
        Box::pin(self.me(token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_warning_is_given_once_a_minute() {
        let told = Told::default();
        for (wait, expected) in [(0, true), (0, false), (59, false), (1, true), (59, false), (61, true)] {
            tokio::time::advance(Duration::from_secs(wait)).await;
            assert_eq!(told.again(), expected, "after {wait} s more");
        }
    }
}
