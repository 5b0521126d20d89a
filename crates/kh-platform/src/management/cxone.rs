//! NICE CXone: access keys of a user. Several live side by side, each with an id, and a stop can be taken back.
//!
//! Calls go to the regional host (`https://<area>.nice-incontact.com`), where access keys are managed. Whose key it is
//! stands in the key's own row, so that neither user nor tenant has to be configured. Invariant: the application's
//! client id and secret, which only the vendor replaces, stay as they are in every document made here.

use std::sync::Arc;

use ::http::Method;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use kh_core::{
    SecretString, UnixMillis,
    credential::CredentialDocument,
    port::{
        BoxFuture, ManageError, RotatorTokens, SecretManagement, Strategy,
        secret_management::{CreatedSecret, ManagedSecret, ManagementCheck, ManagementTraits, Rights, Rotator},
    },
    rotation::ManagedId,
};
use kh_net::http::OutBody;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use url::Url;
use zeroize::Zeroizing;

use super::{
    calls::{Ask, Base, Calls},
    client_document::{text, time},
    refusal::{Effect, refused, unreadable},
    shared::Shared,
};
use crate::{Address, HttpClient, http::Answer};

/// Where access keys are (first-party generated client).
const KEYS: &str = "/access-key-management/v1/access-keys";

/// Pages of a list that are read: a tenant with more than some ten thousand keys is a mistake.
const PAGES_MAX: usize = 200;

/// Largest page.
const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long a new key may be refused. The vendor names no time; half a minute is more than a cache usually holds.
const SETTLES_WITHIN: std::time::Duration = std::time::Duration::from_secs(30);

/// An access token lives 3,600 s, its refresh token 7,200 s, and refreshing needs no key (vendor's example).
const TOKEN_LIFE_MAX: std::time::Duration = std::time::Duration::from_hours(2);

