//! A strict platform in memory: secrets with ids, logins, tokens, and a log of every changing call.
//!
//! Invariant: it does what a real one does to a client that errs: too many secrets are refused, an id that is gone is
//! gone, and a regenerated secret is dead at once.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use kh_core::{
    Clock, ManualClock, SecretString, UnixMillis,
    credential::CredentialDocument,
    port::{
        BoxFuture, FetchError, IssuedToken, ManageError, SecretManagement, Strategy, TokenEndpoint,
        secret_management::{CreatedSecret, ManagedSecret, ManagementCheck, ManagementTraits, Rights, Rotator},
    },
    rotation::ManagedId,
};

use crate::gate::{Fault, Gate};

/// Stands in every secret, so that a copy in the clear is found.
pub(crate) const MARK: &str = "kh-marked-secret";

/// How long tokens live.
pub(crate) const TOKEN_LIFE: Duration = Duration::from_hours(1);

#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) id: ManagedId,
    pub(crate) name: Option<String>,
    pub(crate) secret: String,
    pub(crate) active: bool,
    created_at: UnixMillis,
    logins: Vec<UnixMillis>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Call {
    Create(String),
    Regenerate,
    Stop(ManagedId),
    Start(ManagedId),
    Delete(ManagedId),
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) rows: Vec<Row>,
    made: u32,
    tokens: Vec<(String, String, UnixMillis)>,
    /// Every changing call that was carried out.
    pub(crate) calls: Vec<Call>,
    /// Every secret there ever was.
    pub(crate) secrets: Vec<String>,
    pub(crate) limit_met: bool,
    /// Most rows that there may be, active or not; none: only active ones are counted.
    pub(crate) rows_max: Option<usize>,
    /// Whether none can be stopped.
    pub(crate) no_stop: bool,
    /// What a check finds in the way.
    pub(crate) obstacles: Vec<String>,
    pub(crate) switched_off: bool,
    /// How the next check fails.
    pub(crate) unchecked: Option<ManageError>,
}

/// How a listing fails.
#[derive(Clone, Debug)]
pub(crate) enum Unlisted {
    /// The platform says why.
    Refused(ManageError),
    /// It never answers.
    Hangs,
}

pub(crate) struct Platform {
    pub(crate) strategy: Strategy,
    pub(crate) state: Mutex<State>,
    pub(crate) clock: ManualClock,
    pub(crate) gate: Arc<Gate>,
    /// Whether a token outlives the regeneration of its secret.
    pub(crate) tokens_survive: bool,
    /// Most active ones.
    pub(crate) active_max: usize,
    /// How the next listing fails.
    pub(crate) unlisted: Mutex<Option<Unlisted>>,
}

impl State {
    pub(crate) fn new_row(&mut self, name: Option<String>, at: UnixMillis) -> Row {
        self.made += 1;
        let secret = format!("{MARK}-{}", self.made);
        self.secrets.push(secret.clone());
        let row = Row {
            id: ManagedId(format!("id-{}", self.made)),
            name,
            secret,
            active: true,
            created_at: at,
            logins: Vec::new(),
        };
        self.rows.push(row.clone());
        row
    }
}

fn document_of(strategy: Strategy, row: &Row) -> CredentialDocument {
    let secret = Some(SecretString::copied(&row.secret));
    match strategy {
        Strategy::Overlap => CredentialDocument {
            access_key_id: Some(row.id.0.clone()),
            access_key_secret: secret,
            ..CredentialDocument::default()
        },
        Strategy::Pair => CredentialDocument {
            client_id: Some(row.id.0.clone()),
            client_secret: secret,
            ..CredentialDocument::default()
        },
        Strategy::Swap => CredentialDocument {
            client_id: Some("the-client".to_owned()),
            client_secret: secret,
            ..CredentialDocument::default()
        },
    }
}

fn secret_of(document: &CredentialDocument) -> String {
    let secret = document.client_secret.as_ref().or(document.access_key_secret.as_ref());
    secret.map(|secret| secret.expose().to_owned()).unwrap_or_default()
}

impl Platform {
    pub(crate) fn new(strategy: Strategy, clock: ManualClock, gate: Arc<Gate>) -> Self {
        let platform = Self {
            strategy,
            state: Mutex::default(),
            clock,
            gate,
            tokens_survive: true,
            active_max: 3,
            unlisted: Mutex::default(),
        };
        let now = platform.clock.now().wall;
        platform.state.lock().unwrap().new_row(Some("made by a person".to_owned()), now);
        platform
    }

    /// The document of the first secret.
    pub(crate) fn first(&self) -> CredentialDocument {
        document_of(self.strategy, &self.state.lock().unwrap().rows[0])
    }

    pub(crate) fn now(&self) -> UnixMillis {
        self.clock.now().wall
    }

