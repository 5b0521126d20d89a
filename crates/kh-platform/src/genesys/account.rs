//! What a token of Genesys Cloud has, as far as the token itself may read it: organisation, OAuth client, roles with
//! divisions, scopes and limits.
//!
//! Invariant: only reads, with `preserveIdleTTL=true` so that looking does not keep a token alive; what cannot be read
//! is told with its reason and never guessed; at most [`CALLS_MAX`] calls, one after the other.

use kh_core::SecretString;
use serde::Serialize;
use serde_json::Value;

use crate::{
    Address, HttpClient, HttpError,
    http::{Answer, RateLimit, get_as, printable},
};

/// Most calls for one account: a client has a handful of roles, and the rate limit is shared with everybody else.
pub const CALLS_MAX: usize = 40;

/// Longest name or id told, in characters.
const NAME_MAX: usize = 120;

/// Most scopes, roles and limits told of each.
const LIST_MAX: usize = 200;

/// The namespace with the limits of API calls (official limits page).
const LIMITS: &str = "/api/v2/organizations/limits/namespaces/platform.api";

/// Something with an id and, where it could be read, a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Named {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: Option<String>,
}

/// A role in a division.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Grant {
    /// The role.
    pub role: Named,
    /// The division; the id `*` is all of them.
    pub division: Named,
}

/// The OAuth client that a token was issued to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OAuthClient {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: Option<String>,
    /// `CLIENT-CREDENTIALS` and so on.
    pub grant_type: Option<String>,
    /// `active`, `disabled` or `inactive`.
    pub state: Option<String>,
}

/// A limit of the organisation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Limit {
    /// Its key, such as `token.rate.per.minute`.
    pub key: String,
    /// Its value.
    pub value: serde_json::Number,
}

/// Something that the token may not read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unreadable {
    /// What.
    pub what: &'static str,
    /// Why, in the platform's words where they are codes.
    pub why: String,
}

/// What a token has.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Account {
    /// The organisation.
    pub organization: Option<Named>,
    /// The OAuth client.
    pub client: Option<OAuthClient>,
    /// The client's roles with their divisions.
    pub grants: Vec<Grant>,
    /// The token's scopes; client credentials have none.
    pub scopes: Vec<String>,
    /// Where the token stands against its rate limit (`inin-ratelimit-*`).
    pub rate_limit: Option<RateLimit>,
    /// The organisation's limits of API calls.
    pub limits: Vec<Limit>,
    /// What could not be read.
    pub unreadable: Vec<Unreadable>,
}

/// Why nothing could be read at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// No answer.
    #[error("the API did not answer")]
    Http(#[source] HttpError),
    /// The API refuses calls from this address; a new token will not help.
    #[error("the platform refuses the address that keyholder calls from (ip.not.authorized)")]
    Address,
    /// The API refused the token or the call.
    #[error("the API answered {status} ({code})")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The platform's code.
        code: String,
    },
    /// An answer of another shape.
    #[error("the answer is not a token's description")]
    Shape,
}

/// Reads what `token` has at the API `api`.
pub async fn read(http: &HttpClient, api: &Address, token: &SecretString) -> Result<Account, AccountError> {
    let mut reader = Reader { http, api, token, calls: 0 };
    let (head, me) = reader.get("/api/v2/tokens/me", true).await?;
    if !me.is_object() {
        return Err(AccountError::Shape);
    }
    let client = me.get("OAuthClient");
    let mut account = Account {
        organization: me.get("organization").and_then(named),
        client: client.and_then(oauth_client),
        grants: client.map(grants).unwrap_or_default(),
        scopes: texts(me.get("authorizedScope")),
        rate_limit: head,
        limits: Vec::new(),
        unreadable: Vec::new(),
    };
    reader.name_roles(&mut account).await;
    reader.name_divisions(&mut account).await;
    match reader.get(LIMITS, false).await {
        Ok((_, body)) => account.limits = limits(&body),
        Err(error) => account.unreadable.push(unreadable("limits of the organisation", &error)),
    }
    Ok(account)
}

struct Reader<'a> {
    http: &'a HttpClient,
    api: &'a Address,
    token: &'a SecretString,
    calls: usize,
}

