//! `keyholder secret report`: every client, key and secret of the organisations, how old it is, and who looks after it.
//!
//! Invariant: asks by reading alone, and holds ids, names and times; no secret and no fingerprint of one.

mod forms;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use clap::Args;
use kh_core::{
    CredentialName, PlatformKind, PlatformName, SecretReference, UnixMillis,
    credential::CredentialDocument,
    port::{
        ManageError, RotationJournal, SecretManagement, SecretTarget,
        secret_management::{ManagedSecret, Rotator},
    },
    rotation::{ManagedId, RunId},
};
use kh_rotator::begin::readable;
use serde::Serialize;

use self::forms::tell;
use super::time;
use crate::{
    cli::{Context, Loaded},
    compose::{Base, embedded_target, managements, own_issuer, private_tokens, target_of, targets},
    output::{Exit, Failure},
};

/// A secret older than this is told as old where nothing says how often it is replaced.
const OLD: u64 = 90;

const DAY_MS: u64 = 86_400_000;

/// The time in which uses are counted.
const USES_WITHIN: Duration = Duration::from_hours(30 * 24);

/// Show every client of the organisations: age, use, owner, and whether keyholder looks after it
#[derive(Debug, Args)]
#[command(
    after_help = "Asks each platform that names a rotator. Findings: unmanaged (no credential of the configuration),
not rotated (no [credential.NAME.rotation]), old, never used, owned by a person, stores disagree,
unknown secrets (more than one that no rotation under way accounts for), being replaced.

Who owns one is known from the platform: a client of the same organisation made it, or a user did, or it
belongs to a user (CXone). A person is known by a mail address alone; which users are service users the
platforms do not tell.

Exit 0: no finding. Exit 1: findings. Exit 3: a platform could not be asked.

Examples:
  keyholder secret report
  keyholder secret report --uses
  keyholder secret report --format csv > clients.csv
  keyholder secret report --format html > clients.html
  keyholder secret report --output json"
)]
pub(crate) struct ReportArgs {
    /// The form
    #[arg(long, value_enum)]
    format: Option<Form>,
    /// Also ask how often each was used within 30 days, where the platform counts: some calls for each
    #[arg(long)]
    uses: bool,
}

/// The form of a report.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Form {
    /// For people
    Text,
    /// One JSON document
    Json,
    /// Comma-separated values (RFC 4180)
    Csv,
    /// A page without scripts
    Html,
}

/// One client, key or secret.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
struct Row {
    platform: String,
    id: String,
    name: Option<String>,
    active: bool,
    created_at: Option<String>,
    age_days: Option<u64>,
    last_used_at: Option<String>,
    /// Within [`USES_WITHIN`], where it was asked for and the platform counts.
    uses: Option<u64>,
    owner: Option<Owner>,
    credential: Option<String>,
    strategy: Option<String>,
    findings: Vec<String>,
}

/// Who stands behind one, and from what that is known.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct Owner {
    /// As the platform names it.
    id: String,
    /// Its name, where it is another client of the same organisation.
    name: Option<String>,
    kind: OwnerKind,
    /// What the platform said that tells it.
    basis: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum OwnerKind {
    Person,
    Client,
    /// Of the organisation: the platform does not say whether a person or a service.
    User,
}

impl Owner {
    fn of(found: &ManagedSecret, all: &[ManagedSecret], kind: PlatformKind) -> Option<Self> {
        let id = found.owner.clone()?;
        let client = all.iter().find(|other| other.id.0 == id || other.name.as_ref() == Some(&id));
        let (kind, basis) = match (kind, client) {
            _ if id.contains('@') => (OwnerKind::Person, "its name is a mail address"),
            (_, Some(_)) => (OwnerKind::Client, "it was made by a client of the organisation"),
            (PlatformKind::Cxone, None) => (OwnerKind::User, "access keys belong to users"),
            (PlatformKind::Genesys | PlatformKind::Oauth2, None) => {
                (OwnerKind::User, "it was made by somebody who is no client of the organisation")
            }
        };
        Some(Self { id, name: client.and_then(|client| client.name.clone()), kind, basis })
    }

    fn in_words(&self) -> String {
        let kind = match self.kind {
            OwnerKind::Person => "person",
            OwnerKind::Client => "client",
            OwnerKind::User => "user",
        };
        format!("{kind} {}", self.name.as_ref().unwrap_or(&self.id))
    }
}

/// What the configuration says of an id.
#[derive(Clone, Default)]
struct Known {
    credential: String,
    strategy: Option<String>,
    interval_days: Option<u64>,
    disagree: Vec<String>,
    /// Secrets of the same client that nobody accounts for.
    strangers: Vec<ManagedId>,
    /// The rotation that replaces it now.
    replaced_by: Option<RunId>,
}

