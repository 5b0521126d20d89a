//! A delivery hook that makes an AWS Lambda function start anew, so that it reads the new secret.
//!
//! A function that reads its secret when an execution environment starts keeps the old one as long as that environment
//! lives. A change of the function's configuration makes Lambda start new environments (developer guide, "Lambda
//! function states"). What is changed is the description: its end tells generation, fingerprint, the time of the
//! promotion and the delivery, no secret. The environment variables are left alone: changing one means to write all of
//! them back, and they may hold secrets of others.
//!
//! Invariants: the function is read first, and changed only against the revision that was read; a delivery that has
//! been made is not made again; a late delivery never takes the place of a newer one. Newer is what was promoted later:
//! a rollback makes an older generation live again.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use aws_credential_types::provider::ProvideCredentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningParams, SigningSettings, sign},
    sign::v4,
};
use aws_smithy_runtime_api::client::identity::Identity;
use http::{HeaderName, HeaderValue, Method};
use kh_core::{
    UnixMillis,
    credential::CredentialDocument,
    port::{
        BoxFuture, DeliveryHook,
        delivery::{HookError, Promotion},
    },
};
use kh_net::http::{Answer, OutBody, Request, printable};
use serde::{Deserialize, Serialize};
use tracing::{instrument::WithSubscriber, subscriber::NoSubscriber};
use url::Url;

use crate::{
    connect::Account,
    failure::{passes, without_credentials},
};

/// Longest description; service model `lambda/2015-03-31`, `Description`.
const DESCRIPTION_MAX: usize = 256;
/// Longest name of a function that is not an ARN; service model, `FunctionName`.
const NAME_MAX: usize = 64;
/// How long fetching credentials may take; the SDK has the same limit for its own calls.
const CREDENTIALS_WITHIN: Duration = Duration::from_secs(5);
/// How the mark begins.
const MARK: &str = "[keyholder generation ";

/// Why a hook cannot be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameError;

impl std::fmt::Display for NameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a function is named by 1 to {NAME_MAX} characters of a-z, A-Z, 0-9, - and _")
    }
}

impl std::error::Error for NameError {}

/// The hook.
pub struct LambdaRefresh {
    name: String,
    function: String,
    account: Arc<Account>,
}

/// What is read of a function's configuration. Its environment variables are skipped unread.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Function {
    #[serde(default)]
    description: String,
    revision_id: Option<String>,
    last_update_status: Option<String>,
    last_update_status_reason_code: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Change<'a> {
    description: &'a str,
    revision_id: Option<&'a str>,
}

/// What the end of a description tells.
#[derive(Debug, PartialEq, Eq)]
struct Mark {
    generation: u64,
    /// None in a mark of an earlier keyholder, which is older than any.
    promoted_at: Option<UnixMillis>,
    delivery: String,
}

impl Mark {
    /// The description without its mark, and the mark.
    fn split(description: &str) -> (&str, Option<Self>) {
        let Some((before, after)) = description.rsplit_once(MARK) else { return (description, None) };
        let mut words = after.trim_end_matches(']').split(' ');
        let generation = words.next().and_then(|word| word.parse().ok());
        let delivery = words.next_back().map(str::to_owned);
        let promoted_at = words.skip_while(|word| *word != "at").nth(1).and_then(|word| word.parse().ok());
        let promoted_at = promoted_at.map(UnixMillis);
        let mark = generation.zip(delivery).map(|(generation, delivery)| Self { generation, promoted_at, delivery });
        (before.trim_end(), mark)
    }
}

/// The description with the mark of `promotion`; without the fingerprint, which decides nothing, where room is short.
fn marked(description: &str, promotion: &Promotion) -> Option<String> {
    let Promotion { generation, fingerprint, delivery, promoted_at: UnixMillis(at), .. } = promotion;
    let marks = [
        format!("{MARK}{generation} fingerprint {fingerprint} at {at} delivery {delivery}]"),
        format!("{MARK}{generation} at {at} delivery {delivery}]"),
    ];
    let texts = marks.map(|mark| if description.is_empty() { mark } else { format!("{description} {mark}") });
    texts.into_iter().find(|text| text.chars().count() <= DESCRIPTION_MAX)
}

impl LambdaRefresh {
    /// Whether a function can be called so.
    pub fn check(function: &str) -> Result<(), NameError> {
        let letters = function.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        if function.is_empty() || function.len() > NAME_MAX || !letters {
            return Err(NameError);
        }
        Ok(())
    }

