//! Finding `Content-Length` beside `Transfer-Encoding`, which hyper resolves before a handler can see it.
//!
//! The bytes read since our last answer, which an interim one is not, are kept up to one head's size. When a handler
//! meets a chunked request, the head is looked up there. It is only judged if the kept bytes begin with this request's
//! method; else (as a rule a pipelined head, or one behind a body) nothing is claimed, and hyper's own resolution
//! stands: re-framed, closed.

use http::Method;
use parking_lot::Mutex;

/// More than any accepted head.
const KEEP: usize = 68 * 1024;
/// Capacity that a connection keeps. A large head is rare: its memory is not kept for the connection's life.
const KEEP_IDLE: usize = 8 * 1024;

/// The raw bytes around the current request head of one connection.
#[derive(Default)]
pub(crate) struct Sniff(Mutex<State>);

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    phase: Phase,
    /// There are no more heads.
    ended: bool,
    /// That is because the connection is a tunnel now.
    tunnel: bool,
}

/// Where a connection is between two heads.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    /// What comes in is a head.
    #[default]
    Head,
    /// A handler has the request; what comes in is its body.
    Handling,
    /// It has answered, and nothing of that was written yet.
    Answered,
}

impl State {
    fn forget(&mut self) {
        self.bytes.clear();
        if self.bytes.capacity() > KEEP_IDLE {
            self.bytes = Vec::new();
        }
    }
}

impl Sniff {
    /// Bytes came in.
    pub(crate) fn read(&self, new: &[u8]) {
        let mut state = self.0.lock();
        if state.phase == Phase::Head && !state.ended && state.bytes.len() < KEEP {
            state.bytes.extend_from_slice(new);
        }
    }

    /// Bytes go out. Those of an answer mean that what comes next is a new head, but for an interim one (100), which
    /// asks for the body. Says whether they are a tunnel's.
    pub(crate) fn written(&self) -> bool {
        let mut state = self.0.lock();
        if state.phase != Phase::Handling {
            state.forget();
            state.phase = Phase::Head;
        }
        state.tunnel
    }

    /// The handler has answered its request: what is written from now on is that answer.
    pub(crate) fn answered(&self) {
        self.0.lock().phase = Phase::Answered;
    }

    /// The connection has no raw heads.
    pub(crate) fn end(&self) {
        self.0.lock().ended = true;
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
        state.phase = Phase::Handling;
        let found = chunked && has_content_length(&state.bytes, method);
        state.forget();
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
            sniff.answered();
            assert!(!sniff.written(), "a connection without heads is no tunnel yet");
            sniff.read(b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\n");
            assert_eq!(sniff.take(true, &Method::POST), expected);
        }
        assert!(!sniff.is_tunnel());
        sniff.tunnel();
        assert!(sniff.written() && sniff.is_tunnel());
    }

    #[test]
    fn an_interim_answer_begins_no_head() {
        const HEAD: &[u8] = b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\n";
        let sniff = Sniff::default();
        sniff.read(HEAD);
        assert!(sniff.take(true, &Method::POST));
        assert!(!sniff.written(), "100 Continue");
        sniff.read(HEAD);
        assert!(sniff.0.lock().bytes.is_empty(), "that was a body");
        sniff.answered();
        for _ in 0..2 {
            sniff.written();
        }
        sniff.read(HEAD);
        assert!(sniff.take(true, &Method::POST), "the next head");
    }

    #[test]
    fn no_large_memory_stays_behind() {
        let sniff = Sniff::default();
        let large = [b'x'; KEEP_IDLE];
        for is_taken in [true, false] {
            for _ in 0..2 {
                sniff.read(&large);
            }
            assert!(sniff.0.lock().bytes.capacity() > KEEP_IDLE);
            if is_taken {
                sniff.take(false, &Method::POST);
                sniff.answered();
            }
            sniff.written();
            assert_eq!(sniff.0.lock().bytes.capacity(), 0);
        }
    }
}
