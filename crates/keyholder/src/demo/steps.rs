//! What happens in each step, and what must hold.
//!
//! Invariant: a step returns `Ok` only when the application's view and the sandbox's own journal both say so.

mod leak;
mod rotation;
mod traffic;

use kh_core::SecretString;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    application::{Answer, Application},
    control::{Control, named},
    narrator::Narrator,
    story::StepName,
    world::{ALLOWED, World},
};

/// A list that every organisation has.
const USERS: &str = "/api/v2/users";

/// A collection of CXone's ACD API, and its endpoint in the journal.
const AGENTS: &str = "/inContactAPI/services/v30.0/agents";
const AGENTS_ENDPOINT: &str = "/inContactAPI/services/{version}/agents";

/// What a step returns: held, or why not.
type Held = Result<(), String>;

/// The players, who remember what they saw from step to step.
pub(super) struct Cast {
    application: Application,
    restricted: Application,
    cxone: Application,
    /// Calls with the credential whose secret is replaced.
    shop: Application,
    /// Secrets of the platform that were in use besides the first, to look for later.
    platform_secrets: Vec<SecretString>,
    /// Every platform token that was in use, to look for later.
    platform_tokens: Vec<SecretString>,
}

impl Cast {
    pub(super) fn new(world: &World) -> Self {
        Self {
            application: world.application(&world.main),
            restricted: world.application(&world.restricted),
            cxone: world.application(&world.cxone),
            shop: world.application(&world.shop),
            platform_secrets: Vec::new(),
            platform_tokens: Vec::new(),
        }
    }
}

/// One step being played.
pub(super) struct Scene<'a> {
    pub(super) world: &'a World,
    pub(super) narrator: &'a Narrator,
    pub(super) control: Control,
    pub(super) cast: &'a mut Cast,
    pub(super) sabotaged: bool,
}

/// Holds, or says why not.
fn ensure(holds: bool, why: impl FnOnce() -> String) -> Held {
    if holds { Ok(()) } else { Err(why()) }
}

fn expect_status(what: &str, answer: &Answer, status: u16) -> Held {
    ensure(answer.status == status, || {
        let code = answer.field("code");
        let code = if code.is_empty() { answer.field("error") } else { code };
        format!("{what} was answered {} {code}, not {status}", answer.status)
    })
}

