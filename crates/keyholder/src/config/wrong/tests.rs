//! Every line of the table finds what it is for, leaves the right form alone, and names a source.

use super::*;

/// A text for each line of the table.
const SAMPLES: &[(&str, &str)] = &[
    ("token-below-api-v2", "POST https://api.mypurecloud.com.au/api/v2/oauth/token"),
    ("token-at-api-host", "url = \"https://api.mypurecloud.de/oauth/token\""),
    ("login-without-login-host", "https://usw2.pure.cloud/oauth/token"),
    ("api-at-login-host", "https://login.mypurecloud.ie/api/v2/users"),
    ("organisation-host", "https://acme.mygenesys.com/oauth/token"),
    ("revoke", "# genesys\ncurl -X POST $LOGIN/oauth/revoke"),
    ("introspect", "genesys: /oauth/introspect"),
    ("openid-configuration", "https://login.mypurecloud.com/.well-known/openid-configuration"),
    ("jwks", "https://login.mypurecloud.com/.well-known/jwks.json"),
    ("api-docs", "https://api.mypurecloud.com/api/v2/api-docs"),
    ("client-secrets", "DELETE /api/v2/oauth/clients/{clientId}/secrets/{secretId}"),
    ("rotate-secret", "POST /api/v2/oauth/clients/$ID/rotate-secret"),
    ("rate-limit-headers", "purecloud: response.headers['X-Rate-Limit-Remaining']"),
    ("rate-limit-remaining", "headers.get('inin-ratelimit-remaining')"),
    ("scope-offline-access", "genesys scope=offline_access"),
    ("scope-analytics", "scope: analytics:reports:read"),
    ("scope-users", "genesys user:read"),
    ("scope-all", "genesys api.v2.all"),
    ("scope-org-admin", "genesys org.admin"),
    ("scope-oauth-client", "genesys oauth:client:write"),
    ("scope-oauth-token", "genesys oauth:token:generate"),
    ("scope-queue", "genesys routing:queue:read"),
    ("scope-conversation", "genesys conversation:call"),
    ("scope-telephony", "genesys telephony.admin"),
    ("grant-type-member", "genesys {\"grantType\":\"CLIENT_CREDENTIALS\"}"),
    ("grant-type-underscore", "genesys {\"authorizedGrantType\": \"CLIENT_CREDENTIALS\"}"),
    ("js-environment", "client.setEnvironment(\"127.0.0.1:8080\")"),
    ("environment-variables", "export GENESYSCLOUD_CLIENT_SECRET=..."),
    ("terraform-source", "source = \"mikeschaeffer/genesyscloud\""),
    ("terraform-client-type", "resource \"genesyscloud_oauth_client\" \"a\" {\n  client_type = \"x\"\n}"),
    ("terraform-grant-types", "resource \"genesyscloud_oauth_client\" \"a\" {\n  grant_types = []\n}"),
    ("terraform-redirects", "resource \"genesyscloud_oauth_client\" \"a\" {\n  redirect_uris = []\n}"),
    (
        "terraform-secret",
        "resource \"genesyscloud_oauth_client\" \"a\" {\n  client_secret = random_password.a.result\n}",
    ),
    ("cxone-oauth2-token", "https://api.nice-incontact.com/oauth2/token"),
    ("cxone-api-host", "https://api.nice-incontact.com/services"),
    ("cxone-authorization-server", "https://api.incontact.com/InContactAuthorizationServer/Token"),
    ("cxone-client-credentials", "cxone: grant_type=client_credentials"),
    ("cxone-scope", "cxone scope read:api"),
];

#[test]
fn every_line_of_the_table_finds_what_it_is_for() {
    let names: Vec<_> = table::TABLE.iter().map(|entry| entry.name).collect();
    let sampled: Vec<_> = SAMPLES.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, sampled, "each line has one sample, in the same order");
    let mut told = Vec::new();
    for (name, text) in SAMPLES {
        let found = find(text);
        let [finding] = found.as_slice() else { panic!("{name}: {found:?}") };
        assert_eq!(finding.name, *name, "{text}");
        let Finding { line, column, found, problem, right, source, .. } = finding;
        told.push(format!("{name} {line}:{column}\n  {found}\n  {problem}\n  {right}\n  [{source}]"));
    }
    insta::assert_snapshot!(told.join("\n"));
}

/// What is right is not complained about, also not what the table itself recommends.
#[test]
fn the_right_forms_are_left_alone() {
    let mut texts: Vec<String> = [
        "https://login.mypurecloud.de/oauth/token",
        "https://api.mypurecloud.com.au/api/v2/users",
        "POST /api/v2/oauth/clients/0e8400e2-29b4-41d4-a716-446655440000/secret",
        "genesys inin-ratelimit-count inin-ratelimit-allowed inin-ratelimit-reset",
        "genesys scope users:readonly analytics:readonly oauth:client:edit routing:queue:view",
        "X-RateLimit-Remaining of another service",
        "offline_access of another issuer",
        "https://cxone.niceincontact.com/auth/token grant_type=password",
        "https://na1.nice-incontact.com/authentication/v1/token/access-key",
        "genesys grant_type=client_credentials; nice cxone beside it",
        "https://api-na1.niceincontact.com/incontactapi/services/v30.0/agents",
        "https://mypurecloud.de.example.com/oauth/token",
        "https://example.com/oauth/revoke",
        "client.setEnvironment(\"mypurecloud.de\")",
    ]
    .map(str::to_owned)
    .to_vec();
    texts.extend(table::TABLE.iter().map(|entry| {
        let about = if entry.name.starts_with("cxone") { "cxone" } else { "genesys" };
        format!("{about} {}", entry.right.replace("{domain}", "mypurecloud.de"))
    }));
    for text in texts {
        assert_eq!(find(&text), [], "{text}");
    }
}

#[test]
fn hostile_texts_cost_little_and_show_no_secret() {
    let secret = "aB3dE5fG7hI9jK1lM3nO5pQ7rS9tU1vW3xY5zA7bC9d";
    let found = find(&format!("https://{secret}.mygenesys.com/oauth/token?client_secret={secret}"));
    assert_eq!(found.len(), 1);
    assert!(!format!("{found:?}").contains(secret), "{found:?}");
    let many = "genesys offline_access\n".repeat(20_000);
    assert_eq!(find(&many).len(), FINDINGS_MAX);
    assert_eq!(find(&"a.".repeat(300_000)), []);
    assert_eq!(find("\u{0}ünïcode https://api.mypurecloud.de/oauth/token")[0].column, 10);
}
