//! All published operations answer, and what they answer is what the document promises.

use std::collections::BTreeSet;

use kh_sandbox::operations::{AnswerBody, Operations};

use super::client::Client;
use super::schema_check::SchemaCheck;

/// Published operations (July 2026).
const PUBLISHED: usize = 3180;

#[test]
fn every_published_operation_answers_a_documented_success_that_validates() {
    let mut check = SchemaCheck::new();
    let published: BTreeSet<(String, String)> = check.published().into_iter().collect();
    let mut failures = Vec::new();
    let mut checked_bodies = 0;
    let mut answered = BTreeSet::new();
    for operation in Operations::shared().all() {
        // A new organisation each: one operation deletes what the next one reads.
        let client = Client::new(1);
        let target = client.target_of(operation);
        let body = client.operations.sample_body(operation, 3);
        let answer = client.call(operation.method(), &target, body.as_ref());
        let documented = answer.status == operation.success_status() && (200..300).contains(&answer.status);
        let body = match &answer.body {
            AnswerBody::Text(_, text) => Some(serde_json::Value::from(text.as_str())),
            AnswerBody::Json(_, value) => Some(value.clone()),
            AnswerBody::Empty => None,
        };
        let mut errors = check.errors(operation, operation.success_key(), body.as_ref());
        if !documented {
            errors.insert(0, format!("status {}: {:?}", answer.status, answer.json()));
        }
        checked_bodies += usize::from(body.is_some());
        if errors.is_empty() {
            answered.insert((operation.method().to_owned(), operation.template().to_owned()));
        } else {
            failures.push(format!("{} {target}: {}", operation.method(), errors.join("; ")));
        }
    }
    println!(
        "{} operations answered validly, {checked_bodies} with a body; {} schemas compiled",
        answered.len(),
        check.compiled()
    );
    assert!(
        failures.is_empty(),
        "{} failures, first:\n{}",
        failures.len(),
        failures[..failures.len().min(30)].join("\n")
    );
    assert_eq!(answered.len(), PUBLISHED);
    assert!(checked_bodies > 2600, "only {checked_bodies} bodies were checked");
    assert_eq!(answered, published, "exactly the published operations answered");
}

#[test]
fn answers_are_stable_for_a_seed_and_differ_between_seeds() {
    let targets = ["/api/v2/analytics/reporting/settings", "/api/v2/organizations/me", "/api/v2/users?pageSize=2"];
    for target in targets {
        let first = Client::new(7).ok("GET", target, None);
        assert_eq!(first, Client::new(7).ok("GET", target, None), "{target}");
    }
    let organization = |seed| Client::new(seed).ok("GET", "/api/v2/organizations/me", None);
    assert_ne!(organization(7), organization(8), "the seed matters");
}
