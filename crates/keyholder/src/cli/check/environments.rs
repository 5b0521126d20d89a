//! `keyholder check`: what of one environment reaches into another.

use std::collections::BTreeMap;

use kh_core::{
    EnvironmentName, SecretReference,
    credential::CredentialDocument,
    port::{ClientRecord, SecretSource},
};

use kh_issuer::Issuer;

use super::{Finding, Loaded};
use crate::{
    compose::{Look, client_fits},
    config::Config,
};

/// The credentials that share something, one of each environment.
type Users = BTreeMap<Option<EnvironmentName>, String>;

/// keyholder clients whose credential changed its environment: their logins and calls are refused.
pub(super) fn misplaced_clients(loaded: &Loaded, issuer: &Issuer) -> Vec<Finding> {
    issuer.clients().iter().filter_map(|client| misplaced(&loaded.config, &client.record)).collect()
}

fn misplaced(config: &Config, record: &ClientRecord) -> Option<Finding> {
    let refused = client_fits(config, record).err()?;
    let own = record.credential.as_ref().and_then(|name| config.credentials.get(name)?.environment.clone());
    Some(Finding {
        subject: format!("client {}", record.name),
        problem: format!("{refused}; its logins and calls are refused"),
        hint: match own {
            Some(own) => format!("keyholder client bind {} --environment {own}", record.name),
            None => "give the credential its environment back".to_owned(),
        },
    })
}

/// Warnings of documents that credentials of several environments share.
pub(super) fn shared_documents(config: &Config) -> Vec<String> {
    let shared = |(secret, users): (SecretReference, Users)| {
        told(&users)
            .map(|told| format!("credentials of several environments share the secret {}: {told}", secret.shown()))
    };
    users_of(config).into_iter().filter_map(shared).collect()
}

/// Warnings of platform clients that stand in several documents, for several environments. A document that cannot be
/// read is told by another check.
pub(super) async fn shared_clients(config: &Config, look: &Look) -> Vec<String> {
    let mut clients: BTreeMap<String, (Users, usize)> = BTreeMap::new();
    for (secret, users) in users_of(config) {
        let Ok(stored) = look.sources.read(&secret).await else { continue };
        let Ok(document) = CredentialDocument::parse(&stored.value) else { continue };
        let Some(id) = document.client_id.or(document.access_key_id) else { continue };
        let (all, documents) = clients.entry(id).or_default();
        *documents += 1;
        for (environment, credential) in users {
            all.entry(environment).or_insert(credential);
        }
    }
    let shared = |(id, (users, documents)): (String, (Users, usize))| {
        // the users of one document are told already
        let told = told(&users).filter(|_| documents > 1)?;
        Some(format!("credentials of several environments log in as the platform's client {id}: {told}"))
    };
    clients.into_iter().filter_map(shared).collect()
}

fn users_of(config: &Config) -> BTreeMap<SecretReference, Users> {
    let mut users: BTreeMap<SecretReference, Users> = BTreeMap::new();
    for (name, credential) in &config.credentials {
        let of = users.entry(credential.secret.clone()).or_default();
        of.entry(credential.environment.clone()).or_insert_with(|| name.to_string());
    }
    users
}

/// The users with their environments, if there is more than one environment.
fn told(users: &Users) -> Option<String> {
    let named = |(environment, credential): (&Option<EnvironmentName>, &String)| match environment {
        Some(environment) => format!("{credential} ({environment})"),
        None => format!("{credential} (no environment)"),
    };
    (users.len() > 1).then(|| users.iter().map(named).collect::<Vec<_>>().join(", "))
}
