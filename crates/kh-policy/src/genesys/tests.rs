//! The built-in table against the document that it was made of, and requests against it.

use std::{collections::BTreeSet, io::Read, path::Path, sync::Arc};

use kh_core::{Identity, Sha256, identity::IdentityBuilder};
use serde_json::Value;

use super::{
    table::{Caller, TEXT, operations},
    *,
};
use crate::{CanonicalPath, Decision, Found, RouteTable};

/// The source of the table; its provenance is told beside it.
const SOURCE: &str = "../kh-sandbox/data/genesys-operations-2026-07.json.gz";

const HEAD: &str = "\
# What each operation of the Genesys Cloud Platform API (v2) requires, by the published document of 2026-07:
# https://api.mypurecloud.com/api/v2/docs/swagger, its members `security` and `x-inin-requires-permissions`.
# Made from crates/kh-sandbox/data/genesys-operations-2026-07.json.gz (its provenance is beside it), which unpacked has
# this SHA-256, by the test that compares both: KEYHOLDER_UPDATE=1 cargo test -p kh-policy --lib genesys
# SOURCE
# Three lists, an empty line before each: scopes, permissions, paths. A path is written as the number of segments that
# it shares with the one before, and the rest of it; then for each method: the method (`!`: served without a token, `?`:
# with the token of a guest), the numbers of its scopes (any of), and of its permissions (`|` any, `&` all; `-` none).
";

fn source() -> (Sha256, Vec<Value>) {
    let packed = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(SOURCE)).unwrap();
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut text).unwrap();
    (Sha256::of(&text), serde_json::from_slice(&text).unwrap())
}

fn words<'a>(operation: &'a Value, member: &str) -> Vec<&'a str> {
    operation[member].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect()
}

/// Writes the table from its source.
fn generate() -> String {
    let (digest, mut source) = source();
    let text = |operation: &Value, member: &str| operation[member].as_str().unwrap().to_owned();
    source.sort_by_key(|operation| (text(operation, "p"), text(operation, "m")));
    let all = |member: &str| source.iter().flat_map(|operation| words(operation, member)).collect::<BTreeSet<&str>>();
    let (scopes, permissions) = (all("scopes_any"), all("perms"));
    let numbers = |list: &BTreeSet<&str>, chosen: Vec<&str>, divider: &str| {
        let number = |word: &str| list.iter().position(|known| *known == word).unwrap().to_string();
        let numbers: Vec<String> = chosen.into_iter().map(number).collect();
        if numbers.is_empty() { "-".to_owned() } else { numbers.join(divider) }
    };
    let mut paths: Vec<String> = Vec::new();
    let mut before = String::new();
    for operation in &source {
        let path = text(operation, "p");
        if path != before {
            let shared = before.split('/').skip(1).zip(path.split('/').skip(1)).take_while(|(one, other)| one == other);
            // the last segment is always written
            let shared = shared.count().min(path.split('/').count() - 2);
            let tail: Vec<&str> = path.split('/').skip(1 + shared).collect();
            paths.push(format!("{shared} {}", tail.join("/")));
            before = path;
        }
        let caller = match words(operation, "auth").as_slice() {
            ["PureCloud OAuth"] => "",
            [] => "!",
            _ => "?",
        };
        let divider = if operation["perm_type"] == "ALL" { "&" } else { "|" };
        let scopes = numbers(&scopes, words(operation, "scopes_any"), "|");
        let permissions = numbers(&permissions, words(operation, "perms"), divider);
        let line = paths.last_mut().unwrap();
        line.extend([" ", &text(operation, "m"), caller, " ", &scopes, " ", &permissions]);
    }
    let list = |words: BTreeSet<&str>| words.into_iter().collect::<Vec<_>>().join("\n");
    let head = HEAD.replace("SOURCE", &digest.to_hex());
    format!("{head}\n{}\n\n{}\n\n{}\n", list(scopes), list(permissions), paths.join("\n"))
}

#[test]
fn the_table_is_what_its_source_says() {
    let made = generate();
    if std::env::var_os("KEYHOLDER_UPDATE").is_some() {
        std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("data/genesys-operations.txt"), &made).unwrap();
        return;
    }
    assert!(TEXT == made, "the table is not what its source gives: see its head");
    assert!(TEXT.contains(&source().0.to_hex()));
}

#[test]
fn every_operation_says_what_the_document_says() {
    let (_, source) = source();
    let read: Vec<_> = operations().collect();
    assert_eq!((read.len(), source.len()), (OPERATIONS, OPERATIONS));
    for operation in &source {
        let same = |read: &&Operation| read.method == operation["m"] && read.path == operation["p"];
        let found = read.iter().find(same).unwrap_or_else(|| panic!("{operation}"));
        let names = words(operation, "perms");
        let permissions = match operation["perm_type"].as_str() {
            Some("ALL") if names.len() > 1 => Permissions::All(names.into_iter().map(leak).collect()),
            _ => Permissions::Any(names.into_iter().map(leak).collect()),
        };
        assert_eq!(
            (&found.permissions, found.scopes.as_slice()),
            (&permissions, words(operation, "scopes_any").as_slice())
        );
    }
    let count = |caller: Caller| read.iter().filter(|operation| operation.caller == caller).count();
    assert_eq!((count(Caller::Anyone), count(Caller::Guest)), (33, 12));
}

