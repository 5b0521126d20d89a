//! What an identity keeps and what it takes.

use std::sync::Arc;

use super::*;

/// What a 741-byte RS256 access token with three scopes says.
fn typical() -> IdentityBuilder {
    Identity::builder("https://login.example.com/".into())
        .subject("0f5a2c1e-6d1b-4f39-9d55-2d6c0c8c8d11")
        .client("9b1f5f0a-8f0e-4c63-8d31-64a3d7d9a5f2")
        .token_id("4f3a0d61-54d3-4a3c-9a29-2f6f3d1a5b7c")
        .audience("https://api.example.com")
        .scope("analytics:reports:read")
        .scope("user:read")
        .scope("routing:queue:view")
        .issued_at(UnixMillis(1_800_000_000_000))
        .expires_at(UnixMillis(1_800_000_300_000))
        .not_before(UnixMillis(1_800_000_000_000))
}

#[test]
fn what_was_said_is_kept_word_for_word() {
    let identity = typical()
        .permission("routing:queue:edit")
        .confirmation(Confirmation::Jkt([7; 32]))
        .claim_text("tenant", "acme")
        .claim_number("level", -3)
        .claim_bool("partner", true)
        .claim_list("roles", ["Agent", "", "Ärztin"])
        .build()
        .unwrap();
    assert_eq!(&**identity.issuer(), "https://login.example.com/");
    assert_eq!(identity.subject(), Some("0f5a2c1e-6d1b-4f39-9d55-2d6c0c8c8d11"));
    assert_eq!(identity.client(), Some("9b1f5f0a-8f0e-4c63-8d31-64a3d7d9a5f2"));
    assert_eq!(identity.token_id(), Some("4f3a0d61-54d3-4a3c-9a29-2f6f3d1a5b7c"));
    assert_eq!(identity.audience().collect::<Vec<_>>(), ["https://api.example.com"]);
    assert_eq!(
        identity.scopes().iter().collect::<Vec<_>>(),
        ["analytics:reports:read", "user:read", "routing:queue:view"]
    );
    assert_eq!(identity.permissions().iter().collect::<Vec<_>>(), ["routing:queue:edit"]);
    assert_eq!(identity.issued_at(), Some(UnixMillis(1_800_000_000_000)));
    assert_eq!(identity.expires_at(), Some(UnixMillis(1_800_000_300_000)));
    assert_eq!(identity.not_before(), Some(UnixMillis(1_800_000_000_000)));
    assert_eq!(identity.confirmation(), Some(&Confirmation::Jkt([7; 32])));
    assert_eq!(identity.claim("tenant"), Some(ClaimValue::Text("acme")));
    assert_eq!(identity.claim("level"), Some(ClaimValue::Number(-3)));
    assert_eq!(identity.claim("partner"), Some(ClaimValue::Bool(true)));
    let Some(ClaimValue::List(roles)) = identity.claim("roles") else { panic!("a list") };
    assert_eq!(roles.collect::<Vec<_>>(), ["Agent", "", "Ärztin"]);
    // a value is not a name: "acme" stands where a value stands
    assert_eq!(identity.claim("acme"), None);
    assert_eq!(identity.claim("tacme"), None);
}

#[test]
fn what_was_not_said_is_absent_and_the_epoch_is_a_time() {
    let identity = Identity::builder("i".into()).expires_at(UnixMillis(0)).build().unwrap();
    assert_eq!((identity.subject(), identity.client(), identity.token_id()), (None, None, None));
    assert_eq!((identity.issued_at(), identity.not_before()), (None, None));
    assert_eq!(identity.expires_at(), Some(UnixMillis(0)));
    assert!(identity.scopes().is_empty() && identity.permissions().is_empty());
    assert_eq!((identity.audience().next(), identity.confirmation(), identity.claim("sub")), (None, None, None));
    let empty = Identity::builder("i".into()).subject("").build().unwrap();
    assert_eq!(empty.subject(), Some(""));
}

