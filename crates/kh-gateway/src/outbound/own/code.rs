//! Logging a user in with an authorization code (RFC 6749 section 4.1.3, RFC 7636 section 4.5): the code goes to the
//! platform, what comes back stays here, and the caller gets a keyholder token that speaks for the session.
//!
//! Invariants: the client's secret is looked at before the platform hears of the code; a code is sent once; a caller who
//! goes away leaves either a whole session behind or none, also while keyholder comes to its end.

use std::sync::Arc;

use http::{StatusCode, request::Parts};
use kh_broker::{Credential, Granted, SessionError, UserSessions};
use kh_core::{
    Code, Retry, SecretString,
    port::{FetchError, Grant, GrantError},
};
use kh_issuer::{Asked, Client, Held, Issuer, Login};

use super::{
    super::{Outbound, binding},
    Visit,
    authentication::{Presented, Refused, admitted, invalid, note, refused},
    form::Form,
    login,
};
use crate::{answer::Refusal, oauth_error::OauthError};

/// The credential that users of `client` log in with, if it is for users.
pub(super) fn credential(site: &Outbound, client: &Client) -> Option<Arc<Credential>> {
    let credential = site.broker.credential(client.record.credential.as_ref()?)?;
    credential.spec().sessions.is_some().then_some(credential)
}

/// RFC 6749 section 5.2: the client may not use this grant.
pub(super) fn unauthorized(detail: &'static str) -> Refused {
    let refusal = Refusal::new(Code::CALL_NOT_ALLOWED, detail);
    Refused(OauthError::UnauthorizedClient, Refusal { status: StatusCode::BAD_REQUEST, ..refusal })
}

/// Answers `grant_type=authorization_code`.
pub(super) async fn login(
    visit: Visit<'_>,
    parts: &Parts,
    presented: Presented,
    mut form: Form,
) -> Result<Login, Refused> {
    let site = visit.site;
    admitted(visit, &presented)?;
    let outcome = site.issuer.authenticated(presented.id.expose(), &presented.secret).await;
    note(visit, &presented, &outcome);
    let client = outcome.map_err(|error| refused(&error))?;
    let code = form.code.take().ok_or_else(|| invalid("code is missing"))?;
    let (Some(credential), Some(sessions)) = (credential(site, &client), &site.sessions) else {
        return Err(unauthorized("the client is not for users: it logs in with grant_type=client_credentials"));
    };
    // before the platform hears of the code, which is good once
    let held = binding::held(visit, parts)?;
    held.confirmation(&client.record).map_err(|error| refused(&error))?;
    let (site, sessions) = (site.clone(), Arc::clone(sessions));
    let user = User { code, redirect_uri: form.redirect_uri.take(), verifier: form.code_verifier.take() };
    // a task of its own: whoever hangs up while the platform answers takes nothing with him, and neither does the
    // worker's end, which waits for it
    let begun = visit.caller.worker.tasks.spawn(async move {
        let granted = user.exchange(&sessions, &credential).await.map_err(|error| not_granted(&error))?;
        begin(&site, &sessions, (&presented, held), granted).await
    });
    begun.await.map_err(|_| ended())?
}

/// What the user's browser brought back.
struct User {
    code: SecretString,
    redirect_uri: Option<SecretString>,
    verifier: Option<SecretString>,
}

impl User {
    async fn exchange(self, sessions: &UserSessions, credential: &Credential) -> Result<Granted, SessionError> {
        let grant = Grant::Code {
            code: &self.code,
            redirect_uri: self.redirect_uri.as_ref().map(SecretString::expose),
            verifier: self.verifier.as_ref(),
        };
        sessions.exchange(credential, grant).await
    }
}

/// Issues the token and begins its session; when either fails there is neither.
async fn begin(
    site: &Outbound,
    sessions: &Arc<UserSessions>,
    (presented, held): (&Presented, Held),
    granted: Granted,
) -> Result<Login, Refused> {
    let mut login = match login::issue(site, presented, Asked { scope: None, held }).await {
        Ok(login) => login,
        Err(error) => {
            sessions.discard(granted).await;
            return Err(refused(&error));
        }
    };
    login.expires_in = login.expires_in.min(granted.life());
    let token = login.access_token.sha256();
    let client = login.client.record.id.clone();
    let begun = sessions.begin(granted, token, &client, login.expires_in).await;
    if let Err(error) = begun {
        take_back(&site.issuer, &login).await;
        return Err(not_granted(&error));
    }
    Ok(login)
}

/// The token of a session that did not begin goes. Nobody has it, so that it ends by itself where this fails.
async fn take_back(issuer: &Issuer, login: &Login) {
    if let Err(error) = issuer.revoke_digest(login.access_token.sha256()).await {
        tracing::debug!(
            client.id = login.client.record.id.as_str(),
            "the token of a session that did not begin was not removed: {error}"
        );
    }
}

fn ended() -> Refused {
    let refusal = Refusal::new(Code::TOKEN_UNAVAILABLE, "the login ended without an answer");
    Refused(OauthError::TemporarilyUnavailable, refusal)
}

/// What a login is told that did not become a session.
fn not_granted(error: &SessionError) -> Refused {
    let temporarily = |refusal: Refusal| {
        let refusal = match error.retry() {
            Retry::After(wait) => refusal.after(wait),
            Retry::Never | Retry::Now => refusal,
        };
        Refused(OauthError::TemporarilyUnavailable, refusal)
    };
    let at_fault = |code: Code, status: StatusCode| Refusal { status, ..Refusal::new(code, error.to_string()) };
    match error {
        SessionError::Grant(GrantError { cause: FetchError::Rejected { platform_code, correlation_id }, .. }) => {
            let told = |code, detail: &'static str| Refusal {
                platform_code: Some(platform_code.as_str().into()),
                correlation_id: correlation_id.as_deref().map(Box::from),
                ..Refusal::new(code, detail)
            };
            if platform_code == "invalid_grant" {
                let detail = "the platform refused the authorization code: it is wrong, used or expired, or redirect_uri \
                              or code_verifier do not belong to it";
                return Refused(OauthError::InvalidGrant, told(Code::GRANT_REFUSED, detail));
            }
            temporarily(told(Code::CREDENTIAL_REJECTED, "the platform refused the credential that users log in with"))
        }
        SessionError::Full(_) => temporarily(at_fault(error.code(), StatusCode::TOO_MANY_REQUESTS)),
        SessionError::Grant(_)
        | SessionError::State(_)
        | SessionError::Broken
        | SessionError::Token(_)
        | SessionError::Ended(_)
        | SessionError::Unknown => temporarily(at_fault(error.code(), StatusCode::SERVICE_UNAVAILABLE)),
    }
}