/// Access keys of one tenant.
pub struct CxoneManagement {
    calls: Calls,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Made {
    result_set: MadeKey,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MadeKey {
    access_key_id: String,
    access_key_secret: Zeroizing<String>,
}

impl CxoneManagement {
    /// Manages access keys at the regional host `region` with the tokens of `tokens`.
    pub fn new(http: HttpClient, region: Address, tokens: Arc<dyn RotatorTokens>) -> Self {
        Self { calls: Calls::new(http, Base::Fixed(region), tokens) }
    }

    /// The same at the host that discovery names for the rotator's tenant, where logins go to the global issuer.
    pub fn discovered(http: HttpClient, tokens: Arc<dyn RotatorTokens>) -> Self {
        Self { calls: Calls::new(http, Base::OfLogin, tokens) }
    }

    /// Shares the platform's limit and looks with its other managements.
    #[must_use]
    pub fn sharing(mut self, shared: &Arc<Shared>) -> Self {
        self.calls.shared = Arc::clone(shared);
        self
    }

    async fn row(&self, id: &ManagedId, by: Rotator) -> Result<Map<String, Value>, ManageError> {
        let answer = self.calls.send(by, Ask::read(self.calls.url(by, KEYS, &[&id.0]).await?).about(id)).await?;
        let row = parse(&answer).and_then(|mut body| Some(body.get_mut("resultSet")?.take()));
        match row {
            Some(Value::Object(row)) if text(&row, "accessKeyId") == Some(&id.0) => Ok(row),
            _ => Err(unreadable(Effect::Read, &answer.head, "an access key")),
        }
    }

    /// The keys of `user`, or all that the rotator sees, over all pages.
    async fn rows(&self, user: Option<&str>, by: Rotator) -> Result<Vec<Map<String, Value>>, ManageError> {
        let mut url = self.calls.url(by, KEYS, &[]).await?;
        if let Some(user) = user {
            url.query_pairs_mut().append_pair("userId", user);
        }
        let mut rows = Vec::new();
        for _ in 0..PAGES_MAX {
            let ask = Ask { answer_max: PAGE_BYTES_MAX, ..Ask::read(url.clone()) };
            let answer = self.calls.send(by, ask).await?;
            let no_list = || unreadable(Effect::Read, &answer.head, "a list of access keys");
            let mut body = parse(&answer).ok_or_else(no_list)?;
            let next = body.get("_links").and_then(|links| links.get("next")).and_then(Value::as_str);
            let next = next.filter(|next| !next.is_empty()).map(|next| following(&url, next));
            let Some(Value::Array(page)) = body.get_mut("accessKeys").map(Value::take) else { return Err(no_list()) };
            for row in page {
                let Value::Object(row) = row else { return Err(no_list()) };
                rows.push(row);
            }
            match next {
                None => return Ok(rows),
                Some(Some(next)) => url = next,
                Some(None) => return Err(unreadable(Effect::Read, &answer.head, "a next page of its own")),
            }
        }
        Err(ManageError::NotDone { reason: "the list of access keys does not end".to_owned() })
    }

    async fn of_user(&self, current: &CredentialDocument, by: Rotator) -> Result<Vec<ManagedSecret>, ManageError> {
        let row = self.row(&named(current)?, by).await?;
        let user = text(&row, "userId").ok_or_else(nobodys)?;
        Ok(self.rows(Some(user), by).await?.iter().filter_map(listed).collect())
    }

    /// The same out of one look at all keys, where looks are shared.
    async fn seen_of_user(
        &self,
        own: &ManagedId,
        current: &CredentialDocument,
        by: Rotator,
    ) -> Result<Vec<ManagedSecret>, ManageError> {
        let shared = &self.calls.shared;
        if shared.keeps_looks() {
            let look = Box::pin(async { Ok(self.rows(None, by).await?.iter().filter_map(listed).collect()) });
            let all = shared.keys(by, || self.calls.mono(), look).await?;
            let owner = all.iter().find(|key| key.id == *own).and_then(|key| key.owner.as_ref());
            if owner.is_some() {
                return Ok(all.iter().filter(|key| key.owner.as_ref() == owner).cloned().collect());
            }
        }
        self.of_user(current, by).await
    }

    async fn make(&self, current: &CredentialDocument, by: Rotator) -> Result<CreatedSecret, ManageError> {
        let row = self.row(&named(current)?, by).await?;
        let (user, tenant) = (text(&row, "userId").ok_or_else(nobodys)?, text(&row, "tenantId").ok_or_else(nobodys)?);
        let body = OutBody::json(&json!({"userId": user, "tenantId": tenant}));
        let ask = Ask { body: Some(body), ..Ask::change(Method::POST, self.calls.url(by, KEYS, &[]).await?) };
        let answer = self.calls.send(by, ask).await?;
        let made: Option<Made> = serde_json::from_slice(&answer.body).ok();
        let made = made.map(|made| made.result_set).filter(|key| !key.access_key_secret.is_empty());
        let made = made.ok_or_else(|| unreadable(Effect::Change, &answer.head, "an access key and its secret"))?;
        let document = CredentialDocument {
            access_key_id: Some(made.access_key_id.clone()),
            access_key_secret: Some(SecretString::copied(&made.access_key_secret)),
            refresh_token: None,
            marker: None,
            ..current.copied()
        };
        Ok(CreatedSecret { id: ManagedId(made.access_key_id), document })
    }

    async fn switch(&self, id: &ManagedId, active: bool, by: Rotator) -> Result<(), ManageError> {
        let mut url = self.calls.url(by, KEYS, &[]).await?;
        url.query_pairs_mut().append_pair("accessKeyId", &id.0);
        let body = OutBody::json(&json!({"isActive": active}));
        let ask = Ask { body: Some(body), ..Ask::change(Method::PATCH, url).about(id) };
        self.calls.send(by, ask).await.map(|_answer| ())
    }

    async fn remove(&self, id: &ManagedId, by: Rotator) -> Result<(), ManageError> {
        let url = self.calls.url(by, KEYS, &[&id.0]).await?;
        self.calls.send(by, Ask::change(Method::DELETE, url).about(id)).await.map(|_answer| ())
    }

    async fn look(
        &self,
        current: &CredentialDocument,
        strategy: Strategy,
        by: Rotator,
    ) -> Result<ManagementCheck, ManageError> {
        let mut check = ManagementCheck::default();
        if strategy != Strategy::Overlap {
            check.obstacles.push("CXone access keys overlap: use the strategy overlap".to_owned());
            return Ok(check);
        }
        let own = named(current)?;
        let keys = self.seen_of_user(&own, current, by).await?;
        if !keys.iter().any(|key| key.id == own && key.active) {
            check.switched_off = true;
            check.obstacles.push("the access key in use is not active: make it active first".to_owned());
        }
        let others: Vec<_> = keys.iter().filter(|key| key.id != own).map(|key| key.id.0.as_str()).collect();
        if !others.is_empty() {
            check.warnings.push(format!("the user has further access keys: {}", others.join(", ")));
        }
        check
            .warnings
            .push("how many access keys a user may have is not documented, so free places are not known".to_owned());
        check
            .warnings
            .push("whether the rotator may create and delete access keys is seen only when it does".to_owned());
        Ok(check)
    }

    /// The platform has no call that describes a token at the regional host; listing the keys of the token's own user
    /// is the smallest. A refusal for lack of a permission still proves that the token lives.
    async fn works(&self, token: &SecretString) -> Result<bool, ManageError> {
        // the host is the same for every token of the tenant
        let mut url = self.calls.url(Rotator::First, KEYS, &[]).await?;
        if let Some(user) = subject(token) {
            url.query_pairs_mut().append_pair("userId", &user);
        }
        let answer = self.calls.exchange(token, Ask { answer_max: PAGE_BYTES_MAX, ..Ask::read(url) }).await?;
        match (answer.head.status, refused(Effect::Read, None, &answer.head, &answer.body)) {
            (200..=299, _) | (403, ManageError::Denied { .. }) => Ok(true),
            (401, ManageError::NotDone { .. }) => Ok(false),
            (_, error) => Err(error),
        }
    }
}

fn parse(answer: &Answer) -> Option<Value> {
    serde_json::from_slice(&answer.body).ok()
}

fn nobodys() -> ManageError {
    ManageError::NotDone { reason: "the access key's row names no user and tenant".to_owned() }
}

/// The key that a document names.
fn named(current: &CredentialDocument) -> Result<ManagedId, ManageError> {
    let id = current.access_key_id.clone().map(ManagedId);
    id.ok_or_else(|| ManageError::NotDone { reason: "the credential's document names no access_key_id".to_owned() })
}

/// The next page, if it is one of the same list: the token goes nowhere else.
fn following(page: &Url, next: &str) -> Option<Url> {
    let next = page.join(next).ok()?;
    let same = next.origin() == page.origin() && next.path() == page.path() && next != *page;
    same.then_some(next)
}

fn listed(row: &Map<String, Value>) -> Option<ManagedSecret> {
    Some(ManagedSecret {
        id: ManagedId(text(row, "accessKeyId")?.to_owned()),
        // keys have no name
        name: None,
        active: row.get("isActive").and_then(Value::as_bool)?,
        created_at: None,
        last_used_at: time(row, "lastUsedDate"),
        owner: text(row, "userId").map(str::to_owned),
    })
}

/// The user in a token's claims, for a filter only: nothing is believed because of it.
fn subject(token: &SecretString) -> Option<String> {
    let payload = Zeroizing::new(URL_SAFE_NO_PAD.decode(token.expose().split('.').nth(1)?).ok()?);
    let claims: Value = serde_json::from_slice(&payload).ok()?;
    let user = claims.get("sub")?.as_str()?;
    Some(user.strip_prefix("user:").unwrap_or(user).to_owned())
}

impl std::fmt::Debug for CxoneManagement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CxoneManagement")
    }
}

