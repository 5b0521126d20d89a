//! Each rule of the fake once, on the state alone; the same rules by the official boto3 stand in `tests/stores/aws.py`.

use http::{HeaderMap, HeaderValue, Method, header::CONTENT_TYPE};
use serde_json::{Value as Json, json};

use super::{
    Aws,
    model::{Copying, LABELS_MAX, PUT_DISTANCE_MS, VERSIONS_KEPT, World},
    operations::{Call, perform},
};
use crate::fake::{Fake, Request};

const DAY_MS: u64 = 86_400_000;

struct Service {
    world: World,
    now_ms: u64,
}

impl Service {
    fn new() -> Self {
        Self { world: World::default(), now_ms: 1_790_000_000_000 }
    }

    fn at(&mut self, region: &str, operation: &str, body: &Json) -> Result<Json, String> {
        let body = body.to_string();
        let call = Call { operation, region, body: body.as_bytes(), now_ms: self.now_ms };
        perform(&mut self.world, &call).map_err(|refusal| refusal.kind.to_owned())
    }

    fn call(&mut self, operation: &str, body: &Json) -> Result<Json, String> {
        self.at("eu-central-1", operation, body)
    }

    fn put(&mut self, number: u32, value: &str, labels: &[&str]) -> Result<Json, String> {
        let mut body = json!({"SecretId": "s", "ClientRequestToken": id(number), "SecretString": value});
        if !labels.is_empty() {
            body["VersionStages"] = json!(labels);
        }
        self.call("PutSecretValue", &body)
    }

    fn move_label(&mut self, label: &str, from: Option<u32>, to: Option<u32>) -> Result<Json, String> {
        let mut body = json!({"SecretId": "s", "VersionStage": label});
        if let Some(from) = from {
            body["RemoveFromVersionId"] = json!(id(from));
        }
        if let Some(to) = to {
            body["MoveToVersionId"] = json!(id(to));
        }
        self.call("UpdateSecretVersionStage", &body)
    }

    /// Labels as `1:AWSCURRENT 2:KH_PENDING`.
    fn labels(&mut self) -> String {
        let told = self.call("DescribeSecret", &json!({"SecretId": "s"})).unwrap();
        let mut all: Vec<String> = Vec::new();
        for (version, stages) in told["VersionIdsToStages"].as_object().into_iter().flatten() {
            for stage in stages.as_array().unwrap() {
                all.push(format!("{}:{}", version.trim_start_matches(['0', '-']), stage.as_str().unwrap()));
            }
        }
        all.sort();
        all.join(" ")
    }

    fn current(&mut self) -> Result<String, String> {
        let told = self.call("GetSecretValue", &json!({"SecretId": "s"}))?;
        Ok(told["SecretString"].as_str().unwrap().to_owned())
    }
}

fn id(number: u32) -> String {
    format!("00000000-0000-0000-0000-{number:012}")
}

/// A secret with one version, 1.
fn seeded() -> Service {
    let mut service = Service::new();
    let body = json!({"Name": "s", "ClientRequestToken": id(1), "SecretString": "one"});
    service.call("CreateSecret", &body).unwrap();
    service
}

fn refused(kind: &str) -> Result<Json, String> {
    Err(kind.to_owned())
}

#[test]
fn a_version_is_never_changed() {
    let mut service = seeded();
    service.put(2, "two", &["KH_PENDING"]).unwrap();
    let again = service.put(2, "two", &["OTHER"]).unwrap();
    assert_eq!(again["VersionStages"], json!(["KH_PENDING"]), "a repeat does nothing, not even to the labels");
    assert_eq!(service.put(2, "three", &["KH_PENDING"]), refused("ResourceExistsException"));
    assert_eq!(service.labels(), "1:AWSCURRENT 2:KH_PENDING");
    let body = json!({"Name": "s", "ClientRequestToken": id(1), "SecretString": "one"});
    assert!(service.call("CreateSecret", &body).is_ok(), "a repeated creation is ignored");
    let other = json!({"Name": "s", "ClientRequestToken": id(1), "SecretString": "other"});
    assert_eq!(service.call("CreateSecret", &other), refused("ResourceExistsException"));
}

