//! A platform's event as a webhook delivers it.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| kh_inbound::fuzzing::event(body));
