//! A platform with a secrets API beside its clients: `/api/v2/oauth/clients/{id}/secrets`, several live at a time.
//!
//! Genesys Cloud does not have it (none of its published operations); it is the shape that keyholder's own sandbox
//! offers on request, and the pattern of platforms that do. Errors, rights and the superset rule are those of Genesys
//! Cloud. Invariant: an id names client and secret, `<client>/<secret>`, and is used only with the client it names.

use std::{sync::Arc, time::Duration};

use ::http::Method;
use kh_core::{
    SecretString, UnixMillis,
    credential::CredentialDocument,
    port::{
        BoxFuture, ManageError, RotatorTokens, SecretManagement, Strategy,
        secret_management::{CreatedSecret, ManagedSecret, ManagementCheck, ManagementTraits, Rights, Rotator},
    },
    rotation::ManagedId,
};
use serde::Deserialize;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::{
    calls::{Ask, Base, Calls},
    client_document::{text, time},
    genesys::{GenesysManagement, GenesysRotation},
    refusal::{Effect, unreadable},
    shared::Shared,
};
use crate::{Address, HttpClient};

const CLIENTS: &str = "/api/v2/oauth/clients";

/// Secrets of clients at a platform with a secrets API.
pub struct SecretsApiManagement {
    calls: Calls,
    clients: GenesysManagement,
    settles_within: Duration,
    active_max: Option<u32>,
}

#[derive(Deserialize)]
struct Made {
    id: String,
    secret: Zeroizing<String>,
}

impl SecretsApiManagement {
    /// Manages secrets at `api`. `active_max` is how many a client may hold, where that is known.
    pub fn new(
        http: HttpClient,
        api: Address,
        tokens: Arc<dyn RotatorTokens>,
        settings: GenesysRotation,
        active_max: Option<u32>,
    ) -> Self {
        let calls = Calls::new(http.clone(), Base::Fixed(api.clone()), Arc::clone(&tokens));
        let clients = GenesysManagement::new(http, api, tokens, settings);
        Self { calls, clients, settles_within: settings.settles_within, active_max }
    }

    /// Shares the platform's limit and looks with its other managements.
    #[must_use]
    pub fn sharing(mut self, shared: &Arc<Shared>) -> Self {
        self.calls.shared = Arc::clone(shared);
        self.clients = self.clients.sharing(shared);
        self
    }

    async fn secrets(&self, client: &ManagedId, by: Rotator) -> Result<Vec<ManagedSecret>, ManageError> {
        let url = self.calls.url(by, CLIENTS, &[&client.0, "secrets"]).await?;
        let answer = self.calls.send(by, Ask::read(url).about(client)).await?;
        let body: Option<Value> = serde_json::from_slice(&answer.body).ok();
        let rows = body.as_ref().and_then(|body| body.get("entities")?.as_array());
        let listed = rows.and_then(|rows| rows.iter().map(|row| listed(client, row.as_object()?)).collect());
        listed.ok_or_else(|| unreadable(Effect::Read, &answer.head, "a list of secrets"))
    }

    async fn make(&self, current: &CredentialDocument, by: Rotator) -> Result<CreatedSecret, ManageError> {
        let client = super::genesys::named(current)?;
        let url = self.calls.url(by, CLIENTS, &[&client.0, "secrets"]).await?;
        let answer = self.calls.send(by, Ask::change(Method::POST, url).about(&client)).await?;
        let made: Option<Made> = serde_json::from_slice(&answer.body).ok();
        let made = made.filter(|made| !made.secret.is_empty());
        let made = made.ok_or_else(|| unreadable(Effect::Change, &answer.head, "an id and a secret"))?;
        let secret = SecretString::copied(&made.secret);
        let document = CredentialDocument { client_secret: Some(secret), marker: None, ..current.copied() };
        Ok(CreatedSecret { id: joined(&client, &made.id), document })
    }

    async fn remove(&self, current: &CredentialDocument, id: &ManagedId, by: Rotator) -> Result<(), ManageError> {
        let own = super::genesys::named(current)?;
        let (client, secret) = split(id)?;
        if client != own.0 {
            return Err(ManageError::NotDone { reason: "the secret is another client's".to_owned() });
        }
        let url = self.calls.url(by, CLIENTS, &[client, "secrets", secret]).await?;
        self.calls.send(by, Ask::change(Method::DELETE, url).about(id)).await.map(|_answer| ())
    }

