//! Finds the entity collections in the document: which operation creates, lists, reads, updates or deletes what.
//! Invariant: a collection counts as creatable only when its creation tells the id under which the entity is read, so
//! a 404 for an unknown id is never a dead end.

use std::collections::HashMap;
use std::sync::Arc;

use super::document::Operation;
use super::route::is_parameter;
use super::schema::{DefinitionId, Definitions, Schema};

/// Paths whose state belongs to the sandbox itself (clients, tokens, audits): answered without state here.
const FOREIGN_STATE: [&str; 3] = ["/api/v2/oauth/", "/api/v2/tokens", "/api/v2/audits"];

/// Views of a collection under another path that show the same entities.
const VIEW_SUFFIXES: [&str; 2] = ["/divisionviews/all", "/divisionviews"];

/// Properties of a listing that may hold its elements, in order of preference.
const ELEMENT_PROPERTIES: [&str; 6] = ["entities", "results", "Resources", "items", "values", "users"];

/// What an operation does with the store.
#[derive(Debug, Clone)]
pub(crate) enum Role {
    /// Adds one entity to the collection.
    Create(Arc<Rule>),
    /// Adds one entity per element of an array.
    CreateMany(Arc<Rule>),
    /// Lists entities; with a rule, exactly the stored ones.
    List(Option<Arc<Rule>>, Shape),
    /// Reads an entity or a single document.
    Read,
    /// Changes one (PUT, PATCH, and POST on what can be read).
    Update,
    /// Deletes one.
    Delete,
    /// An action or a query: answered from its schema alone.
    Other,
}

/// Where an operation's subject is stored.
#[derive(Debug, Default)]
pub(crate) struct Target {
    /// The path template without a view's suffix.
    pub(crate) storage: Box<str>,
    /// Set when the last segment is the id of an entity that only creation brings to life.
    pub(crate) rule: Option<Arc<Rule>>,
    /// What a GET on the same path answers with.
    pub(crate) read: Option<Schema>,
    /// Numbers of leading segments that make the path of an entity which must exist.
    pub(crate) ancestors: Box<[usize]>,
}

/// How entities of a collection come to life.
#[derive(Debug)]
pub(crate) struct Rule {
    /// The property that holds the id.
    pub(crate) id_property: Arc<str>,
    /// Whether ids are whole numbers.
    pub(crate) integer_id: bool,
    /// Whether a caller may choose the id.
    pub(crate) chosen_id: ChosenId,
    /// What creation answers with (of one element).
    pub(crate) created: Schema,
    /// What reading answers with.
    pub(crate) item: Schema,
}

/// Who says what an entity's id is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChosenId {
    /// The platform.
    Never,
    /// The caller, if it wants; an id that exists is a conflict.
    Optional,
    /// The caller, always: it names something that exists (a form to publish), so doing it again is no conflict.
    Always,
}

/// Where a listing has its elements.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    /// The property with the elements; `None` for a bare array.
    pub(crate) property: Option<Arc<str>>,
    /// One element.
    pub(crate) items: Schema,
}

/// Gives every operation its role and target.
pub(crate) fn assign_roles(definitions: &Definitions, operations: &mut [Operation]) {
    let rules = {
        let index: Index<'_> =
            operations.iter().map(|operation| ((&*operation.method, &*operation.template), operation)).collect();
        find_rules(definitions, &index)
    };
    let planned: Vec<(Role, Target)> = {
        let index: Index<'_> =
            operations.iter().map(|operation| ((&*operation.method, &*operation.template), operation)).collect();
        let listed = find_listed_rules(definitions, &index, &rules);
        let planning = Planning { definitions, index: &index, rules: &rules, listed: &listed };
        operations.iter().map(|operation| (planning.role(operation), planning.target(operation))).collect()
    };
    for (operation, (role, target)) in operations.iter_mut().zip(planned) {
        operation.role = role;
        operation.target = target;
    }
}

type Index<'a> = HashMap<(&'a str, &'a str), &'a Operation>;

/// Rules by collection template.
type Rules = HashMap<Box<str>, (Arc<Rule>, bool)>;

fn find_rules(definitions: &Definitions, index: &Index<'_>) -> Rules {
    let mut rules = Rules::new();
    for ((method, template), read) in index {
        let Some((collection, parameter)) = split_item(template) else { continue };
        let foreign = FOREIGN_STATE.iter().any(|prefix| template.starts_with(prefix));
        if *method != "GET" || foreign {
            continue;
        }
        let create = index.get(&("POST", collection));
        if let Some((rule, many)) = create.and_then(|create| rule(definitions, create, read, parameter)) {
            rules.insert(collection.into(), (Arc::new(rule), many));
        }
    }
    rules
}

