//! The JSON schema of the configuration (draft 2020-12), for editors that complete and check `keyholder.toml`.
//!
//! Invariant: made from the tables of `config/keys` alone. What the schema refuses, the reader refuses too, but for a
//! region in an unusual spelling; what only the reader knows (a platform that is not there, a wrong host) stays its own.

use kh_platform::genesys;
use serde_json::{Map, Value, json};

use super::{
    duration,
    keys::{Key, SECTIONS, Section, Shape, Top},
    stores::SERVERS_MAX,
};

/// The file's name beside `keyholder.toml`.
pub const FILE_NAME: &str = "keyholder.schema.json";

/// The line that names the schema to editors (the convention of taplo and its plug-ins).
pub const DIRECTIVE: &str = "#:schema ./keyholder.schema.json";

/// What the schema calls itself. It is a name, no address to fetch.
pub const ID: &str = "urn:keyholder:schema:configuration";

/// Names of sections, as `kh_core::id` accepts them.
const NAME: &str = "^[A-Za-z0-9][A-Za-z0-9._/-]{0,63}$";

/// An address with a port, as far as a pattern can tell.
const SOCKET: &str = r"^([0-9]{1,3}(\.[0-9]{1,3}){3}|\[[0-9A-Fa-f:.]+(%[0-9]+)?\]):[0-9]{1,5}$";

/// A unix socket: a path that names no host and no folder.
const UNIX: &str = "^unix:(/?[^/]|/?[^/].*[^/])$";

/// Permissions with read and write for the owner.
const MODE: &str = "^0*[67][0-7]{2}$";

/// https, or http on loopback; no user part, query or fragment.
const URL: &str = r"^(https://[^/?#@\s]+|http://(localhost|127\.[0-9.]+|\[::1\])(:[0-9]+)?)(/[^?#\s]*)?$";

/// A proxy, or a word for one.
const PROXY: &str = r"^(none|environment|http://[^/?#@\s]+/?)$";

/// An IP address, as far as a pattern can tell.
const IP: &str = r"^([0-9]{1,3}(\.[0-9]{1,3}){3}|[0-9A-Fa-f]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)$";

/// http or https; no user part, query or fragment.
const HTTP_URL: &str = r"^https?://[^/?#@\s]+(/[^?#\s]*)?$";

/// The schema.
pub fn schema() -> Value {
    let tops = SECTIONS.iter().map(|(name, top)| ((*name).to_owned(), of_top(top)));
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": ID,
        "title": "keyholder.toml",
        "description": "The configuration of keyholder. It never holds a secret.",
        "type": "object",
        "properties": tops.collect::<Map<_, _>>(),
        "additionalProperties": false,
    })
}

/// The schema as a file.
pub fn text() -> String {
    format!("{:#}\n", schema())
}

fn of_top(top: &Top) -> Value {
    match top {
        Top::One(section) => of_section(section),
        Top::Named(about, forms) => {
            let forms: Vec<Value> = forms.iter().map(|(_, section)| of_section(section)).collect();
            let each = match forms.as_slice() {
                [one] => one.clone(),
                _ => json!({ "oneOf": forms }),
            };
            json!({
                "description": about,
                "type": "object",
                "propertyNames": { "pattern": NAME, "not": { "pattern": r"\.\." } },
                "additionalProperties": each,
            })
        }
    }
}

fn of_section(section: &Section) -> Value {
    let keys = section.keys.iter().map(|key| (key.name.to_owned(), of_key(key)));
    let mut schema = json!({
        "description": section.about,
        "type": "object",
        "properties": keys.collect::<Map<_, _>>(),
        "additionalProperties": false,
    });
    let required: Vec<_> = section.keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    let together = |keys: &[&str]| json!({ "required": keys });
    let mut rules: Vec<Value> = Vec::new();
    for (at, one) in section.at_most_one.iter().enumerate() {
        let others = section.at_most_one.iter().skip(at + 1);
        rules.extend(others.map(|other| json!({ "not": together(&[one, other]) })));
    }
    rules.extend(section.apart.iter().map(|(one, other)| json!({ "not": together(&[one, other]) })));
    if !section.any_of.is_empty() {
        rules.push(json!({ "anyOf": section.any_of.iter().map(|keys| together(keys)).collect::<Vec<_>>() }));
    }
    if let Some(object) = schema.as_object_mut() {
        if !required.is_empty() {
            object.insert("required".to_owned(), json!(required));
        }
        if !section.beside.is_empty() {
            let others = |key: &str| {
                section.beside.iter().filter(|(this, _)| *this == key).map(|(_, other)| *other).collect::<Vec<_>>()
            };
            let pairs = section.beside.iter().map(|(key, _)| ((*key).to_owned(), json!(others(key))));
            object.insert("dependentRequired".to_owned(), Value::Object(pairs.collect()));
        }
        if !rules.is_empty() {
            object.insert("allOf".to_owned(), Value::Array(rules));
        }
    }
    schema
}