#[test]
fn labels_of_a_put_leave_the_version_that_has_them() {
    let mut service = seeded();
    service.put(2, "two", &["KH_PENDING"]).unwrap();
    service.put(3, "three", &["KH_PENDING"]).unwrap();
    assert_eq!(service.labels(), "1:AWSCURRENT 3:KH_PENDING", "version 2 has no label and is hidden");
    service.put(4, "four", &[]).unwrap();
    assert_eq!(service.labels(), "1:AWSPREVIOUS 3:KH_PENDING 4:AWSCURRENT");
}

#[test]
fn the_first_version_becomes_current_whatever_was_asked() {
    let mut service = Service::new();
    service.call("CreateSecret", &json!({"Name": "s"})).unwrap();
    assert_eq!(service.current(), Err("ResourceNotFoundException".to_owned()));
    service.put(1, "one", &["KH_PENDING"]).unwrap();
    assert_eq!(service.labels(), "1:AWSCURRENT 1:KH_PENDING");
}

#[test]
fn the_current_label_moves_only_from_the_version_that_has_it() {
    let mut service = seeded();
    service.put(2, "two", &["KH_PENDING"]).unwrap();
    service.put(3, "three", &["X"]).unwrap();
    for (from, to) in [(None, Some(2)), (Some(2), Some(2)), (Some(3), Some(2)), (Some(1), None), (None, None)] {
        assert_eq!(service.move_label("AWSCURRENT", from, to), refused("InvalidParameterException"), "{from:?} {to:?}");
    }
    assert_eq!(service.move_label("AWSCURRENT", Some(1), Some(9)), refused("ResourceNotFoundException"));
    assert_eq!(service.labels(), "1:AWSCURRENT 2:KH_PENDING 3:X");
    service.move_label("AWSCURRENT", Some(1), Some(2)).unwrap();
    assert_eq!(service.labels(), "1:AWSPREVIOUS 2:AWSCURRENT 2:KH_PENDING 3:X");
    assert_eq!(service.current().unwrap(), "two");
    assert_eq!(service.move_label("AWSCURRENT", Some(1), Some(3)), refused("InvalidParameterException"));
    service.move_label("AWSCURRENT", Some(2), Some(1)).unwrap();
    assert_eq!(service.labels(), "1:AWSCURRENT 2:AWSPREVIOUS 2:KH_PENDING 3:X", "and back");
}

#[test]
fn another_label_can_be_dropped_and_its_version_is_then_hidden() {
    let mut service = seeded();
    service.put(2, "two", &["KH_PENDING"]).unwrap();
    assert_eq!(service.move_label("KH_PENDING", Some(1), None), refused("InvalidParameterException"));
    service.move_label("KH_PENDING", Some(2), None).unwrap();
    assert_eq!(service.labels(), "1:AWSCURRENT");
    let shown = |told: &Json| told["Versions"].as_array().unwrap().len();
    let told = service.call("ListSecretVersionIds", &json!({"SecretId": "s"})).unwrap();
    assert_eq!(shown(&told), 1);
    let told = service.call("ListSecretVersionIds", &json!({"SecretId": "s", "IncludeDeprecated": true})).unwrap();
    assert_eq!(shown(&told), 2);
    let told = service.call("GetSecretValue", &json!({"SecretId": "s", "VersionId": id(2)})).unwrap();
    assert_eq!(told["SecretString"], "two", "it can still be read by its id");
}

