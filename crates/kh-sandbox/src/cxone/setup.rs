//! Builds the tenants from their configuration. Invariant: an empty configuration gives one tenant, one user, one
//! access key and one application, all derived from the seed.

use super::state::{AccessKey, Application, State, Tenant, User};
use crate::config::{AccessKeyConfig, ApplicationConfig, CxoneConfig, CxoneUserConfig, TenantConfig};
use crate::handle::{InitialAccessKey, InitialApplication};
use crate::mint::{Mint, sha256};
use crate::secret::SandboxSecret;
use serde_json::{Map, json};

/// First agent number; the vendor's are six to eight digits.
const FIRST_AGENT: u64 = 1_000_001;

pub(super) fn build(
    config: &CxoneConfig,
    mint: &Mint,
    now: i64,
) -> (State, Vec<InitialAccessKey>, Vec<InitialApplication>) {
    let mut state = State { next_entity: FIRST_AGENT, ..State::default() };
    let mut keys = Vec::new();
    let default_tenant = TenantConfig {
        id: None,
        name: "sandbox".to_owned(),
        area: "na1".to_owned(),
        cluster: "B32".to_owned(),
        users: Vec::new(),
    };
    let tenants = if config.tenants.is_empty() { vec![default_tenant] } else { config.tenants.clone() };
    for (index, tenant) in tenants.iter().enumerate() {
        let id = tenant.id.clone().unwrap_or_else(|| mint.uuid_for(&format!("tenant {}", tenant.name)));
        let business_unit = -4_000 - i64::try_from(index).unwrap_or(0);
        let kept = Tenant {
            name: tenant.name.clone(),
            area: tenant.area.clone(),
            cluster: tenant.cluster.clone(),
            business_unit,
        };
        state.tenants.insert(id.clone(), kept);
        let default_user =
            CxoneUserConfig { id: None, name: "integration".to_owned(), active: true, access_keys: Vec::new() };
        let users = if tenant.users.is_empty() { vec![default_user] } else { tenant.users.clone() };
        for user in &users {
            add_user(&mut state, mint, &id, tenant, user, &mut keys);
        }
    }
    let applications = add_applications(&mut state, config, mint, now);
    (state, keys, applications)
}

fn add_user(
    state: &mut State,
    mint: &Mint,
    tenant_id: &str,
    tenant: &TenantConfig,
    user: &CxoneUserConfig,
    keys: &mut Vec<InitialAccessKey>,
) {
    let label = format!("tenant {} user {}", tenant.name, user.name);
    let id = user.id.clone().unwrap_or_else(|| mint.uuid_for(&label));
    let agent_id = state.next_entity;
    state.next_entity += 1;
    let kept = User { tenant_id: tenant_id.to_owned(), name: user.name.clone(), agent_id, active: user.active };
    state.users.insert(id.clone(), kept);
    let default_key = AccessKeyConfig {
        id: mint.key_text_for(&format!("{label} key")),
        secret: SandboxSecret::new(mint.key_text_for(&format!("{label} key secret"))),
        active: true,
    };
    let wanted = if user.access_keys.is_empty() { vec![default_key] } else { user.access_keys.clone() };
    for key in wanted {
        let digest = sha256(key.secret.expose().as_bytes());
        let kept = AccessKey { user_id: id.clone(), secret: digest, active: key.active, last_used_ms: None };
        state.keys.insert(key.id.clone(), kept);
        keys.push(InitialAccessKey {
            tenant_id: tenant_id.to_owned(),
            user_id: id.clone(),
            id: key.id,
            secret: key.secret,
        });
    }
}

fn add_applications(state: &mut State, config: &CxoneConfig, mint: &Mint, now: i64) -> Vec<InitialApplication> {
    let default = ApplicationConfig {
        id: mint.uuid_for("cxone application"),
        secret: SandboxSecret::new(mint.secret_for("cxone application")),
        name: "sandbox application".to_owned(),
    };
    let wanted = if config.applications.is_empty() { vec![default] } else { config.applications.clone() };
    let mut initial = Vec::new();
    for application in wanted {
        let mut fields = Map::new();
        for (name, value) in [
            ("name", json!(application.name)),
            ("type", json!("backend")),
            ("tenancy", json!("all")),
            ("authMethod", json!("client_secret_basic")),
            ("createdTime", json!(crate::clock::iso(now))),
        ] {
            fields.insert(name.to_owned(), value);
        }
        let secret = sha256(application.secret.expose().as_bytes());
        state.applications.insert(application.id.clone(), Application { secret, fields, enabled: true });
        initial.push(InitialApplication { id: application.id, secret: application.secret });
    }
    initial
}
