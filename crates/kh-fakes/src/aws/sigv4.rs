//! Signature Version 4 as the service checks it.
//!
//! Source: IAM user guide, "Create a signed AWS API request" and "Troubleshoot Signature Version 4 signing for AWS API
//! requests". Invariant: nothing of a request is looked at before its signature was found right.

use aws_lc_rs::{constant_time, digest, hmac};
use http::HeaderMap;

use super::wire::Refusal;
use crate::fake::Request;

/// How far a request's time may be from the service's; "Troubleshoot Signature Version 4": 5 minutes.
pub const SKEW_MAX_MS: u64 = 300_000;

/// Whose request it is, and for which region and service it was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scope {
    /// The access key id.
    pub key: String,
    /// The region.
    pub region: String,
    /// The service's signing name.
    pub service: String,
}

struct Authorization<'a> {
    key: &'a str,
    day: &'a str,
    region: &'a str,
    service: &'a str,
    signed: Vec<&'a str>,
    signature: &'a str,
}

/// Tells what a request claims to be signed for, without a check: to find the key.
pub(super) fn claimed(headers: &HeaderMap) -> Result<Scope, Refusal> {
    let parsed = parse(authorization(headers)?)?;
    Ok(Scope { key: parsed.key.to_owned(), region: parsed.region.to_owned(), service: parsed.service.to_owned() })
}

fn authorization(headers: &HeaderMap) -> Result<&str, Refusal> {
    headers
        .get("authorization")
        .and_then(|value| value.to_str().ok())
        .ok_or_else(|| Refusal::new("MissingAuthenticationTokenException", "Missing Authentication Token"))
}

fn parse(text: &str) -> Result<Authorization<'_>, Refusal> {
    let bad = || Refusal::new("IncompleteSignatureException", "The Authorization header is not complete.");
    let rest = text.strip_prefix("AWS4-HMAC-SHA256 ").ok_or_else(bad)?;
    let mut parts = [""; 3];
    for part in rest.split(',').map(str::trim) {
        let (name, value) = part.split_once('=').ok_or_else(bad)?;
        match name {
            "Credential" => parts[0] = value,
            "SignedHeaders" => parts[1] = value,
            "Signature" => parts[2] = value,
            _ => return Err(bad()),
        }
    }
    let mut scope = parts[0].split('/');
    let mut next = || scope.next().filter(|part| !part.is_empty()).ok_or_else(bad);
    let (key, day, region, service, end) = (next()?, next()?, next()?, next()?, next()?);
    if end != "aws4_request" || parts[1].is_empty() || parts[2].len() != 64 {
        return Err(bad());
    }
    Ok(Authorization { key, day, region, service, signed: parts[1].split(';').collect(), signature: parts[2] })
}

/// Checks a request's signature and time.
pub(super) fn verify(request: &Request, secret_key: &str, now_ms: u64) -> Result<(), Refusal> {
    let claim = parse(authorization(&request.headers)?)?;
    let incomplete = |what: &str| Refusal::new("IncompleteSignatureException", what);
    let date = header(&request.headers, "x-amz-date").ok_or_else(|| incomplete("The request has no X-Amz-Date."))?;
    let at_ms = parse_date(&date).ok_or_else(|| incomplete("Date must be in ISO-8601 'basic format'."))?;
    if !date.starts_with(claim.day) {
        return Err(invalid("The date in the credential scope is not the date of the request."));
    }
    check_time(&date, at_ms, now_ms)?;
    // "You must sign the host header and any x-amz-* headers in the request."
    for name in request.headers.keys() {
        let must = name == "host" || name.as_str().starts_with("x-amz-");
        if must && !claim.signed.contains(&name.as_str()) {
            return Err(incomplete(&format!("The header {name} is not signed.")));
        }
    }
    if !claim.signed.contains(&"host") || !claim.signed.is_sorted() {
        return Err(incomplete("The signed headers are not a sorted list with the host."));
    }
    let canonical = canonical_request(request, &claim.signed)?;
    let scope = format!("{}/{}/{}/aws4_request", claim.day, claim.region, claim.service);
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(digest(canonical.as_bytes()).as_ref()));
    let mut key = sign(format!("AWS4{secret_key}").as_bytes(), claim.day.as_bytes());
    for part in [claim.region, claim.service, "aws4_request"] {
        key = sign(key.as_ref(), part.as_bytes());
    }
    let expected = hex(sign(key.as_ref(), to_sign.as_bytes()).as_ref());
    constant_time::verify_slices_are_equal(expected.as_bytes(), claim.signature.as_bytes()).map_err(|_| {
        invalid(
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret \
             Access Key and signing method. Consult the service documentation for details.",
        )
    })
}

