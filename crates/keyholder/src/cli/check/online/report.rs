//! What `check --online` saw, for a person.

use std::time::Duration;

use kh_core::PlatformKind;
use kh_platform::genesys::account::{Account, Grant, Named};

use super::{SKEW_RISKY, Seen};
use crate::{compose::SeenIssuer, config::duration, output::Style};

/// One block per credential and issuer.
pub(super) fn text(seen: &[Seen], issuers: &[SeenIssuer], style: Style) -> String {
    if seen.is_empty() && issuers.is_empty() {
        return "the configuration has no credential\n".to_owned();
    }
    let blocks = seen.iter().map(|seen| block(seen, style));
    blocks.chain(issuers.iter().map(|issuer| of_issuer(issuer, style))).collect::<Vec<_>>().join("\n")
}

fn of_issuer(issuer: &SeenIssuer, style: Style) -> String {
    let verdict = if issuer.works {
        style.green("works")
    } else if issuer.unreachable {
        style.yellow("could not be tried")
    } else {
        style.red("does not work")
    };
    let keys = issuer.keys.map(|keys| format!("  {:<15}{keys}\n", "keys"));
    let problem = issuer.problem.as_ref().map(|problem| format!("  {:<15}{problem}\n", "problem"));
    let (name, kind) = (style.bold(&issuer.name), issuer.kind);
    let head = format!("issuer {name} ({kind}): {verdict}\n");
    [head, keys.unwrap_or_default(), problem.unwrap_or_default()].concat()
}

fn block(seen: &Seen, style: Style) -> String {
    let verdict = match (seen.works, &seen.problem) {
        (None, _) => style.yellow("was not tried"),
        (Some(true), _) => style.green("works"),
        (Some(false), Some(problem)) if problem.unreachable => style.yellow("could not be tried"),
        (Some(false), _) => style.red("does not work"),
    };
    let environment = seen.environment.as_ref().map_or_else(String::new, |name| format!(" ({name})"));
    let mut lines = vec![format!("{}{environment}: {verdict}\n", style.bold(seen.name.as_str()))];
    lines.extend(rows(seen).into_iter().map(|(name, value)| format!("  {name:<15}{value}\n")));
    lines.concat()
}

fn rows(seen: &Seen) -> Vec<(&'static str, String)> {
    let kind = match seen.kind {
        PlatformKind::Genesys => "Genesys Cloud",
        PlatformKind::Cxone => "NICE CXone",
        PlatformKind::Oauth2 => "OAuth 2.0",
    };
    let mut rows = vec![("platform", format!("{} ({kind}), {}", seen.platform, seen.api_base))];
    rows.extend(seen.problem.as_ref().map(|problem| ("problem", problem.detail.clone())));
    rows.extend(seen.not_tried.as_ref().map(|why| ("not tried", format!("{}; {}", why.detail, why.hint))));
    if let Some(token) = &seen.token {
        let life = duration::format(Duration::from_secs(token.expires_in));
        rows.push(("token", format!("lives {life} ({} s)", token.expires_in)));
        if seen.kind == PlatformKind::Oauth2 {
            let scope = token.scope.clone().unwrap_or_else(|| "the answer names none".to_owned());
            rows.push(("scopes", scope));
        }
    }
    if let Some(account) = &seen.account {
        of_account(&mut rows, account);
    }
    match (&seen.unverified_claims, seen.kind, &seen.token) {
        (Some(claims), ..) => rows.extend(claims.rows()),
        (None, PlatformKind::Cxone, Some(_)) => rows.push(("claims", "the token cannot be decoded".to_owned())),
        (None, ..) => {}
    }
    rows.push((
        "clock",
        match seen.clock_skew_seconds {
            None => "unknown: the platform told no time".to_owned(),
            Some(skew) if skew.abs() > SKEW_RISKY => {
                let side = if skew > 0 { "behind" } else { "ahead of" };
                format!("this machine is {} s {side} the platform: set its clock", skew.abs())
            }
            Some(skew) => format!("{} s beside the platform's", skew.abs()),
        },
    ));
    rows
}

fn of_account(rows: &mut Vec<(&'static str, String)>, account: &Account) {
    let named = |of: &Named| of.name.as_ref().map_or_else(|| of.id.clone(), |name| format!("{name} ({})", of.id));
    rows.extend(account.organization.as_ref().map(|organization| ("organisation", named(organization))));
    if let Some(client) = &account.client {
        let who = named(&Named { id: client.id.clone(), name: client.name.clone() });
        let about: Vec<_> = [&client.grant_type, &client.state].into_iter().flatten().cloned().collect();
        rows.push(("client", [vec![who], about].concat().join(", ")));
    }
    rows.extend(account.grants.iter().map(|grant| ("role", of_grant(grant))));
    if account.grants.is_empty() && account.client.is_some() {
        rows.push(("role", "none: every call will be refused".to_owned()));
    }
    rows.push((
        "scopes",
        match account.scopes.as_slice() {
            [] => "none; client credentials have roles instead".to_owned(),
            scopes => scopes.join(" "),
        },
    ));
    if let Some(limit) = &account.rate_limit {
        let (allowed, count, reset) = (limit.allowed, limit.count, limit.reset_seconds);
        rows.push(("rate limit", format!("{allowed} requests per window and token, {count} used, over in {reset} s")));
    }
    rows.extend(account.limits.iter().map(|limit| ("limit", format!("{} = {}", limit.key, limit.value))));
    rows.extend(account.unreadable.iter().map(|gap| ("not readable", format!("{}: {}", gap.what, gap.why))));
}

fn of_grant(grant: &Grant) -> String {
    let name = |of: &Named| of.name.clone().unwrap_or_else(|| of.id.clone());
    if grant.division.id == "*" {
        return format!("{} in all divisions", name(&grant.role));
    }
    format!("{} in the division {}", name(&grant.role), name(&grant.division))
}
