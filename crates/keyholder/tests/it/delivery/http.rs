//! curl over TCP and over the socket, plain clients through the proxy, and processes of another user.

use std::{
    fs,
    io::{Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::Path,
    process::Command,
};

use serde_json::Value;

use super::world::{self, evidence, installation, program, said, set_broker, socket_url};
use crate::harness::{eventually, exchange, parse_answer, request};

#[test]
fn curl_over_tcp_and_over_the_socket() {
    let installation = installation();
    let server = installation.serve();
    let mut evidence = evidence(&installation);
    let (guard, socket) = (server.guard(), socket_url(&server).trim_start_matches("unix:").to_owned());
    let mode = fs::symlink_metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let header = format!("X-Keyholder-Token: {guard}");
    let tcp = format!("{}/v1/token/genesys?min_ttl=600", server.broker());
    let over_tcp = said(program("curl", &server, "").args(["-sS", "--fail", "-H", &header, &tcp]), &mut evidence);
    let over_socket = said(
        program("curl", &server, "").args([
            "-sS",
            "--fail",
            "--unix-socket",
            &socket,
            "http://localhost/v1/token/genesys",
        ]),
        &mut evidence,
    );
    let token = |told: crate::harness::Said| told.json()["access_token"].as_str().unwrap().to_owned();
    let (first, second) = (token(over_tcp), token(over_socket));
    assert_eq!(first, second);
    world::assert_good(&installation, &first);
    // without the guard on TCP, and with a wrong one on the socket
    for words in [
        vec![tcp.as_str()],
        vec!["--unix-socket", &socket, "-H", "X-Keyholder-Token: x", "http://localhost/v1/token/genesys"],
    ] {
        let refused =
            said(program("curl", &server, "").args(["-sS", "-w", "%{http_code}"]).args(&words), &mut evidence);
        assert!(refused.out.ends_with("403"), "{}", refused.out);
    }
    assert_eq!(world::logins(&installation), 1);
    assert_eq!(evidence.leaks(), Vec::<String>::new());
    let (code, _) = server.process.stop();
    assert_eq!((code, Path::new(&socket).exists()), (Some(0), false), "the socket is gone with its server");
}

#[test]
fn the_environment_is_told_and_production_is_asked_for() {
    let installation = installation();
    let server = installation.serve();
    let guard = server.guard();
    let ask = |path: &str| {
        let answer = request("GET", &format!("{}{path}", server.broker()), &[("X-Keyholder-Token", &guard)], b"");
        (answer.status, answer.json())
    };
    for path in [
        "/v1/token/prod?environment=",
        "/v1/token/prod?environment=staging",
        "/v1/header/prod?environment=",
        "/v1/token/genesys?environment=production",
    ] {
        let (status, body) = ask(path);
        assert_eq!((status, body["code"].as_str()), (403, Some("keyholder.environment.refused")), "{path}");
    }
    assert_eq!(world::logins(&installation), 0);
    let (status, body) = ask("/v1/token/prod?environment=production&min_ttl=60");
    assert_eq!((status, body["environment"].as_str()), (200, Some("production")));
    assert_eq!(ask("/v1/token/prod").0, 200, "a caller that does not take part is not checked");
    let (status, body) = ask("/v1/token/genesys?environment=");
    assert_eq!((status, body.get("environment")), (200, None));

    let get = |words: &[&str]| {
        let mut command = installation.command(&[&["token", "get"], words].concat());
        command.env("KEYHOLDER_URL", socket_url(&server));
        crate::harness::run(&mut command, b"")
    };
    let refused = get(&["prod"]);
    assert_eq!((refused.code, refused.out.as_str()), (Some(1), ""), "{}", refused.err);
    assert!(refused.err.contains("--environment production"), "{}", refused.err);
    let token = get(&["prod", "--environment", "production"]).done();
    assert_eq!(
        get(&["prod", "--environment", "production", "--format", "header"]).done(),
        format!("Authorization: Bearer {token}")
    );
    let whole: Value = get(&["prod", "--environment", "production", "--output", "json"]).json();
    assert_eq!((whole["access_token"].as_str(), whole["token_type"].as_str()), (Some(token.trim()), Some("Bearer")));
    let exported = get(&["genesys", "--format", "env"]).done();
    assert!(exported.starts_with("export KEYHOLDER_ACCESS_TOKEN='"), "{exported}");
}

/// Clients that can be given a base address and an access token, but no header and no code.
#[test]
fn plain_clients_through_the_proxy() {
    let installation = installation();
    let server = installation.serve();
    let mut evidence = evidence(&installation);
    let base = format!("{}/genesys", server.broker());
    let bearer = format!("Authorization: Bearer {}", server.guard());
    let url = format!("{base}/api/v2/users?pageSize=1");
    let curl = |words: &[&str], evidence: &mut _| {
        said(program("curl", &server, "").args(["-sS", "-w", "\n%{http_code}", "-H", &bearer]).args(words), evidence)
    };
    let users = curl(&[&url], &mut evidence).done();
    assert!(users.ends_with("200") && users.contains("entities"), "{users}");
    // the platform killed the token: healed once, unseen
    world::revoke(&installation);
    assert!(curl(&[&url], &mut evidence).done().ends_with("200"));
    assert_eq!(world::logins(&installation), 2);
    // some clients offer HTTP/2 with every request
    assert!(curl(&["--http2", &url], &mut evidence).done().ends_with("200"));
    // other methods, and a body
    let group = r#"{"name":"g","type":"official","rulesVisible":true,"visibility":"public"}"#;
    let made =
        curl(&["-H", "Content-Type: application/json", "-d", group, &format!("{base}/api/v2/groups")], &mut evidence)
            .done();
    assert!(made.ends_with("200") || made.ends_with("201"), "{made}");
    // operations on platform secrets are nobody's here, and no other path gets out
    for (method, path) in [
        ("POST", "/api/v2/oauth/clients"),
        ("GET", "/../genesys/api/v2/users"),
        ("GET", "/..%2fapi/v2/users"),
        ("POST", "/oauth/token"),
        ("GET", "//evil.example/api/v2/users"),
    ] {
        let answer = curl(&["--path-as-is", "-X", method, &format!("{base}{path}")], &mut evidence).done();
        let status: u16 = answer.rsplit('\n').next().unwrap().parse().unwrap();
        assert!((400..500).contains(&status), "{method} {path}: {answer}");
    }
    let no_guard = said(program("curl", &server, "").args(["-sS", "-w", "%{http_code}", &url]), &mut evidence).done();
    assert!(no_guard.ends_with("403"), "{no_guard}");
    // over the socket an SDK needs neither
    let socket = socket_url(&server).trim_start_matches("unix:");
    let local = "http://localhost/genesys/api/v2/users?pageSize=1";
    let quiet =
        said(program("curl", &server, "").args(["-sS", "--fail", "--unix-socket", socket, local]), &mut evidence);
    assert!(quiet.done().contains("entities"));
    assert_eq!(evidence.leaks(), Vec::<String>::new());
}

/// The table against the real program, on the port and on the socket, the broker's own paths and the proxy.
#[test]
fn hostile_requests_fetch_nothing() {
    let installation = installation();
    let server = installation.serve();
    let guard = format!("X-Keyholder-Token: {}\r\n", server.guard());
    let host = server.broker().trim_start_matches("http://").to_owned();
    let socket = socket_url(&server).trim_start_matches("unix:").to_owned();
    let good = "Host: localhost\r\n";
    let mut refused = 0;
    for path in ["/v1/token/genesys", "/v1/header/genesys", "/genesys/api/v2/users"] {
        for (line, head) in [
            (format!("GET {path}"), String::new()),
            (format!("GET {path}"), "Host: evil.example\r\n".to_owned()),
            (format!("GET {path}"), "Host: 127.0.0.1.nip.io:8082\r\n".to_owned()),
            (format!("GET {path}"), "Host: 169.254.169.254\r\n".to_owned()),
            (format!("GET {path}"), "Host: localhost\r\nHost: evil.example\r\n".to_owned()),
            (format!("GET http://evil.example{path}"), good.to_owned()),
            (format!("GET http://localhost{path}"), good.to_owned()),
            (format!("GET {path}"), format!("{good}Origin: http://evil.example\r\n")),
            (format!("GET {path}"), format!("{good}Origin: null\r\n")),
            (format!("GET {path}"), format!("{good}Referer: http://evil.example/\r\n")),
            (format!("GET {path}"), format!("{good}Cookie: a=b\r\n")),
            (format!("GET {path}"), format!("{good}Sec-Fetch-Site: cross-site\r\n")),
            (format!("GET {path}"), format!("{good}Sec-Fetch-Mode: no-cors\r\n")),
            (format!("GET {path}"), format!("{good}Sec-Fetch-Dest: image\r\n")),
            (format!("OPTIONS {path}"), format!("{good}Access-Control-Request-Headers: x-keyholder-token\r\n")),
            (format!("GET {path}"), format!("{good}X-Forwarded-For: 127.0.0.1\r\n")),
            (format!("GET {path}"), format!("{good}X-Forwarded-Host: localhost\r\n")),
            (format!("GET {path}"), format!("{good}Forwarded: for=127.0.0.1\r\n")),
            (format!("GET {path}"), format!("{good}Via: 1.1 evil\r\n")),
            (format!("GET {path}"), format!("{good}X-Real-IP: 127.0.0.1\r\n")),
            (format!("GET {path}"), format!("{good}X-Original-URL: {path}\r\n")),
            (format!("GET {path}"), format!("{good}X-HTTP-Method-Override: DELETE\r\n")),
            (format!("GET {path}"), format!("{good}Connection: Upgrade\r\nUpgrade: websocket\r\n")),
            ("CONNECT evil.example:443".to_owned(), good.to_owned()),
            (format!("TRACE {path}"), good.to_owned()),
        ] {
            let bytes = format!("{line} HTTP/1.1\r\n{head}{guard}Connection: close\r\n\r\n");
            let over_socket = |bytes: &str| {
                let mut stream = UnixStream::connect(&socket).unwrap();
                stream.write_all(bytes.as_bytes()).ok();
                let mut answer = Vec::new();
                stream.read_to_end(&mut answer).ok();
                answer
            };
            for answer in [exchange(&host, bytes.as_bytes()), over_socket(&bytes)] {
                let answer = parse_answer(&answer);
                assert!([400, 405, 501].contains(&answer.status), "{line} {head:?}: {answer:?}");
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 3 * 25 * 2);
    let journal = installation.sandbox.control("GET", "requests", &Value::Null);
    assert_eq!(journal["requests"].as_array().map(Vec::len), Some(0), "the platform was asked nothing: {journal}");
}

/// As root the test becomes another user for real; otherwise `kh-admin` has the same by a seam.
#[test]
fn a_process_of_another_user_is_sent_away_from_the_socket() {
    const STRANGER: &str = "65534";
    const FRIEND: &str = "65533";
    let installation = installation();
    // with a friend named, the socket lets everybody knock
    set_broker(&installation, &format!("allow_uids = [{FRIEND}]"));
    let server = installation.serve();
    let socket = socket_url(&server).trim_start_matches("unix:").to_owned();
    assert_eq!(fs::symlink_metadata(&socket).unwrap().permissions().mode() & 0o777, 0o666);
    if !rustix::process::geteuid().is_root() {
        return;
    }
    for folder in [installation.folder.path().to_owned(), installation.path("run")] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let as_user = |uid: &str| {
        let mut command = Command::new("setpriv");
        command.env_clear().env("PATH", world::PATH).args(["--reuid", uid, "--regid", uid, "--clear-groups"]);
        command.args([
            "curl",
            "-sS",
            "-w",
            "\n%{http_code}",
            "--unix-socket",
            &socket,
            "http://localhost/v1/token/genesys",
        ]);
        crate::harness::run(&mut command, b"").out
    };
    let refused = as_user(STRANGER);
    assert!(refused.ends_with("\n403") && refused.contains("keyholder.guard.refused"), "{refused}");
    assert_eq!(world::logins(&installation), 0, "nothing was fetched for a stranger");
    let served = as_user(FRIEND);
    assert!(served.ends_with("\n200") && served.contains("access_token"), "{served}");
    let told = "sent away a process of another user";
    eventually(&true, || server.process.said().contains(told) && server.process.said().contains(STRANGER));
}

/// A dead server's socket is replaced, a live one's is not.
#[test]
fn a_socket_survives_a_kill_and_is_not_taken_from_a_living_server() {
    let installation = installation();
    let mut server = installation.serve();
    let socket = installation.path("run/broker.sock");
    server.process.signal("KILL");
    server.process.end();
    assert!(socket.exists());
    let server = installation.serve();
    assert!(UnixStream::connect(&socket).is_ok());
    let second = installation.run(&["serve"]);
    assert_eq!(second.code, Some(2), "{}", second.err);
    assert!(second.err.contains("another process listens"), "{}", second.err);
    assert!(UnixStream::connect(&socket).is_ok());
    assert_eq!(server.process.stop().0, Some(0));
    assert!(!socket.exists());
}
