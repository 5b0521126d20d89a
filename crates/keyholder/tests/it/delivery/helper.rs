//! `keyholder credential-helper`, asked by the programs that it is for.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use credentialhelper::{Client, CredentialHelper, GetCredentialsRequest};
use serde_json::Value;

use super::world::{self, evidence, installation, path_with_keyholder, program, root, said, socket_url};
use crate::harness::{Installation, Process, Said, Server, run, text};

/// `keyholder credential-helper WORDS` with `input`, without any configuration: all it knows is the broker.
fn helper(installation: &Installation, url: &str, words: &[&str], input: &str) -> Said {
    let mut command = crate::harness::keyholder();
    command.current_dir(installation.path("run")).env("KEYHOLDER_URL", url).arg("credential-helper").args(words);
    command.env("KEYHOLDER_TOKEN_FILE", installation.path("state/broker.token"));
    run(&mut command, input.as_bytes())
}

/// A script, because clients of the specification start one program and `get`.
fn wrapper(installation: &Installation, server: &Server, words: &str) -> PathBuf {
    let script = installation.path("helper.sh");
    let (binary, config) = (env!("CARGO_BIN_EXE_keyholder"), installation.path("keyholder.toml"));
    let text = format!(
        "#!/bin/sh\nexec env -i KEYHOLDER_CONFIG='{}' KEYHOLDER_URL='{}' '{binary}' credential-helper {words} \"$@\" \
         2>>'{}'\n",
        config.display(),
        socket_url(server),
        installation.path("helper.err").display(),
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
    script
}

#[test]
fn engflows_own_client_gets_a_header_for_the_platforms_host_only() {
    let installation = installation();
    let server = installation.serve();
    let mut evidence = evidence(&installation);
    let url = format!("{}/api/v2/users", installation.sandbox.url());
    let ask = |words: &str, url: &str| {
        let script = wrapper(&installation, &server, words);
        let client = Client::new(script.to_str().unwrap()).unwrap();
        client.get_credentials(GetCredentialsRequest::new(url), Vec::new())
    };
    let answer = ask("--profile genesys", &url).unwrap();
    evidence.add("the answer", format!("{answer:?}"));
    let values = answer.headers()["Authorization"].clone();
    let [value] = values.as_slice() else { panic!("{values:?}") };
    world::assert_good(&installation, value.strip_prefix("Bearer ").unwrap());
    // two credentials are on that platform: it cannot be guessed which is meant, and production is not asked for
    assert!(ask("", &url).is_err());
    assert!(ask("--profile prod", &url).is_err());
    ask("--profile prod --environment production", &url).unwrap();
    // a token is for the platform's hosts, and for those that the person named
    for foreign in ["https://evil.example/x", "https://evil.example:443", "grpcs://evil.example"] {
        assert!(ask("--profile genesys", foreign).is_err(), "{foreign}");
        ask("--profile genesys --host evil.example", foreign).unwrap();
    }
    for bad in ["http://evil.example", "https://user:pw@evil.example", "file:///etc/passwd", "evil"] {
        assert!(ask("--profile genesys --host evil.example", bad).is_err(), "{bad}");
    }
    let errors = fs::read(installation.path("helper.err")).unwrap();
    assert!(!String::from_utf8_lossy(&errors).contains(value.as_str()), "no token on standard error");
    evidence.add("standard error of the helper", errors);
    assert_eq!(world::logins(&installation), 2, "one for each credential");
    assert_eq!(evidence.leaks(), Vec::<String>::new());
}

/// Where one credential alone has the host, it needs no name.
#[test]
fn the_profile_is_found_by_the_host() {
    let installation = Installation::new();
    let server = installation.serve();
    let ask = |url: &str| {
        let mut command = installation.command(&["credential-helper", "get"]);
        command
            .env("KEYHOLDER_URL", server.broker())
            .env("KEYHOLDER_TOKEN_FILE", installation.path("state/broker.token"));
        run(&mut command, format!(r#"{{"uri":"{url}"}}"#).as_bytes())
    };
    let answer = ask(&format!("{}/api/v2/users", installation.sandbox.url())).json();
    let value = answer["headers"]["Authorization"][0].as_str().unwrap();
    world::assert_good(&installation, value.strip_prefix("Bearer ").unwrap());
    let expires: &str = text(&answer, "expires");
    assert!(expires.ends_with('Z') && expires.len() == 20, "{expires}");
    let unknown = ask("https://evil.example");
    assert_eq!((unknown.code, unknown.out.as_str()), (Some(1), ""), "{}", unknown.err);
}

#[test]
fn the_other_forms() {
    let installation = installation();
    let server = installation.serve();
    let mut evidence = evidence(&installation);
    let mut ask = |words: &[&str], input: &str| {
        let said = helper(&installation, socket_url(&server), words, input);
        evidence.add("stdout", &said.out);
        evidence.add("stderr", &said.err);
        said
    };
    let token = ask(&["--format", "raw", "--profile", "genesys"], "").done();
    let token = token.trim_end();
    world::assert_good(&installation, token);
    let aws = ask(&["--format", "aws", "--profile", "genesys"], "").json();
    assert_eq!((aws["Version"].as_i64(), text(&aws, "SessionToken")), (Some(1), token));
    assert!(text(&aws, "Expiration").ends_with('Z'));
    let header = ask(&["--format", "header", "--profile", "genesys"], "").done();
    assert_eq!(header, format!("Authorization: Bearer {token}\n"));
    let exported = ask(&["--format", "env", "--profile", "genesys"], "").done();
    let script = format!("{exported}printf '%s|%s' \"$KEYHOLDER_ACCESS_TOKEN\" \"$KEYHOLDER_API_BASE\"");
    let shell = run(Command::new("sh").env_clear().arg("-c").arg(script), b"").done();
    assert_eq!(shell, format!("{token}|{}", installation.sandbox.url()));
    // what git asks, as its different versions write it
    let host = installation.sandbox.url().trim_start_matches("http://");
    let request = format!("protocol=http\nhost={host}\n");
    let git = &["--format", "git", "--profile", "genesys"];
    let old = ask(&[git.as_slice(), &["get"]].concat(), &request).done();
    assert!(old.starts_with(&format!("username=keyholder\npassword={token}\npassword_expiry_utc=")), "{old}");
    let new = ask(&[git.as_slice(), &["get"]].concat(), &format!("capability[]=authtype\n{request}")).done();
    let lines: Vec<&str> = new.lines().collect();
    assert_eq!(lines[..3], ["capability[]=authtype", "authtype=Bearer", "ephemeral=1"], "{new}");
    assert_eq!(lines[3], format!("credential={token}"));
    for ignored in ["store", "some-later-action"] {
        assert_eq!(ask(&[git.as_slice(), &[ignored]].concat(), &request).done(), "");
    }
    // mistakes
    for (words, input) in [
        (&["--profile", "genesys"] as &[&str], "{}"),
        (&["--profile", "genesys", "store"], "{}"),
        (&["--format", "raw"], ""),
        (&["--format", "git", "--profile", "genesys", "get"], "nonsense\n"),
        (&["--profile", "genesys"], &"x".repeat(70_000)),
    ] {
        let wrong = ask(words, input);
        assert_eq!((wrong.code, wrong.out.as_str()), (Some(2), ""), "{words:?}: {}", wrong.err);
    }
    assert_eq!(world::logins(&installation), 1);
    assert_eq!(evidence.leaks(), Vec::<String>::new());
}

/// A server of git that wants the platform's token, and git itself with the helper.
#[test]
fn git_clones_and_pushes_with_the_helper() {
    let installation = installation();
    let server = installation.serve();
    let mut evidence = evidence(&installation);
    let git = |words: &[&str], evidence: &mut _| {
        let mut command = program("git", &server, socket_url(&server));
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_TERMINAL_PROMPT", "0").env("HOME", installation.folder.path());
        command.env("PATH", path_with_keyholder()).current_dir(installation.folder.path());
        command.args(["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main"]);
        said(command.args(words), evidence)
    };
    git(&["init", "-q", "--bare", "served/project.git"], &mut evidence).done();
    git(&["-C", "served/project.git", "config", "http.receivepack", "true"], &mut evidence).done();
    // the server knows the digest of the token that it takes, as a platform would
    let digest = kh_core_sha256(&world::token_of(&server));
    let ready = installation.path("git-server.json");
    let mut command = Command::new("python3");
    command.env_clear().env("PATH", world::PATH).arg(root().join("tests/broker/git_server.py"));
    command.arg(installation.path("served")).arg(&digest).arg(&ready);
    let mut git_server = Process::start(&mut command, &installation.path("git-server.log"));
    let told: Value = git_server.ready(&ready);
    let (url, host) = (format!("{}/project.git", text(&told, "url")), text(&told, "url").trim_start_matches("http://"));

    let refused = git(&["clone", "-q", &url, "refused"], &mut evidence);
    assert_ne!(refused.code, Some(0), "without a helper there is nothing to show");
    let set = format!("!keyholder credential-helper --format git --profile genesys --host {host}");
    let with_helper = format!("credential.{}.helper={set}", text(&told, "url"));
    git(&["-c", &with_helper, "clone", "-q", &url, "work"], &mut evidence).done();
    fs::write(installation.path("work/file"), "content").unwrap();
    git(&["-C", "work", "add", "file"], &mut evidence).done();
    git(&["-C", "work", "commit", "-q", "-m", "first"], &mut evidence).done();
    git(&["-C", "work", "-c", &with_helper, "push", "-q", "origin", "HEAD"], &mut evidence).done();
    let log = git(&["-C", "served/project.git", "log", "--oneline", "--all"], &mut evidence).done();
    assert_eq!(log.lines().count(), 1, "{log}");
    // without --host the helper keeps the token from this server
    let careless = "credential.helper=!keyholder credential-helper --format git --profile genesys";
    let refused = git(&["-c", careless, "clone", "-q", &url, "careless"], &mut evidence);
    assert_ne!(refused.code, Some(0));
    assert!(refused.err.contains("is not a host of the platform"), "{}", refused.err);
    // what a server other than the platform refuses costs nobody the token
    git_server.signal("USR1");
    crate::harness::eventually(&true, || git_server.said().contains("refuses all"));
    let refused = git(&["-c", &with_helper, "clone", "-q", &url, "again"], &mut evidence);
    assert_ne!(refused.code, Some(0));
    assert_eq!(kh_core_sha256(&world::token_of(&server)), digest, "the token is still the one of before");
    assert_eq!(world::logins(&installation), 1);

    let seen = fs::read_to_string(installation.path("git-server.log")).unwrap();
    let authtype = git(&["credential", "capability"], &mut evidence).out.contains("authtype");
    assert!(seen.contains(if authtype { "took bearer" } else { "took basic" }), "{seen}");
    evidence.add("what the server saw", seen);
    assert_eq!(evidence.leaks(), Vec::<String>::new());
}

/// git tells the helper that the platform itself refused a token: that is worth a report.
#[test]
fn a_token_that_the_platform_refused_is_reported_once() {
    let installation = installation();
    let server = installation.serve();
    let token = world::token_of(&server);
    let host = installation.sandbox.url().trim_start_matches("http://");
    let erase = |used: &str| {
        let request = format!("protocol=http\nhost={host}\nauthtype=Bearer\ncredential={used}\n");
        helper(&installation, socket_url(&server), &["--format", "git", "--profile", "genesys", "erase"], &request)
            .done()
    };
    assert_eq!(erase("some-other-token"), "");
    assert_eq!(world::token_of(&server), token);
    assert_eq!(erase(&token), "");
    let next = world::token_of(&server);
    assert_ne!(next, token);
    erase(&token);
    assert_eq!(world::token_of(&server), next, "an old report is harmless");
}

fn kh_core_sha256(text: &str) -> String {
    let sum = run(&mut Command::new("sha256sum"), text.as_bytes()).done();
    sum.split(' ').next().unwrap().to_owned()
}

/// The page that people copy from.
#[test]
fn the_guide_shows_the_helpers_own_words() {
    let page = fs::read_to_string(Path::new(&root()).join("docs/guide/broker.md")).unwrap();
    for words in ["credential-helper --format git", "credential-helper --format aws", "credential-helper --profile"] {
        assert!(page.contains(words), "{words}");
    }
}
