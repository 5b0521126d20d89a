//! Issuers that are asked by the network: key sets by address and by metadata, introspection.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex},
};

use serde_json::json;

use super::{bearer, installed, of_api, of_file};
use crate::{
    harness::{Server, request, text},
    protected_api::{Api, claims, key_set, tokens::Key},
};

/// A server of JSON documents by path, which remembers what it was asked.
pub struct Documents {
    pub address: SocketAddr,
    served: Arc<Mutex<BTreeMap<String, String>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Documents {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (served, asked) = (Arc::<Mutex<BTreeMap<String, String>>>::default(), Arc::<Mutex<Vec<String>>>::default());
        let (answers, seen) = (Arc::clone(&served), Arc::clone(&asked));
        // ends with the test's process
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, answers, seen) = (stream.unwrap(), Arc::clone(&answers), Arc::clone(&seen));
                std::thread::spawn(move || {
                    let mut request = Vec::new();
                    let mut byte = [0];
                    while !request.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
                        request.push(byte[0]);
                    }
                    let head = String::from_utf8(request).unwrap();
                    let length = head.lines().find_map(|line| {
                        let (name, value) = line.split_once(": ")?;
                        name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().unwrap())
                    });
                    let mut body = vec![0; length.unwrap_or_default()];
                    stream.read_exact(&mut body).unwrap();
                    let path = head.split(' ').nth(1).unwrap().to_owned();
                    seen.lock().unwrap().push(format!("{head}{}", String::from_utf8(body).unwrap()));
                    let document = answers.lock().unwrap().get(&path).cloned();
                    let (status, document) =
                        document.map_or(("404 Not Found", String::new()), |found| ("200 OK", found));
                    let answer = format!(
                        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{document}",
                        document.len()
                    );
                    stream.write_all(answer.as_bytes()).ok();
                });
            }
        });
        Self { address, served, asked }
    }

    pub fn put(&self, path: &str, document: String) {
        self.served.lock().unwrap().insert(path.to_owned(), document);
    }

    pub fn asked(&self, what: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|request| request.starts_with(what)).count()
    }
}

const ANY: &str = "[[inbound.reports.route]]\nmatch = [\"GET /**\"]\nany_token = true\n";

