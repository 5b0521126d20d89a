//! The behaviour of the core as data: a script of events on the left, what the core answers on the right.
//!
//! Script words: `?` a caller asks, `?30` with `min_ttl` 30 s; `read:a@2` the store has document `a` in version 2;
//! `ok:T/100` the fetch brings token `T` that lives 100 s (`okr:` with a refresh token); `fail:WHY[:RETRY_AFTER]`;
//! `late:T/100` and `late:fail` the same from the attempt before; `kill:T` a 401 for `T`; `ver:2` the store has
//! version 2; `renew` the token is due now; `used` the token was used; `+5` both clocks move 5 s, `w+5` and `w-5` the wall clock alone, `m+5` the
//! monotonic one alone. An `ok` or `fail` without a `read` reads `a@1` first and says nothing about it.

use kh_core::{Now, Sha256, UnixMillis};

use super::*;

/// A wall time to start from: 2026-11-01.
const START: u64 = 1_793_491_200_000;

pub(super) fn digest(name: &str) -> Sha256 {
    Sha256::of(name.as_bytes())
}

struct Script {
    core: TokenCore,
    now: Now,
    order: FetchOrder,
    was_read: bool,
    answers: Vec<String>,
}

fn span(span: Duration) -> String {
    if span.subsec_millis() == 0 { format!("{}s", span.as_secs()) } else { format!("{}ms", span.as_millis()) }
}

impl Script {
    fn new(policy: TokenPolicy) -> Self {
        let now = Now { wall: UnixMillis(START), mono: Duration::from_secs(1000) };
        let (order, answers) = (FetchOrder { attempt: 0 }, Vec::new());
        Self { core: TokenCore::new(policy), now, order, was_read: false, answers }
    }

    fn ask(&mut self, min_ttl: Duration) -> String {
        let decision = self.core.decide(self.now, Want { min_ttl });
        if let Decision::Fetch(order) | Decision::ServeAndFetch(order) = decision {
            (self.order, self.was_read) = (order, false);
        }
        let generation = self.core.token().map_or(0, |token| token.generation);
        match decision {
            Decision::Serve => format!("serve{generation}"),
            Decision::ServeAndFetch(_) => format!("serve{generation}+fetch"),
            Decision::Fetch(_) => "fetch".into(),
            Decision::Wait => "wait".into(),
            Decision::Hold(wait) => format!("hold:{}", span(wait)),
            Decision::Refuse(Refusal::TtlUnsatisfiable { longest }) => format!("ttl<={}", span(longest)),
            Decision::Refuse(Refusal::Rejected { retry_in }) => format!("rejected:{}", span(retry_in)),
            Decision::Refuse(Refusal::RateLimited { retry_in }) => format!("limited:{}", span(retry_in)),
            Decision::Refuse(Refusal::Unavailable { cause, retry_in }) => {
                format!("{}:{}", format!("{cause:?}").to_lowercase(), span(retry_in))
            }
        }
    }

    fn read(&mut self, document: &str) -> String {
        self.was_read = true;
        let (name, version) = document.split_once('@').unwrap();
        match self.core.permit(self.now, self.order, digest(name), version.parse().unwrap()) {
            Permit::Send(FetchKind::Login) => "login".into(),
            Permit::Send(FetchKind::Refresh) => "refresh".into(),
            Permit::Rejected => "known-bad".into(),
            Permit::Stale => "stale".into(),
        }
    }

    fn fetched(&mut self, order: FetchOrder, token: &str, refresh_held: bool) -> String {
        let (name, life) = token.split_once('/').unwrap();
        let life = Duration::from_secs(life.parse().unwrap());
        let fetched = Fetched { sha256: digest(name), life, refresh_held, share: Share::NONE };
        match self.core.on_fetched(self.now, order, fetched) {
            Outcome::Accepted { generation } => format!("new{generation}"),
            Outcome::Stale => "stale".into(),
            Outcome::KnownBad => "known-bad".into(),
            Outcome::DeadOnArrival => "dead".into(),
        }
    }

