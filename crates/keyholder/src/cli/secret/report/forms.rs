//! The report as text, JSON, CSV and a page.
//!
//! Invariant: names come from the platform and anybody may choose one: none can break out of its cell.

use std::fmt::Write as _;

use super::{Form, Owner, ReportArgs, Row};
use crate::{cli::Context, output::Table};

pub(super) fn tell(arguments: &ReportArgs, rows: &[Row], unreached: &[(String, String)], context: &Context) {
    let json = serde_json::json!({
        "clients": rows,
        "not_asked": unreached.iter().map(|(platform, why)| serde_json::json!({ "platform": platform, "why": why })).collect::<Vec<_>>(),
    });
    match arguments.format {
        None | Some(Form::Text) => context.terminal.answer(&json, || text(rows)),
        Some(Form::Json) => context.terminal.out(&format!("{json}\n")),
        Some(Form::Csv) => context.terminal.out(&csv(rows)),
        Some(Form::Html) => context.terminal.out(&html(rows, unreached)),
    }
}

const HEADINGS: [&str; 12] = [
    "platform",
    "name",
    "id",
    "active",
    "created",
    "age (days)",
    "last used",
    "uses",
    "owner",
    "credential",
    "strategy",
    "findings",
];

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
        row.uses.map(|uses| uses.to_string()).unwrap_or_default(),
        row.owner.as_ref().map(Owner::in_words).unwrap_or_default(),
        or(&row.credential),
        or(&row.strategy),
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

/// Letters that XML 1.0 has no place for, which a name may hold all the same, are left out.
fn escaped(cell: &str) -> String {
    let letters = cell.chars().filter(|letter| !letter.is_control() && !matches!(letter, '\u{fffe}' | '\u{ffff}'));
    letters.fold(String::new(), |mut text, letter| {
        match letter {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '"' => text.push_str("&quot;"),
            '\'' => text.push_str("&#39;"),
            other => text.push(other),
        }
        text
    })
}

/// A page that is well-formed XML too, with no script and nothing from elsewhere.
fn html(rows: &[Row], unreached: &[(String, String)]) -> String {
    let mut page = String::from(
        "<!DOCTYPE html>\n<html lang=\"en\" xmlns=\"http://www.w3.org/1999/xhtml\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width\"/>\n<title>Clients and their secrets</title>\n<style>\n\
         body{font:14px/1.4 system-ui,sans-serif;margin:2em;color:#222}\n\
         table{border-collapse:collapse}th,td{border:1px solid #ccc;padding:4px 8px;text-align:left;vertical-align:top}\n\
         th{background:#f3f3f3;position:sticky;top:0}tr.finding td{background:#fff6e5}tr.idle td{color:#777}\n\
         ul{margin:0;padding-left:1.2em}.id{font-family:monospace;word-break:break-all}\n</style>\n</head>\n<body>\n\
         <h1>Clients and their secrets</h1>\n",
    );
    let found = rows.iter().filter(|row| !row.findings.is_empty()).count();
    writeln!(page, "<p>{} clients, {found} with findings</p>", rows.len()).ok();
    for (platform, why) in unreached {
        writeln!(page, "<p><strong>{} could not be asked:</strong> {}</p>", escaped(platform), escaped(why)).ok();
    }
    page.push_str("<table>\n<thead><tr>");
    for heading in HEADINGS {
        write!(page, "<th scope=\"col\">{heading}</th>").ok();
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        let class = match (row.findings.is_empty(), row.active) {
            (false, _) => " class=\"finding\"",
            (true, false) => " class=\"idle\"",
            (true, true) => "",
        };
        write!(page, "<tr{class}>").ok();
        let cells = cells(row);
        for (heading, cell) in HEADINGS.iter().zip(&cells).filter(|(heading, _)| **heading != "findings") {
            let class = if *heading == "id" { " class=\"id\"" } else { "" };
            write!(page, "<td{class}>{}</td>", escaped(cell)).ok();
        }
        let items: Vec<_> = row.findings.iter().map(|finding| format!("<li>{}</li>", escaped(finding))).collect();
        let list = if items.is_empty() { String::new() } else { format!("<ul>{}</ul>", items.concat()) };
        writeln!(page, "<td>{list}</td></tr>").ok();
    }
    page + "</tbody>\n</table>\n</body>\n</html>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_the_platform_cannot_break_out_of_csv_or_html() {
        let row = Row { name: Some("=cmd|'<b>\"x\"\u{1}".to_owned()), active: true, ..Row::default() };
        let csv = csv(std::slice::from_ref(&row));
        assert!(csv.contains(r#""'=cmd|'<b>""x"""#), "{csv}");
        let html = html(&[row], &[("p<".to_owned(), "a&b".to_owned())]);
        assert!(html.contains("=cmd|&#39;&lt;b&gt;&quot;x&quot;<") && !html.contains("<b>"), "{html}");
        assert!(html.contains("p&lt; could not be asked:</strong> a&amp;b"), "{html}");
    }
}
