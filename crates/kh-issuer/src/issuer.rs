//! The issuer: one registry of clients and one table of sessions in memory over durable state. This file has the
//! parts, the hot path and the changes by persons; `login` and `reload` have the rest.

use std::{sync::Arc, time::Duration};

use kh_core::{
    ClientId, Clock, Entropy, Now, SecretString, Sha256,
    audit::AuditEvent,
    issued::{self, ISSUED_LEN, IssuedKind},
    port::{ClientRecord, RevocationStore, StateError, StateStore, TokenBinding, TokenFormat, state_store::Sha256Hex},
};

use parking_lot::Mutex;

use crate::{
    Client, IssuerError, NewClient, SecretOverlap, Session,
    authority::Authority,
    client::SECRETS_MAX,
    ledger::Ledger,
    registry::Registry,
    reload::{POLL_EVERY, Turn},
    revoked::Revoked,
    table::Lookup,
    throttle::Throttle,
    unknown::Unknown,
};

/// How often a change is tried again when somebody else changes the same client at the same time.
const CHANGE_TRIES: usize = 8;

/// Longest list of rules that is written into an audit event in full, in bytes.
const AUDITED_RULES_MAX: usize = 4096;

/// Read-throughs under way at once; two requests with the same token share one.
pub(crate) const LOOKUP_LANES: usize = 64;

/// keyholder's own authorization server. One per process and state: share it as an `Arc`.
pub struct Issuer {
    pub(crate) store: Arc<dyn StateStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) registry: Registry,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) unknown: Unknown,
    pub(crate) turn: Turn,
    pub(crate) lanes: Vec<tokio::sync::Mutex<()>>,
    pub(crate) throttle: Mutex<Throttle>,
    pub(crate) authority: Option<Authority>,
    pub(crate) revoked: Option<Revoked>,
}

/// What an issuer may have beside its state.
#[derive(Default)]
pub struct IssuerOptions {
    /// Its name and keys, with which others verify its tokens; without them its tokens are opaque.
    pub authority: Option<Authority>,
    /// Where revocations of JWTs are kept; without it they end by themselves alone.
    pub revocations: Option<Arc<dyn RevocationStore>>,
}

impl IssuerOptions {
    /// With a name and keys.
    pub fn named(authority: Authority) -> Self {
        Self { authority: Some(authority), ..Self::default() }
    }
}