    fn failed(&mut self, why: &str) -> Option<String> {
        let (why, wait) = why.split_once(':').map_or((why, None), |(why, wait)| (why, Some(wait)));
        let retry_after = wait.map(|seconds| Duration::from_secs(seconds.parse().unwrap()));
        let failure = match why {
            "rejected" => Failure::Rejected,
            "unusable" => Failure::Unusable,
            "refresh" => Failure::RefreshRefused,
            "broken" => Failure::RefreshFailed { retry_after },
            "limit" => Failure::RateLimited { retry_after },
            "down" => Failure::Transient { retry_after },
            "store" => Failure::Store,
            "abort" => Failure::Aborted,
            other => panic!("unknown failure {other}"),
        };
        (!self.core.on_failed(self.now, self.order, failure, Share::WHOLE)).then(|| "stale".into())
    }

    fn step(&mut self, word: &str) -> Option<String> {
        let seconds = |text: &str| Duration::from_secs(text.parse().unwrap());
        let (verb, rest) = word.split_once(':').unwrap_or((word, ""));
        if !self.was_read && matches!(verb, "ok" | "okr" | "fail") && rest != "store" {
            self.read("a@1");
        }
        let before = FetchOrder { attempt: self.order.attempt.saturating_sub(1) };
        match (verb, rest) {
            ("?", _) => return Some(self.ask(Duration::ZERO)),
            ("read", document) => return Some(self.read(document)),
            ("ok", token) => return Some(self.fetched(self.order, token, false)),
            ("okr", token) => return Some(self.fetched(self.order, token, true)),
            ("late", "fail") => {
                let heard = self.core.on_failed(self.now, before, Failure::Rejected, Share::NONE);
                return Some(if heard { "heard" } else { "stale" }.into());
            }
            ("late", token) => return Some(self.fetched(before, token, false)),
            ("fail", why) => return self.failed(why),
            ("kill", token) => {
                return Some(match self.core.invalidate(self.now, digest(token), Share::WHOLE) {
                    Invalidation::Removed => "removed".into(),
                    Invalidation::NotCurrent => "kept".into(),
                });
            }
            ("ver", version) => {
                let news = self.core.on_secret_changed(version.parse().unwrap());
                return Some(if news { "news" } else { "same" }.into());
            }
            ("renew", _) => self.core.renew(),
            ("used", _) => {
                let generation = self.core.token().map_or(0, |token| token.generation);
                self.core.note_used(generation, self.now);
            }
            (clock, _) => match clock.split_at(if clock.starts_with(['w', 'm']) { 2 } else { 1 }) {
                ("?", min_ttl) => return Some(self.ask(seconds(min_ttl))),
                ("+", by) => self.now = self.now.plus(seconds(by)),
                ("w+", by) => self.now.wall = self.now.wall.plus(seconds(by)),
                ("w-", by) => self.now.wall = self.now.wall.minus(seconds(by)),
                ("m+", by) => self.now.mono += seconds(by),
                _ => panic!("unknown word {word}"),
            },
        }
        None
    }
}

fn check_with(policy: TokenPolicy, script: &str, expected: &str) {
    let mut run = Script::new(policy);
    for word in script.split_whitespace() {
        let answer = run.step(word);
        run.answers.extend(answer);
    }
    let expected: Vec<&str> = expected.split_whitespace().collect();
    assert_eq!(run.answers, expected, "{script}");
}

fn check(script: &str, expected: &str) {
    check_with(TokenPolicy::default(), script, expected);
}

#[test]
fn one_fetch_serves_everyone() {
    check("? ? ? ok:A/1000 ? ?", "fetch wait wait new1 serve1 serve1");
    check("? read:a@1 ? ok:A/1000 ?", "fetch login wait new1 serve1");
}

#[test]
fn early_refresh_happens_once_and_the_old_token_is_served_meanwhile() {
    // A fifth of 1000 s is less than 300 s ahead, so it is due at 800 s.
    check("? ok:A/1000 +799 ? +1 ? ? ok:B/1000 ?", "fetch new1 serve1 serve1+fetch serve1 new2 serve2");
    check("? ok:A/86400 +86099 ? +1 ?", "fetch new1 serve1 serve1+fetch");
    check("? ok:A/1000 w+800 ?", "fetch new1 serve1+fetch");
    check("? ok:A/1000 m+800 ?", "fetch new1 serve1+fetch");
}

