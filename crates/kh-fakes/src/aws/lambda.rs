//! The two Lambda operations that a refresh of consumers needs. Source: service model `lambda/2015-03-31` as botocore
//! 1.44.5 ships it ("model" below), and "Lambda function states" in its developer guide.
//!
//! Invariant: while an update is under way the function cannot be changed.

use std::collections::BTreeMap;

use http::Method;
use serde_json::{Map, Value as Json, json};

use super::wire::{Members, Refusal};
use crate::fake::Reply;

/// The operation that changes.
pub(super) const UPDATE: &str = "UpdateFunctionConfiguration";
/// Model, `Description.max`.
const DESCRIPTION_MAX: usize = 256;
/// Developer guide, "Lambda quotas": all environment variables together, 4 KB.
const ENVIRONMENT_MAX: usize = 4096;

/// One function.
#[derive(Clone, Debug, Default)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: String,
    /// Its environment variables.
    pub variables: BTreeMap<String, String>,
    /// Changes with every update.
    pub revision: u64,
    /// Reads that still tell `InProgress` after an update.
    pub update_reads: u32,
    /// Reads left of the update under way.
    pub reads_left: u32,
    /// Why updates fail; none when they succeed.
    pub fails: Option<&'static str>,
    /// Whether the last update has failed.
    pub failed: bool,
    /// Updates so far.
    pub updates: u64,
}

/// The operation and the function that a request is about.
pub(super) fn operation<'a>(method: &Method, path: &'a str) -> Option<(&'static str, &'a str)> {
    let name = path.strip_prefix("/2015-03-31/functions/")?.strip_suffix("/configuration")?;
    match *method {
        Method::GET => Some(("GetFunctionConfiguration", name)),
        Method::PUT => Some((UPDATE, name)),
        _ => None,
    }
}

/// Performs a request.
pub(super) fn perform(
    functions: &mut BTreeMap<String, Function>,
    method: &Method,
    path: &str,
    body: &[u8],
) -> Result<Reply, Refusal> {
    let (operation, name) = operation(method, path)
        .ok_or_else(|| Refusal { status: 404, ..Refusal::new("UnknownOperationException", "") })?;
    let function = functions.get_mut(name).ok_or_else(|| Refusal {
        status: 404,
        ..Refusal::new("ResourceNotFoundException", &format!("Function not found: {name}"))
    })?;
    if operation == UPDATE {
        update(function, body)?;
    } else if function.reads_left > 0 {
        function.reads_left -= 1;
    }
    Ok(told(function))
}

fn update(function: &mut Function, body: &[u8]) -> Result<(), Refusal> {
    let members = Members::parse(body, &["Description", "Environment", "RevisionId"])?;
    // Model: "During this time, you can't modify the function"; ResourceConflictException is 409.
    if function.reads_left > 0 {
        return Err(Refusal {
            status: 409,
            ..Refusal::new(
                "ResourceConflictException",
                "The operation cannot be performed at this time. An update is in progress for resource.",
            )
        });
    }
    // Model, `RevisionId`: "Update the function only if the revision ID matches"; PreconditionFailedException is 412.
    if members.text("RevisionId", 0, 64)?.is_some_and(|wanted| wanted != function.revision.to_string()) {
        return Err(Refusal {
            status: 412,
            ..Refusal::new(
                "PreconditionFailedException",
                "The Revision Id provided does not match the latest Revision Id.",
            )
        });
    }
    let invalid = |message: &str| Refusal::new("InvalidParameterValueException", message);
    let description = members.text("Description", 0, DESCRIPTION_MAX)?.map(str::to_owned);
    let variables = match members.raw("Environment").and_then(|environment| environment.get("Variables")) {
        None => None,
        Some(Json::Object(variables)) => Some(checked(variables)?),
        Some(_) => return Err(invalid("Variables is not a map.")),
    };
    if let Some(description) = description {
        function.description = description;
    }
    if let Some(variables) = variables {
        // The map replaces the whole environment.
        function.variables = variables;
    }
    function.revision += 1;
    function.updates += 1;
    function.reads_left = function.update_reads;
    function.failed = function.fails.is_some();
    Ok(())
}

fn checked(variables: &Map<String, Json>) -> Result<BTreeMap<String, String>, Refusal> {
    let invalid = |message: &str| Refusal::new("InvalidParameterValueException", message);
    let mut all = BTreeMap::new();
    let mut size = 0;
    for (name, value) in variables {
        let value = value.as_str().ok_or_else(|| invalid("A variable is not text."))?;
        // Model, `EnvironmentVariableName.pattern`.
        let mut letters = name.bytes();
        let good = name.len() > 1
            && letters.next().is_some_and(|first| first.is_ascii_alphabetic())
            && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == b'_');
        if !good {
            return Err(invalid("A variable's name is not valid."));
        }
        size += name.len() + value.len();
        all.insert(name.clone(), value.to_owned());
    }
    if size > ENVIRONMENT_MAX {
        return Err(invalid("Lambda was unable to configure your environment variables: they exceed the 4KB limit."));
    }
    Ok(all)
}

fn told(function: &Function) -> Reply {
    let status = match (function.reads_left, function.failed) {
        (0, false) => "Successful",
        (0, true) => "Failed",
        _ => "InProgress",
    };
    let mut body = json!({
        "FunctionName": function.name,
        "FunctionArn": format!("arn:aws:lambda:eu-central-1:000000000000:function:{}", function.name),
        "Description": function.description,
        "Environment": {"Variables": function.variables},
        "RevisionId": function.revision.to_string(),
        "State": "Active",
        "LastUpdateStatus": status,
    });
    if status == "Failed"
        && let Some(reason) = function.fails
    {
        body["LastUpdateStatusReasonCode"] = json!(reason);
    }
    Reply::json(200, &body)
}
