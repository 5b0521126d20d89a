//! The operations of AWS Secrets Manager that this fake has, each on the state alone.
//!
//! Invariant: every refusal is the service's own type, and a refused operation changes nothing.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::{
    model::{Copying, LABELS_MAX, Secret, VALUE_MAX, Value, World},
    wire::{Members, Refusal, random_hex},
};

/// Who asks for what, where and when.
pub(super) struct Call<'a> {
    /// `PutSecretValue` and so on.
    pub operation: &'a str,
    /// The region it was signed for.
    pub region: &'a str,
    /// The body.
    pub body: &'a [u8],
    /// Unix milliseconds.
    pub now_ms: u64,
}

/// Performs a call.
pub(super) fn perform(world: &mut World, call: &Call<'_>) -> Result<Json, Refusal> {
    match call.operation {
        "CreateSecret" => create(world, call),
        "PutSecretValue" => put(world, call),
        "UpdateSecretVersionStage" => update_stage(world, call),
        "GetSecretValue" => value(world, call),
        "DescribeSecret" => describe(world, call),
        "ListSecrets" => list(world, call),
        "ListSecretVersionIds" => list_versions(world, call),
        "DeleteSecret" => delete(world, call),
        "RestoreSecret" => restore(world, call),
        "ReplicateSecretToRegions" => replicate(world, call),
        _ => Err(Refusal::new("UnknownOperationException", "")),
    }
}

fn missing() -> Refusal {
    Refusal::not_found("Secrets Manager can't find the specified secret.")
}

/// Model, `ClientRequestTokenType`: 32 to 64 characters. The SDKs fill it in when a caller does not; a raw request has
/// to bring one, and so has every request here.
fn token(members: &Members) -> Result<&str, Refusal> {
    members.required("ClientRequestToken", 32, 64)
}

/// Model: `SecretString` or `SecretBinary`, not both; 1 to 65,536 bytes.
fn given_value(members: &Members) -> Result<Option<Value>, Refusal> {
    let text = members.text("SecretString", 1, VALUE_MAX)?;
    // base64 has four characters for three bytes.
    let binary = members.text("SecretBinary", 1, VALUE_MAX.div_ceil(3) * 4)?;
    match (text, binary) {
        (Some(_), Some(_)) => Err(Refusal::parameter(
            "You can't specify both a binary secret value and a string secret value in the same request.",
        )),
        (Some(text), None) => Ok(Some(Value::Text(text.to_owned()))),
        (None, Some(binary)) => Ok(Some(Value::Binary(binary.to_owned()))),
        (None, None) => Ok(None),
    }
}

/// The secret that a change is for. Model: not one that is marked for deletion; user guide, "Replicate secrets": a copy
/// takes its changes from its primary alone.
fn to_change<'a>(world: &'a mut World, region: &str, id: &str) -> Result<&'a mut Secret, Refusal> {
    let secret = world.find_mut(region, id).ok_or_else(missing)?;
    if secret.deleted_ms.is_some() {
        return Err(Refusal::request(
            "You can't perform this operation on the secret because it was marked for deletion.",
        ));
    }
    if secret.primary != region {
        return Err(Refusal::request(
            "Operation not permitted on a replica secret. Call must be made in primary secret's region.",
        ));
    }
    Ok(secret)
}

fn create(world: &mut World, call: &Call<'_>) -> Result<Json, Refusal> {
    let members =
        Members::parse(call.body, &["Name", "ClientRequestToken", "Description", "SecretString", "SecretBinary"])?;
    let name = members.required("Name", 1, 512)?;
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/_+=.@-".contains(&byte)) {
        return Err(Refusal::validation(
            "Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: -/_+=.@!",
        ));
    }
    let value = given_value(&members)?;
    if let Some(known) = world.find(call.region, name) {
        if known.deleted_ms.is_some() {
            return Err(Refusal::request(
                "You can't create this secret because a secret with this name is already scheduled for deletion.",
            ));
        }
        // Model, `CreateSecretRequest.ClientRequestToken`: a repeated token with the same data is ignored.
        let version = members.text("ClientRequestToken", 32, 64)?.and_then(|token| known.version(token));
        if let (Some(version), Some(value)) = (version, &value)
            && version.value == *value
        {
            return Ok(json!({"ARN": known.arn, "Name": known.name, "VersionId": token(&members)?}));
        }
        return Err(Refusal::exists(&format!("The operation failed because the secret {name} already exists.")));
    }
    let suffix = random_hex(6);
    let arn = format!("arn:aws:secretsmanager:{}:000000000000:secret:{name}-{suffix}", call.region);
    let mut secret = Secret {
        name: name.to_owned(),
        arn: arn.clone(),
        versions: Vec::new(),
        deleted_ms: None,
        created_ms: call.now_ms,
        copies: BTreeMap::new(),
        primary: call.region.to_owned(),
        before: None,
        puts_ms: Vec::new(),
    };
    let mut answer = Map::from_iter([("ARN".to_owned(), json!(arn)), ("Name".to_owned(), json!(name))]);
    if let Some(value) = value {
        let token = token(&members)?;
        secret.put(token, value, &[], call.now_ms)?;
        answer.insert("VersionId".to_owned(), json!(token));
    }
    world.regions.entry(call.region.to_owned()).or_default().insert(name.to_owned(), secret);
    world.revision += 1;
    Ok(Json::Object(answer))
}