#[test]
fn a_failed_refresh_serves_the_old_token_until_it_dies_and_never_after() {
    check("? ok:A/1000 +800 ? fail:down ? +1 ? fail:down ?", "fetch new1 serve1+fetch serve1 serve1+fetch serve1");
    check("? ok:A/1000 +800 ? fail:down:300 +199 ? +1 ?", "fetch new1 serve1+fetch serve1 transient:100s");
    // a maintenance page that asks for a day does not shut the credential for a day; a rate limit may
    check("? fail:down:86400 ?", "fetch transient:600s");
    check("? ok:A/1000 +800 ? fail:store +199 ? fail:store +1 ?", "fetch new1 serve1+fetch serve1+fetch fetch");
    check(
        "? ok:A/1000 +800 ? fail:rejected ? read:a@1 +199 ? +1 ?",
        "fetch new1 serve1+fetch serve1+fetch known-bad serve1 rejected:400s",
    );
}

#[test]
fn expiry_by_either_clock_is_final() {
    check("? ok:A/100 +100 ?", "fetch new1 fetch");
    check("? ok:A/100 w+100 ?", "fetch new1 fetch");
    check("? ok:A/100 m+100 ?", "fetch new1 fetch");
    check("? ok:A/100 w-5000 +79 ? +1 ? +20 ?", "fetch new1 serve1 serve1+fetch wait");
    check("? ok:A/100 w+100 ? w-100 ?", "fetch new1 fetch wait");
    // Counted from the moment the request went out, so a slow answer shortens the life.
    check("? +30 ok:A/100 +49 ? +21 ?", "fetch new1 serve1 fetch");
}

#[test]
fn dead_on_arrival_backs_off() {
    check("? ok:A/0 ?", "fetch dead hold:100ms");
    check("? +100 ok:A/100 ? +1 ? ok:A/100 ?", "fetch dead hold:100ms fetch new1 serve1");
    check("? w+900 ok:A/100 ?", "fetch dead hold:100ms");
    check("? ok:A/99999999999 +38879999 ? +1 ?", "fetch new1 serve1+fetch wait");
}

#[test]
fn min_ttl() {
    check("? ok:A/1000 ?900 +101 ?900 ok:B/1000 ?900", "fetch new1 serve1 fetch new2 serve2");
    check("? ok:A/1000 ?2000 ?2000", "fetch new1 ttl<=950s ttl<=950s");
    // One fetch finds out, for a crowd; afterwards nobody asks the platform.
    check("?2000 ?2000 ok:A/1000 ?2000 ?2000 ?", "fetch wait new1 ttl<=950s ttl<=950s serve1");
    // What a held token happens to have left is served even within the slack.
    check("? ok:A/1000 ?999 +2 ?999", "fetch new1 serve1 ttl<=950s");
    // Without a token the memory lasts a minute.
    check("? ok:A/10 +59 ?20 +1 ?20", "fetch new1 ttl<=9500ms fetch");
    check("? ok:A/1000 +200 ?900 fail:down ?900 ?", "fetch new1 fetch hold:1s serve1");
    // A new document may give longer lives.
    check(
        "? ok:A/1000 ?2000 ver:2 ?2000 read:b@2 ok:B/5000 ?2000",
        "fetch new1 ttl<=950s news fetch login new2 serve2",
    );
}

#[test]
fn an_invalidation_removes_exactly_its_token() {
    check("? ok:A/1000 kill:A ? ? ok:B/1000 kill:A ?", "fetch new1 removed fetch wait new2 kept serve2");
    check("? ok:A/1000 kill:X ?", "fetch new1 kept serve1");
    check("kill:A ? kill:A ok:A/1000 ?", "kept fetch kept new1 serve1");
    check(
        "? ok:A/1000 kill:A kill:A kill:A ? kill:A ok:B/1000 ?",
        "fetch new1 removed kept kept fetch kept new2 serve2",
    );
}

#[test]
fn an_invalidation_during_a_refresh_uses_that_refresh() {
    check("? ok:A/1000 +800 ? kill:A ? ok:B/1000 ?", "fetch new1 serve1+fetch removed wait new2 serve2");
    // The issuer hands out the dead token again: one more fetch, begun after the report, is believed.
    check(
        "? ok:A/1000 +800 ? kill:A ok:A/1000 ? ok:A/1000 ?",
        "fetch new1 serve1+fetch removed known-bad fetch new2 serve2",
    );
}