impl SecretManagement for CxoneManagement {
    fn traits(&self) -> ManagementTraits {
        ManagementTraits {
            strategies: vec![Strategy::Overlap],
            reversible_stop: true,
            active_max: None,
            settles_within: SETTLES_WITHIN,
            token_life_max: TOKEN_LIFE_MAX,
        }
    }

    fn id_of(&self, current: &CredentialDocument) -> Option<ManagedId> {
        current.access_key_id.clone().map(ManagedId)
    }

    fn check<'a>(
        &'a self,
        current: &'a CredentialDocument,
        strategy: Strategy,
        by: Rotator,
    ) -> BoxFuture<'a, Result<ManagementCheck, ManageError>> {
        Box::pin(self.look(current, strategy, by))
    }

    fn list<'a>(
        &'a self,
        current: &'a CredentialDocument,
        by: Rotator,
    ) -> BoxFuture<'a, Result<Vec<ManagedSecret>, ManageError>> {
        Box::pin(self.of_user(current, by))
    }

    fn create<'a>(
        &'a self,
        current: &'a CredentialDocument,
        _label: &'a str,
        by: Rotator,
    ) -> BoxFuture<'a, Result<CreatedSecret, ManageError>> {
        Box::pin(self.make(current, by))
    }

    fn set_active<'a>(
        &'a self,
        _current: &'a CredentialDocument,
        id: &'a ManagedId,
        active: bool,
        by: Rotator,
    ) -> BoxFuture<'a, Result<(), ManageError>> {
        Box::pin(self.switch(id, active, by))
    }

    fn delete<'a>(
        &'a self,
        _current: &'a CredentialDocument,
        id: &'a ManagedId,
        by: Rotator,
    ) -> BoxFuture<'a, Result<(), ManageError>> {
        Box::pin(self.remove(id, by))
    }

    fn regenerate<'a>(
        &'a self,
        _current: &'a CredentialDocument,
        _by: Rotator,
    ) -> BoxFuture<'a, Result<CredentialDocument, ManageError>> {
        Box::pin(async { Err(ManageError::Unsupported) })
    }

    /// A key may do what its user may: tenant and user are its rights.
    fn rights<'a>(&'a self, id: &'a ManagedId, by: Rotator) -> BoxFuture<'a, Result<Rights, ManageError>> {
        Box::pin(async move {
            let row = self.row(id, by).await?;
            let line = |what: &str, name| text(&row, name).map(|value| format!("{what} {value}"));
            Ok(Rights { lines: [line("tenant", "tenantId"), line("user", "userId")].into_iter().flatten().collect() })
        })
    }

    fn probe<'a>(&'a self, token: &'a SecretString) -> BoxFuture<'a, Result<bool, ManageError>> {
        Box::pin(self.works(token))
    }

    /// The platform tells the last use alone, and nothing of a key that it never saw used: 1 stands for "at least one".
    fn used_since<'a>(
        &'a self,
        id: &'a ManagedId,
        since: UnixMillis,
        by: Rotator,
    ) -> BoxFuture<'a, Result<Option<u64>, ManageError>> {
        Box::pin(async move {
            let row = self.row(id, by).await?;
            Ok(time(&row, "lastUsedDate").map(|at| u64::from(at > since)))
        })
    }

    fn inventory(&self, by: Rotator) -> BoxFuture<'_, Result<Vec<ManagedSecret>, ManageError>> {
        Box::pin(async move { Ok(self.rows(None, by).await?.iter().filter_map(listed).collect()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_pages_stay_in_their_list() {
        let page = Url::parse("https://na1.nice-incontact.com/access-key-management/v1/access-keys?userId=u").unwrap();
        let check = |next: &str, expected: Option<&str>| {
            assert_eq!(following(&page, next).as_ref().map(Url::as_str), expected, "{next}");
        };
        let second = "https://na1.nice-incontact.com/access-key-management/v1/access-keys?skip=2";
        check("/access-key-management/v1/access-keys?skip=2", Some(second));
        check("?skip=2", Some(second));
        check(second, Some(second));
        check(page.as_str(), None);
        check("https://evil.example/access-key-management/v1/access-keys?skip=2", None);
        check("//evil.example/access-key-management/v1/access-keys?skip=2", None);
        check("http://na1.nice-incontact.com/access-key-management/v1/access-keys?skip=2", None);
        check("/access-key-management/v1/access-keys/x", None);
    }

    #[test]
    fn subjects() {
        let token = |claims: &str| SecretString::new(format!("h.{}.s", URL_SAFE_NO_PAD.encode(claims)));
        assert_eq!(subject(&token(r#"{"sub":"user:u-1"}"#)).as_deref(), Some("u-1"));
        assert_eq!(subject(&token(r#"{"sub":7}"#)), None);
        assert_eq!(subject(&SecretString::copied("opaque")), None);
    }
}
