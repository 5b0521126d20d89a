//! A small document with what the published one does not use: `allOf`, `discriminator`, odd success statuses.

use std::io::Write as _;

use serde_json::{Value, json};

use super::*;
use crate::operations::synthesis::Synthesis;

fn gz(value: &Value) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(value.to_string().as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn document(paths: &Value, definitions: &Value) -> Document {
    let swagger = json!({"swagger": "2.0", "paths": paths, "definitions": definitions});
    Document::parse(&gz(&swagger), &gz(&json!([]))).unwrap()
}

fn operation(responses: &Value) -> Value {
    json!({"operationId": "op", "produces": ["application/json"], "parameters": [], "responses": responses})
}

#[test]
fn all_of_and_discriminator_become_plain_objects() {
    let definitions = json!({
        "Pet": {"type": "object", "discriminator": "kind", "required": ["name"], "properties": {"kind": {"type": "string"}, "name": {"type": "string"}}},
        "Cat": {"allOf": [{"$ref": "#/definitions/Pet"}, {"type": "object", "required": ["lives"], "properties": {"lives": {"type": "integer", "minimum": 9, "maximum": 9}}}]},
        "Open": {"type": "object", "discriminator": "type"},
        "Self": {"allOf": [{"$ref": "#/definitions/Self"}]}
    });
    let paths = json!({"/cats": {"get": operation(&json!({"200": {"schema": {"$ref": "#/definitions/Cat"}}}))}});
    let document = document(&paths, &definitions);
    let schema = document.operations[0].success.schema.clone().unwrap();
    let cat = Synthesis::new(&document.definitions, 1).required_only(&schema);
    assert_eq!(cat["lives"], 9);
    assert!(cat["kind"].is_string() && cat["name"].is_string(), "{cat}");
    let open = document.definitions.schemas[1].clone();
    assert!(Synthesis::new(&document.definitions, 1).required_only(&open)["type"].is_string());
}

#[test]
fn the_success_is_chosen_among_the_documented_ones() {
    let some = json!({"schema": {"type": "string"}});
    let none = json!({});
    let cases = [
        ("get", json!({"200": some, "202": none, "400": some}), 200, "200"),
        ("delete", json!({"200": some, "204": none}), 204, "204"),
        ("post", json!({"200": some, "201": some}), 201, "201"),
        ("post", json!({"200": some, "201": {"schema": {"$ref": "#/definitions/X"}}}), 200, "200"),
        ("post", json!({"204": none, "200": some}), 200, "200"),
        ("post", json!({"202": none}), 202, "202"),
        ("delete", json!({"default": none, "400": some}), 200, "default"),
    ];
    for (method, responses, status, key) in cases {
        let document = document(&json!({"/x": {method: operation(&responses)}}), &json!({"X": {"type": "object"}}));
        let chosen = &document.operations[0];
        assert_eq!((chosen.success_status(), chosen.success_key()), (status, key), "{method} {responses}");
    }
}

#[test]
fn a_document_that_is_none_is_an_error() {
    assert!(matches!(Document::parse(b"plain", b""), Err(DocumentError::Unpack(_))));
    assert!(matches!(Document::parse(&gz(&json!([])), &gz(&json!([]))), Err(DocumentError::Parse(_))));
}