    /// What the hook does, in words.
    pub fn description(function: &str) -> String {
        format!("changes the description of the AWS Lambda function {function}, so that it starts anew")
    }

    /// A hook named `name` for `function` (its plain name) in the account's region.
    pub fn new(name: &str, function: &str, account: Arc<Account>) -> Result<Self, NameError> {
        Self::check(function)?;
        Ok(Self { name: name.to_owned(), function: function.to_owned(), account })
    }

    fn url(&self) -> Result<Url, HookError> {
        let settings = self.account.settings();
        let (region, service) = (&settings.region, if settings.fips { "lambda-fips" } else { "lambda" });
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let base = match &settings.endpoint {
            Some(endpoint) => endpoint.replace("{region}", region).replace("secretsmanager", "lambda"),
            None => format!("https://{service}.{region}.{domain}"),
        };
        let url = format!("{}/2015-03-31/functions/{}/configuration", base.trim_end_matches('/'), self.function);
        url.parse().map_err(|_| HookError::Refused("the endpoint is no address".to_owned()))
    }

    async fn run(&self, promotion: &Promotion) -> Result<String, HookError> {
        let mut identity = self.identity().await?;
        let found = self.settled(&mut identity).await?;
        let (description, mark) = Mark::split(&found.description);
        let failed = found.last_update_status.as_deref() == Some("Failed");
        // a mark ahead of now is of a clock that was: it keeps no later promotion out
        let now = self.account.transport().http().clock().now().wall;
        let is_past = |at: UnixMillis| at > promotion.promoted_at && at <= now;
        match mark {
            Some(mark) if mark.delivery == promotion.delivery.to_string() && !failed => {
                return Ok(format!("{} had this delivery before", self.function));
            }
            Some(mark) if mark.promoted_at.is_some_and(is_past) => {
                return Ok(format!(
                    "{} was refreshed after a later promotion already, that of generation {}",
                    self.function, mark.generation
                ));
            }
            _ => {}
        }
        let description = marked(description, promotion).ok_or_else(|| {
            HookError::Refused(format!("the description of {} leaves no room for the mark", self.function))
        })?;
        let change = Change { description: &description, revision_id: found.revision_id.as_deref() };
        self.call(&mut identity, Method::PUT, Some(&OutBody::json(&change))).await?;
        let after = self.settled(&mut identity).await?;
        match after.last_update_status.as_deref() {
            Some("Failed") => {
                let reason = after.last_update_status_reason_code.unwrap_or_default();
                Err(HookError::Transient(format!(
                    "Lambda could not update {}: {}",
                    self.function,
                    printable(&reason, 64)
                )))
            }
            _ => Ok(format!("{} starts anew with generation {}", self.function, promotion.generation)),
        }
    }

    /// The configuration once no update is under way; bounded.
    async fn settled(&self, identity: &mut Identity) -> Result<Function, HookError> {
        let settle = self.account.settings().settle;
        for look in 0..settle.updates.max(1) {
            if look > 0 {
                tokio::time::sleep(settle.pause).await;
            }
            let answer = self.call(identity, Method::GET, None).await?;
            let found: Function = serde_json::from_slice(&answer.body)
                .map_err(|_| HookError::Transient("Lambda's answer is not its JSON".to_owned()))?;
            if found.last_update_status.as_deref() != Some("InProgress") {
                return Ok(found);
            }
        }
        Err(HookError::Transient(format!("an update of {} is still under way", self.function)))
    }

    /// One call as `identity`; once more when the signature's time was refused, by the time that Lambda told, or when
    /// the credentials have expired, with new ones.
    async fn call(&self, identity: &mut Identity, method: Method, body: Option<&OutBody>) -> Result<Answer, HookError> {
        let now = self.account.transport().http().clock().now().wall;
        let answer = self.send(identity, &method, body, now).await?;
        let answer = match (kind(&answer), answer.head.date()) {
            ("InvalidSignatureException", Some(theirs)) => self.send(identity, &method, body, theirs).await?,
            ("ExpiredToken" | "ExpiredTokenException", _) => {
                *identity = self.identity().await?;
                self.send(identity, &method, body, now).await?
            }
            _ => answer,
        };
        if answer.head.status == 200 { Ok(answer) } else { Err(refusal(&answer)) }
    }

