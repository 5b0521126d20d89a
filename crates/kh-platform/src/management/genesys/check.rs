//! The look before a rotation: does the rotator hold the roles and permissions that the platform will ask for?
//!
//! Invariant: only reads; what cannot be read is a warning with its reason, never a guess; at most [`ROLES_MAX`] roles
//! are looked at.

use std::collections::{BTreeMap, BTreeSet};

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
    superset::{Gap, gaps, granted, grants},
};

/// Roles that are read to learn the rotator's permissions: a client has a handful, and the rate limit is shared.
const ROLES_MAX: usize = 30;

/// Roles whose names are read for one sentence; the others are told by their ids.
const NAMES_MAX: usize = 5;

impl GenesysManagement {
    /// With `alone` the other rotator is not looked at: it is never needed.
    pub(in crate::management) async fn look(
        &self,
        current: &CredentialDocument,
        strategy: Strategy,
        by: Rotator,
        alone: bool,
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
        self.about_rotator(&mut check, &seen.me, client, by, strategy).await;
        if !alone {
            self.about_the_other(&mut check, &seen.me, client, by, strategy).await?;
        }
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

    async fn about_rotator(
        &self,
        check: &mut ManagementCheck,
        me: &Client,
        client: &Client,
        by: Rotator,
        strategy: Strategy,
    ) {
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
            check
                .obstacles
                .push(format!("this rotator is the client, and must not {what}; let the other rotator do it"));
        }
        let found = self.sentences(&gaps(&[(by, me)], &[target]), by).await;
        check.obstacles.extend(found);
    }

    /// The other rotator goes on where the answer to a swap is lost, so that it must hold the same roles then; a pair
    /// never needs it. It also replaces this one's own secret.
    async fn about_the_other(
        &self,
        check: &mut ManagementCheck,
        me: &Client,
        client: &Client,
        by: Rotator,
        strategy: Strategy,
    ) -> Result<(), ManageError> {
        let (other, name) = match by {
            Rotator::First => (Rotator::Second, "the second rotator"),
            Rotator::Second => (Rotator::First, "the rotator"),
        };
        if !self.calls().tokens.has(other) {
            return Ok(());
        }
        let needed = strategy == Strategy::Swap;
        let look = self.calls().shared.organisation(other, || self.calls().mono(), Box::pin(self.organisation(other)));
        let rotator = match look.await {
            Ok(found) => held(&found.me),
            Err(error @ ManageError::Denied { .. }) if needed => {
                check
                    .obstacles
                    .push(format!("{name} cannot log in, and would be needed if an answer is lost: {error}"));
                return Ok(());
            }
            Err(error) if needed => return Err(error),
            Err(error) => {
                check.warnings.push(format!("the roles of {name} could not be read: {error}"));
                return Ok(());
            }
        };
        let target = held(client);
        if rotator.client == target.client {
            // one rotator replaces the other's secret now, and the other way round the next time
            let found = self.sentences(&gaps(&[(other, rotator)], &[held(me)]), by).await;
            check.warnings.extend(found);
            return Ok(());
        }
        let found = self.sentences(&gaps(&[(other, rotator)], &[target]), by).await;
        let told = if needed { &mut check.obstacles } else { &mut check.warnings };
        told.extend(found);
        Ok(())
    }

    /// Gaps in words, with the names of the roles where the rotator may read them.
    async fn sentences(&self, gaps: &[Gap], by: Rotator) -> Vec<String> {
        let mut sentences = Vec::new();
        for gap in gaps {
            let mut names = BTreeMap::new();
            for role in gap.missing.iter().flatten().take(NAMES_MAX) {
                let document = self.role(role, by).await.ok();
                let name = document.and_then(|found| Some(found.get("name")?.as_str()?.to_owned()));
                names.extend(name.map(|name| (role.clone(), name)));
            }
            sentences.push(gap.sentence(&names));
        }
        sentences
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
        check.switched_off = true;
        check.obstacles.push(format!("the client is {state}: make it active first"));
    }
    let grant = client_document::text(client, "authorizedGrantType").unwrap_or("unknown");
    if strategy == Strategy::Pair && grant != "CLIENT-CREDENTIALS" {
        check.obstacles.push(format!(
            "a second client would need consent and redirect addresses of its own with the grant {grant}: use the strategy swap"
        ));
    }
}