fn put(world: &mut World, call: &Call<'_>) -> Result<Json, Refusal> {
    let known = ["SecretId", "ClientRequestToken", "SecretString", "SecretBinary", "VersionStages"];
    let members = Members::parse(call.body, &known)?;
    let token = token(&members)?;
    let labels = members.texts("VersionStages", LABELS_MAX)?;
    let value = given_value(&members)?
        .ok_or_else(|| Refusal::request("You must provide either SecretString or SecretBinary."))?;
    let secret = to_change(world, call.region, members.required("SecretId", 1, 2048)?)?;
    let before = secret.clone();
    secret.put(token, value, &labels, call.now_ms)?;
    // not by the number of versions: at the quota an old one makes room
    let changed = before.version(token).is_none();
    let stages: Vec<String> = secret.version(token).into_iter().flat_map(|version| version.stages.clone()).collect();
    let (arn, name) = (secret.arn.clone(), secret.name.clone());
    if changed {
        world.changed(call.region, &name, Some(before), false);
    }
    Ok(json!({"ARN": arn, "Name": name, "VersionId": token, "VersionStages": stages}))
}

fn update_stage(world: &mut World, call: &Call<'_>) -> Result<Json, Refusal> {
    let members = Members::parse(call.body, &["SecretId", "VersionStage", "RemoveFromVersionId", "MoveToVersionId"])?;
    let label = members.required("VersionStage", 1, 256)?;
    let from = members.text("RemoveFromVersionId", 32, 64)?;
    let to = members.text("MoveToVersionId", 32, 64)?;
    let secret = to_change(world, call.region, members.required("SecretId", 1, 2048)?)?;
    let before = secret.clone();
    secret.move_label(label, from, to)?;
    let (arn, name) = (secret.arn.clone(), secret.name.clone());
    world.changed(call.region, &name, Some(before), true);
    Ok(json!({"ARN": arn, "Name": name}))
}

/// The secret as a read sees it: as it was before the last change while that spreads.
fn seen(world: &mut World, region: &str, id: &str) -> Result<Secret, Refusal> {
    let name = world.find(region, id).ok_or_else(missing)?.name.clone();
    let primary = world.find(region, &name).map_or_else(String::new, |secret| secret.primary.clone());
    world.tick(&primary, &name, true);
    let secret = world.find_mut(region, &name).ok_or_else(missing)?;
    if let Some((before, left)) = secret.before.take() {
        let seen = Secret { copies: secret.copies.clone(), ..(*before).clone() };
        if left > 1 {
            secret.before = Some((before, left - 1));
        }
        return Ok(seen);
    }
    Ok(secret.clone())
}

fn value(world: &mut World, call: &Call<'_>) -> Result<Json, Refusal> {
    let members = Members::parse(call.body, &["SecretId", "VersionId", "VersionStage"])?;
    let by_id = members.text("VersionId", 32, 64)?;
    let by_stage = members.text("VersionStage", 1, 256)?;
    let secret = seen(world, call.region, members.required("SecretId", 1, 2048)?)?;
    if secret.deleted_ms.is_some() {
        return Err(Refusal::request(
            "You can't perform this operation on the secret because it was marked for deletion.",
        ));
    }
    let stage = by_stage.or_else(|| by_id.is_none().then_some(super::model::CURRENT));
    let staged = stage.and_then(|stage| secret.labelled(stage));
    let id = match (by_id, stage) {
        (Some(id), None) => Some(id),
        // Model: both must refer to the same version.
        (Some(id), Some(_)) => {
            if secret.version(id).is_some() && staged != Some(id) {
                return Err(Refusal::request(
                    "You provided a VersionStage that is not associated to the provided VersionId.",
                ));
            }
            Some(id)
        }
        (None, _) => staged,
    };
    let version = id.and_then(|id| secret.version(id).map(|version| (id, version))).ok_or_else(|| {
        let what = by_id
            .map_or_else(|| format!("staging label: {}", stage.unwrap_or_default()), |id| format!("VersionId: {id}"));
        Refusal::not_found(&format!("Secrets Manager can't find the specified secret value for {what}"))
    })?;
    let (id, version) = version;
    let (member, value) = match &version.value {
        Value::Text(text) => ("SecretString", text),
        Value::Binary(binary) => ("SecretBinary", binary),
    };
    Ok(json!({
        "ARN": secret.arn, "Name": secret.name, "VersionId": id, member: value,
        "VersionStages": version.stages, "CreatedDate": seconds(version.created_ms),
    }))
}

