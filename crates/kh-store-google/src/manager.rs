//! The few calls of Secret Manager that are needed, typed, each bounded in time.

use std::{collections::HashMap, fmt, future::Future, time::Duration};

use google_cloud_gax::{
    client_builder::internal::with_follow_redirects, paginator::Paginator as _, retry_policy::NeverRetry,
};
use google_cloud_secretmanager_v1::{
    client::SecretManagerService,
    model::{Replication, Secret, SecretPayload, UpdateSecretRequest, replication::Automatic, secret_version::State},
};
use kh_core::{SecretBytes, port::TargetError};
use zeroize::Zeroizing;

use crate::{
    crc32c,
    failure::{Call, Failure},
    settings::{Settings, SetupError},
};

/// Longest a call may take, login included.
const CALL_MAX: Duration = Duration::from_secs(30);

/// Longest one exchange may take.
const EXCHANGE_MAX: Duration = Duration::from_secs(15);

/// Most pages read of a secret's versions: 25,000 versions.
const VERSION_PAGES_MAX: usize = 100;

/// Most pages read of a project's secrets: 100,000 of them.
const LIST_PAGES_MAX: usize = 400;

/// Items per page.
const PAGE: i32 = 250;

/// Marks the secrets that keyholder made, whose consumers are told to read the alias.
const LABEL: &str = "keyholder";
const LABEL_VALUE: &str = "alias";

/// A secret without its versions.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) etag: String,
    pub(crate) aliases: HashMap<String, i64>,
    /// Whether keyholder made it.
    pub(crate) ours: bool,
}

/// One project.
pub(crate) struct Manager {
    client: SecretManagerService,
    project: String,
    pub(crate) alias: String,
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager").field("project", &self.project).field("alias", &self.alias).finish_non_exhaustive()
    }
}

impl Manager {
    pub(crate) async fn new(settings: Settings) -> Result<Self, SetupError> {
        settings.check()?;
        let builder = SecretManagerService::builder()
            .with_credentials(settings.credentials()?)
            // a call that may be repeated is repeated by its caller, who looks first what came of it
            .with_retry_policy(NeverRetry)
            .with_attempt_timeout(EXCHANGE_MAX);
        let builder = match &settings.endpoint {
            Some(url) => builder.with_endpoint(url.as_str().trim_end_matches('/')),
            None => builder,
        };
        // a redirect would take a document to a place that nobody configured
        let builder = with_follow_redirects(builder, false);
        let client = builder.build().await.map_err(|_| SetupError::Client)?;
        Ok(Self { client, project: settings.project, alias: settings.alias })
    }

    fn name(&self, id: &str) -> String {
        format!("projects/{}/secrets/{id}", self.project)
    }

