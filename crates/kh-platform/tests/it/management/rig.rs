//! An organisation in the sandbox: two rotators with every role, a weak one, and a client to rotate.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use std::time::Duration;

use http::Method;
use kh_core::{
    ManualClock, SecretString,
    credential::CredentialDocument,
    port::{BoxFuture, ManageError, RotatorTokens, TokenEndpoint, secret_management::Rotator},
};
use kh_net::http::{OutBody, Request};
use kh_platform::{
    CxoneEndpoint, CxoneLogin, GenesysEndpoint, HttpClient,
    management::{CxoneManagement, GenesysManagement, GenesysRotation, SecretsApiManagement},
};
use kh_sandbox::{ClientConfig, JournalEntry, RoleConfig, Sandbox, SandboxConfig, SandboxHandle};
use serde_json::{Value, json};
use url::Url;

use crate::fake::{address, client};

pub(crate) const FIRST: usize = 0;
pub(crate) const SECOND: usize = 1;
pub(crate) const TARGET: usize = 2;
pub(crate) const WEAK: usize = 3;

/// Tokens that were fetched before.
pub(crate) struct Tokens {
    pub(crate) first: Option<SecretString>,
    pub(crate) second: Option<SecretString>,
    pub(crate) auth_base: Option<String>,
    pub(crate) refused: AtomicUsize,
}

impl RotatorTokens for Tokens {
    fn token(&self, which: Rotator, min_ttl: Duration) -> BoxFuture<'_, Result<SecretString, ManageError>> {
        assert!(min_ttl >= Duration::from_secs(30), "a token must outlive its call");
        let token = match which {
            Rotator::First => self.first.as_ref(),
            Rotator::Second => self.second.as_ref(),
        };
        let token = token.map(SecretString::duplicate);
        Box::pin(async { token.ok_or_else(|| ManageError::NotDone { reason: "no such rotator".to_owned() }) })
    }

    fn has(&self, which: Rotator) -> bool {
        match which {
            Rotator::First => self.first.is_some(),
            Rotator::Second => self.second.is_some(),
        }
    }

    fn refused(&self, _which: Rotator, _token: &SecretString) {
        self.refused.fetch_add(1, Ordering::SeqCst);
    }

    fn auth_base(&self, _which: Rotator) -> Option<String> {
        self.auth_base.clone()
    }
}

pub(crate) struct Rig {
    pub(crate) sandbox: SandboxHandle,
    pub(crate) http: HttpClient,
    pub(crate) clock: ManualClock,
    pub(crate) tokens: Arc<Tokens>,
}

/// The organisation: roles `a` and `b`, which the target holds.
pub(crate) fn organisation(mut config: SandboxConfig) -> SandboxConfig {
    let role = |name: &str| RoleConfig {
        id: Some(format!("role-{name}")),
        name: name.to_owned(),
        permissions: vec![format!("users:{name}:view")],
    };
    config.genesys.roles = vec![role("a"), role("b")];
    let with = |name: &str, roles: &[&str]| {
        let mut client = ClientConfig::with_permissions(name, &[]);
        client.roles = roles.iter().map(|&role| role.to_owned()).collect();
        client
    };
    let mut target = with("billing", &["a", "b"]);
    target.allowed_ips = vec!["127.0.0.0/8".to_owned()];
    let weak = ClientConfig::with_permissions("weak", &["oauth:client:*"]);
    config.genesys.clients =
        vec![with("rotator one", &["admin", "a", "b"]), with("rotator two", &["admin", "a", "b"]), target, weak];
    config
}

impl Rig {
    pub(crate) async fn start(config: SandboxConfig) -> Self {
        Self::with_rotators(organisation(config), Some(FIRST), Some(SECOND)).await
    }

    pub(crate) async fn with_rotators(config: SandboxConfig, first: Option<usize>, second: Option<usize>) -> Self {
        let sandbox = Sandbox::start(config).await.unwrap();
        let (http, clock) = client();
        let none = Arc::new(Tokens { first: None, second: None, auth_base: None, refused: AtomicUsize::new(0) });
        let mut rig = Self { sandbox, http, clock, tokens: none };
        let mut of = [None, None];
        for (place, index) in of.iter_mut().zip([first, second]) {
            if let Some(index) = index {
                *place = Some(rig.login(&rig.document(index)).await.unwrap());
            }
        }
        let [first, second] = of;
        rig.tokens = Arc::new(Tokens { first, second, auth_base: None, refused: AtomicUsize::new(0) });
        rig
    }

    pub(crate) fn genesys(&self) -> GenesysManagement {
        let settings = GenesysRotation { usage_pause: Duration::from_millis(1), ..GenesysRotation::default() };
        let tokens = Arc::clone(&self.tokens) as Arc<dyn RotatorTokens>;
        GenesysManagement::new(self.http.clone(), address(&self.sandbox.genesys_url), tokens, settings)
    }

    pub(crate) fn secrets_api(&self) -> SecretsApiManagement {
        let tokens = Arc::clone(&self.tokens) as Arc<dyn RotatorTokens>;
        let api = address(&self.sandbox.genesys_url);
        SecretsApiManagement::new(self.http.clone(), api, tokens, GenesysRotation::default(), Some(2))
    }