impl Reader<'_> {
    /// One call; its rate limit and its body.
    async fn get(&mut self, path: &str, preserve_idle: bool) -> Result<(Option<RateLimit>, Value), AccountError> {
        if self.calls >= CALLS_MAX {
            return Err(AccountError::Refused { status: 0, code: "too many roles to ask for each".to_owned() });
        }
        self.calls += 1;
        let mut url = self.api.join(path);
        if preserve_idle {
            url.set_query(Some("preserveIdleTTL=true"));
        }
        let answer = get_as(self.http, url, self.token).await.map_err(AccountError::Http)?;
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        if answer.head.status == 200 {
            return Ok((answer.head.rate_limit, body));
        }
        Err(refused(&answer, &body))
    }

    async fn name_roles(&mut self, account: &mut Account) {
        let roles = account.grants.iter_mut().map(|grant| &mut grant.role);
        let missing = self.name_all("roles", "names of roles", roles).await.err();
        account.unreadable.extend(missing);
    }

    async fn name_divisions(&mut self, account: &mut Account) {
        let divisions =
            account.grants.iter_mut().map(|grant| &mut grant.division).filter(|division| division.id != "*");
        let missing = self.name_all("divisions", "names of divisions", divisions).await.err();
        account.unreadable.extend(missing);
    }

    /// Asks for the name of each, once per id; the first that cannot be read ends it.
    async fn name_all<'n>(
        &mut self,
        kind: &str,
        what: &'static str,
        all: impl Iterator<Item = &'n mut Named>,
    ) -> Result<(), Unreadable> {
        let mut known: Vec<Named> = Vec::new();
        for named in all {
            if let Some(same) = known.iter().find(|same| same.id == named.id) {
                named.name.clone_from(&same.name);
                continue;
            }
            let (_, body) = self
                .get(&format!("/api/v2/authorization/{kind}/{}", segment(&named.id)), false)
                .await
                .map_err(|error| unreadable(what, &error))?;
            named.name = text(body.get("name"));
            known.push(named.clone());
        }
        Ok(())
    }
}

/// An id as one segment of a path: ids are UUIDs, and whatever else came is made harmless.
fn segment(id: &str) -> String {
    id.chars().filter(|letter| letter.is_ascii_alphanumeric() || *letter == '-').collect()
}

fn refused(answer: &Answer, body: &Value) -> AccountError {
    let code = text(body.get("code")).unwrap_or_else(|| "no code".to_owned());
    if code == "ip.not.authorized" {
        return AccountError::Address;
    }
    AccountError::Refused { status: answer.head.status, code }
}

fn unreadable(what: &'static str, error: &AccountError) -> Unreadable {
    Unreadable { what, why: error.to_string() }
}

fn text(value: Option<&Value>) -> Option<String> {
    value.and_then(Value::as_str).filter(|text| !text.is_empty()).map(|text| printable(text, NAME_MAX))
}

fn texts(value: Option<&Value>) -> Vec<String> {
    let items = value.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(|item| text(Some(item))).take(LIST_MAX).collect()
}

fn named(value: &Value) -> Option<Named> {
    Some(Named { id: text(value.get("id"))?, name: text(value.get("name")) })
}

fn oauth_client(value: &Value) -> Option<OAuthClient> {
    Some(OAuthClient {
        id: text(value.get("id"))?,
        name: text(value.get("name")),
        grant_type: text(value.get("authorizedGrantType")),
        state: text(value.get("state")),
    })
}

fn grants(client: &Value) -> Vec<Grant> {
    let pairs = client.get("roleDivisions").and_then(Value::as_array).into_iter().flatten();
    let grant = |pair: &Value| {
        let of = |name| Some(Named { id: text(pair.get(name))?, name: None });
        Some(Grant { role: of("roleId")?, division: of("divisionId")? })
    };
    pairs.filter_map(grant).take(LIST_MAX).collect()
}

fn limits(body: &Value) -> Vec<Limit> {
    let entities = body.get("entities").and_then(Value::as_array).into_iter().flatten();
    let limit = |entity: &Value| {
        Some(Limit { key: text(entity.get("key"))?, value: entity.get("value").and_then(Value::as_number)?.clone() })
    };
    entities.filter_map(limit).take(LIST_MAX).collect()
}
