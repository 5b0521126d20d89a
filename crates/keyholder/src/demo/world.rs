//! The stage: a sandbox, a keyholder with its own configuration and state, and the clients of the story.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use kh_broker::Broker;
use kh_core::{
    ClientName, CredentialName, SecretBytes, SecretName, SecretString, SystemEntropy,
    audit::AuditEvent,
    credential::CredentialDocument,
    port::{AllowRule, Expected, Notifier, SecretStore},
};
use kh_issuer::{NewClient, NewTokens};
use kh_rotator::{Services, Subject};
use kh_sandbox::{Sandbox, SandboxConfig, SandboxHandle, config::ClientConfig};
use serde_json::{Value, json};

use super::{application::Application, control::Control};
use crate::{
    cli::{Context, Loaded, sandbox_failure},
    compose::{
        Addresses, Base, Notices, Prepared, PrivateFolder, Running, Sockets, Watches, local_http, private_tokens,
        services, subjects, targets,
    },
    output::Failure,
};

/// Who did what the demo prepares, in its audit log.
const ACTOR: &str = "keyholder-demo";

/// The allow-list of the story's restricted application.
pub(super) const ALLOWED: &str = "GET /api/v2/users/**";

/// No call of the story takes longer, also not one whose token cannot be had (the gateway waits 30 s for one).
const CALL_LIMIT: Duration = Duration::from_secs(35);

/// The credential whose secret is replaced; its platform's rotator is the organisation's admin.
const SHOP: &str = "shop";

/// What a rotation needs; the broker, which mints the rotator's tokens, ends after it.
pub(super) struct Rotating {
    pub(super) services: Arc<Services>,
    pub(super) subject: Arc<Subject>,
    pub(super) broker: Arc<Broker>,
}

/// An application's login.
pub(super) struct Login {
    pub(super) id: String,
    pub(super) secret: SecretString,
}

/// Everything that runs.
pub(super) struct World {
    sandbox: SandboxHandle,
    running: Running,
    loaded: Loaded,
    base: Base,
    http: reqwest::Client,
    /// May call everything but the guarded operations.
    pub(super) main: Login,
    /// May only read users.
    pub(super) restricted: Login,
    /// Calls CXone.
    pub(super) cxone: Login,
    /// May call everything with the credential whose secret is replaced.
    pub(super) shop: Login,
    // Last, so that it is removed after everything that writes into it.
    folder: PrivateFolder,
}

impl World {
    /// Starts everything.
    pub(super) async fn start(listen_base: Option<u16>, context: &Context) -> Result<Self, Failure> {
        let parent = context.environment.path("TMPDIR").unwrap_or_else(|| PathBuf::from("/tmp"));
        let folder = PrivateFolder::new(&parent, "keyholder-demo", &SystemEntropy).map_err(|error| {
            Failure::usage(format!("cannot make a temporary folder in {}", parent.display()))
                .caused_by(&error)
                .hint("TMPDIR names another place")
        })?;
        let at = |steps: u16| {
            SocketAddr::from((Ipv4Addr::LOCALHOST, listen_base.map_or(0, |base| base.saturating_add(steps))))
        };
        let mut config = SandboxConfig::default();
        config.listen.genesys = at(3);
        config.listen.cxone = at(4);
        config.listen.control = at(5);
        config.genesys.clients = ["admin", SHOP].map(platform_client).into();
        let sandbox = Sandbox::start(config).await.map_err(|error| sandbox_failure(&error))?;
        let text = configuration(&sandbox, folder.path(), [at(0), at(1), at(2)]);
        let file = folder.path().join("keyholder.toml");
        std::fs::write(&file, &text)
            .map_err(|error| Failure::bug("the demo's configuration cannot be written").caused_by(&error))?;
        let loaded = context.load_text(&file, text.as_bytes())?;
        let base = Base::open(&loaded, &context.environment)?;
        store_secrets(&sandbox, &base).await?;
        let prepared = Prepared::of(&loaded, &base.clock, &base.reads)?;
        let running = Running::start(&loaded, &base, prepared, Sockets::default(), (Watches::none()?, None)).await?;
        let main = add_client(&running, "application", "genesys", None).await?;
        let restricted = add_client(&running, "restricted", "genesys", Some(ALLOWED)).await?;
        let cxone = add_client(&running, "cxone-application", "cxone", None).await?;
        let shop = add_client(&running, "shop-application", SHOP, None).await?;
        let http = local_http(CALL_LIMIT)?;
        Ok(Self { sandbox, running, loaded, base, http, main, restricted, cxone, shop, folder })
    }