fn of_key(key: &Key) -> Value {
    let mut schema = of_shape(&key.shape);
    if let Some(object) = schema.as_object_mut() {
        object.insert("description".to_owned(), key.about.into());
        let default = key.default.and_then(|text| serde_json::from_str(text).ok());
        object.extend(default.map(|value: Value| ("default".to_owned(), value)));
    }
    schema
}

fn of_shape(shape: &Shape) -> Value {
    let text = |pattern: &str| json!({ "type": "string", "pattern": pattern });
    match shape {
        Shape::Text => json!({ "type": "string" }),
        Shape::Path => json!({ "type": "string", "minLength": 1 }),
        Shape::Duration => text(duration::PATTERN),
        Shape::Number(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Shape::Share => json!({ "type": "number", "minimum": 0, "maximum": 1 }),
        Shape::Flag => json!({ "type": "boolean" }),
        Shape::Listen => text(SOCKET),
        Shape::ListenOrOff => json!({ "anyOf": [text(SOCKET), { "const": "off" }] }),
        Shape::Listens => json!({ "type": "array", "items": { "anyOf": [text(SOCKET), text(UNIX)] } }),
        Shape::Mode => text(MODE),
        Shape::Texts => json!({ "type": "array", "items": { "type": "string" } }),
        Shape::Numbers(least, most) => {
            json!({ "type": "array", "items": { "type": "integer", "minimum": least, "maximum": most } })
        }
        Shape::Url => text(URL),
        Shape::HttpUrl => text(HTTP_URL),
        Shape::Servers => {
            let several = json!({ "type": "array", "items": text(URL), "minItems": 1, "maxItems": SERVERS_MAX });
            json!({ "anyOf": [text(URL), several] })
        }
        Shape::Urls => json!({ "type": "array", "items": text(URL) }),
        Shape::Proxy => text(PROXY),
        Shape::Sources => json!({ "type": "array", "items": text(IP), "maxItems": 2 }),
        Shape::Choice(words) => json!({ "enum": words }),
        Shape::Region => json!({ "enum": region_names().collect::<Vec<_>>() }),
        Shape::Environment => text("^[a-z][a-z0-9-]{0,31}$"),
        Shape::Area => text("^[A-Za-z0-9]{1,16}$"),
        Shape::StoreReference => text(&reference()),
        Shape::StoreReferences => json!({ "type": "array", "items": text(&reference()) }),
        Shape::Names => json!({ "type": "array", "items": text(NAME) }),
        Shape::Word(word) => text(word.pattern),
        Shape::Words(word) => json!({ "type": "array", "items": text(word.pattern) }),
        Shape::Scalar => scalar(),
        Shape::Scalars => json!({ "type": "array", "items": scalar(), "minItems": 1 }),
        Shape::Tables(section) => json!({ "type": "array", "items": of_section(section) }),
        Shape::Variable => text("^[A-Z0-9_]+$"),
        Shape::FileName => text("^[A-Za-z0-9_][A-Za-z0-9._-]{0,254}$"),
        Shape::Name | Shape::Credential => text(NAME),
        Shape::Table(section) => of_section(section),
    }
}

/// What a claim can be compared with.
fn scalar() -> Value {
    json!({ "type": ["string", "integer", "boolean"], "minLength": 1 })
}

/// `store:NAME`, or another word with a path.
fn reference() -> String {
    let name = NAME.trim_matches(['^', '$']);
    let part = "[A-Za-z0-9_+=.@-]+";
    format!("^(store:{name}|(?!store:){name}:{part}(/{part})*)$")
}

/// The AWS names first, because an editor offers them in this order, then the domains.
fn region_names() -> impl Iterator<Item = &'static str> {
    let regions = genesys::regions();
    let aws = regions.iter().map(|region| region.aws_region.as_str());
    aws.chain(regions.iter().map(|region| region.domain.as_str()))
}

#[cfg(test)]
mod tests;
