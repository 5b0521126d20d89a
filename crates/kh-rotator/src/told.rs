//! A run's records in words: the line a person reads, the audit event, the notice.
//!
//! Invariant: ids, fingerprints, versions and reasons only; nothing here ever held a secret.

use kh_core::{
    UnixMillis,
    audit::AuditEvent,
    port::{Notice, Strategy, Urgency},
};
use kh_rotation::{Begin, Effect, End, Escrow, Finding, Level, Order, Outcome, Run, Step, status::command};
use uuid::Uuid;

use crate::services::Services;

/// Longest detail of an audit event in bytes; a reason of another machine is cut there.
const DETAIL_MAX: usize = 1024;

/// Who acts where no person ordered it.
const ACTOR: &str = "keyholder";

/// The audit event of a record.
pub(crate) fn event(services: &Services, began: &Begin, seq: u64, step: &Step) -> AuditEvent {
    let actor = match step {
        Step::Ordered { actor, .. } => actor.as_str(),
        Step::Begun(begin) => begin.actor.as_str(),
        _ => ACTOR,
    };
    let event = AuditEvent::new(&*services.entropy, services.now(), actor, action(step), began.credential.as_str())
        .with("run", &began.run)
        .with("seq", &seq);
    details(step).into_iter().fold(event, |event, (key, value)| event.with(key, &cut(&value)))
}

fn cut(text: &str) -> &str {
    let end = text.char_indices().map(|(at, letter)| at + letter.len_utf8()).take_while(|end| *end <= DETAIL_MAX);
    text.get(..end.last().unwrap_or(0)).unwrap_or("")
}

fn action(step: &Step) -> &'static str {
    match step {
        Step::Begun(_) => "rotation.begin",
        Step::Approved { .. } => "rotation.approved",
        Step::Preflighted(_) => "rotation.preflight",
        Step::Intended { .. } => "rotation.intend",
        Step::Settled { .. } => "rotation.settle",
        Step::Resolved { .. } => "rotation.resolve",
        Step::Orphaned { .. } => "rotation.orphan",
        Step::Verified { .. } => "rotation.verify",
        Step::Rejected { .. } => "rotation.reject",
        Step::OldTokens { .. } => "rotation.old_tokens",
        Step::Ordered { .. } => "rotation.order",
        Step::Alarmed { .. } => "rotation.alarm",
        Step::Stuck { .. } => "rotation.needs_operator",
        Step::Ended { .. } => "rotation.end",
    }
}