    /// A login as an application makes it.
    pub(crate) fn login(&self, document: &CredentialDocument) -> Option<SecretString> {
        let now = self.now();
        let secret = secret_of(document);
        let mut state = self.state.lock().unwrap();
        let row = state.rows.iter_mut().find(|row| row.secret == secret && row.active)?;
        row.logins.push(now);
        let token = format!("token-{}-{}", row.id, row.logins.len());
        state.tokens.push((token.clone(), secret, now));
        Some(SecretString::new(token))
    }

    /// Whether a document could log in, without doing it.
    pub(crate) fn accepts(&self, document: &CredentialDocument) -> bool {
        let secret = secret_of(document);
        self.state.lock().unwrap().rows.iter().any(|row| row.secret == secret && row.active)
    }

    /// A changing call: a boundary before it and one after it, and what goes wrong.
    async fn change<T>(
        &self,
        what: &str,
        work: impl FnOnce(&mut State) -> Result<T, ManageError> + Send,
    ) -> Result<T, ManageError> {
        self.gate.pass(&format!("{what}, before")).await;
        let fault = self.gate.fault(what);
        let unknown = || ManageError::Unknown { reason: "the connection broke".to_owned() };
        let done = match fault {
            Fault::NotDone => return Err(ManageError::NotDone { reason: "503 before it was sent".to_owned() }),
            Fault::RequestLost => Err(unknown()),
            Fault::None => work(&mut self.state.lock().unwrap()),
            Fault::AnswerLost => work(&mut self.state.lock().unwrap()).and_then(|_| Err(unknown())),
        };
        self.gate.pass(&format!("{what}, after")).await;
        done
    }
}

impl SecretManagement for Platform {
    fn traits(&self) -> ManagementTraits {
        ManagementTraits {
            strategies: vec![self.strategy],
            reversible_stop: self.strategy != Strategy::Swap && !self.state.lock().unwrap().no_stop,
            active_max: Some(u32::try_from(self.active_max).unwrap()),
            settles_within: Duration::from_secs(10),
            token_life_max: TOKEN_LIFE,
        }
    }

    fn id_of(&self, current: &CredentialDocument) -> Option<ManagedId> {
        match self.strategy {
            Strategy::Overlap => current.access_key_id.clone().map(ManagedId),
            Strategy::Pair => current.client_id.clone().map(ManagedId),
            Strategy::Swap => None,
        }
    }

