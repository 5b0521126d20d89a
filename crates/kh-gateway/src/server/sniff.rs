//! Finding `Content-Length` beside `Transfer-Encoding`, which hyper resolves before a handler can see it.
//!
//! The bytes read since our last answer are kept up to one head's size. When a handler meets a chunked request, the
//! head is looked up there. It is only judged if the kept bytes begin with this request's method; else (as a rule a
//! pipelined head, or one behind a body) nothing is claimed, and hyper's own resolution stands: re-framed, closed.

use http::Method;
use parking_lot::Mutex;

/// More than any accepted head.
const KEEP: usize = 68 * 1024;

/// The raw bytes around the current request head of one connection.
#[derive(Default)]
pub(crate) struct Sniff(Mutex<State>);

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    paused: bool,
    /// There are no more heads.
    ended: bool,
    /// That is because the connection is a tunnel now.
    tunnel: bool,
}

impl Sniff {
    /// Bytes came in.
    pub(crate) fn read(&self, new: &[u8]) {
        let mut state = self.0.lock();
        if !state.paused && state.bytes.len() < KEEP {
            state.bytes.extend_from_slice(new);
        }
    }

    /// Bytes go out. Those of an answer mean that what comes next is a new head; says whether they are a tunnel's.
    pub(crate) fn written(&self) -> bool {
        let mut state = self.0.lock();
        state.bytes.clear();
        state.paused = state.ended;
        state.tunnel
    }

    /// The connection has no raw heads.
    pub(crate) fn end(&self) {
        let mut state = self.0.lock();
        (state.ended, state.paused) = (true, true);
    }

    /// The connection becomes a tunnel.
    pub(crate) fn tunnel(&self) {
        self.end();
        self.0.lock().tunnel = true;
    }

    /// Whether the connection is a tunnel, or is about to become one.
    pub(crate) fn is_tunnel(&self) -> bool {
        self.0.lock().tunnel
    }

    /// A handler has its request: says whether the raw head has a `Content-Length`, and keeps nothing of the body.
    pub(crate) fn take(&self, chunked: bool, method: &Method) -> bool {
        let mut state = self.0.lock();
        state.paused = true;
        let found = chunked && has_content_length(&state.bytes, method);
        state.bytes.clear();
        // a large head is rare: its memory is not kept for the connection's life
        if state.bytes.capacity() > 8 * 1024 {
            state.bytes = Vec::new();
        }
        found
    }
}

fn has_content_length(bytes: &[u8], method: &Method) -> bool {
    // RFC 9112 section 2.2: empty lines before the request line are skipped
    let head = bytes.trim_ascii_start();
    let Some(rest) = head.strip_prefix(method.as_str().as_bytes()) else { return false };
    if rest.first() != Some(&b' ') {
        return false;
    }
    rest.split(|byte| *byte == b'\n')
        .skip(1)
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split(|byte| *byte == b':').next())
        .any(|name| name.eq_ignore_ascii_case(b"content-length"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_head_is_judged() {
        for (raw, expected) in [
            ("POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", true),
            ("\r\nPOST / HTTP/1.1\r\ntransfer-encoding: chunked\r\nCONTENT-LENGTH:3\r\n\r\n", true),
            ("POST / HTTP/1.1\ncontent-length: 3\n\n", true),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n\r\nContent-Length: 3\r\n", false),
            ("POST / HTTP/1.1\r\nX: Content-Length: 3\r\n\r\n", false),
            ("xyz\r\nContent-Length: 3\r\nPOST / HTTP/1.1\r\n", false),
            ("POSTX / HTTP/1.1\r\nContent-Length: 3\r\n\r\n", false),
            ("", false),
        ] {
            let sniff = Sniff::default();
            sniff.read(raw.as_bytes());
            assert_eq!(sniff.take(true, &Method::POST), expected, "{raw:?}");
        }
    }

    #[test]
    fn bytes_of_a_body_are_not_kept() {
        let sniff = Sniff::default();
        sniff.read(b"POST / HTTP/1.1\r\n\r\n");
        assert!(!sniff.take(false, &Method::POST));
        sniff.read(b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\n");
        assert!(!sniff.take(true, &Method::POST), "that was a body");
        for (ended, expected) in [(false, true), (true, false)] {
            if ended {
                sniff.end();
            }
            assert!(!sniff.written(), "a connection without heads is no tunnel yet");
            sniff.read(b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\n");
            assert_eq!(sniff.take(true, &Method::POST), expected);
        }
        assert!(!sniff.is_tunnel());
        sniff.tunnel();
        assert!(sniff.written() && sniff.is_tunnel());
    }
}
