//! Genesys Cloud: OAuth clients as pairs, or one secret made anew in place.
//!
//! One client has one secret, and the platform makes it (there is no overlap of secrets in any published operation).
//! `pair` makes a second client with the same rights; `swap` calls `POST .../secret`, after which the old secret is
//! dead. Invariants: `POST .../secret` and `POST /oauth/clients` are sent once per call; a client is only ever changed
//! in its state, with every other member sent back as it was read. The platform has no precondition on `PUT`: an edit
//! by somebody else between the read and the write, a moment, is overwritten.

mod check;
mod usage;

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
use kh_net::http::OutBody;
use serde::Deserialize;
use serde_json::Value;
use zeroize::Zeroizing;

use super::{
    calls::{Ask, Base, Calls},
    client_document::{self, Client},
    refusal::{Effect, refused, unreadable},
    shared::Shared,
    superset::{Gap, Held, gaps},
};
use crate::{Address, HttpClient, http::Answer};

/// Where OAuth clients are.
const CLIENTS: &str = "/api/v2/oauth/clients";

/// Describes the token that asks.
const TOKENS_ME: &str = "/api/v2/tokens/me";

/// Largest list of clients: it has no paging parameters (published swagger); a client takes about 1 KiB.
const CLIENT_LIST_MAX: usize = 16 * 1024 * 1024;

/// What the platform does not document, and an organisation may have measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GenesysRotation {
    /// How long a new client may be unknown to parts of the platform. The official Terraform provider waits 10 s for
    /// roles to settle; three times that leaves room.
    pub settles_within: Duration,
    /// How far usage figures lag behind: "up to 24 hours" (usage API).
    pub usage_lag: Duration,
    /// Longest life of a token: 48 hours are the most that a client may ask for outside SCIM.
    pub token_life_max: Duration,
    /// Pause between two looks at a usage query.
    pub usage_pause: Duration,
}

impl Default for GenesysRotation {
    fn default() -> Self {
        Self {
            settles_within: Duration::from_secs(30),
            usage_lag: Duration::from_hours(24),
            token_life_max: Duration::from_hours(48),
            usage_pause: Duration::from_secs(1),
        }
    }
}

/// OAuth clients of one Genesys Cloud organisation.
pub struct GenesysManagement {
    calls: Calls,
    settings: GenesysRotation,
}

/// What a rotator's own token says about it.
struct Me {
    client: Client,
}

#[derive(Deserialize)]
struct Made {
    id: String,
    secret: Option<Zeroizing<String>>,
}

impl GenesysManagement {
    /// Manages clients at `api` (`https://api.<domain>`) with the tokens of `tokens`.
    pub fn new(http: HttpClient, api: Address, tokens: Arc<dyn RotatorTokens>, settings: GenesysRotation) -> Self {
        Self { calls: Calls::new(http, Base::Fixed(api), tokens), settings }
    }

    /// Shares the platform's limit and looks with its other managements.
    #[must_use]
    pub fn sharing(mut self, shared: &Arc<Shared>) -> Self {
        self.calls.shared = Arc::clone(shared);
        self
    }

    pub(super) fn calls(&self) -> &Calls {
        &self.calls
    }

    /// Whether both rotators (or the one there is) hold every role of `clients` and of each other: what `plan` shows.
    pub async fn prove_rotators(&self, clients: &[ManagedId]) -> Result<Vec<Gap>, ManageError> {
        let mut rotators = Vec::new();
        for which in [Rotator::First, Rotator::Second] {
            if self.calls.tokens.has(which) {
                rotators.push((which, held(&self.me(which).await?.client)));
            }
        }
        let all = self.clients(Rotator::First).await?;
        let find = |id: &ManagedId| all.iter().find(|client| client_document::id(client).as_ref() == Some(id));
        let unknown = |id: &ManagedId| Held { client: id.clone(), name: None, roles: None };
        let targets: Vec<Held> = clients.iter().map(|id| find(id).map_or_else(|| unknown(id), held)).collect();
        Ok(gaps(&rotators, &targets))
    }

    /// The client behind `id`.
    pub(super) async fn client(&self, id: &ManagedId, by: Rotator) -> Result<Client, ManageError> {
        let answer = self.calls.send(by, Ask::read(self.calls.url(by, CLIENTS, &[&id.0]).await?).about(id)).await?;
        let client = parse(&answer).and_then(client_document::parse);
        client.ok_or_else(|| unreadable(Effect::Read, &answer.head, "a client"))
    }

    /// Every client of the organisation.
    async fn clients(&self, by: Rotator) -> Result<Vec<Client>, ManageError> {
        let ask = Ask { answer_max: CLIENT_LIST_MAX, ..Ask::read(self.calls.url(by, CLIENTS, &[]).await?) };
        let answer = self.calls.send(by, ask).await?;
        let listed = parse(&answer).and_then(|mut body| match body.get_mut("entities").map(Value::take) {
            Some(Value::Array(entities)) => entities.into_iter().map(client_document::parse).collect(),
            _ => None,
        });
        listed.ok_or_else(|| unreadable(Effect::Read, &answer.head, "a list of clients"))
    }

