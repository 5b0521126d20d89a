//! Asking an authority for a token, and what is asked of its answer.
//!
//! Invariants: an authority is asked for at most [`AT_ONCE`] tokens at a time; no answer in time is no answer, and no
//! answer is never a no; however callers' tokens alternate, an outage is logged at most once in [`TELL_EVERY`].

use std::{sync::Arc, time::Duration};

use kh_core::{
    Now, SecretString, UnixMillis,
    identity::Identity,
    port::{RemoteError, TokenAnswer, TokenAuthority},
};
use kh_verify::Reason;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::{AnswerRules, Denied, DenyReason};

/// Questions to one authority at a time.
const AT_ONCE: usize = 64;

/// Longest wait for a place among them and for the answer.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// Advice to callers where the authority gave none.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The longest advice that an authority can give.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(5);

/// Shortest time between two lines that an authority begins to fail: one that fails for some tokens alone does so with
/// every other request.
const TELL_EVERY: Duration = Duration::from_mins(1);

/// Longest token that is shown to an authority: more fits into no header.
pub(crate) const TOKEN_MAX: usize = 16 * 1024;

/// What the log was told of an authority.
#[derive(Default)]
struct Told {
    failing: bool,
    /// Monotonic time of the last line that it fails.
    at: Option<Duration>,
}

impl Told {
    /// It gave no answer at `mono`. Whether that is a line: soon after the last one it is none, and the next failure
    /// may be.
    fn fails(&mut self, mono: Duration) -> bool {
        let early = self.at.is_some_and(|at| mono.saturating_sub(at) < TELL_EVERY);
        if self.failing || early {
            return false;
        }
        *self = Self { failing: true, at: Some(mono) };
        true
    }

    /// It gave an answer. Whether that is a line: only after one that it fails.
    fn answers(&mut self) -> bool {
        std::mem::take(&mut self.failing)
    }
}

/// One authority.
pub(crate) struct Remote {
    authority: Arc<dyn TokenAuthority>,
    pub(crate) rules: AnswerRules,
    /// The values that its answer's issuer may have.
    issuers: Vec<Arc<str>>,
    places: Semaphore,
    told: Mutex<Told>,
    name: Arc<str>,
}

impl Remote {
    pub(crate) fn new(
        name: Arc<str>,
        authority: Arc<dyn TokenAuthority>,
        rules: AnswerRules,
        issuers: Vec<Arc<str>>,
    ) -> Self {
        Self { authority, rules, issuers, places: Semaphore::new(AT_ONCE), told: Mutex::default(), name }
    }

    /// Who the token speaks for, by the authority, and how old its oldest part is. `now` reads the clock after the
    /// answer.
    pub(crate) async fn ask(
        &self,
        token: &SecretString,
        now: impl Fn() -> Now,
    ) -> Result<(Identity, Duration), Denied> {
        let asking = async {
            let Ok(_place) = self.places.acquire().await else { return Err(RemoteError::new("it is shut down")) };
            self.authority.ask(token).await
        };
        let heard = match tokio::time::timeout(ANSWER_MAX, asking).await {
            Ok(heard) => heard,
            Err(_elapsed) => Err(RemoteError::new("no answer came in time")),
        };
        let now = now();
        self.tell(heard.as_ref().err(), now.mono);
        match heard {
            Ok(TokenAnswer::Active { identity, age }) => check(&identity, &self.rules, &self.issuers, now.wall)
                .map(|()| (*identity, age))
                .map_err(|reason| Denied::invalid(DenyReason::Token(reason))),
            Ok(TokenAnswer::Inactive) => Err(Denied::invalid(DenyReason::Inactive)),
            Err(error) => {
                let retry_after = error.retry_after.unwrap_or(RETRY_AFTER).min(RETRY_AFTER_MAX);
                Err(Denied::unavailable(DenyReason::IssuerUnavailable, retry_after))
            }
        }
    }

    /// The same without asking, where the authority has the token in memory.
    pub(crate) fn in_memory(&self, token: &[u8], now: Now) -> Option<Identity> {
        let identity = self.authority.in_memory(token, now)?;
        check(&identity, &self.rules, &self.issuers, now.wall).is_ok().then_some(identity)
    }

