//! SIGKILL while tokens are revoked: what was acknowledged is revoked after the next start, in both spellings. This
//! binary starts itself again with a role in the environment; the test [`entry`] plays it and is empty without one.

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use kh_core::{ManualClock, revocation::RevocationTarget};
use kh_inbound::{Bounds, RevocationOrder, Verifier, VerifierConfig};
use tokio::runtime::Handle;

use crate::support::{ISS, Keys, START, Signer, by_keys, carry_out, state_in};

const FOLDER: &str = "KEYHOLDER_TEST_REVOKING_IN";

/// Kills in one run.
const KILLS: usize = 12;

#[test]
fn entry() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    // the harness prints the test's name without a line break
    println!();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async move {
        let verifier = verifier_in(Path::new(&folder)).await;
        for number in 0_u32.. {
            let id = format!("{}-{number}", std::process::id());
            let target = RevocationTarget::TokenId { issuer: ISS.to_owned(), id: id.clone() };
            carry_out(&verifier, &RevocationOrder::Of(target, START), START).await.unwrap();
            println!("KH done {id}");
        }
    });
}

async fn verifier_in(folder: &Path) -> Verifier {
    let clock = Arc::new(ManualClock::at(START));
    let store = state_in(folder, ManualClock::at(START));
    let signer = Signer::new("k");
    let config = VerifierConfig::new(vec![by_keys(Keys::holding(&[&signer]), Bounds::REMOTE)]);
    let verifier = Verifier::new(config, store, clock, Handle::current()).unwrap();
    verifier.load().await.unwrap();
    verifier
}

/// What a child acknowledged before it was killed.
fn run_and_kill(folder: &Path, after: usize) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child::entry", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let (mut text, mut done) = (Vec::new(), 0);
    while done < after {
        let start = text.len();
        let read = output.read_until(b'\n', &mut text).unwrap();
        assert!(read > 0, "the child ended by itself: {}", String::from_utf8_lossy(&text));
        done += usize::from(text[start..].starts_with(b"KH done "));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    output.read_to_end(&mut text).unwrap();
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    text.truncate(whole);
    let text = String::from_utf8(text).unwrap();
    text.lines().filter_map(|line| line.strip_prefix("KH done ").map(str::to_owned)).collect()
}

#[tokio::test]
async fn killed_in_the_middle_nothing_that_was_acknowledged_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..KILLS {
        acknowledged.extend(run_and_kill(folder.path(), 1 + round * 3 % 11));
    }
    assert!(acknowledged.len() >= KILLS);
    let clock = ManualClock::at(START);
    let signer = Signer::new("k");
    let config = VerifierConfig::new(vec![by_keys(Keys::holding(&[&signer]), Bounds::REMOTE)]);
    let store = state_in(folder.path(), clock.clone());
    let verifier = Verifier::new(config, store, Arc::new(clock.clone()), Handle::current()).unwrap();
    verifier.load().await.unwrap();
    verifier.renew_keys().await;
    for id in &acknowledged {
        let token = signer.token("c", id, 3600);
        let denied = verifier.verify(token.as_bytes(), kh_core::Clock::now(&clock)).await.unwrap_err();
        assert_eq!(denied.reason.as_str(), "revoked", "{id}");
    }
    let other = signer.token("c", "other", 3600);
    assert!(verifier.verify(other.as_bytes(), kh_core::Clock::now(&clock)).await.is_ok());
}
