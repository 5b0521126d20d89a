//! The endpoints for what platforms tell of their tokens: `[events.NAME]`.
//!
//! Invariants: a sender is known by a bearer of keyholder's own with the named scope, or by its signature; what was
//! acknowledged is on disk and in force in this process; each outcome is counted.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kh_core::{
    Clock, Entropy, SecretReference,
    credential::CredentialDocument,
    metric::help,
    port::{BoxFuture, SecretSource},
};
use kh_gateway::{Bearer, EventSink, NotTaken, Proof};
use kh_inbound::{
    Revocations,
    events::{Admitted, Delivery, DeliveryError, EVENT_BYTES_MAX, EventDesk, EventKeys, TakeError, Taken, WINDOW},
};
use kh_issuer::Issuer;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::{Base, inbound::Protection};
use crate::config::{Config, EventsConfig, TrustDetail};

const EVENTS: &str = "keyholder_platform_events";

/// When a sender that was told to wait may come back.
const WAIT: Duration = Duration::from_mins(1);

/// How a delivery ended.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Ended {
    events: String,
    outcome: &'static str,
}

/// How a delivery ended that was not taken.
fn outcome(why: NotTaken) -> &'static str {
    match why {
        NotTaken::Unauthenticated => "unauthenticated",
        NotTaken::Forbidden => "forbidden",
        NotTaken::Malformed => "malformed",
        NotTaken::TooMany(_) => "limited",
        NotTaken::Unavailable => "unavailable",
    }
}

/// One endpoint.
struct Endpoint {
    desk: EventDesk,
    /// The `[issuer.NAME]` that its events are about.
    issuer: String,
    scope: Option<String>,
    secret: Option<SecretReference>,
}

/// All endpoints of one keyholder.
pub(super) struct PlatformEvents {
    endpoints: BTreeMap<String, Endpoint>,
    protection: Arc<Protection>,
    issuer: Arc<Issuer>,
    secrets: Arc<dyn SecretSource>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    ended: Family<Ended, Counter>,
}

impl PlatformEvents {
    /// The endpoints of a configuration; none where it has none.
    pub(super) fn of(
        config: &Config,
        base: &Base,
        (protection, revocations): (&Arc<Protection>, &Arc<Revocations>),
        (issuer, secrets): (&Arc<Issuer>, Arc<dyn SecretSource>),
        registry: &mut Registry,
    ) -> Option<Arc<Self>> {
        let endpoint = |(name, section): (&String, &EventsConfig)| {
            let organization = match config.issuers.get(&section.issuer).map(|issuer| &issuer.detail) {
                Some(TrustDetail::Genesys { organization, .. }) => Some(organization.clone()),
                _ => None,
            };
            let desk = EventDesk::new(name.as_str().into(), organization, Arc::clone(revocations));
            let (issuer, scope, secret) = (section.issuer.clone(), section.scope.clone(), section.secret.clone());
            (name.clone(), Endpoint { desk, issuer, scope, secret })
        };
        let endpoints: BTreeMap<_, _> = config.events.iter().map(endpoint).collect();
        if endpoints.is_empty() {
            return None;
        }
        let ended = Family::<Ended, Counter>::default();
        registry.register(EVENTS, help(EVENTS), ended.clone());
        Some(Arc::new(Self {
            endpoints,
            protection: Arc::clone(protection),
            issuer: Arc::clone(issuer),
            secrets,
            clock: Arc::clone(&base.clock),
            entropy: Arc::clone(&base.entropy),
            ended,
        }))
    }

    fn count(&self, name: &str, outcome: &'static str) {
        self.ended.get_or_create(&Ended { events: name.to_owned(), outcome }).inc();
    }

    /// The client that a token of keyholder's own speaks for, if it has the scope.
    async fn client(&self, endpoint: &Endpoint, token: &[u8]) -> Result<Bearer, NotTaken> {
        let scope = endpoint.scope.as_ref().ok_or(NotTaken::Unauthenticated)?;
        let known = self.issuer.presented(token).await.map_err(|_| NotTaken::Unavailable)?;
        let known = known.ok_or(NotTaken::Unauthenticated)?;
        if !known.scopes.contains(scope) {
            return Err(NotTaken::Forbidden);
        }
        Ok(Bearer { client: format!("client:{}", known.client), bound: known.bound })
    }