impl Scene<'_> {
    /// Plays `step`.
    pub(super) async fn play(&mut self, step: StepName) -> Held {
        match step {
            StepName::Login => self.login().await,
            StepName::CachedToken => self.cached_token().await,
            StepName::TokenKilled => self.token_killed().await,
            StepName::RateLimit => self.rate_limit().await,
            StepName::Rotation => self.rotation().await,
            StepName::ForbiddenCall => self.forbidden_call().await,
            StepName::SecretStays => self.secret_stays().await,
            StepName::Cxone => self.cxone().await,
            StepName::Audit => self.audit(),
        }
    }

    /// Puts one rule into the sandbox's fault plan, if this step is sabotaged.
    async fn sabotage(&self, matches: Value, effect: Value) -> Held {
        if !self.sabotaged {
            return Ok(());
        }
        self.control.faults(json!([{ "name": "sabotage", "match": matches, "effect": effect }])).await
    }

    /// The platform's token of `credential`, as an operator with the broker's guard token gets it.
    async fn platform_token(&self, credential: &str) -> Result<SecretString, String> {
        let addresses = self.world.addresses();
        let guard = kh_admin::guard::read_token(&addresses.broker_token_file).map_err(|error| error.to_string())?;
        let url = format!("{}/v1/token/{credential}", addresses.broker_url.clone().unwrap_or_default());
        let request = self.world.http().get(url).header("X-Keyholder-Token", guard.expose());
        let response = request.send().await.map_err(|error| format!("the broker does not answer: {error}"))?;
        let body: Value = response.json().await.map_err(|error| format!("the broker's answer: {error}"))?;
        let token = body.get("access_token").and_then(Value::as_str);
        token.map(SecretString::copied).ok_or_else(|| format!("the broker gave no token: {body}"))
    }

    async fn login(&mut self) -> Held {
        let unable = json!({ "kind": "status", "status": 500 });
        self.sabotage(json!({ "platform": "genesys", "path": "/oauth/token" }), unable).await?;
        let mark = self.control.mark().await?;
        self.narrator.tell("POST /oauth/token at the gateway, with the id and secret that keyholder issued");
        let login = self.cast.application.login().await?;
        expect_status("the login at keyholder", &login, 200)?;
        let token = self.cast.application.token().to_owned();
        ensure(token.starts_with("kht_"), || "the application's token is not keyholder's".to_owned())?;
        let shown: String = token.chars().take(8).collect();
        self.narrator.tell(&format!("200, a token of keyholder: {shown}..."));
        let users = self.cast.application.get(&format!("{USERS}?pageSize=3")).await?;
        expect_status(&format!("GET {USERS}"), &users, 200)?;
        self.narrator.tell(&format!("GET {USERS}: 200"));
        let journal = self.control.since(mark).await?;
        ensure(journal.logins() == 1, || format!("the platform saw {} logins, not 1", journal.logins()))?;
        let platform = self.platform_token("genesys").await?;
        let with = journal.0.iter().find(|seen| seen.endpoint == USERS).and_then(|seen| seen.token_sha256.clone());
        ensure(with == Some(named(platform.expose())), || "the call did not carry the platform's token".to_owned())?;
        ensure(with != Some(named(&token)), || "keyholder's token reached the platform".to_owned())?;
        self.cast.platform_tokens.push(platform);
        self.narrator.journal("1 login by keyholder, 1 call with the platform's own token");
        Ok(())
    }

    async fn forbidden_call(&mut self) -> Held {
        let mark = self.control.mark().await?;
        let login = self.cast.restricted.login().await?;
        expect_status("the login of the restricted application", &login, 200)?;
        self.narrator.tell(&format!("a second application may only '{ALLOWED}'"));
        let allowed = self.cast.restricted.get(&format!("{USERS}?pageSize=1")).await?;
        expect_status(&format!("GET {USERS}"), &allowed, 200)?;
        let user = json!({ "name": "Eve", "email": "eve@example.com" });
        let refused = self.cast.restricted.call(Method::POST, USERS, Some(&user)).await?;
        expect_status(&format!("POST {USERS}"), &refused, 403)?;
        self.refusal("it creates a user", &refused)?;
        // Allowed everything, and still not this: the answer would hold a secret of the platform.
        let client = json!({ "name": "own", "authorizedGrantType": "CLIENT-CREDENTIALS" });
        let guarded = self.cast.application.call(Method::POST, "/api/v2/oauth/clients", Some(&client)).await?;
        expect_status("POST /api/v2/oauth/clients", &guarded, 403)?;
        self.refusal("the first one, allowed everything, makes a client secret", &guarded)?;
        if self.sabotaged {
            self.call_past_keyholder(&user).await?;
        }
        let journal = self.control.since(mark).await?;
        let (made, clients) = (journal.count("POST", USERS), journal.count("POST", "/api/v2/oauth/clients"));
        ensure(made + clients == 0, || format!("{} forbidden calls reached the platform", made + clients))?;
        ensure(journal.answered("GET", USERS, 200) == 1, || "the allowed call did not reach the platform".to_owned())?;
        self.narrator.journal("the allowed call, and neither of the forbidden ones");
        Ok(())
    }

    /// A refusal has the platform's error shape, so that the SDK's own error type reads it.
    fn refusal(&self, what: &str, answer: &Answer) -> Held {
        let body = answer.json();
        let shaped = body.get("status").and_then(Value::as_u64) == Some(403)
            && ["message", "code", "contextId"].iter().all(|name| body.get(name).is_some_and(Value::is_string));
        ensure(shaped, || format!("the refusal is not in the platform's error shape: {}", answer.body))?;
        self.narrator.tell(&format!("{what}: 403 {}", answer.field("code")));
        Ok(())
    }

    async fn call_past_keyholder(&self, user: &Value) -> Held {
        let token = self.platform_token("genesys").await?;
        let url = format!("{}{USERS}", self.world.sandbox().genesys_url);
        let request = self.world.http().post(url).bearer_auth(token.expose()).json(user);
        request.send().await.map(drop).map_err(|error| error.to_string())
    }

    async fn cxone(&mut self) -> Held {
        let unable = json!({ "kind": "status", "status": 500 });
        self.sabotage(json!({ "platform": "cxone", "path": "/auth/token" }), unable).await?;
        let mark = self.control.mark().await?;
        let gateway = self.world.gateway();
        let discovery = self.cast.cxone.get("/.well-known/openid-configuration").await?;
        expect_status("discovery", &discovery, 200)?;
        let endpoint = discovery.field("token_endpoint");
        ensure(endpoint.starts_with(&gateway), || format!("discovery leads past keyholder, to {endpoint}"))?;
        self.narrator.tell("discovery answers with keyholder in the place of every host");
        let login = self.cast.cxone.login_cxone().await?;
        expect_status("the access-key login at keyholder", &login, 200)?;
        let agents = self.cast.cxone.get(AGENTS).await?;
        expect_status(&format!("GET {AGENTS}"), &agents, 200)?;
        self.narrator.tell(&format!("access-key login and GET {AGENTS}: 200"));
        let journal = self.control.since(mark).await?;
        let (logins, calls) = (journal.count("POST", "/auth/token"), journal.answered("GET", AGENTS_ENDPOINT, 200));
        ensure((logins, calls) == (1, 1), || {
            format!("the platform saw {logins} logins and {calls} calls, not 1 and 1")
        })?;
        self.narrator.journal("1 password-grant login by keyholder, 1 call");
        Ok(())
    }

    fn audit(&self) -> Held {
        let paths = &self.world.loaded().paths;
        if self.sabotaged {
            let log = std::fs::read_to_string(&paths.audit_log).map_err(|error| error.to_string())?;
            let edited = log.replacen("secret.set", "secret.get", 1);
            std::fs::write(&paths.audit_log, edited).map_err(|error| error.to_string())?;
        }
        let key = self.world.audit_key();
        let report =
            kh_audit::verify(&paths.audit_log, &paths.checkpoints, Some(&key)).map_err(|error| error.to_string())?;
        if let Some(finding) = &report.finding {
            return Err(format!("the audit log does not verify: {finding}"));
        }
        // Three secrets and four clients were made for the story; the rest is the rotation's.
        let log = std::fs::read_to_string(&paths.audit_log).map_err(|error| error.to_string())?;
        let rotation = log.matches("\"action\":\"rotation.").count();
        ensure(rotation > 0, || "the audit log does not tell of the rotation".to_owned())?;
        ensure(report.entries > 7, || format!("the audit log has {} entries, not more than 7", report.entries))?;
        self.narrator.tell(&format!(
            "{} entries, hash-chained; {} checkpoints, signed and kept elsewhere: all verify",
            report.entries, report.checkpoints
        ));
        Ok(())
    }
}