/// `/a/b/{id}` as `/a/b` and `id`.
fn split_item(template: &str) -> Option<(&str, &str)> {
    let (collection, last) = template.rsplit_once('/')?;
    let name = last.strip_prefix('{')?.strip_suffix('}')?;
    Some((collection, name))
}

fn rule(definitions: &Definitions, create: &Operation, read: &Operation, parameter: &str) -> Option<(Rule, bool)> {
    let answered = create.success.schema.as_ref()?;
    let (created, many) = match definitions.resolve(answered) {
        Schema::Array(array) => (array.items.clone(), true),
        _ => (answered.clone(), false),
    };
    let item = read.success.schema.clone()?;
    let request = create.body.as_ref().map(|body| match definitions.resolve(&body.schema) {
        Schema::Array(array) => definitions.object(&array.items),
        _ => definitions.object(&body.schema),
    });
    let object = definitions.object(&created)?;
    definitions.object(&item)?;
    if object.properties.is_empty() {
        let open = request.flatten().is_some_and(|request| request.properties.is_empty());
        // A free-form entity (a data table's row) is addressed by the key that its creator chose.
        let free = Rule { id_property: "key".into(), integer_id: false, chosen_id: ChosenId::Optional, created, item };
        return open.then_some((free, many));
    }
    let bare = parameter.strip_suffix("Id").or_else(|| parameter.strip_suffix("Code")).unwrap_or(parameter);
    let names = ["id", parameter, "key", "jobId", "executionId", "version", bare];
    let property = names.iter().find_map(|name| {
        let property = object.property(name)?;
        matches!(definitions.resolve(&property.schema), Schema::Text(_) | Schema::Integer(_)).then_some(property)
    })?;
    let asked = request.flatten().and_then(|object| object.property(&property.name));
    let chosen_id = match asked {
        Some(known) if known.required && !known.read_only => ChosenId::Always,
        Some(known) if !known.read_only => ChosenId::Optional,
        Some(_) | None => ChosenId::Never,
    };
    let integer_id = matches!(definitions.resolve(&property.schema), Schema::Integer(_));
    let rule = Rule { id_property: Arc::clone(&property.name), integer_id, chosen_id, created, item };
    Some((rule, many))
}

/// Collections that are added to and listed, but whose entities are not read one by one (the members of a queue).
fn find_listed_rules(definitions: &Definitions, index: &Index<'_>, rules: &Rules) -> Rules {
    let mut listed = Rules::new();
    for ((method, template), list) in index {
        let foreign = FOREIGN_STATE.iter().any(|prefix| template.starts_with(prefix));
        if *method != "GET" || foreign || rules.contains_key(*template) || split_item(template).is_some() {
            continue;
        }
        let create = index.get(&("POST", *template));
        if let Some((rule, many)) = create.and_then(|create| listed_rule(definitions, create, list)) {
            listed.insert((*template).into(), (Arc::new(rule), many));
        }
    }
    listed
}

fn listed_rule(definitions: &Definitions, create: &Operation, list: &Operation) -> Option<(Rule, bool)> {
    let items = shape(definitions, list.success.schema.as_ref()?)?.items;
    let has_id = |schema: &Schema| {
        let property = definitions.object(schema)?.property("id")?;
        matches!(definitions.resolve(&property.schema), Schema::Text(_)).then(|| Arc::clone(&property.name))
    };
    let id_property = has_id(&items)?;
    let (request, many) = match definitions.resolve(&create.body.as_ref()?.schema) {
        Schema::Array(array) => (&array.items, true),
        _ => (&create.body.as_ref()?.schema, false),
    };
    let chosen = definitions.object(request)?.property("id").is_some_and(|id| !id.read_only);
    let created = match (create.success.schema.as_ref(), many) {
        (None, _) if chosen => items.clone(),
        (Some(answered), false) if has_id(answered).is_some() => answered.clone(),
        (Some(answered), true) => match definitions.resolve(answered) {
            Schema::Array(array) if chosen && has_id(&array.items).is_some() => array.items.clone(),
            _ => return None,
        },
        _ => return None,
    };
    let chosen_id = if chosen { ChosenId::Always } else { ChosenId::Never };
    Some((Rule { id_property, integer_id: false, chosen_id, created, item: items }, many))
}

struct Planning<'a> {
    definitions: &'a Definitions,
    index: &'a Index<'a>,
    rules: &'a Rules,
    listed: &'a Rules,
}

