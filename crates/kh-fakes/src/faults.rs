//! What goes wrong, as rules that a test sets: which requests, how many of them, and what happens.
//!
//! Invariant: a rule takes the requests in the order of their arrival; nothing here depends on time.

use serde::{Deserialize, Serialize};

/// What happens to a request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The connection ends before the service saw the request.
    DropBefore,
    /// The service did what was asked, and the connection ends without an answer.
    DropAfter,
    /// The service's own 403; nothing is done.
    Forbid,
    /// The service's own "too many requests"; nothing is done.
    Throttle {
        /// `Retry-After`, where the service has it.
        retry_after_seconds: Option<u64>,
    },
    /// The service's own failure; nothing is done.
    FailBefore,
    /// The service did what was asked and then answers its own failure.
    FailAfter,
    /// This answer instead; nothing is done.
    Answer {
        /// HTTP status.
        status: u16,
        /// The body.
        body: String,
    },
    /// The request waits until so many further requests have arrived, and is then done.
    HoldFor {
        /// How many.
        requests: u64,
    },
}

impl Fault {
    /// Once, to the next request of any kind.
    pub fn once(self) -> Rule {
        Rule { operation: String::new(), skip: 0, times: 1, fault: self }
    }

    /// To every request of any kind until the faults are cleared.
    pub fn always(self) -> Rule {
        Rule { operation: String::new(), skip: 0, times: u64::MAX, fault: self }
    }
}

/// A fault with what it applies to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Start of the operation's name; empty for all.
    #[serde(default)]
    pub operation: String,
    /// How many matching requests pass first.
    #[serde(default)]
    pub skip: u64,
    /// How many it then takes.
    #[serde(default = "one")]
    pub times: u64,
    /// What happens.
    pub fault: Fault,
}

fn one() -> u64 {
    1
}

impl Rule {
    /// The same for operations whose name starts so.
    pub fn on(mut self, operation: &str) -> Self {
        operation.clone_into(&mut self.operation);
        self
    }

    /// The same after `count` matching requests have passed.
    pub fn after(mut self, count: u64) -> Self {
        self.skip = count;
        self
    }

    /// The same for so many requests.
    pub fn times(mut self, count: u64) -> Self {
        self.times = count;
        self
    }
}

/// The rules in force.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<Rule>);

impl Faults {
    pub(crate) fn add(&mut self, rule: Rule) {
        self.0.push(rule);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// What happens to this request: the first rule that takes it. Rules that let it pass count it.
    pub(crate) fn take(&mut self, operation: &str) -> Option<Fault> {
        for rule in self.0.iter_mut().filter(|rule| operation.starts_with(&rule.operation)) {
            if rule.skip > 0 {
                rule.skip -= 1;
            } else if rule.times > 0 {
                rule.times -= 1;
                return Some(rule.fault.clone());
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_count_what_they_match() {
        let mut faults = Faults::default();
        faults.add(Fault::DropAfter.once().on("kv.write").after(1).times(2));
        let taken: Vec<bool> = ["kv.write", "kv.read", "kv.write", "kv.write", "kv.write"]
            .iter()
            .map(|operation| faults.take(operation).is_some())
            .collect();
        assert_eq!(taken, [false, false, true, true, false]);
        faults.add(Fault::Forbid.always());
        assert_eq!(faults.take("anything"), Some(Fault::Forbid));
        faults.clear();
        assert_eq!(faults.take("anything"), None);
    }

    #[test]
    fn rules_are_read_from_json() {
        let rule: Rule =
            serde_json::from_str(r#"{"operation":"kv","fault":{"throttle":{"retry_after_seconds":2}}}"#).unwrap();
        assert_eq!(rule, Fault::Throttle { retry_after_seconds: Some(2) }.once().on("kv"));
        let rule: Rule = serde_json::from_str(r#"{"fault":"drop_before","times":3}"#).unwrap();
        assert_eq!(rule, Fault::DropBefore.once().times(3));
    }
}