#[test]
fn keys_by_address_and_by_metadata() {
    let (api, issuer) = (Api::start(), Documents::start());
    let (by_address, by_metadata, hidden) = (Key::new("k1"), Key::new("k2"), Key::new("k3"));
    let base = format!("http://{}", issuer.address);
    issuer.put("/keys?p=1", key_set(&[&by_address]));
    issuer.put("/jwks", key_set(&[&by_metadata]));
    issuer.put("/hidden", key_set(&[&hidden]));
    let metadata = json!({ "issuer": base, "jwks_uri": format!("{base}/jwks") });
    issuer.put("/.well-known/oauth-authorization-server", metadata.to_string());
    let section = |name: &str, iss: &str, lines: &str| {
        format!("[issuer.{name}]\nkind = \"jwks\"\niss = [\"{iss}\", \"{iss}/2\"]\n{lines}\n")
    };
    let sections = [
        section(
            "address",
            "https://a.example",
            &format!("jwks_url = \"{base}/keys?p=1\"\nprivate_network = true\nalgorithms = [\"ES256\"]"),
        ),
        section(
            "metadata",
            "https://m.example",
            &format!("discover = \"{base}\"\nprivate_network = true\naudiences = [\"reports-api\"]"),
        ),
        section("hidden", "https://h.example", &format!("jwks_url = \"{base}/hidden\"")),
        section(
            "other",
            "https://o.example",
            &format!("jwks_url = \"{base}/keys?p=1\"\nprivate_network = true\nalgorithms = [\"RS256\"]"),
        ),
        of_api(&api, r#""address", "metadata", "hidden", "other""#, ANY),
    ];
    let installation = installed(&sections.concat(), &[]);
    let server = installation.serve();
    let signed = |key: &Key, iss: &str| key.sign(&claims(&json!({ "iss": iss })));
    assert_eq!(bearer(&server, "/", &signed(&by_address, "https://a.example")), 200);
    assert_eq!(bearer(&server, "/", &signed(&by_address, "https://a.example/2")), 200, "an issuer has several names");
    assert_eq!(bearer(&server, "/", &signed(&by_metadata, "https://m.example")), 200);
    assert_eq!(bearer(&server, "/", &signed(&by_metadata, "https://a.example")), 401, "another issuer's key");
    assert_eq!(bearer(&server, "/", &signed(&by_address, "https://o.example")), 401, "an algorithm that is not listed");
    // an address of this machine is not asked unless the section says that it may be
    assert_eq!(bearer(&server, "/", &signed(&hidden, "https://h.example")), 503);
    assert_eq!(issuer.asked("GET /hidden"), 0);
    // a new key is fetched when a token names it
    let rotated = Key::new("k9");
    issuer.put("/jwks", key_set(&[&rotated]));
    let token = signed(&rotated, "https://m.example");
    crate::harness::eventually(&200, || bearer(&server, "/", &token));
}

#[test]
fn an_introspection_endpoint_is_asked_with_a_credential_of_the_store() {
    let (api, issuer) = (Api::start(), Documents::start());
    let base = format!("http://{}", issuer.address);
    issuer.put("/introspect", json!({ "active": true, "sub": "bob", "client_id": "c", "scope": "read", "aud": "reports-api", "tenantId": "acme" }).to_string());
    let lines = "[[inbound.reports.route]]\nmatch = [\"GET /read\"]\nscopes = [\"read\"]\n[[inbound.reports.route.condition]]\nclaim = \"tenantId\"\nequals = \"acme\"\n[[inbound.reports.route]]\nmatch = [\"GET /write\"]\nscopes = [\"write\"]\n";
    let sections = format!(
        "[issuer.opaque]\nkind = \"introspection\"\niss = [\"https://opaque.example\"]\nintrospection_url = \"{base}/introspect\"\n\
         secret = \"store:introspection\"\naudiences = [\"reports-api\"]\nprivate_network = true\n{}",
        of_api(&api, "\"opaque\"", lines)
    );
    let installation = installed(&sections, &[]);
    installation.store_secret("introspection", &json!({ "client_id": "keyholder", "client_secret": "s3cret" }));
    let server = installation.serve();
    assert_eq!(bearer(&server, "/read", "opaque-token-1"), 200);
    assert_eq!(bearer(&server, "/read", "opaque-token-1"), 200, "from memory");
    assert_eq!(
        bearer(&server, "/write", "opaque-token-1"),
        403,
        "what was verified for one route is decided anew on another"
    );
    assert_eq!(issuer.asked("POST /introspect"), 1);
    {
        let asked = issuer.asked.lock().unwrap();
        assert!(asked[0].contains("Basic a2V5aG9sZGVyOnMzY3JldA=="), "{asked:?}");
        assert!(asked[0].contains("token=opaque-token-1&token_type_hint=access_token"), "{asked:?}");
    }
    issuer.put("/introspect", json!({ "active": false }).to_string());
    assert_eq!(bearer(&server, "/read", "opaque-token-2"), 401);
    issuer.put("/introspect", "not JSON".to_owned());
    assert_eq!(bearer(&server, "/read", "opaque-token-3"), 503);
    let (_, said) = server.process.stop();
    assert!(!said.contains("opaque-token") && !said.contains("s3cret"), "{said}");
}

#[test]
fn an_issuer_is_asked_about_tokens_of_the_apis_that_take_it() {
    let (api, issuer, key) = (Api::start(), Documents::start(), Key::new("k1"));
    let base = format!("http://{}", issuer.address);
    issuer.put("/introspect", json!({ "active": true, "sub": "bob", "client_id": "c" }).to_string());
    let sections = [
        format!(
            "[issuer.opaque]\nkind = \"introspection\"\niss = [\"https://opaque.example\"]\nintrospection_url = \"{base}/introspect\"\n\
             secret = \"store:introspection\"\nprivate_network = true\n"
        ),
        of_file(),
        of_api(&api, "\"opaque\"", ANY),
        of_api(&api, "\"corp\"", ANY).replace("inbound.reports", "inbound.hr"),
    ];
    let installation = installed(&sections.concat(), &[&key]);
    installation.store_secret("introspection", &json!({ "client_id": "keyholder", "client_secret": "s3cret" }));
    let client = installation.add_client("job", &["--scope", "read"]);
    let server = installation.serve();
    let at_hr = |server: &Server, token: &str| {
        let url = format!("{}/", text(&server.ready["inbound_urls"], "hr"));
        request("GET", &url, &[("Authorization", &format!("Bearer {token}"))], b"").status
    };
    let asked = || issuer.asked("POST /introspect");
    assert_eq!(at_hr(&server, &key.sign(&claims(&json!({})))), 200);
    assert_eq!((at_hr(&server, "opaque-token-1"), asked()), (401, 0));
    assert_eq!((bearer(&server, "/", "opaque-token-1"), asked()), (200, 1));
    assert_eq!((at_hr(&server, "opaque-token-1"), asked()), (401, 1), "nor does it count there when it is known");
    assert_eq!((bearer(&server, "/", &client.secret), asked()), (401, 1), "a secret that is no token");
}