#[test]
fn a_platform_that_kills_every_token_is_not_hammered() {
    check(
        "? ok:A/1000 kill:A ? ok:B/1000 kill:B ? ok:C/1000 kill:C ? +2 ? ok:D/1000 kill:D ? +4 ? ok:E/1000 kill:E ?",
        "fetch new1 removed fetch new2 removed fetch new3 removed hold:2s fetch new4 removed hold:4s fetch new5 removed storm:8s",
    );
    // Tokens that lived long enough are no storm.
    check(
        "? ok:A/1000 +60 kill:A ? ok:B/1000 +60 kill:B ? ok:C/1000 +60 kill:C ? ok:D/1000 kill:D ?",
        "fetch new1 removed fetch new2 removed fetch new3 removed fetch new4 removed fetch",
    );
    check(
        "? ok:A/1000 kill:A ? ok:B/1000 kill:B ? ok:C/1000 +60 kill:C ? ok:D/1000 kill:D ?",
        "fetch new1 removed fetch new2 removed fetch new3 removed fetch new4 removed fetch",
    );
    // The pause of a storm outlives a fetch that was in flight when it began.
    check(
        "? ok:A/1000 kill:A ? ok:B/1000 kill:B ? ok:C/1000 ver:2 ? kill:C read:b@2 ok:D/1000 ver:3 ? +2 ?",
        "fetch new1 removed fetch new2 removed fetch new3 news serve3+fetch removed login new4 news serve4 serve4+fetch",
    );
    // A natural death in between ends a storm as well.
    check(
        "? ok:A/100 kill:A ? ok:B/100 kill:B ? ok:C/100 +100 ? ok:D/100 kill:D ?",
        "fetch new1 removed fetch new2 removed fetch new3 fetch new4 removed fetch",
    );
}

#[test]
fn results_of_another_attempt_are_ignored() {
    check("late:A/100 ?", "stale fetch");
    check("? ok:A/100 ok:B/100 ?", "fetch new1 stale serve1");
    check("? fail:abort +1 ? late:A/100 late:fail ? ok:B/100 ?", "fetch fetch stale stale wait new1 serve1");
    check("? fail:abort fail:abort", "fetch stale");
    check("read:a@1 ? read:a@1", "stale fetch login");
}

#[test]
fn rate_limits() {
    check("? fail:limit:30 ? +29 ? +1 ?", "fetch hold:30s hold:1s fetch");
    check("? fail:limit ? +4 ? fail:limit ? +8 ?", "fetch hold:4s fetch hold:8s fetch");
    check("? fail:limit:180 ?", "fetch hold:180s");
    check("? fail:limit:181 ? +1 ?", "fetch limited:181s hold:180s");
    check("? fail:limit:7200 ? ver:2 ? w+9999 ?", "fetch limited:7200s news limited:7200s limited:7200s");
    check("? fail:limit:0 ?", "fetch hold:100ms");
    // Once more limited: the wait that was told had been too short.
    check("? fail:limit:1 +1 ? fail:limit:1 ?", "fetch fetch hold:8s");
    check("? fail:limit:99999999 ?", "fetch limited:86400s");
}

#[test]
fn transient_failures() {
    check(
        "? fail:down ? +1 ? fail:down ? +2 ? fail:down +4 ? fail:down ?",
        "fetch hold:1s fetch hold:2s fetch fetch transient:8s",
    );
    check("? fail:down +1 ? ok:A/100 +100 ? fail:down ?", "fetch fetch new1 fetch hold:1s");
    check("? fail:abort ?", "fetch hold:1s");
}

#[test]
fn a_rejected_document_is_read_again_once_and_not_sent_again() {
    check(
        "? read:a@1 fail:rejected ? ? read:a@1 ? ? +599 ? +1 ? read:a@1",
        "fetch login fetch wait known-bad rejected:600s rejected:600s rejected:1s fetch login",
    );
    // The second strike waits twice as long.
    check("? fail:rejected +600 ? fail:rejected ? read:a@1 ?", "fetch fetch fetch known-bad rejected:1200s");
    // The store changed between reading and the answer: the new document is sent at once.
    check("? read:a@1 fail:rejected ? read:b@2 ok:B/100 ?", "fetch login fetch login new1 serve1");
    check("? fail:unusable ? read:a@1 ?", "fetch fetch known-bad rejected:600s");
    // The wall clock cannot shorten the pause.
    check("? fail:rejected ? read:a@1 w+9999 ?", "fetch fetch known-bad rejected:600s");
}

