//! What configurations are refused with, as snapshots a person can judge.

use super::*;

/// Every mistake as `line:column message | hint`.
fn told(text: &str) -> String {
    let mistakes = match parse(text.as_bytes()) {
        Ok(parsed) => parsed.warnings,
        Err(mistakes) => mistakes,
    };
    let lines = mistakes.all.iter().map(|mistake| {
        let Mistake { line, column, message, hint, .. } = mistake;
        let word = if mistake.severity == Severity::Warning { "warning: " } else { "" };
        format!("{line}:{column} {word}{message} | {}", hint.as_deref().unwrap_or("-"))
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn check(text: &str, expected: &str) {
    assert_eq!(told(text), expected.trim(), "\n{text}");
}

#[test]
fn the_example_is_fine_and_shows_as_itself() {
    let parsed = parse(EXAMPLE.as_bytes()).unwrap_or_else(|mistakes| panic!("{}", render("example", &mistakes, false)));
    assert_eq!(parsed.warnings.all, []);
    assert_eq!((parsed.config.platforms.len(), parsed.config.credentials.len()), (4, 7));
    let shown = to_toml(&parsed.config).unwrap();
    let again = parse(shown.as_bytes()).unwrap_or_else(|mistakes| panic!("{}", render("shown", &mistakes, false)));
    assert_eq!(to_toml(&again.config).unwrap(), shown);
    insta::assert_snapshot!(shown);
}

/// Every line that the example comments out says something that parses as well.
#[test]
fn the_examples_commented_lines_are_fine_one_by_one() {
    let mut section = String::new();
    for (number, line) in EXAMPLE.lines().enumerate() {
        if let Some(name) = line.trim_start_matches("# ").strip_prefix('[') {
            section = format!("[{name}");
        }
        let Some(commented) = line.strip_prefix("# ") else { continue };
        let is_setting = commented
            .split_once(" = ")
            .is_some_and(|(key, _)| key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
        // each of these needs more of its section than a line
        let with_more = [
            "[platform.",
            "[gateway.tls]",
            "[admin.tls]",
            "[security.collector]",
            "[operator.",
            "[issuer.",
            "[inbound.",
            "[[inbound.",
            "[events.",
            "[secret_store.",
            "[hook.",
            "[notify.",
        ];
        if !is_setting || with_more.iter().any(|start| section.starts_with(start)) {
            continue;
        }
        let needed = match section.as_str() {
            _ if section.ends_with(".rotation]") || section.ends_with(".sessions]") => "",
            _ if section.starts_with("[credential.") => "platform = \"p\"\nsecret = \"store:s\"\n",
            "[gateway]" if commented.starts_with("trusted_proxies") => "client_address = \"x-real-ip\"\n",
            "[gateway]" if commented.starts_with("client_address") => "trusted_proxies = [\"10.0.0.7\"]\n",
            "[network]" if !commented.starts_with("proxy =") => "proxy = \"http://proxy.example.com:3128\"\n",
            _ => "",
        };
        let platform = "[platform.p]\nkind = \"genesys\"\nregion = \"us-east-1\"\n";
        let text = format!("{platform}{section}\n{needed}{commented}\n");
        let beside = section.strip_suffix(".rotation]").or_else(|| section.strip_suffix(".sessions]"));
        let text = match beside {
            Some(credential) => {
                text.replacen(&section, &format!("{credential}]\nplatform = \"p\"\nsecret = \"store:s\"\n{section}"), 1)
            }
            None => text,
        };
        assert!(parse(text.as_bytes()).is_ok(), "line {}: {commented}\n{}", number + 1, told(&text));
    }
}

/// Whole sections that the example comments out are fine beside the rest of it.
#[test]
fn the_examples_commented_sections_are_fine() {
    let mut inside = false;
    let mut sections = 0;
    let lines = EXAMPLE.lines().map(|line| {
        let head = line.strip_prefix("# [").filter(|rest| {
            ["operator.", "issuer.", "inbound.", "events.", "secret_store.", "hook.", "notify."]
                .iter()
                .any(|top| rest.trim_start_matches('[').starts_with(top))
                && rest.ends_with(']')
        });
        sections += usize::from(head.is_some());
        inside = line.starts_with('#') && (inside || head.is_some());
        if inside { line.trim_start_matches("# ").to_owned() } else { line.to_owned() }
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    let parsed = parse(text.as_bytes()).unwrap_or_else(|mistakes| panic!("{}", render("example", &mistakes, false)));
    let (stores, hooks) = (parsed.config.secret_stores.len(), parsed.config.hooks.len());
    assert_eq!((sections, stores, hooks, parsed.config.notifiers.len()), (24, 5, 5, 4));
    assert_eq!(parsed.config.events.len(), 1);
    assert_eq!((parsed.config.issuers.len(), parsed.config.inbound["reports"].routes.len()), (6, 3));
}

#[test]
fn no_file_is_a_configuration() {
    let parsed = parse(b"").unwrap();
    assert_eq!(parsed.config.gateway.listen, [ListenAddress::Tcp("127.0.0.1:8080".parse().unwrap())]);
    assert!(parse(b"\xef\xbb\xbf[log]\nlevel = \"debug\"\n").is_ok(), "a byte order mark is no mistake");
}

#[test]
fn all_mistakes_come_at_once() {
    let text = r#"
[gatewya]
listen = 1
[gateway]
listen = ["localhost:8080", ":80", 5]
workers = 0
[log]
level = 3
format = "xml"
colour = true
[platform.eu]
kind = "genesys"
regoin = "eu-central-1"
[platform.us]
kind = "genesys"
region = "us-esat-1"
[platform.x]
kind = "genesis"
[credential.a]
platform = "ue"
secret = "store:a"
early_refresh = 5
[credential.b]
platform = "us"
secret = "store:../b"
"#;
    let mistakes = parse(text.as_bytes()).unwrap_err();
    insta::assert_snapshot!(render("keyholder.toml", &mistakes, false));
}

#[test]
fn well_known_wrong_endpoints() {
    let genesys = |lines: &str| told(&format!("[platform.p]\nkind = \"genesys\"\n{lines}"));
    let oauth2 =
        |lines: &str| told(&format!("[platform.p]\nkind = \"oauth2\"\napi_url = \"https://a.example.com\"\n{lines}"));
    let cxone = |lines: &str| told(&format!("[platform.p]\nkind = \"cxone\"\n{lines}"));
    let all = [
        genesys("login_url = \"https://api.mypurecloud.de/oauth/token\"\napi_url = \"https://api.mypurecloud.de\""),
        genesys("login_url = \"https://acme.mygenesys.com\"\napi_url = \"https://api.mypurecloud.de\""),
        genesys("login_url = \"https://login.mypurecloud.de/oauth/token\"\napi_url = \"https://api.mypurecloud.de\""),
        genesys("login_url = \"https://login.mypurecloud.de\"\napi_url = \"https://login.mypurecloud.de\""),
        genesys("region = \"eu-central-1\"\nscopes = [\"users\"]"),
        genesys("region = \"eu-central-1\"\ntoken_url = \"https://api.mypurecloud.de/oauth/token\""),
        genesys("region = \"eu-central-1\"\nlogin_url = \"http://login.example.com\""),
        genesys("login_url = \"https://login.mypurecloud.de\""),
        genesys("login_url = \"https://login.mypurecloud.de/api/v2\"\napi_url = \"https://api.mypurecloud.de\""),
        genesys("login_url = \"https://mypurecloud.ie/oauth/token\"\napi_url = \"https://api.mypurecloud.ie\""),
        genesys("region = \"eu-west-1\"\napi_url = \"https://api.mypurecloud.ie/api/v2/oauth/token\""),
        oauth2("token_url = \"https://api.mypurecloud.de/oauth/token\""),
        oauth2(
            "token_url = \"https://login.mypurecloud.de/oauth/token\"\nscopes = [\"offline_access\", \"users\", \"user:read\"]",
        ),
        oauth2("issuer = \"https://cxone.niceincontact.com\""),
        oauth2("token_url = \"https://api.nice-incontact.com/oauth2/token\""),
        cxone("issuer = \"https://api.nice-incontact.com\""),
        cxone("token_url = \"https://api.nice-incontact.com/oauth2/token\"\ngrant_type = \"client_credentials\""),
        cxone("auth_base = \"https://na1.nice-incontact.com\""),
        cxone("issuer = \"https://cxone.niceincontact.com\"\narea = \"na1\""),
        cxone("area = \"na1\""),
    ];
    insta::assert_snapshot!(all.join("\n---\n"));
}

#[test]
fn secrets_in_the_file_are_refused_and_never_shown() {
    let secret = "s3cr3t-V4lue";
    for text in [
        format!("[credential.a]\nplatform = \"p\"\nsecret = \"{secret}\"\n"),
        format!("[credential.a]\nclient_secret = \"{secret}\"\n"),
        format!("[platform.p]\nkind = \"genesys\"\nregion = \"us-east-1\"\nclient_secret = \"{secret}\"\n"),
        format!("[platform.p]\nkind = \"oauth2\"\ntoken_url = \"https://u:{secret}@example.com\"\n"),
        format!("password = \"{secret}"),
        format!("[credential.a]\nsecret = \"\"\"\n{secret}\n\"\"\"\n"),
        format!("[credential.a]\nsecret = {{ x = \"{secret}\"\n"),
        format!("[store]\nkey_env = \"{secret}\"\n"),
    ] {
        let mistakes = parse(text.as_bytes()).unwrap_err();
        let shown = format!("{} {mistakes:?}", render("keyholder.toml", &mistakes, false));
        let secret_word = text.contains("key_env");
        assert!(secret_word || !shown.contains(secret), "{text}\n{shown}");
        assert!(!mistakes.all.iter().any(|mistake| mistake.message.contains(secret)), "{text}");
    }
    check(
        "[credential.a]\nplatform = \"p\"\nsecret = \"hunter2\"\n[platform.p]\nkind = \"genesys\"\nregion = \"us-east-1\"",
        "3:10 secret must name a document of a secret store, not be one | run `keyholder secret set NAME` and write secret = \"store:NAME\"; if a real secret stood here, rotate it",
    );
}

#[test]
fn what_is_risky_is_told_and_works() {
    check(
        "[gateway]\nlisten = [\"0.0.0.0:8080\"]\n",
        "2:1 warning: the gateway takes client secrets over plain http from other machines | add [gateway.tls] with cert and key, or listen on 127.0.0.1",
    );
    check("[gateway]\nlisten = [\"0.0.0.0:8443\"]\n[gateway.tls]\ncert = \"c\"\nkey = \"k\"\n", "");
    check(
        "[admin]\nlisten = \"0.0.0.0:1\"\n",
        "2:1 the admin listener speaks plain http and may listen on loopback only | listen = \"127.0.0.1:8081\", or \"off\"",
    );
    check("[admin]\nlisten = \"off\"\n[broker]\nlisten = \"off\"\n", "");
}

#[test]
fn syntax() {
    for text in ["[a", "a = ", "a == 1", "[gateway]\n[gateway]\n", "a = 1\na = 2\n", "x = \"\\q\"", "\u{0}"] {
        let mistakes = parse(text.as_bytes()).unwrap_err();
        assert!(mistakes.errors() > 0 && mistakes.all.iter().all(|mistake| mistake.line >= 1), "{text:?}");
    }
    check("[log]\nlevel = info\n", &told("[log]\nlevel = info\n"));
    let not_text = parse(b"[log]\nlevel = \"\xff\"\n").unwrap_err();
    assert_eq!((not_text.all[0].line, not_text.all[0].column), (2, 10));
    assert_eq!(parse(&vec![b'#'; CONFIG_BYTES_MAX + 1]).unwrap_err().errors(), 1);
}

/// Cutting, repeating and replacing bytes of the example never panics, and a mistake always has a place in the file.
#[test]
fn damaged_files_are_told_about_and_nothing_else_happens() {
    let entropy = kh_core::SeededEntropy::new(7);
    let below = |bound: usize| usize::try_from(kh_core::Entropy::below(&entropy, bound as u64)).unwrap_or(0);
    let mut refused = 0;
    for _ in 0..2_000 {
        let mut bytes = EXAMPLE.as_bytes().to_vec();
        for _ in 0..=below(4) {
            let at = below(bytes.len());
            match below(4) {
                0 => bytes.truncate(at),
                1 => bytes[at] = b"\"'[]={}\n\\.\xff#"[below(12)],
                2 => drop(bytes.remove(at)),
                _ => {
                    let end = (at + below(40)).min(bytes.len());
                    let piece = bytes[at..end].to_vec();
                    bytes.splice(at..at, piece);
                }
            }
            if bytes.is_empty() {
                break;
            }
        }
        if let Err(mistakes) = parse(&bytes) {
            refused += 1;
            let lines = bytes.split(|byte| *byte == b'\n').count();
            assert!(mistakes.all.iter().all(|mistake| (1..=lines).contains(&mistake.line)));
            assert!(!render("f", &mistakes, false).is_empty());
        }
    }
    assert!(refused > 200, "only {refused} damaged files were refused");
}

/// Mistakes of the way out, each told where it is, and no password with it.
#[test]
fn mistakes_of_the_way_out() {
    let platform = "[platform.p]\nkind = \"oauth2\"\ntoken_url = \"https://192.0.2.1/t\"\napi_url = \"https://a\"\n";
    for (lines, place, words) in [
        ("client_cert = \"a.pem\"", "5:1", "client_cert without client_key"),
        ("client_key = \"a.key\"", "5:1", "client_key without client_cert"),
        ("proxy = \"http://u:hunter2@proxy:3128\"", "5:9", "holds no user name and no password here"),
        ("proxy = \"u:hunter2@proxy.example.com:3128\"", "5:9", "holds no user name and no password here"),
        ("proxy = \"socks5://proxy:1080\"", "5:9", "plain http://"),
        ("proxy = \"proxy:3128\"", "5:9", "neither an address with http:// nor one of the words"),
        ("proxy_auth_file = \"f\"", "5:1", "goes with the address of a proxy"),
        ("proxy = \"environment\"\nno_proxy = [\"a\"]", "6:1", "goes with the address of a proxy"),
        ("proxy = \"http://proxy:1\"\nno_proxy = [\"a, b\"]", "6:13", "each as an item of its own"),
        ("source_address = [\"2001:db8::1\"]", "5:1", "another family than the platform's address"),
        ("source_address = [\"192.0.2.1\", \"192.0.2.2\"]", "5:32", "two IPv4 addresses"),
        ("source_address = [\"0.0.0.0\"]", "5:19", "no address that a connection can leave from"),
        ("source_address = [\"eth0\"]", "5:19", "not an IP address"),
    ] {
        let text = format!("{platform}{lines}\n");
        let told = told(&text);
        assert!(told.starts_with(place) && told.contains(words), "{lines}: {told}");
        let mistakes = parse(text.as_bytes()).unwrap_err();
        assert!(!render("f", &mistakes, false).contains("hunter2"), "{lines}");
    }
}

/// Mistakes of stores, rotation, hooks and notifications, each told where it is.
#[test]
fn mistakes_of_rotation() {
    let base = "[platform.p]\nkind = \"genesys\"\nregion = \"us-east-1\"\n";
    let credential = "[credential.c]\nplatform = \"p\"\nsecret = \"store:c\"\n";
    let rotated = format!("{credential}[credential.c.rotation]\n");
    let aws = "[secret_store.aws]\nkind = \"aws\"\nregion = \"eu-west-1\"\n";
    let vault = "[secret_store.v]\nkind = \"vault\"\naddress = \"https://v:8200\"\n";
    let cases = [
        "[secret_store.store]\nkind = \"aws\"\n".to_owned(),
        format!("{aws}external_id = \"acme\"\n"),
        "[secret_store.a]\nkind = \"valut\"\n".to_owned(),
        "[secret_store.a]\nregion = \"eu-west-1\"\n".to_owned(),
        format!("{vault}token = \"hvs.hunter2\"\n"),
        vault.to_owned(),
        format!("{vault}token_file = \"t\"\njwt_role = \"r\"\njwt_file = \"j\"\n"),
        format!("{vault}role_id_file = \"r\"\n"),
        format!("{vault}token_file = \"t\"\njwt_file = \"j\"\n"),
        "[secret_store.a]\nkind = \"azure\"\nvault_url = \"https://a.vault.azure.net\"\nclient_secret_file = \"f\"\n"
            .to_owned(),
        format!("{aws}fallback = [\"asw\"]\n[secret_store.asw2]\nkind = \"aws\"\nregion = \"eu-west-1\"\n"),
        format!("{aws}fallback = [\"aws\"]\n"),
        format!("{aws}[credential.c]\nplatform = \"p\"\nsecret = \"awz:acme\"\n"),
        format!("{aws}[credential.c]\nplatform = \"p\"\nsecret = \"hunter:2 3\"\n"),
        format!("{rotated}stratgy = \"swap\"\n"),
        format!("{rotated}strategy = \"swop\"\n"),
        format!("{rotated}targets = [\"store:a\", \"store:a\"]\n"),
        format!("{rotated}interval = \"1h\"\noverlap_min = \"1m\"\n"),
        format!("{rotated}overlap_min = \"2d\"\noverlap_max = \"1d\"\n"),
        format!("{rotated}windows = [\"mon 22:00-23:00\"]\nblackout = [\"2026-02-30\"]\nzone = \"Europe/Berlinn\"\n"),
        format!("{rotated}hooks = [\"page\"]\nnotify = [\"team\"]\n"),
        format!(
            "{rotated}consumers = [{{ grade = \"seen\" }}, {{ name = \"a\" }}, {{ name = \"a\", grade = \"ttl\" }}]\n"
        ),
        format!("{rotated}[credential.c.rotation.approvals]\nrevoke = 17\n"),
        "[rotation]\ncall_max = \"61m\"\n".to_owned(),
        "[hook.h]\nkind = \"command\"\ncommand = []\n".to_owned(),
        "[notify.n]\nkind = \"smtp\"\nserver = \"mail.example.com:25\"\nfrom = \"a@b\"\nto = []\ntls = \"none\"\n"
            .to_owned(),
    ];
    let mut all: Vec<_> = cases.iter().map(|lines| told(&format!("{base}{lines}"))).collect();
    let rotator = |lines: &str| told(&format!("{base}{lines}\n{credential}"));
    all.push(rotator("rotator = \"cc\""));
    all.push(rotator("rotator_second = \"c\""));
    all.push(rotator("rotator = \"c\"\nrotator_second = \"c\""));
    all.push(rotator("[platform.q]\nkind = \"genesys\"\nregion = \"us-east-1\"\nrotator = \"c\""));
    let all = all.join("\n---\n");
    assert!(!all.contains("hunter"), "{all}");
    insta::assert_snapshot!(all);
}

/// A timeout of a hook that a rotation does not wait for.
#[test]
fn a_timeout_that_does_not_hold_is_told() {
    for (lines, timeout, told) in [
        ("", "54s", None),
        ("", "55s", Some("54s")),
        ("call_max = \"5m\"", "144s", None),
        ("call_max = \"5m\"", "3m", Some("144s")),
        ("call_max = \"20s\"", "5s", Some("4s")),
    ] {
        let text = format!(
            "[hook.h]\nkind = \"command\"\ncommand = [\"/bin/true\"]\ntimeout = \"{timeout}\"\n[rotation]\n{lines}\n"
        );
        let hint = "a hook may take half of call_max in [rotation] less 6s; make call_max longer";
        let expected = told.map_or_else(String::new, |longest| {
            format!("4:1 warning: timeout is longer than call_max leaves for a hook: {longest} holds | {hint}")
        });
        check(&text, &expected);
    }
}

/// A digest with a slip is one mistake, and not a second one that says that nothing proves the operator.
#[test]
fn a_mistyped_digest_is_one_mistake() {
    check(
        "[operator.ann]\nrole = \"read\"\ntoken_sha256 = [\"abc\"]\n",
        "3:17 token_sha256 is not written as it should be | write 64 hex digits in small letters",
    );
    check(
        "[operator.ann]\nrole = \"read\"\ntoken_sha256 = []\n",
        "1:11 warning: nothing proves this operator | make a token with `keyholder operator token`, and write its token_sha256 here",
    );
}

/// Two issuers of one token, and routes that say nothing or two things of what they need.
#[test]
fn mistakes_of_protected_apis() {
    let text = r#"
[issuer.a]
kind = "jwks"
iss = ["https://i.example"]
jwks_file = "a.json"
audiences = ["x"]
[issuer.b]
kind = "jwks"
iss = ["https://i.example"]
jwks_url = "http://i.example/keys"
discover = "https://i.example"
[inbound.c]
listen = ["127.0.0.1:1"]
upstream = "ftp://x"
issuers = ["a", "z"]
trusted_proxies = ["0.0.0.0/0"]
[[inbound.c.identity_header]]
name = "Forwarded"
field = "subject"
[inbound.d]
listen = ["127.0.0.1:2"]
upstream = "http://127.0.0.1:3000"
issuers = ["a"]
[[inbound.d.identity_header]]
name = "X-Who"
field = "subject"
[[inbound.d.identity_header]]
name = "x-who"
field = "client"
[[inbound.d.route]]
match = ["GET /y/{a}", "GET /y/{b}"]
any_token = true
[[inbound.c.route]]
match = ["GET /x"]
[[inbound.c.route]]
match = ["get /x"]
public = true
scopes = ["a"]
"#;
    let mistakes = parse(text.as_bytes()).unwrap_err();
    insta::assert_snapshot!(render("keyholder.toml", &mistakes, false));
}