    pub(super) fn addresses(&self) -> &Addresses {
        &self.running.addresses
    }

    pub(super) fn sandbox(&self) -> &SandboxHandle {
        &self.sandbox
    }

    pub(super) fn client_id(&self) -> &str {
        &self.main.id
    }

    pub(super) fn gateway(&self) -> String {
        self.running.addresses.gateway_url.clone().unwrap_or_default()
    }

    pub(super) fn config(&self) -> PathBuf {
        self.folder.path().join("keyholder.toml")
    }

    pub(super) fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    pub(super) fn http(&self) -> reqwest::Client {
        self.http.clone()
    }

    /// The sandbox's control API.
    pub(super) fn control(&self) -> Control {
        Control::new(self.http.clone(), &self.sandbox.control_url)
    }

    /// An application that has one of the logins.
    pub(super) fn application(&self, login: &Login) -> Application {
        Application::new(self.http.clone(), &self.gateway(), &login.id, login.secret.expose())
    }

    /// What replaces the secret of [`SHOP`], as `keyholder rotate` and `keyholder serve` make it.
    pub(super) fn rotation(&self) -> Result<Rotating, Failure> {
        let (loaded, base) = (&self.loaded, &self.base);
        let notices = Notices::start(Vec::new(), &loaded.config, &base.entropy);
        let services = services(base, notices as Arc<dyn Notifier>)?;
        let broker = private_tokens(loaded, base)?;
        let stores = targets(loaded, &base.clock)?;
        let mut subjects = subjects(loaded, base, (&broker, None), &stores, &BTreeMap::new())?;
        let name: CredentialName = SHOP.parse().map_err(|_| Failure::bug("a credential's name"))?;
        let subject = subjects.remove(&name).ok_or_else(|| Failure::bug("nothing is rotated"))?;
        Ok(Rotating { services, subject, broker })
    }

    /// The login that the store serves for [`SHOP`].
    pub(super) async fn shop_document(&self) -> Result<CredentialDocument, Failure> {
        let name: SecretName = SHOP.parse().map_err(|_| Failure::bug("a secret's name"))?;
        let stored = self.base.store.get(&name).await?;
        CredentialDocument::parse(&stored.value).map_err(|_| Failure::bug("a document that cannot be read"))
    }

    /// The key that signs the audit log.
    pub(super) fn audit_key(&self) -> kh_audit::PublicKey {
        self.base.audit.public_key()
    }

    /// What the ready file says: exactly these members.
    pub(super) fn ready(&self) -> Value {
        let addresses = self.addresses();
        json!({
            "gateway_url": addresses.gateway_url,
            "broker_url": addresses.broker_url,
            "broker_token_file": addresses.broker_token_file,
            "admin_url": addresses.admin_url,
            "admin_token_file": addresses.admin_token_file,
            "sandbox_url": self.sandbox.genesys_url,
            "sandbox_control_url": self.sandbox.control_url,
            "config": self.config(),
            "client_id": self.main.id,
            "client_secret": self.main.secret.expose(),
        })
    }

    /// Ends everything and removes the folder.
    pub(super) async fn stop(self) {
        self.running.stop().await;
        self.sandbox.shutdown().await;
    }
}

