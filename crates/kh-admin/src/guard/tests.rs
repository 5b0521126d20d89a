//! The guard token file and what counts as presenting it.

use std::sync::atomic::{AtomicU32, Ordering};

use kh_core::{SeededEntropy, SystemEntropy};

use super::*;

type Headers<'a> = &'a [(&'static str, &'a str)];

fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
    list.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())).collect()
}

#[test]
fn a_file_is_made_once_and_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let entropy = SeededEntropy::new(1);
    Guard::load_or_create(&path, &entropy).unwrap();
    let token = read_token(&path).unwrap();
    let again = Guard::load_or_create(&path, &entropy).unwrap();
    assert!(again.accepts(&headers(&[("x-keyholder-token", token.expose())])));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let replaced = Guard::replace(&path, &entropy).unwrap();
    assert!(!replaced.accepts(&headers(&[("x-keyholder-token", token.expose())])));
    let fresh = read_token(&path).unwrap();
    assert!(replaced.accepts(&headers(&[("x-keyholder-token", fresh.expose())])));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no staged file is left behind");
}

#[test]
fn processes_that_start_at_once_agree() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let agreed = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let guard = Guard::load_or_create(&path, &SystemEntropy).unwrap();
                let token = read_token(&path).unwrap();
                assert!(guard.accepts(&headers(&[("x-keyholder-token", token.expose())])));
                agreed.fetch_add(1, Ordering::SeqCst);
            });
        }
    });
    assert_eq!(agreed.into_inner(), 8);
}

#[test]
fn bad_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    assert!(matches!(read_token(&path), Err(GuardError::Io { action: "read", .. })));
    Guard::load_or_create(&path, &SeededEntropy::new(2)).unwrap();
    let good = fs::read_to_string(&path).unwrap();
    for (content, fits) in [
        (good.clone(), true),
        (format!("{good}\n"), true),
        (format!("{good}\n\n"), false),
        (format!("{good}x"), false),
        (good.replace("khg_", "kht_"), false),
        (String::new(), false),
        ("\u{e9}".repeat(25), false),
    ] {
        fs::write(&path, &content).unwrap();
        let loaded = Guard::load(&path);
        assert_eq!(loaded.is_ok(), fits, "{content:?}");
        assert!(fits || matches!(loaded, Err(GuardError::NotAToken { .. })));
    }
    fs::write(&path, good).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(Guard::load(&path), Err(GuardError::Exposed { mode: 0o640, .. })));
    let nowhere = folder.path().join("missing/token");
    assert!(matches!(Guard::load_or_create(&nowhere, &SystemEntropy), Err(GuardError::Io { action: "written", .. })));
}

#[test]
fn presenting() {
    let token = issue(IssuedKind::Guard, &SeededEntropy::new(3));
    let guard = Guard::new(&token);
    let good = token.expose();
    let bearer = format!("bEaReR {good}");
    let own = "x-keyholder-token";
    let alias = "x-aws-parameters-secrets-token";
    let cases: &[(Headers<'_>, bool, bool)] = &[
        (&[(own, good)], true, true),
        (&[(alias, good)], true, true),
        (&[("authorization", &bearer)], false, true),
        (&[], false, false),
        (&[(own, "")], false, false),
        (&[(own, &good[1..])], false, false),
        (&[(own, "khg_0")], false, false),
        (&[(own, good), (own, good)], false, false),
        (&[(own, good), (alias, "x")], false, false),
        (&[("authorization", good)], false, false),
        (&[("authorization", "Basic x")], false, false),
        (&[("authorization", &bearer), ("authorization", &bearer)], false, false),
        (&[("authorization", &bearer), (own, good)], true, false),
        (&[("authorization", "Bearer x"), (own, good)], true, false),
    ];
    for (list, plain, with_bearer) in cases {
        assert_eq!(guard.accepts(&headers(list)), *plain, "{list:?}");
        assert_eq!(guard.accepts_bearer(&headers(list)), *with_bearer, "{list:?}");
    }
    assert!(!format!("{guard:?}").contains(good));
}
