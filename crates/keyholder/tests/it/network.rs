//! The way out to platforms, with real parts: a real proxy, TLS, client certificates, source addresses, IPv6. What is
//! configured for a platform holds for its token requests and for its calls, and for no other platform.

mod far;
mod proxy;

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use serde_json::Value;

use self::{far::Far, proxy::Tinyproxy};
use crate::harness::{Answer, Installation, Process, Server, eventually, run, text};

const PASSWORD: &str = "ProxyPassword7";

/// A certificate authority of the test's own.
struct Authority(rcgen::CertifiedIssuer<'static, rcgen::KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        Self(rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for `name` and its key.
    fn issue(&self, name: &str) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
}

fn write_private(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Adds a platform and a credential of the same name.
fn platform(installation: &Installation, name: &str, url: &str, lines: &str) {
    let file = installation.path("keyholder.toml");
    let config = fs::read_to_string(&file).unwrap();
    let more = format!(
        "[platform.{name}]\nkind = \"genesys\"\nlogin_url = \"{url}\"\napi_url = \"{url}\"\n{lines}\n\
         [credential.{name}]\nplatform = \"{name}\"\nsecret = \"store:genesys\"\n"
    );
    fs::write(&file, config + &more).unwrap();
}

/// A client of the credential `name` logs in and calls.
fn call(installation: &Installation, server: &Server, name: &str) -> Answer {
    let login = installation.add_client(name, &["--credential", name, "--allow-all"]);
    let token = server.login(&login);
    server.call(&token, "GET", "/api/v2/users")
}

/// The caller is told what failed, and the answer or the log says why and what to do.
#[track_caller]
fn refused(server: &Server, answer: &Answer, code: &str, words: &str) {
    assert_eq!(answer.status, 502, "{answer:?}");
    assert_eq!(text(&answer.json(), "code"), code, "{answer:?}");
    // at most one line a second tells of failed calls; a failed login always has its own
    let message = text(&answer.json(), "message").to_owned();
    eventually(&true, || message.contains(words) || server.process.said().contains(words));
}

/// An installation with a second sandbox that speaks TLS with a certificate of `authority`.
struct Tls {
    installation: Installation,
    sandbox: crate::harness::Sandbox,
    port: u16,
}

impl Tls {
    fn new(authority: &Authority) -> Self {
        let installation = Installation::new();
        let folder = installation.path("tls");
        fs::create_dir(&folder).unwrap();
        let (certificate, key) = authority.issue("127.0.0.1");
        fs::write(folder.join("cert.pem"), certificate).unwrap();
        fs::write(folder.join("key.pem"), key).unwrap();
        fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
        let config = format!("[tls]\ncertificate = \"{0}/cert.pem\"\nkey = \"{0}/key.pem\"\n", folder.display());
        let sandbox = crate::harness::Sandbox::start(&folder, &config);
        installation.store_secret("genesys", &sandbox.genesys_document());
        let port = sandbox.url().rsplit_once(':').unwrap().1.parse().unwrap();
        Self { installation, sandbox, port }
    }

    /// Requests that reached it.
    fn total(&self) -> u64 {
        self.sandbox.control("GET", "requests?limit=1", &Value::Null)["total"].as_u64().unwrap()
    }
}

#[test]
fn a_proxy_with_a_password_carries_logins_and_calls() {
    let authority = Authority::new("authority of the platform");
    let stage = Tls::new(&authority);
    let (installation, url) = (&stage.installation, stage.sandbox.url().to_owned());
    let proxy = Tinyproxy::start(installation.folder.path(), "keyholder", PASSWORD, stage.port);
    write_private(&installation.path("right"), &format!("keyholder:{PASSWORD}\n"));
    write_private(&installation.path("wrong"), "keyholder:Another-Password-8\n");
    let ca = "extra_ca = \"tls/ca.pem\"";
    let by_proxy = format!("{ca}\nproxy = \"{}\"", proxy.url());
    platform(installation, "through", &url, &format!("{by_proxy}\nproxy_auth_file = \"right\""));
    platform(installation, "wrong", &url, &format!("{by_proxy}\nproxy_auth_file = \"wrong\""));
    platform(installation, "nobody", &url, &by_proxy);
    platform(installation, "beside", &url, &format!("{by_proxy}\nno_proxy = [\"127.0.0.0/8\"]"));
    platform(installation, "variable", &url, &format!("{ca}\nproxy = \"environment\""));
    platform(installation, "direct", &url, &format!("{ca}\nproxy = \"none\""));
    // another port than the platform's is not allowed there
    let other = format!("https://127.0.0.1:{}", proxy.port);
    platform(installation, "filtered", &other, &format!("{by_proxy}\nproxy_auth_file = \"right\""));
    let ready = installation.path("ready.json");
    let mut command = installation.command(&["serve", "--ready-file", ready.to_str().unwrap()]);
    let variable = format!("http://keyholder:{PASSWORD}@127.0.0.1:{}", proxy.port);
    // with the same rules as another platform's it would be the same way out, and share its open tunnels
    command.env("HTTPS_PROXY", &variable).env("NO_PROXY", "internal.example");
    let mut process = Process::start(&mut command, &installation.path("serve.log"));
    let server = Server { ready: process.ready(&ready), process };

    for (name, tunnels) in [("through", 2), ("variable", 2), ("beside", 0), ("direct", 0)] {
        let (before, seen) = (proxy.tunnels(), stage.total());
        let answer = call(installation, &server, name);
        assert_eq!(answer.status, 200, "{name}: {answer:?}");
        assert_eq!(proxy.tunnels() - before, tunnels, "{name}: one for the login, one for the call, or none");
        assert_eq!(stage.total() - seen, 2, "{name}");
    }
    let seen = stage.total();
    let denied = "does not accept keyholder's user name and password: see proxy_auth_file";
    for (name, words) in [("wrong", denied), ("nobody", denied), ("filtered", "with status 403")] {
        refused(&server, &call(installation, &server, name), "keyholder.upstream.proxy", words);
    }
    assert_eq!(stage.total(), seen, "nothing went around the proxy");

    assert_eq!(proxy.process.stop().0, Some(0));
    let again = installation.add_client("later", &["--credential", "through", "--allow-all"]);
    let token = server.login(&again);
    // the tunnels that were open ended with it
    refused(
        &server,
        &server.call(&token, "GET", "/api/v2/users"),
        "keyholder.upstream.proxy",
        "could not be reached: connection refused",
    );
    assert_eq!(stage.total(), seen, "nothing went around the proxy that is gone");
    let (code, said) = server.process.stop();
    assert_eq!(code, Some(0));
    assert!(said.contains("does not accept keyholder's user name and password"), "{said}");
    for secret in [PASSWORD, "Another-Password-8"] {
        assert!(!said.contains(secret), "{said}");
    }
}

#[test]
fn a_proxy_of_the_environment_is_used_only_when_the_file_says_so() {
    let installation = Installation::new();
    let with_variable = || {
        let mut command = installation.command(&["check"]);
        command.env("HTTPS_PROXY", format!("http://user:{PASSWORD}@127.0.0.1:9"));
        run(&mut command, b"")
    };
    let said = with_variable();
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.err.contains("HTTPS_PROXY is set and not used"), "{said:?}");
    let config = fs::read_to_string(installation.path("keyholder.toml")).unwrap();
    for choice in ["none", "environment"] {
        fs::write(installation.path("keyholder.toml"), format!("{config}[network]\nproxy = \"{choice}\"\n")).unwrap();
        let said = with_variable();
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(!said.err.contains("HTTPS_PROXY") && !said.err.contains(PASSWORD), "{said:?}");
    }
}

