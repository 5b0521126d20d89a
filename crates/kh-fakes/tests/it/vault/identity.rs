//! Tokens, policies, logins, wrapping, namespaces.

use super::*;

impl World {
    async fn policy(&self, name: &str, rules: &[(&str, &[&str])]) {
        let paths: serde_json::Map<_, _> =
            rules.iter().map(|(path, can)| ((*path).to_owned(), json!({"capabilities": can}))).collect();
        let policy = json!({"path": paths}).to_string();
        self.done("PUT", &format!("sys/policies/acl/{name}"), &json!({"policy": policy})).await;
    }

    async fn log_in(&self, method: &str, body: &Value) -> (u16, Value) {
        let answer = self.ask("POST", &format!("auth/{method}/login"), &[], body).await;
        (answer.status, answer.json())
    }
}

fn token_of(answer: &Value) -> String {
    answer["auth"]["client_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn nothing_is_granted_that_no_policy_grants() {
    let world = world().await;
    world.put("mine/k", "x").await;
    world.policy("app", &[("secret/data/mine/*", &["read", "update"]), ("secret/metadata/mine", &["list"])]).await;
    let token = world.fake.issue_token(&["app"], 60, 60, world.running.control.clock());
    let body = json!({"data": {"v": "y"}});
    for (method, path, status) in [
        ("GET", "secret/data/mine/k", 200),
        ("POST", "secret/data/mine/k", 200),
        // an update is not a creation
        ("POST", "secret/data/mine/new", 403),
        ("DELETE", "secret/data/mine/k", 403),
        ("GET", "secret/data/other", 403),
        ("GET", "secret/metadata/mine/k", 403),
        ("LIST", "secret/metadata/mine/", 200),
        ("LIST", "secret/metadata/", 403),
        ("POST", "secret/destroy/mine/k", 403),
        ("PUT", "sys/policies/acl/app", 403),
        ("GET", "auth/token/lookup-self", 200),
    ] {
        let body = if method == "POST" { &body } else { &Value::Null };
        assert_eq!(world.by(&token, method, path, body).await.0, status, "{method} {path}");
    }
    for bad in ["", "hvs.unknown"] {
        assert_eq!(world.by(bad, "GET", "secret/data/mine/k", &Value::Null).await.0, 403);
    }
    assert_eq!(world.ask("GET", "secret/data/mine/k", &[], &Value::Null).await.status, 403);
    let paths = json!({"paths": ["secret/data/mine/k", "secret/data/other"]});
    let (_, told) = world.by(&token, "POST", "sys/capabilities-self", &paths).await;
    assert_eq!(told["secret/data/mine/k"], json!(["read", "update"]));
    assert_eq!((&told["secret/data/other"], &told["capabilities"]), (&json!(["deny"]), &Value::Null));
    let (_, told) = world.root("POST", "sys/capabilities-self", &json!({"paths": ["any"]})).await;
    assert_eq!((&told["capabilities"], &told["data"]["any"]), (&json!(["root"]), &json!(["root"])));
}

#[tokio::test]
async fn tokens_end_and_are_renewed_up_to_their_longest_life() {
    let world = world().await;
    let clock = world.running.control.clock();
    let token = world.fake.issue_token(&[], 60, 100, clock);
    let renew = async || {
        let (status, answer) = world.by(&token, "POST", "auth/token/renew-self", &json!({})).await;
        (status, answer["auth"]["lease_duration"].as_u64())
    };
    clock.shift(50);
    assert_eq!(renew().await, (200, Some(50)), "100 s after the start it ends, whatever is asked");
    clock.shift(49);
    assert_eq!(renew().await, (200, Some(1)));
    clock.shift(1);
    assert_eq!(renew().await.0, 403);
    let root = world.root("POST", "auth/token/renew-self", &json!({})).await;
    assert_eq!(errors(&root), (400, "lease is not renewable".to_owned()));
    let other = world.fake.issue_token(&[], 60, 100, clock);
    assert_eq!(world.by(&other, "POST", "auth/token/revoke-self", &json!({})).await.0, 204);
    assert_eq!(world.by(&other, "GET", "auth/token/lookup-self", &Value::Null).await.0, 403);
    let lost = world.fake.issue_token(&[], 60, 100, clock);
    world.fake.revoke_tokens();
    assert_eq!(world.by(&lost, "GET", "auth/token/lookup-self", &Value::Null).await.0, 403);
    assert_eq!(world.root("GET", "auth/token/lookup-self", &Value::Null).await.0, 200);
}

#[tokio::test]
async fn an_approle_secret_id_has_its_uses_and_its_time() {
    let world = world().await;
    let role = json!({"token_policies": ["app"], "token_ttl": "20m", "secret_id_num_uses": 2, "secret_id_ttl": "60s"});
    world.done("POST", "auth/approle/role/kh", &role).await;
    let role_id = world.done("GET", "auth/approle/role/kh/role-id", &Value::Null).await["data"]["role_id"].clone();
    let fresh =
        async || world.done("POST", "auth/approle/role/kh/secret-id", &json!({})).await["data"]["secret_id"].clone();
    let secret_id = fresh().await;
    let log_in =
        async |secret_id: &Value| world.log_in("approle", &json!({"role_id": role_id, "secret_id": secret_id})).await;
    let (status, answer) = log_in(&secret_id).await;
    assert_eq!((status, &answer["auth"]["lease_duration"]), (200, &json!(1200)));
    assert_eq!(answer["auth"]["policies"], json!(["default", "app"]));
    assert_eq!(log_in(&secret_id).await.0, 200);
    let invalid = (400, "invalid role or secret ID".to_owned());
    assert_eq!(errors(&log_in(&secret_id).await), invalid, "its two uses are gone");
    let old = fresh().await;
    world.running.control.clock().shift(61);
    assert_eq!(errors(&log_in(&old).await), invalid, "its time is over");
    assert_eq!(errors(&world.log_in("approle", &json!({"role_id": "?", "secret_id": "?"})).await), invalid);
    assert_eq!(errors(&world.log_in("approle", &json!({})).await), (400, "missing role_id".to_owned()));
    let missing = world.log_in("approle", &json!({"role_id": role_id})).await;
    assert_eq!(errors(&missing), (400, "missing secret_id".to_owned()));
}

#[tokio::test]
async fn a_wrapped_answer_is_unwrapped_once_and_in_time() {
    let world = world().await;
    world.done("POST", "auth/approle/role/kh", &json!({"token_policies": "app"})).await;
    let wrap = async || {
        let headers = [("x-vault-token", world.root.as_str()), ("x-vault-wrap-ttl", "60s")];
        let answer = world.ask("POST", "auth/approle/role/kh/secret-id", &headers, &json!({})).await.json();
        assert_eq!((&answer["data"], &answer["wrap_info"]["ttl"]), (&Value::Null, &json!(60)));
        assert_eq!(answer["wrap_info"]["creation_path"], "auth/approle/role/kh/secret-id");
        answer["wrap_info"]["token"].as_str().unwrap().to_owned()
    };
    let unwrap = async |token: &str| world.by(token, "POST", "sys/wrapping/unwrap", &Value::Null).await;
    let token = wrap().await;
    for _ in 0..2 {
        let look = world.ask("POST", "sys/wrapping/lookup", &[], &json!({"token": token})).await;
        assert_eq!(look.json()["data"]["creation_path"], "auth/approle/role/kh/secret-id", "a look costs no use");
    }
    let (status, answer) = unwrap(&token).await;
    assert_eq!(status, 200);
    assert!(answer["data"]["secret_id"].is_string());
    assert_eq!(unwrap(&token).await.0, 403, "a second time it is no token any more");
    let token = wrap().await;
    let (status, _) = world.root("POST", "sys/wrapping/unwrap", &json!({"token": token})).await;
    assert_eq!(status, 200, "another token may unwrap it");
    let again = world.root("POST", "sys/wrapping/unwrap", &json!({"token": token})).await;
    assert_eq!(errors(&again), (400, "wrapping token is not valid or does not exist".to_owned()));
    let look = world.ask("POST", "sys/wrapping/lookup", &[], &json!({"token": token})).await;
    assert_eq!(look.status, 400);
    let late = wrap().await;
    world.running.control.clock().shift(60);
    assert_eq!(unwrap(&late).await.0, 403);
    assert_eq!(unwrap(&world.root).await.0, 400, "root is no wrapping token");
}

#[tokio::test]
async fn workload_tokens_log_in_with_their_role() {
    let world = world().await;
    for method in ["kubernetes", "jwt"] {
        world.done("POST", &format!("auth/{method}/role/kh"), &json!({"token_policies": ["app"]})).await;
        world.fake.accept_jwt(method, "kh", "good.jwt").unwrap();
        let good = world.log_in(method, &json!({"role": "kh", "jwt": "good.jwt"})).await;
        assert_eq!((good.0, &good.1["auth"]["renewable"]), (200, &json!(true)));
        assert!(token_of(&good.1).starts_with("hvs."));
    }
    for (method, role, jwt, status) in [
        ("kubernetes", "kh", "bad.jwt", 403),
        ("kubernetes", "other", "good.jwt", 400),
        ("kubernetes", "", "good.jwt", 400),
        ("jwt", "kh", "bad.jwt", 400),
        ("jwt", "other", "good.jwt", 400),
        ("jwt", "kh", "", 400),
    ] {
        let refused = world.log_in(method, &json!({"role": role, "jwt": jwt})).await;
        assert_eq!(refused.0, status, "{method} {role} {jwt}");
    }
}

#[tokio::test]
async fn namespaces_keep_their_keys_and_policies_apart() {
    let world = world().await;
    world.done("POST", "sys/namespaces/team", &json!({})).await;
    let inside = [("x-vault-token", world.root.as_str()), ("x-vault-namespace", "team/")];
    let body = json!({"data": {"v": "inside"}});
    assert_eq!(world.ask("POST", "secret/data/k", &inside, &body).await.status, 200);
    assert_eq!(world.root("GET", "secret/data/k", &Value::Null).await.0, 404, "the root namespace has no such key");
    assert_eq!(world.root("GET", "team/secret/data/k", &Value::Null).await.0, 200, "the path names it too");
    let nowhere = [("x-vault-token", world.root.as_str()), ("x-vault-namespace", "nowhere")];
    assert_eq!(world.ask("GET", "secret/data/k", &nowhere, &Value::Null).await.status, 404);
    world.policy("outer", &[("secret/data/*", &["read"])]).await;
    let token = world.fake.issue_token(&["outer"], 60, 60, world.running.control.clock());
    let outer = [("x-vault-token", token.as_str()), ("x-vault-namespace", "team")];
    assert_eq!(world.ask("GET", "secret/data/k", &outer, &Value::Null).await.status, 403);
    world.policy("outer", &[("team/secret/data/*", &["read"])]).await;
    assert_eq!(world.ask("GET", "secret/data/k", &outer, &Value::Null).await.status, 200);
}
