//! Who may manage whom on Genesys Cloud: pure.
//!
//! The platform refuses whoever edits a client, or makes its secret anew, without holding every role of it (code
//! `bad.client.role`: "The caller does not have all the roles assigned to this client"). Two rotators that rotate each
//! other and everything else must therefore hold the roles of every client and of one another. Invariant: a client
//! whose roles are not known is a gap, never assumed to be covered.

use std::collections::{BTreeMap, BTreeSet};

use kh_core::{port::secret_management::Rotator, rotation::ManagedId};
use serde::Serialize;
use serde_json::Value;

/// A client with the ids of its roles.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Held {
    /// The client.
    pub client: ManagedId,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Ids of its roles; None when they could not be read.
    pub roles: Option<BTreeSet<String>>,
}

/// A client that a rotator cannot manage.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Gap {
    /// The rotator.
    pub rotator: Rotator,
    /// The client.
    pub client: ManagedId,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Roles that the client has and the rotator lacks; None when the roles of one of them could not be read.
    pub missing: Option<BTreeSet<String>>,
}

impl Gap {
    /// A sentence that says what to do; `names` has the names of roles as far as they are known, by id.
    pub fn sentence(&self, names: &BTreeMap<String, String>) -> String {
        let who = match self.rotator {
            Rotator::First => "the rotator",
            Rotator::Second => "the second rotator",
        };
        let client =
            self.name.as_ref().map_or_else(|| self.client.to_string(), |name| format!("{name} ({})", self.client));
        match &self.missing {
            None => format!("whether {who} holds every role of the client {client} could not be read"),
            Some(roles) => {
                let named = |id: &String| names.get(id).map_or_else(|| id.clone(), |name| format!("{name} ({id})"));
                let roles: Vec<String> = roles.iter().map(named).collect();
                format!("{who} lacks roles of the client {client}: grant it {}", roles.join(", "))
            }
        }
    }
}

/// Every client that one of `rotators` cannot manage. Each rotator is also measured against the other ones, because
/// they rotate each other; nobody is measured against itself.
pub fn gaps(rotators: &[(Rotator, Held)], clients: &[Held]) -> Vec<Gap> {
    let mut gaps = Vec::new();
    for (which, rotator) in rotators {
        let others = rotators.iter().map(|(_, other)| other);
        let known: BTreeSet<&ManagedId> = clients.iter().map(|client| &client.client).collect();
        let targets = clients.iter().chain(others.filter(|other| !known.contains(&other.client)));
        for target in targets.filter(|target| target.client != rotator.client) {
            let missing = match (&rotator.roles, &target.roles) {
                (Some(held), Some(needed)) => Some(needed.difference(held).cloned().collect::<BTreeSet<_>>()),
                _ => None,
            };
            if missing.as_ref().is_none_or(|missing| !missing.is_empty()) {
                gaps.push(Gap { rotator: *which, client: target.client.clone(), name: target.name.clone(), missing });
            }
        }
    }
    gaps
}

