//! JWT access tokens: what is in them, which scopes, who may ask about them and who gives them back.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use kh_core::{
    SecretString, Sha256, SystemEntropy,
    port::{ClientRecord, StateStore, TokenBinding, TokenFormat},
};
use kh_issuer::{
    Algorithm, Asked, Authority, Held, Issuer, IssuerError, IssuerOptions, Login, LoginError, NewClient, NewTokens,
    RevokeError, SigningPolicy,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::{ISSUER, START, World, add, bytes, jwt_client, login, new_client};

fn decoded(segment: &str) -> Vec<u8> {
    BASE64_URL_SAFE_NO_PAD.decode(segment).unwrap()
}

/// Header and claims of a token whose signature one of the published keys verifies; by the key set alone, as a stranger
/// does it.
fn verified(issuer: &Issuer, token: &str) -> (Value, Value) {
    let [header, payload, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!("three segments") };
    let head: Value = serde_json::from_slice(&decoded(header)).unwrap();
    let set: Value = serde_json::from_str(&issuer.authority().unwrap().keys.key_set()).unwrap();
    let key = set["keys"].as_array().unwrap().iter().find(|key| key["kid"] == head["kid"]).unwrap();
    assert_eq!((key["alg"].as_str(), head["alg"].as_str()), (Some("ES256"), Some("ES256")));
    let point = [vec![4], decoded(key["x"].as_str().unwrap()), decoded(key["y"].as_str().unwrap())].concat();
    let message = format!("{header}.{payload}");
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message.as_bytes(), &decoded(signature)).unwrap();
    (head, serde_json::from_slice(&decoded(payload)).unwrap())
}

#[tokio::test]
async fn a_jwt_has_what_rfc_9068_asks_for_and_is_made_without_a_write() {
    let world = World::new();
    let issuer = world.authority().await;
    let (client, secret) = issuer.add_client(jwt_client("actions", &["a:read", "a:write"]), "cli:test").await.unwrap();
    let before = world.state().change_counter().await.unwrap();
    let login = login(&issuer, &client, &secret).await;
    let (header, claims) = verified(&issuer, login.access_token.expose());
    assert_eq!(header["typ"], "at+jwt");
    let now = START.as_secs();
    let expected = json!({
        "iss": ISSUER, "sub": client.id, "client_id": client.id, "aud": "https://api.example",
        "iat": now, "exp": now + 300, "jti": claims["jti"], "scope": "a:read a:write",
    });
    assert_eq!(claims, expected);
    assert_eq!((login.expires_in, login.scopes.len()), (Duration::from_mins(5), 2));
    let (_, other) = verified(&issuer, self::login(&issuer, &client, &secret).await.access_token.expose());
    assert_ne!(claims["jti"], other["jti"]);
    assert_eq!(claims["jti"].as_str().map(str::len), Some(22), "128 bits");
    assert_eq!((issuer.live_sessions(), world.state().live_tokens(START).await.unwrap().len()), (0, 0));
    assert_eq!(world.state().change_counter().await.unwrap(), before);
    assert!(issuer.session(bytes(&login)).is_none(), "no platform call goes out with it");
    assert!(!format!("{login:?}").contains(login.access_token.expose()));
}

