//! Requirements against identities.

use std::sync::Arc;

use kh_core::identity::IdentityBuilder;

use super::*;

fn builder() -> IdentityBuilder {
    Identity::builder(Arc::from("https://issuer.example"))
}

fn with_scopes(scopes: &str) -> Identity {
    let builder = scopes.split(' ').filter(|word| !word.is_empty()).fold(builder(), IdentityBuilder::scope);
    builder.build().unwrap()
}

/// Sets are divided by `|`; a word that begins with `p/` is a permission.
fn require(sets: &str) -> Requirement {
    let word = |text: &str| match text.strip_prefix("p/") {
        Some(permission) => Word::permission(permission.to_owned()).unwrap(),
        None => Word::scope(text.to_owned()).unwrap(),
    };
    Requirement::any_of(sets.split('|').map(|set| set.split(' ').map(word).collect()).collect()).unwrap()
}

#[test]
fn words_are_compared_whole() {
    for (required, granted, expected) in [
        ("a:read", "a:read", None),
        ("a:read b", "b a:read c", None),
        // the table of proxies in which a scope that only begins like the required one must not do
        (
            "analytics:reports:read user:read",
            "analytics:reports:reader user:read",
            Some("analytics:reports:read user:read"),
        ),
        ("a:read", "a", Some("a:read")),
        ("a", "a:read", Some("a")),
        ("a:read", "A:read", Some("a:read")),
        ("a:read", "a:read,b", Some("a:read")),
        ("a:read", "xa:read", Some("a:read")),
        ("a", "", Some("a")),
        ("a|b", "b", None),
        ("a b|c", "a", Some("a b")),
        ("a b c|d e", "d", Some("d e")),
        ("a b|c d", "x", Some("a b")),
    ] {
        let requirement = require(required);
        let identity = with_scopes(granted);
        let decision = requirement.decide(&identity);
        let expected =
            expected.map_or(Decision::Allowed, |scope| Decision::InsufficientScope { scope: Some(scope.into()) });
        assert_eq!(decision, expected, "{required} of {granted:?}");
    }
}

#[test]
fn a_permission_is_no_scope() {
    let permitted = builder().permission("routing:queue:view").scope("routing").build().unwrap();
    let refused = |scope: Option<&str>| Decision::InsufficientScope { scope: scope.map(str::to_owned) };
    for (required, expected) in [
        ("p/routing:queue:view", Decision::Allowed),
        ("routing p/routing:queue:view", Decision::Allowed),
        ("routing:queue:view", refused(Some("routing:queue:view"))),
        ("p/routing", refused(None)),
        ("p/routing:queue:*", refused(None)),
        ("p/routing:queue", refused(None)),
        ("p/x|users", refused(Some("users"))),
        ("routing p/x", refused(None)),
        ("users p/x|users:readonly p/routing:queue:view", refused(Some("users:readonly"))),
    ] {
        assert_eq!(require(required).decide(&permitted), expected, "{required}");
    }
}

#[test]
fn conditions_are_on_whole_values_of_the_same_type() {
    let identity = builder()
        .claim_text("tenantId", "11e8")
        .claim_number("icBUId", -4_532)
        .claim_bool("verified", true)
        .claim_list("roles", ["Agent", "Manager"])
        .claim_text("role", "Agent")
        .build()
        .unwrap();
    let text = |text: &str| Value::Text(text.into());
    for (claim, test, met) in [
        ("tenantId", ClaimTest::Equals(text("11e8")), true),
        ("tenantId", ClaimTest::Equals(text("11e")), false),
        ("tenantId", ClaimTest::Equals(text("11E8")), false),
        ("tenantid", ClaimTest::Equals(text("11e8")), false),
        ("tenantId", ClaimTest::OneOf([text("x"), text("11e8")].into()), true),
        ("tenantId", ClaimTest::OneOf([text("x"), text("1")].into()), false),
        ("icBUId", ClaimTest::Equals(Value::Number(-4_532)), true),
        ("icBUId", ClaimTest::Equals(text("-4532")), false),
        ("icBUId", ClaimTest::OneOf([Value::Number(1), Value::Number(-4_532)].into()), true),
        ("verified", ClaimTest::Equals(Value::Bool(true)), true),
        ("verified", ClaimTest::Equals(Value::Bool(false)), false),
        ("verified", ClaimTest::Equals(text("true")), false),
        ("roles", ClaimTest::Contains(text("Manager")), true),
        ("roles", ClaimTest::Contains(text("Mana")), false),
        ("roles", ClaimTest::Contains(Value::Number(1)), false),
        ("roles", ClaimTest::Equals(text("Agent")), false),
        ("role", ClaimTest::Contains(text("Agent")), true),
        ("role", ClaimTest::Contains(text("A")), false),
        ("missing", ClaimTest::Equals(text("")), false),
    ] {
        let Ok(condition) = Condition::new(claim, test.clone()) else {
            assert_eq!(claim, "missing", "only an empty value is refused");
            continue;
        };
        let requirement = Requirement::any_token().with_conditions(vec![condition]).unwrap();
        let expected = if met { Decision::Allowed } else { Decision::ConditionNotMet { claim } };
        assert_eq!(requirement.decide(&identity), expected, "{claim} {test:?}");
        assert_eq!(requirement.claims().collect::<Vec<_>>(), [claim]);
        assert_eq!(requirement.decide(&with_scopes("a")), Decision::ConditionNotMet { claim }, "a claim is missing");
    }
}