    /// Once when it begins, at most once in [`TELL_EVERY`], and once when what was told ends.
    fn tell(&self, error: Option<&RemoteError>, mono: Duration) {
        match error {
            Some(error) if self.told.lock().fails(mono) => {
                tracing::error!(issuer.name = %self.name, "the issuer cannot be asked for tokens; new ones are refused: {error}");
            }
            None if self.told.lock().answers() => tracing::info!(issuer.name = %self.name, "the issuer answers again"),
            _ => {}
        }
    }
}

/// What the authority does not decide: whose answer it is, for whom, and from when to when.
fn check(identity: &Identity, rules: &AnswerRules, issuers: &[Arc<str>], now: UnixMillis) -> Result<(), Reason> {
    if !issuers.contains(identity.issuer()) {
        return Err(Reason::IssuerRefused);
    }
    if !rules.audiences.is_empty() {
        let mut audience = identity.audience().peekable();
        if audience.peek().is_none() {
            return Err(Reason::AudienceMissing);
        }
        if !audience.any(|named| rules.audiences.iter().any(|ours| ours == named)) {
            return Err(Reason::AudienceRefused);
        }
    }
    if identity.expires_at().is_some_and(|end| end.plus(rules.leeway) <= now) {
        return Err(Reason::Expired);
    }
    if identity.not_before().is_some_and(|start| start > now.plus(rules.leeway)) {
        return Err(Reason::NotYetValid);
    }
    if identity.issued_at().is_some_and(|at| at > now.plus(rules.leeway)) {
        return Err(Reason::IssuedInFuture);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_790_000_000_000);

    fn identity(issuer: &str, audience: &[&str], times: [i64; 3]) -> Identity {
        let at = |seconds: i64| NOW.0.saturating_add_signed(seconds * 1000);
        let [issued, not_before, expires] = times.map(at).map(UnixMillis);
        let builder = Identity::builder(Arc::from(issuer)).issued_at(issued).not_before(not_before);
        let builder = audience.iter().fold(builder.expires_at(expires), |builder, named| builder.audience(named));
        builder.build().unwrap()
    }

    #[test]
    fn a_failure_that_lasts_is_told_and_one_that_comes_and_goes_is_told_once_a_minute() {
        let mut told = Told::default();
        for (second, heard, expected) in [
            (0, "answer", false),
            (1, "nothing", true),
            (1, "nothing", false),
            (2, "answer", true),
            (3, "nothing", false),
            (4, "answer", false),
            (60, "nothing", false),
            (61, "nothing", true),
            (200, "nothing", false),
            (201, "answer", true),
            (202, "nothing", true),
        ] {
            let is_line = if heard == "answer" { told.answers() } else { told.fails(Duration::from_secs(second)) };
            assert_eq!(is_line, expected, "{second} {heard}");
        }
    }

    #[test]
    fn answers_are_checked_like_tokens() {
        let rules = AnswerRules { audiences: vec!["api".to_owned()], ..AnswerRules::default() };
        let issuers = [Arc::from("i"), Arc::from("j")];
        let check =
            |issuer: &str, audience: &[&str], times| check(&identity(issuer, audience, times), &rules, &issuers, NOW);
        let good = [-5, -5, 60];
        assert_eq!(check("i", &["api"], good), Ok(()));
        assert_eq!(check("j", &["other", "api"], good), Ok(()));
        assert_eq!(check("k", &["api"], good), Err(Reason::IssuerRefused));
        assert_eq!(check("I", &["api"], good), Err(Reason::IssuerRefused));
        assert_eq!(check("i", &[], good), Err(Reason::AudienceMissing));
        assert_eq!(check("i", &["ap", "api/"], good), Err(Reason::AudienceRefused));
        assert_eq!(check("i", &["api"], [-90, -90, -29]), Ok(()));
        assert_eq!(check("i", &["api"], [-90, -90, -30]), Err(Reason::Expired));
        assert_eq!(check("i", &["api"], [-5, 30, 60]), Ok(()));
        assert_eq!(check("i", &["api"], [-5, 31, 60]), Err(Reason::NotYetValid));
        assert_eq!(check("i", &["api"], [31, -5, 60]), Err(Reason::IssuedInFuture));
    }
}
