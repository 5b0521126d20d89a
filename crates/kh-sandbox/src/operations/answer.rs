//! One call, answered. Invariant: a 2xx body is always the result of fitting to, or making up from, the operation's own
//! response schema.

use serde_json::{Map, Value};

use super::collection::{ChosenId, Role, Rule, Shape, shape};
use super::complete::{Completion, Stamp, new_state};
use super::conform::Conform;
use super::document::{Document, Operation};
use super::listing::{self, Page};
use super::mix::{mix, uuid};
use super::path::{concrete, decode, encode, split_last};
use super::request::{self, Request};
use super::route::is_parameter;
use super::schema::{ObjectSchema, Schema};
use super::store::{EntityStore, Known, StoreError};
use super::synthesis::Synthesis;
use super::{Answer, AnswerBody, Context, Found, RequestView};
use crate::error_body::ErrorBody;

/// Elements in a made-up listing.
const MADE_UP_ELEMENTS: u64 = 2;

type Outcome = Result<Answer, Box<ErrorBody>>;

/// Answers a call.
pub(super) fn answer(
    document: &Document,
    store: &EntityStore,
    found: &Found,
    view: &RequestView<'_>,
    context: &Context<'_>,
) -> Answer {
    let operation = &*found.operation;
    let checked = request::check(&document.definitions, operation, view, context);
    let outcome = checked.and_then(|request| {
        let path = concrete(&operation.template, &found.values);
        let stored_at = concrete(&operation.target.storage, &found.values);
        Call { document, store, operation, request: &request, context, path, stored_at }.answer()
    });
    outcome.unwrap_or_else(|error| Answer::error(&error))
}

struct Call<'a> {
    document: &'a Document,
    store: &'a EntityStore,
    operation: &'a Operation,
    request: &'a Request<'a>,
    context: &'a Context<'a>,
    /// The path of the call.
    path: String,
    /// The path under which its subject is stored.
    stored_at: String,
}

impl<'a> Call<'a> {
    fn answer(&self) -> Outcome {
        self.check_ancestors()?;
        match &self.operation.role {
            Role::Create(rule) => self.create(rule),
            Role::CreateMany(rule) => self.create_many(rule),
            Role::List(Some(rule), shape) => self.list_stored(rule, shape),
            Role::List(None, shape) => self.list_made_up(shape),
            Role::Read => self.read(),
            Role::Update => self.update(),
            Role::Delete => self.delete(),
            Role::Other => Ok(self.act()),
        }
    }

    fn not_found(&self) -> Box<ErrorBody> {
        Box::new(ErrorBody::not_found(self.context.correlation_id))
    }

    fn refused(&self, error: StoreError) -> Box<ErrorBody> {
        let correlation_id = self.context.correlation_id;
        Box::new(match error {
            StoreError::Exists => {
                let message = "The request conflicts with the current state of the target resource.";
                ErrorBody::new(409, "request.conflict", message, correlation_id)
            }
            StoreError::Full => {
                let message = "The sandbox's entity store is full. Delete entities or raise its limits.";
                ErrorBody::new(400, "sandbox.store.full", message, correlation_id)
            }
        })
    }

    /// 404 when an entity above the subject does not exist.
    fn check_ancestors(&self) -> Result<(), Box<ErrorBody>> {
        for segments in &self.operation.target.ancestors {
            let end = self.stored_at.match_indices('/').nth(*segments).map_or(self.stored_at.len(), |(at, _)| at);
            let (collection, id) = split_last(self.stored_at.get(..end).unwrap_or_default());
            if !matches!(self.store.find(collection, id), Known::Here(_)) {
                return Err(self.not_found());
            }
        }
        Ok(())
    }

    /// Where the subject is stored: an entity by its id, a single document under its whole path.
    fn key(&self) -> (&str, &str) {
        let is_item = self.operation.target.storage.rsplit('/').next().is_some_and(is_parameter);
        if is_item { split_last(&self.stored_at) } else { (&self.stored_at, "") }
    }

    fn seed(&self) -> u64 {
        self.store.seed_of(&self.stored_at)
    }

