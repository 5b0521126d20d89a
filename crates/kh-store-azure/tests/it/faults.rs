//! Every request of every change fails in every way, and the same call again ends as if nothing had happened.

use std::collections::BTreeMap;

use kh_core::{
    SecretBytes,
    port::{SecretTarget, TargetError},
    rotation::{SecretPath, VersionId, WriteToken},
};
use kh_fakes::Fault;
use kh_store::conformance::target::Bench;
use kh_store_azure::KeyVaultTarget;

use crate::support::{Azure, write};

/// One change, as a run of the rotator makes it.
#[derive(Clone, Copy, Debug)]
enum Change {
    Stage,
    Promote,
    Unstage,
}

async fn change(
    kind: Change,
    target: &KeyVaultTarget,
    at: &SecretPath,
    token: WriteToken,
    document: &SecretBytes,
    planned: &VersionId,
) -> Result<(), TargetError> {
    match kind {
        Change::Stage => target.stage(at, token, document).await,
        Change::Promote => target.promote(at, token, Some(planned)).await.map(drop),
        Change::Unstage => target.unstage(at, token).await,
    }
}

fn all_faults() -> Vec<Fault> {
    vec![
        Fault::DropBefore,
        Fault::DropAfter,
        Fault::FailBefore,
        Fault::FailAfter,
        Fault::Forbid,
        Fault::Throttle { retry_after_seconds: Some(3) },
    ]
}

/// Whether the error is the honest one for this fault.
fn honest(kind: Change, error: &TargetError, fault: &Fault, operation: &str) -> bool {
    let writes = ["secrets.set", "secrets.update"].contains(&operation);
    match (error, fault) {
        (TargetError::Denied(_), Fault::Forbid) | (TargetError::Throttled(_), Fault::Throttle { .. }) => true,
        // or a read after the write failed: the write is done and was not seen
        (TargetError::Unknown(_), _) => writes || matches!(kind, Change::Promote),
        (TargetError::Unavailable(_), Fault::DropBefore | Fault::DropAfter | Fault::FailBefore | Fault::FailAfter) => {
            !writes
        }
        _ => false,
    }
}

#[tokio::test]
async fn a_change_that_failed_anywhere_is_completed_by_the_same_call() {
    let azure = Azure::start().await;
    let target = azure.target();
    let mut number = 0;
    let mut reached: BTreeMap<String, u32> = BTreeMap::new();
    for kind in [Change::Stage, Change::Promote, Change::Unstage] {
        for fault in all_faults() {
            for request in 0.. {
                number += 2;
                let at = azure.fresh_path();
                let (old, first) = write(number, "old");
                target.stage(&at, old, &first).await.unwrap();
                let planned = target.promote(&at, old, None).await.unwrap();
                let (new, second) = write(number + 1, "new");
                if !matches!(kind, Change::Stage) {
                    target.stage(&at, new, &second).await.unwrap();
                }
                azure.vault.control.forget();
                azure.vault.control.fault(fault.clone().once().after(request));
                let ended = change(kind, &target, &at, new, &second, &planned).await;
                let asked = azure.vault.control.journal();
                azure.vault.control.heal();
                let Some(hit) = asked.get(usize::try_from(request).unwrap()) else {
                    assert!(ended.is_ok(), "no request was hit: {ended:?}");
                    break;
                };
                *reached.entry(format!("{kind:?} {} {fault:?}", hit.operation)).or_default() += 1;
                if let Err(error) = &ended {
                    assert!(
                        honest(kind, error, &fault, &hit.operation),
                        "{kind:?} {fault:?} at {}: {error}",
                        hit.operation
                    );
                }
                let consumed = azure.consumer_read(&at).await.unwrap();
                assert!(
                    consumed == first || matches!(kind, Change::Promote) && consumed == second,
                    "whole, old or new"
                );
                change(kind, &target, &at, new, &second, &planned).await.unwrap();
                settled(&azure, &target, kind, &at, (old, &first), (new, &second)).await;
            }
        }
    }
    for kind in ["Stage secrets.get", "Stage secrets.set", "Promote secrets.set", "Promote secrets.versions"] {
        let hits: u32 = reached.iter().filter(|(name, _)| name.starts_with(kind)).map(|(_, count)| count).sum();
        assert!(hits >= 6, "{kind} was hit by each fault: {reached:?}");
    }
    assert!(reached.keys().any(|name| name.starts_with("Unstage secrets.update")), "{reached:?}");
}