impl Planning<'_> {
    /// The template of what is stored: a view's suffix removed where the collection itself is creatable.
    fn storage<'t>(&self, template: &'t str) -> std::borrow::Cow<'t, str> {
        let base = VIEW_SUFFIXES.iter().find_map(|suffix| {
            let (base, rest) = template.split_once(suffix)?;
            let whole = rest.is_empty() || (rest.starts_with("/{") && rest.matches('/').count() == 1);
            (whole && self.rules.contains_key(base)).then(|| format!("{base}{rest}"))
        });
        base.map_or(template.into(), Into::into)
    }

    fn target(&self, operation: &Operation) -> Target {
        let storage = self.storage(&operation.template);
        let rule = split_item(&storage).and_then(|(collection, _)| self.rules.get(collection));
        let mut ancestors = Vec::new();
        for (at, _) in storage.match_indices('/').skip(1) {
            let prefix = storage.get(..at).unwrap_or_default();
            if split_item(prefix).is_some_and(|(collection, _)| self.rules.contains_key(collection)) {
                ancestors.push(prefix.matches('/').count());
            }
        }
        let read = self.read_of(operation).and_then(|read| read.success.schema.clone());
        Target {
            read,
            rule: rule.map(|(rule, _)| Arc::clone(rule)),
            ancestors: ancestors.into(),
            storage: storage.into(),
        }
    }

    fn role(&self, operation: &Operation) -> Role {
        let storage = self.storage(&operation.template);
        let rule = self.rules.get(&*storage).or_else(|| self.listed.get(&*storage));
        match (&*operation.method, rule) {
            ("POST", Some((rule, false))) => Role::Create(Arc::clone(rule)),
            ("POST", Some((rule, true))) => Role::CreateMany(Arc::clone(rule)),
            ("GET", _) => self.reading(operation, rule.map(|(rule, _)| rule), &storage),
            ("PUT" | "PATCH", _) if self.changes_what_is_read(operation) => Role::Update,
            ("POST", None) if self.repeats_what_is_read(operation) => Role::Update,
            ("DELETE", _) if split_item(&storage).is_some() || self.read_of(operation).is_some() => Role::Delete,
            _ => Role::Other,
        }
    }

    fn reading(&self, operation: &Operation, rule: Option<&Arc<Rule>>, storage: &str) -> Role {
        let shape = operation.success.schema.as_ref().and_then(|schema| shape(self.definitions, schema));
        let last_is_literal = !storage.rsplit('/').next().is_some_and(is_parameter);
        match shape {
            Some(shape) if last_is_literal => Role::List(rule.cloned(), shape),
            _ => Role::Read,
        }
    }

    fn read_of(&self, operation: &Operation) -> Option<&Operation> {
        self.index.get(&("GET", &*operation.template)).copied()
    }

    fn changes_what_is_read(&self, operation: &Operation) -> bool {
        let object_body = operation.body.as_ref().is_some_and(|body| self.definitions.object(&body.schema).is_some());
        let read = self.read_of(operation).and_then(|read| read.success.schema.as_ref());
        object_body
            && read.is_some_and(|schema| {
                self.definitions.object(schema).is_some() && shape(self.definitions, schema).is_none()
            })
    }

    /// A POST that answers with the very definition that a GET on the same path answers with.
    fn repeats_what_is_read(&self, operation: &Operation) -> bool {
        let answered = operation.success.schema.as_ref().and_then(definition);
        let read = self.read_of(operation).and_then(|read| read.success.schema.as_ref()).and_then(definition);
        answered.is_some() && answered == read && self.changes_what_is_read(operation)
    }
}

fn definition(schema: &Schema) -> Option<DefinitionId> {
    match schema {
        Schema::Reference(id) => Some(*id),
        _ => None,
    }
}

/// Where a response has list elements.
pub(crate) fn shape(definitions: &Definitions, schema: &Schema) -> Option<Shape> {
    match definitions.resolve(schema) {
        Schema::Array(array) => Some(Shape { property: None, items: array.items.clone() }),
        Schema::Object(object) => ELEMENT_PROPERTIES.iter().find_map(|name| {
            let property = object.property(name)?;
            let Schema::Array(array) = definitions.resolve(&property.schema) else { return None };
            // An entity may have a list called `values`; a listing has no identity of its own.
            let listing = *name == "entities" || object.property("id").is_none();
            listing.then(|| Shape { property: Some(Arc::clone(&property.name)), items: array.items.clone() })
        }),
        _ => None,
    }
}