#[tokio::test]
async fn a_request_narrows_scopes_and_never_widens_them() {
    let world = World::new();
    let issuer = world.authority().await;
    let (jwt, jwt_secret) = issuer.add_client(jwt_client("jwt", &["a", "b", "c"]), "cli:test").await.unwrap();
    let opaque = NewClient { credential: None, scopes: jwt.scopes.clone(), ..new_client("opaque") };
    let (opaque, opaque_secret) = issuer.add_client(opaque, "cli:test").await.unwrap();
    for (client, secret) in [(&jwt, &jwt_secret), (&opaque, &opaque_secret)] {
        for (scope, granted) in [
            (None, Some("a b c")),
            (Some("a b c"), Some("a b c")),
            (Some("b"), Some("b")),
            (Some("c a"), Some("a c")),
            (Some("a a"), Some("a")),
            (Some("d"), None),
            (Some("a d"), None),
            (Some("a  b"), None),
            (Some(" a"), None),
            (Some("A"), None),
            (Some("a,b"), None),
            (Some(""), None),
        ] {
            let asked = Asked { scope, ..Asked::default() };
            let got = issuer.login_if(client.id.as_str(), secret, asked, |_| Ok(())).await;
            match (got, granted) {
                (Ok(login), Some(granted)) => {
                    assert_eq!(login.scopes.join(" "), granted, "{scope:?}");
                    if let Some(session) = issuer.session(bytes(&login)) {
                        assert_eq!(session.scopes().join(" "), granted);
                        let later = world.issuer().await;
                        assert_eq!(later.session(bytes(&login)).unwrap().scopes().join(" "), granted, "durable");
                    }
                }
                (Err(error), None) => assert_eq!(error.oauth_error(), "invalid_scope", "{scope:?}"),
                (got, _) => panic!("{scope:?}: {got:?}"),
            }
        }
    }
    let (stand_in, secret) =
        issuer.add_client(NewClient { scopes: Vec::new(), ..new_client("stand-in") }, "cli:test").await.unwrap();
    let asked = Asked { scope: Some("what the platform's SDK sends"), ..Asked::default() };
    issuer.login_if(stand_in.id.as_str(), &secret, asked, |_| Ok(())).await.unwrap();
    let wrong = SecretString::copied("khs_wrong");
    let refused =
        issuer.login_if(jwt.id.as_str(), &wrong, Asked { scope: Some("d"), ..Asked::default() }, |_| Ok(())).await;
    assert!(matches!(refused, Err(LoginError::Rejected)), "scopes are told to the client alone");
}

#[tokio::test]
async fn clients_that_cannot_be() {
    let world = World::new();
    let issuer = world.authority().await;
    let good = jwt_client("c", &["a"]);
    let tokens = |audience: &[&str]| NewTokens {
        audience: audience.iter().map(|one| (*one).to_owned()).collect(),
        ..good.tokens.clone()
    };
    let day = Duration::from_hours(24);
    for (bad, told) in [
        (NewClient { tokens: tokens(&[]), ..good.clone() }, "needs an audience"),
        (NewClient { tokens: tokens(&["a b"]), ..good.clone() }, "not valid"),
        (NewClient { tokens: tokens(&["a", "a"]), ..good.clone() }, "twice"),
        (NewClient { tokens: tokens(&["x"; 17]), ..good.clone() }, "at most"),
        (NewClient { scopes: vec!["a".into(), "a".into()], ..good.clone() }, "twice"),
        (NewClient { ttl: Some(day + Duration::from_secs(1)), ..good.clone() }, "24 h"),
        (NewClient { credential: Some("acme".parse().unwrap()), ..good.clone() }, "your own API"),
        (NewClient { allow_all: true, ..good.clone() }, "your own API"),
    ] {
        let refused = issuer.add_client(bad, "cli:test").await;
        assert!(matches!(&refused, Err(IssuerError::Invalid(text)) if text.contains(told)), "{told}: {refused:?}");
    }
    issuer.add_client(NewClient { ttl: Some(day), ..good }, "cli:test").await.unwrap();
}

/// What the verifier of inbound calls reads at most (`kh_verify::jws::TOKEN_BYTES_MAX`).
const VERIFIED_BYTES_MAX: usize = 16 * 1024;

/// A client of the most and longest audiences, whose last scope has this many bytes.
fn widest(last_scope: usize, format: TokenFormat) -> NewClient {
    let texts = |count: usize, length: usize| (0..count).map(move |number| format!("{number:x<length$}"));
    NewClient {
        scopes: texts(52, 128).chain(["y".repeat(last_scope)]).collect(),
        tokens: NewTokens {
            format,
            audience: texts(16, 256).collect(),
            binding: TokenBinding::Certificate,
            ..NewTokens::default()
        },
        ..jwt_client(&format!("widest-{last_scope}-{}", format.as_str()), &[])
    }
}

