//! One sandbox for many histories: its organisation, its tenant, and new credentials in it.
//!
//! Invariant: each history has a client or a key of its own, so that histories do not meet.

use std::{sync::Arc, time::Duration};

use http::Method;
use kh_core::{
    Clock, ManualClock, SecretString, UnixMillis,
    credential::CredentialDocument,
    port::{
        BoxFuture, ManageError, RotatorTokens, SecretManagement, Strategy, TokenEndpoint, secret_management::Rotator,
    },
};
use kh_net::{
    Egress, Settings, SystemRoots,
    http::{OutBody, Request},
};
use kh_platform::{
    Address, CxoneEndpoint, CxoneLogin, GenesysEndpoint, HttpClient, PlainHttp, Timeouts,
    management::{CxoneManagement, GenesysManagement, GenesysRotation, SecretsApiManagement},
};
use kh_sandbox::{ClientConfig, CxoneUserConfig, Sandbox, SandboxConfig, SandboxHandle, TenantConfig};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use url::Url;

/// How a secret is replaced, by which adapter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Way {
    /// Clients of Genesys Cloud, one after the other.
    Pair,
    /// The one secret of a client of Genesys Cloud, in place.
    Swap,
    /// Access keys of CXone.
    Keys,
    /// Secrets of one client at a platform with a secrets API.
    Secrets,
}

pub(crate) const WAYS: [Way; 4] = [Way::Pair, Way::Swap, Way::Keys, Way::Secrets];

impl Way {
    pub(crate) fn strategy(self) -> Strategy {
        match self {
            Self::Pair => Strategy::Pair,
            Self::Swap => Strategy::Swap,
            Self::Keys | Self::Secrets => Strategy::Overlap,
        }
    }

    /// The request that makes a secret, and the effect that is its intent.
    pub(crate) fn making(self) -> (&'static str, &'static str) {
        match self {
            Self::Pair => ("POST /api/v2/oauth/clients", "create"),
            Self::Swap => ("POST /api/v2/oauth/clients/*/secret", "regenerate"),
            Self::Keys => ("POST /access-key-management/v1/access-keys", "create"),
            Self::Secrets => ("POST /api/v2/oauth/clients/*/secrets", "create"),
        }
    }
}

/// What the organisation does where the platform's documentation says nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Temper {
    /// Everything is seen at once, tokens outlive their secrets.
    Prompt,
    /// Clients, lists and secrets lag behind, tokens die with their secrets.
    Lagging,
}

pub(crate) struct Organisation {
    pub(crate) sandbox: SandboxHandle,
    egress: Arc<Egress>,
    direct: HttpClient,
}

pub(crate) fn address(text: &str) -> Address {
    Address::parse(text, PlainHttp::LoopbackOnly).unwrap()
}

pub(crate) fn document(id: &str, secret: &str) -> CredentialDocument {
    CredentialDocument {
        client_id: Some(id.to_owned()),
        client_secret: Some(SecretString::copied(secret)),
        ..CredentialDocument::default()
    }
}

fn key_document(id: &str, secret: &str) -> CredentialDocument {
    CredentialDocument {
        access_key_id: Some(id.to_owned()),
        access_key_secret: Some(SecretString::copied(secret)),
        ..document("application", "application secret")
    }
}

fn config(temper: Temper) -> SandboxConfig {
    let mut config = SandboxConfig::default();
    let rotator = |name: &str| {
        let mut client = ClientConfig::with_permissions(name, &[]);
        client.roles = vec!["admin".to_owned()];
        client
    };
    config.genesys.clients = vec![rotator("rotator one"), rotator("rotator two")];
    let user = |name: &str| CxoneUserConfig { id: None, name: name.to_owned(), active: true, access_keys: Vec::new() };
    config.cxone.tenants = vec![TenantConfig {
        id: None,
        name: "tenant".to_owned(),
        area: "na1".to_owned(),
        cluster: "B32".to_owned(),
        users: vec![user("rotator"), user("integration")],
    }];
    config.behaviours.secrets_api = true;
    config.behaviours.max_secrets_per_client = 4;
    config.behaviours.max_clients = 1_000_000;
    // limits have a test of their own
    config.limits.requests_per_token = 1_000_000;
    config.limits.requests_per_client_minute = 1_000_000;
    config.limits.logins_per_minute = 1_000_000;
    config.limits.journal_entries_max = 100;
    if temper == Temper::Lagging {
        let behaviours = &mut config.behaviours;
        behaviours.tokens_survive_regeneration = false;
        behaviours.tokens_survive_inactive = false;
        behaviours.client_visible_after_seconds = 6;
        behaviours.client_listed_after_seconds = 20;
        behaviours.client_settle_seconds = 8;
        behaviours.secret_settle_seconds = 5;
        config.cxone.behaviours.key_deactivation_kills_tokens = true;
    }
    config
}

