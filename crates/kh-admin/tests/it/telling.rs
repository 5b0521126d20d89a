//! What the security log hears of the local listeners: each refusal once, and no token.

use kh_admin::{Operator, Role};
use kh_core::{
    Sha256,
    port::security::{AuthenticationEvent, Outcome, Told},
};

use crate::rig::{Probes, Rig, Surface, start};

/// Site, reason, what was shown, operator, status, route.
fn take(rig: &Rig) -> Vec<String> {
    let events = std::mem::take(&mut *rig.heard.0.lock().unwrap());
    let told = |event: &AuthenticationEvent| {
        assert!(event.client_address.is_some_and(|client| client.ip.is_loopback()), "{event:?}");
        assert_eq!(event.tls, None, "{event:?}");
        assert!(event.user_agent.as_ref().is_some_and(|agent| agent.as_str() == "probe/1"), "{event:?}");
        let Outcome::Failure { reason } = event.outcome else { panic!("{event:?}") };
        let subject = event.subject.as_ref().map_or("-", |subject| subject.as_str());
        let status = event.status.unwrap_or_default();
        let token = if event.token.is_some() { "token" } else { "-" };
        let route = event.route.as_ref().map_or("-", Told::as_str);
        assert_eq!(event.path_template, event.route);
        format!("{} {reason} {} {token} {subject} {status} {route}", event.site.as_str(), event.presented.as_str())
    };
    events.iter().map(told).collect()
}

const WRONG: &str = "khg_0000000000000000000000000000000000000000000";

#[tokio::test]
async fn who_is_not_let_in_by_the_admin_listener_is_told_once() {
    let (token, of_operate) = ("khg_reader", "khg_duty");
    let operator = |name: &str, role, token: &str| Operator {
        name: name.to_owned(),
        role,
        tokens: vec![Sha256::of(token.as_bytes())],
        certificates: Vec::new(),
        certificate_names: Vec::new(),
    };
    let operators = vec![operator("reader", Role::Read, token), operator("duty", Role::Operate, of_operate)];
    let rig = start(Surface::Admin(Probes { operators, ..Probes::default() })).await;
    let json = "Content-Type: application/json\r\n";
    let everything = "{\"before\":1}";
    for (line, headers, status, told) in [
        ("GET /v1/status", String::new(), 403, Some("admin token_missing nothing - - 403 /v1/status")),
        ("GET /v1/clients/jane", String::new(), 403, Some("admin token_missing nothing - - 403 /v1/clients/{client}")),
        // no route takes this
        ("GET /jane", String::new(), 403, Some("admin token_missing nothing - - 403 -")),
        (
            "GET /v1/status",
            format!("Authorization: Bearer {WRONG}\r\n"),
            403,
            Some("admin token_unknown bearer token - 403 /v1/status"),
        ),
        (
            "GET /v1/status",
            format!("X-Keyholder-Token: {WRONG}\r\nAuthorization: Bearer {WRONG}\r\n"),
            403,
            Some("admin authorization_malformed other - - 403 /v1/status"),
        ),
        (
            "POST /v1/clients",
            format!("X-Keyholder-Token: {token}\r\n"),
            403,
            Some("admin role_insufficient bearer - reader 403 /v1/clients"),
        ),
        // the operation is open to the role, the order is not
        (
            "POST /v1/revocations",
            format!("X-Keyholder-Token: {of_operate}\r\n{json}"),
            403,
            Some("admin role_insufficient bearer - duty 403 /v1/revocations"),
        ),
        ("GET /v1/status", format!("X-Keyholder-Token: {token}\r\n"), 200, None),
        // open, also to a wrong token
        ("GET /livez", String::new(), 200, None),
    ] {
        let headers = format!("User-Agent: probe/1\r\n{headers}");
        let body = if headers.contains(json) { everything } else { "" };
        assert_eq!(rig.send(line, &headers, body).await.status, status, "{line} {headers}");
        let heard = format!("{:?}", rig.heard.0.lock().unwrap());
        assert!(!heard.contains(WRONG) && !heard.contains(token) && !heard.contains("jane"), "{heard}");
        assert_eq!(take(&rig), told.into_iter().collect::<Vec<_>>(), "{line} {headers}");
    }
}

#[tokio::test]
async fn who_is_not_let_in_by_the_broker_is_told_once() {
    let rig = start(Surface::Broker).await;
    let wrong = format!("X-Keyholder-Token: {WRONG}\r\n");
    for (line, headers, told) in [
        ("GET /v1/token/acme", "", "broker token_missing nothing - - 403 /v1/token/{profile}"),
        ("GET /v1/token/acme", &wrong, "broker token_unknown bearer token - 403 /v1/token/{profile}"),
        ("GET /acme/api/v2/users/jane", &wrong, "broker token_unknown bearer token - 403 /{profile}/**"),
        ("GET /v1/jane", &wrong, "broker token_unknown bearer token - 403 -"),
    ] {
        let headers = format!("User-Agent: probe/1\r\n{headers}");
        assert_eq!(rig.send(line, &headers, "").await.status, 403, "{line}");
        assert!(!format!("{:?}", rig.heard.0.lock().unwrap()).contains("jane"), "{line}");
        assert_eq!(take(&rig), [told]);
    }
    assert_eq!(rig.get("/v1/token/acme").await.status, 200);
    assert!(take(&rig).is_empty());
}
