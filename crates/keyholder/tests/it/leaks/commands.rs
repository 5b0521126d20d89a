//! Every command that meets a secret, also with the secret where it does not belong.
//!
//! Invariant: what a command exists to tell (a new client's secret) is cut from its standard output alone.

use serde_json::json;

use super::{
    evidence::Evidence,
    forms::{PIECE, awkward_text, key_base64, key_text, secret_text},
    world::World,
};
use crate::harness::{run, text};

/// All commands; their words, input and expected exit code are the cases.
pub fn drive(world: &World, evidence: &mut Evidence) {
    orderly(world, evidence);
    on_the_command_line(world, evidence);
    in_documents(world, evidence);
    in_the_configuration(world, evidence);
}

fn check(world: &World, evidence: &mut Evidence, words: &[&str], input: &str, code: i32) {
    for form in [&["--output", "text"], &["--output", "json"]] {
        let said = world.run(&[form.as_slice(), words].concat(), input.as_bytes());
        let name = words.iter().filter(|word| word.len() < PIECE).copied().collect::<Vec<_>>().join(" ");
        assert_eq!(said.code, Some(code), "{name}: {}{}", said.out, said.err);
        evidence.add(&format!("standard output of {name}"), said.out);
        evidence.add(&format!("standard error of {name}"), said.err);
    }
}

fn orderly(world: &World, evidence: &mut Evidence) {
    let document = json!({ "client_id": "x", "client_secret": secret_text("set") }).to_string();
    evidence.secret("the secret of secret set", secret_text("set"));
    let file = world.private("inputs/document.json", &document);
    let file = file.to_str().unwrap();
    check(world, evidence, &["secret", "set", "piped"], &document, 0);
    check(world, evidence, &["secret", "set", "file", "--file", file], "", 0);
    check(world, evidence, &["secret", "set", "line", "--client-id", "x"], &secret_text("set"), 0);
    check(world, evidence, &["secret", "set", "opaque", "--opaque"], &awkward_text("opaque"), 0);
    evidence.secret("the opaque secret", awkward_text("opaque"));
    check(world, evidence, &["secret", "set", "piped", "--expect-version", "77"], &document, 1);
    check(world, evidence, &["secret", "list"], "", 0);
    check(world, evidence, &["secret", "show-metadata", "piped"], "", 0);
    let said = world.run(&["secret", "rm", "piped", "--yes"], b"");
    assert_eq!(said.code, Some(0), "{said:?}");
    evidence.add("secret rm", said.out + &said.err);
    for words in [["add", "orderly"], ["rotate-secret", "orderly"]] {
        let words = [["--output", "json", "client"].as_slice(), &words].concat();
        let said = world.run(&words, b"");
        assert_eq!(said.code, Some(0), "{said:?}");
        let answer: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        let secret = text(&answer, "client_secret").to_owned();
        evidence.secret("a client's secret", &secret);
        evidence.add_telling("standard output of a new client's secret", said.out, &[&secret]);
        evidence.add("standard error of a new client's secret", said.err);
    }
    for words in [
        ["client", "list"].as_slice(),
        &["client", "show", "orderly"],
        &["client", "disable", "orderly"],
        &["client", "enable", "orderly"],
        &["audit", "list"],
        &["audit", "verify"],
        &["config", "show"],
        &["check"],
    ] {
        check(world, evidence, words, "", 0);
    }
}