#[tokio::test]
async fn the_widest_client_gets_a_token_that_verifiers_read() {
    let world = World::new();
    // the longest name, and the key with the longest signature
    let name = format!("https://keys.example/{}", "a".repeat(235));
    let keys = world.keys(SigningPolicy { algorithm: Algorithm::Rs256, ..SigningPolicy::default() }).await;
    keys.tend().await.unwrap();
    let options = IssuerOptions::named(Authority { issuer: name.parse().unwrap(), keys });
    let clock = Arc::new(world.clock.clone());
    let issuer = Issuer::open_as(world.state(), clock, Arc::new(SystemEntropy), options).await.unwrap();

    let (client, secret) = issuer.add_client(widest(27, TokenFormat::Jwt), "cli:test").await.unwrap();
    let held = Held { certificate: Some(Sha256([1; 32])), ..Held::default() };
    let asked = Asked { held, ..Asked::default() };
    let login = issuer.login_if(client.id.as_str(), &secret, asked, |_| Ok(())).await.unwrap();
    let length = bytes(&login).len();
    assert!(length <= VERIFIED_BYTES_MAX, "{length}");
    assert!(length > VERIFIED_BYTES_MAX - 1024, "the bound gives away more than it must: {length}");
    let asking = ClientRecord { may_introspect: true, audience: Vec::new(), ..client.clone() };
    let read = issuer.introspect(&asking, bytes(&login)).await.unwrap().unwrap();
    assert_eq!((read.client, read.scopes), (client.id, client.scopes));

    let refused = issuer.add_client(widest(28, TokenFormat::Jwt), "cli:test").await;
    let told = "at most 10880 bytes in a token, not 10881";
    assert!(matches!(&refused, Err(IssuerError::Invalid(text)) if text.contains(told)), "{refused:?}");
    issuer.add_client(widest(28, TokenFormat::Opaque), "cli:test").await.unwrap();
}

#[tokio::test]
async fn without_a_name_or_a_key_no_jwt_is_made() {
    let world = World::new();
    let nameless = world.issuer().await;
    let (client, secret) = nameless.add_client(jwt_client("actions", &[]), "cli:test").await.unwrap();
    let refused = nameless.login(client.id.as_str(), &secret).await.unwrap_err();
    assert!(matches!(refused, LoginError::NoIssuer));
    assert_eq!((refused.code().0, refused.oauth_error()), ("keyholder.signing.unavailable", "temporarily_unavailable"));
    let keys = world.keys(SigningPolicy::default()).await;
    let authority = Authority { issuer: ISSUER.parse().unwrap(), keys };
    let clock = Arc::new(world.clock.clone());
    let entropy = Arc::new(SystemEntropy);
    let options = IssuerOptions::named(authority);
    let keyless = Issuer::open_as(world.state(), clock, entropy, options).await.unwrap();
    let refused = keyless.login(client.id.as_str(), &secret).await;
    assert!(matches!(refused, Err(LoginError::Signing(kh_issuer::SigningError::NoKey))), "{refused:?}");
    assert!(keyless.introspect(&client, b"a.b.c").await.unwrap().is_none());
}