#[test]
fn a_read_names_a_version_or_a_label_or_both_of_one_version() {
    let mut service = seeded();
    service.put(2, "two", &["KH_PENDING"]).unwrap();
    for (body, expected) in [
        (json!({"SecretId": "s"}), Ok("one")),
        (json!({"SecretId": "s", "VersionStage": "KH_PENDING"}), Ok("two")),
        (json!({"SecretId": "s", "VersionId": id(2)}), Ok("two")),
        (json!({"SecretId": "s", "VersionId": id(2), "VersionStage": "KH_PENDING"}), Ok("two")),
        (json!({"SecretId": "s", "VersionId": id(1), "VersionStage": "KH_PENDING"}), Err("InvalidRequestException")),
        (json!({"SecretId": "s", "VersionStage": "NONE"}), Err("ResourceNotFoundException")),
        (json!({"SecretId": "s", "VersionId": id(7)}), Err("ResourceNotFoundException")),
        (json!({"SecretId": "none"}), Err("ResourceNotFoundException")),
        (json!({"SecretId": "s", "Unknown": 1}), Err("ValidationException")),
    ] {
        let found = service.call("GetSecretValue", &body).map(|told| told["SecretString"].as_str().unwrap().to_owned());
        assert_eq!(found, expected.map(str::to_owned).map_err(str::to_owned), "{body}");
    }
}

#[test]
fn sizes_and_counts_are_limited() {
    let mut service = seeded();
    assert!(service.put(2, &"x".repeat(65_536), &["A"]).is_ok());
    assert_eq!(service.put(3, &"x".repeat(65_537), &["A"]), refused("ValidationException"));
    assert_eq!(service.put(3, "", &["A"]), refused("ValidationException"));
    let short = json!({"SecretId": "s", "ClientRequestToken": "short", "SecretString": "x"});
    assert_eq!(service.call("PutSecretValue", &short), refused("ValidationException"));

    let labels: Vec<String> = (0..LABELS_MAX).map(|label| format!("L{label}")).collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    assert_eq!(service.put(4, "x", &labels), refused("LimitExceededException"), "with AWSCURRENT and A it is 22");
    assert!(service.put(4, "x", &labels[..LABELS_MAX - 2]).is_ok());
    assert_eq!(service.move_label("ONE_MORE", None, Some(4)), refused("LimitExceededException"));
    let many: Vec<&str> = (0..=LABELS_MAX).map(|_| "L").collect();
    assert_eq!(service.put(5, "x", &many), refused("ValidationException"));
}

#[test]
fn versions_of_the_last_day_fill_the_quota_and_older_ones_make_room() {
    let mut service = seeded();
    let mut number = 1;
    while number < u32::try_from(VERSIONS_KEPT).unwrap() {
        number += 1;
        service.put(number, "x", &["KH_PENDING"]).unwrap();
    }
    assert_eq!(service.put(number + 1, "x", &["KH_PENDING"]), refused("LimitExceededException"));
    service.now_ms += DAY_MS;
    service.put(number + 1, "x", &["KH_PENDING"]).unwrap();
    assert_eq!(service.labels(), format!("{}:KH_PENDING 1:AWSCURRENT", number + 1), "a labelled one is never removed");
    assert!(service.call("GetSecretValue", &json!({"SecretId": "s", "VersionId": id(2)})).is_err());
}

#[test]
fn a_put_that_takes_the_place_of_an_old_version_is_a_change() {
    let mut service = seeded();
    let full = u32::try_from(VERSIONS_KEPT).unwrap();
    for number in 2..=full {
        service.put(number, "x", &["KH_PENDING"]).unwrap();
    }
    service.now_ms += DAY_MS + 3_600_000;
    let before = service.world.revision;
    service.put(full + 1, "x", &["KH_PENDING"]).unwrap();
    assert_eq!(service.world.find("eu-central-1", "s").unwrap().versions.len(), VERSIONS_KEPT);
    assert_eq!(service.world.revision, before + 1);
    service.put(full + 1, "x", &["KH_PENDING"]).unwrap();
    assert_eq!(service.world.revision, before + 1, "a repeat changes nothing");
}