/// Shells keep what was typed; keyholder does not add its logs and error messages to that.
fn on_the_command_line(world: &World, evidence: &mut Evidence) {
    for (kind, secret) in [
        ("a Genesys secret", secret_text("typed")),
        ("a CXone key", key_text("typed")),
        ("a key", key_base64("typed")),
        ("a password", awkward_text("typed")),
    ] {
        evidence.secret(&format!("{kind} on the command line"), &secret);
        let flag = format!("--client-secret={secret}");
        let short = format!("-p{secret}");
        let url = format!("https://user:{secret}@example.com/");
        let rule = format!("GET /api/v2/users?token={secret}");
        for words in [
            ["secret", "set", "genesys", &secret].as_slice(),
            &["secret", "set", "genesys", &flag],
            &["secret", "set", "genesys", "--client-secret", &secret],
            &["secret", "set", "genesys", &short],
            &["secret", "set", "genesys", "--expect-version", &secret],
            &["secret", "set", "genesys", "--file", &secret],
            &["client", "add", "typed", &secret],
            &["client", "add", "typed", "--credential", &url],
            &["client", "add", "typed", "--ttl", &secret],
            &["client", "add", "typed", "--allow", &rule],
            &[&secret],
            &["secret", &secret],
            &["token", &secret],
            &["token", "get", "genesys", "--min-ttl", &secret],
            &["audit", "verify", "--key", &secret],
            &["check", &secret],
            &["serve", &secret],
            &["serve", "--listen", &url],
            &["config", "show", &secret],
            &["--output", &secret, "check"],
            &["--log-format", &secret, "check"],
        ] {
            // The password has what JSON escapes; the rest reads the same in both forms.
            let forms = [[].as_slice(), &["--output", "json"]];
            for form in &forms[..if kind == "a password" { 2 } else { 1 }] {
                let said = world.run(&[*form, words].concat(), b"");
                assert_eq!(said.code, Some(2), "{}{}", said.out, said.err);
                evidence.add("standard output of a secret typed", said.out);
                evidence.add(
                    &format!("standard error of {kind} typed after {}", words[0].get(..8).unwrap_or(words[0])),
                    said.err,
                );
            }
        }
        // As the name of something: what is looked for is not there.
        for words in [
            ["client", "show", &secret].as_slice(),
            &["client", "add", &secret, "--credential", &secret],
            &["secret", "show-metadata", &secret],
            &["secret", "rm", "--yes", &secret],
            &["token", "get", &secret],
        ] {
            let said = world.run(words, b"");
            assert!(matches!(said.code, Some(1..=3)), "{said:?}");
            evidence.add(&format!("standard output of {kind} as a name"), said.out);
            evidence.add(&format!("standard error of {kind} as a name after {}", words[..2].join(" ")), said.err);
        }
        let said = run(
            crate::harness::keyholder().args(["--log", &secret, "config", "show"]).current_dir(world.folder.path()),
            b"",
        );
        evidence.add("a log filter", said.out + &said.err);
    }
}

fn in_documents(world: &World, evidence: &mut Evidence) {
    let secret = awkward_text("document");
    evidence.secret("a secret in a malformed document", &secret);
    let plain = secret_text("document");
    evidence.secret("a plain secret in a malformed document", &plain);
    for document in [
        plain.clone(),
        format!("\"{plain}\""),
        format!("{{\"client_id\":\"x\",\"client_secret\":{plain}}}"),
        format!("{{\"client_id\":\"x\",\"client_secret\":\"{plain}"),
        json!({ "client_id": "x", "clientSecret": secret }).to_string(),
        json!({ "client_id": "x", plain.as_str(): secret }).to_string(),
        json!({ "client_id": "x", "client_secret": [plain] }).to_string(),
        json!({ "client_id": "x", "client_secret": { plain.as_str(): secret } }).to_string(),
        json!([plain, secret]).to_string(),
        format!("client_id=x&client_secret={plain}"),
    ] {
        check(world, evidence, &["secret", "set", "genesys"], &document, 2);
    }
    let file = world.private("inputs/loose.json", &plain);
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    check(world, evidence, &["secret", "set", "genesys", "--file", file.to_str().unwrap()], "", 2);
}