/// What a role's document grants: `domain:entity:action`, from the list `permissions` and the policies
/// `{domain, entityName, actionSet}` (published swagger, `DomainOrganizationRole`).
pub fn grants(role: &Value) -> BTreeSet<String> {
    let texts = |value: Option<&Value>| -> Vec<String> {
        let items = value.and_then(Value::as_array).into_iter().flatten();
        items.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut grants: BTreeSet<String> = texts(role.get("permissions")).into_iter().collect();
    for policy in role.get("permissionPolicies").and_then(Value::as_array).into_iter().flatten() {
        let part = |name| policy.get(name).and_then(Value::as_str).unwrap_or_default();
        for action in texts(policy.get("actionSet")) {
            grants.insert(format!("{}:{}:{action}", part("domain"), part("entityName")));
        }
    }
    grants
}

/// Whether `grants` hold `permission`; `*` stands for any part, and alone for everything.
pub fn granted(grants: &BTreeSet<String>, permission: &str) -> bool {
    grants.iter().any(|grant| {
        let (mut held, mut wanted) = (grant.split(':'), permission.split(':'));
        grant == "*"
            || (0..3).all(|_| match (held.next(), wanted.next()) {
                (Some(held), Some(wanted)) => held == "*" || held == wanted,
                _ => false,
            })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn held(client: &str, roles: &str) -> Held {
        let roles = (roles != "?").then(|| roles.split_whitespace().map(str::to_owned).collect());
        Held { client: ManagedId(client.to_owned()), name: None, roles }
    }

    /// Gaps as `1:c=r s`: the rotator, the client, the missing roles.
    fn check(first: &str, second: &str, clients: &[(&str, &str)], expected: &str) {
        let rotators = [(Rotator::First, held("r1", first)), (Rotator::Second, held("r2", second))];
        let clients: Vec<Held> = clients.iter().map(|(id, roles)| held(id, roles)).collect();
        let told: Vec<String> = gaps(&rotators, &clients)
            .iter()
            .map(|gap| {
                let missing =
                    gap.missing.as_ref().map_or_else(|| "?".to_owned(), |m| Vec::from_iter(m.clone()).join(" "));
                format!("{}:{}={missing}", if gap.rotator == Rotator::First { 1 } else { 2 }, gap.client)
            })
            .collect();
        assert_eq!(told.join(", "), expected);
    }

    #[test]
    fn gaps_of_two_rotators() {
        check("a b", "a b", &[("x", "a"), ("y", "b a"), ("z", "")], "");
        check("a", "a b", &[("x", "a b")], "1:x=b, 1:r2=b");
        check("a b", "a", &[("x", "a")], "2:r1=b");
        check("a", "a", &[("x", "b c"), ("y", "a")], "1:x=b c, 2:x=b c");
        check("a", "a", &[("x", "?")], "1:x=?, 2:x=?");
        check("?", "a", &[("x", "a")], "1:x=?, 1:r2=?, 2:r1=?");
        check("a", "a b", &[("r1", "a"), ("r2", "a b")], "1:r2=b");
    }

    #[test]
    fn sentences_say_what_to_do() {
        let gap = Gap {
            rotator: Rotator::Second,
            client: ManagedId("x".to_owned()),
            name: Some("billing".to_owned()),
            missing: Some(BTreeSet::from(["r7".to_owned(), "r8".to_owned()])),
        };
        let names = BTreeMap::from([("r8".to_owned(), "Billing admin".to_owned())]);
        let told = "the second rotator lacks roles of the client billing (x): grant it r7, Billing admin (r8)";
        assert_eq!(gap.sentence(&names), told);
    }

    #[test]
    fn permissions() {
        let role = json!({
            "permissions": ["users:user:view"],
            "permissionPolicies": [{"domain": "oauth", "entityName": "client", "actionSet": ["edit", "view"]}],
        });
        let grants = grants(&role);
        assert!(granted(&grants, "oauth:client:edit") && granted(&grants, "oauth:client:view"));
        assert!(!granted(&grants, "oauth:client:delete"));
        for (grant, yes) in [
            ("*", true),
            ("*:*:*", true),
            ("oauth:*:*", true),
            ("oauth:client:*", true),
            ("oauth:client", false),
            ("oauth", false),
            ("oauth:token:*", false),
        ] {
            assert_eq!(granted(&BTreeSet::from([grant.to_owned()]), "oauth:client:add"), yes, "{grant}");
        }
    }

    proptest! {
        #[test]
        fn no_gap_means_that_the_platform_would_not_refuse(
            first in proptest::collection::btree_set(0_u8..6, 0..6),
            second in proptest::collection::btree_set(0_u8..6, 0..6),
            clients in proptest::collection::vec(proptest::collection::btree_set(0_u8..6, 0..4), 0..6),
        ) {
            let ids = |roles: &BTreeSet<u8>| Some(roles.iter().map(u8::to_string).collect());
            let of = |id: String, roles: &BTreeSet<u8>| Held { client: ManagedId(id), name: None, roles: ids(roles) };
            let rotators = [(Rotator::First, of("r1".into(), &first)), (Rotator::Second, of("r2".into(), &second))];
            let held: Vec<Held> = clients.iter().enumerate().map(|(i, roles)| of(format!("c{i}"), roles)).collect();
            let found = gaps(&rotators, &held);
            let covered = |rotator: &BTreeSet<u8>| clients.iter().all(|client| client.is_subset(rotator));
            let whole = covered(&first) && covered(&second) && first == second;
            prop_assert_eq!(found.is_empty(), whole);
        }
    }
}