/// A configuration like any user's, but for its addresses.
fn configuration(sandbox: &SandboxHandle, folder: &Path, listen: [SocketAddr; 3]) -> String {
    let [gateway, broker, admin] = listen;
    let (genesys, cxone) = (&sandbox.genesys_url, &sandbox.cxone_url);
    let state = toml::Value::String(folder.join("state").display().to_string());
    let checkpoints = toml::Value::String(folder.join("audit.checkpoints").display().to_string());
    format!(
        r#"# The demo's own configuration; it is removed with the demo.
[gateway]
listen = ["{gateway}"]
[admin]
listen = "{admin}"
[broker]
listen = "{broker}"
[state]
dir = {state}
[audit]
checkpoints = {checkpoints}
[log]
level = "error"
[platform.sandbox]
kind = "genesys"
login_url = "{genesys}"
api_url = "{genesys}"
rotator = "genesys"
[platform.sandbox-cxone]
kind = "cxone"
issuer = "{cxone}"
allowed_origins = ["{cxone}"]
[credential.genesys]
platform = "sandbox"
secret = "store:genesys"
[credential.cxone]
platform = "sandbox-cxone"
secret = "store:cxone"
[credential.shop]
platform = "sandbox"
secret = "store:shop"
# Spans of a story: usual ones are hours and days.
[credential.shop.rotation]
strategy = "pair"
overlap_min = "2s"
quiet = "1s"
watch = "1s"
verify = {{ successes = 2 }}
"#
    )
}

/// A client of the organisation that may do everything.
fn platform_client(name: &str) -> ClientConfig {
    ClientConfig { roles: vec!["admin".to_owned()], ..ClientConfig::with_permissions(name, &[]) }
}

async fn store_secrets(sandbox: &SandboxHandle, base: &Base) -> Result<(), Failure> {
    let admin = sandbox.admin();
    let genesys = json!({ "client_id": admin.id, "client_secret": admin.secret.expose() });
    let (Some(application), Some(key)) = (sandbox.applications.first(), sandbox.access_keys.first()) else {
        return Err(Failure::bug("the sandbox has no CXone login"));
    };
    let cxone = json!({
        "client_id": application.id,
        "client_secret": application.secret.expose(),
        "access_key_id": key.id,
        "access_key_secret": key.secret.expose(),
    });
    let Some(client) = sandbox.clients.iter().find(|client| client.name == SHOP) else {
        return Err(Failure::bug("the sandbox has no second client"));
    };
    let shop = json!({ "client_id": client.id, "client_secret": client.secret.expose() });
    for (name, document) in [("genesys", genesys), ("cxone", cxone), (SHOP, shop)] {
        let name: SecretName = name.parse().map_err(|_| Failure::bug("a secret's name"))?;
        let event = AuditEvent::new(&*base.entropy, base.clock.now().wall, ACTOR, "secret.set", name.as_str());
        let value = SecretBytes::new(document.to_string().into_bytes());
        base.store.put(&name, value, Expected::Absent, event).await?;
    }
    Ok(())
}

async fn add_client(running: &Running, name: &str, credential: &str, rule: Option<&str>) -> Result<Login, Failure> {
    let name: ClientName = name.parse().map_err(|_| Failure::bug("a client's name"))?;
    let credential: CredentialName = credential.parse().map_err(|_| Failure::bug("a credential's name"))?;
    let new = NewClient {
        name,
        credential: Some(credential),
        environment: None,
        scopes: Vec::new(),
        tokens: NewTokens::default(),
        allow: rule.map(|rule| AllowRule(rule.to_owned())).into_iter().collect(),
        allow_all: rule.is_none(),
        allow_secret_operations: false,
        ttl: None,
    };
    let (record, secret) = running.issuer.add_client(new, ACTOR).await?;
    Ok(Login { id: record.id.as_str().to_owned(), secret })
}