#[tokio::test]
async fn a_token_is_told_to_those_who_may_know_it_and_to_nobody_when_it_is_not_active() {
    let world = World::new();
    let issuer = world.authority().await;
    let (caller, secret) = issuer.add_client(jwt_client("caller", &["a"]), "cli:test").await.unwrap();
    let introspector = |name: &str, audience: &[&str], may| {
        let audience = audience.iter().map(|one| (*one).to_owned()).collect();
        let tokens = NewTokens { audience, may_introspect: may, ..NewTokens::default() };
        NewClient { credential: None, allow: Vec::new(), tokens, ..new_client(name) }
    };
    let mut askers = Vec::new();
    for (name, audience, may) in [
        ("gateway", &[][..], true),
        ("api", &["https://api.example"], true),
        ("other-api", &["https://other.example"], true),
        ("nobody", &[], false),
    ] {
        askers.push(issuer.add_client(introspector(name, audience, may), "cli:test").await.unwrap().0);
    }
    let plain = NewClient { credential: None, allow: Vec::new(), ..new_client("plain") };
    let (plain, plain_secret) = issuer.add_client(plain, "cli:test").await.unwrap();
    let jwt = login(&issuer, &caller, &secret).await;
    let opaque = login(&issuer, &plain, &plain_secret).await;
    let told = async |token: &[u8]| {
        let mut told = Vec::new();
        for asker in &askers {
            told.push(issuer.introspect(asker, token).await.unwrap().is_some());
        }
        told
    };
    assert_eq!(told(bytes(&jwt)).await, [true, true, false, false]);
    assert_eq!(told(bytes(&opaque)).await, [true, false, false, false], "it is for no API in particular");
    let found = issuer.introspect(&askers[1], bytes(&jwt)).await.unwrap().unwrap();
    assert_eq!((&found.client, found.scopes.join(" ")), (&caller.id, "a".to_owned()));
    assert_eq!((found.issued_at, found.expires_at), (START, START.plus(Duration::from_mins(5))));

    let text = jwt.access_token.expose();
    let (message, signature) = text.rsplit_once('.').unwrap();
    let (header, payload) = message.split_once('.').unwrap();
    let none = BASE64_URL_SAFE_NO_PAD.encode(br#"{"alg":"none","typ":"at+jwt"}"#);
    let mut claims: Value = serde_json::from_slice(&decoded(payload)).unwrap();
    claims["scope"] = "a admin".into();
    let forged = BASE64_URL_SAFE_NO_PAD.encode(claims.to_string());
    let zeros = BASE64_URL_SAFE_NO_PAD.encode([0; 64]);
    for bad in [
        format!("{none}.{payload}."),
        format!("{none}.{payload}.{signature}"),
        format!("{header}.{forged}.{signature}"),
        format!("{header}.{payload}."),
        format!("{header}.{payload}.{zeros}"),
        format!("{message}.{signature}="),
        format!("{message}.{signature}.x"),
        format!("{header}=.{payload}.{signature}"),
        message.to_owned(),
        String::new(),
        "..".to_owned(),
        "kht_".to_owned(),
    ] {
        assert_eq!(told(bad.as_bytes()).await, [false; 4], "{bad}");
    }
    issuer.set_enabled("caller", false, "cli:test").await.unwrap();
    assert_eq!(told(bytes(&jwt)).await, [false; 4], "its client is disabled");
    issuer.set_enabled("caller", true, "cli:test").await.unwrap();
    assert_eq!(told(bytes(&jwt)).await, [false; 4], "and its JWTs do not come back");
    world.clock.advance(Duration::from_secs(1));
    let later = login(&issuer, &caller, &secret).await;
    assert_eq!(told(bytes(&later)).await, [true, true, false, false]);
    world.clock.advance(Duration::from_mins(5));
    assert_eq!(told(bytes(&later)).await, [false; 4], "it has expired");
    issuer.remove_client("plain", "cli:test").await.unwrap();
    assert_eq!(told(bytes(&opaque)).await, [false; 4]);
}

#[tokio::test]
async fn a_client_revokes_its_own_tokens_alone() {
    let world = World::new();
    let issuer = world.authority().await;
    let plain = |name| NewClient { credential: None, allow: Vec::new(), ..new_client(name) };
    let (one, one_secret) = issuer.add_client(plain("one"), "cli:test").await.unwrap();
    let (two, _) = issuer.add_client(plain("two"), "cli:test").await.unwrap();
    let (three, three_secret) = issuer.add_client(jwt_client("three", &[]), "cli:test").await.unwrap();
    let token = login(&issuer, &one, &one_secret).await;
    let jwt = login(&issuer, &three, &three_secret).await;
    for (client, token) in [(&two, &token), (&three, &token), (&one, &jwt)] {
        let refused = issuer.revoke_own(&client.id, bytes(token)).await;
        assert!(matches!(refused, Err(RevokeError::NotYours)), "{refused:?}");
    }
    assert!(issuer.session(bytes(&token)).is_some());
    issuer.revoke_own(&one.id, bytes(&token)).await.unwrap();
    assert!(issuer.session(bytes(&token)).is_none());
    assert!(world.issuer().await.session(bytes(&token)).is_none(), "for good");
    issuer.revoke_own(&two.id, bytes(&token)).await.unwrap();
    issuer.revoke_own(&two.id, b"never was").await.unwrap();
    world.clock.advance(Duration::from_mins(5));
    issuer.revoke_own(&one.id, bytes(&jwt)).await.unwrap();
}

#[tokio::test]
async fn a_revoked_jwt_is_revoked_in_every_process_and_after_a_restart() {
    let world = World::new();
    let (here, there) = (world.authority().await, world.authority().await);
    let (client, secret) = here.add_client(jwt_client("c", &[]), "cli:test").await.unwrap();
    let asking = ClientRecord { may_introspect: true, audience: Vec::new(), ..client.clone() };
    let (one, two) = (login(&here, &client, &secret).await, login(&here, &client, &secret).await);
    let active = async |issuer: &Issuer| {
        let mut told = Vec::new();
        for token in [&one, &two] {
            told.push(issuer.introspect(&asking, bytes(token)).await.unwrap().is_some());
        }
        told
    };
    there.refresh().await.unwrap();
    assert_eq!((active(&here).await, active(&there).await), (vec![true; 2], vec![true; 2]));
    here.revoke_own(&client.id, bytes(&one)).await.unwrap();
    here.revoke_own(&client.id, bytes(&one)).await.unwrap();
    assert_eq!(active(&here).await, [false, true]);
    there.refresh().await.unwrap();
    assert_eq!(active(&there).await, [false, true]);
    assert_eq!(active(&*world.authority().await).await, [false, true], "after a restart");

    // removed by a command, which has no name as an issuer
    let state = world.state();
    let options = IssuerOptions { revocations: Some(state.clone()), ..Default::default() };
    let clock = Arc::new(world.clock.clone());
    let command = Issuer::open_as(state, clock, Arc::new(SystemEntropy), options).await.unwrap();
    command.set_enabled("c", false, "cli:test").await.unwrap();
    command.set_enabled("c", true, "cli:test").await.unwrap();
    there.refresh().await.unwrap();
    assert_eq!(active(&there).await, [false, false]);
    let actions: Vec<_> = world.audit.0.lock().iter().map(|event| event.action.clone()).collect();
    assert!(actions.contains(&"client.revoke_tokens".to_owned()), "{actions:?}");
    world.clock.advance(Duration::from_secs(2));
    let fresh = login(&there, &client, &secret).await;
    assert!(there.introspect(&asking, bytes(&fresh)).await.unwrap().is_some(), "what is issued later is not concerned");
}

/// The background task sweeps while the clock is a month ahead, and the clock is set right: memory never reads a record
/// again.
#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_ran_ahead_brings_no_revoked_jwt_back() {
    let world = World::new();
    let issuer = world.authority().await;
    let for_a_day = NewClient { ttl: Some(Duration::from_hours(24)), ..jwt_client("c", &[]) };
    let (client, secret) = issuer.add_client(for_a_day, "cli:test").await.unwrap();
    let asking = ClientRecord { may_introspect: true, audience: Vec::new(), ..client.clone() };
    let (gone, kept) = (login(&issuer, &client, &secret).await, login(&issuer, &client, &secret).await);
    issuer.revoke_own(&client.id, bytes(&gone)).await.unwrap();
    // a sweep takes its session out of memory
    let (opaque, opaque_secret) = add(&issuer, "reports").await;
    login(&issuer, &opaque, &opaque_secret).await;
    issuer.refresh().await.unwrap();
    let cancel = CancellationToken::new();
    let task = tokio::spawn(Arc::clone(&issuer).run(cancel.clone()));
    tokio::task::yield_now().await;
    assert_eq!(issuer.live_sessions(), 1);
    world.clock.jump_wall(START.plus(Duration::from_hours(30 * 24)));
    world.clock.advance(Duration::from_mins(1));
    while issuer.live_sessions() > 0 {
        // paused time: moves on whenever nothing else is to be done
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    world.clock.jump_wall(START.plus(Duration::from_mins(1)));
    let active = async |token: &Login| issuer.introspect(&asking, bytes(token)).await.unwrap().is_some();
    assert_eq!((active(&gone).await, active(&kept).await), (false, true));
    cancel.cancel();
    task.await.unwrap();
}

/// Anything that is not exactly a token of ours is none: seeded changes of a valid one, at every place.
#[tokio::test]
async fn a_hundred_thousand_changed_tokens_are_none() {
    let world = World::new();
    let issuer = world.authority().await;
    let (client, secret) = issuer.add_client(jwt_client("c", &["a"]), "cli:test").await.unwrap();
    let asking = ClientRecord { may_introspect: true, audience: Vec::new(), ..client.clone() };
    let token = bytes(&login(&issuer, &client, &secret).await).to_vec();
    let entropy = kh_core::SeededEntropy::new(9_068);
    let below = |bound: usize| usize::try_from(kh_core::Entropy::below(&entropy, bound as u64)).unwrap();
    let letters = b"ABCDEFabcdef0123456789-_.=+/ \0\n\xff";
    let mut verified = 0;
    for number in 0..100_000 {
        let mut changed = token.clone();
        for _ in 0..=below(3) {
            if changed.len() < 2 {
                break;
            }
            let at = below(changed.len());
            match below(4) {
                0 => changed[at] = letters[below(letters.len())],
                1 => changed.insert(at, letters[below(letters.len())]),
                2 => drop(changed.remove(at)),
                _ => changed.truncate(at.max(1)),
            }
        }
        if changed == token {
            verified += 1;
            continue;
        }
        let told = issuer.introspect(&asking, &changed).await.unwrap();
        assert!(told.is_none(), "number {number}: {:?}", String::from_utf8_lossy(&changed));
    }
    assert!(verified < 1_000 && issuer.introspect(&asking, &token).await.unwrap().is_some());
}