impl Issuer {
    /// Loads all clients and live tokens. Without a name as an authorization server: its tokens are opaque.
    pub async fn open(
        store: Arc<dyn StateStore>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Arc<Self>, StateError> {
        Self::open_as(store, clock, entropy, IssuerOptions::default()).await
    }

    /// The same with what else there is.
    pub async fn open_as(
        store: Arc<dyn StateStore>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        options: IssuerOptions,
    ) -> Result<Arc<Self>, StateError> {
        let now = clock.now();
        let issuer = Self {
            store,
            clock,
            entropy,
            registry: Registry::default(),
            ledger: Arc::new(Ledger::new()),
            unknown: Unknown::new(now),
            turn: Turn::default(),
            lanes: (0..LOOKUP_LANES).map(|_| tokio::sync::Mutex::default()).collect(),
            throttle: Mutex::default(),
            authority: options.authority,
            revoked: options.revocations.map(|store| Revoked::new(store, now)),
        };
        issuer.refresh().await?;
        Ok(Arc::new(issuer))
    }

    /// keyholder's name and keys as an authorization server, if it has any.
    pub fn authority(&self) -> Option<&Authority> {
        self.authority.as_ref()
    }

    /// The hot path: the session of a bearer token, from memory alone. `None` means: not valid as far as memory
    /// knows; ask [`Issuer::session_or_load`] before refusing.
    pub fn session(&self, token: &[u8]) -> Option<Session> {
        self.session_at(token, self.now())
    }

    /// The same for a caller that has just read the clocks.
    pub fn session_at(&self, token: &[u8], now: Now) -> Option<Session> {
        if token.len() != ISSUED_LEN || !token.starts_with(IssuedKind::Token.prefix().as_bytes()) {
            return None;
        }
        match self.look_up(Sha256::of(token), now) {
            Lookup::Live(session) => Some(session),
            Lookup::Dead | Lookup::Unknown => None,
        }
    }

    /// Whether a [`Session`] that was handed out before still is one, by the digest of its token and from memory alone: for
    /// what goes on for longer than one request.
    pub fn is_live(&self, digest: Sha256, now: Now) -> bool {
        matches!(self.look_up(digest, now), Lookup::Live(_))
    }

    /// What the table knows about a digest; a session that was revoked with others is dead.
    pub(crate) fn look_up(&self, digest: Sha256, now: Now) -> Lookup {
        let found = self.ledger.table.lookup(digest, now);
        let (Lookup::Live(session), Some(revoked)) = (&found, &self.revoked) else { return found };
        let issuer = self.authority.as_ref().map(|authority| authority.issuer.as_str());
        if revoked.hits_session(issuer, &session.client.record.id, session.issued_at) { Lookup::Dead } else { found }
    }

    /// Every client, by name.
    pub fn clients(&self) -> Vec<Arc<Client>> {
        self.registry.all()
    }

    /// One client by its id, else by its name.
    pub fn client(&self, name_or_id: &str) -> Option<Arc<Client>> {
        self.registry.find(name_or_id)
    }

    /// How many tokens are in memory, for metrics; expired ones count until they are swept.
    pub fn live_sessions(&self) -> usize {
        self.ledger.table.len()
    }

    /// Adds a client; answers its record and its secret, which is told only here. `actor` is for the audit log:
    /// `cli:<login name>`, `admin:<who>`.
    pub async fn add_client(&self, new: NewClient, actor: &str) -> Result<(ClientRecord, SecretString), IssuerError> {
        let (token_ttl_s, allow) = new.check()?;
        let secret = issued::issue(IssuedKind::ClientSecret, &*self.entropy);
        let now = self.now().wall;
        let record = ClientRecord {
            id: self.new_client_id(),
            name: new.name,
            credential: new.credential,
            environment: new.environment,
            secret_digests: vec![Sha256Hex(secret.sha256())],
            old_secrets_until: None,
            scopes: new.scopes,
            token_format: new.tokens.format,
            audience: new.tokens.audience,
            may_introspect: new.tokens.may_introspect,
            token_binding: new.tokens.binding,
            allow: new.allow,
            allow_all: new.allow_all,
            allow_secret_operations: new.allow_secret_operations,
            token_ttl_s,
            enabled: true,
            created_at: now,
            updated_at: now,
        };
        let event = self.event(actor, "client.add", &record);
        self.store.add_client(record.clone(), describe(event, &record)).await?;
        self.keep(None, Client { record: record.clone(), allow }).await;
        Ok((record, secret))
    }

    /// Makes a new secret; the old one goes at once or after the overlap. Tokens that were issued stay valid.
    pub async fn rotate_secret(
        &self,
        name_or_id: &str,
        overlap: SecretOverlap,
        actor: &str,
    ) -> Result<(ClientRecord, SecretString), IssuerError> {
        let overlap = match overlap {
            SecretOverlap::None => Duration::ZERO,
            SecretOverlap::For(span) if span <= SecretOverlap::MAX => span,
            SecretOverlap::For(_) => {
                return Err(IssuerError::Invalid("an overlap of secrets lasts at most 90 d".to_owned()));
            }
        };
        let secret = issued::issue(IssuedKind::ClientSecret, &*self.entropy);
        let record = self
            .change(name_or_id, |before| {
                let mut after = before.clone();
                let now = self.now().wall;
                after.secret_digests.insert(0, Sha256Hex(secret.sha256()));
                after.secret_digests.truncate(if overlap.is_zero() { 1 } else { SECRETS_MAX });
                after.old_secrets_until = (!overlap.is_zero()).then(|| now.plus(overlap));
                after.updated_at = now;
                let event = self.event(actor, "client.rotate_secret", before);
                (after, event.with("overlap_s", &overlap.as_secs()))
            })
            .await?;
        Ok((record, secret))
    }

    /// Enables (`true`) or disables a client. Takes effect on every existing session at once.
    pub async fn set_enabled(&self, name_or_id: &str, enabled: bool, actor: &str) -> Result<ClientRecord, IssuerError> {
        let action = if enabled { "client.enable" } else { "client.disable" };
        if !enabled {
            let record = self.known(name_or_id).await?.record.clone();
            self.end_jwts_of(&record, actor).await?;
        }
        let changed = self
            .change(name_or_id, |before| {
                let after = ClientRecord { enabled, updated_at: self.now().wall, ..before.clone() };
                (after, self.event(actor, action, before))
            })
            .await?;
        if !enabled {
            self.end_late_jwts_of(&changed).await?;
        }
        Ok(changed)
    }

    /// Says what the client's tokens must be bound to. Takes effect on every existing session at once: a token that is
    /// not bound as it must be from now on is good for nothing.
    pub async fn set_token_binding(
        &self,
        name_or_id: &str,
        binding: TokenBinding,
        actor: &str,
    ) -> Result<ClientRecord, IssuerError> {
        let record = self.known(name_or_id).await?.record.clone();
        let ends_others = binding != TokenBinding::None && binding != record.token_binding;
        if ends_others {
            self.end_jwts_of(&record, actor).await?;
        }
        let changed = self
            .change(name_or_id, |before| {
                let after = ClientRecord { token_binding: binding, updated_at: self.now().wall, ..before.clone() };
                let event = self.event(actor, "client.set_token_binding", before);
                let event = event.with("token_binding", &binding.as_str());
                (after, event.with("token_binding_before", &before.token_binding.as_str()))
            })
            .await?;
        if ends_others {
            self.end_late_jwts_of(&changed).await?;
        }
        Ok(changed)
    }

    /// Removes a client, its secrets and its tokens.
    pub async fn remove_client(&self, name_or_id: &str, actor: &str) -> Result<ClientRecord, IssuerError> {
        let record = self.known(name_or_id).await?.record.clone();
        self.end_jwts_of(&record, actor).await?;
        let event = self.event(actor, "client.remove", &record);
        self.store.remove_client(record.id.clone(), event).await?;
        self.drop_client(&record.id);
        self.end_late_jwts_of(&record).await?;
        Ok(record)
    }

    /// Before a client with JWTs is disabled or removed, what it holds is revoked for those who verify by themselves. In
    /// this order a crash in between leaves a client that can log in again, and no token that outlives its client.
    async fn end_jwts_of(&self, record: &ClientRecord, actor: &str) -> Result<(), IssuerError> {
        let Some(revoked) = self.revoked.as_ref().filter(|_| record.token_format == TokenFormat::Jwt) else {
            return Ok(());
        };
        let event = self.event(actor, "client.revoke_tokens", record);
        Ok(revoked.revoke_client(&record.id, self.now().wall, Some(event)).await?)
    }

    /// Once the change is durable, the same for what is still issued: another process issues by what it read before,
    /// for up to [`POLL_EVERY`].
    async fn end_late_jwts_of(&self, record: &ClientRecord) -> Result<(), IssuerError> {
        let Some(revoked) = self.revoked.as_ref().filter(|_| record.token_format == TokenFormat::Jwt) else {
            return Ok(());
        };
        Ok(revoked.revoke_client(&record.id, self.now().wall.plus(2 * POLL_EVERY), None).await?)
    }

    pub(crate) fn drop_client(&self, id: &ClientId) {
        self.registry.remove(id.as_str());
        self.ledger.forget_client(id);
    }

    /// Reads, changes and writes a client, again if somebody else was faster.
    pub(crate) async fn change(
        &self,
        name_or_id: &str,
        edit: impl Fn(&ClientRecord) -> (ClientRecord, AuditEvent) + Send + Sync,
    ) -> Result<ClientRecord, IssuerError> {
        self.try_change(name_or_id, |before| Ok(edit(before))).await
    }

    /// The same for a change that depends on what is there; nothing is written when `edit` refuses.
    pub(crate) async fn try_change<E: From<IssuerError>>(
        &self,
        name_or_id: &str,
        edit: impl Fn(&ClientRecord) -> Result<(ClientRecord, AuditEvent), E> + Send + Sync,
    ) -> Result<ClientRecord, E> {
        let mut tries = 1;
        loop {
            let before = self.known(name_or_id).await?.record.clone();
            let (after, event) = edit(&before)?;
            match self.store.update_client(before.clone(), after.clone(), event).await {
                Ok(()) => {
                    self.keep(Some(&before), Client::of_stored(after.clone())).await;
                    return Ok(after);
                }
                Err(StateError::Changed(_)) if tries < CHANGE_TRIES => tries += 1,
                Err(StateError::NoSuchClient(_)) => {
                    self.drop_client(&before.id);
                    return Err(IssuerError::NoSuchClient(name_or_id.to_owned()).into());
                }
                Err(error) => return Err(IssuerError::State(error).into()),
            }
            self.reload().await.map_err(IssuerError::State)?;
        }
    }

    /// A client that this or another process added.
    pub(crate) async fn known(&self, name_or_id: &str) -> Result<Arc<Client>, IssuerError> {
        if let Some(client) = self.registry.find(name_or_id) {
            return Ok(client);
        }
        self.refresh().await?;
        self.registry.find(name_or_id).ok_or_else(|| IssuerError::NoSuchClient(name_or_id.to_owned()))
    }

    /// Makes a durable change visible. When somebody else's change came in between, what is stored decides; if it
    /// cannot be read now, the next refresh does it, because the change counter has moved.
    async fn keep(&self, before: Option<&ClientRecord>, after: Client) {
        if self.registry.put(before, after) {
            return;
        }
        if let Err(error) = self.reload().await {
            tracing::warn!("the clients could not be read again after a change: {error}");
        }
    }

    pub(crate) fn now(&self) -> Now {
        self.clock.now()
    }

    fn new_client_id(&self) -> ClientId {
        let mut bytes = [0; 16];
        self.entropy.fill(&mut bytes);
        let id = uuid::Builder::from_random_bytes(bytes).into_uuid().to_string();
        id.parse().expect("a UUID is made of letters, digits and dashes")
    }

    pub(crate) fn event(&self, actor: &str, action: &str, client: &ClientRecord) -> AuditEvent {
        AuditEvent::new(&*self.entropy, self.now().wall, actor, action, client.name.as_str())
            .with("client_id", &client.id)
    }
}

/// What a new client may do, for whoever reads the audit log.
fn describe(event: AuditEvent, record: &ClientRecord) -> AuditEvent {
    let rules: Vec<&str> = record.allow.iter().map(|rule| rule.0.as_str()).collect();
    let mut rules = rules.join(", ");
    if rules.len() > AUDITED_RULES_MAX {
        rules = format!("{} rules", record.allow.len());
    }
    let credential = record.credential.as_ref().map_or("", kh_core::CredentialName::as_str);
    event
        .with("credential", &credential)
        .with("environment", &record.environment.as_ref().map_or("", kh_core::EnvironmentName::as_str))
        .with("scopes", &record.scopes.join(" "))
        .with("token_format", &record.token_format.as_str())
        .with("audience", &record.audience.join(" "))
        .with("may_introspect", &record.may_introspect)
        .with("token_binding", &record.token_binding.as_str())
        .with("allow", &rules)
        .with("allow_all", &record.allow_all)
        .with("allow_secret_operations", &record.allow_secret_operations)
        .with("token_ttl_s", &record.token_ttl_s)
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer").field("sessions", &self.live_sessions()).finish_non_exhaustive()
    }
}
