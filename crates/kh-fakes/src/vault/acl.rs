//! Policies: which capabilities a path has (vault: vault/acl.go, docs/concepts/policies).
//!
//! Invariant: deny by default; the most specific path decides alone, an explicit deny above all.

use std::collections::BTreeMap;

use serde_json::Value;

/// What a policy can grant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Capability {
    Create,
    Read,
    Update,
    Patch,
    Delete,
    List,
    Sudo,
    Deny,
    Root,
}

const NAMES: [(&str, Capability); 9] = [
    ("create", Capability::Create),
    ("read", Capability::Read),
    ("update", Capability::Update),
    ("patch", Capability::Patch),
    ("delete", Capability::Delete),
    ("list", Capability::List),
    ("sudo", Capability::Sudo),
    ("deny", Capability::Deny),
    ("root", Capability::Root),
];

impl Capability {
    pub(super) fn name(self) -> &'static str {
        NAMES.iter().find(|(_, capability)| *capability == self).map_or("deny", |(name, _)| name)
    }
}

/// One policy: paths with their capabilities.
#[derive(Clone, Debug, Default)]
pub(super) struct Policy(BTreeMap<String, Vec<Capability>>);

impl Policy {
    /// Reads the JSON form: `{"path": {"secret/data/*": {"capabilities": ["read"]}}}`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let document: Value = serde_json::from_str(text).map_err(|_| "only JSON policies are read here".to_owned())?;
        let paths = document["path"].as_object().ok_or("a policy has paths")?;
        let mut policy = Self::default();
        for (path, rule) in paths {
            let names = rule["capabilities"].as_array().ok_or("a path has capabilities")?;
            let known = |name: &Value| NAMES.iter().find(|(known, _)| name.as_str() == Some(known)).map(|(_, c)| *c);
            let capabilities: Option<Vec<_>> = names.iter().map(known).collect();
            policy.0.insert(path.clone(), capabilities.ok_or_else(|| format!("path {path:?}: invalid capability"))?);
        }
        Ok(policy)
    }
}

/// What every token may (vault: vault/policy_store.go, defaultPolicy).
pub(super) fn default_policy() -> Policy {
    let rules = [
        ("auth/token/lookup-self", Capability::Read),
        ("auth/token/renew-self", Capability::Update),
        ("auth/token/revoke-self", Capability::Update),
        ("sys/capabilities-self", Capability::Update),
        ("sys/wrapping/lookup", Capability::Update),
        ("sys/wrapping/unwrap", Capability::Update),
    ];
    Policy(rules.into_iter().map(|(path, capability)| (path.to_owned(), vec![capability])).collect())
}

/// What all policies together grant at `path`; `[Deny]` for nothing.
pub(super) fn granted(policies: &[Policy], path: &str, listing: bool) -> Vec<Capability> {
    // the same pattern in several policies: their union; different patterns: the most specific alone
    let mut merged: BTreeMap<&str, Vec<Capability>> = BTreeMap::new();
    for (pattern, capabilities) in policies.iter().flat_map(|policy| &policy.0) {
        merged.entry(pattern).or_default().extend(capabilities);
    }
    let bare = path.trim_end_matches('/');
    let exact = merged.get(path).or_else(|| listing.then(|| merged.get(bare)).flatten());
    let mut capabilities = exact.cloned().or_else(|| {
        // a list looks without the slash first
        let without = listing.then(|| most_specific(&merged, bare)).flatten();
        without.or_else(|| most_specific(&merged, path))
    });
    if capabilities.as_ref().is_none_or(|all| all.is_empty() || all.contains(&Capability::Deny)) {
        return vec![Capability::Deny];
    }
    if let Some(all) = capabilities.as_mut() {
        all.sort_unstable();
        all.dedup();
    }
    capabilities.unwrap_or_default()
}

fn most_specific(rules: &BTreeMap<&str, Vec<Capability>>, path: &str) -> Option<Vec<Capability>> {
    let matching = rules.iter().filter(|(pattern, _)| pattern.contains(['*', '+']) && matches(pattern, path));
    matching.max_by_key(|(pattern, _)| priority(pattern)).map(|(_, capabilities)| capabilities.clone())
}

/// Higher wins: the first wildcard later; no glob at the end; fewer `+`; longer; lexicographically larger.
fn priority(pattern: &str) -> (usize, bool, std::cmp::Reverse<usize>, usize, &str) {
    let first = pattern.find(['+', '*']).unwrap_or(pattern.len());
    let wildcards = pattern.split('/').filter(|part| *part == "+").count();
    (first, !pattern.ends_with('*'), std::cmp::Reverse(wildcards), pattern.len(), pattern)
}

fn matches(pattern: &str, path: &str) -> bool {
    let (pattern, glob) = pattern.strip_suffix('*').map_or((pattern, false), |start| (start, true));
    let (wanted, found): (Vec<_>, Vec<_>) = (pattern.split('/').collect(), path.split('/').collect());
    if found.len() < wanted.len() || (!glob && found.len() != wanted.len()) {
        return false;
    }
    wanted.iter().zip(&found).enumerate().all(|(index, (wanted, found))| {
        let last = glob && index + 1 == wanted_len(pattern);
        *wanted == "+" || wanted == found || (last && found.starts_with(wanted))
    })
}

fn wanted_len(pattern: &str) -> usize {
    pattern.split('/').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rules: &[(&str, &str)], path: &str, expected: &str) {
        let policies: Vec<_> = rules
            .iter()
            .map(|(pattern, capability)| {
                let rule = serde_json::json!({"path": {*pattern: {"capabilities": [capability]}}});
                Policy::parse(&rule.to_string()).unwrap()
            })
            .collect();
        let names: Vec<_> = granted(&policies, path, path.ends_with('/')).iter().map(|c| c.name()).collect();
        assert_eq!(names.join(" "), expected, "{rules:?} at {path}");
    }

    /// The examples of vault: docs/concepts/policies.
    #[test]
    fn the_most_specific_path_decides() {
        check(&[("secret/foo", "read")], "secret/food", "deny");
        check(&[("secret/bar/*", "read")], "secret/bar/zip/zap", "read");
        check(&[("secret/bar/*", "read")], "secret/bars/zip", "deny");
        check(&[("secret/zip-*", "read")], "secret/zip-zap/zong", "read");
        check(&[("secret/zip-*", "read")], "secret/zip/zap", "deny");
        check(&[("secret/+/teamb", "read")], "secret/foo/teamb", "read");
        check(&[("secret/+/teamb", "read")], "secret/foo/bar/teamb", "deny");
        check(&[("secret/+/+/teamb", "read")], "secret/bar/foo/teamb", "read");
        check(&[("secret/*", "read"), ("secret/super-secret", "deny")], "secret/super-secret", "deny");
        check(&[("secret/*", "read"), ("secret/+/+/foo/*", "update")], "secret/a/b/foo/c", "read");
        check(&[("secret/foo*", "read"), ("secret/foob*", "update")], "secret/foobar", "update");
        check(&[("secret/foo", "read"), ("secret/foo", "update")], "secret/foo", "read update");
        check(&[("secret/metadata", "list")], "secret/metadata/", "list");
        check(&[], "secret/foo", "deny");
    }
}
