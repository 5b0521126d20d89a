//! The catalogue of metrics: every name that `/metrics` may show, with its kind, labels and meaning.
//!
//! Invariant: a metric is registered with the help of its row here; a test compares a real scrape with this table both
//! ways, and `docs/reference/metrics.md` is made from it. Names are stable: a row is changed only with a new name.

/// What a metric is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Grows; its series have the suffix `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets, sum and count.
    Histogram,
    /// Constant 1 with labels; its series has the suffix `_info`.
    Info,
}

impl Kind {
    /// Its name in `OpenMetrics`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }
}

/// One row of the catalogue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Metric {
    /// The name, without the suffixes of its kind.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it says, in one line.
    pub help: &'static str,
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, labels, help }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, labels, help }
}

const fn histogram(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Histogram, labels, help }
}

/// Every metric.
pub const METRICS: &[Metric] = &[
    // gateway
    counter(
        "keyholder_gateway_requests",
        &["outcome", "status"],
        "Requests by outcome (proxied, own, refused, failed) and status class",
    ),
    counter(
        "keyholder_gateway_refusals",
        &["route", "reason"],
        "Refused and failed requests to platforms and to keyholder's own endpoints, by route and reason or error code",
    ),
    histogram("keyholder_gateway_request_duration_seconds", &[], "Seconds from the request head to the answer's head"),
    gauge("keyholder_gateway_in_flight_requests", &[], "Requests whose answer is not complete"),
    gauge("keyholder_gateway_connections", &[], "Open connections of callers"),
    gauge(
        "keyholder_gateway_certificate_not_after_seconds",
        &["certificate"],
        "When the certificate of a listener (gateway, admin, inbound.NAME) ends, in seconds since 1970",
    ),
    counter(
        "keyholder_gateway_upstream_errors",
        &["kind"],
        "Failed attempts to reach a platform (connect, tls, timeout, protocol)",
    ),
    counter("keyholder_gateway_upstream_connections", &["how"], "Upstream connections opened and reused"),
    counter(
        "keyholder_gateway_token_heals",
        &["result"],
        "Platform 401s that a fresh token healed, and those it did not",
    ),
    counter("keyholder_gateway_rate_limit_waits", &[], "Waits for a platform's Retry-After on behalf of a caller"),
    // protected APIs
    counter(
        "keyholder_inbound_requests",
        &["site", "route", "status"],
        "Requests to a protected API by route and status class; routes that were never called are absent",
    ),
    counter(
        "keyholder_inbound_refusals",
        &["site", "reason"],
        "Requests to a protected API that were refused, by reason code",
    ),
    gauge(
        "keyholder_inbound_request_duration_seconds",
        &["site", "route", "percentile"],
        "Median and 99th percentile of the seconds from the request head to the answer's head, in the last 5 to 10 minutes",
    ),
    // who vouches for callers' tokens
    counter(
        "keyholder_verifier_lookups",
        &["result"],
        "Tokens at protected APIs that were found in memory (hit), and that were verified anew or refused (miss)",
    ),
    gauge("keyholder_verifier_cached_tokens", &[], "Verified tokens in memory"),
    gauge("keyholder_verifier_cached_bytes", &[], "Bytes of the verified tokens in memory"),
    gauge("keyholder_verifier_questions", &[], "Tokens whose authority is being asked"),
    gauge(
        "keyholder_verifier_revocations",
        &["of"],
        "Revocations in memory: of single tokens (token), and of clients, subjects and issuers (class)",
    ),
    counter(
        "keyholder_platform_events",
        &["events", "outcome"],
        "Deliveries of platform events by how they ended; endpoints that got none are absent",
    ),
    // issuer
    counter(
        "keyholder_issuer_logins",
        &["result"],
        "Logins of applications: ok, throttled, or the OAuth error (invalid_client, invalid_grant, invalid_dpop_proof, ...)",
    ),
    counter(
        "keyholder_issuer_lockouts",
        &["bound"],
        "Waits that wrong logins began, by who has to wait (client_address, address, client)",
    ),
    gauge("keyholder_issuer_sessions", &[], "Access tokens of keyholder in memory; expired ones count until swept"),
    gauge("keyholder_user_sessions", &[], "Users' sessions in memory: those that were used within the hour"),
    counter("keyholder_user_session_begins", &[], "Users' sessions that began"),
    counter(
        "keyholder_user_session_renewals",
        &["result"],
        "Renewals of users' sessions by result (ok, failed: certainly not carried out, lost: no answer, refused)",
    ),
    counter("keyholder_user_session_ends", &["reason"], "Users' sessions that ended, by reason"),
    gauge("keyholder_issuer_clients", &["state"], "Clients by state (enabled, disabled)"),
    // broker
    counter(
        "keyholder_token_fetches",
        &["credential", "result"],
        "Fetches of a platform token by credential and result (ok, failed)",
    ),
    counter("keyholder_token_waits", &["credential"], "Times a caller waited for a token fetch or a pause"),
    counter(
        "keyholder_token_invalidations",
        &["credential", "result"],
        "Reports of a refused token: it was current and dropped (removed), or was not current any more (stale)",
    ),
    gauge("keyholder_token_age_seconds", &["credential"], "Age of the current platform token; absent without one"),
    gauge(
        "keyholder_token_expires_in_seconds",
        &["credential"],
        "Seconds until the current platform token expires; absent without one",
    ),
    gauge(
        "keyholder_credential_state",
        &["credential", "state"],
        "1 for the state that the credential is in (empty, ready, refreshing, fetching, rejected, waiting), else 0",
    ),
    gauge(
        "keyholder_credential_secret_version",
        &["credential"],
        "Version of the platform's secret that was read last; 0 before the first",
    ),
    // rotation
    gauge(
        "keyholder_secret_age_seconds",
        &["credential"],
        "Age of the secret of a credential that is rotated; absent while it is not known, and after a kill",
    ),
    gauge(
        "keyholder_rotation_due_timestamp_seconds",
        &["credential"],
        "When the next regular rotation begins at the earliest, in seconds since 1970; absent while it is not known, and \
         after a kill",
    ),
    gauge(
        "keyholder_rotation_unfinished",
        &["credential"],
        "1 while a rotation of the credential has not ended, else 0",
    ),
    gauge(
        "keyholder_rotation_needs_operator",
        &["credential"],
        "1 while the unfinished rotation of the credential waits for a person, else 0",
    ),
    gauge(
        "keyholder_rotation_failures",
        &["credential"],
        "Tries of the schedule in a row that could not look at the credential or begin its rotation",
    ),
    counter(
        "keyholder_notices",
        &["channel", "result"],
        "Notices to people by the way and what became of them (sent, failed: given up, dropped: never tried)",
    ),
    gauge("keyholder_notices_waiting", &["channel"], "Notices to people that wait to be sent"),
    // stores
    histogram(
        "keyholder_store_operation_duration_seconds",
        &["store", "operation"],
        "Seconds per operation of a store (secrets, state, audit)",
    ),
    counter("keyholder_store_errors", &["store", "code"], "Failed operations of a store by error code"),
    counter(
        "keyholder_secret_source_reads",
        &["store", "result"],
        "Reads of documents from secret stores outside keyholder (ok, failed, stale: from memory while none answered)",
    ),
    gauge("keyholder_store_pending_operations", &["store"], "Operations of a store that were begun and are not done"),
    counter("keyholder_audit_entries", &[], "Entries written to the audit log"),
    // listeners for local programs
    counter(
        "keyholder_local_requests",
        &["listener", "route", "status"],
        "Requests to the admin and broker listeners by route and status class",
    ),
    counter(
        "keyholder_local_refusals",
        &["listener", "reason"],
        "Requests that the admin and broker listeners refused, by reason",
    ),
    // configuration
    counter(
        "keyholder_config_reloads",
        &["result"],
        "Reloads of the configuration by result (applied, unchanged, refused)",
    ),
    gauge(
        "keyholder_config_last_reload_successful",
        &[],
        "1 while the file's last content is in force, 0 after it was refused",
    ),
    gauge(
        "keyholder_config_loaded_timestamp_seconds",
        &[],
        "When the configuration in force took effect, in seconds since 1970",
    ),
    // what watches
    counter("keyholder_access_log_lines", &["result"], "Lines of the access log (written, dropped, failed)"),
    counter("keyholder_log_file_errors", &[], "Lines that the log file did not take; they went to standard error"),
    counter("keyholder_log_lines_dropped", &[], "Lines of the process log that found its queue full; they are gone"),
    counter(
        "keyholder_otlp_items",
        &["signal", "result"],
        "Spans and metric points for the collector (sent, dropped, failed, rejected)",
    ),
    counter("keyholder_otlp_requests", &["signal", "result"], "Requests to the collector (ok, error)"),
    // security log; the series are there as soon as a part of it is
    counter("keyholder_security_events", &["outcome"], "Events of the security log (success, failure)"),
    counter(
        "keyholder_security_log_lines",
        &["result"],
        "Events of the security log with a line of their own (written, dropped: the queue was full, failed: the disk)",
    ),
    counter(
        "keyholder_security_collector_lines",
        &["result"],
        "Lines for the collector (sent; lost: queue_full, spool_full, dead_letter, damaged; unsent at the end)",
    ),
    counter(
        "keyholder_security_collector_requests",
        &["result"],
        "Requests to the collector (ok, later: tried again, held: token or address refused, refused: for good)",
    ),
    gauge("keyholder_security_backlog_bytes", &[], "Bytes of lines that wait for the collector"),
    gauge("keyholder_security_backlog_lines", &[], "Lines that wait for the collector"),
    counter(
        "keyholder_security_geo_loads",
        &["database", "result"],
        "New files of a location database (loaded, refused: the last good one stays)",
    ),
    gauge(
        "keyholder_security_geo_built_timestamp_seconds",
        &["database"],
        "When the location database in use was built, in seconds since 1970; 0 without one",
    ),
    counter(
        "keyholder_security_guard_blocks",
        &["scope"],
        "Times that the brute-force guard began to refuse (address, client, client_at_address)",
    ),
    counter("keyholder_security_guard_refusals", &["scope"], "Requests that the brute-force guard refused"),
    counter(
        "keyholder_security_guard_untracked",
        &[],
        "Failures that only wore down others because the guard's table was full of worse ones",
    ),
    counter(
        "keyholder_security_alerts",
        &["kind"],
        "Alerts of the security log (impossible_travel, new_country, brute_force)",
    ),
    gauge("keyholder_security_subjects", &[], "Subjects whose last place the security log remembers"),
    // process
    Metric { name: "keyholder_build", kind: Kind::Info, labels: &["version"], help: "The running version" },
    gauge("process_start_time_seconds", &[], "When the process started, in seconds since 1970"),
    counter("process_cpu_seconds", &[], "Processor time of the process, user and system"),
    gauge("process_open_fds", &[], "Open file descriptors"),
    gauge("process_max_fds", &[], "Most file descriptors that may be open"),
    gauge("process_resident_memory_bytes", &[], "Resident memory"),
    gauge("process_virtual_memory_bytes", &[], "Virtual memory"),
    gauge("process_threads", &[], "Threads"),
];

/// The row of a metric.
pub fn find(name: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| metric.name == name)
}

/// The meaning of a metric of the catalogue; empty for any other, which the tests refuse.
pub fn help(name: &str) -> &'static str {
    find(name).map_or("", |metric| metric.help)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `OpenMetrics`, and the conventions of Prometheus: base units, no suffix that a kind adds itself.
    #[test]
    fn names_are_well_formed_and_unique() {
        for metric in METRICS {
            let name = metric.name;
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert!(name.starts_with("keyholder_") || name.starts_with("process_"), "{name}");
            let reserved = ["_total", "_bucket", "_count", "_sum", "_info", "_created"];
            assert!(!reserved.iter().any(|suffix| name.ends_with(suffix)), "{name}");
            assert!(metric.kind != Kind::Histogram || name.ends_with("_seconds"), "{name}");
            assert!(!metric.help.is_empty() && !metric.help.ends_with('.') && !metric.help.contains('|'), "{name}");
            assert!(metric.labels.iter().all(|label| !["le", "quantile", "job", "instance"].contains(label)), "{name}");
            assert_eq!(METRICS.iter().filter(|other| other.name == name).count(), 1, "{name} stands twice");
        }
        assert_eq!(help("keyholder_no_such_metric"), "");
    }
}
