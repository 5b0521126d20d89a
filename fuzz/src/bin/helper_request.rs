//! What Bazel, git and whoever else writes to the credential helper's standard input.
#![no_main]

use keyholder::helper_protocol::{parse_engflow, parse_git, shell_quoted};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _target = parse_engflow(input);
    if let Ok(request) = parse_git(input) {
        // a target that was accepted is one, however it is written
        assert!(!request.target.to_string().is_empty());
    }
    if let Ok(text) = std::str::from_utf8(input) {
        assert!(shell_quoted(text).starts_with('\''));
    }
});
