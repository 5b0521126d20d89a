//! Permissions of the Genesys Cloud authorization model (`domain:entity:action`). Invariant: a wildcard grants only at
//! the place where it stands; an operation's list is met by ANY or by ALL of it, as the published document says.

use std::collections::HashSet;

use crate::error_body::ErrorBody;

/// Published message of `missing.permissions` (an operation that needs all of its list).
const MISSING_ALL: &str =
    "Unable to perform the requested action. You are missing the following permission(s): {permissions}";
/// Published message of `missing.any.permissions` (an operation that needs one of its list).
const MISSING_ANY: &str = "Unable to perform the requested action. You must have at least one of the following permissions assigned: {permissions}";

/// What a caller may do: exact permissions and grants with `*` in any place (`routing:*:*`, `*:*:*`).
#[derive(Debug, Clone, Default)]
pub struct PermissionSet {
    exact: HashSet<Box<str>>,
    wildcards: Vec<[Option<Box<str>>; 3]>,
}

impl PermissionSet {
    /// A set from its textual grants. `*` alone stands for `*:*:*`; missing trailing places count as `*` only after a
    /// wildcard (`routing:*` is `routing:*:*`); anything else without three places is kept as an exact name.
    pub fn new<I, S>(grants: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<str>,
    {
        let mut set = Self::default();
        for grant in grants {
            set.insert(grant.as_ref().trim());
        }
        set
    }

    /// Everything (`*:*:*`).
    pub fn all() -> Self {
        Self::new(["*:*:*"])
    }

    fn insert(&mut self, grant: &str) {
        let mut places = grant.split(':');
        let first_three = [places.next(), places.next(), places.next()];
        let ends_in_wildcard = grant.ends_with('*');
        let complete = first_three.iter().all(Option::is_some) || ends_in_wildcard;
        if !grant.contains('*') || !complete || places.next().is_some() {
            self.exact.insert(grant.into());
            return;
        }
        self.wildcards.push(first_three.map(|place| place.filter(|text| *text != "*").map(Into::into)));
    }

    /// Whether `permission` (no wildcards) is granted.
    pub fn grants(&self, permission: &str) -> bool {
        self.exact.contains(permission) || self.wildcards.iter().any(|grant| wildcard_covers(grant, permission))
    }
}

fn wildcard_covers(grant: &[Option<Box<str>>; 3], permission: &str) -> bool {
    let mut places = permission.split(':');
    grant.iter().all(|wanted| {
        let place = places.next();
        wanted.as_deref().is_none_or(|text| place == Some(text))
    })
}

/// Whether one or all of an operation's permissions are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needed {
    /// One of the list is enough.
    Any,
    /// The whole list is needed.
    All,
}

/// An operation's list of permissions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// ANY or ALL.
    pub needed: Needed,
    /// The permissions, as published.
    pub permissions: Box<[Box<str>]>,
}

/// Why a caller may not call an operation: the material of the platform's 403.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// ANY or ALL.
    pub needed: Needed,
    /// ALL: those that are missing. ANY: the whole list.
    pub permissions: Vec<String>,
}

impl Requirement {
    /// What `granted` lacks, or `None` when the operation may be called.
    pub fn gap(&self, granted: &PermissionSet) -> Option<Gap> {
        let missing = || self.permissions.iter().filter(|permission| !granted.grants(permission));
        let permissions: Vec<String> = match self.needed {
            Needed::All => missing().map(ToString::to_string).collect(),
            Needed::Any if missing().count() < self.permissions.len() => return None,
            Needed::Any => self.permissions.iter().map(ToString::to_string).collect(),
        };
        (!permissions.is_empty()).then_some(Gap { needed: self.needed, permissions })
    }
}

impl Gap {
    /// The platform's code: `missing.any.permissions` or `missing.permissions`.
    pub fn code(&self) -> &'static str {
        match self.needed {
            Needed::Any => "missing.any.permissions",
            Needed::All => "missing.permissions",
        }
    }

    /// The platform's 403 with the list in its message.
    pub fn error_body(&self, correlation_id: &str) -> ErrorBody {
        let template = match self.needed {
            Needed::Any => MISSING_ANY,
            Needed::All => MISSING_ALL,
        };
        let list = format!("[{}]", self.permissions.join(", "));
        ErrorBody::with_params(403, self.code(), template, &[("permissions", &list)], correlation_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(needed: Needed, required: &[&str], granted: &[&str]) -> Option<Vec<String>> {
        let requirement = Requirement { needed, permissions: required.iter().map(|text| (*text).into()).collect() };
        requirement.gap(&PermissionSet::new(granted)).map(|gap| gap.permissions)
    }

    #[test]
    fn any_is_met_by_one_and_all_by_the_whole_list() {
        let list = ["routing:queue:view", "routing:queue:search"];
        assert_eq!(gap(Needed::Any, &list, &["routing:queue:search"]), None);
        assert_eq!(gap(Needed::Any, &list, &["routing:queue:edit"]), Some(list.map(Into::into).to_vec()));
        assert_eq!(gap(Needed::All, &list, &["routing:queue:search"]), Some(vec!["routing:queue:view".into()]));
        assert_eq!(gap(Needed::All, &list, &list), None);
        assert_eq!(gap(Needed::All, &[], &[]), None);
        assert_eq!(gap(Needed::Any, &[], &[]), None, "an empty list needs nothing");
    }

    #[test]
    fn wildcards_grant_where_they_stand() {
        let cases = [
            ("*:*:*", "routing:queue:view", true),
            ("*", "routing:queue:view", true),
            ("*:*:*", "content_management_user", true),
            ("routing:*:*", "routing:queue:view", true),
            ("routing:*", "routing:queue:view", true),
            ("routing:*:*", "routingx:queue:view", false),
            ("routing:*:view", "routing:queue:view", true),
            ("routing:*:view", "routing:queue:edit", false),
            ("*:queue:view", "routing:queue:view", true),
            ("routing:queue", "routing:queue:view", false),
            ("routing:queue:view", "routing:queue:view", true),
            ("routing:queue:view:*", "routing:queue:view", false),
            ("", "routing:queue:view", false),
        ];
        for (grant, permission, expected) in cases {
            assert_eq!(PermissionSet::new([grant]).grants(permission), expected, "{grant} / {permission}");
        }
    }

    #[test]
    fn the_refusal_carries_the_platforms_code_and_the_list() {
        let any = Gap { needed: Needed::Any, permissions: vec!["a:b:c".into(), "a:b:d".into()] }.error_body("cid");
        assert_eq!((any.status, any.code.as_str()), (403, "missing.any.permissions"));
        assert!(any.message.ends_with("assigned: [a:b:c, a:b:d]"), "{}", any.message);
        let all = Gap { needed: Needed::All, permissions: vec!["a:b:c".into()] }.error_body("cid");
        assert_eq!(all.code, "missing.permissions");
        assert!(all.message.ends_with("permission(s): [a:b:c]"), "{}", all.message);
    }
}
