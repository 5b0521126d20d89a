//! How long an answer may be used, by its own word (RFC 9111 sections 5.1 and 5.2.2).
//!
//! Invariant: pure; what cannot be read says nothing, and a prohibition wins over a permission.

use std::time::Duration;

/// How long a fresh answer with these headers may be used without asking again; `None`: they do not say.
pub(super) fn fresh_for(cache_control: &[&str], age: Option<&str>) -> Option<Duration> {
    let directives = || cache_control.iter().flat_map(|header| header.split(',')).map(str::trim);
    let is = |name: &str| directives().any(|directive| directive.eq_ignore_ascii_case(name));
    if is("no-store") || is("no-cache") {
        return Some(Duration::ZERO);
    }
    let seconds = directives().filter_map(max_age).min()?;
    let age = age.and_then(|age| age.trim().parse().ok()).unwrap_or(0);
    Some(Duration::from_secs(seconds.saturating_sub(age)))
}

fn max_age(directive: &str) -> Option<u64> {
    let (name, value) = directive.split_once('=')?;
    let value = value.trim().trim_matches('"');
    name.trim().eq_ignore_ascii_case("max-age").then(|| value.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freshness() {
        let seconds = |headers: &[&str], age| fresh_for(headers, age).map(|span| span.as_secs());
        assert_eq!(seconds(&["max-age=300"], None), Some(300));
        assert_eq!(seconds(&["public, Max-Age=\"300\" , must-revalidate"], Some("100")), Some(200));
        assert_eq!(seconds(&["max-age=300", "max-age=60"], None), Some(60));
        assert_eq!(seconds(&["max-age=300"], Some("900")), Some(0));
        assert_eq!(seconds(&["max-age=300, no-cache"], None), Some(0));
        assert_eq!(seconds(&["NO-STORE"], None), Some(0));
        for nothing in ["", "public", "max-age", "max-age=", "max-age=-1", "max-age=1.5", "x-max-age=3", "s-maxage=9"] {
            assert_eq!(seconds(&[nothing], None), None, "{nothing}");
        }
    }
}