type Details = Vec<(&'static str, String)>;

fn details(step: &Step) -> Details {
    match step {
        Step::Begun(begin) => vec![
            ("strategy", begin.strategy.as_str().to_owned()),
            ("generation", begin.generation.to_string()),
            ("reason", begin.reason.clone()),
        ],
        Step::Approved { by, .. } => vec![("by", by.join(", "))],
        Step::Preflighted(base) => vec![("old", base.old.to_string())],
        Step::Intended { effect, basis } => {
            let mut details = of_effect(effect);
            if let Some(basis) = basis {
                let seen = basis.evidence.iter().filter(|found| found.grade.is_some());
                let seen: Vec<_> = seen.map(|found| found.consumer.as_str()).collect();
                details.push(("seen", seen.join(", ")));
                if !basis.overridden.is_empty() {
                    details.push(("overridden", basis.overridden.join("; ")));
                    details.push(("overridden_by", basis.by.join(", ")));
                }
            }
            details
        }
        Step::Settled { outcome } => of_outcome(outcome),
        Step::Resolved { finding } => vec![("finding", finding_in_words(finding))],
        Step::Orphaned { ids } => vec![("ids", listed(ids))],
        Step::Verified { successes } => vec![("successes", successes.to_string())],
        Step::Rejected { why } => vec![("why", why.clone())],
        Step::OldTokens { alive } => vec![("alive", alive.to_string())],
        Step::Ordered { order, reason, .. } => vec![("order", order_in_words(order)), ("reason", reason.clone())],
        Step::Alarmed { why, next } | Step::Stuck { why, next } => vec![("why", why.clone()), ("next", next.clone())],
        Step::Ended { end } => vec![("end", end_in_words(end))],
    }
}

fn listed(ids: &[kh_core::rotation::ManagedId]) -> String {
    ids.iter().map(|id| id.0.as_str()).collect::<Vec<_>>().join(", ")
}

fn of_effect(effect: &Effect) -> Details {
    let mut details = vec![("effect", effect.as_str().to_owned())];
    match effect {
        Effect::Stop { id, .. } | Effect::Start { id, .. } | Effect::Prune { id, .. } | Effect::Cleanup { id, .. } => {
            details.push(("id", id.to_string()));
        }
        Effect::Stage { store, token, .. } | Effect::Unstage { store, token } => {
            details.extend([("store", store.clone()), ("write", token.to_string())]);
        }
        Effect::Promote { store, token, expect, .. } => {
            let expect = expect.as_ref().map_or("none", |version| version.0.as_str());
            details.extend([("store", store.clone()), ("write", token.to_string()), ("expect", expect.to_owned())]);
        }
        Effect::Hook { name, delivery, .. } => {
            details.extend([("hook", name.clone()), ("delivery", delivery.to_string())]);
        }
        Effect::Create { label, .. } => details.push(("label", label.clone())),
        Effect::Mint | Effect::Regenerate { .. } | Effect::RevokeTokens => {}
    }
    details
}

fn of_outcome(outcome: &Outcome) -> Details {
    match outcome {
        Outcome::Done => vec![("outcome", "done".to_owned())],
        Outcome::Created { id, fingerprint } => {
            let id = id.as_ref().map_or("none", |id| id.0.as_str());
            vec![("outcome", "created".to_owned()), ("id", id.to_owned()), ("new", fingerprint.to_string())]
        }
        Outcome::Minted { .. } => vec![("outcome", "minted".to_owned())],
        Outcome::Promoted { version } => vec![("outcome", "promoted".to_owned()), ("version", version.to_string())],
        Outcome::Conflict { found } => {
            let found = found.as_ref().map_or("none", |found| found.0.as_str());
            vec![("outcome", "conflict".to_owned()), ("found", found.to_owned())]
        }
        Outcome::NotDone { reason, .. } => vec![("outcome", "not done".to_owned()), ("reason", reason.clone())],
        Outcome::Refused { reason, .. } => vec![("outcome", "refused".to_owned()), ("reason", reason.clone())],
        Outcome::Unknown { reason } => vec![("outcome", "unknown".to_owned()), ("reason", reason.clone())],
    }
}

fn finding_in_words(finding: &Finding) -> String {
    match finding {
        Finding::NotDone => "it was not carried out".to_owned(),
        Finding::Orphans { ids } => format!("it made {}, whose secret is lost", listed(ids)),
        Finding::Lost => "the secret was regenerated and is lost".to_owned(),
        Finding::Live { version } => format!("the store serves it as version {version}"),
    }
}

fn order_in_words(order: &Order) -> String {
    match order {
        Order::Resume => "resume".to_owned(),
        Order::SkipHooks => "skip hooks".to_owned(),
        Order::Adopt { store, version } => format!("adopt version {version} of {store}"),
        Order::Own { ids } => format!("delete {}", listed(ids)),
        Order::Foreign { ids } => format!("leave {}", listed(ids)),
        Order::Hurry { level } => match level {
            Level::Regular => "take the time that it needs".to_owned(),
            Level::Fast => "hurry, and give consumers some minutes".to_owned(),
            Level::Revoke => "hurry, and revoke the old secret".to_owned(),
            Level::Kill => "take the secret away at once".to_owned(),
        },
        Order::Rollback => "roll back".to_owned(),
        Order::Abort => "abort".to_owned(),
        Order::Abandon => "abandon".to_owned(),
    }
}

fn end_in_words(end: &End) -> String {
    let with = |word: &str, left: &[kh_core::rotation::ManagedId], what: &str| {
        if left.is_empty() { word.to_owned() } else { format!("{word}; {what} {}", listed(left)) }
    };
    match end {
        End::Completed { unknown } => with("completed", unknown, "the platform also lists"),
        End::RolledBack { unknown } => with("rolled back", unknown, "the platform also lists"),
        End::Aborted { unknown } => with("aborted", unknown, "the platform also lists"),
        End::Killed => "killed: the old secret is dead and was not replaced".to_owned(),
        End::Abandoned { left } => with("abandoned", left, "left on the platform:"),
    }
}

fn effect_in_words(effect: &Effect) -> String {
    let document = |which: &Escrow| match which {
        Escrow::New => "new",
        Escrow::Old => "old",
        Escrow::Token => "token's",
    };
    match effect {
        Effect::Mint => "fetches a token with the old secret".to_owned(),
        Effect::Create { attempt, .. } => format!("makes a new secret (attempt {attempt})"),
        Effect::Regenerate { attempt, .. } => format!("regenerates the secret in place (attempt {attempt})"),
        Effect::Stage { store, document: which, .. } => format!("stages the {} document in {store}", document(which)),
        Effect::Promote { store, document: which, .. } => {
            format!("makes the {} document live in {store}", document(which))
        }
        Effect::Unstage { store, .. } => format!("takes the staged document out of {store}"),
        Effect::Hook { name, .. } => format!("calls the hook {name}"),
        Effect::Stop { id, .. } => format!("stops the old secret {id}; it can be started again"),
        Effect::Start { id, .. } => format!("starts the old secret {id} again"),
        Effect::Prune { id, .. } => format!("deletes the old secret {id}"),
        Effect::Cleanup { id, .. } => format!("deletes {id}, which nobody uses"),
        Effect::RevokeTokens => "revokes tokens made with the old secret".to_owned(),
    }
}

/// One sentence about a record, without its final dot.
pub(crate) fn line(step: &Step) -> String {
    match step {
        Step::Begun(begin) => {
            format!("{} rotation to generation {} begins: {}", begin.strategy.as_str(), begin.generation, begin.reason)
        }
        Step::Approved { by, .. } => format!("approved by {}", by.join(", ")),
        Step::Preflighted(base) => format!("everything was looked at; the old secret is {}", base.old),
        Step::Intended { effect, .. } => effect_in_words(effect),
        Step::Settled { outcome } => {
            let details = of_outcome(outcome).into_iter().map(|(_, value)| value);
            details.collect::<Vec<_>>().join(" ")
        }
        Step::Resolved { finding } => format!("its answer was lost: {}", finding_in_words(finding)),
        Step::Orphaned { ids } => format!("secrets that a run made and never recorded: {}", listed(ids)),
        Step::Verified { successes } => format!("the new secret works: {successes} logins in a row"),
        Step::Rejected { why } => format!("the new secret does not work and will be deleted: {why}"),
        Step::OldTokens { alive: true } => "tokens made with the old secret outlived it".to_owned(),
        Step::OldTokens { alive: false } => "tokens made with the old secret died with it".to_owned(),
        Step::Ordered { order, actor, reason } => format!("{actor} orders: {} ({reason})", order_in_words(order)),
        Step::Alarmed { why, .. } => format!("somebody should look: {why}"),
        Step::Stuck { why, .. } => format!("a person must decide: {why}"),
        Step::Ended { end } => end_in_words(end),
    }
}

/// The notice of a record, where people should know of it.
pub(crate) fn notice(run: &Run, seq: u64, at: UnixMillis, step: &Step) -> Option<Notice> {
    let (kind, urgency, next) = match step {
        Step::Begun(begin) if begin.level.emergency() => ("rotation.begun", Urgency::Warning, None),
        Step::Begun(_) => ("rotation.begun", Urgency::Info, None),
        Step::Alarmed { next, .. } => ("rotation.alarm", Urgency::Warning, Some(next.clone())),
        Step::Stuck { next, .. } => ("rotation.needs_operator", Urgency::Critical, Some(next.clone())),
        Step::Ordered { .. } => ("rotation.ordered", Urgency::Info, None),
        Step::Resolved { finding: Finding::Lost } => ("rotation.secret_lost", Urgency::Critical, None),
        // whoever keeps an alert of the run closes it at each of these kinds
        Step::Ended { end: End::Completed { .. } } => ("rotation.completed", Urgency::Info, None),
        Step::Ended { end: End::RolledBack { .. } } => ("rotation.rolled_back", Urgency::Warning, None),
        Step::Ended { end: End::Aborted { .. } } => ("rotation.aborted", Urgency::Warning, None),
        Step::Ended { end: End::Killed | End::Abandoned { .. } } => ("rotation.ended", Urgency::Warning, None),
        Step::Intended { effect: Effect::Prune { .. } | Effect::Stop { .. }, .. } => {
            ("rotation.old_secret_goes", Urgency::Info, None)
        }
        _ => return None,
    };
    Some(made(run, seq, at, (kind, urgency), &line(step), next))
}

/// The notice of how a call ended, where people should know: a hook that fails keeps the old secret alive, and tokens
/// that nobody can revoke outlive a secret that leaked. `run` is as it was before the record. A hook is told once when
/// it begins to fail and once when it works again.
pub(crate) fn settled(run: &Run, seq: u64, at: UnixMillis, step: &Step) -> Option<Notice> {
    let (Step::Settled { outcome }, Some(open)) = (step, run.open()) else { return None };
    let failure = match outcome {
        Outcome::NotDone { reason, .. } | Outcome::Refused { reason, .. } | Outcome::Unknown { reason } => Some(reason),
        _ => None,
    };
    match (&open.effect, failure) {
        (Effect::Hook { name, document, .. }, Some(reason)) if !run.hook_is_failing(name, *document) => {
            let goes_on = if matches!(outcome, Outcome::Refused { .. }) {
                "it is not called again by itself"
            } else {
                "it is called again"
            };
            let told = format!("the hook {name} failed, and {}; {goes_on}: {reason}", kept(run, *document));
            let next = Some(command::resume(run)).filter(|_| matches!(outcome, Outcome::Refused { .. }));
            Some(made(run, seq, at, ("rotation.hook_failed", Urgency::Warning), &told, next))
        }
        (Effect::Hook { name, document, .. }, None) if run.hook_is_failing(name, *document) => {
            let told = format!("the hook {name} works again, and the rotation goes on");
            Some(made(run, seq, at, ("rotation.hook_recovered", Urgency::Info), &told, None))
        }
        (Effect::RevokeTokens, Some(reason)) if matches!(outcome, Outcome::Refused { .. }) => {
            Some(made(run, seq, at, ("rotation.tokens_live_on", Urgency::Warning), reason, None))
        }
        _ => None,
    }
}

/// What a hook that fails keeps.
fn kept(run: &Run, document: Escrow) -> &'static str {
    match (document, run.began().strategy) {
        (Escrow::Old, _) => "the new secret stays until it succeeds",
        (_, Strategy::Swap) => "the rotation does not end until it succeeds",
        _ => "the old secret stays until it succeeds",
    }
}

fn made(run: &Run, seq: u64, at: UnixMillis, kind: (&str, Urgency), told: &str, next: Option<String>) -> Notice {
    let (began, (kind, urgency)) = (run.began(), kind);
    Notice {
        id: Uuid::new_v5(&began.run.0, format!("notice\n{kind}\n{seq}").as_bytes()),
        kind: kind.to_owned(),
        urgency,
        at,
        credential: Some(began.credential.clone()),
        run: Some(began.run),
        summary: format!("{}: {told}", began.credential),
        next,
    }
}

/// A time in RFC 3339, to the second.
pub(crate) fn time(at: UnixMillis) -> String {
    let seconds = i64::try_from(at.0 / 1000).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX).to_string()
}
