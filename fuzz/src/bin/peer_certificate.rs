//! A client's certificate: no panic, and what is told of it is printable and bounded.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _read = kh_net::fuzzing::peer_certificate(input);
});
