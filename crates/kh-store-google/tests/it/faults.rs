//! Every request of every change fails in every way, and the same call again ends as if nothing had happened.

use std::collections::BTreeMap;

use kh_core::{
    SecretBytes,
    port::{SecretTarget, TargetError},
    rotation::{SecretPath, VersionId, WriteToken},
};
use kh_fakes::Fault;
use kh_store::conformance::target::Bench;
use kh_store_google::SecretManagerTarget;

use crate::support::{Google, write};

/// One change, as a run of the rotator makes it.
#[derive(Clone, Copy, Debug)]
enum Change {
    Stage,
    Promote,
    Unstage,
}

async fn change(
    kind: Change,
    target: &SecretManagerTarget,
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
fn honest(error: &TargetError, fault: &Fault, operation: &str) -> bool {
    let writes = ["secrets.add", "secrets.patch", "versions.disable"].contains(&operation);
    match (error, fault) {
        (TargetError::Denied(_), Fault::Forbid) | (TargetError::Throttled(_), Fault::Throttle { .. }) => true,
        (TargetError::Unknown(_), _) => writes,
        (TargetError::Unavailable(_), Fault::DropBefore | Fault::DropAfter | Fault::FailBefore | Fault::FailAfter) => {
            !writes
        }
        _ => false,
    }
}

#[tokio::test]
async fn a_change_that_failed_anywhere_is_completed_by_the_same_call() {
    let google = Google::start().await;
    let target = google.target().await;
    let mut number = 0;
    let mut reached: BTreeMap<String, u32> = BTreeMap::new();
    for kind in [Change::Stage, Change::Promote, Change::Unstage] {
        for fault in all_faults() {
            for request in 0.. {
                number += 2;
                let at = google.fresh_path();
                let (old, first) = write(number, "old");
                target.stage(&at, old, &first).await.unwrap();
                let planned = target.promote(&at, old, None).await.unwrap();
                let (new, second) = write(number + 1, "new");
                if !matches!(kind, Change::Stage) {
                    target.stage(&at, new, &second).await.unwrap();
                }
                google.running.control.forget();
                google.running.control.fault(fault.clone().once().after(request));
                let ended = change(kind, &target, &at, new, &second, &planned).await;
                let asked = google.running.control.journal();
                google.running.control.heal();
                let Some(hit) = asked.get(usize::try_from(request).unwrap()) else {
                    assert!(ended.is_ok(), "no request was hit: {ended:?}");
                    break;
                };
                *reached.entry(format!("{kind:?} {} {fault:?}", hit.operation)).or_default() += 1;
                if let Err(error) = &ended {
                    assert!(honest(error, &fault, &hit.operation), "{kind:?} {fault:?} at {}: {error}", hit.operation);
                }
                let consumed = google.consumer_read(&at).await.unwrap();
                assert!(
                    consumed == first || matches!(kind, Change::Promote) && consumed == second,
                    "whole, old or new"
                );
                // another process, which remembers nothing
                let target = google.target().await;
                change(kind, &target, &at, new, &second, &planned).await.unwrap();
                settled(&google, &target, kind, &at, (old, &first), (new, &second)).await;
            }
        }
    }
    for kind in [
        "Stage secrets.add",
        "Stage secrets.get",
        "Promote secrets.patch",
        "Promote versions.access",
        "Unstage versions.disable",
    ] {
        let hits: u32 = reached.iter().filter(|(name, _)| name.starts_with(kind)).map(|(_, count)| count).sum();
        assert!(hits >= 6, "{kind} was hit by each fault: {reached:?}");
    }
}

/// The state after the call, whatever happened before.
async fn settled(
    google: &Google,
    target: &SecretManagerTarget,
    kind: Change,
    at: &SecretPath,
    (old, first): (WriteToken, &SecretBytes),
    (new, second): (WriteToken, &SecretBytes),
) {
    let live = target.live(at).await.unwrap();
    let (token, document) = if matches!(kind, Change::Promote) { (new, second) } else { (old, first) };
    assert!(live.value == *document);
    assert!(google.consumer_read(at).await.unwrap() == *document);
    assert_eq!(target.promote(at, token, None).await.unwrap(), live.version, "it is live");
    let staged = target.staged(at, new).await.unwrap();
    match kind {
        Change::Stage => assert!(staged.as_ref() == Some(second)),
        Change::Promote | Change::Unstage => {
            target.unstage(at, new).await.unwrap();
            assert!(target.staged(at, new).await.unwrap().is_none());
        }
    }
    let counts = (google.count(at, "ENABLED").await, google.count(at, "DISABLED").await);
    let expected = if matches!(kind, Change::Unstage) { (1, 1) } else { (2, 0) };
    assert_eq!(counts, expected, "each write is one version");
}

/// A document goes to the configured address and nowhere else, whatever that answers.
#[tokio::test]
async fn no_redirect_takes_a_document_elsewhere() {
    use kh_store_google::{Auth, Settings};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let google = Google::start().await;
    let elsewhere = google.running.url.clone();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let redirecting = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = vec![0; 64 * 1024];
            let length = stream.read(&mut head).await.unwrap();
            let text = String::from_utf8_lossy(&head[..length]).into_owned();
            let path = text.split(' ').nth(1).unwrap_or_default();
            let answer = format!(
                "HTTP/1.1 307 Temporary Redirect\r\nlocation: {elsewhere}{path}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
            drop(stream.write_all(answer.as_bytes()).await);
        }
    });
    let auth = Auth::Metadata { endpoint: Some(google.running.url.parse().unwrap()) };
    let settings = Settings { endpoint: Some(endpoint.parse().unwrap()), ..google.settings(auth) };
    let target = SecretManagerTarget::new(settings).await.unwrap();
    let at = google.fresh_path();
    let (token, document) = write(1, "MARKED-secret");
    assert!(target.stage(&at, token, &document).await.is_err());
    assert!(target.live(&at).await.is_err());
    assert!(target.promote(&at, token, None).await.is_err());
    redirecting.abort();
    let asked = google.running.control.journal();
    assert!(asked.iter().all(|entry| entry.operation == "metadata.token"), "the redirect was not followed");
    assert!(google.target().await.stage(&at, token, &document).await.is_ok(), "the place itself is usable");
}
