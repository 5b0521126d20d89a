//! Tokens from callers: any bytes as a token, and any bytes as the payload of a token that is well signed.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    kh_verify::fuzzing::token(input);
    kh_verify::fuzzing::claims(input);
});