#[test]
fn callers_wait_for_the_document_that_takes_the_place_of_one_that_had_worked() {
    check(
        "? ok:A/1000 kill:A ? read:a@1 fail:rejected ? read:a@1 ? +5 ? ver:2 ? read:b@2 ? ok:B/100 ?",
        "fetch new1 removed fetch login fetch known-bad hold:20s hold:15s news fetch login wait new2 serve2",
    );
    // Not for ever, and not again for the same document.
    check(
        "? ok:A/1000 kill:A ? fail:rejected ? read:a@1 +20 ? +580 ? read:a@1 fail:rejected ? read:a@1 ?",
        "fetch new1 removed fetch fetch known-bad rejected:580s fetch login fetch known-bad rejected:1200s",
    );
    // A document in its place that is refused as well may be too new: it is tried three times, then it is an operator's.
    check(
        "? ok:A/1000 kill:A ? fail:rejected \
         ? read:b@2 fail:rejected ? read:b@2 ? +2 ? read:b@2 fail:rejected ? read:b@2 ? \
         +2 ? read:b@2 fail:rejected ? read:b@2 ? +16 ?",
        "fetch new1 removed fetch \
         fetch login fetch known-bad hold:2s fetch login fetch known-bad hold:2s \
         fetch login fetch known-bad hold:2s fetch",
    );
    check(
        "? ok:A/1000 kill:A ? read:b@2 fail:rejected ? read:b@2 ? +2 ? read:b@2 ok:B/100 ?",
        "fetch new1 removed fetch login fetch known-bad hold:2s fetch login new2 serve2",
    );
    check(
        "? ok:A/1000 kill:A ? read:b@2 fail:rejected +2 ? read:b@2 fail:rejected +2 ? read:b@2 fail:rejected \
         +2 ? read:b@2 fail:rejected ? read:b@2 ?",
        "fetch new1 removed fetch login fetch login fetch login fetch login fetch known-bad rejected:600s",
    );
    // As long as the token lives nobody notices.
    check(
        "? ok:A/1000 +900 ? fail:rejected ? read:a@1 ? +99 ? +1 ?",
        "fetch new1 serve1+fetch serve1+fetch known-bad serve1 serve1 rejected:500s",
    );
}

#[test]
fn a_token_is_renewed_when_it_is_asked_for() {
    check("? ok:A/1000 ? renew ? ? ok:B/1000 ?", "fetch new1 serve1 serve1+fetch serve1 new2 serve2");
}

#[test]
fn a_new_version_ends_the_rejection_only_with_another_document() {
    check("? fail:rejected ? read:a@1 ver:1 ?", "fetch fetch known-bad same rejected:600s");
    check(
        "? fail:rejected ? read:a@1 ver:2 ? read:b@2 ok:B/100 ?",
        "fetch fetch known-bad news fetch login new1 serve1",
    );
    check("? fail:rejected ? read:a@1 ver:2 ? read:a@2 ?", "fetch fetch known-bad news fetch known-bad rejected:600s");
    // Old wrong values are remembered too.
    check("? fail:rejected ? read:b@2 fail:rejected ? read:a@3 ?", "fetch fetch login fetch known-bad rejected:600s");
}

#[test]
fn a_new_version_refreshes_early_and_once() {
    check("? ok:A/1000 ver:2 ? read:b@2 ok:B/1000 ? +1 ?", "fetch new1 news serve1+fetch login new2 serve2 serve2");
    check(
        "? ok:A/1000 ver:2 ? read:b@2 fail:rejected ? read:b@2 ?",
        "fetch new1 news serve1+fetch login serve1+fetch known-bad serve1",
    );
    // One that is refused is tried again after its pause, also while the old token lives.
    check(
        "? ok:A/1000 ver:2 ? read:b@2 fail:rejected ? read:b@2 ? +1 ? +1 ? read:b@2 ok:B/1000 ?",
        "fetch new1 news serve1+fetch login serve1+fetch known-bad serve1 serve1 serve1+fetch login new2 serve2",
    );
    check(
        "? fail:rejected +1 ? read:b@2 ok:A/86400 ver:3 ? read:a@3 ? +598 ? +1 ? read:a@3",
        "fetch fetch login new1 news serve1+fetch known-bad serve1 serve1 serve1+fetch login",
    );
    // A store that answers with an older version now and then causes no loop.
    check(
        "? ok:A/1000 ver:2 ? read:a@1 ok:B/1000 ? ver:2 ? ver:1 ?",
        "fetch new1 news serve1+fetch login new2 serve2 news serve2 news serve2",
    );
    // The version changed while a fetch with the old one was in flight.
    check("? read:a@1 ver:2 ok:A/1000 ? read:b@2", "fetch login news new1 serve1+fetch login");
}