#[test]
fn a_client_certificate_is_shown_where_the_platform_demands_one() {
    let (servers, clients) = (Authority::new("authority of servers"), Authority::new("authority of clients"));
    let far = Far::demanding(&servers, &clients);
    let url = format!("https://{}", far.address);
    let installation = Installation::new();
    fs::write(installation.path("ca.pem"), servers.pem()).unwrap();
    for (name, authority) in [("right", &clients), ("foreign", &Authority::new("authority of strangers"))] {
        let (certificate, key) = authority.issue("keyholder.example");
        fs::write(installation.path(&format!("{name}.pem")), certificate).unwrap();
        write_private(&installation.path(&format!("{name}.key")), &key);
        let lines = format!("extra_ca = \"ca.pem\"\nclient_cert = \"{name}.pem\"\nclient_key = \"{name}.key\"");
        platform(&installation, name, &url, &lines);
    }
    platform(&installation, "missing", &url, "extra_ca = \"ca.pem\"");
    let server = installation.serve();
    assert_eq!(call(&installation, &server, "right").status, 200);
    assert_eq!(far.requests(), 2, "login and call");
    refused(
        &server,
        &call(&installation, &server, "missing"),
        "keyholder.upstream.tls",
        "it demands a client certificate",
    );
    refused(
        &server,
        &call(&installation, &server, "foreign"),
        "keyholder.upstream.tls",
        "see client_cert and client_key",
    );
    assert_eq!(far.requests(), 2, "the others got no request through");
}

