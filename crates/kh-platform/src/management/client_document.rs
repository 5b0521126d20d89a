//! What a Genesys Cloud OAuth client is told to be when it is made or changed: pure functions of its document.
//!
//! `PUT` replaces the whole client and there is no `PATCH`, so a member that is not sent back is lost. Invariant: every
//! member that the platform shows and does not make itself goes back as it came, known to keyholder or not (allowed
//! addresses are announced and not published yet).
//!
//! The clients of a pair know each other by their description, which ends with `[keyholder pair <id>]`, the id of the
//! first client there ever was; its own description has none. People see a client's label in its name, which ends with
//! `[keyholder <label>]`.

use std::collections::{BTreeMap, BTreeSet};

use kh_core::{
    UnixMillis,
    port::secret_management::{ManagedSecret, Rights},
    rotation::ManagedId,
};
use serde_json::{Map, Value, json};
use zeroize::Zeroize;

/// A client as the platform shows it.
pub type Client = Map<String, Value>;

/// Members that the platform makes (published swagger, `OAuthClient` beyond `OAuthClientRequest`), and the secret,
/// which `GET` showed until 2025.
const MADE_BY_PLATFORM: [&str; 7] =
    ["id", "secret", "dateCreated", "dateModified", "createdBy", "modifiedBy", "selfUri"];

const PAIR_MARK: &str = "[keyholder pair ";
const LABEL_MARK: &str = "[keyholder ";

/// A client's document out of an answer, without a secret: one that `GET` shows against the announcement is wiped.
pub fn parse(value: Value) -> Option<Client> {
    let Value::Object(mut client) = value else { return None };
    if let Some(Value::String(mut secret)) = client.remove("secret") {
        secret.zeroize();
    }
    text(&client, "id").is_some().then_some(client)
}

/// The id of a client.
pub fn id(client: &Client) -> Option<ManagedId> {
    text(client, "id").map(|id| ManagedId(id.to_owned()))
}

/// `active`, `inactive` or `disabled`.
pub fn state(client: &Client) -> &str {
    text(client, "state").unwrap_or("active")
}

/// What is posted to make a second client that may do what `client` may. New ones can only be active.
pub fn twin(client: &Client, root: &ManagedId, label: &str) -> Client {
    let mut twin = without_made(client);
    twin.remove("dateToDelete");
    twin.insert("state".to_owned(), json!("active"));
    let name = cut(text(client, "name").unwrap_or("client"), LABEL_MARK);
    // the mark says it once, also where the label begins with the same word
    let label = label.strip_prefix("keyholder ").unwrap_or(label);
    twin.insert("name".to_owned(), json!(format!("{name} {LABEL_MARK}{label}]").trim_start()));
    let description = cut(text(client, "description").unwrap_or_default(), PAIR_MARK);
    twin.insert("description".to_owned(), json!(format!("{description} {PAIR_MARK}{root}]").trim_start()));
    twin
}

/// What is put to make `client` active or inactive. None where it is so already.
pub fn in_state(client: &Client, wanted: &str) -> Option<Client> {
    if state(client) == wanted {
        return None;
    }
    let mut changed = without_made(client);
    if wanted == "active" {
        // the platform set it when the client became inactive
        changed.remove("dateToDelete");
    }
    changed.insert("state".to_owned(), json!(wanted));
    Some(changed)
}

/// The first client of the pair that `client` belongs to: itself, or the one its description names.
pub fn root(client: &Client) -> Option<ManagedId> {
    let description = text(client, "description").unwrap_or_default();
    let marked = description.rfind(PAIR_MARK).and_then(|at| {
        let id = description.get(at + PAIR_MARK.len()..)?.trim_end().strip_suffix(']')?;
        Some(ManagedId(id.to_owned()))
    });
    marked.or_else(|| id(client))
}

