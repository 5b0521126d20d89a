//! Logins: each kind, renewal at two thirds, loss, wrapped secret ids that somebody else has used.

use kh_core::port::{SecretTarget, TargetError};
use kh_fakes::Fault;
use kh_store_vault::{Auth, VaultStore};
use serde_json::{Value, json};

use crate::world::{World, place, world, write};

impl World {
    async fn approle(&self, uses: u64) -> String {
        let role = json!({
            "token_policies": ["keyholder"], "token_ttl": 900, "token_max_ttl": 3600, "secret_id_num_uses": uses,
        });
        self.root("POST", "auth/approle/role/kh", &[], &role).await;
        let answer = self.root("GET", "auth/approle/role/kh/role-id", &[], &Value::Null).await;
        answer["data"]["role_id"].as_str().unwrap().to_owned()
    }

    async fn secret_id(&self) -> String {
        let answer = self.root("POST", "auth/approle/role/kh/secret-id", &[], &json!({})).await;
        answer["data"]["secret_id"].as_str().unwrap().to_owned()
    }

    async fn wrapped_secret_id(&self) -> String {
        let wrap = [("x-vault-wrap-ttl", "600")];
        let answer = self.root("POST", "auth/approle/role/kh/secret-id", &wrap, &json!({})).await;
        answer["wrap_info"]["token"].as_str().unwrap().to_owned()
    }

    fn approle_store(&self, role_id: &str, content: &str, wrapped: bool) -> VaultStore {
        let secret_id_file = self.file("secret-id", content);
        let (mount, role_id) = ("approle".to_owned(), role_id.to_owned());
        self.store_with(Auth::AppRole { mount, role_id, secret_id_file, wrapped })
    }
}

async fn works(store: &VaultStore) -> Result<(), TargetError> {
    match store.live(&place("nothing/there")).await {
        Err(TargetError::NotFound(_)) => Ok(()),
        Err(error) => Err(error),
        Ok(_) => panic!("nothing is there"),
    }
}

fn logins(asked: &[String]) -> (usize, usize) {
    let count = |operation: &str| asked.iter().filter(|asked| *asked == operation).count();
    (count("auth.login"), count("auth.renew-self"))
}

#[tokio::test]
async fn approle_logs_in_once_and_renews_after_two_thirds() {
    let world = world().await;
    let role_id = world.approle(0).await;
    let store = world.approle_store(&role_id, &world.secret_id().await, false);
    world.asked();
    for _ in 0..3 {
        works(&store).await.unwrap();
    }
    assert_eq!(logins(&world.asked()), (1, 0), "one login for all");
    world.advance(599);
    works(&store).await.unwrap();
    assert_eq!(logins(&world.asked()), (0, 0), "two thirds of 900 s are not over");
    world.advance(1);
    works(&store).await.unwrap();
    works(&store).await.unwrap();
    assert_eq!(logins(&world.asked()), (0, 1));
    world.advance(901);
    works(&store).await.unwrap();
    assert_eq!(logins(&world.asked()), (1, 0), "what has ended is not renewed");
}

#[tokio::test]
async fn near_its_longest_life_a_token_is_replaced_by_a_new_login() {
    let world = world().await;
    let role_id = world.approle(0).await;
    let store = world.approle_store(&role_id, &world.secret_id().await, false);
    works(&store).await.unwrap();
    let mut sums = (0, 0);
    for _ in 0..100 {
        world.advance(60);
        store.refresh().await.unwrap();
        works(&store).await.unwrap();
        let (login, renewal) = logins(&world.asked());
        sums = (sums.0 + login, sums.1 + renewal);
    }
    assert!((2..=4).contains(&sums.0), "6000 s of tokens that live 3600 s at most: {sums:?}");
    assert!((6..=12).contains(&sums.1), "{sums:?}");
}