fn invalid(message: &str) -> Refusal {
    Refusal::new("InvalidSignatureException", message)
}

fn check_time(date: &str, at_ms: u64, now_ms: u64) -> Result<(), Refusal> {
    let (oldest, newest) = (now_ms.saturating_sub(SKEW_MAX_MS), now_ms + SKEW_MAX_MS);
    if at_ms / 1000 < oldest / 1000 {
        let (oldest, now) = (format_date(oldest), format_date(now_ms));
        return Err(invalid(&format!("Signature expired: {date} is now earlier than {oldest} ({now} - 5 min.)")));
    }
    if at_ms / 1000 > newest / 1000 {
        let (newest, now) = (format_date(newest), format_date(now_ms));
        return Err(invalid(&format!(
            "Signature not yet current: {date} is still later than {newest} ({now} + 5 min.)"
        )));
    }
    Ok(())
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    let values: Vec<&str> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    (!values.is_empty()).then(|| values.join(","))
}

fn canonical_request(request: &Request, signed: &[&str]) -> Result<String, Refusal> {
    // Every service but S3 encodes the path of the request once more.
    let path: String = request.path.split('/').map(encode).collect::<Vec<_>>().join("/");
    let mut query: Vec<&str> = request.query.split('&').filter(|part| !part.is_empty()).collect();
    query.sort_unstable();
    let mut lines = String::new();
    for name in signed {
        let value = header(&request.headers, name)
            .ok_or_else(|| Refusal::new("IncompleteSignatureException", "A signed header is missing."))?;
        let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
        lines.extend([name, ":", &value, "\n"]);
    }
    let payload = hex(digest(&request.body).as_ref());
    if header(&request.headers, "x-amz-content-sha256").is_some_and(|claimed| claimed != payload) {
        return Err(invalid("The provided x-amz-content-sha256 header does not match what was computed."));
    }
    let query = query.join("&");
    Ok(format!("{}\n{path}\n{query}\n{lines}\n{}\n{payload}", request.method, signed.join(";")))
}

fn encode(segment: &str) -> String {
    let mut encoded = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push_str(&hex(&[byte]).to_uppercase());
        }
    }
    encoded
}

fn digest(bytes: &[u8]) -> digest::Digest {
    digest::digest(&digest::SHA256, bytes)
}

