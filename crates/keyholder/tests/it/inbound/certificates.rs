//! `[inbound.NAME.tls] client_ca` and `binding`: callers with certificates and tokens that are bound to them, by curl, and
//! what stands in the security log of those who are refused.

use std::{fs, process::Command};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::json;

use super::{installed, of_api, of_file, url};
use crate::{
    harness::{Installation, Server, eventually, run, text},
    protected_api::{Api, claims, tokens::Key},
    security_log::lines,
    telemetry::{scrape, value},
};

const ROUTES: &str = r#"
[inbound.reports.tls]
cert = "server.pem"
key = "server.key"
client_ca = "region.pem"
client_auth = "required"
client_names = ["ours.example"]
[[inbound.reports.route]]
match = ["GET /reports"]
scopes = ["reports:read"]
[[inbound.reports.route]]
match = ["GET /bound"]
scopes = ["reports:read"]
binding = "required"
[security]
"#;

pub type Authority = CertifiedIssuer<'static, KeyPair>;

pub fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Writes a certificate for `name` into `FILE.pem` and `FILE.key`; its `x5t#S256`.
pub fn issue(installation: &Installation, authority: &Authority, name: &str, file: &str) -> String {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, authority).unwrap();
    fs::write(installation.path(&format!("{file}.pem")), certificate.pem()).unwrap();
    fs::write(installation.path(&format!("{file}.key")), key.serialize_pem()).unwrap();
    BASE64_URL_SAFE_NO_PAD.encode(kh_core::Sha256::of(certificate.der()).0)
}

/// The status of a call with the certificate in `FILE.pem` or none; 000 when there was no connection.
fn ask(installation: &Installation, server: &Server, path: &str, file: Option<&str>, token: Option<&str>) -> String {
    let mut curl = Command::new("curl");
    curl.args(["-s", "--max-time", "30", "-o", "/dev/null", "-w", "%{http_code}", "--cacert"]);
    curl.arg(installation.path("servers.pem"));
    if let Some(file) = file {
        curl.arg("--cert").arg(installation.path(&format!("{file}.pem")));
        curl.arg("--key").arg(installation.path(&format!("{file}.key")));
    }
    if let Some(token) = token {
        curl.args(["-H", &format!("authorization: Bearer {token}")]);
    }
    run(curl.arg(format!("{}{path}", url(server))), b"").out
}

/// How the log tells of a certificate that was not taken, and of one that did not come.
const REFUSED: &str = "certificate_refused certificate";
const MISSING: &str = "certificate_missing nothing";
const TLS: Option<&str> = Some("TLS client certificate");

/// The reason of a line, and what was shown.
fn told(line: &serde_json::Value) -> String {
    format!("{} {}", text(line, "status_code"), text(&line["unmapped"], "presented"))
}

#[test]
fn callers_have_a_certificate_of_the_region_and_a_token_and_the_region_may_change() {
    let (api, key) = (Api::start(), Key::new("k1"));
    let installation = installed(&(of_file() + &of_api(&api, "\"corp\"", ROUTES)), &[&key]);
    let (servers, region, next) = (authority("servers"), authority("region"), authority("next region"));
    fs::write(installation.path("servers.pem"), servers.pem()).unwrap();
    fs::write(installation.path("region.pem"), region.pem()).unwrap();
    issue(&installation, &servers, "127.0.0.1", "server");
    let ours = issue(&installation, &region, "ours.example", "ours");
    let theirs = issue(&installation, &region, "theirs.example", "theirs");
    issue(&installation, &next, "ours.example", "newcomer");
    let server = installation.serve();
    let token = |cnf: &serde_json::Value| key.sign(&claims(&json!({ "cnf": cnf })));
    let (of_ours, of_theirs) = (token(&json!({ "x5t#S256": ours })), token(&json!({ "x5t#S256": theirs })));
    let unknown = token(&json!({ "kid": "k1" }));
    let free = key.sign(&claims(&json!({})));
    let written = || value(&scrape(&server), r#"keyholder_security_log_lines_total{result="written"}"#);
    let log = installation.path("state/security.log");
    let mut known = 0_u32;
    for (path, file, token, expected, reason, case) in [
        ("/reports", None, Some(&free), "000", MISSING, "no certificate"),
        ("/reports", Some("theirs"), Some(&free), "000", REFUSED, "a certificate of the region with another name"),
        ("/reports", Some("newcomer"), Some(&free), "000", REFUSED, "the name of another authority"),
        ("/reports", Some("ours"), None, "401", "token_missing nothing", "the certificate alone never suffices"),
        ("/reports", Some("ours"), Some(&free), "200", "", "certificate and token"),
        ("/reports", Some("ours"), Some(&of_ours), "200", "", "a token that is bound to it"),
        ("/reports", Some("ours"), Some(&of_theirs), "401", "certificate_mismatch bearer", "that is bound to another"),
        ("/reports", Some("ours"), Some(&unknown), "401", "confirmation_unsupported bearer", "to who knows what"),
        ("/bound", Some("ours"), Some(&of_ours), "200", "", "where tokens must be bound"),
        ("/bound", Some("ours"), Some(&free), "401", "binding_missing bearer", "where they must be, one that is not"),
    ] {
        assert_eq!(ask(&installation, &server, path, file, token.map(String::as_str)), expected, "{case}");
        if !reason.is_empty() {
            eventually(&true, || written() > f64::from(known) + 0.5);
            let found = lines(&log);
            assert_eq!(found.last().map(told).as_deref(), Some(reason), "{case}");
            known += 1;
            assert_eq!(found.len(), usize::try_from(known).unwrap(), "{case}");
        }
    }
    assert_eq!(api.calls(), 3);
    let refused = lines(&log).remove(1);
    assert_eq!(refused["service"], json!({ "name": "gateway" }));
    assert_eq!((refused["auth_protocol"].as_str(), refused["src_endpoint"]["ip"].as_str()), (TLS, Some("127.0.0.1")));
    for absent in ["http_request", "http_response", "session", "actor"] {
        assert!(refused.get(absent).is_none(), "{refused}");
    }
    // the authority is replaced while the program serves
    fs::write(installation.path("region.pem"), next.pem()).unwrap();
    server.process.signal("HUP");
    let ask = |file| ask(&installation, &server, "/reports", Some(file), Some(&free));
    eventually(&("000".to_owned(), "200".to_owned()), || (ask("ours"), ask("newcomer")));
    let before = written();
    assert_eq!(ask("ours"), "000");
    eventually(&true, || written() > before + 0.5);
    assert_eq!(server.process.stop().0, Some(0));
    assert_eq!(lines(&log).last().map(told).as_deref(), Some(REFUSED), "the client of the old authority");
}
