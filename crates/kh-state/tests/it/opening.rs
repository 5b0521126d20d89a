//! Opening: permissions, older and newer schemas, and every kind of damage told apart.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use kh_core::port::{StateError, StateStore, TokenBinding, TokenFormat, TokenRecord};

use crate::support::{Fixture, START, client, event, token};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn files_are_private_and_an_open_file_is_made_so() {
    let fixture = Fixture::new();
    let state = fixture.open();
    state.set_setting("k", "v", event("setting.set")).await.unwrap();
    let folder = fixture.path().parent().unwrap().to_owned();
    assert_eq!(mode(&folder), 0o700);
    let names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(names.len() >= 3, "{names:?}");
    for path in names {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    drop(state);
    fs::set_permissions(fixture.path(), fs::Permissions::from_mode(0o644)).unwrap();
    drop(fixture.open());
    assert_eq!(mode(&fixture.path()), 0o600);
}

/// A database as the first schema wrote it, with a client and a token.
#[tokio::test]
async fn an_older_schema_is_migrated_and_keeps_what_it_holds() {
    let fixture = Fixture::new();
    fs::create_dir_all(fixture.path().parent().unwrap()).unwrap();
    let old = rusqlite::Connection::open(fixture.path()).unwrap();
    old.execute_batch(include_str!("schema_1.sql")).unwrap();
    drop(old);
    let state = fixture.open();
    let [found] = &state.clients().await.unwrap()[..] else { panic!("one client") };
    assert_eq!((found.name.as_str(), found.old_secrets_until, found.token_ttl_s), ("reports", None, 86_400));
    assert_eq!(found.allow[0].0, "GET /api/v2/users/**");
    assert_eq!((found.token_format, &found.audience[..], found.may_introspect), (TokenFormat::Opaque, &[][..], false));
    let [token] = &state.live_tokens(START).await.unwrap()[..] else { panic!("one token") };
    assert_eq!(token.scopes, None);
    state
        .update_client(
            found.clone(),
            kh_core::port::ClientRecord { old_secrets_until: Some(START), ..found.clone() },
            event("client.rotate_secret"),
        )
        .await
        .unwrap();
    drop(state);
    assert_eq!(fixture.open().clients().await.unwrap()[0].old_secrets_until, Some(START));
    assert_eq!(fixture.audit.actions(), ["client.add", "client.rotate_secret"], "its outbox was drained as well");
}

/// An older keyholder knows neither JWTs nor narrowed tokens: what it would take for more than it is goes.
#[tokio::test]
async fn a_downgrade_widens_no_token_and_lets_no_client_of_jwts_log_in() {
    let fixture = Fixture::new();
    let state = fixture.open();
    let (mut jwt, mut plain) = (client("jwt"), client("plain"));
    (jwt.token_format, plain.token_format) = (TokenFormat::Jwt, TokenFormat::Opaque);
    (plain.audience, plain.may_introspect) = (Vec::new(), false);
    (jwt.token_binding, plain.token_binding) = (TokenBinding::None, TokenBinding::None);
    for one in [&jwt, &plain] {
        state.add_client(one.clone(), event("client.add")).await.unwrap();
    }
    let narrowed = TokenRecord { confirmation: None, ..token(&plain, "narrowed", 10) };
    let whole = TokenRecord { scopes: None, confirmation: None, ..token(&plain, "whole", 10) };
    for one in [&narrowed, &whole] {
        state.add_token(one.clone()).await.unwrap();
    }
    drop(state);
    let (from, losses) = kh_state::losses(&fixture.path(), 4).unwrap();
    assert_eq!((from, losses.len(), losses[0].count, losses[0].whose), (kh_state::SCHEMA, 1, 1, "clients"));
    kh_state::downgrade(&fixture.path(), 4).unwrap().unwrap();
    let state = fixture.open();
    let found = state.clients().await.unwrap();
    let told: Vec<_> = found.iter().map(|one| (one.name.as_str(), one.enabled, one.token_format)).collect();
    assert_eq!(told, [("jwt", false, TokenFormat::Opaque), ("plain", true, TokenFormat::Opaque)]);
    assert_eq!(state.live_tokens(START).await.unwrap(), [whole]);
}

/// A keyholder that knows no bindings would take every token from everybody.
#[tokio::test]
async fn a_downgrade_makes_no_bound_token_a_bearer_token() {
    let fixture = Fixture::new();
    let state = fixture.open();
    let (bound, mut free) = (client("bound"), client("free"));
    free.token_binding = TokenBinding::None;
    for one in [&bound, &free] {
        state.add_client(one.clone(), event("client.add")).await.unwrap();
    }
    let of_key = token(&free, "of-key", 10);
    let of_certificate = TokenRecord {
        confirmation: Some(kh_core::Confirmation::X5tS256([9; 32])),
        ..token(&free, "of-certificate", 10)
    };
    let bearer = TokenRecord { confirmation: None, ..token(&free, "bearer", 10) };
    for one in [&of_key, &of_certificate, &bearer] {
        state.add_token(one.clone()).await.unwrap();
        assert_eq!(state.token(one.digest).await.unwrap().as_ref(), Some(one));
    }
    drop(state);
    let (from, losses) = kh_state::losses(&fixture.path(), 7).unwrap();
    assert_eq!((from, losses.len(), losses[0].count, losses[0].whose), (kh_state::SCHEMA, 1, 2, "clients"));
    kh_state::downgrade(&fixture.path(), 7).unwrap().unwrap();
    let state = fixture.open();
    let found = state.clients().await.unwrap();
    let told: Vec<_> = found.iter().map(|one| (one.name.as_str(), one.enabled, one.token_binding)).collect();
    assert_eq!(told, [("bound", false, TokenBinding::None), ("free", true, TokenBinding::None)]);
    assert_eq!(state.live_tokens(START).await.unwrap(), [bearer]);
}

/// What a token is bound to is read as it was written or not at all: never as a bearer token.
#[tokio::test]
async fn a_binding_that_cannot_be_read_is_an_error() {
    let fixture = Fixture::new();
    let state = fixture.open();
    let owner = client("owner");
    state.add_client(owner.clone(), event("client.add")).await.unwrap();
    let bound = token(&owner, "bound", 10);
    state.add_token(bound.clone()).await.unwrap();
    let raw = rusqlite::Connection::open(fixture.path()).unwrap();
    for broken in
        ["", "jkt", "jkt 00", "x5t 00", "other 0707070707070707070707070707070707070707070707070707070707070707"]
    {
        raw.execute("UPDATE tokens SET confirmation = ?1", [broken]).unwrap();
        assert!(state.token(bound.digest).await.is_err(), "{broken:?}");
    }
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_the_file_untouched() {
    let fixture = Fixture::new();
    drop(fixture.open());
    let raw = rusqlite::Connection::open(fixture.path()).unwrap();
    raw.pragma_update(None, "user_version", 99).unwrap();
    drop(raw);
    let before = fs::read(fixture.path()).unwrap();
    let refused = fixture.try_open();
    assert!(matches!(refused, Err(StateError::TooNew { found: 99, .. })), "{refused:?}");
    assert_eq!(fs::read(fixture.path()).unwrap(), before);
}

/// The newer schema may stand in the write-ahead log alone, when the newer program was killed.
#[tokio::test]
async fn a_newer_schema_in_the_log_is_refused_as_well() {
    let fixture = Fixture::new();
    drop(fixture.open());
    let raw = rusqlite::Connection::open(fixture.path()).unwrap();
    raw.pragma_update(None, "user_version", 99).unwrap();
    let copies = ["", "-wal"].map(|suffix| fs::read(format!("{}{suffix}", fixture.path().display())).unwrap());
    assert_eq!(copies[0][60..64], kh_state::SCHEMA.to_be_bytes(), "the file itself does not know yet");
    drop(raw);
    fs::write(fixture.path(), &copies[0]).unwrap();
    fs::write(format!("{}-wal", fixture.path().display()), &copies[1]).unwrap();
    let refused = fixture.try_open();
    assert!(matches!(refused, Err(StateError::TooNew { found: 99, .. })), "{refused:?}");
    assert_eq!(fs::read(fixture.path()).unwrap(), copies[0]);
    assert_eq!(fs::read(format!("{}-wal", fixture.path().display())).unwrap(), copies[1]);
}

async fn filled() -> (Fixture, Vec<u8>) {
    let fixture = Fixture::new();
    let state = fixture.open();
    let owner = client("one");
    state.add_client(owner.clone(), event("client.add")).await.unwrap();
    for number in 0..200 {
        state.add_token(token(&owner, &number.to_string(), 10)).await.unwrap();
    }
    drop(state);
    let bytes = fs::read(fixture.path()).unwrap();
    (fixture, bytes)
}

#[tokio::test]
async fn damage_is_told_apart_and_left_alone() {
    let (fixture, good) = filled().await;
    let scrambled = {
        let mut bytes = good.clone();
        for byte in &mut bytes[4096..12_288] {
            *byte = 0xa5;
        }
        bytes
    };
    let foreign = {
        let path = fixture.folder.path().join("foreign.db");
        let other = rusqlite::Connection::open(&path).unwrap();
        other.execute_batch("CREATE TABLE t (x)").unwrap();
        drop(other);
        fs::read(path).unwrap()
    };
    for (bytes, expected) in [
        (Vec::new(), "is empty (0 bytes)"),
        (good[..60].to_vec(), "is cut short"),
        (good[..good.len() - 4096].to_vec(), "is cut short"),
        (good[..good.len() - 1].to_vec(), "is cut short"),
        (b"listen = \"127.0.0.1:80\"\n".repeat(20), "is not a SQLite database"),
        (foreign, "of another program"),
        (scrambled, "state.db: "),
    ] {
        fs::write(fixture.path(), &bytes).unwrap();
        let refused = fixture.try_open();
        let Err(StateError::Damaged(reason)) = refused else { panic!("{expected}: {refused:?}") };
        assert!(reason.contains(expected), "{expected}: {reason}");
        assert_eq!(fs::read(fixture.path()).unwrap(), bytes, "{expected}: the file is untouched");
    }
    fs::write(fixture.path(), &good).unwrap();
    assert_eq!(fixture.open().live_tokens(START).await.unwrap().len(), 200);
}

#[tokio::test]
async fn a_missing_file_beside_its_log_is_no_new_installation() {
    let (fixture, _) = filled().await;
    fs::remove_file(fixture.path()).unwrap();
    fs::write(format!("{}-wal", fixture.path().display()), [0; 32]).unwrap();
    let refused = fixture.try_open();
    let Err(StateError::Damaged(reason)) = refused else { panic!("{refused:?}") };
    assert!(reason.contains("write-ahead log is still there"), "{reason}");
    assert!(!fixture.path().exists());
}

#[tokio::test]
async fn a_creation_that_was_killed_is_started_anew() {
    let fixture = Fixture::new();
    fs::create_dir_all(fixture.path().parent().unwrap()).unwrap();
    fs::write(format!("{}.new", fixture.path().display()), b"half a databa").unwrap();
    fixture.open().set_setting("k", "v", event("setting.set")).await.unwrap();
    assert!(!Path::new(&format!("{}.new", fixture.path().display())).exists());
}