/// The state after the call, whatever happened before.
async fn settled(
    azure: &Azure,
    target: &KeyVaultTarget,
    kind: Change,
    at: &SecretPath,
    (old, first): (WriteToken, &SecretBytes),
    (new, second): (WriteToken, &SecretBytes),
) {
    let live = target.live(at).await.unwrap();
    let (token, document) = if matches!(kind, Change::Promote) { (new, second) } else { (old, first) };
    assert!(live.value == *document);
    assert!(azure.consumer_read(at).await.unwrap() == *document);
    assert_eq!(target.promote(at, token, None).await.unwrap(), live.version, "it is live");
    let staged = target.staged(at, new).await.unwrap();
    match kind {
        Change::Stage => assert!(staged.as_ref() == Some(second)),
        Change::Promote | Change::Unstage => {
            target.unstage(at, new).await.unwrap();
            assert!(target.staged(at, new).await.unwrap().is_none());
        }
    }
    let versions = azure.tags(at.as_str()).await;
    let written = versions.iter().filter(|tags| tags["kh-write"] == new.to_string()).count();
    let expected = usize::from(matches!(kind, Change::Promote));
    assert_eq!(written, expected, "the live name has each write once");
}

#[tokio::test]
async fn a_wait_that_the_vault_asks_for_is_passed_on() {
    let azure = Azure::start().await;
    let target = azure.target();
    let at = azure.fresh_path();
    azure.vault.control.fault(Fault::Throttle { retry_after_seconds: Some(7) }.once().on("secrets.get"));
    let throttled = target.live(&at).await.unwrap_err();
    assert!(matches!(throttled, TargetError::Throttled(Some(wait)) if wait.as_secs() == 7), "{throttled}");
}

/// The vault says by its own words that it did nothing; a balancer before it does not know.
#[tokio::test]
async fn a_503_is_the_vaults_word_or_a_balancers() {
    let azure = Azure::start().await;
    let target = azure.target();
    let at = azure.fresh_path();
    let (one, first) = write(1, "one");
    target.stage(&at, one, &first).await.unwrap();
    let version = target.promote(&at, one, None).await.unwrap();
    let (two, second) = write(2, "two");
    target.stage(&at, two, &second).await.unwrap();
    let own = r#"{"error":{"code":"ServiceUnavailable","message":"x"}}"#;
    for (body, is_known) in [(own, true), ("<html>503</html>", false), ("", false)] {
        let fault = Fault::Answer { status: 503, body: body.to_owned() };
        azure.vault.control.fault(fault.clone().once().on("secrets.set"));
        let ended = target.promote(&at, two, Some(&version)).await.unwrap_err();
        assert_eq!(matches!(ended, TargetError::Unavailable(_)), is_known, "{body}: {ended}");
        assert_eq!(matches!(ended, TargetError::Unknown(_)), !is_known, "{body}: {ended}");
        azure.vault.control.fault(fault.once().on("secrets.get"));
        let ended = target.live(&at).await.unwrap_err();
        assert!(matches!(ended, TargetError::Unavailable(_)), "a read changes nothing: {ended}");
    }
    target.promote(&at, two, Some(&version)).await.unwrap();
    assert_eq!(azure.tags(at.as_str()).await.len(), 2, "it was written once");
}

/// A vault behind a firewall answers 403 with a code of its own: the right is there, the address is not.
#[tokio::test]
async fn a_firewall_in_the_middle_is_told_by_its_code() {
    let azure = Azure::start().await;
    let target = azure.target();
    let at = azure.fresh_path();
    let (one, first) = write(1, "one");
    target.stage(&at, one, &first).await.unwrap();
    let body = r#"{"error":{"code":"Forbidden","innererror":{"code":"ForbiddenByFirewall"},"message":"10.1.2.3"}}"#;
    azure.vault.control.fault(Fault::Answer { status: 403, body: body.to_owned() }.once().on("secrets.set"));
    let denied = target.promote(&at, one, None).await.unwrap_err();
    assert!(
        matches!(&denied, TargetError::Denied(why) if why.contains("ForbiddenByFirewall") && !why.contains("10.1")),
        "{denied}"
    );
    assert!(matches!(target.live(&at).await, Err(TargetError::NotFound(_))));
    target.promote(&at, one, None).await.unwrap();
}
