//! What a backup is, what opens it, and what is refused.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use kh_core::Sha256;
use serde_json::{Value, json};

use super::world::{World, digests, opened, problem, refused, sealed, write_private};
use crate::harness::{run, text};

#[test]
fn the_age_tool_and_tar_open_a_backup_without_keyholder() {
    let world = World::furnished();
    let file = world.backup("state", "backup.age");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    let script = "age --decrypt --identity \"$1\" \"$2\" | tar --extract --file - --directory \"$3\"";
    let folder = world.path("by-hand");
    fs::create_dir(&folder).unwrap();
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", script, "sh"]).args([&world.identity(), &file, &folder]).stdin(Stdio::null());
    let said = run(&mut shell, b"");
    assert_eq!(said.code, Some(0), "age (Debian package age) and tar are needed: {}", said.err);
    let manifest: Value = serde_json::from_slice(&fs::read(folder.join("manifest.json")).unwrap()).unwrap();
    let parts = manifest["parts"].as_array().unwrap();
    let names: Vec<&str> = parts.iter().map(|part| text(part, "name")).collect();
    assert_eq!(names, ["secrets.db", "state.db", "audit.log", "audit.checkpoints", "store.key"]);
    for part in parts {
        let content = fs::read(folder.join(text(part, "name"))).unwrap();
        assert_eq!(part["size"].as_u64(), Some(content.len() as u64));
        assert_eq!(text(part, "sha256"), Sha256::of(&content).to_hex());
    }
    assert_eq!(fs::read(folder.join("store.key")).unwrap(), fs::read(world.path("state/store.key")).unwrap());
    // and what lies in the file says nothing without the key
    let raw = fs::read(&file).unwrap();
    for needle in [&b"client-one"[..], b"secrets.db", b"store.backup"] {
        assert!(!raw.windows(needle.len()).any(|window| window == needle));
    }
}

#[test]
fn a_passphrase_opens_a_backup_and_a_short_one_is_refused() {
    let world = World::furnished();
    let (right, wrong, short) = (world.path("right"), world.path("wrong"), world.path("short"));
    write_private(&right, b"correct horse battery\n");
    write_private(&wrong, b"incorrect horse battery\n");
    write_private(&short, b"hunter2\n");
    let file = world.path("backup.age");
    let (file, right, wrong, short) =
        (file.to_str().unwrap(), right.to_str().unwrap(), wrong.to_str().unwrap(), short.to_str().unwrap());
    refused(&world.said("state", &["store", "backup", file, "--passphrase-file", short], b""), 2, "keyholder.usage");
    let unattended = world.said("state", &["store", "backup", file], b"");
    refused(&unattended, 2, "keyholder.usage");
    world.said("state", &["store", "backup", file, "--passphrase-file", "-"], b"correct horse battery").done();
    let words = |passphrase| ["store", "restore", file, "--passphrase-file", passphrase];
    refused(&world.said("other", &words(wrong), b""), 2, "keyholder.store.wrong_key");
    let identity = world.identity();
    let by_key = world.said("other", &World::restore(Path::new(file), &[], &identity), b"");
    refused(&by_key, 2, "keyholder.store.wrong_key");
    world.said("other", &words(right), b"").done();
    assert_eq!(world.client_names("other"), ["client-one", "client-three", "client-two"]);
    fs::set_permissions(right, fs::Permissions::from_mode(0o644)).unwrap();
    let open = world.said("third", &words(right), b"");
    assert!(open.err.contains("open to others"), "{}", open.err);
}

