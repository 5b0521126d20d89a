//! Values against single schemas.

use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::operations::schema::Property;

fn fit(schema: &Schema, value: &Value) -> Option<Value> {
    Conform::new(&Definitions::default(), 1).fit(schema, value)
}

fn formatted_as(format: Format) -> Schema {
    Schema::Text(Arc::new(TextSchema { format, ..TextSchema::default() }))
}

#[test]
fn scalars_are_taken_as_the_platforms_parser_takes_them() {
    let text = formatted_as(Format::Free);
    let small =
        Schema::Integer(Arc::new(NumberSchema { minimum: Some(1.0), maximum: Some(9.0), ..NumberSchema::default() }));
    let cases = [
        (&text, json!(5), Some(json!("5"))),
        (&text, json!({}), None),
        (&small, json!("7"), Some(json!(7))),
        (&small, json!(7.0), Some(json!(7))),
        (&small, json!(7.5), None),
        (&small, json!(10), None),
        (&Schema::Boolean, json!("true"), Some(json!(true))),
        (&Schema::Boolean, json!(1), None),
    ];
    for (schema, value, expected) in cases {
        assert_eq!(fit(schema, &value), expected, "{value}");
    }
}

#[test]
fn formats_are_spelled_as_the_platform_spells_them() {
    let cases = [
        (Format::DateTime, "2026-01-02T03:04:05+01:00", Some("2026-01-02T02:04:05.000Z")),
        (Format::DateTime, "yesterday", None),
        (Format::Date, "2026-02-30", None),
        (Format::Date, "2026-02-28", Some("2026-02-28")),
        (
            Format::Interval,
            "2026-01-01T00:00:00Z/2026-01-02T00:00:00Z",
            Some("2026-01-01T00:00:00.000Z/2026-01-02T00:00:00.000Z"),
        ),
        (Format::Interval, "2026-01-01T00:00:00Z", None),
        (Format::YearMonth, "2026-13", None),
        (Format::Uri, "/api/v2/users?pageSize=1", Some("/api/v2/users?pageSize=1")),
        (Format::Uri, "not a uri %", None),
    ];
    for (format, text, expected) in cases {
        assert_eq!(fit(&formatted_as(format), &json!(text)), expected.map(Value::from), "{text}");
    }
}

#[test]
fn objects_keep_what_is_known_and_gain_what_is_required() {
    let property =
        |name: &str, schema: Schema, required| Property { name: name.into(), schema, required, read_only: false };
    let object = Schema::Object(Arc::new(ObjectSchema {
        properties: vec![
            property("name", formatted_as(Format::Free), false),
            property("count", Schema::Integer(Arc::default()), true),
        ],
        additional: None,
    }));
    let fitted = fit(&object, &json!({"name": "x", "other": 1, "count": []})).unwrap();
    assert_eq!(fitted["name"], "x");
    assert!(fitted["count"].is_i64() && fitted.get("other").is_none(), "{fitted}");
    assert_eq!(fit(&object, &json!([])), None);
    let unique =
        Schema::Array(Arc::new(ArraySchema { items: Schema::Boolean, min_items: 2, max_items: 2, unique: true }));
    assert_eq!(fit(&unique, &json!([true, true])), None, "too few different ones");
    assert_eq!(fit(&unique, &json!([true, "x", false, true])), Some(json!([true, false])));
}

#[test]
fn a_recursive_value_is_cut_off() {
    let definitions = Definitions {
        schemas: vec![Schema::Array(Arc::new(ArraySchema {
            items: Schema::Reference(crate::operations::schema::DefinitionId(0)),
            min_items: 0,
            max_items: usize::MAX,
            unique: false,
        }))],
    };
    let deep = (0..1000).fold(json!([]), |inner, _| json!([inner]));
    let fitted = Conform::new(&definitions, 1).fit(&definitions.schemas[0], &deep).unwrap();
    assert!(fitted.to_string().len() < 200);
}
