//! Reports of programs that read a secret themselves: who may, what is written, what is refused.

use std::{sync::Mutex, time::Duration};

use kh_core::port::{BoxFuture, Grade, JournalError, Sighting, SightingLog};

use crate::rig::{START, Surface, start};

/// Takes sightings, or not.
#[derive(Default)]
pub(crate) struct FakeJournal {
    pub(crate) written: Mutex<Vec<Sighting>>,
    pub(crate) is_down: Mutex<bool>,
}

impl SightingLog for FakeJournal {
    fn sight(&self, sighting: Sighting) -> BoxFuture<'_, Result<(), JournalError>> {
        Box::pin(async move {
            if *self.is_down.lock().unwrap() {
                return Err(JournalError::Unavailable("down, as the test says".into()));
            }
            self.written.lock().unwrap().push(sighting);
            Ok(())
        })
    }
}

const GOOD: &str = r#"{"profile":"acme","consumer":"crm/eu-1","fingerprint":"0123456789abcdef","generation":4,"last_mint_ok_at":"2026-11-20T23:00:00Z","alive_for":600}"#;

#[tokio::test]
async fn a_report_is_written_as_a_sighting() {
    let rig = start(Surface::Broker).await;
    let reply = rig.post("/v1/pickup", GOOD).await;
    assert_eq!((reply.status, reply.body.as_str()), (204, ""));
    let [holds, seen] = <[Sighting; 2]>::try_from(rig.journal.written.lock().unwrap().clone()).unwrap();
    assert_eq!((holds.grade, holds.at, holds.alive_until), (Grade::Fetched, START, seen.alive_until));
    assert_eq!((seen.credential.as_str(), seen.consumer.as_str()), ("acme", "crm/eu-1"));
    assert_eq!((seen.fingerprint.as_str(), seen.grade), ("0123456789abcdef", Grade::Used));
    assert_eq!(seen.version.unwrap().0, "generation 4");
    assert_eq!(seen.at, START.minus(Duration::from_hours(1)));
    assert_eq!(seen.alive_until, START.plus(Duration::from_mins(10)));
    assert_eq!(rig.platform.fetches(), 0, "a report causes no login");
}

#[tokio::test]
async fn who_and_what_is_refused() {
    let rig = start(Surface::Broker).await;
    let reply = rig.send("POST /v1/pickup", "", GOOD).await;
    assert_eq!((reply.status, reply.code().as_str()), (403, "keyholder.guard.refused"));
    let wrong = "X-Keyholder-Token: wrong\r\n";
    assert_eq!(rig.send("POST /v1/pickup", wrong, GOOD).await.status, 403);
    assert_eq!(rig.get("/v1/pickup").await.status, 405);
    for (body, status, code) in [
        (GOOD.replace("acme", "nobody"), 404, "keyholder.not_found"),
        (GOOD.replace("crm/eu-1", "gateway/host/1-ab"), 400, "keyholder.request.malformed"),
        (GOOD.replace("\"generation\"", "\"client_secret\""), 400, "keyholder.request.malformed"),
        ("{}".to_owned(), 400, "keyholder.request.malformed"),
        (GOOD.replace("crm", &"x".repeat(1024)), 413, "keyholder.request.too_large"),
    ] {
        let reply = rig.post("/v1/pickup", &body).await;
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{body}");
    }
    assert!(rig.journal.written.lock().unwrap().is_empty());
    rig.assert_untouched();
}

#[tokio::test]
async fn a_journal_that_cannot_be_written_is_told_so_that_it_is_reported_again() {
    let rig = start(Surface::Broker).await;
    *rig.journal.is_down.lock().unwrap() = true;
    let reply = rig.post("/v1/pickup", GOOD).await;
    assert_eq!((reply.status, reply.code().as_str()), (503, "keyholder.state.unavailable"));
    assert!(reply.header("retry-after").is_some());
    *rig.journal.is_down.lock().unwrap() = false;
    assert_eq!(rig.post("/v1/pickup", GOOD).await.status, 204);
}
