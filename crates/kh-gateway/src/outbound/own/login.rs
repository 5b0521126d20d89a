//! Logins with an id and a secret that keyholder issued, at the endpoints where the platforms' clients look for them.

use std::sync::Arc;

use http::request::Parts;
use hyper::body::Incoming;
use kh_core::{
    Code, SecretString, environment,
    port::{ClientRecord, TokenFormat},
};
use kh_issuer::{Asked, Login, LoginError};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{
    super::{Outbound, binding, route::Route},
    Visit,
    authentication::{How, JSON, Presented, Refused, admitted, check_head, form, invalid, note, presented, refused},
    code, read, secret_buffer,
};
use crate::{
    answer::{self, Answer, Refusal},
    metrics::LoginEnd,
    oauth_error::OauthError,
    observe::Trail,
    sender,
};

/// Answers a login.
pub(super) async fn answer(
    visit: Visit<'_>,
    route: Route,
    parts: &Parts,
    body: Incoming,
    id: &str,
    trail: Option<&Arc<Trail>>,
) -> Answer {
    let login = match route {
        Route::CxoneToken => cxone(visit, parts, body).await,
        Route::CxoneAccessKey => access_key(visit, parts, body).await,
        _ => client_credentials(visit, parts, body).await,
    };
    match login {
        Ok(login) => {
            visit.caller.worker.ports.metrics.logged_in(LoginEnd::Granted);
            if let Some(trail) = trail {
                trail.client(&login.client);
            }
            visit.passed(parts, &login.client);
            tracing::debug!(client.id = login.client.record.id.as_str(), "a client logged in");
            granted(&login, route)
        }
        Err(Refused(error, refusal)) => {
            visit.caller.worker.ports.metrics.logged_in(LoginEnd::refused(error, refusal.code));
            if let Some(trail) = trail {
                trail.refused(refusal.code);
            }
            visit.refused(parts, error, &refusal);
            // at most one a second: whoever may send logins must not be able to fill the disk with them
            let (code, told) = (refusal.code.0, error.as_str());
            if visit.caller.worker.may_warn() {
                tracing::info!(oauth.error = told, code, correlation_id = id, "refused a login: {}", refusal.detail);
            } else {
                tracing::debug!(oauth.error = told, code, correlation_id = id, "refused a login: {}", refusal.detail);
            }
            refusal.into_oauth_answer(error, id)
        }
    }
}

