//! Key sets from issuers, and single keys.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kh_verify::fuzzing::jwks(input));
