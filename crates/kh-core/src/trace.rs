//! W3C trace context (Level 2): the ids of a trace, read from a caller's `traceparent` and written for a platform.
//!
//! Invariant: what does not parse is no trace context at all; it is never repaired and never passed on.

use std::fmt;

/// Length of a `traceparent` of version 00 (section 3.2.2.1).
const LENGTH: usize = 55;

/// Most members of a `tracestate` (section 3.3.1.1).
const STATE_MEMBERS_MAX: usize = 32;

/// Most characters of all `tracestate` headers together that are passed on. Everybody must pass on 512 (section
/// 3.3.1.5); longer lists are dropped whole, as the section allows.
const STATE_LENGTH_MAX: usize = 2_048;

/// The id of a trace; never zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

/// The id of a span; never zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId([u8; 8]);

macro_rules! id {
    ($type:ident, $size:literal) => {
        impl $type {
            /// From bytes; zero is no id.
            pub fn new(bytes: [u8; $size]) -> Option<Self> {
                (bytes != [0; $size]).then_some(Self(bytes))
            }

            /// The bytes.
            pub fn bytes(self) -> [u8; $size] {
                self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

id!(TraceId, 16);
id!(SpanId, 8);

/// Where a request stands in a trace: the content of a `traceparent`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TraceContext {
    /// The trace.
    pub trace: TraceId,
    /// The span that sent the request.
    pub span: SpanId,
    /// Whether the sender records its spans.
    pub sampled: bool,
    /// Whether the trace id's last seven bytes are random (Level 2, section 3.2.2.5.2).
    pub random: bool,
}

impl TraceContext {
    /// Reads one `traceparent`. A higher version is read as far as version 00 goes (section 4.2).
    pub fn parse(value: &[u8]) -> Option<Self> {
        let version = hex::<1>(value.get(..2)?)?;
        let ends_well = match value.get(LENGTH) {
            None => true,
            Some(byte) => version != [0] && *byte == b'-',
        };
        let dashes = [2, 35, 52].iter().all(|at| value.get(*at) == Some(&b'-'));
        if version == [0xff] || !ends_well || !dashes {
            return None;
        }
        let trace = TraceId::new(hex(value.get(3..35)?)?)?;
        let span = SpanId::new(hex(value.get(36..52)?)?)?;
        let [flags] = hex::<1>(value.get(53..LENGTH)?)?;
        Some(Self { trace, span, sampled: flags & 1 != 0, random: flags & 2 != 0 })
    }

    /// The `traceparent` of version 00.
    pub fn header(&self) -> String {
        let flags = u8::from(self.sampled) | u8::from(self.random) << 1;
        format!("00-{}-{}-{flags:02x}", self.trace, self.span)
    }
}

/// Lower-case hex of exactly `N` bytes.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

/// Whether the `tracestate` headers of one request, in their order, may be passed on (section 3.3.1).
pub fn is_valid_state<'a>(values: impl Iterator<Item = &'a [u8]>) -> bool {
    let (mut members, mut length) = (0, 0);
    for value in values {
        length += value.len();
        for member in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty()) {
            members += 1;
            if !is_member(member) {
                return false;
            }
        }
    }
    members <= STATE_MEMBERS_MAX && length <= STATE_LENGTH_MAX
}

fn is_member(member: &[u8]) -> bool {
    let Some(at) = member.iter().position(|byte| *byte == b'=') else { return false };
    let (key, value) = member.split_at(at);
    let value = value.get(1..).unwrap_or_default();
    let letters = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(byte);
    let starts = key.first().is_some_and(|first| first.is_ascii_lowercase() || first.is_ascii_digit());
    let printable = |byte: &u8| matches!(byte, 0x20..=0x7e) && !b",=".contains(byte);
    starts
        && key.len() <= 256
        && key.iter().all(letters)
        && !value.is_empty()
        && value.len() <= 256
        && value.iter().all(printable)
        && value.last() != Some(&b' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn traceparents() {
        for (value, expected) in [
            (format!("00-{TRACE}-{SPAN}-01"), Some((true, false))),
            (format!("00-{TRACE}-{SPAN}-00"), Some((false, false))),
            (format!("00-{TRACE}-{SPAN}-03"), Some((true, true))),
            (format!("00-{TRACE}-{SPAN}-ff"), Some((true, true))),
            (format!("cc-{TRACE}-{SPAN}-01"), Some((true, false))),
            (format!("cc-{TRACE}-{SPAN}-01-what-comes-later"), Some((true, false))),
            (format!("cc-{TRACE}-{SPAN}-01.what"), None),
            (format!("00-{TRACE}-{SPAN}-01-"), None),
            (format!("00-{TRACE}-{SPAN}-01-x"), None),
            (format!("ff-{TRACE}-{SPAN}-01"), None),
            (format!("00-{}-{SPAN}-01", TRACE.to_uppercase()), None),
            (format!("00-{}-{SPAN}-01", "0".repeat(32)), None),
            (format!("00-{TRACE}-{}-01", "0".repeat(16)), None),
            (format!("00-{TRACE}-{SPAN}-1"), None),
            (format!("00-{TRACE}-{SPAN}-0g"), None),
            (format!("0x-{TRACE}-{SPAN}-01"), None),
            (format!("00_{TRACE}-{SPAN}-01"), None),
            (format!("00-{TRACE}{SPAN}-01"), None),
            (format!(" 00-{TRACE}-{SPAN}-01"), None),
            (String::new(), None),
        ] {
            let parsed = TraceContext::parse(value.as_bytes());
            assert_eq!(parsed.map(|context| (context.sampled, context.random)), expected, "{value}");
            if let Some(context) = parsed {
                assert_eq!((context.trace.to_string().as_str(), context.span.to_string().as_str()), (TRACE, SPAN));
            }
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for (sampled, random) in [(false, false), (true, false), (false, true), (true, true)] {
            let (trace, span) = (TraceId::new([7; 16]).unwrap(), SpanId::new([9; 8]).unwrap());
            let context = TraceContext { trace, span, sampled, random };
            assert_eq!(TraceContext::parse(context.header().as_bytes()), Some(context));
        }
        assert_eq!((TraceId::new([0; 16]), SpanId::new([0; 8])), (None, None));
    }

    #[test]
    fn tracestates() {
        let many = |count: usize| (0..count).map(|at| format!("k{at}=v")).collect::<Vec<_>>().join(",");
        for (values, expected) in [
            (vec!["rojo=00f067aa0ba902b7".to_owned()], true),
            (vec!["a=1, b=2 ,,c=3".to_owned()], true),
            (vec!["a=1".to_owned(), "b=2".to_owned()], true),
            (vec!["1a-b_c*d/e@sys=va l\"ue".to_owned()], true),
            (vec![String::new()], true),
            (vec![many(32)], true),
            (vec![many(33)], false),
            (vec![many(20), many(13)], false),
            (vec!["a".to_owned()], false),
            (vec!["a=".to_owned()], false),
            (vec!["A=1".to_owned()], false),
            (vec!["_a=1".to_owned()], false),
            (vec!["a=b=c".to_owned()], false),
            (vec!["a=\u{e9}".to_owned()], false),
            (vec!["a =1".to_owned()], false),
            (vec![format!("a={}", "x".repeat(257))], false),
            (vec![format!("{}=1", "k".repeat(257))], false),
        ] {
            assert_eq!(is_valid_state(values.iter().map(String::as_bytes)), expected, "{values:?}");
        }
    }
}
