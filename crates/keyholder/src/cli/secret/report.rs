//! `keyholder secret report`: every client, key and secret of the organisations, how old it is, and who looks after it.
//!
//! Invariant: asks by reading alone, and holds ids, names and times; no secret and no fingerprint of one.

use std::{collections::BTreeMap, fmt::Write as _};

use clap::Args;
use kh_core::{
    CredentialName, PlatformName, SecretReference, UnixMillis,
    credential::CredentialDocument,
    port::{
        SecretTarget,
        secret_management::{ManagedSecret, Rotator},
    },
    rotation::ManagedId,
};
use serde::Serialize;

use super::time;
use crate::{
    cli::{Context, Loaded},
    compose::{Base, embedded_target, managements, private_tokens, target_of, targets},
    output::{Exit, Failure, Table},
};

/// A secret older than this is told as old where nothing says how often it is replaced.
const OLD: u64 = 90;

const DAY_MS: u64 = 86_400_000;

/// Show every client of the organisations: age, use, owner, and whether keyholder looks after it
#[derive(Debug, Args)]
#[command(
    after_help = "Asks each platform that names a rotator. Findings: unmanaged (no credential of the configuration),
not rotated (no [credential.NAME.rotation]), old, never used, owned by a person, stores disagree.

Exit 0: no finding. Exit 1: findings. Exit 3: a platform could not be asked.

