//! NumericDate (RFC 7519 section 2): seconds since 1970, whole or with a fraction.
//!
//! Invariant: a time that no clock of ours will show is refused, not bent: below zero, beyond the year 9999 (which also
//! catches milliseconds), or not a number. A fraction is rounded to the side on which the token is valid for less time.

use std::time::Duration;

use kh_core::UnixMillis;

use crate::{
    Reason,
    json::{Json, Number, Object},
};

/// The last second of the year 9999.
pub const NUMERIC_DATE_MAX: u64 = 253_402_300_799;

/// Rounds a fraction of a millisecond up, for a time before which a token is not valid.
pub(super) const UP: Duration = Duration::from_millis(1);

/// The time that `value` is. A fraction of a millisecond is cut off, or counts as `whole_for_part`.
pub(super) fn numeric_date(value: &Json<'_>, whole_for_part: Duration) -> Result<UnixMillis, Reason> {
    match value {
        Json::Number(Number::Whole(seconds)) if *seconds <= NUMERIC_DATE_MAX => Ok(UnixMillis(seconds * 1000)),
        Json::Number(Number::Fraction(seconds)) => fraction(*seconds, whole_for_part),
        Json::Null
        | Json::Bool(_)
        | Json::Number(Number::Whole(_) | Number::Negative(_))
        | Json::Text(_)
        | Json::List(_)
        | Json::Object(_) => Err(Reason::ClaimsInvalid),
    }
}

fn fraction(seconds: f64, whole_for_part: Duration) -> Result<UnixMillis, Reason> {
    #[allow(clippy::cast_precision_loss, reason = "the largest time has 38 bits")]
    let max = NUMERIC_DATE_MAX as f64;
    // also false for what is no number
    if !(0.0..=max).contains(&seconds) {
        return Err(Reason::ClaimsInvalid);
    }
    // within bounds, so this fails for nothing
    let span = Duration::try_from_secs_f64(seconds).map_err(|_| Reason::ClaimsInvalid)?;
    let millis = u64::try_from(span.as_millis()).map_err(|_| Reason::ClaimsInvalid)?;
    let cut = UnixMillis(millis);
    let exact = Duration::from_millis(millis) == span;
    Ok(if exact { cut } else { cut.plus(whole_for_part) })
}

/// From when on a `DPoP` proof with these claims is no longer good, if it is now: `iat` may be `window` away, and `exp`
/// and `nbf` count where they are there.
pub(crate) fn proof_times(claims: &Object<'_>, window: Duration, now: UnixMillis) -> Result<UnixMillis, Reason> {
    let read = |name: &str, part| {
        claims.get(name).map(|value| numeric_date(value, part).map_err(|_| Reason::ProofClaims)).transpose()
    };
    let issued = read("iat", Duration::ZERO)?.ok_or(Reason::ProofClaims)?;
    let until = issued.plus(window);
    let early = now.plus(window) < issued || read("nbf", UP)?.is_some_and(|start| now.plus(window) < start);
    if early || now >= until || read("exp", Duration::ZERO)?.is_some_and(|end| now >= end.plus(window)) {
        return Err(Reason::ProofTime);
    }
    Ok(until)
}
