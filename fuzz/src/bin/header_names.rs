//! Names of headers that callers send to a protected API.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kh_gateway::fuzzing::header_names(input));
