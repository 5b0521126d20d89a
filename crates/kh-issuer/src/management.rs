//! keyholder's own clients as a platform whose secrets overlap: the adapter of
//! [`kh_core::port::SecretManagement`] over [`Issuer`].
//!
//! An id is `<client id>/<secret id>`. There is no rotator to log in: the process holds the registry itself. Invariant:
//! a change that the state could neither confirm nor deny is [`ManageError::Unknown`].

use std::{sync::Arc, time::Duration};

use kh_core::{
    SecretString, UnixMillis,
    credential::CredentialDocument,
    port::{
        BoxFuture, ClientRecord, ManageError, SecretManagement, StateError, Strategy,
        secret_management::{CreatedSecret, ManagedSecret, ManagementCheck, ManagementTraits, Rights, Rotator},
    },
    rotation::ManagedId,
};

use crate::{Client, Issuer, IssuerError, NewClient, SecretError, SecretId, client::SECRETS_MAX};

/// Secrets of keyholder's own clients.
#[derive(Debug)]
pub struct IssuerManagement {
    issuer: Arc<Issuer>,
    actor: String,
}

impl IssuerManagement {
    /// Manages the clients of `issuer`; `actor` is who the audit log names, such as `rotation`.
    pub fn new(issuer: Arc<Issuer>, actor: &str) -> Self {
        Self { issuer, actor: actor.to_owned() }
    }

    /// The client as it is stored now: another process may have changed it.
    async fn client(&self, id: &str) -> Result<Arc<Client>, ManageError> {
        self.issuer.refresh().await.map_err(|error| not_done(&error))?;
        let found = self.issuer.client(id).filter(|client| client.record.id.as_str() == id);
        found.ok_or_else(|| ManageError::NotFound(ManagedId(id.to_owned())))
    }

    fn now(&self) -> UnixMillis {
        self.issuer.now().wall
    }

    async fn secrets(&self, current: &CredentialDocument) -> Result<Vec<ManagedSecret>, ManageError> {
        Ok(listed(&*self.client(named(current)?).await?, self.now()))
    }

    async fn make(&self, current: &CredentialDocument) -> Result<CreatedSecret, ManageError> {
        let client = named(current)?;
        self.client(client).await?;
        let added = self.issuer.add_secret(client, &self.actor).await;
        let (_, secret) = added.map_err(|error| refused(error, client, client))?;
        let id = joined(client, &SecretId::of(secret.sha256()));
        let document = CredentialDocument { client_secret: Some(secret), marker: None, ..current.copied() };
        Ok(CreatedSecret { id, document })
    }

    async fn remove(&self, current: &CredentialDocument, id: &ManagedId) -> Result<(), ManageError> {
        let client = named(current)?;
        let Some((owner, secret)) = id.0.split_once('/') else {
            return Err(ManageError::NotDone { reason: "an id here is <client>/<secret>".to_owned() });
        };
        if owner != client {
            return Err(ManageError::NotDone { reason: "the secret is another client's".to_owned() });
        }
        self.client(client).await?;
        let secret: SecretId = secret.parse().map_err(|error| refused(error, client, &id.0))?;
        let removed = self.issuer.remove_secret(client, &secret, &self.actor).await;
        removed.map(|_record| ()).map_err(|error| refused(error, client, &id.0))
    }

    async fn look(&self, current: &CredentialDocument, strategy: Strategy) -> Result<ManagementCheck, ManageError> {
        let mut check = ManagementCheck::default();
        if strategy != Strategy::Overlap {
            check.obstacles.push("secrets of keyholder's own clients overlap: use the strategy overlap".to_owned());
            return Ok(check);
        }
        let client = self.client(named(current)?).await?;
        if !client.record.enabled {
            check.switched_off = true;
            check.obstacles.push(format!("the client {} is disabled: enable it first", client.record.name));
        }
        let free = SECRETS_MAX.saturating_sub(client.secret_ids(self.now()).len());
        check.free = Some(u32::try_from(free).unwrap_or(u32::MAX));
        if free == 0 {
            check.obstacles.push(format!(
                "the client {} already has {SECRETS_MAX} live secrets: wait for the end of the overlap, or remove one",
                client.record.name
            ));
        }
        Ok(check)
    }
}

/// The client that a document names.
fn named(current: &CredentialDocument) -> Result<&str, ManageError> {
    let id = current.client_id.as_deref();
    id.ok_or_else(|| ManageError::NotDone { reason: "the credential's document names no client_id".to_owned() })
}

fn joined(client: &str, secret: &SecretId) -> ManagedId {
    ManagedId(format!("{client}/{secret}"))
}

fn listed(client: &Client, now: UnixMillis) -> Vec<ManagedSecret> {
    let record = &client.record;
    let secret = |id: SecretId| ManagedSecret {
        id: joined(record.id.as_str(), &id),
        // the registry keeps names and times of clients, not of their secrets: one whose answer was lost is nameless
        name: None,
        active: record.enabled,
        created_at: None,
        last_used_at: None,
        owner: Some(record.name.to_string()),
    };
    client.secret_ids(now).into_iter().map(secret).collect()
}

/// What a client may do, a line each.
fn rights(record: &ClientRecord) -> Rights {
    let mut lines: Vec<String> = record.scopes.iter().map(|scope| format!("scope {scope}")).collect();
    lines.extend(record.allow.iter().map(|rule| format!("allow {}", rule.0)));
    lines.extend(record.allow_all.then(|| "allow all".to_owned()));
    lines.extend(record.allow_secret_operations.then(|| "allow secret operations".to_owned()));
    lines.extend(record.credential.as_ref().map(|credential| format!("credential {credential}")));
    lines.extend(record.environment.as_ref().map(|environment| format!("environment {environment}")));
    lines.push(format!("token life {} s", record.token_ttl_s));
    lines.sort_unstable();
    Rights { lines }
}

