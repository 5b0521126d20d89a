//! Builds the organisation from its configuration. Invariant: a configuration that the platform could not hold (an
//! unknown role, two clients with one id) stops the start with the name of the field.

use super::addresses;
use super::state::{Client, ClientSecret, Role, State, User};
use crate::config::{ClientConfig, RoleConfig, SandboxConfig, UserConfig};
use crate::handle::{InitialClient, SandboxError};
use crate::mint::{Mint, sha256};
use crate::secret::SandboxSecret;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// Name of the built-in role and of the default client and user.
const ADMIN: &str = "admin";
/// Role division that stands for all divisions (accepted by the official Terraform provider).
const ALL_DIVISIONS: &str = "*";

/// Initial clients are older than every delay that applies to new ones (90 days).
const AGE_MS: i64 = 90 * 86_400_000;

pub(super) fn build(
    config: &SandboxConfig,
    mint: &Mint,
    now: i64,
) -> Result<(State, Vec<InitialClient>), SandboxError> {
    let mut state = State { idle_timeout_seconds: config.genesys.idle_timeout_seconds, ..State::default() };
    let admin = RoleConfig { id: None, name: ADMIN.to_owned(), permissions: vec!["*:*:*".to_owned()] };
    for role in std::iter::once(&admin).chain(&config.genesys.roles) {
        let id = add_role(&mut state, mint, role);
        if state.roles.len() > 1 && role.name == ADMIN {
            return Err(problem("genesys.roles", format!("{id}: the role \"{ADMIN}\" is built in")));
        }
    }
    let default_user = UserConfig { id: None, name: ADMIN.to_owned(), email: None, roles: vec![ADMIN.to_owned()] };
    let users = if config.genesys.users.is_empty() { vec![default_user] } else { config.genesys.users.clone() };
    for user in &users {
        add_user(&mut state, mint, user)?;
    }
    let clients =
        if config.genesys.clients.is_empty() { vec![default_client(&state)] } else { config.genesys.clients.clone() };
    let initial = clients
        .iter()
        .enumerate()
        .map(|(index, client)| add_client(&mut state, mint, config, client, now, index))
        .collect::<Result<Vec<_>, _>>()?;
    Ok((state, initial))
}

/// The default client holds every role, so that the superset rule lets it manage any client of the configuration.
fn default_client(state: &State) -> ClientConfig {
    let mut client = ClientConfig::with_permissions(ADMIN, &[]);
    client.roles = state.roles.keys().cloned().collect();
    client
}

fn problem(field: impl Into<String>, problem: impl Into<String>) -> SandboxError {
    SandboxError::Config { field: field.into(), problem: problem.into() }
}

fn add_role(state: &mut State, mint: &Mint, role: &RoleConfig) -> String {
    let id = role.id.clone().unwrap_or_else(|| mint.uuid_for(&format!("role {}", role.name)));
    let mut fields = Map::new();
    fields.insert("name".to_owned(), json!(role.name));
    fields.insert("permissions".to_owned(), json!(role.permissions));
    state.roles.insert(id.clone(), Role { fields, grants: role.permissions.clone() });
    id
}

/// Role ids from names or ids.
fn resolve(state: &State, field: &str, wanted: &[String]) -> Result<BTreeSet<String>, SandboxError> {
    wanted
        .iter()
        .map(|wanted| {
            let by_name = || state.roles.iter().find(|(_, role)| role.fields.get("name") == Some(&json!(wanted)));
            let known = state.roles.get_key_value(wanted).or_else(by_name).map(|(id, _)| id.clone());
            known.ok_or_else(|| problem(field, format!("there is no role \"{wanted}\"")))
        })
        .collect()
}

fn add_user(state: &mut State, mint: &Mint, user: &UserConfig) -> Result<(), SandboxError> {
    let id = user.id.clone().unwrap_or_else(|| mint.uuid_for(&format!("user {}", user.name)));
    let roles = resolve(state, &format!("genesys.users.{}.roles", user.name), &user.roles)?;
    let email = user.email.clone().unwrap_or_else(|| format!("{}@example.com", user.name.replace(' ', ".")));
    state.users.insert(id, User { name: user.name.clone(), email, roles });
    Ok(())
}

fn add_client(
    state: &mut State,
    mint: &Mint,
    config: &SandboxConfig,
    client: &ClientConfig,
    now: i64,
    index: usize,
) -> Result<InitialClient, SandboxError> {
    let field = |name: &str| format!("genesys.clients[{index}].{name}");
    let id = client.id.clone().unwrap_or_else(|| mint.uuid_for(&format!("client {}", client.name)));
    let secret = match &client.secret {
        Some(secret) => secret.clone(),
        None => SandboxSecret::new(mint.secret_for(&format!("client {}", client.name))),
    };
    let (least, most) = config.behaviours.token_life_bounds;
    if !(least..=most).contains(&client.token_seconds) {
        return Err(problem(field("token_seconds"), format!("{least} to {most} seconds")));
    }
    if let Some(bad) = client.allowed_ips.iter().find(|text| !addresses::is_range(text)) {
        return Err(problem(field("allowed_ips"), format!("\"{bad}\" is no address and no CIDR range")));
    }
    let mut roles = resolve(state, &field("roles"), &client.roles)?;
    if !client.permissions.is_empty() {
        let name = format!("client {}", client.name);
        roles.insert(add_role(state, mint, &RoleConfig { id: None, name, permissions: client.permissions.clone() }));
    }
    let divisions: Vec<Value> = roles.iter().map(|role| json!({"roleId": role, "divisionId": ALL_DIVISIONS})).collect();
    let fields = json!({
        "name": client.name,
        "authorizedGrantType": client.grant_type,
        "accessTokenValiditySeconds": client.token_seconds,
        "roleDivisions": divisions,
        "roleIds": roles,
        "registeredRedirectUri": client.redirect_uris,
        "scope": client.scopes,
        "state": "active",
    });
    let Value::Object(mut fields) = fields else { return Err(problem(field("name"), "is no object")) };
    if !client.allowed_ips.is_empty() {
        // announced and not published: shown as what a client was given
        fields.insert("allowedIps".to_owned(), json!(client.allowed_ips));
    }
    let first = ClientSecret {
        id: mint.uuid_for(&format!("secret of client {id}")),
        digest: sha256(secret.expose().as_bytes()),
        created_ms: now,
        usable_from_ms: now,
    };
    let creator = state.users.keys().next().cloned().unwrap_or_default();
    let built = Client {
        id: id.clone(),
        fields,
        secrets: vec![first],
        created_ms: now - AGE_MS,
        modified_ms: now - AGE_MS,
        created_by: creator.clone(),
        modified_by: creator,
        allowed_ips: client.allowed_ips.clone(),
    };
    if state.clients.insert(id.clone(), built).is_some() {
        return Err(problem(field("id"), format!("the client \"{id}\" is there twice (same id or same name)")));
    }
    Ok(InitialClient { name: client.name.clone(), id, secret })
}