/// Ids of a client's roles with the divisions that each is held in; from `roleDivisions`, and the deprecated `roleIds`
/// where it names more.
pub fn roles(client: &Client) -> BTreeMap<String, BTreeSet<String>> {
    let mut roles: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for pair in client.get("roleDivisions").and_then(Value::as_array).into_iter().flatten() {
        let of = |name| pair.get(name).and_then(Value::as_str);
        if let Some(role) = of("roleId") {
            roles.entry(role.to_owned()).or_default().extend(of("divisionId").map(str::to_owned));
        }
    }
    for role in texts(client, "roleIds") {
        roles.entry(role.to_owned()).or_default();
    }
    roles
}

/// What a client may do, a line each: two with equal lines may do the same.
pub fn rights(client: &Client) -> Rights {
    let mut lines: Vec<String> = Vec::new();
    for (role, divisions) in roles(client) {
        if divisions.is_empty() {
            lines.push(format!("role {role}"));
        }
        lines.extend(divisions.iter().map(|division| format!("role {role} in division {division}")));
    }
    lines.extend(texts(client, "allowedIps").map(|range| format!("address {range}")));
    lines.extend(texts(client, "scope").map(|scope| format!("scope {scope}")));
    lines.extend(text(client, "authorizedGrantType").map(|grant| format!("grant {grant}")));
    if let Some(seconds) = client.get("accessTokenValiditySeconds").and_then(Value::as_u64) {
        lines.push(format!("token life {seconds} s"));
    }
    lines.sort_unstable();
    lines.dedup();
    Rights { lines }
}

/// The client as rotation lists it.
pub fn listed(client: &Client) -> Option<ManagedSecret> {
    Some(ManagedSecret {
        id: id(client)?,
        name: text(client, "name").map(str::to_owned),
        active: state(client) == "active",
        created_at: time(client, "dateCreated"),
        // told by a query per client only
        last_used_at: None,
        owner: client
            .get("createdBy")
            .and_then(|by| by.get("name").or_else(|| by.get("id")))
            .and_then(Value::as_str)
            .map(str::to_owned),
    })
}

/// An ISO-8601 time of a document.
pub(super) fn time(document: &Map<String, Value>, name: &str) -> Option<UnixMillis> {
    let at: jiff::Timestamp = text(document, name)?.parse().ok()?;
    Some(UnixMillis(u64::try_from(at.as_millisecond()).ok()?))
}

pub(super) fn text<'a>(document: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    document.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

fn texts<'a>(client: &'a Client, name: &str) -> impl Iterator<Item = &'a str> {
    client.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

