//! Genesys Cloud's opaque tokens at a protected API, with the built-in operations.

use super::{bearer, installed, of_api};
use crate::{
    harness::{Installation, Sandbox, eventually, request, text},
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
    token_of(&installation.sandbox)
}

fn token_of(sandbox: &Sandbox) -> String {
    let document = sandbox.genesys_document();
    let form = format!(
        "grant_type=client_credentials&client_id={}&client_secret={}",
        text(&document, "client_id"),
        text(&document, "client_secret")
    );
    let url = format!("{}/oauth/token", sandbox.url());
    let answer = request("POST", &url, &[("Content-Type", "application/x-www-form-urlencoded")], form.as_bytes());
    text(&answer.json(), "access_token").to_owned()
}

const OPERATION: &str = "/api/v2/authorization/roles";

/// The sections of an API that takes the tokens of this organisation.
fn sections(api: &Api, organization: &str) -> String {
    let lines = "operations = \"genesys-permissions\"\n";
    format!(
        "[issuer.genesys]\nkind = \"genesys\"\nplatform = \"genesys\"\norganization = \"{organization}\"\ncredential = \"genesys\"\n{}",
        of_api(api, "\"genesys\"", lines)
    )
}

#[test]
fn a_platforms_tokens_have_the_permissions_of_their_roles() {
    let api = Api::start();
    let installation = installed("", &[]);
    let token = platform_token(&installation);
    let organization = organization(&installation, &token);
    let file = installation.path("keyholder.toml");
    let before = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, before + &sections(&api, &organization)).unwrap();
    let server = installation.serve();
    assert_eq!(bearer(&server, OPERATION, &token), 200);
    assert_eq!(bearer(&server, OPERATION, "no-such-token-at-all"), 401);
    assert_eq!(bearer(&server, "/api/v2/no/such/operation", &token), 404);
    // a token of another organisation works at the same platform, and not here
    drop(server);
    let text = std::fs::read_to_string(&file).unwrap();
    let other = "8e29a1ef-9d9e-4d2a-9a70-0a3c2a8f1d11";
    assert_ne!(organization, other);
    std::fs::write(&file, text.replace(&organization, other)).unwrap();
    let server = installation.serve();
    assert_eq!(bearer(&server, OPERATION, &token), 401);
}

#[test]
fn a_reload_that_moves_a_platform_moves_the_issuer_of_its_tokens() {
    const TOKENS_ME: &str = "GET /api/v2/tokens/me";
    let api = Api::start();
    let installation = installed("", &[]);
    // the same organisation and clients at another address
    let folder = tempfile::tempdir().unwrap();
    let moved = Sandbox::start(folder.path(), "");
    let (of_old, of_new) = (platform_token(&installation), token_of(&moved));
    let organization = organization(&installation, &of_old);
    let file = installation.path("keyholder.toml");
    let before = std::fs::read_to_string(&file).unwrap() + &sections(&api, &organization);
    std::fs::write(&file, &before).unwrap();
    let server = installation.serve();
    assert_eq!(bearer(&server, OPERATION, &of_old), 200);
    assert_eq!(moved.count(TOKENS_ME), 0);
    std::fs::write(&file, before.replace(installation.sandbox.url(), moved.url())).unwrap();
    server.process.signal("HUP");
    eventually(&401, || bearer(&server, OPERATION, &of_old));
    let asked = installation.sandbox.count(TOKENS_ME);
    eventually(&200, || bearer(&server, OPERATION, &of_new));
    assert!(moved.count(TOKENS_ME) > 0);
    assert_eq!(installation.sandbox.count(TOKENS_ME), asked, "nobody is asked at the address that was left");
}