#[test]
fn writing_more_often_than_every_ten_minutes_is_counted() {
    let mut service = seeded();
    for number in 2..6 {
        service.now_ms += PUT_DISTANCE_MS;
        service.put(number, "x", &["P"]).unwrap();
    }
    let often = |service: &Service| service.world.find("eu-central-1", "s").unwrap().puts_too_often(3);
    assert!(!often(&service));
    for number in 6..10 {
        service.now_ms += PUT_DISTANCE_MS / 2;
        service.put(number, "x", &["P"]).unwrap();
    }
    assert!(often(&service));
}

#[test]
fn copies_follow_and_take_no_changes() {
    let mut service = seeded();
    service.world.copy_lag = 2;
    let body = json!({"SecretId": "s", "AddReplicaRegions": [{"Region": "eu-west-1"}]});
    let told = service.call("ReplicateSecretToRegions", &body).unwrap();
    assert_eq!(told["ReplicationStatus"], json!([{"Region": "eu-west-1", "Status": "InProgress"}]));
    assert!(service.at("eu-west-1", "GetSecretValue", &json!({"SecretId": "s"})).is_err(), "not copied yet");
    let status = |service: &mut Service| {
        service.call("DescribeSecret", &json!({"SecretId": "s"})).unwrap()["ReplicationStatus"][0]["Status"].clone()
    };
    let mut waited = 0;
    while status(&mut service) != "InSync" {
        waited += 1;
        assert!(waited < 5);
    }
    let put = json!({"SecretId": "s", "ClientRequestToken": id(2), "SecretString": "x"});
    assert_eq!(service.at("eu-west-1", "PutSecretValue", &put), refused("InvalidRequestException"));
    assert_eq!(service.call("DeleteSecret", &json!({"SecretId": "s"})), refused("InvalidRequestException"));

    service.put(2, "two", &[]).unwrap();
    let copy = service.at("eu-west-1", "GetSecretValue", &json!({"SecretId": "s"})).unwrap();
    assert_eq!(copy["SecretString"], "one", "it lags behind");
    service.move_label("X", None, Some(2)).unwrap();
    let secret = service.world.find("eu-central-1", "s").unwrap();
    assert_eq!(secret.copies["eu-west-1"], Copying::Failed, "labels moved while it was copied");
}

#[test]
fn reads_may_see_what_was_before() {
    let mut service = seeded();
    service.world.read_lag = 2;
    service.put(2, "two", &[]).unwrap();
    let seen: Vec<String> = (0..3).map(|_| service.current().unwrap()).collect();
    assert_eq!(seen, ["one", "one", "two"]);
    service.put(3, "three", &["KH_PENDING"]).unwrap();
    assert_eq!(
        service.move_label("AWSCURRENT", Some(1), Some(3)),
        refused("InvalidParameterException"),
        "changes do not"
    );
}

#[test]
fn what_is_marked_for_deletion_is_neither_read_nor_written() {
    let mut service = seeded();
    assert_eq!(
        service.call("DeleteSecret", &json!({"SecretId": "s", "RecoveryWindowInDays": 6})),
        refused("InvalidParameterException")
    );
    service.call("DeleteSecret", &json!({"SecretId": "s"})).unwrap();
    assert_eq!(service.current(), Err("InvalidRequestException".to_owned()));
    assert_eq!(service.put(2, "two", &[]), refused("InvalidRequestException"));
    assert_eq!(service.call("CreateSecret", &json!({"Name": "s"})), refused("InvalidRequestException"));
    let told = service.call("DescribeSecret", &json!({"SecretId": "s"})).unwrap();
    assert!(told["DeletedDate"].is_number());
    assert_eq!(service.call("ListSecrets", &json!({})).unwrap()["SecretList"], json!([]));
    service.call("RestoreSecret", &json!({"SecretId": "s"})).unwrap();
    assert_eq!(service.current().unwrap(), "one");
    service.call("DeleteSecret", &json!({"SecretId": "s", "ForceDeleteWithoutRecovery": true})).unwrap();
    assert_eq!(service.current(), Err("ResourceNotFoundException".to_owned()));
    service.call("DeleteSecret", &json!({"SecretId": "s", "ForceDeleteWithoutRecovery": true})).unwrap();
}

