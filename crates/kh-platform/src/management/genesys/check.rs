//! The look before a rotation: does the rotator hold the roles and permissions that the platform will ask for?
//!
//! Invariant: only reads; what cannot be read is a warning with its reason, never a guess; at most [`ROLES_MAX`] roles
//! are looked at.

use std::collections::BTreeSet;

use kh_core::{
    credential::CredentialDocument,
    port::{
        ManageError, Strategy,
        secret_management::{ManagementCheck, Rotator},
    },
};
use serde_json::Value;

use super::{GenesysManagement, held, named, parse};
use crate::management::{
    calls::Ask,
    client_document::{self, Client},
    shared::Organisation,
    superset::{gaps, granted, grants},
};

/// Roles that are read to learn the rotator's permissions: a client has a handful, and the rate limit is shared.
const ROLES_MAX: usize = 30;

impl GenesysManagement {
    pub(super) async fn look(
        &self,
        current: &CredentialDocument,
        strategy: Strategy,
        by: Rotator,
    ) -> Result<ManagementCheck, ManageError> {
        let mut check = ManagementCheck::default();
        if strategy == Strategy::Overlap {
            check.obstacles.push(
                "a Genesys Cloud client has one secret, so two cannot overlap: use the strategy pair or swap"
                    .to_owned(),
            );
            return Ok(check);
        }
        let id = named(current)?;
        let seen =
            self.calls().shared.organisation(by, || self.calls().mono(), Box::pin(self.organisation(by))).await?;
        // a client that was just made may not be in the list yet
        let read = if seen.clients.contains_key(&id) { None } else { Some(self.client(&id, by).await?) };
        let Some(client) = seen.clients.get(&id).or(read.as_ref()) else { return Ok(check) };
        about_client(&mut check, client, strategy);
        about_rotator(&mut check, &seen.me, client, by, strategy);
        permissions(&mut check, &seen, strategy);
        if strategy == Strategy::Pair {
            let others: Vec<_> = seen.twins(&id, client).into_iter().map(|other| other.0.as_str()).collect();
            if !others.is_empty() {
                check.warnings.push(format!("this pair already has further clients: {}", others.join(", ")));
            }
            check.warnings.push(
                "how many clients the organisation may have is not published, so free places are not known".to_owned(),
            );
        }
        Ok(check)
    }

    /// Everything that checks look at, in as many requests for a thousand clients as for one.
    async fn organisation(&self, by: Rotator) -> Result<Organisation, ManageError> {
        let clients = self.clients(by).await?;
        let me = self.me(by).await?.client;
        let mut held = BTreeSet::new();
        let roles = client_document::roles(&me);
        let mut unread = roles.len().saturating_sub(ROLES_MAX);
        for role in roles.keys().take(ROLES_MAX) {
            match self.role(role, by).await {
                Ok(document) => held.extend(grants(&document)),
                Err(_) => unread += 1,
            }
        }
        Ok(Organisation::new(clients, me, held, unread))
    }

    async fn role(&self, id: &str, by: Rotator) -> Result<Value, ManageError> {
        let answer =
            self.calls().send(by, Ask::read(self.calls().url(by, "/api/v2/authorization/roles", &[id]).await?)).await?;
        Ok(parse(&answer).unwrap_or(Value::Null))
    }
}

fn permissions(check: &mut ManagementCheck, seen: &Organisation, strategy: Strategy) {
    let missing: Vec<&str> =
        needed(strategy).iter().filter(|permission| !granted(&seen.grants, permission)).copied().collect();
    if missing.is_empty() {
        return;
    }
    let (missing, unread) = (missing.join(", "), seen.unread);
    if unread == 0 {
        check.obstacles.push(format!("the rotator lacks permissions: give one of its roles {missing}"));
    } else {
        check.warnings.push(format!(
            "whether the rotator has {missing} could not be seen, because {unread} of its roles cannot be read (authorization:role:view)"
        ));
    }
}

/// What the published operations ask for.
fn needed(strategy: Strategy) -> &'static [&'static str] {
    match strategy {
        Strategy::Pair => &["oauth:client:view", "oauth:client:add", "oauth:client:edit", "oauth:client:delete"],
        Strategy::Swap | Strategy::Overlap => &["oauth:client:view", "oauth:client:edit"],
    }
}

fn about_client(check: &mut ManagementCheck, client: &Client, strategy: Strategy) {
    let state = client_document::state(client);
    if state != "active" {
        check.obstacles.push(format!("the client is {state}: make it active first"));
    }
    let grant = client_document::text(client, "authorizedGrantType").unwrap_or("unknown");
    if strategy == Strategy::Pair && grant != "CLIENT-CREDENTIALS" {
        check.obstacles.push(format!(
            "a second client would need consent and redirect addresses of its own with the grant {grant}: use the strategy swap"
        ));
    }
}

fn about_rotator(check: &mut ManagementCheck, me: &Client, client: &Client, by: Rotator, strategy: Strategy) {
    if client_document::text(me, "authorizedGrantType") != Some("CLIENT-CREDENTIALS") {
        check.obstacles.push(
            "the rotator's token belongs to a person, whose roles its client does not show: use a client-credentials client"
                .to_owned(),
        );
        return;
    }
    let (me, target) = (held(me), held(client));
    if me.client == target.client {
        let what = match strategy {
            Strategy::Swap => "make its own secret anew: a lost answer would lock it out",
            Strategy::Pair | Strategy::Overlap => "replace itself",
        };
        check.obstacles.push(format!("this rotator is the client, and must not {what}; let the other rotator do it"));
    }
    check.obstacles.extend(gaps(&[(by, me)], &[target]).iter().map(crate::management::superset::Gap::sentence));
}
