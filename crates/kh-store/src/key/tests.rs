//! Forms of a key, and what is refused.

use std::{fs, os::unix::fs::PermissionsExt};

use kh_core::{SecretString, SeededEntropy};

use super::*;

fn raw(text: &str) -> Option<Vec<u8>> {
    match StoreKey::from_encoded(&SecretString::copied(text)) {
        Ok(StoreKey::Raw(bytes)) => Some(bytes.expose().to_vec()),
        Ok(StoreKey::Passphrase(_)) | Err(_) => None,
    }
}

#[test]
fn encoded_forms() {
    let key: Vec<u8> = (0..32).map(|byte| 255 - byte * 3).collect();
    let mut digest = kh_core::Sha256([0; 32]);
    digest.0.copy_from_slice(&key);
    let hex = digest.to_hex().to_uppercase();
    let standard = "//z59vPw7ern5OHe29jV0s/MycbDwL26t7SxrquopaI=";
    for good in [
        hex.as_str(),
        &hex.to_lowercase(),
        standard,
        standard.trim_end_matches('='),
        &standard.replace('/', "_"),
        "__z59vPw7ern5OHe29jV0s_MycbDwL26t7SxrquopaI",
        &format!(" {standard}\n"),
    ] {
        assert_eq!(raw(good).as_deref(), Some(key.as_slice()), "{good}");
    }
    for bad in ["", "AAAA", &hex[1..], &format!("{hex}00"), &"é".repeat(32), "!!!!", &standard[2..]] {
        assert_eq!(raw(bad), None, "{bad}");
    }
}

#[test]
fn a_generated_file_reads_back_is_private_and_is_never_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new/deeper/key");
    let entropy = SeededEntropy::new(1);
    generate_key_file(&path, &entropy).unwrap();
    let before = fs::read(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o7777, 0o700);
    assert!(matches!(StoreKey::from_key_file(&path), Ok(StoreKey::Raw(_))));
    assert!(matches!(generate_key_file(&path, &entropy), Err(KeyError::Exists { .. })));
    assert_eq!(fs::read(&path).unwrap(), before);
}

/// Processes that start at once must not read what another one has only begun to write.
#[test]
fn whoever_sees_a_generated_file_sees_a_whole_key() {
    for seed in 0..40 {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let keys: Vec<Vec<u8>> = std::thread::scope(|scope| {
            let start = |number: u64| {
                let path = &path;
                scope.spawn(move || {
                    match generate_key_file(path, &SeededEntropy::new(seed * 10 + number)) {
                        Ok(()) | Err(KeyError::Exists { .. }) => {}
                        Err(error) => panic!("{error:?}"),
                    }
                    match StoreKey::from_key_file(path) {
                        Ok(StoreKey::Raw(bytes)) => bytes.expose().to_vec(),
                        other => panic!("{other:?}"),
                    }
                })
            };
            let threads: Vec<_> = (0..4).map(start).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no draft stays");
    }
}

#[test]
fn a_file_that_others_may_read_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    generate_key_file(&path, &SeededEntropy::new(1)).unwrap();
    for mode in [0o640, 0o604, 0o660, 0o644, 0o601] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let error = StoreKey::from_key_file(&path).unwrap_err();
        assert!(matches!(error, KeyError::Permissions { mode: found, .. } if found == mode), "{error}");
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    assert!(StoreKey::from_key_file(&path).is_ok());
}

#[test]
fn files_of_each_form() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    let check = |content: &[u8], good: bool| {
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let read = StoreKey::from_key_file(&path);
        assert_eq!(read.is_ok(), good, "{content:?} {read:?}");
    };
    check(&[0xFF; 32], true);
    check(&[b'\n'; 32], true);
    check("ab".repeat(32).as_bytes(), true);
    check(b"", false);
    check(&[0xFF; 33], false);
    check(&[b'a'; 5000], false);
    fs::write(&path, "correct horse\r\n").unwrap();
    let Ok(StoreKey::Passphrase(passphrase)) = StoreKey::from_passphrase_file(&path) else {
        panic!("a passphrase file is read");
    };
    assert_eq!(passphrase.expose(), "correct horse");
    fs::write(&path, "\n").unwrap();
    assert!(matches!(StoreKey::from_passphrase_file(&path), Err(KeyError::Empty)));
}

#[test]
fn a_credential_may_be_readable_to_its_group_and_to_nobody_else() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.key");
    generate_key_file(&path, &SeededEntropy::new(1)).unwrap();
    for (mode, good) in [(0o400, true), (0o600, true), (0o440, true), (0o460, false), (0o450, false), (0o444, false)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        match StoreKey::from_credential(&path) {
            Ok(_) => assert!(good, "{mode:o}"),
            Err(error) => assert!(!good && error.to_string().contains("0440"), "{mode:o}: {error}"),
        }
        let private = mode & 0o700 == mode;
        assert_eq!(StoreKey::from_key_file(&path).is_ok(), private, "{mode:o}");
    }
}
