//! Who keyholder is at the vault, and what is said when that is not accepted.

use http::Method;
use kh_core::port::{SecretTarget, TargetError};
use kh_fakes::Fault;
use kh_store::conformance::target::Bench;
use kh_store_azure::{Auth, KeyVaultTarget, Settings, SetupError};
use serde_json::json;

use crate::support::{Azure, write};

async fn works(azure: &Azure, target: &KeyVaultTarget) {
    let at = azure.fresh_path();
    let (token, document) = write(1, "s");
    target.stage(&at, token, &document).await.unwrap();
    target.promote(&at, token, None).await.unwrap();
    assert!(target.live(&at).await.unwrap().value == document);
}

#[tokio::test]
async fn a_client_secret() {
    let azure = Azure::start().await;
    works(&azure, &azure.target()).await;
    let logins = azure.vault.control.journal().iter().filter(|entry| entry.operation == "login.token").count();
    assert_eq!(logins, 1, "one token serves all calls");
}

#[tokio::test]
async fn a_client_secret_that_is_wrong() {
    let azure = Azure::start().await;
    let target = azure.target_as(azure.by_secret("MARKED-wrong"));
    let refused = target.live(&azure.fresh_path()).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the store did not accept keyholder's identity: no token, the answer was 401 AADSTS7000215"
    );
    let (token, document) = write(1, "s");
    let refused = target.stage(&azure.fresh_path(), token, &document).await.unwrap_err();
    assert!(matches!(refused, TargetError::Unauthenticated(_)), "{refused}");
    assert_eq!(azure.changes(), 0);
}

#[tokio::test]
async fn a_federated_token_of_a_pod() {
    let azure = Azure::start().await;
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    let auth = Auth::WorkloadIdentity {
        tenant: azure.known("tenant"),
        client_id: azure.known("client_id"),
        token_file: token_file.clone(),
    };
    let target = azure.target_as(auth);
    let refused = target.live(&azure.fresh_path()).await.unwrap_err();
    assert!(matches!(refused, TargetError::Unauthenticated(_)), "the file is not there yet: {refused}");
    std::fs::write(&token_file, azure.known("federated_token")).unwrap();
    works(&azure, &target).await;
}

#[tokio::test]
async fn a_managed_identity_of_a_machine() {
    let azure = Azure::start().await;
    let metadata = Some(azure.metadata.url.parse().unwrap());
    for client_id in [None, Some(azure.known("client_id"))] {
        works(&azure, &azure.target_as(Auth::ManagedIdentity { client_id, metadata: metadata.clone() })).await;
    }
    let other = Auth::ManagedIdentity { client_id: Some("another".to_owned()), metadata };
    let refused = azure.target_as(other).live(&azure.fresh_path()).await.unwrap_err();
    assert!(matches!(refused, TargetError::Unauthenticated(_)), "{refused}");
    let asked = azure.metadata.control.journal().iter().filter(|entry| entry.operation == "metadata.token").count();
    assert_eq!(asked, 3);
}

#[tokio::test]
async fn a_token_that_ended_or_was_revoked_is_replaced_at_once() {
    let azure = Azure::start().await;
    let target = azure.target();
    works(&azure, &target).await;
    // The vault's clock runs ahead: by ours the token is still good.
    azure.vault.control.clock().shift(4_000);
    works(&azure, &target).await;
    azure.command("revoke", &json!({}));
    works(&azure, &target).await;
}

#[tokio::test]
async fn a_token_endpoint_that_cannot_be_asked_is_no_bad_identity() {
    let azure = Azure::start().await;
    let target = azure.target();
    azure.vault.control.fault(Fault::DropBefore.once().on("login"));
    let (token, document) = write(1, "s");
    let at = azure.fresh_path();
    let failed = target.stage(&at, token, &document).await.unwrap_err();
    assert!(matches!(failed, TargetError::Unavailable(_)), "nothing was sent to the vault: {failed}");
    target.stage(&at, token, &document).await.unwrap();
}

#[tokio::test]
async fn rights_are_told() {
    use kh_core::port::secret_target::Right;
    let azure = Azure::start().await;
    let target = azure.target();
    works(&azure, &target).await;
    let at = "place-0000".parse().unwrap();
    let found = target.check(&at).await.unwrap();
    assert_eq!((found.read, found.write, found.warnings.len()), (Right::Granted, Right::Unknown, 0), "{found:?}");

    azure.command("rights", &json!({"rights": ["set"]}));
    let found = target.check(&at).await.unwrap();
    assert_eq!((found.live, found.read, found.write), (None, Right::Denied, Right::Denied));
    assert_eq!(found.warnings.len(), 2, "{:?}", found.warnings);
    let refused = target.live(&at).await.unwrap_err();
    assert_eq!(refused.to_string(), "the store does not allow this: Key Vault answered 403 Forbidden AccessDenied");

    azure.command("rights", &json!({"rights": ["get", "list"]}));
    let (token, document) = write(2, "s");
    let refused = target.stage(&at, token, &document).await.unwrap_err();
    assert!(matches!(refused, TargetError::Denied(_)), "{refused}");
}

/// A list's next page, or anything else in an answer, cannot lead the token elsewhere.
#[tokio::test]
async fn a_token_goes_to_the_vault_alone() {
    let azure = Azure::start().await;
    let target = azure.target();
    works(&azure, &target).await;
    let elsewhere = azure.metadata.url.clone();
    let body = json!({"value": [], "nextLink": format!("{elsewhere}/secrets?api-version=7.4")}).to_string();
    azure.vault.control.fault(Fault::Answer { status: 200, body }.once().on("secrets.list"));
    let refused = target.list("", 10).await.unwrap_err();
    assert!(matches!(refused, TargetError::Unusable(_)), "{refused}");
    assert!(azure.metadata.control.journal().is_empty(), "the other address was not asked");
}

#[tokio::test]
async fn settings_that_cannot_work() {
    let azure = Azure::start().await;
    let made = |vault: &str, auth: Auth| {
        let settings = Settings { vault: vault.parse().unwrap(), authority: None, auth };
        KeyVaultTarget::new(settings, azure.http.clone())
    };
    let refused = made("http://acme.vault.azure.net", azure.by_secret("s")).unwrap_err();
    assert!(matches!(refused, SetupError::Vault), "{refused}");
    let nobody = Auth::ClientSecret {
        tenant: "not a tenant!".to_owned(),
        client_id: "c".to_owned(),
        secret: kh_core::SecretString::copied("MARKED"),
    };
    let refused = made("https://acme.vault.azure.net", nobody).unwrap_err();
    assert!(matches!(&refused, SetupError::Identity(_)) && !refused.to_string().contains("MARKED"), "{refused}");
    assert!(azure.vault.control.journal().is_empty());
    let (status, _) = azure.ask_json(Method::GET, "/secrets", None).await;
    assert_eq!(status, 200);
}