#[allow(clippy::cast_precision_loss, reason = "a time in seconds with three decimals fits")]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

fn describe(world: &mut World, call: &Call<'_>) -> Result<Json, Refusal> {
    let members = Members::parse(call.body, &["SecretId"])?;
    let secret = seen(world, call.region, members.required("SecretId", 1, 2048)?)?;
    // Model, `DescribeSecret`: every version that has a label, and no other; only members that have a value.
    let labelled: BTreeMap<&str, _> = secret
        .versions
        .iter()
        .filter(|(_, version)| !version.stages.is_empty())
        .map(|(id, version)| (id.as_str(), &version.stages))
        .collect();
    let mut answer = Map::from_iter([
        ("ARN".to_owned(), json!(secret.arn)),
        ("Name".to_owned(), json!(secret.name)),
        ("CreatedDate".to_owned(), json!(seconds(secret.created_ms))),
    ]);
    if !labelled.is_empty() {
        answer.insert("VersionIdsToStages".to_owned(), json!(labelled));
    }
    if let Some(at) = secret.deleted_ms {
        answer.insert("DeletedDate".to_owned(), json!(seconds(at)));
    }
    if !secret.copies.is_empty() || secret.primary != call.region {
        answer.insert("PrimaryRegion".to_owned(), json!(secret.primary));
    }
    if !secret.copies.is_empty() {
        answer.insert("ReplicationStatus".to_owned(), copies(&secret));
    }
    Ok(Json::Object(answer))
}

fn copies(secret: &Secret) -> Json {
    secret.copies.iter().map(|(region, copying)| json!({"Region": region, "Status": copying.word()})).collect()
}

/// Where a page begins and how long it is at most. Model, `MaxResultsType`: 1 to 100; `NextTokenType`.
fn page(members: &Members) -> Result<(usize, usize), Refusal> {
    let most = members.number("MaxResults", 1, 100)?.and_then(|most| usize::try_from(most).ok()).unwrap_or(100);
    let skip: usize = match members.text("NextToken", 1, 4096)? {
        None => 0,
        Some(text) => {
            text.parse().map_err(|_| Refusal::new("InvalidNextTokenException", "The NextToken value is invalid."))?
        }
    };
    Ok((skip, most))
}

/// Adds the token of the next page, if there is one.
fn with_next(mut answer: Json, (skip, most): (usize, usize), all: usize) -> Json {
    let next = skip.saturating_add(most);
    if next < all {
        answer["NextToken"] = json!(next.to_string());
    }
    answer
}

/// Model, `ListSecrets`: at most 100 a page, without those marked for deletion; filter `name` is a prefix.
fn list(world: &mut World, call: &Call<'_>) -> Result<Json, Refusal> {
    let members = Members::parse(call.body, &["MaxResults", "NextToken", "Filters"])?;
    let (skip, most) = page(&members)?;
    let mut prefixes = Vec::new();
    for filter in members.raw("Filters").and_then(Json::as_array).into_iter().flatten() {
        if filter["Key"] != "name" {
            return Err(Refusal::validation("This fake knows the filter name alone."));
        }
        prefixes.extend(filter["Values"].as_array().into_iter().flatten().filter_map(|value| value.as_str()));
    }
    let all: Vec<&Secret> = world
        .regions
        .get(call.region)
        .into_iter()
        .flat_map(BTreeMap::values)
        .filter(|secret| secret.deleted_ms.is_none())
        .filter(|secret| prefixes.is_empty() || prefixes.iter().any(|prefix| secret.name.starts_with(prefix)))
        .collect();
    let shown: Vec<Json> = all
        .iter()
        .skip(skip)
        .take(most)
        .map(|secret| {
            let stages: BTreeMap<&str, _> = secret
                .versions
                .iter()
                .filter(|(_, version)| !version.stages.is_empty())
                .map(|(id, version)| (id.as_str(), &version.stages))
                .collect();
            json!({"ARN": secret.arn, "Name": secret.name, "SecretVersionsToStages": stages})
        })
        .collect();
    Ok(with_next(json!({"SecretList": shown}), (skip, most), all.len()))
}

