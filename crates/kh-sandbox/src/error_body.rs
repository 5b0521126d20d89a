//! The error envelope of the Genesys Cloud Platform API (`ErrorBody` of the published document). Invariant: whatever is
//! built here validates against that definition, because SDKs parse it on every non-2xx answer.

use std::collections::BTreeMap;

use serde::Serialize;

/// One `Detail` of an [`ErrorBody`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Detail {
    /// A machine-readable code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    /// The field of the request that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field_name: Option<String>,
    /// The entity concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entity_id: Option<String>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entity_name: Option<String>,
}

/// Which published limit was met (`Limit` of the published document); sent with a 429.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Limit {
    /// The limit's key, e.g. `token.rate.per.minute`.
    pub key: String,
    /// One of the document's namespaces, e.g. `platform.api`.
    pub namespace: String,
    /// The limit's value.
    pub value: i64,
}

/// The platform's answer to a call that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorBody {
    /// For people: parameters filled in.
    pub message: String,
    /// For programs, e.g. `missing.any.permissions`.
    pub code: String,
    /// The HTTP status, repeated.
    pub status: u16,
    /// The entity concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entity_id: Option<String>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entity_name: Option<String>,
    /// The message with `{name}` placeholders.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_with_params: Option<String>,
    /// What the placeholders stand for.
    pub message_params: BTreeMap<String, String>,
    /// The correlation id, the same as in the `ININ-Correlation-Id` header.
    pub context_id: String,
    /// Details per field.
    pub details: Vec<Detail>,
    /// Errors below this one.
    pub errors: Vec<ErrorBody>,
    /// The limit that was met.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
}

impl ErrorBody {
    /// An error with the members that every platform error has. `correlation_id` becomes `contextId`.
    pub fn new(status: u16, code: impl Into<String>, message: impl Into<String>, correlation_id: &str) -> Self {
        Self {
            message: message.into(),
            code: code.into(),
            status,
            entity_id: None,
            entity_name: None,
            message_with_params: None,
            message_params: BTreeMap::new(),
            context_id: correlation_id.to_owned(),
            details: Vec::new(),
            errors: Vec::new(),
            limit: None,
        }
    }

    /// An error whose message is `template` with every `{name}` replaced by its parameter.
    pub fn with_params(status: u16, code: &str, template: &str, params: &[(&str, &str)], correlation_id: &str) -> Self {
        let message =
            params.iter().fold(template.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value));
        let mut body = Self::new(status, code, message, correlation_id);
        body.message_with_params = Some(template.to_owned());
        body.message_params = params.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        body
    }

    /// 404 `not.found`: "The requested resource was not found."
    pub fn not_found(correlation_id: &str) -> Self {
        Self::new(404, "not.found", "The requested resource was not found.", correlation_id)
    }

    /// 400 `bad.request` with the reason as its message.
    pub fn bad_request(reason: impl Into<String>, correlation_id: &str) -> Self {
        Self::new(400, "bad.request", reason, correlation_id)
    }

    /// Adds the field that is wrong.
    pub fn detail(mut self, error_code: &str, field_name: &str) -> Self {
        self.details.push(Detail {
            error_code: Some(error_code.to_owned()),
            field_name: Some(field_name.to_owned()),
            ..Detail::default()
        });
        self
    }

    /// Adds the limit that was met.
    pub fn limit(mut self, key: &str, namespace: &str, value: i64) -> Self {
        self.limit = Some(Limit { key: key.to_owned(), namespace: namespace.to_owned(), value });
        self
    }

    /// As a JSON value.
    pub fn to_value(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("an error body has string keys only")
    }

    /// As JSON bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an error body has string keys only")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_filled_into_the_message_and_kept() {
        let body = ErrorBody::with_params(
            403,
            "missing.permissions",
            "You miss: {permissions}",
            &[("permissions", "[a:b:c]")],
            "c-1",
        );
        let value = body.to_value();
        assert_eq!(value["message"], "You miss: [a:b:c]");
        assert_eq!(value["messageWithParams"], "You miss: {permissions}");
        assert_eq!(value["messageParams"]["permissions"], "[a:b:c]");
        assert_eq!(value["contextId"], "c-1");
        assert_eq!(value["status"], 403);
        assert!(value.get("limit").is_none(), "absent members are left out, not null");
    }
}