    /// Whether a signature holds. The keys are read each time, so that a replaced one counts at once.
    async fn signed(
        &self,
        (name, endpoint): (&str, &Endpoint),
        [id, timestamp, signatures]: [&str; 3],
        body: &[u8],
    ) -> Result<Admitted, (NotTaken, &'static str)> {
        let reference = endpoint.secret.as_ref().ok_or((NotTaken::Unauthenticated, "unauthenticated"))?;
        let unusable = |why: &dyn std::fmt::Display| {
            tracing::error!(events.name = name, "the keys for signed events cannot be used: {why}");
            (NotTaken::Unavailable, "unavailable")
        };
        let stored = self.secrets.read(reference).await.map_err(|error| unusable(&error))?;
        let document = CredentialDocument::parse(&stored.value).map_err(|error| unusable(&error))?;
        let text = document.client_secret.ok_or_else(|| unusable(&"the document has no client_secret"))?;
        let keys = EventKeys::parse(&text).map_err(|error| unusable(&error))?;
        let delivery = Delivery { id, timestamp, signatures, body };
        endpoint.desk.admit(&keys, &delivery, self.clock.now()).map_err(|error| match error {
            DeliveryError::Signature => (NotTaken::Unauthenticated, "unauthenticated"),
            // told as a wrong signature: nobody learns what was taken
            DeliveryError::Replayed => (NotTaken::Unauthenticated, "replayed"),
            DeliveryError::Full => (NotTaken::TooMany(WINDOW), "limited"),
        })
    }

    async fn carry_out(
        &self,
        (name, endpoint): (&str, &Endpoint),
        proof: Proof<'_>,
        body: &[u8],
    ) -> Result<&'static str, (NotTaken, &'static str)> {
        let (sender, admitted) = match proof {
            Proof::Admitted(client) => (client.to_owned(), None),
            Proof::Signed(headers) => {
                (format!("webhook:{name}"), Some(self.signed((name, endpoint), headers, body).await?))
            }
        };
        let verifier = self.protection.verifier();
        let issuers: Vec<_> = verifier.values_of_iss(&endpoint.issuer).to_vec();
        let taken = endpoint.desk.take(body, (&sender, &issuers), self.clock.now(), &*self.entropy).await;
        // what can be carried out later may be sent again as it was
        if let Some(admitted) = admitted
            && !matches!(&taken, Err(TakeError::TooMany | TakeError::State(_)))
        {
            admitted.keep();
        }
        match taken {
            Ok((event, taken)) => {
                if taken == Taken::Applied {
                    tracing::info!(
                        events.name = name,
                        event.id = event.id,
                        event.topic = event.topic,
                        "the platform told of revoked tokens; it is asked anew about them"
                    );
                }
                Ok(taken.as_str())
            }
            Err(error) => Err(match error {
                TakeError::Event(_) | TakeError::Target(_) => (NotTaken::Malformed, "malformed"),
                TakeError::TooMany => (NotTaken::TooMany(WAIT), "limited"),
                TakeError::State(error) => {
                    tracing::error!(events.name = name, "what an event says holds only until keyholder stops: {error}");
                    (NotTaken::Unavailable, "unavailable")
                }
            }),
        }
    }
}

impl EventSink for PlatformEvents {
    fn body_max(&self, name: &str) -> Option<usize> {
        self.endpoints.contains_key(name).then_some(EVENT_BYTES_MAX)
    }

    fn admit<'a>(&'a self, name: &'a str, token: &'a [u8]) -> BoxFuture<'a, Result<Bearer, NotTaken>> {
        Box::pin(async move {
            let Some(endpoint) = self.endpoints.get(name) else { return Err(NotTaken::Unauthenticated) };
            let known = self.client(endpoint, token).await;
            if let Err(why) = &known {
                self.count(name, outcome(*why));
            }
            known
        })
    }

    fn refused(&self, name: &str, why: NotTaken) {
        // a name that somebody made up is no label
        if self.endpoints.contains_key(name) {
            self.count(name, outcome(why));
        }
    }

    fn take<'a>(&'a self, name: &'a str, proof: Proof<'a>, body: &'a [u8]) -> BoxFuture<'a, Result<(), NotTaken>> {
        Box::pin(async move {
            let Some(endpoint) = self.endpoints.get(name) else { return Err(NotTaken::Unauthenticated) };
            match self.carry_out((name, endpoint), proof, body).await {
                Ok(outcome) => {
                    self.count(name, outcome);
                    Ok(())
                }
                Err((why, outcome)) => {
                    self.count(name, outcome);
                    Err(why)
                }
            }
        })
    }
}