#[tokio::test]
async fn a_renewal_that_does_not_get_through_is_tried_again_while_the_token_lives() {
    let world = world().await;
    let role_id = world.approle(1).await;
    let store = world.approle_store(&role_id, &world.secret_id().await, false);
    works(&store).await.unwrap();
    world.advance(700);
    world.running.control.fault(Fault::FailBefore.once().on("auth.renew-self"));
    world.asked();
    works(&store).await.unwrap();
    works(&store).await.unwrap();
    assert_eq!(logins(&world.asked()), (0, 2));
}

#[tokio::test]
async fn a_lost_token_is_replaced_and_the_call_done() {
    let world = world().await;
    let role_id = world.approle(0).await;
    let store = world.approle_store(&role_id, &world.secret_id().await, false);
    let (token, document) = write(1);
    store.stage(&place("acme"), token, &document).await.unwrap();
    world.fake.revoke_tokens();
    store.promote(&place("acme"), token, None).await.unwrap();
    world.fake.revoke_tokens();
    assert_eq!(store.live(&place("acme")).await.unwrap().version.0, "1");
}

#[tokio::test]
async fn a_wrapped_secret_id_is_unwrapped_once_and_kept() {
    let world = world().await;
    let role_id = world.approle(0).await;
    let wrapped = world.wrapped_secret_id().await;
    let store = world.approle_store(&role_id, &format!("{wrapped}\n"), true);
    works(&store).await.unwrap();
    world.fake.revoke_tokens();
    works(&store).await.unwrap();
    let asked = world.asked();
    assert_eq!(asked.iter().filter(|asked| *asked == "sys.wrapping.unwrap").count(), 1);
    world.approle_again(&store).await;
}

impl World {
    /// A new wrapped secret id in the file is taken when the old one's are used up.
    async fn approle_again(&self, store: &VaultStore) {
        self.fake.revoke_tokens();
        let fresh = self.wrapped_secret_id().await;
        self.file("secret-id", &fresh);
        works(store).await.unwrap();
        assert_eq!(self.asked().iter().filter(|asked| *asked == "sys.wrapping.unwrap").count(), 1);
    }
}

#[tokio::test]
async fn a_wrapped_secret_id_that_somebody_else_used_is_told() {
    let world = world().await;
    let role_id = world.approle(1).await;
    let wrapped = world.wrapped_secret_id().await;
    world.root("POST", "sys/wrapping/unwrap", &[], &json!({"token": wrapped})).await;
    let store = world.approle_store(&role_id, &wrapped, true);
    let Err(TargetError::Unauthenticated(text)) = works(&store).await else { panic!("it must be refused") };
    assert!(text.contains("somebody else"), "{text}");

    // a wrapped answer of another endpoint, planted in the file, is not even unwrapped
    let wrap = [("x-vault-wrap-ttl", "600")];
    world.root("POST", "auth/approle/role/other", &[], &json!({"token_policies": ["keyholder"]})).await;
    let planted = world.root("POST", "auth/approle/role/other/secret-id", &wrap, &json!({})).await;
    let planted = planted["wrap_info"]["token"].as_str().unwrap().to_owned();
    let auth = Auth::AppRole {
        mount: "elsewhere".to_owned(),
        role_id,
        secret_id_file: world.file("planted", &planted),
        wrapped: true,
    };
    world.asked();
    let Err(TargetError::Unauthenticated(text)) = works(&world.store_with(auth)).await else { panic!("refused") };
    assert!(text.contains("not made by"), "{text}");
    assert!(!world.asked().contains(&"sys.wrapping.unwrap".to_owned()));
}