    pub(crate) fn cxone(&self) -> CxoneManagement {
        let tokens = Arc::clone(&self.tokens) as Arc<dyn RotatorTokens>;
        CxoneManagement::new(self.http.clone(), address(&self.sandbox.cxone_url), tokens)
    }

    /// The document of the client with this index in the configuration.
    pub(crate) fn document(&self, index: usize) -> CredentialDocument {
        let client = &self.sandbox.clients[index];
        CredentialDocument {
            client_id: Some(client.id.clone()),
            client_secret: Some(SecretString::copied(client.secret.expose())),
            ..CredentialDocument::default()
        }
    }

    /// A real login at the token endpoint.
    pub(crate) async fn login(&self, document: &CredentialDocument) -> Option<SecretString> {
        let endpoint = GenesysEndpoint::new(self.http.clone(), address(&self.sandbox.genesys_url));
        endpoint.fetch(document, None).await.ok().map(|issued| issued.access_token)
    }

    /// The same with an access key at the regional host.
    pub(crate) async fn key_login(&self, document: &CredentialDocument) -> Option<SecretString> {
        let login = CxoneLogin::Regional { auth_base: address(&self.sandbox.cxone_url) };
        CxoneEndpoint::new(self.http.clone(), login).fetch(document, None).await.ok().map(|issued| issued.access_token)
    }

    async fn send(&self, method: Method, url: &str, token: Option<&SecretString>, body: Value) -> (u16, Value) {
        let mut request = Request::new(method, Url::parse(url).unwrap());
        if let Some(token) = token {
            request = request.bearer(token).unwrap();
        }
        if !body.is_null() {
            request = request.body(OutBody::json(&body));
        }
        let answer = self.http.send(request).await.unwrap();
        (answer.head.status, serde_json::from_slice(&answer.body).unwrap_or(Value::Null))
    }

    /// A call of the API as the first rotator, past every adapter.
    pub(crate) async fn api(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        let url = format!("{}{path}", self.sandbox.genesys_url);
        self.send(method, &url, self.tokens.first.as_ref(), body).await
    }

    /// The client as the API shows it.
    pub(crate) async fn shown(&self, id: &str) -> Value {
        self.api(Method::GET, &format!("/api/v2/oauth/clients/{id}"), Value::Null).await.1
    }

    /// From now on the client's secret and tokens are for this range of addresses alone.
    pub(crate) async fn allow_only(&self, client: &str, range: &str) {
        let mut shown = self.shown(client).await;
        shown["allowedIps"] = json!([range]);
        let path = format!("/api/v2/oauth/clients/{client}");
        assert_eq!(self.api(Method::PUT, &path, shown).await.0, 200);
    }

    async fn control(&self, method: Method, path: &str, body: Value) {
        let url = format!("{}{path}", self.sandbox.control_url);
        let (status, answer) = self.send(method, &url, None, body).await;
        assert!((200..300).contains(&status), "{status} {answer}");
    }

    /// From now on the first request of this kind meets `effect`.
    pub(crate) async fn fault(&self, method: &str, path: &str, effect: Value) {
        let rule = json!([{"match": {"method": method, "path": path, "first": 1}, "effect": effect}]);
        self.control(Method::PUT, "/_sandbox/faults", rule).await;
        self.control(Method::DELETE, "/_sandbox/requests", Value::Null).await;
    }

    pub(crate) async fn revoke(&self, client: &str) {
        self.control(Method::POST, "/_sandbox/tokens/revoke", json!({"client": client})).await;
    }

    /// Both clocks.
    pub(crate) async fn pass(&self, seconds: u64) {
        self.control(Method::POST, "/_sandbox/clock", json!({"shift_seconds": seconds})).await;
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// Stops the sandbox's clock and sets ours to it.
    pub(crate) async fn freeze(&self) {
        let url = format!("{}/_sandbox/clock", self.sandbox.control_url);
        let (_, answer) = self.send(Method::POST, &url, None, json!({"freeze": true})).await;
        self.clock.jump_wall(kh_core::UnixMillis(answer["now_ms"].as_u64().unwrap()));
    }

    /// Requests that would change something, as `METHOD path`.
    pub(crate) fn changes(&self) -> Vec<String> {
        let change = |entry: &&JournalEntry| {
            entry.method != "GET"
                && entry.method != "HEAD"
                && !entry.path.contains("/oauth/token")
                && !entry.path.contains("/usage/")
                && !entry.path.contains("/token/access-key")
        };
        let requests = self.sandbox.requests();
        requests.iter().filter(change).map(|entry| format!("{} {}", entry.method, entry.path)).collect()
    }
}

/// One word per outcome.
pub(crate) fn word<T>(result: &Result<T, ManageError>) -> String {
    match result {
        Ok(_) => "done".to_owned(),
        Err(ManageError::NotDone { .. }) => "not done".to_owned(),
        Err(ManageError::Unknown { .. }) => "unknown".to_owned(),
        Err(ManageError::Throttled { .. }) => "throttled".to_owned(),
        Err(ManageError::Denied { platform_code, .. }) => format!("denied {platform_code}"),
        Err(ManageError::NotFound(_)) => "not found".to_owned(),
        Err(ManageError::LimitReached { platform_code }) => format!("full {platform_code}"),
        Err(ManageError::Unsupported) => "unsupported".to_owned(),
    }
}
