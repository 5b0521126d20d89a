//! The admin API of the real program: operators of the configuration, over http on loopback and over https with client
//! certificates (curl), and what stands in the audit log and in the security log of it.

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};

use crate::{
    harness::{Installation, eventually, request, run, text},
    inbound::certificates::{authority, issue},
    security_log::lines,
};

/// Adds sections to the configuration.
fn append(installation: &Installation, sections: &str) {
    let file = installation.path("keyholder.toml");
    let config = fs::read_to_string(&file).unwrap();
    let draft = installation.path("keyholder.toml.draft");
    fs::write(&draft, format!("{config}\n{sections}")).unwrap();
    fs::rename(draft, file).unwrap();
}

/// A token of `keyholder operator token` and its digest.
fn token(installation: &Installation) -> (String, String) {
    let made = installation.run(&["--output", "json", "operator", "token"]).json();
    (text(&made, "token").to_owned(), text(&made, "token_sha256").to_owned())
}

#[test]
fn an_operator_is_admitted_and_sent_away_without_a_restart() {
    let installation = Installation::new();
    let server = installation.serve();
    let (token, digest) = token(&installation);
    let ask = |method: &str, path: &str, body: &Value| {
        let header = format!("Bearer {token}");
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let headers = [("Authorization", header.as_str()), ("Content-Type", "application/json")];
        request(method, &format!("{}{path}", server.admin()), &headers, &body)
    };
    assert_eq!(ask("GET", "/v1/clients", &Value::Null).status, 403);
    append(&installation, &format!("[operator.ann]\nrole = \"operate\"\ntoken_sha256 = [\"{digest}\"]\n"));
    eventually(&200, || ask("GET", "/v1/clients", &Value::Null).status);
    assert_eq!(ask("POST", "/v1/clients", &json!({ "name": "app" })).status, 403, "that is for admins");

    // the one with the guard token adds a client, and ann disables it
    let guard = fs::read_to_string(text(&server.ready, "admin_token_file")).unwrap();
    let headers = [("X-Keyholder-Token", guard.trim()), ("Content-Type", "application/json")];
    let body = json!({ "name": "app", "credential": "genesys", "allow": ["GET /api/v2/users"] }).to_string();
    let added = request("POST", &format!("{}/v1/clients", server.admin()), &headers, body.as_bytes());
    assert_eq!(added.status, 201, "{added:?}");
    assert_eq!(ask("POST", "/v1/clients/app/disable", &Value::Null).json()["enabled"], false);
    let shown = installation.run(&["--output", "json", "client", "show", "app"]).json();
    assert_eq!(shown["enabled"], false, "the command line sees the same registry");

    let entries = ask("GET", "/v1/audit/entries?limit=1000", &Value::Null).json();
    let entries: Vec<String> = entries["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| format!("{} {} {}", text(entry, "actor"), text(entry, "action"), text(entry, "subject")))
        .collect();
    for expected in [
        "admin:ann admin.refuse POST /v1/clients",
        "admin:local admin.call POST /v1/clients",
        "admin:local client.add app",
        "admin:ann admin.call POST /v1/clients/{client}/disable",
        "admin:ann client.disable app",
    ] {
        assert!(entries.iter().any(|entry| entry == expected), "{expected} is not in {entries:#?}");
    }
    assert_eq!(ask("GET", "/v1/audit/verify", &Value::Null).json()["verified"], true);
    installation.run(&["audit", "verify"]).done();

    let file = installation.path("keyholder.toml");
    let config = fs::read_to_string(&file).unwrap();
    let (head, _) = config.split_once("[operator.ann]").unwrap();
    fs::write(&file, head).unwrap();
    eventually(&403, || ask("GET", "/v1/clients", &Value::Null).status);
    assert_eq!(server.process.stop().0, Some(0));
}

/// Writes an authority with a certificate for 127.0.0.1, and one for an operator's program.
fn certificates(folder: &Path) {
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.distinguished_name.push(rcgen::DnType::CommonName, "test authority");
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issuer = rcgen::CertifiedIssuer::self_signed(authority, rcgen::KeyPair::generate().unwrap()).unwrap();
    fs::write(folder.join("ca.pem"), issuer.pem()).unwrap();
    for (file, name) in [("server", "127.0.0.1"), ("ann", "ann.operators.example"), ("eve", "eve.operators.example")] {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        let leaf = params.signed_by(&key, &issuer).unwrap();
        fs::write(folder.join(format!("{file}.pem")), leaf.pem()).unwrap();
        fs::write(folder.join(format!("{file}.key")), key.serialize_pem()).unwrap();
    }
}

#[test]
fn curl_with_an_operators_certificate() {
    let installation = Installation::new();
    let folder = installation.path(".");
    certificates(&folder);
    issue(&installation, &authority("test authority"), "ann.operators.example", "stranger");
    let sections = "[security]\n[admin.tls]\nlisten = \"127.0.0.1:0\"\ncert = \"server.pem\"\nkey = \"server.key\"\n\
                    client_ca = \"ca.pem\"\n[operator.ann]\nrole = \"read\"\n\
                    certificate_names = [\"ann.operators.example\"]\n";
    append(&installation, sections);
    let server = installation.serve();
    let url = format!("{}/v1/clients", text(&server.ready, "admin_tls_url"));
    let curl = |who: Option<&str>| {
        let mut curl = Command::new("curl");
        curl.current_dir(&folder).args(["-sS", "--max-time", "30", "-o", "/dev/null", "-w", "%{http_code}"]);
        curl.args(["--cacert", "ca.pem"]);
        if let Some(who) = who {
            curl.args(["--cert", &format!("{who}.pem"), "--key", &format!("{who}.key")]);
        }
        // without a connection curl fails, and says 000
        run(curl.arg(&url), b"").out
    };
    let statuses = [Some("ann"), Some("eve"), None, Some("stranger")].map(curl);
    assert_eq!(statuses, ["200", "403", "403", "000"].map(str::to_owned));
    assert_eq!(server.process.stop().0, Some(0));
    let found = lines(&installation.path("state/security.log"));
    let mut told: Vec<String> =
        found.iter().map(|line| format!("{} {}", text(&line["service"], "name"), text(line, "status_code"))).collect();
    // each connection has a task of its own
    told.sort();
    assert_eq!(told, ["admin certificate_refused", "admin certificate_unknown", "admin token_missing"]);
}

#[test]
fn operators_that_nothing_can_prove_are_told_with_the_way_out() {
    let installation = Installation::new();
    append(
        &installation,
        "[operator.ann]\nrole = \"read\"\n[operator.bob]\nrole = \"read\"\ncertificate_names = [\"b\"]\n",
    );
    let said = installation.run(&["check"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    for word in ["nothing proves this operator", "keyholder operator token", "no client certificate is ever asked for"]
    {
        assert!(said.err.contains(word), "{word}: {}", said.err);
    }
}

#[test]
fn check_looks_at_the_files_of_the_admin_listener_and_at_authorities() {
    let installation = Installation::new();
    certificates(&installation.path("."));
    append(
        &installation,
        "[gateway.tls]\nlisten = [\"127.0.0.1:0\"]\ncert = \"server.pem\"\nkey = \"server.key\"\n\
         client_ca = \"callers.pem\"\n[admin.tls]\nlisten = \"127.0.0.1:0\"\n\
         cert = \"admin.pem\"\nkey = \"admin.key\"\nclient_ca = \"operators.pem\"\n",
    );
    let ready = |from: &str, to: &str| fs::copy(installation.path(from), installation.path(to)).unwrap();
    let refused = |told: &str| {
        let said = installation.run(&["check"]);
        assert_eq!(said.code, Some(1), "{told}: {}", said.err);
        assert!(said.err.contains(told), "{told}: {}", said.err);
        let said = installation.run(&["serve"]);
        assert_eq!(said.code, Some(2), "{told}: {}", said.err);
    };
    let names =
        [("ca.pem", "callers.pem"), ("ca.pem", "operators.pem"), ("ann.pem", "admin.pem"), ("ann.key", "admin.key")];
    for (from, to) in names {
        ready(from, to);
    }
    installation.run(&["check"]).done();
    fs::write(installation.path("admin.key"), "no key").unwrap();
    refused("[admin.tls]: ");
    ready("ann.key", "admin.key");
    for (section, file) in [("[admin.tls]: ", "operators.pem"), ("[gateway.tls]: ", "callers.pem")] {
        fs::remove_file(installation.path(file)).unwrap();
        refused(section);
        fs::write(installation.path(file), "no certificate").unwrap();
        refused("cannot be used for client certificates");
        ready("ca.pem", file);
    }
    installation.run(&["check"]).done();
}
