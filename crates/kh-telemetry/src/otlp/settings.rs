//! What the export is told: by the configuration, else by the variables that the OpenTelemetry specification names.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use kh_core::{SecretString, UnixMillis, trace::TraceId};
use url::Url;

/// Most headers for the collector; one or two are usual.
const HEADERS_MAX: usize = 16;

/// Which share of the traces that begin here is sampled.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Ratio(f64);

impl Ratio {
    /// Every trace.
    pub const ALL: Self = Self(1.0);

    /// From 0 to 1.
    pub fn new(share: f64) -> Option<Self> {
        (0.0..=1.0).contains(&share).then_some(Self(share))
    }

    /// `TraceIdRatioBased` of the OpenTelemetry specification: by the lower 63 bits of the trace id, so that all who
    /// sample by the same ratio agree.
    pub(crate) fn samples(self, trace: TraceId) -> bool {
        let lower = trace.bytes().iter().skip(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte)) >> 1;
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "a share has far fewer digits than 63 bits, and is between 0 and 1"
        )]
        let bound = (self.0 * (1_u64 << 63) as f64) as u64;
        lower < bound
    }
}

/// Why the settings cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The headers are not `name=value,name=value`. Says nothing about the values.
    #[error("the headers for the collector are not name=value pairs, separated by commas or lines")]
    Headers,
    /// Not an http or https address.
    #[error("the collector's address is not an http or https URL without user and password")]
    Endpoint,
}

/// Everything about the export.
#[derive(Clone, Debug)]
pub struct OtlpSettings {
    /// Where spans go; none turns them off.
    pub traces_url: Option<Url>,
    /// Where metrics go; none turns them off.
    pub metrics_url: Option<Url>,
    /// Headers with every request; their values are secret.
    pub headers: HeaderMap,
    /// Share of new traces that are sampled.
    pub ratio: Ratio,
    /// Longest time for one request to the collector.
    pub timeout: Duration,
    /// Time between two exports of the metrics.
    pub metrics_interval: Duration,
    /// Longest wait until a span is exported; none is the usual 5 s.
    pub span_delay: Option<Duration>,
    /// What this process is: `service.name`, `service.version`, `service.instance.id` and what the operator adds.
    pub resource: Vec<(String, String)>,
}

impl OtlpSettings {
    /// The settings for one collector that takes both signals below `base`.
    pub fn for_collector(base: &str) -> Result<Self, SettingsError> {
        Ok(Self {
            traces_url: Some(signal_url(base, "v1/traces")?),
            metrics_url: Some(signal_url(base, "v1/metrics")?),
            headers: HeaderMap::new(),
            ratio: Ratio::ALL,
            timeout: Duration::from_secs(10),
            metrics_interval: Duration::from_mins(1),
            span_delay: None,
            resource: Vec::new(),
        })
    }
}

/// A signal's path below the collector's base (OTLP exporter specification, "Endpoint URLs for OTLP/HTTP").
fn signal_url(base: &str, path: &str) -> Result<Url, SettingsError> {
    let mut url = Url::parse(base).map_err(|_| SettingsError::Endpoint)?;
    let plain = url.username().is_empty() && url.password().is_none();
    let bare = url.query().is_none() && url.fragment().is_none();
    if !plain || !bare || !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(SettingsError::Endpoint);
    }
    let whole = format!("{}/{path}", url.path().trim_end_matches('/'));
    url.set_path(&whole);
    Ok(url)
}

/// Headers as `OTEL_EXPORTER_OTLP_HEADERS` has them: `name=value,name=value`; in a file also one per line. A value may
/// hold percent-encoded characters.
pub fn parse_headers(text: &SecretString) -> Result<HeaderMap, SettingsError> {
    let mut headers = HeaderMap::new();
    for pair in text.expose().split([',', '\n']).map(str::trim).filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or(SettingsError::Headers)?;
        let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| SettingsError::Headers)?;
        let value = decoded(value.trim()).ok_or(SettingsError::Headers)?;
        let mut value = HeaderValue::from_bytes(&value).map_err(|_| SettingsError::Headers)?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    if headers.len() > HEADERS_MAX { Err(SettingsError::Headers) } else { Ok(headers) }
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let (high, low) = (char::from(bytes.next()?).to_digit(16)?, char::from(bytes.next()?).to_digit(16)?);
        out.push(u8::try_from(high * 16 + low).ok()?);
    }
    Some(out)
}

/// Nanoseconds since 1970.
pub(crate) fn nanos(time: UnixMillis) -> u64 {
    time.0.saturating_mul(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        for (base, traces) in [
            ("http://127.0.0.1:4318", Some("http://127.0.0.1:4318/v1/traces")),
            ("https://collector.example/base/", Some("https://collector.example/base/v1/traces")),
            ("https://collector.example/base", Some("https://collector.example/base/v1/traces")),
            ("127.0.0.1:4318", None),
            ("grpc://collector:4317", None),
            ("https://user:secret@collector.example", None),
            ("https://collector.example?x=1", None),
            ("", None),
        ] {
            let url = OtlpSettings::for_collector(base).ok().and_then(|settings| settings.traces_url);
            assert_eq!(url.as_ref().map(Url::as_str), traces, "{base}");
        }
    }

    #[test]
    fn headers_are_read_and_never_shown() {
        let of = |text: &str| parse_headers(&SecretString::new(text.to_owned()));
        let headers = of("api-key = s3cret,x-tenant=a%20b\nx-more=1,").unwrap();
        assert_eq!((headers["api-key"].as_bytes(), headers["x-tenant"].as_bytes()), (&b"s3cret"[..], &b"a b"[..]));
        assert!(!format!("{headers:?}").contains("s3cret") && headers.len() == 3);
        for bad in ["novalue", "a b=1", "a=%zz", "a=%0a", "a=1,=2"] {
            assert_eq!(of(bad), Err(SettingsError::Headers), "{bad}");
        }
        for none in ["", ",", " \n, "] {
            assert_eq!(of(none), Ok(HeaderMap::new()), "{none:?}");
        }
        let many: Vec<String> = (0..=HEADERS_MAX).map(|at| format!("h{at}=1")).collect();
        assert_eq!(of(&many.join(",")), Err(SettingsError::Headers));
    }

    #[test]
    fn sampling_follows_the_ratio_and_the_id_alone() {
        let count = |share: f64| {
            let ratio = Ratio::new(share).unwrap();
            let ids = (1..=1_000_u64).map(|at| {
                let mixed = at.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
                let mut bytes = [1; 16];
                bytes[8..].copy_from_slice(&mixed);
                TraceId::new(bytes).unwrap()
            });
            ids.filter(|id| ratio.samples(*id)).count()
        };
        assert_eq!((count(0.0), count(1.0)), (0, 1_000));
        assert!((200..=300).contains(&count(0.25)), "{}", count(0.25));
        assert!(Ratio::new(1.1).is_none() && Ratio::new(-0.1).is_none() && Ratio::new(f64::NAN).is_none());
    }
}
