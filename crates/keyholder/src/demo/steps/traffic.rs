//! The steps about traffic: a cached token, a killed token, a rate limit.

use std::time::Duration;

use serde_json::json;
use tokio::{task::JoinSet, time::Instant};

use super::{Held, Scene, USERS, ensure, expect_status};

/// Calls in a row of the second step.
const CALLS: usize = 25;

/// Calls at once while the token is killed.
const AT_ONCE: usize = 50;

/// How long the platform takes for each of them, in milliseconds.
const DELAY_MS: u64 = 200;

/// The lowered limit of the story: requests per token, and the window in seconds.
const LOWERED: (u32, u64) = (10, 3);

/// Calls under the lowered limit: more than one window lets through.
const LIMITED_CALLS: usize = 16;

impl Scene<'_> {
    pub(super) async fn cached_token(&mut self) -> Held {
        let once = json!({ "kind": "unauthorized", "code": "bad.credentials" });
        self.sabotage(json!({ "platform": "genesys", "path": USERS, "first": 1 }), once).await?;
        let mark = self.control.mark().await?;
        let mut times = Vec::new();
        for _ in 0..CALLS {
            let begin = Instant::now();
            let answer = self.cast.application.get(&format!("{USERS}?pageSize=1")).await?;
            times.push(begin.elapsed());
            expect_status(&format!("GET {USERS}"), &answer, 200)?;
        }
        times.sort();
        let median = times.get(times.len() / 2).copied().unwrap_or(Duration::ZERO);
        self.narrator.tell(&format!("{CALLS} calls, half of them under {:.1} ms", median.as_secs_f64() * 1000.0));
        let journal = self.control.since(mark).await?;
        let (logins, calls) = (journal.logins(), journal.answered("GET", USERS, 200));
        ensure(logins == 0, || format!("the platform saw {logins} more logins, not 0"))?;
        ensure(calls == CALLS, || format!("the platform saw {calls} calls, not {CALLS}"))?;
        self.narrator.journal(&format!("{calls} calls, no further login"));
        Ok(())
    }

    pub(super) async fn token_killed(&mut self) -> Held {
        // Slow enough that all calls are on their way with the killed token before the first is refused.
        let slow = json!({ "match": { "platform": "genesys", "path": USERS, "first": AT_ONCE },
            "effect": { "kind": "delay", "ms": DELAY_MS } });
        let unable = json!({ "name": "sabotage", "match": { "platform": "genesys", "path": "/oauth/token" },
            "effect": { "kind": "status", "status": 500 } });
        self.control.faults(if self.sabotaged { json!([slow, unable]) } else { json!([slow]) }).await?;
        let mark = self.control.mark().await?;
        let revoked = self.control.revoke(&self.world.sandbox().admin().id).await?;
        ensure(revoked == 1, || format!("the platform held {revoked} tokens of keyholder, not 1"))?;
        self.narrator.tell(&format!("the platform revokes keyholder's token; at once, {AT_ONCE} calls come in"));
        let mut calls = JoinSet::new();
        for _ in 0..AT_ONCE {
            let application = self.cast.application.clone();
            drop(calls.spawn(async move { application.get(&format!("{USERS}?pageSize=1")).await }));
        }
        let mut failed = Vec::new();
        while let Some(call) = calls.join_next().await {
            match call {
                Ok(Ok(answer)) if answer.status == 200 => {}
                Ok(Ok(answer)) => failed.push(format!("{} {}", answer.status, answer.field("code"))),
                Ok(Err(error)) => failed.push(error),
                Err(error) => failed.push(error.to_string()),
            }
        }
        let first = failed.first().cloned().unwrap_or_default();
        ensure(failed.is_empty(), || {
            format!("{} of {AT_ONCE} calls failed in the application ({first})", failed.len())
        })?;
        let journal = self.control.since(mark).await?;
        let (logins, refused) = (journal.logins(), journal.answered("GET", USERS, 401));
        ensure(logins == 1, || format!("the platform saw {logins} logins, not exactly 1"))?;
        ensure(refused > 1, || format!("{refused} calls met the killed token, too few to prove anything"))?;
        self.control.faults(json!([])).await?;
        let platform = self.platform_token("genesys").await?;
        self.cast.platform_tokens.push(platform);
        self.narrator.tell(&format!("{AT_ONCE} of {AT_ONCE} calls: 200"));
        self.narrator
            .journal(&format!("{refused} calls refused with 401, exactly 1 new login, {AT_ONCE} calls served"));
        Ok(())
    }

    pub(super) async fn rate_limit(&mut self) -> Held {
        let usual = self.control.limits().await?;
        let (requests, seconds) = LOWERED;
        let mut lowered = usual.clone();
        if let Some(limits) = lowered.as_object_mut() {
            limits.insert("requests_per_token".to_owned(), requests.into());
            limits.insert("window_seconds".to_owned(), seconds.into());
        }
        let allowed = usual.get("requests_per_token").and_then(serde_json::Value::as_u64).unwrap_or(0);
        self.narrator.tell(&format!(
            "for this step the sandbox's limit is lowered from {allowed} calls per minute to {requests} per {seconds} s"
        ));
        self.control.set_limits(lowered).await?;
        let hours = json!({ "kind": "status", "status": 429, "retry_after": "7200" });
        self.sabotage(json!({ "platform": "genesys", "path": USERS, "first": 1 }), hours).await?;
        let mark = self.control.mark().await?;
        let begin = Instant::now();
        for _ in 0..LIMITED_CALLS {
            let answer = self.cast.application.get(&format!("{USERS}?pageSize=1")).await?;
            expect_status(&format!("GET {USERS}"), &answer, 200)?;
        }
        let took = begin.elapsed().as_secs_f64();
        let journal = self.control.since(mark).await?;
        self.control.set_limits(usual).await?;
        let (limited, served) = (journal.answered("GET", USERS, 429), journal.answered("GET", USERS, 200));
        ensure(limited > 0, || "the limit was never met, so nothing was proven".to_owned())?;
        ensure(served == LIMITED_CALLS, || format!("the platform served {served} calls, not {LIMITED_CALLS}"))?;
        self.narrator
            .tell(&format!("{LIMITED_CALLS} calls, all 200, in {took:.1} s: the application only saw a slower answer"));
        self.narrator
            .journal(&format!("{limited} times 429 with Retry-After, waited out by keyholder; {served} calls served"));
        Ok(())
    }
}