#[test]
fn a_private_authority_is_trusted_for_its_own_platform_alone() {
    let (one, other) = (Authority::new("authority of one"), Authority::new("authority of another"));
    let stage = Tls::new(&one);
    let (installation, url) = (&stage.installation, stage.sandbox.url().to_owned());
    fs::write(installation.path("other.pem"), other.pem()).unwrap();
    platform(installation, "own", &url, "extra_ca = \"tls/ca.pem\"");
    platform(installation, "none", &url, "");
    platform(installation, "other", &url, "extra_ca = \"other.pem\"");
    let server = installation.serve();
    assert_eq!(call(installation, &server, "own").status, 200);
    let seen = stage.total();
    for name in ["none", "other"] {
        refused(&server, &call(installation, &server, name), "keyholder.upstream.tls", "UnknownIssuer");
    }
    assert_eq!(stage.total(), seen);
}

#[test]
fn a_fixed_source_address_is_what_the_platform_sees() {
    const ALLOWED: &str = "[behaviours]\nenforce_allowed_ips = true\n[[genesys.clients]]\nname = \"admin\"\nroles = [\"admin\"]\nallowed_ips = [\"127.0.0.2\"]\n";
    let installation = Installation::with(ALLOWED, "[network]\nsource_address = [\"127.0.0.2\", \"::1\"]\n");
    let url = installation.sandbox.url().to_owned();
    platform(&installation, "wrong", &url, "source_address = [\"127.0.0.3\"]");
    platform(&installation, "foreign", &url, "source_address = [\"192.0.2.1\"]");
    let server = installation.serve();
    // the platform refuses the client's logins and calls from any other address
    assert_eq!(call(&installation, &server, "genesys").status, 200);
    let told = |status: &str| {
        let journal = installation.sandbox.control("GET", "requests?limit=1", &Value::Null);
        journal["counts"]["POST /oauth/token"][status].as_u64().unwrap_or(0)
    };
    assert_eq!((told("200"), told("401")), (1, 0));
    assert_eq!(call(&installation, &server, "wrong").status, 503);
    assert!(told("401") >= 1, "the login came from another address");
    refused(
        &server,
        &call(&installation, &server, "foreign"),
        "keyholder.upstream.unreachable",
        "source_address cannot be used",
    );
}

#[test]
fn a_platform_on_ipv6() {
    let far = Far::plain("::1");
    let installation = Installation::new();
    platform(&installation, "six", &format!("http://{}", far.address), "");
    let server = installation.serve();
    assert_eq!(call(&installation, &server, "six").status, 200);
    assert_eq!(far.requests(), 2, "login and call");
}

#[test]
fn check_tells_what_is_wrong_with_the_files_of_a_way() {
    let authority = Authority::new("authority");
    let (one, two) = (authority.issue("one"), authority.issue("two"));
    let installation = Installation::new();
    let path = |name: &str| installation.path(name);
    fs::write(path("one.pem"), &one.0).unwrap();
    write_private(&path("one.key"), &one.1);
    write_private(&path("two.key"), &two.1);
    write_private(&path("junk"), "junk");
    write_private(&path("colonless"), "no colon");
    fs::write(path("open"), format!("keyholder:{PASSWORD}")).unwrap();
    fs::set_permissions(path("open"), fs::Permissions::from_mode(0o644)).unwrap();
    let url = installation.sandbox.url().to_owned();
    let client = |cert: &str, key: &str| format!("client_cert = \"{cert}\"\nclient_key = \"{key}\"");
    let proxy = |file: &str| format!("proxy = \"http://127.0.0.1:9\"\nproxy_auth_file = \"{file}\"");
    let rows = [
        ("fine", client("one.pem", "one.key"), ""),
        ("pair", client("one.pem", "two.key"), "do not belong together"),
        ("no-cert", client("junk", "one.key"), "the client certificate is not a PEM file"),
        ("no-key", client("one.pem", "junk"), "the client key is not a PEM file"),
        ("gone", client("one.pem", "gone.key"), "gone.key cannot be read"),
        ("open", proxy("open"), "may be read by others (mode 644)"),
        ("colonless", proxy("colonless"), "user:password on one line"),
        ("missing", proxy("missing"), "missing cannot be read"),
        ("bundle", "extra_ca = \"junk\"".to_owned(), "holds no certificate"),
    ];
    for (name, lines, _) in &rows {
        platform(&installation, name, &url, lines);
    }
    let said = installation.run(&["--output", "json", "check"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    let problem: Value = serde_json::from_str(&said.err).unwrap();
    let findings = problem["findings"].as_array().unwrap();
    for (name, _, words) in &rows {
        let subject = format!("[platform.{name}]");
        let found = findings.iter().find(|finding| finding["subject"] == subject.as_str());
        assert_eq!(found.is_some(), !words.is_empty(), "{name}: {problem:#}");
        if let Some(found) = found {
            assert!(text(found, "problem").contains(words), "{name}: {found}");
        }
    }
    assert!(!said.err.contains(PASSWORD));
}