pub(super) async fn run(
    arguments: &ReportArgs,
    loaded: &Loaded,
    base: &Base,
    context: &Context,
) -> Result<Exit, Failure> {
    let broker = private_tokens(loaded, base)?;
    let all = managements(loaded, base, (&broker, own_issuer(loaded, base).await?.as_ref()))?;
    if all.is_empty() {
        return Err(Failure::usage("no platform of the configuration names a rotator")
            .hint("rotator = \"NAME\" in [platform.NAME]: a credential that may list clients"));
    }
    let targets = targets(loaded, &base.clock)?;
    let embedded = embedded_target(base);
    let read = |reference: &SecretReference| target_of(reference, &targets, &embedded);
    let (mut rows, mut unreached) = (Vec::new(), Vec::new());
    let now = base.clock.now().wall;
    for (platform, management) in &all {
        let Some(of) = loaded.config.platforms.get(platform) else { continue };
        let known = known(platform, management, loaded, base, &read).await?;
        let found = match management.inventory(Rotator::First).await {
            Ok(found) => found,
            Err(error) => {
                unreached.push((platform.to_string(), reason(&error)));
                continue;
            }
        };
        for one in &found {
            let mut row = row(platform, one, known.get(&one.id), now);
            row.owner = Owner::of(one, &found, of.kind());
            if arguments.uses {
                match management.used_since(&one.id, now.minus(USES_WITHIN), Rotator::First).await {
                    Ok(uses) => row.uses = uses,
                    Err(error) => unreached.push((format!("{platform}: uses of {}", one.id), reason(&error))),
                }
            }
            rows.push(row);
        }
    }
    broker.shutdown().await;
    rows.sort_by(|one, other| (&one.platform, &one.name, &one.id).cmp(&(&other.platform, &other.name, &other.id)));
    for (platform, why) in &unreached {
        context.terminal.warn(&format!("{platform} could not be asked: {why}"));
    }
    tell(arguments, &rows, &unreached, context);
    let any = rows.iter().any(|row| !row.findings.is_empty());
    Ok(match (unreached.is_empty(), any) {
        (false, _) => Exit::Unfinished,
        (true, true) => Exit::No,
        (true, false) => Exit::Done,
    })
}

/// What the configuration and the journal know of the ids of one platform.
async fn known(
    platform: &PlatformName,
    management: &Arc<dyn SecretManagement>,
    loaded: &Loaded,
    base: &Base,
    read: &impl Fn(&SecretReference) -> Option<Arc<dyn SecretTarget>>,
) -> Result<BTreeMap<ManagedId, Known>, Failure> {
    let mut all = BTreeMap::new();
    let of_platform = loaded.config.credentials.iter().filter(|(_, credential)| credential.platform == *platform);
    for (name, credential) in of_platform {
        let Some((document, disagree)) = document(loaded, name, read).await else { continue };
        let rotation = credential.rotation.as_ref();
        let usual = loaded.config.rotation.usual.interval;
        let interval = rotation.and_then(|rotation| rotation.times.interval.or(usual));
        let mut known = Known {
            credential: name.to_string(),
            strategy: rotation.map(|rotation| {
                let way = rotation.strategy.or_else(|| management.traits().strategies.first().copied());
                way.map_or_else(|| "none".to_owned(), |way| way.as_str().to_owned())
            }),
            interval_days: interval.map(|interval| interval.as_secs() / 86_400),
            disagree,
            ..Known::default()
        };
        let unfinished = base.state.unfinished().await;
        let unfinished = unfinished.map_err(|error| Failure::of(error.code(), &error))?;
        let run = unfinished.iter().find(|run| run.credential == *name).and_then(readable);
        let Some(id) = management.id_of(&document) else {
            // the document names the client, and which of the client's secrets it holds is not told
            let Some(client) = document.client_id.clone().map(ManagedId) else { continue };
            if run.is_none() {
                let listed = management.list(&document, Rotator::First).await.unwrap_or_default();
                known.strangers = listed.into_iter().map(|secret| secret.id).collect();
            }
            all.insert(client, known);
            continue;
        };
        all.insert(id.clone(), known.clone());
        let ids = run.iter().flat_map(|run| {
            let old = run.baseline().and_then(|base| base.old_id.clone());
            old.into_iter().chain(run.new_secret().and_then(|new| new.id.clone()))
        });
        let other: Vec<_> = ids.filter(|other| *other != id).collect();
        let replaced_by = run.as_ref().map(|run| run.began().run);
        all.extend(other.into_iter().map(|id| (id, Known { replaced_by, disagree: Vec::new(), ..known.clone() })));
    }
    Ok(all)
}

/// A failure with what would help.
fn reason(error: &ManageError) -> String {
    match error {
        ManageError::Denied { hint, .. } => format!("{error}: {hint}"),
        _ => error.to_string(),
    }
}

