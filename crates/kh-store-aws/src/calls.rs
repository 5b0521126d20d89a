//! The calls to AWS Secrets Manager that the adapter makes, each through the official SDK.
//!
//! Invariants: a read of the live value always names the label `AWSCURRENT`; no call runs with a log subscriber, since
//! the SDK's own trace events tell requests, and with the variable `LOG_SIGNABLE_BODY` whole ones; it repeats nothing, and here a call is
//! repeated once only after its signature was refused, which is before anything is done: the SDK has learnt the
//! clock's error from that answer's `Date`.

use std::{collections::BTreeMap, future::Future};

use aws_sdk_secretsmanager::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    primitives::Blob,
    types::{Filter, FilterNameStringType},
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use kh_core::{SecretBytes, rotation::WriteToken};
use tracing::{instrument::WithSubscriber, subscriber::NoSubscriber};
use zeroize::Zeroize;

use crate::failure::{Failure, Intent, classify};

/// The label that consumers read.
pub(crate) const CURRENT: &str = "AWSCURRENT";
/// The label of AWS' own rotation; never touched here.
pub(crate) const AWS_PENDING: &str = "AWSPENDING";
/// keyholder's own label of a version that is not live yet.
pub(crate) const PENDING: &str = "KH_PENDING";

/// Most entries of one page of `ListSecrets`, which takes up to 100: so many that the largest ones fit in an answer of the
/// transport's.
const PAGE: i32 = 20;
/// Most pages that are read: 100,000 secrets.
const PAGES_MAX: usize = 5000;

/// A version as it was read.
pub(crate) struct Read {
    pub(crate) value: SecretBytes,
    pub(crate) version: String,
    pub(crate) stages: Vec<String>,
}

/// A secret without its value.
#[derive(Debug, Default)]
pub(crate) struct Described {
    /// Labels by version; versions without one may be missing.
    pub(crate) stages: BTreeMap<String, Vec<String>>,
    /// Copies: region and status.
    pub(crate) copies: Vec<(String, String)>,
    pub(crate) primary: Option<String>,
    pub(crate) marked_for_deletion: bool,
    pub(crate) rotated_by_aws: bool,
    pub(crate) owner: Option<String>,
}

impl Described {
    /// The version with a label.
    pub(crate) fn holder(&self, label: &str) -> Option<&str> {
        self.stages.iter().find(|(_, labels)| labels.iter().any(|known| known == label)).map(|(id, _)| id.as_str())
    }

    /// Whether a copy is still under way.
    pub(crate) fn copying(&self) -> Option<&str> {
        let under_way = |status: &str| status == "InProgress" || status == "Pending";
        self.copies.iter().find(|(_, status)| under_way(status)).map(|(region, _)| region.as_str())
    }
}

/// One region's calls.
pub(crate) struct Calls(Client);

async fn call<T, E, F>(intent: Intent, make: impl Fn() -> F) -> Result<T, Failure>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
{
    let once = async || make().with_subscriber(NoSubscriber::default()).await.map_err(|error| classify(&error, intent));
    match once().await {
        Err(Failure::Signature(_)) => once().await,
        other => other,
    }
}

fn text_of(value: &SecretBytes) -> Result<String, Failure> {
    let text = std::str::from_utf8(value.expose());
    text.map(str::to_owned).map_err(|_| Failure::Refused("the document is not text".to_owned()))
}

impl Calls {
    pub(crate) fn new(client: Client) -> Self {
        Self(client)
    }

    /// `GetSecretValue` of the live version.
    pub(crate) async fn current(&self, name: &str) -> Result<Read, Failure> {
        let request = self.0.get_secret_value().secret_id(name).version_stage(CURRENT);
        read(call(Intent::Read, || request.clone().send()).await?)
    }

