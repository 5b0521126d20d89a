//! `keyholder docs`: reference pages made from the code, for `docs/reference/`. Hidden: people read the pages.

use clap::Subcommand;
use kh_core::{Code, metric::METRICS};

use super::Context;
use crate::output::Exit;

#[derive(Debug, Subcommand)]
pub(crate) enum DocsCommand {
    /// Every command with its options
    Cli,
    /// Every error code
    ErrorCodes,
    /// Every metric
    Metrics,
    /// Every span and its attributes
    Spans,
    /// Every field of the access log
    AccessLog,
    /// Every reason for which a token is refused
    TokenReasons,
    /// The OpenAPI document of the admin API
    AdminApi,
}

pub(super) fn run(command: &DocsCommand, context: &Context) -> Exit {
    let page = match command {
        DocsCommand::Cli => cli_page(),
        DocsCommand::ErrorCodes => error_codes(),
        DocsCommand::Metrics => metrics(),
        DocsCommand::Spans => spans(),
        DocsCommand::AccessLog => access_log(),
        DocsCommand::TokenReasons => kh_verify::reason::reference(),
        DocsCommand::AdminApi => admin_api(),
    };
    context.terminal.out(&page);
    Exit::Done
}

fn admin_api() -> String {
    let text = serde_json::to_string_pretty(&kh_admin::api::document());
    text.expect("the document is made of plain members") + "\n"
}

fn cli_page() -> String {
    let mut command = super::keep_lines(super::command());
    command.build();
    let mut sections = vec!["# Commands\n\nMade by `keyholder docs cli`.\n".to_owned()];
    describe(&command, &mut sections);
    sections.concat()
}

fn describe(command: &clap::Command, sections: &mut Vec<String>) {
    let name = command.get_bin_name().unwrap_or("keyholder").to_owned();
    let help = super::with_spaces(&command.clone().term_width(100).render_long_help().to_string());
    let help: Vec<_> = help.lines().map(str::trim_end).collect();
    sections.push(format!("\n## `{name}`\n\n```text\n{}\n```\n", help.join("\n").trim_end()));
    for below in command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help") {
        describe(below, sections);
    }
}

const ERROR_CODES: &str = "\
# Error codes

Made by `keyholder docs error-codes`. Each code has a page: what it means, who has to act, what to do. The same text is
in the program: `keyholder explain CODE`. The status is the usual one; in a platform's own error shape the code stands in
`code`. In a problem document (RFC 9457) `type` is `urn:keyholder:error:` and the code without `keyholder.`.

| code | status | title |
|---|---|---|
";

fn error_codes() -> String {
    let rows = Code::ALL
        .iter()
        .map(|(code, status, title)| format!("| [`{code}`](../errors/{code}.md) | {status} | {title} |\n"));
    ERROR_CODES.to_owned() + &rows.collect::<Vec<_>>().concat()
}

const METRICS_HEAD: &str = "\
# Metrics

Made by `keyholder docs metrics`. Names and labels are stable. The series of a counter have the suffix `_total`, those of
an info `_info`; a histogram has `_bucket`, `_sum` and `_count`. `/metrics` shows these metrics and no other.

| metric | kind | labels | meaning |
|---|---|---|---|
";

fn metrics() -> String {
    let rows = METRICS.iter().map(|metric| {
        let (name, kind, labels, help) = (metric.name, metric.kind.as_str(), metric.labels.join(", "), metric.help);
        format!("| `{name}` | {kind} | {labels} | {help} |\n")
    });
    METRICS_HEAD.to_owned() + &rows.collect::<Vec<_>>().concat()
}

const SPANS_HEAD: &str = "\
# Spans

Made by `keyholder docs spans`. Sent to the collector of `[telemetry]`, and no other; names and attributes follow the
OpenTelemetry semantic conventions for HTTP. The resource has `service.name`, `service.version`, `service.instance.id`,
`process.pid` and what `OTEL_RESOURCE_ATTRIBUTES` adds or says instead.
";

fn spans() -> String {
    let mut page = vec![SPANS_HEAD.to_owned()];
    for span in kh_telemetry::spans::SPANS {
        page.push(format!("\n## `{}` ({})\n\nCovers {}.\n\n", span.name, span.kind, span.covers));
        page.push("| attribute | says |\n|---|---|\n".to_owned());
        page.extend(span.attributes.iter().map(|(name, says)| format!("| `{name}` | {says} |\n")));
    }
    page.concat()
}

const ACCESS_HEAD: &str = "\
# Access log

Made by `keyholder docs access-log`. One JSON object per finished request to the gateway, on one line, in the file or
stream that `[log] access` names. A field without a value is left out. A path segment of more than 24
characters that is neither a UUID nor a word of the platforms' published paths may be a secret and is written as
`[redacted]`. With `access_format = \"text\"` a line is
`peer - client [time] \"METHOD path HTTP/1.1\" status bytes \"-\" \"user agent\" milliseconds outcome ended`.

| field | type | says |
|---|---|---|
";

fn access_log() -> String {
    let rows = kh_telemetry::access::FIELDS.iter();
    let rows = rows.map(|(name, kind, says)| format!("| `{name}` | {kind} | {says} |\n"));
    ACCESS_HEAD.to_owned() + &rows.collect::<Vec<_>>().concat()
}