/// Model, `ListSecretVersionIds`: versions without a label only when asked for; in pages, as `ListSecrets`.
fn list_versions(world: &mut World, call: &Call<'_>) -> Result<Json, Refusal> {
    let members = Members::parse(call.body, &["SecretId", "IncludeDeprecated", "MaxResults", "NextToken"])?;
    let deprecated = members.flag("IncludeDeprecated");
    let (skip, most) = page(&members)?;
    let secret = seen(world, call.region, members.required("SecretId", 1, 2048)?)?;
    let all: Vec<_> = secret.versions.iter().filter(|(_, version)| deprecated || !version.stages.is_empty()).collect();
    let shown: Vec<Json> = all
        .iter()
        .skip(skip)
        .take(most)
        .map(|(id, version)| {
            json!({"VersionId": id, "VersionStages": version.stages, "CreatedDate": seconds(version.created_ms)})
        })
        .collect();
    let answer = json!({"ARN": secret.arn, "Name": secret.name, "Versions": shown});
    Ok(with_next(answer, (skip, most), all.len()))
}

/// Model, `DeleteSecret`: a window of 7 to 30 days (30 without a word) or at once, not both; not a primary with copies.
fn delete(world: &mut World, call: &Call<'_>) -> Result<Json, Refusal> {
    let members = Members::parse(call.body, &["SecretId", "RecoveryWindowInDays", "ForceDeleteWithoutRecovery"])?;
    let id = members.required("SecretId", 1, 2048)?;
    let days = members
        .number("RecoveryWindowInDays", 7, 30)
        .map_err(|_| Refusal::parameter("The RecoveryWindowInDays value must be between 7 and 30 days (inclusive)."))?;
    let force = members.flag("ForceDeleteWithoutRecovery");
    if force && days.is_some() {
        return Err(Refusal::parameter(
            "You can't use ForceDeleteWithoutRecovery in conjunction with RecoveryWindowInDays.",
        ));
    }
    let Some(secret) = world.find_mut(call.region, id) else {
        // "If you forcibly delete an already deleted or nonexistent secret, the operation does not return
        // ResourceNotFoundException."
        return if force { Ok(json!({"Name": id, "DeletionDate": seconds(call.now_ms)})) } else { Err(missing()) };
    };
    if !secret.copies.is_empty() {
        return Err(Refusal::request("You can't delete secret that still has replica regions."));
    }
    let (arn, name) = (secret.arn.clone(), secret.name.clone());
    let at_ms = call.now_ms + days.unwrap_or(30) * 86_400_000;
    secret.deleted_ms = Some(at_ms);
    world.revision += 1;
    if force {
        world.regions.entry(call.region.to_owned()).or_default().remove(&name);
    }
    Ok(json!({"ARN": arn, "Name": name, "DeletionDate": seconds(if force { call.now_ms } else { at_ms })}))
}

fn restore(world: &mut World, call: &Call<'_>) -> Result<Json, Refusal> {
    let members = Members::parse(call.body, &["SecretId"])?;
    let secret = world.find_mut(call.region, members.required("SecretId", 1, 2048)?).ok_or_else(missing)?;
    secret.deleted_ms = None;
    let told = json!({"ARN": secret.arn, "Name": secret.name});
    world.revision += 1;
    Ok(told)
}

/// User guide, "Replicate secrets across regions": a copy has the primary's name, value and labels.
fn replicate(world: &mut World, call: &Call<'_>) -> Result<Json, Refusal> {
    let members = Members::parse(call.body, &["SecretId", "AddReplicaRegions"])?;
    let lag = world.copy_lag;
    let secret = to_change(world, call.region, members.required("SecretId", 1, 2048)?)?;
    for added in members.raw("AddReplicaRegions").and_then(Json::as_array).into_iter().flatten() {
        let region = added["Region"].as_str().ok_or_else(|| Refusal::validation("A region has no name."))?;
        if region == call.region {
            return Err(Refusal::parameter("Invalid replica region."));
        }
        secret.copies.insert(region.to_owned(), Copying::InProgress(lag));
    }
    let (arn, name, told) = (secret.arn.clone(), secret.name.clone(), copies(secret));
    world.revision += 1;
    world.tick(call.region, &name, false);
    Ok(json!({"ARN": arn, "Name": name, "ReplicationStatus": told}))
}
