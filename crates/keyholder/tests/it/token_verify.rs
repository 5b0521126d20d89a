//! `keyholder token verify` as scripts use it: examples of the standards, exit codes, reasons, batches.

use std::{fs, path::Path};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::harness::{Said, keyholder, run};

/// RFC 7515 appendix A.1: HS256.
const HS256: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const HS256_KEY: &str =
    r#"{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}"#;

/// RFC 7515 appendix A.3: ES256, the same claims.
const ES256: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
const ES256_KEY: &str = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;

/// RFC 8037 appendix A.4: EdDSA over a payload that is no JSON.
const EDDSA: &str = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
const EDDSA_KEY: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

/// Before the example's `exp`.
const IN_TIME: &str = "1300819379";

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for (name, key) in [("hs256", HS256_KEY), ("es256", ES256_KEY), ("eddsa", EDDSA_KEY)] {
            fs::write(folder.path().join(format!("{name}.jwk")), key).unwrap();
            fs::write(folder.path().join(format!("{name}.jwks")), format!("{{\"keys\":[{key}]}}")).unwrap();
        }
        folder
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn verify(&self, words: &[&str], input: &str) -> Said {
        run(keyholder().current_dir(self.path()).args(["token", "verify"]).args(words), input.as_bytes())
    }

    /// Why the token is refused.
    fn reason(&self, words: &[&str], input: &str) -> String {
        let said = self.verify(words, input);
        assert_eq!(said.code, Some(1), "{words:?}: {}{}", said.out, said.err);
        let answer: Value = serde_json::from_str(&said.out).expect("the answer is JSON in every form");
        assert_eq!(answer["valid"], false);
        answer["reason"].as_str().unwrap().to_owned()
    }
}

#[test]
fn the_examples_of_the_standards() {
    let folder = Folder::new();
    for words in [
        &["--jwks", "es256.jwks", "--at", IN_TIME][..],
        &["--jwk", "es256.jwk", "--at", IN_TIME, "--issuer", "joe", "--alg", "ES256"],
        &["--jwk", "es256.jwk", "--at", "1300819409"],
        &["--jwks", "eddsa.jwks", "--jwk", "es256.jwk", "--at", IN_TIME, "--issuer", "joe", "--issuer", "other"],
    ] {
        for end in ["", "\n", "\r\n"] {
            let claims: Value = serde_json::from_str(&folder.verify(words, &format!("{ES256}{end}")).done()).unwrap();
            assert_eq!(claims, json!({ "iss": "joe", "exp": 1_300_819_380, "http://example.com/is_root": true }));
        }
    }
    let with_hmac = ["--jwk", "hs256.jwk", "--at", IN_TIME, "--allow-hmac", "--output", "json"];
    assert_eq!(folder.verify(&with_hmac, HS256).json()["iss"], "joe");
    let any_payload = folder.verify(&["--jwk", "eddsa.jwk", "--no-claims", "--output", "json"], EDDSA).json();
    assert_eq!(any_payload["valid"], true);
    let payload = BASE64_URL_SAFE_NO_PAD.decode(any_payload["payload"].as_str().unwrap()).unwrap();
    assert_eq!(payload, b"Example of Ed25519 signing");
    // the signature alone looks at no time
    assert_eq!(folder.verify(&["--jwk", "es256.jwk", "--no-claims", "--output", "json"], ES256).json()["iss"], "joe");
}

