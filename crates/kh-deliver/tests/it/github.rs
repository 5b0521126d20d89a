//! GitHub Actions secrets against a strict server that opens the sealed boxes.
//!
//! Rules and their sources (docs.github.com, REST API, version 2022-11-28): a request without `User-Agent` is refused
//! with 403 ("Getting started", user agent required), one without a good token with 401; an unknown API version with
//! 400 ("API Versions"); the public key of a repository, environment or organization; PUT with `encrypted_value` and
//! the `key_id` of that key, 201 for a new and 204 for a known secret, 422 for a body that is not so; `visibility` is
//! required for an organization's, `selected_repository_ids` belongs to `selected` alone ("GitHub Actions Secrets");
//! limits by 403 or 429 with `retry-after` or `x-ratelimit-remaining: 0`, secondary ones also by their message alone
//! ("Rate limits for the REST API").

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use crypto_box::SecretKey;
use http::Method;
use kh_core::{credential::CredentialDocument, port::DeliveryHook};
use kh_deliver::{Field, GithubSecret, Owner, SecretValue, Visibility};
use serde_json::json;

use crate::{
    rig::{CANARY, Files, client, deliver, document, promotion, refused, transient},
    server::{Received, Reply, Server},
};

const TOKEN: &str = "ghp_MARKEDtoken";

struct World {
    key: SecretKey,
    key_id: String,
    /// By path, what a workflow would see.
    secrets: BTreeMap<String, String>,
    next: Option<Reply>,
}

struct Github {
    server: Server,
    world: Arc<Mutex<World>>,
}

async fn github() -> Github {
    let key = SecretKey::from([7; 32]);
    let world = World { key, key_id: "568250167242549743".to_owned(), secrets: BTreeMap::new(), next: None };
    let world = Arc::new(Mutex::new(world));
    let shared = Arc::clone(&world);
    let server = Server::start(move |request| answer(&mut shared.lock().unwrap(), request)).await;
    Github { server, world }
}

fn error(status: u16, message: &str) -> Reply {
    Reply::json(status, &json!({"message": message, "documentation_url": "https://docs.github.com/rest"}))
}

fn answer(world: &mut World, request: &Received) -> Reply {
    if let Some(next) = world.next.take() {
        return next;
    }
    if request.header("user-agent").is_empty() {
        return error(403, "Request forbidden by administrative rules.");
    }
    if request.header("x-github-api-version") != "2022-11-28" {
        return error(400, "unsupported API version");
    }
    if request.header("authorization") != format!("Bearer {TOKEN}") {
        return error(401, "Bad credentials");
    }
    let parts: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
    let (is_organization, last) = match parts.as_slice() {
        ["repos", "acme", "crm", "actions", "secrets", last]
        | ["repos", "acme", "crm", "environments", "prod%20eu%2F1", "secrets", last] => (false, *last),
        ["orgs", "acme", "actions", "secrets", last] => (true, *last),
        _ => return error(404, "Not Found"),
    };
    match (&request.method, last) {
        (&Method::GET, "public-key") => {
            let key = STANDARD.encode(world.key.public_key().as_bytes());
            Reply::json(200, &json!({"key_id": world.key_id, "key": key}))
        }
        (&Method::PUT, name) => put(world, request, name, is_organization),
        _ => error(404, "Not Found"),
    }
}

fn put(world: &mut World, request: &Received, name: &str, is_organization: bool) -> Reply {
    let legal = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.to_uppercase().starts_with("GITHUB_");
    let body = request.json();
    let visibility = body["visibility"].as_str();
    let selected = body.get("selected_repository_ids").is_some();
    let shape = match (is_organization, visibility) {
        (false, None) | (true, Some("all" | "private")) => !selected,
        (true, Some("selected")) => selected,
        _ => false,
    };
    if !legal || !shape || body["key_id"] != world.key_id.as_str() {
        return error(422, "Validation Failed");
    }
    let Some(sealed) = body["encrypted_value"].as_str().and_then(|text| STANDARD.decode(text).ok()) else {
        return error(422, "Validation Failed");
    };
    let Ok(opened) = world.key.unseal(&sealed) else { return error(422, "Bad request - the value is not sealed") };
    let new = world.secrets.insert(request.path.clone(), String::from_utf8(opened).unwrap()).is_none();
    Reply::new(if new { 201 } else { 204 }, if new { "{}" } else { "" })
}

fn hook(github: &Github, files: &Files, owner: Owner, values: &[(&str, Field)]) -> GithubSecret {
    let values = values.iter().map(|(name, field)| SecretValue::new(name, *field).unwrap()).collect();
    GithubSecret::new("gh", &github.server.url(""), owner, values, files.write("token", TOKEN), client()).unwrap()
}

fn crm() -> Owner {
    Owner::repository("acme/crm").unwrap()
}