/// The credential's document, and the targets that hold another one.
async fn document(
    loaded: &Loaded,
    name: &CredentialName,
    read: &impl Fn(&SecretReference) -> Option<Arc<dyn SecretTarget>>,
) -> Option<(CredentialDocument, Vec<String>)> {
    let credential = loaded.config.credentials.get(name)?;
    let live = read(&credential.secret)?.live(&credential.secret.path()).await.ok()?;
    let document = CredentialDocument::parse(&live.value).ok()?;
    let mut disagree = Vec::new();
    for place in credential.rotation.iter().flat_map(|rotation| &rotation.targets) {
        let there = match read(place) {
            Some(target) => target.live(&place.path()).await.ok(),
            None => None,
        };
        let same = there.and_then(|there| CredentialDocument::parse(&there.value).ok());
        if same.is_none_or(|there| there.sha256() != document.sha256()) {
            disagree.push(place.to_string());
        }
    }
    Some((document, disagree))
}

fn row(platform: &PlatformName, found: &ManagedSecret, known: Option<&Known>, now: UnixMillis) -> Row {
    let age_days = found.created_at.map(|at| u64::try_from(now.since(at).as_millis()).unwrap_or(u64::MAX) / DAY_MS);
    let mut findings = Vec::new();
    match known {
        None => findings.push("unmanaged: no credential of the configuration".to_owned()),
        Some(known) if known.strategy.is_none() => {
            findings.push(format!("not rotated: no [credential.{}.rotation]", known.credential));
        }
        Some(_) => {}
    }
    let limit = known.and_then(|known| known.interval_days).unwrap_or(OLD);
    if let Some(age) = age_days.filter(|age| *age > limit) {
        findings.push(format!("old: {age} days, more than {limit}"));
    }
    if found.last_used_at.is_none() && age_days.is_some_and(|age| age > OLD) && known.is_none() {
        findings.push("never used, as far as the platform tells".to_owned());
    }
    if let Some(run) = known.and_then(|known| known.replaced_by) {
        findings.push(format!("being replaced: one of the two of the rotation {run}"));
    }
    // one of them is in use; more than one without a rotation under way is an orphan or somebody's own
    if let Some(known) = known.filter(|known| known.strangers.len() > 1) {
        let ids = known.strangers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        findings.push(format!("unknown secrets: the client has {}, and one is in use: {ids}", known.strangers.len()));
    }
    if let Some(owner) = found.owner.as_ref().filter(|owner| owner.contains('@')) {
        findings.push(format!("owned by a person: {owner}"));
    }
    let disagree = known.map(|known| known.disagree.as_slice()).unwrap_or_default();
    findings.extend(disagree.iter().map(|place| format!("stores disagree: {place} holds another document")));
    Row {
        platform: platform.to_string(),
        id: found.id.to_string(),
        name: found.name.clone(),
        active: found.active,
        created_at: found.created_at.map(time),
        age_days,
        last_used_at: found.last_used_at.map(time),
        uses: None,
        owner: None,
        credential: known.map(|known| known.credential.clone()),
        strategy: known.and_then(|known| known.strategy.clone()),
        findings,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(id: &str, age_days: u64, owner: Option<&str>) -> ManagedSecret {
        ManagedSecret {
            id: ManagedId(id.to_owned()),
            name: Some("=cmd|'<b>\"x\"".to_owned()),
            active: true,
            created_at: Some(UnixMillis((1_000 - age_days) * DAY_MS)),
            last_used_at: None,
            owner: owner.map(str::to_owned),
        }
    }

    #[test]
    fn findings() {
        let now = UnixMillis(1_000 * DAY_MS);
        let platform: PlatformName = "p".parse().unwrap();
        let known = |strategy: Option<&str>, interval_days, disagree: &[&str]| Known {
            credential: "acme".to_owned(),
            strategy: strategy.map(str::to_owned),
            interval_days,
            disagree: disagree.iter().map(|place| (*place).to_owned()).collect(),
            ..Known::default()
        };
        let of = |found: &ManagedSecret, known: Option<&Known>| {
            let all = row(&platform, found, known, now).findings;
            all.iter()
                .map(|finding| finding.split(':').next().unwrap_or_default().to_owned())
                .collect::<Vec<_>>()
                .join(" ")
        };
        let rotated = known(Some("pair"), Some(30), &[]);
        assert_eq!(of(&found("a", 10, None), Some(&rotated)), "");
        assert_eq!(of(&found("a", 31, None), Some(&rotated)), "old");
        assert_eq!(of(&found("a", 10, None), Some(&known(None, None, &[]))), "not rotated");
        assert_eq!(of(&found("a", 10, Some("ann@example.com")), None), "unmanaged owned by a person");
        assert_eq!(of(&found("a", 91, None), None), "unmanaged old never used, as far as the platform tells");
        assert_eq!(of(&found("a", 1, None), Some(&known(Some("swap"), None, &["aws:x"]))), "stores disagree");
    }
}
