//! What vouches for callers' tokens: issuers' metadata, Genesys Cloud's `tokens/me` and roles.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kh_platform::fuzzing::vouching(input));