/// RFC 6749 section 5.1. Neither a token nor a scope has a character that JSON escapes.
fn granted(login: &Login, route: Route) -> Answer {
    // as Genesys Cloud spells it where an application expects Genesys Cloud
    let genesys = matches!(route, Route::OauthToken) && login.client.record.token_format == TokenFormat::Opaque;
    let token_type = match binding::token_type(login.bound.as_ref()) {
        "Bearer" if genesys => "bearer",
        other => other,
    };
    let token = login.access_token.expose();
    let mut rest = format!(r#"","token_type":"{token_type}","expires_in":{}"#, login.expires_in.as_secs());
    if !login.scopes.is_empty() {
        rest = format!(r#"{rest},"scope":"{}""#, login.scopes.join(" "));
    }
    let mut text = secret_buffer(token.len() + rest.len());
    text.extend_from_slice(br#"{"access_token":""#);
    text.extend_from_slice(token.as_bytes());
    text.extend_from_slice(rest.as_bytes());
    text.push(b'}');
    answer::secret_json(text)
}

/// Genesys Cloud and RFC 6749 section 4.4.
async fn client_credentials(visit: Visit<'_>, parts: &Parts, body: Incoming) -> Result<Login, Refused> {
    let (mut form, basic) = form(visit, parts, body).await?;
    let grant = form.grant_type.take().ok_or_else(|| invalid("grant_type is missing"))?;
    match grant.expose() {
        "client_credentials" => {
            let presented = presented(&mut form, basic)?;
            login(visit, parts, &presented, form.scope.as_ref().map(SecretString::expose)).await
        }
        "authorization_code" => {
            let presented = presented(&mut form, basic)?;
            code::login(visit, parts, presented, form).await
        }
        "refresh_token" => Err(unsupported(
            "keyholder renews a user's session by itself and gives no refresh token away: go on with the access token",
        )),
        _ => Err(unsupported(
            "keyholder's clients log in with grant_type=client_credentials, and their users with authorization_code",
        )),
    }
}

/// CXone's global login: the password grant, with an id and a secret of keyholder where the access key would be. The
/// client that a `Basic` header names is accepted as well, so that an application may keep either pair of settings.
async fn cxone(visit: Visit<'_>, parts: &Parts, body: Incoming) -> Result<Login, Refused> {
    let (mut form, basic) = form(visit, parts, body).await?;
    let grant = form.grant_type.as_ref().ok_or_else(|| invalid("grant_type is missing"))?;
    if grant.expose() != "password" {
        return Err(unsupported("CXone has the password grant here: username and password are the access key"));
    }
    let (Some(id), Some(secret)) = (form.username.take(), form.password.take()) else {
        return Err(invalid("username or password is missing"));
    };
    if basic.is_some() && form.client_secret.is_some() {
        return Err(invalid("the client authenticates in more than one way"));
    }
    let key = Presented { id, secret, how: How::ClientSecretPost };
    let Some(basic) = basic else { return login(visit, parts, &key, None).await };
    admitted(visit, &key)?;
    let first = visit.site.issuer.authenticated(key.id.expose(), &key.secret).await;
    if !matches!(first, Err(LoginError::Rejected)) {
        return login(visit, parts, &key, None).await;
    }
    let second = login(visit, parts, &basic, None).await;
    // the platform's own access key beside a right Basic header is no guess; an id of keyholder's with a wrong secret is
    let id = key.id.expose();
    let known = visit.site.issuer.client(id).is_some_and(|client| client.record.id.as_str() == id);
    if second.is_err() || known {
        note(visit, &key, &first);
    }
    second
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AccessKey {
    access_key_id: Zeroizing<String>,
    access_key_secret: Zeroizing<String>,
}

/// CXone's regional login.
async fn access_key(visit: Visit<'_>, parts: &Parts, body: Incoming) -> Result<Login, Refused> {
    check_head(parts, JSON)?;
    let text = read(visit.caller, body).await.map_err(|refusal| Refused(OauthError::InvalidRequest, refusal))?;
    let key: AccessKey = serde_json::from_slice(&text)
        .map_err(|_| invalid("the body is not a JSON object with accessKeyId and accessKeySecret"))?;
    let (id, secret) = (SecretString::copied(&key.access_key_id), SecretString::copied(&key.access_key_secret));
    login(visit, parts, &Presented { id, secret, how: How::ClientSecretPost }, None).await
}

fn unsupported(detail: &'static str) -> Refused {
    Refused(OauthError::UnsupportedGrantType, Refusal::new(Code::REQUEST_MALFORMED, detail))
}

/// One login, within the bounds on wrong ones.
async fn login(visit: Visit<'_>, parts: &Parts, presented: &Presented, scope: Option<&str>) -> Result<Login, Refused> {
    admitted(visit, presented)?;
    let client = visit.site.issuer.client(presented.id.expose());
    let of_users = client.is_some_and(|client| code::credential(visit.site, &client).is_some());
    if of_users || parts.headers.contains_key(sender::PROOF) {
        // its secret first, so that nobody learns what clients there are, or fills the memory of proofs
        let outcome = visit.site.issuer.authenticated(presented.id.expose(), &presented.secret).await;
        if of_users || outcome.is_err() {
            note(visit, presented, &outcome);
            outcome.map_err(|error| refused(&error))?;
            return Err(code::unauthorized("the client is for users: they log in with grant_type=authorization_code"));
        }
        visit.is_verified();
    }
    let held = binding::held(visit, parts)?;
    let outcome = issue(visit.site, presented, Asked { scope, held }).await;
    note(visit, presented, &outcome);
    outcome.map_err(|error| refused(&error))
}

/// A token for a client that presents its secret.
pub(super) async fn issue(site: &Outbound, presented: &Presented, asked: Asked<'_>) -> Result<Login, LoginError> {
    let admit = |client: &ClientRecord| match &client.credential {
        // a credential that is not configured any more is told by the calls
        Some(name) => site.broker.credential(name).map_or(Ok(()), |credential| {
            environment::check_fit(client.environment.as_ref(), name, credential.spec().environment.as_ref())
        }),
        None => Ok(()),
    };
    site.issuer.login_if(presented.id.expose(), &presented.secret, asked, admit).await
}