#[tokio::test]
async fn a_wrapped_secret_id_whose_answer_was_lost_is_no_theft() {
    let world = world().await;
    let role_id = world.approle(0).await;
    let wrapped = world.wrapped_secret_id().await;
    let store = world.approle_store(&role_id, &wrapped, true);
    world.running.control.fault(Fault::DropAfter.once().on("sys.wrapping.unwrap"));
    assert!(works(&store).await.is_err());
    for _ in 0..2 {
        let Err(TargetError::Unauthenticated(text)) = works(&store).await else { panic!("it must be refused") };
        assert!(text.contains("keyholder asked for it") && !text.contains("somebody else"), "{text}");
    }
    // after a restart nobody knows who it was
    let Err(TargetError::Unauthenticated(text)) = works(&world.approle_store(&role_id, &wrapped, true)).await else {
        panic!("it must be refused")
    };
    assert!(text.contains("once per start") && text.contains("somebody else"), "{text}");
    world.asked();
    world.approle_again(&store).await;

    // somebody is quicker between the look and the use
    let wrapped = world.wrapped_secret_id().await;
    let store = world.approle_store(&role_id, &wrapped, true);
    let refusal = Fault::Answer { status: 400, body: "{}".to_owned() };
    world.running.control.fault(refusal.once().on("sys.wrapping.unwrap"));
    assert!(works(&store).await.is_err());
    world.root("POST", "sys/wrapping/unwrap", &[], &json!({"token": wrapped})).await;
    let Err(TargetError::Unauthenticated(text)) = works(&store).await else { panic!("it must be refused") };
    assert!(text.contains("somebody else"), "{text}");
}

#[tokio::test]
async fn workloads_log_in_with_the_token_that_is_in_the_file_now() {
    let world = world().await;
    for method in ["kubernetes", "jwt"] {
        let role = json!({"token_policies": ["keyholder"], "token_ttl": 900});
        world.root("POST", &format!("auth/{method}/role/kh"), &[], &role).await;
        world.fake.accept_jwt(method, "kh", "second.jwt").unwrap();
        let token_file = world.file("jwt", "first.jwt");
        let auth = Auth::Workload { mount: method.to_owned(), role: "kh".to_owned(), token_file };
        let store = world.store_with(auth);
        let refused = works(&store).await;
        assert!(matches!(refused, Err(TargetError::Unauthenticated(_))), "{refused:?}");
        world.file("jwt", "second.jwt\n");
        works(&store).await.unwrap();
    }
}

#[tokio::test]
async fn a_token_file_is_read_anew_when_its_token_is_lost() {
    let world = world().await;
    let store = world.store();
    works(&store).await.unwrap();
    world.fake.revoke_tokens();
    let refused = works(&store).await;
    assert!(
        matches!(&refused, Err(TargetError::Unauthenticated(text)) if text.contains("still the same")),
        "{refused:?}"
    );
    drop(world.token_file(&["keyholder"]));
    works(&store).await.unwrap();
}

#[tokio::test]
async fn files_that_are_no_token_are_refused_without_telling_them() {
    let world = world().await;
    for content in ["", "two words", "hunter2\u{e9}", &"x".repeat(20_000)] {
        let store = world.store_with(Auth::TokenFile(world.file("odd", content)));
        let Err(TargetError::Unauthenticated(text)) = works(&store).await else { panic!("it must be refused") };
        assert!(content.is_empty() || !text.contains(content), "{text}");
    }
    let missing = world.store_with(Auth::TokenFile("/nowhere/token".into()));
    assert!(matches!(works(&missing).await, Err(TargetError::Unauthenticated(_))));
}

#[tokio::test]
async fn logins_under_way_at_once_are_one() {
    let world = world().await;
    let role_id = world.approle(1).await;
    let store = world.approle_store(&role_id, &world.secret_id().await, false);
    world.asked();
    let (one, two, three) = tokio::join!(works(&store), works(&store), works(&store));
    one.and(two).and(three).unwrap();
    assert_eq!(logins(&world.asked()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn an_idle_store_keeps_a_login_that_it_could_not_repeat() {
    let world = world().await;
    let role_id = world.approle(1).await;
    let store = world.approle_store(&role_id, &world.secret_id().await, false);
    tokio::select! {
        never = store.keep_session("vault") => match never {},
        () = async {
            for _ in 0..50 {
                tokio::time::sleep(std::time::Duration::from_secs(61)).await;
                world.advance(61);
            }
        } => {}
    }
    assert!(works(&store).await.is_ok(), "after 3050 s idle with a single-use secret id");
}
