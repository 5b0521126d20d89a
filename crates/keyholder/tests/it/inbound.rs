//! `[issuer.NAME]` and `[inbound.NAME]`: protected APIs of a configured `serve`.

pub mod certificates;
mod checks;
mod platform;
pub mod remote;
mod revoked;
mod serving;

use std::fs;

use serde_json::{Value, json};

use crate::{
    harness::{Answer, Installation, Server, eventually, request, text},
    protected_api::{Api, ISSUER, claims, key_set, tokens::Key},
    telemetry::scrape,
};

/// What stands in most configurations here: keys of a file.
pub fn of_file() -> String {
    format!(
        "[issuer.corp]\nkind = \"jwks\"\niss = [\"{ISSUER}\"]\njwks_file = \"keys.json\"\naudiences = [\"reports-api\"]\n"
    )
}

/// An API called `reports` in front of `api` with these issuers and lines.
pub fn of_api(api: &Api, issuers: &str, lines: &str) -> String {
    let upstream = api.address;
    format!(
        "[inbound.reports]\nlisten = [\"127.0.0.1:0\"]\nupstream = \"http://{upstream}\"\nissuers = [{issuers}]\n{lines}"
    )
}

/// An installation whose configuration ends with these sections.
pub fn installed(sections: &str, keys: &[&Key]) -> Installation {
    let installation = Installation::with("", sections);
    fs::write(installation.path("keys.json"), key_set(keys)).unwrap();
    installation
}

/// Where callers of `reports` connect.
fn url(server: &Server) -> &str {
    text(&server.ready["inbound_urls"], "reports")
}

pub fn call(server: &Server, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    request(method, &format!("{}{path}", url(server)), headers, b"")
}

pub fn bearer(server: &Server, path: &str, token: &str) -> u16 {
    call(server, "GET", path, &[("Authorization", &format!("Bearer {token}"))]).status
}

/// The head that the API got.
pub fn head(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{answer:?}");
    String::from_utf8(answer.body.clone()).unwrap()
}

const ROUTES: &str = r#"
audiences = ["reports-api"]
[[inbound.reports.identity_header]]
name = "X-Subject"
field = "subject"
[[inbound.reports.identity_header]]
name = "X-Tenant"
claim = "tenantId"
[[inbound.reports.route]]
name = "read"
match = ["GET /reports", "GET /reports/{id}"]
scopes = ["reports:read"]
[[inbound.reports.route]]
match = ["POST /reports"]
any_scope = ["reports:write", "reports:admin"]
[[inbound.reports.route.condition]]
claim = "tenantId"
one_of = ["acme", "other"]
[[inbound.reports.route]]
match = ["GET /health"]
public = true
[[inbound.reports.route]]
match = ["GET /basic"]
scopes = ["reports:read"]
allow_basic = true
"#;

