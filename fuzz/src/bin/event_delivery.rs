//! The headers of a signed delivery of an event.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| kh_inbound::fuzzing::delivery(text));
