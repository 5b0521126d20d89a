//! Made-up texts. Invariant: enumeration, format, pattern and length of the rules hold; a property's name only picks
//! among valid texts.

use crate::operations::mix::{mix, uuid};
use crate::operations::schema::{Format, TextSchema};

/// A text for a property of that name.
pub(super) fn sample(rules: &TextSchema, name: &str, seed: u64) -> String {
    if !rules.allowed.is_empty() {
        return one_of(&rules.allowed, name, seed);
    }
    if let Some(text) = rules.pattern.as_ref().and_then(|pattern| pattern.sample(seed)) {
        return text;
    }
    match rules.format {
        Format::Free => fit_length(plausible(name, seed), rules),
        format => formatted(format, name, seed),
    }
}

/// A good final state where the values name one: what waits for a job then ends.
const SETTLED: [&str; 12] = [
    "active",
    "fulfilled",
    "completed",
    "complete",
    "succeeded",
    "success",
    "processed",
    "done",
    "finished",
    "published",
    "ready",
    "ok",
];

/// The settled state among `allowed`, for properties that tell a state.
pub(crate) fn settled<'a>(allowed: &'a [Box<str>], name: &str) -> Option<&'a str> {
    let lower = name.to_ascii_lowercase();
    if !lower.ends_with("state") && !lower.ends_with("status") {
        return None;
    }
    let find = |wanted: &&str| allowed.iter().find(|value| value.eq_ignore_ascii_case(wanted));
    SETTLED.iter().find_map(find).map(AsRef::as_ref)
}

fn one_of(allowed: &[Box<str>], name: &str, seed: u64) -> String {
    if let Some(state) = settled(allowed, name) {
        return state.to_owned();
    }
    let index = usize::try_from(seed % allowed.len() as u64).unwrap_or(0);
    allowed.get(index).map(ToString::to_string).unwrap_or_default()
}

fn formatted(format: Format, name: &str, seed: u64) -> String {
    let month = 1 + seed % 12;
    let day = 1 + (seed >> 8) % 28;
    let (hour, minute, second) = ((seed >> 16) % 24, (seed >> 24) % 60, (seed >> 32) % 60);
    // Within 2025: in the past of any clock that a sandbox starts with.
    let date = format!("2025-{month:02}-{day:02}");
    let time = format!("{hour:02}:{minute:02}:{second:02}");
    match format {
        Format::DateTime => format!("{date}T{time}.000Z"),
        Format::Date => date,
        Format::Interval => format!("{date}T00:00:00.000Z/{date}T{time}.000Z"),
        Format::LocalTime => time,
        Format::LocalDateTime => format!("{date}T{time}"),
        Format::YearMonth => format!("2025-{month:02}"),
        Format::Uri if name == "selfUri" => format!("/api/v2/{}", uuid(seed)),
        Format::Uri | Format::Free => format!("https://sandbox.invalid/{}", uuid(seed)),
    }
}

fn plausible(name: &str, seed: u64) -> String {
    let lower = name.to_ascii_lowercase();
    let number = mix(seed, 3) % 1000;
    if lower == "id" || name.ends_with("Id") || name.ends_with("Ids") || lower == "guid" {
        return uuid(seed);
    }
    match lower.as_str() {
        "email" | "username" | "emailaddress" => format!("person{number}@sandbox.invalid"),
        "language" | "languagecode" | "locale" | "preferredlanguage" => "en-US".to_owned(),
        "timezone" => "UTC".to_owned(),
        "countrycode" | "country" => "US".to_owned(),
        "currency" => "USD".to_owned(),
        "phonenumber" | "address" | "number" => format!("+1317555{:04}", mix(seed, 4) % 10_000),
        "description" => "Made up by the sandbox.".to_owned(),
        "selfuri" => format!("/api/v2/{}", uuid(seed)),
        "version" => "1".to_owned(),
        "" => format!("text {number}"),
        _ => format!("{name} {number}"),
    }
}

fn fit_length(mut text: String, rules: &TextSchema) -> String {
    if let Some(most) = rules.max_length {
        text = text.chars().take(most).collect();
    }
    let missing = rules.min_length.saturating_sub(text.chars().count());
    // A minimum beyond this is no length that anybody means; the document's largest is 3.
    text.extend(std::iter::repeat_n('x', missing.min(4096)));
    text
}