    /// The client of the token that asks.
    async fn me(&self, by: Rotator) -> Result<Me, ManageError> {
        let mut url = self.calls.url(by, TOKENS_ME, &[]).await?;
        url.set_query(Some("preserveIdleTTL=true"));
        let answer = self.calls.send(by, Ask::read(url)).await?;
        let client = parse(&answer).and_then(|mut body| client_document::parse(body.get_mut("OAuthClient")?.take()));
        client.map(|client| Me { client }).ok_or_else(|| unreadable(Effect::Read, &answer.head, "the token's client"))
    }

    async fn pair(&self, current: &CredentialDocument, by: Rotator) -> Result<Vec<ManagedSecret>, ManageError> {
        let id = named(current)?;
        let all = self.clients(by).await?;
        let own = all.iter().find(|client| client_document::id(client).as_ref() == Some(&id));
        let root = own.and_then(client_document::root).unwrap_or_else(|| id.clone());
        let belongs = |client: &&Client| {
            client_document::root(client).as_ref() == Some(&root) || client_document::id(client).as_ref() == Some(&root)
        };
        Ok(all.iter().filter(belongs).filter_map(client_document::listed).collect())
    }

    async fn make_twin(
        &self,
        current: &CredentialDocument,
        label: &str,
        by: Rotator,
    ) -> Result<CreatedSecret, ManageError> {
        let id = named(current)?;
        let client = self.client(&id, by).await?;
        let root = client_document::root(&client).unwrap_or(id);
        let twin = client_document::twin(&client, &root, label);
        let ask = Ask {
            body: Some(OutBody::json(&twin)),
            ..Ask::change(Method::POST, self.calls.url(by, CLIENTS, &[]).await?)
        };
        let answer = self.calls.send(by, ask).await?;
        let (id, secret) = made(&answer)?;
        let document = CredentialDocument {
            client_id: Some(id.0.clone()),
            client_secret: Some(secret),
            refresh_token: None,
            marker: None,
            ..current.copied()
        };
        Ok(CreatedSecret { id, document })
    }

    async fn switch(&self, id: &ManagedId, active: bool, by: Rotator) -> Result<(), ManageError> {
        let client = self.client(id, by).await?;
        let wanted = if active { "active" } else { "inactive" };
        let Some(changed) = client_document::in_state(&client, wanted) else { return Ok(()) };
        let url = self.calls.url(by, CLIENTS, &[&id.0]).await?;
        let ask = Ask { body: Some(OutBody::json(&changed)), ..Ask::change(Method::PUT, url).about(id) };
        let answer = self.calls.send(by, ask).await?;
        // a 200 of something else than the platform, such as a proxy's page, proves nothing
        let state =
            parse(&answer).and_then(client_document::parse).map(|client| client_document::state(&client) == wanted);
        state.filter(|done| *done).map(|_| ()).ok_or_else(|| unreadable(Effect::Change, &answer.head, "the new state"))
    }

    async fn remove(&self, id: &ManagedId, by: Rotator) -> Result<(), ManageError> {
        let url = self.calls.url(by, CLIENTS, &[&id.0]).await?;
        self.calls.send(by, Ask::change(Method::DELETE, url).about(id)).await.map(|_answer| ())
    }

    async fn make_secret(&self, current: &CredentialDocument, by: Rotator) -> Result<CredentialDocument, ManageError> {
        let id = named(current)?;
        let url = self.calls.url(by, CLIENTS, &[&id.0, "secret"]).await?;
        let answer = self.calls.send(by, Ask::change(Method::POST, url).about(&id)).await?;
        let (of, secret) = made(&answer)?;
        if of != id {
            return Err(unreadable(Effect::Change, &answer.head, "the client that was named"));
        }
        Ok(CredentialDocument { client_secret: Some(secret), marker: None, ..current.copied() })
    }

    /// HEAD is the cheapest question. Its 401 has no body, and a refused address is no dead token: GET tells them apart.
    async fn works(&self, token: &SecretString) -> Result<bool, ManageError> {
        let mut url = self.calls.url(Rotator::First, TOKENS_ME, &[]).await?;
        // without it the look itself would keep the token from idling (published swagger)
        url.set_query(Some("preserveIdleTTL=true"));
        let head = Ask { method: Method::HEAD, ..Ask::read(url.clone()) };
        let answer = self.calls.exchange(token, head).await?;
        match answer.head.status {
            200..=299 => return Ok(true),
            401 => {}
            _ => return Err(refused(Effect::Read, None, &answer.head, &answer.body)),
        }
        let answer = self.calls.exchange(token, Ask::read(url)).await?;
        match answer.head.status {
            200..=299 => Ok(true),
            401 => match refused(Effect::Read, None, &answer.head, &answer.body) {
                ManageError::NotDone { .. } => Ok(false),
                other => Err(other),
            },
            _ => Err(refused(Effect::Read, None, &answer.head, &answer.body)),
        }
    }
}

