//! What `keyholder revoke` answers.

use kh_core::{
    port::RevocationStore,
    revocation::{RevocationRecord, RevocationTarget},
};
use serde_json::{Map, Value, json};

use crate::{
    cli::{Context, secret::time},
    compose::Base,
    output::{Exit, Failure, Table, printable},
};

/// Says what was revoked; to a program also what of it may be a slip.
pub(super) fn done(records: &[RevocationRecord], serving: usize, doubts: &[String], context: &Context) {
    let all: Vec<Value> = records.iter().map(as_json).collect();
    let mut answer = json!({ "revocations": all, "serving": serving });
    if let Some(object) = answer.as_object_mut().filter(|_| !doubts.is_empty()) {
        object.insert("warnings".to_owned(), doubts.into());
    }
    context.terminal.answer(&answer, || {
        let what = records.last().map_or_else(String::new, |record| record.target.to_string());
        let details: String = records.last().map(lines).unwrap_or_default();
        let force = match serving {
            0 => "It is in force when keyholder starts.\n",
            _ => "It is in force in the keyholder that serves this state.\n",
        };
        format!("Revoked: {what}\n{details}{force}")
    });
}

fn lines(record: &RevocationRecord) -> String {
    let of = |name: &str, value: &str| format!("  {name:<12} {}\n", printable(value));
    let mut lines: String = facts(record).iter().map(|(name, value)| of(name, value)).collect();
    if !record.target.is_token() {
        lines.push_str(&of("issued up to", &time(record.before)));
    }
    lines
}

/// What names the tokens, in words.
fn facts(record: &RevocationRecord) -> Vec<(&'static str, String)> {
    let issuer = record.target.issuer().or(record.issuer.as_deref());
    let mut facts: Vec<_> = issuer.map(|issuer| ("issuer", issuer.to_owned())).into_iter().collect();
    match &record.target {
        RevocationTarget::Token { digest } | RevocationTarget::Signed { digest } => {
            facts.push(("sha256", digest.0.to_hex()));
        }
        RevocationTarget::TokenId { id, .. } => facts.push(("jti", id.clone())),
        RevocationTarget::Issued { subject, at, .. } => {
            facts.push(("subject", subject.clone()));
            facts.push(("issued_at", time(*at)));
        }
        RevocationTarget::Client { client, .. } => facts.push(("client", client.clone())),
        RevocationTarget::Subject { subject, .. } => facts.push(("subject", subject.clone())),
        RevocationTarget::Answers { client, .. } => {
            facts.extend(client.clone().map(|client| ("client", client)));
        }
        RevocationTarget::Everything { .. } => {}
    }
    facts
}

fn as_json(record: &RevocationRecord) -> Value {
    let mut object = Map::new();
    object.insert("kind".to_owned(), record.target.kind().into());
    for (name, value) in facts(record) {
        object.insert(name.to_owned(), value.into());
    }
    if !record.target.is_token() {
        object.insert("before".to_owned(), time(record.before).into());
    }
    object.insert("revoked_at".to_owned(), time(record.revoked_at).into());
    object.insert("expires_at".to_owned(), time(record.expires_at).into());
    Value::Object(object)
}

/// `keyholder revoke list`
pub(super) async fn list(base: &Base, (after, limit): (u64, u32), context: &Context) -> Result<Exit, Failure> {
    let found = base.state.revocations_after(after, limit).await?;
    let all: Vec<Value> = found
        .iter()
        .map(|placed| {
            let mut one = as_json(&placed.record);
            if let Some(object) = one.as_object_mut() {
                object.insert("position".to_owned(), placed.position.into());
            }
            one
        })
        .collect();
    context.terminal.answer(&json!({ "revocations": all }), || {
        if found.is_empty() {
            return "nothing is revoked\n".to_owned();
        }
        let mut table = Table::new(&["position", "revoked at", "kind", "what", "issued up to"]);
        for placed in &found {
            let record = &placed.record;
            let what: Vec<_> =
                facts(record).into_iter().map(|(name, value)| format!("{name} {}", cut(&value))).collect();
            let before = if record.target.is_token() { "-".to_owned() } else { time(record.before) };
            let what = if what.is_empty() { "every issuer".to_owned() } else { what.join(", ") };
            let kind = record.target.kind().to_owned();
            table.row(vec![placed.position.to_string(), time(record.revoked_at), kind, what, before]);
        }
        table.text()
    });
    Ok(Exit::Done)
}

/// The beginning of a long value: a line is a line.
fn cut(value: &str) -> String {
    const SHOWN_MAX: usize = 40;
    let mut shown: String = value.chars().take(SHOWN_MAX).collect();
    if value.chars().count() > SHOWN_MAX {
        shown.push('\u{2026}');
    }
    shown
}
