//! What the admin API reads and writes beside its own bodies: problems, and bodies and names that are refused with one.

use axum::{
    body::Body,
    extract::{
        FromRequest, FromRequestParts, Path, Request,
        rejection::{BytesRejection, JsonRejection},
    },
    http::{Response, StatusCode, request::Parts},
    response::IntoResponse,
};
use kh_core::{Code, Problem};
use kh_issuer::IssuerError;
use serde::Serialize;
use utoipa::ToSchema;

use crate::problem;

/// A problem document as the OpenAPI document describes it; what is sent is [`Problem`].
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemDocument {
    /// A URN of the code.
    r#type: String,
    /// The same for every occurrence of the code.
    title: String,
    /// The HTTP status.
    status: u16,
    /// What happened this time.
    detail: String,
    /// The stable code, such as `keyholder.not_found`.
    code: String,
    /// What to try.
    hints: Vec<String>,
}

/// What an operation refuses with.
pub(super) struct Refused(pub(super) Problem);

impl IntoResponse for Refused {
    fn into_response(self) -> Response<Body> {
        problem::answer(&self.0)
    }
}

impl From<IssuerError> for Refused {
    fn from(error: IssuerError) -> Self {
        let detail = match &error {
            // which rule, and what is wrong with it
            IssuerError::Allow(cause) => format!("{error}: {cause}"),
            _ => error.to_string(),
        };
        Self(Problem::new(error.code(), detail))
    }
}

/// A JSON body; one that does not fit is refused with a problem that says where.
pub(super) struct Given<T>(pub(super) T);

impl<T, S> FromRequest<S> for Given<T>
where
    axum::Json<T>: FromRequest<S, Rejection = JsonRejection>,
    S: Send + Sync,
{
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        let given = axum::Json::<T>::from_request(request, state).await;
        given.map(|axum::Json(body)| Self(body)).map_err(|error| unfit(error.status(), error.body_text()))
    }
}

/// The one name in a path; one that is not text is refused with a problem.
pub(super) struct Named(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let found = Path::<String>::from_request_parts(parts, state).await;
        found.map(|Path(name)| Self(name)).map_err(|error| unfit(error.status(), error.body_text()))
    }
}

impl From<BytesRejection> for Refused {
    fn from(error: BytesRejection) -> Self {
        unfit(error.status(), error.body_text())
    }
}

/// What axum refused, in our words: its status, and the code that goes with it.
fn unfit(status: StatusCode, detail: String) -> Refused {
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        return Refused(Problem::new(Code::REQUEST_TOO_LARGE, detail));
    }
    let mut refused = Problem::new(Code::REQUEST_MALFORMED, detail);
    refused.status = status.as_u16();
    Refused(refused)
}