#[tokio::test]
async fn what_github_opens_is_what_the_document_holds() {
    let (github, files) = (github().await, Files::new());
    let values = [("KH_ID", Field::ClientId), ("KH_SECRET", Field::ClientSecret), ("KH_DOCUMENT", Field::Document)];
    let hook = hook(&github, &files, crm(), &values);
    let told = deliver(&hook).await.unwrap();
    assert_eq!(told, "wrote KH_ID, KH_SECRET, KH_DOCUMENT for repository acme/crm");
    deliver(&hook).await.unwrap();
    let world = github.world.lock().unwrap();
    let secret = |name: &str| world.secrets[&format!("/repos/acme/crm/actions/secrets/{name}")].clone();
    assert_eq!(secret("KH_ID"), "the-client-id");
    assert_eq!(secret("KH_SECRET"), CANARY);
    assert_eq!(secret("KH_DOCUMENT").as_bytes(), document().to_json().expose());
    drop(world);
    let bodies: Vec<_> = github.server.received().into_iter().filter(|request| request.method == Method::PUT).collect();
    assert_eq!(bodies.len(), 6);
    assert!(bodies.iter().all(|request| !String::from_utf8_lossy(&request.body).contains(CANARY)));
    assert_ne!(bodies[1].body, bodies[4].body, "each box has a key of its own");
    assert_eq!(
        hook.describe(),
        "writes the GitHub Actions secrets KH_ID (client_id), KH_SECRET (client_secret), KH_DOCUMENT (document) for repository acme/crm"
    );
}

#[tokio::test]
async fn environments_and_organizations() {
    let (github, files) = (github().await, Files::new());
    let environment = Owner::environment("acme/crm", "prod eu/1").unwrap();
    let value = [("KH", Field::ClientSecret)];
    deliver(&hook(&github, &files, environment, &value)).await.unwrap();
    for visibility in [Visibility::All, Visibility::Private, Visibility::Selected(vec![1_296_269, 1_296_280])] {
        let owner = Owner::organization("acme", visibility).unwrap();
        deliver(&hook(&github, &files, owner, &value)).await.unwrap();
    }
    let world = github.world.lock().unwrap();
    let paths: Vec<&str> = world.secrets.keys().map(String::as_str).collect();
    assert_eq!(paths, ["/orgs/acme/actions/secrets/KH", "/repos/acme/crm/environments/prod%20eu%2F1/secrets/KH"]);
    drop(world);
    let last = github.server.received().pop().unwrap().json();
    assert_eq!(last["selected_repository_ids"], json!([1_296_269, 1_296_280]));
}

#[tokio::test]
async fn nothing_is_written_when_a_part_is_missing() {
    let (github, files) = (github().await, Files::new());
    let hook = hook(&github, &files, crm(), &[("A", Field::ClientSecret), ("B", Field::AccessKeySecret)]);
    assert_eq!(refused(deliver(&hook).await), "the document has no access_key_secret");
    let long = CredentialDocument { client_id: Some("x".repeat(48 * 1024 + 1)), ..document() };
    let values = vec![SecretValue::new("A", Field::ClientId).unwrap()];
    let hook = GithubSecret::new("gh", &github.server.url(""), crm(), values, files.write("token", TOKEN), client());
    assert_eq!(refused(hook.unwrap().deliver(&promotion(), &long).await), "client_id is longer than GitHub takes");
    assert!(github.server.received().is_empty());
}

#[tokio::test]
async fn refusals_and_limits() {
    let (github, files) = (github().await, Files::new());
    let hook_of = |owner| hook(&github, &files, owner, &[("A", Field::ClientSecret)]);
    let unknown = Owner::repository("acme/other").unwrap();
    assert!(
        refused(deliver(&hook_of(unknown)).await).contains("GitHub shows no repository acme/other to this token (404)")
    );
    let hook = hook_of(crm());
    let next = |reply| github.world.lock().unwrap().next = Some(reply);
    for (reply, again, told) in [
        (error(403, "Resource not accessible by integration"), false, "needs the permission Secrets"),
        (error(403, "limit").with("x-ratelimit-remaining", "0"), true, "rate limit"),
        (error(403, "secondary limit").with("retry-after", "60"), true, "rate limit"),
        (error(403, "You have exceeded a secondary rate limit. Please wait."), true, "rate limit"),
        (error(403, "You have triggered an abuse detection mechanism."), true, "rate limit"),
        (error(429, "limit").with("retry-after", "60"), true, "429"),
        (error(502, "Server Error"), true, "502"),
        (error(422, "Validation Failed"), false, "422"),
        (Reply::new(301, ""), false, "301"),
        (Reply::json(200, &json!({"key_id": "1"})), true, "holds no public key"),
        (Reply::json(200, &json!({"key_id": "1", "key": "AAAA"})), true, "has not 32 bytes"),
    ] {
        next(reply);
        let result = deliver(&hook).await;
        let reason = if again { transient(result) } else { refused(result) };
        assert!(reason.contains(told), "{reason}");
    }
    files.write("token", "ghp_WRONG");
    assert_eq!(refused(deliver(&hook).await), "GitHub does not accept the token (401)");
    assert!(github.world.lock().unwrap().secrets.is_empty());
}

#[tokio::test]
async fn a_key_that_was_replaced_in_between_is_an_error_and_the_next_attempt_works() {
    let (github, files) = (github().await, Files::new());
    let hook = hook(&github, &files, crm(), &[("A", Field::ClientSecret)]);
    let stale = STANDARD.encode(SecretKey::from([8; 32]).public_key().as_bytes());
    github.world.lock().unwrap().next = Some(Reply::json(200, &json!({"key_id": "568250167242549743", "key": stale})));
    assert!(refused(deliver(&hook).await).contains("finds the secret A invalid (422)"));
    deliver(&hook).await.unwrap();
}

#[test]
fn sealed_boxes_have_the_format_of_libsodium() {
    // Made by PyNaCl 1.6.2 (libsodium): SealedBox(PublicKey of the secret key 07..07).encrypt(b"sealed by libsodium").
    let sealed = STANDARD.decode(include_str!("libsodium-sealed.b64").trim()).unwrap();
    assert_eq!(SecretKey::from([7; 32]).unseal(&sealed).unwrap(), b"sealed by libsodium");
}
