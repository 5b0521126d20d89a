//! What the document says about a request: required parameters, parameter values, body. Invariant: a request that is
//! let through has a body of the documented kind; nothing here is stricter than the document.

mod body;

use std::borrow::Cow;

use serde_json::Value;

use super::document::{Operation, Parameter};
use super::schema::{Definitions, Schema};
use super::synthesis::Synthesis;
use super::{Context, RequestView};
use crate::error_body::ErrorBody;

/// Most query pairs that are looked at: more than any operation has parameters, and a bound on the work.
const MAX_QUERY_PAIRS: usize = 1024;

/// A request that passed.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) query: Query<'a>,
    /// The JSON body; `None` for an absent, empty or `null` one, and for bodies that are not JSON.
    pub(crate) body: Option<Value>,
}

/// The decoded query.
#[derive(Debug)]
pub(crate) struct Query<'a> {
    pairs: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> Query<'a> {
    fn parse(raw: &'a str) -> Self {
        Self { pairs: url::form_urlencoded::parse(raw.as_bytes()).take(MAX_QUERY_PAIRS).collect() }
    }

    /// The first value of a parameter; an empty one counts as absent.
    pub(crate) fn first(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All values of a parameter, also those in one comma-separated list.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let of_name = self.pairs.iter().filter(move |(key, _)| key == name);
        of_name.flat_map(|(_, value)| value.split(',')).filter(|value| !value.is_empty())
    }

    /// The pairs whose names are not among `replaced`, for links to other pages.
    pub(crate) fn without<'b>(&'b self, replaced: &'b [&str]) -> impl Iterator<Item = (&'b str, &'b str)> {
        self.pairs.iter().filter(|(key, _)| !replaced.contains(&&**key)).map(|(key, value)| (&**key, &**value))
    }
}

/// Checks a request against its operation.
pub(crate) fn check<'a>(
    definitions: &Definitions,
    operation: &Operation,
    view: &RequestView<'a>,
    context: &Context<'_>,
) -> Result<Request<'a>, Box<ErrorBody>> {
    let query = Query::parse(view.query);
    for parameter in operation.parameters.iter().filter(|parameter| parameter.in_query) {
        check_parameter(definitions, parameter, &query, context)?;
    }
    let body = body::check(definitions, operation, view, context)?;
    Ok(Request { query, body })
}

fn check_parameter(
    definitions: &Definitions,
    parameter: &Parameter,
    query: &Query<'_>,
    context: &Context<'_>,
) -> Result<(), Box<ErrorBody>> {
    let name = &parameter.name;
    let Some(first) = query.first(name) else {
        if !parameter.required || parameter.default.is_some() {
            return Ok(());
        }
        let reason = format!("The query parameter {name} is required.");
        return Err(Box::new(ErrorBody::bad_request(reason, context.correlation_id).detail("required", name)));
    };
    match definitions.resolve(&parameter.schema) {
        Schema::Integer(rules) => {
            #[expect(clippy::cast_precision_loss, reason = "only compared with small bounds")]
            let accepted = first.trim().parse::<i64>().is_ok_and(|value| rules.accepts(value as f64));
            if accepted {
                Ok(())
            } else {
                Err(invalid_parameter(name, first, "whole numbers within the documented range", context))
            }
        }
        Schema::Text(rules) if !rules.allowed.is_empty() => {
            let known =
                query.all(name).all(|value| rules.allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(value)));
            if known { Ok(()) } else { Err(invalid_parameter(name, first, &rules.allowed.join(", "), context)) }
        }
        _ => Ok(()),
    }
}

/// The published `invalid.query.param.value`.
pub(crate) fn invalid_parameter(name: &str, value: &str, allowed: &str, context: &Context<'_>) -> Box<ErrorBody> {
    let template = "Value [{value}] is not valid for parameter [{parameter}]. Allowable values are: {allowed}";
    let shown: String = value.chars().take(200).collect();
    let params = [("value", shown.as_str()), ("parameter", name), ("allowed", allowed)];
    let body = ErrorBody::with_params(400, "invalid.query.param.value", template, &params, context.correlation_id);
    Box::new(body.detail("invalid.query.param.value", name))
}

/// A query with all required parameters.
pub(crate) fn sample_query(definitions: &Definitions, operation: &Operation, seed: u64) -> String {
    let synthesis = Synthesis::new(definitions, seed);
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for parameter in operation.parameters.iter().filter(|parameter| parameter.in_query && parameter.required) {
        let value = match definitions.resolve(&parameter.schema) {
            Schema::Array(array) => synthesis.rich(&array.items),
            _ => synthesis.rich(&parameter.schema),
        };
        let text = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        query.append_pair(&parameter.name, &text);
    }
    query.finish()
}
