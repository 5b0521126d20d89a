//! Logins at the gateway, form and Basic.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: (&[u8], &str)| kh_gateway::fuzzing::login(input.0, input.1));