impl Organisation {
    pub(crate) async fn start(temper: Temper) -> Self {
        let organisation = Self::with(config(temper)).await;
        organisation.sandbox.freeze();
        organisation
    }

    pub(crate) async fn with(config: SandboxConfig) -> Self {
        let sandbox = Sandbox::start(config).await.unwrap();
        let egress = Arc::new(Egress::new(Settings::default(), &SystemRoots::load()).unwrap());
        let clock = ManualClock::at(UnixMillis(u64::try_from(sandbox.now_ms()).unwrap()));
        let direct = client(&egress, &(Arc::new(clock) as Arc<dyn Clock>));
        Self { sandbox, egress, direct }
    }

    pub(crate) fn now(&self) -> UnixMillis {
        UnixMillis(u64::try_from(self.sandbox.now_ms()).unwrap())
    }

    pub(crate) fn upstream(&self, way: Way) -> &str {
        if way == Way::Keys { &self.sandbox.cxone_url } else { &self.sandbox.genesys_url }
    }

    fn rotators(&self, way: Way) -> [CredentialDocument; 2] {
        if way == Way::Keys {
            let key = &self.sandbox.access_keys[0];
            return [(); 2].map(|()| key_document(&key.id, key.secret.expose()));
        }
        [0, 1].map(|index| {
            let client = &self.sandbox.clients[index];
            document(&client.id, client.secret.expose())
        })
    }

    /// The adapters of one process: it reaches the platform at `base` and has a clock of its own.
    pub(crate) fn adapters(&self, way: Way, base: &str, clock: &Arc<dyn Clock>) -> Adapters {
        let http = client(&self.egress, clock);
        let endpoint = endpoint(way, &http, base);
        let tokens: Arc<dyn RotatorTokens> = Arc::new(Tokens {
            endpoint: Arc::clone(&endpoint),
            rotators: self.rotators(way),
            known: [(); 2].map(|()| Mutex::new(None)),
            clock: Arc::clone(clock),
        });
        // this organisation's figures are up to date, and nothing waits for them in real time
        let settings = GenesysRotation {
            usage_lag: Duration::ZERO,
            usage_pause: Duration::from_millis(1),
            ..GenesysRotation::default()
        };
        let management: Arc<dyn SecretManagement> = match way {
            Way::Pair | Way::Swap => Arc::new(GenesysManagement::new(http, address(base), tokens, settings)),
            Way::Keys => Arc::new(CxoneManagement::new(http, address(base), tokens)),
            Way::Secrets => Arc::new(SecretsApiManagement::new(http, address(base), tokens, settings, Some(4))),
        };
        Adapters { endpoint, management }
    }

    /// A login as an application makes it, straight at the platform.
    pub(crate) async fn logs_in(&self, way: Way, document: &CredentialDocument) -> bool {
        endpoint(way, &self.direct, self.upstream(way)).fetch(document, None).await.is_ok()
    }

