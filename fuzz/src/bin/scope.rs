//! The scopes of a token, as a text and as a list.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &str| kh_verify::fuzzing::scope(input));
