//! What came back: status, headers, a body that is wiped.
//!
//! Invariant: `Debug` shows the status, the names of headers and the body's length, never a value.

use std::{fmt, time::Duration};

use ::http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use kh_core::UnixMillis;
use zeroize::{Zeroize, Zeroizing};

use super::HttpError;

/// Longest text of a header passed on, in characters.
const HEADER_TEXT_MAX: usize = 128;

/// Most that is taken in of a body that nobody reads, so that the other side can end what it says.
const IGNORED_MAX: usize = 16 * 1024;

/// How long such a body may take. The head has said everything by then.
const IGNORED_TIME: Duration = Duration::from_millis(500);

/// What a request wants of the body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wanted {
    /// All of it, at most `max` bytes.
    Whole { max: usize },
    /// Nothing.
    Nothing,
}

/// What a body claims to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Media {
    /// JSON, or a type that does not contradict JSON (`text/plain`, `application/octet-stream`, none).
    MaybeJson,
    /// Something else, such as the HTML page of a captive portal.
    Other,
}

/// Status and headers of an answer.
#[derive(Clone)]
pub struct AnswerHead {
    /// HTTP status.
    pub status: u16,
    /// All headers.
    pub headers: HeaderMap,
    /// When it was read, by the client's clock.
    pub received: UnixMillis,
}

impl AnswerHead {
    /// `Retry-After`, in either form of RFC 9110 section 10.2.3.
    pub fn retry_after(&self) -> Option<Duration> {
        kh_resilience::retry_after::parse(self.headers.get(header::RETRY_AFTER)?.to_str().ok()?, self.received)
    }

    /// `Date`, the other side's clock: an IMF-fixdate (RFC 9110 section 5.6.7).
    pub fn date(&self) -> Option<UnixMillis> {
        let text = self.headers.get(header::DATE)?.to_str().ok()?;
        let at = httpdate::parse_http_date(text).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
        Some(UnixMillis(u64::try_from(at.as_millis()).ok()?))
    }

    /// What the body claims to be.
    pub fn media(&self) -> Media {
        match self.headers.get(header::CONTENT_TYPE).map(HeaderValue::to_str) {
            None => Media::MaybeJson,
            Some(Ok(value)) => parse_media(value),
            Some(Err(_)) => Media::Other,
        }
    }

    /// The header `name` (lower or upper case), printable and bounded; None where it is absent or no text.
    pub fn text(&self, name: &str) -> Option<String> {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        self.headers.get(name).and_then(|value| value.to_str().ok()).map(|text| printable(text, HEADER_TEXT_MAX))
    }
}

impl fmt::Debug for AnswerHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.keys().map(HeaderName::as_str).collect();
        f.debug_struct("AnswerHead").field("status", &self.status).field("headers", &names).finish_non_exhaustive()
    }
}

/// A complete answer; its body is wiped when dropped.
pub struct Answer {
    /// Status and headers.
    pub head: AnswerHead,
    /// The body, at most as long as the request allowed; empty where the request ignores it.
    pub body: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("head", &self.head).field("body_len", &self.body.len()).finish()
    }
}

/// The answer with what is wanted of its body.
pub(super) async fn read(response: Response<Incoming>, now: UnixMillis, wanted: Wanted) -> Result<Answer, HttpError> {
    let (parts, incoming) = response.into_parts();
    let head = AnswerHead { status: parts.status.as_u16(), headers: parts.headers, received: now };
    let body = match wanted {
        Wanted::Whole { max } => whole(incoming, max).await?,
        Wanted::Nothing => {
            let _in_time = tokio::time::timeout(IGNORED_TIME, let_it_end(incoming)).await;
            Zeroizing::default()
        }
    };
    Ok(Answer { head, body })
}

async fn whole(mut incoming: Incoming, max: usize) -> Result<Zeroizing<Vec<u8>>, HttpError> {
    let announced = announced(&incoming);
    if announced > max {
        return Err(HttpError::TooLarge { max });
    }
    let mut body = Zeroizing::new(Vec::with_capacity(announced.max(4096)));
    while let Some(frame) = incoming.frame().await {
        let Ok(chunk) = frame.map_err(|_broke_off| HttpError::Broken)?.into_data() else { continue };
        if body.len() + chunk.len() > max {
            return Err(HttpError::TooLarge { max });
        }
        append_wiped(&mut body, &chunk);
        wipe(chunk);
    }
    Ok(body)
}