#[test]
fn refusals_have_a_reason_and_exit_code_1() {
    let folder = Folder::new();
    fs::write(folder.path().join("enc.jwk"), EDDSA_KEY.replace("\"OKP\"", "\"OKP\",\"use\":\"enc\"")).unwrap();
    fs::write(folder.path().join("es384.jwk"), ES256_KEY.replace("\"EC\"", "\"EC\",\"alg\":\"ES384\"")).unwrap();
    let forged = ES256.replace(".DtE", ".EtE");
    let none = format!("{}.{}.", BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), ES256.split('.').nth(1).unwrap());
    let at = ["--at", IN_TIME];
    let es256 = ["--jwk", "es256.jwk"];
    for (words, token, reason) in [
        ([&es256[..], &[]].concat(), ES256, "expired"),
        ([&es256[..], &at].concat(), &forged, "signature_invalid"),
        ([&es256[..], &at].concat(), &none, "algorithm_none"),
        ([&es256[..], &at].concat(), HS256, "algorithm_not_allowed"),
        ([&es256[..], &at, &["--allow-hmac"]].concat(), HS256, "key_unfit"),
        ([&es256[..], &at, &["--alg", "EdDSA"]].concat(), ES256, "algorithm_not_allowed"),
        ([&es256[..], &at, &["--issuer", "jane"]].concat(), ES256, "issuer_refused"),
        ([&es256[..], &at, &["--audience", "me"]].concat(), ES256, "audience_missing"),
        ([&es256[..], &at, &["--type", "access-token"]].concat(), ES256, "type_refused"),
        ([&es256[..], &["--at", "1300819410"]].concat(), ES256, "expired"),
        ([&es256[..], &["--at", "1300819380", "--leeway", "1s"]].concat(), &forged, "signature_invalid"),
        ([&es256[..], &["--at", "1300819381", "--leeway", "1s"]].concat(), ES256, "expired"),
        ([&es256[..], &["--at", "1300819680", "--leeway", "5m"]].concat(), ES256, "expired"),
        ([&es256[..], &at].concat(), "", "malformed"),
        ([&es256[..], &at].concat(), "a.b.c.d.e", "encrypted"),
        (vec!["--jwk", "eddsa.jwk", "--at", IN_TIME], EDDSA, "claims_invalid"),
        (vec!["--jwks", "eddsa.jwks", "--at", IN_TIME], ES256, "key_missing"),
        (vec!["--jwk", "enc.jwk", "--no-claims"], EDDSA, "key_unusable"),
        (vec!["--jwk", "es384.jwk", "--no-claims"], ES256, "key_unusable"),
        (vec!["--jwk", "hs256.jwk", "--no-claims"], HS256, "key_unusable"),
        (vec!["--jwk", "hs256.jwk", "--no-claims"], ES256, "key_unusable"),
    ] {
        assert_eq!(folder.reason(&words, token), reason, "{words:?}");
    }
    let long = "a".repeat(20_000_000);
    assert_eq!(folder.reason(&es256, &long), "too_large");
    // with text a person is told too, and why a key is not there
    let told = folder.verify(&["--jwk", "enc.jwk", "--no-claims"], EDDSA).err;
    assert!(told.contains("no key that was given can be used") && told.contains("`use` or `key_ops`"), "{told}");
    let json = folder.verify(&["--jwk", "enc.jwk", "--no-claims", "--output", "json"], EDDSA);
    assert_eq!((json.code, json.err.as_str()), (Some(1), ""));
}

