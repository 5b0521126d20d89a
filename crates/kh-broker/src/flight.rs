//! One fetch as an owned task: reads the document, asks the core, calls the token endpoint, tells what came of it.
//!
//! Invariant: however the task ends (answer, deadline, panic, cancelled, runtime gone), the core hears of it once and
//! every waiter is woken: the guard's `Drop` sees to it.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use http::HeaderValue;
use kh_core::{
    Code, PlatformKind,
    credential::{CredentialDocument, DocumentError},
    port::{FetchError, IssuedToken, SourceError},
};
use kh_token::{Failure, FetchKind, FetchOrder, Permit};

use crate::{Credential, Login, LoginOutcome, TokenError, lease};

/// What a request carried, which decides what its failure says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Carried {
    /// The document alone.
    Document,
    /// A refresh token that came with a login by the document.
    Refresh,
    /// A refresh token that took the place of the document's own: the document has no other login.
    Successor,
}

/// Why a fetch brought no token, shared by all who waited for it.
#[derive(Clone, Debug)]
pub(crate) enum FetchFailure {
    Endpoint(Arc<FetchError>, Carried),
    Store(Arc<SourceError>),
    Document(DocumentError),
    TimedOut(Duration),
    /// The token has bytes that a header cannot carry.
    BadToken(Carried),
    KnownBad,
    DeadOnArrival,
    Aborted,
}

/// What a fetch came to.
pub(crate) enum Landing {
    Token(Box<Arrival>),
    /// The core did not let the document out, and knows that the fetch is over.
    KeptBack,
}

/// A token on its way into the core.
pub(crate) struct Arrival {
    pub(crate) issued: IssuedToken,
    pub(crate) authorization: HeaderValue,
    pub(crate) kind: FetchKind,
}

impl FetchFailure {
    /// The failure in the core's words.
    pub(crate) fn for_core(&self) -> Failure {
        match self {
            Self::Endpoint(error, carried) => match (error.as_ref(), carried) {
                (FetchError::Rejected { platform_code, .. }, Carried::Refresh) if !names_the_client(platform_code) => {
                    Failure::RefreshRefused
                }
                (FetchError::Rejected { .. }, _) => Failure::Rejected,
                (FetchError::Unusable(_), _) => Failure::Unusable,
                (FetchError::RateLimited { retry_after, .. }, _) => Failure::RateLimited { retry_after: *retry_after },
                // The endpoint was there: what it has against the refresh token may never end.
                (FetchError::Transient { retry_after, unreachable: None, .. }, Carried::Refresh) => {
                    Failure::RefreshFailed { retry_after: *retry_after }
                }
                (FetchError::Transient { retry_after, .. }, _) => Failure::Transient { retry_after: *retry_after },
            },
            Self::Store(_) | Self::Document(_) => Failure::Store,
            Self::BadToken(Carried::Refresh) => Failure::RefreshFailed { retry_after: None },
            Self::TimedOut(_)
            | Self::BadToken(Carried::Document | Carried::Successor)
            | Self::KnownBad
            | Self::DeadOnArrival => Failure::Transient { retry_after: None },
            Self::Aborted => Failure::Aborted,
        }
    }

    /// Whether the platform or the adapter refused the document itself.
    pub(crate) fn is_rejection(&self) -> bool {
        matches!(self.for_core(), Failure::Rejected | Failure::Unusable)
    }

    /// The failure in a caller's words.
    pub(crate) fn for_caller(&self, retry_in: Duration) -> TokenError {
        let no_token = |reason| TokenError::NoToken { reason, retry_in };
        match self {
            Self::Endpoint(source, _) => TokenError::Endpoint { source: Arc::clone(source), retry_in },
            Self::Store(source) => TokenError::Store { source: Arc::clone(source), retry_in },
            Self::Document(source) => TokenError::Document { source: source.clone(), retry_in },
            Self::TimedOut(deadline) => TokenError::TimedOut { deadline: *deadline, retry_in },
            Self::BadToken(_) => no_token("the token has bytes that a header cannot carry"),
            Self::KnownBad => no_token("the platform handed out a token that it had refused"),
            Self::DeadOnArrival => no_token("the token's life was over before it arrived"),
            Self::Aborted => no_token("it ended without an answer"),
        }
    }

    pub(crate) fn code(&self) -> Code {
        self.for_caller(Duration::ZERO).code()
    }
}

/// Whether a refusal is one of the client, which stands in the document, and not of the refresh token or of its use (RFC
/// 6749 section 5.2: `unauthorized_client` is about the grant type).
fn names_the_client(platform_code: &str) -> bool {
    platform_code == "invalid_client"
}

/// Whether another refresh token came for the document's own (RFC 6749 section 6).
fn replaces(document: &CredentialDocument, issued: &IssuedToken) -> bool {
    let (own, fresh) = (document.refresh_token.as_ref(), issued.refresh_token.as_ref());
    own.zip(fresh).is_some_and(|(own, fresh)| own.sha256() != fresh.sha256())
}

/// The task of one fetch, and the guard that ends it.
pub(crate) struct Flight {
    credential: Arc<Credential>,
    order: FetchOrder,
    has_landed: bool,
}