    /// The secret; none when there is none.
    pub(crate) async fn secret(&self, id: &str) -> Result<Option<Held>, Failure> {
        match bounded(Call::Read, self.client.get_secret().set_name(self.name(id)).send()).await {
            Ok(found) => Ok(Some(held(found))),
            Err(Failure::Missing) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Makes the container, with automatic replication.
    pub(crate) async fn create(&self, id: &str) -> Result<(), Failure> {
        let secret = Secret::new()
            .set_replication(Replication::new().set_automatic(Automatic::new()))
            .set_labels([(LABEL, LABEL_VALUE)]);
        let parent = format!("projects/{}", self.project);
        let sending = self.client.create_secret().set_parent(parent).set_secret_id(id).set_secret(secret).send();
        bounded(Call::Write, sending).await.map(drop)
    }

    /// Adds a version and tells its number. The service checks the checksum.
    pub(crate) async fn add(&self, id: &str, document: &SecretBytes) -> Result<i64, Failure> {
        let bytes = Zeroizing::new(document.expose().to_vec());
        let checksum = i64::from(crc32c::of(&bytes));
        let payload = SecretPayload::new().set_data(bytes::Bytes::from_owner(bytes)).set_data_crc32c(checksum);
        let sending = self.client.add_secret_version().set_parent(self.name(id)).set_payload(payload).send();
        number_of(&bounded(Call::Write, sending).await?.name).map_err(|_| Failure::late(Call::Write))
    }

    /// A version's document by number or alias, and its number. The checksum is verified when the service sends one.
    pub(crate) async fn access(&self, id: &str, version: &str) -> Result<(i64, SecretBytes), Failure> {
        let name = format!("{}/versions/{version}", self.name(id));
        let found = bounded(Call::Read, self.client.access_secret_version().set_name(name).send()).await?;
        let number = number_of(&found.name)?;
        let payload = found.payload.ok_or_else(undocumented)?;
        let document = SecretBytes::new(payload.data.to_vec());
        match payload.data_crc32c {
            Some(sent) if sent != i64::from(crc32c::of(document.expose())) => {
                Err(Failure::Other(TargetError::Unavailable("a document came with another checksum".to_owned())))
            }
            _ => Ok((number, document)),
        }
    }

    /// The number that the alias names for readers.
    pub(crate) async fn live_number(&self, id: &str) -> Result<i64, Failure> {
        let name = format!("{}/versions/{}", self.name(id), self.alias);
        number_of(&bounded(Call::Read, self.client.get_secret_version().set_name(name).send()).await?.name)
    }

    /// The numbers of the enabled versions, newest first; none when there is no such secret.
    pub(crate) async fn enabled(&self, id: &str) -> Result<Vec<i64>, Failure> {
        let mut numbers = Vec::new();
        let mut pages = self.client.list_secret_versions().set_parent(self.name(id)).set_page_size(PAGE).by_page();
        for _ in 0..VERSION_PAGES_MAX {
            match late(Call::Read, pages.next()).await? {
                None => {
                    numbers.sort_unstable_by(|one: &i64, other| other.cmp(one));
                    return Ok(numbers);
                }
                Some(Ok(page)) => {
                    for version in page.versions.iter().filter(|version| version.state == State::Enabled) {
                        numbers.push(number_of(&version.name)?);
                    }
                }
                Some(Err(error)) => match Failure::of(&error, Call::Read) {
                    Failure::Missing => return Ok(Vec::new()),
                    failure => return Err(failure),
                },
            }
        }
        Err(Failure::Other(TargetError::Unusable(format!("{id} has more than 25,000 versions"))))
    }

    /// Replaces the aliases, if the secret still has this etag.
    pub(crate) async fn point(&self, id: &str, held: Held, number: i64) -> Result<(), Failure> {
        let mut aliases = held.aliases;
        aliases.insert(self.alias.clone(), number);
        let mut request = UpdateSecretRequest::new()
            .set_secret(Secret::new().set_name(self.name(id)).set_etag(held.etag).set_version_aliases(aliases));
        request.update_mask.get_or_insert_default().paths = vec!["version_aliases".to_owned()];
        bounded(Call::Write, self.client.update_secret().with_request(request).send()).await.map(drop)
    }

    /// No longer readable; it can be enabled again.
    pub(crate) async fn disable(&self, id: &str, number: i64) -> Result<(), Failure> {
        let name = format!("{}/versions/{number}", self.name(id));
        bounded(Call::Write, self.client.disable_secret_version().set_name(name).send()).await.map(drop)
    }

    /// Readable again.
    pub(crate) async fn enable(&self, id: &str, number: i64) -> Result<(), Failure> {
        let name = format!("{}/versions/{number}", self.name(id));
        bounded(Call::Write, self.client.enable_secret_version().set_name(name).send()).await.map(drop)
    }

    /// Which of these permissions the identity has at a secret.
    pub(crate) async fn granted(&self, id: &str, permissions: &[&str]) -> Result<Vec<String>, Failure> {
        let asked = permissions.iter().map(|name| (*name).to_owned()).collect::<Vec<String>>();
        let sending = self.client.test_iam_permissions().set_resource(self.name(id)).set_permissions(asked).send();
        Ok(bounded(Call::Read, sending).await?.permissions)
    }

    /// The ids of the secrets that have the alias, handed to `take` until it wants no more.
    pub(crate) async fn list(&self, mut take: impl FnMut(&str) -> bool) -> Result<(), Failure> {
        let parent = format!("projects/{}", self.project);
        let mut pages = self.client.list_secrets().set_parent(parent).set_page_size(PAGE).by_page();
        for _ in 0..LIST_PAGES_MAX {
            let Some(page) = late(Call::Read, pages.next()).await? else { return Ok(()) };
            for secret in page.map_err(|error| Failure::of(&error, Call::Read))?.secrets {
                let id = secret.name.rsplit('/').next().unwrap_or_default();
                if secret.version_aliases.contains_key(&self.alias) && !take(id) {
                    return Ok(());
                }
            }
        }
        Err(Failure::Other(TargetError::Unusable("the project has more than 100,000 secrets".to_owned())))
    }
}

fn held(secret: Secret) -> Held {
    let ours = secret.labels.get(LABEL).is_some_and(|value| value == LABEL_VALUE);
    Held { etag: secret.etag, aliases: secret.version_aliases, ours }
}

/// `projects/NUMBER/secrets/ID/versions/NUMBER`.
fn number_of(name: &str) -> Result<i64, Failure> {
    name.rsplit('/').next().and_then(|number| number.parse().ok()).ok_or_else(undocumented)
}

fn undocumented() -> Failure {
    Failure::Other(TargetError::Unusable("Secret Manager's answer has another form than documented".to_owned()))
}

async fn bounded<T>(
    call: Call,
    sending: impl Future<Output = google_cloud_secretmanager_v1::Result<T>>,
) -> Result<T, Failure> {
    late(call, sending).await?.map_err(|error| Failure::of(&error, call))
}

async fn late<T>(call: Call, sending: impl Future<Output = T>) -> Result<T, Failure> {
    tokio::time::timeout(CALL_MAX, sending).await.map_err(|_elapsed| Failure::late(call))
}
