//! One request to the collector: newline-delimited JSON with a bearer token, compressed if wanted; and what its answer
//! means.
//!
//! Invariants: a redirect is not followed; of the answer nothing but its status and `Retry-After` is used, and nothing of
//! it is told; the token is read from where it lies, and again after a refusal or five minutes.

use std::{future::Future, io::Write, time::Duration};

use flate2::{Compression, write::GzEncoder};
use http::{HeaderValue, Method, header};
use kh_core::{
    SecretReference, SecretString,
    port::{BoxFuture, SecretSource},
};
use kh_net::http::{HttpClient, HttpError, OutBody, Request};
use parking_lot::Mutex;
use std::sync::Arc;
use url::Url;
use zeroize::Zeroizing;

use super::{Batch, SettingsError, settings::checked};

/// Largest answer that is read; nothing in it is used.
const ANSWER_MAX: usize = 64 * 1024;

/// How long a token is used without looking whether there is a newer one.
const TOKEN_FRESH: Duration = Duration::from_mins(5);

/// What became of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// The collector has the lines.
    Taken,
    /// It may work later, perhaps after this time: not reached, limited, 5xx.
    Later { wait: Option<Duration>, why: String },
    /// It will not work until somebody sets something right: token or address refused. The lines are kept.
    Held { why: String },
    /// The collector cannot take these lines (another 4xx).
    Refused { why: String },
}

/// Sends batches; exchanged in tests.
pub(crate) trait Post {
    /// Sends one batch once.
    fn post(&self, batch: &Batch) -> impl Future<Output = Verdict> + Send;
}

/// Reads a token, or says why there is none.
type ReadToken = dyn Fn() -> Result<SecretString, String> + Send + Sync;

/// Where the bearer token comes from. Blanks and line ends around it do not belong to it.
#[derive(Clone)]
pub struct BearerSource(Source);

#[derive(Clone)]
enum Source {
    Stored(Arc<dyn SecretSource>, SecretReference),
    Told(Arc<ReadToken>),
}

impl BearerSource {
    /// The document at `reference`; all of it is the token.
    pub fn new(source: Arc<dyn SecretSource>, reference: SecretReference) -> Self {
        Self(Source::Stored(source, reference))
    }

    /// What `read` answers, or why there is none. It is asked on the collector's own thread, each time that a token is
    /// wanted.
    pub fn reading(read: impl Fn() -> Result<SecretString, String> + Send + Sync + 'static) -> Self {
        Self(Source::Told(Arc::new(read)))
    }

    fn read(&self) -> BoxFuture<'_, Result<SecretString, String>> {
        Box::pin(async move {
            let text = match &self.0 {
                Source::Stored(source, reference) => {
                    let stored = source.read(reference).await.map_err(|error| error.to_string())?;
                    stored.value.into_text().ok_or("the collector's token is not UTF-8")?
                }
                Source::Told(read) => read()?,
            };
            let token = text.expose().trim();
            if token.is_empty() {
                return Err("the collector's token is empty".to_owned());
            }
            Ok(SecretString::copied(token))
        })
    }
}

/// The client of one collector.
pub struct CollectorClient {
    client: HttpClient,
    url: Url,
    gzip: bool,
    bearer: Option<BearerSource>,
    /// The token and when it was read, by the monotonic clock.
    token: Mutex<Option<(Arc<SecretString>, Duration)>>,
}

impl std::fmt::Debug for CollectorClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CollectorClient")
    }
}

impl CollectorClient {
    /// A client that posts to `url`.
    pub fn new(client: HttpClient, url: Url, gzip: bool, bearer: Option<BearerSource>) -> Result<Self, SettingsError> {
        Ok(Self { client, url: checked(url)?, gzip, bearer, token: Mutex::new(None) })
    }

    async fn token(&self) -> Result<Option<Arc<SecretString>>, String> {
        let Some(bearer) = &self.bearer else { return Ok(None) };
        let now = self.client.clock().now().mono;
        let fresh = self.token.lock().as_ref().filter(|(_, read)| now.saturating_sub(*read) < TOKEN_FRESH).cloned();
        if let Some((token, _)) = fresh {
            return Ok(Some(token));
        }
        let token = Arc::new(bearer.read().await?);
        *self.token.lock() = Some((Arc::clone(&token), now));
        Ok(Some(token))
    }

