//! The independent witness: the published document's response schemas, compiled by the `jsonschema` crate. It shares
//! nothing with the engine but the document's bytes.

use std::collections::{BTreeMap, HashMap};
use std::io::Read as _;

use jsonschema::{Draft, Validator};
use kh_sandbox::operations::{Operation, Operations};
use serde_json::{Map, Value, json};

/// Compiles response schemas on demand.
pub(super) struct SchemaCheck {
    document: Value,
    compiled: HashMap<String, Validator>,
}

impl SchemaCheck {
    pub(super) fn new() -> Self {
        let mut text = String::new();
        flate2::read::GzDecoder::new(Operations::openapi_gz()).read_to_string(&mut text).unwrap();
        let mut document: Value = serde_json::from_str(&text).unwrap();
        relax_uri(&mut document["definitions"]);
        Self { document, compiled: HashMap::new() }
    }

    /// Operations of the document as (method, template).
    pub(super) fn published(&self) -> Vec<(String, String)> {
        let paths = self.document["paths"].as_object().unwrap();
        let methods = |(path, item): (&String, &Value)| {
            item.as_object()
                .unwrap()
                .keys()
                .map(|method| (method.to_ascii_uppercase(), path.clone()))
                .collect::<Vec<_>>()
        };
        paths.iter().flat_map(methods).collect()
    }

    fn response(&self, operation: &Operation, key: &str) -> &Value {
        &self.document["paths"][operation.template()][operation.method().to_ascii_lowercase()]["responses"][key]
    }

    /// Errors of `body` against the documented answer `key` of the operation. An undocumented answer is an error, too;
    /// an answer without a schema must have no body.
    pub(super) fn errors(&mut self, operation: &Operation, key: &str, body: Option<&Value>) -> Vec<String> {
        let response = self.response(operation, key);
        if response.is_null() {
            return vec![format!("answer {key} is not documented")];
        }
        let Some(mut schema) = response.get("schema").cloned() else {
            return if body.is_some() { vec!["a body where none is documented".to_owned()] } else { Vec::new() };
        };
        if operation.method() == "HEAD" {
            return if body.is_some() { vec!["HEAD with a body".to_owned()] } else { Vec::new() };
        }
        let Some(body) = body else { return vec!["no body".to_owned()] };
        relax_uri(&mut schema);
        let cache_key = schema.to_string();
        if !self.compiled.contains_key(&cache_key) {
            let validator = self.compile(&schema);
            self.compiled.insert(cache_key.clone(), validator);
        }
        let validator = &self.compiled[&cache_key];
        validator.iter_errors(body).map(|error| format!("{}: {error}", error.instance_path())).collect()
    }

    /// How many different schemas were compiled.
    pub(super) fn compiled(&self) -> usize {
        self.compiled.len()
    }

    /// The schema with just the definitions that it reaches: thousands of validators over the whole document would
    /// take minutes.
    fn compile(&self, schema: &Value) -> Validator {
        let mut reached = BTreeMap::new();
        let mut open = vec![schema.clone()];
        while let Some(next) = open.pop() {
            for name in references(&next) {
                let definition = &self.document["definitions"][&name];
                assert!(!definition.is_null(), "definition {name} is missing");
                if reached.insert(name, definition.clone()).is_none() {
                    open.push(definition.clone());
                }
            }
        }
        let definitions: Map<String, Value> = reached.into_iter().collect();
        let root = json!({"allOf": [schema], "definitions": definitions});
        // The format is younger than draft 4, whose keywords Swagger 2.0 uses.
        let newer = jsonschema::options().with_draft(Draft::Draft7).should_validate_formats(true);
        let uri_reference = newer.build(&json!({"format": "uri-reference"})).unwrap();
        jsonschema::options()
            .with_draft(Draft::Draft4)
            .should_validate_formats(true)
            .with_format("uri-reference", move |text: &str| uri_reference.is_valid(&json!(text)))
            .with_format("date", |text: &str| text.parse::<jiff::civil::Date>().is_ok())
            .with_format("date-time", |text: &str| text.ends_with('Z') && text.parse::<jiff::Timestamp>().is_ok())
            .with_format("interval", |text: &str| {
                text.split_once('/').is_some_and(|(start, end)| {
                    start.parse::<jiff::Timestamp>().is_ok() && end.parse::<jiff::Timestamp>().is_ok()
                })
            })
            .with_format("local-time", |text: &str| text.parse::<jiff::civil::Time>().is_ok())
            .with_format("local-date-time", |text: &str| text.parse::<jiff::civil::DateTime>().is_ok())
            .with_format("year-month", |text: &str| {
                text.len() == 7 && format!("{text}-01").parse::<jiff::civil::Date>().is_ok()
            })
            .build(&root)
            .unwrap()
    }
}

fn references(value: &Value) -> Vec<String> {
    match value {
        Value::Object(map) => map
            .iter()
            .flat_map(|(name, value)| match (name.as_str(), value) {
                ("$ref", Value::String(target)) => vec![target.rsplit('/').next().unwrap().to_owned()],
                _ => references(value),
            })
            .collect(),
        Value::Array(elements) => elements.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

/// From Swagger 2.0 to JSON Schema: `uri` becomes `uri-reference` (the platform's `selfUri` is a path without a host),
/// and the number formats become bounds.
fn relax_uri(value: &mut Value) {
    match value {
        Value::Object(map) => {
            let format = map.get("format").and_then(Value::as_str).map(str::to_owned);
            match format.as_deref() {
                Some("uri" | "url") => drop(map.insert("format".to_owned(), json!("uri-reference"))),
                Some("int32") => {
                    map.entry("minimum").or_insert(json!(i32::MIN));
                    map.entry("maximum").or_insert(json!(i32::MAX));
                }
                _ => {}
            }
            map.values_mut().for_each(relax_uri);
        }
        Value::Array(elements) => elements.iter_mut().for_each(relax_uri),
        _ => {}
    }
}

#[test]
fn a_broken_body_is_caught() {
    let mut check = SchemaCheck::new();
    let operations = Operations::shared();
    let named = |id: &str| operations.all().iter().find(|operation| operation.operation_id() == id).cloned().unwrap();
    let get_user = named("getUser");
    assert_eq!(check.errors(&get_user, "200", Some(&json!({"version": 1}))), Vec::<String>::new());
    let broken = [
        json!({}),
        json!({"version": "one"}),
        json!({"version": 2_147_483_648_i64}),
        json!({"version": 1, "state": "asleep"}),
        json!({"version": 1, "selfUri": "not a uri %"}),
        json!({"version": 1, "dateLastLogin": "yesterday"}),
        json!({"version": 1, "manager": {"version": 1, "manager": {"id": "no version"}}}),
        json!({"version": 1, "skills": {}}),
        json!([]),
    ];
    for body in broken {
        assert!(!check.errors(&get_user, "200", Some(&body)).is_empty(), "{body} must be refused");
    }
    assert!(!check.errors(&get_user, "200", None).is_empty(), "a missing body must be refused");
    assert!(
        !check.errors(&get_user, "299", Some(&json!({"version": 1}))).is_empty(),
        "an unknown status must be refused"
    );
    let delete = operations.all().iter().find(|operation| operation.success_status() == 204).unwrap();
    assert!(!check.errors(delete, "204", Some(&json!({}))).is_empty(), "a body on a 204 must be refused");
}