#[test]
fn lists_have_pages_and_a_prefix() {
    let mut service = Service::new();
    for number in 0..105 {
        service.call("CreateSecret", &json!({"Name": format!("a/{number:03}")})).unwrap();
    }
    service.call("CreateSecret", &json!({"Name": "b"})).unwrap();
    let first = service.call("ListSecrets", &json!({})).unwrap();
    assert_eq!(first["SecretList"].as_array().unwrap().len(), 100);
    let rest = service.call("ListSecrets", &json!({"NextToken": first["NextToken"]})).unwrap();
    assert_eq!(rest["SecretList"].as_array().unwrap().len(), 6);
    assert!(rest.get("NextToken").is_none());
    let filter = json!({"Filters": [{"Key": "name", "Values": ["b"]}]});
    assert_eq!(service.call("ListSecrets", &filter).unwrap()["SecretList"][0]["Name"], "b");
    assert_eq!(service.call("ListSecrets", &json!({"NextToken": "x"})), refused("InvalidNextTokenException"));
}

#[test]
fn the_list_of_versions_has_pages() {
    let mut service = seeded();
    for number in 2..=5 {
        service.put(number, "x", &["KH_PENDING"]).unwrap();
    }
    let mut seen = Vec::new();
    let mut asked = json!({"SecretId": "s", "IncludeDeprecated": true, "MaxResults": 2});
    loop {
        let told = service.call("ListSecretVersionIds", &asked).unwrap();
        let page = told["Versions"].as_array().unwrap();
        seen.push(page.iter().map(|version| version["VersionId"].as_str().unwrap().to_owned()).collect::<Vec<_>>());
        let Some(next) = told.get("NextToken") else { break };
        asked["NextToken"] = next.clone();
    }
    assert_eq!(seen, [vec![id(1), id(2)], vec![id(3), id(4)], vec![id(5)]]);
    for (member, value, kind) in [
        ("MaxResults", json!(0), "ValidationException"),
        ("MaxResults", json!(101), "ValidationException"),
        ("NextToken", json!("x"), "InvalidNextTokenException"),
    ] {
        let mut asked = json!({"SecretId": "s"});
        asked[member] = value;
        assert_eq!(service.call("ListSecretVersionIds", &asked), refused(kind), "{asked}");
    }
    let beyond = json!({"SecretId": "s", "NextToken": u64::MAX.to_string()});
    assert_eq!(service.call("ListSecretVersionIds", &beyond).unwrap()["Versions"], json!([]));
}

#[test]
fn a_request_that_is_not_of_the_protocol_names_no_operation() {
    const JSON: &str = "application/x-amz-json-1.1";
    const GET_VALUE: &str = "secretsmanager.GetSecretValue";
    let named = |method: Method, path: &str, target: &'static str, media_type: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-target", HeaderValue::from_static(target));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        let (origin, query, body) = (String::new(), String::new(), b"".as_slice().into());
        Aws::new().operation(&Request { method, origin, path: path.to_owned(), query, headers, body })
    };
    assert_eq!(named(Method::POST, "/", GET_VALUE, JSON), "GetSecretValue");
    assert_eq!(named(Method::GET, "/", GET_VALUE, JSON), "");
    assert_eq!(named(Method::POST, "/secrets", GET_VALUE, JSON), "");
    assert_eq!(named(Method::POST, "/", GET_VALUE, "application/json"), "");
    assert_eq!(named(Method::POST, "/", GET_VALUE, "application/x-amz-json-1.0"), "");
    for target in ["GetSecretValue", "ssm.GetSecretValue", "x.secretsmanager.GetSecretValue", "secretsmanager"] {
        assert_eq!(named(Method::POST, "/", target, JSON), "", "{target}");
    }
    let mut service = seeded();
    for operation in ["", "x.GetSecretValue"] {
        assert_eq!(service.call(operation, &json!({"SecretId": "s"})), refused("UnknownOperationException"));
    }
}