    fn request(&self, batch: &Batch, token: Option<&SecretString>) -> Result<Request, String> {
        let body =
            if self.gzip { compressed(&batch.body).map_err(|error| error.to_string())? } else { batch.body.to_vec() };
        let mut request = Request::new(Method::POST, self.url.clone())
            .body(OutBody::new("application/x-ndjson", Zeroizing::new(body)))
            .answer_max(ANSWER_MAX);
        if self.gzip {
            request = request.header(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        match token {
            Some(token) => request.bearer(token).map_err(|error| error.to_string()),
            None => Ok(request),
        }
    }
}

fn compressed(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
}

impl Post for CollectorClient {
    async fn post(&self, batch: &Batch) -> Verdict {
        let token = match self.token().await {
            Ok(token) => token,
            Err(why) => return Verdict::Held { why },
        };
        let request = match self.request(batch, token.as_deref()) {
            Ok(request) => request,
            Err(why) => return Verdict::Held { why },
        };
        match self.client.send(request).await {
            Ok(answer) => {
                let verdict = judge(answer.head.status, answer.head.retry_after());
                if answer.head.status == 401 {
                    *self.token.lock() = None;
                }
                verdict
            }
            Err(error @ (HttpError::Address | HttpError::NotAllowed | HttpError::Header)) => {
                Verdict::Held { why: error.to_string() }
            }
            // too long an answer is an answer; the lines may be sent twice
            Err(
                error @ (HttpError::Connect { .. }
                | HttpError::Timeout { .. }
                | HttpError::Broken
                | HttpError::TooLarge { .. }),
            ) => Verdict::Later { wait: None, why: error.to_string() },
        }
    }
}

/// What a status means (RFC 9110 section 15, RFC 6585 section 4, RFC 8470 section 5.2).
fn judge(status: u16, retry_after: Option<Duration>) -> Verdict {
    let why = format!("it answered {status}");
    match status {
        200..=299 => Verdict::Taken,
        408 | 425 | 429 | 500..=599 => Verdict::Later { wait: retry_after, why },
        // about who asks and where, not about what is sent
        300..=399 | 401 | 402 | 403 | 404 | 405 | 407 | 410 | 421 | 426 | 451 => Verdict::Held { why },
        400..=499 => Verdict::Refused { why },
        _ => Verdict::Later { wait: None, why },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_token_is_read_when_it_is_wanted_and_what_is_wrong_with_it_is_told() {
        let told: Arc<Mutex<Result<&str, &str>>> = Arc::new(Mutex::new(Ok(" a-token\n")));
        let answers = Arc::clone(&told);
        let bearer = BearerSource::reading(move || {
            let answer = *answers.lock();
            answer.map(SecretString::copied).map_err(str::to_owned)
        });
        assert_eq!(bearer.read().await.unwrap().expose(), "a-token");
        for (now, why) in [(Err("it is gone"), "it is gone"), (Ok("\n"), "the collector's token is empty")] {
            *told.lock() = now;
            assert_eq!(bearer.read().await.err().as_deref(), Some(why));
        }
    }

    #[test]
    fn statuses() {
        let wait = Some(Duration::from_secs(7));
        for (status, kind) in [
            (200, "taken"),
            (202, "taken"),
            (204, "taken"),
            (301, "held"),
            (307, "held"),
            (400, "refused"),
            (401, "held"),
            (403, "held"),
            (404, "held"),
            (408, "later"),
            (413, "refused"),
            (415, "refused"),
            (422, "refused"),
            (429, "later"),
            (500, "later"),
            (501, "later"),
            (503, "later"),
            (100, "later"),
            (600, "later"),
        ] {
            let found = match judge(status, wait) {
                Verdict::Taken => "taken",
                Verdict::Later { .. } => "later",
                Verdict::Held { .. } => "held",
                Verdict::Refused { .. } => "refused",
            };
            assert_eq!(found, kind, "{status}");
        }
        assert_eq!(judge(429, wait), Verdict::Later { wait, why: "it answered 429".to_owned() });
    }
}