    async fn send(
        &self,
        identity: &Identity,
        method: &Method,
        body: Option<&OutBody>,
        at: UnixMillis,
    ) -> Result<Answer, HookError> {
        let url = self.url()?;
        let bytes = body.map_or(&[][..], OutBody::bytes);
        let mut request = Request::new(method.clone(), url.clone());
        for (name, value) in self.signature(identity, method, &url, bytes, at)? {
            request = request.header(name, value);
        }
        if body.is_some() {
            request = request.body(OutBody::new("application/json", zeroize::Zeroizing::new(bytes.to_vec())));
        }
        let http = self.account.transport().http();
        http.send(request).await.map_err(|error| HookError::Transient(error.to_string()))
    }

    fn signature(
        &self,
        identity: &Identity,
        method: &Method,
        url: &Url,
        body: &[u8],
        at: UnixMillis,
    ) -> Result<Vec<(HeaderName, HeaderValue)>, HookError> {
        let settings = &self.account.settings().region;
        let params: SigningParams<'_> = v4::SigningParams::builder()
            .identity(identity)
            .region(settings)
            .name("lambda")
            .time(UNIX_EPOCH + Duration::from_millis(at.0))
            .settings(SigningSettings::default())
            .build()
            .map_err(|_| HookError::Refused("the request cannot be signed".to_owned()))?
            .into();
        let unsigned = || HookError::Refused("the request cannot be signed".to_owned());
        let request =
            SignableRequest::new(method.as_str(), url.as_str(), std::iter::empty(), SignableBody::Bytes(body))
                .map_err(|_| unsigned())?;
        // The signer's trace events tell the request, and with a variable in the environment all of it.
        let signed = tracing::subscriber::with_default(NoSubscriber::default(), || sign(request, &params));
        let (instructions, _) = signed.map_err(|_| unsigned())?.into_parts();
        let mut headers = Vec::new();
        for (name, value) in instructions.headers() {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unsigned())?;
            let mut value = HeaderValue::from_str(value).map_err(|_| unsigned())?;
            value.set_sensitive(true);
            headers.push((name, value));
        }
        Ok(headers)
    }

    /// The credentials of one delivery. Their source may be another service, and is not asked for each request.
    async fn identity(&self) -> Result<Identity, HookError> {
        let fetching = self.account.credentials().provide_credentials().with_subscriber(NoSubscriber::default());
        match tokio::time::timeout(CREDENTIALS_WITHIN, fetching).await {
            Ok(Ok(credentials)) => Ok(credentials.into()),
            Ok(Err(error)) if passes(&error) => Err(HookError::Transient(without_credentials(&error))),
            Ok(Err(error)) => Err(HookError::Refused(without_credentials(&error))),
            Err(_elapsed) => Err(HookError::Transient("no AWS credentials came in time".to_owned())),
        }
    }
}

/// The refusal's type; the header may go on after a colon.
fn kind(answer: &Answer) -> &str {
    let value = answer.head.headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(':').next().unwrap_or_default()
}

fn refusal(answer: &Answer) -> HookError {
    let (status, kind) = (answer.head.status, printable(kind(answer), 64));
    let text = if kind.is_empty() { format!("status {status}") } else { format!("{kind} (status {status})") };
    match status {
        // Another update, another revision, too many requests, or a failure inside: later it may go.
        409 | 412 | 429 | 500..=599 => HookError::Transient(text),
        _ if kind.starts_with("Throttling") => HookError::Transient(text),
        _ => HookError::Refused(text),
    }
}

impl DeliveryHook for LambdaRefresh {
    fn name(&self) -> &str {
        &self.name
    }

    fn describe(&self) -> String {
        Self::description(&self.function)
    }

    fn deliver<'a>(
        &'a self,
        promotion: &'a Promotion,
        _document: &'a CredentialDocument,
    ) -> BoxFuture<'a, Result<String, HookError>> {
        Box::pin(self.run(promotion))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_read_back_and_replaced() {
        for (text, promoted_at) in [
            (
                "orders [keyholder generation 7 fingerprint 0123456789abcdef at 1790 delivery d-1]",
                Some(UnixMillis(1790)),
            ),
            ("orders [keyholder generation 7 at 1790 delivery d-1]", Some(UnixMillis(1790))),
            ("orders [keyholder generation 7 at noon delivery d-1]", None),
            ("orders [keyholder generation 7 fingerprint 0123456789abcdef delivery d-1]", None),
        ] {
            let mark = Mark { generation: 7, promoted_at, delivery: "d-1".to_owned() };
            assert_eq!(Mark::split(text), ("orders", Some(mark)), "{text}");
        }
        for (text, before) in [("", ""), ("plain", "plain"), ("a [keyholder generation x]", "a")] {
            assert_eq!(Mark::split(text), (before, None), "{text}");
        }
    }
}
