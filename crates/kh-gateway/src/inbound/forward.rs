//! An admitted request on its way to the API, and the answer back.
//!
//! Invariant: the path, the method and the host that the route was found for are those that are sent; who calls, and from
//! where, is told by us alone.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Version, header, request::Parts};
use hyper::body::Incoming;
use kh_core::Identity;

use super::{Authorization, Call, SentHost, challenge::Denial, identity_headers::IdentityValues, tunnel::ByToken};
use crate::{
    answer::Answer,
    exchange::{self, Outgoing, body::Trailers, headers::Behind, in_body::InBody},
    observe, sender,
    upstream::{Host, UpstreamError},
};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HTTP: HeaderValue = HeaderValue::from_static("http");
const HTTPS: HeaderValue = HeaderValue::from_static("https");

/// Sends the request on; with who calls, where that had to be known.
pub(super) async fn forward(
    call: &Call<'_>,
    parts: &mut Parts,
    body: Incoming,
    caller_is: Option<(&Identity, IdentityValues)>,
) -> Result<Answer, Denial> {
    let asked = &call.asked;
    let (caller, api) = (asked.caller, &call.live.api);
    let worker = &*caller.worker;
    if asked.head.trace {
        observe::keep_valid(&mut parts.headers);
    }
    // before the headers that proxies write are taken off
    let is_secure = call.client_told(parts).secure.unwrap_or_else(|| asked.caller.is_secure());
    let mut tunnel = exchange::prepare(parts, asked.head, Behind::OwnApi);
    if let (Some(tunnel), Some((identity, _))) = (&mut tunnel, &caller_is) {
        // before the token is taken off
        tunnel.right = Some(Box::new(ByToken::of(call, &parts.headers, identity)));
    }
    let host = worker.upstreams.host(&api.upstream, &api.egress).map_err(|error| failed(call, &error))?;
    let is_for_api = caller_is.is_none() && call.is_for_api(parts);
    let headers = &mut parts.headers;
    api.identity.strip(headers);
    if api.authorization == Authorization::Remove && !is_for_api {
        headers.remove(header::AUTHORIZATION);
        // good for nothing without the token, and it names the gateway's address
        headers.remove(sender::PROOF);
    }
    if let Some((_, values)) = caller_is {
        values.tell(headers);
    }
    tell_origin(call, headers, &host, parts.version, is_secure);
    parts.uri = host.origin.target(&parts.uri, 0).map_err(|error| failed(call, &UpstreamError::Address(error)))?;
    let outgoing = Outgoing::new(parts, InBody::Own(body), Trailers::Drop, worker, asked.trail);
    let received =
        exchange::exchange(caller, &host, &outgoing, asked.began).await.map_err(|error| failed(call, &error))?;
    exchange::pass_on(caller, received, Behind::OwnApi, outgoing.body, tunnel, asked.trail)
        .map_err(|refusal| Denial { reason: "upstream_failed", refusal })
}

/// `Host`, and what the caller would have told had it called the API itself. The host is the one that the route was found
/// for, whatever proxies say: else the API would act for one host by the routes of another.
fn tell_origin(call: &Call<'_>, headers: &mut HeaderMap, host: &Arc<Host>, version: Version, is_secure: bool) {
    let caller = call.asked.caller;
    let sent = match call.sent {
        Some(value) => Some(value.clone()),
        // over HTTP/2 it stands in the target
        None if version == Version::HTTP_2 || !call.host.is_empty() => HeaderValue::from_str(call.host).ok(),
        None => None,
    };
    let for_api = match (call.live.api.host, &sent) {
        (SentHost::Caller, Some(sent)) => sent.clone(),
        (SentHost::Caller, None) | (SentHost::Upstream, _) => host.origin.host_header.clone(),
    };
    headers.insert(header::HOST, for_api);
    if call.client == caller.client {
        if let Some(address) = caller.forwarded_for() {
            headers.insert(FORWARDED_FOR, address.clone());
        }
    } else if let Some(address) = call.client.and_then(|client| HeaderValue::from_str(&client.ip.to_string()).ok()) {
        headers.insert(FORWARDED_FOR, address);
    }
    if let Some(sent) = sent {
        headers.insert(FORWARDED_HOST, sent);
    }
    headers.insert(FORWARDED_PROTO, if is_secure { HTTPS } else { HTTP });
}

fn failed(call: &Call<'_>, error: &UpstreamError) -> Denial {
    if let Some(refusal) = error.of_caller() {
        return Denial { reason: "body_incomplete", refusal };
    }
    if call.asked.caller.worker.may_warn() {
        tracing::warn!(
            inbound.name = call.site.realm(),
            code = error.code().0,
            detail = error.detail(),
            "the API behind the gateway gave no answer"
        );
    }
    Denial::no_answer(error.kind())
}