fn without_made(client: &Client) -> Client {
    let kept = client.iter().filter(|(name, _)| !MADE_BY_PLATFORM.contains(&name.as_str()));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// `text` without the mark at its end that an earlier rotation wrote.
fn cut<'a>(text: &'a str, mark: &str) -> &'a str {
    match text.rfind(mark) {
        Some(at) if text.trim_end().ends_with(']') => text.get(..at).unwrap_or(text).trim_end(),
        _ => text.trim_end(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn client(members: &Value) -> Client {
        let mut whole = json!({
            "id": "c1", "name": "billing", "authorizedGrantType": "CLIENT-CREDENTIALS", "state": "active",
            "dateCreated": "2026-01-02T03:04:05.000Z", "dateModified": "2026-01-02T03:04:05.000Z",
            "createdBy": {"id": "u1"}, "modifiedBy": {"id": "u1"}, "selfUri": "/x",
            "roleDivisions": [{"roleId": "r1", "divisionId": "*"}, {"roleId": "r2", "divisionId": "d"}],
            "allowedIps": ["10.0.0.0/8"], "someFutureField": {"deep": [1, null]},
        });
        whole.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        parse(whole).unwrap()
    }

    #[test]
    fn a_twin_has_everything_but_what_the_platform_makes() {
        let old = client(&json!({"state": "inactive", "dateToDelete": "2026-02-01T00:00:00Z", "description": "pays"}));
        let twin = twin(&old, &root(&old).unwrap(), "run-1");
        for gone in
            ["id", "dateCreated", "dateModified", "createdBy", "modifiedBy", "selfUri", "dateToDelete", "secret"]
        {
            assert!(!twin.contains_key(gone), "{gone}");
        }
        for kept in ["authorizedGrantType", "roleDivisions", "allowedIps", "someFutureField"] {
            assert_eq!(twin.get(kept), old.get(kept), "{kept}");
        }
        assert_eq!(twin["state"], "active");
        assert_eq!(twin["name"], "billing [keyholder run-1]");
        assert_eq!(twin["description"], "pays [keyholder pair c1]");
    }

    #[test]
    fn a_twin_of_a_twin_belongs_to_the_same_pair_and_its_texts_do_not_grow() {
        let first = client(&json!({}));
        let mut second = twin(&first, &root(&first).unwrap(), "run-1");
        second.insert("id".to_owned(), json!("c2"));
        assert_eq!(root(&second).unwrap().0, "c1");
        let third = twin(&second, &root(&second).unwrap(), "run-2");
        assert_eq!(
            (&third["name"], &third["description"]),
            (&json!("billing [keyholder run-2]"), &json!("[keyholder pair c1]"))
        );
    }

    #[test]
    fn a_mark_that_is_none_is_text() {
        for (description, expected) in
            [("", "c1"), ("[keyholder pair ]x", "c1"), ("a [keyholder pair c9] b", "c1"), ("[keyholder pair c9]", "c9")]
        {
            assert_eq!(root(&client(&json!({"description": description}))).unwrap().0, expected, "{description}");
        }
    }

    #[test]
    fn states() {
        let active = client(&json!({}));
        assert!(in_state(&active, "active").is_none());
        let put = in_state(&active, "inactive").unwrap();
        assert_eq!((&put["state"], &put["someFutureField"]), (&json!("inactive"), &json!({"deep": [1, null]})));
        let inactive = client(&json!({"state": "inactive", "dateToDelete": "2026-02-01T00:00:00Z"}));
        assert!(!in_state(&inactive, "active").unwrap().contains_key("dateToDelete"));
    }

    #[test]
    fn rights_are_lines() {
        let lines = rights(&client(&json!({"accessTokenValiditySeconds": 86400, "roleIds": ["r1", "r3"]}))).lines;
        assert_eq!(
            lines,
            [
                "address 10.0.0.0/8",
                "grant CLIENT-CREDENTIALS",
                "role r1 in division *",
                "role r2 in division d",
                "role r3",
                "token life 86400 s"
            ]
        );
    }

    #[test]
    fn what_is_listed() {
        let listed = listed(&client(&json!({"createdBy": {"id": "u1", "name": "Ada"}}))).unwrap();
        assert_eq!((listed.active, listed.owner.as_deref()), (true, Some("Ada")));
        assert_eq!(listed.created_at, Some(UnixMillis(1_767_323_045_000)));
        assert!(parse(json!({"name": "x"})).is_none());
        assert!(parse(json!({"id": "c", "secret": "s"})).unwrap().get("secret").is_none());
    }

    proptest! {
        #[test]
        fn no_member_is_lost(names in proptest::collection::btree_map("[a-z][A-Za-z]{0,12}", 0_i64..9, 0..12)) {
            let mut whole = client(&json!({}));
            for (name, value) in &names {
                whole.entry(name.clone()).or_insert(json!(value));
            }
            let put = in_state(&whole, "inactive").unwrap();
            let made = twin(&whole, &ManagedId("c1".to_owned()), "l");
            for (name, value) in &whole {
                if MADE_BY_PLATFORM.contains(&name.as_str()) {
                    prop_assert!(!put.contains_key(name) && !made.contains_key(name));
                } else if !["name", "description", "state", "dateToDelete"].contains(&name.as_str()) {
                    prop_assert_eq!(put.get(name), Some(value));
                    prop_assert_eq!(made.get(name), Some(value));
                }
            }
        }
    }
}
