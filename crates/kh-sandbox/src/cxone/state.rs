//! State of the tenants. Invariant: of keys, application secrets and tokens only the SHA-256 is kept.

use crate::mint::Digest32;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};

/// Live sessions kept; the expired go first, then all of them (a run that logs in per request).
const SESSIONS_MAX: usize = 100_000;

/// State behind the one lock of the platform.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) tenants: BTreeMap<String, Tenant>,
    pub(super) users: BTreeMap<String, User>,
    pub(super) keys: BTreeMap<String, AccessKey>,
    pub(super) applications: BTreeMap<String, Application>,
    /// By the SHA-256 of the access token.
    pub(super) sessions: HashMap<Digest32, Session>,
    /// By the SHA-256 of the refresh token.
    pub(super) refreshes: HashMap<Digest32, Session>,
    /// ACD entities: tenant and collection to id to entity.
    pub(super) entities: BTreeMap<(String, String), BTreeMap<u64, Map<String, Value>>>,
    pub(super) next_entity: u64,
}

#[derive(Debug)]
pub(super) struct Tenant {
    pub(super) name: String,
    pub(super) area: String,
    pub(super) cluster: String,
    /// The business unit is a negative number in the vendor's tokens.
    pub(super) business_unit: i64,
}

#[derive(Debug)]
pub(super) struct User {
    pub(super) tenant_id: String,
    pub(super) name: String,
    pub(super) agent_id: u64,
    pub(super) active: bool,
}

#[derive(Debug)]
pub(super) struct AccessKey {
    pub(super) user_id: String,
    pub(super) secret: Digest32,
    pub(super) active: bool,
    pub(super) last_used_ms: Option<i64>,
}

#[derive(Debug)]
pub(super) struct Application {
    pub(super) secret: Digest32,
    pub(super) fields: Map<String, Value>,
    pub(super) enabled: bool,
}

/// A login, by access key.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) id: String,
    pub(super) user_id: String,
    pub(super) key_id: String,
    pub(super) application: Option<String>,
    pub(super) expires_ms: i64,
}

impl State {
    pub(super) fn keep_session(
        &mut self,
        access: Digest32,
        refresh: Digest32,
        session: Session,
        refresh_until: i64,
        now: i64,
    ) {
        if self.sessions.len() >= SESSIONS_MAX {
            self.sessions.retain(|_, session| session.expires_ms > now);
            self.refreshes.retain(|_, session| session.expires_ms > now);
        }
        if self.sessions.len() >= SESSIONS_MAX {
            self.sessions.clear();
        }
        self.refreshes.insert(refresh, Session { expires_ms: refresh_until, ..session.clone() });
        self.sessions.insert(access, session);
    }
}