    /// `GetSecretValue` of one version; none when it is not there.
    pub(crate) async fn version(&self, name: &str, token: WriteToken) -> Result<Option<Read>, Failure> {
        let request = self.0.get_secret_value().secret_id(name).version_id(token.to_string());
        match call(Intent::Read, || request.clone().send()).await {
            Ok(output) => read(output).map(Some),
            Err(Failure::NotFound) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// `DescribeSecret`; none when there is no such secret.
    pub(crate) async fn describe(&self, name: &str) -> Result<Option<Described>, Failure> {
        let request = self.0.describe_secret().secret_id(name);
        let output = match call(Intent::Read, || request.clone().send()).await {
            Ok(output) => output,
            Err(Failure::NotFound) => return Ok(None),
            Err(other) => return Err(other),
        };
        let copy = |status: &aws_sdk_secretsmanager::types::ReplicationStatusType| {
            let word = status.status().map_or("unknown", |status| status.as_str());
            (status.region().unwrap_or_default().to_owned(), word.to_owned())
        };
        Ok(Some(Described {
            copies: output.replication_status().iter().map(copy).collect(),
            primary: output.primary_region().map(str::to_owned),
            marked_for_deletion: output.deleted_date().is_some(),
            rotated_by_aws: output.rotation_enabled().unwrap_or(false),
            owner: output.owning_service().map(str::to_owned),
            stages: output.version_ids_to_stages.unwrap_or_default().into_iter().collect(),
        }))
    }

    /// `PutSecretValue` under keyholder's own label; tells the labels that the version has.
    pub(crate) async fn put(&self, name: &str, token: WriteToken, value: &SecretBytes) -> Result<Vec<String>, Failure> {
        let request = self
            .0
            .put_secret_value()
            .secret_id(name)
            .client_request_token(token.to_string())
            .version_stages(PENDING)
            .secret_string(text_of(value)?);
        Ok(call(Intent::Change, || request.clone().send()).await?.version_stages.unwrap_or_default())
    }

    /// `CreateSecret` with its first version.
    pub(crate) async fn create(&self, name: &str, token: WriteToken, value: &SecretBytes) -> Result<(), Failure> {
        let request =
            self.0.create_secret().name(name).client_request_token(token.to_string()).secret_string(text_of(value)?);
        call(Intent::Change, || request.clone().send()).await.map(drop)
    }

    /// `UpdateSecretVersionStage`.
    pub(crate) async fn move_label(
        &self,
        name: &str,
        label: &str,
        from: Option<&str>,
        to: Option<&str>,
    ) -> Result<(), Failure> {
        let request = self
            .0
            .update_secret_version_stage()
            .secret_id(name)
            .version_stage(label)
            .set_remove_from_version_id(from.map(str::to_owned))
            .set_move_to_version_id(to.map(str::to_owned));
        call(Intent::Change, || request.clone().send()).await.map(drop)
    }

    /// `DeleteSecret` at once, for a staged copy of keyholder's own. One that is gone is fine.
    pub(crate) async fn delete(&self, name: &str) -> Result<(), Failure> {
        let request = self.0.delete_secret().secret_id(name).force_delete_without_recovery(true);
        match call(Intent::Change, || request.clone().send()).await {
            Ok(_) | Err(Failure::NotFound) => Ok(()),
            Err(other) => Err(other),
        }
    }

    /// `ListSecrets`: names that begin with `prefix`, and whether each has a live version; until `take` has enough.
    pub(crate) async fn list(&self, prefix: &str, mut take: impl FnMut(&str, bool) -> bool) -> Result<(), Failure> {
        let mut next = None;
        for _ in 0..PAGES_MAX {
            let mut request = self.0.list_secrets().max_results(PAGE).set_next_token(next);
            if !prefix.is_empty() {
                request = request.filters(Filter::builder().key(FilterNameStringType::Name).values(prefix).build());
            }
            let output = call(Intent::Read, || request.clone().send()).await?;
            for entry in output.secret_list() {
                let stages = entry.secret_versions_to_stages();
                let live = stages.is_some_and(|stages| stages.values().flatten().any(|label| label == CURRENT));
                if let Some(name) = entry.name()
                    && !take(name, live)
                {
                    return Ok(());
                }
            }
            next = output.next_token;
            if next.is_none() {
                return Ok(());
            }
        }
        Ok(())
    }
}

fn read(output: aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueOutput) -> Result<Read, Failure> {
    let value = match (output.secret_string, output.secret_binary) {
        (Some(text), _) => SecretBytes::new(text.into_bytes()),
        (None, Some(binary)) => taken(binary),
        (None, None) => return Err(Failure::NotFound),
    };
    let version = output.version_id.ok_or_else(|| Failure::Refused("the answer names no version".to_owned()))?;
    Ok(Read { value, version, stages: output.version_stages.unwrap_or_default() })
}

fn taken(binary: Blob) -> SecretBytes {
    let mut bytes = binary.into_inner();
    let value = SecretBytes::new(bytes.clone());
    bytes.zeroize();
    value
}
