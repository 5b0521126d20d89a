//! Verdicts over rules, platforms and every spelling of a guarded path that somebody might try.

use proptest::prelude::*;

use super::*;

fn list(rules: &[&str], all: bool, secrets: bool) -> AllowList {
    let rules: Vec<AllowRule> = rules.iter().map(|rule| AllowRule((*rule).to_owned())).collect();
    AllowList::parse(&rules, all, secrets).unwrap()
}

#[track_caller]
fn check(allow: &AllowList, kind: PlatformKind, call: &str, expected: Verdict) {
    let (method, path) = call.split_once(' ').unwrap();
    let path = CanonicalPath::parse(path).unwrap();
    assert_eq!(allow.decide(kind, method, &path), expected, "{call}");
}

#[test]
fn verdicts() {
    use PlatformKind::{Cxone, Genesys, Oauth2};
    use Verdict::{Allowed, Guarded, NotListed};
    let none = list(&[], false, false);
    let users = list(&["GET /api/v2/users/**", "POST /api/v2/users"], false, false);
    let everything = list(&["* /**"], true, false);
    let trusted = list(&["* /api/v2/oauth/**"], false, true);
    assert!(none.is_empty() && !users.is_empty() && !everything.is_empty());
    for (allow, kind, call, expected) in [
        (&none, Genesys, "GET /api/v2/users", NotListed),
        (&users, Genesys, "GET /api/v2/users/1", Allowed),
        (&users, Genesys, "DELETE /api/v2/users/1", NotListed),
        (&users, Genesys, "POST /api/v2/oauth/clients", Guarded),
        (&everything, Genesys, "POST /api/v2/oauth/clients", Guarded),
        (&everything, Genesys, "GET /api/v2/oauth/clients", Allowed),
        (&everything, Genesys, "PUT /api/v2/oauth/clients/1", Allowed),
        (&everything, Genesys, "POST /api/v2/oauth/clients/1/secret", Guarded),
        (&everything, Genesys, "POST /api/v2/oauth/clients/1/usage/query", Allowed),
        (&everything, Genesys, "DELETE /api/v2/tokens/me", Guarded),
        (&everything, Cxone, "POST /access-key-management/v1/access-keys", Guarded),
        (&everything, Cxone, "GET /access-key-management/v1/access-keys", Allowed),
        (&everything, Cxone, "POST /auth/token", Guarded),
        (&everything, Cxone, "POST /api/v2/oauth/clients", Allowed),
        (&everything, Oauth2, "POST /api/v2/oauth/clients", Allowed),
        (&trusted, Genesys, "POST /api/v2/oauth/clients/1/secret", Allowed),
        (&trusted, Genesys, "POST /api/v2/users", NotListed),
    ] {
        check(allow, kind, call, expected);
    }
}

#[test]
fn spellings_of_a_guarded_call_are_guarded_or_refused() {
    let everything = list(&["* /**"], true, false);
    for path in [
        "/api/v2/oauth/clients/",
        "/API/V2/OAuth/Clients",
        "/api/v2/oauth/clients;a=b",
        "/api/v2/oauth;x/clients",
        "/api/v2/oauth/clients%3Ba=b",
        "/api/v2/oauth/clients/7/SECRET",
        "/api/v2/oauth/clients/7;v=1/secret/",
    ] {
        check(&everything, PlatformKind::Genesys, &format!("POST {path}"), Verdict::Guarded);
        check(&everything, PlatformKind::Genesys, &format!("post {path}"), Verdict::Guarded);
    }
    for path in [
        "/api/v2/oauth/%63lients",
        "/api/v2/oauth//clients",
        "/api/v2/oauth/./clients",
        "/api/v2/oauth/x/../clients",
        "/api/v2/oauth/x/..;/clients",
        "/api/v2/oauth%2Fclients",
        "/api/v2/oauth\\clients",
        "/api/v2/oauth/clients%00",
        "/api/v2/oauth/clients%20/%2e%2e",
        "/api/v2/oauth/%2563lients",
    ] {
        assert!(CanonicalPath::parse(path).is_err(), "{path}");
    }
}

#[test]
fn the_first_mistake_is_told_with_its_index() {
    let rules = ["GET /a", "GET b"].map(|rule| AllowRule(rule.to_owned()));
    let error = AllowList::parse(&rules, false, false).unwrap_err();
    assert_eq!((error.index, error.column), (1, 5));
    let many = vec![AllowRule("GET /a".to_owned()); RULES_MAX + 1];
    assert!(AllowList::parse(&many, false, false).is_err());
    assert!(AllowList::parse(&many[1..], false, false).is_ok());
}

/// One letter of a guarded path, spelled in a way that some server might read as that letter.
fn spelling(letter: char) -> impl Strategy<Value = String> {
    let byte = u32::from(letter);
    let slash = letter == '/';
    let tricks = vec![
        format!("%{byte:02x}"),
        format!("%{byte:02X}"),
        format!("%25{byte:02x}"),
        if slash { "//".to_owned() } else { letter.to_string() },
        if slash { "/./".to_owned() } else { letter.to_string() },
    ];
    let parameter = if slash { ";a=b/".to_owned() } else { letter.to_string() };
    prop_oneof![
        20 => Just(letter.to_string()),
        20 => Just(letter.to_ascii_uppercase().to_string()),
        10 => Just(parameter),
        1 => prop::sample::select(tricks),
    ]
}

fn spelled(path: &'static str) -> impl Strategy<Value = String> {
    path.chars().map(|letter| spelling(letter).boxed()).collect::<Vec<_>>().prop_map(|letters| letters.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_048))]

    #[test]
    fn no_spelling_gets_through(path in prop_oneof![
        spelled("/api/v2/oauth/clients"),
        spelled("/api/v2/oauth/clients/x/secret"),
        spelled("/api/v2/users/x/password"),
    ]) {
        let everything = list(&["* /**"], true, false);
        if let Ok(canonical) = CanonicalPath::parse(&path) {
            prop_assert_eq!(everything.decide(PlatformKind::Genesys, "POST", &canonical), Verdict::Guarded, "{}", path);
        }
    }
}

#[test]
fn the_property_reaches_accepted_spellings() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let strategy = spelled("/api/v2/oauth/clients");
    let accepted = (0..4_096)
        .filter(|_| {
            let path = strategy.new_tree(&mut runner).unwrap().current();
            path != "/api/v2/oauth/clients" && CanonicalPath::parse(&path).is_ok()
        })
        .count();
    assert!(accepted > 20, "only {accepted} changed spellings were accepted");
}
