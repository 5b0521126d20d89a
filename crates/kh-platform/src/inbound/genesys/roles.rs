//! What a role grants, as words: read with keyholder's own token.
//!
//! Invariants: one role is read once at a time, however many ask; what is kept is at most [`FRESH`] old and tells its
//! age; a wildcard becomes the words that it stands for, because permissions are compared whole; a policy with a
//! condition grants nothing here, where its condition cannot be evaluated.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use ::http::Method;
use kh_core::{
    SecretString,
    port::{RemoteError, inbound::OwnToken},
};
use kh_net::http::Request;
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::{
    Address, HttpClient,
    answer::parse_object,
    http::Answer,
    inbound::{is_document, unreached, unusable},
};

/// How long a role's grants are kept: a crowd of callers with one role costs one request. It counts against what their
/// tokens are believed for.
const FRESH: Duration = Duration::from_secs(15);

/// Roles that are kept: an organisation has some hundreds.
const KEPT_MAX: usize = 2000;

/// Longest id that goes into a path.
const ID_MAX: usize = 128;

/// `DomainOrganizationRole` of the published swagger, as far as it matters.
#[derive(Deserialize)]
struct Role {
    #[serde(default)]
    permissions: Option<Vec<String>>,
    #[serde(rename = "permissionPolicies", default)]
    policies: Option<Vec<Policy>>,
}

#[derive(Deserialize)]
struct Policy {
    #[serde(default)]
    domain: String,
    #[serde(rename = "entityName", default)]
    entity: String,
    #[serde(rename = "actionSet", default)]
    actions: Vec<String>,
    #[serde(rename = "resourceConditionNode", default)]
    condition: Option<serde_json::Value>,
}

type Kept = HashMap<String, (Duration, Arc<Vec<String>>)>;

/// The roles of one organisation.
pub struct GenesysRoles {
    http: HttpClient,
    api: Address,
    token: Arc<dyn OwnToken>,
    /// Every permission that a wildcard may stand for.
    vocabulary: BTreeSet<String>,
    kept: Mutex<Kept>,
}

impl GenesysRoles {
    /// Reads roles at `api` with keyholder's own `token`, whose client needs `authorization:role:view`. `vocabulary`
    /// are the permissions that routes can ask for.
    pub fn new(
        http: HttpClient,
        api: Address,
        token: Arc<dyn OwnToken>,
        vocabulary: impl IntoIterator<Item = String>,
    ) -> Self {
        Self { http, api, token, vocabulary: vocabulary.into_iter().collect(), kept: Mutex::default() }
    }

    /// What the role grants, and how long ago that was read. Held while reading: who comes meanwhile waits.
    pub(super) async fn permissions(&self, id: &str) -> Result<(Arc<Vec<String>>, Duration), RemoteError> {
        let mut kept = self.kept.lock().await;
        let now = self.http.clock().now().mono;
        if let Some((at, permissions)) = kept.get(id) {
            let age = now.saturating_sub(*at);
            if age < FRESH {
                return Ok((Arc::clone(permissions), age));
            }
        }
        let permissions = Arc::new(self.read(id).await?);
        if kept.len() >= KEPT_MAX {
            kept.retain(|_, (at, _)| now.saturating_sub(*at) < FRESH);
        }
        if kept.len() < KEPT_MAX {
            kept.insert(id.to_owned(), (now, Arc::clone(&permissions)));
        }
        let age = self.http.clock().now().mono.saturating_sub(now);
        Ok((permissions, age))
    }

    async fn read(&self, id: &str) -> Result<Vec<String>, RemoteError> {
        let what = "a role of the caller";
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if id.is_empty() || id.len() > ID_MAX || !id.bytes().all(plain) {
            return Err(RemoteError::new(format!("{what} has an id that no role could have")));
        }
        let mut answer = self.ask(id, &self.token.token().await?).await?;
        if answer.head.status == 401 {
            // one fresh token, once
            answer = self.ask(id, &self.token.token().await?).await?;
        }
        if !is_document(&answer) {
            return Err(unusable(what, &answer));
        }
        let role: Role = parse_object(&answer.body).map_err(|error| RemoteError::new(format!("{what}: {error}")))?;
        Ok(words(role, &self.vocabulary))
    }

    async fn ask(&self, id: &str, token: &SecretString) -> Result<Answer, RemoteError> {
        let what = "a role of the caller";
        let url = self.api.join(&format!("/api/v2/authorization/roles/{id}"));
        let request = Request::new(Method::GET, url).bearer(token).map_err(|error| unreached(what, &error))?;
        let answer: Answer = self.http.send(request).await.map_err(|error| unreached(what, &error))?.into();
        if answer.head.status == 401 {
            self.token.refused(token);
        }
        Ok(answer)
    }
}

/// The role's grants as whole words; a wildcard becomes those of `vocabulary` that it stands for.
fn words(role: Role, vocabulary: &BTreeSet<String>) -> Vec<String> {
    let unconditional = role.policies.into_iter().flatten().filter(|policy| policy.condition.is_none());
    let of_policies = unconditional.flat_map(|policy| {
        let Policy { domain, entity, actions, .. } = policy;
        actions.into_iter().map(move |action| format!("{domain}:{entity}:{action}"))
    });
    let grants: BTreeSet<String> = role.permissions.into_iter().flatten().chain(of_policies).collect();
    let (wild, mut words): (BTreeSet<String>, BTreeSet<String>) =
        grants.into_iter().partition(|grant| grant.contains('*'));
    for pattern in &wild {
        words.extend(vocabulary.iter().filter(|word| stands_for(pattern, word)).cloned());
    }
    words.into_iter().collect()
}

/// For the fuzz body: what a role document grants.
#[cfg(any(test, fuzzing))]
pub(crate) fn granted(body: &[u8], vocabulary: &BTreeSet<String>) -> Option<Vec<String>> {
    Some(words(parse_object(body).ok()?, vocabulary))
}

/// Whether `*` in a grant stands for this permission: alone for every one, in a part for any such part.
fn stands_for(pattern: &str, word: &str) -> bool {
    let (mut held, mut wanted) = (pattern.split(':'), word.split(':'));
    pattern == "*"
        || (0..3).all(|_| match (held.next(), wanted.next()) {
            (Some(held), Some(wanted)) => held == "*" || held == wanted,
            _ => false,
        }) && held.next().is_none()
            && wanted.next().is_none()
}

impl std::fmt::Debug for GenesysRoles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GenesysRoles").field("vocabulary", &self.vocabulary.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_stand_for_whole_parts() {
        for (pattern, word, expected) in [
            ("*", "routing:queue:view", true),
            ("routing:*:*", "routing:queue:view", true),
            ("routing:queue:*", "routing:queue:view", true),
            ("*:*:*", "routing:queue:view", true),
            ("routing:queue:*", "routing:queues:view", false),
            ("routing:*", "routing:queue:view", false),
            ("routing:queue:v*", "routing:queue:view", false),
            ("rout*:queue:view", "routing:queue:view", false),
            ("routing:queue:*:*", "routing:queue:view", false),
            ("routing:queue:*", "routing:queue:view:more", false),
        ] {
            assert_eq!(stands_for(pattern, word), expected, "{pattern} {word}");
        }
    }
}
