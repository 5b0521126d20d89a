//! Logins with an id and a secret that keyholder issued, at the endpoints where the platforms' clients look for them.

use std::sync::Arc;

use http::{HeaderMap, Method, StatusCode, header, request::Parts};
use hyper::body::Incoming;
use kh_core::{Code, SecretString, environment, port::ClientRecord};
use kh_issuer::{Login, LoginError};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{
    super::route::Route,
    Visit,
    form::{Basic, Form},
    method_refused, read, secret_buffer,
};
use crate::{
    answer::{self, Answer, Refusal},
    observe::Trail,
};

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

/// A refusal with its RFC 6749 section 5.2 error code.
struct Refused(&'static str, Refusal);

fn invalid(detail: &'static str) -> Refused {
    Refused("invalid_request", Refusal::new(Code::REQUEST_MALFORMED, detail))
}

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
    let token_type = if matches!(route, Route::OauthToken) { "bearer" } else { "Bearer" };
    match login {
        Ok(login) => {
            visit.caller.worker.ports.metrics.logged_in("ok");
            if let Some(trail) = trail {
                trail.client(&login.client);
            }
            tracing::debug!(client.id = login.client.record.id.as_str(), "a client logged in");
            granted(&login, token_type)
        }
        Err(Refused(error, refusal)) => {
            visit.caller.worker.ports.metrics.logged_in(error);
            if let Some(trail) = trail {
                trail.refused(refusal.code);
            }
            // at most one a second: whoever may send logins must not be able to fill the disk with them
            let code = refusal.code.0;
            if visit.caller.worker.may_warn() {
                tracing::info!(oauth.error = error, code, correlation_id = id, "refused a login: {}", refusal.detail);
            } else {
                tracing::debug!(oauth.error = error, code, correlation_id = id, "refused a login: {}", refusal.detail);
            }
            refusal.into_oauth_answer(error, id)
        }
    }
}

/// RFC 6749 section 5.1. The token has no character that JSON escapes.
fn granted(login: &Login, token_type: &str) -> Answer {
    let mut text = secret_buffer();
    text.extend_from_slice(br#"{"access_token":""#);
    text.extend_from_slice(login.access_token.expose().as_bytes());
    let rest = format!(r#"","token_type":"{token_type}","expires_in":{}}}"#, login.expires_in.as_secs());
    text.extend_from_slice(rest.as_bytes());
    answer::secret_json(text)
}

/// Genesys Cloud and RFC 6749 section 4.4.
async fn client_credentials(visit: Visit<'_>, parts: &Parts, body: Incoming) -> Result<Login, Refused> {
    let (form, basic) = form_login(visit, parts, body).await?;
    let grant = form.grant_type.as_ref().ok_or_else(|| invalid("grant_type is missing"))?;
    if grant.expose() != "client_credentials" {
        return Err(unsupported("keyholder's clients log in with grant_type=client_credentials"));
    }
    let (id, secret) = match (basic, form.client_id, form.client_secret) {
        (Some(_), _, Some(_)) => return Err(invalid("the client authenticates in more than one way")),
        (Some(basic), Some(id), None) if id != basic.id => {
            return Err(invalid("client_id differs from the one in the Authorization header"));
        }
        (Some(basic), ..) => (basic.id, basic.secret),
        (None, Some(id), Some(secret)) => (id, secret),
        (None, ..) => {
            let refusal = Refusal::new(Code::CALLER_UNAUTHENTICATED, "the client id or the client secret is missing");
            return Err(Refused("invalid_client", Refusal { told: Some(BASIC.into()), ..refusal }));
        }
    };
    login(visit, &id, &secret).await
}

/// CXone's global login: the password grant, with an id and a secret of keyholder where the access key would be. The
/// client that a `Basic` header names is accepted as well, so that an application may keep either pair of settings.
async fn cxone(visit: Visit<'_>, parts: &Parts, body: Incoming) -> Result<Login, Refused> {
    let (form, basic) = form_login(visit, parts, body).await?;
    let grant = form.grant_type.as_ref().ok_or_else(|| invalid("grant_type is missing"))?;
    if grant.expose() != "password" {
        return Err(unsupported("CXone has the password grant here: username and password are the access key"));
    }
    let (Some(username), Some(password)) = (&form.username, &form.password) else {
        return Err(invalid("username or password is missing"));
    };
    if basic.is_some() && form.client_secret.is_some() {
        return Err(invalid("the client authenticates in more than one way"));
    }
    match (login(visit, username, password).await, basic) {
        (Err(Refused("invalid_client", _)), Some(basic)) => login(visit, &basic.id, &basic.secret).await,
        (result, _) => result,
    }
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
    let text = read(visit.caller, body).await.map_err(|refusal| Refused("invalid_request", refusal))?;
    let key: AccessKey = serde_json::from_slice(&text)
        .map_err(|_| invalid("the body is not a JSON object with accessKeyId and accessKeySecret"))?;
    let secret = SecretString::copied(&key.access_key_secret);
    login(visit, &SecretString::copied(&key.access_key_id), &secret).await
}

const BASIC: &str = r#"Basic realm="keyholder""#;

fn unsupported(detail: &'static str) -> Refused {
    Refused("unsupported_grant_type", Refusal::new(Code::REQUEST_MALFORMED, detail))
}

fn check_head(parts: &Parts, media: &str) -> Result<(), Refused> {
    if parts.method != Method::POST {
        return Err(Refused("invalid_request", Refusal { told: Some("POST".into()), ..method_refused() }));
    }
    if !is_media(&parts.headers, media) {
        return Err(invalid(if media == FORM {
            "the content type is not application/x-www-form-urlencoded"
        } else {
            "the content type is not application/json"
        }));
    }
    Ok(())
}

fn is_media(headers: &HeaderMap, expected: &str) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
    value.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case(expected))
}