fn not_done(error: &StateError) -> ManageError {
    ManageError::NotDone { reason: error.to_string() }
}

/// What a refused change means. What the database neither confirmed nor refused may have been written.
fn refused(error: SecretError, client: &str, about: &str) -> ManageError {
    match error {
        SecretError::TooMany => ManageError::LimitReached { platform_code: "too.many.secrets".to_owned() },
        SecretError::Last => ManageError::Denied {
            platform_code: "last.secret".to_owned(),
            hint: "the last secret of a client cannot be removed: make another one first".to_owned(),
        },
        SecretError::NoSuch => ManageError::NotFound(ManagedId(about.to_owned())),
        SecretError::Issuer(IssuerError::NoSuchClient(_)) => ManageError::NotFound(ManagedId(client.to_owned())),
        SecretError::Issuer(IssuerError::State(error)) => match error {
            StateError::Unavailable { .. } | StateError::Damaged(_) => {
                ManageError::Unknown { reason: error.to_string() }
            }
            StateError::NoSuchClient(_)
            | StateError::NameTaken(_)
            | StateError::Changed(_)
            | StateError::TooNew { .. } => not_done(&error),
        },
        SecretError::Issuer(
            error @ (IssuerError::Allow(_) | IssuerError::Invalid(_) | IssuerError::Environment(_)),
        ) => ManageError::NotDone { reason: error.to_string() },
    }
}

impl SecretManagement for IssuerManagement {
    fn traits(&self) -> ManagementTraits {
        ManagementTraits {
            strategies: vec![Strategy::Overlap],
            reversible_stop: false,
            active_max: u32::try_from(SECRETS_MAX).ok(),
            // durable, and read by every process before it refuses a login
            settles_within: Duration::ZERO,
            token_life_max: NewClient::TTL_MAX,
        }
    }

    fn id_of(&self, current: &CredentialDocument) -> Option<ManagedId> {
        let secret = current.client_secret.as_ref()?;
        Some(joined(current.client_id.as_deref()?, &SecretId::of(secret.sha256())))
    }

    fn check<'a>(
        &'a self,
        current: &'a CredentialDocument,
        strategy: Strategy,
        _by: Rotator,
    ) -> BoxFuture<'a, Result<ManagementCheck, ManageError>> {
        Box::pin(self.look(current, strategy))
    }

    fn list<'a>(
        &'a self,
        current: &'a CredentialDocument,
        _by: Rotator,
    ) -> BoxFuture<'a, Result<Vec<ManagedSecret>, ManageError>> {
        Box::pin(self.secrets(current))
    }

    fn create<'a>(
        &'a self,
        current: &'a CredentialDocument,
        _label: &'a str,
        _by: Rotator,
    ) -> BoxFuture<'a, Result<CreatedSecret, ManageError>> {
        Box::pin(self.make(current))
    }

    fn set_active<'a>(
        &'a self,
        _current: &'a CredentialDocument,
        _id: &'a ManagedId,
        _active: bool,
        _by: Rotator,
    ) -> BoxFuture<'a, Result<(), ManageError>> {
        Box::pin(async { Err(ManageError::Unsupported) })
    }

    fn delete<'a>(
        &'a self,
        current: &'a CredentialDocument,
        id: &'a ManagedId,
        _by: Rotator,
    ) -> BoxFuture<'a, Result<(), ManageError>> {
        Box::pin(self.remove(current, id))
    }

    fn regenerate<'a>(
        &'a self,
        _current: &'a CredentialDocument,
        _by: Rotator,
    ) -> BoxFuture<'a, Result<CredentialDocument, ManageError>> {
        Box::pin(async { Err(ManageError::Unsupported) })
    }

    /// A secret may do what its client may.
    fn rights<'a>(&'a self, id: &'a ManagedId, _by: Rotator) -> BoxFuture<'a, Result<Rights, ManageError>> {
        Box::pin(async move {
            let client = id.0.split_once('/').map_or(id.0.as_str(), |(client, _)| client);
            Ok(rights(&self.client(client).await?.record))
        })
    }

    fn probe<'a>(&'a self, token: &'a SecretString) -> BoxFuture<'a, Result<bool, ManageError>> {
        Box::pin(async move {
            let session = self.issuer.session_or_load(token.expose().as_bytes()).await;
            session.map(|session| session.is_some()).map_err(|error| not_done(&error))
        })
    }

    /// Logins are counted per client, not per secret.
    fn used_since<'a>(
        &'a self,
        _id: &'a ManagedId,
        _since: UnixMillis,
        _by: Rotator,
    ) -> BoxFuture<'a, Result<Option<u64>, ManageError>> {
        Box::pin(async { Ok(None) })
    }

    fn inventory(&self, _by: Rotator) -> BoxFuture<'_, Result<Vec<ManagedSecret>, ManageError>> {
        Box::pin(async move {
            self.issuer.refresh().await.map_err(|error| not_done(&error))?;
            let now = self.now();
            let named = |client: &Arc<Client>| {
                let name = client.record.name.to_string();
                listed(client, now).into_iter().map(move |one| ManagedSecret { name: Some(name.clone()), ..one })
            };
            Ok(self.issuer.clients().iter().flat_map(named).collect())
        })
    }
}
