//! DPoP proofs from callers, and the addresses in them.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kh_verify::fuzzing::proof(input));