async fn form_login(visit: Visit<'_>, parts: &Parts, body: Incoming) -> Result<(Form, Option<Basic>), Refused> {
    check_head(parts, FORM)?;
    // RFC 6749 section 2.3: no secret in the query, where logs would keep it
    let basic = match parts.headers.get(header::AUTHORIZATION) {
        None => None,
        Some(value) => Some(Basic::parse(value.as_bytes()).map_err(|detail| {
            let refusal = Refusal::new(Code::CALLER_UNAUTHENTICATED, detail);
            Refused("invalid_client", Refusal { told: Some(BASIC.into()), ..refusal })
        })?),
    };
    let text = read(visit.caller, body).await.map_err(|refusal| Refused("invalid_request", refusal))?;
    let form = Form::parse(&text).map_err(invalid)?;
    Ok((form, basic))
}

async fn login(visit: Visit<'_>, id: &SecretString, secret: &SecretString) -> Result<Login, Refused> {
    // RFC 9110 section 15.5.2: every 401 has a challenge
    let challenge = Some(BASIC.into());
    let site = visit.site;
    let admit = |client: &ClientRecord| match &client.credential {
        // a credential that is not configured any more is told by the calls
        Some(name) => site.broker.credential(name).map_or(Ok(()), |credential| {
            environment::check_fit(client.environment.as_ref(), name, credential.spec().environment.as_ref())
        }),
        None => Ok(()),
    };
    site.issuer.login_if(id.expose(), secret, admit).await.map_err(|error| match error {
        LoginError::Rejected => {
            let refusal = Refusal::new(Code::CALLER_UNAUTHENTICATED, "the client id or the client secret is not valid");
            Refused("invalid_client", Refusal { told: challenge, ..refusal })
        }
        LoginError::Disabled(_) => {
            let refusal = Refusal::new(Code::CLIENT_DISABLED, "the client is disabled");
            Refused("invalid_client", Refusal { told: challenge, ..refusal })
        }
        LoginError::Environment(_) => {
            let detail = "the client's credential is one of another environment than the client";
            Refused("unauthorized_client", Refusal::new(Code::ENVIRONMENT_REFUSED, detail))
        }
        LoginError::TooManyTokens { .. } => {
            let refusal = Refusal::new(Code::OVERLOADED, "the client holds too many live tokens");
            let status = StatusCode::TOO_MANY_REQUESTS;
            Refused("temporarily_unavailable", Refusal { status, ..refusal })
        }
        LoginError::State(_) => {
            Refused("temporarily_unavailable", Refusal::new(Code::STATE_UNAVAILABLE, "the login could not be recorded"))
        }
    })
}