/// A client's roles for the proof.
fn held(client: &Client) -> Held {
    Held {
        client: client_document::id(client).unwrap_or_else(|| ManagedId(String::new())),
        name: client_document::text(client, "name").map(str::to_owned),
        roles: Some(client_document::roles(client).into_keys().collect()),
    }
}

fn parse(answer: &Answer) -> Option<Value> {
    serde_json::from_slice(&answer.body).ok()
}

/// Id and secret out of the answer that is their only copy.
fn made(answer: &Answer) -> Result<(ManagedId, SecretString), ManageError> {
    let made: Option<Made> = serde_json::from_slice(&answer.body).ok();
    let made = made.and_then(|made| Some((made.id, made.secret.filter(|secret| !secret.is_empty())?)));
    let (id, secret) = made.ok_or_else(|| unreadable(Effect::Change, &answer.head, "an id and a secret"))?;
    Ok((ManagedId(id), SecretString::copied(&secret)))
}

/// The client that a document names.
pub(in crate::management) fn named(current: &CredentialDocument) -> Result<ManagedId, ManageError> {
    let id = current.client_id.clone().map(ManagedId);
    id.ok_or_else(|| ManageError::NotDone { reason: "the credential's document names no client_id".to_owned() })
}

impl std::fmt::Debug for GenesysManagement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GenesysManagement").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl SecretManagement for GenesysManagement {
    fn traits(&self) -> ManagementTraits {
        ManagementTraits {
            strategies: vec![Strategy::Pair, Strategy::Swap],
            reversible_stop: true,
            active_max: None,
            settles_within: self.settings.settles_within,
            token_life_max: self.settings.token_life_max,
        }
    }

    fn id_of(&self, current: &CredentialDocument) -> Option<ManagedId> {
        current.client_id.clone().map(ManagedId)
    }

    fn check<'a>(
        &'a self,
        current: &'a CredentialDocument,
        strategy: Strategy,
        by: Rotator,
    ) -> BoxFuture<'a, Result<ManagementCheck, ManageError>> {
        Box::pin(self.look(current, strategy, by, false))
    }

    fn list<'a>(
        &'a self,
        current: &'a CredentialDocument,
        by: Rotator,
    ) -> BoxFuture<'a, Result<Vec<ManagedSecret>, ManageError>> {
        Box::pin(self.pair(current, by))
    }

    fn create<'a>(
        &'a self,
        current: &'a CredentialDocument,
        label: &'a str,
        by: Rotator,
    ) -> BoxFuture<'a, Result<CreatedSecret, ManageError>> {
        Box::pin(self.make_twin(current, label, by))
    }

    fn set_active<'a>(
        &'a self,
        _current: &'a CredentialDocument,
        id: &'a ManagedId,
        active: bool,
        by: Rotator,
    ) -> BoxFuture<'a, Result<(), ManageError>> {
        Box::pin(self.switch(id, active, by))
    }

    fn delete<'a>(
        &'a self,
        _current: &'a CredentialDocument,
        id: &'a ManagedId,
        by: Rotator,
    ) -> BoxFuture<'a, Result<(), ManageError>> {
        Box::pin(self.remove(id, by))
    }

    fn regenerate<'a>(
        &'a self,
        current: &'a CredentialDocument,
        by: Rotator,
    ) -> BoxFuture<'a, Result<CredentialDocument, ManageError>> {
        Box::pin(self.make_secret(current, by))
    }

    fn rights<'a>(&'a self, id: &'a ManagedId, by: Rotator) -> BoxFuture<'a, Result<Rights, ManageError>> {
        Box::pin(async move { Ok(client_document::rights(&self.client(id, by).await?)) })
    }

    fn probe<'a>(&'a self, token: &'a SecretString) -> BoxFuture<'a, Result<bool, ManageError>> {
        Box::pin(self.works(token))
    }

    fn used_since<'a>(
        &'a self,
        id: &'a ManagedId,
        since: UnixMillis,
        by: Rotator,
    ) -> BoxFuture<'a, Result<Option<u64>, ManageError>> {
        Box::pin(self.usage(id, since, by))
    }

    fn inventory(&self, by: Rotator) -> BoxFuture<'_, Result<Vec<ManagedSecret>, ManageError>> {
        Box::pin(async move { Ok(self.clients(by).await?.iter().filter_map(client_document::listed).collect()) })
    }
}