Examples:
  keyholder secret report
  keyholder secret report --format csv > clients.csv
  keyholder secret report --format html > clients.html
  keyholder secret report --output json"
)]
pub(crate) struct ReportArgs {
    /// The form
    #[arg(long, value_enum)]
    format: Option<Form>,
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
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct Row {
    platform: String,
    id: String,
    name: Option<String>,
    active: bool,
    created_at: Option<String>,
    age_days: Option<u64>,
    last_used_at: Option<String>,
    owner: Option<String>,
    credential: Option<String>,
    strategy: Option<String>,
    findings: Vec<String>,
}

/// What the configuration says of an id.
#[derive(Clone, Default)]
struct Known {
    credential: String,
    strategy: Option<String>,
    interval_days: Option<u64>,
    disagree: Vec<String>,
}

pub(super) async fn run(
    arguments: &ReportArgs,
    loaded: &Loaded,
    base: &Base,
    context: &Context,
) -> Result<Exit, Failure> {
    let broker = private_tokens(loaded, base)?;
    let all = managements(loaded, base, &broker)?;
    if all.is_empty() {
        return Err(Failure::usage("no platform of the configuration names a rotator")
            .hint("rotator = \"NAME\" in [platform.NAME]: a credential that may list clients"));
    }
    let targets = targets(loaded, &base.clock)?;
    let embedded = embedded_target(base);
    let read = |reference: &SecretReference| target_of(reference, &targets, &embedded);
    let (mut rows, mut unreached) = (Vec::new(), Vec::new());
    for (platform, management) in &all {
        let mut known: BTreeMap<ManagedId, Known> = BTreeMap::new();
        for (name, credential) in
            loaded.config.credentials.iter().filter(|(_, credential)| credential.platform == *platform)
        {
            let Some((document, disagree)) = document(loaded, name, &read).await else { continue };
            let Some(id) = management.id_of(&document) else { continue };
            let rotation = credential.rotation.as_ref();
            let usual = loaded.config.rotation.usual.interval;
            let interval = rotation.and_then(|rotation| rotation.times.interval.or(usual));
            known.insert(
                id,
                Known {
                    credential: name.to_string(),
                    strategy: rotation.map(|rotation| {
                        let way = rotation.strategy.or_else(|| management.traits().strategies.first().copied());
                        way.map_or_else(|| "none".to_owned(), |way| way.as_str().to_owned())
                    }),
                    interval_days: interval.map(|interval| interval.as_secs() / 86_400),
                    disagree,
                },
            );
        }
        match management.inventory(Rotator::First).await {
            Ok(found) => {
                let now = base.clock.now().wall;
                rows.extend(found.iter().map(|one| row(platform, one, known.get(&one.id), now)));
            }
            Err(error) => unreached.push((platform.to_string(), error.to_string())),
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

/// The credential's document, and the targets that hold another one.
async fn document(
    loaded: &Loaded,
    name: &CredentialName,
    read: &impl Fn(&SecretReference) -> Option<std::sync::Arc<dyn SecretTarget>>,
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
        owner: found.owner.clone(),
        credential: known.map(|known| known.credential.clone()),
        strategy: known.and_then(|known| known.strategy.clone()),
        findings,
    }
}

fn tell(arguments: &ReportArgs, rows: &[Row], unreached: &[(String, String)], context: &Context) {
    let json = serde_json::json!({
        "clients": rows,
        "not_asked": unreached.iter().map(|(platform, why)| serde_json::json!({ "platform": platform, "why": why })).collect::<Vec<_>>(),
    });
    match arguments.format {
        None | Some(Form::Text) => context.terminal.answer(&json, || text(rows)),
        Some(Form::Json) => context.terminal.out(&format!("{json}\n")),
        Some(Form::Csv) => context.terminal.out(&csv(rows)),
        Some(Form::Html) => context.terminal.out(&html(rows)),
    }
}

const HEADINGS: [&str; 10] =
    ["platform", "name", "id", "active", "created", "age (days)", "last used", "owner", "credential", "findings"];

fn cells(row: &Row) -> Vec<String> {
    let or = |value: &Option<String>| value.clone().unwrap_or_default();
    vec![
        row.platform.clone(),
        or(&row.name),
        row.id.clone(),
        if row.active { "yes" } else { "no" }.to_owned(),
        or(&row.created_at),
        row.age_days.map(|age| age.to_string()).unwrap_or_default(),
        or(&row.last_used_at),
        or(&row.owner),
        match (&row.credential, &row.strategy) {
            (Some(credential), Some(strategy)) => format!("{credential} ({strategy})"),
            (credential, _) => or(credential),
        },
        row.findings.join("; "),
    ]
}

fn text(rows: &[Row]) -> String {
    let mut table = Table::new(&HEADINGS);
    for row in rows {
        table.row(cells(row).iter().map(|cell| cell.replace(char::is_control, " ")).collect());
    }
    let found = rows.iter().filter(|row| !row.findings.is_empty()).count();
    format!("{}\n{} clients, {found} with findings\n", table.text(), rows.len())
}

/// RFC 4180. A cell that a spreadsheet would take as a formula gets an apostrophe before it.
fn csv(rows: &[Row]) -> String {
    let quoted = |cell: &str| {
        let guard = if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
        format!("\"{guard}{}\"", cell.replace('"', "\"\""))
    };
    let line = |cells: &[String]| cells.iter().map(|cell| quoted(cell)).collect::<Vec<_>>().join(",") + "\r\n";
    let mut all = line(&HEADINGS.map(str::to_owned));
    for row in rows {
        all.push_str(&line(&cells(row)));
    }
    all
}

fn html(rows: &[Row]) -> String {
    let escaped =
        |cell: &str| cell.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    let mut page = String::from(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Clients and their secrets</title>\n<style>body{font:14px sans-serif}table{border-collapse:collapse}th,td{border:1px solid #bbb;padding:4px 8px;text-align:left}tr.finding{background:#fff3e0}</style></head>\n<body><h1>Clients and their secrets</h1>\n<table><thead><tr>",
    );
    for heading in HEADINGS {
        write!(page, "<th>{heading}</th>").ok();
    }
    page.push_str("</tr></thead><tbody>\n");
    for row in rows {
        page.push_str(if row.findings.is_empty() { "<tr>" } else { "<tr class=\"finding\">" });
        for cell in cells(row) {
            write!(page, "<td>{}</td>", escaped(&cell)).ok();
        }
        page.push_str("</tr>\n");
    }
    page + "</tbody></table></body></html>\n"
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

    #[test]
    fn names_from_the_platform_cannot_break_out_of_csv_or_html() {
        let row = row(&"p".parse().unwrap(), &found("a", 1, None), None, UnixMillis(1_000 * DAY_MS));
        let csv = csv(std::slice::from_ref(&row));
        assert!(csv.contains(r#""'=cmd|'<b>""x""","#), "{csv}");
        let html = html(&[row]);
        assert!(html.contains("=cmd|'&lt;b&gt;&quot;x&quot;") && !html.contains("<b>"), "{html}");
    }
}
