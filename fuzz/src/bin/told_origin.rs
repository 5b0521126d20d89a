//! What proxies tell of the address that a client used: no panic, and nothing of anybody but trusted proxies.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _told = kh_net::fuzzing::told_origin(input);
});
