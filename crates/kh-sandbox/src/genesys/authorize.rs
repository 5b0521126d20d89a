//! `GET /oauth/authorize` without a consent page, for tests of the authorization-code grant. Invariant: nothing is ever
//! sent to a redirect URI that the client has not registered (RFC 6749 section 3.1.2.3).

use super::login::refused;
use super::state::Code;
use crate::exchange::Call;
use crate::mint::sha256;
use crate::reply::Reply;
use crate::shared::Shared;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use http::header::{CACHE_CONTROL, LOCATION};
use url::Url;

/// RFC 6749 section 4.1.2 recommends at most ten minutes.
const CODE_SECONDS: i64 = 300;
/// Codes that may be open at once.
const CODES_MAX: usize = 10_000;

pub(super) fn authorize(shared: &Shared, call: &Call) -> Reply {
    if call.method != Method::GET {
        return refused(405, "invalid_request", "method not allowed");
    }
    let client_id = call.query_value("client_id").unwrap_or_default();
    let redirect_uri = call.query_value("redirect_uri").unwrap_or_default();
    let mut state = shared.genesys.state.lock();
    let Some(client) = state.clients.get(&client_id) else {
        return refused(400, "invalid_request", "client_id is unknown");
    };
    let registered = client.texts("registeredRedirectUri").contains(&redirect_uri);
    let Some(mut back) = Url::parse(&redirect_uri).ok().filter(|_| registered) else {
        return refused(400, "invalid_request", "redirect_uri is not registered for the client");
    };
    let scope = client.texts("scope");
    let usable = client.text("state") == "active" && client.text("authorizedGrantType") == "CODE";
    let user_id = pick_user(call, &state.users);
    let outcome = check(call, usable).and_then(|challenge| Ok((challenge, user_id.ok_or("access_denied")?)));
    match outcome {
        Ok((challenge, user_id)) => {
            let now = shared.clock.now_ms();
            let code = shared.mint.random_secret();
            if state.codes.len() >= CODES_MAX {
                state.codes.retain(|_, code| code.expires_ms > now);
            }
            let kept =
                Code { client_id, user_id, redirect_uri, challenge, scope, expires_ms: now + CODE_SECONDS * 1_000 };
            state.codes.insert(sha256(code.as_bytes()), kept);
            back.query_pairs_mut().append_pair("code", &code);
        }
        Err(error) => {
            back.query_pairs_mut().append_pair("error", error);
        }
    }
    if let Some(state) = call.query_value("state") {
        back.query_pairs_mut().append_pair("state", &state);
    }
    Reply::empty(302).header(LOCATION, back.as_str()).header(CACHE_CONTROL, "no-store")
}

/// `login_hint` picks a user by id or email, else it is the first one.
fn pick_user(call: &Call, users: &std::collections::BTreeMap<String, super::state::User>) -> Option<String> {
    match call.query_value("login_hint") {
        Some(hint) => users.iter().find(|(id, user)| **id == hint || user.email == hint).map(|(id, _)| id.clone()),
        None => users.keys().next().cloned(),
    }
}

/// The PKCE challenge of a correct request, or the RFC 6749 error code.
fn check(call: &Call, usable: bool) -> Result<Option<String>, &'static str> {
    if call.query_value("response_type").as_deref() != Some("code") {
        return Err("unsupported_response_type");
    }
    if !usable {
        return Err("unauthorized_client");
    }
    let challenge = call.query_value("code_challenge");
    // The metadata names S256 as the only method; RFC 7636 section 4.3 defaults a missing one to "plain".
    if challenge.is_some() && call.query_value("code_challenge_method").as_deref() != Some("S256") {
        return Err("invalid_request");
    }
    Ok(challenge)
}

/// RFC 7636 section 4.6; a verifier without a challenge is an attack or a mistake too.
pub(super) fn verifier_fits(challenge: Option<&str>, verifier: Option<&str>) -> bool {
    match (challenge, verifier) {
        (None, None) => true,
        (Some(challenge), Some(verifier)) => URL_SAFE_NO_PAD.encode(sha256(verifier.as_bytes())) == challenge,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::verifier_fits;

    #[test]
    fn pkce_example_of_rfc_7636_appendix_b() {
        let challenge = Some("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
        assert!(verifier_fits(challenge, Some("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")));
        assert!(!verifier_fits(challenge, Some("another")));
        assert!(!verifier_fits(challenge, None));
        assert!(!verifier_fits(None, Some("verifier")));
    }
}