fn in_the_configuration(world: &World, evidence: &mut Evidence) {
    let good = std::fs::read_to_string(world.path("keyholder.toml")).unwrap();
    for (kind, secret) in [
        ("a Genesys secret", secret_text("config")),
        ("a CXone key", key_text("config")),
        ("a key", key_base64("config")),
        ("a password", awkward_text("config").replace(['"', '\\'], "x")),
    ] {
        evidence.secret(&format!("{kind} in the configuration"), &secret);
        for lines in [
            format!("[credential.bad]\nplatform = \"genesys\"\nclient_secret = \"{secret}\"\n"),
            format!("[credential.bad]\nplatform = \"genesys\"\nsecret = \"{secret}\"\n"),
            format!("[credential.bad]\nplatform = \"genesys\"\nsecret = \"store:{secret}=\"\n"),
            format!("[credential.bad]\nplatform = \"{secret}\"\nsecret = \"store:x\"\n"),
            format!(
                "[credential.bad]\nplatform = \"genesys\"\nsecret = \"store:x\"\nclientsecret = '''\n{secret}'''\n"
            ),
            format!("[credential.bad]\nplatform = \"genesys\"\nsecret = \"store:x\"\nkey = \"{secret}\"\n"),
            format!("[credential.bad]\nplatform = \"genesys\"\nsecret = \"store:x\"\nidle_timeout = \"{secret}\"\n"),
            format!("[credential.bad]\nplatform = \"genesys\"\nsecret = \"store:x\" {secret}\n"),
            format!("[credential.bad]\nplatform = \"genesys\"\nsecret = {secret}\n"),
            format!("[credential.\"{secret}=\"]\nplatform = \"genesys\"\nsecret = \"store:x\"\n"),
            format!("[credential.bad]\n\"{secret}\" = \"x\"\n"),
            format!("[platform.bad]\nkind = \"{secret}\"\n"),
            format!("[platform.bad]\nkind = \"genesys\"\nregion = \"{secret}\"\n"),
            format!(
                "[platform.bad]\nkind = \"genesys\"\nlogin_url = \"https://u:{secret}@login.example.com\"\napi_url = \"https://x\"\n"
            ),
            format!(
                "[platform.bad]\nkind = \"genesys\"\nlogin_url = \"https://login.example.com/?k={secret}\"\napi_url = \"https://x\"\n"
            ),
            format!("[platform.bad]\nkind = \"oauth2\"\napi_url = \"https://x\"\ntoken_url = \"{secret}\"\n"),
            format!(
                "[platform.bad]\nkind = \"oauth2\"\napi_url = \"https://x\"\ntoken_url = \"https://{secret}@x/token\"\n"
            ),
            format!("[platform.bad]\nkind = \"cxone\"\narea = \"{secret}\"\n"),
            format!("[log]\nlevel = \"{secret}=={secret}\"\n"),
            format!("[log]\nformat = \"{secret}\"\n"),
        ] {
            refused(world, evidence, kind, &(good.clone() + &lines), &lines, &secret);
        }
        for key in ["key_env", "passphrase_env", "passphrase", "key"] {
            let lines = format!("{key} = \"{secret}\"");
            let config = good.replace("key_file = \"inputs/store.key\"", &lines);
            refused(world, evidence, kind, &config, &lines, &secret);
        }
    }
}

fn refused(world: &World, evidence: &mut Evidence, kind: &str, config: &str, lines: &str, secret: &str) {
    let file = world.private("inputs/bad.toml", config);
    let file = file.to_str().unwrap();
    // `serve` reads the file with the same function and is tried with one kind of secret.
    let cases = [("check", "text"), ("check", "json"), ("serve", "text")];
    for (command, form) in &cases[..if kind == "a password" { 3 } else { 2 }] {
        let words = ["--config", file, "--log", "trace", "--output", form, command];
        let said = run(crate::harness::keyholder().args(words).current_dir(world.folder.path()), b"");
        let lines = lines.replace(secret, "SECRET");
        assert_eq!(said.code, Some(2), "{lines}: {}{}", said.out, said.err);
        evidence.add(&format!("{command} --output {form} of {kind} in {lines:?}"), said.out + &said.err);
    }
}