#[test]
fn what_the_model_does_not_have_is_refused() {
    let mut service = seeded();
    assert_eq!(service.call("RotateSecret", &json!({"SecretId": "s"})), refused("UnknownOperationException"));
    for body in [json!(["s"]), json!("s"), json!({"SecretId": 7})] {
        assert_eq!(service.call("GetSecretValue", &body), refused("SerializationException"), "{body}");
    }
    for body in [
        json!({"SecretId": "s", "ClientRequestToken": id(2), "SecretString": "x", "VersionStages": "AWSCURRENT"}),
        json!({"SecretId": "s", "ClientRequestToken": id(2), "SecretString": "x", "VersionStages": []}),
        json!({"SecretId": "s", "ClientRequestToken": id(2), "SecretString": "x", "VersionStages": [""]}),
        json!({"ClientRequestToken": id(2), "SecretString": "x"}),
    ] {
        assert_eq!(service.call("PutSecretValue", &body), refused("ValidationException"), "{body}");
    }
    let none = json!({"SecretId": "s", "ClientRequestToken": id(2)});
    assert_eq!(service.call("PutSecretValue", &none), refused("InvalidRequestException"), "a value must be given");
    let both = json!({"SecretId": "s", "ClientRequestToken": id(2), "SecretString": "x", "SecretBinary": "eA=="});
    assert_eq!(service.call("PutSecretValue", &both), refused("InvalidParameterException"));
    let both = json!({"SecretId": "s", "ForceDeleteWithoutRecovery": true, "RecoveryWindowInDays": 7});
    assert_eq!(service.call("DeleteSecret", &both), refused("InvalidParameterException"));
}

#[test]
fn a_function_changes_alone_against_its_revision_and_within_its_limits() {
    use std::collections::BTreeMap;

    use super::lambda::{Function, perform};
    let path = "/2015-03-31/functions/orders/configuration";
    let mut functions = BTreeMap::from([(
        "orders".to_owned(),
        Function { name: "orders".to_owned(), update_reads: 2, ..Function::default() },
    )]);
    let mut put = |body: &Json| {
        let answer = perform(&mut functions, &Method::PUT, path, body.to_string().as_bytes());
        answer.map(|reply| reply.status).map_err(|refusal| (refusal.status, refusal.kind))
    };
    let conflict = Err((409, "ResourceConflictException"));
    let invalid = Err((400, "InvalidParameterValueException"));
    assert_eq!(put(&json!({"Description": "a", "RevisionId": "none"})), Err((412, "PreconditionFailedException")));
    for variables in [json!("x"), json!({"A1": 1}), json!({"1A": "x"}), json!({"LONG": "x".repeat(4097)})] {
        assert_eq!(put(&json!({"Environment": {"Variables": variables}})), invalid, "{variables}");
    }
    assert_eq!(put(&json!({"Description": "a"})), Ok(200));
    assert_eq!(put(&json!({"Description": "b"})), conflict, "an update is under way");
    let none = perform(&mut functions, &Method::GET, "/2015-03-31/functions/x/configuration", b"");
    assert_eq!(none.map(|reply| reply.status).map_err(|refusal| refusal.status), Err(404));
    let other = perform(&mut functions, &Method::DELETE, path, b"");
    assert_eq!(other.map(|reply| reply.status).map_err(|refusal| refusal.kind), Err("UnknownOperationException"));
}
