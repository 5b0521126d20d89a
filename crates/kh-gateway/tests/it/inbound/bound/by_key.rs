//! `DPoP` proofs of requests.

use http::request::Builder;
use kh_net::client_address::{ClientAddressing, ForwardingHeader, TrustedProxies};

use super::*;

const HOST: &str = "api.example";
const ADDRESS: &str = "http://api.example/reports";

fn request(method: &str) -> Builder {
    Request::builder().method(method).uri("/reports?from=1").header("host", HOST)
}

/// `GET /reports` with a token by a scheme and these proofs.
async fn ask(site: &Site, authorization: &str, proofs: &[String]) -> Got {
    let request = request("GET").header("authorization", authorization);
    let request = proofs.iter().fold(request, |request, proof| request.header("dpop", proof));
    site.send(request.body(Full::default()).unwrap()).await
}

fn good() -> String {
    KEY.proof(&claims("GET", ADDRESS, &json!({})))
}

fn with(other: &Value) -> String {
    KEY.proof(&claims("GET", ADDRESS, other))
}

const BY_KEY: &str = "DPoP of-key";
const ALGORITHMS: &str = r#"algs="RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA""#;

fn challenge(error: &str, description: &str) -> String {
    format!(r#"DPoP realm="api", error="{error}", error_description="{description}", {ALGORITHMS}"#)
}

#[tokio::test]
async fn a_token_bound_to_a_key_needs_one_good_proof_of_it() {
    let (upstream, site) = site().await;
    let invalid = challenge("invalid_token", "the access token is not valid");
    let proof = challenge("invalid_dpop_proof", "the DPoP proof is not valid for this request");
    let bearer = r#"Bearer realm="api", error="invalid_token", error_description="the access token is not valid""#;
    let seen = good();
    assert_eq!(ask(&site, BY_KEY, std::slice::from_ref(&seen)).await.status, 200);
    let other_token = json!({ "ath": base64url(Sha256::of(b"reader").0) });
    let long_ago = json!({ "iat": now() - 3_600 });
    for (authorization, proofs, told, case) in [
        (BY_KEY, vec![], &*proof, "no proof"),
        (BY_KEY, vec![seen.clone()], &proof, "a proof that was seen"),
        (BY_KEY, vec![good(), good()], &proof, "two proofs"),
        (BY_KEY, vec!["x".to_owned()], &proof, "no JWT"),
        (BY_KEY, vec![with(&json!({ "htm": "POST" }))], &proof, "another method"),
        (BY_KEY, vec![with(&json!({ "htu": "http://api.example/any" }))], &proof, "another path"),
        (BY_KEY, vec![with(&json!({ "htu": "https://api.example/reports" }))], &proof, "another scheme"),
        (BY_KEY, vec![with(&json!({ "htu": "http://other.example/reports" }))], &proof, "another host"),
        (BY_KEY, vec![with(&other_token)], &proof, "another token"),
        (BY_KEY, vec![with(&json!({ "ath": null }))], &proof, "no token"),
        (BY_KEY, vec![with(&long_ago)], &proof, "long ago"),
        (BY_KEY, vec![with(&json!({ "jti": null }))], &proof, "without a name"),
        (BY_KEY, vec![OTHER_KEY.proof(&claims("GET", ADDRESS, &json!({})))], &invalid, "another key"),
        ("Bearer of-key", vec![good()], bearer, "by the wrong scheme"),
        ("Bearer of-key", vec![], bearer, "as a bearer token"),
        ("DPoP reader", vec![with(&other_token)], &invalid, "a token that is not bound"),
        ("DPoP of-certificate", vec![good()], &invalid, "a token that is bound to a certificate"),
        ("DPoP unknown", vec![good()], &invalid, "an unknown token"),
        ("DPoP expired", vec![good()], &invalid, "an expired token"),
    ] {
        let got = ask(&site, authorization, &proofs).await;
        assert_eq!((got.status, got.header("www-authenticate")), (401, told), "{case}");
        let code = if told == proof { "keyholder.inbound.proof_invalid" } else { "keyholder.inbound.token_invalid" };
        assert_eq!(got.json()["code"], code, "{case}");
    }
    assert_eq!(upstream.seen().len(), 1);
    let refused =
        |reason: &str| site.metric(&format!(r#"keyholder_inbound_refusals_total{{site="api",reason="{reason}"}}"#));
    assert_eq!((refused("proof_replayed"), refused("proof_key_mismatch"), refused("proof_uri")), (1, 1, 3));
}

#[tokio::test]
async fn a_good_proof_opens_every_method_and_ends_at_the_gateway() {
    for (authorization, forwarded) in [(Authorization::Remove, false), (Authorization::Pass, true)] {
        let upstream = echo().await;
        let site = Setup { authorization, ..Setup::new(upstream.address) }.start();
        for htu in [ADDRESS, "HTTP://API.example:80/reports", "http://api.example/%72eports?x#y"] {
            assert_eq!(ask(&site, "dpop of-key", &[with(&json!({ "htu": htu }))]).await.status, 200, "{htu}");
        }
        for seen in upstream.seen() {
            assert_eq!(seen.headers.contains_key("dpop"), forwarded);
            assert_eq!(seen.headers.contains_key("authorization"), forwarded);
        }
        // a scope that is missing is told by the scheme of the token
        let post = KEY.proof(&claims("POST", ADDRESS, &json!({})));
        let post = request("POST").header("authorization", BY_KEY).header("dpop", post);
        let got = site.send(post.body(Full::default()).unwrap()).await;
        assert_eq!(got.status, 403);
        assert!(got.header("www-authenticate").starts_with(r#"DPoP realm="api", error="insufficient_scope""#));
    }
}

/// One proof, sent to all workers at once: it is good for one of them.
#[tokio::test]
async fn a_proof_is_good_once_for_all_workers() {
    let upstream = echo().await;
    let mut setup = Setup::new(upstream.address);
    setup.config.workers = 4;
    let site = Arc::new(setup.start());
    for _ in 0..8 {
        let proof = good();
        let asking: Vec<_> = (0..12)
            .map(|_| {
                let (site, proof) = (Arc::clone(&site), proof.clone());
                tokio::spawn(async move { ask(&site, BY_KEY, &[proof]).await.status })
            })
            .collect();
        let mut taken = 0;
        for asked in asking {
            taken += u32::from(asked.await.unwrap() == 200);
        }
        assert_eq!(taken, 1);
    }
    assert_eq!(upstream.seen().len(), 8);
}

#[tokio::test]
async fn without_room_to_remember_a_proof_nothing_is_taken() {
    let upstream = echo().await;
    // one proof for each of the parts
    let site = Setup { proof_bytes: 1, ..Setup::new(upstream.address) }.start();
    let mut statuses = [0, 0];
    for _ in 0..200 {
        let got = ask(&site, BY_KEY, &[good()]).await;
        statuses[usize::from(got.status == 503)] += 1;
        if got.status == 503 {
            assert_eq!((got.header("retry-after"), &got.json()["code"]), ("5", &json!("keyholder.overloaded")));
        }
    }
    assert!(statuses[0] <= 32 && statuses[1] >= 168, "{statuses:?}");
    assert_eq!(upstream.seen().len(), statuses[0]);
    // who has no good token takes no room
    let roomy = Setup { proof_bytes: 1, ..Setup::new(upstream.address) }.start();
    for _ in 0..100 {
        assert_eq!(ask(&roomy, BY_KEY, &[OTHER_KEY.proof(&claims("GET", ADDRESS, &json!({})))]).await.status, 401);
        assert_eq!(ask(&roomy, "DPoP unknown", &[good()]).await.status, 401);
    }
    assert_eq!(ask(&roomy, BY_KEY, &[good()]).await.status, 200);
}

#[tokio::test]
async fn a_nonce_is_asked_for_and_told_with_each_answer() {
    let upstream = echo().await;
    let mut setup = Setup::new(upstream.address);
    setup.senders.proofs.nonce = true;
    let site = setup.start();
    let first = ask(&site, BY_KEY, &[good()]).await;
    let told = challenge("use_dpop_nonce", "the DPoP proof needs the nonce of this answer");
    assert_eq!((first.status, first.header("www-authenticate")), (401, &*told));
    let nonce = first.header("dpop-nonce").to_owned();
    assert!(!nonce.is_empty());
    let proof = with(&json!({ "nonce": nonce }));
    let got = ask(&site, BY_KEY, std::slice::from_ref(&proof)).await;
    assert_eq!((got.status, got.header("dpop-nonce").is_empty()), (200, false));
    for bad in [with(&json!({ "nonce": "made-up" })), good()] {
        let got = ask(&site, BY_KEY, &[bad]).await;
        assert_eq!((got.status, got.header("www-authenticate")), (401, &*told));
        assert!(!got.header("dpop-nonce").is_empty());
    }
    // a nonce is no licence to send a proof twice, and tells nobody of a token that is bad
    assert!(ask(&site, BY_KEY, &[proof]).await.header("www-authenticate").contains("invalid_dpop_proof"));
    assert_eq!(ask(&site, "DPoP unknown", &[good()]).await.header("dpop-nonce"), "");
    // of tokens that are not bound no proof is asked
    assert_eq!(site.call("GET /reports", "reader").await.status, 200);
}

#[tokio::test]
async fn where_tokens_must_be_bound_others_are_refused() {
    let must = |rules: SenderRules| async move {
        let upstream = echo().await;
        (Setup { senders: rules, ..Setup::new(upstream.address) }.start(), upstream)
    };
    let (everywhere, _one) = must(SenderRules { everywhere: true, ..SenderRules::default() }).await;
    let (route, _two) = must(SenderRules { routes: vec!["GET /reports".into()], ..SenderRules::default() }).await;
    for (site, call, token, expected) in [
        (&everywhere, "GET /reports", "reader", 401),
        (&everywhere, "GET /any", "nothing", 401),
        (&everywhere, "GET /reports", "other", 401),
        (&everywhere, "GET /health", "", 200),
        (&route, "GET /reports", "reader", 401),
        (&route, "GET /reports/7", "reader", 200),
    ] {
        assert_eq!(site.call(call, token).await.status, expected, "{call} {token}");
    }
    let got = everywhere.call("GET /reports", "").await;
    assert_eq!(got.header("www-authenticate"), format!(r#"Bearer realm="api", DPoP realm="api", {ALGORITHMS}"#));
    for site in [&everywhere, &route] {
        assert_eq!(ask(site, BY_KEY, &[good()]).await.status, 200);
    }
    assert_eq!(everywhere.metric(r#"keyholder_inbound_refusals_total{site="api",reason="binding_missing"}"#), 3);
}

/// Credentials that the API looks at by itself are bound to nobody.
#[tokio::test]
async fn where_tokens_must_be_bound_no_other_credential_passes() {
    for (everywhere, expected) in [(false, 200), (true, 401)] {
        let upstream = echo().await;
        let mut setup = Setup::new(upstream.address);
        setup.routes = RouteTable::new(vec![RouteRule::parse_line("GET /own=").unwrap().allowing_basic()]).unwrap();
        setup.senders.everywhere = everywhere;
        let site = setup.start();
        let got = site.send(site.request("GET /own", "Basic eDp5", "")).await;
        assert_eq!((got.status, upstream.seen().len()), (expected, usize::from(!everywhere)));
    }
}

#[tokio::test]
async fn rules_that_name_nothing_are_refused() {
    let api = || Api::new(spec("http://127.0.0.1:1", routes(), Authorization::Remove, SentHost::Upstream)).unwrap();
    for (rules, told) in [
        (SenderRules { routes: vec!["GET /nowhere".into()], ..SenderRules::default() }, "no route `GET /nowhere`"),
        (SenderRules { addresses: vec!["api.example".to_owned()], ..SenderRules::default() }, "no address"),
        (SenderRules { addresses: vec!["https://a/b".to_owned()], ..SenderRules::default() }, "no address"),
    ] {
        let Err(error) = api().with_senders(rules) else { panic!("{told}") };
        assert!(error.to_string().contains(told), "{error}");
    }
}

/// A server with the same audience got a proof for itself, and sends it on under its own name.
#[tokio::test]
async fn a_proof_for_another_server_is_refused_where_the_addresses_are_known() {
    let upstream = echo().await;
    let mut setup = Setup::new(upstream.address);
    setup.senders.addresses = vec!["http://API.example:80/".to_owned()];
    let site = setup.start();
    assert_eq!(ask(&site, BY_KEY, &[good()]).await.status, 200);
    let proof = KEY.proof(&claims("GET", "http://evil.example/reports", &json!({})));
    let request = Request::get("/reports").header("host", "evil.example").header("authorization", BY_KEY);
    let got = site.send(request.header("dpop", proof).body(Full::default()).unwrap()).await;
    assert_eq!(got.status, 401);
    assert!(got.header("www-authenticate").contains("invalid_dpop_proof"));
    assert_eq!(site.metric(r#"keyholder_inbound_refusals_total{site="api",reason="proof_uri"}"#), 1);
}

/// Behind a proxy that ends TLS the client's address is another one than ours, and the proxy alone may say so.
#[tokio::test]
async fn the_address_of_a_proof_is_the_clients_as_trusted_proxies_tell_it() {
    let lines = |proof: &str, lines: &str| {
        format!(
            "GET /reports HTTP/1.1\r\nHost: 10.0.0.7\r\nConnection: close\r\nAuthorization: {BY_KEY}\r\nDPoP: {proof}\r\n{lines}\r\n"
        )
    };
    let outside = || KEY.proof(&claims("GET", "https://api.example/reports", &json!({})));
    let x_forwarded = "X-Forwarded-Proto: https\r\nX-Forwarded-Host: api.example\r\n";
    let forwarded = "Forwarded: for=203.0.113.9;proto=https;host=api.example\r\n";
    for (header, trusted, sent, expected) in [
        (ForwardingHeader::XForwardedFor, "127.0.0.1", x_forwarded, "200"),
        (ForwardingHeader::XForwardedFor, "127.0.0.1", forwarded, "401"),
        (ForwardingHeader::XForwardedFor, "127.0.0.9", x_forwarded, "401"),
        (ForwardingHeader::Forwarded, "127.0.0.1", forwarded, "200"),
        (ForwardingHeader::Forwarded, "127.0.0.1", x_forwarded, "401"),
        (ForwardingHeader::Forwarded, "127.0.0.9", forwarded, "401"),
        (ForwardingHeader::XForwardedFor, "127.0.0.1", "X-Forwarded-Proto: https\r\n", "401"),
    ] {
        let upstream = echo().await;
        let mut setup = Setup::new(upstream.address);
        let proxies = TrustedProxies::parse(&[trusted]).unwrap();
        setup.proxies = Proxies { addressing: ClientAddressing::new(proxies, header), ..Proxies::default() };
        let site = setup.start();
        let answer = site.raw(&lines(&outside(), sent)).await;
        assert_eq!(answer.split(' ').nth(1), Some(expected), "{header:?} {trusted} {sent}");
    }
}