fn leak(text: &str) -> &'static str {
    Box::leak(text.to_owned().into_boxed_str())
}

/// A path with a value for everything that is variable.
fn instance(template: &str) -> String {
    let fill = |segment: &str| {
        if segment.starts_with('{') { "7b9ad1d0-1e6b-4a3c-9e43-0f2a1c1d2e3f" } else { segment }.to_owned()
    };
    template.split('/').map(fill).collect::<Vec<_>>().join("/")
}

#[test]
fn every_operation_is_found_by_a_request_for_it() {
    let table = RouteTable::new(routes(Basis::Permissions)).unwrap();
    assert_eq!(table.rules().len(), OPERATIONS);
    for rule in table.rules() {
        assert_eq!(RouteRule::new(rule.name(), rule.requirement().clone()).as_ref(), Ok(rule), "a rule by its syntax");
    }
    for operation in operations() {
        let path = instance(&operation.path);
        match table.find("api.example", operation.method, &CanonicalPath::parse(&path).unwrap()) {
            Found::Route(_, rule) => assert_eq!(rule.name(), format!("{} {}", operation.method, operation.path)),
            other => panic!("{} {path}: {other:?}", operation.method),
        }
    }
    let missing = CanonicalPath::parse("/api/v2/nothing").unwrap();
    assert_eq!(table.find("", "GET", &missing), Found::None);
}

fn granted(permissions: &[&str], scopes: &[&str]) -> Identity {
    let builder = permissions.iter().fold(Identity::builder(Arc::from("genesys")), |b, word| b.permission(word));
    scopes.iter().fold(builder, |b, word| IdentityBuilder::scope(b, word)).build().unwrap()
}

#[test]
fn permissions_are_required_as_the_document_says() {
    let decide = |basis, call: &str, identity: &Identity| {
        let rules = routes(basis);
        let rule = rules.iter().find(|rule| rule.name() == call).unwrap_or_else(|| panic!("{call}"));
        rule.requirement().decide(identity) == Decision::Allowed
    };
    let aggregates = "POST /api/v2/analytics/actions/aggregates/jobs";
    let (any_one, any_other) = ("integrations:action:view", "bridge:actions:view");
    for (basis, call, permissions, scopes, expected) in [
        (Basis::Permissions, aggregates, &[any_one][..], &[][..], true),
        (Basis::Permissions, aggregates, &[any_other], &[], true),
        (Basis::Permissions, aggregates, &["bridge:actions"], &["analytics"], false),
        (Basis::Scopes, aggregates, &[], &["analytics:readonly"], true),
        (Basis::Scopes, aggregates, &[any_one], &["analytics:read"], false),
        (Basis::Both, aggregates, &[any_one], &["analytics"], true),
        (Basis::Both, aggregates, &[any_other], &["analytics:readonly"], true),
        (Basis::Both, aggregates, &[any_one], &[], false),
        (Basis::Both, aggregates, &[], &["analytics"], false),
        // no permission is named: every verified token
        (Basis::Permissions, "GET /api/v2/date", &[], &[], true),
        // a sentence in place of a permission is nothing that anybody has
        (
            Basis::Permissions,
            "GET /api/v2/userrecordings/{recordingId}/transcoding",
            &[any_one],
            &["recordings"],
            false,
        ),
    ] {
        assert_eq!(decide(basis, call, &granted(permissions, scopes)), expected, "{basis:?} {call} {permissions:?}");
    }
    let all = operations().find_map(|operation| match operation.permissions {
        Permissions::All(names) => Some((format!("{} {}", operation.method, operation.path), names)),
        Permissions::Any(_) => None,
    });
    let (call, names) = all.unwrap();
    assert!(decide(Basis::Permissions, &call, &granted(&names, &[])));
    assert!(!decide(Basis::Permissions, &call, &granted(&names[1..], &[])), "{call}");
}

#[test]
fn no_operation_is_public() {
    for basis in [Basis::Permissions, Basis::Scopes, Basis::Both] {
        assert!(routes(basis).iter().all(|rule| !rule.requirement().is_public()), "{basis:?}");
    }
}

#[test]
fn words_can_stand_in_a_challenge() {
    let scopes: BTreeSet<&str> = operations().flat_map(|operation| operation.scopes).collect();
    assert_eq!(scopes.len(), 134);
    assert!(scopes.iter().all(|scope| Word::scope(*scope).is_ok()));
}
