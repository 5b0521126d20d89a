//! Path patterns of fault rules. Invariant: `*` is exactly one segment, `**` zero or more; no other wildcard exists.

/// Whether `path` matches `pattern`.
pub(super) fn matches(pattern: &str, path: &str) -> bool {
    let pattern: Vec<&str> = pattern.trim_matches('/').split('/').collect();
    let path: Vec<&str> = path.trim_matches('/').split('/').collect();
    segments(&pattern, &path)
}

/// Dynamic programming over the segments, so that many `**` cannot blow up.
fn segments(pattern: &[&str], path: &[&str]) -> bool {
    // reachable[i]: the pattern so far can have consumed the first i segments.
    let mut reachable = vec![false; path.len() + 1];
    if let Some(start) = reachable.first_mut() {
        *start = true;
    }
    for &part in pattern {
        let mut next = vec![false; path.len() + 1];
        let mut any_before = false;
        for (index, slot) in next.iter_mut().enumerate() {
            let here = reachable.get(index).copied().unwrap_or(false);
            any_before |= here;
            *slot = if part == "**" {
                any_before
            } else {
                let before = index.checked_sub(1);
                before.is_some_and(|before| {
                    reachable.get(before).copied().unwrap_or(false)
                        && (part == "*" || path.get(before).is_some_and(|&segment| segment == part))
                })
            };
        }
        reachable = next;
    }
    reachable.last().copied().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns() {
        for (pattern, path, expected) in [
            ("/oauth/token", "/oauth/token", true),
            ("/api/v2/users/*", "/api/v2/users/me", true),
            ("/api/v2/users/*", "/api/v2/users", false),
            ("/api/v2/users/*", "/api/v2/users/a/b", false),
            ("/api/**", "/api/v2/users/a/b", true),
            ("/api/**", "/api", true),
            ("/**/secret", "/api/v2/oauth/clients/x/secret", true),
            ("/**/secret", "/api/v2/oauth/clients/x/secrets", false),
            ("**", "/anything/at/all", true),
            ("/api/**/b/**/d", "/api/b/c/b/d", true),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} on {path}");
        }
    }
}
