//! The shapes of Vault's answers.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::fake::Reply;

/// `{"errors":[..]}` (vault: sdk/logical/response_util.go, RespondError).
pub(super) fn error(status: u16, text: &str) -> Reply {
    Reply::json(status, &json!({"errors": [text]}))
}

/// `{"errors":[]}`: nothing there.
pub(super) fn none(status: u16) -> Reply {
    Reply::json(status, &json!({"errors": []}))
}

/// What a policy does not grant (vault: logical.ErrPermissionDenied is 403).
pub(super) fn permission_denied() -> Reply {
    error(403, "1 error occurred:\n\t* permission denied\n\n")
}

/// A success with data (vault: sdk/logical/translate_response.go).
pub(super) fn data(data: &Value) -> Value {
    envelope(data, &Value::Null, &Value::Null)
}

/// The whole envelope.
pub(super) fn envelope(data: &Value, auth: &Value, wrap_info: &Value) -> Value {
    json!({
        "request_id": Uuid::from_bytes(random()).to_string(), "lease_id": "", "renewable": false, "lease_duration": 0,
        "data": data, "wrap_info": wrap_info, "warnings": null, "auth": auth,
    })
}

/// An answer with a warning alone.
pub(super) fn warning(status: u16, text: &str) -> Reply {
    let mut body = envelope(&Value::Null, &Value::Null, &Value::Null);
    if let Some(warnings) = body.get_mut("warnings") {
        *warnings = json!([text]);
    }
    Reply::json(status, &body)
}

/// 16 random bytes.
pub(super) fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).expect("the operating system's random generator answers");
    bytes
}

/// RFC 3339 with nanoseconds, as Vault writes times.
pub(super) fn time(unix_ms: u64) -> String {
    let (days, rest) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    // days to civil date, Howard Hinnant's algorithm for dates after 1970
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hours, minutes) = (rest / 3_600_000, rest / 60_000 % 60);
    let (seconds, millis) = (rest / 1_000 % 60, rest % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{millis:03}000000Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(time(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(time(951_827_696_789), "2000-02-29T12:34:56.789000000Z");
        assert_eq!(time(1_893_456_000_000), "2030-01-01T00:00:00.000000000Z");
    }
}