    /// The adapters of an observer, with nothing in between.
    pub(crate) fn observer(&self, way: Way) -> Adapters {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(self.now()));
        self.adapters(way, self.upstream(way), &clock)
    }

    /// A new credential.
    pub(crate) async fn credential(&self, way: Way, name: &str) -> CredentialDocument {
        if way == Way::Keys { self.key().await } else { self.client(name).await }
    }

    /// The integration's user gets a new key, and all others go.
    async fn key(&self) -> CredentialDocument {
        let management = self.observer(Way::Keys).management;
        let first = Rotator::First;
        let all = management.inventory(first).await.unwrap();
        let rotator = &self.sandbox.access_keys[0].id;
        let left: Vec<_> = all.iter().filter(|key| key.id.0 != *rotator).collect();
        // whose key it is matters alone
        let current = key_document(&left[0].id.0, "");
        let made = management.create(&current, "", first).await.unwrap();
        for other in left {
            management.delete(&current, &other.id, first).await.unwrap();
        }
        made.document
    }

    async fn client(&self, name: &str) -> CredentialDocument {
        let rotator = &self.rotators(Way::Pair)[0];
        let issued = endpoint(Way::Pair, &self.direct, &self.sandbox.genesys_url).fetch(rotator, None).await.unwrap();
        let call = async |method: Method, path: &str, body: Value| {
            let url = Url::parse(&format!("{}{path}", self.sandbox.genesys_url)).unwrap();
            let mut request = Request::new(method, url).bearer(&issued.access_token).unwrap();
            if !body.is_null() {
                request = request.body(OutBody::json(&body));
            }
            let answer = self.direct.send(request).await.unwrap();
            assert_eq!(answer.head.status, 200, "{path}");
            serde_json::from_slice::<Value>(&answer.body).unwrap()
        };
        let id = rotator.client_id.as_deref().unwrap();
        let own = call(Method::GET, &format!("/api/v2/oauth/clients/{id}"), Value::Null).await;
        let wanted = json!({
            "name": name, "authorizedGrantType": "CLIENT-CREDENTIALS", "roleDivisions": own["roleDivisions"],
            "accessTokenValiditySeconds": 3600,
        });
        let made = call(Method::POST, "/api/v2/oauth/clients", wanted).await;
        // a client that the platform does not show yet is no one to begin with
        assert!(self.sandbox.pass(Duration::from_mins(1)));
        document(made["id"].as_str().unwrap(), made["secret"].as_str().unwrap())
    }
}

/// What one process calls the platform with.
pub(crate) struct Adapters {
    pub(crate) endpoint: Arc<dyn TokenEndpoint>,
    pub(crate) management: Arc<dyn SecretManagement>,
}

fn client(egress: &Arc<Egress>, clock: &Arc<dyn Clock>) -> HttpClient {
    // in real time: what is slow here is virtual
    let timeouts = Timeouts { connect: Duration::from_mins(1), total: Duration::from_mins(4) };
    HttpClient::new(Arc::clone(egress), timeouts, Arc::clone(clock))
}

fn endpoint(way: Way, http: &HttpClient, base: &str) -> Arc<dyn TokenEndpoint> {
    match way {
        Way::Keys => Arc::new(CxoneEndpoint::new(http.clone(), CxoneLogin::Regional { auth_base: address(base) })),
        Way::Pair | Way::Swap | Way::Secrets => Arc::new(GenesysEndpoint::new(http.clone(), address(base))),
    }
}

/// A token and when it ends.
type Known = Mutex<Option<(SecretString, UnixMillis)>>;

/// Tokens of the rotators, fetched over the same way as everything else and kept while they live.
struct Tokens {
    endpoint: Arc<dyn TokenEndpoint>,
    rotators: [CredentialDocument; 2],
    known: [Known; 2],
    clock: Arc<dyn Clock>,
}

fn place(which: Rotator) -> usize {
    match which {
        Rotator::First => 0,
        Rotator::Second => 1,
    }
}

impl RotatorTokens for Tokens {
    fn token(&self, which: Rotator, min_ttl: Duration) -> BoxFuture<'_, Result<SecretString, ManageError>> {
        Box::pin(async move {
            let now = self.clock.now().wall;
            let mut known = self.known[place(which)].lock().await;
            if let Some((token, ends)) = &*known
                && *ends > now.plus(min_ttl)
            {
                return Ok(token.duplicate());
            }
            let issued = self.endpoint.fetch(&self.rotators[place(which)], None).await;
            let issued = issued.map_err(|error| ManageError::NotDone { reason: error.to_string() })?;
            let token = issued.access_token.duplicate();
            *known = Some((issued.access_token, now.plus(issued.expires_in)));
            Ok(token)
        })
    }

    fn has(&self, _which: Rotator) -> bool {
        true
    }

    fn refused(&self, which: Rotator, _token: &SecretString) {
        if let Ok(mut known) = self.known[place(which)].try_lock() {
            *known = None;
        }
    }
}
