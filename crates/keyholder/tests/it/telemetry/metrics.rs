//! The scrape and the catalogue, both ways.

use std::collections::{BTreeMap, BTreeSet};

use kh_core::metric::{Kind, METRICS};
use kh_telemetry::otlp::parse_text;
use serde_json::json;

use super::{exercise, scrape, value};
use crate::{
    inbound,
    protected_api::{Api, claims, tokens::Key},
};

#[test]
fn a_scrape_shows_every_metric_of_the_catalogue_and_no_other() {
    let (api, key) = (Api::start(), Key::new("k1"));
    let route = "[[inbound.reports.route]]\nmatch = [\"GET /a\"]\nany_token = true\n";
    let installation = inbound::installed(&(inbound::of_file() + &inbound::of_api(&api, "\"corp\"", route)), &[&key]);
    let server = installation.serve();
    exercise(&installation, &server);
    assert_eq!(inbound::bearer(&server, "/a", &key.sign(&claims(&json!({})))), 200);
    assert_eq!(inbound::bearer(&server, "/a", "bad"), 401);
    let text = scrape(&server);
    let families = parse_text(&text).unwrap();
    let shown: BTreeMap<&str, &str> =
        families.iter().map(|family| (family.name.as_str(), family.kind.as_str())).collect();
    // some series are there with TLS, with a secret store outside, or with something to rotate, alone
    let needs_more = [
        "keyholder_gateway_certificate_not_after_seconds",
        "keyholder_platform_events",
        "keyholder_secret_source_reads",
        "keyholder_secret_age_seconds",
        "keyholder_rotation_due_timestamp_seconds",
        "keyholder_rotation_unfinished",
        "keyholder_rotation_needs_operator",
        "keyholder_rotation_failures",
        "keyholder_notices",
        "keyholder_notices_waiting",
    ];
    let listed: BTreeMap<&str, &str> =
        METRICS.iter().filter(|row| !needs_more.contains(&row.name)).map(|row| (row.name, row.kind.as_str())).collect();
    let shown: BTreeMap<&str, &str> = shown.into_iter().filter(|(name, _)| !needs_more.contains(name)).collect();
    assert_eq!(shown, listed);
    for family in &families {
        let Some(row) = kh_core::metric::find(&family.name) else { panic!("{} is not listed", family.name) };
        let labels: BTreeSet<&str> = row.labels.iter().copied().collect();
        assert!(needs_more.contains(&row.name) || !family.samples.is_empty(), "{} has no series", row.name);
        assert_eq!(family.help, format!("{}.", row.help), "{}", row.name);
        for sample in &family.samples {
            let found: BTreeSet<&str> =
                sample.labels.keys().map(String::as_str).filter(|label| *label != "le").collect();
            assert_eq!(found, labels, "{}", row.name);
            let suffixes: &[&str] = match row.kind {
                Kind::Counter => &["_total"],
                Kind::Gauge => &[""],
                Kind::Histogram => &["_bucket", "_sum", "_count"],
                Kind::Info => &["_info"],
            };
            assert!(suffixes.contains(&sample.suffix.as_str()), "{}{}", row.name, sample.suffix);
        }
    }
    // and the numbers mean what they say
    for (series, least) in [
        (r#"keyholder_token_fetches_total{credential="genesys",result="ok"}"#, 1.0),
        (r#"keyholder_token_fetches_total{credential="cxone",result="ok"}"#, 0.0),
        (r#"keyholder_credential_state{credential="genesys",state="ready"}"#, 1.0),
        (r#"keyholder_token_expires_in_seconds{credential="genesys"}"#, 60.0),
        (r#"keyholder_gateway_requests_total{outcome="proxied",status="2xx"}"#, 1.0),
        (r#"keyholder_gateway_requests_total{outcome="refused",status="4xx"}"#, 2.0),
        (r#"keyholder_issuer_logins_total{result="ok"}"#, 1.0),
        (r#"keyholder_issuer_logins_total{result="invalid_client"}"#, 1.0),
        (r#"keyholder_issuer_clients{state="enabled"}"#, 1.0),
        ("keyholder_issuer_sessions", 1.0),
        ("keyholder_config_last_reload_successful", 1.0),
        ("process_resident_memory_bytes", 1_000_000.0),
        ("process_open_fds", 10.0),
    ] {
        assert!(value(&text, series) >= least, "{series} is {}", value(&text, series));
    }
    assert!(
        text.contains(
            r#"keyholder_local_requests_total{listener="broker",route="/v1/token/{profile}",status="2xx"} 1"#
        )
    );
    assert!(text.contains(r#"keyholder_local_refusals_total{listener="broker",reason="keyholder.guard.refused"} 1"#));
}