    fn check<'a>(
        &'a self,
        _current: &'a CredentialDocument,
        _strategy: Strategy,
        _by: Rotator,
    ) -> BoxFuture<'a, Result<ManagementCheck, ManageError>> {
        Box::pin(async {
            let mut state = self.state.lock().unwrap();
            if let Some(error) = state.unchecked.take() {
                return Err(error);
            }
            let (obstacles, switched_off) = (state.obstacles.clone(), state.switched_off);
            Ok(ManagementCheck { obstacles, switched_off, ..ManagementCheck::default() })
        })
    }

    fn list<'a>(
        &'a self,
        _current: &'a CredentialDocument,
        _by: Rotator,
    ) -> BoxFuture<'a, Result<Vec<ManagedSecret>, ManageError>> {
        Box::pin(async {
            let unlisted = self.unlisted.lock().unwrap().take();
            match unlisted {
                None => {}
                Some(Unlisted::Refused(error)) => return Err(error),
                Some(Unlisted::Hangs) => std::future::pending::<()>().await,
            }
            let state = self.state.lock().unwrap();
            Ok(state
                .rows
                .iter()
                .map(|row| ManagedSecret {
                    id: row.id.clone(),
                    name: row.name.clone(),
                    active: row.active,
                    created_at: Some(row.created_at),
                    last_used_at: row.logins.last().copied(),
                    owner: None,
                })
                .collect())
        })
    }

    fn create<'a>(
        &'a self,
        current: &'a CredentialDocument,
        label: &'a str,
        _by: Rotator,
    ) -> BoxFuture<'a, Result<CreatedSecret, ManageError>> {
        Box::pin(async move {
            let (now, model) = (self.now(), self.id_of(current));
            self.change("create", |state| {
                // what can be stopped is the model of the new one, as at Genesys Cloud and CXone
                let gone = |id: &ManagedId| !state.no_stop && state.rows.iter().all(|row| row.id != *id);
                if let Some(id) = model.filter(gone) {
                    return Err(ManageError::NotFound(id));
                }
                let active = state.rows.iter().filter(|row| row.active).count();
                if active >= self.active_max || state.rows_max.is_some_and(|most| state.rows.len() >= most) {
                    state.limit_met = true;
                    return Err(ManageError::LimitReached { platform_code: "too.many".to_owned() });
                }
                state.calls.push(Call::Create(label.to_owned()));
                let row = state.new_row(Some(label.to_owned()), now);
                Ok(CreatedSecret { id: row.id.clone(), document: document_of(self.strategy, &row) })
            })
            .await
        })
    }

    fn set_active<'a>(
        &'a self,
        _current: &'a CredentialDocument,
        id: &'a ManagedId,
        active: bool,
        _by: Rotator,
    ) -> BoxFuture<'a, Result<(), ManageError>> {
        Box::pin(async move {
            self.change(if active { "start" } else { "stop" }, |state| {
                state.calls.push(if active { Call::Start(id.clone()) } else { Call::Stop(id.clone()) });
                let row = state.rows.iter_mut().find(|row| row.id == *id);
                row.map(|row| row.active = active).ok_or_else(|| ManageError::NotFound(id.clone()))
            })
            .await
        })
    }

    fn delete<'a>(
        &'a self,
        _current: &'a CredentialDocument,
        id: &'a ManagedId,
        _by: Rotator,
    ) -> BoxFuture<'a, Result<(), ManageError>> {
        Box::pin(async move {
            self.change("delete", |state| {
                // Genesys Cloud deletes a client only after it was made inactive
                if self.strategy == Strategy::Pair && state.rows.iter().any(|row| row.id == *id && row.active) {
                    let hint = "make it inactive first".to_owned();
                    return Err(ManageError::Denied { platform_code: "cannot.delete.client".to_owned(), hint });
                }
                state.calls.push(Call::Delete(id.clone()));
                let before = state.rows.len();
                state.rows.retain(|row| row.id != *id);
                if state.rows.len() < before { Ok(()) } else { Err(ManageError::NotFound(id.clone())) }
            })
            .await
        })
    }

    fn regenerate<'a>(
        &'a self,
        _current: &'a CredentialDocument,
        _by: Rotator,
    ) -> BoxFuture<'a, Result<CredentialDocument, ManageError>> {
        Box::pin(async move {
            self.change("regenerate", |state| {
                state.calls.push(Call::Regenerate);
                state.made += 1;
                let secret = format!("{MARK}-{}", state.made);
                state.secrets.push(secret.clone());
                state.rows[0].secret = secret;
                Ok(document_of(self.strategy, &state.rows[0]))
            })
            .await
        })
    }

    fn rights<'a>(&'a self, id: &'a ManagedId, _by: Rotator) -> BoxFuture<'a, Result<Rights, ManageError>> {
        Box::pin(async move {
            let known = self.state.lock().unwrap().rows.iter().any(|row| row.id == *id);
            if known {
                Ok(Rights { lines: vec!["role employee".to_owned()] })
            } else {
                Err(ManageError::NotFound(id.clone()))
            }
        })
    }

    fn probe<'a>(&'a self, token: &'a SecretString) -> BoxFuture<'a, Result<bool, ManageError>> {
        Box::pin(async move {
            let now = self.now();
            let state = self.state.lock().unwrap();
            let found = state.tokens.iter().find(|(known, _, _)| known == token.expose());
            Ok(found.is_some_and(|(_, secret, at)| {
                let alive = state.rows.iter().any(|row| row.secret == *secret && row.active);
                now.since(*at) < TOKEN_LIFE && (alive || (self.strategy == Strategy::Swap && self.tokens_survive))
            }))
        })
    }

    fn used_since<'a>(
        &'a self,
        id: &'a ManagedId,
        since: UnixMillis,
        _by: Rotator,
    ) -> BoxFuture<'a, Result<Option<u64>, ManageError>> {
        Box::pin(async move {
            let state = self.state.lock().unwrap();
            let row = state.rows.iter().find(|row| row.id == *id);
            let uses = row.map_or(0, |row| row.logins.iter().filter(|at| **at > since).count());
            Ok(Some(uses as u64))
        })
    }

    fn inventory(&self, _by: Rotator) -> BoxFuture<'_, Result<Vec<ManagedSecret>, ManageError>> {
        Box::pin(async { Err(ManageError::Unsupported) })
    }
}

/// Logins of the rotator.
pub(crate) struct Endpoint(pub(crate) Arc<Platform>);

impl TokenEndpoint for Endpoint {
    fn fetch<'a>(
        &'a self,
        document: &'a CredentialDocument,
        _refresh: Option<&'a SecretString>,
    ) -> BoxFuture<'a, Result<IssuedToken, FetchError>> {
        Box::pin(async move {
            let Some(access_token) = self.0.login(document) else {
                return Err(FetchError::Rejected { platform_code: "invalid_client".to_owned(), correlation_id: None });
            };
            Ok(IssuedToken {
                access_token,
                expires_in: TOKEN_LIFE,
                refresh_token: None,
                scope: None,
                api_base: None,
                auth_base: None,
            })
        })
    }
}