#[test]
fn a_configured_api_is_protected() {
    let (api, key) = (Api::start(), Key::new("k1"));
    let sections =
        format!("[issuer.own]\nkind = \"keyholder\"\n{}{}", of_file(), of_api(&api, r#""corp", "own""#, ROUTES));
    let installation = installed(&sections, &[&key]);
    let own = installation.add_client("job", &["--scope", "reports:read", "--audience", "reports-api"]);
    let stranger = installation.add_client("other", &["--scope", "reports:read", "--audience", "another-api"]);
    let server = installation.serve();
    let good = key.sign(&claims(&json!({ "tenantId": "acme" })));
    let with = format!("Bearer {good}");
    let answer =
        call(&server, "GET", "/reports/7", &[("Authorization", &with), ("x-subject", "root"), ("X_Tenant", "evil")]);
    let told = head(&answer);
    assert!(told.contains("x-subject: alice\r\n") && told.contains("x-tenant: acme\r\n"), "{told}");
    assert!(!told.contains("root") && !told.contains("evil") && !told.contains("authorization"), "{told}");
    // several words, conditions
    let post = |changes: Value| {
        let token = format!("Bearer {}", key.sign(&claims(&changes)));
        call(&server, "POST", "/reports", &[("Authorization", &token)]).status
    };
    assert_eq!(post(json!({ "scope": "reports:admin", "tenantId": "acme" })), 200);
    assert_eq!(post(json!({ "scope": "reports:admin", "tenantId": "evil" })), 403);
    assert_eq!(post(json!({ "scope": "reports:read", "tenantId": "acme" })), 403);
    assert_eq!(call(&server, "GET", "/health", &[]).status, 200);
    assert_eq!(call(&server, "GET", "/other", &[("Authorization", &with)]).status, 404);
    let refused = call(&server, "GET", "/reports", &[]);
    assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some(r#"Bearer realm="reports""#)));
    // Basic is for the API where a route says so, and for nobody else
    let basic = ("Authorization", "Basic YWxpY2U6c2VjcmV0");
    let told = head(&call(&server, "GET", "/basic", &[basic, ("X-Subject", "root")]));
    assert!(told.contains("authorization: Basic YWxpY2U6c2VjcmV0\r\n") && !told.contains("x-subject"), "{told}");
    let told = head(&call(&server, "GET", "/basic", &[("Authorization", &with)]));
    assert!(told.contains("x-subject: alice\r\n") && !told.contains("authorization"), "{told}");
    assert_eq!(call(&server, "GET", "/basic", &[]).status, 401);
    assert_eq!(call(&server, "GET", "/reports", &[basic]).status, 401);
    // keyholder's own tokens, without a network
    let calls = api.calls();
    let token = server.login(&own);
    assert_eq!(bearer(&server, "/reports", &token), 200);
    assert_eq!(bearer(&server, "/reports", &server.login(&stranger)), 401, "for another API");
    assert_eq!(api.calls(), calls + 1);
    installation.run(&["client", "disable", "job"]).done();
    eventually(&401, || bearer(&server, "/reports", &token));
    let counted = scrape(&server);
    for line in [
        r#"keyholder_inbound_refusals_total{site="reports",reason="audience_not_of_api"} 1"#,
        r#"keyholder_inbound_refusals_total{site="reports",reason="token_missing"} 2"#,
        r#"keyholder_inbound_requests_total{site="reports",route="read GET /reports/{id}",status="2xx"} 1"#,
    ] {
        assert!(counted.contains(line), "{line}\n{counted}");
    }
    assert!(counted.contains("keyholder_inbound_request_duration_seconds"), "{counted}");
    let ready = request("GET", &format!("{}/readyz", server.admin()), &[], b"");
    assert_eq!(ready.status, 200, "{ready:?}");
    let (code, said) = server.process.stop();
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains(&good), "no token is told");
}

#[test]
fn a_reload_changes_routes_and_keeps_what_was_verified() {
    let (api, old, new) = (Api::start(), Key::new("old"), Key::new("new"));
    let sections =
        of_file() + &of_api(&api, "\"corp\"", "[[inbound.reports.route]]\nmatch = [\"GET /a\"]\nany_token = true\n");
    let installation = installed(&sections, &[&old]);
    fs::write(installation.path("new.json"), key_set(&[&new])).unwrap();
    let server = installation.serve();
    let (of_old, of_new) = (old.sign(&claims(&json!({}))), new.sign(&claims(&json!({}))));
    assert_eq!((bearer(&server, "/a", &of_old), bearer(&server, "/b", &of_old)), (200, 404));
    let rewrite = |from: &str, to: &str| {
        let before = fs::read_to_string(installation.path("keyholder.toml")).unwrap();
        assert!(before.contains(from), "{before}");
        fs::write(installation.path("keyholder.toml"), before.replace(from, to)).unwrap();
        server.process.signal("HUP");
    };
    rewrite("GET /a", "GET /b");
    eventually(&(404, 200), || (bearer(&server, "/a", &of_old), bearer(&server, "/b", &of_old)));
    rewrite("keys.json", "new.json");
    eventually(&(401, 200), || (bearer(&server, "/b", &of_old), bearer(&server, "/b", &of_new)));
    // what only a restart can change leaves everything as it was
    rewrite("\"127.0.0.1:0\"]\nupstream", "\"127.0.0.1:0\", \"127.0.0.2:0\"]\nupstream");
    eventually(&true, || server.process.said().contains("only a restart can change"));
    assert_eq!(bearer(&server, "/b", &of_new), 200);
    assert_eq!(server.process.stop().0, Some(0));
}