#[test]
fn scopes_and_every_condition_are_required_together() {
    let condition = |claim: &str| Condition::new(claim, ClaimTest::Equals(Value::Bool(true))).unwrap();
    let requirement = require("a").with_conditions(vec![condition("x"), condition("y")]).unwrap();
    let token = |scope: &str, claims: &[&str]| {
        let builder = builder().scope(scope);
        claims.iter().fold(builder, |builder, claim| builder.claim_bool(claim, true)).build().unwrap()
    };
    assert_eq!(requirement.decide(&token("a", &["x", "y"])), Decision::Allowed);
    assert_eq!(requirement.decide(&token("a", &["x"])), Decision::ConditionNotMet { claim: "y" });
    let refused = Decision::InsufficientScope { scope: Some("a".to_owned()) };
    assert_eq!(requirement.decide(&token("b", &["x", "y"])), refused);
}

#[test]
fn nothing_is_public_by_default() {
    assert!(Requirement::Public.is_public());
    assert!(!Requirement::any_token().is_public());
    assert_eq!(Requirement::any_token().decide(&with_scopes("")), Decision::Allowed);
    assert_eq!(Requirement::any_of(Vec::new()), Err(RequirementError::EmptySet));
    assert_eq!(Requirement::any_of(vec![Vec::new()]), Err(RequirementError::EmptySet));
    let condition = Condition::new("a", ClaimTest::Equals(Value::Bool(true))).unwrap();
    assert_eq!(Requirement::Public.with_conditions(vec![condition]), Err(RequirementError::PublicCondition));
    assert_eq!(Requirement::Public.with_conditions(Vec::new()), Ok(Requirement::Public));
}

#[test]
fn what_cannot_stand_in_a_challenge_is_refused() {
    for (text, error) in [
        ("", RequirementError::WordLength),
        ("a b", RequirementError::WordCharacter),
        ("a\"b", RequirementError::WordCharacter),
        ("a\\b", RequirementError::WordCharacter),
        ("a\r\nX-Injected: 1", RequirementError::WordCharacter),
        ("ä", RequirementError::WordCharacter),
        ("\u{7f}", RequirementError::WordCharacter),
    ] {
        assert_eq!(Word::scope(text), Err(error), "{text:?}");
        assert_eq!(Word::permission(text), Err(error), "{text:?}");
    }
    assert!(Word::scope("a".repeat(TEXT_MAX)).is_ok() && Word::scope("a".repeat(TEXT_MAX + 1)).is_err());
    assert_eq!(Requirement::scopes("a  b"), Err(RequirementError::WordLength));
    let word = || Word::scope("a").unwrap();
    assert!(Requirement::any_of(vec![vec![word(); WORDS_MAX]; SETS_MAX]).is_ok());
    assert_eq!(Requirement::any_of(vec![vec![word(); WORDS_MAX + 1]]), Err(RequirementError::TooMany));
    assert_eq!(Requirement::any_of(vec![vec![word()]; SETS_MAX + 1]), Err(RequirementError::TooMany));
    let empty = ClaimTest::OneOf(Box::default());
    assert_eq!(Condition::new("a", empty), Err(RequirementError::Condition));
}
