//! What fuzz targets and seeded tests check of any input: this module exists for them only.

use crate::{CanonicalPath, Found, RouteRule, RouteTable};

/// The short form of a route. A mistake is told within the line; a line that parses is found by a request that it
/// describes, and never makes a route public.
pub fn require_line(text: &str) {
    let rule = match RouteRule::parse_line(text) {
        Ok(rule) => rule,
        Err(mistake) => {
            assert!((1..=text.len() + 1).contains(&mistake.column), "column {} of {text:?}", mistake.column);
            return;
        }
    };
    assert!(!rule.requirement().is_public(), "{text:?}");
    let words = rule.requirement().sets().flatten().map(crate::Word::as_str).collect::<Vec<_>>().join(" ");
    assert_eq!(format!("{}={words}", rule.name()), text);
    let (method, template) = rule.name().split_once(' ').expect("a rule has a method and a path");
    let method = if method == "*" { "ANY" } else { method }.to_owned();
    let fill = |part: &str| match part {
        "**" => "q1/q2".to_owned(),
        part if part == "*" || part.starts_with('{') => "q0".to_owned(),
        word => word.to_owned(),
    };
    let path = template.split('/').map(fill).collect::<Vec<_>>().join("/");
    let longer = format!("{path}/q3");
    let open = template.ends_with("/**");
    let table = RouteTable::new(vec![rule.clone()]).expect("one rule stands beside no other");
    let found = |path: &str| {
        let path = CanonicalPath::parse(path).expect("a template's words are those of an accepted path");
        matches!(table.find("", &method, &path), Found::Route(0, _))
    };
    assert!(found(&path), "{text:?} has {path:?}");
    if !template.ends_with('/') {
        assert_eq!(found(&longer), open, "{text:?} and {longer:?}");
    }
}

#[cfg(test)]
mod tests {
    use kh_core::{Entropy, SeededEntropy};

    use crate::{RouteRule, fuzzing};

    const SEEDS: [&str; 8] = [
        "GET /path/{id}=scope.a scope.b",
        "* /**=a",
        "POST /a%20b/%C3%A9/*/x=",
        "DELETE /api/v2/users/{userId}/**=users users:readonly",
        "PUT /a;b/c.d/=x:y",
        "GET /{a}/{b}/{c}=*",
        "PATCH /a/../b=c",
        "GET  /a=b c",
    ];
    const PIECES: [&str; 24] = [
        "/", "*", "**", "{", "}", "{id}", "=", " ", "%", "%2F", "%41", "%20", "..", ".", ";", "?", "#", "\"", "\\",
        "ä", "a", "GET", "\0", "\n",
    ];

    /// One of the seeds, with some of its characters replaced, left out or added.
    fn mutated(entropy: &SeededEntropy) -> String {
        let below = |bound: usize| usize::try_from(entropy.below(bound as u64)).unwrap();
        let mut text: Vec<char> = SEEDS[below(SEEDS.len())].chars().collect();
        for _ in 0..below(4) {
            let at = below(text.len() + 1);
            let end = (at + below(3)).min(text.len());
            text.splice(at..end, PIECES[below(PIECES.len())].chars());
        }
        text.into_iter().collect()
    }

    #[test]
    fn any_require_line() {
        let entropy = SeededEntropy::new(5_001);
        let mut accepted = 0;
        for _ in 0..100_000 {
            let text = mutated(&entropy);
            fuzzing::require_line(&text);
            accepted += usize::from(RouteRule::parse_line(&text).is_ok());
        }
        assert!((20_000..80_000).contains(&accepted), "{accepted} of the lines were accepted");
    }
}