#[test]
fn a_restore_replaces_only_when_told_and_keeps_what_was_there() {
    let world = World::furnished();
    let file = world.backup("state", "backup.age");
    world.said("state", &["client", "add", "later"], b"").done();
    world.said("state", &["secret", "set", "later"], super::world::DOCUMENT).done();
    let before = digests(&world.path("state"));
    let identity = world.identity();
    let unasked = world.said("state", &World::restore(&file, &[], &identity), b"");
    refused(&unasked, 2, "keyholder.usage");
    assert_eq!(digests(&world.path("state")), before, "nothing was changed");
    let answer = world.said("state", &World::restore(&file, &["--replace"], &identity), b"").json();
    assert_eq!(world.client_names("state"), ["client-one", "client-three", "client-two"]);
    world.is_sound("state");
    let kept = Path::new(answer["replaced"][0].as_str().unwrap());
    assert_eq!(digests(kept), before, "everything that was there is kept, byte for byte");
    let events = world.said("state", &["audit", "list"], b"").json();
    let actions: Vec<&str> = events["entries"].as_array().unwrap().iter().map(|entry| text(entry, "action")).collect();
    assert_eq!(actions[actions.len() - 2..], ["store.backup", "store.restore"], "{actions:?}");
    let left: Vec<_> = fs::read_dir(world.path("state"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("restore") || name.starts_with("backup-"))
        .collect();
    assert_eq!(left, [""; 0], "no staging is left");
}

#[test]
fn only_leftovers_of_killed_processes_are_taken_away() {
    let world = World::furnished();
    let state = world.path("state");
    let folder = |name: &str| {
        let folder = state.join(name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("a.age"), "mine").unwrap();
        folder
    };
    let digits = "0123456789abcdef0123456789abcdef";
    let (upper, longer) = (digits.to_uppercase(), format!("{digits}0"));
    let kept: Vec<_> = ["weekly", "rehearsal", "", &digits[1..], &upper, &longer]
        .iter()
        .flat_map(|rest| [folder(&format!("backup-{rest}")), folder(&format!("restore-{rest}"))])
        .collect();
    let leftovers = [folder(&format!("backup-{digits}")), folder(&format!("restore-{digits}"))];
    let file = world.backup("state", "backup.age");
    assert_eq!(leftovers.each_ref().map(|folder| folder.exists()), [false, true], "each takes its own away");
    world.said("state", &World::restore(&file, &["--replace"], &world.identity()), b"").done();
    assert_eq!(leftovers.each_ref().map(|folder| folder.exists()), [false, false]);
    for folder in kept {
        assert_eq!(fs::read_to_string(folder.join("a.age")).unwrap(), "mine", "{}", folder.display());
    }
}

#[test]
fn an_audit_log_elsewhere_and_a_key_of_the_operators_are_restored_too() {
    let world = World::new();
    let (key, other_key) = (world.path("operator.key"), world.path("other.key"));
    write_private(&key, b"QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=\n");
    write_private(&other_key, b"QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI=\n");
    let config = fs::read_to_string(world.path("keyholder.toml")).unwrap();
    let elsewhere = format!(
        "{config}[store]\nkey_file = \"operator.key\"\n[audit]\npath = \"logs/audit.log\"\ncheckpoints = \"far/points\"\n"
    );
    fs::write(world.path("keyholder.toml"), &elsewhere).unwrap();
    world.said("state", &["secret", "set", "one"], super::world::DOCUMENT).done();
    let file = world.backup("state", "backup.age");
    assert!(!opened(&world, &file).iter().any(|(name, _)| name == "store.key"), "the operator's key stays with him");
    world.said("state", &["secret", "set", "two"], super::world::DOCUMENT).done();
    let (logs, far) = (digests(&world.path("logs")), digests(&world.path("far")));
    let identity = world.identity();
    fs::write(world.path("keyholder.toml"), elsewhere.replace("operator.key", "other.key")).unwrap();
    let wrong = world.said("state", &World::restore(&file, &["--replace"], &identity), b"");
    refused(&wrong, 2, "keyholder.store.wrong_key");
    assert_eq!((digests(&world.path("logs")), digests(&world.path("far"))), (logs.clone(), far.clone()));
    fs::write(world.path("keyholder.toml"), &elsewhere).unwrap();
    // of a killed restore of this installation; of another's that keeps its log here; of the operator's
    let id = "0123456789abcdef".repeat(2);
    let (dead, other) = (format!(".points.restore-{id}"), format!(".audit.checkpoints.restore-{id}"));
    for name in [dead.as_str(), &other, ".points.restore-mine"] {
        fs::write(world.path("far").join(name), "{}").unwrap();
    }
    let answer = world.said("state", &World::restore(&file, &["--replace"], &identity), b"").json();
    for (name, stays) in [(dead.as_str(), false), (&other, true), (".points.restore-mine", true)] {
        let path = world.path("far").join(name);
        assert_eq!(path.exists(), stays, "{name}");
        fs::remove_file(path).ok();
    }
    let seen = world.is_sound("state");
    assert_eq!(seen["seen"]["secrets"], 1, "{seen}");
    let kept = answer["replaced"].as_array().unwrap();
    assert_eq!(kept.len(), 3, "one folder beside each of the three places: {answer}");
    assert!(kept.iter().any(|folder| digests(Path::new(folder.as_str().unwrap())) == logs));
    assert!(kept.iter().any(|folder| digests(Path::new(folder.as_str().unwrap())) == far));
}

/// Names and contents of an archive.
type Members = Vec<(String, Vec<u8>)>;

#[test]
fn what_is_not_a_whole_backup_changes_nothing() {
    let world = World::furnished();
    let file = world.backup("state", "backup.age");
    let good = fs::read(&file).unwrap();
    let members = opened(&world, &file);
    let before = digests(&world.path("state"));
    let identity = world.identity();
    let bad = world.path("bad.age");
    let try_it = |what: &str, exit: i32, code: &str| {
        let said = world.said("state", &World::restore(&bad, &["--replace"], &identity), b"");
        assert_eq!(said.code, Some(exit), "{what}: {said:?}");
        assert_eq!(text(&problem(&said), "code"), code, "{what}: {}", said.err);
        assert_eq!(digests(&world.path("state")), before, "{what}");
    };
    let invalid = "keyholder.backup.invalid";
    for cut in [0, 20, good.len() / 3, good.len() / 2, good.len() - 65_536, good.len() - 1] {
        fs::write(&bad, &good[..cut]).unwrap();
        try_it(&format!("cut at {cut}"), 1, invalid);
    }
    for at in [300, good.len() / 4, good.len() / 2, good.len() - 3] {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        fs::write(&bad, bytes).unwrap();
        try_it(&format!("byte {at} changed"), 1, invalid);
    }
    fs::write(&bad, b"PK\x03\x04 somebody else's file").unwrap();
    try_it("foreign", 1, invalid);
    let with = |edit: &dyn Fn(&mut Members)| {
        let mut changed = members.clone();
        edit(&mut changed);
        sealed(&world, &bad, &changed);
    };
    let manifest = |edit: &dyn Fn(&mut Value)| {
        let mut manifest: Value = serde_json::from_slice(&members[0].1).unwrap();
        edit(&mut manifest);
        with(&|members| members[0].1 = manifest.to_string().into_bytes());
    };
    with(&|_| ());
    let whole = world.said("whole", &World::restore(&bad, &[], &identity), b"");
    whole.done();
    with(&|members| members.truncate(3));
    try_it("a part is missing", 1, invalid);
    with(&|members| members.push(("more".to_owned(), b"x".to_vec())));
    try_it("a part too many", 1, invalid);
    with(&|members| members[2].0 = "../state.db".to_owned());
    try_it("a path", 1, invalid);
    with(&|members| members[1].1[5000] ^= 1);
    try_it("another digest", 1, invalid);
    manifest(&|manifest| manifest["parts"][0]["name"] = json!("../../secrets.db"));
    try_it("a path in the manifest", 1, invalid);
    manifest(&|manifest| manifest["format"] = json!(2));
    try_it("a newer format", 4, "keyholder.store.too_new");
    manifest(&|manifest| manifest["schemas"]["state"] = json!(99));
    try_it("a newer schema", 4, "keyholder.store.too_new");
    // every digest is right, and the content is not sound
    with(&|members| {
        let log = members.iter().position(|(name, _)| name == "audit.log").unwrap();
        let edited = String::from_utf8(members[log].1.clone()).unwrap().replacen("client.add", "client.rm_", 1);
        members[log].1 = edited.into_bytes();
        let mut manifest: Value = serde_json::from_slice(&members[0].1).unwrap();
        manifest["parts"][log - 1]["sha256"] = json!(Sha256::of(&members[log].1).to_hex());
        members[0].1 = manifest.to_string().into_bytes();
    });
    try_it("an edited audit log", 4, "keyholder.audit.broken");
    world.is_sound("state");
}

#[test]
fn a_backup_never_overwrites_unasked_and_a_full_disk_leaves_nothing() {
    let world = World::furnished();
    let folder = world.path("out");
    fs::create_dir(&folder).unwrap();
    let precious = folder.join("precious");
    fs::write(&precious, "mine").unwrap();
    let words = |file: &Path| {
        let file = file.to_str().unwrap().to_owned();
        ["store".to_owned(), "backup".to_owned(), file, "--recipient".to_owned(), world.recipient.clone()]
    };
    let run_it = |file: &Path, more: &[&str]| {
        let words = words(file);
        let words: Vec<&str> = words.iter().map(String::as_str).chain(more.iter().copied()).collect();
        world.said("state", &words, b"")
    };
    refused(&run_it(&precious, &[]), 2, "keyholder.usage");
    assert_eq!(fs::read_to_string(&precious).unwrap(), "mine");
    // of a backup to that name that was killed
    fs::write(folder.join(format!(".precious.part-{}", "0123".repeat(8))), "half").unwrap();
    let mine = folder.join(".precious.part-mine");
    fs::write(&mine, "mine").unwrap();
    run_it(&precious, &["--force"]).done();
    fs::remove_file(mine).unwrap();
    assert!(fs::read(&precious).unwrap().starts_with(b"age-encryption.org/v1"));
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "no draft and no leftover");
    // A file size limit stands in for the disk's end; ignoring the signal turns it into a failed write (512 B blocks).
    let before = digests(&world.path("state"));
    let script = "trap '' XFSZ; ulimit -f 60; exec \"$0\" \"$@\"";
    let mut shell = Command::new("/bin/sh");
    shell.env_clear().env("USER", "tester").args(["-c", script]).arg(env!("CARGO_BIN_EXE_keyholder"));
    shell.arg("--config").arg(world.path("keyholder.toml")).arg("--state").arg(world.path("state"));
    shell.args(["--output", "json"]).args(words(&folder.join("late")));
    let said = run(&mut shell, b"");
    assert_eq!(said.code, Some(3), "{said:?}");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing half is left");
    let after = digests(&world.path("state"));
    let same =
        before.iter().filter(|(name, _)| !name.starts_with("audit")).all(|(name, digest)| after[name] == **digest);
    assert!(same, "only the audit log has an entry more");
    let mut file = fs::OpenOptions::new().append(true).open(world.identity()).unwrap();
    file.write_all(b"AGE-SECRET-KEY-1NONSENSE\n").unwrap();
    let identity = world.identity();
    let bad_key = world.said("other", &World::restore(&precious, &[], &identity), b"");
    refused(&bad_key, 2, "keyholder.usage");
    assert!(!bad_key.err.contains("NONSENSE"), "{}", bad_key.err);
}
