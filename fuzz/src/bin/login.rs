//! Logins at the gateway, form and Basic: no panic; what Basic accepts has an id and a secret, and the same pair written
//! plainly is understood in the same way.
#![no_main]

use base64::{Engine, prelude::BASE64_STANDARD};

libfuzzer_sys::fuzz_target!(|input: (&[u8], &str)| {
    let (bytes, pair) = input;
    let _accepted = kh_gateway::fuzzing::form(bytes);
    let _raw = kh_gateway::fuzzing::basic(bytes);
    let header = format!("Basic {}", BASE64_STANDARD.encode(pair));
    let Some((id, secret)) = kh_gateway::fuzzing::basic(header.as_bytes()) else { return };
    assert!(!id.is_empty() && !secret.is_empty());
    if !pair.contains('%') {
        assert_eq!(format!("{id}:{secret}"), pair);
    }
});
