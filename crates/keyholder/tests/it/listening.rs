//! Where the gateway listens and with which certificate, on the real program and with curl.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use kh_core::{Clock, SystemClock};

use crate::harness::{Installation, eventually, request, run, text};

/// A day this many days from now, as the certificate has it: its first second.
fn day(from_now: i64) -> (jiff::civil::Date, i64) {
    let now = i64::try_from(SystemClock::new().now().wall.as_secs()).unwrap();
    let date = jiff::Timestamp::from_second(now + from_now * 86_400).unwrap().to_zoned(jiff::tz::TimeZone::UTC).date();
    (date, date.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp().as_second())
}

/// Writes a certificate for 127.0.0.1 that is valid between two days from now; its chain, key and authority.
fn certificate(folder: &Path, from: i64, to: i64) -> [PathBuf; 3] {
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.distinguished_name.push(rcgen::DnType::CommonName, "test authority");
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issuer = rcgen::CertifiedIssuer::self_signed(authority, rcgen::KeyPair::generate().unwrap()).unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let ymd = |date: jiff::civil::Date| {
        rcgen::date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    (params.not_before, params.not_after) = (ymd(day(from).0), ymd(day(to).0));
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = params.signed_by(&key, &issuer).unwrap();
    let paths = ["cert.pem", "key.pem", "ca.pem"].map(|name| folder.join(name));
    for (path, text) in paths.iter().zip([leaf.pem(), key.serialize_pem(), issuer.pem()]) {
        fs::write(path, text).unwrap();
    }
    paths
}

/// Puts `[gateway.tls]` and other things to listen on into the file.
fn configure(installation: &Installation, listen: &str, tls: Option<(&Path, &Path)>) {
    let file = installation.path("keyholder.toml");
    let old = fs::read_to_string(&file).unwrap();
    let (head, rest) = old.split_once("[gateway]\n").unwrap();
    let (_, rest) = rest.split_once("[admin]\n").unwrap();
    let tls = tls.map(|(cert, key)| {
        format!(
            "[gateway.tls]\nlisten = [\"127.0.0.1:0\"]\ncert = \"{}\"\nkey = \"{}\"\n",
            cert.display(),
            key.display()
        )
    });
    fs::write(&file, format!("{head}[gateway]\nlisten = [{listen}]\n{}[admin]\n{rest}", tls.unwrap_or_default()))
        .unwrap();
}

fn not_after(server: &crate::harness::Server) -> i64 {
    let metrics = request("GET", &format!("{}/metrics", server.admin()), &[], b"");
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    let name = "keyholder_gateway_certificate_not_after_seconds{certificate=\"gateway\"} ";
    let found = metrics.lines().find_map(|line| line.strip_prefix(name));
    found.unwrap_or_else(|| panic!("no {name} in {metrics}")).parse().unwrap()
}

#[test]
fn a_certificate_is_judged_by_check_and_told_by_metric_and_log() {
    let installation = Installation::new();
    let folder = installation.path("tls");
    fs::create_dir(&folder).unwrap();
    let log = [
        (-400, -10, Some(1), "expired at ", "a listener's certificate has expired"),
        (5, 400, Some(1), "is not valid before ", "a listener's certificate is not valid yet"),
        (-300, 5, Some(0), "expires soon, at ", "a listener's certificate expires soon"),
        (-1, 300, Some(0), "", ""),
    ];
    for (from, to, code, told, logged) in log {
        let [cert, key, _] = certificate(&folder, from, to);
        configure(&installation, "\"127.0.0.1:0\"", Some((&cert, &key)));
        let said = installation.run(&["check"]);
        assert_eq!(said.code, code, "{}", said.err);
        assert!(said.err.contains(told), "{told}: {}", said.err);
        let answer = installation.run(&["check", "--output", "json"]);
        if code == Some(0) {
            let standing = if told.is_empty() { "valid" } else { "expires_soon" };
            assert_eq!(text(&answer.json()["certificate"], "standing"), standing);
        }
        // the file is not what stops a start: the one that is there may be all that there is
        let server = installation.serve();
        assert_eq!(not_after(&server), day(to).1);
        eventually(&true, || server.process.said().contains(logged));
        assert_eq!(server.process.stop().0, Some(0));
    }
    // and what is no certificate at all
    fs::write(folder.join("cert.pem"), "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n").unwrap();
    let said = installation.run(&["check"]);
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert!(said.err.contains("no certificate"), "{}", said.err);
}

#[test]
fn curl_over_http2_a_unix_socket_and_ipv6() {
    let installation = Installation::new();
    let [cert, key, ca] = certificate(&installation.path("."), -1, 30);
    configure(&installation, "\"127.0.0.1:0\", \"[::1]:0\", \"unix:gateway.sock\"", Some((&cert, &key)));
    let login = installation.add_client("app", &["--credential", "genesys", "--allow-all"]);
    let server = installation.serve();
    let token = format!("authorization: Bearer {}", server.login(&login));
    let socket = installation.path("gateway.sock");
    let curl = |words: &[&str]| {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--max-time", "30", "-o", "/dev/null", "-w", "%{http_version} %{http_code}", "-H", &token]);
        run(curl.args(words), b"").done()
    };
    let secure = format!("{}/api/v2/users", text(&server.ready, "gateway_tls_url"));
    let ca = ca.to_str().unwrap();
    assert_eq!(curl(&["--cacert", ca, "--http2", &secure]), "2 200");
    assert_eq!(curl(&["--cacert", ca, "--http1.1", &secure]), "1.1 200");
    assert_eq!(curl(&["--unix-socket", socket.to_str().unwrap(), "http://keyholder/api/v2/users"]), "1.1 200");
    // a second one is refused while the first one listens, and the first one goes on
    let second = installation.run(&["serve"]);
    assert_eq!(second.code, Some(3), "{}", second.err);
    for told in ["the gateway cannot listen on ", "another process listens on this socket", "perhaps another keyholder"]
    {
        assert!(second.err.contains(told), "{told}: {}", second.err);
    }
    assert_eq!(curl(&["--unix-socket", socket.to_str().unwrap(), "http://keyholder/api/v2/users"]), "1.1 200");
    assert_eq!(server.process.stop().0, Some(0));
    assert!(!socket.exists());
}