impl Flight {
    /// Starts the fetch on the broker's runtime.
    pub(crate) fn launch(credential: Arc<Credential>, order: FetchOrder) {
        let ports = Arc::clone(credential.ports());
        let flight = Self { credential, order, has_landed: false };
        // The task is owned by the tracker; its end is told through the credential, not through the handle.
        drop(ports.tasks.spawn_on(flight.run(), &ports.runtime));
    }

    async fn run(mut self) {
        let cancel = self.credential.cancel().clone();
        let deadline = self.credential.spec().policy.fetch_deadline;
        let result = tokio::select! {
            biased;
            () = cancel.cancelled() => Err(FetchFailure::Aborted),
            result = tokio::time::timeout(deadline, self.fly()) => {
                result.unwrap_or(Err(FetchFailure::TimedOut(deadline)))
            }
        };
        self.has_landed = true;
        self.credential.land(self.order, result);
    }

    async fn fly(&self) -> Result<Landing, FetchFailure> {
        let credential = &self.credential;
        let (ports, spec) = (credential.ports(), credential.spec());
        let stored = ports.source.read(&spec.secret).await.map_err(|error| FetchFailure::Store(Arc::new(error)))?;
        let document = CredentialDocument::parse(&stored.value).map_err(FetchFailure::Document)?;
        let (permit, held_refresh) = credential.permit(self.order, document.sha256(), stored.version);
        let (kind, refresh) = match permit {
            Permit::Send(FetchKind::Login) => (FetchKind::Login, None),
            Permit::Send(FetchKind::Refresh) => (FetchKind::Refresh, held_refresh),
            Permit::Rejected | Permit::Stale => return Ok(Landing::KeptBack),
        };
        let issued = spec.endpoint.fetch(&document, refresh.as_deref()).await;
        self.tell(&document, stored.version, kind, &issued);
        if kind == FetchKind::Login && issued.as_ref().is_ok_and(|issued| replaces(&document, issued)) {
            self.tell_replaced(&document);
        }
        let carried = match kind {
            FetchKind::Login => Carried::Document,
            FetchKind::Refresh if self.is_refresh_token(&document) => Carried::Successor,
            FetchKind::Refresh => Carried::Refresh,
        };
        let issued = issued.map_err(|error| FetchFailure::Endpoint(Arc::new(error), carried))?;
        let authorization = lease::bearer(&issued.access_token).ok_or(FetchFailure::BadToken(carried))?;
        Ok(Landing::Token(Box::new(Arrival { issued, authorization, kind })))
    }

    /// Whether logins with the document are by its own refresh token. Those of CXone are by its access key.
    fn is_refresh_token(&self, document: &CredentialDocument) -> bool {
        document.refresh_token.is_some() && self.credential.spec().kind != PlatformKind::Cxone
    }

    /// The document's own refresh token may be dead now. Told once.
    fn tell_replaced(&self, document: &CredentialDocument) {
        if self.is_refresh_token(document) && !self.credential.has_told_replaced.swap(true, Ordering::Relaxed) {
            tracing::error!(
                credential.name = %self.credential.name(),
                "the issuer replaced the refresh token of a credential's document; the new one is in memory alone"
            );
        }
    }

    /// Tells who wants to know which secrets are in use. A refresh token that is refused says nothing about the secret,
    /// and an answer that did not come says nothing at all.
    fn tell(
        &self,
        document: &CredentialDocument,
        version: u64,
        kind: FetchKind,
        issued: &Result<IssuedToken, FetchError>,
    ) {
        let ports = self.credential.ports();
        if issued.is_ok() && kind == FetchKind::Login {
            self.credential.note_proven(version);
        }
        let Some(observer) = &ports.observer else { return };
        let at = ports.clock.now().wall;
        let outcome = match (issued, kind) {
            (Ok(token), _) => LoginOutcome::Token { until: at.plus(token.expires_in) },
            (Err(FetchError::Rejected { .. }), FetchKind::Login) => LoginOutcome::Refused,
            (Err(_), FetchKind::Login | FetchKind::Refresh) => return,
        };
        let (credential, document) = (self.credential.name().clone(), document.sha256());
        observer.logged_in(Login { credential, document, version, at, outcome });
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if !self.has_landed {
            self.credential.land(self.order, Err(FetchFailure::Aborted));
        }
    }
}

#[cfg(test)]
mod tests {
    use kh_core::{SecretBytes, SecretString};

    use super::*;

    #[test]
    fn a_refresh_token_is_replaced_by_another_one_alone() {
        let document = |text: &str| CredentialDocument::parse(&SecretBytes::new(text.as_bytes().to_vec())).unwrap();
        let issued = |refresh: Option<&str>| IssuedToken {
            access_token: SecretString::copied("access"),
            expires_in: Duration::from_mins(1),
            refresh_token: refresh.map(SecretString::copied),
            scope: None,
            api_base: None,
            auth_base: None,
        };
        let own = document(r#"{"client_id":"c","client_secret":"s","refresh_token":"r-1"}"#);
        let plain = document(r#"{"client_id":"c","client_secret":"s"}"#);
        assert!(replaces(&own, &issued(Some("r-2"))));
        assert!(!replaces(&own, &issued(Some("r-1"))));
        assert!(!replaces(&own, &issued(None)));
        assert!(!replaces(&plain, &issued(Some("r-2"))));
    }
}