#[test]
fn refresh_tokens() {
    check("? okr:A/100 +80 ? read:a@1 okr:B/100 ?", "fetch new1 serve1+fetch refresh new2 serve2");
    check(
        "? okr:A/100 +80 ? read:a@1 fail:refresh ? read:a@1 ok:B/100 ?",
        "fetch new1 serve1+fetch refresh serve1+fetch login new2 serve2",
    );
    check("? okr:A/100 +100 ? read:a@1 fail:refresh ? read:a@1", "fetch new1 fetch refresh fetch login");
    // Another document: its own login, not the old session.
    check("? okr:A/100 ver:2 ? read:b@2", "fetch new1 news serve1+fetch login");
    // A platform that calls a login's refusal a refused refresh token still strikes the document.
    check("? read:a@1 fail:refresh ? read:a@1 ?", "fetch login fetch known-bad rejected:600s");
    check("? okr:A/100 +80 ? read:a@1 fail:down +1 ? read:a@1", "fetch new1 serve1+fetch refresh serve1+fetch refresh");
    // An answer that is no token and no refusal: the document may do better, after the same pause.
    check(
        "? okr:A/100 +80 ? read:a@1 fail:broken ? +1 ? read:a@1",
        "fetch new1 serve1+fetch refresh serve1 serve1+fetch login",
    );
}

#[test]
fn store_failures() {
    check("? fail:store ? +1 ? fail:store ?", "fetch hold:500ms fetch hold:1s");
    // News from the store end the wait for the store, not other waits.
    check("? fail:store ver:1 ?", "fetch news fetch");
    check("? fail:down ver:2 ?", "fetch news hold:1s");
}

#[test]
fn idle_timeout() {
    let policy = TokenPolicy { idle_ttl: Some(Duration::from_mins(5)), ..TokenPolicy::default() };
    check_with(policy, "? ok:A/9999 +284 ? +1 ?", "fetch new1 serve1 fetch");
    check_with(policy, "? ok:A/9999 +284 used +284 used +284 ? +1 ?", "fetch new1 serve1 fetch");
    // Asking is not using, and a frozen or jumping clock counts.
    check_with(policy, "? ok:A/9999 +200 ? w+85 ?", "fetch new1 serve1 fetch");
    check_with(policy, "? ok:A/9999 +200 used w-9999 +284 ? +1 ?", "fetch new1 serve1 fetch");
    check("? ok:A/9999 +5000 ?", "fetch new1 serve1");
}

#[test]
fn a_late_note_of_use_does_not_touch_another_token() {
    let policy = TokenPolicy { idle_ttl: Some(Duration::from_mins(5)), ..TokenPolicy::default() };
    let mut core = TokenCore::new(policy);
    let start = Now { wall: UnixMillis(START), mono: Duration::from_secs(1) };
    let Decision::Fetch(order) = core.decide(start, Want::default()) else { panic!("no fetch") };
    assert_eq!(core.permit(start, order, digest("a"), 1), Permit::Send(FetchKind::Login));
    let fetched =
        Fetched { sha256: digest("A"), life: Duration::from_secs(9999), refresh_held: false, share: Share::NONE };
    assert_eq!(core.on_fetched(start, order, fetched), Outcome::Accepted { generation: 1 });
    core.note_used(7, start.plus(Duration::from_secs(200)));
    assert!(matches!(core.decide(start.plus(Duration::from_secs(285)), Want::default()), Decision::Fetch(_)));
}

#[test]
fn jitter_spreads_refreshes() {
    let policy = TokenPolicy::default();
    let ages: Vec<u64> =
        [0, 30_000, 65_535].map(|share| policy.refresh_age(Duration::from_hours(24), Share(share)).as_secs()).into();
    assert_eq!(ages, [86_100, 86_031, 85_950]);
}
