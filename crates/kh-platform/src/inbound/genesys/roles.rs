//! What a role grants, as words: read with keyholder's own token.
//!
//! Invariants: one role is read once at a time, however many ask, and who asks for another one does not wait for it; what
//! is kept is at most [`FRESH`] old and tells its age; a wildcard becomes the words that it stands for, because permissions
//! are compared whole; a policy with a condition grants nothing here, where its condition cannot be evaluated; a refused
//! address costs no token.

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
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::OnceCell;

use crate::{
    Address, HttpClient,
    answer::parse_object,
    classify::{GENESYS, is_refused_address},
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

/// What is asked for, in errors.
const WHAT: &str = "a role of the caller";

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

/// What became of one question.
#[derive(Debug)]
struct Heard {
    /// Monotonic time just before the question.
    at: Duration,
    granted: Result<Arc<Vec<String>>, RemoteError>,
}

impl Heard {
    /// Whether it may be told to somebody who comes now. A failure is told only to those who waited for it.
    fn is_good(&self, now: Duration) -> bool {
        self.granted.is_ok() && now.saturating_sub(self.at) < FRESH
    }
}

/// One question, under way while it is empty: the first who waits asks, and where they go away the next one does.
type Question = Arc<OnceCell<Heard>>;

/// The last question about each role: at most [`KEPT_MAX`] that have an answer, and those that a caller waits for.
#[derive(Default)]
struct Questions(HashMap<String, Question>);

impl Questions {
    /// The question about this role whose answer is good or will be; a new one where there is none.
    fn about(&mut self, id: &str, now: Duration) -> Question {
        let known = self.0.get(id).filter(|question| question.get().is_none_or(|heard| heard.is_good(now)));
        if let Some(question) = known {
            return Arc::clone(question);
        }
        if self.0.len() >= KEPT_MAX {
            self.make_room(now);
        }
        let question = Question::default();
        self.0.insert(id.to_owned(), Arc::clone(&question));
        question
    }

    /// Forgets what is no good, and questions that nobody waits for; where nothing is, the oldest answer.
    fn make_room(&mut self, now: Duration) {
        self.0.retain(|_, question| match question.get() {
            Some(heard) => heard.is_good(now),
            None => Arc::strong_count(question) > 1,
        });
        if self.0.len() < KEPT_MAX {
            return;
        }
        let answered = self.0.iter().filter_map(|(id, question)| Some((question.get()?.at, id)));
        let oldest = answered.min().map(|(_, id)| id.clone());
        if let Some(oldest) = oldest {
            self.0.remove(&oldest);
        }
    }
}

/// The roles of one organisation.
pub struct GenesysRoles {
    http: HttpClient,
    api: Address,
    token: Arc<dyn OwnToken>,
    /// Every permission that a wildcard may stand for.
    vocabulary: BTreeSet<String>,
    /// Never held while one is asked.
    questions: Mutex<Questions>,
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
        Self { http, api, token, vocabulary: vocabulary.into_iter().collect(), questions: Mutex::default() }
    }

    /// What the role grants, and how long ago that was read. Who comes while it is read waits for that answer, good or
    /// not.
    pub(super) async fn permissions(&self, id: &str) -> Result<(Arc<Vec<String>>, Duration), RemoteError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if id.is_empty() || id.len() > ID_MAX || !id.bytes().all(plain) {
            return Err(RemoteError::new(format!("{WHAT} has an id that no role could have")));
        }
        let question = self.questions.lock().about(id, self.mono());
        let heard = question.get_or_init(|| self.hear(id)).await;
        let age = self.mono().saturating_sub(heard.at);
        heard.granted.clone().map(|granted| (granted, age))
    }

    fn mono(&self) -> Duration {
        self.http.clock().now().mono
    }

    async fn hear(&self, id: &str) -> Heard {
        let at = self.mono();
        Heard { at, granted: self.read(id).await.map(Arc::new) }
    }

    async fn read(&self, id: &str) -> Result<Vec<String>, RemoteError> {
        let mut answer = self.ask(id, &self.token.token().await?).await?;
        if answer.head.status == 401 {
            // one fresh token, once
            answer = self.ask(id, &self.token.token().await?).await?;
        }
        if !is_document(&answer) {
            return Err(unusable(WHAT, &answer));
        }
        let role: Role = parse_object(&answer.body).map_err(|error| RemoteError::new(format!("{WHAT}: {error}")))?;
        Ok(words(role, &self.vocabulary))
    }

    async fn ask(&self, id: &str, token: &SecretString) -> Result<Answer, RemoteError> {
        let url = self.api.join(&format!("/api/v2/authorization/roles/{id}"));
        let request = Request::new(Method::GET, url).bearer(token).map_err(|error| unreached(WHAT, &error))?;
        let answer: Answer = self.http.send(request).await.map_err(|error| unreached(WHAT, &error))?.into();
        if is_refused_address(&GENESYS, &answer.head, &answer.body) {
            let reason = "the platform refuses the address that keyholder calls from (ip.not.authorized)";
            return Err(RemoteError::new(format!("{WHAT}: {reason}: allow it for keyholder's own credential")));
        }
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

    const SECONDS: fn(u64) -> Duration = Duration::from_secs;

    /// The question was asked at `at`, and answered or not.
    fn hear(question: &Question, at: Duration, granted: Result<(), ()>) {
        let granted = granted.map(|()| Arc::default()).map_err(|()| RemoteError::new("no answer"));
        assert!(question.set(Heard { at, granted }).is_ok());
    }

    #[test]
    fn a_question_is_shared_until_its_answer_is_old_or_none() {
        let mut questions = Questions::default();
        let asked = questions.about("a", SECONDS(0));
        let is_shared = |questions: &mut Questions, asked: &Question, at: Duration| {
            let next = questions.about("a", at);
            Arc::ptr_eq(&next, asked)
        };
        assert!(is_shared(&mut questions, &asked, SECONDS(60)), "however long it is under way");
        hear(&asked, SECONDS(60), Ok(()));
        assert!(is_shared(&mut questions, &asked, SECONDS(74)));
        assert!(!is_shared(&mut questions, &asked, SECONDS(75)), "old");
        let again = questions.about("a", SECONDS(75));
        assert!(is_shared(&mut questions, &again, SECONDS(75)));
        hear(&again, SECONDS(75), Err(()));
        assert!(!is_shared(&mut questions, &again, SECONDS(75)), "a failure is told to nobody who comes later");
    }

    #[test]
    fn memory_is_bounded_and_a_question_under_way_is_not_asked_twice() {
        let mut questions = Questions::default();
        let under_way = questions.about("under-way", SECONDS(0));
        drop(questions.about("left", SECONDS(0)));
        for number in 0..KEPT_MAX + 100 {
            let at = Duration::from_micros(number as u64);
            hear(&questions.about(&number.to_string(), at), at, Ok(()));
            assert!(questions.0.len() <= KEPT_MAX);
        }
        assert!(Arc::ptr_eq(&questions.about("under-way", SECONDS(1)), &under_way));
        assert!(!questions.0.contains_key("left") && !questions.0.contains_key("0"), "nobody waits; the oldest");
        let newest = (KEPT_MAX + 99).to_string();
        assert!(questions.about(&newest, SECONDS(1)).get().is_some(), "the newest answer is there");
        drop(questions.about("late", SECONDS(60)));
        assert_eq!(questions.0.len(), 2, "what is old makes room, and the one under way stays");
    }

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
