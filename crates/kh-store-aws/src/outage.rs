//! Credentials, with whether their source was out of service when there were none.
//!
//! The SDK's providers tell why there are no credentials in words, or in types of clients that are none of ours. So the
//! answers themselves are looked at, as they pass through the transport.
//!
//! Invariant: a source that answers "not now" is never told as one that says "no". Its last answer counts: one that was
//! busy first and then refused has refused. A source that nobody answers for is none, as on a machine outside EC2.

use std::{cell::Cell, error::Error as StdError, fmt};

use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, SharedCredentialsProvider, error::CredentialsError, future},
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use crate::failure::not_now;

tokio::task_local! {
    /// What the last answer to this fetching of credentials told, if it was "not now".
    static LAST: Cell<Option<String>>;
}

/// Takes note of an answer, if credentials are being fetched.
pub(crate) fn note(response: &HttpResponse) {
    let _of_another_call = LAST.try_with(|last| last.set(not_now(response)));
}

/// The source of credentials is out of service or has too much to do.
#[derive(Debug)]
pub(crate) struct Outage {
    answer: String,
    source: CredentialsError,
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "their source does not serve at the moment: {}", self.answer)
    }
}

impl StdError for Outage {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.source)
    }
}

/// A provider whose failures hold an [`Outage`] where there was one.
#[derive(Debug)]
pub(crate) struct Watched(pub(crate) SharedCredentialsProvider);

impl ProvideCredentials for Watched {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let fetching = async move {
            let found = self.0.provide_credentials().await;
            match (found, LAST.with(Cell::take)) {
                (Err(source), Some(answer)) => Err(CredentialsError::provider_error(Outage { answer, source })),
                (found, _) => found,
            }
        };
        future::ProvideCredentials::new(LAST.scope(Cell::default(), fetching))
    }

    fn fallback_on_interrupt(&self) -> Option<Credentials> {
        self.0.fallback_on_interrupt()
    }
}

#[cfg(test)]
mod tests {
    use aws_smithy_runtime_api::http::StatusCode;
    use aws_smithy_types::body::SdkBody;

    use super::*;
    use crate::failure::passes;

    /// A provider that sees these answers and then has no credentials.
    #[derive(Debug)]
    struct Answers(&'static [u16]);

    impl ProvideCredentials for Answers {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            future::ProvideCredentials::new(async move {
                for status in self.0 {
                    note(&HttpResponse::new(StatusCode::try_from(*status).unwrap(), SdkBody::empty()));
                }
                Err(CredentialsError::not_loaded("there are none"))
            })
        }
    }

    #[tokio::test]
    async fn the_last_answer_to_a_fetching_counts() {
        let cases: [(&'static [u16], bool); 6] = [
            (&[], false),
            (&[404], false),
            (&[503], true),
            (&[503, 403], false),
            (&[403, 503], true),
            (&[503, 200], false),
        ];
        for (answers, outage) in cases {
            let watched = Watched(SharedCredentialsProvider::new(Answers(answers)));
            let error = watched.provide_credentials().await.unwrap_err();
            assert_eq!(passes(&error), outage, "{answers:?}");
        }
    }
}