    fn stamp(&self) -> Stamp<'a> {
        Stamp { now: self.context.now, caller_id: self.context.caller_id }
    }

    fn completion(&self, schemas: &[&'a Schema]) -> Completion<'a> {
        let definitions = &self.document.definitions;
        Completion { definitions, schemas: schemas.iter().filter_map(|schema| definitions.object(schema)).collect() }
    }

    /// The success answer with `state` fitted to the response schema.
    fn succeed_with(&self, state: &Value) -> Answer {
        let Some(schema) = &self.operation.success.schema else { return self.finish(None) };
        let fitted = Conform::new(&self.document.definitions, self.seed()).fit(schema, state);
        self.finish(Some(fitted.unwrap_or_else(|| self.make_up(schema))))
    }

    fn make_up(&self, schema: &Schema) -> Value {
        Synthesis::new(&self.document.definitions, self.seed()).rich(schema)
    }

    fn finish(&self, body: Option<Value>) -> Answer {
        let success = &self.operation.success;
        let body = match body {
            Some(_) if &*self.operation.method == "HEAD" || success.schema.is_none() => AnswerBody::Empty,
            None => AnswerBody::Empty,
            Some(Value::String(text)) if success.content_type.starts_with("text/") => {
                AnswerBody::Text(success.content_type, text)
            }
            Some(value) => AnswerBody::Json(success.content_type, value),
        };
        Answer { status: success.status, body }
    }

    fn create(&self, rule: &Rule) -> Outcome {
        let request = self.request.body.as_ref().and_then(Value::as_object).cloned().unwrap_or_default();
        let state = self.bring_to_life(rule, request)?;
        Ok(self.succeed_with(&state))
    }

    fn create_many(&self, rule: &Rule) -> Outcome {
        let elements = match &self.request.body {
            Some(Value::Array(elements)) => elements.clone(),
            Some(one @ Value::Object(_)) => vec![one.clone()],
            _ => Vec::new(),
        };
        let maps = elements.into_iter().filter_map(|element| match element {
            Value::Object(map) => Some(map),
            _ => None,
        });
        let taking_away =
            self.operation.parameter("delete").is_some() && self.request.query.first("delete") == Some("true");
        if taking_away {
            for id in maps.filter_map(|map| map.get(&*rule.id_property).and_then(id_text)) {
                self.store.remove(&self.stored_at, &encode(&id));
            }
            return Ok(self.act());
        }
        let states = maps.map(|map| self.bring_to_life(rule, map)).collect::<Result<Vec<_>, _>>()?;
        Ok(self.succeed_with(&Value::Array(states)))
    }

    /// Makes an entity of a request, stores it and returns its state.
    fn bring_to_life(&self, rule: &Rule, request: Map<String, Value>) -> Result<Value, Box<ErrorBody>> {
        let given = if rule.chosen_id == ChosenId::Never { None } else { request.get(&*rule.id_property) };
        let chosen = given.and_then(id_text);
        let id = chosen.unwrap_or_else(|| self.store.draw_id(&self.stored_at, rule.integer_id));
        let state =
            new_state(&self.document.definitions, rule, request, &self.stored_at, &id, self.stamp(), self.seed());
        let stored = match rule.chosen_id {
            ChosenId::Always => self.store.upsert(&self.stored_at, &encode(&id), |_| state.clone()).map(drop),
            ChosenId::Never | ChosenId::Optional => self.store.insert(&self.stored_at, &encode(&id), state.clone()),
        };
        stored.map_err(|error| self.refused(error))?;
        Ok(state)
    }

    fn list_stored(&self, rule: &Rule, shape: &Shape) -> Outcome {
        let mut entities = self.store.list(&self.stored_at);
        listing::filter(self.operation, &self.request.query, &rule.id_property, &mut entities);
        let page =
            Page::of(&self.document.definitions, self.operation, &self.request.query, entities.len(), self.context)?;
        let conform = Conform::new(&self.document.definitions, self.seed());
        let shown = page.cut(&entities).iter().filter_map(|state| conform.fit(&shape.items, state)).collect();
        Ok(self.finish_listing(shape, shown, &page))
    }

    /// A listing of things that nobody can create: always the same few, readable by their ids.
    fn list_made_up(&self, shape: &Shape) -> Outcome {
        let definitions = &self.document.definitions;
        let object = definitions.object(&shape.items);
        let identified = object
            .and_then(|object| object.property("id"))
            .is_some_and(|id| matches!(definitions.resolve(&id.schema), Schema::Text(_)));
        let mut elements: Vec<Value> = Vec::new();
        for number in 0..MADE_UP_ELEMENTS {
            let id = uuid(mix(self.seed(), number));
            let path = format!("{}/{id}", self.stored_at);
            let mut element = Synthesis::new(definitions, self.store.seed_of(&path)).rich(&shape.items);
            if let (true, Value::Object(map)) = (identified, &mut element) {
                self.completion(&[&shape.items]).identify_plain(map, &id, &path);
            }
            if !elements.contains(&element) {
                elements.push(element);
            }
        }
        let page = Page::of(definitions, self.operation, &self.request.query, elements.len(), self.context)?;
        let shown = page.cut(&elements).to_vec();
        Ok(self.finish_listing(shape, shown, &page))
    }

    fn finish_listing(&self, shape: &Shape, shown: Vec<Value>, page: &Page) -> Answer {
        let (Some(property), Some(schema)) = (&shape.property, &self.operation.success.schema) else {
            return self.succeed_with(&Value::Array(shown));
        };
        let mut body = Map::new();
        body.insert(property.to_string(), Value::Array(shown));
        if let Some(object) = self.document.definitions.object(schema) {
            page.describe(object, &self.document.definitions, &self.path, &self.request.query, &mut body);
        }
        self.succeed_with(&Value::Object(body))
    }

    fn read(&self) -> Outcome {
        let (collection, id) = self.key();
        match self.store.find(collection, id) {
            Known::Here(state) => Ok(self.succeed_with(&state)),
            Known::Gone => Err(self.not_found()),
            Known::Never if self.operation.target.rule.is_some() => Err(self.not_found()),
            Known::Never => {
                Ok(self.finish(self.operation.success.schema.as_ref().map(|schema| self.document_of(schema))))
            }
        }
    }

    /// The stable body of something that nobody created.
    fn document_of(&self, schema: &Schema) -> Value {
        let mut value = self.make_up(schema);
        let (_, id) = self.key();
        let definitions = &self.document.definitions;
        if let (Value::Object(map), Some(object)) = (&mut value, definitions.object(schema)) {
            if shape(definitions, schema).is_none() {
                Completion { definitions, schemas: vec![object] }.identify_plain(map, &decode(id), &self.path);
            } else {
                self.settle_paging(object, schema, map);
            }
        }
        // Ids may be bound to a form (a pattern) that this one does not have: then the made-up one stays.
        Conform::new(definitions, self.seed()).fit(schema, &value).unwrap_or_else(|| self.make_up(schema))
    }

    fn settle_paging(&self, object: &ObjectSchema, schema: &Schema, map: &mut Map<String, Value>) {
        let definitions = &self.document.definitions;
        let Some(property) = shape(definitions, schema).and_then(|shape| shape.property) else { return };
        let count = map.get(&*property).and_then(Value::as_array).map_or(0, Vec::len);
        if let Ok(page) = Page::of(definitions, self.operation, &self.request.query, count, self.context) {
            page.describe(object, definitions, &self.path, &self.request.query, map);
        }
    }

    fn update(&self) -> Outcome {
        let (collection, id) = self.key();
        let known = self.store.find(collection, id);
        let base = match known {
            Known::Here(_) => None,
            Known::Gone => return Err(self.not_found()),
            Known::Never if self.operation.target.rule.is_some() => return Err(self.not_found()),
            Known::Never => self.read_schema().map(|schema| self.document_of(schema)),
        };
        let schemas: Vec<&Schema> =
            self.read_schema().into_iter().chain(self.operation.success.schema.as_ref()).collect();
        let completion = self.completion(&schemas);
        let request = self.request.body.as_ref().and_then(Value::as_object).cloned().unwrap_or_default();
        let id_property = self.operation.target.rule.as_ref().map_or("id", |rule| &*rule.id_property);
        let change = |old: Option<&Value>| {
            let old = old.or(base.as_ref()).and_then(Value::as_object).cloned().unwrap_or_default();
            self.changed(&completion, &old, request, id_property, &schemas)
        };
        let state = self.store.upsert(collection, id, change).map_err(|error| self.refused(error))?;
        Ok(self.succeed_with(&state))
    }

    /// `old` with the request's members laid over it; identity stays.
    fn changed(
        &self,
        completion: &Completion<'_>,
        old: &Map<String, Value>,
        request: Map<String, Value>,
        id_property: &str,
        schemas: &[&Schema],
    ) -> Value {
        let mut state = old.clone();
        let cleared: Vec<String> =
            request.iter().filter(|(_, value)| value.is_null()).map(|(name, _)| name.clone()).collect();
        let mut given = request;
        completion.expand_references(&mut given);
        completion.strip_read_only(&mut given);
        for name in [id_property, "selfUri"] {
            given.remove(name);
        }
        let conform = Conform::new(&self.document.definitions, self.seed());
        let given = Value::Object(given);
        for schema in schemas {
            let Some(Value::Object(fitted)) = conform.fit(schema, &given) else { continue };
            let offered = fitted.into_iter().filter(|(name, _)| given.get(name).is_some());
            state.extend(offered);
        }
        for name in cleared.iter().filter(|name| *name != id_property) {
            state.remove(name);
        }
        if id_property != "version" {
            completion.next_version(&mut state, old);
        }
        completion.stamp_change(&mut state, self.stamp());
        Value::Object(state)
    }

    /// What a GET on the same path answers with.
    fn read_schema(&self) -> Option<&'a Schema> {
        if let Some(rule) = &self.operation.target.rule {
            return Some(&rule.item);
        }
        self.operation.target.read.as_ref()
    }

    fn delete(&self) -> Outcome {
        let (collection, id) = self.key();
        let was_here = self.store.remove(collection, id);
        let by_id = !id.is_empty();
        match self.store.find(collection, id) {
            Known::Gone => return Err(self.not_found()),
            _ if was_here => {}
            _ if self.operation.target.rule.is_some() => return Err(self.not_found()),
            _ if by_id && self.operation.target.read.is_some() => {
                self.store.bury(collection, id).map_err(|error| self.refused(error))?;
            }
            _ => {}
        }
        if was_here && by_id && self.operation.target.rule.is_none() {
            self.store.bury(collection, id).map_err(|error| self.refused(error))?;
        }
        Ok(self.act())
    }

    /// An action: the answer is made up, stable for its path.
    fn act(&self) -> Answer {
        self.finish(self.operation.success.schema.as_ref().map(|schema| self.document_of(schema)))
    }
}

fn id_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