#[test]
fn scopes_are_whole_words() {
    let identity = Identity::builder("i".into()).scope("user:read").scope("a b").scope("").build().unwrap();
    let scopes = identity.scopes();
    for granted in ["user:read", "a b", ""] {
        assert!(scopes.contains(granted), "{granted:?}");
    }
    for not in ["user", "user:", "user:read:all", "User:read", "a", "b", "user:read a b", "\0"] {
        assert!(!scopes.contains(not), "{not:?}");
    }
}

#[test]
fn a_client_that_is_its_own_subject_is_kept_once() {
    let id = "9b1f5f0a-8f0e-4c63-8d31-64a3d7d9a5f2";
    let one = Identity::builder("i".into()).client(id).subject(id).build().unwrap();
    assert_eq!((one.subject(), one.client()), (Some(id), Some(id)));
    let alone = Identity::builder("i".into()).subject(id).build().unwrap();
    assert_eq!((alone.client(), alone.weight()), (None, one.weight()));
    assert_ne!(alone, one);
}

#[test]
fn what_does_not_fit_is_refused_and_not_cut() {
    let issuer: Arc<str> = "i".into();
    let longest = "x".repeat(WORD_MAX);
    let identity = Identity::builder(issuer.clone()).subject(&longest).scope("s").build().unwrap();
    assert_eq!((identity.subject(), identity.scopes().contains("s")), (Some(longest.as_str()), true));
    let longer = "x".repeat(WORD_MAX + 1);
    assert_eq!(Identity::builder(issuer.clone()).subject(&longer).build(), Err(TooLarge));
    assert_eq!(Identity::builder(issuer.clone()).client(&longer).build(), Err(TooLarge));
    assert_eq!(Identity::builder(issuer.clone()).claim_text("a", &longest).build(), Err(TooLarge));
    assert_eq!(Identity::builder(issuer.clone()).claim_list("a", [longest.as_str(), "b"]).build(), Err(TooLarge));
    let many = (0..20).fold(Identity::builder(issuer), |builder, _| builder.permission(&longest));
    assert_eq!(many.build(), Err(TooLarge));
}

/// With the counters of an `Arc` it fills one of the allocator's blocks of 96 bytes; one byte more takes 112.
#[test]
fn an_identity_fills_one_small_block_beside_its_text() {
    assert_eq!(size_of::<Identity>() + 2 * size_of::<usize>(), 96);
}

#[test]
fn every_section_is_found_at_its_full_length() {
    let longest = "x".repeat(WORD_MAX);
    let builder = Identity::builder("i".into()).subject(&longest).client("c").token_id(&longest);
    let identity = builder.client(&longest.replace('x', "y")).audience("a").scope("s").permission("p");
    let identity = identity.claim_text("tenant", "acme").build().unwrap();
    assert_eq!((identity.subject(), identity.token_id()), (Some(longest.as_str()), Some(longest.as_str())));
    assert!(identity.client().is_some_and(|client| client.len() == WORD_MAX && client.starts_with('y')));
    assert_eq!(identity.audience().collect::<Vec<_>>(), ["a"]);
    assert!(identity.scopes().iter().eq(["s"]) && identity.permissions().iter().eq(["p"]));
    assert_eq!(identity.claim("tenant"), Some(ClaimValue::Text("acme")));
}

#[test]
fn a_typical_identity_takes_at_most_350_bytes_of_heap_and_says_so() {
    for (name, builder) in [
        ("bearer", typical()),
        ("bound", typical().confirmation(Confirmation::X5tS256([1; 32]))),
        ("with a claim", typical().claim_text("tenant", "acme")),
    ] {
        let identity = builder.build().unwrap();
        let weight = identity.weight();
        // a copy allocates exactly what one holds; building has buffers beside it that are gone afterwards
        let taken = allocation_counter::measure(|| drop(std::hint::black_box(Arc::new(identity.clone()))));
        assert_eq!((taken.bytes_current, taken.bytes_total), (0, weight as u64), "{name}");
        if name == "bearer" {
            assert!(weight <= 350, "{weight} bytes");
        }
    }
}

#[test]
fn debug_tells_who_it_is_and_no_other_claim() {
    let told = format!("{:?}", typical().claim_text("email", "jane@example.com").build().unwrap());
    assert!(told.contains("0f5a2c1e") && !told.contains("jane") && !told.contains("4f3a0d61"), "{told}");
}