/// Takes a short body in. It does not matter whether it is longer, breaks off or never ends.
async fn let_it_end(mut incoming: Incoming) {
    if announced(&incoming) > IGNORED_MAX {
        return;
    }
    let mut taken = 0;
    while let Some(Ok(frame)) = incoming.frame().await {
        let Ok(chunk) = frame.into_data() else { continue };
        taken += chunk.len();
        wipe(chunk);
        if taken > IGNORED_MAX {
            return;
        }
    }
}

fn announced(incoming: &Incoming) -> usize {
    usize::try_from(incoming.size_hint().exact().unwrap_or(0)).unwrap_or(usize::MAX)
}

fn wipe(chunk: Bytes) {
    if let Ok(mut owned) = chunk.try_into_mut() {
        owned.as_mut().zeroize();
    }
}

/// Appends without leaving an unwiped copy behind when the buffer has to grow.
pub(super) fn append_wiped(buffer: &mut Zeroizing<Vec<u8>>, more: &[u8]) {
    let needed = buffer.len() + more.len();
    if needed > buffer.capacity() {
        let mut larger = Zeroizing::new(Vec::with_capacity(needed.saturating_mul(2)));
        larger.extend_from_slice(buffer);
        *buffer = larger;
    }
    buffer.extend_from_slice(more);
}

fn parse_media(value: &str) -> Media {
    let essence = value.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    let json = essence.is_empty()
        || ["application/json", "text/json", "text/plain", "application/octet-stream"].contains(&essence.as_str())
        || (essence.starts_with("application/") && essence.ends_with("+json"));
    if json { Media::MaybeJson } else { Media::Other }
}

/// At most `max` characters of `text`, controls and non-ASCII replaced: safe in a log line.
pub fn printable(text: &str, max: usize) -> String {
    let clean = |letter: char| if letter.is_ascii_graphic() || letter == ' ' { letter } else { '?' };
    text.chars().take(max).map(clean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(headers: &[(&'static str, &'static str)]) -> AnswerHead {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        AnswerHead { status: 200, headers, received: UnixMillis(0) }
    }

    #[test]
    fn heads() {
        assert_eq!(head(&[("retry-after", "7")]).retry_after(), Some(Duration::from_secs(7)));
        let date = "Thu, 01 Jan 1970 00:00:30 GMT";
        assert_eq!(head(&[("retry-after", date)]).retry_after(), Some(Duration::from_secs(30)));
        assert_eq!(head(&[("retry-after", "soon")]).retry_after(), None);
        assert_eq!(head(&[("date", date)]).date(), Some(UnixMillis(30_000)));
        assert_eq!(head(&[("x-a", "b\tc")]).text("X-A").as_deref(), Some("b?c"));
        assert_eq!(head(&[]).text("x-a"), None);
    }

    #[test]
    fn values_stay_out_of_debug() {
        let shown = format!("{:?}", head(&[("set-cookie", "session=MARKED")]));
        assert!(shown.contains("set-cookie") && !shown.contains("MARKED"), "{shown}");
    }

    #[test]
    fn media_types() {
        for json in ["application/json", "Application/JSON; charset=utf-8", "application/problem+json", "text/plain"] {
            assert_eq!(parse_media(json), Media::MaybeJson, "{json}");
        }
        for other in ["text/html", "application/xml", "image/svg+xml", "multipart/form-data", "json"] {
            assert_eq!(parse_media(other), Media::Other, "{other}");
        }
    }

    #[test]
    fn growing_keeps_the_bytes() {
        let mut buffer = Zeroizing::new(Vec::with_capacity(2));
        append_wiped(&mut buffer, b"ab");
        append_wiped(&mut buffer, b"cdefg");
        assert_eq!(&**buffer, b"abcdefg");
    }
}
