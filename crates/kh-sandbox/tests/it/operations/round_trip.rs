//! What was created can be read, listed over pages, updated and deleted: on chosen collections in detail, and on every
//! collection of the document that has the three operations.

use std::collections::BTreeSet;

use kh_sandbox::operations::Operations;
use serde_json::{Value, json};

use super::client::{CALLER, Client};
use super::schema_check::SchemaCheck;

/// One collection in detail: path, creation body, a member to change with its new value, how to change it.
struct Case {
    path: &'static str,
    body: Value,
    update: (&'static str, Value),
    change: (&'static str, Value),
}

const HOME: &str = "9c8f5e2a-0d3b-4c1e-9a47-6f1d2b3c4d5e";

fn cases() -> Vec<Case> {
    let case = |path, body, method, update, member, value| Case {
        path,
        body,
        update: (method, update),
        change: (member, value),
    };
    vec![
        case(
            "/api/v2/users",
            json!({"name": "Rosa P", "email": "rosa@sandbox.invalid", "password": "not kept", "divisionId": HOME}),
            "PATCH",
            json!({"title": "Lead", "version": 1}),
            "title",
            json!("Lead"),
        ),
        case(
            "/api/v2/routing/queues",
            json!({"name": "VIP", "description": "first"}),
            "PUT",
            json!({"name": "VIP", "description": "second"}),
            "description",
            json!("second"),
        ),
        case(
            "/api/v2/routing/wrapupcodes",
            json!({"name": "Sold"}),
            "PUT",
            json!({"name": "Sold twice"}),
            "name",
            json!("Sold twice"),
        ),
        case(
            "/api/v2/groups",
            json!({"name": "Night", "type": "official", "rulesVisible": true, "visibility": "public"}),
            "PUT",
            json!({"visibility": "members", "version": 1}),
            "visibility",
            json!("members"),
        ),
        case(
            "/api/v2/authorization/divisions",
            json!({"name": "North"}),
            "PUT",
            json!({"name": "Far North"}),
            "name",
            json!("Far North"),
        ),
        case(
            "/api/v2/architect/schedules",
            json!({"name": "Weekdays", "start": "2026-01-01T08:00:00.000", "end": "2026-01-01T17:00:00.000"}),
            "PUT",
            json!({"name": "Weekends"}),
            "name",
            json!("Weekends"),
        ),
    ]
}

#[test]
fn created_entities_are_read_updated_and_deleted() {
    for Case { path, body, update: (method, update), change: (member, value) } in cases() {
        let client = Client::new(3);
        let created = client.ok("POST", path, Some(&body));
        let id = created["id"].as_str().unwrap().to_owned();
        assert_eq!(created["name"], body["name"], "{path}");
        assert!(created.get("password").is_none(), "{path}: only what the schema knows is kept");
        let own = format!("{path}/{id}");
        assert_eq!(created["selfUri"], json!(own));
        let read = client.ok("GET", &own, None);
        assert_eq!(read["id"], json!(id));
        assert_eq!(read["name"], body["name"]);
        client.ok(method, &own, Some(&update));
        let changed = client.ok("GET", &own, None);
        assert_eq!(changed[member], value, "{path}");
        assert_eq!(changed["id"], json!(id));
        if let (Some(before), Some(after)) = (read["version"].as_i64(), changed["version"].as_i64()) {
            assert_eq!(after, before + 1, "{path}: the version counts up");
        }
        let deleted = client.call("DELETE", &own, None);
        assert!((200..300).contains(&deleted.status), "{path}: {deleted:?}");
        for (method, body) in [("GET", None), ("DELETE", None), (method, Some(&update))] {
            client.refused(404, "not.found", method, &own, body);
        }
    }
}

#[test]
fn a_reference_by_id_is_shown_as_the_entity() {
    let client = Client::new(3);
    let body = json!({"name": "Rosa P", "email": "rosa@sandbox.invalid", "divisionId": "5d2b0f5e-6a0c-4b7c-9a52-2f4f4d6f0c11"});
    let user = client.ok("POST", "/api/v2/users", Some(&body));
    assert_eq!(user["division"]["id"], body["divisionId"], "{user}");
    assert_eq!((&user["version"], &user["state"]), (&json!(1), &json!("active")));
}

#[test]
fn platform_members_are_set_and_callers_can_not_set_them() {
    let client = Client::new(3);
    let sent = json!({"name": "VIP", "id": "mine", "dateCreated": "2001-01-01T00:00:00Z", "memberCount": 99});
    let queue = client.ok("POST", "/api/v2/routing/queues", Some(&sent));
    assert_ne!(queue["id"], json!("mine"));
    assert!(queue.get("memberCount").is_none_or(|count| *count != json!(99)), "read-only: {queue}");
    assert_eq!(queue["dateCreated"], json!("2026-11-21T03:00:00.000Z"));
    assert_eq!(queue["createdBy"], json!(CALLER));
    assert_eq!(queue["division"]["name"], json!("Home"));
}

#[test]
fn a_numbered_listing_shows_every_entity_once_over_its_pages() {
    let client = Client::new(3);
    let path = "/api/v2/routing/skills";
    let seeded = client.ok("GET", path, None)["total"].as_u64().unwrap();
    assert!(seeded > 0, "a first call shows something");
    let mut expected: BTreeSet<String> = ids(&client.ok("GET", path, None));
    for number in 0..57 {
        let created = client.ok("POST", path, Some(&json!({"name": format!("Skill {number}")})));
        expected.insert(created["id"].as_str().unwrap().to_owned());
    }
    let mut seen = BTreeSet::new();
    let mut target = format!("{path}?sortOrder=ascending");
    let mut pages = 0;
    loop {
        let page = client.ok("GET", &target, None);
        pages += 1;
        assert_eq!(page["pageNumber"], json!(pages));
        assert_eq!((&page["pageSize"], &page["pageCount"]), (&json!(25), &json!(3)));
        assert_eq!(page["total"], json!(seeded + 57));
        let here = ids(&page);
        assert!(seen.is_disjoint(&here), "no entity twice");
        seen.extend(here);
        let Some(next) = page["nextUri"].as_str() else { break };
        assert!(next.contains("sortOrder=ascending"), "other parameters stay: {next}");
        next.clone_into(&mut target);
    }
    assert_eq!((pages, seen), (3, expected));
    let beyond = client.ok("GET", &format!("{path}?pageNumber=4"), None);
    assert_eq!(beyond["entities"], json!([]));
    let last = client.ok("GET", &format!("{path}?pageSize=20&pageNumber=3"), None);
    assert_eq!(last["entities"].as_array().unwrap().len() as u64, seeded + 57 - 40);
    assert!(last.get("nextUri").is_none() && last["previousUri"].as_str().unwrap().contains("pageNumber=2"));
    let named = client.ok("GET", &format!("{path}?name=skill+5*"), None);
    assert_eq!(named["total"], json!(8), "5 and 50 to 56");
    client.refused(400, "invalid.query.param.value", "GET", &format!("{path}?pageNumber=0"), None);
    client.refused(400, "invalid.query.param.value", "GET", &format!("{path}?pageSize=many"), None);
}

fn ids(page: &Value) -> BTreeSet<String> {
    let entities = page["entities"].as_array().unwrap();
    entities.iter().map(|entity| entity["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_cursor_listing_shows_every_entity_once() {
    let client = Client::new(3);
    let path = "/api/v2/assistants/agentchecklists";
    let creation = client.find("POST", path).unwrap();
    let mut body = client.operations.sample_body(&creation.operation, 3).unwrap();
    let mut expected = BTreeSet::new();
    for number in 0..7 {
        body["name"] = json!(format!("Checklist {number}"));
        expected.insert(client.ok("POST", path, Some(&body))["id"].as_str().unwrap().to_owned());
    }
    let mut target = format!("{path}?pageSize=3");
    let (mut seen, mut pages) = (BTreeSet::new(), 0);
    loop {
        let page = client.ok("GET", &target, None);
        pages += 1;
        let here = ids(&page);
        assert!(seen.is_disjoint(&here));
        seen.extend(here);
        let Some(next) = page["nextUri"].as_str() else { break };
        assert!(next.contains("after="), "{next}");
        next.clone_into(&mut target);
    }
    assert_eq!((pages, seen), (3, expected));
    client.refused(400, "invalid.query.param.value", "GET", &format!("{path}?after=nonsense"), None);
}

#[test]
fn entities_below_another_go_with_it() {
    let client = Client::new(3);
    let assistant = client.create_in("/api/v2/assistants", "assistantId").unwrap();
    let below = format!("/api/v2/assistants/{assistant}/variations");
    let variation = client.create_in(&below, "variationId").unwrap();
    client.ok("GET", &format!("{below}/{variation}"), None);
    client.ok("DELETE", &format!("/api/v2/assistants/{assistant}"), None);
    client.refused(404, "not.found", "GET", &format!("{below}/{variation}"), None);
    client.refused(404, "not.found", "GET", &below, None);
}

#[test]
fn members_are_added_listed_and_removed() {
    let client = Client::new(3);
    let users = ids(&client.ok("GET", "/api/v2/users", None));
    let queue = ids(&client.ok("GET", "/api/v2/routing/queues", None)).first().unwrap().clone();
    let members = format!("/api/v2/routing/queues/{queue}/members");
    assert_eq!(client.ok("GET", &members, None)["entities"], json!([]), "a new queue has no members");
    let added: Vec<Value> = users.iter().take(2).map(|id| json!({ "id": id })).collect();
    client.ok("POST", &members, Some(&json!(added)));
    client.ok("POST", &members, Some(&json!(added)));
    let expected: BTreeSet<String> = users.iter().take(2).cloned().collect();
    assert_eq!(ids(&client.ok("GET", &members, None)), expected, "adding twice adds once");
    client.ok("DELETE", &format!("{members}/{}", users.first().unwrap()), None);
    assert_eq!(client.ok("GET", &members, None)["entities"].as_array().unwrap().len(), 1);
    client.ok("POST", &format!("{members}?delete=true"), Some(&json!(added)));
    assert_eq!(client.ok("GET", &members, None)["entities"], json!([]));
}

#[test]
fn single_documents_keep_what_was_put() {
    let client = Client::new(3);
    let path =
        format!("/api/v2/users/{}/routingstatus", ids(&client.ok("GET", "/api/v2/users", None)).first().unwrap());
    client.ok("PUT", &path, Some(&json!({"status": "NOT_RESPONDING"})));
    assert_eq!(client.ok("GET", &path, None)["status"], json!("NOT_RESPONDING"));
}

#[test]
fn what_nobody_can_create_is_made_up_stably_and_can_be_deleted_once() {
    let client = Client::new(3);
    let path = "/api/v2/alerting/alerts/0b5b3f9e-8a53-4b1e-9df0-0d3f7f1d1a11";
    let first = client.ok("GET", path, None);
    assert_eq!(first["id"], json!("0b5b3f9e-8a53-4b1e-9df0-0d3f7f1d1a11"));
    assert_eq!(first, client.ok("GET", path, None));
    client.ok("DELETE", path, None);
    client.refused(404, "not.found", "GET", path, None);
    client.refused(404, "not.found", "DELETE", path, None);
}

/// Every collection with POST, GET by id and DELETE by id.
#[test]
fn every_collection_of_the_document_round_trips() {
    let operations = Operations::shared();
    let templates: BTreeSet<(&str, &str)> =
        operations.all().iter().map(|operation| (operation.method(), operation.template())).collect();
    let mut check = SchemaCheck::new();
    let (mut candidates, mut done, mut without_state) = (0, 0, Vec::new());
    for (_, template) in templates.iter().filter(|(method, _)| *method == "GET") {
        let Some((collection, parameter)) = template.rsplit_once("/{") else { continue };
        let parameter = parameter.trim_end_matches('}');
        if parameter.contains('/')
            || !templates.contains(&("POST", collection))
            || !templates.contains(&("DELETE", template))
        {
            continue;
        }
        candidates += 1;
        let client = Client::new(9);
        let creation = operations.all().iter().find(|o| o.method() == "POST" && o.template() == collection).unwrap();
        let concrete = client.target_of(creation);
        let concrete = concrete.split('?').next().unwrap();
        let Some(id) = client.create_in(concrete, parameter) else {
            without_state.push(collection.to_owned());
            continue;
        };
        let item = format!("{concrete}/{id}");
        let reading = client.find("GET", &item).unwrap();
        let query = |method: &str| client.operations.sample_query(&client.find(method, &item).unwrap().operation, 3);
        let (get, delete) = (format!("{item}?{}", query("GET")), format!("{item}?{}", query("DELETE")));
        let body = client.ok("GET", &get, None);
        assert_eq!(
            check.errors(&reading.operation, reading.operation.success_key(), Some(&body)),
            Vec::<String>::new(),
            "{get}"
        );
        let mut again = client.call("GET", &format!("{concrete}/ffffffff-0000-4000-8000-000000000000"), None);
        if again.status == 400 {
            again = client.call("GET", &get.replace(&id, "ffffffff-0000-4000-8000-000000000000"), None);
        }
        // Collections whose state is the sandbox's own (OAuth clients) are made up here.
        if again.status != 404 {
            without_state.push(collection.to_owned());
            continue;
        }
        client.ok("DELETE", &delete, None);
        client.refused(404, "not.found", "GET", &get, None);
        client.refused(404, "not.found", "DELETE", &delete, None);
        done += 1;
    }
    println!("{done} of {candidates} collections round-trip; without state: {without_state:?}");
    assert!(candidates >= 220, "{candidates}");
    assert!(done >= 220, "only {done} collections round-trip; without state: {without_state:?}");
}
