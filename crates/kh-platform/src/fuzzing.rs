//! What fuzz targets and seeded tests check of what an issuer may answer about callers' tokens: this module exists for
//! them only.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{Address, PlainHttp, inbound};

/// The organisation whose tokens are taken here.
const ORGANIZATION: &str = "o-1";

/// Any answer: metadata is believed of its own issuer only and leads to no plain address elsewhere; a token is of the
/// organisation that the document names once and plainly; a role grants what it says word for word, and a wildcard only
/// words that are known.
pub fn vouching(body: &[u8]) {
    let issuer = Address::parse("https://id.example/t1", PlainHttp::LoopbackOnly).expect("a fixed address");
    let urls = inbound::named_addresses(body, &issuer);
    assert!(urls.iter().flatten().flatten().all(|url| url.scheme() == "https" && url.username().is_empty()));
    let known: BTreeSet<String> =
        ["routing:queue:view", "routing:queue:edit", "users:user:view"].map(str::to_owned).into();
    let words = inbound::granted(body, &known).unwrap_or_default();
    let spelt_out = inbound::granted(body, &BTreeSet::new()).unwrap_or_default();
    for word in &words {
        assert!(!word.contains('*'), "a wildcard is no word: {word}");
        assert!(known.contains(word) || spelt_out.contains(word), "{word} comes from nowhere");
    }
    // members that nobody asks for are skipped without a look at their text, so this reader refuses some more
    let Ok(document) = serde_json::from_slice::<Value>(body) else { return };
    let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str);
    if urls.is_some() {
        assert_eq!(text("/issuer").map(|named| named.trim_end_matches('/')), Some(issuer.text()));
    }
    if inbound::is_of(body, ORGANIZATION) {
        assert_eq!(text("/organization/id"), Some(ORGANIZATION));
    }
    let policies = document.get("permissionPolicies").and_then(Value::as_array).into_iter().flatten();
    let unbound = policies.filter(|policy| policy.get("resourceConditionNode").is_none_or(Value::is_null)).count();
    let own = document.get("permissions").and_then(Value::as_array).map_or(0, Vec::len);
    assert!(words.is_empty() || unbound + own > 0, "a grant under a condition is no grant");
}

#[cfg(test)]
mod tests {
    use kh_core::{Entropy, SeededEntropy};

    use super::*;

    const SEEDS: [&str; 5] = [
        r#"{"issuer":"https://id.example/t1/","jwks_uri":"https://k.example/j?a=b","introspection_endpoint":"https://id.example/i"}"#,
        r#"{"organization":{"id":"o-1","name":"A"},"homeOrganization":{"id":"o-1"},"authorizedScope":["users"],"OAuthClient":{"id":"c","authorizedGrantType":"CLIENT-CREDENTIALS","roleDivisions":[{"roleId":"r","divisionId":"*"}]}}"#,
        r#"{"id":"r","permissions":["users:user:view"],"permissionPolicies":[{"domain":"routing","entityName":"queue","actionSet":["*"],"resourceConditionNode":null}]}"#,
        r#"{"permissionPolicies":[{"domain":"*","entityName":"*","actionSet":["*"],"resourceConditionNode":{"conjunction":"AND"}}]}"#,
        r#"{"permissions":["*","routing:*:*","routing:queue:v*"],"permissionPolicies":[{"domain":"a","entityName":"b","actionSet":["c","*"]}]}"#,
    ];
    const PIECES: [&str; 22] = [
        "\"",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "*",
        "null",
        "1",
        "o-1",
        "\"id\":\"o-1\"",
        "\\u002a",
        "\\",
        "http://",
        "https://id.example/t1",
        "@",
        "/",
        "\"issuer\":",
        "\"permissions\":[\"*\"]",
        "\u{feff}",
        "\0",
    ];

    #[test]
    fn answers_about_tokens_of_any_bytes() {
        let entropy = SeededEntropy::new(7_662);
        let below = |bound: usize| usize::try_from(entropy.below(bound as u64)).unwrap();
        let issuer = Address::parse("https://id.example/t1", PlainHttp::LoopbackOnly).unwrap();
        let (mut metadata, mut tokens, mut roles) = (0, 0, 0);
        for _ in 0..100_000 {
            let mut bytes = SEEDS[below(SEEDS.len())].as_bytes().to_vec();
            for _ in 0..below(4) {
                let at = below(bytes.len() + 1);
                let end = (at + below(4)).min(bytes.len());
                bytes.splice(at..end, PIECES[below(PIECES.len())].bytes());
            }
            vouching(&bytes);
            metadata += usize::from(inbound::named_addresses(&bytes, &issuer).is_some());
            tokens += usize::from(inbound::is_of(&bytes, ORGANIZATION));
            roles += usize::from(inbound::granted(&bytes, &BTreeSet::new()).is_some_and(|words| !words.is_empty()));
        }
        assert!(metadata > 3_000 && tokens > 3_000 && roles > 3_000, "{metadata} {tokens} {roles} were taken");
    }
}
