//! Requests as real clients write them, and as nobody does.

use super::*;

fn told(result: Result<Target, HelperError>) -> String {
    result.map_or_else(|error| format!("{error:?}"), |target| target.to_string())
}

#[test]
fn addresses() {
    for (uri, expected) in [
        ("https://api.mypurecloud.de/api/v2/users?x=y", "api.mypurecloud.de"),
        ("https://API.mypurecloud.DE:443", "api.mypurecloud.de"),
        ("https://api.mypurecloud.de:8443/", "api.mypurecloud.de:8443"),
        ("grpcs://remote.example.com", "remote.example.com"),
        ("grpcs://REMOTE.example.com:443", "remote.example.com"),
        ("wss://a.example", "a.example"),
        ("http://127.0.0.1:9000/x", "127.0.0.1:9000"),
        ("http://localhost:9000", "localhost:9000"),
        ("http://[::1]:9000", "[::1]:9000"),
        ("https://b\u{fc}cher.example", "xn--bcher-kva.example"),
        ("http://example.com", "InClear"),
        ("grpc://example.com", "InClear"),
        ("http://127.0.0.1.example.com", "InClear"),
        ("https://user@example.com", "UserInfo"),
        ("https://user:pw@example.com", "UserInfo"),
        ("https://:pw@example.com", "UserInfo"),
        ("ftp://example.com", "NoAddress"),
        ("file:///etc/passwd", "NoAddress"),
        ("example.com", "NoAddress"),
        ("https://", "NoAddress"),
        ("grpcs://", "NoAddress"),
        ("grpcs:///x", "NoAddress"),
        ("https://a b", "NoAddress"),
        ("", "NoAddress"),
    ] {
        assert_eq!(told(Target::of_uri(uri)), expected, "{uri}");
    }
    for (host, expected) in [
        ("git.example.com", "git.example.com"),
        ("git.example.com:3000", "git.example.com:3000"),
        ("127.0.0.1:80", "127.0.0.1:80"),
        ("git.example.com/x", "NoAddress"),
        ("me@git.example.com", "NoAddress"),
        ("", "NoAddress"),
    ] {
        assert_eq!(told(Target::of_host(host)), expected, "{host}");
    }
}

#[test]
fn engflow_requests() {
    for (input, expected) in [
        (r#"{"uri":"https://api.mypurecloud.de/x"}"#, "api.mypurecloud.de"),
        (r#" {"foo": 1, "uri": "https://a.example", "bar": [2]} "#, "a.example"),
        (r#"{"uri":"https://a.example","uri":"https://b.example"}"#, "NotARequest"),
        (r#"{"url":"https://a.example"}"#, "NotARequest"),
        (r#"{"uri":7}"#, "NotARequest"),
        (r#"["https://a.example"]"#, "NotARequest"),
        (r#"{"uri":"https://a.example"} x"#, "NotARequest"),
        ("", "NotARequest"),
        ("null", "NotARequest"),
    ] {
        assert_eq!(told(parse_engflow(input.as_bytes())), expected, "{input}");
    }
    assert_eq!(told(parse_engflow(&vec![b' '; INPUT_MAX + 1])), "TooLong");
    assert_eq!(told(parse_engflow(b"{\"uri\":\"https://\xff\"}")), "NotARequest");
}

#[test]
fn git_requests() {
    let old = "protocol=https\nhost=git.example.com\nusername=me\npath=a/b.git\n\nignored";
    let request = parse_git(old.as_bytes()).unwrap();
    assert_eq!(request.target.to_string(), "git.example.com");
    assert_eq!((request.username.as_deref(), request.knows_authtype, request.used), (Some("me"), false, None));

    let new = "capability[]=authtype\ncapability[]=state\nprotocol=http\nhost=127.0.0.1:9000\n\
               wwwauth[]=Bearer realm=\"x\"\nwwwauth[]=Basic\n";
    let request = parse_git(new.as_bytes()).unwrap();
    assert_eq!(request.target.to_string(), "127.0.0.1:9000");
    assert!(request.knows_authtype);

    for secret in ["password=t0ken", "credential=t0ken"] {
        let erase = format!("protocol=https\nhost=a.example\n{secret}\n");
        assert_eq!(parse_git(erase.as_bytes()).unwrap().used, Some(Sha256::of(b"t0ken")));
    }
    for (input, expected) in [
        ("", HelperError::NoAddress),
        ("protocol=https\n", HelperError::NoAddress),
        ("protocol=https\n\nhost=a.example\n", HelperError::NoAddress),
        ("protocol=ssh\nhost=a.example\n", HelperError::NoAddress),
        ("protocol=https\nhost=a.example/x\n", HelperError::NoAddress),
        ("protocol=https\nhost=me@a.example\n", HelperError::NoAddress),
        ("protocol=http\nhost=a.example\n", HelperError::InClear),
        ("protocol=https\nhost\n", HelperError::NotLines),
        (&"a=b\n".repeat(LINES_MAX + 1), HelperError::TooLong),
    ] {
        assert_eq!(parse_git(input.as_bytes()).unwrap_err(), expected, "{input}");
    }
    assert_eq!(parse_git(b"host=\xff").unwrap_err(), HelperError::NotLines);
    assert_eq!(parse_git(&vec![b'a'; INPUT_MAX + 1]).unwrap_err(), HelperError::TooLong);
}

#[test]
fn shell_words() {
    for (value, expected) in [("", "''"), ("a b", "'a b'"), ("it's $(x)", r"'it'\''s $(x)'"), ("'", r"''\'''")] {
        assert_eq!(*shell_quoted(value), expected);
    }
}
