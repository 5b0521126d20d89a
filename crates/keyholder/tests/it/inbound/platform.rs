//! Genesys Cloud's opaque tokens at a protected API, with the built-in operations.

use super::{bearer, installed, of_api};
use crate::{
    harness::{Installation, request, text},
    protected_api::Api,
};

/// The organisation of the sandbox, as its own API tells it.
pub(super) fn organization(installation: &Installation, token: &str) -> String {
    let url = format!("{}/api/v2/tokens/me", installation.sandbox.url());
    let me = request("GET", &url, &[("Authorization", &format!("Bearer {token}"))], b"").json();
    text(&me["organization"], "id").to_owned()
}

/// A token of the platform itself.
pub(super) fn platform_token(installation: &Installation) -> String {
    let document = installation.sandbox.genesys_document();
    let form = format!(
        "grant_type=client_credentials&client_id={}&client_secret={}",
        text(&document, "client_id"),
        text(&document, "client_secret")
    );
    let url = format!("{}/oauth/token", installation.sandbox.url());
    let answer = request("POST", &url, &[("Content-Type", "application/x-www-form-urlencoded")], form.as_bytes());
    text(&answer.json(), "access_token").to_owned()
}

#[test]
fn a_platforms_tokens_have_the_permissions_of_their_roles() {
    let api = Api::start();
    let installation = installed("", &[]);
    let token = platform_token(&installation);
    let organization = organization(&installation, &token);
    let lines = "operations = \"genesys-permissions\"\n";
    let sections = format!(
        "[issuer.genesys]\nkind = \"genesys\"\nplatform = \"genesys\"\norganization = \"{organization}\"\ncredential = \"genesys\"\n{}",
        of_api(&api, "\"genesys\"", lines)
    );
    let file = installation.path("keyholder.toml");
    let before = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, before + &sections).unwrap();
    let server = installation.serve();
    let operation = "/api/v2/authorization/roles";
    assert_eq!(bearer(&server, operation, &token), 200);
    assert_eq!(bearer(&server, operation, "no-such-token-at-all"), 401);
    assert_eq!(bearer(&server, "/api/v2/no/such/operation", &token), 404);
    // a token of another organisation works at the same platform, and not here
    drop(server);
    let text = std::fs::read_to_string(&file).unwrap();
    let other = "8e29a1ef-9d9e-4d2a-9a70-0a3c2a8f1d11";
    assert_ne!(organization, other);
    std::fs::write(&file, text.replace(&organization, other)).unwrap();
    let server = installation.serve();
    assert_eq!(bearer(&server, operation, &token), 401);
}