#[test]
fn mistakes_of_the_caller_have_exit_code_2() {
    let folder = Folder::new();
    fs::write(folder.path().join("twice.jwk"), EDDSA_KEY.replacen('{', r#"{"kty":"OKP","#, 1)).unwrap();
    fs::write(folder.path().join("huge.jwks"), format!("{{\"keys\":[{EDDSA_KEY}]}}{}", " ".repeat(300_000))).unwrap();
    for words in [
        &[][..],
        &["--jwk", "not-there.jwk"],
        &["--jwks", "es256.jwk"],
        &["--jwk", "twice.jwk"],
        &["--jwks", "huge.jwks"],
        &["--jwk", "es256.jwk", "--alg", "none"],
        &["--jwk", "es256.jwk", "--alg", "HS256"],
        &["--jwk", "es256.jwk", "--at", "soon"],
        &["--jwk", "es256.jwk", "--leeway", "10m"],
        &["--jwk", "es256.jwk", "--leeway", "301s"],
        &["--jwk", "es256.jwk", "--no-claims", "--issuer", "joe"],
        &["--jwk", "es256.jwk", "--no-claims", "--audience", "joe"],
        &["--jwk", "es256.jwk", ES256],
    ] {
        let said = folder.verify(words, ES256);
        assert_eq!((said.code, said.out.as_str()), (Some(2), ""), "{words:?}: {}", said.err);
        assert!(!said.err.contains("DtEhU3ljbEg8"), "the token is not repeated: {}", said.err);
    }
    let problem = folder.verify(&["--jwk", "not-there.jwk", "--output", "json"], ES256).err;
    let problem: Value = serde_json::from_str(&problem).unwrap();
    assert_eq!(problem["code"], "keyholder.usage");
}

#[test]
fn a_batch_answers_every_line_in_order() {
    let folder = Folder::new();
    let key = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let forged = ES256.replace(".DtE", ".EtE");
    let long = format!("{{\"id\":\"long\",\"token\":\"{}\"}}", "a".repeat(700_000));
    let lines = [
        (json!({ "id": 1, "token": ES256, "jwk": key(ES256_KEY) }).to_string(), json!(1), None),
        (
            json!({ "id": "two", "token": EDDSA, "jwks": { "keys": [key(ES256_KEY), key(EDDSA_KEY)] } }).to_string(),
            json!("two"),
            None,
        ),
        (json!({ "id": 3, "token": forged, "jwk": key(ES256_KEY) }).to_string(), json!(3), Some("signature_invalid")),
        ("no JSON".to_owned(), json!(null), Some("bad_input")),
        (String::new(), json!(null), Some("bad_input")),
        (long, json!(null), Some("bad_input")),
        (json!({ "id": 4, "token": ES256 }).to_string(), json!(4), Some("bad_input")),
        (json!({ "id": 5, "jwk": key(ES256_KEY) }).to_string(), json!(5), Some("bad_input")),
        (json!({ "id": [6], "token": 6, "jwk": key(ES256_KEY) }).to_string(), json!([6]), Some("bad_input")),
        (r#"{"id":7,"token":"a","token":"b"}"#.to_owned(), json!(7), Some("bad_input")),
        (json!({ "id": 8, "token": HS256, "jwk": key(HS256_KEY) }).to_string(), json!(8), Some("key_unusable")),
        (json!({ "id": 9, "token": ES256, "jwk": key(EDDSA_KEY) }).to_string(), json!(9), Some("key_unfit")),
        (
            json!({ "id": 10, "token": "x".repeat(20_000), "jwk": key(EDDSA_KEY) }).to_string(),
            json!(10),
            Some("too_large"),
        ),
        (json!({ "id": null, "token": "", "jwk": key(EDDSA_KEY) }).to_string(), json!(null), Some("malformed")),
    ];
    let input: Vec<&str> = lines.iter().map(|(line, ..)| line.as_str()).collect();
    for (end, between) in [("", "\n"), ("\n", "\n"), ("\r\n", "\r\n")] {
        let said = folder.verify(&["--batch", "--no-claims"], &format!("{}{end}", input.join(between))).done();
        let answers: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(answers.len(), lines.len(), "{said}");
        for (answer, (line, id, reason)) in answers.iter().zip(&lines) {
            assert_eq!(*answer, json!({ "id": id, "valid": reason.is_none(), "reason": reason }), "{line:.80}");
        }
    }
    assert_eq!(folder.verify(&["--batch"], "").done(), "");
}

#[test]
fn a_batch_takes_the_keys_and_claims_of_the_command_line() {
    let folder = Folder::new();
    let line = |id: u32, token: &str| json!({ "id": id, "token": token }).to_string();
    let input = [line(1, ES256), line(2, HS256), json!({ "id": 3, "token": ES256, "jwk": { "kty": "?" } }).to_string()];
    let words =
        ["--batch", "--jwks", "es256.jwks", "--jwk", "hs256.jwk", "--allow-hmac", "--at", IN_TIME, "--issuer", "joe"];
    let said = folder.verify(&words, &input.join("\n")).done();
    let outcomes: Vec<Value> =
        said.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["reason"].take()).collect();
    assert_eq!(outcomes, [json!(null), json!(null), json!("key_unusable")], "a line's own key is the only one for it");
    let other =
        folder.verify(&["--batch", "--jwks", "es256.jwks", "--at", IN_TIME, "--issuer", "jane"], &input[0]).done();
    assert!(other.contains("issuer_refused"), "{other}");
}

#[test]
fn a_batch_answers_while_its_input_is_open() {
    use std::io::{BufRead, BufReader, Write};
    let mut command = keyholder();
    command.args(["token", "verify", "--batch", "--no-claims"]);
    let mut child = command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let (mut input, mut output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    for id in 0..20 {
        let key: Value = serde_json::from_str(ES256_KEY).unwrap();
        writeln!(input, "{}", json!({ "id": id, "token": ES256, "jwk": key })).unwrap();
        let mut answer = String::new();
        output.read_line(&mut answer).unwrap();
        assert_eq!(answer, format!("{{\"id\":{id},\"valid\":true,\"reason\":null}}\n"));
    }
    drop(input);
    assert!(child.wait().unwrap().success());
}

#[test]
fn claims_that_could_steer_a_terminal_are_shown_escaped() {
    let folder = Folder::new();
    let pair = Ed25519KeyPair::generate().unwrap();
    let key = json!({ "kty": "OKP", "crv": "Ed25519", "x": BASE64_URL_SAFE_NO_PAD.encode(pair.public_key()) });
    fs::write(folder.path().join("own.jwk"), key.to_string()).unwrap();
    let claims = json!({ "exp": 4_000_000_000_u64, "sub": "a\u{1b}[31m\u{9b}31mb\u{7f}" });
    let encode = |json: &Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
    let signed = format!("{}.{}", encode(&json!({ "alg": "EdDSA" })), encode(&claims));
    let token = format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(pair.sign(signed.as_bytes())));
    let said = folder.verify(&["--jwk", "own.jwk"], &token).done();
    assert!(said.chars().all(|letter| letter == '\n' || !letter.is_control()), "{said:?}");
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap(), claims);
}