fn sign(key: &[u8], bytes: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), bytes)
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// `20150830T123600Z` as Unix milliseconds.
fn parse_date(text: &str) -> Option<u64> {
    let bytes = text.as_bytes();
    if bytes.len() != 16 || bytes.get(8) != Some(&b'T') || bytes.get(15) != Some(&b'Z') {
        return None;
    }
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let (hour, minute, second) = (number(9, 11)?, number(11, 13)?, number(13, 15)?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60
    {
        return None;
    }
    Some((days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second) * 1000)
}

/// Days since 1970-01-01 in the Gregorian calendar, counted in years that begin in March.
fn days_from_civil(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Unix milliseconds as an IMF-fixdate (RFC 9110 section 5.6.7), for `Date`.
pub(super) fn http_date(ms: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (basic, weekday) = (format_date(ms), ms / 86_400_000 % 7);
    let part = |from: usize, to: usize| basic.get(from..to).unwrap_or_default();
    let month = part(4, 6).parse::<usize>().ok().and_then(|month| MONTHS.get(month.wrapping_sub(1)));
    let day_name = usize::try_from(weekday).ok().and_then(|day| DAYS.get(day));
    format!(
        "{}, {} {} {} {}:{}:{} GMT",
        day_name.unwrap_or(&""),
        part(6, 8),
        month.unwrap_or(&""),
        part(0, 4),
        part(9, 11),
        part(11, 13),
        part(13, 15)
    )
}

/// Unix milliseconds as `20150830T123600Z`.
fn format_date(ms: u64) -> String {
    let (days, second) = (ms / 86_400_000 + 719_468, ms / 1000 % 86_400);
    let (era, of_era) = (days / 146_097, days % 146_097);
    let years = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * years + years / 4 - years / 100);
    let shifted = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    let year = years + era * 400 + u64::from(month <= 2);
    format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The worked example of "Create a signed AWS API request" (IAM user guide): `ListUsers` of 2015-08-30.
    fn example() -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", "iam.amazonaws.com"),
            ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
            ("x-amz-date", "20150830T123600Z"),
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, \
                 SignedHeaders=content-type;host;x-amz-date, \
                 Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
            ),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        headers
    }

    fn check(headers: &HeaderMap, key: &str, now_ms: u64) -> Result<(), Refusal> {
        let request = Request {
            method: http::Method::GET,
            origin: "https://iam.amazonaws.com".to_owned(),
            path: "/".to_owned(),
            query: "Action=ListUsers&Version=2010-05-08".to_owned(),
            headers: headers.clone(),
            body: bytes::Bytes::new(),
        };
        verify(&request, key, now_ms)
    }

    const KEY: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    const AT: u64 = 1_440_938_160_000;

    #[test]
    fn the_documented_example_verifies_and_a_changed_one_does_not() {
        assert_eq!(check(&example(), KEY, AT), Ok(()));
        assert_eq!(check(&example(), "other", AT).unwrap_err().kind, "InvalidSignatureException");
        let mut changed = example();
        changed.insert("content-type", "text/plain".parse().unwrap());
        assert_eq!(check(&changed, KEY, AT).unwrap_err().kind, "InvalidSignatureException");
        let mut unsigned = example();
        unsigned.insert("x-amz-target", "a".parse().unwrap());
        assert_eq!(check(&unsigned, KEY, AT).unwrap_err().kind, "IncompleteSignatureException");
        assert_eq!(claimed(&HeaderMap::new()).unwrap_err().kind, "MissingAuthenticationTokenException");
    }

    #[test]
    fn a_request_is_good_for_five_minutes_around_its_time() {
        for (shift, good) in [(-300_000_i64, true), (300_000, true), (-301_000, false), (301_000, false)] {
            let verdict = check(&example(), KEY, AT.checked_add_signed(shift).unwrap());
            assert_eq!(verdict.is_ok(), good, "{shift}: {verdict:?}");
        }
        let told = check(&example(), KEY, AT + 600_000).unwrap_err().message;
        assert_eq!(
            told,
            "Signature expired: 20150830T123600Z is now earlier than 20150830T124100Z (20150830T124600Z - 5 min.)"
        );
    }

    #[test]
    fn dates_round_trip() {
        for (text, ms) in [("19700101T000000Z", 0), ("20150830T123600Z", AT), ("20240229T235959Z", 1_709_251_199_000)] {
            assert_eq!(parse_date(text), Some(ms), "{text}");
            assert_eq!(format_date(ms), text);
        }
        assert_eq!(http_date(AT), "Sun, 30 Aug 2015 12:36:00 GMT");
        assert_eq!(http_date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        for bad in ["", "20151330T123600Z", "2015-08-30T12:36", "20150830T126000Z", "äääääääää"] {
            assert_eq!(parse_date(bad), None, "{bad}");
        }
    }
}
