//! Revocation at a protected API: every writer is in force with the next request, in both spellings, after a kill; and
//! the platform's own revocations, as its events tell of them.

use std::fs;

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{bearer, installed, of_api, of_file, platform};
use crate::{
    harness::{Answer, Installation, Login, Server, request, run, text},
    protected_api::{
        Api, claims,
        tokens::{Key, now},
    },
    telemetry::scrape,
};

const ANY: &str = "[[inbound.reports.route]]\nmatch = [\"GET /reports\"]\nany_token = true\n";

fn order(server: &Server, body: &Value) {
    let guard = fs::read_to_string(text(&server.ready, "admin_token_file")).unwrap();
    let headers = [("X-Keyholder-Token", guard.trim()), ("Content-Type", "application/json")];
    let url = format!("{}/v1/revocations", server.admin());
    let answer = request("POST", &url, &headers, body.to_string().as_bytes());
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// The other valid spelling of an ES256 token: `s` becomes `n - s`.
fn respelled(token: &str) -> String {
    const N: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6,
        0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let (input, signature) = token.rsplit_once('.').unwrap();
    let mut signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
    let mut borrow = 0;
    for (digit, of_n) in signature[32..].iter_mut().zip(N).rev() {
        let difference = i16::from(of_n) - i16::from(*digit) - borrow;
        borrow = i16::from(difference < 0);
        *digit = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    format!("{input}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn whoever_revokes_the_next_request_is_refused_in_every_spelling_and_after_a_kill() {
    let (api, key) = (Api::start(), Key::new("k1"));
    let sections = format!(
        "[token_endpoint]\nissuer = \"https://keys.example.com\"\n[issuer.own]\nkind = \"keyholder\"\n{}{}",
        of_file(),
        of_api(&api, r#""corp", "own""#, ANY)
    );
    let installation = installed(&sections, &[&key]);
    let words = ["--scope", "reports:read", "--audience", "reports-api", "--token-format", "jwt"];
    let own = installation.add_client("job", &words);
    let opaque = installation.add_client("opaque", &["--audience", "reports-api"]);
    let server = installation.serve();
    let of = |id: &str| key.sign(&claims(&json!({ "jti": id, "iat": now() - 5, "client_id": "far" })));
    let (by_token, by_jti, by_command, kept) = (of("1"), of("2"), of("3"), of("4"));
    let (own_jwt, own_opaque, later) = (server.login(&own), server.login(&opaque), server.login(&opaque));
    let status = |server: &Server, token: &str| bearer(server, "/reports", token);
    for token in [&by_token, &by_jti, &by_command, &kept, &own_jwt, &own_opaque, &later] {
        assert_eq!(status(&server, token), 200);
    }
    assert_eq!(status(&server, &respelled(&by_token)), 200, "the second spelling is as good as the first");

    // the admin API is given the other spelling, and so the one in memory has another hash
    order(&server, &json!({ "token": respelled(&by_token) }));
    order(&server, &json!({ "jti": "2", "issuer": crate::protected_api::ISSUER }));
    order(&server, &json!({ "token": own_opaque }));
    run(&mut installation.command(&["revoke", "token"]), by_command.as_bytes()).done();
    // RFC 7009, by the client itself
    let form = format!("client_id={}&client_secret={}&token={own_jwt}", own.id, own.secret);
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    let given_back = request("POST", &format!("{}/oauth/revoke", server.gateway()), &headers, form.as_bytes());
    assert_eq!(given_back.status, 200, "{given_back:?}");
    assert_eq!(status(&server, &own_jwt), 401, "at once, in the same process");
    let refused = |server: &Server| {
        let second = respelled(&by_token);
        [&by_token, &second, &by_jti, &by_command, &own_jwt, &own_opaque].map(|token| status(server, token))
    };
    assert_eq!(refused(&server), [401; 6]);
    assert_eq!((status(&server, &kept), status(&server, &later)), (200, 200));
    order(&server, &json!({ "client": "far", "issuer": crate::protected_api::ISSUER }));
    assert_eq!((status(&server, &kept), status(&server, &later)), (401, 200));
    server.process.kill();

    let server = installation.serve();
    assert_eq!(refused(&server), [401; 6]);
    assert_eq!((status(&server, &kept), status(&server, &later)), (401, 200));
    assert!(scrape(&server).contains(r#"keyholder_inbound_refusals_total{site="reports",reason="revoked"}"#));
}

/// An installation in front of the sandbox's own tokens, with an endpoint for events.
fn with_events() -> (Installation, String, String) {
    let api = Api::start();
    let installation = installed("", &[]);
    let token = platform::platform_token(&installation);
    let organization = platform::organization(&installation, &token);
    let sections = format!(
        "[issuer.genesys]\nkind = \"genesys\"\nplatform = \"genesys\"\norganization = \"{organization}\"\n\
         credential = \"genesys\"\nmax_age = \"10m\"\n{}\n{ANY}\
         [events.main]\nissuer = \"genesys\"\nscope = \"platform:events\"\nsecret = \"store:main-events\"\n",
        of_api(&api, "\"genesys\"", "")
    );
    let file = installation.path("keyholder.toml");
    let before = fs::read_to_string(&file).unwrap();
    fs::write(&file, before + &sections).unwrap();
    let mut set = installation.command(&["secret", "set", "main-events", "--client-id", "main-events"]);
    run(&mut set, format!("{SECRET}\n").as_bytes()).done();
    (installation, token, organization)
}

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn event(organization: &str, topic: &str, body: &Value) -> String {
    json!({
        "version": "0", "id": "e9938ff0-50e2-45f8-950f-ad02d95fee85", "detail-type": topic,
        "source": format!("aws.partner/genesys.com/cloud/{organization}/keyholder"),
        "account": "490606849374", "time": "2026-11-21T09:49:26Z", "region": "us-east-1", "resources": [],
        "detail": { "topicName": topic, "version": "2", "eventBody": body, "metadata": {} },
    })
    .to_string()
}

fn deliver(server: &Server, headers: &[(&str, &str)], body: &str) -> Answer {
    let headers = [headers, &[("Content-Type", "application/json")]].concat();
    request("POST", &format!("{}/keyholder/events/main", server.gateway()), &headers, body.as_bytes())
}

/// A delivery signed as Standard Webhooks says.
fn signed(server: &Server, id: &str, at: u64, body: &str) -> u16 {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &BASE64_STANDARD.decode(&SECRET[6..]).unwrap());
    let tag = hmac::sign(&key, format!("{id}.{at}.{body}").as_bytes());
    let (at, signature) = (at.to_string(), format!("v1,{}", BASE64_STANDARD.encode(tag)));
    let headers = [("webhook-id", id), ("webhook-timestamp", at.as_str()), ("webhook-signature", signature.as_str())];
    deliver(server, &headers, body).status
}

#[test]
fn what_the_platform_revokes_is_refused_with_the_next_request_after_its_event() {
    let (installation, token, organization) = with_events();
    let sender = installation.add_client("sender", &["--scope", "platform:events"]);
    let other = installation.add_client("other", &["--scope", "something:else"]);
    let server = installation.serve();
    let status = |token: &str| bearer(&server, "/reports", token);
    let second = platform::platform_token(&installation);
    assert_eq!((status(&token), status(&second)), (200, 200));
    let revoked = event(&organization, "v2.system.token_revoked.d7ff136e", &json!({ "reason": "user_tokens_revoked" }));
    installation.sandbox.control("POST", "tokens/revoke", &json!({ "all": true }));
    assert_eq!((status(&token), status(&second)), (200, 200), "what the platform said is believed for ten minutes");

    // nobody who may not send changes anything
    let with = |login: &Login| format!("Bearer {}", server.login(login));
    for (authorization, expected) in [("Bearer kht_nobody".to_owned(), 401), (with(&other), 403)] {
        let answer = deliver(&server, &[("Authorization", &authorization)], &revoked);
        assert_eq!((answer.status, answer.header("content-type")), (expected, Some("application/problem+json")));
    }
    let foreign = revoked.replace(&organization, "8e29a1ef-9d9e-4d2a-9a70-0a3c2a8f1d11");
    let good = with(&sender);
    assert_eq!(deliver(&server, &[("Authorization", &good)], &foreign).status, 202, "and of nobody else's tokens");
    let presence = event(&organization, "v2.users.d7ff136e.presence", &json!({}));
    assert_eq!(deliver(&server, &[("Authorization", &good)], &presence).status, 202);
    assert_eq!(deliver(&server, &[("Authorization", &good)], "{}").status, 400);
    assert_eq!((status(&token), status(&second)), (200, 200));

    assert_eq!(deliver(&server, &[("Authorization", &good)], &revoked).status, 202);
    assert_eq!((status(&token), status(&second)), (401, 401));
    let third = platform::platform_token(&installation);
    assert_eq!(status(&third), 200, "a new token of the same client is good");
    let counted = scrape(&server);
    for (outcome, count) in [
        ("applied", 1),
        ("foreign", 1),
        ("unknown_topic", 1),
        ("malformed", 1),
        ("unauthenticated", 1),
        ("forbidden", 1),
    ] {
        let line = format!("keyholder_platform_events_total{{events=\"main\",outcome=\"{outcome}\"}} {count}");
        assert!(counted.contains(&line), "{line}\n{counted}");
    }
    let log = installation.run(&["--output", "json", "audit", "list"]).json();
    let entries = log["entries"].as_array().unwrap();
    let entry = entries.iter().find(|entry| entry["action"] == "revocation.event").unwrap();
    assert_eq!((text(entry, "actor"), text(entry, "subject")), (format!("client:{}", sender.id).as_str(), "main"));
    assert!(entry.to_string().contains("v2.system.token_revoked.d7ff136e"), "{entry}");
}

#[test]
fn a_signed_event_is_taken_once_and_within_its_window() {
    let (installation, token, organization) = with_events();
    let server = installation.serve();
    let status = |token: &str| bearer(&server, "/reports", token);
    assert_eq!(status(&token), 200);
    let client = installation.sandbox.genesys_document()["client_id"].clone();
    let body = json!({ "entityType": "OAuthClient", "action": "Update", "entity": { "id": client } });
    let changed = event(&organization, "v2.audits.entitytype.OAuthClient.entityid.46a10c81", &body);
    installation.sandbox.control("POST", "tokens/revoke", &json!({ "all": true }));
    assert_eq!(status(&token), 200);
    let at = now();
    assert_eq!(signed(&server, "msg_1", at - 400, &changed), 401, "too old");
    assert_eq!(signed(&server, "msg_1", at + 400, &changed), 401, "too new");
    let unsigned = deliver(&server, &[], &changed);
    assert_eq!(unsigned.header("www-authenticate"), Some(r#"Bearer realm="keyholder""#));
    let stamp = at.to_string();
    let forged = [("webhook-id", "msg_1"), ("webhook-timestamp", stamp.as_str()), ("webhook-signature", "v1,AAAA")];
    assert_eq!((unsigned.status, deliver(&server, &forged, &changed).status), (401, 401));
    assert_eq!(status(&token), 200);
    assert_eq!(signed(&server, "msg_1", at, &changed), 202);
    assert_eq!(status(&token), 401);
    assert_eq!(signed(&server, "msg_1", at, &changed), 401, "a second time");
    assert_eq!(signed(&server, "msg_2", at, &changed), 202);
    let counted = scrape(&server);
    // two out of their time, one without a signature, one with another
    for (outcome, count) in [("unauthenticated", 4), ("replayed", 1)] {
        let line = format!("keyholder_platform_events_total{{events=\"main\",outcome=\"{outcome}\"}} {count}");
        assert!(counted.contains(&line), "{line}\n{counted}");
    }
}