    async fn look(
        &self,
        current: &CredentialDocument,
        strategy: Strategy,
        by: Rotator,
    ) -> Result<ManagementCheck, ManageError> {
        if strategy != Strategy::Overlap {
            let obstacles = vec!["this platform has a secrets API: use the strategy overlap".to_owned()];
            return Ok(ManagementCheck { obstacles, ..ManagementCheck::default() });
        }
        // the rules for editing a client, which are those of a swap
        let mut check = self.clients.look(current, Strategy::Swap, by, true).await?;
        let held = self.secrets(&super::genesys::named(current)?, by).await?.len();
        let held = u32::try_from(held).unwrap_or(u32::MAX);
        check.free = self.active_max.map(|most| most.saturating_sub(held));
        if check.free == Some(0) {
            check
                .obstacles
                .push(format!("the client holds {held} secrets, as many as it may: delete one that nobody uses"));
        }
        Ok(check)
    }
}

fn joined(client: &ManagedId, secret: &str) -> ManagedId {
    ManagedId(format!("{client}/{secret}"))
}

fn split(id: &ManagedId) -> Result<(&str, &str), ManageError> {
    let parts = id.0.split_once('/');
    parts.ok_or_else(|| ManageError::NotDone { reason: "an id here is <client>/<secret>".to_owned() })
}

fn listed(client: &ManagedId, row: &Map<String, Value>) -> Option<ManagedSecret> {
    Some(ManagedSecret {
        id: joined(client, text(row, "id")?),
        name: None,
        active: true,
        created_at: time(row, "dateCreated"),
        last_used_at: time(row, "dateLastUsed"),
        owner: Some(client.0.clone()),
    })
}

impl std::fmt::Debug for SecretsApiManagement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretsApiManagement")
    }
}

impl SecretManagement for SecretsApiManagement {
    fn traits(&self) -> ManagementTraits {
        ManagementTraits {
            strategies: vec![Strategy::Overlap],
            reversible_stop: false,
            active_max: self.active_max,
            settles_within: self.settles_within,
            token_life_max: self.clients.traits().token_life_max,
        }
    }

    /// A document names the client and not which of its secrets it holds.
    fn id_of(&self, _current: &CredentialDocument) -> Option<ManagedId> {
        None
    }

    fn check<'a>(
        &'a self,
        current: &'a CredentialDocument,
        strategy: Strategy,
        by: Rotator,
    ) -> BoxFuture<'a, Result<ManagementCheck, ManageError>> {
        Box::pin(self.look(current, strategy, by))
    }

    fn list<'a>(
        &'a self,
        current: &'a CredentialDocument,
        by: Rotator,
    ) -> BoxFuture<'a, Result<Vec<ManagedSecret>, ManageError>> {
        Box::pin(async move { self.secrets(&super::genesys::named(current)?, by).await })
    }

    fn create<'a>(
        &'a self,
        current: &'a CredentialDocument,
        _label: &'a str,
        by: Rotator,
    ) -> BoxFuture<'a, Result<CreatedSecret, ManageError>> {
        Box::pin(self.make(current, by))
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
        by: Rotator,
    ) -> BoxFuture<'a, Result<(), ManageError>> {
        Box::pin(self.remove(current, id, by))
    }

    fn regenerate<'a>(
        &'a self,
        _current: &'a CredentialDocument,
        _by: Rotator,
    ) -> BoxFuture<'a, Result<CredentialDocument, ManageError>> {
        Box::pin(async { Err(ManageError::Unsupported) })
    }

    /// A secret may do what its client may.
    fn rights<'a>(&'a self, id: &'a ManagedId, by: Rotator) -> BoxFuture<'a, Result<Rights, ManageError>> {
        Box::pin(async move {
            let (client, _) = split(id)?;
            self.clients.rights(&ManagedId(client.to_owned()), by).await
        })
    }

    fn probe<'a>(&'a self, token: &'a SecretString) -> BoxFuture<'a, Result<bool, ManageError>> {
        self.clients.probe(token)
    }

    /// Usage is counted per client here, so it says nothing about one of its secrets.
    fn used_since<'a>(
        &'a self,
        _id: &'a ManagedId,
        _since: UnixMillis,
        _by: Rotator,
    ) -> BoxFuture<'a, Result<Option<u64>, ManageError>> {
        Box::pin(async { Ok(None) })
    }

    fn inventory(&self, by: Rotator) -> BoxFuture<'_, Result<Vec<ManagedSecret>, ManageError>> {
        self.clients.inventory(by)
    }
}
