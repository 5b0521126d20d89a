//! Error answers as their callers parse them, and the memory that they may cost.

use crate::harness::{Answer, Server};

/// In whose error shape an answer is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    /// Genesys Cloud's `ErrorBody`.
    Genesys,
    /// RFC 6749 section 5.2, as the platforms spell it.
    OAuth,
    /// CXone.
    Cxone,
    /// RFC 9457.
    Problem,
    /// The HTTP parser's own refusal: a status and a close.
    Bare,
}

/// Asserts that `answer` is an error of this code in this shape, as its caller parses it.
pub(crate) fn check_error(row: &str, answer: &Answer, shape: Shape, code: &str) {
    let told = |name: &str| {
        let body = answer.json();
        assert!(body[name].as_str().is_some_and(|text| !text.is_empty()), "{row}: {name}: {body}");
        body[name].as_str().unwrap().to_owned()
    };
    let correlated = |id: &str| assert_eq!(answer.header("inin-correlation-id"), Some(id), "{row}: {answer:?}");
    assert_eq!(answer.body.is_empty(), matches!(shape, Shape::Bare), "{row}: {answer:?}");
    match shape {
        Shape::Genesys => {
            assert_eq!(told("code"), code, "{row}");
            told("message");
            correlated(&told("contextId"));
            assert_eq!(answer.json()["status"], answer.status, "{row}");
            assert!(answer.json()["details"].is_array() && answer.json()["errors"].is_array(), "{row}");
        }
        Shape::OAuth => {
            assert_eq!(told("error"), code, "{row}");
            // Genesys Cloud's SDKs read `description`, CXone's `errorDescription`
            assert_eq!(told("description"), told("error_description"), "{row}");
            assert_eq!(told("errorDescription"), told("error_description"), "{row}");
            assert!(answer.header("inin-correlation-id").is_some(), "{row}: {answer:?}");
            assert_eq!(answer.header("cache-control"), Some("no-store"), "{row}");
        }
        Shape::Cxone => {
            assert_eq!(told("error"), code, "{row}");
            assert_eq!(answer.header("icstatusdescription"), Some(told("errorDescription").as_str()), "{row}");
            correlated(&told("correlationId"));
        }
        Shape::Problem => {
            assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{row}");
            assert_eq!(told("code"), code, "{row}");
            told("detail");
            assert_eq!(answer.json()["status"], answer.status, "{row}");
        }
        Shape::Bare => {}
    }
    if answer.status == 401 {
        assert!(answer.header("www-authenticate").is_some(), "{row}: {answer:?}");
    }
}

/// Peak memory of a process, in bytes.
pub(crate) fn peak(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.process.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
